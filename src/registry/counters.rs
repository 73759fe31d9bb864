//! What each client has done, counted.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::layout;
use crate::shm::Segment;

/// What one client has done since it registered: [`Client::statistics`](crate::Client::statistics), and a
/// part of [`ClientInfo`](crate::ClientInfo).
///
/// # Examples
///
/// ```
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// alice.send(bob.key(), b"four")?;
/// assert_eq!((alice.statistics()?.sent, alice.statistics()?.bytes_in), (1, 4));
/// assert_eq!(bob.statistics()?.received, 1); // delivered, not yet received
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Calls answered.
    pub calls: u64,
    /// Messages that it sent and that reached an inbox.
    pub sent: u64,
    /// Messages delivered into its inbox.
    pub received: u64,
    /// Payload bytes of its calls and of its messages that were delivered.
    pub bytes_in: u64,
    /// Payload bytes of the responses to its calls, failures' texts included.
    pub bytes_out: u64,
}

/// One client's counters in the registry. No lock: each counter has one writer, and counting is a load and a
/// store.
///
/// `received` belongs to whoever holds the inbox's lock, the others to the client's worker, and the two write
/// different cache lines. All clones must be done with writing before the key is released, for then the next
/// client in the slot counts in the same place.
#[derive(Debug, Clone)]
pub(crate) struct CounterCells {
    segment: Arc<Segment>,
    entry: usize,
}

impl CounterCells {
    pub(super) fn new(segment: &Arc<Segment>, slot: u16) -> CounterCells {
        CounterCells { segment: Arc::clone(segment), entry: layout::entry_at(slot) }
    }

    /// For the worker.
    #[inline]
    pub(crate) fn add_calls(&self, count: u64) {
        self.add(layout::CALLS, count);
    }

    /// For the worker.
    #[inline]
    pub(crate) fn add_sent(&self, count: u64) {
        self.add(layout::SENT, count);
    }

    /// For the worker.
    #[inline]
    pub(crate) fn add_bytes_in(&self, bytes: u64) {
        self.add(layout::BYTES_IN, bytes);
    }

    /// For the worker.
    #[inline]
    pub(crate) fn add_bytes_out(&self, bytes: u64) {
        self.add(layout::BYTES_OUT, bytes);
    }

    /// For delivery, under the inbox's lock.
    #[inline]
    pub(crate) fn add_received(&self, count: u64) {
        self.add(layout::RECEIVED, count);
    }

    /// The counters now, each for itself.
    #[cfg(test)]
    pub(crate) fn snapshot(&self) -> Counters {
        read(&self.segment, self.entry)
    }

    #[inline]
    fn add(&self, counter: usize, amount: u64) {
        let cell: &AtomicU64 = self.segment.word64(self.entry + counter);
        // The only writer, so nothing is lost between the load and the store.
        cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
    }
}

pub(super) fn read(segment: &Segment, entry: usize) -> Counters {
    let load = |counter| segment.word64(entry + counter).load(Relaxed);
    Counters {
        calls: load(layout::CALLS),
        sent: load(layout::SENT),
        received: load(layout::RECEIVED),
        bytes_in: load(layout::BYTES_IN),
        bytes_out: load(layout::BYTES_OUT),
    }
}

pub(super) fn clear(segment: &Segment, entry: usize) {
    for counter in [layout::CALLS, layout::SENT, layout::RECEIVED, layout::BYTES_IN, layout::BYTES_OUT] {
        segment.word64(entry + counter).store(0, Relaxed);
    }
}
