//! What is done to disks without a disk node: format one, see how fast it is, see whether it keeps its promises. The latter
//! two go through the engine as a disk node's requests do.

mod check;
mod measure;
mod model;

use crate::arguments::{ClientOptions, DiskVerb};
pub(crate) use measure::Kind;

use anyhow::{Context, bail};
use engine::{DiskConfig, Opened, OpenedDisk, ReactorConfig};
use std::path::Path;
use std::process::ExitCode;

/// Does what the verb says.
pub(crate) fn run(client: &ClientOptions, verb: DiskVerb) -> anyhow::Result<ExitCode> {
    match verb {
        DiskVerb::Format {
            path,
            extent_size,
            force,
        } => format(&path, extent_size, force),
        DiskVerb::Measure(options) => measure::run(client, &options),
        DiskVerb::Check(options) => check::run(&options),
    }
}

fn format(path: &Path, extent_bytes: u64, force: bool) -> anyhow::Result<ExitCode> {
    let options = disk_node::FormatOptions {
        extent_bytes,
        node: None,
        force,
    };
    let disk = disk_node::format_disk(path, options)?;
    println!("{} is disk {} now", path.display(), disk.0);
    Ok(ExitCode::SUCCESS)
}

/// A reactor with this disk alone.
fn reactor(disk: DiskConfig, memory_bytes: u64, threads: bool) -> ReactorConfig {
    let disk_backend = match threads {
        true => engine::WantedBackend::Threads,
        false => engine::WantedBackend::Auto,
    };
    ReactorConfig {
        name: "disk".to_owned(),
        disks: vec![disk],
        memory_bytes,
        disk_backend,
        ..ReactorConfig::default()
    }
}

fn opened_disk(opened: &Opened) -> &OpenedDisk {
    opened.disks[0]
        .as_ref()
        .expect("a required disk is there once the reactor has started")
}

/// The bytes to use: `wanted`, or all; whole blocks, and at least as many as `least`.
fn range_bytes(opened: &OpenedDisk, wanted: Option<u64>, least: u64) -> anyhow::Result<u64> {
    let bytes = wanted.unwrap_or(opened.size_bytes).min(opened.size_bytes);
    let whole = bytes - bytes % u64::from(block::BLOCK_SIZE);
    if whole < least {
        bail!("{} bytes of {} are too few", whole, opened.path);
    }
    Ok(whole)
}

/// Refuses to destroy what nobody said may go.
fn may_overwrite(path: &Path, overwrite: bool) -> anyhow::Result<()> {
    if !overwrite {
        bail!(
            "this overwrites {}: say --overwrite if nothing on it is needed",
            path.display()
        );
    }
    Ok(())
}

/// CPU time of this process, of all its threads, in seconds.
fn cpu_seconds() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    // After the name: state is field 3, user time 14, system time 15; in ticks of a hundredth, on every Linux of today.
    let ticks = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok());
    Ok(ticks.sum::<u64>() as f64 / 100.0)
}
