//! Scripts of a group: what it says to legs and store, in which order, and every refusal. Requests to legs wait until the
//! script lets them be executed; the store waits until the script answers.
//!
//! Lines: `A: write 2304+1` is a request to leg A (in blocks of the leg), `ask A B` asks the store to record that set,
//! `done 1 Success` ends request 1.
#[path = "../mirror_world/mod.rs"]
mod mirror_world;
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

#[test]
fn formats_once_all_legs_are_there() {
    let mut bench = Bench::over(vec![Disk::new(), Disk::new()], 1, false, &[true, true]);
    bench.attach(0);
    bench.settle();
    assert_eq!(
        bench.said(),
        ["A: read 0+18", "A: write durably 0+18", "A: flush"]
    );
    assert_eq!(bench.mirror.waits_for(), "1 of 2 legs to be reached and read");
    bench.attach(1);
    bench.settle();
    assert_eq!(
        bench.said(),
        [
            "B: read 0+18",
            "B: write durably 0+18",
            "B: flush",
            "ask formatted"
        ]
    );
    bench.committed();
    assert_eq!(bench.said(), ["opened"]);
    let geometry = LegGeometry::for_length(Blocks(LEG_BLOCKS)).expect("long enough");
    let superblock = Superblock::parse(bench.disks[1].block(8)).expect("the second copy");
    let (leg, group, slice, pool) = (
        superblock.leg,
        superblock.group,
        superblock.slice,
        superblock.pool,
    );
    assert_eq!(
        (leg, group, slice, pool),
        (leg_id(1), [0xa0; 16], [0xb0; 16], [0xc0; 16])
    );
    assert_eq!(
        (superblock.index, superblock.group_size, superblock.geometry),
        (1, 2, geometry)
    );
}

#[test]
fn never_formats_what_belongs_to_another() {
    let mut other = Disk::new();
    other.corrupt(0);
    let mut bench = Bench::over(vec![Disk::new(), other], 1, false, &[true, true]);
    bench.attach(1);
    bench.settle();
    let reason = "the superblock of leg 1 of the group cannot be used: something else is there";
    let said = bench.said();
    assert_eq!(
        said,
        [
            "B: read 0+18".to_owned(),
            format!("refused B: {reason}"),
            format!("failed: {reason}")
        ]
    );
    assert_eq!(bench.mirror.next_timeout(), None);
}

#[test]
fn one_copy_of_the_superblock_is_enough() {
    for copy in [0, 8] {
        let mut bench = Bench::serving(1);
        bench.disks[0].corrupt(copy);
        let mut bench = bench.reopened(&[true]);
        bench.attach(0);
        bench.settle();
        assert_eq!(bench.said(), ["A: read 0+18", "opened"]);
    }
}

/// R9: a leg in sync that does not hold what it should is left alone, and taken out.
#[test]
fn a_leg_in_sync_with_a_bad_superblock_is_refused_and_not_written_to() {
    type Spoil = fn(&mut Disk);
    let spoil: [(Spoil, &str); 3] = [
        (|disk| disk.replace(), "it was never written"),
        (
            |disk| (disk.corrupt(0), disk.corrupt(8)).0,
            "its checksum does not match",
        ),
        (
            |disk| *disk = Bench::serving(3).disks.remove(2),
            "it belongs to another leg or has another length",
        ),
    ];
    for (spoil, problem) in spoil {
        let mut bench = Bench::serving(2);
        spoil(&mut bench.disks[1]);
        let mut bench = bench.reopened(&[true, true]);
        bench.attach_all();
        bench.settle();
        let refused = format!("refused B: the superblock of leg 1 of the group cannot be used: {problem}");
        let said = ["A: read 0+18", "B: read 0+18", "A: flush", &refused, "ask A"];
        assert_eq!(bench.said(), said);
        bench.committed();
        assert_eq!(bench.said(), ["opened"]);
        bench.pass(secs(60));
        assert!(
            !bench.said().iter().any(|line| line.starts_with("B: write")),
            "{problem}"
        );
    }
}

#[test]
fn the_only_leg_in_sync_with_a_bad_superblock_fails_the_group() {
    let mut bench = Bench::serving(2);
    bench.disks[0].replace();
    let mut bench = bench.reopened(&[true, false]);
    bench.attach_all();
    bench.settle();
    let reason = "the superblock of leg 0 of the group cannot be used: it was never written";
    assert_eq!(
        bench.said(),
        [
            "A: read 0+18".to_owned(),
            format!("refused A: {reason}"),
            format!("failed: {reason}")
        ]
    );
    bench.read(0, 1);
    assert_eq!(bench.said(), ["done 1 Unavailable"]);
}

#[test]
fn a_write_marks_its_region_first_and_once() {
    let mut bench = Bench::serving(2);
    bench.write(0, 2);
    assert_eq!(bench.said(), ["A: write durably 17+1", "B: write durably 17+1"]);
    bench.answer(0, Status::Success);
    assert_eq!(bench.said(), [""; 0], "the region is not marked on B");
    bench.answer(1, Status::Success);
    assert_eq!(bench.said(), ["A: write 2304+2", "B: write 2304+2"]);
    bench.answer(1, Status::Success);
    assert_eq!(bench.said(), [""; 0]);
    bench.answer(0, Status::Success);
    assert_eq!(bench.said(), ["done 1 Success"]);
    bench.write(4, 1);
    assert_eq!(bench.said(), ["A: write 2308+1", "B: write 2308+1"]);
}

/// R12: a torn write of the bitmap leaves what was durable before.
#[test]
fn a_torn_bitmap_leaves_the_old_one() {
    let mut bench = Bench::serving(1);
    bench.write(0, 1);
    bench.settle();
    bench.write(600, 1);
    assert_eq!(
        bench.said().last().expect("marks the other region"),
        "A: write durably 16+1"
    );
    bench.disks[0].corrupt(16);
    bench.lose(0);
    let mut bench = bench.reopened(&[true]);
    bench.attach(0);
    bench.settle();
    // Where the newest block lies now tells that the torn one was not taken, what is written that a mark was found.
    assert_eq!(bench.said(), ["A: read 0+18", "A: write durably 16+1", "opened"]);
    bench.disks[0].corrupt(16);
    let mut bench = bench.reopened(&[true]);
    bench.attach(0);
    bench.settle();
    assert_eq!(bench.said(), ["A: read 0+18", "A: write durably 16+1", "opened"]);
}

/// R11.
#[test]
fn overlapping_writes_wait_for_each_other() {
    let mut bench = Bench::serving(2);
    bench.write(0, 4);
    bench.settle();
    bench.said();
    bench.write(0, 4);
    bench.write(3, 4);
    bench.write(8, 1);
    let first = [
        "A: write 2304+4",
        "B: write 2304+4",
        "A: write 2312+1",
        "B: write 2312+1",
    ];
    assert_eq!(bench.said(), first);
    bench.answer(0, Status::Success);
    assert_eq!(bench.said(), [""; 0], "B has not ended the first");
    bench.answer(1, Status::Success);
    assert_eq!(
        bench.said(),
        ["A: write 2307+4", "B: write 2307+4", "done 2 Success"]
    );
}

/// R3.
#[test]
fn a_write_that_missed_a_leg_waits_for_the_store() {
    for lost in [true, false] {
        let mut bench = Bench::serving(2);
        bench.write(0, 1);
        bench.settle();
        bench.said();
        bench.write(0, 1);
        bench.answer(0, Status::Success);
        bench.said();
        if lost {
            bench.lose(1);
        } else {
            bench.answer(1, Status::MediaError);
        }
        assert_eq!(
            bench.said(),
            ["A: flush", "ask A"],
            "what only A has now shall not be lost"
        );
        bench.answer(0, Status::Success);
        bench.write(8, 1);
        assert_eq!(
            bench.said(),
            ["A: write durably 2312+1"],
            "later writes go to the rest"
        );
        bench.answer(0, Status::Success);
        assert_eq!(bench.said(), [""; 0], "and wait as well");
        bench.committed();
        assert_eq!(bench.said()[..2], ["done 2 Success", "done 3 Success"]);
    }
}

#[test]
fn without_any_leg_requests_wait_and_then_end_unavailable() {
    let mut bench = Bench::serving(1);
    bench.lose(0);
    bench.write(0, 1);
    bench.read(0, 1);
    bench.submit(Operation::Flush, 0, 0);
    bench.pass(secs(19));
    assert_eq!(bench.said(), [""; 0]);
    bench.pass(secs(2));
    assert_eq!(
        bench.said(),
        ["done 1 Unavailable", "done 3 Unavailable", "done 2 Unavailable"]
    );
    bench.read(0, 1);
    assert_eq!(bench.said(), ["done 4 Unavailable"], "it has been away for long");
    bench.attach(0);
    bench.settle();
    bench.said();
    bench.read(0, 1);
    assert_eq!(bench.said(), ["A: read 2304+1"]);
}

#[test]
fn a_leg_that_comes_back_in_time_gets_what_it_missed() {
    let mut bench = Bench::serving(1);
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    bench.lose(0);
    bench.read(8, 1);
    bench.said();
    bench.attach(0);
    assert_eq!(bench.said(), ["A: read 0+18"], "is it the same leg?");
    bench.settle();
    let said = bench.said();
    assert!(
        said.contains(&"done 2 Success".to_owned()) && said.contains(&"done 3 Success".to_owned()),
        "{said:?}"
    );
}

/// R2: whoever says so, everything ends.
#[test]
fn a_newer_owner_ends_everything() {
    for from_store in [true, false] {
        let mut bench = Bench::serving(2);
        bench.write(0, 1);
        bench.settle();
        bench.write(0, 1);
        bench.write(0, 1);
        bench.read(8, 1);
        if from_store {
            bench.lose(1);
            bench.said();
            bench.store(MembershipOutcome::StaleEpoch);
        } else {
            bench.said();
            bench.answer(1, Status::StaleEpoch);
        }
        let ends = [
            "done 2 StaleEpoch",
            "done 3 StaleEpoch",
            "done 4 StaleEpoch",
            "fenced",
        ];
        assert_eq!(bench.said(), ends);
        bench.read(0, 1);
        bench.pass(secs(60));
        bench.attach(1);
        assert_eq!(bench.said(), ["done 5 StaleEpoch"]);
        assert_eq!(bench.mirror.next_timeout(), None);
    }
}

/// R5: a read's lease is checked when its data is in hand.
#[test]
fn answers_are_held_while_a_lease_has_run_out() {
    let mut bench = Bench::serving(2);
    bench.read(0, 1);
    bench.read(0, 1);
    let said = bench.said();
    assert_eq!(said, ["A: read 2304+1", "B: read 2304+1"]);
    bench.pass(Duration::from_millis(3100));
    bench.answer(0, Status::Success);
    bench.answer(0, Status::Success);
    let quiet = bench.said().iter().all(|line| line.ends_with(": read 0+1"));
    assert!(quiet, "nothing but probes while B has not answered");
    bench.answer(1, Status::Success);
    assert_eq!(
        bench.said(),
        [""; 0],
        "the answer is to a request older than the lease"
    );
    bench.answer(1, Status::Success);
    bench.answer(1, Status::Success);
    let said = bench.said();
    let ends: Vec<&String> = said.iter().filter(|line| line.starts_with("done")).collect();
    assert_eq!(ends, ["done 1 Success", "done 2 Success"]);
}

#[test]
fn idle_legs_are_asked_every_third_of_a_lease() {
    let mut bench = Bench::serving(2);
    bench.pass(Duration::from_millis(999));
    assert_eq!(bench.said(), [""; 0]);
    bench.pass(Duration::from_millis(2));
    assert_eq!(bench.said(), ["A: read 0+1", "B: read 0+1"]);
}

/// R5: what the new owner could not fence may still serve the old one.
#[test]
fn a_new_owner_waits_for_the_lease_of_a_leg_it_could_not_fence() {
    let mut bench = Bench::serving(2).reopened(&[true, true]);
    bench.pass(secs(2));
    bench.attach(0);
    bench.settle();
    bench.pass(Duration::from_millis(7900));
    assert_eq!(bench.said(), ["A: read 0+18"], "B may still come");
    bench.pass(Duration::from_millis(200));
    assert_eq!(bench.said(), ["A: read 0+1", "A: flush", "ask A"]);
    bench.committed();
    // Fenced A at two seconds, lease three, margin half a second: that was over by then.
    assert_eq!(bench.said(), ["opened"]);

    let mut bench = Bench::serving(2).reopened(&[true, true]);
    bench.pass(secs(9));
    bench.attach(0);
    bench.settle();
    bench.pass(Duration::from_millis(1100));
    bench.committed();
    bench.settle();
    bench.pass(Duration::from_millis(2300));
    bench.settle();
    assert!(!bench.said().contains(&"opened".to_owned()));
    assert_eq!(
        bench.mirror.waits_for(),
        "the lease of an earlier owner to run out"
    );
    bench.pass(Duration::from_millis(200));
    assert!(bench.said().contains(&"opened".to_owned()));
}

#[test]
fn a_new_owner_that_fenced_all_serves_at_once() {
    let mut bench = Bench::serving(2).reopened(&[true, true]);
    bench.attach_all();
    bench.settle();
    assert_eq!(bench.said(), ["A: read 0+18", "B: read 0+18", "opened"]);
}

/// R6.
#[test]
fn after_a_crash_marked_regions_are_read_from_one_leg_until_they_are_equal() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    bench.answer(1, Status::Success);
    let mut bench = bench.reopened(&[true, true]);
    bench.attach_all();
    bench.settle_at(&[0, 1].map(|leg| leg + 10));
    for leg in [0, 1, 0, 1] {
        bench.answer(leg, Status::Success);
    }
    bench.said();
    assert_eq!(bench.mirror.regions_dirty(), 1);
    for _ in 0..4 {
        bench.read(0, 1);
    }
    bench.read(600, 1);
    bench.read(601, 1);
    let said = bench.said();
    assert_eq!(said[..4], ["A: read 2304+1"; 4]);
    assert!(
        said[4..].contains(&"B: read 2904+1".to_owned()),
        "other regions are read from both: {said:?}"
    );
    bench.settle();
    bench.pass(secs(1));
    bench.settle();
    for _ in 0..8 {
        bench.pass(secs(1));
        bench.settle();
    }
    assert_eq!(bench.mirror.regions_dirty(), 0);
    assert_eq!(bench.disks[0].difference(&bench.disks[1]), None);
}

#[test]
fn a_leg_that_does_not_answer_is_reported_and_taken_out() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle_at(&[0]);
    bench.said();
    for _ in 0..100 {
        bench.pass(Duration::from_millis(100));
        bench.settle_at(&[0]);
    }
    let said = bench.said();
    let important = said
        .iter()
        .filter(|line| !line.contains("read 0+1"))
        .collect::<Vec<_>>();
    assert_eq!(
        important,
        ["A: write durably 2304+1", "suspect B", "ask A", "A: flush"]
    );
    bench.committed();
    assert_eq!(bench.said(), ["done 1 Success"]);
}

#[test]
fn a_read_that_fails_goes_to_another_leg() {
    let mut bench = Bench::serving(2);
    bench.read(0, 1);
    assert_eq!(bench.said(), ["A: read 2304+1"]);
    bench.answer(0, Status::MediaError);
    assert_eq!(bench.said(), ["B: read 2304+1"]);
    bench.answer(1, Status::MediaError);
    assert_eq!(bench.said(), ["done 1 MediaError"]);
    assert!(
        bench
            .mirror
            .progress()
            .iter()
            .all(|leg| leg.in_sync && leg.reachable),
        "reads change nothing"
    );
}

#[test]
fn a_write_that_the_last_leg_fails_ends_with_its_error() {
    let mut bench = Bench::serving(1);
    bench.write(0, 1);
    bench.answer(0, Status::MediaError);
    assert_eq!(
        bench.said().last().expect("an end"),
        "done 1 MediaError",
        "the bitmap could not be written"
    );
    bench.pass(secs(2));
    bench.settle();
    bench.said();
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    bench.answer(0, Status::MediaError);
    bench.read(0, 1);
    bench.settle();
    assert_eq!(
        bench.said()[2..],
        [
            "A: write durably 2304+1",
            "done 3 MediaError",
            "A: read 2304+1",
            "done 4 Success"
        ]
    );
}

#[test]
fn deallocation_is_the_same_on_every_leg() {
    let mut bench = Bench::serving(2);
    bench.submit(Operation::Deallocate, 5, 2);
    bench.settle();
    assert_eq!(
        bench.said()[2..],
        ["A: zero 2309+2 freed", "B: zero 2309+2 freed", "done 1 Success"]
    );
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut bench = Bench::serving(1);
    let length = LEG_BLOCKS - DATA;
    for (start, blocks, status) in [
        (0, 0, "Invalid"),
        (length, 1, "OutOfRange"),
        (length - 1, 2, "OutOfRange"),
    ] {
        let deallocate = Operation::WriteZeroes {
            deallocate: false,
            durable: false,
        };
        bench.submit(deallocate, start, blocks);
        assert_eq!(bench.said(), [format!("done {} {status}", bench.next_request)]);
    }
    bench.submit(Operation::Deallocate, u64::MAX, 2);
    assert_eq!(bench.said(), ["done 4 OutOfRange"]);
    assert_eq!(bench.mirror.area_length(Area::Data), Blocks(length));
}

/// R12: a mark goes only when what it stands for is on the media of every leg.
#[test]
fn quiet_regions_are_cleared_after_a_flush() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.write(600, 1);
    bench.settle();
    for _ in 0..9 {
        bench.pass(secs(1));
        bench.settle();
    }
    bench.said();
    bench.pass(secs(1));
    let probes = |said: Vec<String>| {
        said.into_iter()
            .filter(|line| !line.contains("read 0+1"))
            .collect::<Vec<_>>()
    };
    assert_eq!(probes(bench.said()), ["A: flush", "B: flush"]);
    bench.write(600, 1);
    bench.settle();
    let said = probes(bench.said());
    let marks = ["A: write durably 17+1", "B: write durably 17+1"];
    assert_eq!(
        said,
        [
            "A: write 2904+1",
            "B: write 2904+1",
            marks[0],
            marks[1],
            "done 3 Success"
        ]
    );
    bench.write(600, 1);
    assert_eq!(
        bench.said(),
        ["A: write 2904+1", "B: write 2904+1"],
        "this one was written to, and is still marked"
    );
    bench.write(0, 1);
    assert_eq!(
        bench.said(),
        ["A: write durably 16+1", "B: write durably 16+1"],
        "that one is not"
    );
}

#[test]
fn marks_stay_while_a_leg_is_out() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.lose(1);
    bench.committed();
    bench.said();
    for _ in 0..30 {
        bench.pass(secs(1));
        bench.settle();
    }
    assert!(bench.said().iter().all(|line| line == "A: read 0+1"));
    assert_eq!(bench.mirror.regions_dirty(), 1);
}

/// What the only leg may have lost with its power was never said to be there.
#[test]
fn held_answers_end_unavailable_when_the_last_leg_is_lost() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    bench.answer(0, Status::Success);
    bench.pass(Duration::from_millis(3100));
    bench.answer(1, Status::Success);
    bench.said();
    bench.lose(1);
    assert_eq!(bench.said(), ["A: flush", "ask A"]);
    bench.lose(0);
    assert_eq!(bench.said(), ["done 2 Unavailable"]);
}

/// What hangs at a leg must not arrive behind what is copied to it.
#[test]
fn a_leg_that_did_not_answer_rejoins_only_when_nothing_is_in_flight_to_it() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    for _ in 0..101 {
        bench.pass(Duration::from_millis(100));
        bench.settle_at(&[0]);
    }
    bench.committed();
    bench.said();
    for _ in 0..50 {
        bench.pass(Duration::from_millis(100));
        bench.settle_at(&[0]);
    }
    assert!(
        bench.said().iter().all(|line| line == "A: read 0+1"),
        "B still has the write"
    );
    while bench.waiting.iter().any(|(leg, _, _)| *leg == 1) {
        bench.answer(1, Status::Success);
    }
    assert_eq!(bench.said()[0], "B: read 0+18");
}

#[test]
fn closing_drains_flushes_and_clears() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    bench.said();
    bench.mirror.close(bench.now, &mut bench.memory);
    bench.read(0, 1);
    assert_eq!(bench.said(), ["done 3 Unavailable"]);
    bench.settle();
    let end = [
        "A: flush",
        "B: flush",
        "done 2 Success",
        "A: write durably 16+1",
        "B: write durably 16+1",
        "closed",
    ];
    assert_eq!(bench.said(), end);
    bench.read(0, 1);
    assert_eq!(bench.said(), ["done 4 Unavailable"]);
    let mut bench = bench.reopened(&[true, true]);
    bench.attach_all();
    bench.settle();
    assert_eq!(bench.said(), ["A: read 0+18", "B: read 0+18", "opened"]);
}

#[test]
fn closing_with_a_leg_out_keeps_the_marks() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.lose(1);
    bench.committed();
    bench.said();
    bench.mirror.close(bench.now, &mut bench.memory);
    bench.drain();
    assert_eq!(bench.said(), ["closed"]);
    let mut bench = bench.reopened(&[true, false]);
    bench.attach(0);
    bench.settle();
    assert_eq!(bench.mirror.regions_dirty(), 1);
}

/// R4: a new leg gets everything, its superblocks last, and serves only when the store knows.
#[test]
fn a_new_leg_is_filled_and_recorded_before_it_serves() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.disks[1].replace();
    let mut bench = bench.reopened(&[true, false]);
    bench.attach_all();
    for _ in 0..200 {
        bench.settle();
        bench.pass(Duration::from_millis(10));
    }
    let said = bench.said();
    let at_b: Vec<&String> = said
        .iter()
        .filter(|line| line.starts_with("B:") && !line.contains("read 0+1"))
        .collect();
    let (last, copies) = at_b
        .split_last_chunk::<3>()
        .map(|(copies, last)| (last, copies))
        .expect("many");
    assert_eq!(
        *last,
        ["B: flush", "B: write durably 0+1", "B: write durably 8+1"]
    );
    let copied = copies.iter().filter(|line| line.starts_with("B: write ")).count();
    assert!(copied as u64 >= (LEG_BLOCKS - 128) / 64, "{copied} steps");
    assert!(said.contains(&"ask A B".to_owned()));
    for _ in 0..4 {
        bench.read(0, 1);
    }
    assert_eq!(bench.said(), ["A: read 2304+1"; 4]);
    bench.committed();
    bench.settle();
    bench.said();
    bench.read(0, 1);
    bench.read(0, 1);
    assert!(bench.said().contains(&"B: read 2304+1".to_owned()));
    assert_eq!(bench.disks[0].difference(&bench.disks[1]), None);
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let sound = config(1, true, &[true, true]);
    let refused = |change: fn(&mut GroupConfig)| {
        let mut config = sound.clone();
        change(&mut config.group);
        Mirror::new(config, Time::ZERO).expect_err("refused")
    };
    assert_eq!(refused(|group| group.legs.clear()), "a group has no legs");
    assert_eq!(
        refused(|group| group.legs[0].length = Blocks(9)),
        "the legs of a group have different lengths"
    );
    assert_eq!(
        refused(|group| group.legs = vec![group.legs[0]; 9]),
        "a group has 9 legs, at most 8 are possible"
    );
    let short = |group: &mut GroupConfig| group.legs.iter_mut().for_each(|leg| leg.length = Blocks(9));
    assert_eq!(refused(short), "a leg of 9 blocks has no room for data");
    let none = |group: &mut GroupConfig| group.legs.iter_mut().for_each(|leg| leg.in_sync = false);
    assert_eq!(refused(none), "a group that is formatted has no leg in sync");
}
