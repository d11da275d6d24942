//! Host and target against each other: both machines in one world, joined by byte pipes that chop, delay, stall, break and
//! damage what passes, with a history of every block (no acknowledged write is lost, no block is torn, each operation ends
//! exactly once, no path condition is told).
//!
//! A seed that fails is printed; run it again with `PAIR_SEED=<seed> cargo test -p fabric --test pair random`.
//!
//! Deliberate bugs that were tried and are caught here (the unit tests of `host` and `tcp::host` list those that they
//! catch): requests forgotten when an association is lost; a path condition told; a lost write told as done; a failed
//! request not queued again; the other path never used; non-optimized paths never used; an inaccessible path used; the
//! ANA log not read after a refusal; a namespace that changed not read again; a buffer kept, in either layer; connection
//! names used twice.

#[path = "pair/history.rs"]
mod history;
#[path = "../src/host/tests/memory.rs"]
mod memory;
#[path = "pair/node.rs"]
mod node;
#[path = "pair/scripts.rs"]
mod scripts;
#[path = "pair/setting.rs"]
mod setting;
#[path = "pair/storm.rs"]
mod storm;
#[path = "pair/world.rs"]
mod world;
