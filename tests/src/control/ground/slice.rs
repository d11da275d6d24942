//! A slice in the hands of a controller node that was granted it: opening, serving, fenced.

use super::{Ground, standby};
use cluster::node_config::{PoolConfig, Role, SliceConfig};
use cluster::status::{GroupLegStatus, GroupStatus, SliceState, SliceStatus, VolumeStatus};
use cluster::{Epoch, GroupId, Incarnation, LegId, SliceId, VolumeId};
use control::agent::{MembershipAnswer, MembershipChange, MembershipOutcome, MembershipRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

/// How long a leg is away before it is taken out of the set.
const PATIENCE: Duration = Duration::from_millis(800);
/// How long it takes to make a leg equal that returned.
const RESYNC: Duration = Duration::from_secs(5);

/// What its process knows of it.
pub(super) struct Owned {
    epoch: Epoch,
    phase: Phase,
    /// As the grant said, and what was recorded since.
    groups: BTreeMap<GroupId, Group>,
    formatted: bool,
    /// One request at a time.
    asked: Option<(u64, MembershipChange)>,
    /// What the map is known to hold.
    volumes: BTreeMap<VolumeId, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Serving,
    /// Somebody with a newer epoch was here, or the record says so: it waits for another grant.
    Fenced,
}

#[derive(Clone, Debug)]
struct Group {
    formatted: bool,
    in_sync: BTreeSet<LegId>,
    legs: Vec<LegId>,
    /// Since when legs of the set do not answer, or others do.
    odd_since: BTreeMap<LegId, Duration>,
}

impl Owned {
    /// As granted.
    fn new(slice: &SliceConfig, epoch: Epoch) -> Owned {
        let groups = slice.groups.iter().map(|group| {
            let in_sync = group.legs.iter().filter(|leg| leg.in_sync).map(|leg| leg.leg);
            let known = Group {
                formatted: group.formatted,
                in_sync: in_sync.collect(),
                legs: group.legs.iter().map(|leg| leg.leg).collect(),
                odd_since: BTreeMap::new(),
            };
            (group.group, known)
        });
        Owned {
            epoch,
            phase: Phase::Opening,
            groups: groups.collect(),
            formatted: slice.formatted,
            asked: None,
            volumes: BTreeMap::new(),
        }
    }

    pub(super) fn answered(&mut self, answer: &MembershipAnswer) {
        let Some((_, change)) = self.asked.take_if(|(request, _)| *request == answer.request) else {
            return;
        };
        if answer.outcome != MembershipOutcome::Committed {
            self.phase = Phase::Fenced;
            return;
        }
        match change {
            MembershipChange::InSync { group, in_sync } => {
                self.groups
                    .get_mut(&group)
                    .expect("asked for one of them")
                    .in_sync = in_sync;
            }
            MembershipChange::GroupFormatted { group } => {
                let group = self.groups.get_mut(&group).expect("asked for one of them");
                group.formatted = true;
                group.in_sync = group.legs.iter().copied().collect();
            }
            MembershipChange::SliceFormatted => self.formatted = true,
        }
    }
}

impl Ground {
    /// One step of a slice that the node's configuration names.
    pub(super) fn advance_slice(
        &mut self,
        (node, own): (Uuid, Incarnation),
        pool: &PoolConfig,
        slice: &SliceConfig,
    ) {
        let controller = self.controller_nodes.get_mut(&node).expect("it is advanced");
        let mut owned = match slice.role {
            Role::Owner { epoch, incarnation } if incarnation == own => {
                let known = controller
                    .owned
                    .remove(&slice.slice)
                    .filter(|known| known.epoch == epoch);
                known.unwrap_or_else(|| Owned::new(slice, epoch))
            }
            _ => {
                controller.owned.remove(&slice.slice);
                return;
            }
        };
        let step = self.step(slice.slice, pool, &mut owned);
        let controller = self.controller_nodes.get_mut(&node).expect("as above");
        match step {
            Ok(Some(change)) if owned.asked.is_none() => {
                let request = controller.next_request;
                controller.next_request += 1;
                owned.asked = Some((request, change.clone()));
                controller.requests.push_back(MembershipRequest {
                    request,
                    slice: slice.slice,
                    epoch: owned.epoch,
                    change,
                });
            }
            Ok(_) => {}
            Err(what) => self.accuse(what),
        }
        let controller = self.controller_nodes.get_mut(&node).expect("as above");
        controller.owned.insert(slice.slice, owned);
    }

    /// What it has to have recorded next, if anything.
    ///
    /// Errors: a rule that the control plane broke.
    fn step(
        &mut self,
        slice: SliceId,
        pool: &PoolConfig,
        owned: &mut Owned,
    ) -> Result<Option<MembershipChange>, String> {
        if owned.phase == Phase::Fenced || !self.fence(owned) {
            owned.phase = Phase::Fenced;
            return Ok(None);
        }
        if let Some(change) = self.change_of_set(slice, owned) {
            return Ok(Some(change));
        }
        if owned.phase == Phase::Opening {
            let opened = self.open(slice, owned)?;
            if opened.is_some() || owned.phase == Phase::Opening {
                return Ok(opened);
            }
        }
        self.write(slice, owned);
        self.keep_map(slice, pool, owned)?;
        Ok(None)
    }

    /// Take every leg that answers under the epoch; false if one has seen a newer one (R2).
    fn fence(&mut self, owned: &Owned) -> bool {
        let legs: Vec<LegId> = owned
            .groups
            .values()
            .flat_map(|group| &group.legs)
            .copied()
            .collect();
        legs.into_iter().all(|id| match self.leg(id) {
            Some(leg) if leg.key > owned.epoch => false,
            Some(leg) => {
                leg.key = owned.epoch;
                true
            }
            None => true,
        })
    }

    /// A formatted group loses legs that are away, and takes those back that returned and were made equal.
    fn change_of_set(&mut self, slice: SliceId, owned: &mut Owned) -> Option<MembershipChange> {
        let (now, asked) = (self.now, owned.asked.is_some());
        let acknowledged = self.truths.entry(slice).or_default().acknowledged;
        for (id, group) in owned.groups.iter_mut().filter(|(_, group)| group.formatted) {
            for leg in group.legs.clone() {
                let odd = self.leg(leg).is_some() != group.in_sync.contains(&leg);
                if odd {
                    group.odd_since.entry(leg).or_insert(now);
                } else {
                    group.odd_since.remove(&leg);
                }
            }
            let answers = group.in_sync.iter().any(|leg| self.leg(*leg).is_some());
            let patience = |leg| {
                if group.in_sync.contains(leg) {
                    PATIENCE
                } else {
                    RESYNC
                }
            };
            let mut odd = group.odd_since.iter();
            let due = odd.find(|(leg, since)| **since + patience(leg) <= now);
            let Some((leg, _)) = due.filter(|_| answers && !asked) else {
                continue;
            };
            let mut in_sync = group.in_sync.clone();
            if !in_sync.remove(leg) {
                in_sync.insert(*leg);
                self.leg(*leg).expect("it returned").written = acknowledged;
            }
            return Some(MembershipChange::InSync { group: *id, in_sync });
        }
        None
    }

    /// Format what was never formatted, read what was.
    fn open(&mut self, slice: SliceId, owned: &mut Owned) -> Result<Option<MembershipChange>, String> {
        for (id, group) in &owned.groups {
            if !group.formatted {
                return Ok(self.format(*id, group));
            }
            if !group.in_sync.iter().all(|leg| self.leg(*leg).is_some()) {
                return Ok(None);
            }
            let acknowledged = self.truths.entry(slice).or_default().acknowledged;
            for leg in &group.in_sync {
                let found = self.leg(*leg).expect("all answer").clone();
                if !found.formatted {
                    return Err(format!(
                        "R9: leg {leg} is recorded as formatted and has no superblock"
                    ));
                }
                if found.written < acknowledged {
                    let (has, epoch) = (found.written, owned.epoch.0);
                    return Err(format!(
                        "R3: leg {leg} is in the set of epoch {epoch} with write {has} of {acknowledged}"
                    ));
                }
            }
        }
        let truth = self.truths.entry(slice).or_default();
        if !owned.formatted {
            if truth.map.as_ref().is_some_and(|map| !map.is_empty()) {
                return Err(format!("R9: slice {slice} is formatted over volumes"));
            }
            truth.map = Some(BTreeMap::new());
            return Ok(Some(MembershipChange::SliceFormatted));
        }
        let map = truth.map.clone();
        owned.volumes =
            map.ok_or_else(|| format!("R9: slice {slice} is recorded as formatted and is not"))?;
        owned.phase = Phase::Serving;
        Ok(None)
    }

    /// All legs are there: superblocks are written.
    fn format(&mut self, id: GroupId, group: &Group) -> Option<MembershipChange> {
        if !group.legs.iter().all(|leg| self.leg(*leg).is_some()) {
            return None;
        }
        for leg in &group.legs {
            self.leg(*leg).expect("all are there").formatted = true;
        }
        Some(MembershipChange::GroupFormatted { group: id })
    }

    /// A host writes: acknowledged when every leg has it that is, or may be, in the recorded set (R3).
    fn write(&mut self, slice: SliceId, owned: &Owned) {
        let number = self.truths.entry(slice).or_default().acknowledged + 1;
        let mut acknowledged = true;
        for group in owned.groups.values() {
            let mut must = group.in_sync.clone();
            if let Some((_, MembershipChange::InSync { in_sync, .. })) = &owned.asked {
                must.extend(in_sync);
            }
            for leg in must {
                match self.leg(leg) {
                    Some(leg) => leg.written = number,
                    None => acknowledged = false,
                }
            }
        }
        if acknowledged {
            self.truths.entry(slice).or_default().acknowledged = number;
        }
    }

    /// Volumes come and go as the configuration says; one that was created must be there (R9).
    fn keep_map(&mut self, slice: SliceId, pool: &PoolConfig, owned: &mut Owned) -> Result<(), String> {
        let truth = self.truths.entry(slice).or_default();
        let map = truth.map.as_mut().expect("a slice that serves has a map");
        for volume in &pool.volumes {
            let id = volume.volume;
            if volume.deleting {
                map.remove(&id);
            } else if volume.created && !map.contains_key(&id) {
                return Err(format!("R9: volume {id} was created and is not in the map"));
            } else {
                let size = map.entry(id).or_insert(volume.size_blocks);
                *size = volume.size_blocks.max(*size);
            }
        }
        owned.volumes.clone_from(map);
        Ok(())
    }

    pub(super) fn slice_status(&self, slice: SliceId, owned: &Owned) -> SliceStatus {
        let group = |(id, group): (&GroupId, &Group)| GroupStatus {
            group: *id,
            legs: group
                .legs
                .iter()
                .map(|leg| GroupLegStatus {
                    leg: *leg,
                    in_sync: group.in_sync.contains(leg),
                    reachable: !group.odd_since.contains_key(leg),
                })
                .collect(),
            regions_dirty: 0,
        };
        let serving = owned.phase == Phase::Serving;
        let state = if serving {
            SliceState::Serving
        } else {
            let waits_for = if owned.phase == Phase::Fenced {
                "a new grant"
            } else {
                "its legs"
            };
            SliceState::Opening {
                waits_for: waits_for.into(),
            }
        };
        let volume = |(id, size): (&VolumeId, &u64)| VolumeStatus {
            volume: *id,
            extents_mapped: 0,
            size_blocks: *size,
        };
        SliceStatus {
            state,
            epoch: owned.epoch,
            groups: owned.groups.iter().map(group).collect(),
            volumes: if serving {
                owned.volumes.iter().map(volume).collect()
            } else {
                Vec::new()
            },
            ..standby(slice)
        }
    }
}
