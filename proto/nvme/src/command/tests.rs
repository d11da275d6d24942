//! The entries, and the commands in them.
//!
//! Deliberate bugs that these must catch (tried by hand): FUA and LR swapped, NUMDL and NUMDU swapped, Abort's CID and SQID
//! swapped, Connect's SQSIZE taken as a count, a range past the last address let in, fused commands let in, the phase tag
//! forgotten, the data pointer not an SGL let in, a keyed descriptor's length of 32 bits.

mod codes;
mod fields;
mod refusals;

use crate::{
    AdminCommand, Cid, Cntlid, CompletionQueueEntry, FabricsCommand, InvalidField, IoCommand, Nsid,
    ParameterErrorLocation, Qid, Sgl, SglDescriptor, Status, SubmissionQueueEntry, TooShort, U16, U32,
    ZeroBased,
    command::{
        Abort, AdminOpcode, Authentication, Cns, Compare, Connect, ConnectAttributes, DatasetManagement,
        DatasetManagementRange, Disconnect, FABRICS_OPCODE, FabricsCommandType, GetFeatures, GetLogPage,
        Identify, IoOpcode, LogicalBlocks, PropertyGet, PropertySet, PropertySize, Read, ReservationAcquire,
        ReservationRegister, ReservationRelease, ReservationReport, Select, SetFeatures, Write, WriteZeroes,
    },
    feature::FeatureIdentifier,
    log::LogPageIdentifier,
    reservation::{AcquireAction, PersistThroughPowerLoss, RegisterAction, ReleaseAction, ReservationType},
};
use proptest::prelude::*;

const CID: Cid = Cid(0x1234);

fn admin(command: AdminCommand) -> SubmissionQueueEntry {
    let entry = command.encode(CID, Sgl::NONE);
    assert_eq!(AdminCommand::parse(&entry), Ok(command));
    entry
}

fn fabrics(command: FabricsCommand) -> SubmissionQueueEntry {
    let entry = command.encode(CID, Sgl::NONE);
    assert_eq!(FabricsCommand::parse(&entry), Ok(command));
    entry
}

fn io(command: IoCommand) -> SubmissionQueueEntry {
    let entry = command.encode(CID, Nsid(1), Sgl::NONE);
    assert_eq!(IoCommand::parse(&entry), Ok(command));
    entry
}

const CONNECT: Connect = Connect {
    qid: Qid(0),
    sqsize: ZeroBased::<u16>::from_raw(1),
    attributes: ConnectAttributes {
        priority: 0,
        disable_sq_flow_control: false,
        individual_queue_deletion: false,
    },
    kato_ms: 0,
};

const BLOCKS: LogicalBlocks = LogicalBlocks::new(0, ZeroBased::<u16>::from_raw(0));

const DATASET_MANAGEMENT: DatasetManagement = DatasetManagement {
    ranges: ZeroBased::<u8>::from_raw(0),
    integral_for_read: false,
    integral_for_write: false,
    deallocate: false,
};

const REGISTER: ReservationRegister = ReservationRegister {
    action: RegisterAction::Register,
    ignore_existing_key: false,
    persist_through_power_loss: PersistThroughPowerLoss::NoChange,
};

const ACQUIRE: ReservationAcquire = ReservationAcquire {
    action: AcquireAction::Acquire,
    ignore_existing_key: false,
    reservation_type: ReservationType::WriteExclusive,
};

const RELEASE: ReservationRelease = ReservationRelease {
    action: ReleaseAction::Release,
    ignore_existing_key: false,
    reservation_type: None,
};

fields!(submission_queue_entry: SubmissionQueueEntry, 64 {
    0..1 opcode number,
    1..2 flags number,
    2..4 cid number,
    4..8 nsid number,
    8..12 cdw2 number,
    12..16 cdw3 number,
    16..24 mptr number,
    24..40 sgl bytes,
    40..44 cdw10 number,
    44..48 cdw11 number,
    48..52 cdw12 number,
    52..56 cdw13 number,
    56..60 cdw14 number,
    60..64 cdw15 number,
});

fields!(completion_queue_entry: CompletionQueueEntry, 16 {
    0..8 result number,
    8..10 sqhd number,
    10..12 sqid number,
    12..14 cid number,
    14..16 status number,
});

fields!(sgl_descriptor: SglDescriptor, 16 {
    0..8 address number,
    8..12 length number,
    12..15 reserved_12 bytes,
    15..16 identifier number,
});

fields!(dataset_management_range: DatasetManagementRange, 16 {
    0..4 context_attributes number,
    4..8 length number,
    8..16 slba number,
});

#[test]
fn what_all_entries_say() {
    let transport = Sgl::Transport { length: 0x0708_090A };
    let entries = [
        (AdminCommand::KeepAlive.encode(CID, transport), 0x18, 0),
        (
            AdminCommand::AsynchronousEventRequest.encode(CID, transport),
            0x0C,
            0,
        ),
        (
            FabricsCommand::Disconnect(Disconnect).encode(CID, transport),
            0x7F,
            8,
        ),
        (FabricsCommand::Connect(CONNECT).encode(CID, transport), 0x7F, 1),
        (IoCommand::Flush.encode(CID, Nsid(5), transport), 0x00, 5),
    ];
    for (entry, opcode, fifth) in entries {
        let bytes = entry.to_bytes();
        assert_eq!(bytes[..8], [opcode, 0x40, 0x34, 0x12, fifth, 0, 0, 0]);
        assert_eq!(bytes[8..24], [0; 16]);
        assert_eq!(
            bytes[24..40],
            [0, 0, 0, 0, 0, 0, 0, 0, 0x0A, 9, 8, 7, 0, 0, 0, 0x5A]
        );
        assert_eq!(entry.cid(), CID);
    }
    admin(AdminCommand::KeepAlive);
    admin(AdminCommand::AsynchronousEventRequest);
    fabrics(FabricsCommand::Disconnect(Disconnect));
    io(IoCommand::Flush);
}

#[test]
fn which_way_the_data_goes() {
    let to_controller = |entry: SubmissionQueueEntry| entry.transfers_to_controller();
    assert!(to_controller(io(IoCommand::Write(Write::new(BLOCKS)))));
    assert!(to_controller(io(IoCommand::ReservationAcquire(ACQUIRE))));
    assert!(to_controller(fabrics(FabricsCommand::Connect(CONNECT))));
    assert!(to_controller(admin(AdminCommand::SetFeatures(SetFeatures::new(
        FeatureIdentifier::HostIdentifier,
        1
    )))));
    assert!(!to_controller(admin(AdminCommand::Identify(Identify::new(
        Cns::Controller,
        Nsid::NONE
    )))));
    assert!(!to_controller(io(IoCommand::Flush)));
}

#[test]
fn ranges_up_to_the_last_address() {
    let read = |slba, raw| {
        let blocks = LogicalBlocks::new(slba, ZeroBased::<u16>::from_raw(raw));
        let read = IoCommand::Read(Read {
            blocks,
            dataset_management: 0,
        });
        IoCommand::parse(&read.encode(CID, Nsid(1), Sgl::NONE)).map_err(|error| error.status)
    };
    assert!(read(u64::MAX - 1, 0).is_ok());
    assert_eq!(
        read(u64::MAX - 1, 1),
        Err(Status::LBA_OUT_OF_RANGE.do_not_retry())
    );
    assert_eq!(read(u64::MAX, 0), Err(Status::LBA_OUT_OF_RANGE.do_not_retry()));
    assert_eq!(BLOCKS.count(), 1);
}

#[test]
fn lengths_that_commands_ask_for() {
    let page = GetLogPage::new(LogPageIdentifier::Discovery, Nsid::NONE, 1024, 4096);
    assert_eq!(
        (page.length_bytes(), page.numd.raw, page.offset),
        (4096, 1023, 1024)
    );
    let all = GetLogPage {
        numd: ZeroBased::<u32>::from_raw(u32::MAX),
        ..page
    };
    assert_eq!(all.length_bytes(), 1 << 34);
    let by_index = GetLogPage {
        offset: 3,
        offset_is_index: true,
        ..page
    };
    admin(AdminCommand::GetLogPage(by_index));
    let report = ReservationReport {
        numd: ZeroBased::<u32>::from_raw(5),
        extended: false,
    };
    assert_eq!(report.length_bytes(), 24);
    assert_eq!(DATASET_MANAGEMENT.data_length(), 16);
    let most = DatasetManagement {
        ranges: ZeroBased::<u8>::from_raw(255),
        ..DATASET_MANAGEMENT
    };
    assert_eq!(
        most.data_length() as usize,
        DatasetManagement::MAX_RANGES * DatasetManagementRange::SIZE
    );
    let range = DatasetManagementRange::new(0x0102, 3);
    assert_eq!(range.to_bytes(), [0, 0, 0, 0, 3, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_log_page_is_read_by_the_dword() {
    let odd = std::panic::catch_unwind(|| GetLogPage::new(LogPageIdentifier::Discovery, Nsid::NONE, 0, 6));
    let nothing =
        std::panic::catch_unwind(|| GetLogPage::new(LogPageIdentifier::Discovery, Nsid::NONE, 0, 0));
    assert!(odd.is_err() && nothing.is_err());
}

#[test]
fn where_an_error_is() {
    let rows = [(40, 0, 0x0028), (1, 6, 0x0601), (63, 7, 0x073F)];
    for (byte, bit, encoded) in rows {
        let location = ParameterErrorLocation { byte, bit };
        assert_eq!(location.encode(), encoded);
        assert_eq!(ParameterErrorLocation::parse(encoded), Some(location));
    }
    assert_eq!(ParameterErrorLocation::parse(ParameterErrorLocation::NONE), None);
    assert_eq!(
        ParameterErrorLocation::byte(9),
        ParameterErrorLocation { byte: 9, bit: 0 }
    );
    let refusal = InvalidField::with(Status::INVALID_FIELD, 43, 6);
    assert_eq!(
        refusal.to_string(),
        "invalid field in command (0h/02h, do not retry) at byte 43, bit 6"
    );
    assert_eq!(refusal.result(), 0);
    assert_eq!(
        InvalidField::with(Status::CONNECT_INVALID_PARAMETERS, 44, 0).result(),
        44
    );
}

#[test]
fn sgls_by_their_bytes() {
    let keyed = |invalidate| Sgl::Keyed {
        address: 0x0102_0304_0506_0708,
        length: 0x000A_0B0C,
        key: 0x1112_1314,
        invalidate,
    };
    let in_capsule = Sgl::InCapsule {
        offset: 0x0102,
        length: 4096,
    };
    let rows = [
        (in_capsule, [2, 1, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0x01]),
        (
            Sgl::Transport { length: 4096 },
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0x5A],
        ),
        (
            keyed(false),
            [
                8, 7, 6, 5, 4, 3, 2, 1, 0x0C, 0x0B, 0x0A, 0x14, 0x13, 0x12, 0x11, 0x40,
            ],
        ),
        (
            keyed(true),
            [
                8, 7, 6, 5, 4, 3, 2, 1, 0x0C, 0x0B, 0x0A, 0x14, 0x13, 0x12, 0x11, 0x4F,
            ],
        ),
    ];
    for (sgl, bytes) in rows {
        assert_eq!(SglDescriptor::from(sgl).to_bytes(), bytes);
        assert_eq!(Sgl::parse(&SglDescriptor::from_bytes(bytes)), Ok(sgl));
    }
    assert_eq!(
        [in_capsule, Sgl::NONE, keyed(true)].map(Sgl::length),
        [4096, 0, 0x000A_0B0C]
    );
    let refusal = InvalidField::with(Status::SGL_DESCRIPTOR_TYPE_INVALID, 39, 0);
    for identifier in [0x00, 0x0A, 0x10, 0x20, 0x30, 0x41, 0x50, 0x5B, 0xF0] {
        let descriptor = SglDescriptor {
            identifier,
            ..SglDescriptor::default()
        };
        assert_eq!(Sgl::parse(&descriptor), Err(refusal), "{identifier:02x}");
    }
}

#[test]
fn a_completion_by_its_bytes() {
    let status = Status::ANA_INACCESSIBLE.with_more();
    let entry = CompletionQueueEntry::new(CID, status, 0x0102_0304_0506_0708).with_queue(Qid(5), 0x0607);
    let bytes = [8, 7, 6, 5, 4, 3, 2, 1, 7, 6, 5, 0, 0x34, 0x12, 0x04, 0x46];
    assert_eq!(entry.to_bytes(), bytes);
    assert_eq!((entry.cid(), entry.status()), (CID, status));
    assert_eq!((entry.dword0(), entry.dword1()), (0x0506_0708, 0x0102_0304));
    let with_phase = CompletionQueueEntry {
        status: U16::new(entry.status.get() | 1),
        ..entry
    };
    assert_eq!(
        with_phase.status(),
        status,
        "the phase tag is no part of the status"
    );
}

#[test]
fn entries_from_too_few_bytes() {
    let too_short = TooShort {
        needed_bytes: 64,
        got_bytes: 63,
    };
    assert_eq!(SubmissionQueueEntry::parse(&[0; 63]), Err(too_short));
    assert_eq!(too_short.to_string(), "63 bytes where 64 are needed");
    assert_eq!(
        SubmissionQueueEntry::parse(&[0; 65]),
        Ok(SubmissionQueueEntry::default())
    );
}

#[test]
fn the_connect_that_a_linux_host_sends() {
    let mut bytes = [0; 64];
    bytes[..5].copy_from_slice(&[0x7F, 0x40, 0, 0, 1]);
    bytes[24..40].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0x01]);
    bytes[42..52].copy_from_slice(&[0, 0, 31, 0, 0, 0, 0x98, 0x3A, 0, 0]);
    let entry = SubmissionQueueEntry::from_bytes(bytes);
    let connect = Connect {
        sqsize: ZeroBased::<u16>::from_count(32).unwrap(),
        kato_ms: 15_000,
        ..CONNECT
    };
    assert_eq!(
        FabricsCommand::parse(&entry),
        Ok(FabricsCommand::Connect(connect))
    );
    let in_capsule = Sgl::InCapsule {
        offset: 0,
        length: 1024,
    };
    assert_eq!(Sgl::parse(&entry.sgl), Ok(in_capsule));
    assert_eq!(FabricsCommand::Connect(connect).encode(Cid(0), in_capsule), entry);
}

/// Entries that are mostly good: a known opcode or type, good flags, small codes.
fn entries(opcodes: &'static [u8]) -> impl Strategy<Value = SubmissionQueueEntry> {
    let parts = (
        any::<[u8; 64]>(),
        proptest::sample::select(opcodes),
        any::<[bool; 3]>(),
        0..0x90u8,
        0..8u8,
    );
    parts.prop_map(|(bytes, opcode, tame, code, high)| {
        let mut entry = SubmissionQueueEntry::from_bytes(bytes);
        entry.opcode = opcode;
        if tame[0] {
            entry.flags = SubmissionQueueEntry::FLAGS_SGL;
        }
        if tame[1] {
            entry.cdw10 = U32::new(u32::from(high) << 8 | u32::from(code));
            entry.nsid = U32::new(u32::from(code & 0xF));
        }
        if tame[2] {
            entry.cdw12 = U32::new(entry.cdw12.get() & !3);
        }
        entry
    })
}

proptest! {
    #[test]
    fn any_admin_entry_is_a_command_or_refused(entry in entries(&[2, 6, 8, 9, 0x0A, 0x0C, 0x18, 0x7F])) {
        if let Ok(command) = AdminCommand::parse(&entry) {
            let encoded = command.encode(entry.cid(), Sgl::NONE);
            prop_assert_eq!(AdminCommand::parse(&encoded), Ok(command));
            prop_assert_eq!(AdminOpcode::from_code(entry.opcode), Some(command.opcode()));
        }
    }

    #[test]
    fn any_fabrics_entry_is_a_command_or_refused(entry in entries(&[0x7F])) {
        if let Ok(command) = FabricsCommand::parse(&entry) {
            let encoded = command.encode(entry.cid(), Sgl::NONE);
            prop_assert_eq!(FabricsCommand::parse(&encoded), Ok(command));
            prop_assert_eq!(encoded.opcode, FABRICS_OPCODE);
        }
    }

    #[test]
    fn any_io_entry_is_a_command_or_refused(entry in entries(&[0, 1, 2, 5, 8, 9, 0x0D, 0x0E, 0x11, 0x15])) {
        if let Ok(command) = IoCommand::parse(&entry) {
            let encoded = command.encode(entry.cid(), entry.nsid(), Sgl::NONE);
            prop_assert_eq!(IoCommand::parse(&encoded), Ok(command));
            prop_assert_eq!(IoOpcode::from_code(entry.opcode), Some(command.opcode()));
        }
    }

    #[test]
    fn any_bytes_are_an_entry(bytes in proptest::array::uniform32(any::<[u8; 2]>())) {
        let entry = SubmissionQueueEntry::from_bytes(bytes.as_flattened().try_into().unwrap());
        let _ = (AdminCommand::parse(&entry), FabricsCommand::parse(&entry), IoCommand::parse(&entry));
        prop_assert_eq!(entry.with_dwords(entry.dwords()), entry);
        if let Ok(sgl) = Sgl::parse(&entry.sgl) {
            prop_assert_eq!(Sgl::parse(&sgl.encode()), Ok(sgl));
        }
    }
}
