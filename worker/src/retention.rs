//! Keeps what only grows bounded: the oldest events and ended operations are removed. One worker's chore at a time.

use crate::{Shared, told};
use cluster::key;
use cluster::operation::{Operation, OperationState};
use std::sync::Arc;
use std::time::Duration;
use store::{KeyRange, Read, StoreError, Transaction, TransactionError};
use uuid::Uuid;

/// Whose turn it is, is hashed from this.
pub(crate) const CHORE: Uuid = Uuid::from_u128(0x7265_7465_6e74_696f_6e00);
/// How often.
const EVERY: Duration = Duration::from_secs(60);
/// How many keys are removed at once; what is left is removed with the next round.
const BATCH: usize = 100;

/// Sweep for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        if let Err(error) = sweep(&shared).await {
            tracing::warn!(error = told(&error), "old events and operations were not removed");
        }
        tokio::time::sleep(EVERY).await;
    }
}

pub(crate) async fn sweep(shared: &Shared) -> Result<(), TransactionError> {
    while sweep_events(shared).await? {}
    sweep_operations(shared).await
}

/// Remove up to a batch of the oldest events; whether there may be more.
async fn sweep_events(shared: &Shared) -> Result<bool, TransactionError> {
    let max = shared.options.events_max;
    let read = Read::of(KeyRange::prefix(key::EVENTS)).limit(max + BATCH);
    let found = shared.store.read(read).await?.entries;
    let surplus = found.len().saturating_sub(max);
    remove(shared, found.into_iter().take(surplus).map(|entry| entry.key)).await?;
    Ok(surplus == BATCH)
}

async fn sweep_operations(shared: &Shared) -> Result<(), TransactionError> {
    let (_, all) = store::read_range::<Operation>(&shared.store, KeyRange::prefix(key::OPERATIONS)).await?;
    let mut ended: Vec<(u64, String)> = all
        .into_iter()
        .filter_map(|operation| match operation.record.state {
            OperationState::Done { at_ms } | OperationState::Failed { at_ms, .. } => {
                Some((at_ms, operation.key))
            }
            OperationState::Running { .. } => None,
        })
        .collect();
    ended.sort();
    let surplus = ended.len().saturating_sub(shared.options.operations_max);
    let oldest: Vec<Vec<u8>> = ended
        .into_iter()
        .take(surplus)
        .map(|(_, key)| key.into_bytes())
        .collect();
    for batch in oldest.chunks(BATCH) {
        remove(shared, batch.iter().cloned()).await?;
    }
    Ok(())
}

/// Without compares: what is old stays old.
async fn remove(shared: &Shared, keys: impl Iterator<Item = Vec<u8>>) -> Result<(), StoreError> {
    let removal = keys.fold(Transaction::default(), |removal, key| removal.delete(key));
    if removal.writes.is_empty() {
        return Ok(());
    }
    shared.store.commit(removal).await.map(|_| ())
}
