//! The server's events, on their way to the program's `tracing` subscriber.
//!
//! A subscriber is code of the program that embeds the server. It may panic, sleep, register a client of this
//! very server, or shut the server down. So no thread on which clients depend calls it. The acceptor and the
//! workers put their events into a bounded queue; the thread `rp-events` takes them out and hands them to the
//! subscriber, and contains a panic there. Events for which the queue has no room are left out and counted.
//!
//! A program may have set a subscriber for the thread that starts the server only. The events thread takes it
//! over.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use tracing::dispatcher::{self, Dispatch};
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing::subscriber::NoSubscriber;
use tracing::{Level, debug, error, event_enabled, info, warn};

use super::event_limits::{Cause, EventLimits, Kind, LeftOut};
use super::shared::lock;
use super::worker::dispose;
use crate::connect::Credentials;
use crate::os::threads;
use crate::registry::Owner;
use crate::wire::{Key, Name, Status};

/// The target of every event.
const TARGET: &str = "ringpost";

/// How many events may wait: a megabyte or two.
const QUEUE: usize = 8192;

/// How long the end of a server waits for a subscriber that is busy.
pub(super) const LAST_EVENTS: Duration = Duration::from_secs(1);

/// A subscriber that did not want messages is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Something that the server tells the program's log. The crate page has the table of their names and fields.
#[derive(Debug)]
pub(super) enum Event {
    Register { name: Name, key: Key, owner: Owner },
    Unregister { name: Name, key: Key, owner: Owner },
    Death { name: Name, key: Key, owner: Owner },
    Violation { name: Name, key: Key, owner: Owner, what: String },
    Refused(Refused),
    Message { from: Name, from_key: Key, to: Option<Name>, to_key: Key, bytes: usize, outcome: Status },
    Limit { needed: u64, limit: Option<u64> },
    UnknownUser { uid: u32 },
    Registry { name: Name, error: String },
    Abandoned { name: Name, key: Key, pid: u32, workers: usize },
    Failed { why: String },
    CutOff,
}

/// A connection or a registration that was refused, and what is known of it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: Cow<'static, str>,
    pub(super) name: Option<Name>,
    pub(super) who: Option<Credentials>,
    pub(super) error: Option<String>,
    pub(super) message: Cow<'static, str>,
}

impl Refused {
    pub(super) fn new(reason: &'static str, message: &'static str) -> Refused {
        Refused { reason: reason.into(), name: None, who: None, error: None, message: message.into() }
    }

    pub(super) fn of(self, who: Credentials) -> Refused {
        Refused { who: Some(who), ..self }
    }
}

impl Event {
    fn level(&self) -> Level {
        match self {
            Event::Register { .. } | Event::Unregister { .. } => Level::INFO,
            Event::Death { .. }
            | Event::Violation { .. }
            | Event::Refused(_)
            | Event::Limit { .. }
            | Event::UnknownUser { .. }
            | Event::Abandoned { .. } => Level::WARN,
            Event::Registry { .. } | Event::Failed { .. } | Event::CutOff => Level::ERROR,
            Event::Message { .. } => Level::DEBUG,
        }
    }

    /// Under which limit it falls, if any.
    fn limit(&self) -> Option<(Kind, Cause)> {
        let (kind, uid) = match self {
            Event::Register { owner, .. } => (Kind::Register, owner.uid),
            Event::Unregister { owner, .. } => (Kind::Unregister, owner.uid),
            Event::Death { owner, .. } => (Kind::Death, owner.uid),
            Event::Violation { owner, .. } => (Kind::Violation, owner.uid),
            Event::Refused(Refused { who: Some(who), .. }) => (Kind::Refused, who.uid),
            // Strangers bring these about too, and must not use up what is for the server's own faults.
            Event::Refused(Refused { who: None, .. }) => return Some((Kind::Refused, Cause::Server)),
            Event::Registry { .. } | Event::Abandoned { .. } => return Some((Kind::Own, Cause::Server)),
            // What was asked for; and what comes once in a server's life.
            Event::Message { .. }
            | Event::Limit { .. }
            | Event::UnknownUser { .. }
            | Event::Failed { .. }
            | Event::CutOff => return None,
        };
        Some((kind, Cause::User(uid)))
    }

    /// Hands it to the subscriber: code of the program.
    fn emit(&self) {
        match self {
            Event::Register { name, key, owner: Owner { pid, uid, .. } } => {
                info!(target: TARGET, event = "register", name = %name, key = %key, pid, uid, "registered");
            }
            Event::Unregister { name, key, .. } => {
                info!(target: TARGET, event = "unregister", name = %name, key = %key, "unregistered");
            }
            Event::Death { name, key, owner } => warn!(
                target: TARGET, event = "death", name = %name, key = %key, pid = owner.pid,
                "a client died, or left without unregistering"
            ),
            Event::Violation { name, key, owner, what } => warn!(
                target: TARGET, event = "violation", name = %name, key = %key, pid = owner.pid, what,
                "a client broke the protocol and was closed"
            ),
            Event::Refused(Refused { reason, name, who, error, message }) => warn!(
                target: TARGET, event = "refused", reason = &**reason, name = name.as_ref().map(tracing::field::display),
                pid = who.map(|who| who.pid), uid = who.map(|who| who.uid), gid = who.map(|who| who.gid),
                error = error.as_deref(), "{message}"
            ),
            Event::Message { from, from_key, to, to_key, bytes, outcome } => debug!(
                target: TARGET, event = "message", from = %from, from_key = %from_key,
                to = to.as_ref().map_or("", |name| name.as_str()), to_key = %to_key, bytes, outcome = ?outcome,
                "message"
            ),
            Event::Limit { needed, limit } => warn!(
                target: TARGET, event = "limit", needed, limit,
                "the limit of open files is too low for that many clients: raise it (ulimit -n)"
            ),
            Event::UnknownUser { uid } => warn!(
                target: TARGET, event = "unknown_user", uid,
                "the server's user has no number in this user namespace, so its own processes cannot be told from \
                 strangers: only root and those who are allowed may connect. Run it as a user with a number of its own"
            ),
            Event::Registry { name, error } => error!(
                target: TARGET, event = "registry", error = error.as_str(), name = %name, "cannot release a client"
            ),
            Event::Abandoned { name, key, pid, workers } => warn!(
                target: TARGET, event = "abandoned", name = %name, key = %key, pid, workers,
                "left behind: a call of this client did not return from the service in time"
            ),
            Event::Failed { why } => error!(
                target: TARGET, event = "failed", error = why.as_str(),
                "the server's own thread panicked, and the server has ended: please report it"
            ),
            Event::CutOff => error!(
                target: TARGET, event = "cut_off",
                "this process closed the server's descriptors, and the server has ended: start it after that"
            ),
        }
    }
}

/// The near end of the queue, for the server's threads.
pub(super) struct Events {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The events thread.
    id: OnceLock<ThreadId>,
    /// It waits for the end of the server itself, in a subscriber.
    waits: AtomicBool,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// False while the subscriber is known not to want an event for each message.
    wants_messages: AtomicBool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Event>,
    limits: EventLimits,
    /// Events for which there was no room, since this was last told, and in all.
    left_out: u64,
    total: u64,
    /// The events thread sleeps, and must be woken.
    asleep: bool,
    ended: bool,
}

/// What the events thread takes at once.
#[derive(Default)]
struct Batch {
    events: VecDeque<Event>,
    beyond_limits: Vec<LeftOut>,
    left_out: u64,
    total: u64,
}

impl Events {
    /// A queue that no thread empties yet.
    pub(super) fn new() -> Events {
        let queue = Queue { state: Mutex::default(), changed: Condvar::new(), wants_messages: true.into() };
        Events { queue: Arc::new(queue), thread: Mutex::new(None), id: OnceLock::new(), waits: false.into() }
    }

    /// Starts the events thread, if there is a subscriber. Else the first event for one that comes later
    /// does.
    pub(super) fn start(&self) -> io::Result<()> {
        // With none, the program's own is used, also if it is set later.
        let scope = dispatcher::get_default(|now| (!now.is::<NoSubscriber>()).then(|| now.clone()));
        if scope.is_none() && LevelFilter::current() == LevelFilter::OFF {
            return Ok(());
        }
        self.start_thread(scope)
    }

    fn start_thread(&self, scope: Option<Dispatch>) -> io::Result<()> {
        let mut thread = lock(&self.thread);
        if self.id.get().is_none() {
            let queue = Arc::clone(&self.queue);
            let started = threads::spawn("rp-events", move || hand_over(&queue, scope))?;
            let _ = self.id.set(started.thread().id());
            *thread = Some(started);
        }
        Ok(())
    }

    /// Whether this is the events thread, and so the caller is a subscriber.
    pub(super) fn is_this_thread(&self) -> bool {
        self.id.get() == Some(&thread::current().id())
    }

    /// The caller is about to wait for the end of the server. If it is a subscriber, the server does not wait
    /// for it in turn.
    pub(super) fn before_join(&self) {
        if self.is_this_thread() {
            self.waits.store(true, Ordering::Release);
        }
    }

    /// Whether there is to be an event for each message. A look at two words.
    #[inline(always)]
    pub(super) fn wants_messages(&self) -> bool {
        is_enabled(Level::DEBUG) && self.queue.wants_messages.load(Ordering::Relaxed)
    }

    /// Puts an event into the queue, if anyone may want it. Never waits for a subscriber.
    pub(super) fn tell(&self, event: Event) {
        if !is_enabled(event.level()) {
            return;
        }
        let mut state = lock(&self.queue.state);
        if state.ended {
            return;
        }
        let due = state.limits.due();
        let allowed = event.limit().is_none_or(|(kind, cause)| {
            let State { limits, .. } = &mut *state;
            limits.allow(kind, cause, Instant::now())
        });
        if !allowed {
            // The events thread is to tell of it in time.
            if state.limits.due() == due {
                return;
            }
        } else if state.waiting.len() < QUEUE {
            state.waiting.push_back(event);
        } else {
            state.left_out += 1;
            state.total += 1;
        }
        let wakes = std::mem::take(&mut state.asleep);
        drop(state);
        if wakes {
            self.queue.changed.notify_one();
        }
        if self.id.get().is_none() {
            // Without a thread for it now, the next event tries again.
            let _ = self.start_thread(None);
        }
    }

    /// Takes nothing more, and gives the subscriber a while for what is left. A thread that is stuck in a
    /// subscriber is left behind.
    pub(super) fn finish(&self) {
        self.queue.end();
        let Some(thread) = lock(&self.thread).take() else { return };
        let deadline = Instant::now() + LAST_EVENTS;
        let mut pause = Duration::from_micros(50);
        while !thread.is_finished() {
            if Instant::now() >= deadline || self.waits.load(Ordering::Acquire) {
                return;
            }
            thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_millis(5));
        }
        let _ = thread.join();
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.queue.end();
    }
}

/// What subscribers there are may want such events: a look at one word, which calls none of them.
#[inline(always)]
fn is_enabled(level: Level) -> bool {
    level <= STATIC_MAX_LEVEL && level <= LevelFilter::current()
}

impl Queue {
    fn end(&self) {
        lock(&self.state).ended = true;
        self.changed.notify_one();
    }

    /// Waits for something to tell. An empty batch if there is nothing until the time; `None` at the end.
    fn take(&self, until: Option<Instant>) -> Option<Batch> {
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            let is_over = state.ended;
            let is_due = state.limits.due().is_some_and(|due| is_over || due <= now);
            if !state.waiting.is_empty() || state.left_out > 0 || is_due {
                let beyond_limits = if is_due { state.limits.take(now, is_over) } else { Vec::new() };
                let left_out = std::mem::take(&mut state.left_out);
                let events = std::mem::take(&mut state.waiting);
                return Some(Batch { events, beyond_limits, left_out, total: state.total });
            }
            if is_over {
                return None;
            }
            if until.is_some_and(|until| until <= now) {
                return Some(Batch::default());
            }
            state.asleep = true;
            state = match [until, state.limits.due()].into_iter().flatten().min() {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(time) => {
                    let waited = self.changed.wait_timeout(state, time.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.asleep = false;
        }
    }
}

/// The events thread.
fn hand_over(queue: &Queue, scope: Option<Dispatch>) {
    match scope {
        Some(scope) => dispatcher::with_default(&scope, || emit_all(queue)),
        None => emit_all(queue),
    }
}

fn emit_all(queue: &Queue) {
    let mut ask_again = None;
    while let Some(Batch { events, beyond_limits, left_out, total }) = queue.take(ask_again) {
        if ask_again.is_some_and(|time| Instant::now() >= time) {
            ask_again = None;
            queue.wants_messages.store(true, Ordering::Relaxed);
        }
        for event in &events {
            let _ = contain(|| {
                if matches!(event, Event::Message { .. }) && !event_enabled!(target: TARGET, Level::DEBUG) {
                    queue.wants_messages.store(false, Ordering::Relaxed);
                    ask_again = Some(Instant::now() + ASK_AGAIN);
                    return;
                }
                event.emit();
            });
        }
        for LeftOut { kind, cause, events } in beyond_limits {
            let uid = if let Cause::User(uid) = cause { Some(uid) } else { None };
            let _ = contain(|| {
                warn!(
                    target: TARGET, event = "left_out", of = kind.name(), uid, events,
                    "so many events of one kind were brought about by one user that these were only counted"
                );
            });
        }
        if left_out > 0 {
            let _ = contain(|| {
                warn!(
                    target: TARGET, event = "dropped", lines = left_out, total,
                    "events were left out: the program's log takes them too slowly"
                );
            });
        }
    }
}

/// Runs what may panic, and gives the panic's text. The program's panic hook has told it already.
pub(super) fn contain<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "a panic without a text".to_owned(),
        };
        dispose(panic);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_uses_up_what_is_for_the_server_s_own_faults() {
        let no_descriptors = Event::Refused(Refused::new("descriptors", "cannot accept a connection"));
        assert_eq!(no_descriptors.limit(), Some((Kind::Refused, Cause::Server)));
        let who = Credentials { pid: 1, uid: 2, gid: 3 };
        let stranger = Event::Refused(Refused::new("user", "not allowed").of(who));
        assert_eq!(stranger.limit(), Some((Kind::Refused, Cause::User(2))));
        for last_words in [Event::Failed { why: String::new() }, Event::CutOff] {
            assert_eq!(last_words.limit(), None, "it is told whatever came before");
        }
    }
}
