//! Closing: a reason that every end of a channel sees, and that ends every wait.
//!
//! There are two closed words. The *private* one lies in memory of this process alone; the peer can neither
//! set, clear nor hide it. The *shared* one lies in the segment and tells the other process; an end that does
//! not trust its peer to keep it never looks at it.
//!
//! **Fork.** A forked child does not inherit a client's private word (`ForkSafeWord`). In the child the word
//! is neither open nor a reason that anyone stored; it reads as `FORKED`. So the load that checks for a close
//! also detects a fork. Closing does nothing in a child, because the channel belongs to its parent.
//!
//! **Closed against a waiter.** The waiter: `parked = 1; fence; look (closed, then header); sleep`. The
//! closer: `closed = reason; fence; swap parked; wake`. One of the two fences comes first in their single
//! order: either the waiter's look sees the reason, or the closer's swap sees the 1 and wakes.
//!
//! **A parked word that the peer writes** may be 0 while its owner sleeps, if the peer died between its swap
//! and its wake. A side that relies on another process ([`Peer::Relied`]) therefore wakes whatever the swap
//! returned: a thread that already sleeps is woken, and a thread that is about to sleep finds the word
//! changed. A malicious peer can still keep a thread asleep, by setting the word again or by requeueing its
//! waiters. Where that must be impossible, the waiter also sleeps on the private word, and closing wakes it
//! there. An end that waits in an event loop hears of a close on its own side by its pipe, whatever its word
//! says.

use std::fmt;

use super::kick::Kick;
use super::park::{ARMED, AWAKE, PARKED};
use crate::shm::backend::{Arc, Ordering, fence};
use crate::shm::futex::{self, Scope, Wait};
use crate::shm::{FOREIGN, ForkSafeWord, View, Word32};
use crate::testing::failpoints::failpoint;

/// Why a ring or a channel is closed.
///
/// Rings know of three reasons. Layers above give reasons of their own, which a ring passes on; for clients
/// and servers that is [`ringpost::CloseReason`](crate::CloseReason).
///
/// # Examples
///
/// ```
/// use ringpost::ring::{self, CloseReason};
///
/// let (producer, consumer) = ring::local(4096)?;
/// drop(consumer);
/// assert_eq!(producer.closer().reason(), Some(CloseReason::PEER));
/// assert_eq!(CloseReason::PEER.to_string(), "closed by the other side");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseReason(u32);

/// The value of the private word while the channel is open. It differs from every reason and from `FOREIGN`.
const OPEN: u32 = u32::MAX;

/// Marks a reason that only this process can know. It is never stored in the shared word.
const PRIVATE: u32 = 1 << 31;

impl CloseReason {
    /// This side closed it.
    pub const LOCAL: CloseReason = CloseReason(1);
    /// The other side closed it, or dropped its end.
    pub const PEER: CloseReason = CloseReason(2);
    /// One side broke a rule, and the other found it.
    pub const FAULT: CloseReason = CloseReason(6);
    /// This process is a forked child of the one whose channel this is.
    pub(crate) const FORKED: CloseReason = CloseReason::private(7);

    /// Two reasons of a layer above.
    #[cfg(test)]
    pub(crate) const ABOVE: CloseReason = CloseReason::told(4);
    #[cfg(test)]
    pub(crate) const ANOTHER: CloseReason = CloseReason::told(5);

    /// A reason of a layer above that the other side is told.
    pub(crate) const fn told(word: u32) -> CloseReason {
        assert!(word != 0 && word & PRIVATE == 0);
        CloseReason(word)
    }

    /// A reason of a layer above that only this process can know; the other side is told
    /// [`PEER`](Self::PEER).
    pub(crate) const fn private(number: u32) -> CloseReason {
        assert!(number != 0 && number & PRIVATE == 0);
        CloseReason(number | PRIVATE)
    }

    /// A word from which [`from_word`](Self::from_word) makes the same reason. It is not 0.
    pub(crate) fn as_word(self) -> u32 {
        self.0
    }

    pub(crate) fn from_word(word: u32) -> Option<CloseReason> {
        (word != 0).then_some(CloseReason(word))
    }

    /// The word that tells the other side, if it can be told.
    pub(crate) fn as_told(self) -> Option<u32> {
        (self.0 & PRIVATE == 0).then_some(self.0)
    }

    /// The reason in the private word, which is not [`OPEN`].
    #[cold]
    fn from_own(word: u32) -> CloseReason {
        if word == FOREIGN { CloseReason::FORKED } else { CloseReason(word) }
    }

    /// The reason in the shared word, which the peer may have written: 0 is open. A reason that no side
    /// stores there, a private one or [`LOCAL`](Self::LOCAL), means no more than that the peer closed.
    #[cold]
    fn from_shared(word: u32) -> Option<CloseReason> {
        match word {
            0 => None,
            word if word & PRIVATE != 0 || word == CloseReason::LOCAL.0 => Some(CloseReason::PEER),
            word => Some(CloseReason(word)),
        }
    }
}

impl fmt::Debug for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            CloseReason::LOCAL => "LOCAL",
            CloseReason::PEER => "PEER",
            CloseReason::FAULT => "FAULT",
            CloseReason::FORKED => "FORKED",
            CloseReason(word) => return f.debug_tuple("CloseReason").field(&(word & !PRIVATE)).finish(),
        })
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CloseReason::LOCAL => f.write_str("closed on this side"),
            CloseReason::PEER => f.write_str("closed by the other side"),
            CloseReason::FAULT => f.write_str("the other side broke the protocol"),
            CloseReason::FORKED => f.write_str("this process was forked after the channel was opened"),
            CloseReason(word) => write!(f, "closed for reason {}", word & !PRIVATE),
        }
    }
}

/// How far this side trusts the other one when it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Another thread, or the process whose answers this one waits for: its close is noticed, and it could
    /// keep this side asleep.
    Relied,
    /// Its close is noticed, but it cannot keep this side asleep.
    Heard,
    /// Its close is not noticed, and it cannot keep this side asleep.
    Unheard,
}

/// What a close has to change and to wake.
struct Closing {
    /// Whether waits sleep on the private word as well.
    sleep_on_private: bool,
    view: View,
    /// The shared closed word, if there is one.
    shared: Option<Word32>,
    /// All parked words of the channel.
    parked: Vec<Sleeper>,
    /// The pipes of this side's ends.
    own: Vec<Kick>,
    scope: Scope,
}

/// An end that may sleep: where its parked word is, and its pipe if it may wait in an event loop.
#[derive(Debug, Clone)]
pub(crate) struct Sleeper {
    pub(crate) word: usize,
    pub(crate) kick: Kick,
}

impl From<usize> for Sleeper {
    fn from(word: usize) -> Sleeper {
        Sleeper { word, kick: Kick::default() }
    }
}

/// The close handle of a channel's side: closes it from any thread, and ends every wait on it.
///
/// # Examples
///
/// ```
/// use ringpost::ring::CloseReason;
///
/// let (producer, consumer) = ringpost::ring::local(4096)?;
/// let closer = producer.closer();
/// assert_eq!(closer.reason(), None);
/// drop(consumer);
/// assert_eq!(closer.reason(), Some(CloseReason::PEER));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Closer {
    /// [`OPEN`], or why it is closed.
    private: ForkSafeWord,
    /// The shared word, if this end also reads it and does not only write it for the peer.
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
        let parked = parked.into_iter().map(Sleeper::from).collect();
        Closer::with_pipes(view, scope, parked, Vec::new(), shared, peer)
    }

    /// The same for a channel whose ends may wait in an event loop. `own` are the pipes of this side's.
    pub(crate) fn with_pipes(
        view: View,
        scope: Scope,
        parked: Vec<Sleeper>,
        own: Vec<Kick>,
        shared: Option<usize>,
        peer: Peer,
    ) -> Closer {
        let shared = shared.map(|offset| view.pin32(offset));
        let heeded = shared.clone().filter(|_| peer != Peer::Unheard);
        let sleep_on_private = peer != Peer::Relied;
        let rest = Arc::new(Closing { sleep_on_private, view, shared, parked, own, scope });
        Closer { private: ForkSafeWord::inherited(OPEN), heeded, rest }
    }

    /// Makes the channel look closed in a forked child, which then cannot close it for its parent. For a
    /// close handle that nobody uses yet.
    pub(crate) fn of_this_process(self) -> std::io::Result<Closer> {
        Ok(Closer { private: ForkSafeWord::not_inherited(OPEN)?, ..self })
    }

    /// Closes this side with [`CloseReason::LOCAL`]; the other side sees [`CloseReason::PEER`], except on a
    /// ring between threads, whose two ends have one close handle and both see `LOCAL`. Idempotent: the
    /// first reason stays. What was committed before can still be received by the other side. Does not
    /// block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::channel;
    /// use ringpost::ring::RecvError;
    /// use ringpost::ring::CloseReason;
    ///
    /// let (host, descriptor) = channel::create(4096, Default::default())?;
    /// let mut guest = channel::open(&descriptor, Default::default())?; // usually in another process
    /// host.closer.close();
    /// let end = guest.responses.recv(&mut Vec::new());
    /// assert_eq!(end, Err(RecvError::Disconnected(CloseReason::PEER)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        self.close_as(CloseReason::LOCAL);
    }

    /// Why it is closed, if it is. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::ring::CloseReason;
    ///
    /// let (producer, _consumer) = ringpost::ring::local(4096)?;
    /// let closer = producer.closer();
    /// closer.close();
    /// assert_eq!(closer.reason(), Some(CloseReason::LOCAL));
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

    /// Whether this side has closed it, or this process is a forked child.
    #[inline(always)]
    pub(crate) fn is_closed_here(&self) -> bool {
        self.private.load(Ordering::Acquire) != OPEN
    }

    /// Whether this process is a forked child of the one whose channel this is.
    #[cold]
    pub(crate) fn is_forked(&self) -> bool {
        self.private.load(Ordering::Relaxed) == FOREIGN
    }

    /// The reason, after a load has shown that it is closed.
    #[cold]
    fn closed_as(&self) -> Option<CloseReason> {
        // A close by this side sets the private word before the shared one. So if the shared word of our own
        // close was seen, the private word is visible now, and gives our reason and not the one for the peer.
        // Relaxed: the load that saw it closed has established the order.
        match self.private.load(Ordering::Relaxed) {
            OPEN => CloseReason::from_shared(self.heeded.as_ref()?.load(Ordering::Relaxed)),
            own => Some(CloseReason::from_own(own)),
        }
    }

    pub(crate) fn close_as(&self, reason: impl Into<CloseReason>) {
        self.close_for(reason.into());
    }

    fn close_for(&self, reason: CloseReason) {
        let Closing { view, shared, parked, own, scope, sleep_on_private } = &*self.rest;
        // Release: a thread that sees the reason also sees what was committed before. Only the first reason
        // counts, but a repeated close wakes again, which costs nothing.
        let before = self.private.compare_exchange(OPEN, reason.0, Ordering::Release, Ordering::Relaxed);
        if before == Err(FOREIGN) {
            return;
        }
        failpoint!("close.private", [server, client, link], seldom);
        if let Some(word) = shared {
            let told = match reason {
                CloseReason::LOCAL => CloseReason::PEER,
                reason => CloseReason(reason.as_told().unwrap_or(CloseReason::PEER.0)),
            };
            let _ = word.compare_exchange(0, told.0, Ordering::Release, Ordering::Relaxed);
            failpoint!("close.shared", [server, client, link], seldom);
        }
        fence(Ordering::SeqCst);
        failpoint!("close.fence", [server, client, link], seldom);
        if *sleep_on_private {
            futex::wake(&self.private, Scope::Private, u32::MAX >> 1);
            failpoint!("close.woken", [server, link], seldom);
        }
        let unsure = !sleep_on_private && *scope == Scope::Shared;
        for Sleeper { word, kick } in parked {
            let word = view.word32(*word);
            let waits = word.swap(AWAKE, Ordering::Relaxed);
            if waits == PARKED || unsure {
                failpoint!("close.swapped", [server, client, link], seldom);
                futex::wake(word, *scope, u32::MAX >> 1);
            }
            if waits == ARMED {
                kick.kick();
            }
        }
        // Whatever their words say: the other side writes them, too.
        own.iter().for_each(Kick::kick);
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
    use crate::ring::{Consumer, Producer, RecvError, SendError, Setup, WaitStrategy};

    /// The fork is made by a handler of the signal that ended the sleep.
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
        assert_eq!(sleeper.join().unwrap(), Err(RecvError::Disconnected(CloseReason::FORKED)));
        assert_eq!(word.load(Ordering::Relaxed), 1);
    }

    /// Whatever the other side stores, this side did not close.
    #[test]
    fn reasons_that_no_side_stores_are_the_other_sides_doing() {
        let setup = local_setup(1024, WaitStrategy::Park, 0).unwrap();
        let (view, shared) = (setup.view.clone(), 512);
        let closer = Closer::new(view.clone(), setup.scope, vec![], Some(shared), Peer::Heard);
        let stored = [CloseReason::LOCAL, CloseReason::PEER, CloseReason::FORKED, CloseReason::private(1)];
        for reason in stored {
            view.word32(shared).store(reason.0, Ordering::Relaxed);
            assert_eq!(closer.reason(), Some(CloseReason::PEER), "{reason:?}");
        }
        view.word32(shared).store(CloseReason::ABOVE.0, Ordering::Relaxed);
        assert_eq!(closer.reason(), Some(CloseReason::ABOVE));
    }

    /// In a forked child the private word reads as not inherited. The ring and the shared word belong to the
    /// parent.
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
        assert_eq!(closer.reason(), Some(CloseReason::FORKED));

        let childs = Setup { closer, ..setup.clone() };
        let (mut producer, mut consumer) = (Producer::new(&childs), Consumer::new(&childs));
        let forked = CloseReason::FORKED;
        assert_eq!(consumer.try_recv(&mut Vec::new()), Err(RecvError::Disconnected(forked)));
        assert_eq!(producer.try_send(b"x"), Err(SendError::Disconnected(forked)));
        drop((producer, consumer));
        assert_eq!(setup.view.word32(shared).load(Ordering::Relaxed), 0);
        assert_eq!(words.map(|word| word.load(Ordering::Relaxed)), [1, 1]);
        assert_eq!(childs.closer.reason(), Some(forked));
    }
}
