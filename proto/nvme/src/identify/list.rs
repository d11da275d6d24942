//! Lists of identifiers (Base, 5.1.13.2.2 and 5.1.13.2.14).

use crate::{Cntlid, Nsid, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Namespace list (CNS 02h, 07h, 10h, 1Ah): ascending, zeroes behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NamespaceList {
    /// The entries as they stand.
    pub entries: [U32; NamespaceList::CAPACITY],
}
wire!(NamespaceList, 4096);

impl NamespaceList {
    /// The most namespaces in one list.
    pub const CAPACITY: usize = 1024;

    /// The first of `namespaces`, given in ascending order, that are greater than `after` (NSID of the command).
    pub fn new(namespaces: impl IntoIterator<Item = Nsid>, after: Nsid) -> NamespaceList {
        let mut list = NamespaceList::default();
        let greater = namespaces.into_iter().filter(|nsid| *nsid > after);
        for (entry, nsid) in list.entries.iter_mut().zip(greater) {
            *entry = U32::new(nsid.0);
        }
        list
    }

    /// The namespaces, up to the first zero. A full list may have to be followed by one more Identify, after its last.
    pub fn namespaces(&self) -> impl Iterator<Item = Nsid> + '_ {
        let nsids = self.entries.iter().map(|entry| Nsid(entry.get()));
        nsids.take_while(|nsid| *nsid != Nsid::NONE)
    }
}

/// Controller list (CNS 12h, 13h): ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ControllerList {
    /// Number of identifiers (NUMIDS).
    pub count: U16,
    /// The identifiers as they stand.
    pub entries: [U16; ControllerList::CAPACITY],
}
wire!(ControllerList, 4096);

impl ControllerList {
    /// The most controllers in one list.
    pub const CAPACITY: usize = 2047;

    /// The first of `controllers`, given in ascending order, that are `from` (CNTID of the command) or greater.
    pub fn new(controllers: impl IntoIterator<Item = Cntlid>, from: Cntlid) -> ControllerList {
        let mut list = ControllerList::default();
        let mut count = 0;
        let told = controllers.into_iter().filter(|cntlid| *cntlid >= from);
        for (entry, cntlid) in list.entries.iter_mut().zip(told) {
            *entry = U16::new(cntlid.0);
            count += 1;
        }
        list.count = U16::new(count);
        list
    }

    /// The controllers, as many as told.
    pub fn controllers(&self) -> impl Iterator<Item = Cntlid> + '_ {
        let told = self.entries.iter().take(self.count.get().into());
        told.map(|entry| Cntlid(entry.get()))
    }
}
