//! Replays the journal onto a checkpoint's map, and finds where it ends.
//!
//! Blocks are written one at a time, each durable before the next: so only the one behind the last whole one may be
//! unfinished, and it was never acknowledged. Anything else that is not as it was written is damage and refused.

use super::checkpoint::CheckpointHeader;
use super::config::Failure;
use super::journal_block::{self, Found, JOURNAL_BLOCK_BYTES, JournalHeader, Stamp};
use super::map::Map;

/// Where the journal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replayed {
    /// The first block that is not there.
    pub(super) next: u64,
    /// The newest opening that left a trace.
    pub(super) opening: u32,
}

/// Applies what is behind the checkpoint. `journal` is the whole ring.
pub(super) fn replay(
    header: &CheckpointHeader,
    epoch: u64,
    journal: &[u8],
    map: &mut Map,
) -> Result<Replayed, Failure> {
    let ring: Vec<Found> = journal
        .chunks_exact(JOURNAL_BLOCK_BYTES)
        .map(|block| journal_block::parse(&header.pool, block))
        .collect();
    let at = |sequence: u64| &ring[(sequence % ring.len() as u64) as usize];
    let mut next = header.journal_start;
    let mut previous = (header.opening, header.epoch);
    while next < header.journal_start + ring.len() as u64 {
        let corrupt = |what| Failure::JournalCorrupt { sequence: next, what };
        match at(next) {
            Found::Whole(block, records) if block.sequence == next => {
                check(epoch, previous, block)?;
                previous = (block.opening, block.epoch);
                for record in records {
                    map.apply(record)
                        .map_err(|what| Failure::MapInconsistent { what })?;
                }
                next += 1;
            }
            Found::Damaged(_, what) => return Err(corrupt(what)),
            Found::Whole(..) | Found::Unfinished(_) => break,
        }
    }
    let newest = ring.iter().filter_map(Found::newest).max();
    if newest.is_some_and(|newest| newest.sequence > next) {
        let what = "it is missing, though a later one is there";
        return Err(Failure::JournalCorrupt { sequence: next, what });
    }
    let opening = newest.map_or(0, |stamp: Stamp| stamp.opening).max(previous.0);
    Ok(Replayed { next, opening })
}

/// Whether a whole block can be the next one after an opening and epoch.
fn check(epoch: u64, previous: (u32, u64), block: &JournalHeader) -> Result<(), Failure> {
    let corrupt = |what| {
        Err(Failure::JournalCorrupt {
            sequence: block.sequence,
            what,
        })
    };
    if block.epoch > epoch {
        return Err(Failure::LaterEpoch { found: block.epoch });
    }
    if block.opening < previous.0 || block.epoch < previous.1 {
        return corrupt("it is of an earlier owner than the one before it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::record::{Extent, NodeId, Record};
    use super::*;
    use crate::Blocks;

    const RING: usize = 8;

    fn header() -> CheckpointHeader {
        CheckpointHeader {
            pool: [1; 16],
            epoch: 5,
            sequence: 4,
            opening: 3,
            next_node: NodeId(1),
            journal_start: 10,
            extent: Blocks(4),
            extents: 8,
            metadata: Blocks(24),
            record_count: 0,
            body_crc: 0,
        }
    }

    /// Sequence, opening, epoch.
    type Written = (u64, u32, u64);

    /// A ring with these blocks, each with a record that cannot be applied twice.
    fn replayed(blocks: &[Written], edit: impl Fn(&mut [u8])) -> Result<Replayed, Failure> {
        let mut ring = vec![0; RING * JOURNAL_BLOCK_BYTES];
        for &(sequence, opening, epoch) in blocks {
            let header = JournalHeader {
                pool: [1; 16],
                epoch,
                sequence,
                checkpoint: 4,
                opening,
            };
            let place = (sequence % RING as u64) as usize * JOURNAL_BLOCK_BYTES;
            let record = Record::Dirty {
                extent: Extent(sequence as u32 % 8),
                count: 1,
            };
            journal_block::encode(&header, &[record], &mut ring[place..][..JOURNAL_BLOCK_BYTES]);
        }
        edit(&mut ring);
        replay(&header(), 7, &ring, &mut Map::new(8, NodeId(1)))
    }

    #[test]
    fn the_end_is_found_and_everything_odd_before_it_refused() {
        let corrupt = |sequence, what| Err(Failure::JournalCorrupt { sequence, what });
        let missing = "it is missing, though a later one is there";
        let earlier = "it is of an earlier owner than the one before it";
        let ends = |next, opening| Ok(Replayed { next, opening });
        let table: [(&[Written], Result<Replayed, Failure>); 12] = [
            (&[], ends(10, 3)),
            (&[(10, 3, 5), (11, 3, 5)], ends(12, 3)),
            (&[(8, 2, 5), (9, 3, 5), (10, 3, 5)], ends(11, 3)),
            (&[(10, 3, 5), (11, 4, 6), (12, 6, 7)], ends(13, 6)),
            (
                &[
                    (10, 3, 5),
                    (11, 3, 5),
                    (12, 3, 5),
                    (13, 3, 5),
                    (14, 3, 5),
                    (15, 3, 5),
                    (16, 3, 5),
                    (17, 3, 5),
                ],
                ends(18, 3),
            ),
            (&[(11, 3, 5)], corrupt(10, missing)),
            (&[(10, 3, 5), (12, 3, 5)], corrupt(11, missing)),
            (&[(18, 3, 5)], corrupt(10, missing)),
            (&[(10, 2, 5)], corrupt(10, earlier)),
            (&[(10, 4, 5), (11, 3, 5)], corrupt(11, earlier)),
            (&[(10, 3, 4)], corrupt(10, earlier)),
            (&[(10, 3, 8)], Err(Failure::LaterEpoch { found: 8 })),
        ];
        for (blocks, answer) in table {
            assert_eq!(replayed(blocks, |_| {}), answer, "{blocks:?}");
        }
    }

    #[test]
    fn a_torn_last_block_is_dropped_and_its_opening_remembered() {
        let third = 12 % RING * JOURNAL_BLOCK_BYTES;
        let torn = replayed(&[(10, 3, 5), (11, 3, 5), (12, 9, 5)], |ring| {
            ring[third..][..512].fill(0)
        });
        assert_eq!(torn, Ok(Replayed { next: 12, opening: 9 }));
        let middle = 11 % RING * JOURNAL_BLOCK_BYTES;
        let damaged = replayed(&[(10, 3, 5), (11, 3, 5)], |ring| ring[middle] ^= 1);
        let what = "a sector's checksum is wrong";
        assert_eq!(damaged, Err(Failure::JournalCorrupt { sequence: 11, what }));
    }

    #[test]
    fn records_that_contradict_the_map_are_refused() {
        let what = "an extent is dirty and something else";
        let blocks: Vec<Written> = (0..8).map(|index| (10 + index, 3, 5)).collect();
        let twice = replayed(&blocks, |ring| {
            let last = 17 % RING * JOURNAL_BLOCK_BYTES;
            let record = Record::Dirty {
                extent: Extent(2),
                count: 1,
            };
            let header = JournalHeader {
                pool: [1; 16],
                epoch: 5,
                sequence: 17,
                checkpoint: 4,
                opening: 3,
            };
            journal_block::encode(&header, &[record], &mut ring[last..][..JOURNAL_BLOCK_BYTES]);
        });
        assert_eq!(twice, Err(Failure::MapInconsistent { what }));
    }
}
