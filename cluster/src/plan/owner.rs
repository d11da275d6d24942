//! Grants: which controller node owns a slice, as which of its starts, under which epoch (R1).

use super::Draft;
use crate::layout::Membership;
use crate::placement::controller_refusal;
use crate::status::{LegState, SliceState};
use crate::{ControllerNodeId, Epoch, SliceId};

impl Draft<'_> {
    /// Grant every slice anew that needs it, and say what the others wait for.
    pub(super) fn grant_slices(&mut self) {
        let slices: Vec<SliceId> = self.memberships.keys().copied().collect();
        for slice in slices {
            let membership = &self.memberships[&slice];
            match self.next_owner(membership) {
                Ok(Some(node)) => self.grant(slice, node),
                Ok(None) => self.wait_until_served(slice),
                Err(reason) => {
                    self.wait(reason);
                    if self.owner_restarted(slice) {
                        self.grant(slice, self.memberships[&slice].owner);
                    }
                }
            }
        }
    }

    /// To whom the slice must be granted now; `None`: the grant there is stands.
    fn next_owner(&self, membership: &Membership) -> Result<Option<ControllerNodeId>, String> {
        let wanted = self.input.spec.owner.unwrap_or(membership.owner);
        if wanted != membership.owner {
            return self.may_take_over(wanted).map(|()| Some(wanted));
        }
        Ok(self.owner_restarted(membership.slice).then_some(membership.owner))
    }

    /// The owner's process is another one than the grant was made to: it needs an epoch of its own, so that what its
    /// past left in the network is fenced (R2).
    fn owner_restarted(&self, slice: SliceId) -> bool {
        let membership = &self.memberships[&slice];
        let node = self.input.controller_nodes.get(&membership.owner);
        node.is_some_and(|node| node.spec.incarnation != membership.owner_incarnation)
    }

    /// Whether a planned switch to the node may happen now.
    fn may_take_over(&self, wanted: ControllerNodeId) -> Result<(), String> {
        let name = self.input.controller_node_name(wanted);
        let layout = self.layout.as_ref().expect("slices are granted for a layout");
        if !layout
            .controllers
            .iter()
            .any(|placement| placement.node == wanted)
        {
            let names = layout
                .controllers
                .iter()
                .map(|placement| self.input.controller_node_name(placement.node));
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(format!(
                "the wanted owner {name} is not one of the pool's controller nodes; choose one of {names}"
            ));
        }
        let node = self.input.controller_nodes.get(&wanted);
        let refusal = node.map_or(Some(format!("{name}: has no record")), controller_refusal);
        refusal.map_or(Ok(()), |refusal| {
            Err(format!("the switch of the owner waits for {refusal}"))
        })
    }

    /// Owner, incarnation and epoch change together (R1). The in-sync sets stay: they are the owners' (R3).
    fn grant(&mut self, slice: SliceId, node: ControllerNodeId) {
        let incarnation = self.input.controller_nodes[&node].spec.incarnation;
        let membership = self
            .memberships
            .get_mut(&slice)
            .expect("granted is a slice of the pool");
        membership.owner = node;
        membership.owner_incarnation = incarnation;
        membership.epoch = Epoch(membership.epoch.0 + 1);
    }

    /// Say why a slice whose grant stands is not served, if so.
    fn wait_until_served(&mut self, slice: SliceId) {
        let membership = &self.memberships[&slice];
        let name = self.input.controller_node_name(membership.owner);
        let node = self.input.controller_nodes.get(&membership.owner);
        if !node.is_some_and(|node| node.is_up()) {
            self.wait(format!(
                "the owner {name} does not answer; the pool is served again when it is back, or when another of its \
                 controller nodes is made the owner"
            ));
            return;
        }
        if self.input.served_slice(slice).is_some() {
            return;
        }
        for reason in self.legs_not_ready() {
            self.wait(reason);
        }
        let status = node.and_then(|node| node.status());
        let found = status.and_then(|status| status.slices.iter().find(|found| found.slice == slice));
        let reason = match found.map(|found| &found.state) {
            Some(SliceState::Opening { waits_for }) => format!("{name} opens the pool: {waits_for}"),
            Some(SliceState::Failed { reason }) => format!("{name} cannot serve the pool: {reason}"),
            _ => format!("{name} has not begun to open the pool"),
        };
        self.wait(reason);
    }

    /// What keeps legs from being exported, as their disk nodes say.
    fn legs_not_ready(&self) -> Vec<String> {
        let layout = self.layout.as_ref().expect("slices are granted for a layout");
        let mut reasons = Vec::new();
        for leg in layout.legs() {
            let name = self.input.disk_node_name(leg.disk_node);
            let Some(node) = self
                .input
                .disk_nodes
                .get(&leg.disk_node)
                .filter(|node| node.is_up())
            else {
                reasons.push(format!("disk node {name} does not answer"));
                continue;
            };
            let found = node
                .status()
                .and_then(|status| status.legs.iter().find(|found| found.leg == leg.leg));
            match found.map(|found| &found.state) {
                Some(LegState::Ready) => {}
                Some(LegState::Zeroing { done, total }) => {
                    reasons.push(format!(
                        "the leg on {name} is being zeroed: {done} of {total} extents"
                    ));
                }
                Some(LegState::Failed { reason }) => {
                    reasons.push(format!("the leg on {name} failed: {reason}"))
                }
                None => reasons.push(format!("the leg on {name} is not there yet")),
            }
        }
        reasons
    }
}
