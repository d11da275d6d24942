//! Opcodes and the other codes of commands.

use super::*;

code_table!(admin_opcodes: AdminOpcode, u8 {
    0x00 DeleteIoSubmissionQueue,
    0x01 CreateIoSubmissionQueue,
    0x02 GetLogPage,
    0x04 DeleteIoCompletionQueue,
    0x05 CreateIoCompletionQueue,
    0x06 Identify,
    0x08 Abort,
    0x09 SetFeatures,
    0x0A GetFeatures,
    0x0C AsynchronousEventRequest,
    0x0D NamespaceManagement,
    0x10 FirmwareCommit,
    0x11 FirmwareImageDownload,
    0x14 DeviceSelfTest,
    0x15 NamespaceAttachment,
    0x18 KeepAlive,
    0x19 DirectiveSend,
    0x1A DirectiveReceive,
    0x80 FormatNvm,
    0x81 SecuritySend,
    0x82 SecurityReceive,
    0x84 Sanitize,
});

code_table!(io_opcodes: IoOpcode, u8 {
    0x00 Flush,
    0x01 Write,
    0x02 Read,
    0x04 WriteUncorrectable,
    0x05 Compare,
    0x08 WriteZeroes,
    0x09 DatasetManagement,
    0x0C Verify,
    0x0D ReservationRegister,
    0x0E ReservationReport,
    0x11 ReservationAcquire,
    0x15 ReservationRelease,
    0x19 Copy,
});

code_table!(fabrics_command_types: FabricsCommandType, u8 {
    0x00 PropertySet,
    0x01 Connect,
    0x04 PropertyGet,
    0x05 AuthenticationSend,
    0x06 AuthenticationReceive,
    0x08 Disconnect,
});

code_table!(cns: Cns, u8 {
    0x00 Namespace,
    0x01 Controller,
    0x02 ActiveNamespaceList,
    0x03 NamespaceIdentificationDescriptors,
    0x04 NvmSetList,
    0x05 CommandSetNamespace,
    0x06 CommandSetController,
    0x07 CommandSetActiveNamespaceList,
    0x08 IndependentNamespace,
    0x09 NamespaceUserDataFormat,
    0x0A CommandSetNamespaceUserDataFormat,
    0x10 AllocatedNamespaceList,
    0x11 AllocatedNamespace,
    0x12 NamespaceControllerList,
    0x13 ControllerList,
    0x14 PrimaryControllerCapabilities,
    0x15 SecondaryControllerList,
    0x16 NamespaceGranularityList,
    0x17 UuidList,
    0x18 DomainList,
    0x19 EnduranceGroupList,
    0x1A CommandSetAllocatedNamespaceList,
    0x1B CommandSetAllocatedNamespace,
    0x1C IoCommandSets,
});

code_table!(selects: Select, u8 {
    0 Current,
    1 Default,
    2 Saved,
    3 SupportedCapabilities,
});

code_table!(property_sizes: PropertySize, u8 {
    0 Four,
    1 Eight,
});
