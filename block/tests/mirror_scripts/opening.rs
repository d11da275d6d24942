//! A group begins: formatting, legs that are refused.

use super::*;

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

/// R6: where no copy of the bitmap can be read, on any leg, nobody knows which writes were under way: every region may differ.
#[test]
fn a_bitmap_that_cannot_be_read_makes_every_region_unequal() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    for disk in &mut bench.disks {
        disk.corrupt(16);
        disk.corrupt(17);
    }
    let mut bench = bench.reopened(&[true, true]);
    bench.attach_all();
    bench.settle();
    bench.pass(secs(1));
    bench.settle();
    assert!(bench.mirror.is_serving());
    // What resync copies: every block behind the bitmap.
    let copied = |line: &String| {
        let (start, length) = line.strip_prefix("B: write durably ")?.split_once('+')?;
        let (start, length): (u64, u64) = (start.parse().ok()?, length.parse().ok()?);
        (start >= 128).then_some(length)
    };
    let copied: u64 = bench.said().iter().filter_map(copied).sum();
    assert_eq!(copied, LEG_BLOCKS - 128);
    assert_eq!(bench.mirror.regions_dirty(), 0);
}
