//! Commands Supported and Effects (Base, 5.1.12.1.6) and Supported Log Pages (Base, 5.1.12.1.1).

use crate::{
    U32,
    bits::{bit, field, flag, place},
    command::{AdminOpcode, IoOpcode},
    log::LogPageIdentifier,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Commands Supported and Effects: a [`CommandEffects`] for every opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CommandsSupportedAndEffects {
    /// Admin command supported 0 to 255 (ACS).
    pub admin: [U32; 256],
    /// I/O command supported 0 to 255 (IOCS).
    pub io: [U32; 256],
    pub(crate) reserved_2048: [u8; 2048],
}
wire!(CommandsSupportedAndEffects, 4096);

impl CommandsSupportedAndEffects {
    /// Says that an admin command is supported, with its effects.
    pub fn set_admin(&mut self, opcode: AdminOpcode, effects: CommandEffects) {
        self.admin[usize::from(opcode.code())] = U32::new(effects.encode());
    }

    /// Says that an I/O command is supported, with its effects.
    pub fn set_io(&mut self, opcode: IoOpcode, effects: CommandEffects) {
        self.io[usize::from(opcode.code())] = U32::new(effects.encode());
    }

    /// What is said of an admin command.
    pub fn admin_effects(&self, opcode: AdminOpcode) -> CommandEffects {
        CommandEffects::parse(self.admin[usize::from(opcode.code())].get())
    }

    /// What is said of an I/O command.
    pub fn io_effects(&self, opcode: IoOpcode) -> CommandEffects {
        CommandEffects::parse(self.io[usize::from(opcode.code())].get())
    }
}

/// Whether a command is supported, and what it may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandEffects {
    /// Command supported (CSUPP).
    pub supported: bool,
    /// Logical block content change (LBCC).
    pub logical_block_content_change: bool,
    /// Namespace capability change (NCC).
    pub namespace_capability_change: bool,
    /// Namespace inventory change (NIC).
    pub namespace_inventory_change: bool,
    /// Controller capability change (CCC).
    pub controller_capability_change: bool,
    /// Command submission and execution relaxations (CSER), 2 bits.
    pub relaxations: u8,
    /// Command submission and execution (CSE), 3 bits: 0 no restriction, 1 one at a time in a namespace, 2 one at a time.
    pub restriction: u8,
    /// UUID selection supported (USS).
    pub uuid_selection: bool,
    /// Command scope (CSP), 12 bits: namespace, controller, set, group, domain, subsystem, ….
    pub scope: u16,
}

impl CommandEffects {
    /// CSP: the command acts on a namespace.
    pub const SCOPE_NAMESPACE: u16 = 1 << 0;
    /// CSP: the command acts on the controller.
    pub const SCOPE_CONTROLLER: u16 = 1 << 1;

    /// Supported, without effects.
    pub const SUPPORTED: CommandEffects = CommandEffects {
        supported: true,
        logical_block_content_change: false,
        namespace_capability_change: false,
        namespace_inventory_change: false,
        controller_capability_change: false,
        relaxations: 0,
        restriction: 0,
        uuid_selection: false,
        scope: 0,
    };

    /// Supported; changes the contents of logical blocks.
    pub const CHANGES_CONTENT: CommandEffects = CommandEffects {
        logical_block_content_change: true,
        ..CommandEffects::SUPPORTED
    };

    /// As in the log page.
    pub const fn encode(self) -> u32 {
        (flag(self.supported, 0)
            | flag(self.logical_block_content_change, 1)
            | flag(self.namespace_capability_change, 2)
            | flag(self.namespace_inventory_change, 3)
            | flag(self.controller_capability_change, 4)
            | place(self.relaxations as u64, 14, 2)
            | place(self.restriction as u64, 16, 3)
            | flag(self.uuid_selection, 19)
            | place(self.scope as u64, 20, 12)) as u32
    }

    /// From the log page.
    pub const fn parse(dword: u32) -> CommandEffects {
        let dword = dword as u64;
        CommandEffects {
            supported: bit(dword, 0),
            logical_block_content_change: bit(dword, 1),
            namespace_capability_change: bit(dword, 2),
            namespace_inventory_change: bit(dword, 3),
            controller_capability_change: bit(dword, 4),
            relaxations: field(dword, 14, 2) as u8,
            restriction: field(dword, 16, 3) as u8,
            uuid_selection: bit(dword, 19),
            scope: field(dword, 20, 12) as u16,
        }
    }
}

/// Supported Log Pages: for every identifier whether it is supported (LSUPP, bit 0), whether an index offset is (IOS, bit
/// 1), and in bits 31:16 what depends on the log page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SupportedLogPages {
    /// LID supported and effects, 0 to 255.
    pub pages: [U32; 256],
}
wire!(SupportedLogPages, 1024);

impl SupportedLogPages {
    /// The log page that says `supported` are.
    pub fn new(supported: impl IntoIterator<Item = LogPageIdentifier>) -> SupportedLogPages {
        let mut pages = SupportedLogPages::default();
        for identifier in supported {
            pages.pages[usize::from(identifier.code())] = U32::new(1);
        }
        pages
    }

    /// Whether a log page is supported.
    pub fn is_supported(&self, identifier: LogPageIdentifier) -> bool {
        self.pages[usize::from(identifier.code())].get() & 1 == 1
    }
}
