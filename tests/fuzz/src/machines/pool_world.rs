//! A thin pool over two platters, driven by hand.

use super::platter::Platter;
use crate::input::Input;
use crate::memory::Buffers;
use block::thin::{Area, Failure, Pool, PoolConfig, PoolOutput};
use block::{Blocks, Memory, Operation, Request, Status, SubRequestId, Time};

/// No story needs more events than this to come to rest.
const REST_AFTER: u32 = 20_000;

/// A request that the pool has made.
#[derive(Clone, Copy, Debug)]
pub struct Below {
    id: SubRequestId,
    area: Area,
    request: Request,
}

/// See the module.
#[derive(Debug)]
pub struct PoolWorld {
    /// What the pool is told.
    pub config: PoolConfig,
    /// Buffers.
    pub memory: Buffers,
    /// The metadata area.
    pub metadata: Platter,
    /// The data area.
    pub data: Platter,
    /// The pool.
    pub pool: Pool,
    /// What it waits for.
    pub queue: Vec<Below>,
    /// Now.
    pub now: Time,
    /// What it said that is no request, in order.
    pub said: Vec<PoolOutput>,
}

/// Eight extents of four blocks, and a journal of eight blocks.
pub fn small_config() -> PoolConfig {
    PoolConfig {
        pool: [0x77; 16],
        epoch: 1,
        extent: Blocks(4),
        metadata: Blocks(24),
        data: Blocks(34),
    }
}

impl PoolWorld {
    /// A pool that was just formatted, open.
    pub fn formatted() -> PoolWorld {
        let (config, mut memory, now) = (small_config(), Buffers::default(), Time::from_millis(1));
        let pool = Pool::format(config, now, &mut memory);
        let mut world = PoolWorld {
            config,
            memory,
            metadata: Platter::default(),
            data: Platter::default(),
            pool,
            queue: Vec::new(),
            now,
            said: Vec::new(),
        };
        world.drain();
        world.settle();
        assert_eq!(std::mem::take(&mut world.said), [PoolOutput::Formatted]);
        assert_eq!(world.open(), Ok(()), "what was just formatted opens");
        world
    }

    /// Forgets the pool, its buffers and its requests, and lets the next owner open what is on the platters.
    pub fn open(&mut self) -> Result<(), Failure> {
        self.config.epoch += 1;
        self.queue.clear();
        self.said.clear();
        self.memory = Buffers::default();
        self.pool = Pool::open(self.config, self.now, &mut self.memory);
        self.drain();
        self.settle_until(|said| matches!(said, PoolOutput::Opened | PoolOutput::OpenFailed { .. }));
        match self.said.pop() {
            Some(PoolOutput::Opened) => Ok(()),
            Some(PoolOutput::OpenFailed { reason }) => Err(reason),
            other => panic!("an opening ends one way or the other, not {other:?}"),
        }
    }

    /// Takes what the pool says, until it says no more.
    pub fn drain(&mut self) {
        while let Some(output) = self.pool.poll_output() {
            match output {
                PoolOutput::Below { id, area, request } => {
                    let length = match area {
                        Area::Metadata => self.config.metadata,
                        Area::Data => self.config.data,
                    };
                    assert!(
                        request.range.end().0 <= length.0,
                        "{request:?} is behind the end of {area:?}"
                    );
                    self.queue.push(Below { id, area, request });
                }
                PoolOutput::Zero { buffer } => self.memory.bytes_mut(buffer).fill(0),
                said => self.said.push(said),
            }
        }
    }

    fn execute(&mut self, below: &Below, keep: impl FnMut() -> bool) {
        let platter = match below.area {
            Area::Metadata => &mut self.metadata,
            Area::Data => &mut self.data,
        };
        platter.execute(&below.request, &mut self.memory, keep);
    }

    /// One of its requests is carried out and answered.
    pub fn answer(&mut self, index: usize) {
        let below = self.queue.remove(index);
        self.execute(&below, || true);
        self.tell(below, Status::Success);
    }

    /// One of its requests ends badly, with some of its sectors there. Reads and flushes do nothing then.
    pub fn fail(&mut self, index: usize, status: Status, keep: impl FnMut() -> bool) {
        let below = self.queue.remove(index);
        if below.request.operation.modifies() {
            self.execute(&below, keep);
        }
        self.tell(below, status);
    }

    fn tell(&mut self, below: Below, status: Status) {
        self.pool
            .below_completed(self.now, below.id, status, &mut self.memory);
        self.drain();
    }

    /// Time passes to what is due; false if nothing is.
    pub fn tick(&mut self) -> bool {
        let Some(due) = self.pool.next_timeout() else {
            return false;
        };
        self.now = self.now.max(due);
        self.pool.handle_timeout(self.now, &mut self.memory);
        self.drain();
        true
    }

    /// Everything is answered well until nothing happens any more.
    pub fn settle(&mut self) {
        self.settle_until(|_| false);
    }

    fn settle_until(&mut self, wanted: impl Fn(&PoolOutput) -> bool) {
        for _ in 0..REST_AFTER {
            if self.said.last().is_some_and(&wanted) {
                return;
            }
            match self.queue.is_empty() {
                false => self.answer(0),
                true if self.tick() => {}
                true => return,
            }
        }
        panic!("the pool never comes to rest");
    }

    /// The power fails: what is in flight and what is in the caches gets there or not, sector by sector.
    pub fn cut(&mut self, input: &mut Input<'_>) {
        let mut keep = chances(input);
        for below in std::mem::take(&mut self.queue) {
            let operation = match below.request.operation {
                // It was not answered, so nothing of it need be durable.
                Operation::Write { buffer, .. } => Operation::Write {
                    buffer,
                    durable: false,
                },
                Operation::WriteZeroes { deallocate, .. } => Operation::WriteZeroes {
                    deallocate,
                    durable: false,
                },
                _ => continue,
            };
            let request = Request {
                operation,
                ..below.request
            };
            self.execute(&Below { request, ..below }, || true);
        }
        self.metadata.cut(&mut keep);
        self.data.cut(&mut keep);
    }
}

/// Yes and no, over and over, as two bytes of the input say.
pub fn chances(input: &mut Input<'_>) -> impl FnMut() -> bool + use<> {
    let (pattern, mut turn) = (input.half(), 0);
    move || {
        turn = (turn + 1) % 16;
        pattern >> turn & 1 == 1
    }
}
