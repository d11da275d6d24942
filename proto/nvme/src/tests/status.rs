//! Statuses: every name by its 15 bits, and the bits around them.

use crate::{Status, StatusCodeType};
use proptest::prelude::*;

code_table!(status_code_types: StatusCodeType, u8 {
    0x0 Generic,
    0x1 CommandSpecific,
    0x2 MediaAndDataIntegrity,
    0x3 PathRelated,
    0x4 Reserved4,
    0x5 Reserved5,
    0x6 Reserved6,
    0x7 VendorSpecific,
});

/// Type in bits 10:8, code in bits 7:0, as hosts print them.
const NAMES: &[(u16, Status)] = &[
    (0x000, Status::SUCCESS),
    (0x001, Status::INVALID_OPCODE),
    (0x002, Status::INVALID_FIELD),
    (0x003, Status::COMMAND_ID_CONFLICT),
    (0x004, Status::DATA_TRANSFER_ERROR),
    (0x005, Status::ABORTED_POWER_LOSS),
    (0x006, Status::INTERNAL_ERROR),
    (0x007, Status::ABORT_REQUESTED),
    (0x008, Status::ABORTED_SQ_DELETION),
    (0x009, Status::ABORTED_FAILED_FUSED),
    (0x00A, Status::ABORTED_MISSING_FUSED),
    (0x00B, Status::INVALID_NAMESPACE_OR_FORMAT),
    (0x00C, Status::COMMAND_SEQUENCE_ERROR),
    (0x00D, Status::INVALID_SGL_SEGMENT_DESCRIPTOR),
    (0x00E, Status::INVALID_NUMBER_OF_SGL_DESCRIPTORS),
    (0x00F, Status::DATA_SGL_LENGTH_INVALID),
    (0x010, Status::METADATA_SGL_LENGTH_INVALID),
    (0x011, Status::SGL_DESCRIPTOR_TYPE_INVALID),
    (0x014, Status::ATOMIC_WRITE_UNIT_EXCEEDED),
    (0x015, Status::OPERATION_DENIED),
    (0x016, Status::SGL_OFFSET_INVALID),
    (0x018, Status::HOST_ID_INCONSISTENT_FORMAT),
    (0x019, Status::KEEP_ALIVE_TIMER_EXPIRED),
    (0x01A, Status::KEEP_ALIVE_TIMEOUT_INVALID),
    (0x01B, Status::ABORTED_PREEMPT_AND_ABORT),
    (0x01C, Status::SANITIZE_FAILED),
    (0x01D, Status::SANITIZE_IN_PROGRESS),
    (0x01E, Status::SGL_DATA_BLOCK_GRANULARITY_INVALID),
    (0x020, Status::NAMESPACE_WRITE_PROTECTED),
    (0x021, Status::COMMAND_INTERRUPTED),
    (0x022, Status::TRANSIENT_TRANSPORT_ERROR),
    (0x023, Status::PROHIBITED_BY_LOCKDOWN),
    (0x024, Status::ADMIN_COMMAND_MEDIA_NOT_READY),
    (0x080, Status::LBA_OUT_OF_RANGE),
    (0x081, Status::CAPACITY_EXCEEDED),
    (0x082, Status::NAMESPACE_NOT_READY),
    (0x083, Status::RESERVATION_CONFLICT),
    (0x084, Status::FORMAT_IN_PROGRESS),
    (0x100, Status::COMPLETION_QUEUE_INVALID),
    (0x101, Status::INVALID_QUEUE_ID),
    (0x102, Status::INVALID_QUEUE_SIZE),
    (0x103, Status::ABORT_LIMIT_EXCEEDED),
    (0x105, Status::ASYNC_EVENT_LIMIT_EXCEEDED),
    (0x106, Status::INVALID_FIRMWARE_SLOT),
    (0x109, Status::INVALID_LOG_PAGE),
    (0x10A, Status::INVALID_FORMAT),
    (0x10D, Status::FEATURE_NOT_SAVEABLE),
    (0x10E, Status::FEATURE_NOT_CHANGEABLE),
    (0x10F, Status::FEATURE_NOT_NAMESPACE_SPECIFIC),
    (0x114, Status::OVERLAPPING_RANGE),
    (0x116, Status::NAMESPACE_ID_UNAVAILABLE),
    (0x118, Status::NAMESPACE_ALREADY_ATTACHED),
    (0x11A, Status::NAMESPACE_NOT_ATTACHED),
    (0x11F, Status::INVALID_CONTROLLER_ID),
    (0x129, Status::IO_COMMAND_SET_NOT_SUPPORTED),
    (0x180, Status::CONNECT_INCOMPATIBLE_FORMAT),
    (0x181, Status::CONNECT_CONTROLLER_BUSY),
    (0x182, Status::CONNECT_INVALID_PARAMETERS),
    (0x183, Status::CONNECT_RESTART_DISCOVERY),
    (0x184, Status::CONNECT_INVALID_HOST),
    (0x190, Status::DISCOVERY_RESTART),
    (0x191, Status::AUTHENTICATION_REQUIRED),
    (0x280, Status::WRITE_FAULT),
    (0x281, Status::UNRECOVERED_READ_ERROR),
    (0x282, Status::END_TO_END_GUARD_CHECK_ERROR),
    (0x283, Status::END_TO_END_APPLICATION_TAG_CHECK_ERROR),
    (0x284, Status::END_TO_END_REFERENCE_TAG_CHECK_ERROR),
    (0x285, Status::COMPARE_FAILURE),
    (0x286, Status::ACCESS_DENIED),
    (0x287, Status::DEALLOCATED_OR_UNWRITTEN),
    (0x300, Status::INTERNAL_PATH_ERROR),
    (0x301, Status::ANA_PERSISTENT_LOSS),
    (0x302, Status::ANA_INACCESSIBLE),
    (0x303, Status::ANA_TRANSITION),
    (0x360, Status::CONTROLLER_PATHING_ERROR),
    (0x370, Status::HOST_PATHING_ERROR),
    (0x371, Status::COMMAND_ABORTED_BY_HOST),
];

#[test]
fn every_name_has_its_bits() {
    for (bits, status) in NAMES {
        assert_eq!(status.encode(), *bits, "{status}");
        assert_eq!(Status::parse(*bits), *status, "{status}");
        assert!(status.words().is_some());
    }
    assert_eq!(
        Status::NAMED,
        NAMES.iter().map(|(_, status)| *status).collect::<Vec<_>>()
    );
}

#[test]
fn nvm_commands_read_some_codes_their_own_way() {
    let rows = [
        (0x180, Status::CONFLICTING_ATTRIBUTES),
        (0x181, Status::INVALID_PROTECTION_INFORMATION),
        (0x182, Status::WRITE_TO_READ_ONLY_RANGE),
        (0x183, Status::COMMAND_SIZE_LIMIT_EXCEEDED),
    ];
    for (bits, status) in rows {
        assert_eq!(status.encode(), bits);
    }
}

bit_fields!(status_field: Status, u16 {
    code = 0xA5 => 0..8 0xA5,
    code_type = StatusCodeType::VendorSpecific => 8..11 7,
    retry_delay = 3 => 11..13 3,
    more = true => 13..14 1,
    do_not_retry = true => 14..15 1,
});

#[test]
fn advice_does_not_change_what_a_status_is() {
    let refused = Status::LBA_OUT_OF_RANGE.do_not_retry().with_more();
    assert!(refused.is(Status::LBA_OUT_OF_RANGE) && refused != Status::LBA_OUT_OF_RANGE);
    assert_eq!(refused.encode(), 0x6080);
    assert!(!refused.is(Status::INTERNAL_ERROR) && !refused.is(Status::CONNECT_INCOMPATIBLE_FORMAT));
    assert!(Status::SUCCESS.is_success() && !refused.is_success());
    assert!(Status::ANA_INACCESSIBLE.is_path_related() && !refused.is_path_related());
}

#[test]
fn statuses_say_themselves_in_words() {
    let rows = [
        (Status::SUCCESS, "successful completion (0h/00h)"),
        (
            Status::ANA_INACCESSIBLE,
            "asymmetric access inaccessible (3h/02h)",
        ),
        (
            Status::INVALID_FIELD.do_not_retry(),
            "invalid field in command (0h/02h, do not retry)",
        ),
        (
            Status::new(StatusCodeType::VendorSpecific, 0x42),
            "vendor specific (7h/42h)",
        ),
    ];
    for (status, words) in rows {
        assert_eq!(status.to_string(), words);
    }
}

proptest! {
    #[test]
    fn all_bits_are_a_status(bits: u16) {
        let status = Status::parse(bits);
        prop_assert_eq!(status.encode(), bits & 0x7FFF);
        prop_assert!(!status.to_string().is_empty());
    }
}
