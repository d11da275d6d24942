//! Which workers there are, and who does what: registration under a lease, and rendezvous hashing over the registered.
//!
//! There is no leader and no lock. A worker that thinks something is its own while another thinks so too does harm to
//! nobody; one that nobody thinks their own is picked up when the lease of whoever is missing ends.

use crate::Shared;
use cluster::status::WorkerRecord;
use cluster::{WorkerId, key};
use std::collections::BTreeSet;
use store::{KeyRange, LeaseId, Read, StoreError, Transaction};
use uuid::Uuid;

/// Whether something is for this worker: it is the one of all with the highest hash. A worker counts itself, registered
/// or not.
pub(crate) fn is_mine(own: WorkerId, workers: &BTreeSet<WorkerId>, what: Uuid) -> bool {
    let rank = |worker: WorkerId| (hash(worker.0, what), worker);
    workers.iter().all(|other| rank(*other) <= rank(own))
}

/// Evenly spread and the same in every process (the finalizer of splitmix64, over both ids).
fn hash(worker: Uuid, what: Uuid) -> u64 {
    let (a, b) = worker.as_u64_pair();
    let (c, d) = what.as_u64_pair();
    [a, b, c, d].into_iter().fold(0, |state, part| {
        let mut mixed = (state ^ part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    })
}

/// Keep this worker registered for ever: register, renew, and register anew when the lease was lost.
pub(crate) async fn keep_registered(shared: &Shared) {
    let renew_every = shared.options.lease_ttl / 3;
    loop {
        match register(shared).await {
            Ok(lease) => renew_until_lost(shared, lease, renew_every).await,
            Err(error) => {
                tracing::warn!(%error, "this worker is not registered");
                tokio::time::sleep(shared.options.failure_pause).await;
            }
        }
    }
}

async fn register(shared: &Shared) -> Result<LeaseId, StoreError> {
    let lease = shared.store.grant_lease(shared.options.lease_ttl).await?.id;
    let record = WorkerRecord {
        id: shared.id,
        started_ms: shared.store.outside().now_ms(),
    };
    let value = serde_json::to_vec(&record).expect("a worker's record is plain JSON");
    shared
        .store
        .commit(Transaction::default().put_leased(key::worker(shared.id), value, lease))
        .await?;
    Ok(lease)
}

async fn renew_until_lost(shared: &Shared, lease: LeaseId, every: std::time::Duration) {
    loop {
        tokio::time::sleep(every).await;
        match shared.store.keep_lease_alive(lease).await {
            Err(StoreError::LeaseGone) => return,
            Err(error) => tracing::warn!(%error, "the worker's lease was not renewed"),
            Ok(()) if is_registered(shared, lease).await => {}
            Ok(()) => return,
        }
    }
}

/// Whether the record is there, and ends with this lease and no other: an earlier registration, whose outcome was not known, may have happened
/// after this one, and takes the record with it when its own lease ends.
async fn is_registered(shared: &Shared, lease: LeaseId) -> bool {
    let read = Read::of(KeyRange::key(key::worker(shared.id)));
    match shared.store.read(read).await {
        Ok(found) => found.entries.iter().any(|entry| entry.lease == Some(lease)),
        Err(error) => {
            tracing::debug!(%error, "whether this worker is registered is seen next time");
            true
        }
    }
}

/// Strike off who died before this worker started. If that fails their leases end all the same.
pub(crate) async fn strike_off_others(shared: &Shared) {
    let struck = async {
        let found = shared
            .store
            .read(Read::of(KeyRange::prefix(key::WORKERS)))
            .await?;
        for entry in found.entries {
            shared
                .store
                .commit(Transaction::default().delete(entry.key))
                .await?;
        }
        Ok::<_, StoreError>(())
    };
    if let Err(error) = struck.await {
        tracing::warn!(%error, "workers that died keep their share until their leases end");
    }
}

/// Leave at once rather than when the lease ends.
pub(crate) async fn sign_off(shared: &Shared) {
    let gone = Transaction::default().delete(key::worker(shared.id));
    if let Err(error) = shared.store.commit(gone).await {
        tracing::debug!(%error, "the worker's registration ends with its lease");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;
    use store::Store;

    fn ids(from: u128, count: u128) -> Vec<Uuid> {
        (from..from + count).map(Uuid::from_u128).collect()
    }

    fn owner(workers: &BTreeSet<WorkerId>, what: Uuid) -> WorkerId {
        let owners: Vec<_> = workers
            .iter()
            .filter(|own| is_mine(**own, workers, what))
            .collect();
        assert_eq!(owners.len(), 1, "exactly one of those that know each other");
        *owners[0]
    }

    #[test]
    fn work_is_spread_and_only_that_of_the_dead_moves() {
        let workers: BTreeSet<_> = ids(1, 4).into_iter().map(WorkerId).collect();
        let left: BTreeSet<_> = workers.iter().copied().skip(1).collect();
        let dead = *workers.first().unwrap();
        let mut load = std::collections::BTreeMap::new();
        for what in ids(1000, 400) {
            let before = owner(&workers, what);
            *load.entry(before).or_insert(0) += 1;
            assert!(before == dead || owner(&left, what) == before);
        }
        assert!(
            load.len() == 4 && load.values().all(|n| (60..150).contains(n)),
            "{load:?}"
        );
    }

    struct Nobody;

    impl crate::Agents for Nobody {
        fn status(
            &self,
            _: crate::Callee,
            _: u64,
            _: Duration,
        ) -> store::BoxFuture<'_, Result<control::agent::StatusAnswer, crate::CallAgent>> {
            Box::pin(std::future::pending())
        }
        fn put_config(
            &self,
            _: crate::Callee,
            _: control::agent::NodeConfig,
        ) -> store::BoxFuture<'_, Result<control::agent::StatusAnswer, crate::CallAgent>> {
            Box::pin(std::future::pending())
        }
    }

    /// Seen in the simulated control plane: a registration that was given up happens late, under a lease that nobody renews.
    #[tokio::test(start_paused = true)]
    async fn a_late_registration_under_an_older_lease_is_made_good() {
        let store: Arc<dyn Store> = Arc::new(store::Memory::default());
        let shared = Arc::new(Shared {
            id: WorkerId(Uuid::from_u128(7)),
            store: store.clone(),
            options: crate::Options::default(),
            agents: Arc::new(Nobody),
        });
        let older = store.grant_lease(shared.options.lease_ttl).await.unwrap().id;
        let registered = shared.clone();
        let kept = tokio::spawn(async move { keep_registered(&registered).await });
        tokio::time::sleep(Duration::from_millis(10)).await;
        let late = Transaction::default().put_leased(key::worker(shared.id), "{}", older);
        store.commit(late).await.unwrap();
        tokio::time::sleep(3 * shared.options.lease_ttl).await;
        let read = Read::of(KeyRange::key(key::worker(shared.id)));
        assert_eq!(
            store.read(read).await.unwrap().entries.len(),
            1,
            "it is registered again"
        );
        kept.abort();
    }

    #[test]
    fn a_worker_that_nobody_knows_yet_does_what_it_would_win() {
        assert!(is_mine(
            WorkerId(Uuid::from_u128(1)),
            &BTreeSet::new(),
            Uuid::nil()
        ));
    }
}
