//! I/O commands, parsed: the NVM command set (NVM, 3.3), Flush and reservations (Base, 7).

use crate::{
    Cid, InvalidField, Nsid, Status, SubmissionQueueEntry, U32, U64, ZeroBased,
    bits::{bit, field, flag, place},
    command::{IoOpcode, Sgl, dword_offset},
    reservation::{AcquireAction, PersistThroughPowerLoss, RegisterAction, ReleaseAction, ReservationType},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A command on an I/O queue that is not a Fabrics command. The namespace is the entry's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoCommand {
    /// Everything that completed before is on the media (Base, 7.2).
    Flush,
    /// Read (NVM, 3.3.4).
    Read(Read),
    /// Write (NVM, 3.3.6).
    Write(Write),
    /// Compare (NVM, 3.3.1).
    Compare(Compare),
    /// Write Zeroes (NVM, 3.3.8).
    WriteZeroes(WriteZeroes),
    /// Dataset Management (NVM, 3.3.3). Data: [`DatasetManagementRange`]s.
    DatasetManagement(DatasetManagement),
    /// Reservation Register (Base, 7.6). Data: [`crate::reservation::RegisterData`].
    ReservationRegister(ReservationRegister),
    /// Reservation Acquire (Base, 7.5). Data: [`crate::reservation::AcquireData`].
    ReservationAcquire(ReservationAcquire),
    /// Reservation Release (Base, 7.7). Data: [`crate::reservation::ReleaseData`].
    ReservationRelease(ReservationRelease),
    /// Reservation Report (Base, 7.8). Data: see [`crate::reservation::Report`].
    ReservationReport(ReservationReport),
}

impl IoCommand {
    /// What an entry asks for. Refused: fused commands, data pointers that are not SGLs, opcodes that are not known
    /// here, codes that the specification reserves, block ranges that pass the last 64-bit address.
    pub fn parse(entry: &SubmissionQueueEntry) -> Result<IoCommand, InvalidField> {
        entry.check_flags()?;
        match IoOpcode::from_code(entry.opcode) {
            Some(IoOpcode::Flush) => Ok(IoCommand::Flush),
            Some(IoOpcode::Read) => Read::parse(entry).map(IoCommand::Read),
            Some(IoOpcode::Write) => Write::parse(entry).map(IoCommand::Write),
            Some(IoOpcode::Compare) => Compare::parse(entry).map(IoCommand::Compare),
            Some(IoOpcode::WriteZeroes) => WriteZeroes::parse(entry).map(IoCommand::WriteZeroes),
            Some(IoOpcode::DatasetManagement) => {
                Ok(IoCommand::DatasetManagement(DatasetManagement::parse(entry)))
            }
            Some(IoOpcode::ReservationRegister) => {
                ReservationRegister::parse(entry).map(IoCommand::ReservationRegister)
            }
            Some(IoOpcode::ReservationAcquire) => {
                ReservationAcquire::parse(entry).map(IoCommand::ReservationAcquire)
            }
            Some(IoOpcode::ReservationRelease) => {
                ReservationRelease::parse(entry).map(IoCommand::ReservationRelease)
            }
            Some(IoOpcode::ReservationReport) => {
                Ok(IoCommand::ReservationReport(ReservationReport::parse(entry)))
            }
            _ => Err(InvalidField::with(Status::INVALID_OPCODE, 0, 0)),
        }
    }

    /// As an entry; `sgl` says where its data is ([`Sgl::NONE`] if it has none).
    #[inline]
    pub fn encode(&self, cid: Cid, nsid: Nsid, sgl: Sgl) -> SubmissionQueueEntry {
        let dwords = match self {
            IoCommand::Flush => [0; 6],
            IoCommand::Read(read) => read.dwords(),
            IoCommand::Write(write) => write.dwords(),
            IoCommand::Compare(compare) => compare.blocks.dwords(0, 0),
            IoCommand::WriteZeroes(write_zeroes) => write_zeroes.dwords(),
            IoCommand::DatasetManagement(dataset_management) => dataset_management.dwords(),
            IoCommand::ReservationRegister(register) => register.dwords(),
            IoCommand::ReservationAcquire(acquire) => acquire.dwords(),
            IoCommand::ReservationRelease(release) => release.dwords(),
            IoCommand::ReservationReport(report) => report.dwords(),
        };
        SubmissionQueueEntry::new(self.opcode().code(), cid, nsid, sgl.encode()).with_dwords(dwords)
    }

    /// The command's opcode.
    pub fn opcode(&self) -> IoOpcode {
        match self {
            IoCommand::Flush => IoOpcode::Flush,
            IoCommand::Read(_) => IoOpcode::Read,
            IoCommand::Write(_) => IoOpcode::Write,
            IoCommand::Compare(_) => IoOpcode::Compare,
            IoCommand::WriteZeroes(_) => IoOpcode::WriteZeroes,
            IoCommand::DatasetManagement(_) => IoOpcode::DatasetManagement,
            IoCommand::ReservationRegister(_) => IoOpcode::ReservationRegister,
            IoCommand::ReservationAcquire(_) => IoOpcode::ReservationAcquire,
            IoCommand::ReservationRelease(_) => IoOpcode::ReservationRelease,
            IoCommand::ReservationReport(_) => IoOpcode::ReservationReport,
        }
    }
}

/// What all commands on a run of logical blocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogicalBlocks {
    /// Starting LBA (SLBA).
    pub slba: u64,
    /// Number of logical blocks (NLB).
    pub nlb: ZeroBased<u16>,
    /// Force unit access (FUA).
    pub force_unit_access: bool,
    /// Limited retry (LR).
    pub limited_retry: bool,
    /// Protection information (PRINFO): PRACT and PRCHK, 4 bits.
    pub protection_information: u8,
    /// Storage tag check (STC).
    pub storage_tag_check: bool,
}

impl LogicalBlocks {
    /// `nlb` blocks from `slba`, nothing else asked for.
    pub const fn new(slba: u64, nlb: ZeroBased<u16>) -> LogicalBlocks {
        LogicalBlocks {
            slba,
            nlb,
            force_unit_access: false,
            limited_retry: false,
            protection_information: 0,
            storage_tag_check: false,
        }
    }

    /// How many blocks.
    pub const fn count(&self) -> u32 {
        self.nlb.count()
    }

    /// A range whose end no 64-bit number names is in no namespace.
    fn parse(entry: &SubmissionQueueEntry) -> Result<LogicalBlocks, InvalidField> {
        let [low, high, cdw12, ..] = entry.dwords().map(u64::from);
        let blocks = LogicalBlocks {
            slba: high << 32 | low,
            nlb: ZeroBased::<u16>::from_raw(field(cdw12, 0, 16) as u16),
            force_unit_access: bit(cdw12, 30),
            limited_retry: bit(cdw12, 31),
            protection_information: field(cdw12, 26, 4) as u8,
            storage_tag_check: bit(cdw12, 24),
        };
        match blocks.slba.checked_add(blocks.count().into()) {
            Some(_) => Ok(blocks),
            None => Err(InvalidField::with(Status::LBA_OUT_OF_RANGE, dword_offset(10), 0)),
        }
    }

    #[inline]
    fn dwords(&self, cdw12: u64, cdw13: u64) -> [u32; 6] {
        let cdw12 = cdw12
            | place(self.nlb.raw.into(), 0, 16)
            | flag(self.storage_tag_check, 24)
            | place(self.protection_information.into(), 26, 4)
            | flag(self.force_unit_access, 30)
            | flag(self.limited_retry, 31);
        [
            self.slba as u32,
            (self.slba >> 32) as u32,
            cdw12 as u32,
            cdw13 as u32,
            0,
            0,
        ]
    }
}

/// Read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// What to read.
    pub blocks: LogicalBlocks,
    /// Dataset management hints (DSM): access frequency, latency, sequential, incompressible.
    pub dataset_management: u8,
}

impl Read {
    fn parse(entry: &SubmissionQueueEntry) -> Result<Read, InvalidField> {
        Ok(Read {
            blocks: LogicalBlocks::parse(entry)?,
            dataset_management: entry.cdw13.get() as u8,
        })
    }

    fn dwords(&self) -> [u32; 6] {
        self.blocks.dwords(0, self.dataset_management.into())
    }
}

/// Write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// What to write.
    pub blocks: LogicalBlocks,
    /// Dataset management hints (DSM).
    pub dataset_management: u8,
    /// Directive type (DTYPE), 4 bits.
    pub directive_type: u8,
    /// Directive specific (DSPEC).
    pub directive_specific: u16,
}

impl Write {
    /// A write without hints.
    pub const fn new(blocks: LogicalBlocks) -> Write {
        Write {
            blocks,
            dataset_management: 0,
            directive_type: 0,
            directive_specific: 0,
        }
    }

    fn parse(entry: &SubmissionQueueEntry) -> Result<Write, InvalidField> {
        let [cdw12, cdw13] = [entry.cdw12, entry.cdw13].map(|dword| u64::from(dword.get()));
        Ok(Write {
            blocks: LogicalBlocks::parse(entry)?,
            dataset_management: field(cdw13, 0, 8) as u8,
            directive_type: field(cdw12, 20, 4) as u8,
            directive_specific: field(cdw13, 16, 16) as u16,
        })
    }

    fn dwords(&self) -> [u32; 6] {
        let cdw13 =
            place(self.dataset_management.into(), 0, 8) | place(self.directive_specific.into(), 16, 16);
        self.blocks
            .dwords(place(self.directive_type.into(), 20, 4), cdw13)
    }
}

/// Compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare {
    /// What to compare with.
    pub blocks: LogicalBlocks,
}

impl Compare {
    fn parse(entry: &SubmissionQueueEntry) -> Result<Compare, InvalidField> {
        LogicalBlocks::parse(entry).map(|blocks| Compare { blocks })
    }
}

/// Write Zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteZeroes {
    /// What reads as zeroes afterwards.
    pub blocks: LogicalBlocks,
    /// Deallocate (DEAC): the space may be given back.
    pub deallocate: bool,
    /// Namespace zeroes (NSZ): the whole namespace, if the controller supports it.
    pub namespace_zeroes: bool,
}

impl WriteZeroes {
    fn parse(entry: &SubmissionQueueEntry) -> Result<WriteZeroes, InvalidField> {
        let cdw12 = entry.cdw12.get().into();
        Ok(WriteZeroes {
            blocks: LogicalBlocks::parse(entry)?,
            deallocate: bit(cdw12, 25),
            namespace_zeroes: bit(cdw12, 23),
        })
    }

    fn dwords(&self) -> [u32; 6] {
        self.blocks
            .dwords(flag(self.deallocate, 25) | flag(self.namespace_zeroes, 23), 0)
    }
}

/// Dataset Management.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatasetManagement {
    /// Number of ranges in the data (NR).
    pub ranges: ZeroBased<u8>,
    /// Integral dataset for read (IDR).
    pub integral_for_read: bool,
    /// Integral dataset for write (IDW).
    pub integral_for_write: bool,
    /// Deallocate (AD).
    pub deallocate: bool,
}

impl DatasetManagement {
    /// The most ranges a command has.
    pub const MAX_RANGES: usize = 256;

    /// Length of the ranges, in bytes.
    pub const fn data_length(&self) -> u32 {
        self.ranges.count() * DatasetManagementRange::SIZE as u32
    }

    fn parse(entry: &SubmissionQueueEntry) -> DatasetManagement {
        let cdw11 = entry.cdw11.get().into();
        DatasetManagement {
            ranges: ZeroBased::<u8>::from_raw(entry.cdw10.get() as u8),
            integral_for_read: bit(cdw11, 0),
            integral_for_write: bit(cdw11, 1),
            deallocate: bit(cdw11, 2),
        }
    }

    fn dwords(&self) -> [u32; 6] {
        let cdw11 =
            flag(self.integral_for_read, 0) | flag(self.integral_for_write, 1) | flag(self.deallocate, 2);
        [self.ranges.raw.into(), cdw11 as u32, 0, 0, 0, 0]
    }
}

/// A range of Dataset Management (NVM, 3.3.3, figure "Dataset Management – Range Definition").
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DatasetManagementRange {
    /// Context attributes (CATTR).
    pub context_attributes: U32,
    /// Length in logical blocks (LLB); not 0's based.
    pub length: U32,
    /// Starting LBA (SLBA).
    pub slba: U64,
}
wire!(DatasetManagementRange, 16);

impl DatasetManagementRange {
    /// `length` blocks from `slba`.
    pub fn new(slba: u64, length: u32) -> DatasetManagementRange {
        DatasetManagementRange {
            context_attributes: U32::ZERO,
            length: U32::new(length),
            slba: U64::new(slba),
        }
    }
}

/// Reservation Register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationRegister {
    /// Register, unregister or replace (RREGA).
    pub action: RegisterAction,
    /// Ignore the existing key (IEKEY).
    pub ignore_existing_key: bool,
    /// Change persist through power loss state (CPTPL).
    pub persist_through_power_loss: PersistThroughPowerLoss,
}

impl ReservationRegister {
    fn parse(entry: &SubmissionQueueEntry) -> Result<ReservationRegister, InvalidField> {
        let cdw10 = entry.cdw10.get().into();
        Ok(ReservationRegister {
            action: RegisterAction::from_code(field(cdw10, 0, 3) as u8)
                .ok_or(InvalidField::at(dword_offset(10)))?,
            ignore_existing_key: bit(cdw10, 3),
            persist_through_power_loss: PersistThroughPowerLoss::from_code(field(cdw10, 30, 2) as u8)
                .ok_or(InvalidField::with(Status::INVALID_FIELD, dword_offset(10) + 3, 6))?,
        })
    }

    fn dwords(&self) -> [u32; 6] {
        let cdw10 = place(self.action.code().into(), 0, 3)
            | flag(self.ignore_existing_key, 3)
            | place(self.persist_through_power_loss.code().into(), 30, 2);
        [cdw10 as u32, 0, 0, 0, 0, 0]
    }
}

/// Reservation Acquire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationAcquire {
    /// Acquire, preempt, or preempt and abort (RACQA).
    pub action: AcquireAction,
    /// Ignore the existing key (IEKEY); controllers refuse it.
    pub ignore_existing_key: bool,
    /// Reservation type (RTYPE).
    pub reservation_type: ReservationType,
}

impl ReservationAcquire {
    fn parse(entry: &SubmissionQueueEntry) -> Result<ReservationAcquire, InvalidField> {
        let cdw10 = entry.cdw10.get().into();
        Ok(ReservationAcquire {
            action: AcquireAction::from_code(field(cdw10, 0, 3) as u8)
                .ok_or(InvalidField::at(dword_offset(10)))?,
            ignore_existing_key: bit(cdw10, 3),
            reservation_type: parse_reservation_type(cdw10)?,
        })
    }

    fn dwords(&self) -> [u32; 6] {
        let cdw10 = place(self.action.code().into(), 0, 3)
            | flag(self.ignore_existing_key, 3)
            | place(self.reservation_type.code().into(), 8, 8);
        [cdw10 as u32, 0, 0, 0, 0, 0]
    }
}

/// Reservation Release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationRelease {
    /// Release or clear (RRELA).
    pub action: ReleaseAction,
    /// Ignore the existing key (IEKEY); controllers refuse it.
    pub ignore_existing_key: bool,
    /// Reservation type (RTYPE); `None` (0) where the action is [`ReleaseAction::Clear`].
    pub reservation_type: Option<ReservationType>,
}

impl ReservationRelease {
    fn parse(entry: &SubmissionQueueEntry) -> Result<ReservationRelease, InvalidField> {
        let cdw10 = entry.cdw10.get().into();
        let untyped = field(cdw10, 8, 8) == 0;
        Ok(ReservationRelease {
            action: ReleaseAction::from_code(field(cdw10, 0, 3) as u8)
                .ok_or(InvalidField::at(dword_offset(10)))?,
            ignore_existing_key: bit(cdw10, 3),
            reservation_type: if untyped {
                None
            } else {
                Some(parse_reservation_type(cdw10)?)
            },
        })
    }

    fn dwords(&self) -> [u32; 6] {
        let reservation_type = self.reservation_type.map_or(0, ReservationType::code);
        let cdw10 = place(self.action.code().into(), 0, 3)
            | flag(self.ignore_existing_key, 3)
            | place(reservation_type.into(), 8, 8);
        [cdw10 as u32, 0, 0, 0, 0, 0]
    }
}

fn parse_reservation_type(cdw10: u64) -> Result<ReservationType, InvalidField> {
    ReservationType::from_code(field(cdw10, 8, 8) as u8).ok_or(InvalidField::at(dword_offset(10) + 1))
}

/// Reservation Report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationReport {
    /// Number of dwords to return (NUMD).
    pub numd: ZeroBased<u32>,
    /// Extended data structure (EDS): 128-bit host identifiers.
    pub extended: bool,
}

impl ReservationReport {
    /// How much is to be returned, in bytes.
    pub const fn length_bytes(&self) -> u64 {
        self.numd.count() * 4
    }

    fn parse(entry: &SubmissionQueueEntry) -> ReservationReport {
        ReservationReport {
            numd: ZeroBased::<u32>::from_raw(entry.cdw10.get()),
            extended: bit(entry.cdw11.get().into(), 0),
        }
    }

    fn dwords(&self) -> [u32; 6] {
        [self.numd.raw, self.extended.into(), 0, 0, 0, 0]
    }
}
