//! Scripts of a slice: what it says while it opens, serves, switches and ends, and every refusal.
//!
//! Deliberate bugs tried, and caught here: answering unwritten space from memory alone, formatting the map anew because it
//! cannot be read, a fence that leaves other groups writing, groups closed while the pool still has requests, two verbs on
//! one volume at once.
mod mirror_world;

use block::slice::{
    GroupConfig, LegConfig, MembershipChange, MembershipOutcome, Slice, SliceConfig, SliceOutput, SliceState,
};
use block::thin::VolumeId;
use block::{
    BlockRange, Blocks, BufferSlice, Duration, Memory, Operation, Request, RequestId, Status, SubRequestId,
    Time, Tuning,
};
use mirror_world::Buffers;
use mirror_world::disk::Disk;

const LEG_BLOCKS: u64 = 4096;
const EXTENT: u64 = 64;
const VOLUME: VolumeId = VolumeId([0x77; 16]);

fn leg_id(leg: usize) -> [u8; 16] {
    [leg as u8 + 1; 16]
}

fn config(epoch: u64, formatted: bool) -> SliceConfig {
    let leg = |leg| LegConfig {
        leg: leg_id(leg),
        length: Blocks(LEG_BLOCKS),
        in_sync: true,
    };
    let group = |group: usize| GroupConfig {
        group: [0xa0 + group as u8; 16],
        formatted,
        legs: (2 * group..2 * group + 2).map(leg).collect(),
    };
    SliceConfig {
        slice: [2; 16],
        pool: [1; 16],
        epoch,
        formatted,
        extent: Blocks(EXTENT),
        groups: vec![group(0), group(1)],
        tuning: Tuning::default(),
    }
}

fn disks() -> Vec<Disk> {
    (0..4).map(|_| Disk::new()).collect()
}

struct Bench {
    slice: Slice,
    memory: Buffers,
    now: Time,
    epoch: u64,
    waiting: Vec<(usize, SubRequestId, Request)>,
    /// Membership requests that the store has not answered.
    asked: Vec<u64>,
    lines: Vec<String>,
}

impl Bench {
    fn new(config: SliceConfig) -> Bench {
        Bench {
            epoch: config.epoch,
            slice: Slice::new(config, Time::ZERO).expect("sound"),
            memory: Buffers::default(),
            now: Time::ZERO,
            waiting: Vec::new(),
            asked: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// A slice on these disks, formatted or opened, that serves.
    fn serving(disks: &mut [Disk], epoch: u64, formatted: bool) -> Bench {
        let mut bench = Bench::new(config(epoch, formatted));
        bench.attach_all(disks);
        bench.run(disks);
        assert_eq!(bench.slice.state(), SliceState::Serving, "{:?}", bench.lines);
        bench.lines.clear();
        bench
    }

    fn attach_all(&mut self, disks: &mut [Disk]) {
        for (leg, disk) in disks.iter_mut().enumerate() {
            disk.epoch = self.epoch;
            self.slice.leg_attached(self.now, leg_id(leg), &mut self.memory);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.slice.poll_output() {
            self.lines.push(match output {
                SliceOutput::Leg { leg, id, request, .. } => {
                    if let Some(buffer) = payload(request) {
                        self.memory.retain(buffer.buffer);
                    }
                    self.waiting.push((usize::from(leg[0]) - 1, id, request));
                    continue;
                }
                SliceOutput::Complete { id, status } => format!("done {} {status:?}", id.0),
                SliceOutput::Membership { request, change } => {
                    self.asked.push(request);
                    let change = match change {
                        MembershipChange::GroupFormatted { group } => {
                            format!("group {} formatted", group[0] - 0xa0)
                        }
                        MembershipChange::SliceFormatted => "slice formatted".to_owned(),
                        MembershipChange::InSync { group, in_sync } => {
                            format!("group {} in sync {}", group[0] - 0xa0, in_sync.len())
                        }
                    };
                    format!("ask {request}: {change}")
                }
                SliceOutput::OpenFailed { reason } => format!("failed: {reason}"),
                other => format!("{other:?}").to_lowercase(),
            });
        }
    }

    /// Everything is executed and recorded, until there is nothing more to do at once.
    fn run(&mut self, disks: &mut [Disk]) {
        loop {
            if !self.waiting.is_empty() {
                self.execute(disks);
            } else if let Some(request) = self.asked.pop() {
                self.slice.membership_answer(
                    self.now,
                    request,
                    MembershipOutcome::Committed,
                    &mut self.memory,
                );
                self.drain();
            } else {
                return;
            }
        }
    }

    /// The oldest request at a leg is executed.
    fn execute(&mut self, disks: &mut [Disk]) {
        let (leg, id, request) = self.waiting.remove(0);
        let mut status = Status::StaleEpoch;
        if disks[leg].epoch <= self.epoch {
            disks[leg].execute(request, &mut self.memory);
            status = Status::Success;
        }
        if let Some(buffer) = payload(request) {
            self.memory.release(buffer.buffer);
        }
        self.slice.leg_completed(self.now, id, status, &mut self.memory);
        self.drain();
    }

    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    fn create(&mut self, id: u64, volume: VolumeId) {
        let size = Blocks(4 * EXTENT);
        self.slice
            .create_volume(self.now, RequestId(id), volume, size, &mut self.memory);
        self.drain();
    }

    fn submit(&mut self, id: u64, operation: Operation, start: u64, length: u64) {
        let range = BlockRange::new(start, length);
        let request = Request { operation, range };
        self.slice
            .submit(self.now, RequestId(id), VOLUME, request, &mut self.memory);
        self.drain();
    }

    fn read(&mut self, id: u64, start: u64) {
        let buffer = self.memory.payload(4096);
        self.submit(id, Operation::Read { buffer }, start, 1);
    }

    fn write(&mut self, id: u64, start: u64) {
        let buffer = self.memory.payload(4096);
        self.memory.bytes_mut(buffer).fill(5);
        self.submit(
            id,
            Operation::Write {
                buffer,
                durable: false,
            },
            start,
            1,
        );
    }

    fn close(&mut self) {
        self.slice.close(self.now, &mut self.memory);
        self.drain();
    }
}

fn payload(request: Request) -> Option<BufferSlice> {
    match request.operation {
        Operation::Read { buffer } | Operation::Write { buffer, .. } => Some(buffer),
        _ => None,
    }
}

#[test]
fn opens_groups_first_then_the_map_and_records_each_step() {
    let mut disks = disks();
    let mut bench = Bench::new(config(1, false));
    bench.read(1, 0);
    assert_eq!(bench.said(), ["done 1 Unavailable"]);
    assert_eq!(
        bench.slice.waits_for(),
        "group 0: 2 of 2 legs to be reached and read"
    );
    bench.attach_all(&mut disks);
    bench.create(2, VOLUME);
    bench.run(&mut disks);
    let said = bench.said();
    assert_eq!(said[0], "done 2 Unavailable");
    let mut groups = said[1..3].to_vec();
    groups.sort();
    assert_eq!(groups.iter().map(|line| &line[7..]).collect::<Vec<_>>().len(), 2);
    assert!(
        said[1..3].iter().all(|line| line.ends_with("formatted")),
        "{said:?}"
    );
    assert_eq!(said[3..], ["ask 2: slice formatted", "opened"]);
    assert_eq!(
        (bench.slice.usage().total, bench.slice.usage().used),
        (2 * (LEG_BLOCKS - 2304) / EXTENT, 0)
    );
    let groups = bench.slice.groups();
    assert_eq!(groups.len(), 2);
    assert!(
        groups
            .iter()
            .flat_map(|group| &group.legs)
            .all(|leg| leg.in_sync && leg.reachable)
    );
}

#[test]
fn volumes_are_made_resized_removed_and_listed() {
    let mut disks = disks();
    let mut bench = Bench::serving(&mut disks, 1, false);
    bench.create(1, VOLUME);
    bench.create(2, VOLUME);
    assert_eq!(bench.said(), ["done 2 Unavailable"], "one verb at a time");
    bench.run(&mut disks);
    assert_eq!(bench.said(), ["done 1 Success"]);
    bench.write(3, 9);
    bench.run(&mut disks);
    bench.slice.resize_volume(
        bench.now,
        RequestId(4),
        VOLUME,
        Blocks(5 * EXTENT),
        &mut bench.memory,
    );
    bench.drain();
    bench.run(&mut disks);
    assert_eq!(bench.said(), ["done 3 Success", "done 4 Success"]);
    let volumes = bench.slice.volumes();
    assert_eq!(
        (volumes[0].volume, volumes[0].size, volumes[0].mapped),
        (VOLUME, Blocks(5 * EXTENT), 1)
    );
    bench
        .slice
        .delete_volume(bench.now, RequestId(5), VOLUME, &mut bench.memory);
    bench.drain();
    bench.run(&mut disks);
    bench.read(6, 0);
    assert_eq!(bench.said(), ["done 5 Success", "done 6 Invalid"]);
    assert_eq!(bench.slice.volumes(), []);
}

/// R9: what cannot be read is never made anew.
#[test]
fn a_map_that_cannot_be_read_is_an_error() {
    let mut disks = disks();
    Bench::serving(&mut disks, 1, false);
    let mut bench = Bench::new(config(2, true));
    for disk in &mut disks[..2] {
        let block = bench.memory.payload(4096);
        bench.memory.bytes_mut(block).fill(0xff);
        for lba in 128..2304 {
            let operation = Operation::Write {
                buffer: block,
                durable: true,
            };
            let range = BlockRange::new(lba, 1);
            disk.execute(Request { operation, range }, &mut bench.memory);
        }
    }
    bench.attach_all(&mut disks);
    bench.run(&mut disks);
    let failed = "failed: neither checkpoint of the pool's map is readable and whole";
    assert_eq!(bench.said(), [failed]);
    assert_eq!(bench.slice.state(), SliceState::Failed);
    bench.read(1, 0);
    bench.close();
    bench.run(&mut disks);
    assert_eq!(bench.said(), ["done 1 Unavailable", "closed"]);
}

/// R5: also what the map alone could answer.
#[test]
fn an_owner_that_does_not_know_it_is_fenced_answers_nothing() {
    for (what, operation) in [
        ("read", None),
        (
            "zeroes",
            Some(Operation::WriteZeroes {
                deallocate: false,
                durable: false,
            }),
        ),
        ("deallocate", Some(Operation::Deallocate)),
    ] {
        let mut disks = disks();
        let mut old = Bench::serving(&mut disks, 1, false);
        old.create(1, VOLUME);
        old.run(&mut disks);
        old.said();
        let mut new = Bench::serving(&mut disks, 2, true);
        new.write(1, 0);
        new.run(&mut disks);
        assert_eq!(new.said(), ["done 1 Success"]);
        match operation {
            None => old.read(2, 0),
            Some(operation) => old.submit(2, operation, 0, 1),
        }
        assert_eq!(old.said(), [""; 0], "{what}: the old map has nothing there");
        old.run(&mut disks);
        assert_eq!(old.said(), ["done 2 StaleEpoch", "fenced"], "{what}");
    }
}

#[test]
fn unwritten_space_reads_as_zeroes_after_one_look_at_a_leg() {
    let mut disks = disks();
    let mut bench = Bench::serving(&mut disks, 1, false);
    bench.create(1, VOLUME);
    bench.run(&mut disks);
    bench.said();
    bench.read(2, 0);
    bench.read(3, 1);
    bench.read(4, 2);
    assert_eq!(bench.waiting.len(), 1, "one look, though three wait");
    bench.run(&mut disks);
    assert_eq!(
        bench.said(),
        ["done 2 Success", "done 3 Success", "done 4 Success"]
    );
}

/// R2: a fence met by one group stops all.
#[test]
fn a_fence_stops_every_group() {
    let mut disks = disks();
    let mut bench = Bench::serving(&mut disks, 1, false);
    bench.create(1, VOLUME);
    bench.run(&mut disks);
    bench.write(2, 0);
    bench.run(&mut disks);
    bench.said();
    disks[0].epoch = 9;
    bench.write(3, 0);
    bench.create(4, VolumeId([0x78; 16]));
    while bench.slice.state() == SliceState::Serving {
        bench.execute(&mut disks);
    }
    assert_eq!(bench.said(), ["fenced", "done 3 StaleEpoch", "done 4 StaleEpoch"]);
    while !bench.waiting.is_empty() {
        bench.execute(&mut disks);
    }
    bench
        .slice
        .handle_timeout(Time::from_millis(60_000), &mut bench.memory);
    bench.drain();
    bench.now = Time::from_millis(60_000);
    bench.write(5, 0);
    assert_eq!(bench.said(), ["done 5 StaleEpoch"]);
    assert!(bench.waiting.is_empty());
}

#[test]
fn the_store_can_tell_of_a_newer_owner_too() {
    let mut disks = disks();
    let mut bench = Bench::serving(&mut disks, 1, false);
    bench.slice.leg_lost(bench.now, leg_id(3), &mut bench.memory);
    bench.drain();
    let request = bench.asked.pop().expect("asks for the smaller set");
    assert_eq!(bench.said(), [format!("ask {request}: group 1 in sync 1")]);
    bench.slice.membership_answer(
        bench.now,
        request,
        MembershipOutcome::StaleEpoch,
        &mut bench.memory,
    );
    bench.drain();
    assert_eq!(bench.said(), ["fenced"]);
    assert_eq!(bench.slice.state(), SliceState::Fenced);
    bench.slice.membership_answer(
        bench.now,
        request,
        MembershipOutcome::Committed,
        &mut bench.memory,
    );
    bench.drain();
    assert_eq!(bench.said(), [""; 0], "only once");
}

#[test]
fn ends_in_order() {
    let mut disks = disks();
    let mut bench = Bench::serving(&mut disks, 1, false);
    bench.create(1, VOLUME);
    bench.run(&mut disks);
    bench.said();
    bench.write(2, 0);
    bench.close();
    bench.read(3, 0);
    assert_eq!(bench.said(), ["done 3 Unavailable"]);
    bench.run(&mut disks);
    assert_eq!(bench.said(), ["done 2 Success", "closed"]);
    bench.read(4, 0);
    assert_eq!(bench.said(), ["done 4 Unavailable"]);
    assert_eq!(bench.slice.next_timeout(), None);
    let next = Bench::serving(&mut disks, 2, true);
    assert_eq!(next.slice.volumes()[0].mapped, 1);
    assert!(next.slice.groups().iter().all(|group| group.regions_dirty == 0));
}

#[test]
fn ends_before_it_was_open() {
    let mut disks = disks();
    let mut bench = Bench::new(config(1, false));
    bench.attach_all(&mut disks);
    bench.close();
    assert_eq!(bench.said(), ["closed"]);
    bench
        .slice
        .handle_timeout(Time::ZERO + Duration::from_secs(60), &mut bench.memory);
    bench.drain();
    assert_eq!(bench.said(), [""; 0]);
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let refused = |change: fn(&mut SliceConfig)| {
        let mut config = config(1, true);
        change(&mut config);
        Slice::new(config, Time::ZERO).expect_err("refused")
    };
    assert_eq!(refused(|config| config.groups.clear()), "a slice has no groups");
    assert_eq!(
        refused(|config| config.groups[1].legs[0].leg = leg_id(0)),
        "a leg is named twice"
    );
    assert_eq!(
        refused(|config| config.groups[1].legs.clear()),
        "a group has no legs"
    );
}
