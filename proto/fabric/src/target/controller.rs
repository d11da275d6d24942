//! A controller: the association of one host with one subsystem (Base 2.1, section 3.1.2): its queues, properties,
//! features, events and logs.

use super::async_event::AsyncEvents;
use super::command::{CommandRef, Origin};
use super::routes::Routes;
use crate::driver::ConnectionId;
use block::{Duration, Time};
use nvme::log::ReservationNotificationType;
use nvme::log::{ErrorInformation, ReservationNotification};
use nvme::property::{Configuration, ControllerStatus, ShutdownNotification, ShutdownStatus};
use nvme::{Cntlid, HostId, Qid, U16, U32, U64};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// ELPE + 1: entries of the error information log page.
pub(crate) const ERROR_LOG_ENTRIES: usize = 16;
/// Reservation notifications kept for a host that does not read them.
const NOTIFICATIONS_MAX: usize = 64;

/// Whom a controller serves: fixed by its Connect.
#[derive(Clone, Debug)]
pub(crate) struct Association {
    pub(crate) cntlid: Cntlid,
    pub(crate) host: String,
    pub(crate) host_id: HostId,
    pub(crate) admin: ConnectionId,
}

#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) cntlid: Cntlid,
    /// NQN of its host.
    pub(crate) host: String,
    pub(crate) host_id: HostId,
    /// The connection of its admin queue.
    pub(crate) admin: ConnectionId,
    /// I/O queues by their identifiers.
    pub(crate) queues: BTreeMap<Qid, ConnectionId>,
    /// I/O queues that the host may make.
    pub(crate) queues_granted: u16,
    pub(crate) configuration: Configuration,
    pub(crate) status: ControllerStatus,
    /// KATO; zero for none.
    pub(crate) keep_alive: Duration,
    /// When the host last said something.
    pub(crate) last_heard: Time,
    pub(crate) features: Features,
    pub(crate) events: AsyncEvents<CommandRef>,
    /// Namespaces that changed since the host last asked.
    pub(crate) changed_namespaces: BTreeSet<u32>,
    pub(crate) notifications: Notifications,
    pub(crate) errors: ErrorLog,
    pub(crate) counters: Counters,
    /// Where the namespaces are that the host sees.
    pub(crate) routes: Routes,
    /// The host has lost its rights: closed when nothing is in flight.
    pub(crate) evicted: bool,
}

/// Features that are no more than a value (Base 2.1, section 5.1.25).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Features {
    pub(crate) arbitration: u32,
    pub(crate) power_management: u32,
    pub(crate) temperature_threshold: u32,
    pub(crate) error_recovery: u32,
    pub(crate) write_cache: bool,
    pub(crate) write_atomicity: u32,
}

impl Default for Features {
    fn default() -> Features {
        Features {
            arbitration: 0,
            power_management: 0,
            temperature_threshold: 0xffff,
            error_recovery: 0,
            write_cache: true,
            write_atomicity: 0,
        }
    }
}

/// What the SMART log page counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) media_errors: u64,
}

impl Controller {
    pub(crate) fn new(association: Association, now: Time, keep_alive: Duration) -> Controller {
        Controller {
            cntlid: association.cntlid,
            host: association.host,
            host_id: association.host_id,
            admin: association.admin,
            queues: BTreeMap::new(),
            queues_granted: 0,
            configuration: Configuration::default(),
            status: ControllerStatus::default(),
            keep_alive,
            last_heard: now,
            features: Features::default(),
            events: AsyncEvents::default(),
            changed_namespaces: BTreeSet::new(),
            notifications: Notifications::default(),
            errors: ErrorLog::default(),
            counters: Counters::default(),
            routes: Routes::default(),
            evicted: false,
        }
    }

    /// When the host will have been silent for too long.
    pub(crate) fn deadline(&self) -> Option<Time> {
        (!self.keep_alive.is_zero()).then(|| self.last_heard + self.keep_alive)
    }

    /// Every connection of the association, the admin queue's last.
    pub(crate) fn connections(&self) -> Vec<ConnectionId> {
        self.queues.values().copied().chain([self.admin]).collect()
    }

    /// A value written to CC (Base 2.1, section 3.1.4.5): enabling, disabling, shutting down.
    pub(crate) fn configure(&mut self, written: Configuration, discovery: bool) {
        let before = self.configuration;
        self.configuration = written;
        if written.enable && !before.enable {
            let sound = discovery || is_sound(&written);
            self.status = ControllerStatus {
                ready: sound,
                fatal: !sound,
                ..ControllerStatus::default()
            };
        }
        if !written.enable && before.enable {
            self.status = ControllerStatus::default();
            self.features = Features::default();
        }
        let shutdown = |notification| {
            matches!(
                notification,
                ShutdownNotification::Normal | ShutdownNotification::Abrupt
            )
        };
        if shutdown(written.shutdown_notification) && !shutdown(before.shutdown_notification) {
            self.status.shutdown_status = ShutdownStatus::Complete;
        }
    }
}

/// Whether a configuration is one that our controllers work with.
fn is_sound(written: &Configuration) -> bool {
    written.io_submission_queue_entry_size == Configuration::IOSQES
        && written.io_completion_queue_entry_size == Configuration::IOCQES
        && written.memory_page_size == 0
        && written.arbitration_mechanism == 0
        && matches!(
            written.command_set,
            Configuration::CSS_NVM | Configuration::CSS_ALL
        )
}

/// Reservation notifications that wait to be read (Base 2.1, section 5.1.12.1.32).
#[derive(Debug, Default)]
pub(crate) struct Notifications {
    waiting: VecDeque<ReservationNotification>,
    count: u64,
    masks: BTreeMap<u32, u32>,
}

impl Notifications {
    /// The feature Reservation Notification Mask of a namespace.
    pub(crate) fn mask(&self, nsid: u32) -> u32 {
        self.masks.get(&nsid).copied().unwrap_or(0)
    }

    /// Sets it.
    pub(crate) fn set_mask(&mut self, nsid: u32, mask: u32) {
        self.masks.insert(nsid, mask);
    }

    /// A namespace is gone.
    pub(crate) fn forget(&mut self, nsid: u32) {
        self.masks.remove(&nsid);
    }

    /// A notification; whether it is to be told. The newest are lost if nobody reads.
    pub(crate) fn push(&mut self, nsid: u32, notice: ReservationNotificationType) -> bool {
        if self.mask(nsid) & 1 << notice.code() != 0 {
            return false;
        }
        self.count += 1;
        if self.waiting.len() < NOTIFICATIONS_MAX {
            let mut notification = ReservationNotification::default();
            notification.log_page_count = U64::new(self.count);
            notification.notification_type = notice.code();
            notification.nsid = U32::new(nsid);
            self.waiting.push_back(notification);
        }
        true
    }

    /// The oldest; empty if there is none.
    pub(crate) fn oldest(&self) -> ReservationNotification {
        let mut oldest = self.waiting.front().copied().unwrap_or_default();
        let behind = self.waiting.len().saturating_sub(1);
        oldest.available_log_pages = u8::try_from(behind).unwrap_or(u8::MAX);
        oldest
    }

    /// The oldest was read.
    pub(crate) fn drop_oldest(&mut self) {
        self.waiting.pop_front();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// The last errors (Base 2.1, section 5.1.12.1.2).
#[derive(Debug, Default)]
pub(crate) struct ErrorLog {
    /// Newest first.
    entries: VecDeque<ErrorInformation>,
    /// Errors in all.
    pub(crate) count: u64,
}

/// A command that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommandError {
    pub(crate) qid: Qid,
    pub(crate) origin: Origin,
    pub(crate) status: nvme::Status,
    pub(crate) location: u16,
}

impl ErrorLog {
    pub(crate) fn push(&mut self, error: CommandError) {
        self.count += 1;
        self.entries.truncate(ERROR_LOG_ENTRIES - 1);
        let mut entry = ErrorInformation::default();
        entry.error_count = U64::new(self.count);
        entry.sqid = U16::new(error.qid.0);
        entry.cid = U16::new(error.origin.cid.0);
        entry.status = U16::new(error.status.encode() << 1);
        entry.parameter_error_location = U16::new(error.location);
        entry.nsid = U32::new(error.origin.nsid.0);
        entry.opcode = error.origin.opcode;
        entry.log_page_version = 1;
        self.entries.push_front(entry);
    }

    /// The log page: newest first, zeroes behind.
    pub(crate) fn page(&self) -> Vec<u8> {
        let mut page: Vec<u8> = self.entries.iter().flat_map(ErrorInformation::to_bytes).collect();
        page.resize(ERROR_LOG_ENTRIES * ErrorInformation::SIZE, 0);
        page
    }
}
