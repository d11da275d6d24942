//! A slice: mirrored groups of legs, one behind the other, with a thin pool on top; what a controller node drives.
//!
//! Requests to volumes come from above, requests to legs go below. Between them the slice passes descriptors on from
//! layer to layer (thin pool → concatenation → group); it has no queue of its own.
//!
//! What it deliberately is not: it opens no connection and fences no leg. Its owner attaches a leg only when it holds the
//! reservation there under this slice's epoch (R2), and has the store record what [`SliceOutput::Membership`] asks for.
//!
//! Invariants:
//! * Nothing is served before [`SliceOutput::Opened`] and after [`SliceOutput::Closed`]: requests end `Unavailable`.
//! * Nothing is answered from memory alone: a request to a leg that was sent after the question has succeeded (R5).
//! * Once a leg or the store has named a newer epoch, nothing is sent to any leg and all requests end `StaleEpoch`.
//! * Nothing is formatted that was formatted before (R9).
//! * Between two verbs of its owner no layer has anything to say (`passage`).

mod config;
mod confirm;
mod passage;

use crate::concat::Concat;
use crate::leg_format::Uuid;
pub use crate::mirror::{GroupConfig, LegConfig, LegProgress, MembershipOutcome};
use crate::mirror::{LegRequest, Mirror, MirrorConfig};
use crate::thin::{Pool, PoolConfig, Usage, VolumeId, VolumeUsage};
use crate::{Blocks, Memory, Request, RequestId, Slab, Slot, Status, SubRequestId, Time};
pub use config::{GroupProgress, MembershipChange, SliceConfig, SliceOutput, SliceState};
use confirm::Confirmations;
use std::collections::{BTreeMap, VecDeque};

/// The bits of a leg request's name that are the group's own: the others say which group.
const GROUP_SHIFT: u32 = Slot::BITS;
/// The most groups a slice can have.
const GROUPS_MAX: usize = 1 << (u64::BITS - GROUP_SHIFT);

/// A slice that is being opened, served or closed by its owner.
#[derive(Debug)]
pub struct Slice {
    config: SliceConfig,
    now: Time,
    state: SliceState,
    groups: Vec<Mirror>,
    /// Groups that were told something, and may have something to say.
    told: Vec<usize>,
    /// Groups that may have requests to legs.
    speaking: Vec<usize>,
    /// By group: the place of its first leg among all legs.
    first_legs: Vec<usize>,
    /// Where each leg is: group, place in it.
    legs: BTreeMap<Uuid, (usize, usize)>,
    concat: Concat,
    pool: Option<Pool>,
    /// The pool is being formatted, or has been and that is being recorded.
    formatting: bool,
    confirmations: Confirmations,
    /// Fenced, and the pool has been told to end.
    pool_ends: bool,
    /// Requests from above that have not ended; the pool knows them by their slots.
    requests: Slab<Asked>,
    /// Verbs that have not ended, by volume: one at a time.
    verbs: BTreeMap<VolumeId, RequestId>,
    /// Membership requests under way: which group's; `None` is the pool's.
    memberships: BTreeMap<u64, Option<usize>>,
    next_membership: u64,
    outputs: VecDeque<SliceOutput>,
}

/// A request from above.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// Its name there.
    id: RequestId,
    /// How many requests had gone below when it came.
    sent_before: u64,
}

impl Slice {
    /// A slice whose epoch has just been granted to this owner; no leg is attached yet.
    ///
    /// # Errors
    /// What is wrong with the configuration, for people.
    pub fn new(config: SliceConfig, now: Time) -> Result<Slice, String> {
        let mut legs = BTreeMap::new();
        for (group, of_group) in config.groups.iter().enumerate() {
            for (place, leg) in of_group.legs.iter().enumerate() {
                if legs.insert(leg.leg, (group, place)).is_some() {
                    return Err("a leg is named twice".to_owned());
                }
            }
        }
        if config.groups.is_empty() {
            return Err("a slice has no groups".to_owned());
        }
        if config.groups.len() > GROUPS_MAX {
            return Err(format!("a slice has at most {GROUPS_MAX} groups"));
        }
        let groups: Result<Vec<Mirror>, String> = config
            .groups
            .iter()
            .map(|group| Mirror::new(mirror_config(&config, group), now))
            .collect();
        let groups = groups?;
        let data = groups
            .iter()
            .map(|group| group.area_length(crate::thin::Area::Data));
        let mut legs_before = 0;
        let first_leg = |group: &GroupConfig| {
            let first = legs_before;
            legs_before += group.legs.len();
            first
        };
        Ok(Slice {
            concat: Concat::new(data),
            told: Vec::new(),
            speaking: Vec::new(),
            first_legs: config.groups.iter().map(first_leg).collect(),
            now,
            state: SliceState::Opening,
            groups,
            legs,
            pool: None,
            formatting: !config.formatted,
            confirmations: Confirmations::default(),
            pool_ends: false,
            requests: Slab::default(),
            verbs: BTreeMap::new(),
            memberships: BTreeMap::new(),
            next_membership: 0,
            outputs: VecDeque::new(),
            config,
        })
    }

    /// The leg can be reached, and holds this epoch's reservation (R2).
    ///
    /// # Panics
    /// If the slice has no such leg.
    pub fn leg_attached(&mut self, now: Time, leg: Uuid, memory: &mut dyn Memory) {
        let (group, place) = self.legs[&leg];
        self.now = now;
        self.tell(group).leg_attached(now, place, memory);
        self.pass_on(memory);
    }

    /// The leg cannot be reached any more. What was in flight there is lost: it is not answered any more, and nothing of it
    /// will be executed behind what is sent after the next `leg_attached` (R8).
    ///
    /// # Panics
    /// If the slice has no such leg.
    pub fn leg_lost(&mut self, now: Time, leg: Uuid, memory: &mut dyn Memory) {
        let (group, place) = self.legs[&leg];
        self.now = now;
        self.tell(group).leg_lost(now, place, memory);
        self.pass_on(memory);
    }

    /// A [`SliceOutput::Leg`] has ended. Names of requests that are no longer in flight (`leg_lost`) are ignored.
    pub fn leg_completed(&mut self, now: Time, id: SubRequestId, status: Status, memory: &mut dyn Memory) {
        let group = (id.0 >> GROUP_SHIFT) as usize;
        let id = SubRequestId(id.0 & ((1 << GROUP_SHIFT) - 1));
        self.now = now;
        self.tell(group).leg_completed(now, id, status, memory);
        self.pass_on(memory);
    }

    /// The store answered a [`SliceOutput::Membership`]. Answers to requests that are not under way are ignored.
    pub fn membership_answer(
        &mut self,
        now: Time,
        request: u64,
        outcome: MembershipOutcome,
        memory: &mut dyn Memory,
    ) {
        self.now = now;
        match self.memberships.remove(&request) {
            None => return,
            Some(Some(group)) => self.tell(group).membership_answer(now, outcome, memory),
            Some(None) if outcome == MembershipOutcome::Committed => {
                self.formatting = false;
                if self.state == SliceState::Opening {
                    self.start_pool(memory);
                }
            }
            Some(None) => self.end_fenced(),
        }
        self.pass_on(memory);
    }

    /// A request to a volume, in blocks of the volume. Ends with [`SliceOutput::Complete`].
    pub fn submit(
        &mut self,
        now: Time,
        id: RequestId,
        volume: VolumeId,
        request: Request,
        memory: &mut dyn Memory,
    ) {
        self.now = now;
        if self.state != SliceState::Serving {
            return self.refuse(id);
        }
        let sent_before = self.confirmations.sent();
        let slot = self.requests.insert(Asked { id, sent_before });
        let pool = self.pool.as_mut().expect("a slice that serves has a pool");
        pool.submit(now, RequestId(slot.0), volume, request, memory);
        self.pass_on(memory);
    }

    /// Makes a volume. Ends with [`SliceOutput::Complete`]: `Success` also if it exists with this size, `Invalid` if with
    /// another, `OutOfSpace` if the map has no room, `Unavailable` while another verb on it is under way.
    pub fn create_volume(
        &mut self,
        now: Time,
        id: RequestId,
        volume: VolumeId,
        size: Blocks,
        memory: &mut dyn Memory,
    ) {
        self.verb(now, id, volume, memory, |pool, memory| {
            pool.create_volume(now, volume, size, memory)
        });
    }

    /// Removes a volume. Ends with [`SliceOutput::Complete`]: `Success` also if there is none.
    pub fn delete_volume(&mut self, now: Time, id: RequestId, volume: VolumeId, memory: &mut dyn Memory) {
        self.verb(now, id, volume, memory, |pool, memory| {
            pool.delete_volume(now, volume, memory)
        });
    }

    /// Makes a volume larger. Ends with [`SliceOutput::Complete`]: `Invalid` for a smaller size or an unknown volume.
    pub fn resize_volume(
        &mut self,
        now: Time,
        id: RequestId,
        volume: VolumeId,
        size: Blocks,
        memory: &mut dyn Memory,
    ) {
        self.verb(now, id, volume, memory, |pool, memory| {
            pool.resize_volume(now, volume, size, memory)
        });
    }

    /// A newer epoch is known from elsewhere: as if a leg had answered `StaleEpoch`. Every request ends so; answers
    /// [`SliceOutput::Fenced`].
    pub fn fence(&mut self, now: Time, memory: &mut dyn Memory) {
        self.now = now;
        self.end_fenced();
        self.pass_on(memory);
    }

    /// Ends the slice in order: new requests end `Unavailable`, those in flight are finished, the bitmap is cleared.
    /// Answers [`SliceOutput::Closed`], unless the slice has been fenced.
    pub fn close(&mut self, now: Time, memory: &mut dyn Memory) {
        self.now = now;
        match self.state {
            SliceState::Opening | SliceState::Serving | SliceState::Failed => {
                self.state = SliceState::Closing;
                match &mut self.pool {
                    Some(pool) => pool.close(now, memory),
                    None => self.close_groups(memory),
                }
            }
            SliceState::Closing | SliceState::Closed | SliceState::Fenced => {}
        }
        self.pass_on(memory);
    }

    /// Time has come to what [`Slice::next_timeout`] said.
    pub fn handle_timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        self.now = now;
        let is_due = |due: Option<Time>| due.is_some_and(|due| due <= now);
        for group in 0..self.groups.len() {
            if is_due(self.groups[group].next_timeout()) {
                self.tell(group).handle_timeout(now, memory);
            }
        }
        if let Some(pool) = self.pool.as_mut().filter(|pool| is_due(pool.next_timeout())) {
            pool.handle_timeout(now, memory);
        }
        self.pass_on(memory);
    }

    /// The next thing to do: requests to legs, in order, then everything else, in order.
    pub fn poll_output(&mut self) -> Option<SliceOutput> {
        self.poll_leg_request().or_else(|| self.outputs.pop_front())
    }

    /// The next request to a leg, from the groups that have spoken.
    #[inline]
    fn poll_leg_request(&mut self) -> Option<SliceOutput> {
        while let Some(&group) = self.speaking.last() {
            if let Some(LegRequest { leg, id, request }) = self.groups[group].outputs().poll_leg() {
                return Some(SliceOutput::Leg {
                    leg: self.config.groups[group].legs[leg].leg,
                    place: self.first_legs[group] + leg,
                    id: SubRequestId((group as u64) << GROUP_SHIFT | id.0),
                    request,
                });
            }
            self.speaking.pop();
        }
        None
    }

    /// When [`Slice::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Time> {
        let groups = self.groups.iter().filter_map(Mirror::next_timeout);
        let pool = self.pool.as_ref().and_then(Pool::next_timeout);
        groups.chain(pool).chain(self.confirmations.retry_at()).min()
    }

    /// How far it is.
    pub fn state(&self) -> SliceState {
        self.state
    }

    /// While it opens: what it waits for, for people.
    pub fn waits_for(&self) -> String {
        if self.state != SliceState::Opening {
            return String::new();
        }
        let waiting = self
            .groups
            .iter()
            .enumerate()
            .find(|(_, group)| !group.is_serving());
        match waiting {
            Some((place, group)) => format!("group {place}: {}", group.waits_for()),
            None if self.formatting => "the map of the pool to be written for the first time".to_owned(),
            None => "the map of the pool to be read".to_owned(),
        }
    }

    /// The groups, in order of concatenation.
    pub fn groups(&self) -> Vec<GroupProgress> {
        let groups = self.groups.iter().zip(&self.config.groups);
        let progress = groups.map(|(group, config)| GroupProgress {
            group: config.group,
            legs: group.progress(),
            regions_dirty: group.regions_dirty(),
        });
        progress.collect()
    }

    /// Extents by what they are; all zero before the map is open.
    pub fn usage(&self) -> Usage {
        self.pool
            .as_ref()
            .filter(|_| !self.formatting)
            .map(Pool::usage)
            .unwrap_or_default()
    }

    /// Every volume the map knows; empty before it is open.
    pub fn volumes(&self) -> Vec<VolumeUsage> {
        self.pool
            .as_ref()
            .filter(|_| !self.formatting)
            .map(Pool::volumes)
            .unwrap_or_default()
    }

    /// One volume, if the map is open and knows it.
    pub fn volume(&self, volume: VolumeId) -> Option<VolumeUsage> {
        let pool = self.pool.as_ref().filter(|_| !self.formatting);
        pool.and_then(|pool| pool.volume(volume))
    }

    fn serving_pool(&mut self) -> Option<&mut Pool> {
        self.pool.as_mut().filter(|_| self.state == SliceState::Serving)
    }

    fn refuse(&mut self, id: RequestId) {
        let status = match self.state {
            SliceState::Fenced => Status::StaleEpoch,
            _ => Status::Unavailable,
        };
        self.outputs.push_back(SliceOutput::Complete { id, status });
    }

    fn verb(
        &mut self,
        now: Time,
        id: RequestId,
        volume: VolumeId,
        memory: &mut dyn Memory,
        apply: impl FnOnce(&mut Pool, &mut dyn Memory),
    ) {
        self.now = now;
        let busy = self.verbs.contains_key(&volume);
        let Some(pool) = self.serving_pool().filter(|_| !busy) else {
            return self.refuse(id);
        };
        apply(pool, memory);
        self.verbs.insert(volume, id);
        self.pass_on(memory);
    }

    /// Formats the pool, or opens it: every group serves.
    fn start_pool(&mut self, memory: &mut dyn Memory) {
        let config = PoolConfig {
            pool: self.config.slice,
            epoch: self.config.epoch,
            extent: self.config.extent,
            metadata: self.groups[0].area_length(crate::thin::Area::Metadata),
            data: self.concat.length(),
        };
        let pool = if self.formatting { Pool::format } else { Pool::open };
        self.pool = Some(pool(config, self.now, memory));
    }

    fn close_groups(&mut self, memory: &mut dyn Memory) {
        let now = self.now;
        for group in 0..self.groups.len() {
            self.tell(group).close(now, memory);
        }
    }

    /// A group that is about to be told something: what it says then is passed on.
    #[inline]
    fn tell(&mut self, group: usize) -> &mut Mirror {
        if self.told.last() != Some(&group) {
            self.told.push(group);
        }
        &mut self.groups[group]
    }

    /// A newer owner is known: no group sends anything any more. What the pool still waits for, the groups end now.
    fn end_fenced(&mut self) {
        if self.state == SliceState::Fenced {
            return;
        }
        self.state = SliceState::Fenced;
        self.outputs.push_back(SliceOutput::Fenced);
        for group in 0..self.groups.len() {
            self.tell(group).fence_now();
        }
        let waiting = self.requests.take_all().into_iter().map(|asked| asked.id);
        let verbs = core::mem::take(&mut self.verbs).into_values();
        for id in waiting.chain(verbs) {
            let status = Status::StaleEpoch;
            self.outputs.push_back(SliceOutput::Complete { id, status });
        }
    }
}

fn mirror_config(config: &SliceConfig, group: &GroupConfig) -> MirrorConfig {
    MirrorConfig {
        pool: config.pool,
        slice: config.slice,
        epoch: config.epoch,
        group: group.clone(),
        tuning: config.tuning,
    }
}
