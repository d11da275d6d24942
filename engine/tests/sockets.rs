//! The reactor over real loopback sockets.
//!
//! Mutants these tests catch: a partial send repeated or skipped; a payload released twice, or not at all when the
//! connection breaks; a peer's end taken for a break and the other way round; last words lost by closing with unread
//! bytes; a reset that ends in order; reading on while nothing is taken; a loop that goes round while idle; a timeout
//! told early; a report that blocks the loop.

mod puppet;

use engine::{DiskBackend, ReactorConfig, StartReactor, Stopped};
use fabric::driver::{CloseReason, ConnectionId, ListenerId};
use puppet::{Command, PATIENCE, Stage, Told, pattern};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_exactly(mut stream: &TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn large_transfers_come_back_whole() {
    let (stage, address) = Stage::listening(ReactorConfig {
        unsent_limit_bytes: 1 << 20,
        memory_bytes: 8 << 20,
        ..ReactorConfig::default()
    });
    stage.command(Command::Echo);
    const LENGTH: usize = 16 << 20;
    let stream = connect(address);
    let mut sending = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || sending.write_all(&pattern(1, LENGTH)).unwrap());
    assert!(
        read_exactly(&stream, LENGTH) == pattern(1, LENGTH),
        "every byte in its place"
    );
    drop(stream);
    sender.join().unwrap();
    stage.nothing_is_held();
}

#[test]
fn a_slow_peer_is_not_read_until_it_takes() {
    let (stage, address) = Stage::listening(ReactorConfig {
        unsent_limit_bytes: 64 << 10,
        read_bytes: 16 << 10,
        ..ReactorConfig::default()
    });
    stage.command(Command::Echo);
    let mut stream = connect(address);
    stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let bytes = pattern(2, 32 << 20);
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < bytes.len(), "the reactor stopped reading");
    let held = stage.handle.status().buffer_bytes_in_use;
    assert!(held <= 64 * 1024 * 3, "bounded by the limit and one read: {held}");
    assert!(
        read_exactly(&stream, sent) == bytes[..sent],
        "and goes on where it stopped"
    );
    drop(stream);
    stage.nothing_is_held();
}

#[test]
fn thousands_of_small_messages_on_many_connections() {
    let (stage, address) = Stage::listening(ReactorConfig::default());
    stage.command(Command::Echo);
    let streams: Vec<_> = (0..20).map(|_| connect(address)).collect();
    for round in 0..200u64 {
        for (index, mut stream) in streams.iter().enumerate() {
            stream.write_all(&pattern(round << 8 | index as u64, 72)).unwrap();
        }
        if round % 20 == 19 {
            for (index, stream) in streams.iter().enumerate() {
                for earlier in round - 19..=round {
                    assert_eq!(read_exactly(stream, 72), pattern(earlier << 8 | index as u64, 72));
                }
            }
        }
    }
    assert_eq!(stage.handle.status().connections, 20);
    drop(streams);
    stage.eventually("connections end", |status| status.connections == 0);
    stage.nothing_is_held();
}

#[test]
fn one_read_is_bounded() {
    let (stage, address) = Stage::listening(ReactorConfig {
        read_bytes: 4096,
        ..ReactorConfig::default()
    });
    let mut stream = connect(address);
    let connection = stage.accepted();
    stream.write_all(&pattern(3, 100_000)).unwrap();
    let mut all = Vec::new();
    while all.len() < 100_000 {
        let Told::Received(from, bytes) = stage.next() else {
            panic!("received")
        };
        assert_eq!(from, connection);
        assert!(bytes.len() <= 4096);
        all.extend(bytes);
    }
    assert!(all == pattern(3, 100_000));
}

#[test]
fn segments_leave_in_order_however_they_lie() {
    let (stage, address) = Stage::listening(ReactorConfig::default());
    let stream = connect(address);
    let connection = stage.accepted();
    let mut expected = Vec::new();
    for index in 0..500u64 {
        let bytes = pattern(index, (index as usize * 37) % 9000);
        expected.extend_from_slice(&bytes);
        stage.command(match index % 3 {
            0 => Command::Send(connection, bytes),
            _ => Command::SendPayload(connection, bytes),
        });
    }
    assert!(read_exactly(&stream, expected.len()) == expected);
    stage.nothing_is_held();
}

#[test]
fn reactors_talk_to_each_other() {
    let (server, address) = Stage::listening(ReactorConfig::default());
    let client = Stage::start(ReactorConfig::default());
    client.command(Command::Connect(7, address));
    // Asked for before it is open: sent when it is.
    client.command(Command::Send(ConnectionId(7), b"early".to_vec()));
    assert_eq!(client.next(), Told::Connected(ConnectionId(7)));
    let Told::Accepted(connection, listener) = server.next() else {
        panic!("accepted")
    };
    assert_eq!((listener, connection.0 >> 63), (ListenerId(0), 1));
    assert_eq!(server.receive(connection, 5), b"early");
    server.command(Command::SendPayload(connection, pattern(4, 3 << 20)));
    assert!(client.receive(ConnectionId(7), 3 << 20) == pattern(4, 3 << 20));
    client.command(Command::Close(ConnectionId(7), false));
    assert_eq!(server.next(), Told::Closed(connection, CloseReason::Peer));
    client.nothing_told();
    client.eventually("the connection is gone", |status| status.connections == 0);
    server.nothing_is_held();
}

#[test]
fn nobody_listens() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stage = Stage::start(ReactorConfig::default());
    stage.command(Command::Connect(1, free));
    stage.command(Command::SendPayload(ConnectionId(1), vec![0; 5000]));
    assert_eq!(stage.next(), Told::Closed(ConnectionId(1), CloseReason::Broken));
    stage.nothing_is_held();
    // Fails inside the call: told all the same, and later.
    stage.command(Command::Connect(2, "255.255.255.255:1".parse().unwrap()));
    assert_eq!(stage.next(), Told::Closed(ConnectionId(2), CloseReason::Broken));
    // Closed by the machine before it could be told: not told at all.
    let unreachable = Command::Connect(3, "255.255.255.255:1".parse().unwrap());
    stage.command(Command::Many(vec![
        unreachable,
        Command::Close(ConnectionId(3), false),
    ]));
    stage.nothing_told();
    // What is sent to a connection that is gone is released.
    stage.command(Command::SendPayload(ConnectionId(2), vec![0; 5000]));
    stage.nothing_told();
    stage.nothing_is_held();
}

#[test]
fn a_connection_closed_while_it_opens_is_not_told_of() {
    let stage = Stage::start(ReactorConfig::default());
    // A documentation address: nothing answers, or the machine refuses at once.
    stage.command(Command::Connect(1, "192.0.2.1:4420".parse().unwrap()));
    stage.command(Command::Close(ConnectionId(1), false));
    stage.command(Command::Ping);
    let mut told = vec![stage.next()];
    if told[0] != Told::Pong {
        told.push(stage.next());
        assert_eq!(
            told[0],
            Told::Closed(ConnectionId(1), CloseReason::Broken),
            "before the close came"
        );
    }
    assert_eq!(told.last(), Some(&Told::Pong));
    stage.eventually("it is gone", |status| status.connections == 0);
}

#[test]
fn a_peer_that_resets_takes_what_was_queued_with_it() {
    let (stage, address) = Stage::listening(ReactorConfig::default());
    let mut stream = connect(address);
    let connection = stage.accepted();
    stream.write_all(b"!").unwrap();
    stage.receive(connection, 1);
    for index in 0..40 {
        stage.command(Command::SendPayload(connection, pattern(index, 1 << 20)));
    }
    stage.eventually("much is queued", |status| status.buffer_bytes_in_use > 1 << 20);
    // Closing with unread bytes resets.
    drop(stream);
    assert_eq!(stage.next(), Told::Closed(connection, CloseReason::Broken));
    stage.nothing_is_held();
    stage.nothing_told();
}

#[test]
fn last_words_arrive_though_the_peer_went_on_talking() {
    let (stage, address) = Stage::listening(ReactorConfig {
        read_bytes: 4096,
        ..ReactorConfig::default()
    });
    let mut stream = connect(address);
    let connection = stage.accepted();
    stage.command(Command::SendPayload(connection, pattern(5, 200_000)));
    stage.command(Command::Send(connection, b"bye".to_vec()));
    stage.command(Command::Close(connection, false));
    stage.nothing_told();
    stream
        .write_all(&[0; 100_000])
        .expect("the connection is not reset");
    let all = read_exactly(&stream, 200_003);
    assert!(all[..200_000] == pattern(5, 200_000) && all[200_000..] == *b"bye");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "then the end, in order");
    drop(stream);
    stage.eventually("it is gone", |status| status.connections == 0);
    stage.nothing_told();
    stage.nothing_is_held();
}

#[test]
fn an_abort_resets_and_drops_what_is_unsent() {
    let (stage, address) = Stage::listening(ReactorConfig::default());
    let mut stream = connect(address);
    let connection = stage.accepted();
    for index in 0..20 {
        stage.command(Command::SendPayload(connection, pattern(index, 1 << 20)));
    }
    stage.command(Command::Close(connection, true));
    stage.nothing_is_held();
    let error = loop {
        match stream.read(&mut [0; 65536]) {
            Ok(count) => assert!(count > 0, "a reset, not an end in order"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    stage.nothing_told();
}

#[test]
fn idle_means_not_one_turn() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let (stage, address) = Stage::listening(ReactorConfig {
        disks: vec![engine::DiskConfig::path(file.path())],
        ..ReactorConfig::default()
    });
    let mut stream = connect(address);
    let connection = stage.accepted();
    stage.command(Command::SendPayload(connection, vec![1; 4096]));
    stage.command(Command::TimeoutAt(engine::clock::now()));
    assert!(matches!(stage.next(), Told::Timeout(_)));
    let bytes = pattern(1, 4096);
    stage
        .disk(
            0,
            1,
            puppet::Ask::Write {
                offset: 0,
                bytes,
                durable: true,
            },
        )
        .unwrap();
    stream.write_all(b"x").unwrap();
    stage.receive(connection, 1);
    stage.nothing_is_held();
    let settled = || {
        let before = stage.handle.status().turns;
        std::thread::sleep(Duration::from_millis(50));
        (stage.handle.status().turns == before).then_some(before)
    };
    let turns = (0..100).find_map(|_| settled()).expect("the loop comes to rest");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(stage.handle.status().turns, turns);
    stream.write_all(b"y").unwrap();
    assert_eq!(
        stage.receive(connection, 1),
        b"y",
        "and wakes when there is something"
    );
    stage.eventually("which is a turn", |status| status.turns > turns);
}

#[test]
fn a_timeout_comes_when_asked_for() {
    let stage = Stage::start(ReactorConfig::default());
    let at = engine::clock::now() + Duration::from_millis(30);
    stage.command(Command::TimeoutAt(at));
    let Told::Timeout(came) = stage.next() else {
        panic!("timeout")
    };
    assert!(came >= at);
    stage.nothing_told();
}

#[test]
fn addresses_in_use_are_refused_with_a_reason() {
    let (_stage, address) = Stage::listening(ReactorConfig::default());
    let config = ReactorConfig {
        listeners: vec![address],
        ..ReactorConfig::default()
    };
    let refused = Stage::try_start(config).err().expect("refused");
    assert!(matches!(refused, StartReactor::Listen { address: named, .. } if named == address));
    assert!(refused.to_string().contains("cannot listen on"), "{refused}");
}

#[test]
fn reactors_share_an_address_if_they_say_so() {
    let shared = |listeners| ReactorConfig {
        listeners,
        reuse_port: true,
        ..ReactorConfig::default()
    };
    let first = Stage::start(shared(vec!["127.0.0.1:0".parse().unwrap()]));
    let address = first.handle.opened().listeners[0];
    let second = Stage::start(shared(vec![address]));
    let streams: Vec<_> = (0..64).map(|_| connect(address)).collect();
    let count = |stage: &Stage| stage.handle.status().connections;
    first.eventually("all are accepted", |_| count(&first) + count(&second) == 64);
    assert!(
        count(&first) > 0 && count(&second) > 0,
        "64 connections all at one of two"
    );
    drop(streams);
}

#[test]
fn a_slow_listener_to_reports_does_not_block() {
    let (hold, held) = mpsc::channel::<()>();
    let config = ReactorConfig {
        listeners: vec!["127.0.0.1:0".parse().unwrap()],
        ..ReactorConfig::default()
    };
    let handle = engine::start(
        config,
        |_| puppet::Puppet::default(),
        move |_: Told| held.recv().unwrap_or_default(),
    )
    .unwrap();
    handle.control(Command::Echo).unwrap();
    let mut stream = connect(handle.opened().listeners[0]);
    for _ in 0..100 {
        handle.control(Command::Ping).unwrap();
        stream.write_all(b"still here").unwrap();
        assert_eq!(read_exactly(&stream, 10), b"still here");
    }
    drop(hold);
    handle.stop();
}

#[test]
fn stop_ends_everything() {
    let (stage, address) = Stage::listening(ReactorConfig::default());
    assert_eq!(stage.handle.status().backend, DiskBackend::None);
    let mut stream = connect(address);
    stage.accepted();
    let other = stage.handle.clone();
    stage.handle.stop();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    assert_eq!(other.control(Command::Ping), Err(Stopped));
    other.stop();
}

#[test]
fn a_machine_that_panics_takes_the_process_with_it() {
    const CHILD: &str = "ENGINE_TEST_PANIC";
    if std::env::var_os(CHILD).is_some() {
        let stage = Stage::start(ReactorConfig::default());
        stage.command(Command::Panic);
        stage.next();
        return;
    }
    let name = "a_machine_that_panics_takes_the_process_with_it";
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(CHILD, "1")
        .output()
        .unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(child.status.signal(), Some(6), "SIGABRT");
}
