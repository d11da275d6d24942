//! The two queue entries (Base, 3.3.3).

use crate::{
    Cid, InvalidField, Nsid, Qid, Status, U16, U32, U64,
    bits::field,
    command::{FABRICS_OPCODE, SglDescriptor},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Submission queue entry, common format (Base, 3.3.3.1). For Fabrics commands the lowest byte of `nsid` is the command
/// type (FCTYPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SubmissionQueueEntry {
    /// Opcode (OPC).
    pub opcode: u8,
    /// Fused operation (FUSE, bits 1:0) and PRP or SGL for data transfer (PSDT, bits 7:6).
    pub flags: u8,
    /// Command identifier (CID).
    pub cid: U16,
    /// Namespace identifier (NSID).
    pub nsid: U32,
    /// Command dword 2.
    pub cdw2: U32,
    /// Command dword 3.
    pub cdw3: U32,
    /// Metadata pointer (MPTR).
    pub mptr: U64,
    /// Data pointer (DPTR): in fabrics always one SGL descriptor.
    pub sgl: SglDescriptor,
    /// Command dword 10.
    pub cdw10: U32,
    /// Command dword 11.
    pub cdw11: U32,
    /// Command dword 12.
    pub cdw12: U32,
    /// Command dword 13.
    pub cdw13: U32,
    /// Command dword 14.
    pub cdw14: U32,
    /// Command dword 15.
    pub cdw15: U32,
}
wire!(SubmissionQueueEntry, 64);

impl SubmissionQueueEntry {
    /// `flags` of every command in a fabric: not fused, data by SGL, metadata not by SGL (PSDT 01b).
    pub const FLAGS_SGL: u8 = 0b01 << 6;

    /// An entry with nothing but what all have.
    pub fn new(opcode: u8, cid: Cid, nsid: Nsid, sgl: SglDescriptor) -> SubmissionQueueEntry {
        SubmissionQueueEntry {
            opcode,
            flags: SubmissionQueueEntry::FLAGS_SGL,
            cid: U16::new(cid.0),
            nsid: U32::new(nsid.0),
            sgl,
            ..SubmissionQueueEntry::default()
        }
    }

    /// The command's identifier.
    pub fn cid(&self) -> Cid {
        Cid(self.cid.get())
    }

    /// The namespace (meaningless in a Fabrics command).
    pub fn nsid(&self) -> Nsid {
        Nsid(self.nsid.get())
    }

    /// Whether this is a Fabrics command, on whichever queue.
    pub fn is_fabrics(&self) -> bool {
        self.opcode == FABRICS_OPCODE
    }

    /// The Fabrics command type (FCTYPE).
    pub fn fabrics_command_type(&self) -> u8 {
        self.nsid.get() as u8
    }

    /// Whether the command takes data from the host (bit 0 of the data transfer direction in the opcode, Base, 3.3.3.1;
    /// for Fabrics commands in FCTYPE).
    pub fn transfers_to_controller(&self) -> bool {
        let code = if self.is_fabrics() {
            self.fabrics_command_type()
        } else {
            self.opcode
        };
        code & 1 == 1
    }

    /// Refuses fused commands, and data pointers that are not SGLs: there are none in a fabric.
    pub fn check_flags(&self) -> Result<(), InvalidField> {
        if field(self.flags.into(), 0, 2) != 0 {
            return Err(InvalidField::with(Status::INVALID_FIELD, 1, 0));
        }
        if field(self.flags.into(), 6, 2) != 0b01 {
            return Err(InvalidField::with(Status::INVALID_FIELD, 1, 6));
        }
        Ok(())
    }

    /// Command dwords 10 to 15.
    pub fn dwords(&self) -> [u32; 6] {
        [
            self.cdw10, self.cdw11, self.cdw12, self.cdw13, self.cdw14, self.cdw15,
        ]
        .map(U32::get)
    }

    /// The same entry with command dwords 10 to 15.
    pub fn with_dwords(mut self, dwords: [u32; 6]) -> SubmissionQueueEntry {
        [
            self.cdw10, self.cdw11, self.cdw12, self.cdw13, self.cdw14, self.cdw15,
        ] = dwords.map(U32::new);
        self
    }
}

/// Completion queue entry (Base, 3.3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CompletionQueueEntry {
    /// Dwords 0 and 1: what the command returns.
    pub result: U64,
    /// Submission queue head pointer (SQHD).
    pub sqhd: U16,
    /// Submission queue identifier (SQID); reserved in fabrics.
    pub sqid: U16,
    /// Command identifier (CID).
    pub cid: U16,
    /// Phase tag (bit 0; reserved in fabrics) and status field (bits 15:1).
    pub status: U16,
}
wire!(CompletionQueueEntry, 16);

impl CompletionQueueEntry {
    /// A completion, with the phase tag clear.
    pub fn new(cid: Cid, status: Status, result: u64) -> CompletionQueueEntry {
        CompletionQueueEntry {
            result: U64::new(result),
            cid: U16::new(cid.0),
            status: U16::new(status.encode() << 1),
            ..CompletionQueueEntry::default()
        }
    }

    /// The same with the queue it belongs to and that queue's head.
    pub fn with_queue(mut self, sqid: Qid, sqhd: u16) -> CompletionQueueEntry {
        self.sqid = U16::new(sqid.0);
        self.sqhd = U16::new(sqhd);
        self
    }

    /// The command that completed.
    pub fn cid(&self) -> Cid {
        Cid(self.cid.get())
    }

    /// How it ended.
    pub fn status(&self) -> Status {
        Status::parse(self.status.get() >> 1)
    }

    /// Dword 0 of the result.
    pub fn dword0(&self) -> u32 {
        self.result.get() as u32
    }

    /// Dword 1 of the result.
    pub fn dword1(&self) -> u32 {
        (self.result.get() >> 32) as u32
    }
}
