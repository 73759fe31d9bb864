//! `Presence`: tells who is registered, and each change of it.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::change::Change;
use super::lists::{Listed, Lists};
use super::roll_call::RollCall;
use crate::client::topics::error::{SampleError, SubscribeError};
use crate::client::topics::subscribe_options::SubscribeOptions;
use crate::client::topics::subscriber::Subscriber;
use crate::client::{Caller, Client, ReadinessError};
use crate::connect::topics::PresenceSample;
use crate::os::nest::Nest;
use crate::ring::Deadline;
use crate::topic::{Reader, Taken};
use crate::wire::Violation;

/// Tells who is registered with the server, and then each client that appears or vanishes:
/// [`Client::presence`].
///
/// First come all who are there, each as [`Present`](Change::Present), this client too. Then the changes
/// follow, in the order of the registry: nobody is told twice or left out. Each registration has a key of its
/// own, so a client that registers again vanishes under one key and appears under another.
///
/// It belongs to its client. If that [registers again](crate::Reconnect) with another server, all who were
/// there vanish, with the reason [`ServerEnded`](crate::VanishReason::ServerEnded), and those who are there
/// now appear. A presence that is not looked at for so long that thousands of changes are lost asks for the
/// list again and tells the difference; whoever vanished meanwhile did so
/// [`Unseen`](crate::VanishReason::Unseen).
///
/// | operation | waits for | at most |
/// | --- | --- | --- |
/// | [`recv`](Self::recv) | a change | |
/// | [`recv_timeout`](Self::recv_timeout) | a change | the deadline, if any |
/// | [`try_recv`](Self::try_recv) | nothing | |
///
/// Dropping it tells the server, waiting for its confirmation for at most a second.
///
/// # Examples
///
/// ```
/// use ringpost::{Change, Client, VanishReason};
///
/// # let ((_server, path), mut alice) =
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
/// let mut who = alice.presence()?;
/// assert!(matches!(who.recv()?, Change::Present(peer) if peer.name == "alice"));
/// let bob = Client::register(&path, "bob")?;
/// assert!(matches!(who.recv()?, Change::Appeared(peer) if peer.key == bob.key()));
/// bob.unregister()?;
/// match who.recv()? {
///     Change::Vanished { peer, reason } => println!("{} left: {reason}", peer.name),
///     other => panic!("{other:?}"),
/// }
/// assert!(who.try_recv()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Presence {
    subscriber: Subscriber,
    lists: Arc<Lists>,
    /// The number of the list that was told last.
    listed: u64,
    /// Of which server the changes are that are heard.
    epoch: Option<u64>,
    roll: RollCall,
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence")
            .field("closed", &self.subscriber.feed.shared.reason())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Who is registered, and each change of it; see [`Caller::presence`].
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn presence(&mut self) -> Result<Presence, SubscribeError> {
        self.caller().presence()
    }
}

impl Caller {
    /// Who is registered, and from now on each client that appears or vanishes. It can wait in an event loop,
    /// too: see [`Ready`](crate::Ready).
    ///
    /// Blocks until the server has answered, at most for
    /// [`ClientBuilder::timeout`](crate::ClientBuilder::timeout). A client that registers again does so first
    /// if its registration has ended.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`]. A client can have four at a time.
    ///
    /// # Examples
    ///
    /// See [`Presence`].
    pub fn presence(&mut self) -> Result<Presence, SubscribeError> {
        Presence::begin(self, &Subscriber::options().arms())
    }
}

impl Presence {
    pub(in crate::client) fn begin(
        caller: &mut Caller,
        options: &SubscribeOptions,
    ) -> Result<Presence, SubscribeError> {
        let lists = Arc::new(Lists::default());
        let subscriber = options.attend_presence(caller, &lists)?;
        Ok(Presence { subscriber, lists, listed: 0, epoch: None, roll: RollCall::default() })
    }

    /// The next change, or `None` if there is none now. Never blocks.
    ///
    /// # Errors
    ///
    /// See [`SampleError`]; never [`TimedOut`](SampleError::TimedOut).
    pub fn try_recv(&mut self) -> Result<Option<Change>, SampleError> {
        loop {
            if let Some(change) = self.roll.next() {
                return Ok(Some(change));
            }
            if !self.look()? {
                return Ok(None);
            }
        }
    }

    /// Waits for the next change.
    ///
    /// # Errors
    ///
    /// See [`SampleError`]; never [`TimedOut`](SampleError::TimedOut).
    pub fn recv(&mut self) -> Result<Change, SampleError> {
        self.recv_timeout(None)
    }

    /// As [`recv`](Self::recv), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// See [`SampleError`].
    pub fn recv_timeout(&mut self, deadline: impl Into<Deadline>) -> Result<Change, SampleError> {
        let mut deadline = deadline.into();
        loop {
            if let Some(change) = self.try_recv()? {
                return Ok(change);
            }
            self.subscriber.feed.wait(&mut deadline)?;
        }
    }

    /// Looks for a list or a change. Whether something came, which may be no news. Does not block.
    fn look(&mut self) -> Result<bool, SampleError> {
        let taken = self.subscriber.feed.look(Reader::try_take)?;
        self.look_for_another_server();
        if let Some((at, taken)) = taken {
            self.take(at, taken)?;
            return Ok(true);
        }
        // Behind the look, which has seen the notice: whatever comes from here on changes that.
        if let Some(Listed { number, epoch, peers }) = self.lists.take() {
            if Some(epoch) != self.epoch {
                // The part of that server may have come behind the look.
                self.subscriber.feed.fetch();
                self.look_for_another_server();
            }
            if Some(epoch) == self.epoch {
                self.roll.listed(peers, number);
            }
            self.listed = self.listed.max(number);
            return Ok(true);
        }
        let is_behind = self.listed != self.lists.asked() && !self.lists.is_coming();
        // Another registration brings another list.
        if is_behind && !self.subscriber.feed.shared.is_unregistered() {
            self.ask_for_a_list();
        }
        Ok(false)
    }

    /// The newest part is that of the server with which the client is registered now.
    fn look_for_another_server(&mut self) {
        let newest = self.subscriber.feed.parts.last().map(|part| part.identity.epoch());
        if newest.is_some() && newest != self.epoch {
            if self.epoch.is_some() {
                self.roll.server_ended();
            }
            self.epoch = newest;
        }
    }

    /// A sample was taken into the buffer.
    fn take(&mut self, at: usize, taken: Taken) -> Result<(), SampleError> {
        // Behind the sample: a list that is asked for later is newer than it.
        let asked = self.lists.asked();
        let feed = &self.subscriber.feed;
        let Some(part) = feed.parts.get(at) else { return Ok(()) };
        if Some(part.identity.epoch()) != self.epoch {
            return Ok(());
        }
        let Some(sample) = PresenceSample::decode(&feed.buffer) else {
            return Err(SampleError::Violation {
                publisher: part.publisher,
                violation: Violation::MalformedBlock,
            });
        };
        self.roll.heard(sample, asked);
        if taken.missed > 0 {
            self.ask_for_a_list();
        }
        Ok(())
    }

    fn ask_for_a_list(&mut self) {
        if let Some(epoch) = self.epoch {
            let Subscriber { feed, topics, .. } = &self.subscriber;
            self.lists.fetch_later(topics, &feed.shared, epoch);
        }
    }

    // ---- for waiting in an event loop

    /// What to wait by in an event loop. Does not block.
    pub(crate) fn nest(&mut self) -> Result<Arc<Nest>, ReadinessError> {
        self.subscriber.nest()
    }

    /// Announces a wait by the nest. Returns false if there is something to look at.
    pub(crate) fn arm_end(&mut self) -> Result<bool, ReadinessError> {
        Ok(!self.roll.has_news() && self.subscriber.arm_end()?)
    }
}
