//! Groups one behind the other: their data areas make one, and a request that crosses a border is cut there.
//!
//! The metadata area is the first group's. A flush of the data area goes to every group.
//!
//! Deliberately not here: any queue. Every piece goes below at once; a request ends when its last piece has.

use crate::thin::Area;
use crate::{
    BLOCK_SIZE, BlockRange, Blocks, Operation, Request, RequestId, Slab, Slot, Status, SubRequestId,
};
use std::collections::VecDeque;

/// What a concatenation wants of its owner; take these in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcatOutput {
    /// A request to a group; answer with [`Concat::completed`].
    Group {
        /// Its place.
        group: usize,
        /// The concatenation's name for the piece.
        id: SubRequestId,
        /// In which of the group's areas.
        area: Area,
        /// What, in blocks of the area.
        request: Request,
    },
    /// A request from above has ended.
    Complete {
        /// Its name.
        id: RequestId,
        /// How: if pieces ended differently, as the gravest of them.
        status: Status,
    },
}

/// The table of borders, and the requests in flight.
#[derive(Debug)]
pub struct Concat {
    /// The first block behind each group.
    ends: Vec<u64>,
    requests: Slab<InFlight>,
    /// The request of each piece.
    pieces: Slab<Slot>,
    outputs: VecDeque<ConcatOutput>,
}

#[derive(Debug)]
struct InFlight {
    id: RequestId,
    pieces: u32,
    status: Status,
}

impl Concat {
    /// Groups with data areas of these lengths, in this order.
    pub fn new(groups: impl IntoIterator<Item = Blocks>) -> Concat {
        let mut end = 0;
        let ends = groups.into_iter().map(|group| {
            end += group.0;
            end
        });
        Concat {
            ends: ends.collect(),
            requests: Slab::default(),
            pieces: Slab::default(),
            outputs: VecDeque::new(),
        }
    }

    /// The length of the data area.
    pub fn length(&self) -> Blocks {
        Blocks(self.ends.last().copied().unwrap_or(0))
    }

    /// The group that a request lies in wholly, and what the request is there. Such a request need not be submitted: it has
    /// one piece, which may go to the group under its own name.
    #[inline]
    pub fn whole(&self, area: Area, request: Request) -> Option<(usize, Request)> {
        match (area, request.operation) {
            (Area::Metadata, _) => Some((0, request)),
            (Area::Data, Operation::Flush) => (self.ends.len() == 1).then_some((0, request)),
            (Area::Data, _) => {
                let BlockRange { start, length } = request.range;
                let group = self.ends.partition_point(|border| *border <= start.0);
                let end = *self.ends.get(group)?;
                let before = group.checked_sub(1).map_or(0, |before| self.ends[before]);
                let inside = length.0 > 0 && length.0 <= end - start.0;
                let range = BlockRange::new(start.0 - before, length.0);
                inside.then_some((group, Request { range, ..request }))
            }
        }
    }

    /// A request to one of the areas.
    pub fn submit(&mut self, id: RequestId, area: Area, request: Request) {
        let pieces = match (area, request.operation) {
            (Area::Metadata, _) => vec![(0, request)],
            (Area::Data, Operation::Flush) => (0..self.ends.len()).map(|group| (group, request)).collect(),
            (Area::Data, _) => match self.split(request) {
                Ok(pieces) => pieces,
                Err(status) => return self.outputs.push_back(ConcatOutput::Complete { id, status }),
            },
        };
        let parent = self.requests.insert(InFlight {
            id,
            pieces: u32::try_from(pieces.len()).expect("few groups"),
            status: Status::Success,
        });
        for (group, request) in pieces {
            let id = SubRequestId(self.pieces.insert(parent).0);
            self.outputs.push_back(ConcatOutput::Group {
                group,
                id,
                area,
                request,
            });
        }
    }

    /// A piece has ended.
    pub fn completed(&mut self, id: SubRequestId, status: Status) {
        let parent = self.pieces.remove(Slot(id.0)).expect("a piece in flight");
        let request = self.requests.find_mut(parent).expect("its request");
        request.pieces -= 1;
        if gravity(status) > gravity(request.status) {
            request.status = status;
        }
        if request.pieces == 0 {
            let InFlight { id, status, .. } = self.requests.remove(parent).expect("just seen");
            self.outputs.push_back(ConcatOutput::Complete { id, status });
        }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<ConcatOutput> {
        self.outputs.pop_front()
    }

    /// Whether there is nothing to do.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.outputs.is_empty()
    }

    fn split(&self, request: Request) -> Result<Vec<(usize, Request)>, Status> {
        let range = request.range;
        if range.length.0 == 0 {
            return Err(Status::Invalid);
        }
        let end = range
            .start
            .0
            .checked_add(range.length.0)
            .filter(|end| *end <= self.length().0);
        let end = end.ok_or(Status::OutOfRange)?;
        let (mut at, mut pieces) = (range.start.0, Vec::new());
        while at < end {
            let group = self.ends.partition_point(|border| *border <= at);
            let start = if group == 0 { 0 } else { self.ends[group - 1] };
            let length = end.min(self.ends[group]) - at;
            let part = Request {
                operation: part_of(request.operation, at - range.start.0, length),
                range: BlockRange::new(at - start, length),
            };
            pieces.push((group, part));
            at += length;
        }
        Ok(pieces)
    }
}

/// The operation on `length` blocks, `offset` blocks into it.
fn part_of(operation: Operation, offset: u64, length: u64) -> Operation {
    let bytes = |blocks: u64| u32::try_from(blocks * u64::from(BLOCK_SIZE)).expect("as long as the buffer");
    match operation {
        Operation::Read { buffer } => Operation::Read {
            buffer: buffer.part(bytes(offset), bytes(length)),
        },
        Operation::Write { buffer, durable } => Operation::Write {
            buffer: buffer.part(bytes(offset), bytes(length)),
            durable,
        },
        other => other,
    }
}

/// Which of two ends says more: a path condition asks the host to try everything again, so it goes before what is final.
fn gravity(status: Status) -> u8 {
    match status {
        Status::Success => 0,
        Status::Invalid => 1,
        Status::OutOfRange => 2,
        Status::OutOfSpace => 3,
        Status::MediaError => 4,
        Status::Unavailable => 5,
        Status::StaleEpoch => 6,
    }
}

#[cfg(test)]
mod tests {
    //! Deliberate bugs these catch: a border off by one, the buffer's offset taken from the group's start, completing with
    //! the first piece, a flush of one group only, the last piece's status instead of the gravest.
    use super::*;
    use crate::{BufferId, BufferSlice};
    use proptest::prelude::*;

    fn read(start: u64, length: u64) -> Request {
        let buffer = BufferSlice {
            buffer: BufferId(1),
            offset: 0,
            length: u32::try_from(length * 4096).expect("short"),
        };
        Request {
            operation: Operation::Read { buffer },
            range: BlockRange::new(start, length),
        }
    }

    fn drain(concat: &mut Concat) -> Vec<ConcatOutput> {
        core::iter::from_fn(|| concat.poll_output()).collect()
    }

    proptest! {
        /// Every block of a request arrives at the group and place that counting block by block gives.
        #[test]
        fn every_block_goes_where_it_belongs(lengths in proptest::collection::vec(1u64..9, 1..5), start in 0u64..40, length in 1u64..30) {
            let mut concat = Concat::new(lengths.iter().map(|length| Blocks(*length)));
            let places: Vec<(usize, u64)> =
                lengths.iter().enumerate().flat_map(|(group, length)| (0..*length).map(move |at| (group, at))).collect();
            concat.submit(RequestId(7), Area::Data, read(start, length));
            let outputs = drain(&mut concat);
            let only = match &outputs[..] {
                [ConcatOutput::Group { group, request, .. }] => Some((*group, *request)),
                _ => None,
            };
            prop_assert_eq!(concat.whole(Area::Data, read(start, length)), only);
            if start + length > places.len() as u64 {
                prop_assert_eq!(outputs, [ConcatOutput::Complete { id: RequestId(7), status: Status::OutOfRange }]);
                return Ok(());
            }
            let mut reached = Vec::new();
            for output in outputs {
                let ConcatOutput::Group { group, request, .. } = output else { panic!("{output:?}") };
                let Operation::Read { buffer } = request.operation else { panic!("{request:?}") };
                prop_assert_eq!(buffer.length as u64, request.range.length.bytes());
                for at in 0..request.range.length.0 {
                    let block = buffer.offset as u64 / 4096 + at;
                    reached.push((block, (group, request.range.start.0 + at)));
                }
            }
            let expected: Vec<_> = (0..length).map(|block| (block, places[(start + block) as usize])).collect();
            prop_assert_eq!(reached, expected);
        }
    }

    #[test]
    fn a_request_ends_with_its_last_piece_as_the_gravest() {
        let mut concat = Concat::new([Blocks(4), Blocks(4), Blocks(4)]);
        concat.submit(RequestId(7), Area::Data, read(2, 8));
        assert_eq!(drain(&mut concat).len(), 3);
        concat.completed(SubRequestId(1), Status::Unavailable);
        concat.completed(SubRequestId(0), Status::Success);
        assert_eq!(drain(&mut concat), []);
        concat.completed(SubRequestId(2), Status::MediaError);
        let status = Status::Unavailable;
        assert_eq!(
            drain(&mut concat),
            [ConcatOutput::Complete {
                id: RequestId(7),
                status
            }]
        );
    }

    #[test]
    fn flushes_and_metadata_go_where_they_belong() {
        let mut concat = Concat::new([Blocks(4), Blocks(4)]);
        let flush = Request {
            operation: Operation::Flush,
            range: BlockRange::default(),
        };
        let mut groups = |area, request| {
            concat.submit(RequestId(1), area, request);
            let groups = drain(&mut concat).into_iter().map(|output| match output {
                ConcatOutput::Group { group, request, .. } => (group, request.range),
                other => panic!("{other:?}"),
            });
            groups.collect::<Vec<_>>()
        };
        let nothing = BlockRange::default();
        assert_eq!(
            Concat::new([Blocks(4)]).whole(Area::Data, flush),
            Some((0, flush))
        );
        assert_eq!(Concat::new([Blocks(4), Blocks(4)]).whole(Area::Data, flush), None);
        assert_eq!(groups(Area::Data, flush), [(0, nothing), (1, nothing)]);
        assert_eq!(groups(Area::Metadata, flush), [(0, nothing)]);
        assert_eq!(
            groups(Area::Metadata, read(100, 2)),
            [(0, BlockRange::new(100, 2))]
        );
        concat.submit(RequestId(70), Area::Data, read(4, 0));
        let status = Status::Invalid;
        assert_eq!(
            drain(&mut concat),
            [ConcatOutput::Complete {
                id: RequestId(70),
                status
            }]
        );
    }
}
