//! What `trestle bench` is told.

use super::hosts::HostsOptions;
use crate::arguments::PollingOptions;
use crate::size;
use clap::{Args, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::str::FromStr;
use uuid::Uuid;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchVerb {
    /// Put load on a namespace, and say how it went
    Run(RunOptions),
    /// Serve disks to any host, without a control plane, until killed
    Serve(ServeOptions),
    /// Move the same bytes over sockets without NVMe: the most that there is to be had
    Floor(FloorOptions),
    /// Connect many hosts that do nothing, and say what that costs
    Hosts(HostsOptions),
}

/// Which blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    /// Any, each time anew.
    Random,
    /// One behind the other, and from the beginning again.
    Sequential,
}

/// How many of a hundred are reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mix {
    /// Of a hundred.
    pub(crate) reads: u8,
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let percent = |number: &str| number.trim().parse::<u8>().ok().filter(|percent| *percent <= 100);
        let reads = match text.trim() {
            "read" => Some(100),
            "write" => Some(0),
            text => text
                .strip_suffix("read")
                .unwrap_or(text)
                .trim()
                .strip_suffix('%')
                .and_then(percent),
        };
        let reads = reads.ok_or_else(|| format!("'{text}' is no mix: write read, write, or such as 70%"))?;
        Ok(Mix { reads })
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.reads {
            100 => f.write_str("read"),
            0 => f.write_str("write"),
            reads => write!(f, "{reads}% read"),
        }
    }
}

/// A process whose CPU time is accounted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accounted {
    /// Its number.
    pub(crate) pid: u32,
    /// What it is called in the report.
    pub(crate) name: String,
}

impl FromStr for Accounted {
    type Err = String;

    fn from_str(text: &str) -> Result<Accounted, String> {
        let (pid, name) = text.split_once(':').unwrap_or((text, text));
        let number = pid.parse().map_err(|_| format!("'{pid}' is no process number"))?;
        Ok(Accounted {
            pid: number,
            name: name.to_owned(),
        })
    }
}

/// The load.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunOptions {
    /// Where the subsystem's controller listens; given again: another path to the same namespace
    #[arg(long = "address", required = true)]
    pub(crate) addresses: Vec<SocketAddr>,
    /// The subsystem
    #[arg(long)]
    pub(crate) nqn: String,
    /// The namespace
    #[arg(long, default_value_t = 1)]
    pub(crate) nsid: u32,
    /// Who connects
    #[arg(long, default_value = "nqn.2024-01.io.trestle:bench")]
    pub(crate) host_nqn: String,
    /// Its identifier; a fresh one if none is given
    #[arg(long)]
    pub(crate) host_id: Option<Uuid>,
    /// Threads, each with associations of its own and its own part of the range
    #[arg(long, default_value_t = 1)]
    pub(crate) cores: u16,
    /// Keep the threads on these cores, comma-separated
    #[arg(long, value_delimiter = ',')]
    pub(crate) pin: Vec<usize>,
    #[command(flatten)]
    pub(crate) polling: PollingOptions,
    /// Associations of each thread
    #[arg(long, default_value_t = 1)]
    pub(crate) associations: u16,
    /// I/O queues (connections) of each association
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: u16,
    /// Requests in flight on each connection
    #[arg(long, short = 'q', default_value_t = 32)]
    pub(crate) queue_depth: u16,
    /// Length of a request: whole blocks of 4096 bytes
    #[arg(long, short = 'b', value_parser = size::parse, default_value = "4KiB")]
    pub(crate) block_size: u64,
    /// Which blocks
    #[arg(long, value_enum, default_value_t = Pattern::Random)]
    pub(crate) pattern: Pattern,
    /// read, write, or a percentage of reads such as 70%
    #[arg(long, default_value = "read")]
    pub(crate) mix: Mix,
    /// How long to measure
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// How long to run before measuring
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warm_up: f64,
    /// Use only the first so many bytes; else the whole namespace
    #[arg(long, value_parser = size::parse)]
    pub(crate) range: Option<u64>,
    /// Stamp every block that is written and check every block that is read; a mismatch is an error
    #[arg(long)]
    pub(crate) verify: bool,
    /// At most so many requests a second, evenly spread: latency is counted from when each was due
    #[arg(long)]
    pub(crate) rate: Option<u64>,
    /// Digests over headers and data
    #[arg(long)]
    pub(crate) digests: bool,
    /// Say what this process used of CPU time, for each I/O; PID or PID:NAME, repeatable
    #[arg(long = "account")]
    pub(crate) accounts: Vec<Accounted>,
    /// What the row is called
    #[arg(long, default_value = "")]
    pub(crate) label: String,
    /// JSON, as --output json
    #[arg(long)]
    pub(crate) json: bool,
}

/// The bare target.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeOptions {
    /// Where to accept NVMe/TCP connections
    #[arg(long, default_value = "127.0.0.1:4420")]
    pub(crate) listen: SocketAddr,
    /// memory:SIZE, null:SIZE (answers at once, keeps nothing), or the path of a formatted disk; repeatable, a subsystem each
    #[arg(long = "disk", required = true)]
    pub(crate) disks: Vec<String>,
    /// Keep it on this core
    #[arg(long)]
    pub(crate) pin: Option<usize>,
    /// Reactors, each with disks of its own: never more than disks
    #[arg(long, default_value = "1")]
    pub(crate) cores: NonZeroUsize,
    /// The most that payload buffers take
    #[arg(long, value_parser = size::parse, default_value = "256MiB")]
    pub(crate) memory: u64,
    /// Use threads for the disk even where io_uring is to be had
    #[arg(long)]
    pub(crate) no_io_uring: bool,
    #[command(flatten)]
    pub(crate) polling: PollingOptions,
}

/// How the floor's server waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Waiting {
    /// Each way once; the best is told first.
    All,
    /// In the kernel, always.
    Sleep,
    /// Never in the kernel.
    Spin,
    /// In the kernel after 50 µs of nothing.
    Adaptive,
}

/// The floor.
#[derive(Args, Clone, Debug)]
pub(crate) struct FloorOptions {
    /// Requests in flight
    #[arg(long, short = 'q', default_value_t = 32)]
    pub(crate) queue_depth: u16,
    /// Payload of a request
    #[arg(long, short = 'b', value_parser = size::parse, default_value = "4KiB")]
    pub(crate) block_size: u64,
    /// read or write
    #[arg(long, default_value = "read")]
    pub(crate) mix: Mix,
    /// How long to measure, each way
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// How long to run before measuring
    #[arg(long, default_value_t = 0.5)]
    pub(crate) warm_up: f64,
    /// Payloads come from and go to so much memory of the server's, anywhere in it; zero: always the same bytes
    #[arg(long, value_parser = size::parse, default_value = "0")]
    pub(crate) span: u64,
    /// How the server waits (the client does alike)
    #[arg(long, value_enum, default_value_t = Waiting::All)]
    pub(crate) waiting: Waiting,
    /// Cores of server and client, comma-separated
    #[arg(long, value_delimiter = ',')]
    pub(crate) pin: Vec<usize>,
    /// JSON, as --output json
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes() {
        for (text, reads) in [
            ("read", 100),
            ("write", 0),
            ("70%", 70),
            ("70% read", 70),
            (" 0%", 0),
        ] {
            assert_eq!(text.parse(), Ok(Mix { reads }), "{text}");
        }
        for text in ["", "101%", "-1%", "both", "70", "read%"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
        assert_eq!(Mix { reads: 100 }.to_string(), "read");
        assert_eq!(Mix { reads: 30 }.to_string(), "30% read");
    }

    #[test]
    fn accounted_processes() {
        let accounted = |pid, name: &str| {
            Ok(Accounted {
                pid,
                name: name.to_owned(),
            })
        };
        assert_eq!("12".parse(), accounted(12, "12"));
        assert_eq!("12:disk node".parse(), accounted(12, "disk node"));
        assert!("x:1".parse::<Accounted>().is_err());
    }
}
