//! Fabrics of real daemons: this package's binary, started as people would start it, on ports and in folders of their own.
//!
//! Nothing outlives a test: daemons end when their fabric is dropped, and also when this process is killed, because each
//! ends with its standard input.

use super::etcd::Etcd;
use super::neighbour::Neighbour;
use super::session::{Session, session};
use crate::host::DemoHost;
use crate::workload::Workload;
use serde_json::Value;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const TRESTLE: &str = env!("CARGO_BIN_EXE_trestle");
/// Longer than anything here takes on a busy machine; reached only by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
pub(crate) const MIB: u64 = 1 << 20;
const DISK_BYTES: u64 = 256 * MIB;
const JOIN_TOKEN: &str = "let-me-in";

/// What a fabric is made of.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) disk_nodes: usize,
    pub(crate) controller_nodes: usize,
    /// Two api-servers and two workers over an etcd, instead of a control plane over an embedded store.
    pub(crate) etcd: bool,
}

/// One daemon.
struct Daemon {
    name: String,
    arguments: Vec<String>,
    /// A program that becomes the daemon; none: the daemon itself.
    wrapper: Vec<String>,
    child: Option<Child>,
}

/// A whole fabric.
pub(crate) struct Fabric {
    daemons: Vec<Daemon>,
    /// Base addresses of the api-servers.
    pub(crate) apis: Vec<String>,
    /// NVMe/TCP addresses of the controller nodes, in order.
    pub(crate) portals: Vec<SocketAddr>,
    pub(crate) etcd: Option<Etcd>,
    folder: TempDir,
}

impl Fabric {
    /// Prepared, formatted; nothing runs yet but the etcd.
    pub(crate) fn prepare(shape: Shape) -> Fabric {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut fabric = Fabric {
            daemons: Vec::new(),
            apis: Vec::new(),
            portals: Vec::new(),
            etcd: shape.etcd.then(Etcd::start),
            folder,
        };
        fabric.add_control_plane();
        for number in 1..=shape.disk_nodes {
            let disk = fabric.new_disk(&format!("disk-{number}"));
            fabric.add_disk_node(number, &[disk.display().to_string()]);
        }
        for number in 1..=shape.controller_nodes {
            fabric.add_controller_node(number);
        }
        fabric
    }

    /// Started, and everybody joined.
    pub(crate) fn start(shape: Shape) -> Fabric {
        let mut fabric = Fabric::prepare(shape);
        fabric.start_all();
        fabric.wait_joined();
        fabric
    }

    fn add_control_plane(&mut self) {
        let Some(endpoint) = self.etcd.as_ref().map(|etcd| etcd.endpoint().to_owned()) else {
            let (api, store) = (free_address(), self.path("store").display().to_string());
            self.apis.push(format!("http://{api}"));
            let arguments = ["--listen", &api.to_string(), "--data-dir", &store];
            return self.add("control-plane", "control-plane", &arguments);
        };
        for number in 1..=2 {
            let api = free_address();
            self.apis.push(format!("http://{api}"));
            let arguments = ["--listen", &api.to_string(), "--etcd", &endpoint];
            self.add(&format!("api-server-{number}"), "api-server", &arguments);
            self.add(&format!("worker-{number}"), "worker", &["--etcd", &endpoint]);
        }
    }

    /// A disk file, formatted for small extents.
    pub(crate) fn new_disk(&self, name: &str) -> PathBuf {
        let disk = self.path(name);
        file_of(&disk, DISK_BYTES);
        let path = disk.display().to_string();
        session(&["disk", "format", &path, "--extent-size", "4MiB"]).succeeded();
        disk
    }

    /// One more disk node, over disks as `--disk` takes them; it does not run yet.
    pub(crate) fn add_disk_node(&mut self, number: usize, disks: &[String]) {
        let name = format!("d{number}");
        let mut arguments = self.node_arguments(&name, free_address());
        for disk in disks {
            arguments.extend(["--disk".to_owned(), disk.clone()]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.add(&name, "disk-node", &arguments);
    }

    fn add_controller_node(&mut self, number: usize) {
        let (name, portal) = (format!("c{number}"), free_address());
        self.portals.push(portal);
        let arguments = self.node_arguments(&name, portal);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.add(&name, "controller-node", &arguments);
    }

    fn node_arguments(&self, name: &str, portal: SocketAddr) -> Vec<String> {
        let pairs = [
            ("--name", name.to_owned()),
            ("--data-dir", self.path(name).display().to_string()),
            ("--fabric-listen", portal.to_string()),
            ("--agent-listen", free_address().to_string()),
            ("--api-servers", self.apis.join(",")),
        ];
        pairs
            .into_iter()
            .flat_map(|(option, value)| [option.to_owned(), value])
            .collect()
    }

    fn add(&mut self, name: &str, kind: &str, arguments: &[&str]) {
        let arguments = std::iter::once(kind).chain(arguments.iter().copied());
        self.daemons.push(Daemon {
            name: name.to_owned(),
            arguments: arguments.map(str::to_owned).collect(),
            wrapper: Vec::new(),
            child: None,
        });
    }

    /// Lets a program become the daemon: it is given the daemon's command line.
    #[allow(dead_code, reason = "the test of a full file system uses it")]
    pub(crate) fn wrap(&mut self, name: &str, wrapper: &[&str]) {
        self.daemon(name).wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
    }

    /// A file or folder of this fabric.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The names of all daemons.
    pub(crate) fn names(&self) -> Vec<String> {
        self.daemons.iter().map(|daemon| daemon.name.clone()).collect()
    }

    /// Starts every daemon that does not run.
    pub(crate) fn start_all(&mut self) {
        for name in self.names() {
            self.start_daemon(&name);
        }
    }

    /// Starts a daemon, unless it runs.
    pub(crate) fn start_daemon(&mut self, name: &str) {
        self.start_daemon_with(name, &[]);
    }

    /// Starts a daemon with more arguments this once, unless it runs.
    pub(crate) fn start_daemon_with(&mut self, name: &str, more: &[&str]) {
        let log = self.log_path(name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log");
        let daemon = self.daemon(name);
        if daemon.child.is_some() {
            return;
        }
        let mut words = daemon.wrapper.iter().map(String::as_str).chain([TRESTLE]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).args(&daemon.arguments).args(more);
        command
            .env("TRESTLE_JOIN_TOKEN", JOIN_TOKEN)
            .env("TRESTLE_END_WITH_STDIN", "1");
        command.stdin(Stdio::piped());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        daemon.child = Some(command.spawn().expect("the binary starts"));
    }

    /// kill -9; returns when it is gone.
    pub(crate) fn kill(&mut self, name: &str) {
        self.kill_together(&[name.to_owned()]);
    }

    /// kill -9 to all of these before one is waited for.
    pub(crate) fn kill_together(&mut self, names: &[String]) {
        let mut dying: Vec<Child> = names
            .iter()
            .filter_map(|name| self.daemon(name).child.take())
            .collect();
        dying
            .iter_mut()
            .for_each(|child| child.kill().expect("it can be killed"));
        dying
            .iter_mut()
            .for_each(|child| assert!(child.wait().is_ok(), "it ends"));
    }

    /// Waits for a daemon that ends by itself; its exit code.
    pub(crate) fn ends_by_itself(&mut self, name: &str) -> Option<i32> {
        let mut child = self.daemon(name).child.take().expect("it was started");
        let mut status = None;
        wait_until("a daemon to end", || {
            status = child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// SIGSTOP: it answers nothing, and its connections stay.
    pub(crate) fn freeze(&mut self, name: &str) {
        signal("-STOP", self.pid(name));
    }

    /// SIGCONT.
    pub(crate) fn thaw(&mut self, name: &str) {
        signal("-CONT", self.pid(name));
    }

    fn pid(&mut self, name: &str) -> u32 {
        self.daemon(name).child.as_ref().expect("it runs").id()
    }

    fn daemon(&mut self, name: &str) -> &mut Daemon {
        let found = self.daemons.iter_mut().find(|daemon| daemon.name == name);
        found.expect("a daemon of this fabric")
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }

    /// What a daemon has said so far, in all its lives.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    /// Runs a client verb against the first api-server.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Session {
        self.cli_over(0, arguments)
    }

    /// Runs a client verb against one of the api-servers.
    pub(crate) fn cli_over(&self, api: usize, arguments: &[&str]) -> Session {
        let through = ["--api", &self.apis[api]];
        session(&[&through, arguments].concat())
    }

    /// What a client verb prints as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.cli(&[&["-o", "json"], arguments].concat())
            .succeeded()
            .json()
    }

    /// Waits until all nodes are up; disks that are faulty do not count against it.
    pub(crate) fn wait_joined(&self) {
        let count = |kind: &str| {
            self.daemons
                .iter()
                .filter(|daemon| daemon.arguments[0] == kind)
                .count()
        };
        let wanted = [
            ("disk-nodes", count("disk-node")),
            ("controller-nodes", count("controller-node")),
        ];
        wait_until("all nodes to be up", || {
            wanted.iter().all(|(noun, count)| {
                let said = self.cli(&["-o", "json", noun, "list"]);
                said.code == 0 && {
                    let nodes = said.json();
                    let nodes = nodes.as_array().expect("a list");
                    nodes.iter().filter(|node| node["state"] == "up").count() == *count
                }
            })
        });
    }

    /// Waits until a pool is in this state.
    pub(crate) fn wait_pool(&self, pool: &str, state: &str) {
        self.wait_pool_over(0, pool, state);
    }

    pub(crate) fn wait_pool_over(&self, api: usize, pool: &str, state: &str) {
        wait_until(&format!("pool {pool} to be {state}"), || {
            let said = self.cli_over(api, &["-o", "json", "pool", "show", pool]);
            said.code == 0 && said.json()["status"]["state"] == state
        });
    }

    /// A mirrored pool of small extents on two controller nodes, served.
    pub(crate) fn create_pool(&self, name: &str, capacity: &str) {
        let arguments = [
            "pool",
            "create",
            name,
            "--capacity",
            capacity,
            "--extent-size",
            "4MiB",
            "--wait",
            "--wait-seconds",
            "30",
        ];
        self.cli(&arguments).succeeded();
    }

    /// A volume, attached to a host of its own, which is connected to these portals: exactly one of them serves it.
    pub(crate) fn create_volume(&self, name: &str, pool: &str, size: &str) -> DemoHost {
        self.cli(&["volume", "create", name, "--pool", pool, "--size", size, "--wait"])
            .succeeded();
        self.connect_new_host(name)
    }

    fn connect_new_host(&self, volume: &str) -> DemoHost {
        let nqn = format!("nqn.2014-08.org.nvmexpress:uuid:{}", Uuid::new_v4());
        self.cli(&["volume", "attach", volume, "--host", &nqn, "--wait"])
            .succeeded();
        let mut host = self.host(volume, &nqn);
        host.connect(self.portals.clone(), 1).expect("the host connects");
        host
    }

    /// A host by this name, of this volume, not connected.
    pub(crate) fn host(&self, volume: &str, nqn: &str) -> DemoHost {
        let shown = self.json(&["volume", "show", volume]);
        let id: Uuid = shown["id"]
            .as_str()
            .and_then(|id| id.parse().ok())
            .expect("an id");
        let subsystem = shown["subsystem_nqn"].as_str().expect("a name");
        DemoHost::start(nqn, subsystem, id).expect("a host starts")
    }

    /// Verified I/O to a new volume of its own, going on until it is ended.
    pub(crate) fn neighbour(&self, volume: &str, pool: &str) -> Neighbour {
        let host = self.create_volume(volume, pool, "32MiB");
        Neighbour::start(Workload::new(host, 4096))
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_logs();
        }
        self.kill_together(&self.names());
    }
}

impl Fabric {
    fn tell_logs(&self) {
        eprintln!("--- status\n{}", self.cli(&["-o", "json", "status"]).out);
        for name in self.names() {
            let log = self.log(&name);
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(15)..];
            eprintln!("--- {name}, its last words:\n{}", last.join("\n"));
        }
    }
}

/// A sparse file.
pub(crate) fn file_of(path: &Path, bytes: u64) {
    File::create(path)
        .and_then(|file| file.set_len(bytes))
        .expect("a file can be made");
}

pub(crate) fn signal(signal: &str, pid: u32) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .expect("a kill command");
    assert!(sent.success());
}

/// An address that is free, given once, and outside of what systems give to outgoing connections: it stays free while its
/// daemon is down.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 97 * 100) as u16;
    loop {
        let at = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000 + (first + at) % 12_000));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Asks until it is true.
pub(crate) fn wait_until(what: &str, ready: impl FnMut() -> bool) {
    within(PATIENCE, what, ready);
}

/// Asks until it is true, for so long at most; how long it took.
pub(crate) fn within(patience: Duration, what: &str, mut ready: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !ready() {
        assert!(
            begun.elapsed() < patience,
            "waited {} s for {what}",
            patience.as_secs()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    begun.elapsed()
}
