//! Whose is a disk that somebody wants to format? Everything that is not plainly empty is somebody's.

use super::superblock::{BadSuperblock, Superblock};
use super::{SUPERBLOCK_BYTES, SUPERBLOCK_OFFSETS};
use cluster::{DiskId, DiskNodeId};

/// How much of a disk's start must be looked at: also what must be zero on an empty disk.
pub const HEAD_BYTES: usize = 1 << 20;
/// How much of its end.
pub const TAIL_BYTES: usize = 128 << 10;

/// What lies on a disk that is not empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Occupied {
    /// A disk of a disk node.
    #[error("it is formatted already: disk {disk}, {}", owner(.node))]
    Formatted {
        /// Which.
        disk: DiskId,
        /// Whose.
        node: Option<DiskNodeId>,
    },
    /// A disk of a disk node whose superblocks are damaged, or newer.
    #[error("it was formatted as a disk of a disk node: {0}")]
    Damaged(BadSuperblock),
    /// Something of somebody else's, known by its signature.
    #[error("it holds {0}")]
    Foreign(&'static str),
    /// Nothing known, but not zeroes either.
    #[error("its first MiB is not empty")]
    Unknown,
}

fn owner(node: &Option<DiskNodeId>) -> String {
    node.map_or("not yet of any disk node".to_owned(), |node| {
        format!("of disk node {node}")
    })
}

struct Signature {
    what: &'static str,
    at: usize,
    bytes: &'static [u8],
}

const fn signature(what: &'static str, at: usize, bytes: &'static [u8]) -> Signature {
    Signature { what, at, bytes }
}

const MD: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();

/// Signatures at the start, most telling first.
const AT_START: &[Signature] = &[
    signature("a GPT partition table", 512, b"EFI PART"),
    signature("a GPT partition table", 4096, b"EFI PART"),
    signature("a LUKS volume", 0, b"LUKS\xba\xbe"),
    signature("an LVM physical volume", 0, b"LABELONE"),
    signature("an LVM physical volume", 512, b"LABELONE"),
    signature("an LVM physical volume", 1024, b"LABELONE"),
    signature("an LVM physical volume", 1536, b"LABELONE"),
    signature("a member of an md array", 0, &MD),
    signature("a member of an md array", 4096, &MD),
    signature("an XFS file system", 0, b"XFSB"),
    signature("an ext file system", 1080, b"\x53\xef"),
    signature("a btrfs file system", 0x10040, b"_BHRfS_M"),
    signature("an F2FS file system", 1024, b"\x10\x20\xf5\xf2"),
    signature("a bcache device", 4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    signature("a BlueStore device", 0, b"bluestore block device"),
    signature("swap space", 4086, b"SWAPSPACE2"),
    signature("swap space", 4086, b"SWAP-SPACE"),
    signature("an NTFS file system", 3, b"NTFS    "),
    signature("an exFAT file system", 3, b"EXFAT   "),
    signature("a FAT file system", 82, b"FAT32   "),
    signature("a FAT file system", 54, b"FAT1"),
    signature("a squashfs file system", 0, b"hsqs"),
    signature("an ISO 9660 file system", 32769, b"CD001"),
    signature("an MBR partition table", 510, b"\x55\xaa"),
];

/// What lies on a disk: its first [`HEAD_BYTES`] (less if it is smaller) and its last [`TAIL_BYTES`].
pub fn look(head: &[u8], tail: &[u8]) -> Option<Occupied> {
    ours(head)
        .or_else(|| foreign(head, tail).map(Occupied::Foreign))
        .or_else(|| {
            let empty = head.iter().all(|byte| *byte == 0);
            (!empty).then_some(Occupied::Unknown)
        })
}

fn ours(head: &[u8]) -> Option<Occupied> {
    let copy = |offset: u64| {
        let at = offset as usize;
        Superblock::parse(head.get(at..at + SUPERBLOCK_BYTES as usize).unwrap_or_default())
    };
    let copies = SUPERBLOCK_OFFSETS.map(copy);
    if let Some(superblock) = copies.iter().find_map(|copy| copy.as_ref().ok()) {
        return Some(Occupied::Formatted {
            disk: superblock.disk,
            node: superblock.node,
        });
    }
    let damage = copies
        .into_iter()
        .filter_map(Result::err)
        .find(|bad| *bad != BadSuperblock::NotOurs);
    damage.map(Occupied::Damaged)
}

fn foreign(head: &[u8], tail: &[u8]) -> Option<&'static str> {
    let there = |signature: &&Signature| {
        head.get(signature.at..)
            .is_some_and(|bytes| bytes.starts_with(signature.bytes))
    };
    AT_START
        .iter()
        .find(there)
        .map(|signature| signature.what)
        .or_else(|| at_end(tail))
}

/// Two kinds keep what tells them from others at the end: a backup GPT in the last sector, and old md metadata at
/// fixed distances (0.90: the last whole 64 KiB but one boundary; 1.0: 8 KiB from the end, rounded down to 4 KiB).
fn at_end(tail: &[u8]) -> Option<&'static str> {
    let last = |sector: usize| tail.len().checked_sub(sector).and_then(|at| tail.get(at..));
    if [512, 4096]
        .iter()
        .any(|sector| last(*sector).is_some_and(|bytes| bytes.starts_with(b"EFI PART")))
    {
        return Some("a GPT partition table (its backup)");
    }
    let md = |at: usize| tail.get(at..at + 4) == Some(&MD[..]);
    (0..tail.len())
        .step_by(4096)
        .any(md)
        .then_some("a member of an md array")
}

#[cfg(test)]
mod tests {
    //! Mutants these tests catch: a signature that is not looked for, or at another place; the end not looked at.

    use super::*;
    use uuid::Uuid;

    fn empty() -> (Vec<u8>, Vec<u8>) {
        (vec![0; HEAD_BYTES], vec![0; TAIL_BYTES])
    }

    #[test]
    fn an_empty_disk_is_nobodys() {
        let (head, tail) = empty();
        assert_eq!(look(&head, &tail), None);
        assert_eq!(look(&[], &[]), None);
    }

    #[test]
    fn every_signature_is_seen() {
        for signature in AT_START {
            let (mut head, tail) = empty();
            head[signature.at..signature.at + signature.bytes.len()].copy_from_slice(signature.bytes);
            assert_eq!(look(&head, &tail), Some(Occupied::Foreign(signature.what)));
        }
        let at_end: [(usize, &[u8], &str); 4] = [
            (512, b"EFI PART", "GPT"),
            (4096, b"EFI PART", "GPT"),
            (65536, &MD, "md array"),
            (8192, &MD, "md array"),
        ];
        for (from_end, bytes, what) in at_end {
            let (head, mut tail) = empty();
            let at = TAIL_BYTES - from_end;
            tail[at..at + bytes.len()].copy_from_slice(bytes);
            let seen = look(&head, &tail).expect("seen").to_string();
            assert!(seen.contains(what), "{seen}");
        }
    }

    #[test]
    fn one_byte_is_enough_not_to_be_empty() {
        for at in [0, 1, 511, 70_000, HEAD_BYTES - 1] {
            let (mut head, tail) = empty();
            head[at] = 1;
            assert_eq!(look(&head, &tail), Some(Occupied::Unknown), "at {at}");
        }
    }

    #[test]
    fn ours_is_known_by_either_copy() {
        let disk = DiskId(Uuid::from_u128(7));
        let node = Some(DiskNodeId(Uuid::from_u128(8)));
        let bytes = Superblock::fresh(disk, node, 1 << 30, 4 << 20).unwrap().encode();
        for offset in SUPERBLOCK_OFFSETS {
            let (mut head, tail) = empty();
            let at = offset as usize;
            head[at..at + bytes.len()].copy_from_slice(&bytes);
            assert_eq!(look(&head, &tail), Some(Occupied::Formatted { disk, node }));
            head[at + 100] ^= 1;
            assert_eq!(
                look(&head, &tail),
                Some(Occupied::Damaged(BadSuperblock::Checksum))
            );
        }
    }
}
