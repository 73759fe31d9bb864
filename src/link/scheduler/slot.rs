//! One worker's part in the scheduling: when it needs a slot, and whether slots are of use to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::Pid;

use super::{Scheduler, TIME_SLICE};
use crate::os::neighbour::move_to_neighbour;
use crate::os::usage::ThreadUse;
use crate::ring::{Awake, Closer, Consumer, Deadline, Found, Signal, Stop, WaitStrategy, Yields};

/// How many requests are served between two looks at the clock.
pub(super) const CHECK: u32 = 64;

/// A slot in which fewer requests were served was of little use: each request then takes as long as the
/// thread switches that the slot saves.
pub(super) const FEW: u32 = 64;

/// After this many useless slots in a row, the worker goes without. A slot with a slow service counts for as
/// many at once.
pub(super) const PATIENCE: u32 = 4;

/// For how long a worker goes without: the first time, and at most. The latter is given as a power of two.
pub(super) const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
pub(super) const LONGEST_PAUSE: u32 = 10;

/// After this many yields to the client's thread within one slot, the worker looks for another CPU.
pub(super) const SHARED: u32 = 2;

/// Where a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Takes no part.
    Exempt,
    /// Has served nothing since it slept.
    Rested,
    /// The next request needs a slot.
    Due,
    /// Has a slot.
    Holding,
    /// Goes without for some requests.
    Without,
}

/// One worker's part in the scheduling.
pub(crate) struct Slot {
    pub(super) scheduler: Arc<Scheduler>,
    /// Its close ends a wait for a slot.
    pub(super) gate: Closer,
    /// A thread of the process whose CPUs are never changed; see [`move_to_neighbour`].
    reference: Option<Pid>,
    pub(super) stage: Stage,
    pub(super) signal: Arc<Signal>,
    /// Requests until the slot is looked at again.
    pub(super) left: u32,
    pub(super) held: Held,
    /// Useless slots in a row.
    pub(super) misses: u32,
    /// When the next slot is tried, if the worker goes without for now.
    pub(super) pause_until: Option<Instant>,
    /// The client has sent a message to another client since the worker last waited.
    passed_on: bool,
}

/// What happened in a slot so far.
pub(super) struct Held {
    pub(super) began: Instant,
    /// What the worker's thread had used at the beginning of the slot.
    pub(super) used: ThreadUse,
    /// How many requests were served when [`Slot::left`] was last set.
    pub(super) served: u32,
    /// How long the worker waited for requests, apart from the first looks, and when the present wait began.
    pub(super) waited: Duration,
    pub(super) waits_since: Option<Instant>,
    /// The worker's yields at the beginning of the slot.
    pub(super) yields: Yields,
    /// The worker has looked for another CPU.
    pub(super) moved: bool,
}

impl Held {
    pub(super) fn new(yields: Yields) -> Held {
        Held::of(yields, ThreadUse::now())
    }

    fn of(yields: Yields, used: ThreadUse) -> Held {
        let (waited, waits_since) = (Duration::ZERO, None);
        Held { began: Instant::now(), used, served: 0, waited, waits_since, yields, moved: false }
    }

    /// How many useless slots this one counts for.
    fn misses(&self, served: u32, yields: Yields) -> u32 {
        let waited = self.waited + self.waits_since.map_or(Duration::ZERO, |since| since.elapsed());
        let much = served.saturating_add(4) * (TIME_SLICE / FEW);
        if self.began.elapsed().saturating_sub(waited) > much {
            // Either the service computes or waits for something, or others had the CPU, which says nothing.
            let used = ThreadUse::now();
            let computed = used.cpu.saturating_sub(self.used.cpu).saturating_sub(waited) > much;
            let slow = computed || used.sleeps != self.used.sleeps;
            return if slow { PATIENCE } else { 0 };
        }
        let yields = yields.since(self.yields);
        // While workers without a slot take the CPUs, few requests say nothing about this client.
        if served < FEW && 2 * yields.taken < yields.all { PATIENCE / 2 } else { 0 }
    }
}

impl Slot {
    pub(crate) fn new(
        scheduler: &Arc<Scheduler>,
        strategy: WaitStrategy,
        gate: Closer,
        reference: Option<Pid>,
    ) -> Slot {
        let exempt = strategy != WaitStrategy::Adaptive;
        Slot {
            scheduler: Arc::clone(scheduler),
            gate,
            reference,
            stage: if exempt { Stage::Exempt } else { Stage::Rested },
            signal: Arc::default(),
            left: 0,
            held: Held::of(Yields::default(), ThreadUse::default()),
            misses: 0,
            pause_until: None,
            passed_on: false,
        }
    }

    /// Before each request: whether it must wait until a slot is [acquired](Self::acquire).
    #[inline(always)]
    pub(crate) fn before_request(&mut self, requests: &Consumer) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                false
            }
            None => self.needs_slot(requests.yields()),
        }
    }

    /// The same when it is time for a closer look. `yields` are the worker's so far, here and below.
    #[cold]
    pub(super) fn needs_slot(&mut self, yields: Yields) -> bool {
        match self.stage {
            Stage::Exempt => self.left = u32::MAX,
            Stage::Rested => self.stage = Stage::Due,
            Stage::Due if self.pauses() => self.go_without(),
            Stage::Due => return true,
            Stage::Without => self.stage = Stage::Due,
            Stage::Holding => {
                if self.scheduler.has_queue() && self.held.began.elapsed() >= self.scheduler.time_slice() {
                    self.end(yields);
                    return true;
                }
                self.held.served = self.held.served.saturating_add(CHECK); // a slot may be held for days
                self.left = CHECK - 1;
            }
        }
        false
    }

    pub(super) fn pauses(&self) -> bool {
        self.pause_until.is_some_and(|until| Instant::now() < until)
    }

    fn go_without(&mut self) {
        (self.stage, self.left) = (Stage::Without, CHECK - 1);
    }

    /// Waits for a slot; without one, the worker goes without for some requests.
    pub(crate) fn acquire(&mut self, yields: Yields) {
        if self.scheduler.acquire(&self.signal, &self.gate) {
            self.held = Held::new(yields);
            self.held.served = CHECK;
            (self.stage, self.left) = (Stage::Holding, CHECK - 1);
        } else {
            self.missed(1);
            self.go_without();
        }
    }

    /// The client has sent a message to another client. If it does not go on at once, it probably waits for
    /// an answer. That comes by way of another worker, which must not wait for this one's slot.
    pub(crate) fn passed_on(&mut self) {
        self.passed_on = true;
    }

    /// Before a wait: gives the slot back, or leaves the next request free of it, if a message was passed on.
    pub(super) fn rest_if_passed_on(&mut self) {
        if std::mem::take(&mut self.passed_on) && self.stage != Stage::Exempt {
            if self.stage == Stage::Holding {
                self.scheduler.release(&self.signal);
            }
            (self.stage, self.left) = (Stage::Rested, 0);
        }
    }

    fn end(&mut self, yields: Yields) {
        let served = self.held.served - self.left;
        match self.held.misses(served, yields) {
            0 if served >= FEW => self.misses = 0,
            0 => {}
            misses => self.missed(misses),
        }
        self.scheduler.release(&self.signal);
        (self.stage, self.left) = (Stage::Due, 0);
    }

    pub(super) fn missed(&mut self, misses: u32) {
        self.misses = self.misses.saturating_add(misses);
        if let Some(more) = self.misses.checked_sub(PATIENCE) {
            self.pause_until = Some(Instant::now() + SHORTEST_PAUSE * (1 << more.min(LONGEST_PAUSE)));
        }
    }

    /// Gives the slot back, if there is one. Called before the worker waits for anything but a request.
    pub(crate) fn release(&mut self, yields: Yields) {
        if self.stage == Stage::Holding {
            self.end(yields);
        }
    }

    /// Waits for a request that the first looks have not found.
    pub(crate) fn wait(&mut self, requests: &mut Consumer) -> Result<Found, Stop> {
        self.rest_if_passed_on();
        if self.begin_wait(requests.yields()) {
            move_to_neighbour(self.reference);
            // The move slept, too, and that sleep must not count.
            self.held.used.sleeps = ThreadUse::now().sleeps;
        }
        let found = self.find(requests);
        self.end_wait();
        found
    }

    fn find(&mut self, requests: &mut Consumer) -> Result<Found, Stop> {
        let mut never = Deadline::NEVER;
        loop {
            match requests.find_awake(&mut never)? {
                Awake::Found(found) => return Ok(found),
                Awake::Sleep(sleep) if !sleep.to_be_woken && self.before_sleep(requests.yields()) => {
                    requests.look_longer();
                }
                Awake::Sleep(sleep) => requests.sleep(&mut never, sleep)?,
            }
        }
    }

    /// Whether the worker should move to a CPU where its client does not run: no other thread needs the CPUs,
    /// and the two share one.
    pub(super) fn begin_wait(&mut self, yields: Yields) -> bool {
        if self.stage != Stage::Holding {
            return false;
        }
        let now = Instant::now();
        self.held.waits_since = Some(now);
        if !self.scheduler.has_queue() {
            return false;
        }
        if now - self.held.began >= self.scheduler.time_slice() {
            // The slot's time is over: look at it before the next request.
            self.held.served -= std::mem::take(&mut self.left);
        }
        let should_move = !self.held.moved && yields.since(self.held.yields).taken >= SHARED;
        self.held.moved |= should_move;
        should_move
    }

    pub(super) fn end_wait(&mut self) {
        if let Some(since) = self.held.waits_since.take() {
            self.held.waited += since.elapsed();
        }
    }

    /// Called before the worker sleeps for want of requests. Returns true if it has got a slot instead of
    /// sleeping, and must look again.
    pub(super) fn before_sleep(&mut self, yields: Yields) -> bool {
        match self.stage {
            Stage::Exempt | Stage::Rested => return false,
            Stage::Holding => self.end(yields),
            Stage::Due | Stage::Without if self.pauses() => {}
            Stage::Due | Stage::Without if self.scheduler.is_full() => {
                self.acquire(yields);
                if self.stage == Stage::Holding {
                    // The slot begins in the middle of a wait, and no request was served in it yet.
                    self.held.waits_since = Some(self.held.began);
                    (self.held.served, self.left) = (0, 0);
                    return true;
                }
            }
            Stage::Due | Stage::Without => {}
        }
        (self.stage, self.left) = (Stage::Rested, 0);
        false
    }
}
