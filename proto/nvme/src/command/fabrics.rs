//! Fabrics commands, parsed (Base, 6): how a host makes queues and reaches properties.

use crate::{
    Cid, InvalidField, Nsid, Qid, Status, SubmissionQueueEntry, ZeroBased,
    bits::{bit, field, flag, place},
    command::{FABRICS_OPCODE, FabricsCommandType, Sgl, dword_offset},
};

/// A command with opcode 7Fh, on whichever queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FabricsCommand {
    /// Make a queue. Data: [`crate::connect::ConnectData`].
    Connect(Connect),
    /// Read a property.
    PropertyGet(PropertyGet),
    /// Write a property.
    PropertySet(PropertySet),
    /// End an I/O queue.
    Disconnect(Disconnect),
    /// Authenticate: data to the controller.
    AuthenticationSend(Authentication),
    /// Authenticate: data from the controller.
    AuthenticationReceive(Authentication),
}

impl FabricsCommand {
    /// What an entry asks for. Refused: fused commands, data pointers that are not SGLs, types that are not known here,
    /// record formats other than 0, queues of one entry.
    pub fn parse(entry: &SubmissionQueueEntry) -> Result<FabricsCommand, InvalidField> {
        if !entry.is_fabrics() {
            return Err(InvalidField::with(Status::INVALID_OPCODE, 0, 0));
        }
        entry.check_flags()?;
        let unknown = InvalidField::with(Status::INVALID_OPCODE, 4, 0);
        let command_type = FabricsCommandType::from_code(entry.fabrics_command_type()).ok_or(unknown)?;
        match command_type {
            FabricsCommandType::Connect => Connect::parse(entry).map(FabricsCommand::Connect),
            FabricsCommandType::PropertyGet => PropertyGet::parse(entry).map(FabricsCommand::PropertyGet),
            FabricsCommandType::PropertySet => PropertySet::parse(entry).map(FabricsCommand::PropertySet),
            FabricsCommandType::Disconnect => Disconnect::parse(entry).map(FabricsCommand::Disconnect),
            FabricsCommandType::AuthenticationSend => {
                Ok(FabricsCommand::AuthenticationSend(Authentication::parse(entry)))
            }
            FabricsCommandType::AuthenticationReceive => Ok(FabricsCommand::AuthenticationReceive(
                Authentication::parse(entry),
            )),
        }
    }

    /// As an entry; `sgl` says where its data is ([`Sgl::NONE`] if it has none).
    pub fn encode(&self, cid: Cid, sgl: Sgl) -> SubmissionQueueEntry {
        let dwords = match self {
            FabricsCommand::Connect(connect) => connect.dwords(),
            FabricsCommand::PropertyGet(property_get) => property_get.dwords(),
            FabricsCommand::PropertySet(property_set) => property_set.dwords(),
            FabricsCommand::Disconnect(_) => [0; 6],
            FabricsCommand::AuthenticationSend(authentication)
            | FabricsCommand::AuthenticationReceive(authentication) => authentication.dwords(),
        };
        let command_type = Nsid(self.command_type().code().into());
        SubmissionQueueEntry::new(FABRICS_OPCODE, cid, command_type, sgl.encode()).with_dwords(dwords)
    }

    /// The command's type.
    pub fn command_type(&self) -> FabricsCommandType {
        match self {
            FabricsCommand::Connect(_) => FabricsCommandType::Connect,
            FabricsCommand::PropertyGet(_) => FabricsCommandType::PropertyGet,
            FabricsCommand::PropertySet(_) => FabricsCommandType::PropertySet,
            FabricsCommand::Disconnect(_) => FabricsCommandType::Disconnect,
            FabricsCommand::AuthenticationSend(_) => FabricsCommandType::AuthenticationSend,
            FabricsCommand::AuthenticationReceive(_) => FabricsCommandType::AuthenticationReceive,
        }
    }
}

/// Connect (Base, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The queue to make; 0 makes the admin queue and the association (QID).
    pub qid: Qid,
    /// Entries of the submission queue (SQSIZE); at least two.
    pub sqsize: ZeroBased<u16>,
    /// Connect attributes (CATTR).
    pub attributes: ConnectAttributes,
    /// Keep alive timeout in milliseconds, 0 for none (KATO); admin queue only.
    pub kato_ms: u32,
}

/// Connect attributes (CATTR).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectAttributes {
    /// Priority class, 0 (urgent) to 3 (low), for weighted round robin.
    pub priority: u8,
    /// Disable submission queue flow control.
    pub disable_sq_flow_control: bool,
    /// Support deletion of single I/O queues by Disconnect.
    pub individual_queue_deletion: bool,
}

impl Connect {
    /// SQHD in a completion when flow control is disabled on the queue.
    pub const SQHD_FLOW_CONTROL_DISABLED: u16 = 0xFFFF;

    fn parse(entry: &SubmissionQueueEntry) -> Result<Connect, InvalidField> {
        let [cdw10, cdw11, cdw12, ..] = entry.dwords().map(u64::from);
        if field(cdw10, 0, 16) != 0 {
            return Err(InvalidField::with(
                Status::CONNECT_INCOMPATIBLE_FORMAT,
                dword_offset(10),
                0,
            ));
        }
        let sqsize = field(cdw11, 0, 16) as u16;
        if sqsize == 0 {
            return Err(InvalidField::with(
                Status::CONNECT_INVALID_PARAMETERS,
                dword_offset(11),
                0,
            ));
        }
        Ok(Connect {
            qid: Qid(field(cdw10, 16, 16) as u16),
            sqsize: ZeroBased::<u16>::from_raw(sqsize),
            attributes: ConnectAttributes {
                priority: field(cdw11, 16, 2) as u8,
                disable_sq_flow_control: bit(cdw11, 18),
                individual_queue_deletion: bit(cdw11, 19),
            },
            kato_ms: cdw12 as u32,
        })
    }

    fn dwords(&self) -> [u32; 6] {
        let cdw11 = place(self.sqsize.raw.into(), 0, 16)
            | place(self.attributes.priority.into(), 16, 2)
            | flag(self.attributes.disable_sq_flow_control, 18)
            | flag(self.attributes.individual_queue_deletion, 19);
        [u32::from(self.qid.0) << 16, cdw11 as u32, self.kato_ms, 0, 0, 0]
    }
}

codes! {
    /// Size of a property (ATTRIB bits 2:0).
    pub enum PropertySize: u8 {
        Four = 0x0 "4 bytes",
        Eight = 0x1 "8 bytes",
    }
}

impl PropertySize {
    fn parse(cdw10: u32) -> Result<PropertySize, InvalidField> {
        PropertySize::from_code(field(cdw10.into(), 0, 3) as u8).ok_or(InvalidField::at(dword_offset(10)))
    }
}

/// Property Get (Base, 6.5). The value is dwords 0 and 1 of the completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyGet {
    /// Size of the property.
    pub size: PropertySize,
    /// Offset of the property (OFST): see [`crate::property::Property`].
    pub offset: u32,
}

impl PropertyGet {
    fn parse(entry: &SubmissionQueueEntry) -> Result<PropertyGet, InvalidField> {
        Ok(PropertyGet {
            size: PropertySize::parse(entry.cdw10.get())?,
            offset: entry.cdw11.get(),
        })
    }

    fn dwords(&self) -> [u32; 6] {
        [self.size.code().into(), self.offset, 0, 0, 0, 0]
    }
}

/// Property Set (Base, 6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertySet {
    /// Size of the property.
    pub size: PropertySize,
    /// Offset of the property (OFST): see [`crate::property::Property`].
    pub offset: u32,
    /// The value; only its lower four bytes count if the size is [`PropertySize::Four`].
    pub value: u64,
}

impl PropertySet {
    fn parse(entry: &SubmissionQueueEntry) -> Result<PropertySet, InvalidField> {
        let [cdw10, offset, low, high, ..] = entry.dwords();
        Ok(PropertySet {
            size: PropertySize::parse(cdw10)?,
            offset,
            value: u64::from(high) << 32 | u64::from(low),
        })
    }

    fn dwords(&self) -> [u32; 6] {
        [
            self.size.code().into(),
            self.offset,
            self.value as u32,
            (self.value >> 32) as u32,
            0,
            0,
        ]
    }
}

/// Disconnect (Base, 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect;

impl Disconnect {
    fn parse(entry: &SubmissionQueueEntry) -> Result<Disconnect, InvalidField> {
        if field(entry.cdw10.get().into(), 0, 16) != 0 {
            return Err(InvalidField::with(
                Status::CONNECT_INCOMPATIBLE_FORMAT,
                dword_offset(10),
                0,
            ));
        }
        Ok(Disconnect)
    }
}

/// Authentication Send and Receive (Base, 6.1 and 6.2): recognised, their messages are not read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// Security protocol specific (SPSP1 and SPSP0).
    pub specific: u16,
    /// Security protocol (SECP).
    pub protocol: u8,
    /// Transfer length or allocation length, in bytes.
    pub length: u32,
}

impl Authentication {
    fn parse(entry: &SubmissionQueueEntry) -> Authentication {
        let cdw10 = u64::from(entry.cdw10.get());
        Authentication {
            specific: field(cdw10, 8, 16) as u16,
            protocol: field(cdw10, 24, 8) as u8,
            length: entry.cdw11.get(),
        }
    }

    fn dwords(&self) -> [u32; 6] {
        let cdw10 = place(self.specific.into(), 8, 16) | place(self.protocol.into(), 24, 8);
        [cdw10 as u32, self.length, 0, 0, 0, 0]
    }
}
