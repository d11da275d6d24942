//! Who asks owners for something, and what the answers must be.

use crate::mirror_world::disk::{fill, is_whole, token_of};
use crate::mirror_world::history::Handle;
use crate::world::*;
use block::thin::Area;
use block::{BlockRange, BufferSlice, Memory, Operation, Request, RequestId, Status};

impl World {
    /// Somebody asks something of an owner.
    pub(crate) fn client(&mut self) {
        if !self.faults {
            return;
        }
        let after = 20 + self.chance.below(1_500);
        self.at(after, Event::Client);
        let first = self.owners.len().saturating_sub(2) as u64;
        let owner = (first + self.chance.below(self.owners.len() as u64 - first)) as usize;
        // Writes that wait for the store do not keep others from reading.
        match self.owners[owner].asked.len() {
            _ if !self.owners[owner].alive => {}
            0..8 => self.ask(owner),
            8..16 => {
                let range = self.pick_range();
                self.ask_read(owner, range);
            }
            _ => {}
        }
    }

    pub(crate) fn pick_range(&mut self) -> BlockRange {
        let base = self.hot[self.chance.below(self.hot.len() as u64) as usize];
        let start = base + self.chance.below(4);
        BlockRange::new(start, 1 + self.chance.below(4))
    }

    pub(crate) fn ask(&mut self, owner: usize) {
        let range = self.pick_range();
        let durable = self.chance.once_in(6);
        match self.chance.below(20) {
            0..8 => self.ask_write(owner, range, durable),
            8..17 => self.ask_read(owner, range),
            17 => self.ask_zeroes(owner, range, Operation::Deallocate),
            18 => {
                let deallocate = self.chance.once_in(2);
                self.ask_zeroes(owner, range, Operation::WriteZeroes { deallocate, durable });
            }
            _ => {
                let began = self.history.tick();
                self.submit(
                    owner,
                    Operation::Flush,
                    BlockRange::default(),
                    Asked::Flush { began },
                );
            }
        }
    }

    pub(crate) fn ask_write(&mut self, owner: usize, range: BlockRange, durable: bool) {
        let token = (self.next_request + 1) << 8;
        let memory = &mut self.owners[owner].memory;
        let buffer = memory.payload(u32::try_from(range.length.bytes()).expect("short"));
        for at in 0..range.length.0 {
            let part = buffer.part(u32::try_from(at * 4096).expect("short"), 4096);
            fill(memory.bytes_mut(part), token + at);
        }
        let blocks = range.start.0..range.end().0;
        let handle = self
            .history
            .begin_write(blocks, |block| token + block - range.start.0);
        let buffer_kept = Some(buffer);
        let asked = Asked::Write {
            handle,
            buffer: buffer_kept,
            durable,
        };
        self.submit(owner, Operation::Write { buffer, durable }, range, asked);
    }

    pub(crate) fn ask_zeroes(&mut self, owner: usize, range: BlockRange, operation: Operation) {
        let durable = matches!(operation, Operation::WriteZeroes { durable: true, .. });
        let handle = self.history.begin_write(range.start.0..range.end().0, |_| 0);
        self.submit(
            owner,
            operation,
            range,
            Asked::Write {
                handle,
                buffer: None,
                durable,
            },
        );
    }

    pub(crate) fn ask_read(&mut self, owner: usize, range: BlockRange) {
        let memory = &mut self.owners[owner].memory;
        let buffer = memory.payload(u32::try_from(range.length.bytes()).expect("short"));
        let began = self.history.tick();
        self.submit(
            owner,
            Operation::Read { buffer },
            range,
            Asked::Read { range, buffer, began },
        );
    }

    /// Ranges are of the leg here; the group is asked by area.
    pub(crate) fn submit(&mut self, owner: usize, operation: Operation, range: BlockRange, asked: Asked) {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        let (metadata, data) = (self.geometry.metadata, self.geometry.data);
        let (area, start) = match operation {
            Operation::Flush => (Area::Data, 0),
            _ if metadata.overlaps(range) && range.end() <= metadata.end() => {
                (Area::Metadata, metadata.start.0)
            }
            _ => (Area::Data, data.start.0),
        };
        let Some(start) = range
            .start
            .0
            .checked_sub(start)
            .or((operation == Operation::Flush).then_some(0))
        else {
            panic!("{range:?} lies over the border of the areas");
        };
        let request = Request {
            operation,
            range: BlockRange::new(start, range.length.0),
        };
        self.log(|| format!("ASK {owner} {id:?} {area:?} {}", brief_request(&request)));
        let state = &mut self.owners[owner];
        state.asked.insert(id, asked);
        state
            .mirror
            .submit(self.now, id, area, request, &mut state.memory);
        self.drain(owner);
    }

    pub(crate) fn completed(&mut self, owner: usize, id: RequestId, status: Status) {
        let asked = self.owners[owner].asked.remove(&id).expect("asked once");
        assert!(
            !matches!(status, Status::Invalid | Status::OutOfRange | Status::OutOfSpace),
            "{status:?}"
        );
        let succeeded = status == Status::Success;
        self.counts.refused += u64::from(!succeeded);
        match asked {
            Asked::Read { range, buffer, began } => {
                if succeeded {
                    self.check_read(owner, range, buffer, began);
                }
                self.owners[owner].memory.release(buffer.buffer);
            }
            Asked::Write {
                handle,
                buffer,
                durable,
            } => {
                if succeeded {
                    self.counts.acknowledged += 1;
                    self.check_on_all_legs(owner, &handle);
                }
                let lone = self
                    .lone_since
                    .is_some_and(|since| self.now.since(since) > ms(20));
                self.history.end_write(&handle, succeeded, durable || lone);
                if let Some(buffer) = buffer {
                    // Whoever lent it may use it again, unless there is a newer owner.
                    if status != Status::StaleEpoch {
                        self.owners[owner].memory.bytes_mut(buffer).fill(0xdd);
                    }
                    self.owners[owner].memory.release(buffer.buffer);
                }
            }
            Asked::Flush { began } if succeeded => self.history.flushed(began),
            Asked::Flush { .. } => {}
        }
    }

    pub(crate) fn check_read(&mut self, owner: usize, range: BlockRange, buffer: BufferSlice, began: u64) {
        self.counts.read += 1;
        let newest_alone = !self.owners[..self.owners.len() - 1]
            .iter()
            .any(|owner| owner.alive);
        for at in 0..range.length.0 {
            let part = buffer.part(u32::try_from(at * 4096).expect("short"), 4096);
            let block = self.owners[owner].memory.bytes(part);
            assert!(
                is_whole(block),
                "two writes are mixed in block {}",
                range.start.0 + at
            );
            let (lba, token) = (range.start.0 + at, token_of(block));
            self.history
                .may_read(lba, began, token)
                .expect("a read returns what it may");
            if newest_alone {
                self.history.settle(lba, began, token);
            }
        }
    }

    /// R3: every leg of the recorded set has it.
    pub(crate) fn check_on_all_legs(&self, owner: usize, handle: &Handle) {
        for leg in &self.record.in_sync {
            if !self.disks[*leg].up || self.at_risk.contains_key(leg) {
                continue;
            }
            for (block, _) in handle {
                let token = self.disks[*leg].token(*block);
                assert!(
                    self.history.holds(handle, *block, token),
                    "owner {owner} acknowledged a write to block {block} that leg {leg} does not have"
                );
            }
        }
    }
}
