//! The single-producer single-consumer ring of blocks.
//!
//! A block is any number of bytes up to [`Producer::max_block`]; it is written whole and becomes visible at
//! once. Both ends take `&mut self`, so that the type system keeps the one producer and the one consumer
//! apart. A ring may lie between two threads ([`local`]) or, as part of a [channel](crate::channel), between
//! two processes.
//!
//! | | returns at once | waits | waits until a [`Deadline`] |
//! | --- | --- | --- | --- |
//! | write | [`try_send`](Producer::try_send) | [`send`](Producer::send) | `send_timeout` |
//! | write in place | [`try_grant`](Producer::try_grant) | [`grant`](Producer::grant) | |
//! | write several | [`batch`](Producer::batch) | | |
//! | read | [`try_recv`](Consumer::try_recv) | [`recv`](Consumer::recv) | `recv_timeout` |
//! | read in parts | [`try_recv_ref`](Consumer::try_recv_ref) | [`recv_ref`](Consumer::recv_ref) | |
//! | read several | [`drain`](Consumer::drain) | | |
//!
//! # Examples
//!
//! ```
//! let (mut producer, mut consumer) = ringpost::ring::local(64 * 1024)?;
//! let thread = std::thread::spawn(move || -> Result<_, ringpost::ring::RecvError> {
//!     let mut block = Vec::new();
//!     consumer.recv(&mut block)?;
//!     Ok(block)
//! });
//! producer.send(b"one block")?;
//! assert_eq!(thread.join().unwrap()?, b"one block");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The protocol
//!
//! ```text
//! head              u64, bytes consumed, monotonic, written by the consumer      } each alone in
//! consumer parked   u32, the consumer's futex word                               } 128 bytes
//! producer parked   u32, the producer's futex word (waiting for space)           }
//! data              C bytes, a power of two, in 64-byte lines
//!
//! record            header: u64 = length (32) | kind (2: 01 data, 10 padding) | line number mod 2^30
//!                   (in a topic also 11: a gap)
//!                   payload from byte 8, then up to the next line; a header is never 0
//! ```
//!
//! **Commit is inline.** The consumer polls the header of the next record itself, not a shared tail, so a
//! small block crosses between two cores in one cache line. To publish, the producer copies the payload,
//! stores 0 to the header that comes *next*, and then stores this header with Release. The consumer loads it
//! with Acquire, so whoever sees the header sees the payload, and sees 0 (or something newer) behind it.
//! Hence bytes of an earlier lap are never taken for a header, and the consumer clears nothing.
//!
//! **Cleared ahead.** The other end's cache may hold the line of that 0, and the header becomes visible only
//! after the 0. So after a publish, when nobody waits for this thread, the producer stores the 0 that the
//! next block will need if it is as long as this one, and remembers where (`Producer::clear_ahead`). It
//! forgets the place when it begins a grant, a batch or a draft of more than one line, because these write
//! payload over the 0 and may be abandoned. A publish that finds no remembered place stores the 0 itself.
//! Every commit moves the tail past the place.
//!
//! **Room.** A record of k lines at offset o, preceded by padding if it would run past the end, needs all
//! those lines *and* the line of the zeroed header to be free: `position + padding + record + 64 - head <=
//! C`. Since a record is at most half the ring, an empty ring always has room: k - 1 lines of padding, k of
//! record, 1 zeroed.
//!
//! **A batch** writes later headers first, the zero behind the last record, and the very first header (a
//! padding record's, if the batch begins with one) last, with Release: nothing of it can be seen before that
//! store, and all of it after.
//!
//! **Positions are private.** Only record headers and `head` cross the border. Each is loaded once into a
//! local, checked, and never read again; a broken rule *poisons* the end that found it, closes the channel
//! and is reported as a [`Violation`]. The consumer demands of a header: the line number of its own position,
//! a valid kind, a length within the maximum, a record within the ring. The producer demands of `head`: a
//! multiple of 64, not before the last one seen, not past its own committed tail.
//!
//! **Why no wake is lost (data).** Consumer: `parked = 1; fence; look; sleep on parked == 1`. Producer:
//! `header.store(Release); fence; if parked == 1 && parked.swap(0) == 1 { wake }`. Both fences are SeqCst, so
//! one comes first in their single order. If the producer's is first, the consumer's look, after its own
//! fence, sees the header. If the consumer's is first, the producer sees `parked == 1` and wakes; it changes
//! the word *before* the wake, so that a wake between the look and the sleep makes the kernel's compare fail.
//! Release and Acquire alone would allow both sides to read the old value, on x86 too: a store may linger in
//! the store buffer while the load behind it is served.
//!
//! **Why no wake is lost (space).** The same handshake with `head` in the header's place, except that the
//! consumer does not make a fence after each record. It does its half when it has released a quarter of the
//! ring since the last time, when a look finds nothing (in a wait: after the first few looks), together with
//! any publish, and whenever a relaxed load of the parked word shows 1. A consumer may never look again, so a
//! producer sleeps for space at most 50 ms at a time.
//!
//! **A drain** stores `head` not after each record but with the consumer's half of that handshake, just
//! before its fence, and when it is dropped. So it withholds less than a quarter of the ring, and nothing
//! once the consumer finds the ring empty or waits. A drain that is forgotten instead of dropped withholds
//! that room until the consumer next takes a block or finds none.
//!
//! **Requests and responses** use two rings, and the fence after a publish is deferred: if the answer arrives
//! first, no fence is needed. See `link::exchange`. **Threads that share a producer** wait for room
//! in turn: see `shared_producer`.
//!
//! **Closed against commit.** `closed` is loaded first, then the header; only if closed was seen *before* an
//! empty look is the end of the ring reported. What was committed before a close is received first.

mod close;
mod consumer;
mod end;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod glance;
mod kick;
pub(crate) mod layout;
mod local;
mod park;
mod producer;
mod shared_producer;
mod signal;
mod stamps;
mod wait;

#[cfg(all(test, loom))]
mod model;
#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

pub use close::{CloseReason, Closer};
pub(crate) use close::{Peer, Sleeper};
pub(crate) use consumer::{Awake, Found};
pub use consumer::{Block, Consumer, Drain};
pub(crate) use error::{Ended, NotSent, Stop};
pub use error::{RecvError, SendError};
pub(crate) use glance::Glance;
pub(crate) use kick::{Kick, Kicks, OwnPipe};
pub use layout::Violation;
#[cfg(test)]
pub(crate) use local::local_setup;
pub use local::{local, local_with};
pub(crate) use park::{ARMED, AWAKE, PARKED};
pub(crate) use producer::Draft;
#[cfg(test)]
pub(crate) use producer::SPACE_SLICE;
pub use producer::{Batch, Grant, Producer};
pub(crate) use shared_producer::{NotWritten, SharedProducer};
pub(crate) use signal::Signal;
pub(crate) use stamps::Stamps;
pub use wait::{Deadline, WaitStrategy};
pub(crate) use wait::{Looked, Waiting, Yields};

use crate::shm::View;
use crate::shm::futex::Scope;

/// Where a ring lies and how its ends behave.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) view: View,
    /// Offset of the control block.
    pub(crate) control: usize,
    /// Offset of the data.
    pub(crate) data: usize,
    /// Bytes of data: a power of two from [`layout::MIN_CAPACITY`] to [`layout::MAX_CAPACITY`].
    pub(crate) capacity: usize,
    /// At most [`layout::largest_block`] of the capacity.
    pub(crate) max_block: usize,
    pub(crate) scope: Scope,
    pub(crate) closer: Closer,
    /// The pipe of the other end, if that may wait in an event loop.
    pub(crate) kick: Kick,
    pub(crate) strategy: WaitStrategy,
    /// The reason for which dropping an end closes the channel, if it does.
    pub(crate) closes_on_drop: Option<CloseReason>,
    /// Where the times of wakes are written, if anywhere: those of the consumer.
    pub(crate) stamps: Option<Stamps>,
    /// The position at which an empty ring stands: 0, except in tests that begin near a wrap.
    pub(crate) start: u64,
}

/// How many fruitless wakes an end tolerates beyond one for each step of progress. A correct peer's wake can
/// be late and reach a sleeper that has found its block by itself. It cannot come without progress, because
/// each end wakes only if it has published or released something since it last did.
pub(crate) const SPARE_HINTS: u64 = 64;

/// Notifies the other side after publishing on one ring and consuming from another: one fence, two checks.
#[inline]
pub(crate) fn notify_both(published: &mut Producer, consumed: &mut Consumer) {
    if published.owes_wake() || consumed.owes_wake() {
        crate::shm::backend::fence(crate::shm::backend::Ordering::SeqCst);
        published.wake_after_fence();
        consumed.wake_after_fence();
    }
    published.clear_ahead();
}
