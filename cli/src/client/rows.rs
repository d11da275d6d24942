//! What people see of each noun.

use super::table::Row;
use cluster::size::size_text;
use control::rest::{
    Attachment, ControllerNode, DiskNode, EventBody, Host, OperationBody, Path, Pool, Reference, Volume,
};
use serde::Serialize;

impl Row for Pool {
    const HEADINGS: &'static [&'static str] = &[
        "name", "state", "capacity", "used", "owner", "epoch", "in sync", "paths",
    ];

    fn cells(&self) -> Vec<String> {
        let in_sync: usize = self.status.groups.iter().map(|group| group.in_sync).sum();
        let legs: usize = self.status.groups.iter().map(|group| group.legs.len()).sum();
        vec![
            self.name.clone(),
            word(&self.status.state),
            size_text(self.capacity_bytes),
            self.status.used_bytes.map_or("-".to_owned(), size_text),
            self.status
                .owner
                .as_ref()
                .map_or("-".to_owned(), |owner| owner.name.clone()),
            self.status.epoch.to_string(),
            format!("{in_sync} of {legs}"),
            paths(&self.status.paths),
        ]
    }
}

impl Row for Volume {
    const HEADINGS: &'static [&'static str] = &[
        "name", "pool", "state", "size", "mapped", "nsid", "hosts", "paths",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.pool.name.clone(),
            word(&self.status.state),
            size_text(self.size_bytes),
            self.status.mapped_bytes.map_or("-".to_owned(), size_text),
            self.nsid.to_string(),
            names(&self.hosts),
            paths(&self.status.paths),
        ]
    }
}

impl Row for Host {
    const HEADINGS: &'static [&'static str] = &["name", "nqn", "volumes"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.nqn.clone(), names(&self.volumes)]
    }
}

impl Row for Attachment {
    const HEADINGS: &'static [&'static str] = &["volume", "host", "nsid", "subsystem", "paths"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.volume.name.clone(),
            self.host.name.clone(),
            self.nsid.to_string(),
            self.subsystem_nqn.clone(),
            paths(&self.paths),
        ]
    }
}

impl Row for DiskNode {
    const HEADINGS: &'static [&'static str] = &[
        "name", "state", "capacity", "free", "disks", "legs", "location", "address",
    ];

    fn cells(&self) -> Vec<String> {
        let volatile = self.disks.iter().any(|disk| disk.volatile);
        let faulty = self.disks.iter().filter(|disk| disk.fault.is_some()).count();
        let mut disks = self.disks.len().to_string();
        if volatile {
            disks += " (volatile)";
        }
        if faulty > 0 {
            disks += &format!(" ({faulty} faulty)");
        }
        vec![
            self.name.clone(),
            node_state(word(&self.state), self.cordoned),
            size_text(self.capacity_bytes),
            size_text(self.free_bytes),
            disks,
            self.legs.len().to_string(),
            self.location.clone(),
            self.fabric_address.to_string(),
        ]
    }
}

impl Row for ControllerNode {
    const HEADINGS: &'static [&'static str] = &["name", "state", "slices", "location", "address"];

    fn cells(&self) -> Vec<String> {
        let slices: Vec<String> = self.slices.iter().map(|slice| word(&slice.state)).collect();
        vec![
            self.name.clone(),
            node_state(word(&self.state), self.cordoned),
            if slices.is_empty() {
                "-".to_owned()
            } else {
                slices.join(", ")
            },
            self.location.clone(),
            self.fabric_address.to_string(),
        ]
    }
}

impl Row for OperationBody {
    const HEADINGS: &'static [&'static str] = &["id", "kind", "state", "waits for"];

    fn cells(&self) -> Vec<String> {
        let detail = self.reason.clone().unwrap_or_else(|| self.waits_for.join("; "));
        vec![self.id.to_string(), word(&self.kind), word(&self.state), detail]
    }
}

impl Row for EventBody {
    const HEADINGS: &'static [&'static str] = &["time (utc)", "severity", "about", "event"];

    fn cells(&self) -> Vec<String> {
        vec![
            clock(self.at_ms),
            word(&self.severity),
            self.subject.kind.clone(),
            self.text.clone(),
        ]
    }
}

/// An enum's word, as JSON says it.
pub(crate) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => format!("{other:?}"),
    }
}

fn names(references: &[Reference]) -> String {
    let names: Vec<&str> = references
        .iter()
        .map(|reference| reference.name.as_str())
        .collect();
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.join(", ")
    }
}

fn paths(paths: &[Path]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .map(|path| format!("{} {}", path.controller_node.name, word(&path.state)))
        .collect();
    if shown.is_empty() {
        "-".to_owned()
    } else {
        shown.join(", ")
    }
}

fn node_state(state: String, cordoned: bool) -> String {
    if cordoned {
        format!("{state}, cordoned")
    } else {
        state
    }
}

/// Hours, minutes, seconds of the day, and the day since 1970 in front if it is not today's business of a table.
fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, ms % 1000)
}
