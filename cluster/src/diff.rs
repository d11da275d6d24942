//! What a plan changes, in words: one sentence per change, for logs, events and transcripts. Nothing is decided from it.

use crate::layout::{LegLayout, Membership, PoolLayout, VolumeLayout};
use crate::placement::BLOCK_BYTES;
use crate::plan::Plan;
use crate::size::size_text;
use crate::view::PoolInput;
use crate::{LegId, SliceId};
use std::collections::BTreeMap;

/// Every change of the plan against its input.
pub fn steps(input: &PoolInput, plan: &Plan) -> Vec<String> {
    let mut steps = Steps {
        input,
        steps: Vec::new(),
    };
    match (&input.layout, &plan.layout) {
        (None, Some(after)) => steps.placed(after),
        (Some(before), None) => {
            steps.released(before, &[]);
            steps.say(format!("pool {} is gone", input.spec.name));
        }
        (Some(before), Some(after)) => steps.changed(before, after),
        (None, None) if plan.pool_gone => steps.say(format!("pool {} is gone", input.spec.name)),
        (None, None) => {}
    }
    steps.granted(&plan.memberships);
    steps.told(plan);
    steps.steps
}

struct Steps<'a> {
    input: &'a PoolInput,
    steps: Vec<String>,
}

impl Steps<'_> {
    fn say(&mut self, step: String) {
        self.steps.push(step);
    }

    fn placed(&mut self, after: &PoolLayout) {
        for leg in after.legs() {
            self.say(format!("take {}", self.leg(leg)));
        }
        self.controllers(None, after);
        self.volumes(&[], &after.volumes);
    }

    fn changed(&mut self, before: &PoolLayout, after: &PoolLayout) {
        let retired: Vec<LegId> = before.retired.iter().map(|leg| leg.leg).collect();
        for leg in after.retired.iter().filter(|leg| !retired.contains(&leg.leg)) {
            self.say(format!("retire {}", self.leg(leg)));
        }
        self.released(before, &after.retired);
        self.controllers(Some(before), after);
        if after.slices.is_empty() && !before.slices.is_empty() {
            self.say("nobody serves the pool any more".into());
        }
        self.volumes(&before.volumes, &after.volumes);
    }

    fn released(&mut self, before: &PoolLayout, kept: &[LegLayout]) {
        for leg in before
            .retired
            .iter()
            .filter(|leg| !kept.iter().any(|kept| kept.leg == leg.leg))
        {
            self.say(format!("give back {}", self.leg(leg)));
        }
    }

    fn leg(&self, leg: &LegLayout) -> String {
        let node = self.input.disk_node_name(leg.disk_node);
        let size = size_text(leg.length_blocks * BLOCK_BYTES);
        format!(
            "{} extents ({size}) of {node} as its namespace {}",
            leg.extents, leg.nsid
        )
    }

    fn controllers(&mut self, before: Option<&PoolLayout>, after: &PoolLayout) {
        for placement in &after.controllers {
            if before.is_none_or(|before| !before.controllers.contains(placement)) {
                let name = self.input.controller_node_name(placement.node);
                let (first, last) = (placement.cntlid_first, placement.cntlid_last);
                self.say(format!(
                    "serve by {name} with controller identifiers {first} to {last}"
                ));
            }
        }
    }

    fn volumes(&mut self, before: &[VolumeLayout], after: &[VolumeLayout]) {
        for volume in after {
            match before.iter().find(|known| known.volume == volume.volume) {
                None => {
                    let size = size_text(volume.size_blocks * BLOCK_BYTES);
                    let name = self.input.volume_name(volume.volume);
                    self.say(format!(
                        "create volume {name} of {size} as namespace {}",
                        volume.nsid
                    ));
                    self.hosts(
                        &VolumeLayout {
                            hosts: Default::default(),
                            ..volume.clone()
                        },
                        volume,
                    );
                }
                Some(known) => self.volume(known, volume),
            }
        }
        for volume in before
            .iter()
            .filter(|known| !after.iter().any(|kept| kept.volume == known.volume))
        {
            self.say(format!("forget volume {}", self.input.volume_name(volume.volume)));
        }
    }

    fn volume(&mut self, before: &VolumeLayout, after: &VolumeLayout) {
        let name = self.input.volume_name(after.volume);
        if after.size_blocks != before.size_blocks {
            self.say(format!(
                "extend volume {name} to {}",
                size_text(after.size_blocks * BLOCK_BYTES)
            ));
        }
        self.hosts(before, after);
        if after.created && !before.created {
            self.say(format!("volume {name} is created"));
        }
        if after.deleting && !before.deleting {
            self.say(format!("remove volume {name} from the map"));
        }
    }

    fn hosts(&mut self, before: &VolumeLayout, after: &VolumeLayout) {
        let name = self.input.volume_name(after.volume);
        for host in after.hosts.difference(&before.hosts) {
            self.say(format!("show volume {name} to {host}"));
        }
        for host in before.hosts.difference(&after.hosts) {
            self.say(format!("hide volume {name} from {host}"));
        }
    }

    fn granted(&mut self, after: &BTreeMap<SliceId, Membership>) {
        for membership in after.values() {
            let before = self.input.memberships.get(&membership.slice);
            if before.is_none_or(|before| before.epoch != membership.epoch) {
                let name = self.input.controller_node_name(membership.owner);
                self.say(format!("grant epoch {} to {name}", membership.epoch.0));
            }
        }
    }

    fn told(&mut self, plan: &Plan) {
        for config in plan.disk_node_configs.values() {
            let name = self.input.disk_node_name(config.node);
            self.say(format!("tell {name} (revision {})", config.revision.0));
        }
        for config in plan.controller_node_configs.values() {
            let name = self.input.controller_node_name(config.node);
            self.say(format!("tell {name} (revision {})", config.revision.0));
        }
    }
}
