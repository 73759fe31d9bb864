//! `Reconnector`: registers a client again after its connection ended. The two halves of the client share it.
//!
//! A half that finds its channel closed calls [`Reconnector::renew`]. While the channel is open, a
//! reconnecting client does the same as any other. Each end of a connection is *told* first: the operation
//! that found it returns the error, and the next operation registers again. One half does that; the other one
//! waits, or finds its part of the new channel ready. An inbox first returns all messages of the old ring. If
//! the other half has registered several times meanwhile, the inbox also returns those of the rings in
//! between, in order.
//!
//! The mutex is never held during a request to a server or a callback. A waiting half sleeps on a word that
//! is incremented with each change. It reads the word before it checks the state, so a change after that
//! makes the kernel's compare fail, and the half does not sleep.
//!
//! **The closer** may be used in a signal handler, whose thread may hold the mutex. So it sets a flag, and
//! closes only if it gets the mutex without waiting ([`Reconnector::heed_close`]); otherwise the owner of the
//! mutex closes after unlocking. One of the two always does: the closer sets the flag before it tries the
//! mutex, the owner checks the flag after it has unlocked, and both have a fence between the two steps. The
//! standard library's mutex is one atomic word, so trying and unlocking it is safe in a handler.
//!
//! A forked child never uses it ([`reconnector_of`]): another thread may have held the mutex at the fork, and
//! the client belongs to the parent.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::backoff::{Reconnect, Schedule, random};
use super::error::RegisterError;
use super::event::{ReconnectError, ReconnectEvent};
use super::session::{Place, Session, deadline_in};
use crate::os::futex::{self, Scope, Wait};
use crate::ring::{Consumer, Producer};
use crate::wire::CloseReason;

/// The least time for an attempt, even if the operation's deadline is nearer: a shorter attempt could not
/// succeed.
const LEAST_ATTEMPT: Duration = Duration::from_millis(100);

/// The halves of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Caller = 0,
    Inbox = 1,
    /// Not a half, but it is told of an end by itself, and goes on with another registration.
    Listener = 2,
    /// What the client publishes and subscribes to. It goes on with another registration, and nobody is told.
    Topics = 3,
}

/// The caller's part of a channel.
pub(super) type Asking = (Producer, Consumer, Arc<Session>);

/// The inbox's part.
pub(super) type Receiving = (Consumer, Arc<Session>);

pub(super) struct Reconnector {
    place: Place,
    policy: Reconnect,
    /// Whether the client was split. Then each half is told of an end separately.
    split: AtomicBool,
    state: Mutex<State>,
    /// Incremented with each change that a half may wait for.
    changed: AtomicU32,
    /// Set by the closer.
    closing: AtomicBool,
    /// The closer's request was carried out.
    closed: AtomicBool,
}

struct State {
    /// The newest registration.
    session: Arc<Session>,
    /// The parts of its channel that the halves have not taken yet. For the inbox, also those of earlier
    /// channels that still hold messages.
    asking: Option<Asking>,
    receiving: VecDeque<Receiving>,
    /// Whether the inbox was dropped. Then the inboxes of later registrations are dropped, too.
    without_inbox: bool,
    /// Which halves have reported the end of the newest registration.
    told: [bool; 4],
    /// For each half, the end of an earlier registration that it has not reported yet, although the other
    /// half has registered again since.
    owed: [Option<CloseReason>; 4],
    /// Whether an attempt is being made.
    trying: bool,
    schedule: Option<Schedule>,
    /// Why the client does not register again any more.
    over: Option<ReconnectError>,
}

/// The reconnector of a half, if it has one. `None` in a forked child, where the client is the parent's.
pub(super) fn reconnector_of<'h>(
    session: &Session,
    reconnector: &'h Option<Arc<Reconnector>>,
) -> Option<&'h Reconnector> {
    reconnector.as_deref().filter(|_| !session.is_forked())
}

/// Implements `Debug` for a client and its halves: name, key, and whether it has ended.
pub(super) fn show(
    kind: &str,
    session: &Session,
    reconnector: &Option<Arc<Reconnector>>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let newest = reconnector_of(session, reconnector).map(Reconnector::newest);
    let Session { name, key, closer, .. } = newest.as_deref().unwrap_or(session);
    f.debug_struct(kind)
        .field("name", name)
        .field("key", key)
        .field("closed", &closer.reason().map(CloseReason::from))
        .finish_non_exhaustive()
}

/// Why a half did not get a new channel.
pub(super) enum Stop {
    /// The end must be reported first.
    Tell(CloseReason),
    /// The operation's deadline has passed. An end is reported later.
    TimedOut,
    /// The client does not register again any more.
    Over(ReconnectError),
}

impl Stop {
    /// The reason that an operation reports, or `None` if its deadline has passed.
    pub(super) fn reason(self, ended: CloseReason) -> Option<CloseReason> {
        match self {
            Stop::TimedOut => None,
            Stop::Tell(reason) => Some(reason),
            Stop::Over(ReconnectError::GaveUp { .. }) => Some(CloseReason::GaveUp),
            Stop::Over(ReconnectError::Ended(reason)) => Some(reason),
            Stop::Over(_) => Some(ended),
        }
    }
}

/// The newest registration, if it is another one.
fn newer(state: &State, own: &Arc<Session>) -> Option<Arc<Session>> {
    (!Arc::ptr_eq(own, &state.session)).then(|| Arc::clone(&state.session))
}

/// Marks an attempt as ended when dropped, also by a panic.
struct Trying<'a>(&'a Reconnector);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        self.0.lock().trying = false;
        self.0.tell_change();
    }
}

/// The locked state. After unlocking, it carries out the request of a closer that found it locked.
struct Locked<'h> {
    state: MutexGuard<'h, State>,
    /// Dropped after the guard.
    _heeds: HeedsClose<'h>,
}

struct HeedsClose<'h>(&'h Reconnector);

impl Drop for HeedsClose<'_> {
    fn drop(&mut self) {
        fence(Ordering::SeqCst);
        self.0.heed_close();
    }
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Reconnector {
    pub(super) fn new(place: Place, policy: Reconnect, session: Arc<Session>) -> Reconnector {
        let state = State {
            session,
            asking: None,
            receiving: VecDeque::new(),
            without_inbox: false,
            told: [false; 4],
            owed: [None; 4],
            trying: false,
            schedule: None,
            over: None,
        };
        Reconnector {
            place,
            policy,
            split: AtomicBool::new(false),
            state: Mutex::new(state),
            changed: AtomicU32::new(0),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> Locked<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { state, _heeds: HeedsClose(self) }
    }

    pub(super) fn tell_change(&self) {
        self.changed.fetch_add(1, Ordering::Release);
        futex::wake(&self.changed, Scope::Private, u32::MAX >> 1);
    }

    /// Sleeps until the word differs from `seen`, but not longer than `until`.
    fn wait<'h>(&'h self, state: Locked<'h>, seen: u32, until: Option<Instant>) -> Locked<'h> {
        drop(state);
        futex::wait(&[Wait { word: &self.changed, expected: seen, scope: Scope::Private }], until);
        self.lock()
    }

    pub(super) fn split(&self) {
        self.split.store(true, Ordering::Relaxed);
    }

    /// The newest registration.
    pub(super) fn newest(&self) -> Arc<Session> {
        Arc::clone(&self.lock().session)
    }

    /// The caller's part of a channel that the other half made.
    pub(super) fn take_asking(&self) -> Option<Asking> {
        self.lock().asking.take()
    }

    /// Ends the newest registration for good. For the closer; may be called in a signal handler.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.heed_close();
    }

    /// Carries out the closer's request, unless that is done, or somebody holds the lock, who then does so.
    fn heed_close(&self) {
        if !self.closing.load(Ordering::Relaxed) || self.closed.load(Ordering::Relaxed) {
            return;
        }
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        state.over.get_or_insert(ReconnectError::Ended(CloseReason::Local));
        state.session.hang_up(CloseReason::Local);
        self.closed.store(true, Ordering::Relaxed);
        drop(state);
        self.tell_change();
    }

    /// Makes this the last registration, and returns it.
    pub(super) fn leave(&self, reason: CloseReason) -> Arc<Session> {
        let mut state = self.lock();
        state.over.get_or_insert(ReconnectError::Ended(reason));
        self.tell_change();
        Arc::clone(&state.session)
    }

    /// Called when the inbox is dropped: drops its parts of this and all later channels.
    pub(super) fn give_up_inbox(&self) {
        let mut state = self.lock();
        state.without_inbox = true;
        for (ring, _) in state.receiving.drain(..) {
            ring.give_up();
        }
    }

    /// Called when an operation of a half reports the end.
    pub(super) fn tell(&self, half: Half, own: &Arc<Session>, reason: CloseReason) {
        let mut state = self.lock();
        if Arc::ptr_eq(own, &state.session) {
            let first = self.mark(&mut state, half);
            drop(state);
            self.announce(first, reason);
        } else {
            state.owed[half as usize] = None;
        }
    }

    /// Marks the end as reported by a half (by both if the client is not split). Returns whether it was the
    /// first report.
    fn mark(&self, state: &mut State, half: Half) -> bool {
        let first = state.told == [false; 4];
        state.told[half as usize] = true;
        if matches!(half, Half::Caller | Half::Inbox) && !self.split.load(Ordering::Relaxed) {
            state.told[Half::Caller as usize] = true;
            state.told[Half::Inbox as usize] = true;
        }
        first
    }

    fn announce(&self, first: bool, reason: CloseReason) {
        if first {
            self.policy.tell(&ReconnectEvent::Ended { reason });
        }
    }

    /// Gets the caller's part of a new channel, after its own was closed.
    pub(super) fn renew_caller(&self, quietly: bool, deadline: Option<Instant>) -> Result<Asking, Stop> {
        self.renew(Half::Caller, quietly, deadline, |state| state.asking.take())
    }

    /// Gets the inbox's part of the next channel, after its own was closed and emptied.
    pub(super) fn renew_inbox(&self, deadline: Option<Instant>) -> Result<Receiving, Stop> {
        self.renew(Half::Inbox, false, deadline, |state| state.receiving.pop_front())
    }

    /// The client has a listener from now on, which knows of no end.
    pub(super) fn listener_begins(&self) {
        let mut state = self.lock();
        (state.told[Half::Listener as usize], state.owed[Half::Listener as usize]) = (false, None);
    }

    /// Gets the registration that comes after the listener's own, which has ended, unless the listener is
    /// closed meanwhile.
    pub(super) fn renew_listener(
        &self,
        own: &Arc<Session>,
        closed: &dyn Fn() -> Option<CloseReason>,
        deadline: Option<Instant>,
    ) -> Result<Arc<Session>, Stop> {
        let take = |state: &mut State| match closed() {
            Some(reason) => Some(Err(Stop::Tell(reason))),
            None => newer(state, own).map(Ok),
        };
        self.renew(Half::Listener, false, deadline, take)?
    }

    /// The same without waiting.
    pub(super) fn renew_listener_now(&self, own: &Arc<Session>) -> Result<Arc<Session>, Stop> {
        self.renew_now(Half::Listener, |state| newer(state, own))
    }

    /// A registration that stands, for the client's topics: registers again if there is none. Blocks until
    /// there is one, `is_idle` says that none is needed, or the client does not register again any more; for
    /// which reason, the error tells.
    pub(super) fn registered(&self, is_idle: &dyn Fn() -> bool) -> Result<Arc<Session>, CloseReason> {
        let take = |state: &mut State| match state.session.closer.reason() {
            None => Some(Ok(Arc::clone(&state.session))),
            Some(reason) => is_idle().then_some(Err(reason.into())),
        };
        let registered = self.renew(Half::Topics, true, None, take);
        registered.unwrap_or_else(|stop| Err(stop.reason(CloseReason::Died).unwrap_or(CloseReason::Died)))
    }

    /// The caller's part of another channel, if the other half has made one.
    pub(super) fn renew_caller_now(&self) -> Result<Asking, Stop> {
        self.renew_now(Half::Caller, |state| state.asking.take())
    }

    /// The inbox's part of the next channel behind its own, if there is one already.
    pub(super) fn renew_inbox_now(&self) -> Result<Receiving, Stop> {
        self.renew_now(Half::Inbox, |state| state.receiving.pop_front())
    }

    fn renew_now<P>(&self, half: Half, take: impl Fn(&mut State) -> Option<P>) -> Result<P, Stop> {
        let mut state = self.lock();
        if let Some(reason) = state.owed[half as usize].take() {
            return Err(Stop::Tell(reason));
        }
        if let Some(part) = take(&mut state) {
            return Ok(part);
        }
        match (&state.over, state.session.closer.reason().map(CloseReason::from)) {
            (Some(over), _) => Err(Stop::Over(over.clone())),
            (None, Some(reason)) if state.told[half as usize] => Err(Stop::Tell(reason)),
            (None, reason) => {
                let reason = reason.unwrap_or(CloseReason::Died);
                let first = self.mark(&mut state, half);
                drop(state);
                self.announce(first, reason);
                Err(Stop::Tell(reason))
            }
        }
    }

    /// With `quietly`, the end need not be reported first.
    fn renew<P>(
        &self,
        half: Half,
        quietly: bool,
        deadline: Option<Instant>,
        take: impl Fn(&mut State) -> Option<P>,
    ) -> Result<P, Stop> {
        let mut state = self.lock();
        loop {
            let seen = self.changed.load(Ordering::Acquire);
            let now = Instant::now();
            let too_late = deadline.is_some_and(|deadline| now >= deadline);
            let owed = &mut state.owed[half as usize];
            if !quietly && owed.is_some() && too_late {
                return Err(Stop::TimedOut);
            }
            if let Some(reason) = owed.take().filter(|_| !quietly) {
                return Err(Stop::Tell(reason));
            }
            if let Some(part) = take(&mut state) {
                return Ok(part);
            }
            if let Some(over) = &state.over {
                return Err(Stop::Over(over.clone()));
            }
            // Checked before anything is reported or tried, so that a passed deadline is always reported as
            // such.
            if too_late {
                return Err(Stop::TimedOut);
            }
            // The half's channel is closed and no newer one is ready, so its channel is the newest one.
            let reason = state.session.closer.reason().map_or(CloseReason::Died, Into::into);
            if !passes(reason) {
                state.over = Some(ReconnectError::Ended(reason));
                continue;
            }
            if !state.told[half as usize] {
                let first = self.mark(&mut state, half);
                drop(state);
                self.announce(first, reason);
                if !quietly {
                    return Err(Stop::Tell(reason));
                }
                state = self.lock();
                continue;
            }
            let due = state.schedule.get_or_insert_with(|| Schedule::begin(&self.policy, now, random())).next;
            if !state.trying && now >= due {
                state.trying = true;
                let ended = Arc::clone(&state.session);
                drop(state);
                self.attempt(&ended, reason, deadline);
                state = self.lock();
                continue;
            }
            // Wait until the attempt is due, the other half's attempt has ended, or the client is closed.
            let due = (!state.trying).then_some(due);
            state = self.wait(state, seen, [due, deadline].into_iter().flatten().min());
        }
    }

    /// Tries once to register again.
    fn attempt(&self, ended: &Arc<Session>, reason: CloseReason, deadline: Option<Instant>) {
        let trying = Trying(self);
        // If the connection still exists, this ends it, so that the server frees the name.
        ended.end(reason);
        let whole = deadline_in(self.place.timeout);
        let least = whole.min(Instant::now() + LEAST_ATTEMPT);
        let until = deadline.map_or(whole, |deadline| whole.min(deadline.max(least)));
        let event = match self.place.register(ended.name, &ended.links, until) {
            Ok((guest, session)) => {
                session.links.renew(&session, until);
                let mut state = self.lock();
                let key = session.key;
                // Drop the rings that are closed and empty.
                state.receiving.retain_mut(|(ring, _)| matches!(ring.next_block(), Ok(Some(_))));
                if state.without_inbox {
                    guest.inbox.give_up();
                } else {
                    state.receiving.push_back((guest.inbox, Arc::clone(&session)));
                }
                state.asking = Some((guest.requests, guest.responses, Arc::clone(&session)));
                state.session = session;
                state.owed =
                    std::mem::take(&mut state.told).map(|told| if told { None } else { Some(reason) });
                let failed = state.schedule.take().map_or(0, |schedule| schedule.attempts);
                if let Some(ReconnectError::Ended(reason)) = state.over {
                    // It was closed meanwhile.
                    state.session.end(reason);
                }
                ReconnectEvent::Registered { key, attempts: failed.saturating_add(1) }
            }
            Err(error) => self.failed(error),
        };
        drop(trying);
        self.policy.tell(&event);
    }

    fn failed(&self, error: RegisterError) -> ReconnectEvent {
        let mut state = self.lock();
        let now = Instant::now();
        let schedule = state.schedule.get_or_insert_with(|| Schedule::begin(&self.policy, now, random()));
        let again_in = schedule.failed(&self.policy, &error, now, random());
        let attempt = schedule.attempts;
        let error = Arc::new(error);
        match again_in {
            Some(again_in) => ReconnectEvent::Failed { attempt, error, again_in },
            None => {
                let gave_up = ReconnectError::GaveUp { attempts: attempt, error: Arc::clone(&error) };
                state.over.get_or_insert(gave_up);
                ReconnectEvent::GaveUp { attempts: attempt, error }
            }
        }
    }
}

/// Whether reconnecting makes sense after an end for this reason.
pub(super) fn passes(reason: CloseReason) -> bool {
    matches!(reason, CloseReason::Died | CloseReason::Shutdown | CloseReason::Peer | CloseReason::CutOff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel;
    use crate::client::links::Links;
    use crate::connect::Proof;
    use crate::connect::connection::Connection;
    use crate::ring::WaitStrategy;
    use crate::wire::{Key, Name};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    /// Of a client without a server, and the server's end of its connection.
    fn reconnector() -> (Reconnector, UnixStream) {
        let (host, memory) = channel::create(4096, WaitStrategy::Park).unwrap();
        let guest = channel::open_for_client(&memory, WaitStrategy::Park).unwrap();
        let (here, there) = UnixStream::pair().unwrap();
        let connection = Connection::of(OwnedFd::from(here)).unwrap();
        let name = Name::new("alice").unwrap();
        let place =
            Place { path: "nowhere".into(), wait: WaitStrategy::Park, timeout: Duration::ZERO, relay: false };
        let (proof, links) = (Proof::without_secret(Key::from_u128(7)), Links::new(place.clone()));
        let session = Session::begin(&guest, connection, proof, name, links).unwrap();
        std::mem::forget(host); // its drop would close the channel
        (Reconnector::new(place, Reconnect::default(), Arc::new(session)), there)
    }

    /// As a signal handler does on the thread that holds the lock.
    #[test]
    fn a_close_within_the_lock_is_done_behind_it() {
        let (reconnector, _there) = reconnector();
        let state = reconnector.lock();
        let session = Arc::clone(&state.session);
        reconnector.close();
        assert_eq!(session.closer.reason(), None, "nobody had the lock");
        drop(state);
        assert_eq!(session.closer.reason(), Some(CloseReason::Local.into()));
        assert!(matches!(reconnector.lock().over, Some(ReconnectError::Ended(CloseReason::Local))));
        reconnector.close();
    }

    #[test]
    fn a_close_without_the_lock_is_done_at_once_and_ends_the_connection() {
        let (reconnector, mut there) = reconnector();
        reconnector.close();
        assert_eq!(reconnector.newest().closer.reason(), Some(CloseReason::Local.into()));
        there.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(std::io::Read::read(&mut there, &mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_wait_sees_what_changed_before_it() {
        let (reconnector, _there) = reconnector();
        let state = reconnector.lock();
        let seen = reconnector.changed.load(Ordering::Acquire);
        reconnector.close();
        // `wait` releases the lock, which carries out the close and changes the word.
        let far = Instant::now() + Duration::from_secs(60);
        let state = reconnector.wait(state, seen, Some(far));
        assert!(state.over.is_some() && Instant::now() < far);
    }
}
