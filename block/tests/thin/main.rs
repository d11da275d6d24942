//! The thin pool against scripts, a slow oracle, and power cuts.
//!
//! * `machine`: scripts of requests and answers, one behaviour each.
//! * `stories`: random operations, many in flight, in any order of completion, with and without faults below, against
//!   `model` (what may be read, sector by sector).
//! * `power_cut`: stories cut at every event; un-flushed sectors lost in every combination (or sampled when they are many), or the process
//!   killed with the disk's cache intact and the power cut later; then the pool is opened again and audited.
//!
//! Deliberate bugs, tried by hand, and what catches each first:
//!
//! | bug | caught by |
//! |---|---|
//! | journal blocks are not durable writes | `machine`, `power_cut` |
//! | data is written before its map record is durable | `machine`, `faults` |
//! | a checkpoint's body is not durable before its header; the header goes first; there is one slot only | `faults`, `power_cut` |
//! | an opening does not flush before it reads | `power_cut` (kill at a checkpoint, then cut) |
//! | the opening is not counted, so torn attempts at a block look like one damaged block | `power_cut` (cuts in quick succession) |
//! | the opening's own checkpoint starts where the old journal did | `power_cut`, `stories` |
//! | a checkpoint leaves out the block in flight; or releases the journal when it begins, not when it ends | `faults`, `stories` |
//! | the journal runs over blocks that no checkpoint has | `faults` |
//! | damage is taken for the journal's end; later blocks are not looked for; a body's checksum is not looked at | `open` |
//! | a block in doubt counts as written; or is written again as another one | `faults`, `stories` |
//! | extents set aside for records that are dropped stay so | `stories` |
//! | freed extents are free at once; are recorded as clean unzeroed, or unflushed; those of deleted volumes are lost | `machine`, `stories`, `open` |
//! | an unmapping does not wait for what is in flight; new requests do not wait for the unmapping | `machine`, `stories` |
//! | a deletion does not wait for requests | `machine`, `stories` |
//! | deallocation of part of an extent goes down as mere advice | `machine`, `stories` |
//! | parts of a request share the first part's payload; a flush is not sent | `machine`, `stories` |

mod faults;
mod machine;
mod model;
mod open;
mod power_cut;
mod script;
mod stories;
mod world;
