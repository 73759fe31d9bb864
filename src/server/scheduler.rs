//! Whose worker may be busy without pause, where clients call without pause and there are too few CPUs for
//! all of them.
//!
//! A client that calls again as soon as it is answered, and its worker, each on a CPU, need some 0.15 µs for
//! a call. Where there are more such pairs than pairs of CPUs, the scheduler seldom runs both ends of one at
//! once, and nearly each call costs some switches between threads, 10 µs and more. So these workers take
//! turns. Whoever has none leaves its client's next request lie, and the client goes to sleep: those whose
//! turn it is have the CPUs to themselves. `benches/NOTES.md` says what that brought.
//!
//! **Who waits.** Only a worker that goes on: the first request after a sleep is served at once. A worker
//! whose turns brought few calls ([`FEW`]), because its service takes long or its client does, goes without
//! them, for longer each time, and a worker that never spins, or does nothing else, takes no part. A worker
//! that has nothing more to do in a full house lines up once more before it sleeps: a client without pause
//! has called again by the time that the turn comes. So it is found out again and again, once a second in the
//! end, whether a client that calls now and then is such a one, and a call of it may wait for that.
//!
//! **Why nobody waits for ever.** Nothing but speed depends on the turns. Whoever holds one ends it when it
//! sleeps for want of requests, before it waits for anything else, and, if others wait, after [`TURN`] and
//! some requests. If it does not, for its service takes long or waits for what another worker has yet to do,
//! the first in the queue takes its place, when it has waited [`STALE`] for itself and for each that was
//! before it. Nobody waits for more than [`LONGEST`], or beyond the end of its intake; then it serves without
//! a turn. One sleep is slept in a turn: the one that lets the scheduler move an end by its wake. If the
//! client is gone just then, the place is lost until the next in the queue takes it.
//!
//! Each change is made under the lock: a worker's word ([`Turn`]) is reset when it joins the queue, and set
//! when it is put among the holders.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::WaitStrategy;
use crate::os::processors;
use crate::os::usage::ThreadUse;
use crate::ring::{Closer, Turn, Yields};

/// How long a turn lasts while others wait. Handing it over takes some 100 µs.
const TURN: Duration = Duration::from_micros(500);

/// With more in the queue than have their turns in this time, turns are shorter, down to the shortest.
const ROUND: Duration = Duration::from_millis(40);
const SHORTEST: Duration = Duration::from_micros(150);

/// How long one waits, for itself and for each that is before it, until it takes a holder's place.
const STALE: Duration = Duration::from_millis(1);

/// The longest wait for a turn.
const LONGEST: Duration = Duration::from_millis(200);

/// Requests from one look at the clock to the next.
const CHECK: u32 = 64;

/// A turn of fewer requests was no use: one takes as long as the switches that the turn is to save.
const FEW: u32 = 64;

/// The first useless turns, until it goes without; one with a slow service counts for as many at once.
const PATIENCE: u32 = 4;

/// For how long it goes without turns until one is tried again, at first and at last; the latter as a power
/// of two.
const SHORTEST_PASS: Duration = Duration::from_millis(1);
const LONGEST_PASS: u32 = 10;

/// Yields to the other end of the pair, in the turn, after which a CPU is looked for where nobody is.
const SHARED: u32 = 2;

/// Who has a turn, and who waits for one.
pub(super) struct Scheduler {
    /// How many CPUs there are, if that is not to be asked.
    cpus: Option<usize>,
    state: Mutex<State>,
    /// Nobody else can have a turn now. These two are hints, for a look without the lock.
    full: AtomicBool,
    /// How many wait.
    waiting: AtomicU32,
}

#[derive(Default)]
struct State {
    /// The one that has had its turn for longest comes first.
    holders: Vec<Arc<Turn>>,
    queue: VecDeque<Arc<Turn>>,
}

impl Scheduler {
    /// For a server that has so many CPUs; without a number, as many as the process may use at each time.
    pub(super) fn new(cpus: Option<usize>) -> Scheduler {
        Scheduler { cpus, state: Mutex::default(), full: AtomicBool::new(false), waiting: AtomicU32::new(0) }
    }

    /// How many can have a turn at once: one for each pair of CPUs.
    fn places(&self) -> usize {
        (self.cpus.unwrap_or_else(processors::usable) / 2).max(1)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hint(&self, state: &State) {
        self.full.store(state.holders.len() >= self.places(), Ordering::Relaxed);
        self.waiting.store(u32::try_from(state.queue.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// How long a turn lasts now.
    fn turn(&self) -> Duration {
        match self.waiting.load(Ordering::Relaxed) {
            0 => Duration::MAX,
            waiting => (ROUND / waiting).clamp(SHORTEST, TURN),
        }
    }

    /// Waits for a turn. False if there was none to be had.
    fn enter(&self, turn: &Arc<Turn>, own: &Closer) -> bool {
        processors::look_again_if_due();
        let ahead = {
            let mut state = self.lock();
            let ahead = state.queue.len();
            if ahead == 0 && state.holders.len() < self.places() {
                state.holders.push(Arc::clone(turn));
                self.hint(&state);
                return true;
            }
            turn.take_back();
            state.queue.push_back(Arc::clone(turn));
            self.hint(&state);
            ahead
        };
        let patience = u32::try_from(ahead + 1).map_or(LONGEST, |places| STALE.saturating_mul(places));
        let deadline = Instant::now() + patience.min(LONGEST);
        while !turn.is_given() && !own.is_closed() && Instant::now() < deadline {
            turn.sleep(own, deadline);
        }
        turn.is_given() || self.give_up(turn, own)
    }

    /// Leaves the queue, unless the turn came meanwhile. Whoever is the first takes the place of the one that
    /// does not end.
    fn give_up(&self, turn: &Arc<Turn>, own: &Closer) -> bool {
        let mut state = self.lock();
        let Some(place) = state.queue.iter().position(|other| Arc::ptr_eq(other, turn)) else { return true };
        state.queue.remove(place);
        let replaces = place == 0 && !own.is_closed();
        if replaces {
            let oldest = state.holders.len().min(1);
            state.holders.drain(..oldest);
            state.holders.push(Arc::clone(turn));
        }
        self.hint(&state);
        replaces
    }

    /// Ends a turn, unless another has taken its place. The next one begins.
    fn leave(&self, turn: &Arc<Turn>) {
        let mut state = self.lock();
        state.holders.retain(|other| !Arc::ptr_eq(other, turn));
        // More than one, if the process may use more CPUs than before.
        while state.holders.len() < self.places()
            && let Some(next) = state.queue.pop_front()
        {
            state.holders.push(Arc::clone(&next));
            // Under the lock: later its owner may have had this turn, and wait for another.
            next.give();
        }
        self.hint(&state);
    }
}

/// Where a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Takes no part.
    Exempt,
    /// Has served nothing since it slept.
    Rested,
    /// The next request needs a turn.
    Due,
    /// Has a turn.
    Turn,
    /// Goes without one for some requests.
    Without,
}

/// What one worker knows of its turns.
pub(super) struct Slot {
    at: At,
    turn: Arc<Turn>,
    /// Requests until this is to be looked at again.
    left: u32,
    held: Held,
    /// Useless turns in a row.
    misses: u32,
    /// When the next is tried, if it goes without for now.
    passes_until: Option<Instant>,
}

/// What came of a turn so far.
struct Held {
    began: Instant,
    /// What the worker had used.
    used: ThreadUse,
    /// Requests, when [`Slot::left`] was last set.
    served: u32,
    /// The time for which it waited for requests, apart from the first looks, and when the present wait
    /// began.
    waited: Duration,
    waits_since: Option<Instant>,
    /// The worker's yields when it began.
    yields: Yields,
    /// It has looked for another CPU.
    moved: bool,
}

impl Held {
    fn new(yields: Yields) -> Held {
        let (waited, waits_since) = (Duration::ZERO, None);
        Held {
            began: Instant::now(),
            used: ThreadUse::now(),
            served: 0,
            waited,
            waits_since,
            yields,
            moved: false,
        }
    }

    /// How many useless turns this one counts for.
    fn misses(&self, served: u32, yields: Yields) -> u32 {
        let waited = self.waited + self.waits_since.map_or(Duration::ZERO, |since| since.elapsed());
        let much = served.saturating_add(4) * (TURN / FEW);
        if self.began.elapsed().saturating_sub(waited) > much {
            // The service computes, or it waits for something. Or others had the CPU, which tells nothing.
            let used = ThreadUse::now();
            let computed = used.cpu.saturating_sub(self.used.cpu).saturating_sub(waited) > much;
            let slow = computed || used.sleeps != self.used.sleeps;
            return if slow { PATIENCE } else { 0 };
        }
        let yields = yields.since(self.yields);
        // With the CPUs taken by those who have no turn, few calls tell nothing of this client, but that all
        // should line up.
        if served < FEW && 2 * yields.taken < yields.all { PATIENCE / 2 } else { 0 }
    }
}

impl Slot {
    pub(super) fn new(strategy: WaitStrategy) -> Slot {
        let exempt = strategy != WaitStrategy::Adaptive;
        Slot {
            at: if exempt { At::Exempt } else { At::Rested },
            turn: Arc::default(),
            left: 0,
            held: Held::new(Yields::default()),
            misses: 0,
            passes_until: None,
        }
    }

    /// Before each request. Whether [`needs_turn`](Self::needs_turn) is to be asked.
    #[inline(always)]
    pub(super) fn is_due(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                false
            }
            None => true,
        }
    }

    /// Whether this request must wait for [a turn](Self::begin). `yields` are the worker's so far, here and
    /// below.
    #[cold]
    pub(super) fn needs_turn(&mut self, scheduler: &Scheduler, yields: Yields) -> bool {
        match self.at {
            At::Exempt => self.left = u32::MAX,
            At::Rested => self.at = At::Due,
            At::Due if self.passes() => self.go_without(),
            At::Due => return true,
            At::Without => self.at = At::Due,
            At::Turn => {
                if scheduler.is_crowded() && self.held.began.elapsed() >= scheduler.turn() {
                    self.end(scheduler, yields);
                    return true;
                }
                self.held.served = self.held.served.saturating_add(CHECK); // a turn may last for days
                self.left = CHECK - 1;
            }
        }
        false
    }

    fn passes(&self) -> bool {
        self.passes_until.is_some_and(|until| Instant::now() < until)
    }

    fn go_without(&mut self) {
        (self.at, self.left) = (At::Without, CHECK - 1);
    }

    /// Waits for a turn. `own` is the worker's intake, whose close ends the wait.
    pub(super) fn begin(&mut self, scheduler: &Scheduler, own: &Closer, yields: Yields) {
        if scheduler.enter(&self.turn, own) {
            self.held = Held::new(yields);
            self.held.served = CHECK;
            (self.at, self.left) = (At::Turn, CHECK - 1);
        } else {
            self.missed(1);
            self.go_without();
        }
    }

    fn end(&mut self, scheduler: &Scheduler, yields: Yields) {
        let served = self.held.served - self.left;
        match self.held.misses(served, yields) {
            0 if served >= FEW => self.misses = 0,
            0 => {}
            misses => self.missed(misses),
        }
        scheduler.leave(&self.turn);
        (self.at, self.left) = (At::Due, 0);
    }

    fn missed(&mut self, misses: u32) {
        self.misses = self.misses.saturating_add(misses);
        if let Some(more) = self.misses.checked_sub(PATIENCE) {
            self.passes_until = Some(Instant::now() + SHORTEST_PASS * (1 << more.min(LONGEST_PASS)));
        }
    }

    /// Before it waits for anything but a request.
    pub(super) fn rest(&mut self, scheduler: &Scheduler, yields: Yields) {
        if self.at == At::Turn {
            self.end(scheduler, yields);
        }
    }

    /// Before it waits for a request that the first looks have not found. Whether it should look for a CPU
    /// where its client is not: the two have the CPUs to themselves, and share one.
    pub(super) fn waits(&mut self, scheduler: &Scheduler, yields: Yields) -> bool {
        if self.at != At::Turn {
            return false;
        }
        let now = Instant::now();
        self.held.waits_since = Some(now);
        if !scheduler.is_crowded() {
            return false;
        }
        if now - self.held.began >= scheduler.turn() {
            // The next request is one too many.
            self.held.served -= std::mem::take(&mut self.left);
        }
        let should_move = !self.held.moved && yields.since(self.held.yields).taken >= SHARED;
        self.held.moved |= should_move;
        should_move
    }

    /// Behind that look: the move was a sleep, too.
    pub(super) fn moved(&mut self) {
        self.held.used.sleeps = ThreadUse::now().sleeps;
    }

    /// Behind that wait.
    pub(super) fn waited(&mut self) {
        if let Some(since) = self.held.waits_since.take() {
            self.held.waited += since.elapsed();
        }
    }

    /// Before it sleeps because no request comes. Whether it has got a turn instead, and is to look again.
    pub(super) fn goes_on(&mut self, scheduler: &Scheduler, own: &Closer, yields: Yields) -> bool {
        match self.at {
            At::Exempt | At::Rested => return false,
            At::Turn => self.end(scheduler, yields),
            At::Due | At::Without if self.passes() => {}
            At::Due | At::Without if scheduler.is_full() => {
                self.begin(scheduler, own, yields);
                if self.at == At::Turn {
                    // In the midst of a wait, and without a request yet.
                    self.held.waits_since = Some(self.held.began);
                    (self.held.served, self.left) = (0, 0);
                    return true;
                }
            }
            At::Due | At::Without => {}
        }
        (self.at, self.left) = (At::Rested, 0);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// What should come at once may take this long on a busy machine.
    const LIMIT: Duration = Duration::from_secs(60);

    fn own() -> Closer {
        let (producer, consumer) = crate::ring::local(128).unwrap();
        std::mem::forget(producer); // either would close it
        let closer = consumer.closer();
        std::mem::forget(consumer);
        closer
    }

    fn turns<const N: usize>() -> [Arc<Turn>; N] {
        [(); N].map(|()| Arc::default())
    }

    fn queued(scheduler: &Scheduler) -> usize {
        scheduler.lock().queue.len()
    }

    fn hold(scheduler: &Scheduler, turn: &Arc<Turn>) -> bool {
        scheduler.lock().holders.iter().any(|other| Arc::ptr_eq(other, turn))
    }

    const NONE: Yields = Yields { all: 0, taken: 0 };
    const TAKEN: Yields = Yields { all: 10, taken: 10 };
    const QUIET: Yields = Yields { all: 10, taken: 1 };

    fn slot() -> Slot {
        Slot::new(WaitStrategy::Adaptive)
    }

    /// A request, and the turn that it may need.
    fn request(slot: &mut Slot, scheduler: &Scheduler) {
        if slot.is_due() && slot.needs_turn(scheduler, NONE) {
            slot.begin(scheduler, &own(), NONE);
        }
    }

    #[test]
    fn there_is_a_place_for_each_pair_of_cpus() {
        for (cpus, places) in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (64, 32)] {
            assert_eq!(Scheduler::new(Some(cpus)).places(), places);
        }
        let (scheduler, own) = (Scheduler::new(Some(4)), own());
        let [first, second] = turns();
        assert!(scheduler.enter(&first, &own) && !scheduler.is_full());
        assert!(scheduler.enter(&second, &own) && scheduler.is_full());
        scheduler.leave(&first);
        assert!(!scheduler.is_full() && hold(&scheduler, &second) && !hold(&scheduler, &first));
    }

    #[test]
    fn turns_come_in_order() {
        let (scheduler, own) = (Scheduler::new(Some(2)), own());
        let [first, second, third] = turns();
        assert!(scheduler.enter(&first, &own));
        scheduler.lock().queue.extend([Arc::clone(&second), Arc::clone(&third)]);
        for (ends, next) in [(&first, &second), (&second, &third)] {
            assert!(!next.is_given());
            scheduler.leave(ends);
            assert!(next.is_given() && hold(&scheduler, next) && !hold(&scheduler, ends));
        }
        scheduler.leave(&third);
        assert!(!scheduler.is_crowded() && !scheduler.is_full());
        assert!(scheduler.enter(&second, &own), "a second time");
    }

    /// Though the word in it may still be set from the time before.
    #[test]
    fn a_second_wait_waits_again() {
        let (scheduler, own, closed) = (Scheduler::new(Some(2)), own(), own());
        let [holder, waiter] = turns();
        assert!(scheduler.enter(&holder, &own));
        waiter.give();
        closed.close();
        assert!(!scheduler.enter(&waiter, &closed));
    }

    #[test]
    fn one_that_does_not_end_loses_its_place_to_the_first() {
        let (scheduler, own) = (Scheduler::new(Some(2)), own());
        let [stuck, first] = turns();
        assert!(scheduler.enter(&stuck, &own));
        assert!(scheduler.enter(&first, &own), "after a while");
        assert!(hold(&scheduler, &first) && !hold(&scheduler, &stuck));
        scheduler.leave(&stuck);
        assert!(hold(&scheduler, &first), "that was not its own any more");
        scheduler.leave(&first);
        assert!(scheduler.enter(&stuck, &own));
    }

    /// And whoever comes behind it still gets its turn.
    #[test]
    fn a_closed_channel_ends_the_wait() {
        let (scheduler, own, closed) = (Scheduler::new(Some(2)), own(), own());
        let [holder, leaving, next] = turns();
        assert!(scheduler.enter(&holder, &own));
        closed.close();
        assert!(!scheduler.enter(&leaving, &closed));
        assert!(hold(&scheduler, &holder) && queued(&scheduler) == 0 && !scheduler.is_crowded());
        thread::scope(|scope| {
            let waiter = scope.spawn(|| scheduler.enter(&next, &own));
            scheduler.leave(&holder);
            assert!(waiter.join().unwrap());
        });
    }

    /// Its turn came in the moment in which its time was over.
    #[test]
    fn who_gives_up_too_late_has_its_turn() {
        let (scheduler, own) = (Scheduler::new(Some(2)), own());
        let [holder, waiter] = turns();
        assert!(scheduler.enter(&holder, &own));
        scheduler.lock().queue.push_back(Arc::clone(&waiter));
        scheduler.leave(&holder);
        assert!(scheduler.give_up(&waiter, &own) && hold(&scheduler, &waiter));
    }

    /// The oldest turn ends, not another, and only for the first in the queue.
    #[test]
    fn who_gives_up_without_being_the_first_gets_nothing() {
        let (scheduler, own) = (Scheduler::new(Some(4)), own());
        let [old, young, first, second] = turns();
        assert!(scheduler.enter(&old, &own) && scheduler.enter(&young, &own));
        scheduler.lock().queue.extend([Arc::clone(&first), Arc::clone(&second)]);
        assert!(!scheduler.give_up(&second, &own));
        assert!(hold(&scheduler, &old) && hold(&scheduler, &young) && queued(&scheduler) == 1);
        assert!(scheduler.give_up(&first, &own));
        assert!(!hold(&scheduler, &old) && hold(&scheduler, &young) && hold(&scheduler, &first));
    }

    #[test]
    fn turns_are_shorter_the_more_wait_for_them() {
        let scheduler = Scheduler::new(Some(2));
        let turn_with = |waiting: usize| {
            let mut state = scheduler.lock();
            state.queue = (0..waiting).map(|_| Arc::default()).collect();
            scheduler.hint(&state);
            drop(state);
            scheduler.turn()
        };
        assert_eq!(turn_with(0), Duration::MAX);
        assert_eq!(turn_with(63), TURN);
        assert_eq!(turn_with(160), ROUND / 160);
        assert_eq!(turn_with(10_000), SHORTEST);
    }

    #[test]
    fn the_first_request_after_a_sleep_needs_no_turn() {
        let (scheduler, own) = (Scheduler::new(Some(2)), own());
        let mut slot = slot();
        for _ in 0..3 {
            request(&mut slot, &scheduler);
            assert_eq!((slot.at, scheduler.is_full()), (At::Due, false));
            request(&mut slot, &scheduler);
            assert_eq!((slot.at, scheduler.is_full()), (At::Turn, true));
            assert!(!slot.goes_on(&scheduler, &own, NONE));
            assert_eq!((slot.at, scheduler.is_full()), (At::Rested, false), "asleep");
            slot.passes_until = None; // should this thread have been kept from going on
        }
    }

    #[test]
    fn who_never_spins_or_does_nothing_else_takes_no_part() {
        let (scheduler, own) = (Scheduler::new(Some(2)), own());
        for strategy in [WaitStrategy::Spin, WaitStrategy::Park] {
            let mut slot = Slot::new(strategy);
            for _ in 0..3 {
                request(&mut slot, &scheduler);
            }
            assert!(!slot.waits(&scheduler, TAKEN) && !slot.goes_on(&scheduler, &own, NONE));
            assert_eq!((slot.at, slot.left, scheduler.is_full()), (At::Exempt, u32::MAX - 2, false));
        }
    }

    /// A turn that began so long ago.
    fn with_turn(scheduler: &Scheduler, ago: Duration) -> Slot {
        let mut slot = slot();
        request(&mut slot, scheduler);
        request(&mut slot, scheduler);
        assert_eq!(slot.at, At::Turn);
        slot.held.began -= ago;
        slot
    }

    #[test]
    fn a_turn_lasts_until_others_wait_and_its_time_is_over() {
        for (crowd, ago, ends) in [(1, TURN, true), (0, TURN, false), (1, Duration::ZERO, false)] {
            let scheduler = Scheduler::new(Some(2));
            let mut slot = with_turn(&scheduler, ago);
            if ago.is_zero() {
                slot.held.began = Instant::now() + LIMIT; // not over, however long this thread is kept from asking
            }
            scheduler.waiting.store(crowd, Ordering::Relaxed);
            for _ in 1..CHECK {
                assert!(!slot.is_due(), "a look at the clock costs too much");
            }
            assert!(slot.is_due());
            assert_eq!(slot.needs_turn(&scheduler, NONE), ends);
            assert_eq!(scheduler.is_full(), !ends);
        }
    }

    #[test]
    fn a_turn_may_last_for_days() {
        let scheduler = Scheduler::new(Some(2));
        let mut slot = with_turn(&scheduler, Duration::ZERO);
        (slot.held.served, slot.left, slot.misses) = (u32::MAX - 1, 0, 1);
        assert!(!slot.needs_turn(&scheduler, NONE));
        slot.rest(&scheduler, NONE);
        assert_eq!((slot.misses, scheduler.is_full()), (0, false));
    }

    /// In a wait there is time to look at the clock.
    #[test]
    fn a_turn_that_is_over_ends_behind_a_wait() {
        let scheduler = Scheduler::new(Some(2));
        let mut slot = with_turn(&scheduler, TURN);
        assert!(!slot.waits(&scheduler, NONE));
        assert!(!slot.is_due(), "nobody else wants one");
        scheduler.waiting.store(1, Ordering::Relaxed);
        assert!(!slot.waits(&scheduler, NONE));
        assert!(slot.is_due() && slot.needs_turn(&scheduler, NONE));
        assert_eq!(slot.held.served - slot.left, 2, "it was asked for two, and the one that is to come");
    }

    #[test]
    fn a_pair_that_shares_a_cpu_moves_once_in_a_turn() {
        let scheduler = Scheduler::new(Some(2));
        let mut slot = with_turn(&scheduler, Duration::ZERO);
        slot.held.began = Instant::now() + LIMIT;
        let shared = Yields { all: SHARED, taken: SHARED };
        assert!(!slot.waits(&scheduler, shared), "nobody else wants the CPUs");
        scheduler.waiting.store(1, Ordering::Relaxed);
        assert!(!slot.waits(&scheduler, Yields { all: 9, taken: SHARED - 1 }));
        assert!(slot.waits(&scheduler, shared));
        assert!(!slot.waits(&scheduler, shared), "once");
        slot.rest(&scheduler, NONE);
        assert!(!slot.waits(&scheduler, TAKEN), "it has no turn");
    }

    /// What a turn in which so much was served came to, with the worker's yields in it.
    fn misses_after(served: u32, yields: Yields, work: impl FnOnce(&mut Slot)) -> u32 {
        let scheduler = Scheduler::new(Some(2));
        let mut slot = with_turn(&scheduler, Duration::ZERO);
        slot.held = Held::new(NONE);
        slot.misses = 1;
        work(&mut slot);
        (slot.held.served, slot.left) = (served, 0);
        slot.rest(&scheduler, yields);
        slot.misses
    }

    #[test]
    fn a_turn_of_many_requests_makes_up_for_useless_ones() {
        assert_eq!(misses_after(10 * FEW, QUIET, |_| {}), 0);
        // By less than that nothing is decided while others have the CPUs.
        assert_eq!(misses_after(FEW - 1, TAKEN, |_| {}), 1);
    }

    #[test]
    fn a_client_that_calls_seldom_makes_a_turn_useless() {
        let waits = |slot: &mut Slot| {
            assert!(!slot.waits(&Scheduler::new(Some(2)), NONE));
            slot.held.waits_since = slot.held.waits_since.map(|since| since - LIMIT);
            slot.waited();
            assert!(slot.held.waited >= LIMIT, "as long as the turn, at least");
        };
        assert_eq!(misses_after(1, QUIET, waits), 1 + PATIENCE / 2);
        assert_eq!(misses_after(1, TAKEN, waits), 1);
    }

    #[test]
    fn a_service_that_computes_makes_a_turn_useless() {
        let computes = |_: &mut Slot| {
            let used = ThreadUse::now().cpu;
            while ThreadUse::now().cpu - used < 20 * TURN {
                std::hint::spin_loop();
            }
        };
        assert_eq!(misses_after(1, TAKEN, computes), 1 + PATIENCE);
        assert_eq!(misses_after(40 * FEW, TAKEN, computes), 0, "a little each time");
    }

    #[test]
    fn a_service_that_waits_makes_a_turn_useless() {
        assert_eq!(misses_after(1, TAKEN, |_| thread::sleep(20 * TURN)), 1 + PATIENCE);
        // Others had the CPU.
        assert_eq!(misses_after(1, QUIET, |slot| slot.held.began -= 20 * TURN), 1);
    }

    #[test]
    fn after_useless_turns_it_goes_without_for_longer_and_longer() {
        let (scheduler, own) = (Scheduler::new(Some(2)), own());
        let mut slot = slot();
        slot.missed(PATIENCE - 1);
        assert!(!slot.passes());
        let mut last = Duration::ZERO;
        for more in 0..20 {
            let before = Instant::now();
            slot.missed(1);
            let pass = slot.passes_until.unwrap() - before;
            assert!(pass > last || more > LONGEST_PASS, "{pass:?}");
            last = pass;
        }
        assert!(last < 2 * (SHORTEST_PASS * (1 << LONGEST_PASS)), "{last:?}");
        slot.passes_until = Some(Instant::now() + LIMIT);
        for requests in [1, 1, CHECK, CHECK] {
            for _ in 0..requests {
                request(&mut slot, &scheduler);
                assert!(!scheduler.is_full());
            }
        }
        let [holder] = turns();
        assert!(scheduler.enter(&holder, &own));
        slot.at = At::Due;
        assert!(!slot.goes_on(&scheduler, &own, NONE), "it does not line up either");
        scheduler.leave(&holder);
        slot.passes_until = Some(Instant::now());
        request(&mut slot, &scheduler);
        request(&mut slot, &scheduler);
        assert_eq!(slot.at, At::Turn);
    }

    #[test]
    fn in_a_full_house_it_lines_up_once_more_before_it_sleeps() {
        let (scheduler, own) = (Scheduler::new(Some(2)), own());
        let [holder] = turns();
        let mut slot = slot();
        assert!(scheduler.enter(&holder, &own));
        assert!(!slot.goes_on(&scheduler, &own, NONE), "it has served nothing");
        request(&mut slot, &scheduler);
        assert!(slot.goes_on(&scheduler, &own, NONE), "in place of the one that does not end");
        assert_eq!(
            (slot.at, hold(&scheduler, &slot.turn), hold(&scheduler, &holder)),
            (At::Turn, true, false)
        );
    }
}
