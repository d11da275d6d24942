//! Which volumes the map is to gain, lose or enlarge: pure comparison of what is wanted with what is, one verb per volume at a
//! time.

use block::thin::{VolumeId, VolumeUsage};
use block::{Blocks, Duration, RequestId, Status, Time};
use cluster::node_config::VolumeConfig;
use std::collections::{BTreeMap, BTreeSet};

/// Set in the names of requests that are the pool's own verbs, clear in those of hosts.
pub(crate) const VERB: u64 = 1 << 63;

/// How long to wait before a verb that failed for the moment is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What is to be done with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Make it.
    Create(VolumeId, Blocks),
    /// Make it larger.
    Resize(VolumeId, Blocks),
    /// Forget it, and zero its space.
    Delete(VolumeId),
}

impl Verb {
    fn volume(self) -> VolumeId {
        match self {
            Verb::Create(volume, _) | Verb::Resize(volume, _) | Verb::Delete(volume) => volume,
        }
    }
}

/// The verbs under way.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    next: u64,
    under_way: BTreeMap<RequestId, Verb>,
    /// Their volumes.
    busy: BTreeSet<VolumeId>,
    /// Refused for good under this owner (no room in the map, a size that cannot be): not asked again until the wish changes.
    refused: BTreeMap<VolumeId, (Verb, Status)>,
    retry_at: Option<Time>,
}

impl Volumes {
    /// The verbs to begin now.
    pub(crate) fn plan(
        &mut self,
        now: Time,
        wanted: &[VolumeConfig],
        present: &[VolumeUsage],
    ) -> Vec<(RequestId, Verb)> {
        if self.retry_at.is_some_and(|due| now < due) {
            return Vec::new();
        }
        self.retry_at = None;
        let present: BTreeMap<VolumeId, Blocks> =
            present.iter().map(|known| (known.volume, known.size)).collect();
        let mut verbs = Vec::new();
        for volume in wanted {
            let Some(verb) = verb(volume, &present) else {
                continue;
            };
            let busy = self.busy.contains(&verb.volume());
            let hopeless = self
                .refused
                .get(&verb.volume())
                .is_some_and(|(other, _)| *other == verb);
            if !busy && !hopeless {
                let id = RequestId(VERB | self.next);
                self.next += 1;
                self.under_way.insert(id, verb);
                self.busy.insert(verb.volume());
                verbs.push((id, verb));
            }
        }
        verbs
    }

    /// A verb ended. One that failed for the moment is planned again a little later.
    pub(crate) fn ended(&mut self, now: Time, id: RequestId, status: Status) {
        let Some(verb) = self.under_way.remove(&id) else {
            return;
        };
        self.busy.remove(&verb.volume());
        match status {
            Status::Success => {}
            Status::Invalid | Status::OutOfSpace | Status::OutOfRange => {
                self.refused.insert(verb.volume(), (verb, status));
            }
            Status::Unavailable | Status::StaleEpoch | Status::MediaError => {
                self.retry_at = Some(now + RETRY)
            }
        }
    }

    /// Volumes with a verb under way: until it has ended the map may still gain them.
    pub(crate) fn busy(&self) -> impl Iterator<Item = VolumeId> {
        self.busy.iter().copied()
    }

    /// When to plan again although nothing has changed.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.retry_at
    }

    /// The slice is gone, and with it what was under way.
    pub(crate) fn forget_verbs(&mut self) {
        self.under_way.clear();
        self.busy.clear();
        self.refused.clear();
        self.retry_at = None;
    }
}

fn verb(wanted: &VolumeConfig, present: &BTreeMap<VolumeId, Blocks>) -> Option<Verb> {
    let id = VolumeId(*wanted.volume.0.as_bytes());
    let size = Blocks(wanted.size_blocks);
    match present.get(&id) {
        Some(_) if wanted.deleting => Some(Verb::Delete(id)),
        Some(known) if *known < size => Some(Verb::Resize(id, size)),
        Some(_) => None,
        // R9: a volume the map must know is never made anew.
        None if wanted.deleting || wanted.created => None,
        None => Some(Verb::Create(id, size)),
    }
}

#[cfg(test)]
mod tests {
    //! Deliberate bugs these tests were seen to catch: a lost volume made anew (R9); two verbs on one volume at a time.
    use super::*;
    use uuid::Uuid;

    fn wanted(id: u128, size: u64, created: bool, deleting: bool) -> VolumeConfig {
        VolumeConfig {
            volume: cluster::VolumeId(Uuid::from_u128(id)),
            nsid: id as u32,
            size_blocks: size,
            hosts: Default::default(),
            created,
            deleting,
        }
    }

    fn present(id: u128, size: u64) -> VolumeUsage {
        VolumeUsage {
            volume: volume(id),
            size: Blocks(size),
            mapped: 0,
        }
    }

    fn volume(id: u128) -> VolumeId {
        VolumeId(id.to_be_bytes())
    }

    fn verbs(wanted: VolumeConfig, present: &[VolumeUsage]) -> Vec<Verb> {
        Volumes::default()
            .plan(Time::ZERO, &[wanted], present)
            .into_iter()
            .map(|(_, verb)| verb)
            .collect()
    }

    #[test]
    fn every_combination_has_its_verb() {
        let create = Verb::Create(volume(1), Blocks(8));
        assert_eq!(verbs(wanted(1, 8, false, false), &[]), [create]);
        assert_eq!(
            verbs(wanted(1, 8, true, false), &[]),
            [],
            "R9: a lost volume is not made anew"
        );
        assert_eq!(verbs(wanted(1, 8, false, true), &[]), []);
        assert_eq!(verbs(wanted(1, 8, true, true), &[]), []);
        assert_eq!(verbs(wanted(1, 8, true, false), &[present(1, 8)]), []);
        assert_eq!(verbs(wanted(1, 8, false, false), &[present(1, 8)]), []);
        assert_eq!(
            verbs(wanted(1, 8, true, false), &[present(1, 4)]),
            [Verb::Resize(volume(1), Blocks(8))]
        );
        assert_eq!(
            verbs(wanted(1, 8, true, false), &[present(1, 16)]),
            [],
            "volumes never shrink"
        );
        assert_eq!(
            verbs(wanted(1, 8, true, true), &[present(1, 4)]),
            [Verb::Delete(volume(1))]
        );
        assert_eq!(
            verbs(wanted(1, 8, false, false), &[present(2, 8)]),
            [create],
            "others do not count"
        );
    }

    #[test]
    fn one_verb_per_volume_and_refusals_are_not_repeated() {
        let mut volumes = Volumes::default();
        let soon = Time::ZERO + RETRY;
        let first = volumes.plan(Time::ZERO, &[wanted(1, 8, false, false)], &[]);
        assert_eq!(first.len(), 1);
        assert_eq!(volumes.plan(Time::ZERO, &[wanted(1, 8, false, false)], &[]), []);
        volumes.ended(Time::ZERO, first[0].0, Status::Unavailable);
        assert_eq!(
            volumes.plan(Time::ZERO, &[wanted(1, 8, false, false)], &[]),
            [],
            "not at once"
        );
        assert_eq!(volumes.next_timeout(), Some(soon));
        let second = volumes.plan(soon, &[wanted(1, 8, false, false)], &[]);
        assert_eq!(second.len(), 1, "what failed for the moment is tried again");
        assert_ne!(first[0].0, second[0].0);
        volumes.ended(soon, second[0].0, Status::OutOfSpace);
        assert_eq!(
            volumes.plan(soon, &[wanted(1, 8, false, false)], &[]),
            [],
            "what was refused is not"
        );
        assert_eq!(
            volumes.plan(soon, &[wanted(1, 4, false, false)], &[]).len(),
            1,
            "until the wish changes"
        );
    }
}
