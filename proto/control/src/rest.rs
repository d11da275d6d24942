//! The bodies of the REST interface (`/v1`).
//!
//! Sizes are bytes in answers; in requests also text with a binary unit. Times are milliseconds since 1970 (UTC). Every
//! record of people's intent has a `revision`, which is also its ETag. Fields may be added; readers skip what they do
//! not know. Requests with unknown fields are refused: a misspelt wish must not be lost.

mod event;
mod host;
mod node;
mod operation;
mod page;
mod path;
mod pool;
mod value;
mod volume;

pub use event::{EventBody, EventSeverity, EventSubject};
pub use host::{Attachment, AttachmentCreate, Host, HostCreate};
pub use node::{ControllerNode, ControllerSlice, Disk, DiskNode, Leg, LegPhase, NodePatch, NodeState};
pub use operation::{Accepted, OperationBody, OperationKind, OperationPhase};
pub use page::List;
pub use path::{Path, PathState, SlicePhase};
pub use pool::{
    Failover, Group, GroupLeg, Pool, PoolCreate, PoolFacts, PoolPatch, PoolPhase, PoolStatus, Protection,
};
pub use value::{InvalidValue, SizeInput, check_idempotency_key, parse_host_nqn, parse_name, parse_size};
pub use volume::{VOLUME_BYTES_MAX, Volume, VolumeCreate, VolumePatch, VolumePhase, VolumeStatus};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Something else, by id and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Reference {
    /// Its id.
    pub id: Uuid,
    /// Its name; its id as text if it has no record any more.
    pub name: String,
}
