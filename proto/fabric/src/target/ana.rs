//! The ANA groups of one subsystem (Base 2.1, section 8.1.1): states and change counts.

use nvme::log::AnaState;

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
    /// By number, from 1; as many as were set.
    groups: Vec<Option<AnaGroup>>,
    /// CHGCNT of the log page: counts changes of any group.
    pub(crate) change_count: u64,
}

impl AnaGroups {
    pub(crate) fn group(&self, group: u32) -> AnaGroup {
        let known = self.groups.get((group as usize).wrapping_sub(1));
        known.copied().flatten().unwrap_or(AnaGroup {
            state: AnaState::Inaccessible,
            change_count: 0,
        })
    }

    /// Sets a state (of a group from 1 on); whether it is another one than before.
    pub(crate) fn set(&mut self, group: u32, state: AnaState) -> bool {
        if self.group(group).state == state {
            return false;
        }
        self.change_count += 1;
        let change_count = self.change_count;
        let at = group as usize - 1;
        if at >= self.groups.len() {
            self.groups.resize(at + 1, None);
        }
        self.groups[at] = Some(AnaGroup { state, change_count });
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
