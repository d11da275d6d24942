//! Changed Attached Namespace List log page (Base, 5.1.12.1.5).

use crate::{Nsid, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Namespaces that changed since the log page was last read, ascending, zeroes behind; or *too many to tell*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChangedNamespaceList {
    /// The entries as they stand.
    pub entries: [U32; ChangedNamespaceList::CAPACITY],
}
wire!(ChangedNamespaceList, 4096);

impl ChangedNamespaceList {
    /// The most namespaces that can be told.
    pub const CAPACITY: usize = 1024;

    /// The log page for changed namespaces, given in ascending order; *too many* if they are.
    pub fn new(changed: impl IntoIterator<Item = Nsid>) -> ChangedNamespaceList {
        let mut list = ChangedNamespaceList::default();
        for (index, nsid) in changed.into_iter().enumerate() {
            if index == ChangedNamespaceList::CAPACITY {
                return ChangedNamespaceList::too_many();
            }
            list.entries[index] = U32::new(nsid.0);
        }
        list
    }

    /// FFFFFFFFh, then zeroes: more changed than can be told; everything must be looked at.
    pub fn too_many() -> ChangedNamespaceList {
        let mut list = ChangedNamespaceList::default();
        list.entries[0] = U32::new(Nsid::ALL.0);
        list
    }

    /// Whether more changed than can be told.
    pub fn is_too_many(&self) -> bool {
        self.entries[0].get() == Nsid::ALL.0
    }

    /// The namespaces told, up to the first zero; none if they are too many.
    pub fn namespaces(&self) -> impl Iterator<Item = Nsid> + '_ {
        let nsids = self.entries.iter().map(|entry| Nsid(entry.get()));
        nsids.take_while(|nsid| nsid.is_valid())
    }
}
