//! Taking apart: what is no longer wanted stays taken until its disk node says that it is gone.

use super::Draft;
use crate::layout::LegLayout;

impl Draft<'_> {
    /// The pool goes: nobody serves it any more, its legs are to be swept. The data goes with them, so no controller
    /// node is waited for.
    pub(super) fn retire_everything(&mut self) {
        self.waits.clear();
        self.memberships.clear();
        if let Some(layout) = &mut self.layout {
            let legs: Vec<LegLayout> = layout.legs().cloned().collect();
            layout.retired.extend(legs);
            layout.slices.clear();
            layout.controllers.clear();
            layout.volumes.clear();
        }
    }

    /// Give back the space of legs that their disk nodes have swept; and when nothing is left of a pool that goes, say
    /// so.
    pub(super) fn release_swept_legs(&mut self, retiring: bool) {
        let Some(layout) = &mut self.layout else {
            self.pool_gone = retiring;
            return;
        };
        for leg in std::mem::take(&mut layout.retired) {
            self.release_if_swept(leg);
        }
        let layout = self.layout.as_ref().expect("there was one above");
        if retiring && layout.slices.is_empty() && layout.retired.is_empty() {
            self.layout = None;
            self.pool_gone = true;
        }
    }

    fn release_if_swept(&mut self, leg: LegLayout) {
        // A node without a record took its allocation with it.
        let node = self.input.disk_nodes.get(&leg.disk_node);
        if node.is_none_or(|node| node.has_swept(self.input.spec.id, leg.leg)) {
            if let Some(allocation) = self.allocation(leg.disk_node) {
                let taken = allocation.disks.entry(leg.disk).or_default();
                taken.remove(&leg.leg);
                if taken.is_empty() {
                    allocation.disks.remove(&leg.disk);
                }
            }
            return;
        }
        let name = self.input.disk_node_name(leg.disk_node);
        let silent = if node.is_some_and(|node| node.is_up()) {
            ""
        } else {
            ", which does not answer"
        };
        self.wait(format!("a leg is being swept by disk node {name}{silent}"));
        self.layout
            .as_mut()
            .expect("retired legs are in a layout")
            .retired
            .push(leg);
    }
}
