//! A whole data plane in the simulated world: disk nodes, controller nodes and hosts, production machines all, with a [`Keeper`] for
//! a control plane, hosts that write and read without pause, and trouble drawn from one seed.
//!
//! | file | what |
//! |---|---|
//! | `atlas` | everything that can be done to it, and what is promised |
//! | `trouble` | doing it, and undoing it |
//! | `beyond` | what is not promised: tests that nothing wrong is answered then |
//! | `nodes` | starting processes; agents: configurations, membership requests |
//! | `load` | what hosts do; volumes that come and go |
//! | `legs` | what is on the legs, read from their disks |
//! | `tap`, `wire` | what is said over connections, and the rules about it |
//! | `rest` | the end: everything comes back, is read back, is equal, and nothing is held |
//! | `rule` | the rules, by name |
//! | `run` | a seed's run, its story made short when a rule did not hold |

pub mod atlas;
#[cfg(test)]
mod beyond;
mod legs;
mod load;
mod nodes;
mod rest;
mod rule;
pub mod run;
mod tap;
mod trouble;
mod wire;
mod words;

pub use atlas::Story;
pub use nodes::Plan;
pub use rule::{Broken, Rule};
pub use run::{Outcome, run_seed};

use crate::history::History;
use crate::keeper::Keeper;
use crate::world::{NodeName, World};
use block::{Time, Tuning};
use cluster::status::{SliceState, SliceStatus};
use cluster::{DiskNodeId, Epoch, LegId};
use controller_node::node::Report as ControllerReport;
use fabric::host::HostReport;
use legs::Legs;
use load::Load;
use nodes::Mail;
use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tap::{Facts, Tap};
use trouble::Undo;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4096;

/// As by default, but in a hurry: what takes longer than the trouble lasts never happens.
pub(crate) fn tuning() -> Tuning {
    Tuning {
        lease: Some(Duration::from_millis(800)),
        clock_margin: Duration::from_millis(100),
        give_up_after: Duration::from_secs(1),
        leg_timeout: Duration::from_secs(3),
        bitmap_quiet: Duration::from_millis(300),
        bitmap_quiet_max: Duration::from_millis(600),
        rejoin_after: Duration::from_millis(300),
        read_run: 1,
        ..Tuning::default()
    }
}

/// The data plane.
pub struct Fabric {
    world: World,
    keeper: Keeper,
    tuning: Tuning,
    disk_nodes: Vec<(NodeName, DiskNodeId)>,
    controllers: Vec<NodeName>,
    hosts: Vec<NodeName>,
    history: History,
    load: Load,
    legs: Legs,
    tap: Rc<RefCell<Tap>>,
    mail: Mail,
    next_incarnation: u128,
    /// While the store is away nothing is recorded.
    store_back: Time,
    /// While news are garbled they are lost, late, doubled.
    garbled_until: Time,
    /// What is to be undone, and when.
    undo: Vec<(Time, Undo)>,
    /// What each controller node said last, in its present life.
    told: BTreeMap<NodeName, SliceStatus>,
    /// Who serves, or served, each epoch: a node, in one of its lives, since when.
    served: BTreeMap<Epoch, (NodeName, u64, Time)>,
    /// Legs that may not have what they should, by a fault that lies inside what is promised, until they are out of the set.
    excused: BTreeSet<LegId>,
    /// No further fault before.
    careful_until: Time,
    outcome: Outcome,
    verbose: bool,
}

impl Fabric {
    /// One happening, and what follows from it outside of the machines.
    fn step(&mut self, until: Time) -> Result<(), Broken> {
        let undo = self.undo.iter().map(|(at, _)| *at).min();
        let due = [undo, self.mail.next(), self.load.next_volume_change()];
        let until = due
            .into_iter()
            .flatten()
            .fold(until, Time::min)
            .max(self.world.now());
        self.world.step(until);
        self.undo_due();
        self.carry_mail()?;
        self.change_volumes();
        while let Some((node, report)) = self.world.reports.pop_front() {
            self.hear(node, report)?;
        }
        self.hear_tap()
    }

    /// What was seen by looking on.
    fn hear_tap(&mut self) -> Result<(), Broken> {
        let mut tap = self.tap.borrow_mut();
        let (broken, news) = (tap.broken.take(), std::mem::take(&mut tap.news));
        let claims = std::mem::take(&mut tap.claims);
        drop(tap);
        for (node, text) in news {
            self.tell("fence", || format!("{}: {text}", self.name(node)));
        }
        for node in claims {
            let told = self.told.get(&node);
            if told.is_none_or(|slice| slice.state != SliceState::Serving) {
                let what = format!("{} says optimized, and of the slice: {told:?}", self.name(node));
                return Err(Broken::new(Rule::R7, what));
            }
        }
        broken.map_or(Ok(()), Err)
    }

    /// Tells who looks on what has become of owners and sets.
    fn tell_tap(&mut self) {
        let name = |leg: &LegId| {
            let index = self.keeper.legs.iter().position(|kept| kept.leg == *leg);
            self.disk_nodes[index.expect("one of ours")].0
        };
        let facts = Facts {
            disk_nodes: self.disk_nodes.iter().map(|(name, _)| *name).collect(),
            controllers: self.controllers.iter().copied().collect(),
            epoch: self.keeper.epoch.0,
            in_sync: self.keeper.in_sync.iter().map(name).collect(),
            server: self
                .served
                .last_key_value()
                .map(|(_, (node, _, since))| (*node, *since)),
        };
        self.tap.borrow_mut().facts = facts;
    }

    fn hear(&mut self, node: NodeName, report: Box<dyn Any>) -> Result<(), Broken> {
        let report = match report.downcast::<HostReport>() {
            Ok(report) => return self.hear_host(node, *report),
            Err(report) => report,
        };
        match report.downcast::<ControllerReport>().map(|report| *report) {
            Ok(ControllerReport::Membership(request)) => {
                self.ask_store(node, request);
                Ok(())
            }
            Ok(ControllerReport::Status(status)) => {
                if let Some(slice) = status.slices.first() {
                    self.hear_slice(node, slice)?;
                }
                if self.world.now() >= self.store_back && self.keeper.note_volumes(&status) {
                    self.push_all();
                }
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// R1: what a controller node says of the slice.
    fn hear_slice(&mut self, node: NodeName, slice: &SliceStatus) -> Result<(), Broken> {
        self.tell("status", || format!("{} {}", self.name(node), in_short(slice)));
        let who = (node, self.world.life(node));
        if slice.state == SliceState::Serving {
            let fresh = (who.0, who.1, self.world.now());
            let (server, life, _) = *self.served.entry(slice.epoch).or_insert(fresh);
            if (server, life) != who || slice.epoch > self.keeper.epoch {
                let what = format!(
                    "{who:?} serves {:?}, which was {:?}'s",
                    slice.epoch,
                    (server, life)
                );
                return Err(Broken::new(Rule::R1, what));
            }
            self.tell_tap();
        }
        if let Some(before) = self.told.insert(node, slice.clone())
            && before.epoch > slice.epoch
            && slice.epoch > Epoch(0)
        {
            let what = format!("{who:?} goes back from {:?} to {:?}", before.epoch, slice.epoch);
            return Err(Broken::new(Rule::R1, what));
        }
        Ok(())
    }

    /// The newest epoch that was seen to be served.
    fn serving(&self) -> Epoch {
        self.served.last_key_value().map_or(Epoch(0), |(epoch, _)| *epoch)
    }

    /// A node's name for people.
    fn name(&self, node: NodeName) -> String {
        let at = |nodes: &[NodeName]| nodes.iter().position(|other| *other == node);
        let disks: Vec<NodeName> = self.disk_nodes.iter().map(|(name, _)| *name).collect();
        match (at(&disks), at(&self.controllers)) {
            (Some(index), _) => format!("disk{index}"),
            (_, Some(index)) => format!("ctrl{index}"),
            _ => format!("host{}", at(&self.hosts).unwrap_or_default()),
        }
    }

    fn tell(&self, kind: &str, text: impl FnOnce() -> String) {
        if self.verbose {
            println!(
                "{:>12.6} s  {kind:<8} {}",
                self.world.now().0 as f64 / 1e9,
                text()
            );
        }
    }
}

/// What the lines of a replay mean.
pub const LEGEND: &str = "\
 seconds of the world, what kind of thing, what
   fault     something is done to the data plane (see tests/src/fabric/atlas.rs); its number in the story; `not now`: its guard keeps it out
   over      it ends
   epoch     the slice is granted to a controller node
   news      a controller node's agent takes a configuration
   asked     an owner asks the store for a set of legs in sync; what the store says
   status    what a controller node says of the slice; legs: + in sync, - not, lower case: not reached
   path      a host's path comes or goes; what it sees there of volumes
   fence     a leg has answered a reservation command: whose, with which key
   volume    a volume is wanted, is there, is not wanted, is gone
 diskN, ctrlN and hostN are disk nodes, controller nodes and hosts; legs are named by their disk node";

/// A slice's status, in short.
fn in_short(slice: &SliceStatus) -> String {
    let legs = slice.groups.iter().flat_map(|group| &group.legs);
    let leg = |(index, leg): (usize, &cluster::status::GroupLegStatus)| {
        let sign = if leg.in_sync { '+' } else { '-' };
        let letter = (if leg.reachable { b'A' } else { b'a' } + index as u8) as char;
        format!("{sign}{letter}")
    };
    let legs: Vec<String> = legs.enumerate().map(leg).collect();
    let dirty: u64 = slice.groups.iter().map(|group| group.regions_dirty).sum();
    let state = match &slice.state {
        SliceState::Standby => "stands by".to_owned(),
        SliceState::Opening { waits_for } => format!("opens, waits for {waits_for}"),
        SliceState::Serving => "serves".to_owned(),
        SliceState::Closing => "closes".to_owned(),
        SliceState::Failed { reason } => format!("failed: {reason}"),
    };
    format!(
        "epoch {}: {state}; legs {}, {dirty} regions may differ, {} volumes",
        slice.epoch.0,
        legs.concat(),
        slice.volumes.len()
    )
}
