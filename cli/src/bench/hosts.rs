//! Many hosts with nothing to do: what a node pays for being connected to.
//!
//! Each host is its own: a name of its own, an identifier of its own, an association (admin queue, I/O queues, keep-alives, its
//! namespaces read) with every address. All of them live on one thread of this process.
//!
//! Not here: I/O (`run`), and choosing between paths: a host that does nothing does not choose.

use super::arguments::Accounted;
use super::paths::{Told, event_connection, tell, told_by_one};
use super::report::Reading;
use crate::arguments::Format;
use crate::client::table::{self, Row};
use anyhow::{Context, bail};
use block::{Duration as Span, Memory, Time};
use clap::Args;
use engine::{Handle, ReactorConfig};
use fabric::driver::{Event, Machine, Output};
use fabric::host::{Association, AssociationConfig, ConnectionIdRanges, ConnectionIds};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Between two associations' first attempts: hosts do not start in one instant, nor are their keep-alives due in one.
const STAGGER: Span = Span::from_millis(2);

/// Idle hosts.
#[derive(Args, Clone, Debug)]
pub(crate) struct HostsOptions {
    /// Where the subsystem's controllers listen; given again: another that every host connects to as well
    #[arg(long = "address", required = true)]
    pub(crate) addresses: Vec<SocketAddr>,
    /// The subsystem
    #[arg(long)]
    pub(crate) nqn: String,
    /// How many hosts
    #[arg(long, default_value_t = 200)]
    pub(crate) count: u16,
    /// Their names, but for a number from 1 behind it
    #[arg(long, default_value = "nqn.2024-01.io.trestle:bench-host-")]
    pub(crate) host_nqn_prefix: String,
    /// I/O queues (connections) of each association
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: u16,
    /// Keep-alive timeout; a keep-alive goes out every half of it
    #[arg(long, default_value_t = 5_000)]
    pub(crate) keep_alive_ms: u32,
    /// How long to watch once all are connected
    #[arg(long, default_value_t = 60.0)]
    pub(crate) seconds: f64,
    /// How long connecting may take
    #[arg(long, default_value_t = 60.0)]
    pub(crate) patience: f64,
    /// Say what this process used of CPU time; PID or PID:NAME, repeatable
    #[arg(long = "account")]
    pub(crate) accounts: Vec<Accounted>,
    /// JSON, as --output json
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was seen.
#[derive(Debug, Serialize)]
struct Watched {
    hosts: u16,
    associations: usize,
    /// Namespaces shown, summed over associations.
    namespaces: usize,
    connect_seconds: f64,
    /// Associations lost, or not made at the first attempt, before all were there.
    lost_before: usize,
    seconds: f64,
    /// Associations lost while they were watched.
    lost: usize,
    /// Why the first was.
    first_loss: Option<String>,
    /// Of one core, by process.
    cpu_share: BTreeMap<String, f64>,
}

impl Row for Watched {
    const HEADINGS: &'static [&'static str] = &[
        "hosts",
        "associations",
        "namespaces",
        "connected in s",
        "watched s",
        "lost",
        "CPU % of a core",
    ];

    fn cells(&self) -> Vec<String> {
        let share = |(name, share): (&String, &f64)| format!("{name} {:.2}", share * 100.0);
        vec![
            self.hosts.to_string(),
            self.associations.to_string(),
            self.namespaces.to_string(),
            format!("{:.1}", self.connect_seconds),
            format!("{:.1}", self.seconds),
            self.lost.to_string(),
            self.cpu_share.iter().map(share).collect::<Vec<_>>().join(", "),
        ]
    }
}

/// Connects them all, watches them, says what it cost. Fails if any was lost.
pub(super) fn run(options: &HostsOptions, format: Format) -> anyhow::Result<ExitCode> {
    if options.count == 0 || options.connections == 0 {
        bail!("--count and --connections begin at 1");
    }
    let (tell, news) = channel();
    let crowd = Crowd::new(options);
    let associations = crowd.associations.len();
    let config = ReactorConfig {
        name: "bench-hosts".to_owned(),
        ..ReactorConfig::default()
    };
    // Nobody listens any more at the end.
    let report = move |report| drop(tell.send(report));
    let reactor = engine::start(config, move |_| crowd, report).context("cannot start a thread")?;
    let begun = Instant::now();
    let mut lost = Vec::new();
    let namespaces = connected(options, &news, &mut lost)?;
    let connect_seconds = begun.elapsed().as_secs_f64();
    let lost_before = lost.len();
    lost.clear();
    eprintln!("{associations} associations after {connect_seconds:.1} s");

    let watching = Instant::now();
    let before = Reading::take(&options.accounts)?;
    watch(options, &news, &mut lost)?;
    let used = Reading::take(&options.accounts)?.since(&before);
    let seconds = watching.elapsed().as_secs_f64();
    stop(&reactor, &news);
    let watched = Watched {
        hosts: options.count,
        associations,
        namespaces,
        connect_seconds,
        lost_before,
        seconds,
        lost: lost.len(),
        first_loss: lost.first().cloned(),
        cpu_share: used
            .into_iter()
            .map(|(name, used)| (name, used.as_secs_f64() / seconds))
            .collect(),
    };
    let format = if options.json { Format::Json } else { format };
    table::print_row(format, &watched);
    Ok(if watched.lost == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Waits until all are; how many namespaces they were shown.
fn connected(
    options: &HostsOptions,
    news: &Receiver<CrowdReport>,
    lost: &mut Vec<String>,
) -> anyhow::Result<usize> {
    let until = Instant::now() + Duration::from_secs_f64(options.patience.max(0.0));
    loop {
        match next(news, until)? {
            Some(CrowdReport::AllLive { namespaces }) => return Ok(namespaces),
            Some(CrowdReport::Lost(reason)) => lost.push(reason),
            Some(CrowdReport::Stopped) => {}
            None => {
                let last = lost.last().map_or("nothing was answered", String::as_str);
                bail!("not all of them connected within {} s: {last}", options.patience);
            }
        }
    }
}

fn watch(options: &HostsOptions, news: &Receiver<CrowdReport>, lost: &mut Vec<String>) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs_f64(options.seconds.max(0.0));
    while let Some(report) = next(news, until)? {
        if let CrowdReport::Lost(reason) = report {
            lost.push(reason);
        }
    }
    Ok(())
}

/// Disconnects in order, if that is quick.
fn stop(reactor: &Handle<CrowdControl>, news: &Receiver<CrowdReport>) {
    let until = Instant::now() + Duration::from_secs(5);
    if reactor.control(CrowdControl::Stop).is_err() {
        return;
    }
    while let Ok(Some(report)) = next(news, until) {
        if let CrowdReport::Stopped = report {
            return;
        }
    }
}

/// The next report until then.
fn next(news: &Receiver<CrowdReport>, until: Instant) -> anyhow::Result<Option<CrowdReport>> {
    match news.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(report) => Ok(Some(report)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => bail!("the hosts' thread has stopped"),
    }
}

/// What the crowd is told.
#[derive(Debug)]
enum CrowdControl {
    /// Disconnect.
    Stop,
}

/// What it tells.
#[derive(Debug, PartialEq, Eq)]
enum CrowdReport {
    /// Every association can be used.
    AllLive { namespaces: usize },
    /// One was lost, or could not be made.
    Lost(String),
    /// None is left.
    Stopped,
}

/// All the hosts' associations, as one machine.
struct Crowd {
    associations: Vec<Association>,
    /// Those told to connect.
    begun: usize,
    begin_at: Time,
    /// Not all of them have been live at once yet.
    awaiting: bool,
    /// Once it was told to stop: those that have not left yet.
    leaving: Option<usize>,
    outputs: VecDeque<Output<CrowdReport>>,
}

impl Crowd {
    fn new(options: &HostsOptions) -> Crowd {
        let mut ranges = ConnectionIdRanges::new();
        let mut associations = Vec::new();
        for number in 1..=options.count {
            let host_nqn = format!("{}{number}", options.host_nqn_prefix);
            let host_id = *Uuid::new_v4().as_bytes();
            for address in &options.addresses {
                let config = AssociationConfig {
                    io_queues: options.connections,
                    kato_ms: options.keep_alive_ms,
                    ..AssociationConfig::new(&host_nqn, host_id, &options.nqn, *address)
                };
                associations.push(Association::new(config, ranges.take()));
            }
        }
        Crowd {
            associations,
            begun: 0,
            begin_at: Time::ZERO,
            awaiting: true,
            leaving: None,
            outputs: VecDeque::new(),
        }
    }

    fn stop(&mut self, now: Time, memory: &mut dyn Memory) {
        self.awaiting = false;
        self.leaving = Some(self.begun);
        self.associations.truncate(self.begun);
        for index in 0..self.begun {
            self.associations[index].disconnect(now, memory);
            self.drain(index);
        }
    }

    /// Only those whose time has come: the others have nothing to say.
    fn pass_time(&mut self, now: Time, memory: &mut dyn Memory) {
        while self.begun < self.associations.len() && self.begin_at <= now {
            self.associations[self.begun].connect(now);
            self.drain(self.begun);
            self.begun += 1;
            self.begin_at = now + STAGGER;
        }
        for index in 0..self.begun {
            if self.associations[index]
                .next_timeout()
                .is_some_and(|at| at <= now)
            {
                self.associations[index].handle_timeout(now, memory);
                self.drain(index);
            }
        }
    }

    fn lost(&mut self, reason: String) {
        let report = match &mut self.leaving {
            None => CrowdReport::Lost(reason),
            Some(left) => {
                *left = left.saturating_sub(1);
                if *left > 0 {
                    return;
                }
                CrowdReport::Stopped
            }
        };
        self.outputs.push_back(Output::Report(Box::new(report)));
    }

    fn drain(&mut self, index: usize) {
        let mut changed = false;
        while let Some(output) = self.associations[index].poll_output() {
            match told_by_one(output) {
                Some(Told::Output(output)) => self.outputs.push_back(output),
                Some(Told::Lost(reason)) => self.lost(reason),
                Some(Told::Ready) => changed = true,
                Some(Told::Ended { .. }) | None => {}
            }
        }
        if changed && self.awaiting && self.associations.iter().all(Association::is_ready) {
            self.awaiting = false;
            let shown = |association: &Association| association.namespaces().iter().count();
            let namespaces = self.associations.iter().map(shown).sum();
            let report = CrowdReport::AllLive { namespaces };
            self.outputs.push_back(Output::Report(Box::new(report)));
        }
    }
}

impl Machine for Crowd {
    type Control = CrowdControl;
    type Report = CrowdReport;

    fn handle(&mut self, now: Time, event: Event<'_, CrowdControl>, memory: &mut dyn Memory) {
        match event {
            Event::Control(CrowdControl::Stop) => self.stop(now, memory),
            Event::Timeout => self.pass_time(now, memory),
            event => {
                // Each has a range of names of its own, numbered as they are.
                if let Some(index) = event_connection(&event).and_then(ConnectionIds::range_of) {
                    let index = index as usize;
                    tell(&mut self.associations[index], now, event, memory);
                    self.drain(index);
                }
            }
        }
    }

    fn poll_output(&mut self) -> Option<Output<CrowdReport>> {
        self.outputs.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        let begin = (self.begun < self.associations.len()).then_some(self.begin_at);
        let theirs = self.associations[..self.begun].iter();
        let theirs = theirs.filter_map(Association::next_timeout).min();
        [begin, theirs].into_iter().flatten().min()
    }
}
