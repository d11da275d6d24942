//! The power-cut explorer: tells a story in the simulated world, notes every write, flush and promise, and then lets the power fail at
//! every moment of it, in every way a disk may lose or tear what was not flushed; starts everything anew over what is left,
//! and sees that it is as was promised.
//!
//! | module | does |
//! |---|---|
//! | `stories` | what happens |
//! | `stage` | where it happens: production nodes in a world, asked by verbs, everything noted |
//! | `shelf` | the same, for a disk node alone |
//! | `host` | the host of a story, what it asked and heard |
//! | `scene` | what outlives a power cut, at any moment of a record |
//! | `image` | a disk: what is settled, what is not |
//! | `promise` | what the host was promised |
//! | `variants` | the ways in which a cut can go |
//! | `recovery` | life after a cut, and what is checked |
//! | `explore` | all of it, on every core |
//! | `names` | what lies where, in words |
//!
//! What a block may hold after a cut: see `promise`.

pub mod explore;
pub mod host;
pub mod image;
pub mod names;
pub mod promise;
pub mod recovery;
pub mod scene;
pub mod shelf;
pub mod stage;
pub mod stories;
pub mod variants;
