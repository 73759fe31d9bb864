//! `Incoming`: a caller that was introduced and waits to be accepted or refused.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Instant;

use rustix::thread::Pid;

use super::end::LinkEnd;
use super::responder::Responder;
use super::serving_error::AcceptError;
use crate::ring::{Consumer, Deadline, Producer, Stop, WaitStrategy};
use crate::testing::failpoints::failpoint;
use crate::wire::{
    BLOCK_HEADER, BlockHeader, CloseReason, HELLO_TIME, LONGEST_REFUSAL, Operation, Peer, Status, Violation,
};

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
        Incoming { end, requests, responses, ring_size, strategy, until: Instant::now() + HELLO_TIME }
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
        failpoint!("link.said", [link], seldom);
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
        failpoint!("link.accepted", [link], seldom);
        let rings = (self.requests, self.responses);
        Ok(Responder::new(self.end, rings, self.ring_size, self.strategy, reference))
    }

    /// Refuses the link: the caller gets this text, at most 1,024 bytes of it, as
    /// [`ConnectError::Refused`](crate::ConnectError::Refused). Does not block.
    pub fn refuse(mut self, why: impl AsRef<str>) {
        let text = why.as_ref();
        let most = LONGEST_REFUSAL.min(self.responses.max_block() - BLOCK_HEADER);
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

#[cfg(test)]
mod tests {
    use super::super::end::tests::{Alices, bob, link_with_rings, this_process, until};
    use super::*;
    use crate::ring::{self, RecvError};

    /// Bob's part of a link that alice has asked for, and hers.
    fn incoming() -> (Incoming, Alices) {
        let bob = bob();
        let (end, ends, alice) = link_with_rings(&bob, this_process());
        // A link ends with its client.
        std::mem::forget(bob);
        (Incoming::new(end, ends.consumer, ends.producer, 4096, WaitStrategy::Park), alice)
    }

    fn publish(alice: &mut Alices, (code, flags, sequence): (u16, u16, u32), body: &[u8]) {
        let header = BlockHeader::new(code, flags, sequence).to_word();
        alice.ends.producer.try_publish(Some(header), &[body]).unwrap();
    }

    const HELLO: (u16, u16, u32) = (Operation::Hello as u16, 0, 0);

    /// What alice hears next.
    fn heard(alice: &mut Alices) -> Result<(Option<Status>, Vec<u8>), RecvError> {
        let mut block = Vec::new();
        alice.ends.consumer.recv(&mut block)?;
        let header = BlockHeader::from_array(*block.first_chunk().unwrap());
        assert_eq!((header.flags.get(), header.sequence.get()), (0, 0));
        Ok((Status::from_code(header.code.get()), block.split_off(BLOCK_HEADER)))
    }

    #[test]
    fn a_caller_that_says_hello_is_accepted() {
        let (incoming, mut alice) = incoming();
        publish(&mut alice, HELLO, b"");
        let responder = incoming.accept().unwrap();
        assert_eq!(heard(&mut alice), Ok((Some(Status::Ok), Vec::new())));
        assert_eq!(responder.peer().name, "alice");
        drop(responder);
        let ended = RecvError::Disconnected(ring::CloseReason::PEER);
        assert_eq!(heard(&mut alice), Err(ended));
    }

    #[test]
    fn any_other_first_block_breaks_a_rule() {
        let (code, ..) = HELLO;
        type Case = ((u16, u16, u32), &'static [u8]);
        let cases: [Case; 5] = [
            ((code, 1, 0), b""),
            ((code, 0, 1), b""),
            ((code, 0, 0), b"x"),
            ((Operation::Call as u16, 0, 0), b""),
            ((Status::Hello as u16, 0, 0), b""),
        ];
        for (header, body) in cases {
            let (incoming, mut alice) = incoming();
            publish(&mut alice, header, body);
            assert_eq!(
                incoming.accept().unwrap_err(),
                AcceptError::Violation(Violation::MalformedBlock),
                "{header:?}"
            );
            let ended = RecvError::Disconnected(ring::CloseReason::FAULT);
            assert_eq!(heard(&mut alice), Err(ended));
        }
        let (incoming, mut alice) = incoming();
        alice.ends.producer.try_publish(None, &[b"short"]).unwrap();
        assert_eq!(incoming.accept().unwrap_err(), AcceptError::Violation(Violation::MalformedBlock));
    }

    #[test]
    fn a_caller_that_says_nothing_or_leaves_is_given_up() {
        let (incoming, mut alice) = incoming();
        let now = Incoming { until: Instant::now(), ..incoming };
        let accepting = std::thread::spawn(move || now.accept().map(drop));
        until("the time is over", || accepting.is_finished());
        assert_eq!(accepting.join().unwrap(), Err(AcceptError::TimedOut));
        assert_eq!(heard(&mut alice), Err(RecvError::Disconnected(ring::CloseReason::PEER)));
        let (incoming, alice) = self::incoming();
        alice.ends.closer.close();
        assert!(!incoming.is_there());
        assert_eq!(incoming.accept().unwrap_err(), AcceptError::Disconnected(CloseReason::Peer));
        // She said hello, and left.
        let (incoming, mut alice) = self::incoming();
        publish(&mut alice, HELLO, b"");
        alice.ends.closer.close_as(CloseReason::Unregistered);
        assert_eq!(incoming.accept().unwrap_err(), AcceptError::Disconnected(CloseReason::Unregistered));
    }

    #[test]
    fn a_refusal_is_cut_between_characters_and_comes_before_the_end() {
        for (text, wanted) in
            [("not today", 9), ("", 0), (&"é".repeat(600), 1024), (&"xx€".repeat(600), 1022)]
        {
            let (incoming, mut alice) = incoming();
            incoming.refuse(text);
            let (status, body) = heard(&mut alice).unwrap();
            assert_eq!(status, Some(Status::Refused));
            assert_eq!((body.len(), text.starts_with(str::from_utf8(&body).unwrap())), (wanted, true));
            assert_eq!(heard(&mut alice), Err(RecvError::Disconnected(ring::CloseReason::PEER)));
        }
    }
}
