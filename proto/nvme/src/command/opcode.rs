//! The numbers of commands. Known is not supported: what a controller of ours executes is its own business.

/// Opcode of every Fabrics command; its type is a field of its own (Base, 6).
pub const FABRICS_OPCODE: u8 = 0x7F;

codes! {
    /// Opcodes on the admin queue (Base, 5).
    pub enum AdminOpcode: u8 {
        DeleteIoSubmissionQueue = 0x00 "Delete I/O Submission Queue",
        CreateIoSubmissionQueue = 0x01 "Create I/O Submission Queue",
        GetLogPage = 0x02 "Get Log Page",
        DeleteIoCompletionQueue = 0x04 "Delete I/O Completion Queue",
        CreateIoCompletionQueue = 0x05 "Create I/O Completion Queue",
        Identify = 0x06 "Identify",
        Abort = 0x08 "Abort",
        SetFeatures = 0x09 "Set Features",
        GetFeatures = 0x0A "Get Features",
        AsynchronousEventRequest = 0x0C "Asynchronous Event Request",
        NamespaceManagement = 0x0D "Namespace Management",
        FirmwareCommit = 0x10 "Firmware Commit",
        FirmwareImageDownload = 0x11 "Firmware Image Download",
        DeviceSelfTest = 0x14 "Device Self-test",
        NamespaceAttachment = 0x15 "Namespace Attachment",
        KeepAlive = 0x18 "Keep Alive",
        DirectiveSend = 0x19 "Directive Send",
        DirectiveReceive = 0x1A "Directive Receive",
        FormatNvm = 0x80 "Format NVM",
        SecuritySend = 0x81 "Security Send",
        SecurityReceive = 0x82 "Security Receive",
        Sanitize = 0x84 "Sanitize",
    }
}

codes! {
    /// Opcodes on I/O queues, NVM command set (Base, 7; NVM, 3.3).
    pub enum IoOpcode: u8 {
        Flush = 0x00 "Flush",
        Write = 0x01 "Write",
        Read = 0x02 "Read",
        WriteUncorrectable = 0x04 "Write Uncorrectable",
        Compare = 0x05 "Compare",
        WriteZeroes = 0x08 "Write Zeroes",
        DatasetManagement = 0x09 "Dataset Management",
        Verify = 0x0C "Verify",
        ReservationRegister = 0x0D "Reservation Register",
        ReservationReport = 0x0E "Reservation Report",
        ReservationAcquire = 0x11 "Reservation Acquire",
        ReservationRelease = 0x15 "Reservation Release",
        Copy = 0x19 "Copy",
    }
}

codes! {
    /// Fabrics command types (FCTYPE; Base, 6).
    pub enum FabricsCommandType: u8 {
        PropertySet = 0x00 "Property Set",
        Connect = 0x01 "Connect",
        PropertyGet = 0x04 "Property Get",
        AuthenticationSend = 0x05 "Authentication Send",
        AuthenticationReceive = 0x06 "Authentication Receive",
        Disconnect = 0x08 "Disconnect",
    }
}
