//! Discovery log page (Base, 5.1.12.3.1): where subsystems are.

use crate::{
    Cntlid, Nqn, TooShort, U16, U64,
    identify::text::{fill_text, read_text},
};
use core::net::IpAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

codes! {
    /// Transport type (TRTYPE).
    pub enum TransportType: u8 {
        Rdma = 0x01 "RDMA",
        FibreChannel = 0x02 "Fibre Channel",
        Tcp = 0x03 "TCP",
        IntraHost = 0xFE "intra-host",
    }
}

codes! {
    /// Address family (ADRFAM).
    pub enum AddressFamily: u8 {
        Ipv4 = 0x01 "IPv4",
        Ipv6 = 0x02 "IPv6",
        InfiniBand = 0x03 "InfiniBand",
        FibreChannel = 0x04 "Fibre Channel",
        IntraHost = 0xFE "intra-host",
    }
}

codes! {
    /// Subsystem type (SUBTYPE).
    pub enum SubsystemType: u8 {
        Referral = 0x01 "referral to another discovery service",
        Nvm = 0x02 "NVM subsystem",
        CurrentDiscovery = 0x03 "current discovery subsystem",
    }
}

/// Header of the log page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DiscoveryLogHeader {
    /// Generation counter (GENCTR): grows with every change; read again when reading in parts is done.
    pub generation: U64,
    /// Number of records (NUMREC).
    pub records: U64,
    /// Record format (RECFMT): 0.
    pub record_format: U16,
    pub(crate) reserved_18: [u8; 1006],
}
wire!(DiscoveryLogHeader, 1024);

/// Discovery log page entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DiscoveryLogEntry {
    /// Transport type (TRTYPE).
    pub transport_type: u8,
    /// Address family (ADRFAM).
    pub address_family: u8,
    /// Subsystem type (SUBTYPE).
    pub subsystem_type: u8,
    /// Transport requirements (TREQ): see [`transport_requirements`].
    pub transport_requirements: u8,
    /// Port identifier (PORTID).
    pub port_id: U16,
    /// Controller identifier (CNTLID); FFFFh for the dynamic model.
    pub cntlid: U16,
    /// Admin max submission queue size (ASQSZ); at least 32.
    pub admin_max_sq_size: U16,
    /// Entry flags (EFLAGS): see [`entry_flags`].
    pub entry_flags: U16,
    pub(crate) reserved_12: [u8; 20],
    /// Transport service identifier (TRSVCID): the TCP port, as decimal text, padded with spaces.
    pub transport_service_id: [u8; 32],
    pub(crate) reserved_64: [u8; 192],
    /// Subsystem's name (SUBNQN), padded with NUL.
    pub subnqn: [u8; 256],
    /// Transport address (TRADDR), as text, padded with spaces.
    pub transport_address: [u8; 256],
    /// Transport specific address subtype (TSAS): for TCP the security type, then zeroes.
    pub transport_specific: [u8; 256],
}
wire!(DiscoveryLogEntry, 1024);

/// Bits of [`DiscoveryLogEntry::transport_requirements`].
pub mod transport_requirements {
    /// Secure channel (bits 1:0): not specified.
    pub const SECURE_CHANNEL_NOT_SPECIFIED: u8 = 0;
    /// Secure channel (bits 1:0): required.
    pub const SECURE_CHANNEL_REQUIRED: u8 = 1;
    /// Secure channel (bits 1:0): not required.
    pub const SECURE_CHANNEL_NOT_REQUIRED: u8 = 2;
    /// The controller can disable submission queue flow control (bit 2).
    pub const DISABLE_SQ_FLOW_CONTROL: u8 = 1 << 2;
}

/// Bits of [`DiscoveryLogEntry::entry_flags`].
pub mod entry_flags {
    /// Duplicate returned information (DUPRETINFO): all ports of the discovery subsystem return the same.
    pub const DUPLICATE_RETURNED_INFORMATION: u16 = 1 << 0;
    /// Explicit persistent connection support for discovery (EPCSD).
    pub const EXPLICIT_PERSISTENT_CONNECTION: u16 = 1 << 1;
    /// No CDC connectivity (NCC).
    pub const NO_CDC_CONNECTIVITY: u16 = 1 << 2;
}

/// Where one subsystem is, over TCP; parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryEntry {
    /// What is there.
    pub subsystem_type: SubsystemType,
    /// Its name.
    pub subsystem: Nqn,
    /// Its address.
    pub address: IpAddr,
    /// Its TCP port.
    pub port: u16,
    /// The port identifier, unique per port of the subsystem.
    pub port_id: u16,
    /// Bits of [`transport_requirements`]. Hosts that are told that flow control can be disabled do so.
    pub transport_requirements: u8,
    /// Flags of [`entry_flags`].
    pub flags: u16,
}

impl DiscoveryEntry {
    /// ASQSZ of our controllers: the smallest allowed.
    pub const ADMIN_MAX_SQ_SIZE: u16 = 32;

    /// As an entry, for a controller of the dynamic model.
    pub fn encode(&self) -> DiscoveryLogEntry {
        let family = match self.address {
            IpAddr::V4(_) => AddressFamily::Ipv4,
            IpAddr::V6(_) => AddressFamily::Ipv6,
        };
        let mut entry = DiscoveryLogEntry {
            transport_type: TransportType::Tcp.code(),
            address_family: family.code(),
            subsystem_type: self.subsystem_type.code(),
            transport_requirements: self.transport_requirements,
            port_id: U16::new(self.port_id),
            cntlid: U16::new(Cntlid::DYNAMIC.0),
            admin_max_sq_size: U16::new(DiscoveryEntry::ADMIN_MAX_SQ_SIZE),
            entry_flags: U16::new(self.flags),
            subnqn: self.subsystem.to_field(),
            ..DiscoveryLogEntry::default()
        };
        fill_text(&mut entry.transport_service_id, &self.port.to_string());
        fill_text(&mut entry.transport_address, &self.address.to_string());
        entry
    }

    /// From an entry; `None` if it is not TCP over IP, or makes no sense. Hosts skip such entries.
    pub fn parse(entry: &DiscoveryLogEntry) -> Option<DiscoveryEntry> {
        if entry.transport_type != TransportType::Tcp.code() {
            return None;
        }
        Some(DiscoveryEntry {
            subsystem_type: SubsystemType::from_code(entry.subsystem_type)?,
            subsystem: Nqn::parse_field(&entry.subnqn).ok()?,
            address: read_text(&entry.transport_address)?.parse().ok()?,
            port: read_text(&entry.transport_service_id)?.parse().ok()?,
            port_id: entry.port_id.get(),
            transport_requirements: entry.transport_requirements,
            flags: entry.entry_flags.get(),
        })
    }
}

/// The log page, header and entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryLog {
    /// Grows with every change.
    pub generation: u64,
    /// The entries.
    pub entries: Vec<DiscoveryLogEntry>,
}

impl DiscoveryLog {
    /// As on the wire.
    pub fn encode(&self) -> Vec<u8> {
        let header = DiscoveryLogHeader {
            generation: U64::new(self.generation),
            records: U64::new(self.entries.len() as u64),
            ..DiscoveryLogHeader::default()
        };
        let mut bytes = header.as_bytes().to_vec();
        for entry in &self.entries {
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes
    }

    /// From the wire; refused if there are fewer bytes than the records told take.
    pub fn parse(bytes: &[u8]) -> Result<DiscoveryLog, TooShort> {
        let header = DiscoveryLogHeader::parse(bytes)?;
        let (records, entries) = (
            header.records.get(),
            bytes[DiscoveryLogHeader::SIZE..].as_chunks::<1024>().0,
        );
        if (entries.len() as u64) < records {
            let needed_bytes = records.saturating_add(1).saturating_mul(1024);
            return Err(TooShort {
                needed_bytes: usize::try_from(needed_bytes).unwrap_or(usize::MAX),
                got_bytes: bytes.len(),
            });
        }
        let told = &entries[..records as usize];
        Ok(DiscoveryLog {
            generation: header.generation.get(),
            entries: told
                .iter()
                .map(|entry| DiscoveryLogEntry::from_bytes(*entry))
                .collect(),
        })
    }
}
