//! One suite over both backs, and over what simulations use: what holds for etcd holds for the embedded store and for the one in memory.
//! The etcd is a real server, started here.
//!
//! Deliberate bugs this suite has been seen to catch, each tried by hand:
//! - a range compare that is not made at all (phantoms), or made on equality instead of "not after";
//! - a deleted key of a range that is not compared;
//! - a version that does not start anew after a deletion; a lease that a put without lease leaves on the key;
//! - a watch that starts one revision late, or tells of a key outside its range;
//! - a limit that leaves `more` out; a read at a revision that answers the newest;
//! - a commit that answers before the disk has it (`durable.rs`, killed in the middle).

mod away;
mod cases;
mod differential;
mod leases;
mod server;
mod transactions;
mod watches;

use std::future::Future;
use std::sync::Arc;
use store::{Embedded, Etcd, EtcdOptions, Memory, Store};

/// Every case on a fresh embedded store.
async fn on_embedded<R: Future<Output = ()>>(case: impl FnOnce(Arc<dyn Store>) -> R) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store: Arc<dyn Store> = Arc::new(Embedded::open(folder.path()).expect("a new store opens"));
    case(store).await;
}

/// Every case on the one etcd, one after the other, each under a prefix of its own.
async fn on_etcd<R: Future<Output = ()>>(name: &str, case: impl FnOnce(Arc<dyn Store>) -> R) {
    let server = server::shared().await;
    let mut options = EtcdOptions::new([server.endpoint()]);
    options.key_prefix = format!("test/{name}/");
    let store: Arc<dyn Store> = Arc::new(Etcd::connect(options).await.expect("endpoints are addresses"));
    case(store).await;
}

macro_rules! conformance {
    ($($module:ident: $($case:ident)*;)*) => {
        mod embedded {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::on_embedded(super::$module::$case).await;
            })*)*
        }
        mod memory {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$module::$case(super::Arc::new(super::Memory::default())).await;
            })*)*
        }
        mod etcd {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::on_etcd(stringify!($case), super::$module::$case).await;
            })*)*
        }
    };
}

conformance! {
    cases:
        a_key_knows_its_history
        reads_are_in_order_and_limited
        reads_are_as_of_their_revision
        a_transaction_happens_all_or_not_at_all
        a_transaction_takes_one_revision_and_none_if_it_changes_nothing
        key_compares_tell_absent_present_and_rewritten_apart
        range_compares_see_new_and_rewritten_keys_only
        odd_keys_and_ranges_are_kept_apart
        what_is_compacted_is_refused
        what_is_too_large_is_refused_and_what_fits_is_not;
    watches:
        a_watch_replays_and_follows
        a_watch_never_splits_a_transaction
        a_watch_waits_for_the_future
        a_watch_of_the_forgotten_is_lost
        a_dropped_wait_loses_nothing;
    leases:
        the_end_of_a_lease_deletes_its_keys_at_once
        a_lease_that_nobody_keeps_ends
        a_lease_that_is_kept_goes_on
        a_put_without_lease_frees_the_key
        an_ended_lease_is_refused;
    transactions:
        concurrent_counters_lose_nothing
        ranges_are_safe_from_phantoms
        a_deletion_in_a_range_is_a_conflict
        what_was_peeked_is_not_compared
        a_transaction_sees_its_own_writes
        a_transaction_reads_one_snapshot
        pages_are_of_the_snapshot
        reads_side_by_side_are_of_one_snapshot
        an_error_of_the_closure_leaves_no_trace
        endless_conflicts_end
        a_transaction_over_the_budget_is_refused
        a_record_of_another_shape_is_named;
}
