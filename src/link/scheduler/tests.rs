//! Tests of the scheduler and of one worker's slot.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::slot::{CHECK, FEW, Held, LONGEST_PAUSE, PATIENCE, SHARED, SHORTEST_PAUSE, Slot, Stage};
use super::{ROUND, SHORTEST, Scheduler, TIME_SLICE};
use crate::os::usage::ThreadUse;
use crate::ring::{Closer, Signal, WaitStrategy, Yields};

/// Longer than anything that should happen at once takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn gate() -> Closer {
    let (producer, consumer) = crate::ring::local(128).unwrap();
    std::mem::forget(producer); // either would close it
    let closer = consumer.closer();
    std::mem::forget(consumer);
    closer
}

fn signals<const N: usize>() -> [Arc<Signal>; N] {
    [(); N].map(|()| Arc::default())
}

fn queued(scheduler: &Scheduler) -> usize {
    scheduler.lock().queue.len()
}

fn hold(scheduler: &Scheduler, signal: &Arc<Signal>) -> bool {
    scheduler.lock().holders.iter().any(|other| Arc::ptr_eq(other, signal))
}

const NONE: Yields = Yields { all: 0, taken: 0 };
const TAKEN: Yields = Yields { all: 10, taken: 10 };
const QUIET: Yields = Yields { all: 10, taken: 1 };

fn slot(scheduler: &Arc<Scheduler>) -> Slot {
    Slot::new(scheduler, WaitStrategy::Adaptive, gate(), None)
}

/// Serves one request, and first waits for a slot if that is needed.
fn request(slot: &mut Slot) {
    if is_due(slot) && slot.needs_slot(NONE) {
        slot.acquire(NONE);
    }
}

/// Whether it is time for a closer look at the slot.
fn is_due(slot: &mut Slot) -> bool {
    let left = slot.left.checked_sub(1);
    slot.left = left.unwrap_or(0);
    left.is_none()
}

#[test]
fn there_is_one_slot_for_each_pair_of_cpus() {
    for (cpus, places) in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (64, 32)] {
        assert_eq!(Scheduler::new(Some(cpus)).slots(), places);
    }
    let (scheduler, gate) = (Arc::new(Scheduler::new(Some(4))), gate());
    let [first, second] = signals();
    assert!(scheduler.acquire(&first, &gate) && !scheduler.is_full());
    assert!(scheduler.acquire(&second, &gate) && scheduler.is_full());
    scheduler.release(&first);
    assert!(!scheduler.is_full() && hold(&scheduler, &second) && !hold(&scheduler, &first));
}

#[test]
fn slots_are_handed_out_in_order() {
    let (scheduler, gate) = (Arc::new(Scheduler::new(Some(2))), gate());
    let [first, second, third] = signals();
    assert!(scheduler.acquire(&first, &gate));
    scheduler.lock().queue.extend([Arc::clone(&second), Arc::clone(&third)]);
    for (ends, next) in [(&first, &second), (&second, &third)] {
        assert!(!next.is_set());
        scheduler.release(ends);
        assert!(next.is_set() && hold(&scheduler, next) && !hold(&scheduler, ends));
    }
    scheduler.release(&third);
    assert!(!scheduler.has_queue() && !scheduler.is_full());
    assert!(scheduler.acquire(&second, &gate), "a second time");
}

/// The waiter's word may still be set from an earlier wait.
#[test]
fn a_second_wait_does_not_end_by_the_word_of_the_first() {
    let (scheduler, gate, closed) = (Arc::new(Scheduler::new(Some(2))), gate(), gate());
    let [holder, waiter] = signals();
    assert!(scheduler.acquire(&holder, &gate));
    waiter.set();
    closed.close();
    assert!(!scheduler.acquire(&waiter, &closed));
}

#[test]
fn a_holder_that_keeps_its_slot_loses_it_to_the_first_in_the_queue() {
    let (scheduler, gate) = (Arc::new(Scheduler::new(Some(2))), gate());
    let [stuck, first] = signals();
    assert!(scheduler.acquire(&stuck, &gate));
    assert!(scheduler.acquire(&first, &gate), "after a while");
    assert!(hold(&scheduler, &first) && !hold(&scheduler, &stuck));
    scheduler.release(&stuck);
    assert!(hold(&scheduler, &first), "the slot was not its own any more");
    scheduler.release(&first);
    assert!(scheduler.acquire(&stuck, &gate));
}

/// The next in the queue still gets its slot.
#[test]
fn a_closed_channel_ends_the_wait_for_a_slot() {
    let (scheduler, gate, closed) = (Arc::new(Scheduler::new(Some(2))), gate(), gate());
    let [holder, leaving, next] = signals();
    assert!(scheduler.acquire(&holder, &gate));
    closed.close();
    assert!(!scheduler.acquire(&leaving, &closed));
    assert!(hold(&scheduler, &holder) && queued(&scheduler) == 0 && !scheduler.has_queue());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| scheduler.acquire(&next, &gate));
        scheduler.release(&holder);
        assert!(waiter.join().unwrap());
    });
}

/// The slot came just as the worker's wait timed out.
#[test]
fn a_worker_that_gives_up_too_late_has_its_slot() {
    let (scheduler, gate) = (Arc::new(Scheduler::new(Some(2))), gate());
    let [holder, waiter] = signals();
    assert!(scheduler.acquire(&holder, &gate));
    scheduler.lock().queue.push_back(Arc::clone(&waiter));
    scheduler.release(&holder);
    assert!(scheduler.give_up(&waiter, &gate) && hold(&scheduler, &waiter));
}

/// Only the first in the queue takes a slot, and from the oldest holder.
#[test]
fn a_worker_that_gives_up_without_being_the_first_gets_nothing() {
    let (scheduler, gate) = (Arc::new(Scheduler::new(Some(4))), gate());
    let [old, young, first, second] = signals();
    assert!(scheduler.acquire(&old, &gate) && scheduler.acquire(&young, &gate));
    scheduler.lock().queue.extend([Arc::clone(&first), Arc::clone(&second)]);
    assert!(!scheduler.give_up(&second, &gate));
    assert!(hold(&scheduler, &old) && hold(&scheduler, &young) && queued(&scheduler) == 1);
    assert!(scheduler.give_up(&first, &gate));
    assert!(!hold(&scheduler, &old) && hold(&scheduler, &young) && hold(&scheduler, &first));
}

#[test]
fn slots_are_held_for_less_time_when_more_wait() {
    let scheduler = Arc::new(Scheduler::new(Some(2)));
    let slice_with = |waiting: usize| {
        let mut state = scheduler.lock();
        state.queue = (0..waiting).map(|_| Arc::default()).collect();
        scheduler.update_hints(&state);
        drop(state);
        scheduler.time_slice()
    };
    assert_eq!(slice_with(0), Duration::MAX);
    assert_eq!(slice_with(63), TIME_SLICE);
    assert_eq!(slice_with(160), ROUND / 160);
    assert_eq!(slice_with(10_000), SHORTEST);
}

#[test]
fn the_first_request_after_a_sleep_needs_no_slot() {
    let scheduler = Arc::new(Scheduler::new(Some(2)));
    let mut slot = slot(&scheduler);
    for _ in 0..3 {
        request(&mut slot);
        assert_eq!((slot.stage, scheduler.is_full()), (Stage::Due, false));
        request(&mut slot);
        assert_eq!((slot.stage, scheduler.is_full()), (Stage::Holding, true));
        assert!(!slot.before_sleep(NONE));
        assert_eq!((slot.stage, scheduler.is_full()), (Stage::Rested, false), "asleep");
        slot.pause_until = None; // in case this thread was kept from running
    }
}

#[test]
fn workers_that_never_spin_or_only_spin_take_no_part() {
    let (scheduler, gate) = (Arc::new(Scheduler::new(Some(2))), gate());
    for strategy in [WaitStrategy::Spin, WaitStrategy::Park] {
        let mut slot = Slot::new(&scheduler, strategy, gate.clone(), None);
        for _ in 0..3 {
            request(&mut slot);
        }
        assert!(!slot.begin_wait(TAKEN) && !slot.before_sleep(NONE));
        assert_eq!((slot.stage, slot.left, scheduler.is_full()), (Stage::Exempt, u32::MAX - 2, false));
    }
}

/// The answer to a message comes by way of another worker.
#[test]
fn a_worker_that_passed_a_message_on_waits_without_a_slot() {
    let scheduler = Arc::new(Scheduler::new(Some(2)));
    let mut slot = slot(&scheduler);
    for sends in [false, true, false] {
        for _ in 0..2 {
            request(&mut slot);
        }
        assert_eq!((slot.stage, scheduler.is_full()), (Stage::Holding, true));
        if sends {
            slot.passed_on();
        }
        slot.rest_if_passed_on();
        let stage = if sends { Stage::Rested } else { Stage::Holding };
        assert_eq!((slot.stage, scheduler.is_full(), slot.misses), (stage, !sends, 0));
    }
    let mut exempt = Slot::new(&scheduler, WaitStrategy::Park, gate(), None);
    exempt.passed_on();
    exempt.rest_if_passed_on();
    assert_eq!(exempt.stage, Stage::Exempt);
}

/// A worker that acquired its slot that long ago.
fn holding(scheduler: &Arc<Scheduler>, ago: Duration) -> Slot {
    let mut slot = slot(scheduler);
    request(&mut slot);
    request(&mut slot);
    assert_eq!(slot.stage, Stage::Holding);
    slot.held.began -= ago;
    slot
}

#[test]
fn a_slot_is_kept_until_others_wait_and_its_time_is_over() {
    for (crowd, ago, ends) in [(1, TIME_SLICE, true), (0, TIME_SLICE, false), (1, Duration::ZERO, false)] {
        let scheduler = Arc::new(Scheduler::new(Some(2)));
        let mut slot = holding(&scheduler, ago);
        if ago.is_zero() {
            slot.held.began = Instant::now() + LIMIT; // not over, however long this thread is kept from running
        }
        scheduler.hints.waiting.store(crowd, Ordering::Relaxed);
        for _ in 1..CHECK {
            assert!(!is_due(&mut slot), "the clock is not read for every request");
        }
        assert!(is_due(&mut slot));
        assert_eq!(slot.needs_slot(NONE), ends);
        assert_eq!(scheduler.is_full(), !ends);
    }
}

#[test]
fn a_slot_may_be_held_for_days() {
    let scheduler = Arc::new(Scheduler::new(Some(2)));
    let mut slot = holding(&scheduler, Duration::ZERO);
    (slot.held.served, slot.left, slot.misses) = (u32::MAX - 1, 0, 1);
    assert!(!slot.needs_slot(NONE));
    slot.release(NONE);
    assert_eq!((slot.misses, scheduler.is_full()), (0, false));
}

/// A wait reads the clock, so it notices that the slot's time is over.
#[test]
fn a_slot_whose_time_is_over_ends_after_a_wait() {
    let scheduler = Arc::new(Scheduler::new(Some(2)));
    let mut slot = holding(&scheduler, TIME_SLICE);
    assert!(!slot.begin_wait(NONE));
    assert!(!is_due(&mut slot), "nobody else wants one");
    scheduler.hints.waiting.store(1, Ordering::Relaxed);
    assert!(!slot.begin_wait(NONE));
    assert!(is_due(&mut slot) && slot.needs_slot(NONE));
    assert_eq!(slot.held.served - slot.left, 2, "two were served, and the one that is to come is counted");
}

#[test]
fn a_pair_that_shares_a_cpu_moves_once_for_each_slot() {
    let scheduler = Arc::new(Scheduler::new(Some(2)));
    let mut slot = holding(&scheduler, Duration::ZERO);
    slot.held.began = Instant::now() + LIMIT;
    let shared = Yields { all: SHARED, taken: SHARED };
    assert!(!slot.begin_wait(shared), "nobody else wants the CPUs");
    scheduler.hints.waiting.store(1, Ordering::Relaxed);
    assert!(!slot.begin_wait(Yields { all: 9, taken: SHARED - 1 }));
    assert!(slot.begin_wait(shared));
    assert!(!slot.begin_wait(shared), "once");
    slot.release(NONE);
    assert!(!slot.begin_wait(TAKEN), "it has no slot");
}

/// The count of useless slots after a slot in which `served` requests were served and the worker yielded as
/// in `yields`.
fn misses_after(served: u32, yields: Yields, work: impl FnOnce(&mut Slot)) -> u32 {
    let scheduler = Arc::new(Scheduler::new(Some(2)));
    let mut slot = holding(&scheduler, Duration::ZERO);
    slot.held = Held::new(NONE);
    slot.misses = 1;
    work(&mut slot);
    (slot.held.served, slot.left) = (served, 0);
    slot.release(yields);
    slot.misses
}

#[test]
fn a_slot_of_many_requests_makes_up_for_useless_ones() {
    assert_eq!(misses_after(10 * FEW, QUIET, |_| {}), 0);
    // Fewer requests say nothing while others have the CPUs.
    assert_eq!(misses_after(FEW - 1, TAKEN, |_| {}), 1);
}

#[test]
fn a_client_that_calls_seldom_makes_a_slot_useless() {
    let waits = |slot: &mut Slot| {
        assert!(!slot.begin_wait(NONE));
        slot.held.waits_since = slot.held.waits_since.map(|since| since - LIMIT);
        slot.end_wait();
        assert!(slot.held.waited >= LIMIT, "at least as long as the slot was held");
    };
    assert_eq!(misses_after(1, QUIET, waits), 1 + PATIENCE / 2);
    assert_eq!(misses_after(1, TAKEN, waits), 1);
}

#[test]
fn a_service_that_computes_makes_a_slot_useless() {
    let computes = |_: &mut Slot| {
        let used = ThreadUse::now().cpu;
        while ThreadUse::now().cpu - used < 20 * TIME_SLICE {
            std::hint::spin_loop();
        }
    };
    assert_eq!(misses_after(1, TAKEN, computes), 1 + PATIENCE);
    assert_eq!(misses_after(40 * FEW, TAKEN, computes), 0, "a little each time");
}

#[test]
fn a_service_that_waits_makes_a_slot_useless() {
    assert_eq!(misses_after(1, TAKEN, |_| thread::sleep(20 * TIME_SLICE)), 1 + PATIENCE);
    // Others had the CPU.
    assert_eq!(misses_after(1, QUIET, |slot| slot.held.began -= 20 * TIME_SLICE), 1);
}

#[test]
fn after_useless_slots_a_worker_goes_without_for_longer_and_longer() {
    let (scheduler, gate) = (Arc::new(Scheduler::new(Some(2))), gate());
    let mut slot = slot(&scheduler);
    slot.missed(PATIENCE - 1);
    assert!(!slot.pauses());
    let mut last = Duration::ZERO;
    for more in 0..20 {
        let before = Instant::now();
        slot.missed(1);
        let until = slot.pause_until.unwrap();
        // This thread may have been stopped around it: at most so long, and at least `last`.
        let pass = until - before;
        assert!(pass > last || more > LONGEST_PAUSE, "{pass:?}");
        last = until - Instant::now();
    }
    assert!(last < 2 * (SHORTEST_PAUSE * (1 << LONGEST_PAUSE)), "{last:?}");
    slot.pause_until = Some(Instant::now() + LIMIT);
    for requests in [1, 1, CHECK, CHECK] {
        for _ in 0..requests {
            request(&mut slot);
            assert!(!scheduler.is_full());
        }
    }
    let [holder] = signals();
    assert!(scheduler.acquire(&holder, &gate));
    slot.stage = Stage::Due;
    assert!(!slot.before_sleep(NONE), "it does not queue either");
    scheduler.release(&holder);
    slot.pause_until = Some(Instant::now());
    request(&mut slot);
    request(&mut slot);
    assert_eq!(slot.stage, Stage::Holding);
}

#[test]
fn when_no_slot_is_free_a_worker_queues_once_more_before_it_sleeps() {
    let (scheduler, gate) = (Arc::new(Scheduler::new(Some(2))), gate());
    let [holder] = signals();
    let mut slot = slot(&scheduler);
    assert!(scheduler.acquire(&holder, &gate));
    assert!(!slot.before_sleep(NONE), "it has served nothing");
    request(&mut slot);
    assert!(slot.before_sleep(NONE), "in place of the one that keeps its slot");
    assert_eq!(
        (slot.stage, hold(&scheduler, &slot.signal), hold(&scheduler, &holder)),
        (Stage::Holding, true, false)
    );
}
