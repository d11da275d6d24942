//! Ends operations whose wish is true, or never will be; and says what the others wait for.

use crate::{Shared, load};
use cluster::operation::{Operation, OperationState, Wish};
use cluster::placement::BLOCK_BYTES;
use cluster::spec::HostSpec;
use cluster::status::PoolProgress;
use cluster::view::PoolInput;
use cluster::{ControllerNodeId, HostId, Nqn, OperationId, PoolId, VolumeId, key};
use store::{TransactionError, Txn};

/// How a wish stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Waits(Vec<String>),
    Done,
    Failed(String),
}

/// How many operations change in one transaction: each is compared and written, and a transaction holds 128 of either, beside what
/// is read of the pool.
const OPERATIONS_PER_COMMIT: usize = 50;

/// Look at a pool's operations, and write down how they stand where that changed.
///
/// The pool is read once for all of them, and once for every transaction that writes: not once for each, or a thousand wishes for a pool
/// of a thousand volumes would read a million records.
pub(crate) async fn look_at(
    shared: &Shared,
    running: &[OperationId],
    pool: PoolId,
) -> Result<(), TransactionError> {
    if running.is_empty() {
        return Ok(());
    }
    let changed: Vec<OperationId> = store::transaction(&shared.store, |txn| async move {
        let judged = judged(&txn, running, pool).await?;
        Ok::<_, TransactionError>(judged.into_iter().map(|operation| operation.id).collect())
    })
    .await?;
    for some in changed.chunks(OPERATIONS_PER_COMMIT) {
        store::transaction(&shared.store, |txn| async move {
            for operation in judged(&txn, some, pool).await? {
                txn.put(key::operation(operation.id), &operation)?;
            }
            Ok::<_, TransactionError>(())
        })
        .await?;
    }
    Ok(())
}

/// Of these operations those that stand otherwise than is written down, as they stand.
async fn judged(txn: &Txn, ids: &[OperationId], pool: PoolId) -> Result<Vec<Operation>, TransactionError> {
    let input = load::pool_input(txn, pool).await?;
    let progress: Option<PoolProgress> = txn.peek(key::progress(pool)).await?;
    let waits = progress.map(|progress| progress.waits).unwrap_or_default();
    let mut changed = Vec::new();
    for id in ids {
        let Some(mut operation) = txn.get::<Operation>(key::operation(*id)).await? else {
            continue;
        };
        if !operation.state.is_running() {
            continue;
        }
        let host = match operation.wish {
            Wish::Attach { host, .. } | Wish::Detach { host, .. } => {
                txn.peek::<HostSpec>(key::host(host)).await?
            }
            _ => None,
        };
        let verdict = judge(operation.wish, input.as_ref(), host.as_ref());
        let state = state_of(verdict, &waits, txn.outside().now_ms());
        if state != operation.state {
            operation.state = state;
            changed.push(operation);
        }
    }
    Ok(changed)
}

/// As it is written down.
fn state_of(verdict: Verdict, pool_waits: &[String], at_ms: u64) -> OperationState {
    match verdict {
        Verdict::Waits(own) if own.is_empty() => OperationState::Running {
            waits_for: pool_waits.to_vec(),
        },
        Verdict::Waits(own) => OperationState::Running { waits_for: own },
        Verdict::Done => OperationState::Done { at_ms },
        Verdict::Failed(reason) => OperationState::Failed { reason, at_ms },
    }
}

/// How a wish stands. Waits that are empty are those of its pool.
fn judge(wish: Wish, input: Option<&PoolInput>, host: Option<&HostSpec>) -> Verdict {
    let Some(input) = input else {
        return without_pool(wish);
    };
    match wish {
        Wish::CreatePool { .. } if input.spec.deleting => Verdict::Failed("the pool is being deleted".into()),
        Wish::CreatePool { .. } => done_if(input.is_served()),
        Wish::DeletePool { .. } => Verdict::Waits(Vec::new()),
        Wish::SwitchOwner { to, .. } => switched(input, to),
        Wish::CreateVolume { volume, .. } => with_volume(input, volume, || {
            done_if(input.volumes[&volume].created && input.volume_is_served(volume))
        }),
        Wish::DeleteVolume { volume, .. } => done_if(!input.volumes.contains_key(&volume)),
        Wish::ExtendVolume {
            volume, size_bytes, ..
        } => with_volume(input, volume, || {
            let served = input.served_size_blocks(volume).unwrap_or(0);
            done_if(served.saturating_mul(BLOCK_BYTES) >= size_bytes)
        }),
        Wish::Attach { volume, host: id, .. } => {
            with_volume(input, volume, || attached(input, volume, id, host))
        }
        Wish::Detach { volume, host: id, .. } => detached(input, volume, id, host),
    }
}

fn without_pool(wish: Wish) -> Verdict {
    match wish {
        Wish::DeletePool { .. } | Wish::DeleteVolume { .. } | Wish::Detach { .. } => Verdict::Done,
        _ => Verdict::Failed("the pool was deleted".into()),
    }
}

fn done_if(done: bool) -> Verdict {
    if done {
        Verdict::Done
    } else {
        Verdict::Waits(Vec::new())
    }
}

fn with_volume(input: &PoolInput, volume: VolumeId, verdict: impl FnOnce() -> Verdict) -> Verdict {
    if input.volumes.get(&volume).is_none_or(|volume| volume.deleting) {
        return Verdict::Failed("the volume was deleted".into());
    }
    verdict()
}

fn switched(input: &PoolInput, to: ControllerNodeId) -> Verdict {
    if input.spec.owner != Some(to) {
        return Verdict::Failed("another owner was wished for since".into());
    }
    done_if(
        input.is_served()
            && input
                .memberships
                .values()
                .all(|membership| membership.owner == to),
    )
}

fn attached(input: &PoolInput, volume: VolumeId, id: HostId, host: Option<&HostSpec>) -> Verdict {
    let (Some(host), true) = (host, is_attached(input, volume, id)) else {
        return Verdict::Failed("the volume was detached from the host".into());
    };
    if !input.is_served() {
        return Verdict::Waits(Vec::new());
    }
    until_everybody(input, |node| shows(input, node, volume, &host.nqn))
}

fn detached(input: &PoolInput, volume: VolumeId, id: HostId, host: Option<&HostSpec>) -> Verdict {
    if is_attached(input, volume, id) {
        return Verdict::Failed("the volume was attached to the host again".into());
    }
    let Some(host) = host else { return Verdict::Done };
    until_everybody(input, |node| !shows(input, node, volume, &host.nqn))
}

fn is_attached(input: &PoolInput, volume: VolumeId, host: HostId) -> bool {
    input
        .attachments
        .iter()
        .any(|found| found.volume == volume && found.host == host)
}

/// Whether the controller node is told to show the volume to the host.
fn shows(input: &PoolInput, node: ControllerNodeId, volume: VolumeId, host: &Nqn) -> bool {
    let config = input
        .controller_nodes
        .get(&node)
        .and_then(|node| node.config.as_ref());
    let pool = config.and_then(|config| config.pools.get(&input.spec.id));
    let volume = pool.and_then(|pool| pool.volumes.iter().find(|found| found.volume == volume));
    volume.is_some_and(|volume| volume.hosts.contains(host))
}

/// Owners must be told so and have taken that over; of the others, those that answer. One that is away stands by for a
/// slice it does not own: no I/O of the host gets through it, and when it is back it takes over what it is told first.
fn until_everybody(input: &PoolInput, is_told: impl Fn(ControllerNodeId) -> bool) -> Verdict {
    let mut waits = Vec::new();
    for placement in input.layout.iter().flat_map(|layout| &layout.controllers) {
        let owns = input
            .memberships
            .values()
            .any(|membership| membership.owner == placement.node);
        let node = input.controller_nodes.get(&placement.node);
        let up = node.is_some_and(|node| node.is_up());
        let current = is_told(placement.node) && node.is_some_and(|node| node.is_current());
        if (owns || up) && !current {
            let silent = if up { "" } else { ", which does not answer" };
            waits.push(format!(
                "{} has to take it over{silent}",
                input.controller_node_name(placement.node)
            ));
        }
    }
    if waits.is_empty() {
        Verdict::Done
    } else {
        Verdict::Waits(waits)
    }
}
