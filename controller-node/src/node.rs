//! A controller node as one machine: hosts on one side (`fabric::target`), legs on the other (`paths`), pools between.
//!
//! This module only carries messages between them, in order, until nobody has anything left to say; then the driver gets its
//! outputs. It decides nothing.
//!
//! Invariants:
//! * between two events of the driver all parts are drained;
//! * a host's request is answered by the pool it was given to, exactly once (the target asserts it);
//! * a pool that leaves the configuration stays until its slice has ended, shown to nobody.

use crate::exports::Exports;
use crate::fence::Ended;
use crate::paths::{DiskAddress, Failure, Paths, PathsOutput, Ticket};
use crate::pool::{Pool, PoolOutput, Purpose};
use crate::volumes::VERB;
use block::slice::{MembershipChange, MembershipOutcome};
use block::{BufferSlice, Memory, RequestId, Time, Tuning};
use cluster::node_config::ControllerNodeConfig;
use cluster::status::ControllerNodeStatus;
use cluster::{ControllerNodeId, DiskId, Epoch, Incarnation, PoolId, Revision};
use control::agent::{MembershipAnswer, MembershipRequest};
use fabric::driver::{ConnectionId, Event, Machine, Output};
use fabric::target::{IoId, Target, TargetConfig, TargetOutput};
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
    pool: PoolId,
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
    pools: BTreeMap<PoolId, Pool>,
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
        ControllerNode {
            node,
            incarnation,
            revision: Revision(0),
            tuning,
            target: Target::new(target),
            exports: Exports::default(),
            paths: Paths::new(host_nqn, incarnation),
            pools: BTreeMap::new(),
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
            let (incarnation, tuning) = (self.incarnation, self.tuning);
            self.pools
                .entry(id)
                .or_insert_with(|| Pool::new(id, incarnation, pool.clone(), tuning));
            self.exports.upsert(now, id, &pool, &mut self.target, memory);
            let paths = &self.paths;
            let part = self.pools.get_mut(&id).expect("entered just now");
            part.apply(now, pool, &|disk| paths.is_up(disk), memory);
            self.exports.keep(id);
        }
        for id in self.exports.sweep(now, &mut self.target, memory) {
            if let Some(pool) = self.pools.get_mut(&id) {
                pool.retire(now, memory);
            }
        }
        self.target.open();
        self.connect(now, memory);
        self.status_at = Some(now);
    }

    /// Connects to the disks that configurations name.
    fn connect(&mut self, now: Time, memory: &mut dyn Memory) {
        let mut wanted: BTreeMap<DiskId, DiskAddress> = BTreeMap::new();
        let groups = self
            .pools
            .values()
            .flat_map(|pool| &pool.config().slices)
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
        if let Some(pool) = self.pools.get_mut(&asked.pool) {
            pool.membership_answer(now, asked.epoch, asked.request, outcome, memory);
        }
        self.status_at = Some(now);
    }

    /// Carries messages between the parts until there are none.
    fn settle(&mut self, now: Time, memory: &mut dyn Memory) {
        loop {
            let mut quiet = true;
            while let Some(output) = self.target.poll_output() {
                quiet = false;
                self.handle_target(now, output, memory);
            }
            while let Some(output) = self.paths.poll_output() {
                quiet = false;
                self.handle_paths(now, output, memory);
            }
            let ids: Vec<PoolId> = self.pools.keys().copied().collect();
            for id in ids {
                while let Some(output) = self.pools.get_mut(&id).and_then(Pool::poll_output) {
                    quiet = false;
                    self.handle_pool(now, id, output, memory);
                }
            }
            if quiet {
                break;
            }
        }
        self.drop_retired(now, memory);
        self.tell_status(now);
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
                let place = self.exports.volume(subsystem, nsid);
                let pool = place.and_then(|(id, volume)| Some((self.pools.get_mut(&id)?, volume)));
                match pool {
                    Some((pool, volume)) => pool.submit(now, RequestId(io.0), volume, request, memory),
                    None => self.target.complete(now, io, block::Status::Unavailable, memory),
                }
                self.status_at.get_or_insert(now + STATUS_PERIOD);
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
            PathsOutput::Connect { connection, address } => {
                self.outputs.push_back(Output::Connect { connection, address });
            }
            PathsOutput::Send { connection, segment } => {
                self.outputs.push_back(Output::Send { connection, segment });
            }
            PathsOutput::Close { connection, abort } => {
                self.outputs.push_back(Output::Close { connection, abort });
            }
            PathsOutput::Up(disk) => {
                self.pools
                    .values_mut()
                    .for_each(|pool| pool.path_up(now, disk, memory));
                self.status_at = Some(now);
            }
            PathsOutput::Down(disk) => {
                self.pools
                    .values_mut()
                    .for_each(|pool| pool.path_down(now, disk, memory));
                self.status_at = Some(now);
            }
            PathsOutput::Completed { ticket, status } => self.handle_completed(now, ticket, status, memory),
            PathsOutput::Reported { ticket, registrants } => {
                if let (Some(pool), Purpose::Fence(epoch, leg)) =
                    (self.pools.get_mut(&ticket.pool), ticket.purpose)
                {
                    pool.fence_reported(now, epoch, leg, &registrants, memory);
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
        let Some(pool) = self.pools.get_mut(&ticket.pool) else {
            return;
        };
        match ticket.purpose {
            Purpose::Slice(epoch, id) => {
                let status = status.map_or_else(Failure::status, |()| block::Status::Success);
                pool.leg_completed(now, epoch, id, status, memory);
            }
            Purpose::Fence(epoch, leg) => {
                let ended = match status {
                    Ok(()) => Ended::Success,
                    Err(Failure::Conflict) => Ended::Conflict,
                    Err(Failure::Media | Failure::Other) => Ended::Failure,
                };
                pool.fence_ended(now, epoch, leg, ended, memory);
            }
        }
    }

    fn handle_pool(&mut self, now: Time, id: PoolId, output: PoolOutput, memory: &mut dyn Memory) {
        match output {
            PoolOutput::Leg {
                leg,
                purpose,
                command,
            } => {
                self.paths
                    .submit(now, leg, Ticket { pool: id, purpose }, command, memory);
            }
            PoolOutput::Suspect { disk } => self.paths.suspect(now, disk, memory),
            PoolOutput::Complete { request, status } if request.0 & VERB != 0 => {
                let pool = self.pools.get_mut(&id).expect("it spoke just now");
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
            } => self.ask(now, id, epoch, request, change),
            PoolOutput::Ana(state) => {
                self.exports.set_ana(now, id, state, &mut self.target, memory);
                self.status_at = Some(now);
            }
            PoolOutput::VolumesChanged => {
                let pool = &self.pools[&id];
                self.exports.show(now, id, pool, &mut self.target, memory);
                self.status_at = Some(now);
            }
        }
    }

    fn ask(&mut self, now: Time, pool: PoolId, epoch: Epoch, request: u64, change: MembershipChange) {
        let Some(slice) = self.pools[&pool].config().slices.first().map(|slice| slice.slice) else {
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
            .push_back(Output::Report(Report::Membership(request)));
        self.status_at = Some(now);
    }

    /// Pools that left the configuration, once their slices have ended.
    fn drop_retired(&mut self, now: Time, memory: &mut dyn Memory) {
        let exports = &self.exports;
        let before = self.pools.len();
        self.pools.retain(|id, pool| exports.has(*id) || !pool.is_idle());
        if self.pools.len() != before {
            self.connect(now, memory);
        }
    }

    fn tell_status(&mut self, now: Time) {
        if self.status_at.is_none_or(|due| due > now) {
            return;
        }
        let status = ControllerNodeStatus {
            node: self.node,
            incarnation: self.incarnation,
            revision: self.revision,
            slices: self.pools.values().filter_map(Pool::status).collect(),
        };
        let moving = status
            .slices
            .iter()
            .any(|slice| slice.groups.iter().any(|group| group.regions_dirty > 0));
        self.status_at = moving.then(|| now + STATUS_PERIOD);
        if self.told.as_ref() != Some(&status) {
            self.told = Some(status.clone());
            self.outputs.push_back(Output::Report(Report::Status(status)));
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
            Event::Timeout => {
                self.target.handle_timeout(now, memory);
                self.paths.handle_timeout(now, memory);
                self.pools
                    .values_mut()
                    .for_each(|pool| pool.handle_timeout(now, memory));
            }
        }
        self.settle(now, memory);
    }

    fn poll_output(&mut self) -> Option<Output<Report>> {
        self.outputs.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        let pools = self.pools.values().filter_map(Pool::next_timeout);
        let parts = [
            self.target.next_timeout(),
            self.paths.next_timeout(),
            self.status_at,
        ];
        pools.chain(parts.into_iter().flatten()).min()
    }

    fn landing(&self, connection: ConnectionId) -> Option<BufferSlice> {
        match connection.0 & ConnectionId::ACCEPTED {
            0 => self.paths.landing(connection),
            _ => self.target.landing(connection),
        }
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
