//! Firmware Slot Information log page (Base, 5.1.12.1.4).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Firmware Slot Information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FirmwareSlotInformation {
    /// Active firmware info (AFI): slot that is active (bits 2:0), slot of the next reset (bits 6:4).
    pub active: u8,
    pub(crate) reserved_1: [u8; 7],
    /// Firmware revisions of slots 1 to 7 (FRS1 to FRS7): ASCII, padded with spaces; zeroes for an empty slot.
    pub revisions: [[u8; 8]; 7],
    pub(crate) reserved_64: [u8; 448],
}
wire!(FirmwareSlotInformation, 512);
