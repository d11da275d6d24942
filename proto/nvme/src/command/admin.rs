//! Admin commands, parsed (Base, 5.1).

use crate::{
    Cid, Cntlid, InvalidField, Nsid, Qid, Status, SubmissionQueueEntry, ZeroBased,
    bits::{bit, field, flag, place},
    command::{AdminOpcode, Sgl, dword_offset},
    feature::FeatureIdentifier,
    log::LogPageIdentifier,
};

/// A command on the admin queue that is not a Fabrics command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminCommand {
    /// Identify.
    Identify(Identify),
    /// Get Log Page.
    GetLogPage(GetLogPage),
    /// Get Features.
    GetFeatures(GetFeatures),
    /// Set Features.
    SetFeatures(SetFeatures),
    /// Asynchronous Event Request.
    AsynchronousEventRequest,
    /// Keep Alive.
    KeepAlive,
    /// Abort.
    Abort(Abort),
}

impl AdminCommand {
    /// What an entry asks for. Refused: fused commands, data pointers that are not SGLs, opcodes that are not known
    /// here, codes that the specification reserves.
    pub fn parse(entry: &SubmissionQueueEntry) -> Result<AdminCommand, InvalidField> {
        entry.check_flags()?;
        match AdminOpcode::from_code(entry.opcode) {
            Some(AdminOpcode::Identify) => Identify::parse(entry).map(AdminCommand::Identify),
            Some(AdminOpcode::GetLogPage) => GetLogPage::parse(entry).map(AdminCommand::GetLogPage),
            Some(AdminOpcode::GetFeatures) => GetFeatures::parse(entry).map(AdminCommand::GetFeatures),
            Some(AdminOpcode::SetFeatures) => SetFeatures::parse(entry).map(AdminCommand::SetFeatures),
            Some(AdminOpcode::AsynchronousEventRequest) => Ok(AdminCommand::AsynchronousEventRequest),
            Some(AdminOpcode::KeepAlive) => Ok(AdminCommand::KeepAlive),
            Some(AdminOpcode::Abort) => Ok(AdminCommand::Abort(Abort::parse(entry))),
            _ => Err(InvalidField::with(Status::INVALID_OPCODE, 0, 0)),
        }
    }

    /// As an entry; `sgl` says where its data is ([`Sgl::NONE`] if it has none).
    pub fn encode(&self, cid: Cid, sgl: Sgl) -> SubmissionQueueEntry {
        let (nsid, dwords) = match self {
            AdminCommand::Identify(identify) => (identify.nsid, identify.dwords()),
            AdminCommand::GetLogPage(get_log_page) => (get_log_page.nsid, get_log_page.dwords()),
            AdminCommand::GetFeatures(get_features) => (get_features.nsid, get_features.dwords()),
            AdminCommand::SetFeatures(set_features) => (set_features.nsid, set_features.dwords()),
            AdminCommand::AsynchronousEventRequest | AdminCommand::KeepAlive => (Nsid::NONE, [0; 6]),
            AdminCommand::Abort(abort) => (Nsid::NONE, abort.dwords()),
        };
        SubmissionQueueEntry::new(self.opcode().code(), cid, nsid, sgl.encode()).with_dwords(dwords)
    }

    /// The command's opcode.
    pub fn opcode(&self) -> AdminOpcode {
        match self {
            AdminCommand::Identify(_) => AdminOpcode::Identify,
            AdminCommand::GetLogPage(_) => AdminOpcode::GetLogPage,
            AdminCommand::GetFeatures(_) => AdminOpcode::GetFeatures,
            AdminCommand::SetFeatures(_) => AdminOpcode::SetFeatures,
            AdminCommand::AsynchronousEventRequest => AdminOpcode::AsynchronousEventRequest,
            AdminCommand::KeepAlive => AdminOpcode::KeepAlive,
            AdminCommand::Abort(_) => AdminOpcode::Abort,
        }
    }
}

codes! {
    /// Controller or namespace structure (CNS; Base, 5.1.13.1): which data structure Identify returns.
    pub enum Cns: u8 {
        Namespace = 0x00 "Identify Namespace data structure",
        Controller = 0x01 "Identify Controller data structure",
        ActiveNamespaceList = 0x02 "Active Namespace ID list",
        NamespaceIdentificationDescriptors = 0x03 "Namespace Identification Descriptor list",
        NvmSetList = 0x04 "NVM Set List",
        CommandSetNamespace = 0x05 "I/O Command Set specific Identify Namespace data structure",
        CommandSetController = 0x06 "I/O Command Set specific Identify Controller data structure",
        CommandSetActiveNamespaceList = 0x07 "I/O Command Set specific Active Namespace ID list",
        IndependentNamespace = 0x08 "I/O Command Set Independent Identify Namespace data structure",
        NamespaceUserDataFormat = 0x09 "Identify Namespace data structure of a User Data Format",
        CommandSetNamespaceUserDataFormat = 0x0A "I/O Command Set specific Identify Namespace data structure of a User Data Format",
        AllocatedNamespaceList = 0x10 "Allocated Namespace ID list",
        AllocatedNamespace = 0x11 "Identify Namespace data structure for an Allocated Namespace ID",
        NamespaceControllerList = 0x12 "Controller List of controllers attached to a namespace",
        ControllerList = 0x13 "Controller List of controllers in the subsystem",
        PrimaryControllerCapabilities = 0x14 "Primary Controller Capabilities data structure",
        SecondaryControllerList = 0x15 "Secondary Controller list",
        NamespaceGranularityList = 0x16 "Namespace Granularity List",
        UuidList = 0x17 "UUID List",
        DomainList = 0x18 "Domain List",
        EnduranceGroupList = 0x19 "Endurance Group List",
        CommandSetAllocatedNamespaceList = 0x1A "I/O Command Set specific Allocated Namespace ID list",
        CommandSetAllocatedNamespace = 0x1B "I/O Command Set specific Identify Namespace data structure for an Allocated Namespace ID",
        IoCommandSets = 0x1C "Identify I/O Command Set data structure",
    }
}

/// Identify (Base, 5.1.13). Always 4096 bytes of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identify {
    /// Which structure.
    pub cns: Cns,
    /// Of which namespace, or where a list begins; depends on `cns`.
    pub nsid: Nsid,
    /// Controller identifier (CNTID); depends on `cns`.
    pub cntid: Cntlid,
    /// CNS specific identifier.
    pub cns_specific_identifier: u16,
    /// Command set identifier (CSI); 0 is the NVM command set.
    pub csi: u8,
    /// UUID index; 0 for none.
    pub uuid_index: u8,
}

impl Identify {
    /// Length of every answer, in bytes.
    pub const DATA_SIZE: usize = 4096;

    /// The structure `cns` of a namespace, with nothing else said.
    pub const fn new(cns: Cns, nsid: Nsid) -> Identify {
        Identify {
            cns,
            nsid,
            cntid: Cntlid(0),
            cns_specific_identifier: 0,
            csi: 0,
            uuid_index: 0,
        }
    }

    fn parse(entry: &SubmissionQueueEntry) -> Result<Identify, InvalidField> {
        let [cdw10, cdw11, _, _, cdw14, _] = entry.dwords().map(u64::from);
        Ok(Identify {
            cns: Cns::from_code(field(cdw10, 0, 8) as u8).ok_or(InvalidField::at(dword_offset(10)))?,
            nsid: entry.nsid(),
            cntid: Cntlid(field(cdw10, 16, 16) as u16),
            cns_specific_identifier: field(cdw11, 0, 16) as u16,
            csi: field(cdw11, 24, 8) as u8,
            uuid_index: field(cdw14, 0, 7) as u8,
        })
    }

    fn dwords(&self) -> [u32; 6] {
        let cdw10 = place(self.cns.code().into(), 0, 8) | place(self.cntid.0.into(), 16, 16);
        let cdw11 = place(self.cns_specific_identifier.into(), 0, 16) | place(self.csi.into(), 24, 8);
        let cdw14 = place(self.uuid_index.into(), 0, 7);
        [cdw10 as u32, cdw11 as u32, 0, 0, cdw14 as u32, 0]
    }
}

/// Get Log Page (Base, 5.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetLogPage {
    /// Which log page (LID).
    pub lid: LogPageIdentifier,
    /// Of which namespace; depends on `lid`.
    pub nsid: Nsid,
    /// Log specific parameter (LSP), 7 bits.
    pub lsp: u8,
    /// Retain asynchronous event (RAE): reading does not clear it.
    pub retain_asynchronous_event: bool,
    /// Number of dwords to return (NUMD).
    pub numd: ZeroBased<u32>,
    /// Log specific identifier (LSI).
    pub lsi: u16,
    /// Where in the log page to begin (LPO): bytes (multiple of 4), or an index if `offset_is_index`.
    pub offset: u64,
    /// Offset type (OT).
    pub offset_is_index: bool,
    /// UUID index; 0 for none.
    pub uuid_index: u8,
    /// Command set identifier (CSI).
    pub csi: u8,
}

impl GetLogPage {
    /// `length_bytes` (a positive multiple of 4) of a log page from byte `offset` (a multiple of 4).
    pub fn new(lid: LogPageIdentifier, nsid: Nsid, offset: u64, length_bytes: u32) -> GetLogPage {
        assert!(
            length_bytes.is_multiple_of(4) && offset.is_multiple_of(4),
            "log pages are read by the dword"
        );
        GetLogPage {
            lid,
            nsid,
            lsp: 0,
            retain_asynchronous_event: false,
            numd: ZeroBased::<u32>::from_count(u64::from(length_bytes / 4))
                .expect("at least one dword is read"),
            lsi: 0,
            offset,
            offset_is_index: false,
            uuid_index: 0,
            csi: 0,
        }
    }

    /// How much is to be returned, in bytes; up to 16 GiB.
    pub const fn length_bytes(&self) -> u64 {
        self.numd.count() * 4
    }

    fn parse(entry: &SubmissionQueueEntry) -> Result<GetLogPage, InvalidField> {
        let [cdw10, cdw11, cdw12, cdw13, cdw14, _] = entry.dwords().map(u64::from);
        let unknown_page = InvalidField::with(Status::INVALID_LOG_PAGE, dword_offset(10), 0);
        let page = GetLogPage {
            lid: LogPageIdentifier::from_code(field(cdw10, 0, 8) as u8).ok_or(unknown_page)?,
            nsid: entry.nsid(),
            lsp: field(cdw10, 8, 7) as u8,
            retain_asynchronous_event: bit(cdw10, 15),
            numd: ZeroBased::<u32>::from_raw((field(cdw10, 16, 16) | place(cdw11, 16, 16)) as u32),
            lsi: field(cdw11, 16, 16) as u16,
            offset: cdw13 << 32 | cdw12,
            uuid_index: field(cdw14, 0, 7) as u8,
            offset_is_index: bit(cdw14, 23),
            csi: field(cdw14, 24, 8) as u8,
        };
        if !page.offset_is_index && !page.offset.is_multiple_of(4) {
            return Err(InvalidField::at(dword_offset(12)));
        }
        Ok(page)
    }

    fn dwords(&self) -> [u32; 6] {
        let numd = u64::from(self.numd.raw);
        let cdw10 = place(self.lid.code().into(), 0, 8)
            | place(self.lsp.into(), 8, 7)
            | flag(self.retain_asynchronous_event, 15)
            | place(numd, 16, 16);
        let cdw11 = field(numd, 16, 16) | place(self.lsi.into(), 16, 16);
        let cdw14 = place(self.uuid_index.into(), 0, 7)
            | flag(self.offset_is_index, 23)
            | place(self.csi.into(), 24, 8);
        let [cdw12, cdw13] = [self.offset as u32, (self.offset >> 32) as u32];
        [cdw10 as u32, cdw11 as u32, cdw12, cdw13, cdw14 as u32, 0]
    }
}

codes! {
    /// Which value of a feature Get Features returns (SEL; Base, 5.1.11).
    pub enum Select: u8 {
        Current = 0x0 "current",
        Default = 0x1 "default",
        Saved = 0x2 "saved",
        SupportedCapabilities = 0x3 "supported capabilities",
    }
}

/// Get Features (Base, 5.1.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetFeatures {
    /// Which feature (FID).
    pub fid: FeatureIdentifier,
    /// Of which namespace, if it has values for each.
    pub nsid: Nsid,
    /// Which value.
    pub select: Select,
    /// Command dword 11: depends on the feature.
    pub cdw11: u32,
    /// UUID index; 0 for none.
    pub uuid_index: u8,
}

impl GetFeatures {
    /// The current value of a feature of the controller.
    pub const fn new(fid: FeatureIdentifier) -> GetFeatures {
        GetFeatures {
            fid,
            nsid: Nsid::NONE,
            select: Select::Current,
            cdw11: 0,
            uuid_index: 0,
        }
    }

    fn parse(entry: &SubmissionQueueEntry) -> Result<GetFeatures, InvalidField> {
        let cdw10 = u64::from(entry.cdw10.get());
        Ok(GetFeatures {
            fid: parse_feature_identifier(cdw10)?,
            nsid: entry.nsid(),
            select: Select::from_code(field(cdw10, 8, 3) as u8)
                .ok_or(InvalidField::at(dword_offset(10) + 1))?,
            cdw11: entry.cdw11.get(),
            uuid_index: field(entry.cdw14.get().into(), 0, 7) as u8,
        })
    }

    fn dwords(&self) -> [u32; 6] {
        let cdw10 = place(self.fid.code().into(), 0, 8) | place(self.select.code().into(), 8, 3);
        [
            cdw10 as u32,
            self.cdw11,
            0,
            0,
            place(self.uuid_index.into(), 0, 7) as u32,
            0,
        ]
    }
}

/// Set Features (Base, 5.1.25).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetFeatures {
    /// Which feature (FID).
    pub fid: FeatureIdentifier,
    /// Of which namespace, if it has values for each.
    pub nsid: Nsid,
    /// Whether the value outlives resets and power (SV).
    pub save: bool,
    /// Command dword 11: depends on the feature.
    pub cdw11: u32,
    /// Command dword 12: depends on the feature.
    pub cdw12: u32,
    /// Command dword 13: depends on the feature.
    pub cdw13: u32,
    /// Command dword 14 (UUID index in bits 6:0): depends on the feature.
    pub cdw14: u32,
    /// Command dword 15: depends on the feature.
    pub cdw15: u32,
}

impl SetFeatures {
    /// A feature of the controller whose value is dword 11.
    pub const fn new(fid: FeatureIdentifier, cdw11: u32) -> SetFeatures {
        SetFeatures {
            fid,
            nsid: Nsid::NONE,
            save: false,
            cdw11,
            cdw12: 0,
            cdw13: 0,
            cdw14: 0,
            cdw15: 0,
        }
    }

    fn parse(entry: &SubmissionQueueEntry) -> Result<SetFeatures, InvalidField> {
        let [cdw10, cdw11, cdw12, cdw13, cdw14, cdw15] = entry.dwords();
        Ok(SetFeatures {
            fid: parse_feature_identifier(cdw10.into())?,
            nsid: entry.nsid(),
            save: bit(cdw10.into(), 31),
            cdw11,
            cdw12,
            cdw13,
            cdw14,
            cdw15,
        })
    }

    fn dwords(&self) -> [u32; 6] {
        let cdw10 = place(self.fid.code().into(), 0, 8) | flag(self.save, 31);
        [
            cdw10 as u32,
            self.cdw11,
            self.cdw12,
            self.cdw13,
            self.cdw14,
            self.cdw15,
        ]
    }
}

fn parse_feature_identifier(cdw10: u64) -> Result<FeatureIdentifier, InvalidField> {
    FeatureIdentifier::from_code(field(cdw10, 0, 8) as u8).ok_or(InvalidField::at(dword_offset(10)))
}

/// Abort (Base, 5.1.1). Dword 0 of its completion: bit 0 set if the command was not aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// The queue of the command to abort (SQID).
    pub sqid: Qid,
    /// The command to abort (CID).
    pub cid: Cid,
}

impl Abort {
    /// Dword 0 of the completion when the command was aborted.
    pub const ABORTED: u32 = 0;
    /// Dword 0 of the completion when the command was not aborted.
    pub const NOT_ABORTED: u32 = 1;

    fn parse(entry: &SubmissionQueueEntry) -> Abort {
        let cdw10 = entry.cdw10.get();
        Abort {
            sqid: Qid(cdw10 as u16),
            cid: Cid((cdw10 >> 16) as u16),
        }
    }

    fn dwords(&self) -> [u32; 6] {
        [
            u32::from(self.cid.0) << 16 | u32::from(self.sqid.0),
            0,
            0,
            0,
            0,
            0,
        ]
    }
}
