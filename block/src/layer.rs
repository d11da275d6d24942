//! The shape that all layers share.
//!
//! A layer is a machine: requests come from above (`submit`), completions from below (`complete`), and after either
//! the owner drains `poll_output`. What a layer sends below names a place (`T`: a leg of a mirror, an area of a slice) and a
//! [`SubRequestId`] of the layer's own choosing; the answer comes back under that name.

/// Names a request in the books of whoever submitted it to a layer; unique among those in flight there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names a request that a layer made to the one below; unique among those in flight from that layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubRequestId(pub u64);
