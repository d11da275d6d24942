//! Verified I/O: random reads and writes on one volume, every byte of which is known in advance.
//!
//! A block's contents say which block they are and which write made them. No two operations on one block are in flight at a time,
//! so a read has exactly one right answer.

use super::host::DemoHost;
use anyhow::bail;
use block::BlockRange;
use fabric::host::HostOperation;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;
const DEPTH: usize = 32;
/// Longer than any failover of the demo: an operation that takes longer is stuck.
const STUCK: Duration = Duration::from_secs(30);

/// What a phase of I/O came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Reads that brought the right bytes.
    pub(crate) reads: u64,
    /// Writes acknowledged.
    pub(crate) writes: u64,
    /// The longest time without any operation ending.
    pub(crate) longest_pause: Duration,
}

/// The I/O, and what every block must hold.
pub(crate) struct Workload {
    host: DemoHost,
    random: StdRng,
    blocks: u64,
    /// The stamp of the last acknowledged write of a block; zero: never written.
    stamps: Vec<u64>,
    next_stamp: u64,
    in_flight: BTreeMap<u64, (BlockRange, Option<u64>)>,
}

impl Workload {
    /// I/O to the first `blocks` blocks of the host's volume, which nobody wrote yet.
    pub(crate) fn new(host: DemoHost, blocks: u64) -> Workload {
        Workload {
            host,
            random: StdRng::seed_from_u64(1),
            blocks,
            stamps: vec![0; blocks as usize],
            next_stamp: 1,
            in_flight: BTreeMap::new(),
        }
    }

    /// The host.
    pub(crate) fn host(&mut self) -> &mut DemoHost {
        &mut self.host
    }

    /// Keeps the host busy until `done` says so (asked often, told what was done), then waits for what is in flight.
    pub(crate) fn run_until(&mut self, mut done: impl FnMut(&Tally) -> bool) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let mut last = Instant::now();
        loop {
            let ending = done(&tally);
            while !ending && self.in_flight.len() < DEPTH {
                self.submit()?;
            }
            if self.in_flight.is_empty() {
                return Ok(tally);
            }
            if self.take_one(Duration::from_millis(20), &mut tally)? {
                tally.longest_pause = tally.longest_pause.max(last.elapsed());
                last = Instant::now();
            } else if last.elapsed() > STUCK {
                bail!("no operation has ended for {} s", STUCK.as_secs());
            }
        }
    }

    /// Reads everything back.
    pub(crate) fn verify_all(&mut self) -> anyhow::Result<u64> {
        let mut tally = Tally::default();
        let step = 64;
        for start in (0..self.blocks).step_by(step as usize) {
            let range = BlockRange::new(start, step.min(self.blocks - start));
            let id = self.host.submit(HostOperation::Read { range })?;
            self.in_flight.insert(id, (range, None));
            while self.in_flight.len() >= DEPTH {
                self.take_some(&mut tally)?;
            }
        }
        while !self.in_flight.is_empty() {
            self.take_some(&mut tally)?;
        }
        Ok(self.blocks)
    }

    fn take_some(&mut self, tally: &mut Tally) -> anyhow::Result<()> {
        if self.take_one(STUCK, tally)? {
            Ok(())
        } else {
            bail!("no read has ended for {} s", STUCK.as_secs())
        }
    }

    fn submit(&mut self) -> anyhow::Result<()> {
        let Some(range) = self.free_range() else {
            return Ok(());
        };
        if self.random.random_range(0..10) < 4 {
            let id = self.host.submit(HostOperation::Read { range })?;
            self.in_flight.insert(id, (range, None));
        } else {
            let stamp = self.next_stamp;
            self.next_stamp += 1;
            let bytes = contents(range, |_| stamp);
            let durable = self.random.random_range(0..8) == 0;
            let id = self.host.submit(HostOperation::Write {
                start: range.start.0,
                bytes,
                durable,
            })?;
            self.in_flight.insert(id, (range, Some(stamp)));
        }
        Ok(())
    }

    /// A range that no operation in flight touches; none if chance does not find one soon.
    fn free_range(&mut self) -> Option<BlockRange> {
        (0..16).find_map(|_| {
            let length = [1, 1, 1, 2, 8, 32][self.random.random_range(0..6)];
            let start = self.random.random_range(0..self.blocks - length);
            let range = BlockRange::new(start, length);
            let free = self.in_flight.values().all(|(other, _)| !other.overlaps(range));
            free.then_some(range)
        })
    }

    fn take_one(&mut self, patience: Duration, tally: &mut Tally) -> anyhow::Result<bool> {
        let Some(ended) = self.host.ended(patience)? else {
            return Ok(false);
        };
        let (range, stamp) = self
            .in_flight
            .remove(&ended.id)
            .expect("an operation that was begun here");
        let bytes = match ended.result {
            Ok(bytes) => bytes,
            Err(status) => bail!("an operation on blocks {range:?} failed: {status}"),
        };
        match stamp {
            Some(stamp) => {
                tally.writes += 1;
                blocks(range).for_each(|at| self.stamps[at as usize] = stamp);
            }
            None => {
                tally.reads += 1;
                let wanted = contents(range, |at| self.stamps[at as usize]);
                if let Some(at) = wanted
                    .iter()
                    .zip(&bytes)
                    .position(|(wanted, found)| wanted != found)
                {
                    let block = range.start.0 + (at / BLOCK) as u64;
                    bail!(
                        "block {block} holds wrong bytes: {}",
                        difference(&wanted, &bytes, at)
                    );
                }
            }
        }
        Ok(true)
    }
}

fn blocks(range: BlockRange) -> std::ops::Range<u64> {
    range.start.0..range.end().0
}

/// What blocks hold: nothing but zeroes before their first write, then their number and stamp over and over.
fn contents(range: BlockRange, stamp: impl Fn(u64) -> u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(range.length.0 as usize * BLOCK);
    for block in blocks(range) {
        let stamp = stamp(block);
        let (number, stamp) = if stamp == 0 {
            ([0; 8], [0; 8])
        } else {
            (block.to_le_bytes(), stamp.to_le_bytes())
        };
        let pair = [number, stamp].concat();
        bytes.extend(pair.iter().copied().cycle().take(BLOCK));
    }
    bytes
}

fn difference(wanted: &[u8], found: &[u8], at: usize) -> String {
    let start = at / 16 * 16;
    let wanted = wanted.get(start..start + 16);
    let found = found.get(start..start + 16);
    format!("wanted {wanted:02x?}, found {found:02x?} at byte {}", at % BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_tell_block_and_write() {
        let bytes = contents(BlockRange::new(7, 2), |block| if block == 7 { 0 } else { 3 });
        assert_eq!(bytes.len(), 2 * BLOCK);
        assert!(
            bytes[..BLOCK].iter().all(|byte| *byte == 0),
            "never written: zeroes"
        );
        assert_eq!(
            bytes[BLOCK..BLOCK + 16],
            [8, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(bytes[2 * BLOCK - 16..], bytes[BLOCK..BLOCK + 16]);
    }
}
