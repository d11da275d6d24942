//! How a command ended (Base, 4.2.3): status code type, status code, and advice on retrying.
//!
//! The constants carry no *do not retry*; whoever refuses a command says so with [`Status::do_not_retry`]. Path
//! conditions (type 3) must never carry it.

use crate::bits::{bit, field, flag, place};
use core::fmt;

codes! {
    /// Status code type (Base, 4.2.3.1): what the code is a code of. Types 4 to 6 are reserved.
    pub enum StatusCodeType: u8 {
        Generic = 0x0 "generic command status",
        CommandSpecific = 0x1 "command specific status",
        MediaAndDataIntegrity = 0x2 "media and data integrity errors",
        PathRelated = 0x3 "path related status",
        Reserved4 = 0x4 "reserved",
        Reserved5 = 0x5 "reserved",
        Reserved6 = 0x6 "reserved",
        VendorSpecific = 0x7 "vendor specific",
    }
}

/// The status field of a completion, without the phase tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// Status code type (SCT).
    pub code_type: StatusCodeType,
    /// Status code (SC).
    pub code: u8,
    /// Command retry delay (CRD): 0 none, 1 to 3 which of the controller's three times to wait.
    pub retry_delay: u8,
    /// More (M): the error information log has an entry on this command.
    pub more: bool,
    /// Do not retry (DNR): the same command would fail again.
    pub do_not_retry: bool,
}

impl Status {
    /// A status without advice on retrying.
    pub const fn new(code_type: StatusCodeType, code: u8) -> Status {
        Status {
            code_type,
            code,
            retry_delay: 0,
            more: false,
            do_not_retry: false,
        }
    }

    /// The same with *do not retry*.
    pub const fn do_not_retry(self) -> Status {
        Status {
            do_not_retry: true,
            ..self
        }
    }

    /// The same with *more*: the error information log says more.
    pub const fn with_more(self) -> Status {
        Status { more: true, ..self }
    }

    /// Whether type and code are those of `other`, whatever the advice.
    pub fn is(self, other: Status) -> bool {
        self.code_type == other.code_type && self.code == other.code
    }

    /// Whether the command succeeded.
    pub fn is_success(self) -> bool {
        self.is(Status::SUCCESS)
    }

    /// Whether the path is the reason, so that another path or a later time may do.
    pub fn is_path_related(self) -> bool {
        self.code_type == StatusCodeType::PathRelated
    }

    /// The 15 bits of the status field, without the phase tag: SC, SCT, CRD, M, DNR from the lowest.
    pub const fn encode(self) -> u16 {
        (place(self.code as u64, 0, 8)
            | place(self.code_type.code() as u64, 8, 3)
            | place(self.retry_delay as u64, 11, 2)
            | flag(self.more, 13)
            | flag(self.do_not_retry, 14)) as u16
    }

    /// From the 15 bits of the status field; bit 15 is ignored.
    pub fn parse(bits: u16) -> Status {
        let bits = u64::from(bits);
        let code_type = field(bits, 8, 3) as u8;
        Status {
            code_type: StatusCodeType::from_code(code_type).expect("three bits are all codes"),
            code: field(bits, 0, 8) as u8,
            retry_delay: field(bits, 11, 2) as u8,
            more: bit(bits, 13),
            do_not_retry: bit(bits, 14),
        }
    }
}

macro_rules! statuses {
    ($($code_type:ident { $($name:ident = $code:literal $words:literal,)+ })+) => {
        impl Status {
            $($(
                #[doc = concat!(stringify!($code), ": ", $words, ".")]
                pub const $name: Status = Status::new(StatusCodeType::$code_type, $code);
            )+)+

            /// Every status that has a name here.
            pub const NAMED: &[Status] = &[$($(Status::$name,)+)+];

            /// What type and code mean, if they have a name here.
            pub fn words(self) -> Option<&'static str> {
                match (self.code_type, self.code) {
                    $($((StatusCodeType::$code_type, $code) => Some($words),)+)+
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    Generic {
        SUCCESS = 0x00 "successful completion",
        INVALID_OPCODE = 0x01 "invalid command opcode",
        INVALID_FIELD = 0x02 "invalid field in command",
        COMMAND_ID_CONFLICT = 0x03 "command id conflict",
        DATA_TRANSFER_ERROR = 0x04 "data transfer error",
        ABORTED_POWER_LOSS = 0x05 "commands aborted due to power loss notification",
        INTERNAL_ERROR = 0x06 "internal error",
        ABORT_REQUESTED = 0x07 "command abort requested",
        ABORTED_SQ_DELETION = 0x08 "command aborted due to sq deletion",
        ABORTED_FAILED_FUSED = 0x09 "command aborted due to failed fused command",
        ABORTED_MISSING_FUSED = 0x0A "command aborted due to missing fused command",
        INVALID_NAMESPACE_OR_FORMAT = 0x0B "invalid namespace or format",
        COMMAND_SEQUENCE_ERROR = 0x0C "command sequence error",
        INVALID_SGL_SEGMENT_DESCRIPTOR = 0x0D "invalid sgl segment descriptor",
        INVALID_NUMBER_OF_SGL_DESCRIPTORS = 0x0E "invalid number of sgl descriptors",
        DATA_SGL_LENGTH_INVALID = 0x0F "data sgl length invalid",
        METADATA_SGL_LENGTH_INVALID = 0x10 "metadata sgl length invalid",
        SGL_DESCRIPTOR_TYPE_INVALID = 0x11 "sgl descriptor type invalid",
        ATOMIC_WRITE_UNIT_EXCEEDED = 0x14 "atomic write unit exceeded",
        OPERATION_DENIED = 0x15 "operation denied",
        SGL_OFFSET_INVALID = 0x16 "sgl offset invalid",
        HOST_ID_INCONSISTENT_FORMAT = 0x18 "host identifier inconsistent format",
        KEEP_ALIVE_TIMER_EXPIRED = 0x19 "keep alive timer expired",
        KEEP_ALIVE_TIMEOUT_INVALID = 0x1A "keep alive timeout invalid",
        ABORTED_PREEMPT_AND_ABORT = 0x1B "command aborted due to preempt and abort",
        SANITIZE_FAILED = 0x1C "sanitize failed",
        SANITIZE_IN_PROGRESS = 0x1D "sanitize in progress",
        SGL_DATA_BLOCK_GRANULARITY_INVALID = 0x1E "sgl data block granularity invalid",
        NAMESPACE_WRITE_PROTECTED = 0x20 "namespace is write protected",
        COMMAND_INTERRUPTED = 0x21 "command interrupted",
        TRANSIENT_TRANSPORT_ERROR = 0x22 "transient transport error",
        PROHIBITED_BY_LOCKDOWN = 0x23 "command prohibited by command and feature lockdown",
        ADMIN_COMMAND_MEDIA_NOT_READY = 0x24 "admin command media not ready",
        LBA_OUT_OF_RANGE = 0x80 "lba out of range",
        CAPACITY_EXCEEDED = 0x81 "capacity exceeded",
        NAMESPACE_NOT_READY = 0x82 "namespace not ready",
        RESERVATION_CONFLICT = 0x83 "reservation conflict",
        FORMAT_IN_PROGRESS = 0x84 "format in progress",
    }
    CommandSpecific {
        COMPLETION_QUEUE_INVALID = 0x00 "completion queue invalid",
        INVALID_QUEUE_ID = 0x01 "invalid queue identifier",
        INVALID_QUEUE_SIZE = 0x02 "invalid queue size",
        ABORT_LIMIT_EXCEEDED = 0x03 "abort command limit exceeded",
        ASYNC_EVENT_LIMIT_EXCEEDED = 0x05 "asynchronous event request limit exceeded",
        INVALID_FIRMWARE_SLOT = 0x06 "invalid firmware slot",
        INVALID_LOG_PAGE = 0x09 "invalid log page",
        INVALID_FORMAT = 0x0A "invalid format",
        FEATURE_NOT_SAVEABLE = 0x0D "feature identifier not saveable",
        FEATURE_NOT_CHANGEABLE = 0x0E "feature not changeable",
        FEATURE_NOT_NAMESPACE_SPECIFIC = 0x0F "feature not namespace specific",
        OVERLAPPING_RANGE = 0x14 "overlapping range",
        NAMESPACE_ID_UNAVAILABLE = 0x16 "namespace identifier unavailable",
        NAMESPACE_ALREADY_ATTACHED = 0x18 "namespace already attached",
        NAMESPACE_NOT_ATTACHED = 0x1A "namespace not attached",
        INVALID_CONTROLLER_ID = 0x1F "invalid controller identifier",
        IO_COMMAND_SET_NOT_SUPPORTED = 0x29 "i/o command set not supported",
        CONNECT_INCOMPATIBLE_FORMAT = 0x80 "incompatible format (nvm commands: conflicting attributes)",
        CONNECT_CONTROLLER_BUSY = 0x81 "controller busy (nvm commands: invalid protection information)",
        CONNECT_INVALID_PARAMETERS = 0x82 "connect invalid parameters (nvm commands: write to read only range)",
        CONNECT_RESTART_DISCOVERY = 0x83 "connect restart discovery (nvm commands: size limit exceeded)",
        CONNECT_INVALID_HOST = 0x84 "connect invalid host",
        DISCOVERY_RESTART = 0x90 "discovery restart",
        AUTHENTICATION_REQUIRED = 0x91 "authentication required",
    }
    MediaAndDataIntegrity {
        WRITE_FAULT = 0x80 "write fault",
        UNRECOVERED_READ_ERROR = 0x81 "unrecovered read error",
        END_TO_END_GUARD_CHECK_ERROR = 0x82 "end-to-end guard check error",
        END_TO_END_APPLICATION_TAG_CHECK_ERROR = 0x83 "end-to-end application tag check error",
        END_TO_END_REFERENCE_TAG_CHECK_ERROR = 0x84 "end-to-end reference tag check error",
        COMPARE_FAILURE = 0x85 "compare failure",
        ACCESS_DENIED = 0x86 "access denied",
        DEALLOCATED_OR_UNWRITTEN = 0x87 "deallocated or unwritten logical block",
    }
    PathRelated {
        INTERNAL_PATH_ERROR = 0x00 "internal path error",
        ANA_PERSISTENT_LOSS = 0x01 "asymmetric access persistent loss",
        ANA_INACCESSIBLE = 0x02 "asymmetric access inaccessible",
        ANA_TRANSITION = 0x03 "asymmetric access transition",
        CONTROLLER_PATHING_ERROR = 0x60 "controller pathing error",
        HOST_PATHING_ERROR = 0x70 "host pathing error",
        COMMAND_ABORTED_BY_HOST = 0x71 "command aborted by host",
    }
}

/// The NVM command set's own readings of command specific codes that Fabrics commands read otherwise (NVM, 4.2).
impl Status {
    /// 80h: attributes of the command conflict (NVM commands).
    pub const CONFLICTING_ATTRIBUTES: Status = Status::new(StatusCodeType::CommandSpecific, 0x80);
    /// 81h: the protection information settings are not those of the namespace (NVM commands).
    pub const INVALID_PROTECTION_INFORMATION: Status = Status::new(StatusCodeType::CommandSpecific, 0x81);
    /// 82h: the range is read only (NVM commands).
    pub const WRITE_TO_READ_ONLY_RANGE: Status = Status::new(StatusCodeType::CommandSpecific, 0x82);
    /// 83h: a limit of the command's size is exceeded (NVM commands).
    pub const COMMAND_SIZE_LIMIT_EXCEEDED: Status = Status::new(StatusCodeType::CommandSpecific, 0x83);
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words() {
            Some(words) => formatter.write_str(words)?,
            None => write!(formatter, "{}", self.code_type)?,
        }
        write!(formatter, " ({:x}h/{:02x}h", self.code_type.code(), self.code)?;
        if self.do_not_retry {
            formatter.write_str(", do not retry")?;
        }
        formatter.write_str(")")
    }
}
