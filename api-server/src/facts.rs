//! What bears on a pool, gathered once per request and snapshot; read, not compared: status is for people.

use crate::error::ApiError;
use cluster::layout::{DiskNodeAllocation, PoolLayout};
use cluster::spec::{AttachmentSpec, HostSpec, NodeSpec, PoolSpec};
use cluster::status::PoolProgress;
use cluster::view::{ControllerNodeView, DiskNodeView};
use cluster::{ControllerNodeId, DiskNodeId, HostId, PoolId, VolumeId, key};
use control::rest::{PoolFacts, Reference};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use store::{KeyRange, Txn, Versioned};

/// Records that several resources of one answer share.
#[derive(Default)]
pub(crate) struct Facts {
    pools: BTreeMap<PoolId, PoolFacts>,
    controller_nodes: BTreeMap<ControllerNodeId, Option<ControllerNodeView>>,
    hosts: BTreeMap<HostId, Option<HostSpec>>,
}

impl Facts {
    /// All that bears on a pool, by its id.
    ///
    /// Errors: not found.
    pub(crate) async fn pool(&mut self, txn: &Txn, id: PoolId) -> Result<&PoolFacts, ApiError> {
        if !self.pools.contains_key(&id) {
            let spec = txn.peek_versioned::<PoolSpec>(key::pool(id)).await?;
            let spec = spec.ok_or_else(|| ApiError::not_found("pool", &id.to_string()))?;
            let facts = self.gather(txn, spec).await?;
            self.pools.insert(id, facts);
        }
        Ok(&self.pools[&id])
    }

    /// All that bears on a pool whose spec is at hand.
    pub(crate) async fn gather(
        &mut self,
        txn: &Txn,
        spec: Versioned<PoolSpec>,
    ) -> Result<PoolFacts, ApiError> {
        let layout = txn.peek::<PoolLayout>(key::layout(spec.record.id)).await?;
        let mut memberships = BTreeMap::new();
        for slice in layout.iter().flat_map(|layout| &layout.slices) {
            let membership = txn.peek(key::membership(slice.slice)).await?;
            memberships.extend(membership.map(|membership| (slice.slice, membership)));
        }
        let mut controller_nodes = BTreeMap::new();
        for placement in layout.iter().flat_map(|layout| &layout.controllers) {
            let view = self.controller_node(txn, placement.node).await?;
            controller_nodes.extend(view.map(|view| (placement.node, view)));
        }
        let progress = txn.peek::<PoolProgress>(key::progress(spec.record.id)).await?;
        let revision = spec.mod_revision.0;
        Ok(PoolFacts {
            spec: spec.record,
            revision,
            layout,
            memberships,
            progress,
            controller_nodes,
        })
    }

    async fn controller_node(
        &mut self,
        txn: &Txn,
        id: ControllerNodeId,
    ) -> Result<Option<ControllerNodeView>, ApiError> {
        if let Some(known) = self.controller_nodes.get(&id) {
            return Ok(known.clone());
        }
        let view = match txn.peek::<NodeSpec<_>>(key::controller_node(id)).await? {
            None => None,
            Some(spec) => {
                let observed = txn.peek(key::controller_node_status(id)).await?;
                Some(ControllerNodeView {
                    spec,
                    observed,
                    config: None,
                })
            }
        };
        self.controller_nodes.insert(id, view.clone());
        Ok(view)
    }

    /// The hosts a volume is given to.
    pub(crate) async fn hosts_of(&mut self, txn: &Txn, volume: VolumeId) -> Result<Vec<Reference>, ApiError> {
        let range = KeyRange::prefix(key::attachments_of_volume(volume));
        let mut hosts = Vec::new();
        for attachment in txn.peek_range::<AttachmentSpec>(range).await? {
            let id = attachment.record.host;
            let name = self
                .host(txn, id)
                .await?
                .map_or_else(|| id.to_string(), |host| host.name.clone());
            hosts.push(Reference { id: id.0, name });
        }
        Ok(hosts)
    }

    /// A host's record.
    pub(crate) async fn host(&mut self, txn: &Txn, id: HostId) -> Result<Option<&HostSpec>, ApiError> {
        if let Entry::Vacant(vacant) = self.hosts.entry(id) {
            vacant.insert(txn.peek::<HostSpec>(key::host(id)).await?);
        }
        Ok(self.hosts[&id].as_ref())
    }
}

/// A disk node, from all sides.
pub(crate) async fn disk_node_view(txn: &Txn, spec: NodeSpec<DiskNodeId>) -> Result<DiskNodeView, ApiError> {
    let allocation = txn
        .peek::<DiskNodeAllocation>(key::allocation(spec.id))
        .await?
        .unwrap_or_default();
    let observed = txn.peek(key::disk_node_status(spec.id)).await?;
    Ok(DiskNodeView {
        spec,
        allocation,
        observed,
        config: None,
    })
}

/// A controller node, from all sides.
pub(crate) async fn controller_node_view(
    txn: &Txn,
    spec: NodeSpec<ControllerNodeId>,
) -> Result<ControllerNodeView, ApiError> {
    let observed = txn.peek(key::controller_node_status(spec.id)).await?;
    let config = txn.peek(key::controller_node_config(spec.id)).await?;
    Ok(ControllerNodeView {
        spec,
        observed,
        config,
    })
}
