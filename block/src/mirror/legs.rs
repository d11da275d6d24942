//! The legs of a group: what each is to it, and what is in flight there.

use super::LEGS_MAX;
use super::bits::Bits;
use super::leg_set::LegSet;
use crate::leg_format::Uuid;
use crate::{BufferSlice, Duration, Slab, Slot, SubRequestId, Time};
use core::cell::Cell;

/// The way to a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// There is none.
    Lost,
    /// There is one; what is on the leg is not known (any more).
    Attached,
    /// Its superblock and bitmap are being read.
    Checking,
    /// It is the leg it should be.
    Up,
    /// It is not; it stays so until it is attached anew.
    Refused,
}

/// What a leg is to its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// While opening: of the recorded set, or to be formatted; not looked at yet.
    Expected,
    /// While opening: looked at, and fine.
    Ready,
    /// While formatting: superblock and bitmap are being written.
    Formatting,
    /// Has every acknowledged write, and serves if its link is up. If it is the only such leg it may be away.
    InSync,
    /// Recorded as in sync, or asked to be, but may have missed a write: will be taken out of the set.
    Leaving,
    /// Not in the set.
    Out,
    /// On the way back: the bitmap is being written to it.
    Marking,
    /// Gets every write; regions are being copied.
    Filling,
    /// All regions are copied; writes from before (numbers below the given one) are still in flight there.
    Draining(u64),
    /// Being flushed.
    Flushing,
    /// Gets its superblocks; so many requests are in flight.
    Sealing(u32),
    /// Has everything; the store has been, or will be, asked to record it.
    Joining,
}

impl Role {
    /// Whether writes go there.
    pub(super) fn takes_writes(self) -> bool {
        matches!(self, Role::InSync | Role::Filling) || self.is_final()
    }
    /// Whether it is past the copying: flushes go there too.
    pub(super) fn is_final(self) -> bool {
        matches!(
            self,
            Role::Draining(_) | Role::Flushing | Role::Sealing(_) | Role::Joining
        )
    }
    /// Whether it is on the way back.
    pub(super) fn is_rejoining(self) -> bool {
        matches!(self, Role::Marking | Role::Filling) || self.is_final()
    }
}

/// One leg.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) id: Uuid,
    pub(super) link: Link,
    pub(super) role: Role,
    /// It has been attached at least once: no other owner of an older epoch is answered there any more (R2).
    pub(super) fenced: bool,
    /// When the latest request that it has answered was sent: its lease runs from there (R5).
    pub(super) answered: Time,
    /// When the latest request was sent to it.
    pub(super) asked: Time,
    /// While opening: the highest sequence in its bitmap.
    pub(super) sequence: u64,
    /// Not to be tried before.
    pub(super) retry_at: Time,
    /// A probe is in flight.
    pub(super) probing: bool,
    /// The owner has been told to break the connection.
    pub(super) suspected: bool,
    /// It has no superblock yet.
    pub(super) blank: bool,
    /// On the way back: regions that are still to be copied.
    pub(super) todo: Bits,
    /// On the way back: bitmap blocks that are on it.
    pub(super) marked: Vec<bool>,
    /// Per bitmap block: the place (0 or 1) of the newest one.
    pub(super) newest_place: Vec<usize>,
}

/// All legs of a group, and what is in flight to them.
#[derive(Debug)]
pub(super) struct Legs {
    legs: Vec<Leg>,
    /// Sets of legs that every request asks for; forgotten whenever a leg may have changed.
    sets: Cell<Option<Sets>>,
    calls: Slab<Call>,
    /// The chains of what is in flight to each leg.
    chains: [Chain; LEGS_MAX],
}

#[derive(Clone, Copy, Debug)]
struct Sets {
    serving: LegSet,
    in_sync: LegSet,
    write_targets: LegSet,
}

/// What is in flight to one leg, in the order in which it was sent.
#[derive(Clone, Copy, Debug)]
struct Chain {
    oldest: Slot,
    newest: Slot,
    length: usize,
}

/// A request in flight to a leg.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) leg: usize,
    pub(super) sent: Time,
    pub(super) purpose: Purpose,
    /// The one sent to the same leg before it.
    older: Slot,
    /// The one sent there behind it.
    newer: Slot,
}

/// What a request to a leg is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// A write or flush from above.
    Modify(Slot),
    /// A read from above.
    Read(Slot),
    /// A bitmap block, in the round of this sequence.
    Bitmap {
        block: usize,
        sequence: u64,
        buffer: BufferSlice,
    },
    /// Resync reads.
    StepRead { buffer: BufferSlice },
    /// Resync writes.
    StepWrite { buffer: BufferSlice },
    /// Whether it still answers.
    Probe { buffer: BufferSlice },
    /// What is on it.
    Check { buffer: BufferSlice },
    /// The flush before it joins.
    JoinFlush,
    /// Its superblocks before it joins.
    Seal { buffer: BufferSlice },
    /// Superblocks and bitmap while formatting.
    Format { buffer: BufferSlice },
    /// The flush behind those.
    FormatFlush,
    /// The flush before bitmap bits are cleared.
    ClearFlush,
    /// The flush of a leg that has become the only one in sync.
    LoneFlush,
}

impl Purpose {
    /// The metadata buffer to be released when the request ends.
    pub(super) fn buffer(self) -> Option<BufferSlice> {
        match self {
            Purpose::Bitmap { buffer, .. }
            | Purpose::StepRead { buffer }
            | Purpose::StepWrite { buffer }
            | Purpose::Probe { buffer }
            | Purpose::Check { buffer }
            | Purpose::Seal { buffer }
            | Purpose::Format { buffer } => Some(buffer),
            Purpose::Modify(_)
            | Purpose::Read(_)
            | Purpose::JoinFlush
            | Purpose::FormatFlush
            | Purpose::ClearFlush
            | Purpose::LoneFlush => None,
        }
    }
    /// Whether it is a request from above, and no part of the machine's own work.
    pub(super) fn is_from_above(self) -> bool {
        matches!(self, Purpose::Modify(_) | Purpose::Read(_))
    }
    /// Whether a leg that fails it may have missed something.
    pub(super) fn modifies(self) -> bool {
        !matches!(
            self,
            Purpose::Read(_) | Purpose::StepRead { .. } | Purpose::Probe { .. } | Purpose::Check { .. }
        )
    }
}

impl Chain {
    const EMPTY: Chain = Chain {
        oldest: Slot::NONE,
        newest: Slot::NONE,
        length: 0,
    };
}

impl Legs {
    pub(super) fn new(ids: Vec<Uuid>, regions: usize, bitmap_blocks: usize) -> Legs {
        let leg = |id| Leg {
            id,
            link: Link::Lost,
            role: Role::Out,
            fenced: false,
            answered: Time::ZERO,
            asked: Time::ZERO,
            sequence: 0,
            retry_at: Time::ZERO,
            probing: false,
            suspected: false,
            blank: false,
            todo: Bits::new(regions),
            marked: vec![false; bitmap_blocks],
            newest_place: vec![1; bitmap_blocks],
        };
        Legs {
            legs: ids.into_iter().map(leg).collect(),
            sets: Cell::new(None),
            calls: Slab::default(),
            chains: [Chain::EMPTY; LEGS_MAX],
        }
    }

    pub(super) fn count(&self) -> usize {
        self.legs.len()
    }
    pub(super) fn all(&self) -> LegSet {
        (0..self.legs.len()).collect()
    }
    pub(super) fn select(&self, which: impl Fn(&Leg) -> bool) -> LegSet {
        (0..self.legs.len())
            .filter(|leg| which(&self.legs[*leg]))
            .collect()
    }
    pub(super) fn ids(&self, legs: LegSet) -> Vec<Uuid> {
        legs.iter().map(|leg| self.legs[leg].id).collect()
    }

    fn sets(&self) -> Sets {
        self.sets.get().unwrap_or_else(|| {
            let up = |leg: &Leg| leg.link == Link::Up;
            let sets = Sets {
                serving: self.select(|leg| leg.role == Role::InSync && up(leg)),
                in_sync: self.select(|leg| leg.role == Role::InSync),
                write_targets: self.select(|leg| leg.role.takes_writes() && up(leg)),
            };
            self.sets.set(Some(sets));
            sets
        })
    }
    /// The legs that can be read from.
    pub(super) fn serving(&self) -> LegSet {
        self.sets().serving
    }
    /// The legs that have every acknowledged write, reachable or not.
    pub(super) fn in_sync(&self) -> LegSet {
        self.sets().in_sync
    }
    /// The legs that writes go to.
    pub(super) fn write_targets(&self) -> LegSet {
        self.sets().write_targets
    }
    /// The legs that bitmap blocks go to.
    pub(super) fn bitmap_targets(&self) -> LegSet {
        self.write_targets()
            .union(self.select(|leg| leg.role == Role::Marking && leg.link == Link::Up))
    }

    /// Books a request to a leg and names it.
    #[inline]
    pub(super) fn book(&mut self, now: Time, leg: usize, purpose: Purpose) -> SubRequestId {
        let chain = &mut self.chains[leg];
        let slot = self.calls.insert(Call {
            leg,
            sent: now,
            purpose,
            older: chain.newest,
            newer: Slot::NONE,
        });
        match self.calls.find_mut(chain.newest) {
            Some(older) => older.newer = slot,
            None => chain.oldest = slot,
        }
        chain.newest = slot;
        chain.length += 1;
        self.legs[leg].asked = now;
        SubRequestId(slot.0)
    }
    /// A request has ended; `None` if it was not in flight any more.
    #[inline]
    pub(super) fn take(&mut self, id: SubRequestId) -> Option<Call> {
        let call = self.calls.remove(Slot(id.0))?;
        let chain = &mut self.chains[call.leg];
        match self.calls.find_mut(call.older) {
            Some(older) => older.newer = call.newer,
            None => chain.oldest = call.newer,
        }
        match self.calls.find_mut(call.newer) {
            Some(newer) => newer.older = call.older,
            None => chain.newest = call.older,
        }
        chain.length -= 1;
        if chain.length == 0 {
            self.legs[call.leg].suspected = false;
        }
        Some(call)
    }
    /// Everything that was in flight to a leg that is lost, in the order in which it was sent.
    pub(super) fn take_all(&mut self, leg: usize) -> Vec<Call> {
        core::iter::from_fn(|| self.take(SubRequestId(self.chains[leg].oldest.0))).collect()
    }
    /// A leg has answered a request that was sent then.
    pub(super) fn note_answer(&mut self, leg: usize, sent: Time) {
        let leg = &mut self.legs[leg];
        leg.answered = leg.answered.max(sent);
    }
    /// How many requests are in flight to a leg.
    pub(super) fn in_flight(&self, leg: usize) -> usize {
        self.chains[leg].length
    }
    /// When the oldest request that is in flight to a leg was sent.
    pub(super) fn oldest(&self, leg: usize) -> Option<Time> {
        Some(self.calls.find(self.chains[leg].oldest)?.sent)
    }
    /// When each leg with something in flight becomes suspect, if it is not yet.
    pub(super) fn suspect_at(&self, patience: Duration) -> impl Iterator<Item = (usize, Time)> {
        (0..self.legs.len())
            .filter(|leg| !self.legs[*leg].suspected)
            .filter_map(move |leg| Some((leg, self.oldest(leg)? + patience)))
    }
}

impl core::ops::Index<usize> for Legs {
    type Output = Leg;
    fn index(&self, leg: usize) -> &Leg {
        &self.legs[leg]
    }
}

impl core::ops::IndexMut<usize> for Legs {
    fn index_mut(&mut self, leg: usize) -> &mut Leg {
        self.sets.set(None);
        &mut self.legs[leg]
    }
}
