//! Counts what each client has done: calls, messages and bytes.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::layout;
use crate::shm::Segment;

/// What one client has done since it registered.
///
/// Returned by [`Caller::statistics`](crate::Caller::statistics), and part of
/// [`ClientInfo`](crate::ClientInfo).
///
/// # Examples
///
/// ```
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// alice.send(bob.key(), b"four")?;
/// let counted = alice.caller().statistics()?;
/// assert_eq!((counted.sent, counted.bytes_in), (1, 4));
/// let counted = bob.caller().statistics()?;
/// assert_eq!((counted.delivered, counted.received), (1, 0)); // it lies in the inbox
/// bob.recv()?;
/// assert_eq!(bob.caller().statistics()?.received, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Calls that were answered.
    pub calls: u64,
    /// Messages it sent that were delivered to an inbox.
    pub sent: u64,
    /// Messages that were delivered to its inbox. Those that it has not received lie there, unless it has
    /// given up the inbox.
    pub delivered: u64,
    /// Messages that it has taken out of its inbox, as it says itself.
    pub received: u64,
    /// Payload bytes of its answered calls and its delivered messages.
    pub bytes_in: u64,
    /// Payload bytes of the responses to its calls, including the texts of failures.
    pub bytes_out: u64,
}

/// One client's counters in the registry. They need no lock: each has one writer, so counting is a load and a
/// store.
///
/// The holder of the inbox's lock writes `delivered`, and the client's worker writes the others, in another
/// cache line. All writers must stop before the key is released: the next client in the slot uses the same
/// memory.
#[derive(Debug, Clone)]
pub(crate) struct CounterCells {
    segment: Arc<Segment>,
    entry: usize,
}

impl CounterCells {
    pub(super) fn new(segment: &Arc<Segment>, slot: u16) -> CounterCells {
        CounterCells { segment: Arc::clone(segment), entry: layout::entry_at(slot) }
    }

    /// Called by the worker.
    #[inline]
    pub(crate) fn add_calls(&self, count: u64) {
        self.add(layout::CALLS, count);
    }

    /// Called by the worker.
    #[inline]
    pub(crate) fn add_sent(&self, count: u64) {
        self.add(layout::SENT, count);
    }

    /// Called by the worker.
    #[inline]
    pub(crate) fn add_bytes_in(&self, bytes: u64) {
        self.add(layout::BYTES_IN, bytes);
    }

    /// Called by the worker.
    #[inline]
    pub(crate) fn add_bytes_out(&self, bytes: u64) {
        self.add(layout::BYTES_OUT, bytes);
    }

    /// Called on delivery, under the inbox's lock.
    #[inline]
    pub(crate) fn add_delivered(&self, count: u64) {
        self.add(layout::DELIVERED, count);
    }

    /// Reads each counter; they are not read at one instant.
    #[cfg(test)]
    pub(crate) fn snapshot(&self) -> Counters {
        read(&self.segment, self.entry)
    }

    #[inline]
    fn add(&self, counter: usize, amount: u64) {
        let cell: &AtomicU64 = self.segment.word64(self.entry + counter);
        // There is one writer, so no increment is lost between the load and the store.
        cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
    }
}

pub(super) fn read(segment: &Segment, entry: usize) -> Counters {
    let load = |counter| segment.word64(entry + counter).load(Relaxed);
    Counters {
        calls: load(layout::CALLS),
        sent: load(layout::SENT),
        delivered: load(layout::DELIVERED),
        // The registry knows nothing of what the client has taken.
        received: 0,
        bytes_in: load(layout::BYTES_IN),
        bytes_out: load(layout::BYTES_OUT),
    }
}

pub(super) fn clear(segment: &Segment, entry: usize) {
    for counter in [layout::CALLS, layout::SENT, layout::DELIVERED, layout::BYTES_IN, layout::BYTES_OUT] {
        segment.word64(entry + counter).store(0, Relaxed);
    }
}
