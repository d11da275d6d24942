//! Operations into machines: the input decides what happens next, an oracle says whether what came of it may be.

pub mod disk_node;
pub mod host;
pub mod leg_disk;
pub mod mirror;
pub mod peer;
pub mod platter;
pub mod pool_world;
pub mod target;
pub mod target_world;
pub mod thin;
