//! A whole control plane under virtual time, from one seed: production's workers, api-servers, agents' rules, planner, audit and transactions,
//! unmodified, over a model store, a simulated network and a small data plane ([`ground`]), with people who want things ([`people`]), faults
//! ([`fault`]) and oracles ([`oracle`]).
//!
//! One thread, tokio's clock paused: time goes on when everybody waits. So a seed is one run, and its trace is always the same.

pub mod client;
pub mod fault;
pub mod folder;
pub mod ground;
pub mod net;
pub mod oracle;
pub mod people;
pub mod plane;
pub mod seat;
pub mod sim;
pub mod trace;
mod watchman;

use crate::world::Random;
use client::{Client, Life};
use control::agent::NodeKind;
use fault::Fault;
use ground::Ground;
use net::ToAgents;
use people::Person;
use seat::{JOIN_TOKEN, Seat};
use sim::Sim;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use trace::Trace;
use uuid::Uuid;

/// How often nodes go on.
const TICK: Duration = Duration::from_millis(50);
/// How long the world may take to come to rest.
const REST_MAX: Duration = Duration::from_secs(240);
/// How long calls may be under way that were sent before the faults stopped.
const LATE_MAX: Duration = Duration::from_secs(30);
/// How long nothing is written at rest: longer than every timer of a worker.
const REST_PROVED: Duration = Duration::from_secs(70);

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of the store, in the end.
    pub revisions: u64,
    /// What happened, a line each.
    pub trace: Vec<String>,
}

/// Run one seed. With `print`, a line for everything that happens.
///
/// Errors: the seed, the rule that was broken, and how.
pub fn run_seed(seed: u64, print: bool) -> Result<Outcome, String> {
    watchman::listen_for_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    let outcome = runtime.block_on(async { Run::begin(seed, print).until_its_end().await });
    outcome.map_err(|what| format!("seed {seed}: {what}\nreplay: TRESTLE_SEED={seed} cargo test -p tests --test control_plane -- --nocapture"))
}

/// A worker's process.
struct Worker {
    life: Arc<Life>,
    task: JoinHandle<()>,
    /// It ends when this is dropped, but it is killed before.
    _stop: watch::Sender<bool>,
}

/// A run under way.
struct Run {
    sim: Arc<Sim>,
    random: Random,
    seats: Vec<Arc<Seat>>,
    workers: Vec<Worker>,
    api_servers: Vec<Arc<Life>>,
    starts: u32,
}

impl Run {
    fn begin(seed: u64, print: bool) -> Run {
        let trace = Arc::new(Trace::new(print));
        let sim = Sim::new(seed, trace, Box::new(Ground::new(seed)));
        let mut random = sim.fork();
        let mut seats = Vec::new();
        for (kind, network, count) in [
            (NodeKind::DiskNode, 0xd0, 4 + random.below(3)),
            (NodeKind::ControllerNode, 0xc0, 3 + random.below(2)),
        ] {
            for number in 0..count {
                let id = u128::from(random.draw()) << 64 | network << 8 | u128::from(number);
                seats.push(Seat::new(kind, Uuid::from_u128(id), number as u16));
            }
        }
        let mut run = Run {
            sim,
            random,
            seats,
            workers: Vec::new(),
            api_servers: Vec::new(),
            starts: 0,
        };
        for index in 0..2 {
            run.start_api_server(index);
        }
        for _ in 0..1 + run.random.below(3) {
            let worker = run.start_worker();
            run.workers.push(worker);
        }
        run
    }

    async fn until_its_end(mut self) -> Result<Outcome, String> {
        let ticks = tokio::spawn(tick(self.sim.clone(), self.seats.clone()));
        // The last of each kind is added by people, or comes in the end.
        let later = |seat: &Seat| {
            self.seats
                .iter()
                .rfind(|other| other.kind == seat.kind)
                .is_some_and(|last| last.id == seat.id)
        };
        let first: Vec<_> = self.seats.iter().filter(|seat| !later(seat)).cloned().collect();
        for seat in first {
            seat.start(&self.sim);
            sleep(Duration::from_millis(self.random.below(300))).await;
        }
        let people: Vec<_> = ["anna", "bert"]
            .into_iter()
            .map(|name| tokio::spawn(Person::new(&self.sim, name).want_things(self.seats.clone())))
            .collect();
        self.trouble().await?;
        people.iter().for_each(JoinHandle::abort);
        self.clear_up();
        Person::new(&self.sim, "carl").uncordon_all(&self.seats).await;
        self.pass(LATE_MAX).await?;
        self.come_to_rest().await?;
        if self.random.one_in(2) {
            Person::new(&self.sim, "carl").delete_everything().await;
            self.come_to_rest().await?;
        }
        ticks.abort();
        let revisions = self.sim.oracle.lock().expect("one thread").revision;
        let trace = self.sim.trace.lines();
        Ok(Outcome { revisions, trace })
    }

    /// A fault every few seconds, for a minute or two.
    async fn trouble(&mut self) -> Result<(), String> {
        let end = self.sim.now() + Duration::from_secs(50 + self.random.below(70));
        let calm = Duration::from_secs(self.random.below(12));
        self.pass(calm).await?;
        while self.sim.now() < end {
            let (fault, span) = fault::draw(&mut self.random);
            self.sim.say(|| format!("{:<10} {fault:?} for {span:?}", "FAULT"));
            self.befall(fault, span);
            let pause = Duration::from_millis(300 + self.random.below(7_000));
            self.pass(pause).await?;
        }
        Ok(())
    }

    fn befall(&mut self, fault: Fault, span: Duration) {
        let seat = self.seats[self.random.below(self.seats.len() as u64) as usize].clone();
        let worker = self.random.below(self.workers.len() as u64) as usize;
        match fault {
            Fault::WatchesLost => self.sim.end_watches(),
            Fault::Compaction => self.compact(),
            Fault::WorkerPauses => self.workers[worker].life.pause(span),
            Fault::WorkerCrashes => {
                self.kill_worker(worker);
                self.workers[worker] = self.start_worker();
            }
            Fault::ApiServerCrashes => {
                let index = self.random.below(2) as usize;
                self.api_servers[index].end();
                self.start_api_server(index);
            }
            Fault::NodeCut => {
                self.sim.say(|| format!("{:<10} is cut off", seat.name));
                seat.cut(span);
            }
            Fault::NodeRestarts => {
                seat.crash(&self.sim);
                seat.start(&self.sim);
            }
            Fault::NodeRestartsWriting => {
                seat.folder.break_after(self.random.below(9) as u32);
                self.later(span, move |sim| {
                    seat.crash(sim);
                    seat.start(sim);
                });
            }
            Fault::NodeAway => {
                seat.crash(&self.sim);
                self.later(span, move |sim| seat.start(sim));
            }
            lasting => self.sim.weather().begin(lasting, span),
        }
    }

    fn later(&self, span: Duration, what: impl FnOnce(&Arc<Sim>) + Send + 'static) {
        let sim = self.sim.clone();
        tokio::spawn(async move {
            sleep(span).await;
            what(&sim);
        });
    }

    fn compact(&self) {
        let revision = self.sim.oracle.lock().expect("one thread").revision;
        let sim = self.sim.clone();
        tokio::spawn(async move { sim.memory().compact(store::StoreRevision(revision)).await });
    }

    /// The faults stop, and who is away comes back; who was forgotten does not.
    fn clear_up(&mut self) {
        self.sim.say(|| "FAULT      no more".into());
        self.sim.weather().end_all();
        let known = self.sim.oracle.lock().expect("one thread").known_nodes();
        for seat in &self.seats {
            seat.cut(Duration::ZERO);
            if !known.contains(&seat.id) && seat.is_running() {
                seat.retire(&self.sim);
            } else if !seat.is_running() {
                seat.start(&self.sim);
            }
        }
    }

    /// Let time pass, and look whether a rule was broken.
    async fn pass(&mut self, span: Duration) -> Result<(), String> {
        let end = self.sim.now() + span;
        loop {
            sleep(Duration::from_millis(500).min(end.saturating_sub(self.sim.now()))).await;
            if let Some(panic) = watchman::panicked() {
                return Err(format!("somebody panicked: {panic}"));
            }
            if let Some((rule, what)) = self.sim.oracle.lock().expect("one thread").violation() {
                return Err(format!("rule \"{rule}\" is broken: {}", trace::shortened(&what)));
            }
            if self.sim.now() >= end {
                return Ok(());
            }
        }
    }

    async fn come_to_rest(&mut self) -> Result<(), String> {
        let end = self.sim.now() + REST_MAX;
        loop {
            self.pass(Duration::from_secs(2)).await?;
            let unrest = self.unrest();
            if unrest.is_empty() {
                break;
            }
            if self.sim.now() > end {
                return Err(format!(
                    "rule \"at rest\" is broken: {}",
                    trace::shortened(&unrest.join("; "))
                ));
            }
        }
        let restless = |run: &Run| run.sim.oracle.lock().expect("one thread").restless;
        let before = restless(self);
        self.pass(REST_PROVED).await?;
        let after = restless(self);
        if before != after {
            let lines = self.sim.trace.lines();
            let last = lines.iter().rev().find(|line| line.contains(" @")).cloned();
            let last = last.unwrap_or_default();
            return Err(format!(
                "rule \"at rest\" is broken: {} revisions, the last {last}",
                after - before
            ));
        }
        Ok(())
    }

    fn unrest(&self) -> Vec<String> {
        let oracle = self.sim.oracle.lock().expect("one thread");
        oracle.unrest(&self.seats, self.workers.len())
    }

    fn start_worker(&mut self) -> Worker {
        self.starts += 1;
        let life = Life::new(format!("w{}", self.starts));
        self.sim.say(|| format!("{:<10} starts", life.name));
        let store: Arc<dyn Store> = Arc::new(Client::new(&self.sim, life.clone()));
        // A clock of its own: everything that is timed is a little faster or slower.
        let per_mille = 800 + self.random.below(450) as u32;
        let drift = |span: Duration| span * per_mille / 1000;
        let production = worker::Options::default();
        let options = worker::Options {
            round_every: drift(production.round_every),
            agent_wait: drift(production.agent_wait),
            agent_timeout: drift(production.agent_timeout),
            agent_pause: drift(production.agent_pause),
            failure_pause: drift(production.failure_pause),
            events_max: 300,
            operations_max: 40,
            ..production
        };
        let agents = ToAgents {
            sim: self.sim.clone(),
            life: life.clone(),
            patience: options.agent_timeout,
        };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(worker::run_with(store, Arc::new(agents), options, stopped));
        Worker {
            life,
            task,
            _stop: stop,
        }
    }

    fn kill_worker(&mut self, index: usize) {
        let worker = &self.workers[index];
        self.sim.say(|| format!("{:<10} dies", worker.life.name));
        worker.life.end();
        worker.task.abort();
    }

    fn start_api_server(&mut self, index: usize) {
        self.starts += 1;
        let life = Life::new(format!("a{}", self.starts));
        self.sim
            .say(|| format!("{:<10} starts as api-server {index}", life.name));
        let store: Arc<dyn Store> = Arc::new(Client::new(&self.sim, life.clone()));
        let mut options = api_server::Options::new(([10, 0, 0, 1], 7070).into());
        options.join_token = Some(JOIN_TOKEN.into());
        self.sim.put_api_server(index, api_server::router(store, options));
        if index == self.api_servers.len() {
            self.api_servers.push(life);
        } else {
            self.api_servers[index] = life;
        }
    }
}

/// Nodes go on, and their agents carry what they ask for.
async fn tick(sim: Arc<Sim>, seats: Vec<Arc<Seat>>) {
    loop {
        sleep(TICK).await;
        sim.plane().advance_to(sim.now());
        seats.iter().for_each(|seat| seat.carry(&sim));
        sim.plane_changed.notify_waiters();
    }
}
