//! The REST interface, called in this process over an embedded store; workers' part is played by the tests.
//!
//! Deliberate bugs this suite has been seen to catch, each tried by hand:
//! - a name that is looked for and not compared (two servers, one name);
//! - If-Match that refuses older revisions only;
//! - an idempotency key that forgets its answer, or its request;
//! - a volume deleted while it is being attached, a pool deleted under its volumes;
//! - a membership request of an older epoch, a late one, another owner's, one that brings a leg back by saying
//!   "formatted" again, numbers that are carried over to the next epoch;
//! - a join without the token, a hello with a guessed one;
//! - a page that leaves out what follows it in the same chunk.

mod concurrency;
mod internal;
mod lifecycle;
mod openapi;
mod refusals;
mod status;
mod store_away;
mod world;
