//! Volumes: from what people want of them to the pool's table of volumes, and back from what the owner reports.

use super::{Draft, VolumeChange};
use crate::layout::VolumeLayout;
use crate::placement::BLOCK_BYTES;
use crate::spec::VolumeSpec;
use crate::status::{SliceState, SliceStatus};
use crate::view::{ControllerNodeView, PoolInput};
use crate::{Nqn, SliceId, VolumeId};
use std::collections::BTreeSet;

impl Draft<'_> {
    /// Bring every volume of the layout to what is wanted. Idempotent.
    pub(super) fn change_volumes(&mut self) {
        for spec in self.input.volumes.values() {
            if spec.deleting {
                self.remove_volume(spec);
            } else {
                self.want_volume(spec);
            }
        }
        self.remove_unknown_volumes();
        let kept: Vec<&str> = self
            .kept_volumes()
            .iter()
            .map(|volume| volume.name.as_str())
            .collect();
        if self.input.spec.deleting && !kept.is_empty() {
            let reason = format!(
                "the pool still has volumes; delete them first: {}",
                kept.join(", ")
            );
            self.wait(reason);
        }
    }

    /// The volumes that keep the pool from being deleted: all but those that people gave up too.
    pub(super) fn kept_volumes(&self) -> Vec<&VolumeSpec> {
        self.input
            .volumes
            .values()
            .filter(|volume| !volume.deleting)
            .collect()
    }

    fn want_volume(&mut self, spec: &VolumeSpec) {
        let Some(layout) = &mut self.layout else { return };
        let Some(size_blocks) = whole_blocks(spec.size_bytes) else {
            self.waits.push(format!(
                "volume {}: its size is not a positive multiple of 4096",
                spec.name
            ));
            return;
        };
        let reported = self.input.volume_is_served(spec.id);
        let wanted = VolumeLayout {
            volume: spec.id,
            nsid: spec.nsid,
            size_blocks,
            hosts: hosts_of(self.input, spec.id),
            created: spec.created || reported,
            deleting: false,
        };
        if reported && !spec.created {
            self.volumes.insert(spec.id, VolumeChange::Created);
        }
        if !wanted.created {
            self.waits.push(format!("volume {} is being created", spec.name));
        }
        match layout.volumes.iter_mut().find(|volume| volume.volume == spec.id) {
            None => layout.volumes.push(wanted),
            Some(known) => {
                if size_blocks < known.size_blocks {
                    self.waits
                        .push(format!("volume {}: volumes do not shrink", spec.name));
                }
                known.size_blocks = known.size_blocks.max(size_blocks);
                known.hosts = wanted.hosts;
                known.created |= wanted.created;
            }
        }
    }

    fn remove_volume(&mut self, spec: &VolumeSpec) {
        let gone = self.volume_is_removed(spec.id);
        if gone || self.input.spec.deleting {
            self.volumes.insert(spec.id, VolumeChange::Gone);
        }
        let Some(layout) = &mut self.layout else { return };
        if gone {
            layout.volumes.retain(|volume| volume.volume != spec.id);
        } else if let Some(known) = layout.volumes.iter_mut().find(|volume| volume.volume == spec.id) {
            known.deleting = true;
            known.hosts.clear();
            self.wait(format!(
                "volume {} is being removed from the pool's map",
                spec.name
            ));
        }
    }

    /// A volume whose spec is gone is not served any more, but removed from the map like any other.
    fn remove_unknown_volumes(&mut self) {
        let Some(layout) = &self.layout else { return };
        let unknown = layout
            .volumes
            .iter()
            .filter(|volume| !self.input.volumes.contains_key(&volume.volume));
        for id in unknown.map(|volume| volume.volume).collect::<Vec<_>>() {
            let gone = self.volume_is_removed(id);
            let layout = self.layout.as_mut().expect("seen above");
            if gone {
                layout.volumes.retain(|volume| volume.volume != id);
            } else if let Some(known) = layout.volumes.iter_mut().find(|volume| volume.volume == id) {
                known.deleting = true;
                known.hosts.clear();
            }
        }
    }

    /// No map knows it: it never came into the layout, or every owner was told to remove it and has.
    fn volume_is_removed(&self, id: VolumeId) -> bool {
        let Some(before) = &self.input.layout else {
            return true;
        };
        if !before.volumes.iter().any(|volume| volume.volume == id) {
            return true;
        }
        before
            .slices
            .iter()
            .all(|slice| self.input.owner_has_removed(slice.slice, id))
    }
}

impl PoolInput {
    /// The slice as its owner serves it now: under the epoch of the grant, which names owner and process, nothing older.
    pub fn served_slice(&self, slice: SliceId) -> Option<(&ControllerNodeView, &SliceStatus)> {
        let membership = self.memberships.get(&slice)?;
        let node = self.controller_nodes.get(&membership.owner)?;
        let status = node
            .status()
            .filter(|status| status.incarnation == membership.owner_incarnation)?;
        let slice = status.slices.iter().find(|found| found.slice == slice)?;
        (slice.state == SliceState::Serving && slice.epoch == membership.epoch).then_some((node, slice))
    }

    /// Whether every slice of the pool is served by its owner.
    pub fn is_served(&self) -> bool {
        self.layout.as_ref().is_some_and(|layout| {
            !layout.slices.is_empty()
                && layout
                    .slices
                    .iter()
                    .all(|slice| self.served_slice(slice.slice).is_some())
        })
    }

    /// Whether every slice's owner serves the volume.
    pub fn volume_is_served(&self, id: VolumeId) -> bool {
        self.served_size_blocks(id).is_some()
    }

    /// The size that every slice's owner serves the volume with; `None` if one does not serve it.
    pub fn served_size_blocks(&self, id: VolumeId) -> Option<u64> {
        let slices = &self.layout.as_ref()?.slices;
        let size = |slice: SliceId| {
            let (_, status) = self.served_slice(slice)?;
            Some(
                status
                    .volumes
                    .iter()
                    .find(|found| found.volume == id)?
                    .size_blocks,
            )
        };
        let sizes: Option<Vec<u64>> = slices.iter().map(|slice| size(slice.slice)).collect();
        sizes?.into_iter().min()
    }

    /// The owner serves, has taken over a configuration that says "remove it", and does not have it any more.
    fn owner_has_removed(&self, slice: SliceId, id: VolumeId) -> bool {
        let Some((node, status)) = self.served_slice(slice) else {
            return false;
        };
        let told = node
            .config
            .as_ref()
            .and_then(|config| config.pools.get(&self.spec.id));
        let told = told.and_then(|pool| pool.volumes.iter().find(|volume| volume.volume == id));
        let told = told.is_some_and(|volume| volume.deleting);
        told && node.is_current() && !status.volumes.iter().any(|found| found.volume == id)
    }
}

fn hosts_of(input: &PoolInput, volume: VolumeId) -> BTreeSet<Nqn> {
    let attached = input
        .attachments
        .iter()
        .filter(|attachment| attachment.volume == volume);
    attached
        .filter_map(|attachment| input.hosts.get(&attachment.host))
        .map(|host| host.nqn.clone())
        .collect()
}

fn whole_blocks(bytes: u64) -> Option<u64> {
    (bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES)).then_some(bytes / BLOCK_BYTES)
}
