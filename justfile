# The house's verbs. Everything here is also a plain command.
default:
    @just --list

# format, lints
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# every test that needs no VM
test:
    cargo test --workspace --locked

# the stock Linux host
linux-host:
    cargo build --release --locked --bin trestle
    tests/linux-host/run target/release/trestle
    tests/linux-host/disks target/release/trestle

# every table of docs/performance.md, such as: just bench --quick --only ram
bench *arguments:
    cargo build --release --locked --bin trestle
    tests/bench/run {{arguments}}

# a whole fabric on this machine
demo *arguments:
    ./demo {{arguments}}

# write docs/openapi.json anew
openapi:
    RENEW_OPENAPI=1 cargo test -p api-server --test rest openapi

fmt:
    cargo fmt --all
