//! How the independent client waits in an event loop, written from `docs/PROTOCOL.md` alone.

use super::client::{Client, Closed, Connection, Message, Reply, Response};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, write};
use rustix::time::Timespec;
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

/// Longer than anything in these tests takes.
const LIMIT: Duration = Duration::from_secs(60);

const KICK: u16 = 9;
const ARMS: u16 = 10;

/// A pipe by which an end is woken.
pub struct Pipe {
    reading: OwnedFd,
    /// By which the end could wake itself.
    _writing: OwnedFd,
    /// How often a word was set to 2, and how many bytes came.
    stored: Cell<u64>,
    came: Cell<u64>,
}

impl Pipe {
    pub fn new(reading: OwnedFd, writing: OwnedFd) -> Pipe {
        assert_eq!(write(&writing, &[1]), Ok(1));
        let pipe = Pipe { reading, _writing: writing, stored: Cell::new(1), came: Cell::new(0) };
        pipe.drain();
        assert!(pipe.came.get() >= 1, "its two ends are of one pipe");
        pipe
    }

    fn drain(&self) {
        loop {
            match read(&self.reading, &mut [0; 64]) {
                Ok(bytes) if bytes > 0 => self.came.set(self.came.get() + bytes as u64),
                found => return assert_eq!(found, Err(Errno::AGAIN)),
            }
        }
    }

    /// Waits by these words, unless the condition already holds.
    pub fn wait(&self, parked: &[&AtomicU32], is_there: impl FnOnce() -> bool) {
        self.drain();
        assert!(self.came.get() < self.stored.get() + 64, "the rule of kicks");
        self.stored.set(self.stored.get() + parked.len() as u64);
        parked.iter().for_each(|word| word.store(2, Ordering::Relaxed));
        fence(Ordering::SeqCst);
        if is_there() {
            return parked.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        let within = Timespec::try_from(LIMIT).unwrap();
        assert_eq!(poll(&mut [PollFd::new(&self.reading, PollFlags::IN)], Some(&within)), Ok(1), "no kick");
    }
}

/// The pipes of a client: of the half that calls, and of its inbox.
pub struct Pipes {
    calls: Pipe,
    inbox: Pipe,
}

impl Pipes {
    pub fn of(path: &Path, client: &mut Client) -> Pipes {
        let ask = |half: u8| match Connection::to(path).ask(KICK, &[&client.proof[..], &[half]].concat()) {
            Reply::Done { body, descriptors } => {
                assert!(body.is_empty());
                let [reading, writing] = descriptors.try_into().expect("two descriptors");
                Pipe::new(reading, writing)
            }
            other => panic!("{other:?}"),
        };
        let (calls, inbox) = (ask(0), ask(1));
        assert_eq!(client.ask(ARMS, 0, b""), (0, vec![]));
        Pipes { calls, inbox }
    }

    /// The next response, for which it waits in an event loop.
    pub fn response(&self, client: &mut Client) -> Result<Response, Closed> {
        loop {
            if let Some(response) = client.try_response() {
                return Ok(response);
            }
            if client.closed() != 0 && client.responses.is_empty() {
                return Err(Closed(client.closed()));
            }
            let ring = &client.responses;
            self.calls.wait(&[ring.consumer_parked()], || !ring.is_empty() || client.closed() != 0);
        }
    }

    /// The next message.
    pub fn receive(&self, client: &mut Client) -> Message {
        loop {
            if let Some(message) = client.try_receive() {
                return message;
            }
            let ring = &client.inbox;
            self.inbox.wait(&[ring.consumer_parked()], || !ring.is_empty());
        }
    }

    /// Publishes a request. Waits in an event loop while there is no room and nothing is to be received.
    pub fn request(
        &self,
        client: &mut Client,
        operation: u16,
        body: &[u8],
        taken: &mut Vec<Response>,
    ) -> u32 {
        loop {
            if let Some(number) = client.try_request(operation, 0, body) {
                return number;
            }
            taken.extend(std::iter::from_fn(|| client.try_response()));
            let Client { requests, responses, .. } = &*client;
            let words = [requests.producer_parked(), responses.consumer_parked()];
            self.calls.wait(&words, || requests.has_room(8 + body.len()) || !responses.is_empty());
        }
    }
}
