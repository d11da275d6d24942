//! Asymmetric Namespace Access log page (Base, 5.1.12.1.13; 8.1.1): which groups of namespaces are served here, and how
//! well.

use crate::{Nsid, Status, TooShort, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

codes! {
    /// Asymmetric namespace access state of a group on a controller.
    pub enum AnaState: u8 {
        Optimized = 0x1 "optimized",
        NonOptimized = 0x2 "non-optimized",
        Inaccessible = 0x3 "inaccessible",
        PersistentLoss = 0x4 "persistent loss",
        Change = 0xF "change",
    }
}

impl AnaState {
    /// What commands on a namespace of a group in this state are refused with; `None` where they are executed.
    pub const fn refusal(self) -> Option<Status> {
        match self {
            AnaState::Optimized | AnaState::NonOptimized => None,
            AnaState::Inaccessible => Some(Status::ANA_INACCESSIBLE),
            AnaState::PersistentLoss => Some(Status::ANA_PERSISTENT_LOSS),
            AnaState::Change => Some(Status::ANA_TRANSITION),
        }
    }
}

/// Header of the log page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AnaLogHeader {
    /// Change count (CHGCNT): grows with every change of the log page.
    pub change_count: U64,
    /// Number of group descriptors (NAGD).
    pub groups: U16,
    pub(crate) reserved_10: [u8; 6],
}
wire!(AnaLogHeader, 16);

/// ANA group descriptor, without the namespace identifiers behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AnaGroupDescriptor {
    /// ANA group identifier (AGID).
    pub group: U32,
    /// Number of namespace identifiers behind the descriptor (NNSID).
    pub namespaces: U32,
    /// Change count of the group (CHGCNT); 0 if not told.
    pub change_count: U64,
    /// ANA state (bits 3:0).
    pub state: u8,
    pub(crate) reserved_17: [u8; 15],
}
wire!(AnaGroupDescriptor, 32);

/// One group, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnaGroup {
    /// Its identifier; not 0.
    pub group: u32,
    /// Its own change count; 0 if not told.
    pub change_count: u64,
    /// Its state on this controller.
    pub state: AnaState,
    /// The attached namespaces in it, ascending; none if groups only were asked for.
    pub namespaces: Vec<Nsid>,
}

/// The log page, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnaLog {
    /// Grows with every change of the log page.
    pub change_count: u64,
    /// The groups, ascending.
    pub groups: Vec<AnaGroup>,
}

/// Why bytes are not an ANA log page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidAnaLog {
    /// Fewer bytes than the groups told take. More of the log page may have to be read.
    TooShort(TooShort),
    /// A state that is none of the five.
    State {
        /// The group.
        group: u32,
        /// The state told.
        state: u8,
    },
}

impl AnaLog {
    /// Log specific parameter: return groups only (RGO), no namespace identifiers.
    pub const RETURN_GROUPS_ONLY: u8 = 1 << 0;

    /// The longest log page of so many groups and namespaces, in bytes.
    pub const fn max_length(groups: usize, namespaces: usize) -> usize {
        AnaLogHeader::SIZE + groups * AnaGroupDescriptor::SIZE + namespaces * size_of::<u32>()
    }

    /// As on the wire; `groups_only` leaves out the namespace identifiers.
    pub fn encode(&self, groups_only: bool) -> Vec<u8> {
        let header = AnaLogHeader {
            change_count: U64::new(self.change_count),
            groups: U16::new(u16::try_from(self.groups.len()).expect("ANA groups fit in 16 bits")),
            ..AnaLogHeader::default()
        };
        let mut bytes = header.as_bytes().to_vec();
        for group in &self.groups {
            group.encode(groups_only, &mut bytes);
        }
        bytes
    }

    /// From the wire. Bytes behind the last group are ignored.
    pub fn parse(bytes: &[u8]) -> Result<AnaLog, InvalidAnaLog> {
        let header = AnaLogHeader::parse(bytes)?;
        let mut rest = &bytes[AnaLogHeader::SIZE..];
        let mut groups = Vec::new();
        for _ in 0..header.groups.get() {
            let (group, behind) = AnaGroup::parse(rest)?;
            groups.push(group);
            rest = behind;
        }
        Ok(AnaLog {
            change_count: header.change_count.get(),
            groups,
        })
    }
}

impl AnaGroup {
    fn encode(&self, groups_only: bool, bytes: &mut Vec<u8>) {
        let namespaces = if groups_only {
            &[]
        } else {
            self.namespaces.as_slice()
        };
        let descriptor = AnaGroupDescriptor {
            group: U32::new(self.group),
            namespaces: U32::new(u32::try_from(namespaces.len()).expect("namespaces fit in 32 bits")),
            change_count: U64::new(self.change_count),
            state: self.state.code(),
            ..AnaGroupDescriptor::default()
        };
        bytes.extend_from_slice(descriptor.as_bytes());
        for nsid in namespaces {
            bytes.extend_from_slice(&nsid.0.to_le_bytes());
        }
    }

    /// The group at the start of `bytes`, and what is behind it.
    fn parse(bytes: &[u8]) -> Result<(AnaGroup, &[u8]), InvalidAnaLog> {
        let descriptor = AnaGroupDescriptor::parse(bytes)?;
        let group = descriptor.group.get();
        let state = descriptor.state & 0x0F;
        // 64 bits hold any count of 32 bits times four, on every machine.
        let needed_bytes = AnaGroupDescriptor::SIZE as u64 + u64::from(descriptor.namespaces.get()) * 4;
        if needed_bytes > bytes.len() as u64 {
            return Err(InvalidAnaLog::TooShort(TooShort {
                needed_bytes: usize::try_from(needed_bytes).unwrap_or(usize::MAX),
                got_bytes: bytes.len(),
            }));
        }
        let (own, behind) = bytes.split_at(needed_bytes as usize);
        let nsids = own[AnaGroupDescriptor::SIZE..].as_chunks::<4>().0.iter();
        let parsed = AnaGroup {
            group,
            change_count: descriptor.change_count.get(),
            state: AnaState::from_code(state).ok_or(InvalidAnaLog::State { group, state })?,
            namespaces: nsids.map(|nsid| Nsid(u32::from_le_bytes(*nsid))).collect(),
        };
        Ok((parsed, behind))
    }
}

impl From<TooShort> for InvalidAnaLog {
    fn from(too_short: TooShort) -> InvalidAnaLog {
        InvalidAnaLog::TooShort(too_short)
    }
}

impl core::fmt::Display for InvalidAnaLog {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            InvalidAnaLog::TooShort(too_short) => write!(formatter, "the ANA log page has {too_short}"),
            InvalidAnaLog::State { group, state } => {
                write!(
                    formatter,
                    "ANA group {group} is said to be in state {state:x}h, which is reserved"
                )
            }
        }
    }
}

impl core::error::Error for InvalidAnaLog {}
