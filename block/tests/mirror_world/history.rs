//! What a read of a block may return: the last acknowledged write, or one that was in progress or ended in doubt and
//! has not been overwritten since.
//!
//! Order is by a counter of events, not by time. A write that ended without success, or whose owner died, is in doubt: its value
//! may show until a write that began later is acknowledged. What was acknowledged but not flushed becomes doubtful too
//! when a power cut may have taken it from the last leg that had it.

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
struct Write {
    token: u64,
    start: u64,
    /// When it was answered, or failed, or its owner died.
    end: Option<u64>,
    acknowledged: bool,
    durable: bool,
}

/// All blocks.
#[derive(Debug, Default)]
pub(crate) struct History {
    clock: u64,
    blocks: BTreeMap<u64, Vec<Write>>,
    /// What a read has shown since the last write.
    settled: BTreeMap<u64, (u64, u64)>,
    unsettled: u64,
}

/// A write in progress: where in the history it is.
pub(crate) type Handle = Vec<(u64, usize)>;

/// Acknowledged writes that a power cut may take.
pub(crate) type AtRisk = Vec<(u64, usize)>;

const BLANK: Write = Write {
    token: 0,
    start: 0,
    end: Some(0),
    acknowledged: true,
    durable: true,
};

impl History {
    pub(crate) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(crate) fn begin_write(
        &mut self,
        blocks: impl Iterator<Item = u64>,
        token: impl Fn(u64) -> u64,
    ) -> Handle {
        let start = self.tick();
        let mut handle = Vec::new();
        for block in blocks {
            self.settled.remove(&block);
            let writes = self.blocks.entry(block).or_insert_with(|| vec![BLANK]);
            handle.push((block, writes.len()));
            writes.push(Write {
                token: token(block),
                start,
                end: None,
                acknowledged: false,
                durable: false,
            });
        }
        handle
    }

    pub(crate) fn end_write(&mut self, handle: &Handle, acknowledged: bool, durable: bool) {
        let end = self.tick();
        for (block, index) in handle {
            let write = &mut self.blocks.get_mut(block).expect("began")[*index];
            write.end = Some(end);
            write.acknowledged = acknowledged;
            write.durable = acknowledged && durable;
        }
    }

    /// A flush that began then was acknowledged.
    pub(crate) fn flushed(&mut self, began: u64) {
        for write in self.blocks.values_mut().flatten() {
            write.durable |= write.acknowledged && write.end.is_some_and(|end| end < began);
        }
    }

    /// Whether a read that began then may return this now.
    pub(crate) fn may_read(&self, block: u64, began: u64, token: u64) -> Result<(), String> {
        let settled = self
            .settled
            .get(&block)
            .filter(|(when, shown)| *when < began && *shown != token);
        if let Some((_, shown)) = settled {
            return Err(format!("block {block} read {token:#x}, and {shown:#x} before"));
        }
        let blank = [BLANK];
        let writes = self.blocks.get(&block).map_or(&blank[..], |writes| writes);
        let superseded = |old: &Write| {
            let over = |new: &&Write| {
                new.acknowledged
                    && new.end.expect("answered") < began
                    && old.end.is_some_and(|end| new.start > end)
            };
            writes.iter().any(|new| over(&new))
        };
        if writes
            .iter()
            .any(|write| write.token == token && !superseded(write))
        {
            return Ok(());
        }
        Err(format!(
            "block {block} read {token:#x} at {began}, history {writes:#?}"
        ))
    }

    /// A read that began then has shown this. If nothing was being written meanwhile, reads show the same until somebody
    /// writes there or legs change.
    pub(crate) fn settle(&mut self, block: u64, began: u64, token: u64) {
        let now = self.tick();
        let over = |write: &Write| write.end.is_some_and(|end| end < began);
        if self
            .blocks
            .get(&block)
            .is_some_and(|writes| writes.iter().all(over))
        {
            self.settled.insert(block, (now, token));
        }
    }

    /// Legs are lost, or may have lost something: where they were not equal yet, another one may be read.
    pub(crate) fn unsettle(&mut self) {
        self.settled.clear();
        self.unsettled = self.tick();
    }

    /// Whether a leg that holds this now has a write that was just acknowledged, or one that is not older.
    pub(crate) fn holds(&self, handle: &Handle, block: u64, token: u64) -> bool {
        let (_, index) = handle.iter().find(|(at, _)| *at == block).expect("written there");
        let writes = &self.blocks[&block];
        let write = &writes[*index];
        let not_older = |other: &Write| other.end.is_none_or(|end| end > write.start);
        writes
            .iter()
            .any(|other| other.token == token && not_older(other))
    }

    /// What is acknowledged and not durable now.
    pub(crate) fn at_risk(&self) -> AtRisk {
        let mut risk = Vec::new();
        for (block, writes) in &self.blocks {
            for (index, write) in writes.iter().enumerate() {
                if write.acknowledged && !write.durable {
                    risk.push((*block, index));
                }
            }
        }
        risk
    }

    /// These may be lost now.
    pub(crate) fn lose(&mut self, risk: &AtRisk) {
        for (block, index) in risk {
            let write = &mut self.blocks.get_mut(block).expect("known")[*index];
            write.acknowledged &= write.durable;
        }
    }

    pub(crate) fn blocks(&self) -> Vec<u64> {
        self.blocks.keys().copied().collect()
    }
}
