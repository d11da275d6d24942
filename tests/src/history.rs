//! What a volume may hold: the history of every block, and whether a read fits it.
//!
//! A block's value is right for a read if some write of that value may be the newest one at some moment of the read: the write
//! had begun before the read ended, and nothing that is known to be newer had taken effect before the read began. A write has taken
//! effect once it was acknowledged, or once a read that ended returned it.

use std::collections::BTreeMap;

/// A moment; only their order counts.
pub type Moment = u64;

/// Names a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub u64);

#[derive(Clone, Copy, Debug)]
struct Write {
    value: u64,
    begun: Moment,
    /// When it was acknowledged.
    ended: Option<Moment>,
    /// When it is known to have taken effect.
    seen: Option<Moment>,
}

/// Every write to every block.
#[derive(Debug, Default)]
pub struct History {
    blocks: BTreeMap<u64, BTreeMap<WriteId, Write>>,
    now: Moment,
}

impl History {
    /// A volume that nobody wrote: every block holds zero.
    pub fn new() -> History {
        History::default()
    }

    /// A new moment, after all others.
    pub fn moment(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// A write of `value` to a block begins.
    pub fn write_begins(&mut self, id: WriteId, block: u64, value: u64) {
        let begun = self.moment();
        self.block(block).insert(
            id,
            Write {
                value,
                begun,
                ended: None,
                seen: None,
            },
        );
    }

    /// It is acknowledged.
    pub fn write_ends(&mut self, id: WriteId, block: u64) {
        let ended = self.moment();
        let write = self.block(block).get_mut(&id).expect("a write that begun");
        write.ended = Some(ended);
        write.seen = Some(write.seen.map_or(ended, |seen| seen.min(ended)));
        self.forget(block);
    }

    /// A read that began at `begun` ends now with `value`.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn read_ends(&mut self, block: u64, begun: Moment, value: u64) -> Result<(), String> {
        let now = self.moment();
        let writes = self.block(block);
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
            None => Err(format!("block {block} read as {value:#x}, of {writes:?}")),
        }
    }

    fn block(&mut self, block: u64) -> &mut BTreeMap<WriteId, Write> {
        self.blocks.entry(block).or_insert_with(|| {
            let never = Write {
                value: 0,
                begun: 0,
                ended: Some(0),
                seen: Some(0),
            };
            BTreeMap::from([(WriteId(0), never)])
        })
    }

    /// Writes that no read can return any more are forgotten once there are many. A read that began long ago may then be refused
    /// wrongly; none lasts that long.
    fn forget(&mut self, block: u64) {
        let writes = self.block(block);
        if writes.len() < 64 {
            return;
        }
        let newest = writes
            .values()
            .filter(|write| write.ended.is_some())
            .map(|write| write.begun)
            .max();
        let Some(newest) = newest else { return };
        let now = self.now;
        let old = |write: &Write| {
            write
                .ended
                .is_some_and(|ended| ended < newest && ended + 4096 < now)
        };
        self.block(block).retain(|_, write| !old(write));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(history: &mut History, id: u64, value: u64) {
        history.write_begins(WriteId(id), 0, value);
        history.write_ends(WriteId(id), 0);
    }

    #[test]
    fn the_last_acknowledged_write_and_no_older_one() {
        let mut history = History::new();
        let begun = history.moment();
        assert!(history.read_ends(0, begun, 0).is_ok());
        write(&mut history, 1, 11);
        write(&mut history, 2, 22);
        let begun = history.moment();
        assert!(history.read_ends(0, begun, 22).is_ok());
        assert!(history.read_ends(0, begun, 11).is_err(), "older");
        assert!(history.read_ends(0, begun, 0).is_err(), "never written");
        assert!(history.read_ends(0, begun, 33).is_err(), "nobody's");
    }

    #[test]
    fn concurrent_writes_may_come_in_either_order() {
        let mut history = History::new();
        history.write_begins(WriteId(1), 0, 11);
        history.write_begins(WriteId(2), 0, 22);
        history.write_ends(WriteId(1), 0);
        history.write_ends(WriteId(2), 0);
        let begun = history.moment();
        assert!(history.read_ends(0, begun, 11).is_ok());
        assert!(history.read_ends(0, begun, 22).is_ok());
    }

    #[test]
    fn a_write_in_flight_may_be_read_and_then_does_not_go_away() {
        let mut history = History::new();
        write(&mut history, 1, 11);
        history.write_begins(WriteId(2), 0, 22);
        let begun = history.moment();
        assert!(history.read_ends(0, begun, 11).is_ok());
        assert!(history.read_ends(0, begun, 22).is_ok());
        let begun = history.moment();
        assert!(history.read_ends(0, begun, 11).is_err(), "22 has been seen");
        assert!(history.read_ends(0, begun, 22).is_ok());
    }

    #[test]
    fn a_read_that_began_before_may_return_what_was_there_then() {
        let mut history = History::new();
        write(&mut history, 1, 11);
        let begun = history.moment();
        write(&mut history, 2, 22);
        assert!(history.read_ends(0, begun, 11).is_ok());
        assert!(history.read_ends(0, begun, 22).is_ok());
    }
}
