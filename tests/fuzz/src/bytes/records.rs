//! Records of the store, messages between agents and others, and a node's ledger: JSON that is read, written and read again.

use crate::input::Input;
use agent::ledger::{Identity, Ledger};
use cluster::layout::{DiskNodeAllocation, Membership, PoolLayout};
use cluster::node_config::{ControllerNodeConfig, DiskNodeConfig};
use cluster::spec::{AttachmentSpec, ClusterSpec, HostSpec, NodeSpec, PoolSpec, VolumeSpec};
use cluster::{ControllerNodeId, DiskNodeId};
use control::agent::{
    Hello, JoinRequest, JoinResponse, MembershipAnswer, MembershipRequest, NodeConfig, NodeKind, StatusAnswer,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use store::{parse_record, write_record};
use uuid::Uuid;

/// How many kinds there are beside the ledger.
pub const KINDS: usize = 19;

/// One input: which, then text.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.below(KINDS + 1);
    let text = input.rest();
    match kind {
        0 => record::<ClusterSpec>(text),
        1 => record::<NodeSpec<DiskNodeId>>(text),
        2 => record::<NodeSpec<ControllerNodeId>>(text),
        3 => record::<PoolSpec>(text),
        4 => record::<VolumeSpec>(text),
        5 => record::<HostSpec>(text),
        6 => record::<AttachmentSpec>(text),
        7 => record::<PoolLayout>(text),
        8 => record::<Membership>(text),
        9 => record::<DiskNodeAllocation>(text),
        10 => record::<NodeConfig>(text),
        11 => record::<StatusAnswer>(text),
        12 => record::<JoinRequest>(text),
        13 => record::<JoinResponse>(text),
        14 => record::<Hello>(text),
        15 => record::<MembershipRequest>(text),
        16 => record::<MembershipAnswer>(text),
        17 => record::<DiskNodeConfig>(text),
        18 => record::<ControllerNodeConfig>(text),
        _ => ledger(text),
    }
}

fn record<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &[u8]) {
    let Ok(record) = parse_record::<T>(b"key", text) else {
        return;
    };
    let written = write_record(b"key", &record).expect("what was read can be written");
    let again = parse_record::<T>(b"key", &written).expect("what was written can be read");
    assert_eq!(again, record);
}

/// A ledger's two files, as somebody left them; `sealed` makes their checksums right.
fn ledger(text: &[u8]) {
    let mut input = Input::new(text);
    let sealed = input.flag();
    let length = usize::from(input.half());
    let identity = ledger_file(input.bytes(length), sealed);
    let config = ledger_file(input.rest(), sealed);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = || Ledger::open(folder.path(), NodeKind::DiskNode, Uuid::nil());
    std::fs::write(folder.path().join("identity"), &identity).expect("a file");
    if !config.is_empty() {
        std::fs::write(folder.path().join("config"), &config).expect("a file");
    }
    let Ok(ledger) = open() else { return };
    assert!(is_whole(&identity), "the identity's checksum is wrong");
    assert!(
        ledger.config().is_none() || is_whole(&config),
        "the configuration's checksum is wrong"
    );
    let again = serde_json::to_vec(ledger.identity()).expect("JSON");
    let again: Identity = serde_json::from_slice(&again).expect("ours");
    assert_eq!(&again, ledger.identity());
    let mut damaged = identity.clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    std::fs::write(folder.path().join("identity"), &damaged).expect("a file");
    assert!(open().is_err(), "a damaged identity is accepted");
}

fn ledger_file(text: &[u8], sealed: bool) -> Vec<u8> {
    if !sealed || text.is_empty() {
        return text.to_vec();
    }
    let mut file = format!("trestle-ledger 1 {:08x}\n", crc32c::crc32c(text)).into_bytes();
    file.extend(text);
    file
}

fn is_whole(file: &[u8]) -> bool {
    let Some(end) = file.iter().position(|byte| *byte == b'\n') else {
        return false;
    };
    let (header, body) = (String::from_utf8_lossy(&file[..end]), &file[end + 1..]);
    let sum = header.rsplit(' ').next().unwrap_or_default().trim();
    u32::from_str_radix(sum, 16) == Ok(crc32c::crc32c(body))
}
