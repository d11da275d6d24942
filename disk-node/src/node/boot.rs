//! The start: superblocks, then tables, disk by disk. A disk that cannot be read is faulty and says what to do; the
//! others go on.

use super::books::Books;
use super::exports::Exports;
use super::{Boot, Disk, DiskState, GivenDisk, Node, Purpose};
use crate::format::{
    self, BadSuperblock, SLOT_BYTES, SLOT_OFFSETS, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSETS, Superblock,
};
use block::{BufferSlice, Duration, Memory, Time};
use cluster::{DiskId, DiskNodeId};
use fabric::driver::{DiskError, DiskOperation};

/// How long subsystems wait for disks that do not answer (they could be copies of those that do). Hosts that connect earlier are
/// asked to try again, later ones are told that the disk has no subsystem here.
const PATIENCE: Duration = Duration::from_secs(5);

/// What has been read of a disk.
#[derive(Debug, Default)]
pub(super) struct Reading {
    copies: [Option<Result<Superblock, String>>; 2],
    superblock: Option<Superblock>,
    slots: [Option<Result<Vec<u8>, DiskError>>; 2],
}

/// A disk before anything was read.
pub(super) fn begin(given: GivenDisk) -> Disk {
    let state = match (&given.fault, given.born) {
        (Some(fault), _) => DiskState::Faulty {
            disk: None,
            fault: fault.clone(),
        },
        (None, Some(superblock)) => DiskState::Ready(Books::fresh(superblock)),
        (None, None) => DiskState::Reading(Reading::default()),
    };
    Disk {
        given,
        state,
        open: false,
        exports: Exports::default(),
    }
}

impl Node {
    pub(super) fn begin_boot(&mut self, now: Time, memory: &mut dyn Memory) {
        self.boot = Boot::Reading {
            until: now + PATIENCE,
        };
        for disk in 0..self.disks.len() {
            if matches!(self.disks[disk].state, DiskState::Reading(_)) {
                self.read_superblocks(disk, memory);
            }
        }
        self.unsettled = true;
    }

    fn read_superblocks(&mut self, disk: usize, memory: &mut dyn Memory) {
        for (copy, offset_bytes) in SUPERBLOCK_OFFSETS.into_iter().enumerate() {
            let Some(buffer) = self.buffer(disk, SUPERBLOCK_BYTES, memory) else {
                return;
            };
            self.ask(
                disk,
                DiskOperation::Read { offset_bytes, buffer },
                Purpose::Superblock { disk, copy, buffer },
            );
        }
    }

    /// A buffer for the start; a disk for which there is none cannot be started.
    fn buffer(&mut self, disk: usize, length: u32, memory: &mut dyn Memory) -> Option<BufferSlice> {
        let buffer = memory.allocate(length);
        if buffer.is_none() {
            self.set_fault(
                disk,
                "no memory to read it: give the disk node more memory and restart it".to_owned(),
            );
        }
        buffer
    }

    fn set_fault(&mut self, disk: usize, fault: String) {
        let known = self.identity(disk);
        self.disks[disk].state = DiskState::Faulty { disk: known, fault };
    }

    fn reading(&mut self, disk: usize) -> Option<&mut Reading> {
        match &mut self.disks[disk].state {
            DiskState::Reading(reading) => Some(reading),
            DiskState::Faulty { .. } | DiskState::Ready(_) => None,
        }
    }

    pub(super) fn superblock_read(
        &mut self,
        disk: usize,
        copy: usize,
        buffer: BufferSlice,
        result: Result<(), DiskError>,
        memory: &mut dyn Memory,
    ) {
        let parsed = match result {
            Ok(()) => Superblock::parse(memory.bytes(buffer)).map_err(|bad| bad.to_string()),
            Err(error) => Err(format!("reading it failed ({})", words(error))),
        };
        memory.release(buffer.buffer);
        let Some(reading) = self.reading(disk) else { return };
        reading.copies[copy] = Some(parsed);
        if let [Some(first), Some(second)] = reading.copies.clone() {
            self.judge_superblocks(disk, [first, second], memory);
        }
    }

    fn judge_superblocks(
        &mut self,
        disk: usize,
        copies: [Result<Superblock, String>; 2],
        memory: &mut dyn Memory,
    ) {
        let given = &self.disks[disk].given;
        match choose(copies, self.options.node, given.size_bytes) {
            Err(fault) => self.set_fault(disk, fault),
            Ok(chosen) if self.fault_copies(disk, chosen.superblock.disk) => {}
            Ok(chosen) => {
                let reading = self.reading(disk).expect("a disk is judged while it is read");
                reading.superblock = Some(chosen.superblock);
                match chosen.rewrite {
                    true => self.write_superblock(disk, 1, memory),
                    false => self.read_slots(disk, memory),
                }
            }
        }
    }

    /// True if there is another disk with that identity; then none of them is used.
    fn fault_copies(&mut self, disk: usize, identity: DiskId) -> bool {
        let same = |other: &usize| *other != disk && self.identity(*other) == Some(identity);
        let others: Vec<usize> = (0..self.disks.len()).filter(same).collect();
        for other in &others {
            self.fault_copy(*other, identity);
        }
        if !others.is_empty() {
            self.fault_copy(disk, identity);
        }
        !others.is_empty()
    }

    pub(super) fn identity(&self, disk: usize) -> Option<DiskId> {
        match &self.disks[disk].state {
            DiskState::Reading(reading) => reading.superblock.map(|superblock| superblock.disk),
            DiskState::Ready(books) => Some(books.superblock.disk),
            DiskState::Faulty { disk, .. } => *disk,
        }
    }

    /// The copies one after the other, so that one of them is whole at any moment.
    fn write_superblock(&mut self, disk: usize, copy: usize, memory: &mut dyn Memory) {
        let Some(buffer) = self.buffer(disk, SUPERBLOCK_BYTES, memory) else {
            return;
        };
        let reading = self
            .reading(disk)
            .expect("superblocks are written while the disk is read");
        let superblock = reading.superblock.expect("chosen before it is written");
        memory.bytes_mut(buffer).copy_from_slice(&superblock.encode());
        let operation = DiskOperation::Write {
            offset_bytes: SUPERBLOCK_OFFSETS[copy],
            buffer,
            durable: true,
        };
        self.ask(disk, operation, Purpose::Adopt { disk, copy, buffer });
    }

    pub(super) fn superblock_written(
        &mut self,
        disk: usize,
        copy: usize,
        buffer: BufferSlice,
        result: Result<(), DiskError>,
        memory: &mut dyn Memory,
    ) {
        memory.release(buffer.buffer);
        if self.reading(disk).is_none() {
            return;
        }
        match (result, copy) {
            (Ok(()), 0) => self.read_slots(disk, memory),
            (Ok(()), _) => self.write_superblock(disk, 0, memory),
            (Err(error), _) => {
                let fault = format!(
                    "its superblock cannot be written ({}): replace the disk",
                    words(error)
                );
                self.set_fault(disk, fault);
            }
        }
    }

    fn read_slots(&mut self, disk: usize, memory: &mut dyn Memory) {
        for (slot, offset_bytes) in SLOT_OFFSETS.into_iter().enumerate() {
            let Some(buffer) = self.buffer(disk, SLOT_BYTES, memory) else {
                return;
            };
            self.ask(
                disk,
                DiskOperation::Read { offset_bytes, buffer },
                Purpose::Slot { disk, slot, buffer },
            );
        }
    }

    pub(super) fn slot_read(
        &mut self,
        disk: usize,
        slot: usize,
        buffer: BufferSlice,
        result: Result<(), DiskError>,
        memory: &mut dyn Memory,
    ) {
        let bytes = result.map(|()| memory.bytes(buffer).to_vec());
        memory.release(buffer.buffer);
        let Some(reading) = self.reading(disk) else { return };
        reading.slots[slot] = Some(bytes);
        let superblock = reading.superblock.expect("chosen before slots are read");
        if let [Some(first), Some(second)] = &reading.slots {
            match recover(&superblock, [first, second]) {
                Ok(books) => self.disks[disk].state = DiskState::Ready(books),
                Err(fault) => self.set_fault(disk, fault),
            }
        }
    }
}

fn words(error: DiskError) -> &'static str {
    match error {
        DiskError::Media => "media error",
        DiskError::NoSpace => "no space beneath",
        DiskError::Gone => "the disk is gone",
    }
}

fn recover(superblock: &Superblock, slots: [&Result<Vec<u8>, DiskError>; 2]) -> Result<Books, String> {
    // A slot that cannot be read may be the newest: what it said is not known.
    if let Some(error) = slots.iter().find_map(|slot| slot.as_ref().err()) {
        return Err(format!(
            "its extent table cannot be read ({}); its legs are left alone: replace the disk, or mend it and restart",
            words(*error)
        ));
    }
    let bytes = slots.map(|slot| slot.as_deref().expect("checked above"));
    let recovered = format::recover(bytes, superblock.disk, superblock.extents);
    recovered.map(|recovered| Books::recovered(*superblock, recovered)).map_err(|[first, second]| {
        format!(
            "its extent table is damaged (slot 0: {first}; slot 1: {second}); nothing on it is touched: restore the \
             table, or format the disk anew with --force, which gives up its legs"
        )
    })
}

/// What the superblocks come to.
struct Chosen {
    superblock: Superblock,
    /// A copy is damaged or says something else, or the node adopts the disk.
    rewrite: bool,
}

/// Which superblock counts, if any.
fn choose(
    copies: [Result<Superblock, String>; 2],
    node: DiskNodeId,
    size_bytes: u64,
) -> Result<Chosen, String> {
    // Of two good copies the one with an owner: the other was not reached when the disk was adopted.
    let good = |owned: bool| {
        copies
            .iter()
            .flatten()
            .find(|copy| !owned || copy.node.is_some())
            .copied()
    };
    let Some(found) = good(true).or_else(|| good(false)) else {
        return Err(unreadable(&copies));
    };
    if let Some(other) = copies
        .iter()
        .flatten()
        .filter_map(|copy| copy.node)
        .find(|other| *other != node)
    {
        return Err(format!(
            "it belongs to disk node {other}: give it back to that node, or format it anew with --force"
        ));
    }
    if copies.iter().flatten().any(|copy| copy.disk != found.disk) {
        return Err("its superblocks name two different disks: format it anew with --force".to_owned());
    }
    if found.needed_bytes().is_none_or(|needed| needed > size_bytes) {
        return Err(format!(
            "it has shrunk to {size_bytes} bytes: make it as large as it was"
        ));
    }
    let superblock = Superblock {
        node: Some(node),
        ..found
    };
    let same = |copy: &Result<Superblock, String>| *copy == Ok(superblock);
    Ok(Chosen {
        superblock,
        rewrite: !copies.iter().all(same),
    })
}

fn unreadable(copies: &[Result<Superblock, String>; 2]) -> String {
    let why: Vec<&str> = copies
        .iter()
        .filter_map(|copy| copy.as_ref().err())
        .map(String::as_str)
        .collect();
    let not_ours = BadSuperblock::NotOurs.to_string();
    if why.iter().all(|why| *why == not_ours) {
        return "it is not formatted as a disk of a disk node: format it with `trestle disk format`"
            .to_owned();
    }
    format!(
        "both copies of its superblock are unusable (first: {}; second: {}); nothing on it is touched: restore it, or \
         format the disk anew with --force, which gives up its legs",
        why[0], why[1]
    )
}
