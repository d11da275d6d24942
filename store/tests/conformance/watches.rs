//! Watches.

use crate::cases::{commit, put};
use std::sync::Arc;
use std::time::Duration;
use store::{Change, KeyRange, Store, StoreRevision, Transaction, Watch, WatchSignal};

/// How long a signal that must come may take; a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// The next `count` changes, as text: `+key=value@revision`, `-key@revision`, relative to a revision.
pub(crate) async fn changes(watch: &mut Watch, base: StoreRevision, count: usize) -> Vec<String> {
    let mut told = Vec::new();
    while told.len() < count {
        let signal = tokio::time::timeout(PATIENCE, watch.next())
            .await
            .expect("a signal in time");
        let WatchSignal::Changes { revision, changes } = signal else {
            panic!("{signal:?}")
        };
        assert_eq!(changes.last().map(Change::revision), Some(revision));
        told.extend(changes.iter().map(|change| describe(change, base)));
    }
    told
}

fn describe(change: &Change, base: StoreRevision) -> String {
    let at = change.revision().0 - base.0;
    let key = String::from_utf8_lossy(change.key()).into_owned();
    match change {
        Change::Put(entry) => format!("+{key}={}@{at}", String::from_utf8_lossy(&entry.value)),
        Change::Delete { .. } => format!("-{key}@{at}"),
    }
}

pub(crate) async fn a_watch_replays_and_follows(store: Arc<dyn Store>) {
    let base = put(&store, "p/a", "0").await;
    put(&store, "p/a", "1").await;
    put(&store, "q", "outside").await;
    commit(&store, Transaction::default().delete("p/a")).await;
    let mut all = store.watch(KeyRange::prefix("p/"), base).await.expect("there");
    assert_eq!(
        changes(&mut all, base, 3).await,
        ["+p/a=0@0", "+p/a=1@1", "-p/a@3"]
    );
    let mut later = store
        .watch(KeyRange::prefix("p/"), base.next())
        .await
        .expect("there");
    assert_eq!(
        changes(&mut later, base, 2).await,
        ["+p/a=1@1", "-p/a@3"],
        "from exactly there on"
    );
    let (writer, other) = (store.clone(), put(&store, "p", "outside").await);
    let writing = tokio::spawn(async move { put(&writer, "p/b", "2").await });
    for watch in [&mut all, &mut later] {
        assert_eq!(changes(watch, base, 1).await, ["+p/b=2@5"]);
    }
    assert_eq!(writing.await.expect("it does not fail"), other.next());
    let mut one = store.watch(KeyRange::key("p/b"), base).await.expect("there");
    put(&store, "p/b\0", "outside").await;
    put(&store, "p/b", "3").await;
    assert_eq!(changes(&mut one, base, 2).await, ["+p/b=2@5", "+p/b=3@7"]);
}

pub(crate) async fn a_watch_never_splits_a_transaction(store: Arc<dyn Store>) {
    let base = put(&store, "start", "").await;
    let mut watch = store
        .watch(KeyRange::prefix("n/"), base.next())
        .await
        .expect("there");
    for round in 0..20 {
        let writes = (0..50).fold(Transaction::default(), |t, n| {
            t.put(format!("n/{n:02}"), round.to_string())
        });
        commit(&store, writes).await;
    }
    let mut told = 0;
    while told < 1000 {
        let signal = tokio::time::timeout(PATIENCE, watch.next())
            .await
            .expect("a signal in time");
        let WatchSignal::Changes { changes, .. } = signal else {
            panic!("{signal:?}")
        };
        assert_eq!(changes.len() % 50, 0, "part of a transaction");
        for change in changes {
            assert_eq!(change.revision().0, base.0 + 1 + told / 50);
            told += 1;
        }
    }
}

pub(crate) async fn a_watch_waits_for_the_future(store: Arc<dyn Store>) {
    let base = put(&store, "a", "0").await;
    let mut watch = store
        .watch(KeyRange::key("a"), StoreRevision(base.0 + 3))
        .await
        .expect("there");
    for value in ["1", "2", "3", "4"] {
        put(&store, "a", value).await;
    }
    assert_eq!(changes(&mut watch, base, 2).await, ["+a=3@3", "+a=4@4"]);
}

pub(crate) async fn a_watch_of_the_forgotten_is_lost(store: Arc<dyn Store>) {
    let base = put(&store, "a", "0").await;
    for value in ["1", "2", "3"] {
        put(&store, "a", value).await;
    }
    store
        .compact(StoreRevision(base.0 + 2))
        .await
        .expect("it has happened");
    let mut watch = store
        .watch(KeyRange::key("a"), base)
        .await
        .expect("it is told by a signal");
    for _ in 0..2 {
        let signal = tokio::time::timeout(PATIENCE, watch.next())
            .await
            .expect("a signal in time");
        assert!(
            matches!(&signal, WatchSignal::Lost { compacted: true, .. }),
            "{signal:?}"
        );
    }
    let mut kept = store
        .watch(KeyRange::key("a"), StoreRevision(base.0 + 2))
        .await
        .expect("there");
    assert_eq!(
        changes(&mut kept, base, 2).await,
        ["+a=2@2", "+a=3@3"],
        "the oldest that is kept"
    );
}

pub(crate) async fn a_dropped_wait_loses_nothing(store: Arc<dyn Store>) {
    let base = put(&store, "a", "0").await;
    let mut watch = store.watch(KeyRange::key("a"), base.next()).await.expect("there");
    let mut told = Vec::new();
    for round in 1..=20 {
        // Polled once and dropped, before and while the change arrives.
        let early = futures::FutureExt::now_or_never(watch.next());
        assert!(early.is_none(), "{early:?}");
        put(&store, "a", &round.to_string()).await;
        if let Some(WatchSignal::Changes { changes, .. }) = futures::FutureExt::now_or_never(watch.next()) {
            told.extend(changes.iter().map(|change| describe(change, base)));
        } else {
            told.extend(changes(&mut watch, base, 1).await);
        }
    }
    let expected: Vec<_> = (1..=20).map(|round| format!("+a={round}@{round}")).collect();
    assert_eq!(told, expected);
}
