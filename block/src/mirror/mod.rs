//! A group of mirrored legs (one leg: no protection).

/// The most legs a group can have.
pub const LEGS_MAX: usize = 8;
