//! Stub: replaced by its first slice.
