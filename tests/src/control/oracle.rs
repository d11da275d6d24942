//! The rules, looked at whenever the store commits anything, and at rest. It is written apart from what it judges, but for `cluster`'s audit,
//! which here judges what *was committed*, against the records of that moment and the true state of disks.
//!
//! | rule | what it says |
//! |---|---|
//! | R1 | owner, incarnation and epoch of a slice change together, epochs grow, none has two owners; only workers grant |
//! | R3 | the recorded set is never empty, and changes only as the owner of the present epoch asked |
//! | R9 | what was recorded as formatted or created stays so |
//! | audit | what was committed is legal by itself, and as a step |
//! | revisions | a configuration that changes has a higher revision; one revision has one content |
//! | space | no leg takes space twice, no disk gives more than it has |
//! | status | a status changes nothing but status |
//! | idempotency | one key makes one thing |
//! | durable | an operation that somebody was told of was written |
//! | lost update | `If-Match` lets nobody write over what he has not seen |
//! | pestering | no node is handed one configuration again and again |
//! | data plane | what [`Ground`](super::ground::Ground) sees for itself |
//! | at rest | see [`rest`] |

mod audit;
pub mod rest;

use super::sim::SharedPlane;
use cluster::layout::{DiskNodeAllocation, Membership};
use cluster::node_config::{ControllerNodeConfig, DiskNodeConfig};
use cluster::spec::VolumeSpec;
use cluster::{ControllerNodeId, Epoch, Incarnation, LegId, Revision, SliceId, key};
use control::agent::{MembershipChange, MembershipRequest};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use store::{Change, StoreRevision};

/// More than so often in so long is pestering: lost and doubled calls excuse a few.
const PESTERING_TIMES: usize = 8;
const PESTERING_SPAN: Duration = Duration::from_secs(1);

/// See the module.
pub struct Oracle {
    plane: SharedPlane,
    records: BTreeMap<String, Vec<u8>>,
    leased: BTreeSet<String>,
    owners: BTreeMap<(SliceId, Epoch), (ControllerNodeId, Incarnation)>,
    asked: BTreeMap<SliceId, Vec<MembershipRequest>>,
    configs: BTreeMap<(String, Revision), Vec<u8>>,
    written: BTreeMap<String, Vec<u64>>,
    made: BTreeMap<String, String>,
    handed: BTreeMap<(String, String, Revision), VecDeque<Duration>>,
    violation: Option<(&'static str, String)>,
    /// The newest revision.
    pub revision: u64,
    /// The revisions that did more than forget old events and operations.
    pub restless: u64,
}

/// One revision: the keys that changed, as they were and as they are.
struct Step<'a> {
    by: &'a str,
    before: BTreeMap<String, Option<Vec<u8>>>,
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> T {
    serde_json::from_slice(bytes).expect("every record can be read")
}

impl Oracle {
    /// Of an empty store.
    pub fn new(plane: SharedPlane) -> Oracle {
        Oracle {
            plane,
            records: BTreeMap::new(),
            leased: BTreeSet::new(),
            owners: BTreeMap::new(),
            asked: BTreeMap::new(),
            configs: BTreeMap::new(),
            written: BTreeMap::new(),
            made: BTreeMap::new(),
            handed: BTreeMap::new(),
            violation: None,
            revision: 0,
            restless: 0,
        }
    }

    /// A rule was seen broken; the first time counts.
    pub fn accuse(&mut self, rule: &'static str, what: String) {
        self.violation.get_or_insert((rule, what));
    }

    /// The first rule that was broken.
    pub fn violation(&mut self) -> Option<(&'static str, String)> {
        let seen = self.plane.lock().expect("one thread").violation();
        if let Some(what) = seen {
            self.accuse("data plane", what);
        }
        self.violation.clone()
    }

    /// A node asked for this to be recorded.
    pub fn asked(&mut self, request: MembershipRequest) {
        self.asked.entry(request.slice).or_default().push(request);
    }

    /// A worker handed a node a configuration, and the node took it.
    pub fn handed(&mut self, by: &str, node: &str, revision: Revision, at: Duration) {
        let times = self.handed.entry((by.into(), node.into(), revision)).or_default();
        times.push_back(at);
        if times.len() > PESTERING_TIMES {
            let first = times.pop_front().expect("there are many");
            if at - first < PESTERING_SPAN {
                let revision = revision.0;
                self.accuse(
                    "pestering",
                    format!("{by} hands {node} its revision {revision} again and again"),
                );
            }
        }
    }

    /// Somebody was told that what he asked for with this key is there.
    pub fn made(&mut self, idempotency: &str, location: &str) {
        let first = self
            .made
            .entry(idempotency.into())
            .or_insert_with(|| location.into())
            .clone();
        if first != location {
            let what = format!("{idempotency} made {first} and {location}");
            self.accuse("idempotency", what);
        }
    }

    /// Somebody was told to look there.
    pub fn promised(&mut self, location: &str) {
        let Some(id) = location.strip_prefix("/v1/operations/") else {
            return;
        };
        if !self.written.contains_key(&format!("{}{id}", key::OPERATIONS)) {
            self.accuse("durable", format!("{location} was never written"));
        }
    }

    /// Somebody who had seen `key` at revision `seen` wrote it at `at`.
    pub fn matched(&mut self, key: &str, seen: u64, at: u64) {
        let before = self
            .written
            .get(key)
            .into_iter()
            .flatten()
            .rev()
            .find(|found| **found < at);
        if before != Some(&seen) {
            let what = format!("{key} was seen at {seen}, written at {before:?}, and again at {at}");
            self.accuse("lost update", what);
        }
    }

    fn record<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Option<T> {
        self.records.get(key.as_ref()).map(|bytes| parsed(bytes))
    }

    fn all<T: DeserializeOwned>(&self, prefix: &str) -> Vec<T> {
        let found = self.records.range(prefix.to_owned()..);
        let found = found.take_while(|(key, _)| key.starts_with(prefix));
        found.map(|(_, bytes)| parsed(bytes)).collect()
    }

    /// A revision of the store.
    pub fn see(&mut self, revision: StoreRevision, by: &str, changes: &[Change]) {
        self.revision = revision.0;
        let mut step = Step {
            by,
            before: BTreeMap::new(),
        };
        for change in changes {
            let key = String::from_utf8(change.key().to_vec()).expect("keys are text");
            self.written.entry(key.clone()).or_default().push(revision.0);
            let before = match change {
                Change::Put(entry) => {
                    if entry.lease.is_some() {
                        self.leased.insert(key.clone());
                    }
                    self.records.insert(key.clone(), entry.value.clone())
                }
                Change::Delete { .. } => {
                    self.leased.remove(&key);
                    self.records.remove(&key)
                }
            };
            step.before.insert(key, before);
        }
        let forgets = |(name, _): (&String, &Option<Vec<u8>>)| {
            let old = name.starts_with(key::EVENTS) || name.starts_with(key::OPERATIONS);
            old && !self.records.contains_key(name)
        };
        self.restless += u64::from(!step.before.iter().all(forgets));
        self.memberships(&step);
        self.configs(&step);
        self.volumes(&step);
        self.space(&step);
        self.status(&step);
        self.audit(&step);
    }

    fn memberships(&mut self, step: &Step<'_>) {
        for (name, before) in step
            .before
            .iter()
            .filter(|(name, _)| name.starts_with(key::MEMBERSHIPS))
        {
            let (Some(after), before) = (
                self.record::<Membership>(name),
                before.as_ref().map(|bytes| parsed::<Membership>(bytes)),
            ) else {
                continue;
            };
            self.ownership(step, before.as_ref(), &after);
            if after.groups.values().any(|group| group.in_sync.is_empty()) {
                self.accuse(
                    "R3",
                    format!("slice {} has a group without legs in sync", after.slice),
                );
            }
            if let Some(before) = before {
                self.in_sync_sets(step, &before, &after);
            }
        }
    }

    fn ownership(&mut self, step: &Step<'_>, before: Option<&Membership>, after: &Membership) {
        let (slice, epoch) = (after.slice, after.epoch);
        let grant = (after.owner, after.owner_incarnation);
        let first = *self.owners.entry((slice, epoch)).or_insert(grant);
        if first != grant {
            self.accuse("R1", format!("epoch {} of slice {slice} has two owners", epoch.0));
        }
        let Some(before) = before else { return };
        let same = grant == (before.owner, before.owner_incarnation);
        if epoch < before.epoch || same != (epoch == before.epoch) {
            let (was, is) = (before.epoch.0, epoch.0);
            self.accuse(
                "R1",
                format!("slice {slice} from epoch {was} to {is}, same owner: {same}"),
            );
        }
        if !same && !step.by.starts_with('w') {
            self.accuse("R1", format!("{} granted slice {slice}", step.by));
        }
    }

    fn in_sync_sets(&mut self, step: &Step<'_>, before: &Membership, after: &Membership) {
        if before.formatted && !after.formatted {
            self.accuse("R9", format!("slice {} is not formatted any more", after.slice));
        }
        if before.formatted != after.formatted {
            self.must_be_asked(step, before, &MembershipChange::SliceFormatted);
        }
        for (id, known) in &before.groups {
            let Some(now) = after.groups.get(id) else {
                self.accuse("R3", format!("group {id} is forgotten"));
                continue;
            };
            if known.formatted && !now.formatted {
                self.accuse("R9", format!("group {id} is not formatted any more"));
            }
            if known.formatted != now.formatted {
                self.must_be_asked(step, before, &MembershipChange::GroupFormatted { group: *id });
            } else if known.in_sync != now.in_sync {
                let in_sync = now.in_sync.clone();
                self.must_be_asked(step, before, &MembershipChange::InSync { group: *id, in_sync });
            }
        }
    }

    /// Under the epoch that was there, by its owner, and not after a later request.
    fn must_be_asked(&mut self, step: &Step<'_>, before: &Membership, change: &MembershipChange) {
        let asked = self.asked.entry(before.slice).or_default();
        let found = asked
            .iter()
            .position(|asked| asked.epoch == before.epoch && asked.change == *change);
        match found.filter(|_| step.by.starts_with('a')) {
            // What was asked before it has been answered, or is late: it must not be recorded after this one.
            Some(found) => _ = asked.drain(..found),
            None => {
                let (slice, epoch) = (before.slice, before.epoch.0);
                let what = format!(
                    "{} records for slice {slice} under epoch {epoch}: {change:?}",
                    step.by
                );
                self.accuse("R3", what);
            }
        }
    }

    fn configs(&mut self, step: &Step<'_>) {
        for (name, before) in step
            .before
            .iter()
            .filter(|(name, _)| name.starts_with("configs/"))
        {
            let Some(after) = self.records.get(name).cloned() else {
                continue;
            };
            let revision = |bytes: &Vec<u8>| {
                if name.starts_with(key::DISK_NODE_CONFIGS) {
                    parsed::<DiskNodeConfig>(bytes).revision
                } else {
                    parsed::<ControllerNodeConfig>(bytes).revision
                }
            };
            let now = revision(&after);
            if before.as_ref().is_some_and(|before| revision(before) >= now) {
                self.accuse(
                    "revisions",
                    format!("{name} is written anew with revision {}", now.0),
                );
            }
            let known = self
                .configs
                .entry((name.clone(), now))
                .or_insert_with(|| after.clone());
            if *known != after {
                self.accuse(
                    "revisions",
                    format!("{name} has two contents of revision {}", now.0),
                );
            }
        }
    }

    fn volumes(&mut self, step: &Step<'_>) {
        for (name, before) in step
            .before
            .iter()
            .filter(|(name, _)| name.starts_with(key::VOLUMES))
        {
            let before = before.as_ref().map(|bytes| parsed::<VolumeSpec>(bytes));
            let after = self.record::<VolumeSpec>(name);
            let (Some(before), Some(after)) = (before, after) else {
                continue;
            };
            if before.created && !after.created {
                self.accuse("R9", format!("volume {} is not created any more", before.name));
            }
            if before.deleting && !after.deleting {
                self.accuse(
                    "audit",
                    format!("the deletion of volume {} is taken back", before.name),
                );
            }
        }
    }

    fn space(&mut self, step: &Step<'_>) {
        if !step.before.keys().any(|name| name.starts_with(key::ALLOCATIONS)) {
            return;
        }
        let mut seen: BTreeSet<LegId> = BTreeSet::new();
        for allocation in self.all::<DiskNodeAllocation>(key::ALLOCATIONS) {
            for (disk, legs) in &allocation.disks {
                let taken: u64 = legs.values().sum();
                if taken > super::ground::Ground::EXTENTS {
                    self.accuse("space", format!("{taken} extents are taken from disk {disk}"));
                }
                for leg in legs.keys() {
                    if !seen.insert(*leg) {
                        self.accuse("space", format!("leg {leg} takes space twice"));
                    }
                }
            }
        }
    }

    fn status(&mut self, step: &Step<'_>) {
        let touches = |prefix: &str| step.before.keys().any(|name| name.starts_with(prefix));
        let beside = [
            key::LAYOUTS,
            key::MEMBERSHIPS,
            key::ALLOCATIONS,
            "configs/",
            key::POOLS,
        ];
        let deleted = step.before.keys().any(|name| !self.records.contains_key(name));
        if touches("status/") && !deleted && beside.into_iter().any(touches) {
            self.accuse("status", format!("{} changed more than status", step.by));
        }
    }
}
