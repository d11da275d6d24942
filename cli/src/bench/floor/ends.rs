//! The two ends of the floor's connection.

use super::super::arguments::Waiting;
use super::{ENDING, MEASURING, Outcome};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// A request's bytes before its payload: those of a command capsule.
const REQUEST_BYTES: usize = 72;
/// An answer's bytes before its payload: those of a response capsule, or of a data PDU's header.
const ANSWER_BYTES: usize = 24;
/// The most that is read at a time.
const READ_BYTES: usize = 256 << 10;
/// The most messages in one send.
const BATCH_MAX: usize = 64;
/// How long [`Waiting::Adaptive`] spins.
const SPIN: Duration = Duration::from_micros(50);

/// What is moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) reads: bool,
    pub(super) depth: usize,
    pub(super) payload: usize,
    /// The server's memory, if it is to have any.
    pub(super) span: usize,
}

impl Load {
    fn request_payload(&self) -> usize {
        if self.reads { 0 } else { self.payload }
    }

    fn answer_payload(&self) -> usize {
        if self.reads { self.payload } else { 0 }
    }
}

/// A connection that is waited for in one way.
struct Line {
    stream: TcpStream,
    waiting: Waiting,
}

impl Line {
    fn new(stream: TcpStream, waiting: Waiting) -> io::Result<Line> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(waiting != Waiting::Sleep)?;
        Ok(Line { stream, waiting })
    }

    /// Some bytes, after whatever wait; none: the other end is gone.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.wait_and_read(into) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(0),
            answer => answer,
        }
    }

    fn wait_and_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut since = None;
        loop {
            match self.stream.read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                answer => return answer,
            }
            std::hint::spin_loop();
            if self.waiting == Waiting::Adaptive && since.get_or_insert_with(Instant::now).elapsed() > SPIN {
                self.stream.set_nonblocking(false)?;
                let answer = self.stream.read(into);
                self.stream.set_nonblocking(true)?;
                return answer;
            }
        }
    }

    /// All of `pieces`.
    fn write(&mut self, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        while !pieces.is_empty() {
            match self.stream.write_vectored(pieces) {
                Ok(written) => IoSlice::advance_slices(&mut pieces, written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                // Reading tells that the other end is gone.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Messages of one length coming in, each where its own buffer would be.
struct Inbox {
    bytes: Vec<u8>,
    message: usize,
    at: usize,
    /// Where the first message lies that was not taken yet.
    taken: usize,
}

impl Inbox {
    fn new(message: usize, depth: usize) -> Inbox {
        // As many as may be under way, but enough for a large read.
        let count = depth.max(READ_BYTES.div_ceil(message));
        Inbox {
            bytes: vec![0; count * message],
            message,
            at: 0,
            taken: 0,
        }
    }

    /// How many messages are whole with what comes now; none: the other end is gone.
    fn receive(&mut self, line: &mut Line) -> io::Result<usize> {
        loop {
            let end = self.bytes.len().min(self.at + READ_BYTES);
            let read = line.read(&mut self.bytes[self.at..end])?;
            if read == 0 {
                return Ok(0);
            }
            let whole = (self.at + read) / self.message - self.at / self.message;
            self.at += read;
            if self.at == self.bytes.len() {
                self.at = 0;
            }
            if whole > 0 {
                return Ok(whole);
            }
        }
    }

    /// The next whole message.
    fn take(&mut self) -> &[u8] {
        let from = self.taken;
        let behind = from + self.message;
        self.taken = if behind == self.bytes.len() { 0 } else { behind };
        &self.bytes[from..behind]
    }
}

/// Answers.
pub(super) struct Server {
    line: Line,
    load: Load,
    inbox: Inbox,
    memory: Vec<u8>,
    state: u64,
}

impl Server {
    pub(super) fn new(stream: TcpStream, load: Load, waiting: Waiting) -> io::Result<Server> {
        Ok(Server {
            line: Line::new(stream, waiting)?,
            load,
            inbox: Inbox::new(REQUEST_BYTES + load.request_payload(), load.depth),
            memory: vec![1; load.span.max(load.payload)],
            state: 1,
        })
    }

    /// Until the client is gone.
    pub(super) fn run(mut self) -> io::Result<()> {
        let header = [7; ANSWER_BYTES];
        loop {
            let mut requests = self.inbox.receive(&mut self.line)?;
            if requests == 0 {
                return Ok(());
            }
            while requests > 0 {
                let count = requests.min(BATCH_MAX);
                requests -= count;
                if self.load.reads {
                    self.send_payloads(&header, count)?;
                } else {
                    self.keep_payloads(count);
                    let mut pieces = [IoSlice::new(&header); BATCH_MAX];
                    self.line.write(&mut pieces[..count])?;
                }
            }
        }
    }

    /// Where in memory the next payload is.
    fn place(&mut self) -> usize {
        let places = (self.memory.len() / self.load.payload) as u64;
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (((self.state >> 32) * places) >> 32) as usize * self.load.payload
    }

    fn send_payloads(&mut self, header: &[u8], count: usize) -> io::Result<()> {
        let mut places = [0; BATCH_MAX];
        places[..count].iter_mut().for_each(|place| *place = self.place());
        let mut pieces = [IoSlice::new(header); 2 * BATCH_MAX];
        for (piece, place) in pieces.iter_mut().skip(1).step_by(2).zip(places) {
            *piece = IoSlice::new(&self.memory[place..place + self.load.payload]);
        }
        self.line.write(&mut pieces[..2 * count])
    }

    fn keep_payloads(&mut self, count: usize) {
        if self.load.span == 0 {
            return;
        }
        for _ in 0..count {
            let place = self.place();
            let payload = &self.inbox.take()[REQUEST_BYTES..];
            self.memory[place..place + payload.len()].copy_from_slice(payload);
        }
    }
}

/// Asks.
pub(super) struct Client {
    line: Line,
    load: Load,
    inbox: Inbox,
    payloads: Vec<u8>,
    sent: VecDeque<Instant>,
}

impl Client {
    pub(super) fn new(stream: TcpStream, load: Load, waiting: Waiting) -> io::Result<Client> {
        Ok(Client {
            line: Line::new(stream, waiting)?,
            load,
            inbox: Inbox::new(ANSWER_BYTES + load.answer_payload(), load.depth),
            payloads: vec![2; load.request_payload() * load.depth],
            sent: VecDeque::with_capacity(load.depth),
        })
    }

    /// Until it is told to end.
    pub(super) fn run(mut self, phase: &AtomicU8) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut begun = None;
        self.send(self.load.depth)?;
        loop {
            let count = self.inbox.receive(&mut self.line)?;
            let now = Instant::now();
            for since in self.sent.drain(..count) {
                if begun.is_some() {
                    let took = now.duration_since(since).as_nanos() as u64;
                    outcome.latencies.record(took);
                }
            }
            match phase.load(Ordering::Relaxed) {
                ENDING => {
                    outcome.elapsed = begun.map_or(Duration::ZERO, |begun| now.duration_since(begun));
                    return Ok(outcome);
                }
                MEASURING if begun.is_none() => begun = Some(now),
                _ => {}
            }
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.send(count)?;
        }
    }

    fn send(&mut self, mut count: usize) -> io::Result<()> {
        let header = [9; REQUEST_BYTES];
        let payload = self.load.request_payload();
        let now = Instant::now();
        while count > 0 {
            let batch = count.min(BATCH_MAX);
            count -= batch;
            let mut pieces = [IoSlice::new(&header); 2 * BATCH_MAX];
            if payload == 0 {
                self.line.write(&mut pieces[..batch])?;
            } else {
                // Each from a buffer of its own.
                for (index, piece) in pieces.iter_mut().skip(1).step_by(2).take(batch).enumerate() {
                    let at = index % self.load.depth * payload;
                    *piece = IoSlice::new(&self.payloads[at..at + payload]);
                }
                self.line.write(&mut pieces[..2 * batch])?;
            }
            self.sent.extend(std::iter::repeat_n(now, batch));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn moved(load: Load, waiting: Waiting) -> u64 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = Server::new(listener.accept().unwrap().0, load, waiting).unwrap();
        let serving = std::thread::spawn(move || server.run());
        let phase = AtomicU8::new(MEASURING);
        let outcome = std::thread::scope(|scope| {
            let client = Client::new(client, load, waiting).unwrap();
            let asking = scope.spawn(|| client.run(&phase));
            std::thread::sleep(Duration::from_millis(20));
            phase.store(ENDING, Ordering::Relaxed);
            asking.join().unwrap().unwrap()
        });
        serving.join().unwrap().unwrap();
        outcome.latencies.count()
    }

    #[test]
    fn every_load_moves_and_ends() {
        for waiting in [Waiting::Sleep, Waiting::Adaptive, Waiting::Spin] {
            for (reads, payload, span) in [
                (true, 4096, 0),
                (false, 4096, 1 << 20),
                (true, 131072, 1 << 20),
                (false, 131072, 0),
            ] {
                let load = Load {
                    reads,
                    depth: 5,
                    payload,
                    span,
                };
                assert!(moved(load, waiting) > 0, "{load:?} {waiting:?}");
            }
        }
    }
}
