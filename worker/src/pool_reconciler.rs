//! One pool: read, plan, audit, commit. Given a wake-up and nothing else.

use crate::supervisor::SharedDirectory;
use crate::{Shared, events, load, operations, told};
use cluster::audit::audit;
use cluster::plan::{Plan, VolumeChange, plan};
use cluster::status::PoolProgress;
use cluster::view::PoolInput;
use cluster::{PoolId, VolumeId, key};
use std::sync::Arc;
use store::{KeyRange, TransactionError, Txn};
use tokio::sync::Notify;

/// How many volumes' records change in one transaction: each may take several writes, and a transaction holds 128. What
/// is left is planned again.
const VOLUMES_PER_COMMIT: usize = 12;

/// Look after one pool for ever.
pub(crate) async fn run(shared: Arc<Shared>, directory: SharedDirectory, pool: PoolId, wake: Arc<Notify>) {
    loop {
        let pause = match round(&shared, &directory, pool).await {
            Ok(()) => shared.options.round_every,
            Err(error) => {
                tracing::warn!(%pool, error = told(&error), "the pool was not planned");
                shared.options.failure_pause
            }
        };
        _ = tokio::time::timeout(pause, wake.notified()).await;
    }
}

async fn round(shared: &Shared, directory: &SharedDirectory, pool: PoolId) -> Result<(), TransactionError> {
    store::transaction(&shared.store, |txn| async move { reconcile(&txn, pool).await }).await?;
    let running = directory
        .lock()
        .expect("no panic while the directory is held")
        .operations_of(pool);
    operations::look_at(shared, &running, pool).await
}

/// Plan the pool as of the transaction's snapshot, and write what changes.
pub(crate) async fn reconcile(txn: &Txn, pool: PoolId) -> Result<(), TransactionError> {
    let Some(input) = load::pool_input(txn, pool).await? else {
        return Ok(());
    };
    let made = plan(&input, &mut std::iter::repeat_with(|| txn.outside().fresh_id()));
    let violations = audit(&input, &made);
    if !violations.is_empty() {
        let found: Vec<String> = violations
            .iter()
            .map(|violation| format!("refused by the audit: {violation}"))
            .collect();
        tracing::error!(pool = %input.spec.name, ?found, "the plan is not committed: a bug or a damaged record");
        return note_progress(txn, pool, found).await;
    }
    if !made.is_quiet(&input) {
        commit(txn, &input, made.clone()).await?;
    }
    if made.pool_gone {
        Ok(())
    } else {
        note_progress(txn, pool, made.waits).await
    }
}

/// Why the pool is not further, for people; written when it changes.
async fn note_progress(txn: &Txn, pool: PoolId, waits: Vec<String>) -> Result<(), TransactionError> {
    let (key, progress) = (key::progress(pool), PoolProgress { waits });
    if txn.get::<PoolProgress>(&key).await?.as_ref() != Some(&progress) {
        txn.put(&key, &progress)?;
    }
    Ok(())
}

/// Write the plan. Every record that is written was read in the same snapshot and is compared: it is read again here
/// for just that.
async fn commit(txn: &Txn, input: &PoolInput, mut made: Plan) -> Result<(), TransactionError> {
    let left_over = made.volumes.len().saturating_sub(VOLUMES_PER_COMMIT);
    let kept: Vec<VolumeId> = made.volumes.keys().copied().take(VOLUMES_PER_COMMIT).collect();
    made.volumes.retain(|id, _| kept.contains(id));
    if left_over > 0 && made.pool_gone {
        made.pool_gone = false; // Its volumes' records first; it is planned again when they are gone.
        made.layout = input.layout.clone();
        made.allocations.clear();
    }
    for step in &made.steps {
        tracing::info!(pool = %input.spec.name, "{step}");
    }
    events::append(txn, events::of_plan(input, &made))?;
    write_layout(txn, input, &made).await?;
    write_nodes(txn, &made).await?;
    for (id, change) in &made.volumes {
        match change {
            VolumeChange::Created => volume_created(txn, *id).await?,
            VolumeChange::Gone => volume_gone(txn, input, *id).await?,
        }
    }
    if made.pool_gone {
        pool_gone(txn, input).await?;
    }
    Ok(())
}

async fn write_layout(txn: &Txn, input: &PoolInput, made: &Plan) -> Result<(), TransactionError> {
    let pool = input.spec.id;
    match &made.layout {
        Some(layout) if input.layout.as_ref() != Some(layout) => txn.put(key::layout(pool), layout)?,
        None if input.layout.is_some() => txn.delete(key::layout(pool)),
        _ => {}
    }
    for (slice, membership) in &made.memberships {
        if input.memberships.get(slice) != Some(membership) {
            txn.exists(key::membership(*slice)).await?;
            txn.put(key::membership(*slice), membership)?;
        }
    }
    for slice in input
        .memberships
        .keys()
        .filter(|slice| !made.memberships.contains_key(slice))
    {
        txn.delete(key::membership(*slice));
        txn.delete(key::membership_requests(*slice));
    }
    Ok(())
}

/// A node that is told something is compared itself, too: one that nothing was ever placed on has no record here that its removal would
/// change.
async fn write_nodes(txn: &Txn, made: &Plan) -> Result<(), TransactionError> {
    for (id, allocation) in &made.allocations {
        txn.exists(key::disk_node(*id)).await?;
        txn.exists(key::allocation(*id)).await?;
        txn.put(key::allocation(*id), allocation)?;
    }
    for (id, config) in &made.disk_node_configs {
        txn.exists(key::disk_node_config(*id)).await?;
        txn.put(key::disk_node_config(*id), config)?;
    }
    for (id, config) in &made.controller_node_configs {
        txn.exists(key::controller_node(*id)).await?;
        txn.exists(key::controller_node_config(*id)).await?;
        txn.put(key::controller_node_config(*id), config)?;
    }
    Ok(())
}

/// The map knows it (R9). Only the flag is changed: people may have changed the rest meanwhile.
async fn volume_created(txn: &Txn, id: VolumeId) -> Result<(), TransactionError> {
    if let Some(mut spec) = txn.get::<cluster::spec::VolumeSpec>(key::volume(id)).await? {
        spec.created = true;
        txn.put(key::volume(id), &spec)?;
    }
    Ok(())
}

/// All that speaks of the volume goes with it.
async fn volume_gone(txn: &Txn, input: &PoolInput, id: VolumeId) -> Result<(), TransactionError> {
    let Some(spec) = txn.get::<cluster::spec::VolumeSpec>(key::volume(id)).await? else {
        return Ok(());
    };
    txn.delete(key::volume(id));
    txn.delete(key::pool_volume(input.spec.id, id));
    txn.delete(key::name(key::NameKind::Volume, &spec.name));
    let attachments = KeyRange::prefix(key::attachments_of_volume(id));
    for attachment in txn.range::<cluster::spec::AttachmentSpec>(attachments).await? {
        let host = attachment.record.host;
        txn.delete(key::attachment(id, host));
        txn.delete(key::host_attachment(host, id));
    }
    Ok(())
}

/// The last records. The index of its volumes is compared: one made meanwhile keeps the pool.
async fn pool_gone(txn: &Txn, input: &PoolInput) -> Result<(), TransactionError> {
    let pool = input.spec.id;
    txn.range::<serde::de::IgnoredAny>(KeyRange::prefix(key::volumes_of_pool(pool)))
        .await?;
    txn.delete(key::pool(pool));
    txn.delete(key::name(key::NameKind::Pool, &input.spec.name));
    txn.delete(key::progress(pool));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::spec::{NodeSpec, PoolSpec, Protection};
    use cluster::status::{ControllerNodeStatus, DiskNodeStatus, DiskStatus, NodeHealth, Observed};
    use cluster::{ControllerNodeId, DiskId, DiskNodeId, Incarnation, Revision};
    use serde::Serialize;
    use std::sync::atomic::{AtomicBool, Ordering};
    use store::{Memory, Store, Transaction};
    use uuid::Uuid;

    const POOL: PoolId = PoolId(Uuid::from_u128(1));
    const DISK_NODE: DiskNodeId = DiskNodeId(Uuid::from_u128(2));
    const CONTROLLER: ControllerNodeId = ControllerNodeId(Uuid::from_u128(3));
    const INCARNATION: Incarnation = Incarnation(Uuid::from_u128(4));

    fn node<Id>(id: Id) -> NodeSpec<Id> {
        NodeSpec {
            id,
            name: "node".into(),
            agent_address: ([10, 0, 0, 1], 9000).into(),
            fabric_address: ([10, 0, 0, 1], 4420).into(),
            agent_token: String::new(),
            incarnation: INCARNATION,
            location: String::new(),
            cordoned: false,
        }
    }

    fn up<S>(status: S) -> Observed<S> {
        let health = NodeHealth {
            reachable: true,
            since_ms: 0,
        };
        Observed {
            health,
            status: Some(status),
        }
    }

    async fn put(store: &Arc<dyn Store>, key: String, record: impl Serialize) {
        let text = serde_json::to_vec(&record).unwrap();
        store.commit(Transaction::default().put(key, text)).await.unwrap();
    }

    /// A pool that is not placed yet, and one node of each kind that nothing was ever placed on.
    async fn wished() -> Arc<dyn Store> {
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let spec = PoolSpec {
            id: POOL,
            name: "p".into(),
            capacity_bytes: 1 << 30,
            extent_bytes: 1 << 30,
            protection: Protection::None,
            controller_count: 1,
            owner: None,
            deleting: false,
            next_nsid: 1,
        };
        let disk = DiskStatus {
            disk: DiskId(Uuid::from_u128(5)),
            path: String::new(),
            volatile: false,
            extent_bytes: 1 << 30,
            extents: 10,
            extents_free: 10,
            fault: None,
        };
        let disk_node = DiskNodeStatus {
            node: DISK_NODE,
            incarnation: INCARNATION,
            revision: Revision(0),
            disks: vec![disk],
            legs: Vec::new(),
        };
        let controller = ControllerNodeStatus {
            node: CONTROLLER,
            incarnation: INCARNATION,
            revision: Revision(0),
            slices: Vec::new(),
        };
        put(&store, key::pool(POOL), spec).await;
        put(&store, key::disk_node(DISK_NODE), node(DISK_NODE)).await;
        put(&store, key::controller_node(CONTROLLER), node(CONTROLLER)).await;
        put(&store, key::disk_node_status(DISK_NODE), up(disk_node)).await;
        put(&store, key::controller_node_status(CONTROLLER), up(controller)).await;
        store
    }

    /// Plan the pool while a key is deleted; whether it was placed.
    async fn is_placed_while_gone(gone: Option<String>) -> bool {
        let store = wished().await;
        let first = AtomicBool::new(true);
        let (first, gone, others) = (&first, &gone, &store);
        let planned = store::transaction(&store, |txn| async move {
            reconcile(&txn, POOL).await?;
            if let Some(gone) = gone.clone().filter(|_| first.swap(false, Ordering::Relaxed)) {
                others.commit(Transaction::default().delete(gone)).await?;
            }
            Ok::<_, TransactionError>(())
        });
        planned.await.unwrap();
        let layout = store::read_record::<serde::de::IgnoredAny>(&store, key::layout(POOL)).await;
        layout.unwrap().is_some()
    }

    /// Seen in the simulated control plane: such a node has no other record that its removal changes.
    #[tokio::test]
    async fn nothing_is_placed_on_a_node_that_is_forgotten_meanwhile() {
        assert!(is_placed_while_gone(None).await);
        assert!(!is_placed_while_gone(Some(key::disk_node(DISK_NODE))).await);
        assert!(!is_placed_while_gone(Some(key::controller_node(CONTROLLER))).await);
    }
}
