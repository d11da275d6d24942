//! Hosts, and the volumes they are given.

use crate::rest::value::{InvalidValue, parse_host_nqn, parse_name};
use crate::rest::{Path, Reference};
use cluster::HostId;
use cluster::spec::HostSpec;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A host to be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostCreate {
    /// Unique among hosts.
    pub name: String,
    /// How it names itself on the fabric: on Linux, what `/etc/nvme/hostnqn` says. Unique.
    pub nqn: String,
}

impl HostCreate {
    /// The record of a new host.
    ///
    /// Errors: [`InvalidValue`].
    pub fn parse(&self, id: HostId) -> Result<HostSpec, InvalidValue> {
        let (name, nqn) = (parse_name("name", &self.name)?, parse_host_nqn("nqn", &self.nqn)?);
        Ok(HostSpec { id, name, nqn })
    }
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Host {
    /// Never reused.
    pub id: Uuid,
    /// Chosen by people.
    pub name: String,
    /// Its ETag.
    pub revision: u64,
    /// How it names itself on the fabric.
    pub nqn: String,
    /// The volumes it is given.
    pub volumes: Vec<Reference>,
}

impl Host {
    /// From its record.
    pub fn new(spec: &HostSpec, revision: u64, volumes: Vec<Reference>) -> Host {
        Host {
            id: spec.id.0,
            name: spec.name.clone(),
            revision,
            nqn: spec.nqn.0.clone(),
            volumes,
        }
    }
}

/// A volume to be given to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentCreate {
    /// Its name or id.
    pub volume: String,
    /// The host's name, id or NQN.
    pub host: String,
}

/// A volume given to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// The two ids, with a full stop between: as it stands in paths, where names will do as well.
    pub id: String,
    /// Its ETag.
    pub revision: u64,
    /// Which volume.
    pub volume: Reference,
    /// To whom.
    pub host: Reference,
    /// How the host names itself.
    pub host_nqn: String,
    /// For `nvme connect`.
    pub subsystem_nqn: String,
    /// The volume's namespace there.
    pub nsid: u32,
    /// The ways to it.
    pub paths: Vec<Path>,
}
