//! The map in memory: volumes, the extents of their nodes, and which extents are dirty or free.
//!
//! It changes by [`Map::apply`] alone, and a record is applied only when it is durable; the one exception is a
//! reservation, which the disk does not know and a crash forgets. What it is not: it issues nothing.

use super::config::VolumeId;
use super::extent_set::ExtentSet;
use super::nodes::{Node, Nodes};
use super::places::Places;
use super::record::{Extent, NodeId, Place, Record};
use super::{Usage, VolumeUsage};
use crate::{Blocks, Lba};
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug)]
pub(super) struct Map {
    total: u32,
    nodes: Nodes,
    next_node: NodeId,
    /// Neither mapped, nor dirty, nor reserved.
    free: ExtentSet,
    dirty: ExtentSet,
    /// Free, and named by a record that is not durable yet.
    reserved: BTreeSet<Extent>,
}

type Outcome = Result<(), &'static str>;

impl Map {
    pub(super) fn new(total: u32, next_node: NodeId) -> Map {
        Map {
            total,
            nodes: Nodes::default(),
            next_node,
            free: ExtentSet::full(total),
            dirty: ExtentSet::empty(total),
            reserved: BTreeSet::new(),
        }
    }

    /// Changes the map as the record says. `Err` says what contradicts; the map is then of no more use.
    pub(super) fn apply(&mut self, record: &Record) -> Outcome {
        match *record {
            Record::VolumeCreated { node, volume, size } => self.create(node, volume, size),
            Record::VolumeResized { node, volume, size } => {
                let known = self.nodes.find_mut(node).filter(|known| known.volume == volume);
                known.ok_or("a size for a volume that does not exist")?.size = size;
                Ok(())
            }
            Record::VolumeDeleted { node, volume } => self.delete(node, volume),
            Record::Mapped {
                node,
                place,
                extent,
                count,
            } => self.each(extent, count, |map, index| {
                map.map(node, at(place, index)?, Extent(extent.0 + index))
            }),
            Record::Unmapped {
                node,
                place,
                extent,
                count,
            } => self.each(extent, count, |map, index| {
                map.unmap(node, at(place, index)?, Extent(extent.0 + index))
            }),
            Record::Cleaned { extent, count } => {
                self.each(extent, count, |map, index| map.clean(Extent(extent.0 + index)))
            }
            Record::Dirty { extent, count } => {
                self.each(extent, count, |map, index| map.soil(Extent(extent.0 + index)))
            }
        }
    }

    fn each(&mut self, first: Extent, count: u32, mut step: impl FnMut(&mut Map, u32) -> Outcome) -> Outcome {
        let end = first.0.checked_add(count).filter(|&end| end <= self.total);
        end.ok_or("an extent behind the end of the data area")?;
        (0..count).try_for_each(|index| step(self, index))
    }

    fn create(&mut self, node: NodeId, volume: VolumeId, size: Blocks) -> Outcome {
        if self.nodes.of_volume(volume).is_some() {
            return Err("a volume is created twice");
        }
        if self.nodes.find(node).is_some() || node.0 == u32::MAX {
            return Err("a node is created twice");
        }
        self.nodes.insert(Node {
            id: node,
            volume,
            size,
            extents: Places::default(),
        });
        self.next_node = self.next_node.max(NodeId(node.0 + 1));
        Ok(())
    }

    fn delete(&mut self, node: NodeId, volume: VolumeId) -> Outcome {
        let gone = self.nodes.remove(node).filter(|gone| gone.volume == volume);
        let gone = gone.ok_or("a volume that does not exist is deleted")?;
        for (_, extent) in gone.extents.iter() {
            self.dirty.insert(extent);
        }
        Ok(())
    }

    fn map(&mut self, node: NodeId, place: Place, extent: Extent) -> Outcome {
        if !self.reserved.remove(&extent) && !self.free.remove(extent) {
            return Err("an extent is mapped that is not clean");
        }
        let node = self
            .nodes
            .find_mut(node)
            .ok_or("an extent is mapped to a node that does not exist")?;
        match node.extents.insert(place, extent) {
            None => Ok(()),
            Some(_) => Err("a place is mapped twice"),
        }
    }

    fn unmap(&mut self, node: NodeId, place: Place, extent: Extent) -> Outcome {
        let node = self
            .nodes
            .find_mut(node)
            .ok_or("an extent is unmapped from a node that does not exist")?;
        if node.extents.remove(place) != Some(extent) {
            return Err("an extent is unmapped that was not mapped there");
        }
        self.dirty.insert(extent);
        Ok(())
    }

    fn clean(&mut self, extent: Extent) -> Outcome {
        if !self.dirty.remove(extent) {
            return Err("an extent becomes clean that was not dirty");
        }
        self.free.insert(extent);
        Ok(())
    }

    fn soil(&mut self, extent: Extent) -> Outcome {
        if !self.free.remove(extent) {
            return Err("an extent is dirty and something else");
        }
        self.dirty.insert(extent);
        Ok(())
    }

    /// Sets a clean extent aside for a record to come.
    pub(super) fn reserve(&mut self) -> Option<Extent> {
        let extent = self.free.take_first()?;
        self.reserved.insert(extent);
        Some(extent)
    }

    /// The record of a reservation will not be written.
    pub(super) fn release(&mut self, extent: Extent) {
        assert!(self.reserved.remove(&extent), "released extents were reserved");
        self.free.insert(extent);
    }

    /// A number for a new node; given out once, also if its record never comes.
    pub(super) fn assign_node(&mut self) -> NodeId {
        let node = self.next_node;
        self.next_node = NodeId(
            node.0
                .checked_add(1)
                .expect("2^32 volumes are not created in a pool's life"),
        );
        node
    }

    pub(super) fn next_node(&self) -> NodeId {
        self.next_node
    }

    pub(super) fn node(&self, volume: VolumeId) -> Option<NodeId> {
        self.nodes.of_volume(volume).map(|node| node.id)
    }

    #[inline]
    pub(super) fn node_and_size(&self, volume: VolumeId) -> Option<(NodeId, Blocks)> {
        self.nodes.of_volume(volume).map(|node| (node.id, node.size))
    }

    pub(super) fn size(&self, node: NodeId) -> Blocks {
        self.nodes.find(node).map_or(Blocks(0), |node| node.size)
    }

    pub(super) fn lookup(&self, node: NodeId, place: Place) -> Option<Extent> {
        self.nodes.find(node)?.extents.find(place)
    }

    pub(super) fn volume_count(&self) -> u64 {
        self.nodes.len()
    }

    pub(super) fn dirty(&self) -> impl Iterator<Item = Extent> + '_ {
        self.dirty.iter()
    }

    pub(super) fn dirty_count(&self) -> u32 {
        self.dirty.len()
    }

    pub(super) fn usage(&self) -> Usage {
        let [total, clean, dirty] = [self.total, self.free.len(), self.dirty.len()].map(u64::from);
        Usage {
            total,
            used: total - dirty - clean,
            dirty,
            clean,
        }
    }

    pub(super) fn volume(&self, volume: VolumeId) -> Option<VolumeUsage> {
        self.nodes.of_volume(volume).map(usage_of)
    }

    /// Every volume, by identifier.
    pub(super) fn volumes(&self) -> Vec<VolumeUsage> {
        let mut volumes: Vec<VolumeUsage> = self.nodes.iter().map(usage_of).collect();
        volumes.sort_unstable_by_key(|usage| usage.volume);
        volumes
    }

    /// Where the mapped parts of a volume lie: offset in extents from the volume's start, and from the data area's.
    pub(super) fn mapping(&self, volume: VolumeId) -> Vec<(u32, u32)> {
        let node = self.nodes.of_volume(volume);
        let extents = node.into_iter().flat_map(|node| node.extents.iter());
        extents.map(|(place, extent)| (place.0, extent.0)).collect()
    }

    /// The records that make this map from an empty one.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for known in self.nodes.iter() {
            let node = known.id;
            records.push(Record::VolumeCreated {
                node,
                volume: known.volume,
                size: known.size,
            });
            for (place, extent) in known.extents.iter() {
                push_run(
                    &mut records,
                    Record::Mapped {
                        node,
                        place,
                        extent,
                        count: 1,
                    },
                );
            }
        }
        for extent in self.dirty.iter() {
            push_run(&mut records, Record::Dirty { extent, count: 1 });
        }
        records
    }

    /// Whether every extent is exactly one thing: walks everything, for tests and for the end of an opening.
    pub(super) fn audit(&self) -> Outcome {
        let mut seen = ExtentSet::empty(self.total);
        let extents = self.nodes.iter().flat_map(|node| node.extents.iter());
        let mapped = extents.map(|(_, extent)| extent);
        let all = mapped
            .chain(self.dirty.iter())
            .chain(self.free.iter())
            .chain(self.reserved.iter().copied());
        for extent in all {
            if !seen.insert(extent) {
                return Err("an extent is two things");
            }
        }
        if seen.len() == self.total {
            Ok(())
        } else {
            Err("an extent is lost")
        }
    }
}

fn usage_of(node: &Node) -> VolumeUsage {
    VolumeUsage {
        volume: node.volume,
        size: node.size,
        mapped: node.extents.len(),
    }
}

fn at(place: Place, index: u32) -> Result<Place, &'static str> {
    place
        .0
        .checked_add(index)
        .map(Place)
        .ok_or("a place behind the end of any volume")
}

/// Adds a record of one extent, or lengthens the run that it continues.
pub(super) fn push_run(records: &mut Vec<Record>, next: Record) {
    let joined = records.last_mut().is_some_and(|last| match (last, next) {
        (
            Record::Mapped {
                node,
                place,
                extent,
                count,
            },
            Record::Mapped {
                node: same,
                place: next_place,
                extent: next_extent,
                ..
            },
        ) if *node == same && place.0 + *count == next_place.0 && extent.0 + *count == next_extent.0 => {
            *count += 1;
            true
        }
        (Record::Dirty { extent, count }, Record::Dirty { extent: next, .. })
        | (Record::Cleaned { extent, count }, Record::Cleaned { extent: next, .. })
            if extent.0 + *count == next.0 =>
        {
            *count += 1;
            true
        }
        _ => false,
    });
    if !joined {
        records.push(next);
    }
}

/// A part of a volume that lies in one extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) place: Place,
    /// From the start of the extent.
    pub(super) offset: u64,
    pub(super) blocks: u64,
}

/// Cuts a run of blocks at the borders of extents.
pub(super) fn parts(start: Lba, length: Blocks, extent: Blocks) -> impl Iterator<Item = Part> {
    let end = start.0 + length.0;
    let mut next = start.0;
    core::iter::from_fn(move || {
        (next < end).then(|| {
            let place = u32::try_from(next / extent.0).expect("volumes have at most 2^32 extents");
            let offset = next % extent.0;
            let blocks = (extent.0 - offset).min(end - next);
            next += blocks;
            Part {
                place: Place(place),
                offset,
                blocks,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(number: u8) -> VolumeId {
        VolumeId([number; 16])
    }

    fn created(node: u32, number: u8) -> Record {
        Record::VolumeCreated {
            node: NodeId(node),
            volume: volume(number),
            size: Blocks(100),
        }
    }

    fn mapped(node: u32, place: u32, extent: u32, count: u32) -> Record {
        Record::Mapped {
            node: NodeId(node),
            place: Place(place),
            extent: Extent(extent),
            count,
        }
    }

    fn unmapped(node: u32, place: u32, extent: u32) -> Record {
        Record::Unmapped {
            node: NodeId(node),
            place: Place(place),
            extent: Extent(extent),
            count: 1,
        }
    }

    fn built(records: &[Record]) -> Result<Map, &'static str> {
        let mut map = Map::new(8, NodeId(1));
        records.iter().try_for_each(|record| map.apply(record))?;
        map.audit()?;
        Ok(map)
    }

    #[test]
    fn contradictions_are_refused() {
        let clean = |extent| Record::Cleaned {
            extent: Extent(extent),
            count: 1,
        };
        let dirty = |extent, count| Record::Dirty {
            extent: Extent(extent),
            count,
        };
        let resized = |node, number| Record::VolumeResized {
            node: NodeId(node),
            volume: volume(number),
            size: Blocks(1),
        };
        let deleted = |node, number| Record::VolumeDeleted {
            node: NodeId(node),
            volume: volume(number),
        };
        for (records, reason) in [
            (vec![created(1, 1), created(2, 1)], "a volume is created twice"),
            (vec![created(1, 1), created(1, 2)], "a node is created twice"),
            (vec![resized(1, 1)], "a size for a volume that does not exist"),
            (
                vec![created(1, 1), resized(1, 2)],
                "a size for a volume that does not exist",
            ),
            (
                vec![created(1, 1), deleted(1, 2)],
                "a volume that does not exist is deleted",
            ),
            (
                vec![mapped(1, 0, 0, 1)],
                "an extent is mapped to a node that does not exist",
            ),
            (
                vec![created(1, 1), mapped(1, 0, 0, 1), mapped(1, 1, 0, 1)],
                "an extent is mapped that is not clean",
            ),
            (
                vec![created(1, 1), dirty(3, 1), mapped(1, 1, 3, 1)],
                "an extent is mapped that is not clean",
            ),
            (
                vec![created(1, 1), mapped(1, 0, 0, 1), mapped(1, 0, 1, 1)],
                "a place is mapped twice",
            ),
            (
                vec![created(1, 1), mapped(1, 0, 7, 2)],
                "an extent behind the end of the data area",
            ),
            (
                vec![created(1, 1), mapped(1, u32::MAX, 0, 2)],
                "a place behind the end of any volume",
            ),
            (
                vec![unmapped(1, 0, 0)],
                "an extent is unmapped from a node that does not exist",
            ),
            (
                vec![created(1, 1), mapped(1, 0, 0, 1), unmapped(1, 0, 1)],
                "an extent is unmapped that was not mapped there",
            ),
            (vec![clean(0)], "an extent becomes clean that was not dirty"),
            (
                vec![dirty(0, 2), dirty(1, 1)],
                "an extent is dirty and something else",
            ),
        ] {
            assert_eq!(built(&records).map(|_| ()), Err(reason), "{records:?}");
        }
    }

    #[test]
    fn a_snapshot_of_records_builds_the_same_map() {
        let records = [
            created(1, 1),
            created(4, 2),
            mapped(1, 0, 3, 2),
            mapped(1, 2, 5, 1),
            mapped(4, 0, 0, 1),
            mapped(4, 9, 1, 1),
            unmapped(4, 9, 1),
        ];
        let map = built(&records).expect("no contradiction");
        let snapshot = map.records();
        assert_eq!(
            snapshot,
            [
                created(1, 1),
                mapped(1, 0, 3, 3),
                created(4, 2),
                mapped(4, 0, 0, 1),
                Record::Dirty {
                    extent: Extent(1),
                    count: 1
                }
            ]
        );
        let again = built(&snapshot).expect("no contradiction");
        assert_eq!(again.records(), snapshot);
        assert_eq!((again.usage(), again.next_node()), (map.usage(), NodeId(5)));
    }

    #[test]
    fn requests_are_cut_at_borders_of_extents() {
        let cut = |start, length| -> Vec<_> {
            parts(Lba(start), Blocks(length), Blocks(10))
                .map(|part| (part.place.0, part.offset, part.blocks))
                .collect()
        };
        assert_eq!(cut(0, 0), []);
        assert_eq!(cut(0, 10), [(0, 0, 10)]);
        assert_eq!(cut(9, 1), [(0, 9, 1)]);
        assert_eq!(cut(9, 2), [(0, 9, 1), (1, 0, 1)]);
        assert_eq!(cut(15, 20), [(1, 5, 5), (2, 0, 10), (3, 0, 5)]);
    }
}
