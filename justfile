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

# simulated data planes under trouble: a hundred seeds, or one with a line for everything that happens
sim seed="":
    {{ if seed == "" { "TRESTLE_SEEDS=0..100" } else { "TRESTLE_SEED=" + seed } }} cargo test --release --locked -p tests --test simulation -- --nocapture

# the same on every core, for so many minutes
sim-fleet minutes first="0":
    cargo run --release --locked -p tests --bin sim-fleet -- {{minutes}} {{first}}

# deliberate bugs that the tests and the world must catch: all, or those with these words in their names; --world: the world alone
mutants *words:
    tests/mutants/run {{words}}

# bytes into parsers, operations into machines, guided by coverage: all targets or one, each for so many seconds
fuzz target="" seconds="60":
    tests/fuzz/run {{target}} --seconds {{seconds}}

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
