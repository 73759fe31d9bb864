//! `Incoming`: a caller that was introduced and waits to be accepted or refused.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use rustix::thread::Pid;

use super::end::LinkEnd;
use super::error::ConnectError;
use super::pipes::LinkPipe;
use super::responder::Responder;
use super::serving_error::AcceptError;
use super::tap::LinkTap;
use crate::ring::{Consumer, Producer, WaitStrategy};
use crate::shm::backend::PipeReader;
use crate::testing::failpoints::failpoint;
use crate::wire::{
    BLOCK_HEADER, BlockHeader, CloseReason, LONGEST_REFUSAL, MAY_ARM, Operation, Peer, Status, beginning,
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
    pipe: Option<LinkPipe>,
    ring_size: usize,
    strategy: WaitStrategy,
    /// Whether the caller may wait in an event loop; it says so with its hello.
    caller_arms: bool,
    /// Whether this side may.
    arms: bool,
    /// Where copies of what is served are published.
    pub(super) tap: Option<Arc<LinkTap>>,
}

/// What a caller has said.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::client) enum Heard {
    Nothing,
    Hello,
    /// The link has ended: it is gone, or said something else.
    End,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("peer", &self.end.peer.name).finish_non_exhaustive()
    }
}

impl Incoming {
    pub(in crate::client) fn new(
        end: LinkEnd,
        (requests, responses): (Consumer, Producer),
        pipe: Option<LinkPipe>,
        ring_size: usize,
        strategy: WaitStrategy,
    ) -> Incoming {
        let (caller_arms, arms) = (false, false);
        Incoming { end, requests, responses, pipe, ring_size, strategy, caller_arms, arms, tap: None }
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
        let flags = if status == Status::Ok && self.arms { MAY_ARM } else { 0 };
        let header = BlockHeader::new(status as u16, flags, 0).to_word();
        let said = self.responses.try_publish(Some(header), &[body]).is_ok();
        failpoint!("link.said", [link], seldom);
        self.responses.notify();
        said
    }

    /// This end of the link may wait in an event loop: see [`Ready`](crate::Ready). Then it keeps one
    /// descriptor more, and the caller makes a memory fence for each response that it takes.
    pub fn arms(mut self) -> Incoming {
        self.arms = true;
        self
    }

    /// Accepts the link: from now on the caller calls, and [`Responder::serve`] answers. Does not block.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Disconnected`]: the caller is gone.
    pub fn accept(self) -> Result<Responder, AcceptError> {
        self.accept_as(None)
    }

    /// `reference` is a thread whose CPUs the library never changes, if those of the serving thread may be.
    pub(super) fn accept_as(mut self, reference: Option<Pid>) -> Result<Responder, AcceptError> {
        let own = self.pipe.take().filter(|_| self.arms).map(LinkPipe::arms);
        if !self.say(Status::Ok, &[]) {
            return Err(AcceptError::Disconnected(self.end.reason().unwrap_or(CloseReason::Peer)));
        }
        failpoint!("link.accepted", [link], seldom);
        let rings = (self.requests, self.responses);
        let mut responder = Responder::new(self.end, rings, self.ring_size, self.strategy, reference, own);
        if self.caller_arms {
            responder.wake_after_each();
        }
        responder.tap = self.tap;
        Ok(responder)
    }

    /// Refuses the link: the caller gets this text, at most 1,024 bytes of it, as
    /// [`ConnectError::Refused`](crate::ConnectError::Refused). Does not block.
    pub fn refuse(self, why: impl AsRef<str>) {
        self.refuse_with(Status::Refused, why.as_ref());
    }

    /// Refuses the link as one further on was refused, to which this client would have carried the calls on:
    /// the caller gets [`NotFound`](ConnectError::NotFound), [`NotServing`](ConnectError::NotServing),
    /// [`Busy`](ConnectError::Busy) and [`NotAllowed`](ConnectError::NotAllowed) as if its own server had
    /// said so, and any other error as [`Refused`](ConnectError::Refused) with its text. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::ConnectError;
    ///
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let mut listener = bob.listen()?;
    /// let refuses = std::thread::spawn(move || -> Result<(), ringpost::AcceptError> {
    ///     listener.accept()?.refuse_as(&ConnectError::NotServing);
    ///     Ok(())
    /// });
    /// assert!(matches!(alice.connect("bob"), Err(ConnectError::NotServing)));
    /// refuses.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn refuse_as(mut self, why: &ConnectError) {
        match why {
            ConnectError::NotFound => _ = self.say(Status::NotFound, &[]),
            ConnectError::NotServing => _ = self.say(Status::Gone, &[]),
            ConnectError::Busy(_) => _ = self.say(Status::Busy, &[]),
            ConnectError::NotAllowed(text) => self.refuse_with(Status::NotAllowed, text),
            ConnectError::Refused(text) => self.refuse_with(Status::Refused, text),
            other => self.refuse_with(Status::Refused, &other.to_string()),
        }
    }

    fn refuse_with(mut self, status: Status, text: &str) {
        let most = LONGEST_REFUSAL.min(self.responses.max_block() - BLOCK_HEADER);
        self.say(status, beginning(text, most).as_bytes());
    }

    /// Looks for the first block of the caller. Does not block.
    pub(in crate::client) fn hear(&mut self) -> Heard {
        let block = match self.requests.next_block() {
            Ok(Some(block)) => block,
            Ok(None) => return Heard::Nothing,
            Err(_) => return Heard::End,
        };
        let header = BlockHeader::of(&block).filter(|_| block.len() == BLOCK_HEADER);
        let flags = header.map_or(0, |header| header.flags.get());
        if header != Some(BlockHeader::new(Operation::Hello as u16, flags & MAY_ARM, 0)) {
            self.requests.reject();
            return Heard::End;
        }
        block.release();
        self.caller_arms = flags == MAY_ARM;
        Heard::Hello
    }

    /// Waits for the hello.
    #[cfg(fuzzing)]
    pub(in crate::client) fn await_hello(&mut self, until: std::time::Instant) -> bool {
        self.requests.find(&mut until.into()).is_ok() && self.hear() == Heard::Hello
    }

    /// Announces that the watcher waits for the caller's hello by the pipe. Returns false if there is
    /// something to [hear](Self::hear).
    pub(super) fn arm_for_hello(&mut self) -> bool {
        let Some(LinkPipe { own, .. }) = &mut self.pipe else { return true };
        self.requests.arm(own)
    }

    /// What the watcher waits by for the hello.
    pub(super) fn pipe(&self) -> Option<&Arc<PipeReader>> {
        self.pipe.as_ref().map(|pipe| pipe.own.reader())
    }
}

#[cfg(test)]
mod tests {
    use super::super::end::tests::{Alices, bob, link_with_rings, this_process};
    use super::*;
    use crate::ring::{self, RecvError};
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::time::Timespec;

    /// Bob's part of a link that alice has asked for, and hers.
    fn incoming() -> (Incoming, Alices) {
        let bob = bob();
        let (end, ends, pipe, alice) = link_with_rings(&bob, this_process());
        // A link ends with its client.
        std::mem::forget(bob);
        let rings = (ends.consumer, ends.producer);
        (Incoming::new(end, rings, Some(pipe), 4096, WaitStrategy::Park), alice)
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
        let (mut incoming, mut alice) = incoming();
        assert_eq!(incoming.hear(), Heard::Nothing);
        publish(&mut alice, HELLO, b"");
        assert_eq!((incoming.hear(), incoming.hear()), (Heard::Hello, Heard::Nothing));
        let responder = incoming.accept().unwrap();
        assert_eq!(heard(&mut alice), Ok((Some(Status::Ok), Vec::new())));
        assert_eq!(responder.peer().name, "alice");
        drop(responder);
        let ended = RecvError::Disconnected(ring::CloseReason::PEER);
        assert_eq!(heard(&mut alice), Err(ended));
    }

    /// Each side says so with its hello or its acceptance, and only then keeps what it needs for that.
    #[test]
    fn either_side_says_that_it_may_wait_in_an_event_loop() {
        for (callers, callees) in [(0, 0), (MAY_ARM, 0), (0, MAY_ARM), (MAY_ARM, MAY_ARM)] {
            let (mut incoming, mut alice) = incoming();
            publish(&mut alice, (Operation::Hello as u16, callers, 0), b"");
            assert_eq!(incoming.hear(), Heard::Hello);
            assert_eq!(incoming.caller_arms, callers == MAY_ARM);
            let incoming = if callees == MAY_ARM { incoming.arms() } else { incoming };
            let responder = incoming.accept().unwrap();
            let mut block = Vec::new();
            alice.ends.consumer.recv(&mut block).unwrap();
            assert_eq!(BlockHeader::from_array(*block.first_chunk().unwrap()).flags.get(), callees);
            assert_eq!(responder.pipe().is_ok(), callees == MAY_ARM);
        }
    }

    #[test]
    fn any_other_first_block_breaks_a_rule() {
        let (code, ..) = HELLO;
        type Case = ((u16, u16, u32), &'static [u8]);
        let cases: [Case; 6] = [
            ((code, 2, 0), b""),
            ((code, 3, 0), b""),
            ((code, 0, 1), b""),
            ((code, 0, 0), b"x"),
            ((Operation::Call as u16, 0, 0), b""),
            ((Status::Hello as u16, 0, 0), b""),
        ];
        for (header, body) in cases {
            let (mut incoming, mut alice) = incoming();
            publish(&mut alice, header, body);
            assert_eq!(incoming.hear(), Heard::End, "{header:?}");
            let ended = RecvError::Disconnected(ring::CloseReason::FAULT);
            assert_eq!(heard(&mut alice), Err(ended));
        }
        let (mut incoming, mut alice) = incoming();
        alice.ends.producer.try_publish(None, &[b"short"]).unwrap();
        assert_eq!(incoming.hear(), Heard::End);
    }

    /// What the watcher waits by for the hello is readable when it comes, and when the caller leaves.
    #[test]
    fn a_callers_hello_or_end_is_waited_for_by_the_pipe() {
        let act: [fn(&mut Alices); 2] = [
            |alice| {
                publish(alice, HELLO, b"");
                alice.ends.producer.notify();
            },
            |alice| alice.ends.closer.close(),
        ];
        for (act, expected) in act.into_iter().zip([Heard::Hello, Heard::End]) {
            let (mut incoming, mut alice) = incoming();
            alice.can_kick();
            assert!(incoming.arm_for_hello());
            let pipe = Arc::clone(incoming.pipe().unwrap());
            let is_readable = || {
                let mut fd = [PollFd::new(&*pipe, PollFlags::IN)];
                poll(&mut fd, Some(&Timespec::default())).unwrap() > 0
            };
            assert!(!is_readable());
            act(&mut alice);
            assert!(is_readable());
            assert_eq!(incoming.hear(), expected);
        }
    }

    #[test]
    fn a_caller_that_leaves_is_given_up() {
        let (mut incoming, alice) = incoming();
        alice.ends.closer.close();
        assert!(!incoming.is_there());
        assert_eq!(incoming.hear(), Heard::End);
        // She said hello, and left.
        let (mut incoming, mut alice) = self::incoming();
        publish(&mut alice, HELLO, b"");
        assert_eq!(incoming.hear(), Heard::Hello);
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
