//! `Incoming`: a caller that was introduced and waits to be accepted or refused.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::{Duration, Instant};

use rustix::thread::Pid;

use super::end::LinkEnd;
use super::responder::Responder;
use super::serving_error::AcceptError;
use crate::ring::{Consumer, Deadline, Producer, Stop, WaitStrategy};
use crate::testing::failpoints::failpoint;
use crate::wire::{BLOCK_HEADER, BlockHeader, CloseReason, Operation, Peer, Status, Violation};

/// How long the other side has to say hello.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest text of a refusal, in bytes.
const MOST_TEXT: usize = 1024;

/// A client that asks for a link: [`accept`](Self::accept) or [`refuse`](Self::refuse) it. Given by
/// [`Listener::accept`](super::Listener::accept). Its `connect` waits meanwhile. Dropping this ends the
/// link before it began: the caller is told that it is [`Gone`](crate::ConnectError::Gone).
///
/// # Examples
///
/// ```
/// use ringpost::{Client, ConnectError};
///
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let mut listener = bob.listen()?;
/// let refuses = std::thread::spawn(move || -> Result<(), ringpost::AcceptError> {
///     let incoming = listener.accept()?;
///     assert_eq!(incoming.peer().name, "alice");
///     incoming.refuse("not today");
///     Ok(())
/// });
/// assert!(matches!(alice.connect("bob"), Err(ConnectError::Refused(why)) if why == "not today"));
/// refuses.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it turns the caller away"]
pub struct Incoming {
    pub(super) end: LinkEnd,
    requests: Consumer,
    responses: Producer,
    ring_size: usize,
    strategy: WaitStrategy,
    /// Until when the caller must have said hello.
    until: Instant,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("peer", &self.end.peer.name).finish_non_exhaustive()
    }
}

impl Incoming {
    pub(in crate::client) fn new(
        end: LinkEnd,
        requests: Consumer,
        responses: Producer,
        ring_size: usize,
        strategy: WaitStrategy,
    ) -> Incoming {
        Incoming { end, requests, responses, ring_size, strategy, until: Instant::now() + PATIENCE }
    }

    /// Who asks, as the server knows it: a client cannot pretend to be another. Does not block.
    pub fn peer(&self) -> &Peer {
        &self.end.peer
    }

    /// Whether the caller has not given up.
    pub(super) fn is_there(&self) -> bool {
        self.end.reason().is_none()
    }

    /// Publishes a block that is no response. Returns whether it could.
    pub(in crate::client) fn say(&mut self, status: Status, body: &[u8]) -> bool {
        let header = BlockHeader::new(status as u16, 0, 0).to_word();
        let said = self.responses.try_publish(Some(header), &[body]).is_ok();
        failpoint!("link.said", [client], seldom);
        self.responses.notify();
        said
    }

    /// Accepts the link: from now on the caller calls, and [`Responder::serve`] answers.
    ///
    /// Blocks until the caller has opened its end, which it does at once: at most until five seconds after
    /// the server has introduced it.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`]: the caller is gone ([`Disconnected`](AcceptError::Disconnected)), did not open
    /// its end in time ([`TimedOut`](AcceptError::TimedOut)), or broke a rule. The link has ended then.
    pub fn accept(self) -> Result<Responder, AcceptError> {
        self.accept_as(None)
    }

    /// `reference` is a thread whose CPUs the library never changes, if those of the serving thread may be.
    pub(super) fn accept_as(mut self, reference: Option<Pid>) -> Result<Responder, AcceptError> {
        if let Err(error) = self.hear_hello() {
            match error {
                AcceptError::Violation(_) => self.end.close(CloseReason::ProtocolViolation),
                _ => self.end.close(CloseReason::Local),
            }
            return Err(error);
        }
        if !self.say(Status::Ok, &[]) {
            return Err(self.gone());
        }
        failpoint!("link.accepted", [client], seldom);
        let rings = (self.requests, self.responses);
        Ok(Responder::new(self.end, rings, self.ring_size, self.strategy, reference))
    }

    /// Refuses the link: the caller gets this text, at most 1,024 bytes of it, as
    /// [`ConnectError::Refused`](crate::ConnectError::Refused). Does not block.
    pub fn refuse(mut self, why: impl AsRef<str>) {
        let text = why.as_ref();
        let most = MOST_TEXT.min(self.responses.max_block() - BLOCK_HEADER);
        let cut = (0..=text.len().min(most)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        self.say(Status::Refused, &text.as_bytes()[..cut]);
    }

    /// Waits for the first block of the caller.
    fn hear_hello(&mut self) -> Result<(), AcceptError> {
        let block = match self.requests.wait_for_block(&mut Deadline::from(self.until)) {
            Ok(block) => block,
            Err(Stop::Deadline) => return Err(AcceptError::TimedOut),
            Err(Stop::Closed(reason)) => return Err(AcceptError::Disconnected(reason.into())),
            Err(Stop::Fault(violation)) => return Err(AcceptError::Violation(violation.into())),
        };
        let hello = BlockHeader::new(Operation::Hello as u16, 0, 0);
        if block.len() != BLOCK_HEADER || BlockHeader::of(&block) != Some(hello) {
            self.requests.reject();
            return Err(AcceptError::Violation(Violation::MalformedBlock));
        }
        block.release();
        Ok(())
    }

    fn gone(&self) -> AcceptError {
        AcceptError::Disconnected(self.end.reason().unwrap_or(CloseReason::Peer))
    }
}
