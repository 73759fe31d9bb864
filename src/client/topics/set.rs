//! `Topics`: what one client publishes and subscribes to, over all its registrations.
//!
//! The server announces parts by a byte in a pipe, the topics bell. The watcher takes them then
//! ([`takes`](crate::client::links)) and gives each to the publisher or the subscriber that it is for.

#![forbid(unsafe_code)]

mod moving;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

pub(super) use moving::Homeless;

use super::publication::Publication;
use super::subscription::Subscription;
use crate::channel::NewestFigures;
use crate::client::links::Bell;
use crate::client::reconnect::Reconnector;
use crate::client::session::{Session, ask_anew};
use crate::client::watcher::{Ringer, Watch, Watched};
use crate::connect::Ask;
use crate::connect::connection::Descriptors;
use crate::connect::dial::{Answer, DialError};
use crate::connect::topics::{Part, Source};
use crate::os::futex::{self, Scope, Wait};
use crate::testing::failpoints::failpoint;
use crate::wire::CloseReason;

/// How many parts may wait for the answer that says which subscription they are for. The watcher takes no
/// more meanwhile.
const MOST_EARLY: usize = 16;

/// How long to sleep at most before a wait looks whether the registration stands.
const LOOK: Duration = Duration::from_millis(20);

/// How long a server that has not answered in time is waited for when it is told that it need not.
const SHORT: Duration = Duration::from_millis(100);

/// How long the end of a publication or subscription waits for the server.
pub(super) const PATIENCE_OF_DROP: Duration = Duration::from_secs(1);

/// The topics of one client. They belong to it and not to one of its registrations: they go on when the
/// server ends, and end with the client.
pub(in crate::client) struct Topics {
    pub(super) path: PathBuf,
    /// Where the server finds what the client publishes and takes.
    pub(in crate::client) figures: NewestFigures,
    state: Mutex<State>,
    /// Incremented with each change that a subscribing thread may wait for.
    changed: AtomicU32,
    /// How often somebody wanted the watcher to take what waits; how many of them came before the watcher's
    /// question, and before one that the server answered with nothing.
    wanted: AtomicU32,
    asked: AtomicU32,
    answered: AtomicU32,
}

#[derive(Default)]
struct State {
    /// The registration under which the rest is known to the server.
    session: Weak<Session>,
    bell: Option<Watch>,
    publications: HashMap<u64, Arc<Publication>>,
    subscriptions: HashMap<u64, Arc<Subscription>>,
    /// Those that the server of this registration does not know yet.
    homeless: Homeless,
    /// Parts of subscriptions whose numbers are not known yet.
    early: Vec<Early>,
    /// How many subscriptions are being made.
    subscribing: usize,
    /// Whether a thread asks for the bell, and whether one brings all that it finds to a server. Two at a
    /// time would not know whose answer is the last.
    attending: bool,
    placing: bool,
    /// Why the server did not give a part that a subscription in the making may wait for.
    refusal: Option<String>,
    reconnector: Weak<Reconnector>,
    /// Whether a thread registers the client again.
    registering: bool,
    /// Whether the client does not register again any more.
    is_dry: bool,
    /// Why the client has ended, once it has.
    ended: Option<CloseReason>,
}

/// A part of a subscription whose number is not known yet.
struct Early {
    source: Source,
    came: Descriptors,
    /// Whether the server has said that the publication has ended.
    is_over: bool,
}

impl Topics {
    pub(in crate::client) fn new(path: PathBuf) -> Arc<Topics> {
        Arc::new(Topics {
            path,
            figures: NewestFigures::default(),
            state: Mutex::default(),
            changed: AtomicU32::new(0),
            wanted: AtomicU32::new(0),
            asked: AtomicU32::new(0),
            answered: AtomicU32::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registration under which the server knows the topics.
    pub(in crate::client) fn session(&self) -> Option<Arc<Session>> {
        self.lock().session.upgrade()
    }

    /// How to register again, if the client does.
    pub(super) fn registers_again(&self, reconnector: &Arc<Reconnector>) {
        self.lock().reconnector = Arc::downgrade(reconnector);
    }

    // ---- the bell

    /// Asks the server for a bell, unless it has given one under this registration.
    pub(super) fn attend(
        self: &Arc<Self>,
        session: &Arc<Session>,
        deadline: Instant,
    ) -> Result<(), DialError> {
        let _turn = self.take_turn(|state| &mut state.attending, deadline).ok_or(DialError::TimedOut)?;
        {
            let state = self.lock();
            if state.is_under(session) && state.bell.is_some() {
                return Ok(());
            }
        }
        let ask = Ask::Attend(session.proof());
        let answer = ask_anew(&self.path, deadline, |line| line.ask(&ask, deadline))?;
        failpoint!("bell.received", [topic], seldom);
        let bell = answer.descriptors.only().and_then(Bell::check).ok_or(DialError::NotRingpost)?;
        let watch = Watch::begin(Watched::Bell { bell, of: Ringer::Topics(Arc::downgrade(self)) })?;
        let former = {
            let mut state = self.lock();
            if state.ended.is_some() || session.closer.reason().is_some() {
                Some(watch)
            } else {
                state.session = Arc::downgrade(session);
                state.bell.replace(watch)
            }
        };
        if let Some(former) = former {
            former.end();
        }
        Ok(())
    }

    // ---- for the watcher

    /// The watcher is about to ask for a part. False if there is no room for one.
    pub(in crate::client) fn begins_to_ask(&self) -> bool {
        if self.lock().early.len() >= MOST_EARLY {
            return false;
        }
        self.asked.store(self.wanted.load(Ordering::SeqCst), Ordering::SeqCst);
        true
    }

    /// The watcher has asked, and nothing waited.
    pub(in crate::client) fn found_nothing(&self) {
        self.answered.store(self.asked.load(Ordering::SeqCst), Ordering::SeqCst);
        self.tell_change();
    }

    /// The server has not given a part, because the user has too much already, and will not give it.
    pub(in crate::client) fn part_was_refused(&self, why: String) {
        let mut state = self.lock();
        if state.subscribing > 0 {
            state.refusal = Some(why);
        }
    }

    /// Why a part was not given while a subscription was made.
    pub(super) fn take_refusal(&self) -> Option<String> {
        self.lock().refusal.take()
    }

    /// Gives a part to whom it is for. Does not block. What belongs to nobody is dropped.
    pub(in crate::client) fn deliver(&self, session: &Arc<Session>, answer: Answer) -> Option<()> {
        match Part::decode(&answer.body)? {
            Part::Source(source) => self.deliver_source(session, source, answer.descriptors),
            Part::Joined(joined) => {
                let publication = {
                    let state = self.lock();
                    state.publications.get(&joined.publication).filter(|_| state.is_under(session)).cloned()
                };
                publication?.join(&joined, answer.descriptors);
            }
            Part::Over { subscription, publication } => {
                let known = {
                    let mut state = self.lock();
                    if !state.is_under(session) {
                        return None;
                    }
                    let is_it = |early: &&mut Early| {
                        (early.source.subscription, early.source.publication) == (subscription, publication)
                    };
                    if let Some(early) = state.early.iter_mut().find(is_it) {
                        early.is_over = true;
                    }
                    state.subscriptions.get(&subscription).cloned()
                };
                known?.is_over(publication);
            }
            Part::Left { publication, subscription } => {
                let publication = {
                    let state = self.lock();
                    state.publications.get(&publication).filter(|_| state.is_under(session)).cloned()
                };
                publication?.audience.leave(subscription);
            }
        }
        Some(())
    }

    fn deliver_source(&self, session: &Arc<Session>, source: Source, came: Descriptors) {
        let subscription = {
            let mut state = self.lock();
            if !state.is_under(session) {
                return;
            }
            match state.subscriptions.get(&source.subscription) {
                Some(subscription) => Arc::clone(subscription),
                None if state.subscribing > 0 => {
                    return state.early.push(Early { source, came, is_over: false });
                }
                None => return,
            }
        };
        let _ = subscription.add(source, came);
        self.tell_change();
    }

    /// The client is not registered any more, for now or for good.
    pub(in crate::client) fn registration_has_ended(self: &Arc<Self>) {
        let (reconnector, register, reason, subscriptions) = {
            let mut state = self.lock();
            let subscriptions: Vec<_> = state.subscriptions.values().cloned().collect();
            let reconnector = state.reconnector.upgrade();
            let register = reconnector.is_some() && state.has_any() && !state.registering;
            state.registering |= register;
            let session = state.session.upgrade();
            let reason = session.and_then(|session| session.closer.reason()).map(CloseReason::from);
            (reconnector, register, reason.unwrap_or(CloseReason::Died), subscriptions)
        };
        for subscription in subscriptions {
            subscription.registration_has_ended();
        }
        self.tell_change();
        match reconnector {
            None => self.run_dry(reason),
            Some(reconnector) if register => super::renewal::begin(Arc::downgrade(self), &reconnector),
            Some(_) => {}
        }
    }

    // ---- for who waits

    fn tell_change(&self) {
        self.changed.fetch_add(1, Ordering::Release);
        futex::wake(&self.changed, Scope::Private, u32::MAX >> 1);
    }

    /// Has the watcher take what waits under this registration, until nothing is left, `is_enough` says so,
    /// or the deadline passes.
    pub(super) fn take_what_waits(
        &self,
        session: &Session,
        deadline: Instant,
        mut is_enough: impl FnMut() -> bool,
    ) -> Result<(), DialError> {
        let wanted = self.wanted.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        if let Some(bell) = &self.lock().bell {
            bell.ring();
        }
        loop {
            let seen = self.changed.load(Ordering::Acquire);
            let answered = self.answered.load(Ordering::SeqCst);
            if answered.wrapping_sub(wanted).cast_signed() >= 0 || is_enough() {
                return Ok(());
            }
            if session.closer.reason().is_some() {
                return Err(DialError::NoServer(std::io::ErrorKind::ConnectionReset.into()));
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(DialError::TimedOut);
            }
            let wait = Wait { word: &self.changed, expected: seen, scope: Scope::Private };
            futex::wait(&[wait], Some(deadline.min(now + LOOK)));
        }
    }

    // ---- what the client has

    /// The server has this number for it. If the client has ended, so has the publisher. False if this is not
    /// the newest registration.
    pub(super) fn add_publication(&self, session: &Session, id: u64, publication: &Arc<Publication>) -> bool {
        let mut state = self.lock();
        if let Some(reason) = state.ended {
            publication.close(reason);
        } else if state.is_under(session) {
            state.publications.insert(id, Arc::clone(publication));
        } else {
            return false;
        }
        true
    }

    /// The server has this number for it. Parts that came before are given to it. False if this is not the
    /// newest registration.
    pub(super) fn add_subscription(
        &self,
        session: &Session,
        id: u64,
        subscription: &Arc<Subscription>,
    ) -> bool {
        let early = {
            let mut state = self.lock();
            if let Some(reason) = state.ended {
                subscription.close(reason);
                return true;
            }
            if !state.is_under(session) {
                return false;
            }
            state.subscriptions.insert(id, Arc::clone(subscription));
            state.early.extract_if(.., |early| early.source.subscription == id).collect::<Vec<_>>()
        };
        for Early { source, came, is_over } in early {
            let publication = source.publication;
            subscription.add(source, came);
            if is_over {
                subscription.is_over(publication);
            }
        }
        true
    }

    /// A subscription is being made until this is dropped: parts that come for it are kept.
    pub(super) fn begin_to_subscribe(&self) -> Subscribing<'_> {
        self.lock().subscribing += 1;
        Subscribing(self)
    }

    /// The publisher has ended. Tells the server, and waits for that a second at most.
    pub(super) fn remove_publication(&self, publication: &Arc<Publication>) {
        let told = {
            let mut state = self.lock();
            state.homeless.publications.retain(|other| !Arc::ptr_eq(other, publication));
            let found = state.publications.iter().find(|(_, other)| Arc::ptr_eq(other, publication));
            let id = found.map(|(id, _)| *id);
            id.and_then(|id| state.publications.remove(&id).map(|_| (id, state.session.clone())))
        };
        if let Some((id, session)) = told {
            self.leave(&session, id, Instant::now() + PATIENCE_OF_DROP);
        }
    }

    /// The subscriber has ended. Tells the server, and waits for that a second at most.
    pub(super) fn remove_subscription(&self, subscription: &Arc<Subscription>) {
        let told = {
            let mut state = self.lock();
            state.homeless.subscriptions.retain(|other| !Arc::ptr_eq(other, subscription));
            let found = state.subscriptions.iter().find(|(_, other)| Arc::ptr_eq(other, subscription));
            let id = found.map(|(id, _)| *id);
            id.and_then(|id| state.subscriptions.remove(&id).map(|_| (id, state.session.clone())))
        };
        if let Some((id, session)) = told {
            self.leave(&session, id, Instant::now() + PATIENCE_OF_DROP);
        }
    }

    /// Ends a publication or subscription at the server, and waits for that until then at most.
    pub(super) fn leave(&self, session: &Weak<Session>, id: u64, until: Instant) {
        let Some(session) = session.upgrade().filter(|session| session.closer.reason().is_none()) else {
            return;
        };
        let ask = Ask::Leave { proof: session.proof(), id };
        let _ = ask_anew(&self.path, until, |line| line.ask(&ask, until));
        failpoint!("topic.left", [topic], seldom);
    }

    /// The server of this registration did not publish it after all, or does not say so.
    pub(super) fn forget_publication(&self, session: &Arc<Session>, id: u64, deadline: Instant) {
        let forgotten = {
            let mut state = self.lock();
            if state.is_under(session) { state.publications.remove(&id) } else { None }
        };
        drop(forgotten);
        self.leave(&Arc::downgrade(session), id, deadline.max(Instant::now() + SHORT));
    }

    /// The server of this registration has gone before it was in force.
    pub(super) fn forget_subscription(&self, session: &Session, id: u64) {
        let forgotten = {
            let mut state = self.lock();
            if state.is_under(session) { state.subscriptions.remove(&id) } else { None }
        };
        drop(forgotten);
    }

    /// The client does not register again: no more publishers come.
    pub(super) fn run_dry(&self, reason: CloseReason) {
        let all = {
            let mut state = self.lock();
            state.is_dry = true;
            let homeless = state.homeless.subscriptions.iter();
            state.subscriptions.values().chain(homeless).cloned().collect::<Vec<_>>()
        };
        for subscription in all {
            subscription.runs_dry(reason);
        }
    }

    /// Ends everything for this reason, because the client ends. Not in a forked child.
    pub(in crate::client) fn end(&self, reason: CloseReason) {
        let homeless = {
            let mut state = self.lock();
            state.ended.get_or_insert(reason);
            drop(std::mem::take(&mut state.early));
            drop(state);
            self.move_out()
        };
        failpoint!("topics.ended", [topic], seldom);
        for publication in homeless.publications {
            publication.close(reason);
            // Its publisher may be on another thread that does nothing now.
            publication.audience.conclude();
        }
        for subscription in homeless.subscriptions {
            subscription.close(reason);
        }
        self.tell_change();
    }
}

impl State {
    /// Whether the rest is known under this registration.
    fn is_under(&self, session: &Session) -> bool {
        std::ptr::eq(self.session.as_ptr(), session)
    }

    fn has_any(&self) -> bool {
        !(self.publications.is_empty() && self.subscriptions.is_empty() && self.homeless.is_empty())
    }
}

/// A subscription that is being made.
pub(super) struct Subscribing<'t>(&'t Topics);

impl Drop for Subscribing<'_> {
    fn drop(&mut self) {
        let early = {
            let mut state = self.0.lock();
            state.subscribing -= 1;
            if state.subscribing > 0 {
                Vec::new()
            } else {
                state.refusal = None;
                std::mem::take(&mut state.early)
            }
        };
        drop(early);
    }
}

/// Gives the bell back; in a forked child, its copy.
impl Drop for Topics {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(bell) = state.bell.take() {
            bell.end();
        }
    }
}
