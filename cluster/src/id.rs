//! Identities (never reused), revisions and epochs (different types, never compared).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);
        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.fmt(f)
            }
        }
        impl core::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map($name)
            }
        }
    )*};
}

ids! {
    /// A disk node.
    DiskNodeId;
    /// A controller node.
    ControllerNodeId;
    /// A physical disk; written into its superblock when it is formatted.
    DiskId;
    /// A leg. Also the UUID and NGUID of its namespace.
    LegId;
    /// A group.
    GroupId;
    /// A slice.
    SliceId;
    /// A pool.
    PoolId;
    /// A volume. Also the UUID and NGUID of its namespace.
    VolumeId;
    /// A host.
    HostId;
    /// A long-running wish of a person.
    OperationId;
    /// One start of a node process: fresh each time, also its NVMe host identifier (R2: its own past is fenced).
    Incarnation;
}

/// Orders configurations; a node refuses a lower one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// Orders owners of a slice; a leg refuses a lower one. Zero: never owned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// An NVMe Qualified Name, as text (Base 2.1, 4.7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nqn(pub String);

impl core::fmt::Display for Nqn {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}
