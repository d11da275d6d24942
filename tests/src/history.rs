//! What volumes may hold: the history of every block, and whether a read fits it.
//!
//! A block's value is right for a read if some write of that value may be the newest one at some moment of the read: the write
//! had begun before the read ended, and nothing that is known to be newer had taken effect before the read began. A write has taken
//! effect once it was acknowledged, or once a read that ended returned it.
//!
//! When every leg loses power at once, what was acknowledged and never made durable is in doubt again, as if it had not been
//! acknowledged; what a flush covered, or was forced to the media, is not (R12).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A moment; only their order counts.
pub type Moment = u64;

/// Names a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// A block of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which volume.
    pub volume: u64,
    /// Which of its blocks.
    pub block: u64,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    value: u64,
    begun: Moment,
    /// When it was acknowledged.
    ended: Option<Moment>,
    /// When it is known to have taken effect.
    seen: Option<Moment>,
    /// It survives the loss of every cache.
    durable: bool,
}

impl Write {
    /// Before all others: a volume that nobody wrote holds zeroes, durably.
    const NEVER: Write = Write {
        value: 0,
        begun: 0,
        ended: Some(0),
        seen: Some(0),
        durable: true,
    };
}

/// Every write to every block.
#[derive(Debug, Default)]
pub struct History {
    places: BTreeMap<Place, BTreeMap<WriteId, Write>>,
    /// By volume: what was acknowledged and is not durable, in the order of its end.
    volatile: BTreeMap<u64, VecDeque<(Moment, Place, WriteId)>>,
    /// Blocks that may hold sectors of several writes, since power was lost while they were not on the media.
    torn: BTreeSet<Place>,
    /// Whether power was lost.
    lost_power: bool,
    now: Moment,
}

/// So many writes of one block are kept at least.
const KEPT: usize = 64;

impl History {
    /// Volumes that nobody wrote: every block holds zero.
    pub fn new() -> History {
        History::default()
    }

    /// A new moment, after all others.
    pub fn moment(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// A write of `value` to a block begins.
    pub fn write_begins(&mut self, id: WriteId, place: Place, value: u64) {
        let begun = self.moment();
        let write = Write {
            value,
            begun,
            ended: None,
            seen: None,
            durable: false,
        };
        self.place(place).insert(id, write);
    }

    /// It is acknowledged; it may be on the media by that.
    pub fn write_ends(&mut self, id: WriteId, place: Place, durable: bool) {
        let ended = self.moment();
        let write = self.place(place).get_mut(&id).expect("a write that begun");
        write.ended = Some(ended);
        write.seen = Some(write.seen.map_or(ended, |seen| seen.min(ended)));
        write.durable = durable;
        if !durable {
            let volatile = self.volatile.entry(place.volume).or_default();
            volatile.push_back((ended, place, id));
        }
        self.torn.remove(&place);
        self.forget(place);
    }

    /// A flush of a volume that was asked for at `begun` has succeeded: what had been acknowledged by then is on the media.
    pub fn flushed(&mut self, volume: u64, begun: Moment) {
        let volatile = self.volatile.entry(volume).or_default();
        while let Some((_, place, id)) = volatile.pop_front_if(|(ended, _, _)| *ended < begun) {
            let write = self.places.get_mut(&place).and_then(|writes| writes.get_mut(&id));
            // One that was overwritten since may be forgotten.
            write.into_iter().for_each(|write| write.durable = true);
        }
    }

    /// Every leg has lost its cache.
    pub fn power_lost(&mut self) {
        self.lost_power = true;
        self.volatile.clear();
        for (place, writes) in &mut self.places {
            for write in writes.values_mut().filter(|write| !write.durable) {
                (write.ended, write.seen) = (None, None);
                self.torn.insert(*place);
            }
        }
    }

    /// Whether every leg has lost its cache at some time: then a lost write may be one that was not durable.
    pub fn has_lost_power(&self) -> bool {
        self.lost_power
    }

    /// Whether a block may hold sectors of several writes.
    pub fn may_be_torn(&self, place: Place) -> bool {
        self.torn.contains(&place)
    }

    /// Every block that was written or read.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.places.keys().copied()
    }

    /// A volume is gone.
    pub fn forget_volume(&mut self, volume: u64) {
        self.places.retain(|place, _| place.volume != volume);
        self.torn.retain(|place| place.volume != volume);
        self.volatile.remove(&volume);
    }

    /// A read that began at `begun` ends now with `value`.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn read_ends(&mut self, place: Place, begun: Moment, value: u64) -> Result<(), String> {
        let now = self.moment();
        let writes = self.place(place);
        let newer = |than: Moment| {
            writes
                .values()
                .any(|other| other.seen.is_some_and(|seen| seen < begun) && other.begun > than)
        };
        let fits = |write: &Write| write.value == value && !write.ended.is_some_and(newer);
        let found = writes
            .iter()
            .filter(|(_, write)| fits(write))
            .map(|(id, _)| *id)
            .next_back();
        match found {
            Some(id) => {
                let seen = &mut writes.get_mut(&id).expect("found just now").seen;
                seen.get_or_insert(now);
                Ok(())
            }
            None => Err(format!("{place:?} read as {value:#x}, of {}", in_short(writes))),
        }
    }

    /// One sector of a block that may be torn: some write that may be there has this value.
    pub fn sector_fits(&self, place: Place, value: u64) -> bool {
        self.on_leg(place, value).is_ok()
    }

    /// Whether a leg that has every acknowledged write may hold this value now. What was seen but not acknowledged does not count:
    /// that may be on one leg alone.
    ///
    /// # Errors
    /// What it should hold.
    pub fn on_leg(&self, place: Place, value: u64) -> Result<(), String> {
        let never = BTreeMap::from([(WriteId(0), Write::NEVER)]);
        let writes = self.places.get(&place).unwrap_or(&never);
        let newest = writes.values().filter(|write| write.ended.is_some());
        let newest = newest.map(|write| write.begun).max().expect("one was never");
        let fits = |write: &Write| write.value == value && write.ended.is_none_or(|ended| ended >= newest);
        match writes.values().any(fits) {
            true => Ok(()),
            false => Err(format!("{place:?} holds {value:#x}, of {}", in_short(writes))),
        }
    }

    /// The last writes of a block, for people.
    pub fn words(&self, place: Place) -> String {
        self.places.get(&place).map_or("nothing".to_owned(), in_short)
    }

    fn place(&mut self, place: Place) -> &mut BTreeMap<WriteId, Write> {
        let never = || BTreeMap::from([(WriteId(0), Write::NEVER)]);
        self.places.entry(place).or_insert_with(never)
    }

    /// Writes that no read can return any more are forgotten once there are many. A read that began before [`LASTS`] would be refused
    /// wrongly: no answer is held back for that long.
    fn forget(&mut self, place: Place) {
        let now = self.now;
        let writes = self.place(place);
        if writes.len() < KEPT {
            return;
        }
        let lasting = writes
            .values()
            .filter(|write| write.ended.is_some() && write.durable);
        let Some(newest) = lasting.map(|write| write.begun).max() else {
            return;
        };
        let old = |write: &Write| {
            write
                .ended
                .is_some_and(|ended| ended < newest && ended + LASTS < now)
        };
        writes.retain(|_, write| !old(write));
    }
}

/// Longer than any read, in moments: the longest fault (4 s) holds an answer back for some 40,000.
const LASTS: Moment = 100_000;

/// The last writes of a block, in short: value, moments of beginning and end, moment since when it is seen, whether it is durable.
fn in_short(writes: &BTreeMap<WriteId, Write>) -> String {
    const LAST: usize = 6;
    let words = |write: &Write| {
        let moment = |at: Option<Moment>| at.map_or("?".to_owned(), |at| at.to_string());
        let (ended, seen) = (moment(write.ended), moment(write.seen));
        let durable = if write.durable { " durable" } else { "" };
        format!("{:#x} {}..{ended} seen {seen}{durable}", write.value, write.begun)
    };
    let last: Vec<String> = writes.values().rev().take(LAST).map(words).collect();
    format!("{} writes, newest first: {}", writes.len(), last.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Place = Place { volume: 0, block: 0 };

    fn write(history: &mut History, id: u64, value: u64) {
        history.write_begins(WriteId(id), AT, value);
        history.write_ends(WriteId(id), AT, false);
    }

    #[test]
    fn the_last_acknowledged_write_and_no_older_one() {
        let mut history = History::new();
        let begun = history.moment();
        assert!(history.read_ends(AT, begun, 0).is_ok());
        write(&mut history, 1, 11);
        write(&mut history, 2, 22);
        let begun = history.moment();
        assert!(history.read_ends(AT, begun, 22).is_ok());
        assert!(history.read_ends(AT, begun, 11).is_err(), "older");
        assert!(history.read_ends(AT, begun, 0).is_err(), "never written");
        assert!(history.read_ends(AT, begun, 33).is_err(), "nobody's");
    }

    #[test]
    fn concurrent_writes_may_come_in_either_order() {
        let mut history = History::new();
        history.write_begins(WriteId(1), AT, 11);
        history.write_begins(WriteId(2), AT, 22);
        history.write_ends(WriteId(1), AT, false);
        history.write_ends(WriteId(2), AT, false);
        let begun = history.moment();
        assert!(history.read_ends(AT, begun, 11).is_ok());
        assert!(history.read_ends(AT, begun, 22).is_ok());
    }

    #[test]
    fn a_write_in_flight_may_be_read_and_then_does_not_go_away() {
        let mut history = History::new();
        write(&mut history, 1, 11);
        history.write_begins(WriteId(2), AT, 22);
        let begun = history.moment();
        assert!(history.read_ends(AT, begun, 11).is_ok());
        assert!(history.read_ends(AT, begun, 22).is_ok());
        let begun = history.moment();
        assert!(history.read_ends(AT, begun, 11).is_err(), "22 has been seen");
        assert!(history.read_ends(AT, begun, 22).is_ok());
    }

    #[test]
    fn a_read_that_began_before_may_return_what_was_there_then() {
        let mut history = History::new();
        write(&mut history, 1, 11);
        let begun = history.moment();
        write(&mut history, 2, 22);
        assert!(history.read_ends(AT, begun, 11).is_ok());
        assert!(history.read_ends(AT, begun, 22).is_ok());
    }

    #[test]
    fn what_was_not_durable_is_in_doubt_when_power_was_lost() {
        let mut history = History::new();
        write(&mut history, 1, 11);
        let begun = history.moment();
        history.flushed(0, begun);
        write(&mut history, 2, 22);
        history.power_lost();
        let begun = history.moment();
        assert!(history.may_be_torn(AT));
        assert!(history.read_ends(AT, begun, 0).is_err(), "11 was flushed");
        assert!(history.read_ends(AT, begun, 11).is_ok());
        assert!(history.read_ends(AT, begun, 22).is_ok());
        let begun = history.moment();
        assert!(history.read_ends(AT, begun, 11).is_err(), "22 has been seen");
    }

    #[test]
    fn a_flush_covers_what_was_acknowledged_before_it_was_asked_for() {
        let mut history = History::new();
        history.write_begins(WriteId(1), AT, 11);
        let begun = history.moment();
        history.write_ends(WriteId(1), AT, false);
        history.flushed(0, begun);
        history.power_lost();
        let begun = history.moment();
        assert!(history.read_ends(AT, begun, 0).is_ok(), "11 may be lost");
    }

    #[test]
    fn a_leg_in_sync_has_the_last_acknowledged_write_or_a_later_one() {
        let mut history = History::new();
        assert!(history.on_leg(AT, 0).is_ok());
        write(&mut history, 1, 11);
        assert!(history.on_leg(AT, 0).is_err());
        history.write_begins(WriteId(2), AT, 22);
        let begun = history.moment();
        assert!(history.read_ends(AT, begun, 22).is_ok());
        assert!(history.on_leg(AT, 11).is_ok(), "22 may be on another leg alone");
        assert!(history.on_leg(AT, 22).is_ok());
        history.write_ends(WriteId(2), AT, false);
        assert!(history.on_leg(AT, 11).is_err());
    }
}
