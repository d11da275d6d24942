//! What a target is told by its node: limits, subsystems, namespaces, portals. Plain data.

use super::reservation::ReservationState;
use crate::driver::ReactorIndex;
use block::{Blocks, Duration};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Names a subsystem of this target in its node's books (a pool on a controller node, the one subsystem of a disk
/// node).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubsystemKey(pub u32);

/// Limits of a target: everything a peer can make it hold is bounded by these.
///
/// | what | holds at most |
/// |---|---|
/// | the target | `connections_max` connections; payload buffers of `payload_bytes_max` in all |
/// | a namespace | four times as much of `payload_bytes_max` as is left: one alone four fifths, each of two that compete four ninths |
/// | a connection without a queue | 2 KiB, and two capsules of `in_capsule_bytes` |
/// | a connection with a queue | its session (less than 1 KiB), `queue_entries_max` commands, and the data held for commands that have no buffer |
/// | a command | less than 256 bytes; its payload buffer (twice that for Compare); 4 KiB of small data |
/// | data held for want of a buffer, a connection | 8 capsules of `in_capsule_bytes` and what the driver brings at a time; while it has been asked for data as well, one capsule for each entry of its queue |
///
/// Data by R2T is not asked for before there is a buffer for it. Buffers of reads that were answered are the driver's, which
/// bounds what it has unsent. So, without what the driver holds, this is never exceeded:
///
/// `payload_bytes_max + connections_max × (4 KiB + queue_entries_max × (256 + in_capsule_bytes))`
///
/// Nearly all of its second part is what peers could make a target hold that find no buffer ever; in steady state nothing is
/// allocated beside payload buffers, and the commands' 256 bytes are kept for the next ones.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// Connections in all; a further one is closed at once.
    pub connections_max: usize,
    /// I/O queues granted to one controller (at most 65534).
    pub io_queues_max: u16,
    /// Entries of a submission queue: CAP.MQES + 1 (2 to 1024).
    pub queue_entries_max: u16,
    /// Most data inside of a command capsule; a multiple of 16.
    pub in_capsule_bytes: u32,
    /// MAXH2CDATA: most data in one H2CData PDU; a multiple of 4, at least 4096.
    pub h2c_data_bytes_max: u32,
    /// MDTS as a power of two of 4096 bytes: 8 is 1 MiB.
    pub mdts: u8,
    /// The most that payload buffers of commands take; less than the pool has, so that who shares it is not starved.
    pub payload_bytes_max: u64,
    /// Header digests, where the host wants them.
    pub header_digest: bool,
    /// Data digests, where the host wants them.
    pub data_digest: bool,
    /// From the connection to its Connect command; a peer that takes longer is cut off.
    pub initialization_timeout: Duration,
    /// How long a terminated connection may stay for the peer to read why.
    pub termination_timeout: Duration,
    /// ANATT: the longest that a group is in the change state, in seconds.
    pub ana_transition_seconds: u8,
}

impl Default for TargetConfig {
    /// 1024 connections, 64 I/O queues of 128 entries, 8 KiB in a capsule, 1 MiB in a command, 48 MiB of payloads, digests
    /// where wanted.
    fn default() -> TargetConfig {
        TargetConfig {
            connections_max: 1024,
            io_queues_max: 64,
            queue_entries_max: 128,
            in_capsule_bytes: 8192,
            h2c_data_bytes_max: 128 * 1024,
            mdts: 8,
            payload_bytes_max: 48 << 20,
            header_digest: true,
            data_digest: true,
            initialization_timeout: Duration::from_secs(10),
            termination_timeout: Duration::from_secs(2),
            ana_transition_seconds: 10,
        }
    }
}

/// In [`NamespaceConfig::hosts`]: whoever asks. For measuring; no host can be named so (it has not the form of an NQN).
pub const ANY_HOST: &str = "*";

impl TargetConfig {
    /// The same limits for a target that shares a pool of so many bytes with little else: three quarters of it are for
    /// commands (and, however small the pool, what one command may need).
    pub fn within_pool(mut self, pool_bytes: u64) -> TargetConfig {
        let one_compare = 2 * u64::from(self.transfer_bytes_max());
        self.payload_bytes_max = (pool_bytes / 4 * 3).max(one_compare);
        self
    }
}

/// A subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsystemConfig {
    /// Its name (Base 2.1, section 4.7), at most 223 bytes.
    pub nqn: String,
    /// SN: at most 20 ASCII characters.
    pub serial: String,
    /// The first controller identifier given out here.
    pub cntlid_first: u16,
    /// The last, inclusive; at most FFEFh.
    pub cntlid_last: u16,
    /// Hosts (by NQN) that may connect even while no namespace is theirs. Every host that sees a namespace may.
    pub hosts: BTreeSet<String>,
    /// Whether namespaces may have reservations (ONCS); each says for itself.
    pub reservations: bool,
}

/// A subsystem that another machine of the process has: who connects here and means that one is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Which machine.
    pub reactor: ReactorIndex,
    /// The hosts (by NQN) that may connect to it; the others learn nothing of it from the discovery log page.
    pub hosts: BTreeSet<String>,
    /// Where it can be reached.
    pub portals: BTreeSet<Portal>,
}

impl Elsewhere {
    pub(crate) fn admits(&self, host: &str) -> bool {
        self.hosts.contains(host) || self.hosts.contains(ANY_HOST)
    }
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceConfig {
    /// Its UUID, also its NGUID.
    pub uuid: [u8; 16],
    /// NSZE.
    pub size_blocks: Blocks,
    /// ANAGRPID; from 1. A group that nobody set a state for is inaccessible.
    pub ana_group: u32,
    /// The hosts (by NQN) that see it.
    pub hosts: BTreeSet<String>,
}

/// The reservations of a namespace, given when it is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationConfig {
    /// Keys are epochs: the highest key ever accepted is kept, and a lower one is refused (rule R2).
    pub epoch_keys: bool,
    /// What was persisted last; the default for a fresh namespace.
    pub state: ReservationState,
}

/// Where a subsystem can be reached, for the discovery log page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Portal {
    /// PORTID.
    pub port: u16,
    /// The NVMe/TCP address.
    pub address: SocketAddr,
}
