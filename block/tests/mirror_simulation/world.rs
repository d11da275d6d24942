//! The world of one life: disks, links, owners, a store, and what happens next.

use crate::mirror_world::disk::Disk;
use crate::mirror_world::history::{AtRisk, Handle, History};
use crate::mirror_world::{Buffers, Chance};
use block::leg_format::LegGeometry;
use block::mirror::{GroupChange, MembershipOutcome, Mirror, MirrorOutput};
use block::{
    BlockRange, Blocks, BufferSlice, Duration, Memory, Operation, Request, RequestId, Status, SubRequestId,
    Time, Tuning,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

pub(crate) const LEG_BLOCKS: u64 = 2304 + 1024;
pub(crate) const GROUP: [u8; 16] = [0xaa; 16];

pub(crate) fn leg_id(leg: usize) -> [u8; 16] {
    [leg as u8 + 1; 16]
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn tuning() -> Tuning {
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A request is executed by a leg.
    Execute(usize, usize, u64, SubRequestId),
    /// Its answer arrives.
    Answer(usize, usize, u64, SubRequestId),
    Store(usize),
    Attach(usize, usize),
    Break(usize, usize),
    PowerUp(usize),
    Client,
    Fault,
    Grant,
    Kill(usize),
}

/// A request at a leg, from an owner.
#[derive(Debug)]
pub(crate) struct AtLeg {
    pub(crate) leg: usize,
    pub(crate) request: Request,
    pub(crate) answer: Option<Status>,
}

#[derive(Debug)]
pub(crate) enum Asked {
    Read {
        range: BlockRange,
        buffer: BufferSlice,
        began: u64,
    },
    Write {
        handle: Handle,
        buffer: Option<BufferSlice>,
        durable: bool,
    },
    Flush {
        began: u64,
    },
}

pub(crate) struct Link {
    pub(crate) attached: bool,
    pub(crate) generation: u64,
    /// Its owner may be about to take the leg out of the set.
    pub(crate) doubted: bool,
    pub(crate) cut: bool,
}

pub(crate) struct Owner {
    pub(crate) mirror: Mirror,
    pub(crate) memory: Buffers,
    pub(crate) epoch: u64,
    pub(crate) alive: bool,
    /// From the store.
    pub(crate) cut_off: bool,
    pub(crate) links: Vec<Link>,
    pub(crate) at_legs: BTreeMap<SubRequestId, AtLeg>,
    pub(crate) asked: BTreeMap<RequestId, Asked>,
    pub(crate) change: Option<(u64, GroupChange)>,
    pub(crate) opened: bool,
    pub(crate) fenced: bool,
    pub(crate) closed: bool,
}

/// What the store knows.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) epoch: u64,
    pub(crate) formatted: bool,
    pub(crate) in_sync: BTreeSet<usize>,
}

pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) geometry: LegGeometry,
    pub(crate) now: Time,
    pub(crate) order: u64,
    pub(crate) queue: BinaryHeap<Reverse<(Time, u64, Event)>>,
    pub(crate) disks: Vec<Disk>,
    pub(crate) at_risk: BTreeMap<usize, (u64, AtRisk)>,
    pub(crate) owners: Vec<Owner>,
    pub(crate) record: Record,
    pub(crate) history: History,
    /// Since when one leg is recorded alone: its owner makes every write durable.
    pub(crate) lone_since: Option<Time>,
    pub(crate) faults: bool,
    pub(crate) next_request: u64,
    pub(crate) hot: Vec<u64>,
    pub(crate) counts: Counts,
    pub(crate) trace: bool,
}

/// What happened: a simulation in which nothing happens proves nothing.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) acknowledged: u64,
    pub(crate) read: u64,
    pub(crate) refused: u64,
    pub(crate) shrunk: u64,
    pub(crate) grown: u64,
    pub(crate) takeovers: u64,
    pub(crate) zombies: u64,
    pub(crate) power_cuts: u64,
    pub(crate) blanks: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut chance = Chance::new(seed);
        let legs = [1, 2, 2, 2, 3][chance.below(5) as usize];
        let geometry = LegGeometry::for_length(Blocks(LEG_BLOCKS)).expect("long enough");
        let mut hot = vec![
            geometry.metadata.start.0,
            geometry.data.start.0,
            geometry.data.end().0 - 8,
        ];
        for _ in 0..3 {
            hot.push(geometry.data.start.0 + chance.below(geometry.data.length.0 - 8));
        }
        // Over the border of two regions.
        hot.push(geometry.region_range(10).start.0 - 2);
        World {
            geometry,
            now: Time::ZERO,
            order: 0,
            queue: BinaryHeap::new(),
            disks: (0..legs).map(|_| Disk::new()).collect(),
            at_risk: BTreeMap::new(),
            owners: Vec::new(),
            record: Record {
                epoch: 0,
                formatted: false,
                in_sync: BTreeSet::new(),
            },
            history: History::default(),
            lone_since: None,
            faults: true,
            next_request: 0,
            hot,
            counts: Counts::default(),
            trace: std::env::var("TRACE").is_ok(),
            chance,
        }
    }

    pub(crate) fn log(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>10} {}", self.now.0 / 1000, what());
        }
    }

    pub(crate) fn at(&mut self, after_us: u64, event: Event) {
        self.order += 1;
        let time = self.now + Duration::from_micros(after_us);
        self.queue.push(Reverse((time, self.order, event)));
    }

    pub(crate) fn latency(&mut self) -> u64 {
        if self.faults && self.chance.once_in(600) {
            return 20_000 + self.chance.below(200_000);
        }
        30 + self
            .chance
            .below(if self.chance.clone().once_in(4) { 1500 } else { 200 })
    }

    pub(crate) fn attach(&mut self, owner: usize, leg: usize) {
        let state = &mut self.owners[owner];
        if !state.alive || state.links[leg].attached || state.fenced || state.closed {
            return;
        }
        let reachable = !state.links[leg].cut && self.disks[leg].up;
        if !reachable {
            let after = 2_000 + self.chance.below(20_000);
            self.at(after, Event::Attach(owner, leg));
        } else if self.disks[leg].epoch <= state.epoch {
            self.disks[leg].epoch = state.epoch;
            state.links[leg].attached = true;
            state.links[leg].generation += 1;
            state.mirror.leg_attached(self.now, leg, &mut state.memory);
            self.log(|| format!("ATTACHED {owner}.{leg}"));
            self.drain(owner);
        }
    }

    pub(crate) fn drain(&mut self, owner: usize) {
        while let Some(output) = self.owners[owner].mirror.poll_output() {
            self.log(|| format!("  {owner}: {}", brief(&output)));
            match output {
                MirrorOutput::Leg { leg, id, request } => self.sent(owner, leg, id, request),
                MirrorOutput::LegSuspect { leg } => {
                    self.owners[owner].links[leg].doubted = true;
                    let after = self.latency();
                    self.at(after, Event::Break(owner, leg));
                }
                MirrorOutput::LegRefused { reason, .. } => panic!("{reason}"),
                MirrorOutput::Complete { id, status } => self.completed(owner, id, status),
                MirrorOutput::Membership(change) => {
                    let tick = self.history.tick();
                    let before = self.owners[owner].change.replace((tick, change));
                    assert!(before.is_none(), "one membership request at a time");
                    let away = self.faults && (self.owners[owner].cut_off || self.chance.once_in(8));
                    let after = self.latency() + if away { self.chance.below(300_000) } else { 0 };
                    self.at(after, Event::Store(owner));
                }
                MirrorOutput::Opened => self.owners[owner].opened = true,
                MirrorOutput::OpenFailed { reason } => panic!("{reason}"),
                MirrorOutput::Closed => self.owners[owner].closed = true,
                MirrorOutput::Fenced => self.owners[owner].fenced = true,
            }
        }
    }

    pub(crate) fn sent(&mut self, owner: usize, leg: usize, id: SubRequestId, request: Request) {
        let state = &mut self.owners[owner];
        assert!(!state.fenced && !state.closed, "sent by one that has ended");
        assert!(state.links[leg].attached, "sent to a leg that is not attached");
        retain_payload(request, &mut state.memory);
        let generation = state.links[leg].generation;
        let at = AtLeg {
            leg,
            request,
            answer: None,
        };
        state.at_legs.insert(id, at);
        let after = self.latency();
        self.at(after, Event::Execute(owner, leg, generation, id));
    }

    pub(crate) fn execute(&mut self, owner: usize, leg: usize, generation: u64, id: SubRequestId) {
        let state = &mut self.owners[owner];
        if state.links[leg].generation != generation {
            return;
        }
        let Some(at) = state.at_legs.get_mut(&id) else {
            return;
        };
        let fails = self.faults && self.chance.once_in(1500);
        at.answer = Some(if self.disks[leg].epoch > state.epoch {
            Status::StaleEpoch
        } else if fails {
            self.history.unsettle();
            state.links[leg].doubted = true;
            if self.chance.once_in(2) && at.request.operation.modifies() {
                self.disks[leg].execute(at.request, &mut state.memory);
            }
            Status::MediaError
        } else {
            self.disks[leg].execute(at.request, &mut state.memory);
            Status::Success
        });
        let after = self.latency();
        self.at(after, Event::Answer(owner, leg, generation, id));
    }

    pub(crate) fn answer(&mut self, owner: usize, leg: usize, generation: u64, id: SubRequestId) {
        let state = &mut self.owners[owner];
        if state.links[leg].generation != generation {
            return;
        }
        let at = state.at_legs.remove(&id).expect("executed");
        release_payload(at.request, &mut state.memory);
        let status = at.answer.expect("executed");
        state
            .mirror
            .leg_completed(self.now, id, status, &mut state.memory);
        self.drain(owner);
    }

    pub(crate) fn store(&mut self, owner: usize) {
        let state = &mut self.owners[owner];
        if !state.alive {
            return;
        }
        let (asked_at, change) = state.change.take().expect("asked");
        let outcome = if self.record.epoch != state.epoch {
            MembershipOutcome::StaleEpoch
        } else {
            self.commit(asked_at, change);
            MembershipOutcome::Committed
        };
        self.log(|| format!("STORE {owner} {outcome:?} {:?}", self.record));
        let state = &mut self.owners[owner];
        state
            .mirror
            .membership_answer(self.now, outcome, &mut state.memory);
        self.drain(owner);
    }

    pub(crate) fn commit(&mut self, asked_at: u64, change: GroupChange) {
        let before = self.record.in_sync.clone();
        match change {
            GroupChange::Formatted => {
                assert!(!self.record.formatted, "formatted twice (R9)");
                self.record.formatted = true;
                self.record.in_sync = (0..self.disks.len()).collect();
            }
            GroupChange::InSync(legs) => {
                assert!(!legs.is_empty() && self.record.formatted, "a set is never empty");
                self.record.in_sync = legs.iter().map(|leg| usize::from(leg[0]) - 1).collect();
            }
        }
        self.counts.shrunk += u64::from(before.len() > self.record.in_sync.len());
        self.counts.grown += u64::from(self.record.formatted && before.len() < self.record.in_sync.len());
        let in_sync = self.record.in_sync.clone();
        for leg in 0..self.disks.len() {
            let (was, is) = (before.contains(&leg), in_sync.contains(&leg));
            if is && !was {
                self.owners.last_mut().expect("granted").links[leg].doubted = false;
            }
            let old = self.at_risk.get(&leg).is_some_and(|(cut, _)| *cut < asked_at);
            if (was && !is) || (is && !was && old) {
                self.at_risk.remove(&leg);
            }
        }
        self.lone_since = (in_sync.len() == 1).then_some(self.lone_since.unwrap_or(self.now));
        if let [only] = in_sync.iter().copied().collect::<Vec<_>>()[..] {
            self.lose(only);
        }
    }

    pub(crate) fn step(&mut self) {
        let timers = self.owners.iter().enumerate().filter(|(_, owner)| owner.alive);
        let timer = timers
            .filter_map(|(index, owner)| Some((owner.mirror.next_timeout()?, index)))
            .min();
        let next = self.queue.peek().map(|Reverse((time, _, _))| *time);
        match timer {
            Some((at, owner)) if next.is_none_or(|next| at < next) => {
                let idle = at <= self.now;
                self.now = self.now.max(at);
                let state = &mut self.owners[owner];
                state.mirror.handle_timeout(self.now, &mut state.memory);
                assert!(
                    !idle || state.mirror.next_timeout().is_none_or(|next| next > self.now),
                    "a timer that does not move on"
                );
                self.drain(owner);
            }
            _ => {
                let Reverse((time, _, event)) = self.queue.pop().expect("something is always to come");
                self.now = time;
                self.happens(event);
            }
        }
    }

    pub(crate) fn happens(&mut self, event: Event) {
        match event {
            Event::Execute(owner, leg, generation, id) => self.execute(owner, leg, generation, id),
            Event::Answer(owner, leg, generation, id) => self.answer(owner, leg, generation, id),
            Event::Store(owner) => self.store(owner),
            Event::Attach(owner, leg) => self.attach(owner, leg),
            Event::Break(owner, leg) => self.break_link(owner, leg),
            Event::PowerUp(leg) => self.disks[leg].up = true,
            Event::Client => self.client(),
            Event::Fault => self.fault(),
            Event::Grant if self.faults => {
                self.grant();
                let after = 100_000 + self.chance.below(400_000);
                self.at(after, Event::Grant);
            }
            Event::Grant => {}
            Event::Kill(owner) => self.kill(owner),
        }
    }
}

pub(crate) fn payload(request: Request) -> Option<BufferSlice> {
    match request.operation {
        Operation::Read { buffer } | Operation::Write { buffer, .. } => Some(buffer),
        _ => None,
    }
}

pub(crate) fn retain_payload(request: Request, memory: &mut Buffers) {
    if let Some(buffer) = payload(request) {
        memory.retain(buffer.buffer);
    }
}

pub(crate) fn release_payload(request: Request, memory: &mut Buffers) {
    if let Some(buffer) = payload(request) {
        memory.release(buffer.buffer);
    }
}

pub(crate) fn brief_request(request: &Request) -> String {
    let name = match request.operation {
        Operation::Read { .. } => "read",
        Operation::Write { durable: true, .. } => "write!",
        Operation::Write { .. } => "write",
        Operation::Flush => "flush",
        Operation::WriteZeroes { .. } => "zero",
        Operation::Deallocate => "free",
    };
    format!("{name} {}+{}", request.range.start.0, request.range.length.0)
}

pub(crate) fn brief(output: &MirrorOutput) -> String {
    match output {
        MirrorOutput::Leg { leg, id, request } => {
            format!("to leg {leg} #{} {}", id.0, brief_request(request))
        }
        other => format!("{other:?}"),
    }
}
