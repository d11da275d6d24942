//! What a block holds and what a host sees, made and read.

use super::BLOCK;
use super::load::volume_id;
use fabric::host::{PathStatus, VolumeId};

/// Blocks of this value.
pub(super) fn bytes_of(value: u64, length: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(length as usize * BLOCK / 8)
}

/// The value of a block or a sector, if it has one.
pub(super) fn value_of(block: &[u8]) -> Option<u64> {
    let (words, _) = block.as_chunks::<8>();
    let first = words[0];
    words
        .iter()
        .all(|word| *word == first)
        .then(|| u64::from_le_bytes(first))
}

/// What a host sees, path by path: volumes, and their states.
pub(super) fn paths_in_short(paths: &[PathStatus]) -> String {
    let number = |volume: &VolumeId| u128::from_be_bytes(volume.0) - volume_id(0).0.as_u128();
    let path = |path: &PathStatus| {
        let live = if path.is_live() { "" } else { " (not live)" };
        let seen = path.namespaces.iter();
        let seen: Vec<String> = seen
            .map(|(volume, state)| format!("{} {state:?}", number(volume)))
            .collect();
        format!("{}{live}: {}", path.address.ip(), seen.join(", "))
    };
    paths.iter().map(path).collect::<Vec<_>>().join("; ")
}
