//! Names of things: namespaces, commands, queues, controllers, hosts. Each its own type, so that none is taken for
//! another.

use core::fmt;

macro_rules! number {
    ($(#[$meta:meta])* $name:ident($repr:ty)) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $repr);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}", self.0)
            }
        }
    };
}

number! {
    /// Namespace identifier (Base, 3.2.1). Valid ones are 1 to FFFFFFFEh.
    Nsid(u32)
}
number! {
    /// Command identifier, chosen by the host, unique among those outstanding in its queue (Base, 3.3.3.1).
    Cid(u16)
}
number! {
    /// Queue identifier; 0 is the admin queue (Base, 3.3).
    Qid(u16)
}
number! {
    /// Controller identifier, unique in its subsystem (Base, 3.1).
    Cntlid(u16)
}

impl Nsid {
    /// No namespace.
    pub const NONE: Nsid = Nsid(0);
    /// The broadcast value: every namespace.
    pub const ALL: Nsid = Nsid(0xFFFF_FFFF);

    /// Whether it can name a namespace: neither 0 nor the broadcast value.
    pub const fn is_valid(self) -> bool {
        self.0 != 0 && self.0 != Nsid::ALL.0
    }
}

impl Qid {
    /// The admin queue.
    pub const ADMIN: Qid = Qid(0);

    /// Whether this is the admin queue.
    pub const fn is_admin(self) -> bool {
        self.0 == 0
    }
}

impl Cntlid {
    /// In Connect: any controller, the dynamic model (Base, 6.3).
    pub const DYNAMIC: Cntlid = Cntlid(0xFFFF);
    /// In Connect: a particular controller is not asked for, the static model (Base, 6.3).
    pub const STATIC_ANY: Cntlid = Cntlid(0xFFFE);
    /// The highest that a controller of a fabric may have.
    pub const MAX: Cntlid = Cntlid(0xFFEF);
}

macro_rules! octets {
    ($(#[$meta:meta])* $name:ident($size:literal)) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $size]);

        impl $name {
            /// Whether every byte is zero, which stands for *none*.
            pub fn is_zero(&self) -> bool {
                self.0.iter().all(|byte| *byte == 0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
            }
        }
    };
}

octets! {
    /// Extended host identifier, 128 bits (Base, 5.1.25.1.28 Host Identifier).
    HostId(16)
}
octets! {
    /// Namespace globally unique identifier, big-endian as printed (Base, 4.7.1.3).
    Nguid(16)
}
octets! {
    /// IEEE extended unique identifier, big-endian as printed (Base, 4.7.1.2).
    Eui64(8)
}

/// Namespace UUID, bytes in the order of RFC 9562 (Base, 4.7.1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Whether every byte is zero, which stands for *none*.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(formatter, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

/// A number the specification calls *0's based*: the wire says one less than is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZeroBased<T> {
    /// As on the wire: one less than the count.
    pub raw: T,
}

macro_rules! zero_based {
    ($repr:ty, $count:ty) => {
        impl ZeroBased<$repr> {
            /// From the wire.
            pub const fn from_raw(raw: $repr) -> Self {
                ZeroBased { raw }
            }

            /// What is meant: one more than the wire says.
            pub const fn count(self) -> $count {
                self.raw as $count + 1
            }

            /// For a count of at least one; `None` for zero and for what does not fit.
            pub const fn from_count(count: $count) -> Option<Self> {
                if count == 0 || count > <$repr>::MAX as $count + 1 {
                    return None;
                }
                Some(ZeroBased {
                    raw: (count - 1) as $repr,
                })
            }
        }
    };
}

zero_based!(u8, u32);
zero_based!(u16, u32);
zero_based!(u32, u64);
