//! Leases.

use crate::cases::{commit, entry, keys, put};
use crate::watches::changes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{KeyRange, LeaseId, Read, Store, StoreError, Transaction};

pub(crate) async fn the_end_of_a_lease_deletes_its_keys_at_once(store: Arc<dyn Store>) {
    let lease = store.grant_lease(Duration::from_secs(60)).await.expect("there");
    assert!(lease.ttl >= Duration::from_secs(60));
    let base = put(&store, "stays", "").await;
    commit(
        &store,
        Transaction::default()
            .put_leased("l/a", "", lease.id)
            .put_leased("l/b", "", lease.id),
    )
    .await;
    assert_eq!(entry(&store, "l/a").await.expect("put").lease, Some(lease.id));
    let mut watch = store
        .watch(KeyRange::prefix(""), base.next())
        .await
        .expect("there");
    store.revoke_lease(lease.id).await.expect("it runs");
    assert_eq!(keys(&store, Read::of(KeyRange::prefix(""))).await, ["stays"]);
    let mut told = changes(&mut watch, base, 4).await;
    told[2..].sort();
    assert_eq!(
        told,
        ["+l/a=@1", "+l/b=@1", "-l/a@2", "-l/b@2"],
        "one transaction deletes all"
    );
}

pub(crate) async fn a_lease_that_nobody_keeps_ends(store: Arc<dyn Store>) {
    let asked = Instant::now();
    let lease = store.grant_lease(Duration::from_secs(1)).await.expect("there");
    let base = commit(&store, Transaction::default().put_leased("l", "", lease.id)).await;
    let mut watch = store.watch(KeyRange::key("l"), base.next()).await.expect("there");
    assert_eq!(changes(&mut watch, base, 1).await, ["-l@1"]);
    assert!(asked.elapsed() >= lease.ttl, "not before its time");
    assert!(matches!(
        store.keep_lease_alive(lease.id).await,
        Err(StoreError::LeaseGone)
    ));
}

pub(crate) async fn a_lease_that_is_kept_goes_on(store: Arc<dyn Store>) {
    let lease = store.grant_lease(Duration::from_secs(3)).await.expect("there");
    let put_at = commit(&store, Transaction::default().put_leased("l", "", lease.id)).await;
    let until = Instant::now() + lease.ttl + Duration::from_secs(2);
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    while Instant::now() < until {
        tick.tick().await;
        store
            .keep_lease_alive(lease.id)
            .await
            .expect("it was kept in time");
    }
    assert_eq!(entry(&store, "l").await.expect("kept").mod_revision, put_at);
}

pub(crate) async fn a_put_without_lease_frees_the_key(store: Arc<dyn Store>) {
    let lease = store.grant_lease(Duration::from_secs(60)).await.expect("there");
    let other = store.grant_lease(Duration::from_secs(60)).await.expect("there");
    assert_ne!(lease.id, other.id);
    let leased = ["freed", "moved", "kept", "anew"];
    commit(
        &store,
        leased
            .iter()
            .fold(Transaction::default(), |t, key| t.put_leased(*key, "", lease.id)),
    )
    .await;
    put(&store, "freed", "").await;
    commit(&store, Transaction::default().put_leased("moved", "", other.id)).await;
    commit(&store, Transaction::default().delete("anew")).await;
    put(&store, "anew", "").await;
    assert_eq!(entry(&store, "freed").await.expect("put").lease, None);
    store.revoke_lease(lease.id).await.expect("it runs");
    assert_eq!(
        keys(&store, Read::of(KeyRange::prefix(""))).await,
        ["anew", "freed", "moved"]
    );
    store.revoke_lease(other.id).await.expect("it runs");
    assert_eq!(
        keys(&store, Read::of(KeyRange::prefix(""))).await,
        ["anew", "freed"]
    );
}

pub(crate) async fn an_ended_lease_is_refused(store: Arc<dyn Store>) {
    let lease = store.grant_lease(Duration::from_secs(60)).await.expect("there");
    store.revoke_lease(lease.id).await.expect("it runs");
    for id in [lease.id, LeaseId(12345)] {
        assert!(matches!(store.revoke_lease(id).await, Err(StoreError::LeaseGone)));
        assert!(matches!(
            store.keep_lease_alive(id).await,
            Err(StoreError::LeaseGone)
        ));
        let refused = store
            .commit(Transaction::default().put("a", "").put_leased("l", "", id))
            .await;
        assert!(matches!(refused, Err(StoreError::LeaseGone)), "{refused:?}");
    }
    assert_eq!(
        keys(&store, Read::of(KeyRange::prefix(""))).await,
        [""; 0],
        "nothing of a refused transaction"
    );
}
