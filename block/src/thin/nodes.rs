//! The nodes of a map, found by their number or by their volume's identifier with a step or two.
//!
//! Both indexes are tables with open places, made anew when a node comes or goes; identifiers are as good as random, so they
//! lie apart by themselves.

use super::config::VolumeId;
use super::places::Places;
use super::record::NodeId;
use crate::Blocks;

/// What a volume is made of.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) volume: VolumeId,
    pub(super) size: Blocks,
    pub(super) extents: Places,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// In order of their numbers.
    nodes: Vec<Node>,
    by_id: Vec<u32>,
    by_volume: Vec<u32>,
}

/// Nobody's place in an index.
const OPEN: u32 = u32::MAX;

impl Nodes {
    pub(super) fn len(&self) -> u64 {
        self.nodes.len() as u64
    }

    /// Every node, in order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    #[inline]
    pub(super) fn find(&self, id: NodeId) -> Option<&Node> {
        Some(&self.nodes[self.place_of(id)?])
    }

    pub(super) fn find_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        let place = self.place_of(id)?;
        Some(&mut self.nodes[place])
    }

    #[inline]
    pub(super) fn of_volume(&self, volume: VolumeId) -> Option<&Node> {
        let is_it = |node: &Node| node.volume == volume;
        Some(&self.nodes[search(&self.nodes, &self.by_volume, volume_start(volume), is_it)?])
    }

    #[inline]
    fn place_of(&self, id: NodeId) -> Option<usize> {
        search(&self.nodes, &self.by_id, id_start(id), |node| node.id == id)
    }

    /// Puts a node in whose number and volume are new.
    pub(super) fn insert(&mut self, node: Node) {
        let place = self.nodes.partition_point(|other| other.id < node.id);
        let is_last = place == self.nodes.len();
        self.nodes.insert(place, node);
        // Half of each index stays open.
        if is_last && self.nodes.len() * 2 <= self.by_id.len() {
            self.enter(place);
        } else {
            self.index();
        }
    }

    /// Takes a node out.
    pub(super) fn remove(&mut self, id: NodeId) -> Option<Node> {
        let place = self.place_of(id)?;
        let node = self.nodes.remove(place);
        self.index();
        Some(node)
    }

    fn index(&mut self) {
        let length = (self.nodes.len() * 4).next_power_of_two().max(16);
        for index in [&mut self.by_id, &mut self.by_volume] {
            index.clear();
            index.resize(length, OPEN);
        }
        (0..self.nodes.len()).for_each(|place| self.enter(place));
    }

    fn enter(&mut self, place: usize) {
        let node = &self.nodes[place];
        put(&mut self.by_id, id_start(node.id), place);
        put(&mut self.by_volume, volume_start(node.volume), place);
    }
}

fn id_start(id: NodeId) -> u64 {
    u64::from(id.0)
}

fn volume_start(volume: VolumeId) -> u64 {
    let bytes = u128::from_le_bytes(volume.0);
    let folded = (bytes >> 64) as u64 ^ bytes as u64;
    folded ^ folded >> 32
}

#[inline]
fn search(nodes: &[Node], index: &[u32], start: u64, is_it: impl Fn(&Node) -> bool) -> Option<usize> {
    let mask = index.len().checked_sub(1)?;
    let mut at = start as usize & mask;
    while index[at] != OPEN {
        let place = index[at] as usize;
        if is_it(&nodes[place]) {
            return Some(place);
        }
        at = (at + 1) & mask;
    }
    None
}

fn put(index: &mut [u32], start: u64, place: usize) {
    let mask = index.len() - 1;
    let mut at = start as usize & mask;
    while index[at] != OPEN {
        at = (at + 1) & mask;
    }
    index[at] = u32::try_from(place).expect("2^32 volumes are not in a pool");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn are_found_by_both_names(steps in prop::collection::vec((any::<bool>(), 0u32..60), 0..150)) {
            let (mut nodes, mut oracle) = (Nodes::default(), BTreeMap::new());
            let volume = |id: u32| VolumeId(u128::from(id / 3 * 64).to_le_bytes());
            for (insert, id) in steps {
                let known = oracle.contains_key(&id) || oracle.values().any(|other| *other == volume(id));
                if insert && !known {
                    oracle.insert(id, volume(id));
                    let (size, extents) = (Blocks(id.into()), Places::default());
                    nodes.insert(Node { id: NodeId(id), volume: volume(id), size, extents });
                } else if !insert {
                    prop_assert_eq!(nodes.remove(NodeId(id)).map(|gone| gone.volume), oracle.remove(&id));
                }
                for id in 0..60 {
                    prop_assert_eq!(nodes.find(NodeId(id)).map(|node| node.volume), oracle.get(&id).copied());
                    let owner = oracle.iter().find(|(_, other)| **other == volume(id)).map(|(id, _)| NodeId(*id));
                    prop_assert_eq!(nodes.of_volume(volume(id)).map(|node| node.id), owner);
                }
                prop_assert!(nodes.iter().map(|node| node.id.0).eq(oracle.keys().copied()));
            }
        }
    }
}
