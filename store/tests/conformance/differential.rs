//! The embedded store against a real etcd: the same random transactions, the same outcomes, records, histories and
//! watches. etcd is the oracle.

use crate::server;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{
    Change, Compare, Embedded, Etcd, EtcdOptions, KeyRange, Outcome, Read, Store, StoreRevision, Transaction,
    WatchSignal, Write,
};

/// A store and the revision its history begins at: revisions are compared relative to it.
struct Side {
    store: Arc<dyn Store>,
    base: u64,
}

impl Side {
    async fn new(store: Arc<dyn Store>) -> Side {
        let base = crate::cases::put(&store, "base", "").await.0;
        Side { store, base }
    }

    fn absolute(&self, transaction: &Transaction) -> Transaction {
        let absolute = |revision: StoreRevision| match revision.0 {
            0 => revision,
            relative => StoreRevision(relative + self.base),
        };
        let compare = |compare: &Compare| match compare {
            Compare::Key { key, mod_revision } => Compare::Key {
                key: key.clone(),
                mod_revision: absolute(*mod_revision),
            },
            Compare::RangeUnwritten { range, since } => Compare::RangeUnwritten {
                range: range.clone(),
                since: StoreRevision(since.0 + self.base),
            },
        };
        Transaction {
            compares: transaction.compares.iter().map(compare).collect(),
            writes: transaction.writes.clone(),
        }
    }

    async fn commit(&self, transaction: &Transaction) -> Option<u64> {
        match self
            .store
            .commit(self.absolute(transaction))
            .await
            .expect("there")
        {
            Outcome::Committed { revision } => Some(revision.0 - self.base),
            Outcome::Conflict => None,
        }
    }

    /// Everything, as of a relative revision.
    async fn contents(&self, at: u64) -> Vec<(Vec<u8>, Vec<u8>, u64, u64, u64)> {
        let read = Read::of(KeyRange::prefix("k")).at(StoreRevision(at + self.base));
        let snapshot = self.store.read(read).await.expect("kept");
        let row = |entry: store::KeyValue| {
            let (created, modified) = (
                entry.create_revision.0 - self.base,
                entry.mod_revision.0 - self.base,
            );
            (entry.key, entry.value, created, modified, entry.version)
        };
        snapshot.entries.into_iter().map(row).collect()
    }

    /// All that ever happened, up to a relative revision.
    async fn history(&self, until: u64) -> Vec<(Vec<u8>, Option<Vec<u8>>, u64)> {
        let from = StoreRevision(self.base + 1);
        let mut watch = self
            .store
            .watch(KeyRange::prefix("k"), from)
            .await
            .expect("there");
        let mut told = Vec::new();
        while told.last().is_none_or(|(_, _, at)| *at < until) {
            let signal = watch.next().await;
            let WatchSignal::Changes { changes, .. } = signal else {
                panic!("{signal:?}")
            };
            for change in changes {
                let at = change.revision().0 - self.base;
                told.push(match change {
                    Change::Put(entry) => (entry.key, Some(entry.value), at),
                    Change::Delete { key, .. } => (key, None, at),
                });
            }
        }
        told
    }
}

fn random_key(rng: &mut StdRng) -> Vec<u8> {
    format!("k{}", rng.random_range(0..6)).into_bytes()
}

/// Mostly right compares, so that about half of the transactions commit.
fn random_transaction(rng: &mut StdRng, newest: u64, present: &BTreeMap<Vec<u8>, u64>) -> Transaction {
    let mut compares = Vec::new();
    for _ in 0..rng.random_range(0..3) {
        let key = random_key(rng);
        compares.push(if rng.random_bool(0.3) {
            let since = newest.saturating_sub(rng.random_range(0..4)).max(1);
            let range = if rng.random_bool(0.5) {
                KeyRange::prefix(key)
            } else {
                KeyRange::between("k1", key)
            };
            Compare::RangeUnwritten {
                range,
                since: StoreRevision(since),
            }
        } else {
            let right = present.get(&key).copied().unwrap_or(0);
            let revision = if rng.random_bool(0.9) {
                right
            } else {
                rng.random_range(0..=newest)
            };
            Compare::Key {
                key,
                mod_revision: StoreRevision(revision),
            }
        });
    }
    let mut writes = BTreeMap::new();
    for _ in 0..rng.random_range(0..4) {
        let put = Write::Put {
            value: vec![rng.random_range(b'a'..=b'z')],
            lease: None,
        };
        writes.insert(
            random_key(rng),
            if rng.random_bool(0.6) { put } else { Write::Delete },
        );
    }
    Transaction { compares, writes }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_does_what_etcd_does() {
    let server = server::shared().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    for seed in 0..4 {
        let mut options = EtcdOptions::new([server.endpoint()]);
        options.key_prefix = format!("differential/{seed}/");
        let etcd = Side::new(Arc::new(Etcd::connect(options).await.expect("an address"))).await;
        let opened = Embedded::open(folder.path().join(seed.to_string())).expect("it is new");
        let embedded = Side::new(Arc::new(opened)).await;
        compare_sides(&etcd, &embedded, seed).await;
    }
}

async fn compare_sides(etcd: &Side, embedded: &Side, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut newest, mut conflicts, mut last_change) = (0, 0, 0);
    for step in 0..150 {
        let present = etcd.contents(newest).await;
        let present = present.into_iter().map(|row| (row.0, row.3)).collect();
        let transaction = random_transaction(&mut rng, newest, &present);
        let outcome = etcd.commit(&transaction).await;
        assert_eq!(
            embedded.commit(&transaction).await,
            outcome,
            "seed {seed} step {step} {transaction:?}"
        );
        conflicts += u32::from(outcome.is_none());
        last_change = outcome
            .filter(|revision| *revision > newest)
            .unwrap_or(last_change);
        newest = outcome.unwrap_or(newest);
        assert_eq!(
            embedded.contents(newest).await,
            etcd.contents(newest).await,
            "seed {seed} step {step}"
        );
    }
    assert!(
        (10..140).contains(&conflicts),
        "{conflicts} conflicts: the test has lost its bite"
    );
    for at in 0..newest {
        assert_eq!(
            embedded.contents(at).await,
            etcd.contents(at).await,
            "seed {seed} as of {at}"
        );
    }
    assert_eq!(
        embedded.history(last_change).await,
        etcd.history(last_change).await,
        "seed {seed}"
    );
}
