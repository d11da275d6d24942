//! The end of a run: trouble is over, so everything in flight ends, every leg comes back, everything can be read, legs are equal, and
//! nothing is held.

use super::{Broken, Fabric, NodeName, Rule};
use block::Time;
use std::time::Duration;

/// Once trouble has stopped, everything in flight ends within this.
const SETTLED: Duration = Duration::from_secs(90);
/// For how long everything then rests: longer than any keep-alive, so that forgotten connections end.
const RESTS: Duration = Duration::from_secs(30);

impl Fabric {
    pub(super) fn come_to_rest(&mut self) -> Result<(), Broken> {
        self.settle()?;
        self.read_back()?;
        self.rest()?;
        self.check_equal()?;
        self.check_leaks()
    }

    /// No more trouble: everything in flight ends within a bound, and every leg comes back.
    fn settle(&mut self) -> Result<(), Broken> {
        self.load.rest();
        let deadline = self.world.now() + SETTLED;
        while !self.load.is_idle() || !self.undo.is_empty() || self.legs_out() > 0 {
            self.step_to(deadline)?;
        }
        Ok(())
    }

    fn legs_out(&self) -> usize {
        self.keeper.legs.len() - self.keeper.in_sync.len()
    }

    fn step_to(&mut self, deadline: Time) -> Result<(), Broken> {
        if self.world.now() < deadline {
            return self.step(deadline);
        }
        let what = format!(
            "{SETTLED:?} after the last trouble {} legs are out, and these wait: {}",
            self.legs_out(),
            self.load.waiting()
        );
        Err(Broken::new(Rule::Liveness, what))
    }

    fn read_back(&mut self) -> Result<(), Broken> {
        self.read_all();
        let deadline = self.world.now() + SETTLED;
        while !self.load.is_idle() {
            self.step_to(deadline)?;
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<(), Broken> {
        let quiet = self.world.now() + RESTS;
        while self.world.now() < quiet {
            self.step(quiet)?;
        }
        Ok(())
    }

    /// No buffer is held that nobody uses, no connection that one end has forgotten.
    fn check_leaks(&mut self) -> Result<(), Broken> {
        let (disks, hosts) = (self.disk_nodes.len(), self.hosts.len());
        // An association has an admin queue and one for I/O, each a connection.
        let expected = |name: &NodeName| match (self.controllers.contains(name), self.hosts.contains(name)) {
            (true, _) => 2 * (disks + hosts),
            (_, true) | (false, false) => 2 * self.controllers.len(),
        };
        let names: Vec<NodeName> = self.all_nodes().chain(self.hosts.iter().copied()).collect();
        for name in names {
            let (held, open) = (self.world.memory_in_use(name), self.world.connections(name));
            if held > HELD_MAX || open != expected(&name) {
                let what = format!(
                    "{} holds {held} bytes of buffers and {open} connections at rest; {} connections are in use",
                    self.name(name),
                    expected(&name)
                );
                return Err(Broken::new(Rule::Leak, what));
            }
        }
        Ok(())
    }
}

/// What a node may hold at rest.
const HELD_MAX: u64 = 4 << 20;
