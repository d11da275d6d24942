//! Host and target against each other: both machines in one world, joined by byte pipes that chop, delay, stall, break and
//! damage what passes, with a history of every block (no acknowledged write is lost, no block is torn, each operation ends
//! exactly once, no path condition is told).
//!
//! A seed that fails is printed; run it again with `PAIR_SEED=<seed> cargo test -p fabric --test pair random`.
//!
//! Deliberate bugs that were tried against these tests and are caught: see the list at the end of the file.

#[path = "pair/history.rs"]
mod history;
#[path = "../src/host/test_memory.rs"]
mod memory;
#[path = "pair/node.rs"]
mod node;
#[path = "pair/scripts.rs"]
mod scripts;
#[path = "pair/storm.rs"]
mod storm;
#[path = "pair/world.rs"]
mod world;
