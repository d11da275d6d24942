//! The embedded store over the life of a process: what was answered is there, what is damaged is refused.
//!
//! Deliberate bugs this has been seen to catch: an answer before the disk commit; a commit without durability; leases
//! that are not kept on disk (their keys would stay for ever); a watch from before the restart that is not lost.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Embedded, KeyRange, Outcome, Read, Store, StoreError, StoreRevision, Transaction, WatchSignal};

async fn put(store: &dyn Store, key: &str, value: &str) -> StoreRevision {
    match store
        .commit(Transaction::default().put(key, value))
        .await
        .expect("there")
    {
        Outcome::Committed { revision } => revision,
        Outcome::Conflict => panic!("it compared nothing"),
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Embedded::open(folder.path()).expect("new");
    put(&store, "a", "1").await;
    put(&store, "b", "1").await;
    put(&store, "a", "2").await;
    store
        .commit(Transaction::default().delete("b"))
        .await
        .expect("there");
    let before = store.read(Read::of(KeyRange::prefix(""))).await.expect("there");
    drop(store);
    let store = Embedded::open(folder.path()).expect("it was closed");
    assert_eq!(
        store.read(Read::of(KeyRange::prefix(""))).await.expect("there"),
        before
    );
    assert_eq!(put(&store, "c", "").await, before.revision.next());
}

#[tokio::test]
async fn the_past_is_forgotten_by_a_restart_and_the_future_is_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Embedded::open(folder.path()).expect("new");
    let old = put(&store, "a", "1").await;
    let last = put(&store, "a", "2").await;
    let mut watch = store
        .watch(KeyRange::prefix(""), last.next())
        .await
        .expect("there");
    drop(store);
    assert!(matches!(
        watch.next().await,
        WatchSignal::Lost { compacted: false, .. }
    ));
    let store = Embedded::open(folder.path()).expect("it was closed");
    let refused = store.read(Read::of(KeyRange::key("a")).at(old)).await;
    assert!(matches!(refused, Err(StoreError::Compacted)));
    let mut watch = store
        .watch(KeyRange::prefix(""), last)
        .await
        .expect("it is told by a signal");
    assert!(matches!(
        watch.next().await,
        WatchSignal::Lost { compacted: true, .. }
    ));
    let mut watch = store
        .watch(KeyRange::prefix(""), last.next())
        .await
        .expect("there");
    let new = put(&store, "a", "3").await;
    assert!(matches!(watch.next().await, WatchSignal::Changes { revision, .. } if revision == new));
}

#[tokio::test]
async fn leases_of_an_earlier_life_end_after_their_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Embedded::open(folder.path()).expect("new");
    let short = store.grant_lease(Duration::from_secs(1)).await.expect("there");
    let long = store.grant_lease(Duration::from_secs(600)).await.expect("there");
    let leased = Transaction::default()
        .put_leased("short", "", short.id)
        .put_leased("long", "", long.id);
    store.commit(leased).await.expect("there");
    drop(store);
    let (opened, store) = (
        Instant::now(),
        Embedded::open(folder.path()).expect("it was closed"),
    );
    let revision = store
        .read(Read::of(KeyRange::prefix("")))
        .await
        .expect("there")
        .revision;
    let mut watch = store
        .watch(KeyRange::prefix(""), revision.next())
        .await
        .expect("there");
    let signal = tokio::time::timeout(Duration::from_secs(20), watch.next())
        .await
        .expect("in time");
    let WatchSignal::Changes { changes, .. } = signal else {
        panic!("{signal:?}")
    };
    assert_eq!((changes.len(), changes[0].key()), (1, &b"short"[..]));
    assert!(opened.elapsed() >= short.ttl, "its time starts anew");
    store.keep_lease_alive(long.id).await.expect("it runs on");
    store.revoke_lease(long.id).await.expect("it runs on");
    drop(store);
    let store = Embedded::open(folder.path()).expect("it was closed");
    let left = store.read(Read::of(KeyRange::prefix(""))).await.expect("there");
    assert_eq!(left.entries, []);
    assert!(matches!(
        store.keep_lease_alive(long.id).await,
        Err(StoreError::LeaseGone)
    ));
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let _first = Embedded::open(folder.path()).expect("new");
    let refused = Embedded::open(folder.path()).err().expect("it is in use");
    assert!(
        matches!(&refused, StoreError::Unusable { reason } if reason.contains("another process")),
        "{refused}"
    );
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("store.redb");
    let garbage = vec![0x5a; 64 << 10];
    std::fs::write(&file, &garbage).expect("writable");
    let refused = Embedded::open(folder.path()).err().expect("it is no store");
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains("store.redb"), "{refused}");
    assert_eq!(std::fs::read(&file).expect("readable"), garbage);
    let under_a_file = Embedded::open(file.join("below"))
        .err()
        .expect("no folder can be there");
    assert!(
        matches!(under_a_file, StoreError::Unusable { .. }),
        "{under_a_file}"
    );
}

const CHILD: &str = "TRESTLE_TEST_STORE_FOLDER";

/// Runs itself as a process that commits, from several tasks, and tells every answer; and kills it in the middle.
#[test]
fn what_was_answered_survives_a_kill() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return commit_until_killed(folder.as_ref());
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut answered = std::collections::BTreeMap::new();
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().expect("it runs"))
            .args(["--exact", "what_was_answered_survives_a_kill", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be run again");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        for line in lines.map_while(Result::ok) {
            if let Some((key, value)) = line
                .strip_prefix("answered ")
                .and_then(|rest| rest.split_once('='))
            {
                answered.insert(key.to_string(), value.parse::<u64>().expect("a number"));
            }
            if answered.values().sum::<u64>() > 150 * round {
                break;
            }
        }
        child.kill().expect("it runs until then");
        child.wait().expect("it is ours");
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let store = Embedded::open(folder.path()).expect("its owner is dead");
    let all = runtime
        .block_on(store.read(Read::of(KeyRange::prefix(""))))
        .expect("there");
    assert_eq!(answered.len(), 4);
    for (key, told) in answered {
        let entry = all.entries.iter().find(|entry| entry.key == key.as_bytes());
        let entry = entry.unwrap_or_else(|| panic!("{key} was answered to be {told} and is not there"));
        let value = String::from_utf8_lossy(&entry.value)
            .parse::<u64>()
            .expect("whole");
        assert!(value >= told, "{key} was answered to be {told} and is {value}");
        assert_eq!(entry.version, value, "every commit exactly once");
    }
}

fn commit_until_killed(folder: &std::path::Path) {
    let store: Arc<dyn Store> = Arc::new(Embedded::open(folder).expect("no other process has it"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let count = |key: &'static str, store: Arc<dyn Store>| async move {
            loop {
                let present = store
                    .read(Read::of(KeyRange::key(key)))
                    .await
                    .expect("there")
                    .entries;
                let next = present.first().map_or(0, |entry| entry.version) + 1;
                put(&*store, key, &next.to_string()).await;
                writeln!(std::io::stdout().lock(), "\nanswered {key}={next}").expect("somebody reads");
            }
        };
        let tasks = ["a", "b", "c", "d"].map(|key| tokio::spawn(count(key, store.clone())));
        // It ends only by a kill.
        let _ = futures::future::join_all(tasks).await;
    });
}
