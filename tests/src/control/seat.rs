//! A node's process: the agent's rules over a ledger that tears, in front of a node of the data plane.

use super::net::{ApiRequest, ToApiServers, serve_api};
use super::sim::{SharedPlane, Sim};
use crate::control::folder::TornFolder;
use agent::api_client::ApiClient;
use agent::ledger::Ledger;
use agent::{Options, Rules};
use cluster::Incarnation;
use control::agent::{MembershipAnswer, MembershipRequest, Node, NodeConfig, NodeKind, NodeStatus};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

/// What every node shows at its first start.
pub const JOIN_TOKEN: &str = "the cluster's";

/// How many of a node's last calls may be under way when it dies.
const SENT_KEPT: usize = 4;

/// See the module.
pub struct Seat {
    /// Which kind.
    pub kind: NodeKind,
    /// For ever.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// Where its ledger is.
    pub folder: Arc<TornFolder>,
    number: u16,
    state: Mutex<State>,
}

struct State {
    running: Option<Running>,
    starts: u16,
    cut_until: Instant,
    /// Its last calls of api-servers, which may be under way when it dies.
    sent: VecDeque<ApiRequest>,
    retired: bool,
}

struct Running {
    rules: Rules,
    address: SocketAddr,
    /// They end with the process.
    tasks: JoinSet<()>,
}

impl Seat {
    /// A node that was never started.
    pub fn new(kind: NodeKind, id: Uuid, number: u16) -> Arc<Seat> {
        let letter = if kind == NodeKind::DiskNode { 'd' } else { 'c' };
        let state = State {
            running: None,
            starts: 0,
            cut_until: Instant::now(),
            sent: VecDeque::new(),
            retired: false,
        };
        Arc::new(Seat {
            kind,
            id,
            name: format!("{letter}{number}"),
            folder: Arc::default(),
            number,
            state: Mutex::new(state),
        })
    }

    /// Start its process, if it is not running and the cluster has not forgotten it.
    pub fn start(self: &Arc<Seat>, sim: &Arc<Sim>) {
        if self.is_running() || self.is_retired() {
            return;
        }
        self.folder.mend();
        let mut random = sim.fork();
        let incarnation = Incarnation(Uuid::from_u128(u128::from(random.draw()) << 64 | 0x8000));
        let ledger = match Ledger::open_in(self.folder.clone(), self.kind, self.id) {
            Ok(ledger) => ledger,
            Err(error) => {
                return sim.accuse("a crash leaves a ledger whole", format!("{}: {error}", self.name));
            }
        };
        let starts = {
            let mut state = self.state.lock().expect("one thread");
            state.starts += 1;
            state.starts
        };
        let network = if self.kind == NodeKind::DiskNode { 1 } else { 2 };
        let port = 9000 + starts % 2 * random.below(2) as u16;
        let address = SocketAddr::from(([10, network, 0, self.number as u8], port));
        sim.say(|| format!("{:<10} starts at {address}, start {starts}", self.name));
        sim.plane().start(self.kind, self.id, incarnation);
        let way = ToApiServers {
            sim: sim.clone(),
            seat: self.clone(),
        };
        let client = ApiClient::with(Arc::new(way), vec!["http://0".into(), "http://1".into()]);
        let node = Arc::new(PlaneNode {
            plane: sim.plane.clone(),
            id: self.id,
        });
        let rules = Rules::new(ledger, node, client);
        let options = Options {
            kind: self.kind,
            name: self.name.clone(),
            location: String::new(),
            listen: address,
            fabric_address: SocketAddr::new(address.ip(), address.port() - 5000),
            api_servers: Vec::new(),
            join_token: Some(JOIN_TOKEN.into()),
            incarnation,
        };
        let mut tasks = JoinSet::new();
        let (announced, name, told) = (rules.clone(), self.name.clone(), sim.clone());
        tasks.spawn(async move {
            let error = announced.keep_announced(&options, address).await;
            told.say(|| format!("{name:<10} is refused: {error}"));
        });
        sim.listen(address, self);
        let running = Running {
            rules,
            address,
            tasks,
        };
        self.state.lock().expect("one thread").running = Some(running);
    }

    /// It calls an api-server.
    pub fn sent(&self, request: &ApiRequest) {
        let sent = &mut self.state.lock().expect("one thread").sent;
        sent.push_back(request.clone());
        sent.drain(..sent.len().saturating_sub(SENT_KEPT));
    }

    /// Its process dies; what it sent last may arrive, or arrive again, for a while.
    pub fn crash(&self, sim: &Arc<Sim>) {
        let (running, sent) = {
            let mut state = self.state.lock().expect("one thread");
            (state.running.take(), std::mem::take(&mut state.sent))
        };
        let Some(running) = running else { return };
        for request in sent.into_iter().filter(|_| sim.below(2) == 0) {
            let (late, sim) = (Duration::from_millis(sim.below(8_000)), sim.clone());
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                serve_api(sim, 0, request).await;
            });
        }
        sim.say(|| format!("{:<10} dies", self.name));
        sim.hang_up(running.address);
        sim.plane().stop(self.id);
        self.folder.crash(&mut sim.fork());
    }

    /// The cluster forgot it: it is switched off for good.
    pub fn retire(&self, sim: &Arc<Sim>) {
        self.crash(sim);
        self.state.lock().expect("one thread").retired = true;
    }

    /// Reached by nobody, and reaching nobody, for so long.
    pub fn cut(&self, span: Duration) {
        self.state.lock().expect("one thread").cut_until = Instant::now() + span;
    }

    /// Whether it is cut off.
    pub fn is_cut(&self) -> bool {
        self.state.lock().expect("one thread").cut_until > Instant::now()
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.state.lock().expect("one thread").running.is_some()
    }

    /// Of its kind: one of those that are never forgotten.
    pub fn is_first(&self) -> bool {
        self.number < 2
    }

    /// Whether it was never started.
    pub fn is_new(&self) -> bool {
        self.state.lock().expect("one thread").starts == 0
    }

    /// Whether it is switched off for good.
    pub fn is_retired(&self) -> bool {
        self.state.lock().expect("one thread").retired
    }

    /// The rules, for who calls and gets through.
    pub fn reached(&self) -> Option<Rules> {
        if self.is_cut() {
            return None;
        }
        let state = self.state.lock().expect("one thread");
        state.running.as_ref().map(|running| running.rules.clone())
    }

    /// Its agent carries what its node asks for.
    pub fn carry(&self, sim: &Sim) {
        let mut state = self.state.lock().expect("one thread");
        let Some(running) = &mut state.running else { return };
        loop {
            let request = sim.plane().next_membership_request(self.id);
            let Some(request) = request else { return };
            sim.say(|| {
                let (slice, epoch) = (request.slice.to_string(), request.epoch.0);
                format!(
                    "{:<10} asks, for {} under epoch {epoch}: {:?}",
                    self.name,
                    &slice[..8],
                    request.change
                )
            });
            sim.oracle.lock().expect("one thread").asked(request.clone());
            let rules = running.rules.clone();
            running.tasks.spawn(async move { rules.carry(request).await });
        }
    }
}

/// The node, as its agent sees it.
struct PlaneNode {
    plane: SharedPlane,
    id: Uuid,
}

impl Node for PlaneNode {
    fn apply(&self, config: NodeConfig) {
        self.plane.lock().expect("one thread").apply(self.id, config);
    }
    fn status(&self) -> NodeStatus {
        self.plane.lock().expect("one thread").status(self.id)
    }
    /// Never waits: who has patience waits in virtual time.
    fn wait_status(&self, _: u64, _: Duration) -> u64 {
        self.plane.lock().expect("one thread").status_version(self.id)
    }
    /// They are fetched by [`Seat::carry`].
    fn next_membership_request(&self, _: Duration) -> Option<MembershipRequest> {
        None
    }
    fn membership_answer(&self, answer: MembershipAnswer) {
        self.plane
            .lock()
            .expect("one thread")
            .membership_answer(self.id, answer);
    }
}
