//! One disk's extent table in memory, and how far it is durable.
//!
//! Every change to what is written gets a number; whoever waits for durability remembers the number of its change. One
//! table is written at a time; changes made meanwhile go with the next one.
//!
//! Invariants: an extent belongs to at most one leg, and is free again only when the table without its last leg is
//! durable; a table is written only to the slot that does not hold the newest durable one.

use super::exports::ExportIndex;
use crate::format::{ExtentTable, LegRecord, Recovered, Run, SLOT_OFFSETS, Slots, Superblock};
use cluster::LegId;
use fabric::target::ReservationState;
use std::collections::{BTreeMap, BTreeSet};

/// Numbers a change to the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Change(u64);

/// How far a leg is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its record is not durable yet.
    Carved(Change),
    /// Being zeroed; so many extents are done.
    Zeroing { done: u64 },
    /// What was zeroed is being flushed.
    Flushing { done: u64 },
    /// The progress is being recorded.
    Recorded(Change),
    /// Can be exported.
    Ready,
    /// Not wanted: what is in flight must end.
    Leaving,
    /// Out of the table; its extents are free when that is durable.
    Dropped(Change),
    /// A disk would not do as told.
    Failed(String),
}

/// A leg.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    pub(crate) record: LegRecord,
    pub(crate) phase: Phase,
    /// A request of our own is under way.
    pub(crate) busy: bool,
    /// To whom it is exported, if it is.
    pub(crate) exported: Option<BTreeSet<String>>,
    /// Its export; outlives `exported` while requests are in flight there.
    pub(crate) export: Option<ExportIndex>,
}

/// Why a leg was not carved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CarveRefusal {
    /// So many are free.
    NoSpace(u64),
    /// The table is full.
    TableFull,
}

/// A table to be written, durably.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) offset_bytes: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The books of a disk.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) superblock: Superblock,
    pub(crate) legs: BTreeMap<LegId, Leg>,
    /// Why the disk is not to be relied on, if so; nothing more is written for ourselves then.
    pub(crate) fault: Option<String>,
    slots: Slots,
    settled: bool,
    last: Change,
    durable: Change,
    writing: Option<Change>,
    /// Namespaces whose reservations were changed, and with which change.
    persisting: Vec<(Change, u32)>,
}

impl Leg {
    fn new(record: LegRecord, phase: Phase) -> Leg {
        Leg {
            record,
            phase,
            busy: false,
            exported: None,
            export: None,
        }
    }

    fn found(mut record: LegRecord) -> Leg {
        let phase = match record.zeroed {
            zeroed if zeroed == record.extents() => Phase::Ready,
            done => Phase::Zeroing { done },
        };
        record.reservation = record.reservation.after_restart();
        Leg::new(record, phase)
    }
}

impl Books {
    /// Of a disk whose table was read.
    pub(crate) fn recovered(superblock: Superblock, recovered: Recovered) -> Books {
        let legs = recovered
            .table
            .legs
            .into_iter()
            .map(|(leg, record)| (leg, Leg::found(record)));
        Books {
            superblock,
            legs: legs.collect(),
            fault: None,
            slots: recovered.slots,
            settled: recovered.settled,
            last: Change(0),
            durable: Change(0),
            writing: None,
            persisting: Vec::new(),
        }
    }

    /// Of a disk that starts empty.
    pub(crate) fn fresh(superblock: Superblock) -> Books {
        let recovered = Recovered {
            table: ExtentTable::new(superblock.disk),
            slots: Slots::fresh(),
            settled: true,
        };
        Books::recovered(superblock, recovered)
    }

    /// Notes that what is to be written has changed.
    pub(crate) fn change(&mut self) -> Change {
        self.last.0 += 1;
        self.settled = false;
        self.last
    }

    pub(crate) fn is_durable(&self, change: Change) -> bool {
        change <= self.durable
    }

    /// Extents that belong to no leg.
    pub(crate) fn free_extents(&self) -> u64 {
        self.superblock.extents - self.legs.values().map(|leg| leg.record.extents()).sum::<u64>()
    }

    fn table(&self) -> ExtentTable {
        let kept = self
            .legs
            .iter()
            .filter(|(_, leg)| !matches!(leg.phase, Phase::Dropped(_)));
        ExtentTable {
            disk: self.superblock.disk,
            legs: kept.map(|(name, leg)| (*name, leg.record.clone())).collect(),
        }
    }

    /// Takes extents for a leg: in a row if there is such a row, else the first that are free.
    pub(crate) fn carve(&mut self, name: LegId, nsid: u32, extents: u64) -> Result<(), CarveRefusal> {
        assert!(!self.legs.contains_key(&name), "carved once");
        let runs = self
            .find_runs(extents)
            .ok_or(CarveRefusal::NoSpace(self.free_extents()))?;
        let record = LegRecord {
            nsid,
            runs,
            zeroed: 0,
            reservation: ReservationState::default(),
        };
        self.legs.insert(name, Leg::new(record, Phase::Carved(self.last)));
        if !self.table().always_fits() {
            self.legs.remove(&name);
            return Err(CarveRefusal::TableFull);
        }
        let change = self.change();
        self.legs.get_mut(&name).expect("just put there").phase = Phase::Carved(change);
        Ok(())
    }

    fn gaps(&self) -> Vec<Run> {
        let mut taken: Vec<Run> = self
            .legs
            .values()
            .flat_map(|leg| leg.record.runs.clone())
            .collect();
        taken.sort();
        taken.push(Run {
            start: self.superblock.extents,
            count: 0,
        });
        let mut at = 0;
        let mut gaps = Vec::new();
        for run in taken {
            if run.start > at {
                gaps.push(Run {
                    start: at,
                    count: run.start - at,
                });
            }
            at = run.end();
        }
        gaps
    }

    fn find_runs(&self, extents: u64) -> Option<Vec<Run>> {
        let gaps = self.gaps();
        if let Some(gap) = gaps.iter().find(|gap| gap.count >= extents) {
            return Some(vec![Run {
                start: gap.start,
                count: extents,
            }]);
        }
        let mut left = extents;
        let mut runs = Vec::new();
        for gap in gaps {
            let count = gap.count.min(left);
            left -= count;
            runs.push(Run {
                start: gap.start,
                count,
            });
            if left == 0 {
                return Some(runs);
            }
        }
        None
    }

    /// Keeps an exported namespace's reservations; [`Books::commit_ended`] tells when they are durable.
    pub(crate) fn persist(&mut self, nsid: u32, state: ReservationState) {
        let change = self.change();
        let mut legs = self.legs.values_mut();
        let leg = legs
            .find(|leg| leg.record.nsid == nsid)
            .expect("an exported leg has books");
        leg.record.reservation = state;
        self.persisting.push((change, nsid));
    }

    /// The next table to write, if one should be written and none is being written.
    pub(crate) fn begin_commit(&mut self) -> Option<Commit> {
        let needed = self.last > self.durable || !self.settled;
        if !needed || self.writing.is_some() || self.fault.is_some() {
            return None;
        }
        let (slot, sequence) = self.slots.next();
        let bytes = self
            .table()
            .encode(sequence)
            .expect("a leg is carved only if the table always fits");
        self.writing = Some(self.last);
        Some(Commit {
            offset_bytes: SLOT_OFFSETS[slot],
            bytes,
        })
    }

    /// A commit that was begun cannot be made just now; it will be begun again.
    pub(crate) fn postpone_commit(&mut self) {
        self.writing = None;
    }

    /// The table was written, or not. Answers whose reservations are durable now, or never will be.
    pub(crate) fn commit_ended(&mut self, result: Result<(), String>) -> Vec<u32> {
        let written = self.writing.take().expect("one was being written");
        match result {
            Ok(()) => {
                self.slots.written();
                // The same table a second time: now both slots hold it.
                self.settled = written == self.durable && written == self.last;
                self.durable = written;
            }
            Err(fault) => self.fault = Some(fault),
        }
        let failed = self.fault.is_some();
        let durable = self.durable;
        let (ended, waiting) = std::mem::take(&mut self.persisting)
            .into_iter()
            .partition(|(change, _)| failed || *change <= durable);
        self.persisting = waiting;
        let ended: Vec<(Change, u32)> = ended;
        ended.into_iter().map(|(_, nsid)| nsid).collect()
    }

    /// Forgets legs whose absence is durable. Answers whether there were any.
    pub(crate) fn forget_dropped(&mut self) -> bool {
        let before = self.legs.len();
        let durable = self.durable;
        self.legs
            .retain(|_, leg| !matches!(leg.phase, Phase::Dropped(change) if change <= durable));
        self.legs.len() < before
    }
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
