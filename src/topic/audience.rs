//! `Audience`: the subscriptions of one publisher, which its watcher changes and its writer heeds.
//!
//! The writer has its own copy of the list, and makes a new one when the *generation* has changed: one load
//! of a private word for each sample. It looks at that word behind each header, and before each raise of the
//! intent.
//!
//! **Attaching.** Who attaches a subscription adds it, changes the generation, makes a barrier on all threads
//! of the process, and wakes the reader whatever its word says. So a header that the writer stored before it
//! could see the change is visible to the reader's look after that wake, and each later one is followed by
//! the writer's own fence and look. Where the kernel refuses such barriers, the writer makes a fence behind
//! every sample, and the watcher one in the barrier's place.
//!
//! **A reliable reader** is waited for from a position on that no later than at the barrier was the writer's.
//! The one raise of the intent that the writer may have decided on before it saw the change does not lap that
//! position, because no raise laps a reader that has read everything.

use std::collections::HashMap;
use std::io;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::carry::{Carried, carry};
use super::page::{Page, State};
use super::patience::Debt;
use super::shape::{ENDED, Shape};
use super::writer::Ended;
use crate::os::barrier;
use crate::ring::{ARMED, AWAKE, CloseReason, Kick, OwnPipe, PARKED, SPARE_HINTS};
use crate::shm::backend::{
    Arc, AtomicU32, AtomicU64, ForkSafeWord, Mutex, MutexGuard, Ordering, PipeWriter, fence,
};
use crate::shm::futex::{self, Scope};
use crate::shm::{FOREIGN, View, Word32};
use crate::testing::failpoints::failpoint;
use crate::wire::Peer;

/// A subscription that is to be attached.
#[derive(Debug)]
pub(crate) struct Newcomer {
    /// The server's number.
    pub(crate) id: u64,
    pub(crate) peer: Peer,
    pub(crate) page: View,
    /// The line of the page at which the words begin.
    pub(crate) line: u16,
    /// Whether its reader may sleep, or wait in an event loop.
    pub(crate) may_sleep: bool,
    /// Whether the publisher is to wait for it.
    pub(crate) reliable: bool,
    /// Whether it was there before the topic, and is owed the first sample.
    pub(crate) from_beginning: bool,
    /// The reader's pipe, if it may wait in an event loop.
    pub(crate) kick: Kick,
    /// The pipe by which the reader wakes a writer that waits in an event loop.
    pub(crate) pipe: Option<OwnPipe>,
}

/// A reader that the publisher gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) peer: Peer,
    pub(crate) why: State,
}

/// The first ban of a user, and the longest. Each is twice as long as the one before.
const FIRST_BAN: Duration = Duration::from_secs(1);
const LONGEST_BAN: Duration = Duration::from_secs(600);

/// Evictions that nobody has asked for. The oldest are dropped.
const MOST_EVICTIONS: usize = 256;

/// What the floor of a reliable reader is before it is known.
const PENDING: u64 = u64::MAX;

/// Where a reader was woken that was not woken yet.
const NEVER: u64 = u64::MAX;

/// One subscription as the writer knows it.
pub(super) struct Attached {
    pub(super) id: u64,
    pub(super) peer: Peer,
    pub(super) page: Page,
    pub(super) may_sleep: bool,
    pub(super) reliable: bool,
    kick: Kick,
    pub(super) pipe: Mutex<Option<OwnPipe>>,
    /// From this position on the writer waits for it.
    floor: AtomicU64,
    /// Only the writer changes these: how often it was woken where it was woken before, where that was, the
    /// cursor that was seen last, and how much patience it has used up.
    wakes: AtomicU64,
    woken_at: AtomicU64,
    pub(super) seen: AtomicU64,
    debt: Mutex<Option<Debt>>,
}

impl Attached {
    /// The position from which on the writer waits for it, which is this one if none was set before.
    pub(super) fn floor(&self, now: u64) -> u64 {
        match self.floor.compare_exchange(PENDING, now, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => now,
            Err(set) => set,
        }
    }

    pub(super) fn debt(&self) -> Option<Debt> {
        *self.debt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_debt(&self, debt: Debt) {
        *self.debt.lock().unwrap_or_else(PoisonError::into_inner) = Some(debt);
    }

    /// Wakes the reader if it sleeps or is armed. Returns false if it lets itself be woken again and again,
    /// and gets no further, or says that it is beyond the tail.
    #[cold]
    #[inline(never)]
    pub(super) fn wake(&self, tail: u64) -> bool {
        let cursor = self.page.cursor().load(Ordering::Relaxed);
        let before = self.woken_at.swap(cursor, Ordering::Relaxed);
        if cursor > tail {
            return false;
        }
        let wakes = self.wakes.load(Ordering::Relaxed);
        if before == NEVER || cursor > before {
            // One that was woken too late finds nothing, and is then woken for a sample where it was: that is
            // nobody's fault. So what was fruitful makes up for it.
            self.wakes.store(wakes.saturating_sub(1), Ordering::Relaxed);
        } else if wakes >= SPARE_HINTS {
            return false;
        } else {
            self.wakes.store(wakes + 1, Ordering::Relaxed);
        }
        self.wake_in_any_case();
        true
    }

    /// Wakes the reader, because something else than a sample is there to be seen.
    pub(super) fn wake_in_any_case(&self) {
        match self.page.parked.swap(AWAKE, Ordering::Relaxed) {
            PARKED => futex::wake(&self.page.parked, Scope::Shared, 1),
            ARMED => self.kick.kick(),
            _ => {}
        }
    }
}

/// The subscriptions of one publisher. A clone is the same audience.
#[derive(Clone)]
pub(crate) struct Audience(Arc<Inner>);

struct Inner {
    /// Changed with each change of the rest. It is odd, and [`FOREIGN`] in a child that was forked later.
    generation: ForkSafeWord,
    /// 0, or why nothing is published any more.
    closed: AtomicU32,
    /// Behind the writer's last record.
    tail: AtomicU64,
    /// How long the publisher waits for a reliable reader, if it does.
    patience: Option<Duration>,
    /// Wakes a writer that waits in an event loop.
    kick: Kick,
    state: Mutex<Changing>,
}

#[derive(Default)]
struct Changing {
    all: Vec<Arc<Attached>>,
    /// The segment in which the writer is, once there is a writer.
    segment: Option<(View, Shape)>,
    evictions: Vec<Gone>,
    bans: HashMap<u32, Ban>,
    /// How many reliable readers are to come, and until when they are waited for.
    expected: Option<(u32, Instant)>,
    /// How many reliable readers that were there before the topic were admitted to this segment.
    came: u32,
    /// The readers of the segment that the writer has yet to leave.
    former: Vec<Arc<Attached>>,
    successor: Option<Successor>,
}

/// The segment in which the writer is to go on.
pub(super) struct Successor {
    pub(super) view: View,
    pub(super) shape: Shape,
    /// What it has of the former one.
    pub(super) carried: Option<Carried>,
}

struct Ban {
    until: Instant,
    length: Duration,
}

/// What the writer copies.
#[derive(Default)]
pub(super) struct Heeded {
    pub(super) generation: u32,
    pub(super) all: Vec<Arc<Attached>>,
    /// Why nothing is published any more, if so.
    pub(super) closed: Option<CloseReason>,
    /// Until when reliable readers are expected.
    pub(super) expected: Option<Instant>,
    /// Whether the writer is to go on in another segment. Nobody is waited for in this one then.
    pub(super) has_successor: bool,
}

impl Audience {
    /// Of a publisher that waits so long for each of its reliable readers, or offers nothing of the kind.
    pub(crate) fn new(patience: Option<Duration>) -> io::Result<Audience> {
        Ok(Audience(Arc::new(Inner {
            generation: ForkSafeWord::not_inherited(FOREIGN + 1)?,
            closed: AtomicU32::new(0),
            tail: AtomicU64::new(0),
            patience,
            kick: Kick::default(),
            state: Mutex::new(Changing::default()),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Changing> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the writer see a change, and ends its wait.
    fn tell_change(&self) {
        if self.is_forked() {
            return;
        }
        self.0.generation.fetch_add(2, Ordering::Release);
        futex::wake(&self.0.generation, Scope::Private, 1);
        self.0.kick.kick();
    }

    /// The writer may wait in an event loop from now on, where this pipe tells it of a change.
    pub(crate) fn kicks(&self, pipe: PipeWriter) {
        self.0.kick.set(pipe);
    }

    /// Whether this process is a forked child of the publisher's, which must not touch anything.
    pub(super) fn is_forked(&self) -> bool {
        self.0.generation.load(Ordering::Relaxed) == FOREIGN
    }

    // ---- for the watcher

    /// Attaches a subscription, or refuses it, and wakes its reader. Does not block.
    pub(crate) fn admit(&self, newcomer: Newcomer) {
        let Newcomer { id, peer, page, line, may_sleep, reliable, from_beginning, kick, pipe } = newcomer;
        let attached = Arc::new(Attached {
            id,
            peer,
            page: Page::new(page, line),
            may_sleep,
            reliable,
            kick,
            pipe: Mutex::new(pipe),
            floor: AtomicU64::new(if from_beginning { 0 } else { PENDING }),
            wakes: AtomicU64::new(0),
            woken_at: AtomicU64::new(NEVER),
            seen: AtomicU64::new(0),
            debt: Mutex::new(None),
        });
        let admitted = {
            let mut state = self.lock();
            if state.successor.is_some() {
                // The writer has not begun there.
                attached.floor(0);
            }
            let admitted = !reliable || self.0.patience.is_some() && !state.is_banned(peer.uid);
            if reliable && from_beginning {
                state.came += 1;
                state.expect_no_more();
            }
            if admitted {
                state.all.push(Arc::clone(&attached));
            }
            admitted
        };
        failpoint!("audience.added", [topic, server], seldom);
        self.tell_change();
        if admitted {
            self.make_barrier();
            if reliable {
                attached.floor(self.0.tail.load(Ordering::Acquire));
            }
        }
        failpoint!("audience.barrier", [topic, server], seldom);
        attached.page.set_state(if admitted { State::Attached } else { State::Refused });
        fence(Ordering::SeqCst);
        attached.wake_in_any_case();
        failpoint!("audience.woken", [topic, server], seldom);
    }

    /// Behind it the writer has seen what was stored before, or shows what it has published.
    fn make_barrier(&self) {
        if always_fences() {
            fence(Ordering::SeqCst);
        } else {
            barrier::on_all_threads();
        }
    }

    /// A subscription has ended.
    pub(crate) fn leave(&self, id: u64) {
        let left = {
            let mut state = self.lock();
            let at = state.all.iter().position(|attached| attached.id == id);
            at.map(|at| state.all.swap_remove(at))
        };
        if left.is_some() {
            self.tell_change();
        }
    }

    /// The writer does not begin its second pass before so many reliable readers were admitted that were
    /// there before the topic, or then. Some may have come before this is said.
    pub(crate) fn expect(&self, reliable: u32, until: Instant) {
        if reliable > 0 {
            let mut state = self.lock();
            state.expected = Some((reliable, until));
            state.expect_no_more();
            drop(state);
            self.tell_change();
        }
    }

    /// The writer goes on in this memory, which another server made, and ends the one it has as moved. The
    /// readers that were admitted so far stay with the former one; those that come read this one, which
    /// begins with the newest samples of the former one. A writer that publishes meanwhile waits for
    /// that.
    pub(crate) fn succeed(&self, view: View, shape: Shape) {
        let unused = {
            let mut state = self.lock();
            // Behind this a writer sees that there is something to heed, before the next sample but one, and
            // waits for the lock.
            self.tell_change();
            self.make_barrier();
            let carried = state.segment.as_ref().and_then(|former| carry(former, &view, &shape));
            let readers = std::mem::take(&mut state.all);
            state.came = 0;
            match state.successor.replace(Successor { view, shape, carried }) {
                // The writer has not even begun with it.
                Some(unused) => Some((ended_word(&unused.view), readers)),
                None => {
                    state.former = readers;
                    None
                }
            }
        };
        if let Some((ended, readers)) = unused {
            end_segment(&ended, Ended::Moved, &readers);
        }
        failpoint!("audience.succeeded", [topic], seldom);
        self.tell_change();
    }

    /// Ends the segment, whatever the writer does: the client has ended. A writer that is about to publish
    /// may do so in vain.
    pub(crate) fn conclude(&self) {
        let (ended, readers) = {
            let state = self.lock();
            (state.segment.as_ref().map(|(view, _)| ended_word(view)), state.all.clone())
        };
        if let Some(ended) = ended.filter(|_| !self.is_forked()) {
            end_segment(&ended, Ended::Closed, &readers);
        }
    }

    /// Nothing is published any more, for this reason; the first one stays. With atomics and a system call
    /// only, for a signal handler.
    pub(crate) fn close(&self, reason: CloseReason) {
        let reason = reason.as_word();
        let _ = self.0.closed.compare_exchange(0, reason, Ordering::SeqCst, Ordering::SeqCst);
        self.tell_change();
    }

    /// Why nothing is published any more, if so.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        CloseReason::from_word(self.0.closed.load(Ordering::SeqCst))
    }

    // ---- for the publisher

    /// Behind the writer's last record.
    #[cfg(all(test, loom))]
    pub(super) fn tail(&self) -> u64 {
        self.0.tail.load(Ordering::Acquire)
    }

    /// Whether the writer sleeps until one of its readers has read more.
    #[cfg(test)]
    pub(super) fn is_waited_for(&self) -> bool {
        self.lock()
            .all
            .iter()
            .any(|attached| attached.page.publisher_parked.load(Ordering::Relaxed) == PARKED)
    }

    /// How many subscriptions are attached.
    pub(crate) fn count(&self) -> usize {
        self.lock().all.len()
    }

    /// The readers that were given up since the last time.
    pub(crate) fn take_evictions(&self) -> Vec<Gone> {
        std::mem::take(&mut self.lock().evictions)
    }

    // ---- for the writer

    #[inline(always)]
    pub(crate) fn generation(&self) -> u32 {
        self.0.generation.load(Ordering::Relaxed)
    }

    pub(super) fn generation_word(&self) -> &AtomicU32 {
        &self.0.generation
    }

    #[inline(always)]
    pub(super) fn set_tail(&self, position: u64) {
        self.0.tail.store(position, Ordering::Release);
    }

    pub(super) fn patience(&self) -> Duration {
        self.0.patience.unwrap_or(Duration::ZERO)
    }

    /// What is to be heeded from now on.
    #[cold]
    pub(super) fn heed(&self) -> Heeded {
        // Before the rest is read, so that a later change is seen, too.
        let generation = self.0.generation.load(Ordering::Acquire);
        if generation == FOREIGN {
            return Heeded { generation, closed: Some(CloseReason::FORKED), ..Heeded::default() };
        }
        let state = self.lock();
        let all = if state.successor.is_some() { Vec::new() } else { state.all.clone() };
        Heeded {
            generation,
            closed: self.reason(),
            all,
            expected: state.expected.map(|(_, until)| until),
            has_successor: state.successor.is_some(),
        }
    }

    /// The memory in which the writer is to go on, and the readers of the former one.
    #[cold]
    pub(super) fn take_successor(&self) -> Option<(Successor, Vec<Arc<Attached>>)> {
        let mut state = self.lock();
        let successor = state.successor.take()?;
        state.segment = Some((successor.view.clone(), successor.shape));
        // Under the lock, because who is admitted from now on begins there.
        self.set_tail(successor.carried.as_ref().map_or(0, |carried| carried.position));
        Some((successor, std::mem::take(&mut state.former)))
    }

    /// The writer's first segment.
    pub(super) fn begin(&self, view: &View, shape: Shape) {
        self.lock().segment = Some((view.clone(), shape));
    }

    /// Ends the writer's segment, and wakes its readers: also those that came since it looked at them.
    pub(super) fn end(&self, ended: &Word32, how: Ended) {
        if self.is_forked() {
            return;
        }
        ended.store(how as u32, Ordering::Release);
        failpoint!("topic.ended", [topic, server], seldom);
        fence(Ordering::SeqCst);
        // Who is admitted later is woken behind that, and looks.
        let readers = self.lock().all.clone();
        end_segment(ended, how, &readers);
    }

    /// Nobody is expected any more.
    pub(super) fn stop_expecting(&self) {
        self.lock().expected = None;
    }

    /// Gives a reader up. To be called before the intent may pass it.
    #[cold]
    pub(super) fn evict(&self, attached: &Attached, why: State) {
        attached.page.set_state(why);
        failpoint!("evict.said", [topic], seldom);
        let gone = Gone { peer: attached.peer, why };
        {
            let mut state = self.lock();
            state.all.retain(|other| other.id != attached.id);
            if state.evictions.len() == MOST_EVICTIONS {
                state.evictions.remove(0);
            }
            state.evictions.push(gone);
            state.ban(attached.peer.uid);
        }
        self.tell_change();
        failpoint!("evict.noted", [topic], seldom);
        fence(Ordering::SeqCst);
        attached.wake_in_any_case();
    }
}

pub(super) fn ended_word(view: &View) -> Word32 {
    view.pin32(ENDED)
}

/// Says that nothing more comes in a segment, and wakes its readers.
pub(super) fn end_segment(ended: &Word32, how: Ended, readers: &[Arc<Attached>]) {
    ended.store(how as u32, Ordering::Release);
    fence(Ordering::SeqCst);
    for attached in readers {
        attached.wake_in_any_case();
    }
}

/// Whether the writer makes a fence behind every sample.
pub(super) fn always_fences() -> bool {
    cfg!(loom) || !barrier::is_available()
}

impl Changing {
    /// Nobody is expected any more once all have come.
    fn expect_no_more(&mut self) {
        let came = self.came;
        self.expected.take_if(|(expected, _)| *expected <= came);
    }

    fn is_banned(&self, uid: u32) -> bool {
        self.bans.get(&uid).is_some_and(|ban| Instant::now() < ban.until)
    }

    /// The user's reliable subscriptions are refused for a while, which is longer each time. A ban that was
    /// over for as long as it lasted is forgotten.
    fn ban(&mut self, uid: u32) {
        let now = Instant::now();
        self.bans.retain(|_, ban| now < ban.until + ban.length);
        let length = self.bans.get(&uid).map_or(FIRST_BAN, |ban| LONGEST_BAN.min(2 * ban.length));
        self.bans.insert(uid, Ban { until: now + length, length });
    }
}

impl std::fmt::Debug for Audience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audience").field("subscriptions", &self.count()).finish_non_exhaustive()
    }
}
