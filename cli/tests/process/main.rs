//! Real binaries, sockets and files, and a real etcd: what happens to people's wrong wishes, to damaged disks and ledgers, to
//! strangers' bytes, to a store that is away, and to kill -9; and each time that a neighbour's verified I/O goes on and that
//! nothing acknowledged is lost.
//!
//! Bugs these tests were seen to catch: one leg that refuses to be fenced takes the connection from all others on its node; a
//! restarted disk node finds its disks still locked by what the killed one had under way; deletes whose answer the client
//! could not read; too little space told to scripts as a missing store.
//!
//! Nothing here sleeps for correctness: every wait is for a condition, and bounded. The host and its verified I/O are the
//! demo's own.

mod bench;
mod disks;
mod etcd;
mod fabric;
mod full;
mod kills;
mod ledgers;
mod neighbour;
mod people;
mod rest;
mod scripts;
mod session;
mod shared;
mod store_away;
mod strangers;

#[allow(dead_code, reason = "the demo uses more of it")]
#[path = "../../src/demo/host.rs"]
mod host;
#[allow(dead_code, reason = "the demo uses more of it")]
#[path = "../../src/demo/workload.rs"]
mod workload;
