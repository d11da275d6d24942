//! A command that was taken from a submission queue: what it asks for, how far it is, where its data is.

use super::IoId;
use super::config::SubsystemKey;
use super::table::RowIndex;
use block::{BufferSlice, Memory};
use nvme::{AdminCommand, Cid, FabricsCommand, InvalidField, IoCommand, Nsid, Status, SubmissionQueueEntry};

use crate::driver::ConnectionId;

/// Names a command, and no other one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommandRef {
    pub(crate) connection: ConnectionId,
    pub(crate) slot: u16,
    pub(crate) serial: u64,
}

/// What a command asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Fabrics(FabricsCommand),
    Admin(AdminCommand),
    Io(IoCommand),
    /// Refused on sight; answered once its data has passed by.
    Refused(Refused),
}

/// A refusal: status and dword 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: Status,
    pub(crate) result: u32,
    /// Parameter error location, for the error log.
    pub(crate) location: u16,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Refused {
        Refused {
            status,
            result: 0,
            location: nvme::ParameterErrorLocation::NONE,
        }
    }
}

impl From<InvalidField> for Refused {
    fn from(invalid: InvalidField) -> Refused {
        Refused {
            status: invalid.status,
            result: invalid.result(),
            location: invalid.location.encode(),
        }
    }
}

/// How far a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its data is on the way: in the capsule, or asked for by R2T.
    Receiving { solicited: bool },
    /// Nothing is missing but a buffer: to ask for its data, or to be handed out.
    WaitingForMemory { to_receive: bool },
    /// An orphan overlaps it (R8).
    WaitingForOrphans,
    /// Behind another reservation command, or accepted and being made durable.
    WaitingForReservation,
    /// Handed out.
    Executing(IoId),
    /// An asynchronous event request.
    WaitingForEvent,
}

/// Where a command's data is.
#[derive(Debug, Default)]
pub(crate) enum Payload {
    #[default]
    None,
    /// Small data, or data that came when there was no buffer.
    Bytes(Vec<u8>),
    /// A lent buffer, and a second one for what Compare reads.
    Lent {
        data: BufferSlice,
        scratch: Option<BufferSlice>,
    },
}

impl Payload {
    /// Places bytes that came from the host.
    pub(crate) fn place(&mut self, offset: u32, bytes: &[u8], memory: &mut dyn Memory) {
        let from = usize::try_from(offset).expect("32 bits");
        match self {
            Payload::None => {}
            Payload::Bytes(held) => held[from..from + bytes.len()].copy_from_slice(bytes),
            Payload::Lent { data, .. } => {
                let length = u32::try_from(bytes.len()).expect("at most what was announced");
                memory.bytes_mut(data.part(offset, length)).copy_from_slice(bytes);
            }
        }
    }

    /// How much memory it holds.
    pub(crate) fn lent_bytes(&self) -> u64 {
        match self {
            Payload::Lent { data, scratch } => {
                u64::from(data.length) + scratch.map_or(0, |scratch| u64::from(scratch.length))
            }
            Payload::None | Payload::Bytes(_) => 0,
        }
    }
}

/// Where what is under way to a command's namespace is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneAt {
    pub(crate) row: RowIndex,
    pub(crate) key: (SubsystemKey, u32),
}

/// What is kept of a command's entry beside what it asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) cid: Cid,
    pub(crate) opcode: u8,
    pub(crate) nsid: Nsid,
}

impl Origin {
    pub(crate) fn of(entry: &SubmissionQueueEntry) -> Origin {
        Origin {
            cid: entry.cid(),
            opcode: entry.opcode,
            nsid: entry.nsid(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) serial: u64,
    pub(crate) origin: Origin,
    pub(crate) work: Work,
    pub(crate) stage: Stage,
    /// How much data the host sends.
    pub(crate) length: u32,
    /// How much of it has come.
    pub(crate) received: u32,
    /// A data digest was wrong.
    pub(crate) damaged: bool,
    pub(crate) payload: Payload,
    /// Whose share of the memory the payload is of.
    pub(crate) lane: Option<LaneAt>,
    /// Dataset Management: the next range.
    pub(crate) next_range: u16,
}

impl Command {
    /// `length`: how much data the host sends.
    pub(crate) fn new(serial: u64, origin: Origin, work: Work, length: u32) -> Command {
        Command {
            serial,
            origin,
            work,
            stage: Stage::Receiving { solicited: false },
            length,
            received: 0,
            damaged: false,
            payload: Payload::None,
            lane: None,
            next_range: 0,
        }
    }

    pub(crate) fn cid(&self) -> Cid {
        self.origin.cid
    }
}

/// How a command is answered.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: Status,
    /// Dwords 0 and 1.
    pub(crate) result: u64,
    pub(crate) data: ResponseData,
    /// Parameter error location, for the error log.
    pub(crate) location: u16,
}

/// Data for the host. Only successful commands have some.
#[derive(Debug)]
pub(crate) enum ResponseData {
    None,
    Bytes(Vec<u8>),
    /// A buffer that goes over to the driver.
    Lent(BufferSlice),
}

impl Response {
    pub(crate) fn result(result: u64) -> Response {
        Response {
            status: Status::SUCCESS,
            result,
            data: ResponseData::None,
            location: nvme::ParameterErrorLocation::NONE,
        }
    }

    pub(crate) fn success() -> Response {
        Response::result(0)
    }

    pub(crate) fn bytes(bytes: Vec<u8>) -> Response {
        Response {
            data: ResponseData::Bytes(bytes),
            ..Response::success()
        }
    }

    pub(crate) fn lent(data: BufferSlice) -> Response {
        Response {
            data: ResponseData::Lent(data),
            ..Response::success()
        }
    }
}

impl From<Refused> for Response {
    fn from(refused: Refused) -> Response {
        Response {
            status: refused.status,
            location: refused.location,
            ..Response::result(refused.result.into())
        }
    }
}

impl From<Status> for Response {
    fn from(status: Status) -> Response {
        Response::from(Refused::from(status))
    }
}
