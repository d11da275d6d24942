//! A group of mirrored legs whose legs answer, fail, go away and come back in any order, under one owner after the other.
//!
//! Oracle: a write is acknowledged only when every leg of the recorded set has it (R3); a read returns what was acknowledged last or
//! is in doubt; after a kill of the owner, or a power cut of everything, what was read once is read again (R6), and what was flushed
//! is there (R12); when all is quiet the legs of the set are equal, and nobody holds a buffer.

use super::leg_disk::{Disk, part};
use super::pool_world::chances;
use crate::input::Input;
use crate::memory::Buffers;
use block::leg_format::LegGeometry;
use block::mirror::{
    GroupChange, GroupConfig, LegConfig, MembershipOutcome, Mirror, MirrorConfig, MirrorOutput,
};
use block::thin::Area;
use block::{
    BLOCK_SIZE, BlockRange, Blocks, BufferSlice, Duration, Memory, Operation, Request, RequestId, Status,
    SubRequestId, Time, Tuning,
};
use std::collections::{BTreeMap, BTreeSet};

const LEG_BLOCKS: u64 = 2304 + 512;
const LEGS: usize = 3;
const OPERATIONS_MAX: u32 = 160;
/// Blocks of the data area that are used: at the start, over a border of regions, at the end.
const PLACES: [u64; 4] = [0, 250, 253, 504];

#[derive(Clone, Debug)]
struct Cell {
    values: Vec<u8>,
    acknowledged: usize,
    durable: usize,
}

#[derive(Debug)]
enum Pending {
    Write {
        start: u64,
        length: u64,
        durable: bool,
        fill: u8,
        buffer: Option<BufferSlice>,
    },
    Read {
        start: u64,
        buffer: BufferSlice,
        floors: Vec<usize>,
    },
    Flush {
        floors: BTreeMap<u64, usize>,
    },
}

#[derive(Debug)]
struct Story {
    geometry: LegGeometry,
    now: Time,
    epoch: u64,
    formatted: bool,
    in_sync: BTreeSet<usize>,
    mirror: Mirror,
    memory: Buffers,
    disks: Vec<Disk>,
    attached: [bool; LEGS],
    at_legs: Vec<(usize, SubRequestId, Request)>,
    change: Option<GroupChange>,
    /// It has ended: fenced, closed, or it could not open.
    over: bool,
    cells: BTreeMap<u64, Cell>,
    pending: BTreeMap<u64, Pending>,
    last_id: u64,
    fill: u8,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn tuning() -> Tuning {
    Tuning {
        lease: Some(ms(60)),
        clock_margin: ms(5),
        give_up_after: ms(40),
        leg_timeout: ms(80),
        unavailable_after: ms(120),
        rejoin_after: ms(5),
        bitmap_quiet: ms(15),
        bitmap_quiet_max: ms(30),
        resync_step: Blocks(100),
        resync_pause: Duration::from_micros(200),
        read_run: 1,
    }
}

fn leg_id(leg: usize) -> [u8; 16] {
    [leg as u8 + 1; 16]
}

fn config(epoch: u64, formatted: bool, in_sync: &BTreeSet<usize>) -> MirrorConfig {
    let leg = |leg: usize| LegConfig {
        leg: leg_id(leg),
        length: Blocks(LEG_BLOCKS),
        in_sync: in_sync.contains(&leg),
    };
    MirrorConfig {
        pool: [1; 16],
        slice: [2; 16],
        epoch,
        group: GroupConfig {
            group: [0xaa; 16],
            formatted,
            legs: (0..LEGS).map(leg).collect(),
        },
        tuning: tuning(),
    }
}

/// One input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let none = BTreeSet::new();
    let mut story = Story {
        geometry: LegGeometry::for_length(Blocks(LEG_BLOCKS)).expect("long enough"),
        now: Time::ZERO,
        epoch: 1,
        formatted: false,
        in_sync: none.clone(),
        mirror: Mirror::new(config(1, false, &none), Time::ZERO).expect("it is right"),
        memory: Buffers::default(),
        disks: (0..LEGS).map(|_| Disk::default()).collect(),
        attached: [false; LEGS],
        at_legs: Vec::new(),
        change: None,
        over: false,
        cells: BTreeMap::new(),
        pending: BTreeMap::new(),
        last_id: 0,
        fill: 0,
    };
    story.serve(ms(50));
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        story.step(&mut input);
    }
    story.end();
}

impl Story {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(18) {
            0..=3 => self.write(input),
            4..=5 => self.read(input),
            6 => self.flush(),
            7..=9 if !self.at_legs.is_empty() => {
                self.answer(input.below(self.at_legs.len()), Status::Success, true)
            }
            10 if !self.at_legs.is_empty() => {
                const HOW: [Status; 3] = [Status::MediaError, Status::Unavailable, Status::StaleEpoch];
                let (index, status) = (input.below(self.at_legs.len()), HOW[input.below(HOW.len())]);
                self.answer(index, status, input.flag());
            }
            11 => self.lose(input.below(LEGS), input),
            12 => self.attach(input.below(LEGS)),
            13 => self.commit(),
            14 => self.tick(),
            15 => self.serve(ms(u64::from(input.byte()))),
            16 => self.memory.refuse = input.below(3) as u32,
            _ => self.succeed(input),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.mirror.poll_output() {
            match output {
                MirrorOutput::Leg { leg, id, request } => {
                    assert!(self.attached[leg] && !self.over, "leg {leg} is not attached");
                    assert!(request.range.end().0 <= LEG_BLOCKS);
                    if let Operation::Read { buffer } | Operation::Write { buffer, .. } = request.operation {
                        self.memory.retain(buffer.buffer);
                    }
                    self.at_legs.push((leg, id, request));
                }
                MirrorOutput::Complete { id, status } => self.completed(id.0, status),
                MirrorOutput::Membership(change) => {
                    assert!(self.change.replace(change).is_none(), "one change at a time");
                }
                MirrorOutput::LegSuspect { .. } | MirrorOutput::LegRefused { .. } | MirrorOutput::Opened => {}
                MirrorOutput::OpenFailed { .. } | MirrorOutput::Closed | MirrorOutput::Fenced => {
                    self.over = true
                }
            }
        }
    }

    fn let_go(&mut self, request: Request) {
        if let Operation::Read { buffer } | Operation::Write { buffer, .. } = request.operation {
            self.memory.release(buffer.buffer);
        }
    }

    fn answer(&mut self, index: usize, status: Status, executed: bool) {
        let (leg, id, request) = self.at_legs.remove(index);
        if executed && (status == Status::Success || request.operation.modifies()) {
            self.disks[leg].execute(request, &mut self.memory);
        }
        self.let_go(request);
        self.mirror.leg_completed(self.now, id, status, &mut self.memory);
        self.drain();
    }

    fn attach(&mut self, leg: usize) {
        if !self.attached[leg] && !self.over {
            self.attached[leg] = true;
            self.mirror.leg_attached(self.now, leg, &mut self.memory);
            self.drain();
        }
    }

    /// What was on its way to a leg gets there or does not, and nobody learns.
    fn lose(&mut self, leg: usize, input: &mut Input<'_>) {
        if !self.attached[leg] {
            return;
        }
        let mut gets_there = chances(input);
        for (at, id, request) in std::mem::take(&mut self.at_legs) {
            if at != leg {
                self.at_legs.push((at, id, request));
                continue;
            }
            if gets_there() && request.operation.modifies() {
                self.disks[leg].execute(request, &mut self.memory);
            }
            self.let_go(request);
        }
        self.attached[leg] = false;
        self.mirror.leg_lost(self.now, leg, &mut self.memory);
        self.drain();
    }

    /// The store records what was asked for.
    fn commit(&mut self) {
        let Some(change) = self.change.take() else { return };
        match change {
            GroupChange::Formatted => {
                assert!(
                    !std::mem::replace(&mut self.formatted, true),
                    "formatted twice (R9)"
                );
                self.in_sync = (0..LEGS).collect();
            }
            GroupChange::InSync(legs) => {
                assert!(self.formatted && !legs.is_empty(), "a set is never empty");
                self.in_sync = legs.iter().map(|leg| usize::from(leg[0]) - 1).collect();
            }
        }
        self.mirror
            .membership_answer(self.now, MembershipOutcome::Committed, &mut self.memory);
        self.drain();
    }

    fn tick(&mut self) {
        if let Some(due) = self.mirror.next_timeout() {
            self.now = self.now.max(due);
            self.mirror.handle_timeout(self.now, &mut self.memory);
            self.drain();
        }
    }

    /// Everybody does what he should, for a while.
    fn serve(&mut self, time: Duration) {
        let until = self.now + time;
        (0..LEGS).for_each(|leg| self.attach(leg));
        loop {
            if !self.at_legs.is_empty() {
                self.answer(0, Status::Success, true);
            } else if self.change.is_some() {
                self.commit();
            } else if self.mirror.next_timeout().is_some_and(|due| due <= until) {
                self.tick();
            } else {
                break;
            }
        }
        self.now = self.now.max(until);
    }

    fn cell(&mut self, block: u64) -> &mut Cell {
        self.cells.entry(block).or_insert_with(|| Cell {
            values: vec![0],
            acknowledged: 0,
            durable: 0,
        })
    }

    fn place(&self, input: &mut Input<'_>) -> (u64, u64) {
        let start = PLACES[input.below(PLACES.len())] + input.below(4) as u64;
        (start, 1 + input.below(4) as u64)
    }

    fn is_written(&self, start: u64, length: u64) -> bool {
        self.pending.values().any(|pending| match pending {
            Pending::Write {
                start: busy,
                length: long,
                ..
            } => *busy < start + length && start < busy + long,
            _ => false,
        })
    }

    fn write(&mut self, input: &mut Input<'_>) {
        let (kind, (start, length)) = (input.below(4), self.place(input));
        if self.is_written(start, length) {
            return;
        }
        self.fill = self.fill % 250 + 1;
        let durable = kind == 1;
        let (operation, fill, buffer) = match kind {
            2 => (
                Operation::WriteZeroes {
                    deallocate: false,
                    durable,
                },
                0,
                None,
            ),
            _ => {
                let buffer = self.memory.filled(length as u32 * BLOCK_SIZE, self.fill);
                (Operation::Write { buffer, durable }, self.fill, Some(buffer))
            }
        };
        (start..start + length).for_each(|block| self.cell(block).values.push(fill));
        self.submit(
            operation,
            start,
            length,
            Pending::Write {
                start,
                length,
                durable,
                fill,
                buffer,
            },
        );
    }

    fn read(&mut self, input: &mut Input<'_>) {
        let (start, length) = self.place(input);
        self.read_range(start, length);
    }

    fn read_range(&mut self, start: u64, length: u64) {
        let floors = (start..start + length)
            .map(|block| self.cell(block).acknowledged)
            .collect();
        let buffer = self.memory.filled(length as u32 * BLOCK_SIZE, 0xee);
        self.submit(
            Operation::Read { buffer },
            start,
            length,
            Pending::Read {
                start,
                buffer,
                floors,
            },
        );
    }

    fn flush(&mut self) {
        let floors = self
            .cells
            .iter()
            .map(|(block, cell)| (*block, cell.acknowledged))
            .collect();
        self.submit(Operation::Flush, 0, 0, Pending::Flush { floors });
    }

    fn submit(&mut self, operation: Operation, start: u64, length: u64, pending: Pending) {
        self.last_id += 1;
        self.pending.insert(self.last_id, pending);
        let (id, range) = (RequestId(self.last_id), BlockRange::new(start, length));
        let request = Request { operation, range };
        self.mirror
            .submit(self.now, id, Area::Data, request, &mut self.memory);
        self.drain();
    }

    fn completed(&mut self, id: u64, status: Status) {
        let pending = self.pending.remove(&id).expect("every request ends once");
        let succeeded = status == Status::Success;
        match pending {
            Pending::Write {
                start,
                length,
                durable,
                fill,
                buffer,
            } => {
                if succeeded {
                    self.acknowledged(start, length, durable, fill);
                }
                if let Some(buffer) = buffer {
                    self.memory.release(buffer.buffer);
                }
            }
            Pending::Read {
                start,
                buffer,
                floors,
            } => {
                if succeeded {
                    for (index, floor) in floors.into_iter().enumerate() {
                        let value = self.memory.bytes(part(buffer, index as u64))[0];
                        let block = start + index as u64;
                        let may = &self.cells[&block].values[floor..];
                        assert!(
                            may.contains(&value),
                            "block {block} reads {value}, may be {may:?}"
                        );
                    }
                }
                self.memory.release(buffer.buffer);
            }
            Pending::Flush { floors } => {
                for (block, floor) in floors.into_iter().filter(|_| succeeded) {
                    let cell = self.cell(block);
                    cell.durable = cell.durable.max(floor);
                }
            }
        }
    }

    fn acknowledged(&mut self, start: u64, length: u64, durable: bool, fill: u8) {
        for block in start..start + length {
            let lba = self.geometry.data.start.0 + block;
            for leg in &self.in_sync {
                let there = self.disks[*leg].fill(lba);
                assert_eq!(
                    there, fill,
                    "leg {leg} is in the set, and has not block {block} (R3)"
                );
            }
            let cell = self.cell(block);
            cell.acknowledged = cell.values.len() - 1;
            if durable {
                cell.durable = cell.acknowledged;
            }
        }
    }

    /// The owner dies, perhaps with everybody's power; the next one takes over.
    fn succeed(&mut self, input: &mut Input<'_>) {
        let (power, mut gets_there) = (input.flag(), chances(input));
        for (leg, _, request) in std::mem::take(&mut self.at_legs) {
            if gets_there() && request.operation.modifies() {
                self.disks[leg].execute(request, &mut self.memory);
            }
        }
        if power {
            self.disks.iter_mut().for_each(|disk| disk.cut(&mut gets_there));
        }
        for cell in self.cells.values_mut().filter(|_| power) {
            cell.acknowledged = cell.durable;
        }
        self.pending.clear();
        self.memory = Buffers::default();
        (self.change, self.over, self.attached) = (None, false, [false; LEGS]);
        self.epoch += 1;
        let config = config(self.epoch, self.formatted, &self.in_sync);
        self.mirror = Mirror::new(config, self.now).expect("it is right");
        self.drain();
        self.serve(ms(200));
        if self.mirror.is_serving() {
            self.look_back();
        }
    }

    /// What is read now is what is there from now on, whichever leg is asked.
    fn look_back(&mut self) {
        let blocks: Vec<u64> = self.cells.keys().copied().collect();
        for block in blocks {
            self.last_id += 1;
            let buffer = self.memory.filled(BLOCK_SIZE, 0xee);
            let request = Request {
                operation: Operation::Read { buffer },
                range: BlockRange::new(block, 1),
            };
            let floors = vec![self.cells[&block].acknowledged];
            self.memory.retain(buffer.buffer);
            self.pending.insert(
                self.last_id,
                Pending::Read {
                    start: block,
                    buffer,
                    floors,
                },
            );
            self.mirror.submit(
                self.now,
                RequestId(self.last_id),
                Area::Data,
                request,
                &mut self.memory,
            );
            self.drain();
            self.serve(ms(1));
            let read = !self.pending.contains_key(&self.last_id);
            if read {
                let value = self.memory.bytes(buffer)[0];
                self.cells.insert(
                    block,
                    Cell {
                        values: vec![value],
                        acknowledged: 0,
                        durable: 0,
                    },
                );
            }
            self.memory.release(buffer.buffer);
        }
    }

    /// Everybody does what he should for long enough; then all is equal.
    fn end(mut self) {
        self.memory.refuse = 0;
        if self.over {
            self.succeed(&mut Input::new(&[]));
        }
        (0..LEGS).for_each(|leg| self.lose(leg, &mut Input::new(&[])));
        self.serve(ms(3000));
        if !self.mirror.is_serving() {
            return;
        }
        assert!(self.pending.is_empty(), "never ended: {:?}", self.pending);
        assert_eq!(self.in_sync.len(), LEGS, "everybody is back in the set");
        let blocks: Vec<u64> = self.cells.keys().copied().collect();
        for block in blocks {
            let lba = self.geometry.data.start.0 + block;
            let fills: BTreeSet<u8> = self.disks.iter().map(|disk| disk.fill(lba)).collect();
            assert_eq!(fills.len(), 1, "block {block} differs between legs (R11)");
            self.read_range(block, 1);
        }
        self.serve(ms(100));
        self.mirror.close(self.now, &mut self.memory);
        self.drain();
        self.serve(ms(1000));
        assert!(self.mirror.is_closed() && self.pending.is_empty());
        assert_eq!(self.memory.held(), 0, "buffers are held by nobody");
    }
}
