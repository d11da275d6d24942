//! What comes in at an NVMe/TCP port and is not welcome there.

use super::fabric::PATIENCE;
use super::shared::{Shared, shared};
use crate::host::DemoHost;
use ::fabric::host::PathState;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use uuid::Uuid;

const C2H_TERM_REQ: u8 = 3;

/// An ICReq without digests (TCP, 3.6.2.2).
fn initialization() -> Vec<u8> {
    let mut request = vec![0, 0, 128, 0, 128, 0, 0, 0];
    request.resize(128, 0);
    request
}

fn connected(portal: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(portal).expect("the portal listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(bytes).expect("it is sent");
    stream
}

/// All that comes until the other side closes. A reset is a close, too: it may overtake what was said.
fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it is closed");
    }
    answer
}

/// What a termination request names as the reason: status (FES) and where (FEI).
fn termination(answer: &[u8]) -> (u16, u32) {
    assert_eq!(answer.first(), Some(&C2H_TERM_REQ), "{answer:02x?}");
    let status = u16::from_le_bytes(answer[8..10].try_into().expect("two bytes"));
    (
        status,
        u32::from_le_bytes(answer[10..14].try_into().expect("four bytes")),
    )
}

#[test]
fn bytes_that_are_no_nvme_end_their_connection_only() {
    let shared = shared();
    let portal = shared.fabric.portals[0];
    // First, for it takes the longest: somebody who says nothing, and somebody who stops in the middle.
    let begun = Instant::now();
    let silent = connected(portal, &[]);
    let stopped = connected(portal, &initialization()[..57]);
    let crowd: Vec<TcpStream> = (0..50).map(|_| connected(portal, &[])).collect();

    // A request of the web: type 47h is none.
    let web = until_closed(connected(portal, b"GET / HTTP/1.1\r\nHost: trestle\r\n\r\n"));
    assert_eq!(termination(&web), (1, 0), "invalid header field, at byte 0");
    let noise: Vec<u8> = (0..65536_u32)
        .map(|at| (at.wrapping_mul(2654435761) >> 13) as u8 | 0x80)
        .collect();
    until_closed(connected(portal, &noise));

    // After a good initialisation: an unknown type; a capsule that says it has 2 GiB; one that is shorter than its header.
    for (pdu, reason, what) in [
        (
            [0x7f, 0, 72, 0, 72, 0, 0, 0],
            (1, 0),
            "invalid header field, at byte 0",
        ),
        (
            [4, 0, 72, 72, 0, 0, 0, 0x80],
            (5, 4),
            "data transfer limit exceeded, at byte 4",
        ),
        (
            [4, 0, 72, 0, 10, 0, 0, 0],
            (1, 4),
            "invalid header field, at byte 4",
        ),
    ] {
        let answer = until_closed(connected(
            portal,
            &[&initialization()[..], &pdu, &[0; 64]].concat(),
        ));
        assert_eq!(
            (answer[0], answer[4]),
            (1, 128),
            "{what}: it was initialised first"
        );
        assert_eq!(termination(&answer[128..]), reason, "{what}");
    }
    shared.neighbour_goes_on();

    let answer = until_closed(silent);
    assert!(
        begun.elapsed() > Duration::from_secs(5),
        "who is slow is given time"
    );
    assert!(answer.is_empty(), "nothing to answer");
    until_closed(stopped);
    crowd.into_iter().for_each(|one| drop(until_closed(one)));
    shared.neighbour_goes_on();
}

fn refusal(shared: &Shared, host: &mut DemoHost) -> String {
    host.begin_connecting(vec![shared.fabric.portals[0]])
        .expect("the host runs");
    let refused = host.wait_paths(PATIENCE, |paths, _| {
        paths
            .iter()
            .any(|path| matches!(path.state, PathState::Connecting { reason: Some(_) }))
    });
    match &refused.expect("it is refused")[0].state {
        PathState::Connecting { reason: Some(reason) } => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_names_are_refused_at_connect() {
    let shared = shared();
    let fabric = &shared.fabric;
    let known = fabric.json(&["volume", "show", "neighbour"]);
    let known = known["hosts"][0]["id"].as_str().expect("a host's id").to_owned();
    let hosts = fabric.json(&["host", "list"]);
    let known = hosts
        .as_array()
        .and_then(|all| all.iter().find(|one| one["id"] == known.as_str()));
    let known = known
        .and_then(|host| host["nqn"].as_str())
        .expect("its name")
        .to_owned();
    let stranger = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-00000000dead";

    let mut host = fabric.host("neighbour", stranger);
    assert_eq!(
        refusal(&shared, &mut host),
        "Connect was refused: connect invalid host (1h/84h, do not retry)"
    );
    let mut host =
        DemoHost::start(&known, "nqn.2026-11.io.trestle:nothing", Uuid::nil()).expect("a host starts");
    assert_eq!(
        refusal(&shared, &mut host),
        "Connect was refused: connect invalid parameters (nvm commands: write to read only range) (1h/82h, do not retry)"
    );
    shared.neighbour_goes_on();
}
