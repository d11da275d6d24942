//! A real etcd of one fabric: it ends with it, and also when this process is killed, because its keeper waits for the
//! end of a pipe that only this process holds.

use super::fabric::{free_address, signal, within};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Runs etcd until its own standard input ends.
const KEEPER: &str =
    r#"etcd "$@" >/dev/null 2>&1 & server=$!; echo $server; cat >/dev/null; kill -9 $server; wait"#;

pub(crate) struct Etcd {
    server: Option<Server>,
    client: SocketAddr,
    peer: SocketAddr,
    endpoint: String,
    data: tempfile::TempDir,
}

struct Server {
    keeper: Child,
    pid: u32,
}

impl Etcd {
    pub(crate) fn start() -> Etcd {
        let (client, peer) = (free_address(), free_address());
        let mut etcd = Etcd {
            server: None,
            client,
            peer,
            endpoint: format!("http://{client}"),
            data: tempfile::tempdir().expect("a temporary folder"),
        };
        etcd.start_again();
        etcd
    }

    /// Over the data that is there.
    pub(crate) fn start_again(&mut self) {
        let server = self.server.insert(Server::start(
            &self.endpoint,
            &format!("http://{}", self.peer),
            self.data.path(),
        ));
        assert!(server.pid > 1);
        within(
            Duration::from_secs(20),
            "etcd (Debian's etcd-server) to listen",
            || TcpStream::connect(self.client).is_ok(),
        );
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        drop(self.server.take());
    }

    /// SIGSTOP: connections stay, nothing is answered.
    pub(crate) fn freeze(&self) {
        signal("-STOP", self.server.as_ref().expect("it runs").pid);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        signal("-CONT", self.server.as_ref().expect("it runs").pid);
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Server {
    fn start(endpoint: &str, peer: &str, data: &Path) -> Server {
        let mut command = Command::new("sh");
        command
            .args(["-c", KEEPER, "keeper", "--name", "one", "--data-dir"])
            .arg(data);
        command.args([
            "--listen-client-urls",
            endpoint,
            "--advertise-client-urls",
            endpoint,
        ]);
        command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
        command.args(["--initial-cluster", &format!("one={peer}")]);
        command.args(["--heartbeat-interval", "50", "--election-timeout", "500"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut keeper = command.spawn().expect("a shell");
        let mut pid = String::new();
        let told = keeper.stdout.take().expect("it is piped");
        BufReader::new(told)
            .read_line(&mut pid)
            .expect("the keeper tells");
        let pid = pid.trim().parse().expect("the number of a process");
        Server { keeper, pid }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
