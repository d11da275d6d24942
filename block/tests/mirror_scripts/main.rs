//! Scripts of a group: what it says to legs and store, in which order, and every refusal. Requests to legs wait until the
//! script lets them be executed; the store waits until the script answers.
//!
//! Lines: `A: write 2304+1` is a request to leg A (in blocks of the leg), `ask A B` asks the store to record that set,
//! `done 1 Success` ends request 1.
#[path = "../mirror_world/mod.rs"]
mod mirror_world;

mod leases;
mod marks;
mod opening;
mod requests;
mod resync;
mod steady;

use block::leg_format::{LegGeometry, Superblock};
use block::mirror::{
    GroupChange, GroupConfig, LegConfig, MembershipOutcome, Mirror, MirrorConfig, MirrorOutput,
};
use block::thin::Area;
use block::{
    BlockRange, Blocks, Duration, Memory, Operation, Request, RequestId, Status, SubRequestId, Time, Tuning,
};
use mirror_world::Buffers;
use mirror_world::disk::{Disk, fill};

const LEG_BLOCKS: u64 = 4096;
/// The first block of data on a leg.
const DATA: u64 = 2304;

fn leg_id(leg: usize) -> [u8; 16] {
    [leg as u8 + 1; 16]
}

fn name(leg: usize) -> char {
    (b'A' + leg as u8) as char
}

fn tuning() -> Tuning {
    Tuning {
        lease: Some(Duration::from_secs(3)),
        read_run: 1,
        ..Tuning::default()
    }
}

struct Bench {
    mirror: Mirror,
    memory: Buffers,
    disks: Vec<Disk>,
    now: Time,
    waiting: Vec<(usize, SubRequestId, Request)>,
    lines: Vec<String>,
    next_request: u64,
}

fn config(epoch: u64, formatted: bool, in_sync: &[bool]) -> MirrorConfig {
    let leg = |(leg, in_sync): (usize, &bool)| LegConfig {
        leg: leg_id(leg),
        length: Blocks(LEG_BLOCKS),
        in_sync: *in_sync,
    };
    MirrorConfig {
        pool: [0xc0; 16],
        slice: [0xb0; 16],
        epoch,
        group: GroupConfig {
            group: [0xa0; 16],
            formatted,
            legs: in_sync.iter().enumerate().map(leg).collect(),
        },
        tuning: tuning(),
    }
}

impl Bench {
    fn over(disks: Vec<Disk>, epoch: u64, formatted: bool, in_sync: &[bool]) -> Bench {
        Bench {
            mirror: Mirror::new(config(epoch, formatted, in_sync), Time::ZERO).expect("sound"),
            memory: Buffers::default(),
            disks,
            now: Time::ZERO,
            waiting: Vec::new(),
            lines: Vec::new(),
            next_request: 0,
        }
    }

    /// A group that was just formatted and serves.
    fn serving(legs: usize) -> Bench {
        let disks = (0..legs).map(|_| Disk::new()).collect();
        let mut bench = Bench::over(disks, 1, false, &vec![true; legs]);
        bench.attach_all();
        bench.settle();
        bench.committed();
        bench.settle();
        assert!(bench.mirror.is_serving());
        bench.lines.clear();
        bench
    }

    /// The owner is gone; another opens what it left.
    fn reopened(self, in_sync: &[bool]) -> Bench {
        Bench::over(self.disks, 2, true, in_sync)
    }

    fn attach(&mut self, leg: usize) {
        self.mirror.leg_attached(self.now, leg, &mut self.memory);
        self.drain();
    }
    fn attach_all(&mut self) {
        for leg in 0..self.disks.len() {
            self.attach(leg);
        }
    }
    fn lose(&mut self, leg: usize) {
        self.waiting.retain(|(at, _, _)| *at != leg);
        self.mirror.leg_lost(self.now, leg, &mut self.memory);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.mirror.poll_output() {
            let line = match output {
                MirrorOutput::Leg { leg, id, request } => {
                    self.waiting.push((leg, id, request));
                    format!("{}: {}", name(leg), words(&request))
                }
                MirrorOutput::Membership(GroupChange::Formatted) => "ask formatted".to_owned(),
                MirrorOutput::Membership(GroupChange::InSync(legs)) => {
                    let names = legs
                        .iter()
                        .map(|leg| format!(" {}", name(usize::from(leg[0]) - 1)));
                    format!("ask{}", names.collect::<String>())
                }
                MirrorOutput::Complete { id, status } => format!("done {} {status:?}", id.0),
                MirrorOutput::LegSuspect { leg } => format!("suspect {}", name(leg)),
                MirrorOutput::LegRefused { leg, reason } => format!("refused {}: {reason}", name(leg)),
                MirrorOutput::OpenFailed { reason } => format!("failed: {reason}"),
                other => format!("{other:?}").to_lowercase(),
            };
            self.lines.push(line);
        }
    }

    /// What was said since the last time.
    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// The oldest request at a leg ends like this; it is executed if it succeeds.
    fn answer(&mut self, leg: usize, status: Status) {
        let place = self
            .waiting
            .iter()
            .position(|(at, _, _)| *at == leg)
            .expect("a request waits there");
        let (_, id, request) = self.waiting.remove(place);
        if status == Status::Success {
            self.disks[leg].execute(request, &mut self.memory);
        }
        self.mirror.leg_completed(self.now, id, status, &mut self.memory);
        self.drain();
    }
    /// All requests at these legs succeed, and those that follow from them.
    fn settle_at(&mut self, legs: &[usize]) {
        while let Some((leg, _, _)) = self.waiting.iter().find(|(leg, _, _)| legs.contains(leg)) {
            self.answer(*leg, Status::Success);
        }
    }
    fn settle(&mut self) {
        self.settle_at(&[0, 1, 2, 3]);
    }
    fn store(&mut self, outcome: MembershipOutcome) {
        self.mirror.membership_answer(self.now, outcome, &mut self.memory);
        self.drain();
    }
    fn committed(&mut self) {
        self.store(MembershipOutcome::Committed);
    }

    /// Time passes; whatever is due happens.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.mirror.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.mirror.handle_timeout(self.now, &mut self.memory);
            self.drain();
        }
        self.now = end;
    }

    fn submit(&mut self, operation: Operation, start: u64, length: u64) {
        self.next_request += 1;
        let request = Request {
            operation,
            range: BlockRange::new(start, length),
        };
        let id = RequestId(self.next_request);
        self.mirror
            .submit(self.now, id, Area::Data, request, &mut self.memory);
        self.drain();
    }
    fn write(&mut self, start: u64, length: u64) {
        let buffer = self.memory.payload(length as u32 * 4096);
        fill(self.memory.bytes_mut(buffer), 7);
        self.submit(
            Operation::Write {
                buffer,
                durable: false,
            },
            start,
            length,
        );
    }
    fn read(&mut self, start: u64, length: u64) {
        let buffer = self.memory.payload(length as u32 * 4096);
        self.submit(Operation::Read { buffer }, start, length);
    }
}

fn words(request: &Request) -> String {
    let range = format!("{}+{}", request.range.start.0, request.range.length.0);
    match request.operation {
        Operation::Read { .. } => format!("read {range}"),
        Operation::Write { durable: false, .. } => format!("write {range}"),
        Operation::Write { durable: true, .. } => format!("write durably {range}"),
        Operation::Flush => "flush".to_owned(),
        Operation::WriteZeroes { deallocate, durable } => {
            format!(
                "zero {range}{}{}",
                if deallocate { " freed" } else { "" },
                if durable { " durably" } else { "" }
            )
        }
        Operation::Deallocate => format!("free {range}"),
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
