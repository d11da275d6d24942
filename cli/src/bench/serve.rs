//! A bare target: a disk node with one disk, all of it one leg, shown to any host. No control plane, nothing to join.
//!
//! Not for data anybody needs: whoever reaches its address has the disk.

use super::arguments::ServeOptions;
use anyhow::{Context, bail};
use cluster::node_config::{DiskNodeConfig, LegConfig};
use cluster::status::{DiskStatus, LegState};
use cluster::{DiskNodeId, Incarnation, LegId, Nqn, PoolId, Revision};
use control::agent::{Node, NodeConfig};
use disk_node::{DiskNode, DiskNodeOptions, WantedBackend};
use fabric::target::ANY_HOST;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use uuid::Uuid;

const NSID: u32 = 1;
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
    config.disks = vec![options.disk.parse()?];
    config.buffer_bytes = options.memory;
    if options.no_io_uring {
        config.backend = WantedBackend::Threads;
    }
    let node = disk_node::start(config).context("cannot start the target")?;
    let disk = disk_of(&node)?;
    node.apply(NodeConfig::DiskNode(whole_disk(node_id, &disk)));
    wait_until_served(&node)?;
    println!(
        "listening on {} nqn {} nsid {NSID} bytes {} pid {}",
        node.fabric_addresses()[0],
        disk.disk.subsystem_nqn().0,
        disk.extents * disk.extent_bytes,
        std::process::id()
    );
    loop {
        std::thread::park();
    }
}

fn disk_of(node: &DiskNode) -> anyhow::Result<DiskStatus> {
    let status = node.disk_node_status();
    let disk = status.disks.first().context("the disk does not show")?;
    match &disk.fault {
        Some(fault) => bail!("{}: {fault}", disk.path),
        None => Ok(disk.clone()),
    }
}

/// One leg on all of the disk.
fn whole_disk(node: DiskNodeId, disk: &DiskStatus) -> DiskNodeConfig {
    let leg = LegConfig {
        leg: LegId(Uuid::from_u128(0xbe9c_0001)),
        disk: disk.disk,
        nsid: NSID,
        extents: disk.extents,
        hosts: BTreeSet::from([Nqn(ANY_HOST.to_owned())]),
    };
    DiskNodeConfig {
        node,
        revision: Revision(1),
        legs: BTreeMap::from([(PoolId(Uuid::nil()), vec![leg])]),
    }
}

fn wait_until_served(node: &DiskNode) -> anyhow::Result<()> {
    let until = Instant::now() + READY_PATIENCE;
    let mut version = 0;
    while Instant::now() < until {
        let status = node.disk_node_status();
        match status.legs.first().map(|leg| &leg.state) {
            Some(LegState::Ready) => return Ok(()),
            Some(LegState::Zeroing { .. }) | None => {}
            Some(state) => bail!("the disk cannot be served: {state:?}"),
        }
        version = node.wait_status(version, Duration::from_secs(1));
    }
    bail!("the disk did not become ready")
}
