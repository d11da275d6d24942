//! The command line.

use crate::bench::arguments::BenchVerb;
use crate::size;
use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::Polling;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Disaggregated block storage over NVMe-oF.
#[derive(Debug, Parser)]
#[command(name = "trestle", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How client verbs speak.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClientOptions {
    /// Base address of an api-server
    #[arg(
        long,
        env = "TRESTLE_API",
        default_value = "http://127.0.0.1:7070",
        global = true
    )]
    pub(crate) api: String,
    /// Tables for people or JSON for machines
    #[arg(long, short, value_enum, default_value_t = Format::Table, global = true)]
    pub(crate) output: Format,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For machines.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Client(ClientVerb),
    /// Start a whole fabric on this machine and prove it under I/O
    Demo(DemoOptions),
    /// Run an api-server and a worker over an embedded store, in one process
    ControlPlane(ControlPlaneOptions),
    /// Run an api-server over etcd
    ApiServer(ApiServerOptions),
    /// Run a worker over etcd
    Worker(WorkerOptions),
    /// Run a disk node
    DiskNode(DiskNodeOptions),
    /// Run a controller node
    ControllerNode(ControllerNodeOptions),
    /// Prepare disks for disk nodes
    #[command(subcommand)]
    Disk(DiskVerb),
    /// Put load on a namespace, or be what load is put on
    #[command(subcommand)]
    Bench(BenchVerb),
    /// Print a completion script for a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// What people ask of the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientVerb {
    /// One look at everything
    Status,
    /// Pools
    #[command(subcommand)]
    Pool(PoolVerb),
    /// Volumes
    #[command(subcommand)]
    Volume(VolumeVerb),
    /// Hosts
    #[command(subcommand)]
    Host(HostVerb),
    /// Disk nodes
    #[command(subcommand)]
    DiskNodes(NodeVerb),
    /// Controller nodes
    #[command(subcommand)]
    ControllerNodes(NodeVerb),
    /// Long-running wishes
    #[command(subcommand)]
    Operation(OperationVerb),
    /// What happened, oldest first
    Events {
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
}

/// Whether to wait for the end of what was asked.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct WaitOptions {
    /// Wait until it is done, with a progress line on a terminal
    #[arg(long)]
    pub(crate) wait: bool,
    /// Give up waiting after so many seconds
    #[arg(long, default_value_t = 120)]
    pub(crate) wait_seconds: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoolVerb {
    /// Create a pool
    Create {
        name: String,
        /// Usable space, such as 10TiB
        #[arg(long, value_parser = size::parse)]
        capacity: u64,
        /// Unit of space of volumes
        #[arg(long, value_parser = size::parse, default_value = "1GiB")]
        extent_size: u64,
        /// Legs of each group: 1 (no protection) to 4
        #[arg(long, default_value_t = 2)]
        mirror: u8,
        /// Controller nodes that serve it: an owner and standbys
        #[arg(long, default_value_t = 2)]
        controllers: u8,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// List pools
    List,
    /// Show a pool
    Show { pool: String },
    /// Delete a pool that has no volumes
    Delete {
        pool: String,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Move a pool's ownership to another of its controller nodes, under I/O
    Failover {
        pool: String,
        /// To this controller node; else to a standby that answers
        #[arg(long)]
        to: Option<String>,
        #[command(flatten)]
        wait: WaitOptions,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeVerb {
    /// Create a volume
    Create {
        name: String,
        #[arg(long)]
        pool: String,
        /// What its hosts see, such as 100GiB
        #[arg(long, value_parser = size::parse)]
        size: u64,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// List volumes
    List {
        /// Of this pool
        #[arg(long)]
        pool: Option<String>,
    },
    /// Show a volume
    Show { volume: String },
    /// Make a volume larger, while in use
    Extend {
        volume: String,
        #[arg(long, value_parser = size::parse)]
        size: u64,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Show a volume to a host
    Attach {
        volume: String,
        /// A host's name or NQN; an unknown NQN is registered as a host
        #[arg(long)]
        host: String,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Take a volume from a host
    Detach {
        volume: String,
        #[arg(long)]
        host: String,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Delete a volume that no host has
    Delete {
        volume: String,
        #[command(flatten)]
        wait: WaitOptions,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum HostVerb {
    /// Register a host
    Create {
        name: String,
        #[arg(long)]
        nqn: String,
    },
    /// List hosts
    List,
    /// Forget a host that has no volumes
    Delete { host: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// List nodes
    List,
    /// Show a node
    Show { node: String },
    /// Place nothing new on it
    Cordon { node: String },
    /// Place new things on it again
    Uncordon { node: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum OperationVerb {
    /// List operations
    List,
    /// Show an operation
    Show { operation: String },
    /// Wait for an operation's end
    Wait {
        operation: String,
        #[arg(long, default_value_t = 120)]
        wait_seconds: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DiskVerb {
    /// Format a disk for a disk node: refuses one that holds anything
    Format {
        /// A file, a block device, or an NVMe namespace's character device
        path: PathBuf,
        /// Unit in which legs get space
        #[arg(long, value_parser = size::parse, default_value = "1GiB")]
        extent_size: u64,
        /// Format although it holds something: everything on it is lost
        #[arg(long)]
        force: bool,
    },
    /// See how fast a disk is, through the engine, as a disk node would use it
    Measure(MeasureOptions),
    /// See whether a disk keeps what it is given: patterns, durable writes, flushes, zeroes, discards
    Check(CheckOptions),
}

/// How a disk is tried.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct DiskWay {
    /// Through the page cache
    #[arg(long)]
    pub(crate) buffered: bool,
    /// By threads, not by io_uring
    #[arg(long)]
    pub(crate) threads: bool,
    /// What the disk holds may go
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// One kind of request, so many at a time.
#[derive(Args, Clone, Debug)]
pub(crate) struct MeasureOptions {
    /// A file, a block device, or an NVMe namespace's character device
    pub(crate) path: PathBuf,
    /// What to ask for
    #[arg(long, value_enum, default_value = "read")]
    pub(crate) kind: crate::disk::Kind,
    /// Requests under way at a time
    #[arg(long, default_value_t = 32)]
    pub(crate) depth: u32,
    /// Bytes of each
    #[arg(long, value_parser = size::parse, default_value = "4KiB")]
    pub(crate) block_size: u64,
    /// For how long
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Only the first so many bytes
    #[arg(long, value_parser = size::parse)]
    pub(crate) range: Option<u64>,
    /// One block behind the other, not any
    #[arg(long)]
    pub(crate) sequential: bool,
    #[command(flatten)]
    pub(crate) way: DiskWay,
}

/// Rounds of requests, each followed by a look at what they should have done.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckOptions {
    /// A file, a block device, or an NVMe namespace's character device
    pub(crate) path: PathBuf,
    /// Requests of a round, all under way at a time
    #[arg(long, default_value_t = 16)]
    pub(crate) depth: u32,
    /// Rounds
    #[arg(long, default_value_t = 100)]
    pub(crate) rounds: u32,
    /// Only the first so many bytes
    #[arg(long, value_parser = size::parse, default_value = "64MiB")]
    pub(crate) range: u64,
    /// The same seed does the same
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Read everything once more by this path, without the engine
    #[arg(long)]
    pub(crate) read_back: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) way: DiskWay,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ApiOptions {
    /// Where to answer REST and agents
    #[arg(long, default_value = "127.0.0.1:7070")]
    pub(crate) listen: SocketAddr,
    /// What nodes must show to join
    #[arg(long, env = "TRESTLE_JOIN_TOKEN", hide_env_values = true)]
    pub(crate) join_token: String,
}

#[derive(Args, Debug)]
pub(crate) struct ControlPlaneOptions {
    #[command(flatten)]
    pub(crate) api: ApiOptions,
    /// Folder of the embedded store
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct EtcdOptions {
    /// etcd endpoints, comma-separated, such as http://127.0.0.1:2379
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) etcd: Vec<String>,
    /// Put in front of every key: several clusters can share one etcd
    #[arg(long, default_value = "/trestle/")]
    pub(crate) etcd_prefix: String,
}

#[derive(Args, Debug)]
pub(crate) struct ApiServerOptions {
    #[command(flatten)]
    pub(crate) api: ApiOptions,
    #[command(flatten)]
    pub(crate) etcd: EtcdOptions,
}

#[derive(Args, Debug)]
pub(crate) struct WorkerOptions {
    #[command(flatten)]
    pub(crate) etcd: EtcdOptions,
}

/// What both kinds of node need.
#[derive(Args, Clone, Debug)]
pub(crate) struct NodeOptions {
    /// The node's name, unique among its kind
    #[arg(long)]
    pub(crate) name: String,
    /// Folder of its ledger: survives reboots
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
    /// Where to accept NVMe/TCP connections: an address others can reach
    #[arg(long)]
    pub(crate) fabric_listen: SocketAddr,
    /// Where its agent listens for workers: an address others can reach
    #[arg(long)]
    pub(crate) agent_listen: SocketAddr,
    /// Base addresses of api-servers, comma-separated
    #[arg(long = "api-servers", value_delimiter = ',', required = true)]
    pub(crate) api_servers: Vec<String>,
    /// Shown at the first start
    #[arg(long, env = "TRESTLE_JOIN_TOKEN", hide_env_values = true)]
    pub(crate) join_token: Option<String>,
    /// Failure domain, such as a rack; empty: its own
    #[arg(long, default_value = "")]
    pub(crate) location: String,
    /// Forget the last configuration: only if the ledger is damaged and the api-servers are up
    #[arg(long)]
    pub(crate) reset_ledger: bool,
    /// The most that payload buffers take
    #[arg(long, value_parser = size::parse, default_value = "64MiB")]
    pub(crate) memory: u64,
    #[command(flatten)]
    pub(crate) polling: PollingOptions,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct PollingOptions {
    /// Look for work so many microseconds before sleeping, where it is likely to come within that; 0: sleep at once, always
    #[arg(long, value_name = "N", default_value_t = Polling::SPIN_DEFAULT.as_micros() as u64)]
    pub(crate) spin_us: u64,
    /// Have the kernel poll the network card's queues so many microseconds before sleeping, where card and kernel can
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) busy_poll_us: u64,
}

impl From<PollingOptions> for Polling {
    fn from(options: PollingOptions) -> Polling {
        Polling {
            spin: Duration::from_micros(options.spin_us),
            busy_poll: Duration::from_micros(options.busy_poll_us),
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct DiskNodeOptions {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// A formatted disk (block device or file), or memory:SIZE for a volatile one; repeatable
    #[arg(long = "disk", required = true)]
    pub(crate) disks: Vec<String>,
    /// On how many cores to work, each with disks of its own: by default as many as there are, never more than disks
    #[arg(long, value_name = "N")]
    pub(crate) cores: Option<std::num::NonZeroUsize>,
    /// Use threads for disks even where io_uring is to be had
    #[arg(long)]
    pub(crate) no_io_uring: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ControllerNodeOptions {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// On how many cores to work, each with pools of its own: by default as many as there are, at most 8, each with 16 MiB of
    /// `--memory`
    #[arg(long, value_name = "N")]
    pub(crate) cores: Option<std::num::NonZeroUsize>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DemoOptions {
    /// Leave the fabric running at the end and print how to reach it
    #[arg(long)]
    pub(crate) keep: bool,
    /// Use this etcd instead of the embedded store
    #[arg(long, value_delimiter = ',')]
    pub(crate) etcd: Vec<String>,
    /// Folder for disks, store, ledgers and logs; must be empty or not exist. Else a temporary one
    #[arg(long)]
    pub(crate) folder: Option<PathBuf>,
    /// Address of everything
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) address: std::net::IpAddr,
}
