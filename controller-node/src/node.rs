//! A controller node as one machine: hosts on one side (`fabric::target`), legs on the other (`paths`), pools between.
//!
//! This module only carries messages between them, in order, until nobody has anything left to say; then the driver gets its
//! outputs. It decides nothing.
//!
//! Invariants:
//! * between two events of the driver all parts are drained;
//! * a host's request is answered by the pool it was given to, exactly once (the target asserts it);
//! * a pool that leaves the configuration stays until its slice has ended, shown to nobody;
//! * what an event costs does not grow with how many pools, volumes or disks have nothing to do with it.

use crate::exports::Exports;
use crate::fence::Ended;
use crate::paths::{DiskAddress, Failure, Paths, PathsOutput, Ticket};
use crate::pool::{Pool, PoolKey, PoolOutput, Purpose};
use crate::timers::Timers;
use crate::volumes::VERB;
use block::slice::{MembershipChange, MembershipOutcome};
use block::{BufferSlice, Memory, RequestId, Slab, Time, Tuning};
use cluster::node_config::{ControllerNodeConfig, PoolConfig};
use cluster::status::{ControllerNodeStatus, SliceStatus};
use cluster::{ControllerNodeId, DiskId, Epoch, Incarnation, PoolId, Revision};
use control::agent::{MembershipAnswer, MembershipRequest};
use fabric::driver::{ConnectionId, Event, Machine, Output, ReactorIndex};
use fabric::target::{Elsewhere, IoId, Target, TargetConfig, TargetOutput};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use uuid::Uuid;

/// How often a status that changes by degrees (space used, regions to make equal) is told.
const STATUS_PERIOD: Duration = Duration::from_millis(500);

/// What the node's own control plane says to it.
#[derive(Debug)]
pub enum Control {
    /// Converge to this.
    Apply(Box<ControllerNodeConfig>),
    /// The store answered.
    Membership(MembershipAnswer),
    /// Subsystems of pools that other reactors of the process have: all of them.
    Elsewhere(BTreeMap<String, Elsewhere>),
}

/// What the node says to its control plane.
#[derive(Debug)]
pub enum Report {
    /// What is, whenever it differs from what was said last.
    Status(ControllerNodeStatus),
    /// Have this recorded.
    Membership(MembershipRequest),
}

/// Where an answer to a membership request belongs.
#[derive(Clone, Copy, Debug)]
struct Asked {
    pool: PoolKey,
    epoch: Epoch,
    request: u64,
}

/// A controller node.
pub struct ControllerNode {
    node: ControllerNodeId,
    incarnation: Incarnation,
    revision: Revision,
    tuning: Tuning,
    target: Target,
    exports: Exports,
    paths: Paths,
    pools: Slab<Pool>,
    by_id: BTreeMap<PoolId, PoolKey>,
    /// Pools that were told something, and may have something to say.
    told_pools: Vec<PoolKey>,
    /// Some pool has left the configuration, and is still here.
    retiring: bool,
    timers: Timers,
    asked: BTreeMap<u64, Asked>,
    next_request: u64,
    told: Option<ControllerNodeStatus>,
    /// When the status is to be compared with what was told last.
    status_at: Option<Time>,
    outputs: VecDeque<Output<Report>>,
}

impl ControllerNode {
    /// A node that has no configuration yet: it answers every host "not yet".
    pub fn new(
        node: ControllerNodeId,
        host_nqn: String,
        incarnation: Incarnation,
        tuning: Tuning,
        target: TargetConfig,
    ) -> ControllerNode {
        let first = ReactorIndex(0);
        ControllerNode::on_reactor(first, node, host_nqn, incarnation, tuning, target)
    }

    /// The same as one of several of its process: they share the start's incarnation, and none of its host identifiers.
    pub fn on_reactor(
        reactor: ReactorIndex,
        node: ControllerNodeId,
        host_nqn: String,
        incarnation: Incarnation,
        tuning: Tuning,
        target: TargetConfig,
    ) -> ControllerNode {
        ControllerNode {
            node,
            incarnation,
            revision: Revision(0),
            tuning,
            target: Target::new(target),
            exports: Exports::default(),
            paths: Paths::new(host_nqn, incarnation, reactor),
            pools: Slab::default(),
            by_id: BTreeMap::new(),
            told_pools: Vec::new(),
            retiring: false,
            timers: Timers::default(),
            asked: BTreeMap::new(),
            next_request: 0,
            told: None,
            status_at: Some(Time::ZERO),
            outputs: VecDeque::new(),
        }
    }

    fn apply(&mut self, now: Time, config: ControllerNodeConfig, memory: &mut dyn Memory) {
        assert!(
            config.revision >= self.revision,
            "the agent keeps revisions in order"
        );
        self.revision = config.revision;
        for (id, pool) in config.pools {
            let key = self.enter(id, &pool);
            self.exports
                .upsert(now, (id, key), &pool, &mut self.target, memory);
            let paths = &self.paths;
            let part = self.pools.find_mut(key.0).expect("entered just now");
            part.apply(now, pool, &|disk| paths.up(disk), memory);
            self.told_pools.push(key);
            self.exports.keep(id);
        }
        for key in self.exports.sweep(now, &mut self.target, memory) {
            self.retiring = true;
            self.tell(key, |pool| pool.retire(now, memory));
        }
        self.target.open();
        self.connect(now, memory);
        self.status_at = Some(now);
    }

    /// The pool of this identifier; a new one, if there was none.
    fn enter(&mut self, id: PoolId, config: &PoolConfig) -> PoolKey {
        let (incarnation, tuning) = (self.incarnation, self.tuning);
        let pools = &mut self.pools;
        let entry = self.by_id.entry(id);
        *entry.or_insert_with(|| PoolKey(pools.insert(Pool::new(id, incarnation, config.clone(), tuning))))
    }

    /// Tells a pool something: what it says then is carried on before the event ends.
    #[inline]
    fn tell(&mut self, key: PoolKey, what: impl FnOnce(&mut Pool)) {
        if let Some(pool) = self.pools.find_mut(key.0) {
            what(pool);
            if self.told_pools.last() != Some(&key) {
                self.told_pools.push(key);
            }
        }
    }

    fn tell_all(&mut self, mut what: impl FnMut(&mut Pool)) {
        let keys: Vec<PoolKey> = self.by_id.values().copied().collect();
        for key in keys {
            self.tell(key, &mut what);
        }
    }

    /// Connects to the disks that configurations name.
    fn connect(&mut self, now: Time, memory: &mut dyn Memory) {
        let mut wanted: BTreeMap<DiskId, DiskAddress> = BTreeMap::new();
        let groups = self
            .pools
            .iter()
            .flat_map(|(_, pool)| &pool.config().slices)
            .flat_map(|slice| &slice.groups);
        for leg in groups.flat_map(|group| &group.legs) {
            let address = leg.address;
            let subsystem_nqn = leg.subsystem_nqn.0.clone();
            wanted.insert(
                leg.disk,
                DiskAddress {
                    address,
                    subsystem_nqn,
                },
            );
        }
        self.paths.apply(now, &wanted, memory);
    }

    fn membership_answer(&mut self, now: Time, answer: &MembershipAnswer, memory: &mut dyn Memory) {
        let Some(asked) = self.asked.remove(&answer.request) else {
            return;
        };
        let outcome = match answer.outcome {
            control::agent::MembershipOutcome::Committed => MembershipOutcome::Committed,
            control::agent::MembershipOutcome::StaleEpoch => MembershipOutcome::StaleEpoch,
            control::agent::MembershipOutcome::Refused => MembershipOutcome::Refused,
        };
        self.tell(asked.pool, |pool| {
            pool.membership_answer(now, asked.epoch, asked.request, outcome, memory);
        });
        self.status_at = Some(now);
    }

    /// Carries messages between the parts until there are none.
    fn settle(&mut self, now: Time, memory: &mut dyn Memory) {
        loop {
            while let Some(output) = self.target.poll_output() {
                self.handle_target(now, output, memory);
            }
            let mut quiet = true;
            while let Some(output) = self.paths.poll_output() {
                quiet = false;
                self.handle_paths(now, output, memory);
            }
            while let Some(key) = self.told_pools.pop() {
                quiet = false;
                self.drain_pool(now, key, memory);
            }
            if quiet {
                break;
            }
        }
        if self.retiring {
            self.drop_retired(now, memory);
        }
        self.tell_status(now);
    }

    /// Takes what a pool says, until it says nothing more.
    fn drain_pool(&mut self, now: Time, key: PoolKey, memory: &mut dyn Memory) {
        let mut pool = self.pools.find_mut(key.0);
        while let Some(output) = pool.and_then(|pool| pool.poll_output(now, memory)) {
            self.handle_pool(now, key, output, memory);
            pool = self.pools.find_mut(key.0);
        }
        if let Some(pool) = self.pools.find(key.0) {
            self.timers.note(key, pool.next_timeout());
        }
    }

    fn handle_target(&mut self, now: Time, output: TargetOutput, memory: &mut dyn Memory) {
        match output {
            TargetOutput::Send { connection, segment } => {
                self.outputs.push_back(Output::Send { connection, segment });
            }
            TargetOutput::Close { connection, abort } => {
                self.outputs.push_back(Output::Close { connection, abort });
            }
            TargetOutput::Execute {
                io,
                subsystem,
                nsid,
                request,
                ..
            } => {
                match self.exports.volume(subsystem, nsid) {
                    Some((key, volume)) => {
                        let request_id = RequestId(io.0);
                        self.tell(key, |pool| pool.submit(now, request_id, volume, request, memory));
                    }
                    None => self.target.complete(now, io, block::Status::Unavailable, memory),
                }
                if self.status_at.is_none() {
                    self.status_at = Some(now + STATUS_PERIOD);
                }
            }
            TargetOutput::PersistReservation { subsystem, nsid, .. } => {
                // Reservations of volumes are not offered here yet: the subsystem says so to hosts.
                self.target
                    .reservation_persisted(now, subsystem, nsid, false, memory);
            }
            TargetOutput::HandOver {
                connection,
                reactor,
                received,
            } => self.outputs.push_back(Output::HandOver {
                connection,
                reactor,
                received,
            }),
            TargetOutput::HostsChanged { .. } => {}
        }
    }

    fn handle_paths(&mut self, now: Time, output: PathsOutput, memory: &mut dyn Memory) {
        match output {
            PathsOutput::Up(disk, path) => {
                self.tell_all(|pool| pool.path_up(disk, path));
                self.status_at = Some(now);
            }
            PathsOutput::Down(disk, path) => {
                self.tell_all(|pool| pool.path_down(now, disk, path, memory));
                self.status_at = Some(now);
            }
            PathsOutput::Completed { ticket, status } => self.handle_completed(now, ticket, status, memory),
            PathsOutput::Reported { ticket, registrants } => {
                if let Purpose::Fence(epoch, leg) = ticket.purpose {
                    self.tell(ticket.pool, |pool| {
                        pool.fence_reported(now, epoch, leg, &registrants, memory);
                    });
                }
            }
        }
    }

    fn handle_completed(
        &mut self,
        now: Time,
        ticket: Ticket,
        status: Result<(), Failure>,
        memory: &mut dyn Memory,
    ) {
        match ticket.purpose {
            Purpose::Slice(epoch, id) => {
                let status = status.map_or_else(Failure::status, |()| block::Status::Success);
                self.tell(ticket.pool, |pool| {
                    pool.leg_completed(now, epoch, id, status, memory)
                });
            }
            Purpose::Fence(epoch, leg) => {
                let ended = match status {
                    Ok(()) => Ended::Success,
                    Err(Failure::Conflict) => Ended::Conflict,
                    Err(Failure::Media | Failure::Other) => Ended::Failure,
                };
                self.tell(ticket.pool, |pool| {
                    pool.fence_ended(now, epoch, leg, ended, memory)
                });
            }
        }
    }

    fn handle_pool(&mut self, now: Time, key: PoolKey, output: PoolOutput, memory: &mut dyn Memory) {
        match output {
            PoolOutput::Leg {
                leg,
                purpose,
                command,
            } => {
                let ticket = Ticket { pool: key, purpose };
                self.paths.submit(now, leg, ticket, command, memory);
            }
            PoolOutput::Suspect { path } => self.paths.suspect(now, path, memory),
            PoolOutput::Complete { request, status } if request.0 & VERB != 0 => {
                let pool = self.pools.find_mut(key.0).expect("it spoke just now");
                pool.verb_ended(now, request, status, memory);
                self.status_at = Some(now);
            }
            PoolOutput::Complete { request, status } => {
                self.target.complete(now, IoId(request.0), status, memory);
            }
            PoolOutput::Membership {
                request,
                epoch,
                change,
            } => self.ask(now, key, epoch, request, change),
            PoolOutput::Ana(state) => {
                let id = self.pools.find(key.0).expect("it spoke just now").id();
                self.exports.set_ana(now, id, state, &mut self.target, memory);
                self.status_at = Some(now);
            }
            PoolOutput::VolumesChanged => {
                let pool = self.pools.find(key.0).expect("it spoke just now");
                self.exports.show(now, pool.id(), pool, &mut self.target, memory);
                self.status_at = Some(now);
            }
        }
    }

    fn ask(&mut self, now: Time, pool: PoolKey, epoch: Epoch, request: u64, change: MembershipChange) {
        let config = self.pools.find(pool.0).expect("it spoke just now").config();
        let Some(slice) = config.slices.first().map(|slice| slice.slice) else {
            return;
        };
        let name = self.next_request;
        self.next_request += 1;
        self.asked.insert(name, Asked { pool, epoch, request });
        let change = recorded(change);
        let request = MembershipRequest {
            request: name,
            slice,
            epoch,
            change,
        };
        self.outputs
            .push_back(Output::Report(Box::new(Report::Membership(request))));
        self.status_at = Some(now);
    }

    /// Pools that left the configuration, once their slices have ended.
    fn drop_retired(&mut self, now: Time, memory: &mut dyn Memory) {
        let (exports, pools) = (&self.exports, &mut self.pools);
        let left = |id: &PoolId| !exports.has(*id);
        let ended = |pool: Option<&Pool>| pool.is_none_or(Pool::is_idle);
        let before = self.by_id.len();
        self.by_id.retain(|id, key| {
            let goes = left(id) && ended(pools.find(key.0));
            if goes {
                pools.remove(key.0);
                self.timers.forget(*key);
            }
            !goes
        });
        self.retiring = self.by_id.keys().any(left);
        if self.by_id.len() != before {
            self.connect(now, memory);
        }
    }

    fn statuses(&self) -> Vec<SliceStatus> {
        let pools = self.by_id.values().filter_map(|key| self.pools.find(key.0));
        pools.filter_map(Pool::status).collect()
    }

    fn tell_status(&mut self, now: Time) {
        if self.status_at.is_none_or(|due| due > now) {
            return;
        }
        let status = ControllerNodeStatus {
            node: self.node,
            incarnation: self.incarnation,
            revision: self.revision,
            slices: self.statuses(),
        };
        let moving = status
            .slices
            .iter()
            .any(|slice| slice.groups.iter().any(|group| group.regions_dirty > 0));
        self.status_at = moving.then(|| now + STATUS_PERIOD);
        if self.told.as_ref() != Some(&status) {
            self.told = Some(status.clone());
            self.outputs
                .push_back(Output::Report(Box::new(Report::Status(status))));
        }
    }
}

impl Machine for ControllerNode {
    type Control = Control;
    type Report = Report;

    fn handle(&mut self, now: Time, event: Event<'_, Control>, memory: &mut dyn Memory) {
        let ours = |connection: ConnectionId| connection.0 & ConnectionId::ACCEPTED == 0;
        match event {
            Event::Accepted { connection, .. } => self.target.accepted(now, connection),
            Event::Connected { connection } => self.paths.connected(now, connection, memory),
            Event::Received { connection, bytes } if ours(connection) => {
                self.paths.received(now, connection, bytes, memory);
            }
            Event::Received { connection, bytes } => self.target.received(now, connection, bytes, memory),
            Event::HandedOver {
                connection, received, ..
            } => self.target.handed_over(now, connection, received, memory),
            Event::Landed { connection, length } if ours(connection) => {
                self.paths.landed(now, connection, length, memory);
            }
            Event::Landed { connection, length } => self.target.landed(now, connection, length, memory),
            Event::Closed { connection, reason } if ours(connection) => {
                self.paths.closed(now, connection, reason, memory);
            }
            Event::Closed { connection, .. } => self.target.closed(now, connection, memory),
            Event::DiskCompleted { request, .. } => panic!("a controller node has no disks: {request:?}"),
            Event::Control(Control::Apply(config)) => self.apply(now, *config, memory),
            Event::Control(Control::Membership(answer)) => self.membership_answer(now, &answer, memory),
            Event::Control(Control::Elsewhere(elsewhere)) => {
                self.target.set_elsewhere(now, elsewhere, memory);
            }
            Event::Timeout => {
                self.target.handle_timeout(now, memory);
                self.paths.handle_timeout(now, memory);
                while let Some(key) = self.timers.take_due(now) {
                    self.tell(key, |pool| pool.handle_timeout(now, memory));
                }
            }
        }
        self.settle(now, memory);
    }

    fn poll_output(&mut self) -> Option<Output<Report>> {
        self.outputs.pop_front().or_else(|| self.paths.poll_driver())
    }

    fn next_timeout(&self) -> Option<Time> {
        let parts = [
            self.target.next_timeout(),
            self.paths.next_timeout(),
            self.timers.next(),
            self.status_at,
        ];
        parts.into_iter().flatten().min()
    }

    fn landing(&self, connection: ConnectionId) -> Option<BufferSlice> {
        match connection.0 & ConnectionId::ACCEPTED {
            0 => self.paths.landing(connection),
            _ => self.target.landing(connection),
        }
    }

    fn wants_bytes(&self, connection: ConnectionId) -> bool {
        // The target knows its own connections only, and has nothing against the others'.
        self.target.wants_bytes(connection)
    }

    fn waits_for_memory(&self) -> bool {
        self.target.waits_for_memory()
    }
}

/// A change as the store's messages say it.
fn recorded(change: MembershipChange) -> control::agent::MembershipChange {
    use control::agent::MembershipChange as Recorded;
    let group_id = |group: [u8; 16]| cluster::GroupId(Uuid::from_bytes(group));
    match change {
        MembershipChange::InSync { group, in_sync } => Recorded::InSync {
            group: group_id(group),
            in_sync: in_sync
                .into_iter()
                .map(|leg| cluster::LegId(Uuid::from_bytes(leg)))
                .collect(),
        },
        MembershipChange::GroupFormatted { group } => Recorded::GroupFormatted {
            group: group_id(group),
        },
        MembershipChange::SliceFormatted => Recorded::SliceFormatted,
    }
}
