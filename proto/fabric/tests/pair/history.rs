//! What may be read: every read returns, block by block, what the last acknowledged write left there, or what a write
//! concurrent with the read writes. A deallocation is advice: the blocks read as before or as zeroes.

use block::Time;
use std::collections::BTreeMap;

/// One write of one block.
#[derive(Clone, Copy, Debug)]
struct Write {
    /// The stamp that fills the block; 0 for zeroes.
    value: u64,
    began: Time,
    /// When it was acknowledged; a write that failed may have been executed, and may yet be.
    ended: Option<Time>,
    /// Deallocation: it may have changed nothing.
    advice: bool,
}

/// All writes of all blocks.
#[derive(Debug, Default)]
pub(crate) struct History {
    writes: BTreeMap<u64, Vec<Write>>,
}

impl History {
    /// A write of `blocks` begins.
    pub(crate) fn begin(&mut self, blocks: impl Iterator<Item = u64>, value: u64, began: Time, advice: bool) {
        for block in blocks {
            self.writes.entry(block).or_default().push(Write {
                value,
                began,
                ended: None,
                advice,
            });
        }
    }

    /// It was acknowledged.
    pub(crate) fn end(&mut self, blocks: impl Iterator<Item = u64>, value: u64, began: Time, ended: Time) {
        for block in blocks {
            let writes = self.writes.get_mut(&block).expect("it began");
            let write = writes
                .iter_mut()
                .find(|write| write.value == value && write.began == began && write.ended.is_none());
            write.expect("it began").ended = Some(ended);
        }
    }

    /// Whether a read of `block` between two times may return `value`.
    pub(crate) fn allows(&self, block: u64, value: u64, began: Time, ended: Time) -> bool {
        let initial = Write {
            value: 0,
            began: Time::ZERO,
            ended: Some(Time::ZERO),
            advice: false,
        };
        let known = self.writes.get(&block).map_or(&[][..], Vec::as_slice);
        let writes = || known.iter().chain([&initial]);
        let is_overwritten = |write: &Write| {
            let Some(write_ended) = write.ended else {
                return false;
            };
            let is_over = |later: &Write| later.ended.is_some_and(|at| at < began);
            writes().any(|later| !later.advice && later.began > write_ended && is_over(later))
        };
        writes().any(|write| write.value == value && write.began <= ended && !is_overwritten(write))
    }
}

#[test]
fn the_checker_itself_refuses_what_it_should() {
    let at = Time::from_millis;
    let mut history = History::default();
    assert!(history.allows(5, 0, at(1), at(2)));
    assert!(!history.allows(5, 1, at(1), at(2)));
    history.begin([5].into_iter(), 1, at(10), false);
    assert!(history.allows(5, 0, at(11), at(12)) && history.allows(5, 1, at(11), at(12)));
    assert!(!history.allows(5, 1, at(1), at(9)), "not before it began");
    history.end([5].into_iter(), 1, at(10), at(20));
    assert!(!history.allows(5, 0, at(21), at(22)), "a lost acknowledged write");
    assert!(
        history.allows(5, 0, at(15), at(22)),
        "the read began before the write ended"
    );
    history.begin([5].into_iter(), 2, at(30), false);
    history.end([5].into_iter(), 2, at(30), at(40));
    assert!(!history.allows(5, 1, at(41), at(42)), "an old write come back");
    assert!(!history.allows(6, 2, at(41), at(42)), "somebody else's block");
    history.begin([5].into_iter(), 0, at(50), true);
    history.end([5].into_iter(), 0, at(50), at(60));
    assert!(
        history.allows(5, 2, at(61), at(62)) && history.allows(5, 0, at(61), at(62)),
        "advice"
    );
    history.begin([5].into_iter(), 3, at(70), false);
    history.end([5].into_iter(), 3, at(70), at(80));
    assert!(!history.allows(5, 0, at(81), at(82)), "a deallocation come back");
}
