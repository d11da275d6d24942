//! The ANA groups of one subsystem (Base 2.1, section 8.1.1): states and change counts.

use nvme::log::AnaState;
use std::collections::BTreeMap;

/// ANAGRPMAX and NANAGRPID: groups are numbered from 1 to this.
pub(crate) const ANA_GROUPS_MAX: u32 = 128;

/// A group's state, and the change count when it got it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnaGroup {
    pub(crate) state: AnaState,
    pub(crate) change_count: u64,
}

/// The groups of a subsystem. A group nobody set is inaccessible.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnaGroups {
    groups: BTreeMap<u32, AnaGroup>,
    /// CHGCNT of the log page: counts changes of any group.
    pub(crate) change_count: u64,
}

impl AnaGroups {
    pub(crate) fn group(&self, group: u32) -> AnaGroup {
        self.groups.get(&group).copied().unwrap_or(AnaGroup {
            state: AnaState::Inaccessible,
            change_count: 0,
        })
    }

    /// Sets a state; whether it is another one than before.
    pub(crate) fn set(&mut self, group: u32, state: AnaState) -> bool {
        if self.group(group).state == state {
            return false;
        }
        self.change_count += 1;
        let change_count = self.change_count;
        self.groups.insert(group, AnaGroup { state, change_count });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_inaccessible_until_set_and_changes_are_counted() {
        let mut groups = AnaGroups::default();
        assert_eq!(groups.group(1).state, AnaState::Inaccessible);
        assert!(!groups.set(1, AnaState::Inaccessible));
        assert!(groups.set(1, AnaState::Optimized));
        assert!(!groups.set(1, AnaState::Optimized));
        assert!(groups.set(2, AnaState::Change));
        assert_eq!(groups.change_count, 2);
        assert_eq!(groups.group(1).change_count, 1);
        assert_eq!(groups.group(2).change_count, 2);
    }
}
