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
    let mut previous = (header.opening, 0);
    while next < header.journal_start + ring.len() as u64 {
        let corrupt = |what| Failure::JournalCorrupt { sequence: next, what };
        match at(next) {
            Found::Whole(block, records) if block.sequence == next => {
                check(header, epoch, previous, block)?;
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

/// Whether a whole block can be the next one after a checkpoint and an opening and epoch.
fn check(
    header: &CheckpointHeader,
    epoch: u64,
    previous: (u32, u64),
    block: &JournalHeader,
) -> Result<(), Failure> {
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
    if block.checkpoint + 1 < header.sequence {
        return corrupt("it is older than the checkpoint before it");
    }
    Ok(())
}
