//! The namespaces that a controller shows this host, as they were last read.
//!
//! Not here: how they are read (`scan`), and what they mean to anybody.

use block::Blocks;
use nvme::log::AnaState;
use std::collections::BTreeMap;

/// One namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// NSID: its name on this controller.
    pub nsid: u32,
    /// Its UUID; zero if it has none.
    pub uuid: [u8; 16],
    /// Its NGUID; zero if it has none.
    pub nguid: [u8; 16],
    /// NSZE, in blocks of `block_bytes`.
    pub size: Blocks,
    /// Bytes in a block; [`block::BLOCK_SIZE`] if this product made it.
    pub block_bytes: u32,
    /// ANAGRPID; 0 if there are no groups.
    pub ana_group: u32,
    /// The state of that group on this controller.
    pub ana: AnaState,
}

impl Namespace {
    /// What identifies it on every controller: the UUID, or the NGUID if it has none.
    pub fn identity(&self) -> [u8; 16] {
        if self.uuid != [0; 16] {
            self.uuid
        } else {
            self.nguid
        }
    }
}

/// All namespaces of a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceTable {
    pub(crate) entries: BTreeMap<u32, Namespace>,
    /// Whether anything was ever read.
    pub(crate) read: bool,
}

impl NamespaceTable {
    /// All of them, by NSID.
    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.entries.values()
    }

    /// The one with this NSID.
    pub fn by_nsid(&self, nsid: u32) -> Option<&Namespace> {
        self.entries.get(&nsid)
    }

    /// The one with this UUID (or NGUID, where there is no UUID).
    pub fn by_identity(&self, identity: [u8; 16]) -> Option<&Namespace> {
        self.iter().find(|namespace| namespace.identity() == identity)
    }

    /// Whether the controller was asked at all; an empty table that was not read says nothing.
    pub fn is_read(&self) -> bool {
        self.read
    }
}
