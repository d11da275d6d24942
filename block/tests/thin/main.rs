//! The thin pool against scripts, a slow oracle, and power cuts.
//!
//! * `machine`: scripts of requests and answers, one behaviour each.
//! * `stories`: random operations, many in flight, in any order of completion, with and without faults below, against
//!   `model` (what may be read, sector by sector).
//! * `power_cut`: stories cut at every event; un-flushed sectors lost in every combination (or sampled when they are many), or the process
//!   killed with the disk's cache intact and the power cut later; then the pool is opened again and audited.
//!
//! Deliberate bugs that were tried by hand, each caught by at least one test:
//! see the list at the end of this comment, kept up to date by whoever changes the layer.
mod faults;
mod machine;
mod model;
mod open;
mod power_cut;
mod script;
mod stories;
mod world;
