//! Closing: a reason that every end of a channel sees, and that ends every wait.
//!
//! There are two closed words. The *private* one lies in memory of this process alone; the peer can neither
//! set, clear nor hide it. The *shared* one lies in the segment and tells the other process; an end that does
//! not trust its peer to keep it never looks at it.
//!
//! **Fork.** A client's private word is one that a forked child does not inherit (`shm/own.rs`): there it
//! reads neither open nor any reason, and that is the reason [`Forked`](CloseReason::Forked). So whoever
//! looks whether the channel is closed learns of a fork by the same load. In a child closing does nothing:
//! the channel is its parent's.
//!
//! **Closed against a waiter.** The waiter: `parked = 1; fence; look (closed, then header); sleep`. The
//! closer: `closed = reason; fence; swap parked; wake`. One of the two fences comes first in their single
//! order: either the waiter's look sees the reason, or the closer's swap sees the 1 and wakes.
//!
//! **A parked word that the peer writes** may be 0 while its sleeper sleeps: a peer that dies between its
//! swap and its wake leaves it so. A side that relies on another process ([`Peer::Relied`]) therefore wakes
//! whatever the swap says: who lay down before is woken, and who comes later finds the word changed. A peer
//! that *wants* to keep a sleeper can do so for all that, by setting the word again or by moving its sleepers
//! elsewhere. So where that must not be, the waiter sleeps on the private word too, and closing wakes that
//! one.

use std::fmt;

use crate::shm::backend::{Arc, Ordering, fence};
use crate::shm::futex::{self, Scope, Wait};
use crate::shm::{FOREIGN, ForkSafeWord, View, Word32};
use crate::testing::failpoints::failpoint;

/// Why a channel is closed. It comes with every `Disconnected`.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, CloseReason, RecvError, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// let mut client = Client::register(&path, "alice")?;
/// server.join_after_shutdown();
/// match client.recv() {
///     Err(RecvError::Disconnected(CloseReason::Shutdown)) => println!("the server left in good order"),
///     Err(RecvError::Disconnected(reason)) => println!("connect again: {reason}"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
#[repr(u32)]
pub enum CloseReason {
    /// This side closed it: the handle was dropped or its close handle was used.
    #[error("closed on this side")]
    Local = 1,
    /// The other side closed it, or dropped its end.
    #[error("closed by the other side")]
    Peer = 2,
    /// The client unregistered.
    #[error("the client unregistered")]
    Unregistered = 3,
    /// The server shut down in good order.
    #[error("the server shut down")]
    Shutdown = 4,
    /// The other process died, or its connection broke.
    #[error("the other process is gone")]
    Died = 5,
    /// The other side broke a rule of the protocol.
    #[error("the other side broke the protocol")]
    ProtocolViolation = 6,
    /// This process is a child that was forked after the client was registered. The client is its parent's,
    /// and was not touched: register another one here, under another name.
    #[error("this process was forked after the client was registered: register one of its own")]
    Forked = 7,
    /// The client was to [register again](crate::Reconnect), and has given up: the server did not come back
    /// in time, or refused.
    #[error("the server did not come back in time, or refused to register the client again: register anew")]
    GaveUp = 8,
    /// This process has closed the descriptors of the connection, as a program does that becomes a daemon and
    /// closes all that it has. The client is gone: register after that, or use
    /// [`Reconnect`](crate::Reconnect).
    #[error("this process has closed the descriptors of its own connection: register again after that")]
    CutOff = 9,
}

/// The private word of what is not closed. No reason has it, and neither has a word that was not inherited.
const OPEN: u32 = u32::MAX;

impl CloseReason {
    /// From this side's word, which is not open.
    #[cold]
    fn from_own(word: u32) -> CloseReason {
        const CUT_OFF: u32 = CloseReason::CutOff as u32;
        match word {
            FOREIGN => CloseReason::Forked,
            // Nobody else can know.
            CUT_OFF => CloseReason::CutOff,
            word => CloseReason::from_known(word),
        }
    }

    /// From a word that may have been written by the peer: 0 is open, anything unknown is the peer's doing.
    #[cold]
    fn from_shared(word: u32) -> Option<CloseReason> {
        if word == 0 { None } else { Some(CloseReason::from_known(word)) }
    }

    pub(crate) fn from_known(word: u32) -> CloseReason {
        match word {
            1 => CloseReason::Local,
            3 => CloseReason::Unregistered,
            4 => CloseReason::Shutdown,
            5 => CloseReason::Died,
            6 => CloseReason::ProtocolViolation,
            _ => CloseReason::Peer,
        }
    }
}

/// What a side makes of the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Another thread, or the process whose answers this one waits for: it is heard when it closes, and may
    /// keep this side asleep.
    Relied,
    /// Heard when it closes, but it cannot keep this side asleep.
    Heard,
    /// Neither.
    Unheard,
}

/// What closing has to reach.
struct Closing {
    /// Whether waits sleep on the private word as well.
    sleep_on_private: bool,
    view: View,
    /// The shared closed word, if there is one.
    shared: Option<Word32>,
    /// Offsets of all parked words of the channel.
    parked: Vec<usize>,
    scope: Scope,
}

/// The close handle of a channel's side: closes it from any thread, and ends every wait on it.
///
/// # Examples
///
/// ```
/// use ringpost::CloseReason;
///
/// let (producer, consumer) = ringpost::ring::local(4096)?;
/// let closer = producer.closer();
/// assert_eq!(closer.reason(), None);
/// drop(consumer);
/// assert_eq!(closer.reason(), Some(CloseReason::Peer));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Closer {
    /// [`OPEN`], or why it is closed.
    private: ForkSafeWord,
    /// The shared word if this end looks at it, and does not only inform the peer by it.
    heeded: Option<Word32>,
    rest: Arc<Closing>,
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closer").field("closed", &self.reason()).finish_non_exhaustive()
    }
}

impl Closer {
    pub(crate) fn new(
        view: View,
        scope: Scope,
        parked: Vec<usize>,
        shared: Option<usize>,
        peer: Peer,
    ) -> Closer {
        let shared = shared.map(|offset| view.pin32(offset));
        let heeded = shared.clone().filter(|_| peer != Peer::Unheard);
        let sleep_on_private = peer != Peer::Relied;
        let rest = Arc::new(Closing { sleep_on_private, view, shared, parked, scope });
        Closer { private: ForkSafeWord::inherited(OPEN), heeded, rest }
    }

    /// One that a forked child finds closed, and cannot close for its parent. Of a close handle that nobody
    /// uses yet.
    pub(crate) fn of_this_process(self) -> std::io::Result<Closer> {
        Ok(Closer { private: ForkSafeWord::not_inherited(OPEN)?, ..self })
    }

    /// Closes this side with [`CloseReason::Local`]; the other side sees [`CloseReason::Peer`], except on a
    /// ring between threads, whose two ends have one close handle and both see `Local`. Idempotent: the
    /// first reason stays. What was committed before can still be received by the other side. Does not
    /// block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::channel;
    /// use ringpost::ring::RecvError;
    /// use ringpost::CloseReason;
    ///
    /// let (host, descriptor) = channel::create(4096, Default::default())?;
    /// let mut guest = channel::open(&descriptor, Default::default())?; // usually in another process
    /// host.closer.close();
    /// let end = guest.responses.recv(&mut Vec::new());
    /// assert_eq!(end, Err(RecvError::Disconnected(CloseReason::Peer)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        self.close_as(CloseReason::Local);
    }

    /// Why it is closed, if it is. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::CloseReason;
    ///
    /// let (producer, _consumer) = ringpost::ring::local(4096)?;
    /// let closer = producer.closer();
    /// closer.close();
    /// assert_eq!(closer.reason(), Some(CloseReason::Local));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn reason(&self) -> Option<CloseReason> {
        if self.is_closed() { self.closed_as() } else { None }
    }

    /// Whether it is closed, and nothing more.
    #[inline(always)]
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed_here()
            || self.heeded.as_ref().is_some_and(|shared| shared.load(Ordering::Acquire) != 0)
    }

    /// Whether this side has closed it, or is not the one that may use it.
    #[inline(always)]
    pub(crate) fn is_closed_here(&self) -> bool {
        self.private.load(Ordering::Acquire) != OPEN
    }

    /// Whether this process is a forked child of the one whose channel this is.
    #[cold]
    pub(crate) fn is_forked(&self) -> bool {
        self.private.load(Ordering::Relaxed) == FOREIGN
    }

    /// Why, once closed was seen.
    #[cold]
    fn closed_as(&self) -> Option<CloseReason> {
        // A close by this side sets the private word and then tells the peer by the shared one. Whoever came
        // in between has seen the shared word, and so sees the private one now: our own reason, not
        // what the peer is told. Relaxed: the look that saw it closed has made the order.
        match self.private.load(Ordering::Relaxed) {
            OPEN => CloseReason::from_shared(self.heeded.as_ref()?.load(Ordering::Relaxed)),
            own => Some(CloseReason::from_own(own)),
        }
    }

    pub(crate) fn close_as(&self, reason: CloseReason) {
        let Closing { view, shared, parked, scope, sleep_on_private } = &*self.rest;
        // Release: what was committed before is seen by whoever sees the reason. Only the first reason
        // counts, but a repeated close wakes again: it costs nothing and hides no fault.
        let before = self.private.compare_exchange(OPEN, reason as u32, Ordering::Release, Ordering::Relaxed);
        if before == Err(FOREIGN) {
            return;
        }
        failpoint!("close.private");
        if let Some(word) = shared {
            let told = match reason {
                CloseReason::Local | CloseReason::CutOff => CloseReason::Peer,
                reason => reason,
            };
            let _ = word.compare_exchange(0, told as u32, Ordering::Release, Ordering::Relaxed);
            failpoint!("close.shared");
        }
        fence(Ordering::SeqCst);
        failpoint!("close.fence");
        if *sleep_on_private {
            futex::wake(&self.private, Scope::Private, u32::MAX >> 1);
            failpoint!("close.woken");
        }
        let unsure = !sleep_on_private && *scope == Scope::Shared;
        for offset in parked {
            let word = view.word32(*offset);
            if word.swap(0, Ordering::Relaxed) == 1 || unsure {
                failpoint!("close.swapped");
                futex::wake(word, *scope, u32::MAX >> 1);
            }
        }
    }

    /// The private word as something to sleep on until it is set.
    pub(crate) fn as_wait(&self) -> Wait<'_> {
        Wait { word: &self.private, expected: OPEN, scope: Scope::Private }
    }

    pub(crate) fn sleeps_on_private(&self) -> bool {
        self.rest.sleep_on_private
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::layout::{CONSUMER_PARKED, PRODUCER_PARKED};
    use crate::ring::local::local_setup;
    use crate::ring::tests::{tell, until_all_sleep};
    use crate::ring::{Consumer, Producer, RecvError, Setup, TryRecvError, TrySendError, WaitStrategy};

    /// By a handler of the signal that ended the sleep.
    #[test]
    fn a_child_forked_within_a_sleep_leaves_its_parents_word_alone() {
        let setup = local_setup(1024, WaitStrategy::Park, 0).unwrap();
        let closer = Closer::new(setup.view.clone(), setup.scope, vec![], None, Peer::Relied);
        let mut consumer = Consumer::new(&Setup { closer: closer.clone(), ..setup.clone() });
        let (to, threads) = std::sync::mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            tell(&to);
            consumer.recv(&mut Vec::new())
        });
        until_all_sleep(&threads, 1);
        closer.private.store(FOREIGN, Ordering::Relaxed);
        let word = setup.view.word32(CONSUMER_PARKED);
        futex::wake(word, setup.scope, 1);
        assert_eq!(sleeper.join().unwrap(), Err(RecvError::Disconnected(CloseReason::Forked)));
        assert_eq!(word.load(Ordering::Relaxed), 1);
    }

    /// In a forked child the private word reads as one that was not inherited; the ring, and what is told,
    /// are its parent's.
    #[test]
    fn a_forked_child_finds_it_closed_and_closes_nothing() {
        let setup = local_setup(1024, WaitStrategy::Park, 0).unwrap();
        let mut parents = Producer::new(&setup);
        parents.try_send(b"for the parent").unwrap();
        let words = [CONSUMER_PARKED, PRODUCER_PARKED].map(|offset| setup.view.word32(offset));
        for word in words {
            word.store(1, Ordering::Relaxed);
        }
        let (view, shared) = (setup.view.clone(), 512);
        let parked = vec![CONSUMER_PARKED, PRODUCER_PARKED];
        let private = ForkSafeWord::inherited(FOREIGN);
        let closer = Closer { private, ..Closer::new(view, setup.scope, parked, Some(shared), Peer::Relied) };
        assert!(closer.is_forked() && closer.is_closed() && !setup.closer.is_forked());
        assert_eq!(closer.reason(), Some(CloseReason::Forked));

        let childs = Setup { closer, ..setup.clone() };
        let (mut producer, mut consumer) = (Producer::new(&childs), Consumer::new(&childs));
        let forked = CloseReason::Forked;
        assert_eq!(consumer.try_recv(&mut Vec::new()), Err(TryRecvError::Disconnected(forked)));
        assert_eq!(producer.try_send(b"x"), Err(TrySendError::Disconnected(forked)));
        drop((producer, consumer));
        assert_eq!(setup.view.word32(shared).load(Ordering::Relaxed), 0);
        assert_eq!(words.map(|word| word.load(Ordering::Relaxed)), [1, 1]);
        assert_eq!(childs.closer.reason(), Some(forked));
    }
}
