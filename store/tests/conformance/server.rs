//! A real etcd, of this test process only: it ends when the last case that uses it ends, and also when this process is
//! killed, because its keeper waits for the end of a pipe that only this process holds.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::ops::Deref;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard};

/// Runs etcd until its own standard input ends.
const KEEPER: &str =
    r#"etcd "$@" >/dev/null 2>&1 & server=$!; echo $server; cat >/dev/null; kill -9 $server; wait"#;

pub(crate) struct Server {
    keeper: Child,
    process: String,
    endpoint: String,
    _data: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Server {
        for _ in 0..3 {
            if let Some(server) = Server::try_start() {
                return server;
            }
        }
        panic!("etcd did not start: is the Debian package etcd-server installed?");
    }

    fn try_start() -> Option<Server> {
        let data = tempfile::tempdir().expect("a temporary folder");
        let (client, peer) = (free_port(), free_port());
        let (endpoint, peer) = (
            format!("http://127.0.0.1:{client}"),
            format!("http://127.0.0.1:{peer}"),
        );
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", "--name", "one", "--data-dir"])
            .arg(data.path())
            .args([
                "--listen-client-urls",
                &endpoint,
                "--advertise-client-urls",
                &endpoint,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("one={peer}")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let mut process = String::new();
        let told = keeper.stdout.take().expect("it is piped");
        BufReader::new(told)
            .read_line(&mut process)
            .expect("the keeper tells the server's number");
        let server = Server {
            keeper,
            process: process.trim().into(),
            endpoint,
            _data: data,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", client)).is_err() {
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    /// It no longer runs, but its connections stay open.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }
    /// It runs again.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.process])
            .status()
            .expect("a kill command");
        assert!(sent.success());
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Free a moment ago. Somebody else may take it: then etcd does not start, and another is tried.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

static SHARED: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());

/// The shared server, for one case at a time: revisions are common to the whole server. A waiting case keeps it running.
pub(crate) struct Shared {
    server: Arc<Server>,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Shared {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}

pub(crate) async fn shared() -> Shared {
    static TURN: Mutex<()> = Mutex::const_new(());
    let mut slot = SHARED.lock().await;
    let server = match slot.upgrade() {
        Some(server) => server,
        None => {
            let server = Arc::new(Server::start());
            *slot = Arc::downgrade(&server);
            server
        }
    };
    drop(slot);
    Shared {
        server,
        _turn: TURN.lock().await,
    }
}
