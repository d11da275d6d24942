//! What a disk node is started with.

use cluster::spec::EXTENT_BYTES_MIN;
use cluster::{DiskNodeId, Incarnation};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

pub use engine::{Polling, WantedBackend};

/// A disk as people name it: `path` of a file or block device, or `memory:SIZE` (bytes, or with KiB, MiB, GiB, TiB).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOption {
    /// A file or a block device that was formatted.
    Path(PathBuf),
    /// Memory: volatile, born empty with every start.
    Memory {
        /// Whole blocks of 4096 bytes.
        size_bytes: u64,
    },
    /// Nothing: answers at once and keeps nothing, for measuring everything else (`null:SIZE`).
    Null {
        /// Whole blocks of 4096 bytes.
        size_bytes: u64,
    },
}

/// The text names no disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDiskOption {
    /// Nothing there.
    #[error("no disk is named: give a path, or memory:SIZE")]
    Empty,
    /// Not a size.
    #[error("{text:?} is not a size: give bytes, or a number with KiB, MiB, GiB or TiB")]
    BadSize {
        /// What was given.
        text: String,
    },
    /// Not one extent fits.
    #[error(
        "{size_bytes} bytes are too few for a disk: it needs {needed_bytes} at least, in whole blocks of 4096"
    )]
    TooSmall {
        /// What was given.
        size_bytes: u64,
        /// What is needed.
        needed_bytes: u64,
    },
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl FromStr for DiskOption {
    type Err = ParseDiskOption;

    fn from_str(text: &str) -> Result<DiskOption, ParseDiskOption> {
        let null = text.strip_prefix("null:");
        let Some(size) = null.or(text.strip_prefix("memory:")) else {
            return match text {
                "" => Err(ParseDiskOption::Empty),
                path => Ok(DiskOption::Path(PathBuf::from(path))),
            };
        };
        let size_bytes = parse_size(size).ok_or_else(|| ParseDiskOption::BadSize {
            text: size.to_owned(),
        })?;
        let needed_bytes = crate::format::DATA_OFFSET + EXTENT_BYTES_MIN;
        if size_bytes < needed_bytes || !size_bytes.is_multiple_of(4096) || size_bytes > i64::MAX as u64 {
            return Err(ParseDiskOption::TooSmall {
                size_bytes,
                needed_bytes,
            });
        }
        Ok(match null {
            Some(_) => DiskOption::Null { size_bytes },
            None => DiskOption::Memory { size_bytes },
        })
    }
}

/// A disk node to start.
#[derive(Clone, Debug)]
pub struct DiskNodeOptions {
    /// Which node; chosen once, kept by its agent.
    pub node: DiskNodeId,
    /// This start of its process.
    pub incarnation: Incarnation,
    /// Where to accept NVMe/TCP connections.
    pub listen: Vec<SocketAddr>,
    /// Its disks.
    pub disks: Vec<DiskOption>,
    /// The extents of memory disks; smaller ones where the disk is too small for one.
    pub memory_extent_bytes: u64,
    /// On how many cores it works, each with disks of its own; never more than disks.
    pub reactors: usize,
    /// The most that payload buffers take; each reactor has as much of it as it has of the disks.
    pub buffer_bytes: u64,
    /// How calls to disks are made.
    pub backend: WantedBackend,
    /// How its reactors wait.
    pub polling: Polling,
    /// Limits of the NVMe target.
    pub target: fabric::target::TargetConfig,
}

impl DiskNodeOptions {
    /// With one reactor, 64 MiB of buffers and the target's own limits.
    pub fn new(node: DiskNodeId, incarnation: Incarnation) -> DiskNodeOptions {
        DiskNodeOptions {
            node,
            incarnation,
            listen: Vec::new(),
            disks: Vec::new(),
            memory_extent_bytes: cluster::spec::EXTENT_BYTES_DEFAULT,
            reactors: 1,
            buffer_bytes: 64 << 20,
            backend: WantedBackend::Auto,
            polling: Polling::default(),
            target: fabric::target::TargetConfig::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_as_people_name_them() {
        let memory = |size_bytes| Ok(DiskOption::Memory { size_bytes });
        let bad = |text: &str| {
            Err(ParseDiskOption::BadSize {
                text: text.to_owned(),
            })
        };
        let small = |size_bytes| {
            Err(ParseDiskOption::TooSmall {
                size_bytes,
                needed_bytes: 8 << 20,
            })
        };
        let table: [(&str, Result<DiskOption, ParseDiskOption>); 16] = [
            ("/dev/nvme0n1", Ok(DiskOption::Path("/dev/nvme0n1".into()))),
            ("disks/one two", Ok(DiskOption::Path("disks/one two".into()))),
            ("", Err(ParseDiskOption::Empty)),
            ("memory:8388608", memory(8 << 20)),
            ("memory:64MiB", memory(64 << 20)),
            ("memory:1 GiB", memory(1 << 30)),
            ("null:1GiB", Ok(DiskOption::Null { size_bytes: 1 << 30 })),
            ("memory:2T", memory(2 << 40)),
            ("memory:", bad("")),
            ("memory:-1", bad("-1")),
            ("memory:1.5GiB", bad("1.5GiB")),
            ("memory:10MB", bad("10MB")),
            ("memory:99999999999999999999", bad("99999999999999999999")),
            ("memory:99999999TiB", bad("99999999TiB")),
            ("memory:0", small(0)),
            ("memory:8388609", small(8388609)),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<DiskOption>(), expected, "{text:?}");
        }
    }
}
