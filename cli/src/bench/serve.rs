//! A bare target: a disk node whose disks are one leg each, shown to any host. No control plane, nothing to join.
//!
//! Not for data anybody needs: whoever reaches its address has the disk.

use super::arguments::ServeOptions;
use anyhow::{Context, bail};
use cluster::node_config::{DiskNodeConfig, LegConfig};
use cluster::status::{DiskStatus, LegState, LegStatus};
use cluster::{DiskNodeId, Incarnation, LegId, Nqn, PoolId, Revision};
use control::agent::{Node, NodeConfig};
use disk_node::{DiskNode, DiskNodeOptions, WantedBackend};
use fabric::target::ANY_HOST;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use uuid::Uuid;

const NSID: u32 = 1;
/// How long a disk may be said not to be served.
const PLACES_PATIENCE: Duration = Duration::from_secs(10);
/// How long the disk may take to be ready: zeroing it included.
const READY_PATIENCE: Duration = Duration::from_secs(600);

/// Serves until killed.
pub(super) fn serve(options: &ServeOptions) -> anyhow::Result<ExitCode> {
    if let Some(core) = options.pin {
        engine::affinity::pin_to_core(core).with_context(|| format!("there is no core {core} for us"))?;
    }
    // The same in every run, so that a disk that was served once is known again.
    let node_id = DiskNodeId(Uuid::from_u128(0xbe9c));
    let mut config = DiskNodeOptions::new(node_id, Incarnation(Uuid::new_v4()));
    config.listen = vec![options.listen];
    config.disks = options
        .disks
        .iter()
        .map(|disk| disk.parse())
        .collect::<Result<_, _>>()?;
    config.buffer_bytes = options.memory;
    config.polling = options.polling.into();
    config.reactors = options.cores.get();
    if options.no_io_uring {
        config.backend = WantedBackend::Threads;
    }
    let node = disk_node::start(config).context("cannot start the target")?;
    let disks = disks_of(&node)?;
    node.apply(NodeConfig::DiskNode(whole_disks(node_id, &disks)));
    wait_until_served(&node, disks.len())?;
    for disk in &disks {
        println!(
            "listening on {} nqn {} nsid {NSID} bytes {} pid {}",
            node.fabric_addresses()[0],
            disk.disk.subsystem_nqn().0,
            disk.extents * disk.extent_bytes,
            std::process::id()
        );
    }
    loop {
        std::thread::park();
    }
}

fn disks_of(node: &DiskNode) -> anyhow::Result<Vec<DiskStatus>> {
    let status = node.disk_node_status();
    if let Some(disk) = status.disks.iter().find(|disk| disk.fault.is_some()) {
        bail!("{}: {}", disk.path, disk.fault.as_deref().unwrap_or_default());
    }
    Ok(status.disks)
}

/// One leg on all of each disk.
fn whole_disks(node: DiskNodeId, disks: &[DiskStatus]) -> DiskNodeConfig {
    let leg = |(number, disk): (usize, &DiskStatus)| LegConfig {
        leg: LegId(Uuid::from_u128(0xbe9c_0001 + number as u128)),
        disk: disk.disk,
        nsid: NSID,
        extents: disk.extents,
        hosts: BTreeSet::from([Nqn(ANY_HOST.to_owned())]),
    };
    DiskNodeConfig {
        node,
        revision: Revision(1),
        legs: BTreeMap::from([(PoolId(Uuid::nil()), disks.iter().enumerate().map(leg).collect())]),
    }
}

fn wait_until_served(node: &DiskNode, legs: usize) -> anyhow::Result<()> {
    let begun = Instant::now();
    let until = begun + READY_PATIENCE;
    let mut version = 0;
    while Instant::now() < until {
        let status = node.disk_node_status();
        let ready = |leg: &&LegStatus| leg.state == LegState::Ready;
        let underway = |leg: &&LegStatus| matches!(leg.state, LegState::Ready | LegState::Zeroing { .. });
        // Until every reactor has been told where all disks are, one may say of another's that it is not here.
        if let Some(leg) = status.legs.iter().find(|leg| !underway(leg))
            && begun.elapsed() > PLACES_PATIENCE
        {
            bail!("a disk cannot be served: {:?}", leg.state);
        }
        if status.legs.iter().filter(ready).count() == legs {
            return Ok(());
        }
        version = node.wait_status(version, Duration::from_secs(1));
    }
    bail!("the disks did not become ready")
}
