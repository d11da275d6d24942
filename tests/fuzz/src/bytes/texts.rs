//! What people write: names, sizes, NQNs, disks, bodies of requests.

use crate::input::Input;
use cluster::size::size_text;
use cluster::{HostId, PoolId, VolumeId};
use control::rest::{
    AttachmentCreate, Failover, HostCreate, NodePatch, PoolCreate, PoolPatch, SizeInput, VolumeCreate,
    VolumePatch, check_idempotency_key, parse_host_nqn, parse_name, parse_size,
};
use disk_node::DiskOption;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;
use uuid::Uuid;

const ALL: std::ops::RangeInclusive<u64> = 0..=u64::MAX;

/// One input: which, then text.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.below(13);
    let Ok(text) = std::str::from_utf8(input.rest()) else {
        return;
    };
    match kind {
        0 => name(text),
        1 => host_nqn(text),
        2 => size(text),
        3 => disk(text),
        4 => drop(check_idempotency_key(text)),
        5 => body::<PoolCreate>(text, |create| {
            _ = create
                .parse(PoolId(Uuid::nil()), None)
                .map_err(|bad| (bad.to_string(), bad.hint()));
        }),
        6 => body::<VolumeCreate>(text, |create| {
            let parsed = create.parse(VolumeId(Uuid::nil()), PoolId(Uuid::nil()));
            if let Ok(spec) = parsed {
                assert!(spec.size_bytes > 0 && spec.size_bytes.is_multiple_of(4096));
            }
        }),
        7 => body::<HostCreate>(text, |create| _ = create.parse(HostId(Uuid::nil()))),
        8 => body::<VolumePatch>(text, |patch| {
            _ = patch.parse().map_err(|bad| (bad.to_string(), bad.hint()));
        }),
        9 => body::<NodePatch>(text, |_| ()),
        10 => body::<PoolPatch>(text, |_| ()),
        11 => body::<Failover>(text, |_| ()),
        _ => body::<AttachmentCreate>(text, |_| ()),
    }
}

fn name(text: &str) {
    match parse_name("name", text) {
        Ok(name) => {
            assert_eq!(name, text);
            assert!(
                name.len() <= 63 && Uuid::try_parse(&name).is_err(),
                "a name is no id"
            );
        }
        Err(bad) => assert!(bad.hint().len() + bad.to_string().len() < 1000),
    }
}

fn host_nqn(text: &str) {
    if let Ok(nqn) = parse_host_nqn("nqn", text) {
        assert_eq!(nqn.0, text);
    }
    let Ok(nqn) = nvme::Nqn::parse(text) else {
        // What the API takes the fabric must take too: else a host is let in that can never connect.
        assert!(
            parse_host_nqn("nqn", text).is_err(),
            "{text:?} is an NQN here and not there"
        );
        return;
    };
    assert_eq!(nvme::Nqn::parse_field(&nqn.to_field()), Ok(nqn));
}

fn size(text: &str) {
    let parsed = parse_size("size", &SizeInput::Text(text.to_owned()), ALL, 1);
    let Ok(bytes) = parsed else { return };
    let told = parse_size("size", &SizeInput::Text(size_text(bytes)), ALL, 1);
    assert_eq!(
        told.as_ref(),
        Ok(&bytes),
        "{bytes} is told as {:?}",
        size_text(bytes)
    );
    assert_eq!(parse_size("size", &SizeInput::bytes(bytes), ALL, 1), Ok(bytes));
}

fn disk(text: &str) {
    match text.parse::<DiskOption>() {
        Ok(DiskOption::Path(path)) => assert_eq!(path.as_os_str(), text),
        Ok(DiskOption::Memory { size_bytes } | DiskOption::Null { size_bytes }) => {
            assert!(size_bytes.is_multiple_of(4096) && size_bytes > 4 << 20);
        }
        Err(bad) => assert!(!bad.to_string().is_empty()),
    }
}

fn body<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &str, look: impl FnOnce(&T)) {
    let Ok(body) = serde_json::from_str::<T>(text) else {
        return;
    };
    let written = serde_json::to_string(&body).expect("what was read can be written");
    let again = serde_json::from_str::<T>(&written).expect("ours");
    // Numbers that are no whole ones of 64 bits are refused later; until then they are as JSON's readers like them.
    let whole = serde_json::from_str(text).is_ok_and(|value: Value| !has_fraction(&value));
    assert!(!whole || again == body, "{again:?} was {body:?}");
    look(&body);
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}
