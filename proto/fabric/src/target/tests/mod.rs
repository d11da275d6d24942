//! The target, scripted: bytes in, PDUs out.
//!
//! Deliberate bugs ("mutants") that this suite must catch; each was tried by hand:
//! - access checked when a command arrives and not when it is handed out;
//! - a fence that answers before the losers' commands ended, or before it is durable;
//! - a lower epoch accepted;
//! - orphans that nobody waits for;
//! - an R2T's data accepted at another offset;
//! - a data digest ignored;
//! - a host that sees what is not its own;
//! - an event told twice before its log page was read;
//! - a command that gets memory out of turn;
//! - a buffer not given back;
//! - an initialisation answered twice, a byte behind the Connect lost, a refused Connect carried over;
//! - one line for all who wait for memory, instead of a turn for each; a waiter forgotten; reading that is not resumed, or not
//!   stopped; a namespace that may hold everything; a peer cut off as silent that nobody listened to;
//! - data that landed counted twice, at another offset, or not in the digest.

mod admin;
mod bad_input;
mod connect;
mod events;
mod fencing;
mod hand_over;
mod harness;
mod landing;
mod masking;
mod memory;
mod orphans;
mod overload;
mod read_write;
mod stream;
