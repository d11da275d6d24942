//! Volumes.

use crate::rest::value::{InvalidValue, SizeInput, parse_name, parse_size};
use crate::rest::{Path, PoolFacts, Reference};
use cluster::spec::VolumeSpec;
use cluster::{PoolId, VolumeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The largest volume: 1 PiB.
pub const VOLUME_BYTES_MAX: u64 = 1 << 50;
/// What hosts see is whole blocks.
const BLOCK_BYTES: u64 = cluster::placement::BLOCK_BYTES;

/// A volume to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeCreate {
    /// Unique among volumes.
    pub name: String,
    /// The pool's name or id.
    pub pool: String,
    /// What the host shall see: a multiple of 4096, at most 1 PiB. May be more than the pool has.
    pub size: SizeInput,
}

impl VolumeCreate {
    /// The record of a new volume, but for the namespace identifier, which its pool gives.
    ///
    /// Errors: [`InvalidValue`].
    pub fn parse(&self, id: VolumeId, pool: PoolId) -> Result<VolumeSpec, InvalidValue> {
        let name = parse_name("name", &self.name)?;
        let size_bytes = volume_size(&self.size)?;
        Ok(VolumeSpec {
            id,
            name,
            pool,
            nsid: 0,
            size_bytes,
            deleting: false,
            created: false,
        })
    }
}

/// What may be changed of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumePatch {
    /// Its new size; not less than it has.
    pub size: SizeInput,
}

impl VolumePatch {
    /// The new size.
    ///
    /// Errors: [`InvalidValue`].
    pub fn parse(&self) -> Result<u64, InvalidValue> {
        volume_size(&self.size)
    }
}

fn volume_size(size: &SizeInput) -> Result<u64, InvalidValue> {
    parse_size("size", size, BLOCK_BYTES..=VOLUME_BYTES_MAX, BLOCK_BYTES)
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// Never reused; also the namespace's UUID and NGUID.
    pub id: Uuid,
    /// Chosen by people.
    pub name: String,
    /// Its ETag.
    pub revision: u64,
    /// Where it lives.
    pub pool: Reference,
    /// What the host shall see.
    pub size_bytes: u64,
    /// For `nvme connect`.
    pub subsystem_nqn: String,
    /// Its namespace there.
    pub nsid: u32,
    /// Who may see it.
    pub hosts: Vec<Reference>,
    /// What is.
    pub status: VolumeStatus,
    /// What people should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeStatus {
    /// How far.
    pub state: VolumePhase,
    /// Space it has been given; none while its pool is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapped_bytes: Option<u64>,
    /// What hosts see now; none while its pool is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_bytes: Option<u64>,
    /// The ways to it.
    pub paths: Vec<Path>,
}

/// How far a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumePhase {
    /// Its pool does not know it yet.
    Creating,
    /// Served.
    Online,
    /// Its pool is not served now.
    Unavailable,
    /// On the way out.
    Deleting,
}

impl Volume {
    /// From its record and its pool's.
    pub fn new(spec: &VolumeSpec, revision: u64, pool: &PoolFacts, hosts: Vec<Reference>) -> Volume {
        let over = pool.over_provisioning();
        Volume {
            id: spec.id.0,
            name: spec.name.clone(),
            revision,
            pool: pool.reference(),
            size_bytes: spec.size_bytes,
            subsystem_nqn: spec.pool.subsystem_nqn().0,
            nsid: spec.nsid,
            hosts,
            status: VolumeStatus::new(spec, pool),
            warnings: over.into_iter().collect(),
        }
    }

    /// By id and name.
    pub fn reference(&self) -> Reference {
        Reference {
            id: self.id,
            name: self.name.clone(),
        }
    }
}

impl VolumeStatus {
    fn new(spec: &VolumeSpec, pool: &PoolFacts) -> VolumeStatus {
        let serving = pool.serving().map(|(_, slice)| slice);
        let served = serving.and_then(|slice| slice.volumes.iter().find(|volume| volume.volume == spec.id));
        let state = match served {
            _ if spec.deleting => VolumePhase::Deleting,
            Some(_) => VolumePhase::Online,
            None if spec.created => VolumePhase::Unavailable,
            None => VolumePhase::Creating,
        };
        VolumeStatus {
            state,
            mapped_bytes: served.map(|volume| volume.extents_mapped.saturating_mul(pool.spec.extent_bytes)),
            served_bytes: served.map(|volume| volume.size_blocks.saturating_mul(BLOCK_BYTES)),
            paths: pool.paths(),
        }
    }
}
