//! A controller node's reactors as one node: which has which pool, what each is told, and what they say together.
//!
//! A reactor is a whole controller node by itself, with a target, paths and buffers of its own, which knows its pools and no
//! others. The front deals pools out as they are first seen, each to the reactor that has the fewest; there a pool stays, also
//! if it leaves and comes back: whatever of its past is still ending is ending there. It tells each reactor its part of the
//! configuration, and which subsystems the others have (a host's connection may be accepted anywhere, and goes where its pool is),
//! numbers membership requests for the whole node, and joins the reports.
//!
//! What it deliberately is not: it is on no request's way, it decides nothing about pools, and it knows no thread.
//!
//! Invariants: a pool is one reactor's as long as the process lives; an answer reaches the reactor that asked; requests are
//! numbered in the order in which each reactor makes them (docs/decisions/0007).

use crate::exports::portals;
use crate::node::{Control, Report};
use cluster::node_config::{ControllerNodeConfig, PoolConfig};
use cluster::status::{ControllerNodeStatus, SliceStatus};
use cluster::{PoolId, Revision};
use control::agent::{MembershipAnswer, MembershipRequest};
use fabric::driver::ReactorIndex;
use fabric::target::Elsewhere;
use std::collections::{BTreeMap, VecDeque};

/// The reactors of a node, seen together.
#[derive(Debug)]
pub(crate) struct Front {
    /// The newest configuration's pools.
    present: Vec<PoolId>,
    /// Which reactor has which pool: every one that was ever seen.
    homes: BTreeMap<PoolId, usize>,
    /// What each reactor has said last.
    statuses: Vec<Option<ControllerNodeStatus>>,
    /// Before anybody has said anything.
    nothing: ControllerNodeStatus,
    orders: VecDeque<(usize, Control)>,
    requests: VecDeque<MembershipRequest>,
    /// Who asked, and under which number of its own.
    asked: BTreeMap<u64, (usize, u64)>,
    next_request: u64,
}

impl Front {
    /// Of so many reactors, which have said nothing yet.
    pub(crate) fn new(reactors: usize, nothing: ControllerNodeStatus) -> Front {
        assert!(reactors > 0, "a node has a reactor");
        Front {
            present: Vec::new(),
            homes: BTreeMap::new(),
            statuses: vec![None; reactors],
            nothing,
            orders: VecDeque::new(),
            requests: VecDeque::new(),
            asked: BTreeMap::new(),
            next_request: 0,
        }
    }

    /// A configuration came; the agent keeps them in order.
    pub(crate) fn apply(&mut self, config: &ControllerNodeConfig) {
        self.present = config.pools.keys().copied().collect();
        for pool in config.pools.keys() {
            if !self.homes.contains_key(pool) {
                self.homes.insert(*pool, self.emptiest());
            }
        }
        for reactor in 0..self.statuses.len() {
            let own = |pool: &PoolId| self.homes[pool] == reactor;
            // First the others' subsystems: where a host is sent, somebody who has just moved out does not answer for it.
            let others = config.pools.iter().filter(|(pool, _)| !own(pool));
            let others = others.map(|(pool, config)| self.elsewhere(*pool, config));
            let elsewhere = Control::Elsewhere(others.collect());
            let pools = config.pools.iter().filter(|(pool, _)| own(pool));
            let part = ControllerNodeConfig {
                node: config.node,
                revision: config.revision,
                host_nqn: config.host_nqn.clone(),
                pools: pools.map(|(id, pool)| (*id, pool.clone())).collect(),
            };
            self.orders.push_back((reactor, elsewhere));
            self.orders.push_back((reactor, Control::Apply(Box::new(part))));
        }
    }

    /// The reactor with the fewest of the pools that are here.
    fn emptiest(&self) -> usize {
        let load = |reactor: &usize| {
            let there = self
                .present
                .iter()
                .filter(|pool| self.homes.get(pool) == Some(reactor));
            there.count()
        };
        (0..self.statuses.len())
            .min_by_key(load)
            .expect("a node has a reactor")
    }

    fn elsewhere(&self, pool: PoolId, config: &PoolConfig) -> (String, Elsewhere) {
        let hosts = config.volumes.iter().flat_map(|volume| &volume.hosts);
        let elsewhere = Elsewhere {
            reactor: ReactorIndex(self.homes[&pool] as u32),
            hosts: hosts.map(|host| host.0.clone()).collect(),
            portals: portals(config),
        };
        (config.subsystem_nqn.0.clone(), elsewhere)
    }

    /// A reactor said something.
    pub(crate) fn reported(&mut self, reactor: usize, report: Report) {
        match report {
            Report::Status(status) => self.statuses[reactor] = Some(status),
            Report::Membership(request) => {
                let number = self.next_request;
                self.next_request += 1;
                self.asked.insert(number, (reactor, request.request));
                self.requests.push_back(MembershipRequest {
                    request: number,
                    ..request
                });
            }
        }
    }

    /// The store answered. Who has been answered already is not told again.
    pub(crate) fn membership_answer(&mut self, answer: MembershipAnswer) {
        if let Some((reactor, request)) = self.asked.remove(&answer.request) {
            let answer = Control::Membership(MembershipAnswer { request, ..answer });
            self.orders.push_back((reactor, answer));
        }
    }

    /// What is to be told next, and to which reactor.
    pub(crate) fn poll_order(&mut self) -> Option<(usize, Control)> {
        self.orders.pop_front()
    }

    /// What is to be recorded next.
    pub(crate) fn poll_request(&mut self) -> Option<MembershipRequest> {
        self.requests.pop_front()
    }

    /// Whether something is to be recorded.
    pub(crate) fn has_request(&self) -> bool {
        !self.requests.is_empty()
    }

    /// What is. A configuration counts as applied when every reactor has applied its part.
    pub(crate) fn status(&self) -> ControllerNodeStatus {
        let said = self.statuses.iter().flatten();
        let mut slices: Vec<SliceStatus> = said.clone().flat_map(|status| status.slices.clone()).collect();
        slices.sort_by_key(|slice| slice.slice);
        let all = said.clone().count() == self.statuses.len();
        let revision = said.map(|status| status.revision).min().filter(|_| all);
        ControllerNodeStatus {
            revision: revision.unwrap_or(Revision(0)),
            slices,
            ..self.nothing.clone()
        }
    }
}

#[cfg(test)]
#[path = "front_tests.rs"]
mod tests;
