//! One host on one controller: an admin queue and I/O queues, made, kept alive, lost and made again.
//!
//! What this deliberately is not: it does not choose between controllers ([`super::Multipath`] does), nor keep requests
//! while there is no controller: it refuses them, and fails what it has with a path-related status when it is lost.
//! Whether such a request was executed is not known.
//!
//! Invariants:
//! * outside of `Phase::Live` there are no requests; a request ends exactly once;
//! * in `Phase::Idle` and `Phase::BackOff` there are no queues;
//! * a lost association is first down, then its requests end, then [`AssociationEvent::Lost`] is told.
//!
//! Buffers: while a request is in flight the association holds a reference of its own on its buffer, and hands the driver
//! one more for every payload segment. A buffer that is being written to the controller must not change before the
//! request has ended, and a buffer that is being read into is complete when it has.

mod observe;
mod sending;

use super::command::{Command, Refused, Tag};
use super::config::AssociationConfig;
use super::connection_ids::ConnectionIds;
use super::discovery::Discovery;
use super::entries;
use super::event::{AssociationEvent, AssociationOutput};
use super::lost::Lost;
use super::namespaces::NamespaceTable;
use super::queue::{Answer, Owner, Queue, QueueEvent};
use super::requests::{Ended, Requests};
use super::scan::Scan;
use super::setup::{ADMIN_CAPSULE_BYTES, ADMIN_COMMANDS, ControllerFacts, Next, Setup};
use crate::driver::{CloseReason, ConnectionId};
use crate::tcp::framing::Digests;
use crate::tcp::host::Fault;
use block::{BufferSlice, Duration, Memory, Time};
use nvme::Status;
use nvme::property::{Configuration, ShutdownNotification};
use nvme::reservation::Report;
use std::collections::VecDeque;

/// How long an orderly shutdown may take before the connection is cut.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// The index of the admin queue.
const ADMIN: usize = 0;

#[derive(Debug)]
enum Phase {
    /// Not told to connect.
    Idle,
    /// Waiting before the next attempt.
    BackOff { until: Time },
    /// On the way to a usable association.
    SettingUp {
        setup: Setup,
        deadline: Time,
        poll_at: Option<Time>,
    },
    /// Usable.
    Live,
    /// Told to disconnect; the controller is being shut down.
    ShuttingDown { deadline: Time },
}

/// One host on one controller.
#[derive(Debug)]
pub struct Association {
    config: AssociationConfig,
    ids: ConnectionIds,
    phase: Phase,
    /// Attempts that failed since the last that succeeded.
    failures: u32,
    admin: Option<Queue>,
    io: Vec<Queue>,
    /// Where to look first for room.
    next_io: usize,
    requests: Requests,
    facts: ControllerFacts,
    table: NamespaceTable,
    scan: Scan,
    discovery: Discovery,
    keep_alive_at: Option<Time>,
    /// A keep-alive is unanswered; there is never a second.
    keep_alive_out: bool,
    alive_at: Option<Time>,
    /// Queues whose sessions have something to send, by their index ([`Association::queue_at`]); the last is taken from.
    unsent: Vec<usize>,
    /// Requests that have ended, to be told before anything else.
    ended: VecDeque<(Tag, Result<u64, Status>)>,
    outputs: VecDeque<AssociationOutput>,
}

impl Association {
    /// An association that is not yet told to connect.
    pub fn new(config: AssociationConfig, ids: ConnectionIds) -> Association {
        Association {
            config,
            ids,
            phase: Phase::Idle,
            failures: 0,
            admin: None,
            io: Vec::new(),
            next_io: 0,
            requests: Requests::default(),
            facts: ControllerFacts::default(),
            table: NamespaceTable::default(),
            scan: Scan::default(),
            discovery: Discovery::default(),
            keep_alive_at: None,
            keep_alive_out: false,
            alive_at: None,
            unsent: Vec::new(),
            ended: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    // What the owner may ask.

    /// Connect, and connect again whenever the association is lost, until told to disconnect. Nothing changes if that is
    /// so already.
    pub fn connect(&mut self, now: Time) {
        if matches!(self.phase, Phase::Idle | Phase::ShuttingDown { .. }) {
            self.close_all(None);
            self.failures = 0;
            self.begin(now);
        }
    }

    /// Shut the controller down in order, fail what is in flight, and stay away. [`AssociationEvent::Lost`] with
    /// [`Lost::Disconnected`] is told when that is done.
    pub fn disconnect(&mut self, now: Time, memory: &mut dyn Memory) {
        if !matches!(self.phase, Phase::Live) {
            if !matches!(self.phase, Phase::Idle | Phase::ShuttingDown { .. }) {
                self.end(Lost::Disconnected, None, memory);
                self.phase = Phase::Idle;
            }
            return;
        }
        self.phase = Phase::ShuttingDown {
            deadline: now + SHUTDOWN_TIMEOUT,
        };
        self.keep_alive_at = None;
        for mut queue in core::mem::take(&mut self.io) {
            queue.release(memory);
            self.close(queue.connection, true);
        }
        self.unsent.retain(|index| *index == ADMIN);
        self.fail_requests(memory);
        let command = entries::configure(Configuration {
            shutdown_notification: ShutdownNotification::Normal,
            ..Configuration::ENABLE
        });
        match self.admin.as_mut() {
            Some(queue) if queue.has_room() => {
                queue.send(now, Owner::Shutdown, command, memory);
                self.list(ADMIN);
            }
            _ => self.finish_shutdown(memory),
        }
    }

    /// Takes a request. Its end is told by [`AssociationEvent::Completed`] (a report's by
    /// [`AssociationEvent::ReservationStatus`]) under its tag, which must not be that of another request in flight here.
    /// What the controller's limits do not allow in one command is cut into several.
    ///
    /// # Errors
    /// There is no association at the moment; nothing was retained.
    ///
    /// # Panics
    /// If range and buffer do not fit each other.
    pub fn submit(
        &mut self,
        now: Time,
        nsid: u32,
        tag: Tag,
        command: Command,
        memory: &mut dyn Memory,
    ) -> Result<(), Refused> {
        if !self.is_ready() {
            return Err(Refused::Unavailable);
        }
        let room = self.io_queue_with_room();
        let limits = self.limits();
        let taken = room.and_then(|index| {
            let key = self.requests.take_whole(tag, nsid, &command, limits, memory)?;
            Some((index, key))
        });
        match taken {
            Some((index, key)) => self.send_part(now, index, key, nsid, &command, memory),
            None => {
                self.requests.take(tag, nsid, &command, memory);
                self.send_waiting(now, memory);
            }
        }
        Ok(())
    }

    /// Forgets a request: its end is not told. If it reads, nothing more is put into its buffer; if it writes, it may
    /// still be executed, from the association's own reference on the buffer, which must not change before the
    /// association has ended the command. Unknown tags are ignored.
    pub fn abandon(&mut self, tag: Tag, memory: &mut dyn Memory) {
        if let Some(key) = self.requests.abandon(tag, memory) {
            self.io.iter_mut().for_each(|queue| queue.discard(key));
        }
    }

    /// Reads the list of namespaces and all of them again. It happens by itself when the controller says that they have
    /// changed.
    pub fn identify_namespaces(&mut self, now: Time, memory: &mut dyn Memory) {
        self.scan.want_all();
        self.advance(now, memory);
    }

    /// Reads the ANA states again. It happens by itself when the controller says that they have changed.
    pub fn read_ana_log(&mut self, now: Time, memory: &mut dyn Memory) {
        self.scan.want_ana();
        self.advance(now, memory);
    }

    /// Reads the discovery log; [`AssociationEvent::DiscoveryLog`] brings it. Of use only with a discovery subsystem.
    pub fn read_discovery_log(&mut self, now: Time, memory: &mut dyn Memory) {
        self.discovery.want();
        self.advance(now, memory);
    }

    // What the driver tells.

    /// A connection is open.
    pub fn handle_connected(&mut self, now: Time, connection: ConnectionId, memory: &mut dyn Memory) {
        if let Some(index) = self.index_of(connection) {
            self.queue_at(index).expect("found above").open();
            self.list(index);
        }
        self.advance(now, memory);
    }

    /// Bytes came in.
    pub fn handle_received(
        &mut self,
        now: Time,
        connection: ConnectionId,
        bytes: &[u8],
        memory: &mut dyn Memory,
    ) {
        let Some(index) = self.index_of(connection) else {
            return;
        };
        let queue = self.queue_at(index).expect("found above");
        let received = queue.received(bytes, memory);
        self.take_arrived(now, index, connection, received, memory);
    }

    /// Where the next bytes of a connection belong, if they are data on its way into a buffer, and if there are enough of them
    /// still to come. Who puts them there does it at once, before anything else is asked for or told here.
    pub fn landing(&self, connection: ConnectionId) -> Option<BufferSlice> {
        match self.index_of(connection)? {
            ADMIN => None,
            index => self.io[index - 1].landing(),
        }
    }

    /// So many bytes are where [`Association::landing`] said last for this connection. Ignored if the connection has ended.
    ///
    /// # Panics
    /// If no landing was offered, or fewer bytes.
    pub fn handle_landed(
        &mut self,
        now: Time,
        connection: ConnectionId,
        length: u32,
        memory: &mut dyn Memory,
    ) {
        let Some(index) = self.index_of(connection) else {
            return;
        };
        let queue = self.queue_at(index).expect("found above");
        let received = queue.landed(length, memory);
        self.take_arrived(now, index, connection, received, memory);
    }

    /// A queue has something: it is handled, and then the fault that came behind it.
    fn take_arrived(
        &mut self,
        now: Time,
        index: usize,
        connection: ConnectionId,
        received: Result<(), Fault>,
        memory: &mut dyn Memory,
    ) {
        // An R2T is answered by the session itself.
        self.list(index);
        while let Some(event) = self.queue_at(index).and_then(Queue::poll_event) {
            if let Err(reason) = self.handle_queue_event(now, connection, event, memory) {
                self.lose(now, reason, None, memory);
            }
        }
        if let Err(fault) = received {
            self.lose_by_fault(now, connection, fault, memory);
        }
        self.advance(now, memory);
    }

    /// A connection is no more.
    pub fn handle_closed(
        &mut self,
        now: Time,
        connection: ConnectionId,
        reason: CloseReason,
        memory: &mut dyn Memory,
    ) {
        if self.index_of(connection).is_none() {
            return;
        }
        self.lose(now, Lost::Closed(reason), Some(connection), memory);
    }

    /// The time of [`Association::next_timeout`] has come; too early does no harm.
    pub fn handle_timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        match &mut self.phase {
            Phase::BackOff { until } if *until <= now => self.begin(now),
            Phase::SettingUp { deadline, .. } if *deadline <= now => {
                self.lose(now, Lost::ConnectTimeout, None, memory);
            }
            Phase::SettingUp { setup, poll_at, .. } if poll_at.is_some_and(|at| at <= now) => {
                *poll_at = None;
                let command = setup.poll_ready();
                self.send_admin(now, Owner::Setup, command, memory);
            }
            Phase::ShuttingDown { deadline } if *deadline <= now => self.finish_shutdown(memory),
            _ => {}
        }
        if self.command_deadline().is_some_and(|deadline| deadline <= now) {
            self.lose(now, Lost::CommandTimeout, None, memory);
        }
        if self.keep_alive_at.is_some_and(|at| at <= now) {
            self.keep_alive_at = Some(now + self.keep_alive_period());
            if !core::mem::replace(&mut self.keep_alive_out, true) {
                self.send_admin(now, Owner::KeepAlive, entries::keep_alive(), memory);
            }
        }
        self.advance(now, memory);
    }

    /// When [`Association::handle_timeout`] should be called, if nothing else happens before.
    pub fn next_timeout(&self) -> Option<Time> {
        let phase = match &self.phase {
            Phase::Idle | Phase::Live => None,
            Phase::BackOff { until } => Some(*until),
            Phase::SettingUp {
                deadline, poll_at, ..
            } => Some(poll_at.map_or(*deadline, |at| at.min(*deadline))),
            Phase::ShuttingDown { deadline } => Some(*deadline),
        };
        [phase, self.keep_alive_at, self.command_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    // The way up.

    fn digests(&self) -> Digests {
        Digests {
            header: self.config.header_digest,
            data: self.config.data_digest,
        }
    }

    fn begin(&mut self, now: Time) {
        if self.config.renew_host_id {
            let next = u128::from_be_bytes(self.config.host_id).wrapping_add(1);
            self.config.host_id = next.to_be_bytes();
        }
        let connection = self.ids.allocate();
        let queue = Queue::new(connection, self.digests(), ADMIN_COMMANDS, ADMIN_CAPSULE_BYTES);
        self.admin = Some(queue);
        self.phase = Phase::SettingUp {
            setup: Setup::default(),
            deadline: now + self.config.connect_timeout,
            poll_at: None,
        };
        let address = self.config.address;
        self.outputs
            .push_back(AssociationOutput::Connect { connection, address });
    }

    fn handle_queue_event(
        &mut self,
        now: Time,
        connection: ConnectionId,
        event: QueueEvent,
        memory: &mut dyn Memory,
    ) -> Result<(), Lost> {
        match event {
            QueueEvent::Initialized => {
                self.connect_queue(now, connection, memory);
                Ok(())
            }
            QueueEvent::Answered(answer) => {
                self.alive_at = self.alive_at.max(Some(answer.sent_at));
                self.handle_answer(now, connection, answer, memory)
            }
        }
    }

    /// A connection is initialised: makes it the admin queue or the I/O queue that it is to be.
    fn connect_queue(&mut self, now: Time, connection: ConnectionId, memory: &mut dyn Memory) {
        let index = self.io.iter().position(|queue| queue.connection == connection);
        match index {
            Some(index) => {
                let qid = u16::try_from(index + 1).expect("as many queues as a 16-bit number says");
                let queue = &mut self.io[index];
                let entries = u32::from(queue.commands()) + 1;
                let command = entries::connect(&self.config, qid, self.facts.cntlid, entries);
                queue.send(now, Owner::Connect, command, memory);
                self.list(index + 1);
            }
            None => {
                let entries = u32::from(ADMIN_COMMANDS) + 1;
                let command = entries::connect(&self.config, 0, nvme::Cntlid::DYNAMIC.0, entries);
                let queue = self.admin.as_mut().expect("the caller found the queue");
                queue.send(now, Owner::Setup, command, memory);
                queue.live = true;
                self.list(ADMIN);
            }
        }
    }

    fn handle_answer(
        &mut self,
        now: Time,
        connection: ConnectionId,
        answer: Answer,
        memory: &mut dyn Memory,
    ) -> Result<(), Lost> {
        match answer.owner {
            Owner::Setup => self.handle_setup(now, &answer, memory),
            Owner::Connect => self.handle_io_connected(connection, &answer),
            Owner::KeepAlive => {
                self.keep_alive_out = false;
                refused("Keep Alive", answer.entry.status())
            }
            Owner::AsyncEvent => {
                self.handle_async_event(now, &answer, memory);
                Ok(())
            }
            Owner::Scan => self.handle_scan(&answer),
            Owner::Discovery => self.handle_discovery(&answer),
            Owner::Shutdown => {
                self.finish_shutdown(memory);
                Ok(())
            }
            Owner::Part(key) => {
                let status = answer.entry.status();
                let outcome = match status.is_success() {
                    true => Ok(answer.entry.result.get()),
                    false => Err(status),
                };
                if let Some(ended) = self.requests.part_ended(key, outcome, memory) {
                    self.tell_end(ended, &answer.bytes);
                }
                Ok(())
            }
        }
    }

    fn handle_setup(&mut self, now: Time, answer: &Answer, memory: &mut dyn Memory) -> Result<(), Lost> {
        let Phase::SettingUp { setup, poll_at, .. } = &mut self.phase else {
            return Ok(());
        };
        match setup.answered(now, answer, &self.config)? {
            Next::Send(command) => self.send_admin(now, Owner::Setup, command, memory),
            Next::PollAt(at) => *poll_at = Some(at),
            Next::Done => {
                self.facts = setup.facts.clone();
                self.open_io_queues();
            }
        }
        Ok(())
    }

    fn open_io_queues(&mut self) {
        self.scan.want_all();
        for _ in 0..self.facts.io_queues {
            let connection = self.ids.allocate();
            debug_assert_eq!(
                self.index_of(connection),
                None,
                "names count up, and are not of former queues"
            );
            let commands = self.facts.queue_commands;
            let queue = Queue::new(connection, self.digests(), commands, self.facts.io_capsule_bytes);
            self.io.push(queue);
            let address = self.config.address;
            self.outputs
                .push_back(AssociationOutput::Connect { connection, address });
        }
    }

    fn handle_io_connected(&mut self, connection: ConnectionId, answer: &Answer) -> Result<(), Lost> {
        refused("Connect of an I/O queue", answer.entry.status())?;
        let index = self.index_of(connection).expect("the answer came on it");
        self.queue_at(index).expect("found above").live = true;
        Ok(())
    }

    fn handle_scan(&mut self, answer: &Answer) -> Result<(), Lost> {
        let finished = self.scan.answered(answer, &mut self.table)?;
        if finished && self.is_ready() {
            self.tell(AssociationEvent::NamespacesRead);
        }
        Ok(())
    }

    fn handle_discovery(&mut self, answer: &Answer) -> Result<(), Lost> {
        if let Some(entries) = self.discovery.answered(answer)? {
            self.tell(AssociationEvent::DiscoveryLog { entries });
        }
        Ok(())
    }

    /// An Asynchronous Event Request was answered: another takes its place, and what the event is about is read.
    fn handle_async_event(&mut self, now: Time, answer: &Answer, memory: &mut dyn Memory) {
        if !answer.entry.status().is_success() || !matches!(self.phase, Phase::Live) {
            return;
        }
        self.scan.want_by_event(answer.entry.dword0());
        if self.config.is_discovery() {
            self.discovery.want();
        }
        self.send_admin(now, Owner::AsyncEvent, entries::async_event_request(), memory);
    }

    /// Everything that can go on goes on: setting up ends, reading begins, requests are sent, bytes go out.
    fn advance(&mut self, now: Time, memory: &mut dyn Memory) {
        let settled = matches!(self.phase, Phase::Live) && self.scan.is_idle() && self.discovery.is_idle();
        if !settled {
            self.advance_reading(now, memory);
            self.become_ready(now, memory);
        }
        self.send_waiting(now, memory);
    }

    fn advance_reading(&mut self, now: Time, memory: &mut dyn Memory) {
        let is_set_up = match &self.phase {
            Phase::SettingUp { setup, .. } => setup.is_done(),
            Phase::Live => true,
            Phase::Idle | Phase::BackOff { .. } | Phase::ShuttingDown { .. } => false,
        };
        if !is_set_up {
            return;
        }
        if !self.config.is_discovery()
            && let Some(command) = self.scan.next(&self.facts, &self.table)
        {
            self.send_admin(now, Owner::Scan, command, memory);
        }
        if let Some(command) = self.discovery.next() {
            self.send_admin(now, Owner::Discovery, command, memory);
        }
    }

    /// The last step up: all queues are connected and the namespaces are known.
    fn become_ready(&mut self, now: Time, memory: &mut dyn Memory) {
        let Phase::SettingUp { setup, .. } = &self.phase else {
            return;
        };
        let is_known = self.config.is_discovery() || self.scan.is_idle();
        if !setup.is_done() || !is_known || self.io.iter().any(|queue| !queue.live) {
            return;
        }
        self.phase = Phase::Live;
        self.failures = 0;
        if self.config.kato_ms > 0 {
            self.keep_alive_at = Some(now + self.keep_alive_period());
        }
        self.send_admin(now, Owner::AsyncEvent, entries::async_event_request(), memory);
        let cntlid = self.facts.cntlid;
        self.tell(AssociationEvent::Ready { cntlid });
    }

    // The way down.

    fn lose_by_fault(&mut self, now: Time, connection: ConnectionId, fault: Fault, memory: &mut dyn Memory) {
        let Some(queue) = self.index_of(connection).and_then(|index| self.queue_at(index)) else {
            return;
        };
        let terminate = queue.terminate(&fault);
        self.flush();
        if let Some(segment) = terminate {
            self.outputs
                .push_back(AssociationOutput::Send { connection, segment });
            // What was asked for is still sent, the terminate request last.
            self.close(connection, false);
            self.lose(now, Lost::Fault(fault), Some(connection), memory);
        } else {
            self.lose(now, Lost::Fault(fault), None, memory);
        }
    }

    /// The association is gone: everything in flight fails, and after a while it is made again, if it is wanted.
    /// `closed` is a connection that needs not be closed any more.
    fn lose(&mut self, now: Time, reason: Lost, closed: Option<ConnectionId>, memory: &mut dyn Memory) {
        if !self.is_wanted() {
            return self.end(Lost::Disconnected, closed, memory);
        }
        let until = now + self.reconnect_delay();
        self.end(reason, closed, memory);
        self.phase = Phase::BackOff { until };
    }

    fn end(&mut self, reason: Lost, closed: Option<ConnectionId>, memory: &mut dyn Memory) {
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Idle;
        for queue in self.admin.iter_mut().chain(&mut self.io) {
            queue.release(memory);
        }
        self.close_all(closed);
        self.fail_requests(memory);
        self.tell(AssociationEvent::Lost { reason });
    }

    fn close_all(&mut self, closed: Option<ConnectionId>) {
        self.unsent.clear();
        for queue in self.admin.take().into_iter().chain(core::mem::take(&mut self.io)) {
            if Some(queue.connection) != closed {
                self.close(queue.connection, true);
            }
        }
        self.keep_alive_at = None;
        self.keep_alive_out = false;
        self.scan.stop();
        self.discovery.stop();
    }

    fn close(&mut self, connection: ConnectionId, abort: bool) {
        self.outputs
            .push_back(AssociationOutput::Close { connection, abort });
    }

    fn fail_requests(&mut self, memory: &mut dyn Memory) {
        for ended in self.requests.fail_all(Status::COMMAND_ABORTED_BY_HOST, memory) {
            self.tell_end(ended, &[]);
        }
    }

    fn finish_shutdown(&mut self, memory: &mut dyn Memory) {
        self.flush();
        if let Some(queue) = self.admin.take() {
            self.close(queue.connection, false);
        }
        self.end(Lost::Disconnected, None, memory);
    }

    fn tell_end(&mut self, ended: Ended, bytes: &[u8]) {
        if ended.abandoned {
            return;
        }
        let tag = ended.tag;
        if !ended.is_report {
            return self.ended.push_back((tag, ended.outcome));
        }
        // A report too short for its own header is no report.
        let report = |_| Report::parse(bytes, true).map_err(|_| Status::DATA_TRANSFER_ERROR);
        let result = ended.outcome.and_then(report);
        self.tell(AssociationEvent::ReservationStatus { tag, result });
    }

    fn tell(&mut self, event: AssociationEvent) {
        self.outputs.push_back(AssociationOutput::Event(event));
    }

    // Times.

    fn command_deadline(&self) -> Option<Time> {
        let queues = self.admin.iter().chain(&self.io);
        let oldest = queues.filter_map(Queue::oldest_sent_at).min()?;
        Some(oldest + self.config.command_timeout)
    }

    fn keep_alive_period(&self) -> Duration {
        Duration::from_millis(u64::from(self.config.kato_ms).div_ceil(2))
    }

    fn reconnect_delay(&self) -> Duration {
        let doubled = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let delay = self.config.reconnect_delay.saturating_mul(doubled);
        delay.min(self.config.reconnect_delay_max)
    }
}

fn refused(what: &'static str, status: Status) -> Result<(), Lost> {
    match status.is_success() {
        true => Ok(()),
        false => Err(Lost::Refused { what, status }),
    }
}
