//! A disk node over disks that are slow, fail and lose power, under any configurations, restarted at any moment.
//!
//! Oracle: everything it asks of a disk lies on the disk, in whole blocks; what it reports adds up: extents are neither lost nor
//! given twice, and no leg that is ready has old data (R10); when all is quiet every leg is ready or says why not, and nobody holds a
//! buffer.

use crate::input::Input;
use crate::machines::pool_world::chances;
use crate::memory::Buffers;
use block::{BLOCK_SIZE, Duration, Memory, Time};
use cluster::node_config::{DiskNodeConfig, LegConfig};
use cluster::status::{DiskNodeStatus, LegState};
use cluster::{DiskId, DiskNodeId, Incarnation, LegId, Nqn, PoolId, Revision};
use disk_node::format::{self, Superblock};
use disk_node::node::{GivenDisk, Node, NodeControl, NodeOptions, NodeReport};
use fabric::driver::{DiskError, DiskOperation, DiskRequestId, Event, Machine, Output};
use fabric::target::TargetConfig;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

const NODE: DiskNodeId = DiskNodeId(Uuid::from_u128(0x0d15));
const EXTENT: u64 = 4 << 20;
const EXTENTS: u64 = 6;
const DISKS: u128 = 2;
const LEGS: u128 = 6;
const OPERATIONS_MAX: u32 = 60;
const BLOCK: u64 = BLOCK_SIZE as u64;

/// Blocks that are not zeroes; runs of zeroes cost nothing.
#[derive(Clone, Debug, Default)]
struct Disk {
    size_bytes: u64,
    media: BTreeMap<u64, Vec<u8>>,
    /// Written or zeroed (`None`) and not flushed.
    cache: BTreeMap<u64, Option<Vec<u8>>>,
}

impl Disk {
    fn block(&self, at: u64) -> Option<&Vec<u8>> {
        match self.cache.get(&at) {
            Some(cached) => cached.as_ref(),
            None => self.media.get(&at),
        }
    }

    fn check(&self, offset: u64, length: u64) -> std::ops::Range<u64> {
        assert!(
            offset.is_multiple_of(BLOCK) && length.is_multiple_of(BLOCK) && length > 0,
            "whole blocks"
        );
        assert!(
            offset + length <= self.size_bytes,
            "{offset}+{length} is behind the end"
        );
        offset / BLOCK..(offset + length) / BLOCK
    }

    fn zero(&mut self, blocks: std::ops::Range<u64>) {
        // Only what is there need be cleared.
        let there: Vec<u64> = self.media.range(blocks.clone()).map(|(at, _)| *at).collect();
        self.cache.retain(|at, _| !blocks.contains(at));
        self.cache.extend(there.into_iter().map(|at| (at, None)));
    }

    fn execute(&mut self, operation: &DiskOperation, memory: &mut dyn Memory) {
        match *operation {
            DiskOperation::Read { offset_bytes, buffer } => {
                let blocks = self.check(offset_bytes, buffer.length.into());
                for (index, at) in blocks.enumerate() {
                    let part = buffer.part(index as u32 * BLOCK_SIZE, BLOCK_SIZE);
                    match self.block(at) {
                        Some(block) => memory.bytes_mut(part).copy_from_slice(block),
                        None => memory.bytes_mut(part).fill(0),
                    }
                }
            }
            DiskOperation::Write {
                offset_bytes,
                buffer,
                durable,
            } => {
                let blocks = self.check(offset_bytes, buffer.length.into());
                for (at, bytes) in blocks.zip(memory.bytes(buffer).chunks(BLOCK as usize)) {
                    if durable {
                        self.cache.remove(&at);
                        self.media.insert(at, bytes.to_vec());
                    } else {
                        self.cache.insert(at, Some(bytes.to_vec()));
                    }
                }
            }
            DiskOperation::Flush => {
                for (at, block) in std::mem::take(&mut self.cache) {
                    match block {
                        Some(block) => _ = self.media.insert(at, block),
                        None => _ = self.media.remove(&at),
                    }
                }
            }
            DiskOperation::WriteZeroes {
                offset_bytes,
                length_bytes,
                ..
            } => {
                let blocks = self.check(offset_bytes, length_bytes);
                self.zero(blocks);
            }
            DiskOperation::Discard {
                offset_bytes,
                length_bytes,
            } => drop(self.check(offset_bytes, length_bytes)),
        }
    }

    fn cut(&mut self, mut keep: impl FnMut() -> bool) {
        for (at, block) in std::mem::take(&mut self.cache) {
            match block {
                _ if !keep() => {}
                Some(block) => _ = self.media.insert(at, block),
                None => _ = self.media.remove(&at),
            }
        }
    }
}

#[derive(Debug)]
struct Story {
    now: Time,
    node: Node,
    memory: Buffers,
    disks: Vec<Disk>,
    pending: Vec<(usize, DiskRequestId, DiskOperation)>,
    status: Option<DiskNodeStatus>,
    /// The last configuration that was told, and told again after a restart.
    config: DiskNodeConfig,
    starts: u128,
    /// A leg was asked for twice, or in two sizes: whose extents are whose is the node's to say.
    odd: bool,
    /// Something failed that a start would have to read: what is reported then need not add up.
    failed: bool,
}

fn extents_of(leg: u128) -> u64 {
    1 + leg as u64 % 3
}

fn disk_id(number: u128) -> DiskId {
    DiskId(Uuid::from_u128(0xd000 + number))
}

/// A disk that was formatted, and has a block of somebody's old data in each of its extents.
fn formatted(number: u128) -> Disk {
    let size_bytes = format::DATA_OFFSET + EXTENTS * EXTENT;
    let mut disk = Disk {
        size_bytes,
        ..Disk::default()
    };
    let superblock =
        Superblock::fresh(disk_id(number), Some(NODE), size_bytes, EXTENT).expect("it is large enough");
    for (offset, bytes) in format::formatting(&superblock) {
        for (at, block) in (offset / BLOCK..).zip(bytes.chunks(BLOCK as usize)) {
            disk.media.insert(at, block.to_vec());
        }
    }
    disk.media.retain(|_, block| block.iter().any(|byte| *byte != 0));
    for extent in 0..EXTENTS {
        let at = (format::DATA_OFFSET + extent * EXTENT) / BLOCK + extent;
        disk.media.insert(at, vec![0xdd; BLOCK as usize]);
    }
    disk
}

fn options(disks: &[Disk], start: u128) -> NodeOptions {
    let given = |(index, disk): (usize, &Disk)| GivenDisk {
        path: format!("/dev/sim{index}"),
        volatile: false,
        size_bytes: disk.size_bytes,
        born: None,
        fault: None,
    };
    NodeOptions {
        node: NODE,
        incarnation: Incarnation(Uuid::from_u128(start)),
        reactor: None,
        disks: disks.iter().enumerate().map(given).collect(),
        target: TargetConfig::default(),
    }
}

/// One input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let disks: Vec<Disk> = (0..DISKS).map(formatted).collect();
    let mut story = Story {
        now: Time::from_millis(1),
        node: Node::new(options(&disks, 1)),
        memory: Buffers::default(),
        disks,
        pending: Vec::new(),
        status: None,
        config: DiskNodeConfig {
            node: NODE,
            revision: Revision(0),
            legs: BTreeMap::new(),
        },
        starts: 1,
        odd: false,
        failed: false,
    };
    story.tell(Event::Timeout);
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
        match input.below(14) {
            0..=2 => self.configure(input),
            3..=6 if !self.pending.is_empty() => {
                let index = input.below(self.pending.len());
                self.complete(index, Ok(()));
            }
            7 if !self.pending.is_empty() => {
                const HOW: [DiskError; 3] = [DiskError::Media, DiskError::NoSpace, DiskError::Gone];
                let index = input.below(self.pending.len());
                self.failed = true;
                self.complete(index, Err(HOW[input.below(HOW.len())]));
            }
            8 => self.restart(input),
            9 => self.pass(Duration::from_millis(u64::from(input.byte()) * 50)),
            10 => {
                self.memory.refuse = input.below(4) as u32;
                self.failed = true;
            }
            11 => {
                let config = self.config.clone();
                self.tell(Event::Control(NodeControl::Apply(config)));
            }
            _ => self.settle(),
        }
    }

    fn tell(&mut self, event: Event<'_, NodeControl>) {
        self.node.handle(self.now, event, &mut self.memory);
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Disk {
                    request,
                    disk,
                    operation,
                } => {
                    self.pending.push((disk.0 as usize, request, operation));
                }
                Output::Report(report) => self.reported(*report),
                other => panic!("nobody is connected: {other:?}"),
            }
        }
    }

    /// What it reports adds up, at any moment.
    fn reported(&mut self, report: NodeReport) {
        for disk in report.status.disks.iter().filter(|disk| disk.fault.is_none()) {
            assert!(disk.extents_free <= disk.extents, "{disk:?}");
        }
        self.status = Some(report.status);
    }

    fn complete(&mut self, index: usize, result: Result<(), DiskError>) {
        let (disk, request, operation) = self.pending.remove(index);
        if result.is_ok() {
            self.disks[disk].execute(&operation, &mut self.memory);
        }
        self.tell(Event::DiskCompleted { request, result });
    }

    /// Any legs: on disks that there are and are not, of any size, under any namespace identifier.
    fn configure(&mut self, input: &mut Input<'_>) {
        let (count, revision) = (input.below(5), input.below(4) as u64);
        let mut legs = BTreeMap::<PoolId, Vec<LegConfig>>::new();
        let mut named = BTreeSet::new();
        for _ in 0..count {
            let (number, how) = (1 + input.below(LEGS as usize) as u128, input.byte());
            let odd = how & 0x40 != 0;
            if !named.insert(number) && !odd {
                continue;
            }
            self.odd |= odd;
            let leg = LegConfig {
                leg: LegId(Uuid::from_u128(number)),
                disk: if odd {
                    disk_id(u128::from(how & 3))
                } else {
                    disk_id(number % DISKS)
                },
                nsid: if odd { u32::from(how & 0x0f) } else { number as u32 },
                extents: if odd {
                    u64::from(how >> 2 & 7)
                } else {
                    extents_of(number)
                },
                hosts: [Nqn("nqn.2025-01.test:host".to_owned())].into(),
            };
            legs.entry(PoolId(Uuid::from_u128(number % 2)))
                .or_default()
                .push(leg);
        }
        let config = DiskNodeConfig {
            node: NODE,
            revision: Revision(self.config.revision.0 + revision),
            legs,
        };
        self.config = config.clone();
        self.tell(Event::Control(NodeControl::Apply(config)));
    }

    /// The process is started again; the disks' power failed, or not.
    fn restart(&mut self, input: &mut Input<'_>) {
        let (power, mut gets_there) = (input.flag(), chances(input));
        for (disk, _, operation) in std::mem::take(&mut self.pending) {
            if gets_there() && !matches!(operation, DiskOperation::Flush) {
                self.disks[disk].execute(&operation, &mut self.memory);
            }
        }
        if power {
            self.disks.iter_mut().for_each(|disk| disk.cut(&mut gets_there));
        }
        self.starts += 1;
        self.memory = Buffers::default();
        self.failed = false;
        self.node = Node::new(options(&self.disks, self.starts));
        let config = self.config.clone();
        self.tell(Event::Timeout);
        self.tell(Event::Control(NodeControl::Apply(config)));
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.tell(Event::Timeout);
    }

    fn settle(&mut self) {
        for _ in 0..20_000 {
            if !self.pending.is_empty() {
                self.complete(0, Ok(()));
            } else if self.node.next_timeout().is_some_and(|due| due <= self.now) {
                self.tell(Event::Timeout);
            } else {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// All is answered for a while; then what is reported must be what is on the disks, and what a next start finds.
    fn end(mut self) {
        self.memory.refuse = 0;
        let config = self.config.clone();
        self.tell(Event::Control(NodeControl::Apply(config)));
        for _ in 0..20 {
            self.settle();
            self.now = self.now + Duration::from_secs(2);
        }
        self.settle();
        assert_eq!(self.memory.held(), 0, "buffers are held by nobody");
        if self.failed {
            return;
        }
        let before = self.check();
        self.restart(&mut Input::new(&[]));
        for _ in 0..20 {
            self.settle();
            self.now = self.now + Duration::from_secs(2);
        }
        self.settle();
        assert_eq!(self.check(), before, "the next start finds the same");
    }

    fn check(&self) -> Vec<(DiskId, u64)> {
        let status = self.status.as_ref().expect("it has reported");
        for disk in &status.disks {
            assert_eq!(disk.fault, None, "nothing has failed");
        }
        for leg in &status.legs {
            let told = matches!(leg.state, LegState::Ready | LegState::Failed { .. });
            assert!(told, "{leg:?} is not ready, and nobody says why");
        }
        for (index, disk) in self.disks.iter().enumerate() {
            let ready = self.ready_extents(status, disk_id(index as u128));
            let free = status
                .disks
                .iter()
                .find(|found| found.disk == disk_id(index as u128));
            let free = free.expect("every disk is reported").extents_free;
            if self.odd {
                continue;
            }
            assert_eq!(
                free + ready,
                EXTENTS,
                "extents of disk {index} are lost, or given twice"
            );
            let old = |extent: &u64| {
                let at = (format::DATA_OFFSET + extent * EXTENT) / BLOCK + extent;
                disk.block(at).is_some_and(|block| block[0] == 0xdd)
            };
            let old = (0..EXTENTS).filter(old).count() as u64;
            assert!(
                old <= free,
                "old data of {old} extents, and {free} are free (R10)"
            );
        }
        status
            .disks
            .iter()
            .map(|disk| (disk.disk, disk.extents_free))
            .collect()
    }

    fn ready_extents(&self, status: &DiskNodeStatus, disk: DiskId) -> u64 {
        let ready = |leg: LegId| {
            status
                .legs
                .iter()
                .any(|entry| entry.leg == leg && entry.state == LegState::Ready)
        };
        let mut extents = BTreeMap::new();
        for leg in self
            .config
            .legs
            .values()
            .flatten()
            .filter(|leg| leg.disk == disk && ready(leg.leg))
        {
            extents.entry(leg.leg).or_insert(leg.extents);
        }
        extents.values().sum()
    }
}
