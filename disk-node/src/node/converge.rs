//! Making the configuration real: carve what is missing, zero it, record that, export it; sweep what is not wanted.
//!
//! Every step is asked for again whenever something has changed; none waits inside.

use super::books::{CarveRefusal, Leg, Phase};
use super::transfer::Rows;
use super::{Boot, Disk, DiskState, Node, Purpose, subsystem_of};
use crate::format::{DATA_OFFSET, Run};
use block::{Blocks, BufferSlice, Duration, Memory, Time};
use cluster::LegId;
use cluster::node_config::{DiskNodeConfig, LegConfig};
use fabric::driver::{DiskError, DiskOperation};
use fabric::target::{AnaState, NamespaceConfig, ReservationConfig, ReservationState, SubsystemConfig};
use std::collections::{BTreeMap, BTreeSet};

/// Legs are always optimized where they are: their one group.
const ANA_GROUP: u32 = 1;
/// Zeroed with one request, in whole extents (at least one).
const ZERO_STEP_BYTES: u64 = 1 << 30;
/// Progress is recorded at least that often.
const RECORD_STEP_BYTES: u64 = 64 << 30;
/// When to try again what found no buffer.
const RETRY: Duration = Duration::from_millis(10);

/// The configured legs by name.
pub(super) fn wanted_legs(config: &DiskNodeConfig) -> BTreeMap<LegId, &LegConfig> {
    config.legs.values().flatten().map(|leg| (leg.leg, leg)).collect()
}

/// So many extents of a leg, from the one with this number: as many as lie in a row, up to a limit.
fn next_row(leg: &Leg, from: u64, most: u64) -> Run {
    let mut skip = from;
    for run in &leg.record.runs {
        if skip < run.count {
            return Run {
                start: run.start + skip,
                count: (run.count - skip).min(most),
            };
        }
        skip -= run.count;
    }
    unreachable!("a leg has the extents that are still to be zeroed")
}

impl Node {
    /// Takes a configuration over. One for another node, or an older one, is the agent's mistake and counts for nothing.
    pub(super) fn apply(&mut self, config: DiskNodeConfig) {
        let older = self
            .wanted
            .as_ref()
            .is_some_and(|wanted| config.revision < wanted.revision);
        if config.node == self.options.node && !older {
            self.wanted = Some(config);
            self.unsettled = true;
        }
    }

    pub(super) fn converge(&mut self, now: Time, memory: &mut dyn Memory) {
        self.finish_boot(now);
        if let Some(config) = self.wanted.take() {
            self.converge_to(now, &config, memory);
            self.wanted = Some(config);
        }
        for disk in 0..self.disks.len() {
            self.begin_commit(now, disk, memory);
        }
    }

    fn finish_boot(&mut self, now: Time) {
        if let Boot::Reading { until } = self.boot {
            let reading = self
                .disks
                .iter()
                .any(|disk| matches!(disk.state, DiskState::Reading(_)));
            if !reading || until <= now {
                self.boot = Boot::Done;
            }
        }
    }

    fn converge_to(&mut self, now: Time, config: &DiskNodeConfig, memory: &mut dyn Memory) {
        let wanted = wanted_legs(config);
        for disk in 0..self.disks.len() {
            self.sweep(now, disk, &wanted, memory);
        }
        for leg in wanted.values() {
            self.carve(leg);
        }
        for disk in 0..self.disks.len() {
            self.advance_legs(disk);
        }
        if self.may_serve() {
            for disk in 0..self.disks.len() {
                self.open_subsystem(now, disk, memory);
            }
            for leg in wanted.values() {
                self.export(now, leg, memory);
            }
            self.target.open();
        }
    }

    /// Legs that are not wanted: out of sight at once, out of the table when nothing is in flight any more.
    fn sweep(
        &mut self,
        now: Time,
        disk: usize,
        wanted: &BTreeMap<LegId, &LegConfig>,
        memory: &mut dyn Memory,
    ) {
        let Some(books) = self.books(disk) else { return };
        let mut hidden = Vec::new();
        let unwanted = books
            .legs
            .iter_mut()
            .filter(|(name, _)| !wanted.contains_key(name));
        for (_, leg) in unwanted {
            if matches!(leg.phase, Phase::Leaving | Phase::Dropped(_)) {
                continue;
            }
            leg.phase = Phase::Leaving;
            if leg.exported.take().is_some() {
                hidden.push(leg.record.nsid);
            }
        }
        for nsid in hidden {
            self.target
                .remove_namespace(now, subsystem_of(disk), nsid, memory);
            // What the target has handed out before must still find its leg.
            self.pump(now, memory);
            self.disks[disk].exports.hide(nsid);
        }
        self.drop_idle(disk);
    }

    fn drop_idle(&mut self, disk: usize) {
        let Disk { state, exports, .. } = &mut self.disks[disk];
        let DiskState::Ready(books) = state else {
            unreachable!("swept only if read")
        };
        let mut idle = |leg: &Leg| {
            let unused = leg.export.is_none_or(|export| exports.at(export).in_flight == 0);
            leg.phase == Phase::Leaving && unused && !leg.busy
        };
        let names: Vec<LegId> = books
            .legs
            .iter()
            .filter(|(_, leg)| idle(leg))
            .map(|(name, _)| *name)
            .collect();
        for name in names {
            let change = books.change();
            let leg = books.legs.get_mut(&name).expect("named above");
            leg.phase = Phase::Dropped(change);
            if let Some(export) = leg.export.take() {
                exports.forget(export);
            }
        }
    }

    fn carve(&mut self, wanted: &LegConfig) {
        let known = self.legs_all().any(|(name, _)| *name == wanted.leg);
        let Some(disk) = self.disk_of(wanted) else { return };
        let Some(books) = self.books(disk).filter(|books| books.fault.is_none()) else {
            return;
        };
        let nsid_taken = books.legs.values().any(|leg| leg.record.nsid == wanted.nsid);
        if nsid_taken || known || wanted.extents == 0 || wanted.nsid == 0 {
            return;
        }
        // A refusal is told by the status, and tried again with every change.
        let _: Result<(), CarveRefusal> = books.carve(wanted.leg, wanted.nsid, wanted.extents);
    }

    pub(super) fn legs_all(&self) -> impl Iterator<Item = (&LegId, &Leg)> {
        self.disks.iter().flat_map(|disk| match &disk.state {
            DiskState::Ready(books) => books.legs.iter(),
            DiskState::Reading(_) | DiskState::Faulty { .. } => Default::default(),
        })
    }

    pub(super) fn disk_of(&self, wanted: &LegConfig) -> Option<usize> {
        self.disks.iter().position(|disk| match &disk.state {
            DiskState::Ready(books) => books.superblock.disk == wanted.disk,
            DiskState::Faulty { disk, .. } => *disk == Some(wanted.disk),
            DiskState::Reading(_) => false,
        })
    }

    /// Each leg one step further, where the step before is durable.
    fn advance_legs(&mut self, disk: usize) {
        let Some(books) = self.books(disk).filter(|books| books.fault.is_none()) else {
            return;
        };
        let extent_bytes = books.superblock.extent_bytes;
        let names: Vec<LegId> = books.legs.keys().copied().collect();
        for name in names {
            let books = self.books(disk).expect("looked at above");
            let durable = |leg: &Leg| match leg.phase {
                Phase::Carved(change) | Phase::Recorded(change) => books.is_durable(change),
                _ => false,
            };
            let reached = durable(&books.legs[&name]);
            let leg = books.legs.get_mut(&name).expect("named above");
            if reached {
                leg.phase = match leg.record.zeroed {
                    zeroed if zeroed == leg.record.extents() => Phase::Ready,
                    done => Phase::Zeroing { done },
                };
            }
            if let (Phase::Zeroing { done }, false) = (&leg.phase, leg.busy) {
                let row = next_row(leg, *done, (ZERO_STEP_BYTES / extent_bytes).max(1));
                leg.busy = true;
                self.zero(disk, name, row, extent_bytes);
            }
        }
    }

    fn zero(&mut self, disk: usize, leg: LegId, row: Run, extent_bytes: u64) {
        let operation = DiskOperation::WriteZeroes {
            offset_bytes: DATA_OFFSET + row.start * extent_bytes,
            length_bytes: row.count * extent_bytes,
            deallocate: true,
        };
        let extents = row.count;
        self.ask(disk, operation, Purpose::Zero { disk, leg, extents });
    }

    pub(super) fn zeroed(&mut self, disk: usize, name: LegId, extents: u64, result: Result<(), DiskError>) {
        let books = self.books(disk).expect("what was asked has books");
        let extent_bytes = books.superblock.extent_bytes;
        let leg = books.legs.get_mut(&name).expect("a busy leg stays");
        leg.busy = false;
        let Phase::Zeroing { done } = leg.phase else {
            return;
        };
        if let Err(error) = result {
            leg.phase = Phase::Failed(zeroing_failed(error));
            return;
        }
        let done = done + extents;
        let unrecorded = (done - leg.record.zeroed) * extent_bytes;
        if done < leg.record.extents() && unrecorded < RECORD_STEP_BYTES {
            leg.phase = Phase::Zeroing { done };
            return;
        }
        leg.phase = Phase::Flushing { done };
        leg.busy = true;
        self.ask(disk, DiskOperation::Flush, Purpose::ZeroFlush { disk, leg: name });
    }

    pub(super) fn zeroes_flushed(&mut self, disk: usize, name: LegId, result: Result<(), DiskError>) {
        let books = self.books(disk).expect("what was asked has books");
        let leg = books.legs.get_mut(&name).expect("a busy leg stays");
        leg.busy = false;
        let Phase::Flushing { done } = leg.phase else {
            return;
        };
        if let Err(error) = result {
            leg.phase = Phase::Failed(zeroing_failed(error));
            return;
        }
        leg.record.zeroed = done;
        let change = books.change();
        books.legs.get_mut(&name).expect("found above").phase = Phase::Recorded(change);
    }

    fn begin_commit(&mut self, now: Time, disk: usize, memory: &mut dyn Memory) {
        let Some(books) = self.books(disk) else { return };
        let Some(commit) = books.begin_commit() else {
            return;
        };
        let Some(buffer) = memory.allocate(commit.bytes.len() as u32) else {
            books.postpone_commit();
            self.retry_at = Some(now + RETRY);
            return;
        };
        memory.bytes_mut(buffer).copy_from_slice(&commit.bytes);
        let operation = DiskOperation::Write {
            offset_bytes: commit.offset_bytes,
            buffer,
            durable: true,
        };
        self.ask(disk, operation, Purpose::Commit { disk, buffer });
    }

    pub(super) fn commit_ended(
        &mut self,
        now: Time,
        disk: usize,
        buffer: BufferSlice,
        result: Result<(), DiskError>,
        memory: &mut dyn Memory,
    ) {
        memory.release(buffer.buffer);
        let books = self.books(disk).expect("what was asked has books");
        let result = result.map_err(|error| {
            format!("its extent table cannot be written ({error:?}): replace the disk, or restart the disk node to try again")
        });
        let ended = books.commit_ended(result);
        let durable = books.fault.is_none();
        books.forget_dropped();
        for nsid in ended {
            self.target
                .reservation_persisted(now, subsystem_of(disk), nsid, durable, memory);
        }
    }

    /// The target wants a namespace's reservations durable.
    pub(super) fn persist(
        &mut self,
        now: Time,
        disk: usize,
        nsid: u32,
        state: ReservationState,
        memory: &mut dyn Memory,
    ) {
        let exported = self.disks[disk].exports.find(nsid).is_some();
        match self.books(disk) {
            Some(books) if exported && books.fault.is_none() => {
                books.persist(nsid, state);
                self.unsettled = true;
            }
            _ => self
                .target
                .reservation_persisted(now, subsystem_of(disk), nsid, false, memory),
        }
    }

    /// A disk that was read and can be relied on gets its subsystem, all its legs that are ready with it. It keeps it whatever
    /// becomes of the disk: hosts that have its legs are to see what fails.
    fn open_subsystem(&mut self, now: Time, disk: usize, memory: &mut dyn Memory) {
        let open = self.disks[disk].open;
        let Some(books) = self.books(disk).filter(|books| !open && books.fault.is_none()) else {
            return;
        };
        let identity = books.superblock.disk;
        if !self.is_ours(identity) {
            return;
        }
        self.disks[disk].open = true;
        let subsystem = SubsystemConfig {
            nqn: identity.subsystem_nqn().0,
            serial: identity.0.simple().to_string()[..20].to_owned(),
            cntlid_first: 1,
            cntlid_last: 0xffef,
            hosts: BTreeSet::new(),
            reservations: true,
        };
        let key = subsystem_of(disk);
        self.target.upsert_subsystem(now, key, subsystem, memory);
        self.target
            .set_ana_state(now, key, ANA_GROUP, AnaState::Optimized, memory);
        let portals = self.places.as_ref().map(|places| places.portals.clone());
        self.target
            .set_portals(now, key, portals.unwrap_or_default(), memory);
    }

    fn export(&mut self, now: Time, wanted: &LegConfig, memory: &mut dyn Memory) {
        let Some(disk) = self.disk_of(wanted) else { return };
        let Disk {
            state, exports, open, ..
        } = &mut self.disks[disk];
        let (DiskState::Ready(books), true) = (state, *open) else {
            return;
        };
        let extent_bytes = books.superblock.extent_bytes;
        let faulty = books.fault.is_some();
        let Some(leg) = books.legs.get_mut(&wanted.leg) else {
            return;
        };
        let hosts: BTreeSet<String> = wanted.hosts.iter().map(|host| host.0.clone()).collect();
        let agrees = leg.record.nsid == wanted.nsid && leg.record.extents() == wanted.extents;
        // Legs of a disk that went bad stay visible to those who may see them, and no new ones appear.
        let withheld = faulty && leg.exported.is_none();
        if leg.phase != Phase::Ready || !agrees || withheld || leg.exported.as_ref() == Some(&hosts) {
            return;
        }
        leg.exported = Some(hosts.clone());
        if leg.export.is_none() {
            leg.export = Some(exports.show(wanted.nsid, Rows::new(&leg.record, extent_bytes)));
        }
        let namespace = NamespaceConfig {
            uuid: *wanted.leg.0.as_bytes(),
            size_blocks: Blocks(wanted.extents * extent_bytes / u64::from(block::BLOCK_SIZE)),
            ana_group: ANA_GROUP,
            hosts,
        };
        let reservations = ReservationConfig {
            epoch_keys: true,
            state: leg.record.reservation.clone(),
        };
        let key = subsystem_of(disk);
        self.target
            .upsert_namespace(now, key, wanted.nsid, namespace, Some(reservations), memory);
    }
}

fn zeroing_failed(error: DiskError) -> String {
    match error {
        DiskError::NoSpace => {
            "zeroing it failed: no space beneath the disk; make room and restart the disk node"
        }
        DiskError::Media => "zeroing it failed: media error; delete the leg, or replace the disk",
        DiskError::Gone => "zeroing it failed: the disk is gone; attach it again and restart the disk node",
    }
    .to_owned()
}
