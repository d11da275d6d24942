//! From a name or id, as people give it, to a record.

use crate::error::ApiError;
use cluster::key::{self, NameKind};
use cluster::spec::{HostSpec, NodeSpec, PoolSpec, VolumeSpec};
use cluster::{ControllerNodeId, DiskNodeId, HostId, PoolId, VolumeId};
use control::problem::{Problem, ProblemKind};
use control::rest::{parse_host_nqn, parse_name};
use serde::de::DeserializeOwned;
use store::{Txn, Versioned};
use uuid::Uuid;

/// What has a name, an id and a record.
pub(crate) trait Named: DeserializeOwned {
    /// Where its names stand.
    const KIND: NameKind;
    /// What it is called.
    const NOUN: &'static str;
    /// The key of its record.
    fn key(id: Uuid) -> String;
}

macro_rules! named {
    ($($record:ty, $kind:ident, $noun:literal, $key:path, $id:ident;)*) => {$(
        impl Named for $record {
            const KIND: NameKind = NameKind::$kind;
            const NOUN: &'static str = $noun;
            fn key(id: Uuid) -> String {
                $key($id(id))
            }
        }
    )*};
}

named! {
    PoolSpec, Pool, "pool", key::pool, PoolId;
    VolumeSpec, Volume, "volume", key::volume, VolumeId;
    HostSpec, Host, "host", key::host, HostId;
    NodeSpec<DiskNodeId>, DiskNode, "disk-node", key::disk_node, DiskNodeId;
    NodeSpec<ControllerNodeId>, ControllerNode, "controller-node", key::controller_node, ControllerNodeId;
}

/// The record of a name or id; compared, so that it is still so when the transaction commits.
///
/// Errors: not found.
pub(crate) async fn find<T: Named>(txn: &Txn, target: &str) -> Result<Versioned<T>, ApiError> {
    let none = || ApiError::not_found(T::NOUN, target);
    let id = match Uuid::try_parse(target) {
        Ok(id) => id,
        // What cannot be a name is nobody's, and is kept out of keys.
        Err(_) if parse_name("name", target).is_err() => return Err(none()),
        Err(_) => txn
            .get::<Uuid>(key::name(T::KIND, target))
            .await?
            .ok_or_else(none)?,
    };
    txn.versioned::<T>(T::key(id)).await?.ok_or_else(none)
}

/// The record of a host by name, id or NQN.
///
/// Errors: not found.
pub(crate) async fn find_host(txn: &Txn, target: &str) -> Result<Versioned<HostSpec>, ApiError> {
    if parse_host_nqn("host", target).is_ok() {
        let id = txn.get::<Uuid>(key::name(NameKind::HostNqn, target)).await?;
        if let Some(id) = id {
            return find(txn, &id.to_string()).await;
        }
    }
    find(txn, target).await
}

/// Take a name for something new.
///
/// Errors: it is taken.
pub(crate) async fn take_name(txn: &Txn, kind: NameKind, name: &str, id: Uuid) -> Result<(), ApiError> {
    let record = key::name(kind, name);
    if let Some(taken) = txn.get::<Uuid>(&record).await? {
        let (noun, what) = match kind {
            NameKind::HostNqn => ("host", "NQN"),
            _ => (kind.as_str(), "name"),
        };
        let detail = format!("there is a {noun} of the {what} {name:?}, with the id {taken}");
        let hint = format!(
            "choose another {what}, or use the {noun} that is there (one being deleted keeps its {what})"
        );
        let problem = Problem::new(ProblemKind::NameTaken, detail, hint);
        return Err(problem.used_by(vec![format!("{noun}/{taken}")]).into());
    }
    Ok(txn.put(record, &id)?)
}
