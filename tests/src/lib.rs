//! What proves the rest: the house's own rules (`tests/tidy.rs`), production machines in a simulated [`world`], whole processes
//! (`tests/process.rs`), and a stock Linux host (`linux-host/`).
#![forbid(unsafe_code)]

pub mod control;
pub mod cuts;
pub mod fabric;
pub mod history;
pub mod keeper;
pub mod world;
