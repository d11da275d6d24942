//! Reads, commits, compares, compaction, limits.

use std::sync::Arc;
use store::{
    Compare, KeyRange, KeyValue, Limits, Outcome, Read, Store, StoreError, StoreRevision, Transaction,
};

/// Commit, which must not conflict.
pub(crate) async fn commit(store: &Arc<dyn Store>, transaction: Transaction) -> StoreRevision {
    match store.commit(transaction).await.expect("the store is there") {
        Outcome::Committed { revision } => revision,
        Outcome::Conflict => panic!("a conflict where nobody else writes"),
    }
}

pub(crate) async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> StoreRevision {
    commit(store, Transaction::default().put(key, value)).await
}

pub(crate) async fn entry(store: &Arc<dyn Store>, key: &str) -> Option<KeyValue> {
    let snapshot = store
        .read(Read::of(KeyRange::key(key)))
        .await
        .expect("the store is there");
    snapshot.entries.into_iter().next()
}

pub(crate) async fn keys(store: &Arc<dyn Store>, read: Read) -> Vec<String> {
    let snapshot = store.read(read).await.expect("the store is there");
    snapshot
        .entries
        .into_iter()
        .map(|entry| String::from_utf8(entry.key).expect("a key we wrote"))
        .collect()
}

pub(crate) async fn a_key_knows_its_history(store: Arc<dyn Store>) {
    assert_eq!(entry(&store, "a").await, None);
    let first = put(&store, "a", "one").await;
    let second = put(&store, "a", "two").await;
    assert!(second > first);
    let expected = KeyValue {
        key: b"a".to_vec(),
        value: b"two".to_vec(),
        create_revision: first,
        mod_revision: second,
        version: 2,
        lease: None,
    };
    assert_eq!(entry(&store, "a").await, Some(expected));
    let third = commit(&store, Transaction::default().delete("a")).await;
    assert_eq!(entry(&store, "a").await, None);
    let fourth = put(&store, "a", "again").await;
    assert!(third > second && fourth > third);
    let again = entry(&store, "a").await.expect("it was put");
    assert_eq!(
        (again.create_revision, again.mod_revision, again.version),
        (fourth, fourth, 1)
    );
}

pub(crate) async fn reads_are_in_order_and_limited(store: Arc<dyn Store>) {
    for key in ["p/c", "p/a", "q", "p/b", "o"] {
        put(&store, key, "").await;
    }
    let all = Read::of(KeyRange::prefix("p/"));
    assert_eq!(keys(&store, all.clone()).await, ["p/a", "p/b", "p/c"]);
    let page = store.read(all.clone().limit(2)).await.expect("there");
    assert!(page.more && page.entries.len() == 2 && page.entries[1].key == b"p/b");
    let rest = store
        .read(Read::of(KeyRange::prefix("p/").after(b"p/b")).limit(2))
        .await
        .expect("there");
    assert!(!rest.more && rest.entries.len() == 1 && rest.entries[0].key == b"p/c");
    let exact = store.read(all.clone().limit(3)).await.expect("there");
    assert!(!exact.more && exact.entries.len() == 3);
    let none = store.read(all.limit(0)).await.expect("there");
    assert!(
        none.more && none.entries.is_empty(),
        "a limit of zero shows nothing, but that there is something"
    );
}

pub(crate) async fn reads_are_as_of_their_revision(store: Arc<dyn Store>) {
    let one = commit(&store, Transaction::default().put("a", "1").put("b", "1")).await;
    let two = commit(
        &store,
        Transaction::default().put("a", "2").delete("b").put("c", "2"),
    )
    .await;
    let before = store
        .read(Read::of(KeyRange::prefix("")).at(one))
        .await
        .expect("kept");
    assert_eq!(before.revision, one);
    let seen: Vec<_> = before
        .entries
        .iter()
        .map(|entry| (&entry.key[..], &entry.value[..]))
        .collect();
    assert_eq!(seen, [(&b"a"[..], &b"1"[..]), (b"b", b"1")]);
    let now = store.read(Read::of(KeyRange::prefix(""))).await.expect("there");
    assert_eq!(now.revision, two);
    assert_eq!(
        keys(&store, Read::of(KeyRange::prefix("")).at(two)).await,
        ["a", "c"]
    );
    let future = StoreRevision(two.0 + 1000);
    let refused = store.read(Read::of(KeyRange::key("a")).at(future)).await;
    assert!(
        matches!(refused, Err(StoreError::FutureRevision { asked }) if asked == future),
        "{refused:?}"
    );
    let refused = store
        .read(Read::of(KeyRange::key("a")).at(StoreRevision(0)))
        .await;
    assert!(matches!(refused, Err(StoreError::Compacted)), "{refused:?}");
}

pub(crate) async fn a_transaction_happens_all_or_not_at_all(store: Arc<dyn Store>) {
    let one = put(&store, "a", "1").await;
    let wrong = Transaction::default()
        .when("a", one)
        .when("b", one)
        .put("a", "2")
        .put("c", "2")
        .delete("a");
    assert_eq!(store.commit(wrong).await.expect("there"), Outcome::Conflict);
    assert_eq!(keys(&store, Read::of(KeyRange::prefix(""))).await, ["a"]);
    assert_eq!(entry(&store, "a").await.expect("untouched").version, 1);
    let right = Transaction::default()
        .when("a", one)
        .when("b", StoreRevision(0))
        .delete("a")
        .put("c", "2");
    commit(&store, right).await;
    assert_eq!(keys(&store, Read::of(KeyRange::prefix(""))).await, ["c"]);
}

pub(crate) async fn a_transaction_takes_one_revision_and_none_if_it_changes_nothing(store: Arc<dyn Store>) {
    let one = put(&store, "a", "1").await;
    let two = commit(
        &store,
        Transaction::default().put("a", "2").put("b", "2").put("c", "2"),
    )
    .await;
    assert_eq!(two, one.next());
    for key in ["a", "b", "c"] {
        assert_eq!(entry(&store, key).await.expect("put").mod_revision, two);
    }
    let nothing = commit(&store, Transaction::default().when("a", two).delete("absent")).await;
    assert_eq!(nothing, two);
    assert_eq!(commit(&store, Transaction::default()).await, two);
    assert_eq!(
        put(&store, "a", "2").await,
        two.next(),
        "the same value again is a change"
    );
}

pub(crate) async fn key_compares_tell_absent_present_and_rewritten_apart(store: Arc<dyn Store>) {
    let absent = |key: &str| {
        Transaction::default()
            .when(key, StoreRevision(0))
            .put("witness", "")
    };
    commit(&store, absent("a")).await;
    let one = put(&store, "a", "1").await;
    assert_eq!(store.commit(absent("a")).await.expect("there"), Outcome::Conflict);
    let two = put(&store, "a", "1").await;
    let stale = Transaction::default().when("a", one).put("witness", "");
    assert_eq!(store.commit(stale).await.expect("there"), Outcome::Conflict);
    commit(&store, Transaction::default().when("a", two).delete("a")).await;
    commit(&store, absent("a")).await;
}

pub(crate) async fn range_compares_see_new_and_rewritten_keys_only(store: Arc<dyn Store>) {
    let range = KeyRange::prefix("p/");
    let unwritten = |since: StoreRevision| Transaction {
        compares: vec![Compare::RangeUnwritten {
            range: range.clone(),
            since,
        }],
        ..Transaction::default().put("witness", "")
    };
    let zero = put(&store, "q", "").await;
    commit(&store, unwritten(zero)).await; // An empty range was never written.
    let one = put(&store, "p/a", "").await;
    assert_eq!(
        store.commit(unwritten(zero)).await.expect("there"),
        Outcome::Conflict
    );
    commit(&store, unwritten(one)).await;
    put(&store, "p", "outside").await;
    put(&store, "p0", "outside").await;
    commit(&store, unwritten(one)).await;
    put(&store, "p/a", "rewritten").await;
    assert_eq!(
        store.commit(unwritten(one)).await.expect("there"),
        Outcome::Conflict
    );
    commit(&store, Transaction::default().delete("p/a")).await;
    commit(&store, unwritten(one)).await; // As documented: a deletion leaves no trace in the range.
}

pub(crate) async fn odd_keys_and_ranges_are_kept_apart(store: Arc<dyn Store>) {
    let odd: [&[u8]; 6] = [b"a", b"a\0", b"a\0\0", b"a\xff", b"a\xff\xff", b"b"];
    for key in odd {
        commit(&store, Transaction::default().put(key, "")).await;
    }
    let found = async |range: KeyRange| {
        let snapshot = store.read(Read::of(range)).await.expect("there");
        snapshot
            .entries
            .into_iter()
            .map(|entry| entry.key)
            .collect::<Vec<_>>()
    };
    assert_eq!(found(KeyRange::prefix("")).await, odd);
    assert_eq!(found(KeyRange::key("a")).await, odd[..1]);
    assert_eq!(found(KeyRange::prefix("a")).await, odd[..5]);
    assert_eq!(found(KeyRange::prefix(b"a\xff")).await, odd[3..5]);
    assert_eq!(found(KeyRange::between("a\0\0", "b")).await, odd[2..5]);
    assert_eq!(found(KeyRange::between("b", "a")).await, [[0_u8; 0]; 0]);
    assert_eq!(found(KeyRange::between("b", "b")).await, [[0_u8; 0]; 0]);
    let empty = Compare::RangeUnwritten {
        range: KeyRange::between("b", "a"),
        since: StoreRevision(1),
    };
    commit(
        &store,
        Transaction {
            compares: vec![empty],
            ..Transaction::default().put("w", "")
        },
    )
    .await;
}

pub(crate) async fn what_is_compacted_is_refused(store: Arc<dyn Store>) {
    let one = put(&store, "a", "1").await;
    let two = put(&store, "a", "2").await;
    commit(&store, Transaction::default().put("gone", "")).await;
    let four = commit(&store, Transaction::default().delete("gone")).await;
    let five = put(&store, "a", "5").await;
    store.compact(four).await.expect("it has happened");
    for forgotten in [one, two] {
        let refused = store.read(Read::of(KeyRange::key("a")).at(forgotten)).await;
        assert!(matches!(refused, Err(StoreError::Compacted)), "{refused:?}");
    }
    let kept = store
        .read(Read::of(KeyRange::prefix("")).at(four))
        .await
        .expect("kept");
    assert_eq!((kept.entries.len(), &kept.entries[0].value[..]), (1, &b"2"[..]));
    assert_eq!(entry(&store, "a").await.expect("present").mod_revision, five);
    assert!(matches!(store.compact(two).await, Err(StoreError::Compacted)));
    assert!(matches!(store.compact(four).await, Err(StoreError::Compacted)));
    let future = StoreRevision(five.0 + 1000);
    let refused = store.compact(future).await;
    assert!(
        matches!(refused, Err(StoreError::FutureRevision { asked }) if asked == future),
        "{refused:?}"
    );
}

pub(crate) async fn what_is_too_large_is_refused_and_what_fits_is_not(store: Arc<dyn Store>) {
    let Limits { operations, bytes } = store.limits();
    let many = |compares: usize, writes: usize| {
        let mut transaction = Transaction::default();
        for index in 0..compares {
            transaction = transaction.when(format!("absent/{index}"), StoreRevision(0));
        }
        for index in 0..writes {
            transaction = transaction.put(format!("many/{index}"), "v");
        }
        transaction
    };
    commit(&store, many(operations, operations)).await;
    for (compares, writes) in [(operations + 1, 1), (0, operations + 1)] {
        let refused = store.commit(many(compares, writes)).await;
        let told = matches!(&refused, Err(StoreError::TooManyOperations { compares: c, writes: w, limit })
            if (*c, *w, *limit) == (compares, writes, operations));
        assert!(told, "{refused:?}");
    }
    commit(&store, Transaction::default().put("large", vec![b'x'; bytes - 5])).await;
    let refused = store
        .commit(Transaction::default().put("large", vec![b'x'; bytes - 4]))
        .await;
    let told = matches!(refused, Err(StoreError::TooManyBytes { bytes: b, limit }) if b == bytes + 1 && limit == bytes);
    assert!(told, "{refused:?}");
}
