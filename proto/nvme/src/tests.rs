//! Tests of the modules that are one file. Those with modules of their own have theirs beside them.
//!
//! Deliberate bugs that the tables must catch (tried by hand): a field of a fixed structure moved or swapped with its
//! neighbour; one of another width; a bit field off by one; CRD, M or DNR swapped; the phase tag left in the status; a
//! zero-based number taken as it stands; an event that names another log page; a name of 224 bytes let in.

mod async_event;
mod connect;
mod feature;
mod identifier;
mod nqn;
mod property;
mod reservation;
mod status;
