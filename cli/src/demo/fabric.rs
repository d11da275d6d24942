//! The demo's processes: every daemon is this same binary, started as people would start it.

use crate::client::api::Api;
use anyhow::{Context, bail};
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const DISK_NODES: usize = 3;
pub(crate) const CONTROLLER_NODES: usize = 2;
const DISK_BYTES: u64 = 1 << 30;

/// One daemon.
struct Process {
    name: String,
    arguments: Vec<String>,
    child: Option<Child>,
}

/// A whole fabric.
pub(crate) struct Fabric {
    folder: PathBuf,
    binary: PathBuf,
    join_token: String,
    keep: bool,
    processes: Vec<Process>,
    /// Base address of the api-server.
    pub(crate) api: String,
    /// NVMe/TCP addresses of the controller nodes.
    pub(crate) portals: Vec<SocketAddr>,
}

impl Fabric {
    /// Prepares folders and disks; nothing runs yet.
    pub(crate) fn prepare(
        folder: &Path,
        address: IpAddr,
        etcd: &[String],
        keep: bool,
    ) -> anyhow::Result<Fabric> {
        fs::create_dir_all(folder.join("logs"))
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let mut ports = Ports::new(address);
        let api = ports.take()?;
        let mut fabric = Fabric {
            folder: folder.to_owned(),
            binary: std::env::current_exe().context("cannot find this program's own file")?,
            join_token: uuid::Uuid::new_v4().to_string(),
            keep,
            processes: Vec::new(),
            api: format!("http://{api}"),
            portals: Vec::new(),
        };
        fabric.add_control_plane(api, etcd);
        for number in 1..=DISK_NODES {
            fabric.add_disk_node(number, &mut ports)?;
        }
        for number in 1..=CONTROLLER_NODES {
            fabric.add_controller_node(number, &mut ports)?;
        }
        Ok(fabric)
    }

    fn add_control_plane(&mut self, api: SocketAddr, etcd: &[String]) {
        let listen = ["--listen".to_owned(), api.to_string()];
        if etcd.is_empty() {
            let store = self.folder.join("store").display().to_string();
            let rest = ["--data-dir".to_owned(), store];
            self.add("control-plane", "control-plane", [&listen[..], &rest].concat());
        } else {
            // A prefix of its own: an etcd that is given may hold other things.
            let prefix = format!("/trestle-demo-{}/", uuid::Uuid::new_v4());
            let etcd = [
                "--etcd".to_owned(),
                etcd.join(","),
                "--etcd-prefix".to_owned(),
                prefix,
            ];
            self.add("api-server", "api-server", [&listen[..], &etcd].concat());
            self.add("worker", "worker", etcd.to_vec());
        }
    }

    fn add_disk_node(&mut self, number: usize, ports: &mut Ports) -> anyhow::Result<()> {
        let name = format!("disk-node-{number}");
        let disk = self.folder.join(format!("disk-{number}"));
        File::create(&disk)
            .and_then(|file| file.set_len(DISK_BYTES))
            .context("cannot make a disk file")?;
        let disk = disk.display().to_string();
        let formatted = Command::new(&self.binary)
            .args(["disk", "format", &disk, "--extent-size", "16MiB"])
            .stderr(Stdio::inherit())
            .stdout(Stdio::null())
            .status()
            .context("cannot run this program again")?;
        if !formatted.success() {
            bail!("cannot format {disk}");
        }
        let node = self.node_arguments(&name, ports.take()?, ports.take()?);
        self.add(
            &name,
            "disk-node",
            [node, vec!["--disk".to_owned(), disk]].concat(),
        );
        Ok(())
    }

    fn add_controller_node(&mut self, number: usize, ports: &mut Ports) -> anyhow::Result<()> {
        let name = format!("controller-node-{number}");
        let portal = ports.take()?;
        self.portals.push(portal);
        let node = self.node_arguments(&name, portal, ports.take()?);
        self.add(&name, "controller-node", node);
        Ok(())
    }

    fn node_arguments(&self, name: &str, fabric: SocketAddr, agent: SocketAddr) -> Vec<String> {
        let data = self.folder.join(name).display().to_string();
        let pairs = [
            ("--name", name.to_owned()),
            ("--data-dir", data),
            ("--fabric-listen", fabric.to_string()),
            ("--agent-listen", agent.to_string()),
            ("--api-servers", self.api.clone()),
        ];
        pairs
            .into_iter()
            .flat_map(|(option, value)| [option.to_owned(), value])
            .collect()
    }

    fn add(&mut self, name: &str, daemon: &str, mut arguments: Vec<String>) {
        arguments.insert(0, daemon.to_owned());
        self.processes.push(Process {
            name: name.to_owned(),
            arguments,
            child: None,
        });
    }

    /// The names of all processes.
    pub(crate) fn names(&self) -> Vec<String> {
        self.processes
            .iter()
            .map(|process| process.name.clone())
            .collect()
    }

    /// Starts every process that does not run.
    pub(crate) fn start_all(&mut self) -> anyhow::Result<()> {
        for name in self.names() {
            self.start(&name)?;
        }
        Ok(())
    }

    /// Starts a process, unless it runs.
    pub(crate) fn start(&mut self, name: &str) -> anyhow::Result<()> {
        let log = self.log(name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .context("cannot write a log")?;
        let (binary, token, keep) = (self.binary.clone(), self.join_token.clone(), self.keep);
        let process = self.process(name);
        if process.child.is_some() {
            return Ok(());
        }
        let mut command = Command::new(binary);
        command.args(&process.arguments).env("TRESTLE_JOIN_TOKEN", token);
        command
            .stdout(log.try_clone().context("cannot write a log")?)
            .stderr(log);
        // With a pipe on its standard input a daemon ends with the demo, however that ends.
        if keep {
            command.stdin(Stdio::null());
        } else {
            command.env("TRESTLE_END_WITH_STDIN", "1").stdin(Stdio::piped());
        }
        process.child = Some(command.spawn().with_context(|| format!("cannot start {name}"))?);
        Ok(())
    }

    /// kill -9; returns when the process is gone.
    pub(crate) fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        if let Some(mut child) = self.process(name).child.take() {
            child.kill().with_context(|| format!("cannot kill {name}"))?;
            child.wait().with_context(|| format!("cannot wait for {name}"))?;
        }
        Ok(())
    }

    /// A process that ended by itself, if one did.
    pub(crate) fn fallen(&mut self) -> Option<String> {
        self.processes.iter_mut().find_map(|process| {
            let ended = process.child.as_mut()?.try_wait().ok()??;
            Some(format!("{} ended by itself ({ended})", process.name))
        })
    }

    /// Where a process writes what it has to say.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    /// A client of its api-server.
    pub(crate) fn client(&self) -> Api {
        Api::new(&self.api)
    }

    fn process(&mut self, name: &str) -> &mut Process {
        self.processes
            .iter_mut()
            .find(|process| process.name == name)
            .expect("a process of this fabric")
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        for process in &mut self.processes {
            if let Some(child) = &mut process.child {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// Free ports, below those that the system gives to outgoing connections: a daemon that is down for a moment finds its own again.
struct Ports {
    address: IpAddr,
    next: u16,
    /// Held until all are taken, so that no port is given twice.
    held: Vec<TcpListener>,
}

const PORTS: std::ops::Range<u16> = 20_000..31_000;

impl Ports {
    fn new(address: IpAddr) -> Ports {
        // Demos that run at the same time begin at different places.
        let offset = (std::process::id() * 37 % u32::from(PORTS.end - PORTS.start)) as u16;
        Ports {
            address,
            next: PORTS.start + offset,
            held: Vec::new(),
        }
    }

    fn take(&mut self) -> anyhow::Result<SocketAddr> {
        for _ in PORTS {
            let port = self.next;
            self.next = if port + 1 < PORTS.end {
                port + 1
            } else {
                PORTS.start
            };
            match TcpListener::bind((self.address, port)) {
                Ok(listener) => {
                    self.held.push(listener);
                    return Ok(SocketAddr::new(self.address, port));
                }
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                Err(error) => {
                    let what = format!("{} is not an address of this machine", self.address);
                    return Err(anyhow::Error::new(error).context(what));
                }
            }
        }
        bail!("no port between {} and {} is free", PORTS.start, PORTS.end)
    }
}

/// Asks `ready` until it is true, every 50 ms.
pub(crate) fn wait_until(
    what: &str,
    patience: Duration,
    mut ready: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    let mut last = None;
    while Instant::now() < deadline {
        match ready() {
            Ok(true) => return Ok(()),
            Ok(false) => last = None,
            Err(error) => last = Some(error),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    match last {
        Some(error) => Err(error.context(format!("waited {} s for {what}", patience.as_secs()))),
        None => bail!("waited {} s for {what}", patience.as_secs()),
    }
}
