//! What proves the rest: the house's own rules (`tests/tidy.rs`), whole processes (`tests/process.rs`), and a stock Linux
//! host (`linux-host/`).
#![forbid(unsafe_code)]
