//! One pool on this node: what it is here (owner or standby), the slice if this node owns it, and what its subsystem shows.
//!
//! The pool decides nothing about ownership: its configuration does. It opens a slice only for a grant to this very start of the
//! process, attaches a leg only when it is fenced, and shows its volumes as optimized only while the slice serves (R7).
//!
//! What it deliberately is not: it knows no connections; legs are named, and `node` knows the way.
//!
//! Invariants:
//! * at most one slice is open, and no second one is built before the first has ended;
//! * optimized is said after the slice has said `Opened`, and taken back before the slice is asked to close;
//! * a volume is created in the map only while the configuration says that the map need not know it yet (R9).

use crate::fence::{Ended, Fence, Next, Registrant};
use crate::paths::{LegAddress, PathKey};
use crate::volumes::{Verb, Volumes};
use block::slice::{
    GroupConfig, LegConfig, MembershipChange, MembershipOutcome, Slice, SliceConfig, SliceOutput, SliceState,
};
use block::thin::VolumeUsage;
use block::{Blocks, Duration, Memory, Request, RequestId, Slot, Status, SubRequestId, Time, Tuning};
use cluster::node_config::{LegPath, PoolConfig, Role};
use cluster::status::{GroupLegStatus, GroupStatus, SliceStatus, VolumeStatus};
use cluster::{DiskId, Epoch, GroupId, Incarnation, LegId, PoolId, VolumeId};
use fabric::host::{Command, Reservation};
use fabric::target::AnaState;
use std::collections::{BTreeMap, VecDeque};
use uuid::Uuid;

/// A leg that refuses to be reserved is asked again so soon: its disk may be back.
const FENCE_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What a command on a leg is for; comes back with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The slice asked.
    Slice(Epoch, SubRequestId),
    /// The leg is being fenced.
    Fence(Epoch, LegId),
}

impl Purpose {
    /// Under which epoch.
    pub(crate) fn epoch(self) -> Epoch {
        match self {
            Purpose::Slice(epoch, _) | Purpose::Fence(epoch, _) => epoch,
        }
    }
}

/// Names a pool of this node, as long as it is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PoolKey(pub(crate) Slot);

/// What a pool wants of its node; taken in order.
#[derive(Debug)]
pub(crate) enum PoolOutput {
    /// Send a command to a leg.
    Leg {
        leg: LegAddress,
        purpose: Purpose,
        command: Command,
    },
    /// Break the connection to a disk that leaves requests unanswered.
    Suspect { path: PathKey },
    /// A host's request, or a volume verb, ended.
    Complete { request: RequestId, status: Status },
    /// Have this recorded by the store.
    Membership {
        request: u64,
        epoch: Epoch,
        change: MembershipChange,
    },
    /// What hosts see of the slice's ANA group.
    Ana(AnaState),
    /// The volumes shown may have changed.
    VolumesChanged,
}

/// A leg of the open slice.
#[derive(Debug)]
struct Leg {
    id: LegId,
    /// On which disk: its subsystem has a connection of its own.
    disk: DiskId,
    /// Its namespace there.
    nsid: u32,
    /// The way there, while the disk answers.
    path: Option<PathKey>,
    fence: Option<Fence>,
    /// When to fence it once more, after it behaved in no way a leg may.
    fence_again_at: Option<Time>,
    attached: bool,
    refused: Option<String>,
}

impl Leg {
    /// Where it is, while its disk answers.
    #[inline]
    fn address(&self) -> Option<LegAddress> {
        let (path, nsid) = (self.path?, self.nsid);
        Some(LegAddress { path, nsid })
    }

    /// Fences it from the beginning; the first command.
    fn begin_fence(&mut self, epoch: Epoch) -> Option<PoolOutput> {
        let (fence, first) = Fence::begin(epoch.0);
        self.fence = Some(fence);
        self.fence_again_at = None;
        self.fence_command(epoch, first)
    }

    fn fence_command(&self, epoch: Epoch, reservation: Reservation) -> Option<PoolOutput> {
        Some(PoolOutput::Leg {
            leg: self.address()?,
            purpose: Purpose::Fence(epoch, self.id),
            command: Command::Reservation(reservation),
        })
    }
}

/// The slice, while this node owns it.
struct Owned {
    epoch: Epoch,
    slice: Slice,
    /// In the order of the configuration, which is the slice's.
    legs: Vec<Leg>,
    closing: bool,
}

/// A pool on this node.
pub(crate) struct Pool {
    id: PoolId,
    incarnation: Incarnation,
    config: PoolConfig,
    owned: Option<Owned>,
    /// The epoch that ended here, and why, for people and so that it is not opened again.
    ended: Option<(Epoch, String)>,
    volumes: Volumes,
    /// Volumes that the map was seen to know, while it was open here: hosts may know them too.
    known: BTreeMap<VolumeId, Blocks>,
    tuning: Tuning,
    /// Disks that answer now, and how to reach them.
    up: BTreeMap<DiskId, PathKey>,
    volumes_changed: bool,
    outputs: VecDeque<PoolOutput>,
}

impl Pool {
    /// A pool this node has just been told of; `apply` follows.
    pub(crate) fn new(id: PoolId, incarnation: Incarnation, config: PoolConfig, tuning: Tuning) -> Pool {
        let volumes = Volumes::default();
        Pool {
            id,
            incarnation,
            config,
            owned: None,
            ended: None,
            volumes,
            known: BTreeMap::new(),
            tuning,
            up: BTreeMap::new(),
            volumes_changed: false,
            outputs: VecDeque::new(),
        }
    }

    /// Which.
    pub(crate) fn id(&self) -> PoolId {
        self.id
    }

    /// Converges to a configuration. `up` tells how to reach disks that answer now.
    pub(crate) fn apply(
        &mut self,
        now: Time,
        config: PoolConfig,
        up: &dyn Fn(DiskId) -> Option<PathKey>,
        memory: &mut dyn Memory,
    ) {
        self.config = config;
        let reachable = |disk: DiskId| Some((disk, up(disk)?));
        self.up = self.disks().into_iter().filter_map(reachable).collect();
        match self.grant() {
            None => self.step_down(now, memory),
            Some(epoch) => self.take(now, epoch, memory),
        }
        self.converge_volumes(now, memory);
        self.note_volumes();
    }

    /// Which volumes are shown may be others now. What the map knows while it is open is remembered: hosts see it, and it must not
    /// vanish for them when the slice ends, though no configuration may have said yet that it is created (R7).
    fn note_volumes(&mut self) {
        if let Some(owned) = &self.owned {
            let present = owned.slice.volumes();
            self.known
                .extend(present.iter().map(|volume| (volume_id(volume), volume.size)));
        }
        self.volumes_changed = true;
    }

    /// The epoch granted to this start of the process, if any.
    fn grant(&self) -> Option<Epoch> {
        match self.config.slices.first()?.role {
            Role::Owner { epoch, incarnation } if incarnation == self.incarnation => Some(epoch),
            _ => None,
        }
    }

    /// The pool is to leave this node: nothing is granted to it any more. Done when [`Pool::is_idle`].
    pub(crate) fn retire(&mut self, now: Time, memory: &mut dyn Memory) {
        self.config.slices.clear();
        self.step_down(now, memory);
    }

    /// Whether no slice is open here.
    pub(crate) fn is_idle(&self) -> bool {
        self.owned.is_none()
    }

    fn step_down(&mut self, now: Time, memory: &mut dyn Memory) {
        let Some(owned) = &mut self.owned else { return };
        if !owned.closing {
            owned.closing = true;
            self.outputs.push_back(PoolOutput::Ana(AnaState::Inaccessible));
            owned.slice.close(now, memory);
        }
    }

    fn take(&mut self, now: Time, epoch: Epoch, memory: &mut dyn Memory) {
        match &mut self.owned {
            None => self.open_granted(now),
            Some(owned) => {
                assert!(owned.epoch <= epoch, "revisions keep grants in order");
                if owned.epoch < epoch {
                    // The store has granted a later epoch: what runs under the older one is fenced, by ourselves, and once that
                    // has ended the later one opens.
                    self.outputs.push_back(PoolOutput::Ana(AnaState::Inaccessible));
                    owned.slice.fence(now, memory);
                }
            }
        }
    }

    /// Opens the slice if it is granted, and that grant is not used up.
    fn open_granted(&mut self, now: Time) {
        let ended = self.ended.as_ref().map(|(ended, _)| *ended);
        if let Some(epoch) = self
            .grant()
            .filter(|epoch| ended.is_none_or(|ended| ended < *epoch))
        {
            self.open(now, epoch);
        }
    }

    fn open(&mut self, now: Time, epoch: Epoch) {
        let config = self.slice_config(epoch);
        match Slice::new(config, now) {
            Err(reason) => self.ended = Some((epoch, reason)),
            Ok(slice) => {
                let legs = self.legs();
                self.ended = None;
                self.owned = Some(Owned {
                    epoch,
                    slice,
                    legs,
                    closing: false,
                });
                for (disk, path) in self.up.clone() {
                    self.path_up(disk, path);
                }
            }
        }
    }

    fn slice_config(&self, epoch: Epoch) -> SliceConfig {
        let slice = self.config.slices.first().expect("a grant is for a slice");
        let groups = slice.groups.iter().map(|group| GroupConfig {
            group: *group.group.0.as_bytes(),
            formatted: group.formatted,
            legs: group
                .legs
                .iter()
                .map(|leg| LegConfig {
                    leg: *leg.leg.0.as_bytes(),
                    length: Blocks(leg.length_blocks),
                    in_sync: leg.in_sync,
                })
                .collect(),
        });
        SliceConfig {
            slice: *slice.slice.0.as_bytes(),
            pool: *self.id.0.as_bytes(),
            epoch: epoch.0,
            formatted: slice.formatted,
            extent: Blocks(self.config.extent_bytes / u64::from(block::BLOCK_SIZE)),
            groups: groups.collect(),
            tuning: self.tuning,
        }
    }

    fn legs(&self) -> Vec<Leg> {
        let paths = self
            .config
            .slices
            .iter()
            .flat_map(|slice| &slice.groups)
            .flat_map(|group| &group.legs);
        let leg = |path: &LegPath| Leg {
            id: path.leg,
            disk: path.disk,
            nsid: path.nsid,
            path: None,
            fence: None,
            fence_again_at: None,
            attached: false,
            refused: None,
        };
        paths.map(leg).collect()
    }

    /// The disks that the configuration names, owner or not: standbys are connected before they are needed.
    pub(crate) fn disks(&self) -> Vec<DiskId> {
        let paths = self
            .config
            .slices
            .iter()
            .flat_map(|slice| &slice.groups)
            .flat_map(|group| &group.legs);
        let mut disks: Vec<DiskId> = paths.map(|path| path.disk).collect();
        disks.sort();
        disks.dedup();
        disks
    }

    /// A disk answers: its legs are fenced, then attached.
    pub(crate) fn path_up(&mut self, disk: DiskId, path: PathKey) {
        self.up.insert(disk, path);
        let Some(owned) = &mut self.owned else { return };
        for leg in owned.legs.iter_mut().filter(|leg| leg.disk == disk) {
            leg.path = Some(path);
            leg.refused = None;
            self.outputs.extend(leg.begin_fence(owned.epoch));
        }
    }

    /// A disk does not answer any more; what was in flight there has ended, unanswered.
    pub(crate) fn path_down(&mut self, now: Time, disk: DiskId, path: PathKey, memory: &mut dyn Memory) {
        self.up.remove(&disk);
        self.forget_commands(|leg, _| leg.path == path);
        let Some(owned) = &mut self.owned else { return };
        for leg in owned.legs.iter_mut().filter(|leg| leg.disk == disk) {
            leg.path = None;
            leg.fence = None;
            leg.fence_again_at = None;
            if std::mem::take(&mut leg.attached) {
                owned.slice.leg_lost(now, *leg.id.0.as_bytes(), memory);
            }
        }
    }

    /// A command of the slice ended.
    pub(crate) fn leg_completed(
        &mut self,
        now: Time,
        epoch: Epoch,
        id: SubRequestId,
        status: Status,
        memory: &mut dyn Memory,
    ) {
        if let Some(owned) = self.owned.as_mut().filter(|owned| owned.epoch == epoch) {
            owned.slice.leg_completed(now, id, status, memory);
        }
    }

    /// A fencing command ended, other than a report that succeeded.
    pub(crate) fn fence_ended(
        &mut self,
        now: Time,
        epoch: Epoch,
        leg: LegId,
        ended: Ended,
        memory: &mut dyn Memory,
    ) {
        self.fence_step(now, epoch, leg, |fence| fence.handle_ended(ended), memory);
    }

    /// A leg's report arrived.
    pub(crate) fn fence_reported(
        &mut self,
        now: Time,
        epoch: Epoch,
        leg: LegId,
        registrants: &[Registrant],
        memory: &mut dyn Memory,
    ) {
        self.fence_step(now, epoch, leg, |fence| fence.handle_report(registrants), memory);
    }

    fn fence_step(
        &mut self,
        now: Time,
        epoch: Epoch,
        id: LegId,
        step: impl FnOnce(&mut Fence) -> Next,
        memory: &mut dyn Memory,
    ) {
        let Some(owned) = self.owned.as_mut().filter(|owned| owned.epoch == epoch) else {
            return;
        };
        let Some(leg) = owned.legs.iter_mut().find(|leg| leg.id == id) else {
            return;
        };
        let Some(fence) = &mut leg.fence else { return };
        match step(fence) {
            Next::Send(reservation) => {
                let command = leg.fence_command(epoch, reservation);
                self.outputs.extend(command);
            }
            Next::Held => {
                leg.fence = None;
                leg.refused = None;
                leg.attached = true;
                owned.slice.leg_attached(now, *id.0.as_bytes(), memory);
            }
            Next::Stale => owned.slice.fence(now, memory),
            Next::Broken => {
                leg.fence = None;
                leg.refused = Some("it refuses to be reserved; see the disk node's status".to_owned());
                // The connection is well, and others' legs are behind it, too: it is left alone.
                leg.fence_again_at = Some(now + FENCE_AGAIN_AFTER);
            }
        }
    }

    /// The store answered a membership request.
    pub(crate) fn membership_answer(
        &mut self,
        now: Time,
        epoch: Epoch,
        request: u64,
        outcome: MembershipOutcome,
        memory: &mut dyn Memory,
    ) {
        if let Some(owned) = self.owned.as_mut().filter(|owned| owned.epoch == epoch) {
            owned.slice.membership_answer(now, request, outcome, memory);
        }
    }

    /// A host's request to a volume.
    pub(crate) fn submit(
        &mut self,
        now: Time,
        id: RequestId,
        volume: VolumeId,
        request: Request,
        memory: &mut dyn Memory,
    ) {
        let Some(owned) = &mut self.owned else {
            self.outputs.push_back(PoolOutput::Complete {
                request: id,
                status: Status::Unavailable,
            });
            return;
        };
        owned.slice.submit(
            now,
            id,
            block::thin::VolumeId(*volume.0.as_bytes()),
            request,
            memory,
        );
    }

    /// A volume verb of this pool's own ended.
    pub(crate) fn verb_ended(&mut self, now: Time, id: RequestId, status: Status, memory: &mut dyn Memory) {
        self.volumes.ended(now, id, status);
        self.converge_volumes(now, memory);
        self.note_volumes();
    }

    /// Time has come.
    pub(crate) fn handle_timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        if let Some(owned) = &mut self.owned {
            if owned.slice.next_timeout().is_some_and(|due| due <= now) {
                owned.slice.handle_timeout(now, memory);
            }
            for leg in &mut owned.legs {
                if leg.fence_again_at.is_some_and(|due| due <= now) {
                    self.outputs.extend(leg.begin_fence(owned.epoch));
                }
            }
            if self.volumes.next_timeout().is_some_and(|due| due <= now) {
                self.converge_volumes(now, memory);
            }
        }
    }

    /// When time has come.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        let owned = self.owned.as_ref()?;
        let fences = owned.legs.iter().filter_map(|leg| leg.fence_again_at);
        [owned.slice.next_timeout(), self.volumes.next_timeout()]
            .into_iter()
            .flatten()
            .chain(fences)
            .min()
    }

    /// The next thing to do, in order. To be asked, until there is nothing, after anything was told to the pool.
    pub(crate) fn poll_output(&mut self, now: Time, memory: &mut dyn Memory) -> Option<PoolOutput> {
        loop {
            if let Some(output) = self.poll_said() {
                return Some(output);
            }
            let owned = self.owned.as_mut();
            let Some(output) = owned.and_then(|owned| owned.slice.poll_output()) else {
                return std::mem::take(&mut self.volumes_changed).then_some(PoolOutput::VolumesChanged);
            };
            match output {
                SliceOutput::Leg {
                    place, id, request, ..
                } => return Some(self.leg_command(place, id, request)),
                SliceOutput::Complete { id, status } => {
                    return Some(PoolOutput::Complete { request: id, status });
                }
                output => self.handle_slice(now, output, memory),
            }
        }
    }

    #[inline]
    fn poll_said(&mut self) -> Option<PoolOutput> {
        match self.outputs.is_empty() {
            true => None,
            false => self.outputs.pop_front(),
        }
    }

    #[inline]
    fn leg_command(&self, place: usize, id: SubRequestId, request: Request) -> PoolOutput {
        let owned = self.owned.as_ref().expect("only an open slice speaks");
        let leg = owned.legs[place].address();
        PoolOutput::Leg {
            leg: leg.expect("a slice sends to legs that are attached"),
            purpose: Purpose::Slice(owned.epoch, id),
            command: Command::Block(request),
        }
    }

    /// Brings the map's volumes nearer to what is wanted: one verb per volume at a time.
    fn converge_volumes(&mut self, now: Time, memory: &mut dyn Memory) {
        let Some(owned) = &mut self.owned else { return };
        if owned.slice.state() != SliceState::Serving || owned.closing {
            return;
        }
        let present = owned.slice.volumes();
        for (id, verb) in self.volumes.plan(now, &self.config.volumes, &present) {
            match verb {
                Verb::Create(volume, size) => owned.slice.create_volume(now, id, volume, size, memory),
                Verb::Resize(volume, size) => owned.slice.resize_volume(now, id, volume, size, memory),
                Verb::Delete(volume) => owned.slice.delete_volume(now, id, volume, memory),
            }
        }
    }

    /// What a slice wants other than requests to legs and ends of requests.
    fn handle_slice(&mut self, now: Time, output: SliceOutput, memory: &mut dyn Memory) {
        let owned = self.owned.as_mut().expect("only an open slice speaks");
        let epoch = owned.epoch;
        match output {
            SliceOutput::Leg { .. } | SliceOutput::Complete { .. } => unreachable!("handed on by themselves"),
            SliceOutput::LegSuspect { leg } => {
                let leg = owned.legs.iter().find(|other| other.id == leg_id(leg));
                let path = leg.expect("a slice names its own legs").path;
                self.outputs.extend(path.map(|path| PoolOutput::Suspect { path }));
            }
            SliceOutput::LegRefused { leg, reason } => {
                let leg = owned.legs.iter_mut().find(|other| other.id == leg_id(leg));
                leg.expect("a slice names its own legs").refused = Some(reason);
            }
            SliceOutput::Membership { request, change } => {
                self.outputs.push_back(PoolOutput::Membership {
                    request,
                    epoch,
                    change,
                });
            }
            SliceOutput::Opened => {
                self.outputs.push_back(PoolOutput::Ana(AnaState::Optimized));
                self.converge_volumes(now, memory);
                self.note_volumes();
            }
            SliceOutput::OpenFailed { reason } => self.end(now, reason, memory),
            SliceOutput::Closed => self.end(now, "handed over".to_owned(), memory),
            SliceOutput::Fenced => self.end(now, "fenced by a newer owner".to_owned(), memory),
        }
    }

    /// The slice has ended; its grant is used up.
    fn end(&mut self, now: Time, reason: String, memory: &mut dyn Memory) {
        self.outputs.push_back(PoolOutput::Ana(AnaState::Inaccessible));
        let mut owned = self.owned.take().expect("only an open slice ends");
        self.forget_commands(|_, purpose| purpose.epoch() == owned.epoch);
        // What its legs still have to answer is nobody's any more: its buffers are given back.
        for leg in owned.legs.iter().filter(|leg| leg.attached) {
            owned.slice.leg_lost(now, *leg.id.0.as_bytes(), memory);
        }
        while let Some(output) = owned.slice.poll_output() {
            if let SliceOutput::Complete { id, status } = output {
                self.outputs
                    .push_back(PoolOutput::Complete { request: id, status });
            }
        }
        self.volumes.forget_verbs();
        self.ended = Some((owned.epoch, reason));
        self.volumes_changed = true;
        // A later grant may have come while it ended.
        self.open_granted(now);
    }

    /// Commands that were to be sent, and whose buffers are about to be given back, are not sent.
    fn forget_commands(&mut self, of: impl Fn(&LegAddress, Purpose) -> bool) {
        self.outputs.retain(|output| match output {
            PoolOutput::Leg { leg, purpose, .. } => !of(leg, *purpose),
            _ => true,
        });
    }

    /// The configuration it converges to.
    pub(crate) fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// The size a volume is shown with: the map's where it is open, else as configured; `None` while it is not recorded that the map
    /// knows it, or the map is to forget it. What hosts saw before that would vanish for them with the owner (R7): only what is
    /// recorded is shown by whoever comes after.
    pub(crate) fn shown_size(&self, volume: &cluster::node_config::VolumeConfig) -> Option<Blocks> {
        if volume.deleting || !volume.created {
            return None;
        }
        let serving = self
            .owned
            .as_ref()
            .filter(|owned| owned.slice.state() == SliceState::Serving);
        match serving {
            Some(owned) => {
                let id = block::thin::VolumeId(*volume.volume.0.as_bytes());
                owned.slice.volume(id).map(|known| known.size)
            }
            None => {
                let wanted = Blocks(volume.size_blocks);
                Some(
                    self.known
                        .get(&volume.volume)
                        .map_or(wanted, |known| wanted.min(*known)),
                )
            }
        }
    }

    /// What is, for people and planners.
    pub(crate) fn status(&self) -> Option<SliceStatus> {
        let slice = self.config.slices.first()?;
        let empty = SliceStatus {
            slice: slice.slice,
            state: self.standby_state(),
            epoch: Epoch(0),
            extents: 0,
            extents_used: 0,
            groups: Vec::new(),
            volumes: Vec::new(),
        };
        let Some(owned) = &self.owned else {
            return Some(empty);
        };
        let usage = owned.slice.usage();
        Some(SliceStatus {
            state: owned_state(owned),
            epoch: owned.epoch,
            extents: usage.total,
            extents_used: usage.used,
            groups: owned.slice.groups().iter().map(group_status).collect(),
            volumes: self.volume_statuses(owned),
            ..empty
        })
    }

    /// What the map knows, and what it may come to know by a verb that is under way: nobody may take such a volume for forgotten.
    fn volume_statuses(&self, owned: &Owned) -> Vec<VolumeStatus> {
        let present = owned.slice.volumes();
        let coming = self
            .volumes
            .busy()
            .filter(|id| present.iter().all(|known| known.volume != *id));
        let coming = coming.map(|volume| VolumeUsage {
            volume,
            size: Blocks(0),
            mapped: 0,
        });
        let deleting = |usage: &VolumeUsage| {
            let id = volume_id(usage);
            self.config
                .volumes
                .iter()
                .any(|volume| volume.volume == id && volume.deleting)
        };
        present
            .iter()
            .copied()
            .chain(coming.filter(deleting))
            .map(|usage| volume_status(&usage))
            .collect()
    }

    fn standby_state(&self) -> cluster::status::SliceState {
        match (&self.ended, self.grant()) {
            (Some((epoch, reason)), Some(granted)) if *epoch >= granted => {
                cluster::status::SliceState::Failed {
                    reason: reason.clone(),
                }
            }
            _ => cluster::status::SliceState::Standby,
        }
    }
}

fn owned_state(owned: &Owned) -> cluster::status::SliceState {
    use cluster::status::SliceState as Shown;
    match owned.slice.state() {
        SliceState::Opening => Shown::Opening {
            waits_for: waits_for(owned),
        },
        SliceState::Serving => Shown::Serving,
        SliceState::Closing | SliceState::Closed => Shown::Closing,
        SliceState::Fenced => Shown::Failed {
            reason: "fenced by a newer owner".to_owned(),
        },
        SliceState::Failed => Shown::Failed {
            reason: owned.slice.waits_for(),
        },
    }
}

/// What an opening slice waits for: a refused leg says more than the slice can.
fn waits_for(owned: &Owned) -> String {
    let refused = owned
        .legs
        .iter()
        .find_map(|leg| leg.refused.as_ref().map(|why| format!("leg {}: {why}", leg.id)));
    refused.unwrap_or_else(|| owned.slice.waits_for())
}

fn leg_id(leg: [u8; 16]) -> LegId {
    LegId(Uuid::from_bytes(leg))
}

fn group_status(group: &block::slice::GroupProgress) -> GroupStatus {
    let legs = group.legs.iter().map(|leg| GroupLegStatus {
        leg: leg_id(leg.leg),
        in_sync: leg.in_sync,
        reachable: leg.reachable,
    });
    GroupStatus {
        group: GroupId(Uuid::from_bytes(group.group)),
        legs: legs.collect(),
        regions_dirty: group.regions_dirty,
    }
}

fn volume_id(volume: &VolumeUsage) -> VolumeId {
    VolumeId(Uuid::from_bytes(volume.volume.0))
}

fn volume_status(volume: &VolumeUsage) -> VolumeStatus {
    VolumeStatus {
        volume: volume_id(volume),
        extents_mapped: volume.mapped,
        size_blocks: volume.size.0,
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
