//! Every daemon: its options, its library, and the signals that end it.

use crate::arguments::{
    ApiOptions, ApiServerOptions, ControlPlaneOptions, ControllerNodeOptions, DiskNodeOptions, EtcdOptions,
    NodeOptions, WorkerOptions,
};
use agent::ledger::Ledger;
use anyhow::{Context, bail};
use block::Tuning;
use cluster::{ControllerNodeId, DiskNodeId, Incarnation};
use control::agent::{Node, NodeKind};
use std::io::Read;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use store::{Embedded, Etcd, EtcdOptions as EtcdConfig, Store};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use uuid::Uuid;

/// An api-server and a worker over an embedded store.
pub(crate) fn control_plane(options: ControlPlaneOptions) -> anyhow::Result<ExitCode> {
    let store: Arc<dyn Store> =
        Arc::new(Embedded::open(&options.data_dir).context("cannot open the embedded store")?);
    run_until_stopped(async move |stop| {
        // The store is this process's alone, so is the work.
        let options_of_worker = worker::Options {
            alone: true,
            ..worker::Options::default()
        };
        let worker = worker::run(store.clone(), options_of_worker, stop.clone());
        let api_server = serve_api(store, &options.api, stop);
        let (worker, api_server) = tokio::join!(worker, api_server);
        worker.context("the worker ended")?;
        api_server
    })
}

/// An api-server over etcd.
pub(crate) fn api_server(options: ApiServerOptions) -> anyhow::Result<ExitCode> {
    run_until_stopped(async move |stop| {
        let store = connect(&options.etcd).await?;
        serve_api(store, &options.api, stop).await
    })
}

/// A worker over etcd.
pub(crate) fn worker(options: WorkerOptions) -> anyhow::Result<ExitCode> {
    run_until_stopped(async move |stop| {
        let store = connect(&options.etcd).await?;
        worker::run(store, worker::Options::default(), stop)
            .await
            .context("the worker ended")
    })
}

/// A disk node.
pub(crate) fn disk_node(options: DiskNodeOptions) -> anyhow::Result<ExitCode> {
    let ledger = ledger(&options.node, NodeKind::DiskNode)?;
    let incarnation = Incarnation(Uuid::new_v4());
    let mut config = disk_node::DiskNodeOptions::new(DiskNodeId(ledger.identity().id), incarnation);
    config.listen = vec![options.node.fabric_listen];
    config.disks = options
        .disks
        .iter()
        .map(|disk| disk.parse())
        .collect::<Result<_, _>>()?;
    config.buffer_bytes = options.node.memory;
    config.polling = options.node.polling.into();
    let cores = options
        .cores
        .or_else(|| std::thread::available_parallelism().ok());
    config.reactors = cores.map_or(1, NonZeroUsize::get);
    if options.no_io_uring {
        config.backend = disk_node::WantedBackend::Threads;
    }
    let node = disk_node::start(config).context("cannot start the disk node")?;
    run_node(
        &options.node,
        NodeKind::DiskNode,
        incarnation,
        ledger,
        Arc::new(node),
    )
}

/// A controller node.
pub(crate) fn controller_node(options: ControllerNodeOptions) -> anyhow::Result<ExitCode> {
    let ledger = ledger(&options.node, NodeKind::ControllerNode)?;
    let incarnation = Incarnation(Uuid::new_v4());
    let node = controller_node::serve::start(controller_node::serve::Options {
        node: ControllerNodeId(ledger.identity().id),
        incarnation,
        listen: vec![options.node.fabric_listen],
        memory_bytes: options.node.memory,
        tuning: Tuning::default(),
        reactors: options
            .cores
            .unwrap_or_else(|| controller_node::serve::reactors_by_default(options.node.memory)),
        polling: options.node.polling.into(),
    })
    .context("cannot start the controller node")?;
    run_node(
        &options.node,
        NodeKind::ControllerNode,
        incarnation,
        ledger,
        Arc::new(node),
    )
}

fn ledger(options: &NodeOptions, kind: NodeKind) -> anyhow::Result<Ledger> {
    for (name, address) in [
        ("--fabric-listen", options.fabric_listen),
        ("--agent-listen", options.agent_listen),
    ] {
        if address.ip().is_unspecified() || address.port() == 0 {
            bail!("{name} {address}: name the address and port by which others reach this node");
        }
    }
    if options.reset_ledger {
        Ledger::reset(&options.data_dir)?;
    }
    Ok(Ledger::open(&options.data_dir, kind, Uuid::new_v4())?)
}

fn run_node(
    options: &NodeOptions,
    kind: NodeKind,
    incarnation: Incarnation,
    ledger: Ledger,
    node: Arc<dyn Node>,
) -> anyhow::Result<ExitCode> {
    let options = agent::Options {
        kind,
        name: options.name.clone(),
        location: options.location.clone(),
        listen: options.agent_listen,
        fabric_address: options.fabric_listen,
        api_servers: options.api_servers.clone(),
        join_token: options.join_token.clone(),
        incarnation,
    };
    run_until_stopped(async move |stop| Ok(agent::run(options, ledger, node, stop).await?))
}

async fn serve_api(
    store: Arc<dyn Store>,
    options: &ApiOptions,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut config = api_server::Options::new(options.listen);
    config.join_token = Some(options.join_token.clone());
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    api_server::run(store, config, stopped)
        .await
        .context("the api-server ended")
}

async fn connect(options: &EtcdOptions) -> anyhow::Result<Arc<dyn Store>> {
    let mut config = EtcdConfig::new(options.etcd.clone());
    config.key_prefix = options.etcd_prefix.clone();
    let etcd = Etcd::connect(config)
        .await
        .context("cannot use etcd; is --etcd right?")?;
    Ok(Arc::new(etcd))
}

/// Runs a daemon until SIGINT, SIGTERM, or (for the demo's children) the end of standard input.
fn run_until_stopped<D>(daemon: impl FnOnce(watch::Receiver<bool>) -> D) -> anyhow::Result<ExitCode>
where
    D: Future<Output = anyhow::Result<()>>,
{
    end_with_stdin();
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            told_to_stop().await;
            let _ = stop.send(true);
            // Keeps the channel open: a closed one would read as "never".
            std::future::pending::<()>().await;
        });
        daemon(stopped).await
    });
    // What still waits for a peer is not waited for.
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}

async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened to");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// A child of the demo must not outlive it, however the demo ends: then its standard input does.
fn end_with_stdin() {
    if std::env::var_os("TRESTLE_END_WITH_STDIN").is_none() {
        return;
    }
    std::thread::spawn(|| {
        let mut nothing = [0; 64];
        while std::io::stdin().read(&mut nothing).is_ok_and(|read| read > 0) {}
        std::process::exit(0);
    });
}
