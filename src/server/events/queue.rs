//! Queues events, and hands them to the program's `tracing` subscriber on a thread of their own.
//!
//! A subscriber is code of the program that embeds the server. It may panic, sleep, register a client of this
//! very server, or shut the server down. So no thread that clients depend on calls it. The acceptor and the
//! workers put their events into a bounded queue; the thread `rp-events` hands them to the subscriber and
//! contains its panics. Events for which the queue has no room are dropped and counted.
//!
//! A program may have set a subscriber only for the thread that starts the server. The events thread uses the
//! same one.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use tracing::Level;
use tracing::dispatcher::{self, Dispatch};
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing::subscriber::NoSubscriber;

use super::event::{Event, report_dropped, report_left_out, wants_calls, wants_messages};
use super::limits::{EventLimits, LeftOut};
use crate::os::threads;
use crate::server::panics::contain;
use crate::server::shared::lock;

/// How many events may wait. They take a megabyte or two.
const QUEUE: usize = 8192;

/// How long the end of a server waits for a subscriber that is busy.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// How long to wait before asking a subscriber again that did not want messages or calls.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The queue as the server's threads see it, and the thread that empties it.
pub(crate) struct Events {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The events thread.
    id: OnceLock<ThreadId>,
    /// The events thread waits for the end of the server, inside a subscriber.
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
    /// False while the subscriber is known not to want an event per message.
    wants_messages: AtomicBool,
    /// The same for an event per call.
    wants_calls: AtomicBool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Event>,
    limits: EventLimits,
    /// Events for which the queue had no room: since the last report, and in all.
    dropped: u64,
    total: u64,
    /// The events thread sleeps and must be woken.
    asleep: bool,
    ended: bool,
}

/// What the events thread takes at once.
#[derive(Default)]
struct Batch {
    events: VecDeque<Event>,
    beyond_limits: Vec<LeftOut>,
    dropped: u64,
    total: u64,
}

impl Events {
    /// A queue without its thread.
    pub(crate) fn new() -> Events {
        let queue = Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            wants_messages: true.into(),
            wants_calls: true.into(),
        };
        Events { queue: Arc::new(queue), thread: Mutex::new(None), id: OnceLock::new(), waits: false.into() }
    }

    /// Starts the events thread if there is a subscriber. Otherwise the first event for a later subscriber
    /// starts it.
    pub(crate) fn start(&self) -> io::Result<()> {
        // Without one, the events thread uses the global subscriber, even one that is set later.
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

    /// Whether this is the events thread, so that the caller is a subscriber.
    pub(crate) fn is_this_thread(&self) -> bool {
        self.id.get() == Some(&thread::current().id())
    }

    /// The caller is about to wait for the end of the server. If it is a subscriber, the server does not wait
    /// for it in return.
    pub(crate) fn before_join(&self) {
        if self.is_this_thread() {
            self.waits.store(true, Ordering::Release);
        }
    }

    /// Whether there may be an event for each message, or even for each call. Reads one word.
    #[inline(always)]
    pub(crate) fn may_want_messages(&self) -> bool {
        is_enabled(Level::DEBUG)
    }

    /// Whether to make an event for each message. Reads two words.
    pub(crate) fn wants_messages(&self) -> bool {
        is_enabled(Level::DEBUG) && self.queue.wants_messages.load(Ordering::Relaxed)
    }

    /// Whether to make an event for each call. Reads two words.
    pub(crate) fn wants_calls(&self) -> bool {
        is_enabled(Level::TRACE) && self.queue.wants_calls.load(Ordering::Relaxed)
    }

    /// Queues an event if a subscriber may want it. Never waits for a subscriber.
    pub(crate) fn tell(&self, event: Event) {
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
            // Wake the events thread only if a report is now due earlier than it knows.
            if state.limits.due() == due {
                return;
            }
        } else if state.waiting.len() < QUEUE {
            state.waiting.push_back(event);
        } else {
            state.dropped += 1;
            state.total += 1;
        }
        let wakes = std::mem::take(&mut state.asleep);
        drop(state);
        if wakes {
            self.queue.changed.notify_one();
        }
        if self.id.get().is_none() {
            // If no thread can be started now, the next event tries again.
            let _ = self.start_thread(None);
        }
    }

    /// Closes the queue and gives the subscriber [`LAST_EVENTS`] for the rest. A thread that is stuck in a
    /// subscriber is left behind.
    pub(crate) fn finish(&self) {
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

/// Whether any subscriber may want events of this level. Reads one word and calls no subscriber.
#[inline(always)]
fn is_enabled(level: Level) -> bool {
    level <= STATIC_MAX_LEVEL && level <= LevelFilter::current()
}

impl Queue {
    fn end(&self) {
        lock(&self.state).ended = true;
        self.changed.notify_one();
    }

    /// Waits for something to report. Returns an empty batch at the time `until`, and `None` at the end.
    fn take(&self, until: Option<Instant>) -> Option<Batch> {
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            let is_over = state.ended;
            let is_due = state.limits.due().is_some_and(|due| is_over || due <= now);
            if !state.waiting.is_empty() || state.dropped > 0 || is_due {
                let beyond_limits = if is_due { state.limits.take(now, is_over) } else { Vec::new() };
                let dropped = std::mem::take(&mut state.dropped);
                let events = std::mem::take(&mut state.waiting);
                return Some(Batch { events, beyond_limits, dropped, total: state.total });
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

/// Whether this thread has a subscriber. Without one, nothing is emitted: `tracing` would note for the whole
/// process that nobody wants these events, also for a server whose thread has a subscriber of its own.
fn has_subscriber() -> bool {
    dispatcher::get_default(|now| !now.is::<NoSubscriber>())
}

/// The events thread's work.
fn hand_over(queue: &Queue, scope: Option<Dispatch>) {
    match scope {
        Some(scope) => dispatcher::with_default(&scope, || emit_all(queue)),
        None => emit_all(queue),
    }
}

fn emit_all(queue: &Queue) {
    let mut ask_again = None;
    while let Some(Batch { events, beyond_limits, dropped, total }) = queue.take(ask_again) {
        if ask_again.is_some_and(|time| Instant::now() >= time) {
            ask_again = None;
            queue.wants_messages.store(true, Ordering::Relaxed);
            queue.wants_calls.store(true, Ordering::Relaxed);
        }
        if !has_subscriber() {
            continue;
        }
        for event in &events {
            let _ = contain(|| {
                let (wants, known) = match event {
                    Event::Message { .. } => (wants_messages(), &queue.wants_messages),
                    Event::Call { .. } => (wants_calls(), &queue.wants_calls),
                    _ => return event.emit(),
                };
                if !wants {
                    known.store(false, Ordering::Relaxed);
                    ask_again = Some(Instant::now() + ASK_AGAIN);
                    return;
                }
                event.emit();
            });
        }
        for left_out in &beyond_limits {
            let _ = contain(|| report_left_out(left_out));
        }
        if dropped > 0 {
            let _ = contain(|| report_dropped(dropped, total));
        }
    }
}
