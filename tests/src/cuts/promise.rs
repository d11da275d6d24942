//! What a host was promised about its blocks: by an acknowledgement, by a flush, by force unit access.
//!
//! Our volumes report a volatile write cache and AWUPF 0 (one block of 4096 bytes is written whole or not at all, also when the power
//! fails). So after a power cut a block holds, whole, a write that is not older than another one which was durable; and that
//! of all writes that had begun, in any order among those that nothing orders.

use std::collections::BTreeMap;

/// A block of a volume.
pub type At = (u128, u64);

/// What a host did, and heard.
#[derive(Clone, Debug)]
pub enum HostNote {
    /// A write, or zeroes, begins: what each block is to hold.
    Writes {
        /// Its name.
        id: u64,
        /// The volume.
        volume: u128,
        /// The first block.
        start: u64,
        /// Block by block.
        values: Vec<u64>,
    },
    /// It was acknowledged; `durable`: with force unit access.
    Written {
        /// Which.
        id: u64,
        /// For good.
        durable: bool,
    },
    /// A flush of a volume begins.
    Flushes {
        /// Its name.
        id: u64,
        /// Which volume.
        volume: u128,
    },
    /// It was acknowledged.
    Flushed {
        /// Which.
        id: u64,
    },
    /// All is at rest and flushed, and this was read: it does not change any more by itself.
    Rests {
        /// Block by block.
        values: Vec<(At, u64)>,
    },
    /// The volume is being deleted: nobody reads it any more.
    Forgets {
        /// Which.
        volume: u128,
    },
}

#[derive(Clone, Debug)]
struct Write {
    id: u64,
    value: u64,
    begun: u64,
    ended: Option<u64>,
    durable: bool,
}

/// Every promise made so far.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    blocks: BTreeMap<At, Vec<Write>>,
    /// Writes in flight: where.
    writes: BTreeMap<u64, (u128, u64, u64)>,
    flushes: BTreeMap<u64, (u128, u64)>,
    now: u64,
}

/// How strict a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The power has not failed since these writes: the newest counts that was acknowledged before this moment.
    Acknowledged(u64),
    /// It has: the newest durable one counts.
    Durable,
}

impl Promises {
    /// Something was asked, or heard.
    pub fn note(&mut self, note: &HostNote) {
        self.now += 1;
        match note {
            HostNote::Writes {
                id,
                volume,
                start,
                values,
            } => self.begin(*id, *volume, *start, values),
            HostNote::Written { id, durable } => self.written(*id, *durable),
            HostNote::Flushes { id, volume } => drop(self.flushes.insert(*id, (*volume, self.now))),
            HostNote::Flushed { id } => self.flushed(*id),
            HostNote::Rests { values } => {
                for (at, value) in values {
                    let now = self.now;
                    self.block(*at).retain(|write| write.value == *value);
                    for write in self.block(*at) {
                        (write.durable, write.ended) = (true, Some(now));
                    }
                }
            }
            HostNote::Forgets { volume } => self.blocks.retain(|(of, _), _| of != volume),
        }
    }

    fn block(&mut self, at: At) -> &mut Vec<Write> {
        self.blocks.entry(at).or_insert_with(|| vec![never()])
    }

    fn begin(&mut self, id: u64, volume: u128, start: u64, values: &[u64]) {
        let begun = self.now;
        for (index, value) in values.iter().enumerate() {
            self.block((volume, start + index as u64)).push(Write {
                id,
                value: *value,
                begun,
                ended: None,
                durable: false,
            });
        }
        self.writes.insert(id, (volume, start, values.len() as u64));
    }

    fn written(&mut self, id: u64, durable: bool) {
        let (volume, start, length) = self.writes.remove(&id).expect("a write ends once");
        let now = self.now;
        for block in start..start + length {
            let writes = self.blocks.get_mut(&(volume, block)).into_iter().flatten();
            for write in writes.filter(|write| write.id == id) {
                (write.ended, write.durable) = (Some(now), durable);
            }
        }
    }

    fn flushed(&mut self, id: u64) {
        let (volume, asked) = self.flushes.remove(&id).expect("a flush ends once");
        let range = (volume, 0)..=(volume, u64::MAX);
        for (_, writes) in self.blocks.range_mut(range) {
            for write in writes.iter_mut() {
                write.durable |= write.ended.is_some_and(|ended| ended < asked);
            }
        }
    }

    /// What a block may hold.
    pub fn allowed(&self, at: At, since: Since) -> Vec<u64> {
        let Some(writes) = self.blocks.get(&at) else {
            return vec![0];
        };
        let counts = |other: &&Write| match since {
            Since::Acknowledged(moment) => other.ended.is_some_and(|ended| ended < moment),
            Since::Durable => other.durable,
        };
        let newest = writes.iter().filter(counts).map(|other| other.begun).max();
        let older = |write: &Write| {
            write
                .ended
                .is_some_and(|ended| newest.is_some_and(|newest| ended < newest))
        };
        writes
            .iter()
            .filter(|write| !older(write))
            .map(|write| write.value)
            .collect()
    }

    /// A moment, later than everything so far.
    pub fn moment(&self) -> u64 {
        self.now + 1
    }

    /// Every block that was written, in order.
    pub fn blocks(&self) -> impl Iterator<Item = At> {
        self.blocks.keys().copied()
    }

    /// The power has failed: what is allowed now is all that is known, and nothing is in flight.
    pub fn cut(&mut self) {
        self.now += 1;
        let now = self.now;
        let all: Vec<At> = self.blocks.keys().copied().collect();
        for at in all {
            let kept = self.allowed(at, Since::Durable).into_iter().map(|value| Write {
                id: 0,
                value,
                begun: 0,
                ended: Some(now),
                durable: true,
            });
            let kept = kept.collect();
            self.blocks.insert(at, kept);
        }
        self.writes.clear();
        self.flushes.clear();
    }
}

fn never() -> Write {
    Write {
        id: 0,
        value: 0,
        begun: 0,
        ended: Some(0),
        durable: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: At = (1, 5);

    fn write(promises: &mut Promises, id: u64) {
        promises.note(&HostNote::Writes {
            id,
            volume: 1,
            start: 5,
            values: vec![id],
        });
    }

    fn end(promises: &mut Promises, id: u64, durable: bool) {
        promises.note(&HostNote::Written { id, durable });
    }

    fn acknowledged(promises: &Promises) -> Vec<u64> {
        promises.allowed(AT, Since::Acknowledged(promises.moment()))
    }

    #[test]
    fn not_older_than_the_last_flush_and_everything_begun_since() {
        let mut promises = Promises::default();
        write(&mut promises, 11);
        end(&mut promises, 11, false);
        assert_eq!(promises.allowed(AT, Since::Durable), [0, 11]);
        assert_eq!(acknowledged(&promises), [11]);
        promises.note(&HostNote::Flushes { id: 1, volume: 1 });
        write(&mut promises, 12);
        end(&mut promises, 12, false);
        promises.note(&HostNote::Flushed { id: 1 });
        write(&mut promises, 13);
        assert_eq!(promises.allowed(AT, Since::Durable), [11, 12, 13]);
        assert_eq!(acknowledged(&promises), [12, 13]);
        end(&mut promises, 13, true);
        assert_eq!(promises.allowed(AT, Since::Durable), [13]);
    }

    #[test]
    fn a_cut_keeps_what_was_allowed_until_it_is_written_again() {
        let mut promises = Promises::default();
        write(&mut promises, 11);
        promises.cut();
        assert_eq!(acknowledged(&promises), [0, 11]);
        write(&mut promises, 12);
        assert_eq!(promises.allowed(AT, Since::Durable), [0, 11, 12]);
        end(&mut promises, 12, false);
        assert_eq!(acknowledged(&promises), [12]);
        assert_eq!(promises.allowed(AT, Since::Durable), [0, 11, 12]);
        let values = vec![(AT, 12)];
        promises.note(&HostNote::Rests { values });
        assert_eq!(promises.allowed(AT, Since::Durable), [12]);
    }
}
