//! The REST interface, called in this process over an embedded store; workers' part is played by the tests.
//!
//! Deliberate bugs this suite has been seen to catch, each tried by hand:
//! - a name that is looked for and not compared (two servers, one name);
//! - If-Match that is not looked at, or that is compared with another record's revision;
//! - an idempotency key that is kept apart from what it made, or that forgets its request;
//! - a volume deleted under its attachment, a pool under its volumes, a host under what it is given;
//! - a membership request of an older epoch, a late one, one that brings a leg back by saying "formatted" again;
//! - a join without the token, a hello with another node's.

mod concurrency;
mod internal;
mod lifecycle;
mod openapi;
mod refusals;
mod status;
mod store_away;
mod world;
