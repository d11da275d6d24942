//! What came to the reactor with speed: bytes received where they belong, and several reactors that hand connections to
//! each other.
//!
//! Mutants these tests catch: bytes behind a landing dropped or told first; a landing longer than the buffer; a landing's
//! length told wrong; a handed-over connection that loses what was asked to be sent, or stays in the first reactor's
//! epoll set, or keeps its old name; a failed group that leaves reactors behind; bytes received though they are not wanted, or never
//! when they are again; memory that comes back unsaid.

mod puppet;

use engine::{ReactorConfig, StartReactor};
use fabric::driver::{CloseReason, ListenerId};
use puppet::{Command, PATIENCE, Stage, Told, pattern};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn payloads_are_received_where_they_belong() {
    const BUFFER: usize = 50_000;
    let (stage, address) = Stage::listening(ReactorConfig::default());
    stage.command(Command::Land(BUFFER as u32));
    let mut stream = connect(address);
    let connection = stage.accepted();
    let bytes = pattern(7, 20 * BUFFER);
    for piece in bytes.chunks(33_333) {
        stream.write_all(piece).unwrap();
    }
    for expected in bytes.chunks(BUFFER) {
        match stage.next() {
            Told::Landed(from, landed) => assert!(from == connection && landed == expected),
            other => panic!("not landed but {other:?}"),
        }
    }
    drop(stream);
    assert_eq!(stage.next(), Told::Closed(connection, CloseReason::Peer));
    stage.nothing_is_held();
}

#[test]
fn what_is_not_wanted_stays_in_the_socket_until_it_is() {
    let (stage, address) = Stage::listening(ReactorConfig::default());
    let mut stream = connect(address);
    let connection = stage.accepted();
    stage.command(Command::Listen(false));
    stage.nothing_told();
    stream.write_all(b"later").unwrap();
    let settled = || {
        let before = stage.handle.status().turns;
        std::thread::sleep(std::time::Duration::from_millis(20));
        stage.handle.status().turns == before
    };
    assert!((0..500).any(|_| settled()), "it is not looked at again and again");
    stage.nothing_told();
    stage.command(Command::Listen(true));
    assert_eq!(stage.receive(connection, 5), b"later");
    stream.write_all(b"and now").unwrap();
    assert_eq!(stage.receive(connection, 7), b"and now");
    stage.command(Command::Listen(false));
    stage.nothing_told();
    stream.write_all(b"never").unwrap();
    assert!((0..500).any(|_| settled()), "it rests");
    drop(stream);
    stage.command(Command::Listen(true));
    assert_eq!(stage.receive(connection, 5), b"never");
    assert_eq!(stage.next(), Told::Closed(connection, CloseReason::Peer));
}

#[test]
fn who_waits_for_memory_is_told_when_the_socket_gives_it_back() {
    let (stage, address) = Stage::listening(ReactorConfig::default());
    let stream = connect(address);
    let connection = stage.accepted();
    stage.command(Command::Many(vec![
        Command::SendPayload(connection, pattern(1, 4096)),
        Command::WaitForMemory,
    ]));
    assert!(matches!(stage.next(), Told::Timeout(_)));
    stage.nothing_told();
    drop(stream);
}

fn listening() -> ReactorConfig {
    ReactorConfig {
        listeners: vec!["127.0.0.1:0".parse().unwrap()],
        ..ReactorConfig::default()
    }
}

#[test]
fn a_connection_goes_to_another_reactor_with_all_it_had() {
    let stages = Stage::start_group(vec![listening(), ReactorConfig::default()]);
    let address = stages[0].handle.opened().listeners[0];
    let mut streams = Vec::new();
    for round in 0..20 {
        let mut stream = connect(address);
        let here = stages[0].accepted();
        stream.write_all(b"hello").unwrap();
        let received = stages[0].receive(here, 5);
        stages[0].command(Command::Many(vec![
            Command::Send(here, b"from the first".to_vec()),
            Command::HandOver(here, 1, received),
            Command::Send(here, b"never".to_vec()),
        ]));
        let there = match stages[1].next() {
            Told::HandedOver(there, listener, received) => {
                assert_eq!((listener, &received[..]), (ListenerId(0), &b"hello"[..]));
                there
            }
            other => panic!("not handed over but {other:?}"),
        };
        stages[1].command(Command::Send(there, b", from the second".to_vec()));
        let mut answer = vec![0; 31];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, b"from the first, from the second");
        let words = pattern(round, 1000);
        stream.write_all(&words).unwrap();
        assert_eq!(stages[1].receive(there, 1000), words);
        streams.push(stream);
    }
    stages[0].eventually("it has none left", |status| status.connections == 0);
    stages[1].eventually("it has them all", |status| status.connections == 20);
    stages[0].nothing_told();
    drop(streams);
    stages[1].eventually("they end there", |status| status.connections == 0);
}

#[test]
fn a_connection_that_is_gone_is_handed_to_nobody() {
    let stages = Stage::start_group(vec![listening(), ReactorConfig::default()]);
    let stream = connect(stages[0].handle.opened().listeners[0]);
    let here = stages[0].accepted();
    drop(stream);
    assert_eq!(stages[0].next(), Told::Closed(here, CloseReason::Peer));
    stages[0].command(Command::HandOver(here, 1, Vec::new()));
    stages[0].nothing_told();
    stages[1].nothing_told();
}

#[test]
fn a_group_starts_whole_or_not_at_all() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = |address| ReactorConfig {
        listeners: vec![address],
        ..ReactorConfig::default()
    };
    let seat = |config| engine::Seat::<puppet::Puppet> {
        config,
        build: Box::new(|_| puppet::Puppet::default()),
        report: Box::new(|_| {}),
    };
    let started = engine::start_group(vec![seat(at(free)), seat(at(taken.local_addr().unwrap()))]);
    assert!(matches!(started.err(), Some(StartReactor::Listen { .. })));
    TcpListener::bind(free).expect("the first reactor has let go of its address");
}

#[test]
fn reactors_may_stay_on_a_core() {
    let (stage, address) = Stage::listening(ReactorConfig {
        core: Some(0),
        ..ReactorConfig::default()
    });
    let _stream = connect(address);
    stage.accepted();
    let refused = Stage::try_start(ReactorConfig {
        core: Some(1 << 20),
        ..ReactorConfig::default()
    });
    assert!(
        matches!(refused.err(), Some(StartReactor::Spawn { .. })),
        "there is no such core"
    );
}
