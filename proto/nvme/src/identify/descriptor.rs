//! Namespace Identification Descriptor list (CNS 03h; Base, 5.1.13.2.3).

use crate::{Eui64, Nguid, Uuid};

codes! {
    /// Namespace identifier type (NIDT).
    pub enum NamespaceIdentifierType: u8 {
        Eui64 = 0x1 "IEEE Extended Unique Identifier",
        Nguid = 0x2 "Namespace Globally Unique Identifier",
        Uuid = 0x3 "Namespace UUID",
        Csi = 0x4 "Command Set Identifier",
    }
}

/// One identifier of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceIdentification {
    /// EUI64.
    Eui64(Eui64),
    /// NGUID.
    Nguid(Nguid),
    /// UUID.
    Uuid(Uuid),
    /// Command set identifier (CSI).
    Csi(u8),
}

/// The list, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceIdentificationDescriptors(pub Vec<NamespaceIdentification>);

impl NamespaceIdentificationDescriptors {
    /// Length of the list on the wire.
    pub const SIZE: usize = 4096;
    const HEADER_SIZE: usize = 4;

    /// As on the wire, zeroes behind.
    pub fn encode(&self) -> [u8; NamespaceIdentificationDescriptors::SIZE] {
        let mut bytes = [0; NamespaceIdentificationDescriptors::SIZE];
        let mut rest = bytes.as_mut_slice();
        for identification in &self.0 {
            let (identifier_type, identifier) = identification.parts();
            let length = NamespaceIdentificationDescriptors::HEADER_SIZE + identifier.len();
            let (descriptor, behind) = rest
                .split_at_mut_checked(length)
                .expect("a namespace has few identifiers");
            descriptor[0] = identifier_type.code();
            descriptor[1] = identifier.len() as u8;
            descriptor[NamespaceIdentificationDescriptors::HEADER_SIZE..].copy_from_slice(identifier);
            rest = behind;
        }
        bytes
    }

    /// From the wire: descriptors of types or lengths that are not known here are skipped, a length of zero ends the
    /// list.
    pub fn parse(bytes: &[u8]) -> NamespaceIdentificationDescriptors {
        let mut identifications = Vec::new();
        let mut rest = bytes;
        while let [identifier_type, length, _, _, behind @ ..] = rest {
            let Some((identifier, next)) = behind.split_at_checked((*length).into()) else {
                break;
            };
            if *length == 0 {
                break;
            }
            identifications.extend(NamespaceIdentification::parse(*identifier_type, identifier));
            rest = next;
        }
        NamespaceIdentificationDescriptors(identifications)
    }

    /// The namespace's NGUID, if told.
    pub fn nguid(&self) -> Option<Nguid> {
        self.0.iter().find_map(|identification| match identification {
            NamespaceIdentification::Nguid(nguid) => Some(*nguid),
            _ => None,
        })
    }

    /// The namespace's UUID, if told.
    pub fn uuid(&self) -> Option<Uuid> {
        self.0.iter().find_map(|identification| match identification {
            NamespaceIdentification::Uuid(uuid) => Some(*uuid),
            _ => None,
        })
    }
}

impl NamespaceIdentification {
    fn parts(&self) -> (NamespaceIdentifierType, &[u8]) {
        match self {
            NamespaceIdentification::Eui64(eui64) => (NamespaceIdentifierType::Eui64, &eui64.0),
            NamespaceIdentification::Nguid(nguid) => (NamespaceIdentifierType::Nguid, &nguid.0),
            NamespaceIdentification::Uuid(uuid) => (NamespaceIdentifierType::Uuid, &uuid.0),
            NamespaceIdentification::Csi(csi) => (NamespaceIdentifierType::Csi, core::slice::from_ref(csi)),
        }
    }

    fn parse(identifier_type: u8, identifier: &[u8]) -> Option<NamespaceIdentification> {
        match NamespaceIdentifierType::from_code(identifier_type)? {
            NamespaceIdentifierType::Eui64 => {
                let bytes = identifier.try_into().ok()?;
                Some(NamespaceIdentification::Eui64(Eui64(bytes)))
            }
            NamespaceIdentifierType::Nguid => {
                let bytes = identifier.try_into().ok()?;
                Some(NamespaceIdentification::Nguid(Nguid(bytes)))
            }
            NamespaceIdentifierType::Uuid => {
                let bytes = identifier.try_into().ok()?;
                Some(NamespaceIdentification::Uuid(Uuid(bytes)))
            }
            NamespaceIdentifierType::Csi => match identifier {
                [csi] => Some(NamespaceIdentification::Csi(*csi)),
                _ => None,
            },
        }
    }
}
