//! What was measured, as a row.

use super::account;
use super::arguments::Accounted;
use super::histogram::Histogram;
use crate::client::table::Row;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Latencies in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) mean_us: f64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p99_9_us: f64,
    pub(super) max_us: f64,
}

impl Latency {
    /// Of values in nanoseconds.
    pub(super) fn of(histogram: &Histogram) -> Latency {
        let percentile = |of_ten_thousand| histogram.percentile(of_ten_thousand) as f64 / 1000.0;
        Latency {
            mean_us: histogram.mean() / 1000.0,
            p50_us: percentile(5000),
            p90_us: percentile(9000),
            p99_us: percentile(9900),
            p99_9_us: percentile(9990),
            max_us: histogram.max() as f64 / 1000.0,
        }
    }
}

/// One run.
#[derive(Debug, Serialize)]
pub(super) struct Measurement {
    pub(super) label: String,
    pub(super) seconds: f64,
    pub(super) ios: u64,
    pub(super) iops: f64,
    pub(super) mib_per_second: f64,
    pub(super) latency: Latency,
    /// Of each accounted process, by name: microseconds for each I/O.
    pub(super) cpu_us_per_io: BTreeMap<String, f64>,
    /// Of one core, by name.
    pub(super) cpu_share: BTreeMap<String, f64>,
    pub(super) errors: u64,
    pub(super) mismatches: u64,
    pub(super) lost: u64,
    /// Of each association in turn: how fair the target is. Empty for what has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ios_by_association: Vec<u64>,
}

impl Measurement {
    /// From latencies in nanoseconds over a time, and the CPU time that was used in it.
    pub(super) fn new(
        label: String,
        elapsed: Duration,
        latencies: &Histogram,
        block_bytes: u64,
        used: &BTreeMap<String, Duration>,
    ) -> Measurement {
        let seconds = elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let ios = latencies.count();
        let iops = ios as f64 / seconds;
        let micros = |used: &Duration| used.as_secs_f64() * 1e6;
        let each = |of: &dyn Fn(&Duration) -> f64| {
            used.iter().map(|(name, used)| (name.clone(), of(used))).collect()
        };
        Measurement {
            label,
            seconds,
            ios,
            iops,
            mib_per_second: iops * block_bytes as f64 / f64::from(1 << 20),
            latency: Latency::of(latencies),
            cpu_us_per_io: each(&|used| micros(used) / ios.max(1) as f64),
            cpu_share: each(&|used| used.as_secs_f64() / seconds),
            errors: 0,
            mismatches: 0,
            lost: 0,
            ios_by_association: Vec::new(),
        }
    }
}

impl Row for Measurement {
    const HEADINGS: &'static [&'static str] = &[
        "what",
        "IOPS",
        "MiB/s",
        "mean us",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "CPU us/IO",
        "faults",
    ];

    fn cells(&self) -> Vec<String> {
        let latency = &self.latency;
        let micros = |value: f64| format!("{value:.1}");
        let cpu = self
            .cpu_us_per_io
            .iter()
            .map(|(name, used)| format!("{name} {used:.3} ({:.0}%)", self.cpu_share[name] * 100.0));
        let faults = [
            (self.errors, "errors"),
            (self.mismatches, "mismatches"),
            (self.lost, "lost"),
        ];
        let faults = faults
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"));
        let faults: Vec<String> = faults.collect();
        vec![
            self.label.clone(),
            format!("{:.0}", self.iops),
            format!("{:.1}", self.mib_per_second),
            micros(latency.mean_us),
            micros(latency.p50_us),
            micros(latency.p90_us),
            micros(latency.p99_us),
            micros(latency.p99_9_us),
            micros(latency.max_us),
            cpu.collect::<Vec<_>>().join(", "),
            if faults.is_empty() {
                "none".to_owned()
            } else {
                faults.join(", ")
            },
        ]
    }
}

/// CPU times of processes at a moment.
pub(super) struct Reading(BTreeMap<String, Duration>);

impl Reading {
    /// Now: of this process and of those named.
    pub(super) fn take(accounts: &[Accounted]) -> anyhow::Result<Reading> {
        let mut times = BTreeMap::from([("bench".to_owned(), account::of_process(std::process::id())?)]);
        for account in accounts {
            times.insert(account.name.clone(), account::of_process(account.pid)?);
        }
        Ok(Reading(times))
    }

    /// What has been used since an earlier one.
    pub(super) fn since(&self, earlier: &Reading) -> BTreeMap<String, Duration> {
        let used = |(name, now): (&String, &Duration)| {
            let before = earlier.0.get(name).copied().unwrap_or_default();
            (name.clone(), now.saturating_sub(before))
        };
        self.0.iter().map(used).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_measured() {
        let mut latencies = Histogram::default();
        (0..99).for_each(|_| latencies.record(50_000));
        latencies.record(200_000);
        let used = BTreeMap::from([("node".to_owned(), Duration::from_micros(80))]);
        let mut row = Measurement::new("a".to_owned(), Duration::from_millis(10), &latencies, 8192, &used);
        row.mismatches = 2;
        assert_eq!(row.iops.round(), 10_000.0);
        assert_eq!(row.cpu_us_per_io["node"], 0.8);
        let cells = row.cells();
        assert_eq!(cells.len(), Measurement::HEADINGS.len());
        assert_eq!(cells[1..4], ["10000", "78.1", "51.5"]);
        assert_eq!(cells[8], "200.0");
        assert_eq!(cells[9..], ["node 0.800 (1%)", "2 mismatches"]);
    }
}
