//! Messages to other clients.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::caller::Caller;
use super::error::{CallError, SendError, printable, refused};
use super::relay::too_large;
use crate::codec::Payload;
use crate::ring::Deadline;
use crate::wire::{Address, ENDS, KEY, Key, Name, NameError, Operation, Status, WAITS};

/// How long the answer to a message is awaited at least.
const LEAST_PATIENCE: Duration = Duration::from_millis(5);

impl Caller {
    /// Sends a message if there is room in the receiver's inbox now. Otherwise as [`send`](Self::send).
    ///
    /// Blocks only until the server answers, which it does at once: after the requests that were submitted
    /// before. For a receiver on another computer it answers when it is known what became of the message, at
    /// most after 5 s.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; [`InboxFull`](SendError::InboxFull) if there is no room.
    pub fn try_send(
        &mut self,
        to: impl TryInto<Address, Error: Into<NameError>>,
        message: impl Payload,
    ) -> Result<(), SendError> {
        let to = address(to)?;
        message.encode(self.calls.limits.max_message, |bytes| {
            let to = self.receiver(to, bytes, Deadline::NEVER)?;
            self.try_send_bytes(to, bytes)
        })?
    }

    /// Sends a message to another client, by its key or its name, and waits for room in its inbox. `Ok` means
    /// that the message is in that inbox, after all that this client sent there before. It does not mean that
    /// it was read: it is lost with a receiver that dies, leaves or drops its inbox. Where that matters, let
    /// the receiver answer.
    ///
    /// The same holds for a receiver on another computer, for which a [relay](crate::ClientBuilder::relay)
    /// stands here: `Ok` means that the message is in the inbox of that client itself. It waits for room for
    /// at most 5 s, and the next requests of this client wait until it is known what became of the
    /// message.
    ///
    /// A name is looked up first, which is another request: whoever sends often keeps the key. It is refused
    /// as [`NotFound`](SendError::NotFound) when it has left; see [`wait_for`](Self::wait_for).
    ///
    /// Blocks until the message is delivered or cannot be. Senders that wait are served in order, except that
    /// a message may overtake a larger one that does not fit. A client that sends to itself without
    /// receiving waits for ever once its inbox is full.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; never [`InboxFull`](SendError::InboxFull).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::SendError;
    ///
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// alice.send("bob", b"hello")?;
    /// alice.send(bob.key(), "hello again")?;
    /// assert_eq!(bob.recv()?.payload(), b"hello");
    /// assert_eq!(bob.recv()?.payload(), b"hello again");
    /// let key = bob.key();
    /// bob.unregister()?;
    /// assert_eq!(alice.send(key, b"hello?"), Err(SendError::NotFound)); // a key is never given twice
    /// assert_eq!(alice.send("bob", b"hello?"), Err(SendError::NotFound));
    /// assert!(matches!(alice.send(" bob", b"hello?"), Err(SendError::InvalidName(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send(
        &mut self,
        to: impl TryInto<Address, Error: Into<NameError>>,
        message: impl Payload,
    ) -> Result<(), SendError> {
        let to = address(to)?;
        message.encode(self.calls.limits.max_message, |bytes| {
            let to = self.receiver(to, bytes, Deadline::NEVER)?;
            self.send_unlimited(to, bytes)
        })?
    }

    /// As [`send`](Self::send), but blocks until the [deadline](Deadline) at most.
    ///
    /// The server stops waiting a little before the deadline, by an eighth of the time but at most 10 ms, so
    /// that its answer still arrives. The answer is awaited for 5 ms in any case, even if the deadline is
    /// nearer or has passed.
    ///
    /// # Errors
    ///
    /// See [`SendError`]. After [`TimedOut`](SendError::TimedOut) the message was not delivered; after
    /// [`NoAnswer`](SendError::NoAnswer) it may have been.
    pub fn send_timeout(
        &mut self,
        to: impl TryInto<Address, Error: Into<NameError>>,
        message: impl Payload,
        deadline: impl Into<Deadline>,
    ) -> Result<(), SendError> {
        let (to, deadline) = (address(to)?, deadline.into());
        message.encode(self.calls.limits.max_message, |bytes| {
            let to = self.receiver(to, bytes, deadline)?;
            self.send_bytes(to, bytes, deadline)
        })?
    }

    /// Sends a message as [`try_send`](Self::try_send) does, but never blocks: it does not wait for the
    /// server's answer. [`try_sent`](Self::try_sent) takes that. The answers come in order with the responses
    /// to submitted calls: keep in mind which is next. It is for event loops.
    ///
    /// While the receiver's inbox is full, the server waits for room, at most for `patience`, and answers no
    /// later request of this client meanwhile; with none it answers at once.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`Full`](CallError::Full) if there is no room in the request ring now. The message
    /// was not sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::SendError;
    /// use std::time::Duration;
    ///
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let (to, patience) = (bob.key(), Duration::from_millis(50));
    /// let caller = alice.caller();
    /// caller.try_submit_send(to, b"hello", patience)?;
    /// caller.try_submit(b"a call")?;
    /// while caller.try_sent()?.is_none() {} // usually: arm, and wait for the descriptor
    /// assert_eq!(bob.recv()?.payload(), b"hello");
    /// assert_eq!(caller.response()?, b"a call");
    /// bob.unregister()?;
    /// caller.try_submit_send(to, b"hello?", patience)?;
    /// let answer = loop {
    ///     if let Some(answer) = caller.try_sent().transpose() {
    ///         break answer;
    ///     }
    /// };
    /// assert_eq!(answer, Err(SendError::NotFound));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_submit_send(
        &mut self,
        to: Key,
        message: impl Payload,
        patience: Duration,
    ) -> Result<(), CallError> {
        let max = self.calls.limits.max_message;
        message.encode(max, |bytes| {
            if bytes.len() > max {
                return Err(CallError::TooLarge { len: bytes.len(), max });
            }
            let to = to.to_bytes();
            if patience.is_zero() {
                return self.calls.try_submit_request(Operation::Send, 0, [&to, bytes]);
            }
            let patience = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX).to_le_bytes();
            self.calls.try_submit_request(Operation::Send, WAITS, [&to, &patience, bytes])
        })?
    }

    /// The server's answer to the message that was [submitted](Self::try_submit_send), if that is what was
    /// submitted first of all that has no answer yet: `Some` if it is in the receiver's inbox, `None` if
    /// there is no answer yet. Never blocks.
    ///
    /// If what was submitted first is a call, this takes its response and drops it.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; [`TimedOut`](SendError::TimedOut) if the patience was over, and
    /// [`InboxFull`](SendError::InboxFull) if there was none: then nothing was delivered.
    pub fn try_sent(&mut self) -> Result<Option<()>, SendError> {
        match self.calls.try_status()? {
            None => Ok(None),
            Some(status) => self.sent(status).map(Some),
        }
    }

    /// The request has no time limit while there is room, which is the rule: that takes less.
    #[inline(never)]
    fn send_unlimited(&mut self, to: Key, message: &[u8]) -> Result<(), SendError> {
        self.check_message(message)?;
        match self.calls.ask(Operation::Send, 0, [&to.to_bytes(), message], &mut Deadline::never()) {
            Ok(Status::Ok) => Ok(()),
            Ok(Status::InboxFull) => self.send_bytes(to, message, Deadline::NEVER),
            Ok(status) => Err(self.unsent(status)),
            Err(error) => Err(error.into()),
        }
    }

    fn try_send_bytes(&mut self, to: Key, message: &[u8]) -> Result<(), SendError> {
        self.check_message(message)?;
        let status = self.calls.ask(Operation::Send, 0, [&to.to_bytes(), message], &mut Deadline::never())?;
        self.sent(status)
    }

    fn send_bytes(&mut self, to: Key, message: &[u8], mut deadline: Deadline) -> Result<(), SendError> {
        self.check_message(message)?;
        loop {
            let left = deadline.left();
            // The server is to give up a little before us, so that we hear whether the message was delivered.
            let patience = left.map(|left| left - (left / 8).min(Duration::from_millis(10)));
            let nanoseconds =
                patience.map_or(u64::MAX, |patience| u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX));
            let flags = if left.is_some() { WAITS | ENDS } else { WAITS };
            let mut start = [0; KEY + 8];
            start[..KEY].copy_from_slice(&to.to_bytes());
            start[KEY..].copy_from_slice(&nanoseconds.to_le_bytes());
            match self.calls.requester.try_publish(Operation::Send, flags, [&start, message]) {
                Ok(sequence) => {
                    // However short the time is, the answer itself needs some.
                    let mut until = Deadline::from(left.map(|left| left.max(LEAST_PATIENCE)));
                    let status = self.calls.await_response(sequence, &mut until)?;
                    return self.sent(status);
                }
                // That may take some time, and leave the server less.
                Err(error) => self
                    .calls
                    .clear_the_way(error, KEY + 8 + message.len(), &mut deadline)
                    .map_err(|error| match error {
                        CallError::TimedOut => SendError::TimedOut,
                        error => error.into(),
                    })?,
            }
        }
    }

    /// The key of a message's receiver.
    #[inline]
    fn receiver(&mut self, to: Address, message: &[u8], deadline: Deadline) -> Result<Key, SendError> {
        match to {
            Address::Key(key) => Ok(key),
            Address::Name(name) => self.find_receiver(&name, message, deadline),
        }
    }

    #[cold]
    fn find_receiver(&mut self, name: &Name, message: &[u8], deadline: Deadline) -> Result<Key, SendError> {
        self.check_message(message)?;
        // However short the time is, the answer itself needs some.
        let most = deadline.left().map_or(self.timeout, |left| left.max(LEAST_PATIENCE).min(self.timeout));
        match self.look_up_until(name, most.into()) {
            Ok(Some(key)) => Ok(key),
            Ok(None) => Err(SendError::NotFound),
            Err(error) => Err(SendError::of_look_up(error)),
        }
    }

    #[inline]
    fn check_message(&self, message: &[u8]) -> Result<(), SendError> {
        let max = self.calls.limits.max_message;
        if message.len() > max {
            return Err(SendError::TooLarge { len: message.len(), max });
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn sent(&self, status: Status) -> Result<(), SendError> {
        if status == Status::Ok { Ok(()) } else { Err(self.unsent(status)) }
    }

    #[cold]
    fn unsent(&self, status: Status) -> SendError {
        match status {
            Status::NotFound => SendError::NotFound,
            Status::InboxFull => SendError::InboxFull,
            Status::Gone => SendError::Gone,
            Status::TimedOut => SendError::TimedOut,
            Status::NotAllowed => SendError::NotAllowed(printable(self.calls.requester.body())),
            Status::Unconfirmed => SendError::Unconfirmed,
            status => {
                let body = self.calls.requester.body();
                let too_large = if status == Status::TooLarge { too_large(body) } else { None };
                too_large.unwrap_or_else(|| refused(status, body).into())
            }
        }
    }
}

#[inline]
fn address(to: impl TryInto<Address, Error: Into<NameError>>) -> Result<Address, SendError> {
    to.try_into().map_err(|error| SendError::InvalidName(error.into()))
}
