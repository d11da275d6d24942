//! Reservations (Base, 8.1.22; commands: 7.5 to 7.8): types, actions, keys, and the report.

use crate::{Cntlid, HostId, TooShort, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

codes! {
    /// Reservation type (RTYPE).
    pub enum ReservationType: u8 {
        WriteExclusive = 0x01 "Write Exclusive",
        ExclusiveAccess = 0x02 "Exclusive Access",
        WriteExclusiveRegistrantsOnly = 0x03 "Write Exclusive - Registrants Only",
        ExclusiveAccessRegistrantsOnly = 0x04 "Exclusive Access - Registrants Only",
        WriteExclusiveAllRegistrants = 0x05 "Write Exclusive - All Registrants",
        ExclusiveAccessAllRegistrants = 0x06 "Exclusive Access - All Registrants",
    }
}

codes! {
    /// Reservation register action (RREGA).
    pub enum RegisterAction: u8 {
        Register = 0x0 "Register Reservation Key",
        Unregister = 0x1 "Unregister Reservation Key",
        Replace = 0x2 "Replace Reservation Key",
    }
}

codes! {
    /// Reservation acquire action (RACQA).
    pub enum AcquireAction: u8 {
        Acquire = 0x0 "Acquire",
        Preempt = 0x1 "Preempt",
        PreemptAndAbort = 0x2 "Preempt and Abort",
    }
}

codes! {
    /// Reservation release action (RRELA).
    pub enum ReleaseAction: u8 {
        Release = 0x0 "Release",
        Clear = 0x1 "Clear",
    }
}

codes! {
    /// Change persist through power loss state (CPTPL).
    pub enum PersistThroughPowerLoss: u8 {
        NoChange = 0x0 "no change",
        Released = 0x2 "reservations are released and registrants cleared by a power loss",
        Persist = 0x3 "reservations and registrants persist across a power loss",
    }
}

/// A reservation key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationKey(pub u64);

/// Reservation capabilities of a namespace (RESCAP): bits of Identify Namespace.
pub mod capabilities {
    /// Persist through power loss.
    pub const PERSIST_THROUGH_POWER_LOSS: u8 = 1 << 0;
    /// Write Exclusive.
    pub const WRITE_EXCLUSIVE: u8 = 1 << 1;
    /// Exclusive Access.
    pub const EXCLUSIVE_ACCESS: u8 = 1 << 2;
    /// Write Exclusive – Registrants Only.
    pub const WRITE_EXCLUSIVE_REGISTRANTS_ONLY: u8 = 1 << 3;
    /// Exclusive Access – Registrants Only.
    pub const EXCLUSIVE_ACCESS_REGISTRANTS_ONLY: u8 = 1 << 4;
    /// Write Exclusive – All Registrants.
    pub const WRITE_EXCLUSIVE_ALL_REGISTRANTS: u8 = 1 << 5;
    /// Exclusive Access – All Registrants.
    pub const EXCLUSIVE_ACCESS_ALL_REGISTRANTS: u8 = 1 << 6;
    /// *Ignore existing key* as of revision 1.3 and later.
    pub const IGNORE_EXISTING_KEY_1_3: u8 = 1 << 7;
}

/// Data of Reservation Register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RegisterData {
    /// Current reservation key (CRKEY).
    pub current_key: U64,
    /// New reservation key (NRKEY).
    pub new_key: U64,
}
wire!(RegisterData, 16);

/// Data of Reservation Acquire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AcquireData {
    /// Current reservation key (CRKEY).
    pub current_key: U64,
    /// Preempt reservation key (PRKEY).
    pub preempt_key: U64,
}
wire!(AcquireData, 16);

/// Data of Reservation Release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReleaseData {
    /// Current reservation key (CRKEY).
    pub current_key: U64,
}
wire!(ReleaseData, 8);

/// Reservation Status data structure, its header (Base, 7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReportHeader {
    /// Generation (GEN): counts changes of registrations and reservation.
    pub generation: U32,
    /// Reservation type (RTYPE); 0 for no reservation.
    pub reservation_type: u8,
    /// Number of registrants (REGSTRNT).
    pub registrants: U16,
    pub(crate) reserved_7: [u8; 2],
    /// Persist through power loss state (PTPLS).
    pub persist_through_power_loss: u8,
    pub(crate) reserved_10: [u8; 14],
}
wire!(ReportHeader, 24);

/// Registrant data structure, 64-bit host identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RegistrantEntry {
    /// Controller identifier (CNTLID); FFFFh if not of this domain.
    pub cntlid: U16,
    /// Reservation status (RCSTS): bit 0 holds the reservation.
    pub status: u8,
    pub(crate) reserved_3: [u8; 5],
    /// Host identifier (HOSTID), 64 bits.
    pub host_id: [u8; 8],
    /// Reservation key (RKEY).
    pub key: U64,
}
wire!(RegistrantEntry, 24);

/// Registrant extended data structure, 128-bit host identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RegistrantExtendedEntry {
    /// Controller identifier (CNTLID); FFFFh if not of this domain.
    pub cntlid: U16,
    /// Reservation status (RCSTS): bit 0 holds the reservation.
    pub status: u8,
    pub(crate) reserved_3: [u8; 5],
    /// Reservation key (RKEY).
    pub key: U64,
    /// Host identifier (HOSTID), 128 bits.
    pub host_id: [u8; 16],
    pub(crate) reserved_32: [u8; 32],
}
wire!(RegistrantExtendedEntry, 64);

/// One registrant in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registrant {
    /// The controller it is registered through; [`Registrant::NO_CONTROLLER`] if none is connected.
    pub cntlid: Cntlid,
    /// Whether it holds the reservation.
    pub holds_reservation: bool,
    /// Its key.
    pub key: ReservationKey,
    /// The host; the lower 8 bytes count in a report that is not extended.
    pub host_id: HostId,
}

impl Registrant {
    /// CNTLID of a registrant that is associated with no controller.
    pub const NO_CONTROLLER: Cntlid = Cntlid(0xFFFF);
}

/// A reservation report, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Counts changes of registrations and reservation.
    pub generation: u32,
    /// The type of the reservation that is held, if one is.
    pub reservation_type: Option<ReservationType>,
    /// Whether registrations and reservation persist across a power loss.
    pub persist_through_power_loss: bool,
    /// The registrants.
    pub registrants: Vec<Registrant>,
}

impl Report {
    const EXTENDED_HEADER_SIZE: usize = 64;

    /// As the extended structure (128-bit host identifiers) or the plain one.
    pub fn encode(&self, extended: bool) -> Vec<u8> {
        let header = ReportHeader {
            generation: U32::new(self.generation),
            reservation_type: self.reservation_type.map_or(0, ReservationType::code),
            registrants: U16::new(u16::try_from(self.registrants.len()).expect("registrants fit in 16 bits")),
            persist_through_power_loss: self.persist_through_power_loss.into(),
            ..ReportHeader::default()
        };
        let mut bytes = header.as_bytes().to_vec();
        if extended {
            bytes.resize(Report::EXTENDED_HEADER_SIZE, 0);
        }
        for registrant in &self.registrants {
            if extended {
                bytes.extend_from_slice(RegistrantExtendedEntry::from(registrant).as_bytes());
            } else {
                bytes.extend_from_slice(RegistrantEntry::from(registrant).as_bytes());
            }
        }
        bytes
    }

    /// From the extended structure or the plain one, as many registrants as the bytes hold. A type that is reserved reads
    /// as none.
    pub fn parse(bytes: &[u8], extended: bool) -> Result<Report, TooShort> {
        let header = ReportHeader::parse(bytes)?;
        let header_size = if extended {
            Report::EXTENDED_HEADER_SIZE
        } else {
            ReportHeader::SIZE
        };
        let entry_size = if extended {
            RegistrantExtendedEntry::SIZE
        } else {
            RegistrantEntry::SIZE
        };
        let entries = bytes
            .get(header_size..)
            .unwrap_or_default()
            .chunks_exact(entry_size);
        let registrants = entries.take(header.registrants.get().into()).map(|entry| {
            Ok(if extended {
                Registrant::from(&RegistrantExtendedEntry::parse(entry)?)
            } else {
                Registrant::from(&RegistrantEntry::parse(entry)?)
            })
        });
        Ok(Report {
            generation: header.generation.get(),
            reservation_type: ReservationType::from_code(header.reservation_type),
            persist_through_power_loss: header.persist_through_power_loss & 1 == 1,
            registrants: registrants.collect::<Result<_, TooShort>>()?,
        })
    }
}

impl From<&Registrant> for RegistrantEntry {
    fn from(registrant: &Registrant) -> RegistrantEntry {
        let [low @ .., _, _, _, _, _, _, _, _] = registrant.host_id.0;
        RegistrantEntry {
            cntlid: U16::new(registrant.cntlid.0),
            status: registrant.holds_reservation.into(),
            host_id: low,
            key: U64::new(registrant.key.0),
            ..RegistrantEntry::default()
        }
    }
}

impl From<&RegistrantEntry> for Registrant {
    fn from(entry: &RegistrantEntry) -> Registrant {
        let mut host_id = [0; 16];
        host_id[..8].copy_from_slice(&entry.host_id);
        Registrant {
            cntlid: Cntlid(entry.cntlid.get()),
            holds_reservation: entry.status & 1 == 1,
            key: ReservationKey(entry.key.get()),
            host_id: HostId(host_id),
        }
    }
}

impl From<&Registrant> for RegistrantExtendedEntry {
    fn from(registrant: &Registrant) -> RegistrantExtendedEntry {
        RegistrantExtendedEntry {
            cntlid: U16::new(registrant.cntlid.0),
            status: registrant.holds_reservation.into(),
            key: U64::new(registrant.key.0),
            host_id: registrant.host_id.0,
            ..RegistrantExtendedEntry::default()
        }
    }
}

impl From<&RegistrantExtendedEntry> for Registrant {
    fn from(entry: &RegistrantExtendedEntry) -> Registrant {
        Registrant {
            cntlid: Cntlid(entry.cntlid.get()),
            holds_reservation: entry.status & 1 == 1,
            key: ReservationKey(entry.key.get()),
            host_id: HostId(entry.host_id),
        }
    }
}
