//! Closures as transactions.

use crate::cases::{commit, keys, put};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use store::{
    ATTEMPTS_MAX, KeyRange, Read, Store, StoreError, Transaction, TransactionError, Txn, read_range,
    read_record, transaction,
};

async fn count(store: &Arc<dyn Store>, key: &str) -> u64 {
    read_record(store, key)
        .await
        .expect("there")
        .map_or(0, |versioned| versioned.record)
}

async fn increment(txn: Txn, key: &str) -> Result<u64, TransactionError> {
    let next = txn.get::<u64>(key).await?.unwrap_or(0) + 1;
    txn.put(key, &next)?;
    Ok(next)
}

pub(crate) async fn concurrent_counters_lose_nothing(store: Arc<dyn Store>) {
    let tasks = (0..4).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut answers = Vec::new();
            while answers.len() < 10 {
                match transaction(&store, |txn| increment(txn, "n")).await {
                    Ok(answer) => answers.push(answer),
                    Err(TransactionError::Contended { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            answers
        })
    });
    let mut answers = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        answers.extend(task.await.expect("it does not fail"));
    }
    answers.sort();
    assert_eq!(answers, (1..=40).collect::<Vec<u64>>());
    assert_eq!(count(&store, "n").await, 40);
}

/// Two that each see room for one more, and would together take too much.
pub(crate) async fn ranges_are_safe_from_phantoms(store: Arc<dyn Store>) {
    let tries = AtomicU32::new(0);
    let (store_, tries_) = (&store, &tries);
    let added = transaction(&store, |txn| async move {
        let present = txn.range::<u64>(KeyRange::prefix("p/")).await?;
        if tries_.fetch_add(1, Ordering::Relaxed) == 0 {
            put(store_, "p/other", "1").await;
        }
        if present.is_empty() {
            txn.put("p/mine", &1)?;
        } else {
            txn.put("full", &true)?;
        }
        Ok::<_, TransactionError>(present.is_empty())
    });
    assert!(!added.await.expect("there"));
    assert_eq!(tries.into_inner(), 2);
    assert_eq!(
        keys(&store, Read::of(KeyRange::prefix(""))).await,
        ["full", "p/other"]
    );
}

pub(crate) async fn a_deletion_in_a_range_is_a_conflict(store: Arc<dyn Store>) {
    commit(&store, Transaction::default().put("p/a", "1").put("p/b", "2")).await;
    let tries = AtomicU32::new(0);
    let (store_, tries_) = (&store, &tries);
    let sum = transaction(&store, |txn| async move {
        let sum: u64 = txn
            .range::<u64>(KeyRange::prefix("p/"))
            .await?
            .iter()
            .map(|found| found.record)
            .sum();
        if tries_.fetch_add(1, Ordering::Relaxed) == 0 {
            commit(store_, Transaction::default().delete("p/b")).await;
        }
        txn.put("sum", &sum)?;
        Ok::<u64, TransactionError>(sum)
    });
    assert_eq!(sum.await.expect("there"), 1);
    assert_eq!((tries.into_inner(), count(&store, "sum").await), (2, 1));
}

pub(crate) async fn what_was_peeked_is_not_compared(store: Arc<dyn Store>) {
    put(&store, "p/a", "1").await;
    let tries = AtomicU32::new(0);
    let (store_, tries_) = (&store, &tries);
    let seen = transaction(&store, |txn| async move {
        let one = txn.peek::<u64>("p/a").await?;
        tries_.fetch_add(1, Ordering::Relaxed);
        put(store_, "p/a", "2").await;
        put(store_, "p/b", "2").await;
        let range = txn.peek_range::<u64>(KeyRange::prefix("p/")).await?;
        txn.put("seen", &1)?;
        Ok::<_, TransactionError>((one, range.len(), range[0].record))
    });
    assert_eq!(seen.await.expect("there"), (Some(1), 1, 1), "all of one snapshot");
    assert_eq!(tries.into_inner(), 1);
}

pub(crate) async fn a_transaction_sees_its_own_writes(store: Arc<dyn Store>) {
    commit(&store, Transaction::default().put("p/a", "1").put("p/b", "2")).await;
    let seen = transaction(&store, |txn| async move {
        txn.put("p/c", &3)?;
        txn.put("p/a", &10)?;
        txn.delete("p/b");
        assert_eq!(txn.get::<u64>("p/a").await?, Some(10));
        assert_eq!(txn.get::<u64>("p/b").await?, None);
        assert!(txn.exists("p/c").await? && !txn.exists("p/d").await?);
        let range = txn.range::<u64>(KeyRange::prefix("p/")).await?;
        Ok::<Vec<_>, TransactionError>(range.into_iter().map(|found| (found.key, found.record)).collect())
    });
    assert_eq!(
        seen.await.expect("there"),
        [("p/a".into(), 10), ("p/c".into(), 3)]
    );
    let (_, present) = read_range::<u64>(&store, KeyRange::prefix("p/"))
        .await
        .expect("there");
    assert_eq!(
        present.iter().map(|found| found.record).collect::<Vec<_>>(),
        [10, 3]
    );
}

pub(crate) async fn a_transaction_reads_one_snapshot(store: Arc<dyn Store>) {
    commit(&store, Transaction::default().put("a", "0").put("b", "0")).await;
    let store_ = &store;
    let (a, b) = transaction(&store, |txn| async move {
        let a = txn.get::<u64>("a").await?;
        commit(store_, Transaction::default().put("a", "1").put("b", "1")).await;
        Ok::<_, TransactionError>((a, txn.get::<u64>("b").await?))
    })
    .await
    .expect("there");
    assert_eq!((a, b), (Some(0), Some(0)));
}

pub(crate) async fn an_error_of_the_closure_leaves_no_trace(store: Arc<dyn Store>) {
    #[derive(Debug)]
    struct Refused;
    impl From<TransactionError> for Refused {
        fn from(error: TransactionError) -> Refused {
            panic!("{error}")
        }
    }
    let refused = transaction(&store, |txn| async move {
        txn.put("a", &1)?;
        Err::<(), _>(Refused)
    });
    refused.await.expect_err("it was refused");
    assert_eq!(keys(&store, Read::of(KeyRange::prefix(""))).await, [""; 0]);
}

pub(crate) async fn endless_conflicts_end(store: Arc<dyn Store>) {
    let tries = AtomicU32::new(0);
    let (store_, tries_) = (&store, &tries);
    let ended = transaction(&store, |txn| async move {
        let next = increment(txn, "n").await?;
        tries_.fetch_add(1, Ordering::Relaxed);
        put(store_, "n", "0").await;
        Ok::<_, TransactionError>(next)
    });
    let ended = ended.await;
    assert!(
        matches!(
            ended,
            Err(TransactionError::Contended {
                attempts: ATTEMPTS_MAX
            })
        ),
        "{ended:?}"
    );
    assert_eq!((tries.into_inner(), count(&store, "n").await), (ATTEMPTS_MAX, 0));
}

pub(crate) async fn a_transaction_over_the_budget_is_refused(store: Arc<dyn Store>) {
    let limit = store.limits().operations;
    for key in 0..limit {
        put(&store, &format!("p/{key:03}"), "1").await;
    }
    let read_all = transaction(&store, |txn| async move {
        let present = txn.range::<u64>(KeyRange::prefix("p/")).await?;
        txn.put("sum", &present.len())?;
        Ok::<_, TransactionError>(())
    });
    let refused = read_all.await;
    let told = matches!(refused, Err(TransactionError::Store(StoreError::TooManyOperations { compares, .. }))
        if compares == limit + 1);
    assert!(told, "{refused:?}");
    let fits = transaction(&store, |txn| async move {
        let present = txn.range::<u64>(KeyRange::between("p/", "p/127")).await?;
        txn.put("sum", &present.len())?;
        Ok::<_, TransactionError>(present.len())
    });
    assert_eq!(fits.await.expect("127 keys and their range fit"), limit - 1);
}

pub(crate) async fn a_record_of_another_shape_is_named(store: Arc<dyn Store>) {
    put(&store, "odd", "not JSON").await;
    let refused = transaction(&store, |txn| increment(txn, "odd")).await;
    let told = matches!(&refused, Err(TransactionError::RecordUnreadable { key, .. }) if key == "odd");
    assert!(told, "{refused:?}");
}

pub(crate) async fn pages_are_of_the_snapshot(store: Arc<dyn Store>) {
    for key in 0..5 {
        put(&store, &format!("p/{key}"), "1").await;
    }
    let store_ = &store;
    let seen = transaction(&store, |txn| async move {
        let (first, more) = txn.peek_page::<u64>(KeyRange::prefix("p/"), 3).await?;
        commit(
            store_,
            Transaction::default()
                .put("p/3", "2")
                .delete("p/4")
                .put("p/5", "2"),
        )
        .await;
        let rest = KeyRange::prefix("p/").after(first[2].key.as_bytes());
        let (second, end) = txn.peek_page::<u64>(rest, 3).await?;
        let records = first
            .iter()
            .chain(&second)
            .map(|found| found.record)
            .collect::<Vec<_>>();
        Ok::<_, TransactionError>((records, more, end))
    });
    assert_eq!(seen.await.expect("there"), (vec![1; 5], true, false));
}

/// Reads that begin at the same time are of one snapshot, whoever is first.
pub(crate) async fn reads_side_by_side_are_of_one_snapshot(store: Arc<dyn Store>) {
    commit(&store, Transaction::default().put("a", "0").put("b", "0")).await;
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for round in 1..=100 {
                commit(
                    &store,
                    Transaction::default()
                        .put("a", round.to_string())
                        .put("b", round.to_string()),
                )
                .await;
            }
        }
    });
    for _ in 0..100 {
        let both = transaction(&store, |txn| async move {
            let (a, b) = futures::join!(txn.get::<u64>("a"), txn.get::<u64>("b"));
            Ok::<_, TransactionError>((a?, b?))
        });
        let (a, b) = both.await.expect("there");
        assert_eq!(a, b);
    }
    writer.await.expect("it does not fail");
}
