//! `Measured`: what a worker counts and measures for those who look at the bus, and how full its rings are.
//!
//! The worker alone writes it, so that counting is a load and a store; any thread reads it.

#![forbid(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::{Pid, gettid};

use super::worker::Totals;
use crate::connect::Fill;
use crate::link::DRAIN;
use crate::os::usage;
use crate::ring::{Consumer, Glance, Producer};
use crate::wire::Histogram;

/// The most requests that are looked for in a ring of requests.
const MOST_REQUESTS: usize = 1024;

/// The most responses that a worker has committed and not counted, with the padding between them.
const MOST_RESPONSES: usize = 2 * DRAIN;

#[derive(Default)]
pub(super) struct Measured {
    calls: AtomicU64,
    messages: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Behind the last response that was counted.
    responded: AtomicU64,
    /// The worker's thread; 0 before it runs.
    thread: AtomicI32,
    /// The processor time, in nanoseconds, that the thread had used before.
    used_before: AtomicU64,
    /// `None` in tests.
    rings: Option<Rings>,
    /// Made when the first duration is counted.
    durations: OnceLock<Box<Durations>>,
}

struct Rings {
    requests: Glance,
    responses: Glance,
}

struct Durations([[AtomicU64; Histogram::BUCKETS]; 2]);

/// What a worker measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timed {
    /// How long the service took for a call.
    Service = 0,
    /// How long the worker took to wake up.
    Wake = 1,
}

// Relaxed: these numbers carry nothing else.
const RELAXED: Ordering = Ordering::Relaxed;

/// Adds to a number that only this thread writes.
#[inline(always)]
fn add(number: &AtomicU64, more: u64) {
    number.store(number.load(RELAXED).wrapping_add(more), RELAXED);
}

impl Measured {
    /// What a worker with these ends of its client's rings measures.
    pub(super) fn at(requests: &Consumer, responses: &Producer) -> Measured {
        let rings = Rings { requests: requests.glance(), responses: responses.glance() };
        Measured { rings: Some(rings), ..Measured::default() }
    }

    // ---- the worker's

    /// The worker runs on this thread, which may have been used before.
    pub(super) fn runs_here(&self, reused: bool) {
        let thread = gettid();
        if reused && let Some(used) = usage::of_thread(thread) {
            self.used_before.store(u64::try_from(used.as_nanos()).unwrap_or(0), RELAXED);
        }
        self.thread.store(thread.as_raw_pid(), Ordering::Release);
    }

    /// Counts what the worker did. Its ring of responses ends at `tail` now.
    #[inline]
    pub(super) fn add(&self, done: &Totals, tail: u64) {
        add(&self.calls, done.calls);
        add(&self.messages, done.messages);
        add(&self.bytes_in, done.bytes_in);
        add(&self.bytes_out, done.bytes_out);
        self.responded.store(tail, RELAXED);
    }

    /// Counts a duration.
    pub(super) fn count(&self, what: Timed, took: Duration) {
        let durations = self.durations.get_or_init(|| {
            Box::new(Durations([(); 2].map(|()| std::array::from_fn(|_| AtomicU64::new(0)))))
        });
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(&durations.0[what as usize][Histogram::bucket(nanoseconds)], 1);
    }

    // ---- for those who look

    /// What was counted so far.
    pub(super) fn totals(&self) -> Totals {
        Totals {
            calls: self.calls.load(RELAXED),
            messages: self.messages.load(RELAXED),
            bytes_in: self.bytes_in.load(RELAXED),
            bytes_out: self.bytes_out.load(RELAXED),
        }
    }

    pub(super) fn durations(&self, what: Timed) -> Histogram {
        let counts = self.durations.get().map(|durations| &durations.0[what as usize]);
        Histogram::of(counts.into_iter().flatten().map(|count| count.load(RELAXED)))
    }

    /// The processor time that the worker's thread has used for it, if the system tells.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let used = Pid::from_raw(self.thread.load(Ordering::Acquire)).and_then(usage::of_thread)?;
        Some(used.saturating_sub(Duration::from_nanos(self.used_before.load(RELAXED))))
    }

    /// How full the rings of requests and of responses are.
    pub(super) fn fills(&self) -> [Fill; 2] {
        let Some(Rings { requests, responses }) = &self.rings else { return [Fill::default(); 2] };
        let head = requests.head();
        let requests_used = requests.between(head, requests.end(head, MOST_REQUESTS));
        // The tail before the head: what the client takes in between is then not taken for used.
        let tail = responses.end(self.responded.load(RELAXED), MOST_RESPONSES);
        let responses_used = responses.between(responses.head(), tail);
        [
            Fill { used: requests_used, size: requests.size() },
            Fill { used: responses_used, size: responses.size() },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_by_kind() {
        let measured = Measured::default();
        assert_eq!(measured.durations(Timed::Service), Histogram::default());
        for took in [100, 100, 5000] {
            measured.count(Timed::Service, Duration::from_nanos(took));
        }
        measured.count(Timed::Wake, Duration::MAX);
        let service = measured.durations(Timed::Service);
        assert_eq!((service.count(), measured.durations(Timed::Wake).count()), (3, 1));
        assert_eq!(service.percentile(50.0), Some(Duration::from_nanos(112)));
    }

    #[test]
    fn totals_add_up() {
        let measured = Measured::default();
        let done = Totals { calls: 1, messages: 2, bytes_in: 3, bytes_out: 4 };
        (0..2).for_each(|_| measured.add(&done, 0));
        let Totals { calls, messages, bytes_in, bytes_out } = measured.totals();
        assert_eq!((calls, messages, bytes_in, bytes_out), (2, 4, 6, 8));
    }

    #[test]
    fn a_worker_has_the_time_of_its_thread() {
        let measured = Measured::default();
        assert_eq!(measured.cpu(), None);
        measured.runs_here(false);
        while measured.cpu().unwrap() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn what_lies_in_both_rings_is_seen() {
        use crate::ring;
        let (mut asks, requests) = ring::local(4096).unwrap();
        let (mut responses, mut answers) = ring::local(4096).unwrap();
        let measured = Measured::at(&requests, &responses);
        let used = || measured.fills().map(|fill| fill.used);
        assert_eq!((used(), measured.fills()[0].size), ([0, 0], 4096));
        (0..5).for_each(|_| asks.try_send(b"x").unwrap());
        responses.try_send(b"x").unwrap();
        assert_eq!(used(), [5 * 64, 64]);
        measured.add(&Totals::default(), responses.position());
        responses.try_send(&[0; 100]).unwrap();
        assert_eq!(used(), [5 * 64, 64 + 128]);
        answers.try_recv(&mut Vec::new()).unwrap();
        assert_eq!(used(), [5 * 64, 128]);
    }
}
