//! One connection of a scraper: takes a request of bounded length within a bounded time, and writes the
//! answer within another.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::request::{LONGEST, Request, Status};

/// How long a request may take to come, from the connection on.
const TO_ASK: Duration = Duration::from_secs(5);

/// How long an answer may take to be read.
const TO_READ: Duration = Duration::from_secs(20);

/// How long an answer that nobody reads keeps its place if another one wants it.
const UNREAD: Duration = Duration::from_secs(1);

/// The stream of a scraper, which does not block.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Stream {
    pub fn nonblocking(self) -> io::Result<Stream> {
        match &self {
            Stream::Tcp(stream) => stream.set_nonblocking(true)?,
            Stream::Unix(stream) => stream.set_nonblocking(true)?,
        }
        Ok(self)
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(bytes),
            Stream::Unix(stream) => stream.read(bytes),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn end_of_writing(&self) {
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

#[derive(Debug)]
enum State {
    /// What has come of the request.
    Asking(Vec<u8>),
    /// The answer, and how much of it was written.
    Answering(Vec<u8>, usize),
    /// All was written. What the scraper still sends is thrown away, so that it gets the answer whole: so
    /// many bytes so far.
    Draining(usize),
}

/// A connection and how far it is.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    state: State,
    /// When the state began, or something of the answer was last read.
    since: Instant,
    until: Instant,
}

/// What became of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It waits for the other side.
    Waits,
    /// It is over.
    Over,
}

impl Connection {
    pub fn new(stream: Stream, now: Instant) -> Connection {
        Connection { stream, state: State::Asking(Vec::new()), since: now, until: now + TO_ASK }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// What to wait for.
    pub fn waits_for(&self) -> PollFlags {
        match self.state {
            State::Answering(..) => PollFlags::OUT,
            State::Asking(_) | State::Draining(_) => PollFlags::IN,
        }
    }

    /// When it is given up.
    pub fn deadline(&self) -> Instant {
        self.until
    }

    /// Since when it keeps its place for nothing, if it does: it has asked nothing, or does not read what was
    /// answered.
    pub fn idle_since(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Asking(_) | State::Draining(_) => Some(self.since),
            State::Answering(..) => {
                (now.saturating_duration_since(self.since) >= UNREAD).then_some(self.since)
            }
        }
    }

    /// Goes on as far as it can without waiting. `answer` is asked for the answer to a request.
    pub fn step(&mut self, local: bool, now: Instant, answer: impl FnOnce(Request) -> Vec<u8>) -> Step {
        if now >= self.until {
            return Step::Over;
        }
        match self.advance(local, now, answer) {
            Ok(step) => step,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Step::Waits
            }
            Err(_) => Step::Over,
        }
    }

    fn advance(
        &mut self,
        local: bool,
        now: Instant,
        answer: impl FnOnce(Request) -> Vec<u8>,
    ) -> io::Result<Step> {
        if let State::Asking(head) = &mut self.state {
            let request = loop {
                let mut part = [0; 1024];
                let room = part.len().min(LONGEST - head.len());
                let count = self.stream.read(&mut part[..room])?;
                if count == 0 {
                    return Ok(Step::Over);
                }
                head.extend_from_slice(&part[..count]);
                match Request::read(head, local) {
                    Request::Incomplete => {}
                    request => break request,
                }
            };
            self.state = State::Answering(answer(request), 0);
            (self.since, self.until) = (now, now + TO_READ);
        }
        if let State::Answering(answer, written) = &mut self.state {
            while *written < answer.len() {
                match self.stream.write(&answer[*written..])? {
                    0 => return Ok(Step::Over),
                    count => *written += count,
                }
                self.since = now;
            }
            self.stream.end_of_writing();
            self.state = State::Draining(0);
            (self.since, self.until) = (now, self.until.min(now + TO_ASK));
        }
        if let State::Draining(sum) = &mut self.state {
            let mut rest = [0; 1024];
            let count = self.stream.read(&mut rest)?;
            *sum += count;
            return Ok(if count == 0 || *sum > LONGEST { Step::Over } else { Step::Waits });
        }
        Ok(Step::Waits)
    }
}

/// The answer to a request that was refused, if it was.
pub fn refusal(request: &Request) -> Option<Vec<u8>> {
    match request {
        Request::Refused(status) => Some(status.answer()),
        Request::Incomplete => Some(Status::BadRequest.answer()),
        Request::Asks { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Connection, UnixStream, Instant) {
        let (here, there) = UnixStream::pair().unwrap();
        let now = Instant::now();
        (Connection::new(Stream::Unix(here).nonblocking().unwrap(), now), there, now)
    }

    fn go(connection: &mut Connection, now: Instant) -> Step {
        connection.step(true, now, |request| {
            assert!(matches!(request, Request::Asks { .. }), "{request:?}");
            b"answer".to_vec()
        })
    }

    #[test]
    fn a_request_may_come_in_parts_but_not_for_ever() {
        let (mut connection, mut there, now) = pair();
        for part in ["GET /metr", "ics HTTP/1.1\r\n", "Host: localhost\r\n"] {
            there.write_all(part.as_bytes()).unwrap();
            assert_eq!(go(&mut connection, now), Step::Waits);
            assert_eq!(connection.idle_since(now), Some(now));
        }
        assert_eq!(go(&mut connection, now + TO_ASK), Step::Over, "however it trickles");
        there.write_all(b"\r\nmore").unwrap();
        assert_eq!(go(&mut connection, now), Step::Waits);
        let mut answer = String::new();
        there.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
        drop(there);
        assert_eq!(go(&mut connection, now), Step::Over);
    }

    #[test]
    fn an_answer_that_is_not_read_keeps_its_place_only_for_a_while() {
        let (mut connection, mut there, now) = pair();
        there.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let step = connection.step(true, now, |_| vec![b'x'; 10 << 20]);
        assert_eq!((step, connection.waits_for()), (Step::Waits, PollFlags::OUT));
        assert_eq!(connection.idle_since(now), None);
        assert_eq!(connection.idle_since(now + UNREAD), Some(now));
        assert_eq!(go(&mut connection, now + TO_READ), Step::Over);
    }

    #[test]
    fn who_leaves_is_forgotten_and_who_sends_too_much_is_answered() {
        let (mut connection, there, now) = pair();
        drop(there);
        assert_eq!(go(&mut connection, now), Step::Over);
        let (mut connection, mut there, now) = pair();
        there.write_all(&vec![b'x'; LONGEST + 100]).unwrap();
        let mut seen = None;
        connection.step(true, now, |request| {
            seen = refusal(&request);
            b"x".to_vec()
        });
        assert!(seen.is_some());
    }
}
