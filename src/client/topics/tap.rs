//! `Client::tap`: copies of the calls and messages that a server serves and forwards.

#![forbid(unsafe_code)]

use super::error::SubscribeError;
use super::subscriber::Subscriber;
use crate::client::{Caller, Client};

impl Client {
    /// Copies of all calls and messages that go through the server; see [`Caller::tap`].
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn tap(&mut self, most: usize) -> Result<Subscriber, SubscribeError> {
        self.caller().tap(most)
    }
}

impl Caller {
    /// Copies of all calls and messages that go through the server, from now on: a subscriber whose samples
    /// are [`TapRecord`](crate::TapRecord)s. Each has the first `most` bytes of the payloads (65,535 at
    /// most), or more if another tap wants more. Only clients of the server's own user and of root may tap.
    /// It can wait in an event loop, too: see [`Ready`](crate::Ready).
    ///
    /// Links and topics go past the server. A topic is seen by subscribing to it. A client that serves lets
    /// its links be seen with [`listen_tappable`](Self::listen_tappable).
    ///
    /// A call is copied when it was served, a message when it was delivered or refused. The copies of one
    /// client come in the order of what it did. Nobody waits for a tap: what it did not take in time is
    /// [missed](crate::Sample::missed). While nobody taps, nothing is copied. Of a client that asks without
    /// a pause, up to 64 requests may pass before the copies begin.
    ///
    /// Blocks until the server has answered, at most for
    /// [`ClientBuilder::timeout`](crate::ClientBuilder::timeout). A client that registers again does so first
    /// if its registration has ended, and goes on to tap there.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`]; [`NotAllowed`](SubscribeError::NotAllowed) if the client's user may not tap. A
    /// client can have four taps at a time.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{TapKind, TapOutcome, TapRecord};
    ///
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let mut tap = bob.tap(16)?;
    /// alice.send(bob.key(), b"hello")?;
    /// alice.call(b"a request of more than 16 bytes")?;
    /// let sample = tap.recv()?;
    /// let record: TapRecord = sample.read()?;
    /// assert_eq!((record.kind, record.outcome), (TapKind::Message, TapOutcome::Ok));
    /// assert_eq!((record.from.name, record.to_name), ("alice".parse()?, Some("bob".parse()?)));
    /// assert_eq!(record.payload, b"hello");
    /// assert_eq!(sample.missed(), 0);
    /// let record: TapRecord = tap.recv()?.read()?;
    /// assert_eq!((record.kind, record.to), (TapKind::Call, None));
    /// assert_eq!((&record.payload[..], record.payload_len), (&b"a request of mor"[..], 31));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tap(&mut self, most: usize) -> Result<Subscriber, SubscribeError> {
        Subscriber::options().arms().tap(self, most)
    }
}
