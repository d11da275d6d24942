//! The commands a host sends, as submission queue entries and data. Identifier and data pointer are filled in by the queue
//! that sends them.

use super::command::{Command, Reservation};
use super::config::AssociationConfig;
use crate::tcp::host::Data;
use block::{BlockRange, Operation, Request};
use nvme::command::{
    AdminCommand, Cns, Compare, Connect, ConnectAttributes, DatasetManagement, DatasetManagementRange,
    FabricsCommand, GetLogPage, Identify, IoCommand, LogicalBlocks, PropertyGet, PropertySet, Read,
    ReservationAcquire, ReservationRegister, ReservationRelease, ReservationReport, SetFeatures, Sgl, Write,
    WriteZeroes,
};
use nvme::connect::ConnectData;
use nvme::feature::FeatureIdentifier;
use nvme::log::{AnaLog, LogPageIdentifier};
use nvme::property::{Configuration, Property};
use nvme::reservation::{AcquireData, RegisterData, ReleaseAction, ReleaseData};
use nvme::{Cid, Nsid, Qid, SubmissionQueueEntry, U16, U64, ZeroBased};

/// How much of a reservation report is read: header and some sixty registrants.
const RESERVATION_REPORT_BYTES: u32 = 4096;

/// A command, ready for a queue.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) entry: SubmissionQueueEntry,
    pub(crate) data: Data,
}

/// A command as it is sent: named, and its data with it or not.
#[derive(Debug)]
pub(crate) struct Addressed {
    pub(crate) entry: SubmissionQueueEntry,
    pub(crate) data: Data,
    pub(crate) in_capsule: bool,
}

impl Prepared {
    /// Says in the entry who it is and where its data is: in the capsule if it is at most so long.
    pub(crate) fn address(mut self, cid: u16, capsule_bytes: u32) -> Addressed {
        let length = self.data.length();
        let in_capsule = self.data.is_outgoing() && length <= capsule_bytes;
        let sgl = match length {
            0 => Sgl::NONE,
            _ => place(length, in_capsule),
        };
        self.entry.cid = U16::new(cid);
        self.entry.sgl = sgl.encode();
        Addressed {
            entry: self.entry,
            data: self.data,
            in_capsule,
        }
    }
}

/// Where data is.
#[inline]
fn place(length: u32, in_capsule: bool) -> Sgl {
    match in_capsule {
        true => Sgl::InCapsule { offset: 0, length },
        false => Sgl::Transport { length },
    }
}

fn fabrics(command: FabricsCommand, data: Data) -> Prepared {
    let entry = command.encode(Cid(0), Sgl::NONE);
    Prepared { entry, data }
}

fn admin(command: AdminCommand, data: Data) -> Prepared {
    let entry = command.encode(Cid(0), Sgl::NONE);
    Prepared { entry, data }
}

/// Connect for a queue of `entries` entries; the controller is any for the admin queue.
pub(crate) fn connect(config: &AssociationConfig, qid: u16, cntlid: u16, entries: u32) -> Prepared {
    let mut data = ConnectData::default();
    data.hostid = config.host_id;
    data.cntlid = U16::new(cntlid);
    data.subnqn = name_field(&config.subsystem_nqn);
    data.hostnqn = name_field(&config.host_nqn);
    let command = FabricsCommand::Connect(Connect {
        qid: Qid(qid),
        sqsize: ZeroBased::<u16>::from_count(entries).expect("queues have 2 to 65536 entries"),
        attributes: ConnectAttributes {
            disable_sq_flow_control: qid != 0 && !config.sq_flow_control,
            ..ConnectAttributes::default()
        },
        kato_ms: if qid == 0 { config.kato_ms } else { 0 },
    });
    fabrics(command, Data::SendBytes(data.to_bytes().to_vec()))
}

/// A name, padded with NUL; cut off where no name may be that long, so that the controller refuses it.
fn name_field(name: &str) -> [u8; 256] {
    let mut field = [0; 256];
    let length = name.len().min(255);
    field[..length].copy_from_slice(&name.as_bytes()[..length]);
    field
}

pub(crate) fn property_get(property: Property) -> Prepared {
    let command = PropertyGet {
        size: property.size(),
        offset: property.code(),
    };
    fabrics(FabricsCommand::PropertyGet(command), Data::None)
}

/// Writes CC.
pub(crate) fn configure(configuration: Configuration) -> Prepared {
    let property = Property::ControllerConfiguration;
    let command = PropertySet {
        size: property.size(),
        offset: property.code(),
        value: u64::from(configuration.encode()),
    };
    fabrics(FabricsCommand::PropertySet(command), Data::None)
}

pub(crate) fn identify(cns: Cns, nsid: u32) -> Prepared {
    let length = u32::try_from(Identify::DATA_SIZE).expect("4096");
    admin(
        AdminCommand::Identify(Identify::new(cns, Nsid(nsid))),
        Data::ReceiveBytes(length),
    )
}

pub(crate) fn log_page(lid: LogPageIdentifier, offset: u64, length: u32) -> Prepared {
    let page = GetLogPage::new(lid, Nsid::ALL, offset, length);
    admin(AdminCommand::GetLogPage(page), Data::ReceiveBytes(length))
}

/// The ANA log page without the namespaces of its groups.
pub(crate) fn ana_log_page(length: u32) -> Prepared {
    let page = GetLogPage {
        lsp: AnaLog::RETURN_GROUPS_ONLY,
        ..GetLogPage::new(
            LogPageIdentifier::AsymmetricNamespaceAccess,
            Nsid::NONE,
            0,
            length,
        )
    };
    admin(AdminCommand::GetLogPage(page), Data::ReceiveBytes(length))
}

pub(crate) fn set_feature(fid: FeatureIdentifier, dword11: u32) -> Prepared {
    admin(
        AdminCommand::SetFeatures(SetFeatures::new(fid, dword11)),
        Data::None,
    )
}

pub(crate) fn async_event_request() -> Prepared {
    admin(AdminCommand::AsynchronousEventRequest, Data::None)
}

pub(crate) fn keep_alive() -> Prepared {
    admin(AdminCommand::KeepAlive, Data::None)
}

/// A part of a request: its range fits one command. Reads and writes are made in one go, others step by step.
#[inline]
pub(crate) fn io(cid: u16, nsid: u32, command: &Command, capsule_bytes: u32) -> Addressed {
    let Command::Block(Request { operation, range }) = command else {
        return other_io(nsid, command).address(cid, capsule_bytes);
    };
    let (entry, data, in_capsule) = match operation {
        Operation::Read { buffer } => {
            let read = Read {
                blocks: logical_blocks(*range, false),
                dataset_management: 0,
            };
            let sgl = place(buffer.length, false);
            let entry = IoCommand::Read(read).encode(Cid(cid), Nsid(nsid), sgl);
            (entry, Data::Receive(*buffer), false)
        }
        Operation::Write { buffer, durable } => {
            let in_capsule = buffer.length <= capsule_bytes;
            let write = Write::new(logical_blocks(*range, *durable));
            let sgl = place(buffer.length, in_capsule);
            let entry = IoCommand::Write(write).encode(Cid(cid), Nsid(nsid), sgl);
            (entry, Data::Send(*buffer), in_capsule)
        }
        _ => return other_io(nsid, command).address(cid, capsule_bytes),
    };
    Addressed {
        entry,
        data,
        in_capsule,
    }
}

fn other_io(nsid: u32, command: &Command) -> Prepared {
    let (command, data) = match command {
        Command::Block(request) => block_request(request.operation, request.range),
        Command::Compare { range, buffer } => {
            let blocks = logical_blocks(*range, false);
            (IoCommand::Compare(Compare { blocks }), Data::Send(*buffer))
        }
        Command::Reservation(reservation) => reservation_command(*reservation),
    };
    let entry = command.encode(Cid(0), Nsid(nsid), Sgl::NONE);
    Prepared { entry, data }
}

fn block_request(operation: Operation, range: BlockRange) -> (IoCommand, Data) {
    match operation {
        Operation::Read { .. } | Operation::Write { .. } => unreachable!("made in one go"),
        Operation::Flush => (IoCommand::Flush, Data::None),
        Operation::WriteZeroes { deallocate, durable } => {
            let zeroes = WriteZeroes {
                blocks: logical_blocks(range, durable),
                deallocate,
                namespace_zeroes: false,
            };
            (IoCommand::WriteZeroes(zeroes), Data::None)
        }
        Operation::Deallocate => {
            let length = u32::try_from(range.length.0).expect("cut to fit one range");
            let range = DatasetManagementRange::new(range.start.0, length);
            let command = DatasetManagement {
                ranges: ZeroBased::<u8>::from_raw(0),
                integral_for_read: false,
                integral_for_write: false,
                deallocate: true,
            };
            let data = Data::SendBytes(range.to_bytes().to_vec());
            (IoCommand::DatasetManagement(command), data)
        }
    }
}

#[inline]
fn logical_blocks(range: BlockRange, durable: bool) -> LogicalBlocks {
    let length = u32::try_from(range.length.0)
        .ok()
        .and_then(ZeroBased::<u16>::from_count);
    LogicalBlocks {
        force_unit_access: durable,
        ..LogicalBlocks::new(range.start.0, length.expect("cut to fit one command"))
    }
}

fn reservation_command(reservation: Reservation) -> (IoCommand, Data) {
    match reservation {
        Reservation::Register {
            action,
            current_key,
            new_key,
            ignore_existing,
            persist,
        } => {
            let command = ReservationRegister {
                action,
                ignore_existing_key: ignore_existing,
                persist_through_power_loss: persist,
            };
            let data = RegisterData {
                current_key: U64::new(current_key),
                new_key: U64::new(new_key),
            };
            let data = Data::SendBytes(data.to_bytes().to_vec());
            (IoCommand::ReservationRegister(command), data)
        }
        Reservation::Acquire {
            action,
            kind,
            current_key,
            preempt_key,
        } => {
            let command = ReservationAcquire {
                action,
                ignore_existing_key: false,
                reservation_type: kind,
            };
            let data = AcquireData {
                current_key: U64::new(current_key),
                preempt_key: U64::new(preempt_key),
            };
            let data = Data::SendBytes(data.to_bytes().to_vec());
            (IoCommand::ReservationAcquire(command), data)
        }
        Reservation::Release { release, current_key } => {
            let command = ReservationRelease {
                action: match release {
                    Some(_) => ReleaseAction::Release,
                    None => ReleaseAction::Clear,
                },
                ignore_existing_key: false,
                reservation_type: release,
            };
            let data = ReleaseData {
                current_key: U64::new(current_key),
            };
            let data = Data::SendBytes(data.to_bytes().to_vec());
            (IoCommand::ReservationRelease(command), data)
        }
        Reservation::Report => {
            let dwords = u64::from(RESERVATION_REPORT_BYTES / 4);
            let command = ReservationReport {
                numd: ZeroBased::<u32>::from_count(dwords).expect("not zero"),
                extended: true,
            };
            let data = Data::ReceiveBytes(RESERVATION_REPORT_BYTES);
            (IoCommand::ReservationReport(command), data)
        }
    }
}
