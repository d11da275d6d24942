//! First inputs, from our own writers: what the fuzzer cannot guess (layouts, names of fields) it need not.

use block::Blocks;
use block::leg_format::{BitmapIdentity, LegGeometry, Superblock as LegSuperblock};
use cluster::{DiskId, DiskNodeId, LegId};
use disk_node::format::{ExtentTable, LegRecord, Run, Superblock};
use fabric::target::{Held, HostId, ReservationState, ReservationType};
use fabric::tcp::framing::{Digests, FrameWriter, PduType};
use nvme::command::{
    Connect, ConnectAttributes, LogicalBlocks, PropertySet, PropertySize, SetFeatures, Write,
};
use nvme::connect::ConnectParameters;
use nvme::feature::{FeatureIdentifier, NumberOfQueues};
use nvme::identify::{NamespaceIdentification, NamespaceIdentificationDescriptors, NamespaceList};
use nvme::log::{AnaGroup, AnaLog, AnaState, DiscoveryEntry, DiscoveryLog, SubsystemType};
use nvme::reservation::{Registrant, Report, ReservationKey};
use nvme::{
    AdminCommand, Cid, Cntlid, FabricsCommand, IoCommand, Nqn, Nsid, Qid, Sgl, SubmissionQueueEntry,
    ZeroBased,
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Of the target of this name.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "pdu" => pdus(),
        "session" => sessions(),
        "command" => commands(),
        "pages" => pages(),
        "leg-format" => leg_format(),
        "disk-format" => disk_format(),
        "records" => records(),
        "texts" => texts(),
        "rest" => rest(),
        "planted" => vec![vec![0; 8]],
        _ => Vec::new(),
    }
}

fn nqn(name: &str) -> Nqn {
    Nqn::parse(name).expect("a name")
}

fn connect_data() -> Vec<u8> {
    let parameters = ConnectParameters {
        host_id: nvme::HostId([7; 16]),
        cntlid: Cntlid::DYNAMIC,
        subsystem: nqn("nqn.2025-01.test:pool"),
        host: Some(nqn("nqn.2025-01.test:host-a")),
    };
    parameters.encode().as_bytes().to_vec()
}

/// Commands of every kind, with the data of Connect.
pub fn entries() -> Vec<(SubmissionQueueEntry, Vec<u8>)> {
    let blocks = LogicalBlocks::new(3, ZeroBased::<u16>::from_raw(1));
    let connect = Connect {
        qid: Qid(0),
        sqsize: ZeroBased::<u16>::from_raw(31),
        attributes: ConnectAttributes::default(),
        kato_ms: 5000,
    };
    let set = PropertySet {
        size: PropertySize::Four,
        offset: 0x14,
        value: 0x0046_0001,
    };
    let pairs = NumberOfQueues::pairs(2).expect("two").encode();
    let queues = SetFeatures::new(FeatureIdentifier::NumberOfQueues, pairs);
    let sgl = |length| Sgl::Transport { length };
    let inside = Sgl::InCapsule {
        offset: 0,
        length: 1024,
    };
    let admin = |command: AdminCommand| (command.encode(Cid(2), sgl(4096)), Vec::new());
    let mut all = vec![
        (
            FabricsCommand::Connect(connect).encode(Cid(1), inside),
            connect_data(),
        ),
        (
            FabricsCommand::PropertySet(set).encode(Cid(1), Sgl::NONE),
            Vec::new(),
        ),
        (IoCommand::Flush.encode(Cid(3), Nsid(1), Sgl::NONE), Vec::new()),
        (
            IoCommand::Write(Write::new(blocks)).encode(Cid(3), Nsid(1), sgl(8192)),
            Vec::new(),
        ),
        admin(AdminCommand::SetFeatures(queues)),
        admin(AdminCommand::AsynchronousEventRequest),
        admin(AdminCommand::KeepAlive),
    ];
    // What a host asks of identify structures and log pages, by their codes.
    for code in [0, 1, 2, 3, 5, 6, 8, 0x1c] {
        let mut entry = AdminCommand::KeepAlive.encode(Cid(2), sgl(4096));
        (entry.opcode, entry.nsid) = (0x06, 1.into());
        all.push((entry.with_dwords([code, 0, 0, 0, 0, 0]), Vec::new()));
        entry.opcode = 0x02;
        all.push((entry.with_dwords([code | 0x3ff << 16, 0, 0, 0, 0, 0]), Vec::new()));
    }
    for (opcode, length) in [
        (0x02, 8192),
        (0x0d, 16),
        (0x0e, 64),
        (0x11, 16),
        (0x15, 8),
        (0x09, 16),
        (0x08, 0),
        (0x05, 4096),
    ] {
        let mut entry = IoCommand::Flush.encode(Cid(4), Nsid(1), sgl(length));
        entry.opcode = opcode;
        all.push((entry, vec![1; length as usize % 4096]));
    }
    all
}

fn commands() -> Vec<Vec<u8>> {
    let all = entries().into_iter();
    all.map(|(entry, data)| [entry.as_bytes(), &data].concat())
        .collect()
}

fn initialization(digests: u8) -> Vec<u8> {
    let mut specific = [0; 120];
    specific[3] = digests;
    FrameWriter::default()
        .before_data(PduType::IcReq, 0, &specific, 0)
        .to_vec()
}

fn writer(digests: u8) -> FrameWriter {
    FrameWriter {
        digests: Digests {
            header: digests & 1 != 0,
            data: digests & 2 != 0,
        },
        ..FrameWriter::default()
    }
}

fn pdu(writer: &FrameWriter, kind: PduType, specific: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = writer.before_data(kind, 4, specific, data.len() as u32).to_vec();
    bytes.extend(data);
    if !data.is_empty() {
        bytes.extend(writer.data_digest(data).into_iter().flatten());
    }
    bytes
}

fn transfer(length: u32) -> [u8; 16] {
    let mut specific = [0; 16];
    (specific[0], specific[2]) = (3, 1);
    specific[8..12].copy_from_slice(&length.to_le_bytes());
    specific
}

fn from_host(digests: u8) -> Vec<u8> {
    let (writer, data) = (writer(digests), [5; 32]);
    let (connect, parameters) = entries().remove(0);
    let capsule = pdu(&writer, PduType::CapsuleCmd, connect.as_bytes(), &parameters);
    [capsule, pdu(&writer, PduType::H2cData, &transfer(32), &data)].concat()
}

fn pdus() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for digests in 0..4 {
        let writer = writer(digests);
        let mode = digests << 1;
        seeds.push([vec![mode | 8, 9], from_host(digests)].concat());
        let response = pdu(&writer, PduType::CapsuleResp, &[1; 16], &[]);
        let data = pdu(&writer, PduType::C2hData, &transfer(32), &[6; 32]);
        let r2t = pdu(&writer, PduType::R2t, &transfer(8192), &[]);
        seeds.push([vec![mode | 9, 7], response, data, r2t].concat());
    }
    seeds.push([vec![0, 1], initialization(3)].concat());
    let term = pdu(&writer(0), PduType::C2hTermReq, &[1; 16], &[2; 24]);
    seeds.push([vec![1, 1], term].concat());
    seeds
}

fn sessions() -> Vec<Vec<u8>> {
    let session = |digests: u8| [vec![digests, 5], initialization(digests), from_host(digests)].concat();
    (0..4).map(session).collect()
}

fn pages() -> Vec<Vec<u8>> {
    let group = |group: u32, state| AnaGroup {
        group,
        change_count: 3,
        state,
        namespaces: (1..=group).map(Nsid).collect(),
    };
    let ana = AnaLog {
        change_count: 9,
        groups: vec![group(1, AnaState::Optimized), group(3, AnaState::Inaccessible)],
    };
    let entry = |address: &str| DiscoveryEntry {
        subsystem_type: SubsystemType::Nvm,
        subsystem: nqn("nqn.2025-01.test:pool"),
        address: address.parse().expect("an address"),
        port: 4420,
        port_id: 1,
        transport_requirements: 0,
        flags: 0,
    };
    let discovery = DiscoveryLog {
        generation: 2,
        entries: ["10.0.0.1", "fe80::1"]
            .map(|address| entry(address).encode())
            .into(),
    };
    let registrant = Registrant {
        cntlid: Cntlid(4),
        holds_reservation: true,
        key: ReservationKey(77),
        host_id: nvme::HostId([8; 16]),
    };
    let report = Report {
        generation: 5,
        reservation_type: Some(ReservationType::WriteExclusive),
        persist_through_power_loss: true,
        registrants: vec![registrant],
    };
    let uuid = NamespaceIdentification::Uuid(nvme::Uuid([9; 16]));
    let descriptors = NamespaceIdentificationDescriptors(vec![uuid, NamespaceIdentification::Csi(0)]);
    let list = NamespaceList::new([Nsid(1), Nsid(7)], Nsid(0));
    let pages: [&[u8]; 8] = [
        &ana.encode(false),
        &discovery.encode(),
        &report.encode(false),
        &report.encode(true),
        &descriptors.encode()[..64],
        b"serial              model",
        &[0, 0, 16],
        &list.as_bytes()[..16],
    ];
    let numbered = (0u8..).zip(pages);
    numbered.map(|(kind, page)| [&[kind], page].concat()).collect()
}

fn leg_format() -> Vec<Vec<u8>> {
    let mut block = vec![0; 4096];
    let superblock = LegSuperblock {
        leg: [1; 16],
        group: [2; 16],
        slice: [3; 16],
        pool: [4; 16],
        index: 1,
        group_size: 3,
        geometry: LegGeometry::for_length(Blocks(262_144)).expect("long enough"),
        formatted_epoch: 5,
    };
    superblock.write_to(&mut block);
    let head = [vec![1, 200, 0], block[..160].to_vec()].concat();
    let bitmap = BitmapIdentity {
        group: [2; 16],
        index: 0,
        region: Blocks(256),
    };
    bitmap.write_to(6, &[0xff, 1], &mut block);
    vec![head, [vec![1, 9, 1], block[..80].to_vec()].concat()]
}

fn disk_format() -> Vec<Vec<u8>> {
    let disk = DiskId(Uuid::from_u128(1));
    let superblock = Superblock {
        disk,
        node: Some(DiskNodeId(Uuid::from_u128(2))),
        extent_bytes: 4 << 20,
        extents: 77,
    };
    let holder = HostId([5; 16]);
    let record = |nsid: u32| LegRecord {
        nsid,
        runs: vec![Run {
            start: u64::from(nsid) * 4,
            count: 3,
        }],
        zeroed: 3,
        reservation: ReservationState {
            generation: 2,
            persist_through_power_loss: true,
            highest_key: 9,
            held: Some(Held {
                kind: ReservationType::ExclusiveAccessRegistrantsOnly,
                holder,
            }),
            registrants: BTreeMap::from([(holder, 9)]),
        },
    };
    let legs = (1..3).map(|nsid| (LegId(Uuid::from_u128(nsid.into())), record(nsid)));
    let table = ExtentTable {
        disk,
        legs: legs.collect(),
    };
    let table = table.encode(3).expect("it fits");
    let mut gpt = vec![0; 1100];
    gpt[512..520].copy_from_slice(b"EFI PART");
    vec![
        [&[0, 1, 7, 0, 0], &superblock.encode()[..80]].concat(),
        [&[1, 1, 7, 0, 99], &table[..400]].concat(),
        [&[2, 0, 0, 0, 0], &gpt[..]].concat(),
    ]
}

/// Two bytes of text for each kind of record would find nothing: the names of the fields are what counts.
fn records() -> Vec<Vec<u8>> {
    const ID: &str = "00000000-0000-0000-0000-000000000001";
    let disk_node = format!(
        r#"{{"kind":"disk-node","node":"{ID}","revision":4,"legs":{{"{ID}":[{{"leg":"{ID}","disk":"{ID}","nsid":1,"extents":2,"hosts":["nqn.2025-01.test:a"]}}]}}}}"#
    );
    let identity =
        format!(r#"{{"kind":"DiskNode","id":"{ID}","agent_token":null}}"#).replace("DiskNode", "disk-node");
    let mut ledger = vec![19, 1];
    ledger.extend((identity.len() as u16).to_le_bytes());
    ledger.extend([identity.as_bytes(), disk_node.as_bytes()].concat());
    let join = format!(
        r#"{{"kind":"disk-node","id":"{ID}","name":"d1","agent_address":"10.0.0.1:1","fabric_address":"[::1]:2","location":"r1","incarnation":"{ID}"}}"#
    );
    let host = format!(r#"{{"id":"{ID}","name":"h","nqn":"nqn.2025-01.test:a"}}"#);
    let volume = format!(
        r#"{{"id":"{ID}","name":"v","pool":"{ID}","nsid":1,"size_bytes":4096,"deleting":false,"created":true}}"#
    );
    let membership = format!(
        r#"{{"request":1,"slice":"{ID}","epoch":2,"change":{{"kind":"in-sync","group":"{ID}","in_sync":["{ID}"],"legs":["{ID}"]}}}}"#
    );
    let layout =
        format!(r#"{{"pool":"{ID}","revision":1,"slices":[],"controllers":[],"volumes":[],"groups":[]}}"#);
    let texts = [
        (10, &disk_node),
        (17, &disk_node),
        (12, &join),
        (14, &join),
        (5, &host),
        (4, &volume),
        (15, &membership),
        (7, &layout),
        (8, &layout),
    ];
    let mut seeds: Vec<Vec<u8>> = texts
        .iter()
        .map(|(kind, text)| [&[*kind], text.as_bytes()].concat())
        .collect();
    seeds.push(ledger);
    seeds
}

fn texts() -> Vec<Vec<u8>> {
    let texts: [(u8, &str); 12] = [
        (0, "db-1"),
        (
            1,
            "nqn.2014-08.org.nvmexpress:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        ),
        (2, "100GiB"),
        (3, "memory:1GiB"),
        (3, "/dev/sdb"),
        (4, "key-1"),
        (
            5,
            r#"{"name":"p","extent":"64MiB","protection":{"kind":"mirror","legs":2},"controller_count":2}"#,
        ),
        (6, r#"{"name":"v","pool":"p","size":"1GiB"}"#),
        (7, r#"{"name":"h","nqn":"nqn.2025-01.test:a"}"#),
        (8, r#"{"size":4096}"#),
        (9, r#"{"draining":true}"#),
        (12, r#"{"volume":"v","host":"h"}"#),
    ];
    texts
        .iter()
        .map(|(kind, text)| [&[*kind], text.as_bytes()].concat())
        .collect()
}

fn rest() -> Vec<Vec<u8>> {
    let join = |kind: &str, number: u8| {
        format!(
            "POST /internal/v1/join\nauthorization: Bearer {}\n\n{{\"kind\":\"{kind}\",\"id\":\"00000000-0000-0000-0000-00000000000{number}\",\"name\":\"n{number}\",\"agent_address\":\"10.0.0.1:1\",\"fabric_address\":\"10.0.0.1:2\",\"location\":\"r{number}\",\"incarnation\":\"00000000-0000-0000-0000-000000000009\"}}",
            crate::bytes::rest::JOIN_TOKEN
        )
    };
    let pool = "POST /v1/pools\nidempotency-key: k\n\n{\"name\":\"p\",\"protection\":{\"kind\":\"none\"},\"controller_count\":1}";
    let volume = "POST /v1/volumes\n\n{\"name\":\"v\",\"pool\":\"p\",\"size\":\"1GiB\"}";
    let host = "POST /v1/hosts\n\n{\"name\":\"h\",\"nqn\":\"nqn.2025-01.test:a\"}";
    let (disk_node, controller_node) = (join("disk-node", 1), join("controller-node", 2));
    let stories: [&[&str]; 7] = [
        &[
            host,
            host,
            "GET /v1/hosts/h",
            "GET /v1/hosts?limit=1",
            "DELETE /v1/hosts/h\nif-match: \"2\"",
        ],
        &[
            &disk_node,
            &controller_node,
            pool,
            volume,
            "GET /v1/pools/p",
            "GET /v1/volumes?pool=p&limit=2",
        ],
        &[
            &disk_node,
            "PATCH /v1/disk-nodes/n1\nif-match: \"9\"\n\n{\"draining\":true}",
            "DELETE /v1/disk-nodes/n1",
        ],
        &[
            host,
            "POST /v1/attachments\n\n{\"volume\":\"v\",\"host\":\"h\"}",
            "GET /v1/attachments?continuation=a-/",
        ],
        &[
            "GET /v1/operations",
            "GET /v1/events?limit=0",
            "GET /v1/openapi.json",
            "GET /healthz",
            "PUT /v1/pools",
        ],
        &[
            "POST /v1/pools/p/failover\n\n{\"to\":\"n2\"}",
            "POST /v1/hosts\ncontent-type: text/plain\n\nx",
        ],
        &[
            "POST /internal/v1/hello\nauthorization: Bearer x\n\n{}",
            "POST /internal/v1/membership\n\n{}",
        ],
    ];
    stories
        .iter()
        .map(|story| story.join("\0").into_bytes())
        .collect()
}
