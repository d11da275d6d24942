//! What a pool is told about itself, and where its parts lie in the metadata area.

use super::record::RECORDS_PER_BODY_BLOCK;
use crate::Blocks;
use core::fmt;

/// Names a volume in a pool; the control plane's volume identifier, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(pub [u8; 16]);

/// The two areas below a pool, each with its own addresses from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// Checkpoints and journal of the map: blocks `0..PoolConfig::metadata`.
    Metadata,
    /// The extents: blocks `0..PoolConfig::data`. They read as zeroes before the pool is formatted (R10).
    Data,
}

/// What a pool is told when it is formatted or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Which pool (or slice of one): the map names it, and a map of another one is refused.
    pub pool: [u8; 16],
    /// Under which the owner serves (R1); a map written under a later epoch is refused.
    pub epoch: u64,
    /// Unit of space. The same at every opening.
    pub extent: Blocks,
    /// Length of [`Area::Metadata`]. The same at every opening.
    pub metadata: Blocks,
    /// Length of [`Area::Data`]; what is behind the last whole extent stays unused. It may have grown since the last
    /// opening (what was added reads as zeroes), never shrunk.
    pub data: Blocks,
}

/// Why a pool cannot be formatted or opened. Nothing is ever formatted anew because of one of these (R9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The extent is zero blocks long, or longer than 2^32 - 1 blocks.
    ExtentLength {
        /// As configured.
        extent: Blocks,
    },
    /// The data area does not hold one extent.
    NoData {
        /// As configured.
        data: Blocks,
    },
    /// More extents than the map can name (2^32 - 1).
    TooManyExtents {
        /// In the data area.
        extents: u64,
    },
    /// The metadata area cannot hold a checkpoint of a full pool: larger extents, or a larger metadata area.
    MetadataTooSmall {
        /// As configured.
        metadata: Blocks,
        /// What this many extents need.
        needed: Blocks,
    },
    /// Neither checkpoint slot is readable and whole.
    NoCheckpoint,
    /// The map is of another pool.
    ForeignPool {
        /// The pool it names.
        found: [u8; 16],
    },
    /// The map was written by a version of the program that this one does not know.
    UnknownVersion {
        /// The version it carries.
        found: u16,
    },
    /// The map was made for another extent length or metadata area, or for a larger data area.
    GeometryChanged {
        /// Which number differs.
        what: &'static str,
        /// In the map.
        stored: u64,
        /// In the configuration.
        configured: u64,
    },
    /// The map was written under a later epoch: this owner is not the newest.
    LaterEpoch {
        /// The epoch in the map.
        found: u64,
    },
    /// A block of the journal that was once whole is not any more, or cannot be read.
    JournalCorrupt {
        /// Which one.
        sequence: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The records contradict each other.
    MapInconsistent {
        /// How.
        what: &'static str,
    },
    /// The area below cannot be written or read (media).
    Media,
    /// A newer owner has fenced this one (R2).
    Fenced,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::ExtentLength { extent } => write!(f, "an extent of {} blocks is not possible", extent.0),
            Failure::NoData { data } => {
                write!(f, "a data area of {} blocks does not hold one extent", data.0)
            }
            Failure::TooManyExtents { extents } => {
                write!(
                    f,
                    "{extents} extents are more than a pool can name; choose larger extents"
                )
            }
            Failure::MetadataTooSmall { metadata, needed } => write!(
                f,
                "the metadata area has {} blocks and {} are needed; choose larger extents or longer legs",
                metadata.0, needed.0
            ),
            Failure::NoCheckpoint => write!(f, "neither checkpoint of the pool's map is readable and whole"),
            Failure::ForeignPool { found } => {
                write!(f, "the map belongs to pool {:032x}", u128::from_be_bytes(*found))
            }
            Failure::UnknownVersion { found } => {
                write!(f, "the map has version {found}, which is not known here")
            }
            Failure::GeometryChanged {
                what,
                stored,
                configured,
            } => {
                write!(
                    f,
                    "{what} is {stored} in the map and {configured} in the configuration"
                )
            }
            Failure::LaterEpoch { found } => write!(f, "the map was written under the later epoch {found}"),
            Failure::JournalCorrupt { sequence, what } => write!(f, "journal block {sequence}: {what}"),
            Failure::MapInconsistent { what } => write!(f, "the map contradicts itself: {what}"),
            Failure::Media => write!(f, "the metadata area has a media error"),
            Failure::Fenced => write!(f, "a newer owner has fenced this one"),
        }
    }
}

impl core::error::Error for Failure {}

/// Volumes that a checkpoint must have room for beside a map of every extent.
const VOLUMES_MIN: u64 = 256;
const JOURNAL_BLOCKS_MIN: u64 = 8;
const JOURNAL_BLOCKS_MAX: u64 = 1024;

/// Where the parts of the metadata area lie: slot, slot, journal. It follows from the area's length alone, so that a
/// data area may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) extent: Blocks,
    pub(super) extents: u32,
    pub(super) slot_blocks: u64,
    pub(super) journal_blocks: u64,
    /// Volumes for which there is room beside a map of every extent.
    pub(super) volumes_max: u64,
}

impl Geometry {
    pub(super) fn plan(config: &PoolConfig) -> Result<Geometry, Failure> {
        if config.extent.0 == 0 || config.extent.0 > u64::from(u32::MAX) {
            return Err(Failure::ExtentLength {
                extent: config.extent,
            });
        }
        let extents = config.data.0 / config.extent.0;
        if extents == 0 {
            return Err(Failure::NoData { data: config.data });
        }
        let named = u32::try_from(extents).ok().filter(|&extents| extents != u32::MAX);
        let extents = named.ok_or(Failure::TooManyExtents { extents })?;
        let needed = metadata_blocks_needed(extents);
        if config.metadata < needed {
            return Err(Failure::MetadataTooSmall {
                metadata: config.metadata,
                needed,
            });
        }
        let journal_blocks = journal_blocks(config.metadata.0);
        let slot_blocks = slot_blocks(config.metadata.0);
        let volumes_max = (slot_blocks - 1) * RECORDS_PER_BODY_BLOCK - u64::from(extents);
        Ok(Geometry {
            extent: config.extent,
            extents,
            slot_blocks,
            journal_blocks,
            volumes_max,
        })
    }

    /// Whether a volume may have this size: the map has a number for each place in it.
    pub(super) fn allows(&self, size: Blocks) -> bool {
        let places = size.0.div_ceil(self.extent.0);
        (1..=u64::from(u32::MAX)).contains(&places)
    }

    /// First block of a checkpoint slot (0 or 1).
    pub(super) fn slot_start(&self, slot: u8) -> u64 {
        u64::from(slot) * self.slot_blocks
    }

    /// Where the journal block of this sequence number lies.
    pub(super) fn journal_block(&self, sequence: u64) -> u64 {
        2 * self.slot_blocks + sequence % self.journal_blocks
    }
}

fn journal_blocks(metadata: u64) -> u64 {
    (metadata / 8).clamp(JOURNAL_BLOCKS_MIN, JOURNAL_BLOCKS_MAX)
}

fn slot_blocks(metadata: u64) -> u64 {
    metadata.saturating_sub(journal_blocks(metadata)) / 2
}

/// The smallest metadata area that holds the map of a pool with this many extents.
pub(super) fn metadata_blocks_needed(extents: u32) -> Blocks {
    let slot = 1 + (u64::from(extents) + VOLUMES_MIN).div_ceil(RECORDS_PER_BODY_BLOCK);
    // At most an eighth is journal: the answer lies between the two slots alone and 8/7 of them, journal rounded.
    let mut blocks = 2 * slot + JOURNAL_BLOCKS_MIN;
    while slot_blocks(blocks) < slot {
        blocks += 2 * (slot - slot_blocks(blocks));
    }
    Blocks(blocks)
}
