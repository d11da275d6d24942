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
    /// A worker process; fresh at each start.
    WorkerId;
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

/// An NVMe Qualified Name, as text (Base 2.1, 4.7). Ours are all of the form that is made of a UUID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nqn(pub String);

impl core::fmt::Display for Nqn {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Nqn {
    /// The UUID-based form of an NQN (Base 2.1, 4.7), which needs no domain of anybody's.
    pub fn of_uuid(uuid: Uuid) -> Self {
        Nqn(format!("nqn.2014-08.org.nvmexpress:uuid:{uuid}"))
    }
}

impl PoolId {
    /// The NQN of the pool's one subsystem.
    pub fn subsystem_nqn(self) -> Nqn {
        Nqn::of_uuid(self.0)
    }
}

impl DiskId {
    /// The NQN of the disk's one subsystem: its legs are the namespaces.
    pub fn subsystem_nqn(self) -> Nqn {
        Nqn::of_uuid(self.0)
    }
}

impl ControllerNodeId {
    /// How the controller node names itself, as a host, to disk nodes.
    pub fn host_nqn(self) -> Nqn {
        Nqn::of_uuid(self.0)
    }
}
