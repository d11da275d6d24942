//! An etcd that is away, or goes: every call ends in its time, and says what is known.

use crate::cases::{commit, entry, put};
use crate::server::Server;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{
    Etcd, EtcdOptions, KeyRange, LeaseId, Read, Store, StoreError, StoreRevision, Transaction,
    TransactionError, WatchSignal, transaction,
};

const TIMEOUT: Duration = Duration::from_millis(700);
/// The bound that the tests allow: the time-out of two requests (a commit asks first), and a slow machine.
const BOUND: Duration = Duration::from_secs(8);

async fn connect(endpoints: &[&str]) -> Arc<dyn Store> {
    let mut options = EtcdOptions::new(endpoints.iter().copied());
    (options.connect_timeout, options.request_timeout) = (TIMEOUT, TIMEOUT);
    Arc::new(Etcd::connect(options).await.expect("endpoints are addresses"))
}

/// Every call of the trait is told that the store is away, in its time.
async fn assert_away(store: &Arc<dyn Store>) {
    let begun = Instant::now();
    let mut errors = vec![
        store.read(Read::of(KeyRange::key("a"))).await.expect_err("read"),
        store
            .commit(Transaction::default().put("a", ""))
            .await
            .expect_err("commit"),
        store.grant_lease(TIMEOUT).await.expect_err("grant"),
        store.keep_lease_alive(LeaseId(1)).await.expect_err("keep alive"),
        store.revoke_lease(LeaseId(1)).await.expect_err("revoke"),
        store.compact(StoreRevision(1)).await.expect_err("compact"),
    ];
    errors.extend(store.watch(KeyRange::key("a"), StoreRevision(1)).await.err());
    for error in errors {
        assert!(matches!(error, StoreError::Away { .. }), "{error:?}");
    }
    assert!(begun.elapsed() < BOUND + 7 * TIMEOUT, "{:?}", begun.elapsed());
    let run = transaction(store, |txn| async move {
        txn.put("n", &txn.get::<u64>("n").await?)?;
        Ok::<_, TransactionError>(())
    });
    let run = run.await;
    assert!(
        matches!(run, Err(TransactionError::Store(StoreError::Away { .. }))),
        "{run:?}"
    );
}

#[tokio::test]
async fn nobody_listens() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("it is bound");
    assert_away(&connect(&[&format!("http://{closed}")]).await).await;
}

#[tokio::test]
async fn somebody_listens_and_never_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    assert_away(&connect(&[&format!("{}", silent.local_addr().expect("it is bound"))]).await).await;
}

#[tokio::test]
async fn what_is_no_address_is_refused() {
    for endpoints in [vec![], vec!["http://[bad"]] {
        let refused = Etcd::connect(EtcdOptions::new(endpoints)).await;
        assert!(matches!(refused, Err(StoreError::Unusable { .. })));
    }
}

#[tokio::test]
async fn one_member_that_is_away_does_not_matter() {
    let server = Server::start();
    let closed = TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("it is bound");
    let store = connect(&[&format!("http://{closed}"), server.endpoint()]).await;
    for value in 0..20 {
        put(&store, "a", &value.to_string()).await;
    }
    assert_eq!(entry(&store, "a").await.expect("put").version, 20);
}

#[tokio::test]
async fn a_server_that_dies_is_noticed_by_all() {
    let server = Server::start();
    let store = connect(&[server.endpoint()]).await;
    let base = put(&store, "a", "1").await;
    let mut watch = store.watch(KeyRange::key("a"), base.next()).await.expect("there");
    drop(server);
    let signal = tokio::time::timeout(BOUND, watch.next()).await.expect("in time");
    assert!(
        matches!(signal, WatchSignal::Lost { compacted: false, .. }),
        "{signal:?}"
    );
    assert_away(&store).await;
}

/// A process that stops without closing its connections: as a machine without power looks from outside.
#[tokio::test]
async fn a_server_that_falls_silent_is_away() {
    let server = Server::start();
    let store = connect(&[server.endpoint()]).await;
    put(&store, "a", "1").await;
    server.pause();
    assert_away(&store).await;
    server.resume();
    let begun = Instant::now();
    while store.read(Read::of(KeyRange::key("a"))).await.is_err() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it answers again, and is not asked"
        );
    }
    commit(&store, Transaction::default().put("a", "2")).await;
}
