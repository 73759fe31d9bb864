//! The writing end.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use super::layout::{
    self, CONSUMER_PARKED, EMPTY, GIVEN_UP, HEAD, HEADER, LINE, ONE_LINE, PRODUCER_PARKED, Violation,
    data_header, padding_header, record_size,
};
use super::wait::{Looked, Waiting};
use super::{
    CloseReason, Closer, Deadline, SPARE_HINTS, SendError, SendTimeoutError, Setup, TrySendError,
    WaitStrategy,
};
use crate::shm::RingView;
use crate::shm::futex::{self, Scope, Wait, Woken};
use crate::sync::{Ordering, fence, spin_hint};
use crate::testing::failpoints::failpoint;

/// The longest sleep for space: a consumer may stop looking, and then sends no wake.
pub(crate) const SPACE_SLICE: Duration = Duration::from_millis(50);

/// How far ahead of single blocks of a line the ring's lines are asked for: they lie in the cache of the
/// consumer, which read them a lap ago, and each would hold up the stores behind it. A stream of single
/// blocks takes 0.4 to 0.7 of the time, a call as long as without.
const LINES_AHEAD: u64 = 4 * LINE as u64;

/// The same within a batch, whose stores are closer together: 0.8 to 1.02 of the time.
const LINES_AHEAD_IN_BATCH: u64 = 2 * LINE as u64;

/// Whoever finds the ring full is ahead of the consumer, and each look at `head` takes the line from it that
/// it stores into after each block. So repeated looks are some `pause`s apart: one for each so many lines of
/// the ring, and at most so many (about 1.2 µs, where a consumer takes 15 for a ring of 1,024 lines). A
/// stream into a full ring takes 0.4 to 0.8 of the time.
const LINES_PER_PAUSE: u64 = 16;
const MOST_PAUSES: u64 = 64;

/// No position: those are multiples of a line.
const NOWHERE: u64 = u64::MAX;

/// The writing end of a ring. It may be moved to another thread, but there is only one.
///
/// Waits end when the ring is closed: by the other side, by [`Closer`], or because a rule was broken.
/// Dropping it closes a ring between threads, and a channel that is used by itself; what was committed can
/// still be received.
///
/// # Examples
///
/// ```
/// use std::thread;
///
/// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
/// let writer = thread::spawn(move || -> Result<(), ringpost::ring::SendError> {
///     for number in 0..1000_u32 {
///         producer.send(&number.to_le_bytes())?; // waits while the ring is full
///     }
///     Ok(())
/// });
/// let mut block = Vec::new();
/// for number in 0..1000_u32 {
///     consumer.recv(&mut block)?;
///     assert_eq!(block, number.to_le_bytes());
/// }
/// writer.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Producer {
    ring: RingView,
    max_block: usize,
    /// The longest block that is written as one line.
    one_line: usize,
    /// The committed tail: where the next record, or its padding, begins.
    position: u64,
    /// The committed tail when the consumer was last notified.
    notified: u64,
    /// The last head seen.
    head: u64,
    /// Whether there was no room when it was seen last.
    was_full: bool,
    /// A position whose header is known to be 0: stored by this end, and nothing written there since.
    /// [`NOWHERE`] if there is none. It is forgotten before anything is written there that may not be
    /// committed; once the tail has passed it, it says nothing.
    cleared: u64,
    /// Bytes of the last record: the next one is often as long.
    last_size: u64,
    broken: Option<Violation>,
    closer: Closer,
    scope: Scope,
    waiting: Waiting,
    hints: u64,
    closes_on_drop: Option<CloseReason>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("capacity", &self.ring.capacity())
            .field("max_block", &self.max_block)
            .field("closed", &self.closer.reason())
            .finish_non_exhaustive()
    }
}

/// Why there is no place for a record now.
enum NoPlace {
    Full,
    Violation(Violation),
}

impl Producer {
    pub(crate) fn new(setup: &Setup) -> Producer {
        debug_assert!(setup.capacity.is_power_of_two() && setup.capacity >= layout::MIN_CAPACITY);
        debug_assert!(setup.max_block <= layout::largest_block(setup.capacity));
        Producer {
            ring: setup.view.ring(setup.control, setup.data, setup.capacity),
            max_block: setup.max_block,
            one_line: setup.max_block.min(ONE_LINE),
            position: setup.start,
            notified: setup.start,
            head: setup.start,
            was_full: false,
            cleared: NOWHERE,
            last_size: LINE as u64,
            broken: None,
            closer: setup.closer.clone(),
            scope: setup.scope,
            waiting: Waiting::new(setup.strategy),
            hints: SPARE_HINTS,
            closes_on_drop: setup.closes_on_drop,
        }
    }

    /// The largest block that can be sent, in bytes. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (producer, _consumer) = ringpost::ring::local(4096)?;
    /// assert_eq!(producer.max_block(), 2040); // half the ring less 8
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn max_block(&self) -> usize {
        self.max_block
    }

    /// Chooses how blocking operations of this end wait from now on. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::WaitStrategy;
    ///
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.set_wait_strategy(WaitStrategy::Spin);
    /// # producer.try_send(b"x")?;
    /// # consumer.try_recv(&mut Vec::new())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        self.waiting = Waiting::new(strategy);
    }

    /// A handle that closes the channel from any thread and ends this end's waits. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::CloseReason;
    /// use ringpost::ring::TrySendError;
    ///
    /// let (mut producer, _consumer) = ringpost::ring::local(4096)?;
    /// producer.closer().close();
    /// assert_eq!(producer.try_send(b"x"), Err(TrySendError::Disconnected(CloseReason::Local)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }

    /// Writes one block, if there is room now. Does not block.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) leaves everything as it was; an attempt behind one that ended so looks
    /// again after about a microsecond (less in a ring of less than 64 KiB), for looks without pause hold
    /// up the consumer. Else [`TooLarge`](TrySendError::TooLarge),
    /// [`Disconnected`](TrySendError::Disconnected), or [`Violation`](TrySendError::Violation).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::ring::{self, TrySendError};
    ///
    /// let (mut producer, mut consumer) = ring::local(128)?; // room for one line and the zeroed one behind it
    /// producer.try_send(b"first")?;
    /// assert_eq!(producer.try_send(b"second"), Err(TrySendError::Full));
    /// let mut block = Vec::new();
    /// assert_eq!(consumer.try_recv(&mut block), Ok(5));
    /// producer.try_send(b"second")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_send(&mut self, block: &[u8]) -> Result<(), TrySendError> {
        self.try_publish(None, [block])?;
        self.notify();
        Ok(())
    }

    /// Writes one block. Blocks until there is room or the ring is closed.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](SendError::TooLarge), [`Disconnected`](SendError::Disconnected), or
    /// [`Violation`](SendError::Violation). Nothing was written then.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.send(b"one block")?;
    /// let mut block = Vec::new();
    /// consumer.recv(&mut block)?;
    /// assert_eq!(block, b"one block");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send(&mut self, block: &[u8]) -> Result<(), SendError> {
        self.send_until(block, None).map_err(SendTimeoutError::untimed)
    }

    /// As [`send`](Self::send), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), and [`TimedOut`](SendTimeoutError::TimedOut): nothing was written.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::ring::SendTimeoutError;
    /// use std::time::Duration;
    ///
    /// let (mut producer, _consumer) = ringpost::ring::local(128)?;
    /// producer.send(b"fills it")?;
    /// let second = producer.send_timeout(b"too much", Duration::from_millis(5));
    /// assert_eq!(second, Err(SendTimeoutError::TimedOut));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_timeout(
        &mut self,
        block: &[u8],
        deadline: impl Into<Deadline>,
    ) -> Result<(), SendTimeoutError> {
        self.send_until(block, deadline.into().start())
    }

    /// As [`send`](Self::send), but blocks until the deadline at most.
    ///
    /// # Errors
    ///
    /// Those of [`send_timeout`](Self::send_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let (mut producer, _consumer) = ringpost::ring::local(4096)?;
    /// producer.send_deadline(b"one block", Instant::now() + Duration::from_secs(5))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_deadline(&mut self, block: &[u8], deadline: Instant) -> Result<(), SendTimeoutError> {
        self.send_until(block, Some(deadline))
    }

    fn send_until(&mut self, block: &[u8], deadline: Option<Instant>) -> Result<(), SendTimeoutError> {
        self.publish(None, [block], deadline)?;
        self.notify();
        Ok(())
    }

    /// Room for one block of up to `len` bytes, to be written in place, if it is there now. Does not block.
    ///
    /// # Errors
    ///
    /// Those of [`try_send`](Self::try_send).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// let mut grant = producer.try_grant(100)?;
    /// write!(grant, "{} + {} = {}", 1, 2, 1 + 2)?;
    /// grant.commit(); // dropped instead, it would leave no trace
    /// let mut block = Vec::new();
    /// consumer.try_recv(&mut block)?;
    /// assert_eq!(block, b"1 + 2 = 3");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_grant(&mut self, len: usize) -> Result<Grant<'_>, TrySendError> {
        let start = self.try_place(len)?;
        self.cleared = NOWHERE;
        Ok(Grant { start, len, written: 0, producer: self })
    }

    /// Room for one block of up to `len` bytes, to be written in place. Blocks until there is room or the
    /// ring is closed.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// let mut grant = producer.grant(100)?;
    /// grant.write_all(b"as long as what was written")?;
    /// grant.commit();
    /// assert_eq!(consumer.recv(&mut Vec::new())?, 27);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn grant(&mut self, len: usize) -> Result<Grant<'_>, SendError> {
        self.wait_for_place(len, None).map_err(SendTimeoutError::untimed)?;
        self.try_grant(len).map_err(|error| not_full(error).untimed())
    }

    /// As [`grant`](Self::grant), but blocks until the deadline at most.
    ///
    /// # Errors
    ///
    /// Those of [`send_timeout`](Self::send_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::ring::SendTimeoutError;
    /// use std::time::Instant;
    ///
    /// let (mut producer, _consumer) = ringpost::ring::local(128)?;
    /// producer.send(b"fills it")?;
    /// assert!(matches!(producer.grant_deadline(8, Instant::now()), Err(SendTimeoutError::TimedOut)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn grant_deadline(&mut self, len: usize, deadline: Instant) -> Result<Grant<'_>, SendTimeoutError> {
        self.wait_for_place(len, Some(deadline))?;
        self.try_grant(len).map_err(not_full)
    }

    /// Begins a batch: several blocks that become visible together. Does not block, and neither does the
    /// batch.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// let mut batch = producer.batch();
    /// batch.push(b"one")?;
    /// batch.push(b"two")?;
    /// batch.commit(); // dropped instead, it would leave no trace
    /// let mut block = Vec::new();
    /// assert_eq!(consumer.try_recv(&mut block), Ok(3));
    /// assert_eq!(consumer.try_recv(&mut block), Ok(3));
    /// assert_eq!(block, b"two");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn batch(&mut self) -> Batch<'_> {
        self.cleared = NOWHERE;
        Batch { at: self.position, first: EMPTY, producer: self }
    }

    // ---- what the layers above build on: publishing and notifying are separate, so that one fence can serve
    // many.

    /// Writes one block made of parts, if there is room now; a header is its first eight bytes, as they lie
    /// in memory. The consumer sees it, but a parked one sleeps on until [`notify`](Self::notify).
    #[inline(always)]
    pub(crate) fn try_publish<const N: usize>(
        &mut self,
        header: Option<u64>,
        parts: [&[u8]; N],
    ) -> Result<(), TrySendError> {
        let len = length(header, parts);
        if !self.fits_line(len) {
            return self.publish_longer(len, header, parts);
        }
        let mut at = HEADER;
        if let Some(header) = header {
            self.ring.set_second_word(self.position, header);
            at += 8;
        }
        for part in parts {
            self.ring.copy_into_line(self.position, at, part);
            at += part.len();
        }
        failpoint!("publish.line");
        self.commit_here(len, LINE as u64);
        Ok(())
    }

    /// With several lines, padding, a look at `head`, or an error.
    #[inline(never)]
    fn publish_longer<const N: usize>(
        &mut self,
        len: usize,
        header: Option<u64>,
        parts: [&[u8]; N],
    ) -> Result<(), TrySendError> {
        // What was cleared ahead needs no care here: it is behind this record, or within it and will not be
        // asked for again.
        let start = if self.fits_here(len) { self.position } else { self.try_place(len)? };
        self.write_parts(start, header, parts);
        failpoint!("publish.payload");
        self.commit_one(start, len);
        Ok(())
    }

    /// As [`try_publish`](Self::try_publish), but waits for room.
    #[inline]
    pub(crate) fn publish<const N: usize>(
        &mut self,
        header: Option<u64>,
        parts: [&[u8]; N],
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError> {
        match self.try_publish(header, parts) {
            Err(TrySendError::Full) => {
                self.wait_for_place(length(header, parts), deadline)?;
                self.try_publish(header, parts).map_err(not_full)
            }
            done => done.map_err(not_full),
        }
    }

    /// Begins a block in place, whose length is not known yet: at first only the first line of it, or `least`
    /// bytes.
    #[inline(always)]
    pub(crate) fn begin(&mut self, least: usize) -> Result<Draft, TrySendError> {
        if self.fits_line(least) {
            return Ok(Draft { start: self.position, room: self.one_line, cleared: NOWHERE });
        }
        let start = self.try_place(least)?;
        self.cleared = NOWHERE;
        Ok(Draft { start, room: least, cleared: NOWHERE })
    }

    /// Makes room for `len` bytes in a draft, or for as many as lie free in one piece.
    #[inline(never)]
    pub(crate) fn extend(&mut self, draft: &mut Draft, len: usize) {
        // What is written now may go over the line that was cleared ahead; only the commit can tell.
        if self.cleared != NOWHERE {
            draft.cleared = std::mem::replace(&mut self.cleared, NOWHERE);
        }
        let mut room = self.free_behind(draft.start);
        if room < len && self.refresh_head().is_ok() {
            room = self.free_behind(draft.start);
        }
        failpoint!("draft.extended");
        draft.room = room.max(draft.room);
    }

    /// Overwrites the first `len` bytes of a draft with zeros: they were written and are not to be sent, and
    /// the other side can read the ring's memory.
    pub(crate) fn take_back(&mut self, draft: &Draft, len: usize) {
        debug_assert!(len <= draft.room, "no more is taken back than was written");
        self.overwrite(draft.start, HEADER, len);
        failpoint!("draft.overwritten");
    }

    /// Writes into a draft behind its first `at` bytes, within its room.
    #[inline(always)]
    pub(crate) fn write(&mut self, draft: &Draft, at: usize, bytes: &[u8]) {
        debug_assert!(at <= draft.room && bytes.len() <= draft.room - at, "no room");
        self.ring.copy_in(draft.start, HEADER + at, bytes);
        failpoint!("draft.written");
    }

    /// Writes the first eight bytes of a draft of at least that length.
    #[inline(always)]
    pub(crate) fn write_first_word(&mut self, draft: &Draft, word: u64) {
        debug_assert!(draft.room >= 8);
        self.ring.set_second_word(draft.start, word);
        failpoint!("draft.header");
    }

    /// Copies back what was written behind the first `from` bytes. The other side may have changed it
    /// meanwhile.
    pub(crate) fn read_back(&self, draft: &Draft, bytes: std::ops::Range<usize>, into: &mut Vec<u8>) {
        self.ring.append_to(draft.start, HEADER + bytes.start, bytes.len(), into);
    }

    /// Commits the first `len` bytes of a draft, with the wake left to the caller. Nothing else may have been
    /// published since it was begun.
    #[inline(always)]
    pub(crate) fn commit_draft(&mut self, draft: &Draft, len: usize) {
        debug_assert!(len <= draft.room, "a draft is committed within its room");
        if draft.start == self.position && len <= ONE_LINE {
            self.commit_here(len, LINE as u64);
        } else {
            // What the draft went over lies within it and is not asked for again, or was overwritten with
            // zeros when it was taken back.
            self.cleared = draft.cleared;
            self.commit_one(draft.start, len);
        }
    }

    /// Wakes the consumer if it sleeps. Owed after each publish before this thread does anything that may
    /// take long.
    #[inline(always)]
    pub(crate) fn notify(&mut self) {
        if self.owes_wake() {
            fence(Ordering::SeqCst);
            self.wake_after_fence();
        }
        self.clear_ahead();
    }

    /// Asks for the line of the next block: this thread is about to write it, and the consumer, which looks
    /// at it, holds a copy that has to be taken away first.
    #[inline(always)]
    pub(crate) fn prepare(&self) {
        self.ring.prefetch_for_write(self.position);
    }

    /// Whether anything was published that a parked consumer may not know of.
    #[inline(always)]
    pub(crate) fn owes_wake(&self) -> bool {
        self.notified != self.position
    }

    /// The consumer looks asleep. Without the fence this can miss one that is just lying down, but costs
    /// nothing.
    #[inline(always)]
    pub(crate) fn consumer_looks_parked(&self) -> bool {
        self.consumer_parked().load(Ordering::Relaxed) == 1
    }

    /// The producer's half of the data wake, behind a SeqCst fence that the caller made.
    #[inline(always)]
    pub(crate) fn wake_after_fence(&mut self) {
        // A consumer that parks later sees, behind its own fence, all that was published: nothing is owed to
        // it.
        if self.owes_wake() {
            self.notified = self.position;
            if self.consumer_looks_parked() {
                self.wake_consumer();
            }
        }
    }

    #[cold]
    fn wake_consumer(&mut self) {
        let word = self.consumer_parked();
        // Relaxed: the word carries no order, the fences do.
        if word.swap(0, Ordering::Relaxed) == 1 {
            failpoint!("wake.data.swapped");
            futex::wake(word, self.scope, 1);
            failpoint!("wake.data.woken");
        }
    }

    #[inline(always)]
    fn consumer_parked(&self) -> &crate::sync::AtomicU32 {
        self.ring.word32::<CONSUMER_PARKED>()
    }

    fn producer_parked(&self) -> &crate::sync::AtomicU32 {
        self.ring.word32::<PRODUCER_PARKED>()
    }

    // ---- room

    #[inline(always)]
    pub(super) fn capacity(&self) -> u64 {
        self.ring.capacity() as u64
    }

    #[inline(always)]
    fn offset(&self, position: u64) -> u64 {
        position & (self.capacity() - 1)
    }

    /// Whether a block of one line goes right behind the committed tail as far as is known, and nothing else
    /// is to be said, which is so nearly always. On anything else `try_place` decides, which asks
    /// everything itself.
    #[inline(always)]
    fn fits_line(&self, len: usize) -> bool {
        let end = self.position + 2 * LINE as u64; // with the zeroed line
        len <= self.one_line && end - self.head <= self.capacity() && !self.closer.is_closed()
    }

    /// The same for a block of any length.
    #[inline(always)]
    fn fits_here(&self, len: usize) -> bool {
        len <= self.max_block
            && self.offset(self.position) + record_size(len) <= self.capacity()
            && self.position + record_size(len) + LINE as u64 - self.head <= self.capacity()
            && !self.closer.is_closed()
    }

    #[inline(never)]
    fn try_place(&mut self, len: usize) -> Result<u64, TrySendError> {
        if len > self.max_block {
            return Err(TrySendError::TooLarge { len, max: self.max_block });
        }
        if self.closer.is_closed() {
            return Err(self.disconnected());
        }
        match self.place(self.position, len) {
            Ok(start) => Ok(start),
            Err(NoPlace::Full) => Err(TrySendError::Full),
            Err(NoPlace::Violation(violation)) => Err(TrySendError::Violation(violation)),
        }
    }

    #[cold]
    fn disconnected(&self) -> TrySendError {
        match self.broken {
            Some(violation) => TrySendError::Violation(violation),
            None => TrySendError::Disconnected(self.closer.reason().unwrap_or(CloseReason::Peer)),
        }
    }

    /// Where a record of `len` bytes goes if the ring is written up to `at`: there, or behind padding at the
    /// start of the ring. The record, its padding and the zeroed line behind it are free.
    #[inline(always)]
    fn place(&mut self, at: u64, len: usize) -> Result<u64, NoPlace> {
        let size = record_size(len);
        let padding = self.padding(at, size);
        let end = at + padding + size + LINE as u64;
        if end - self.head > self.capacity() {
            if self.was_full {
                (0..self.pauses()).for_each(|_| spin_hint());
            }
            self.refresh_head().map_err(NoPlace::Violation)?;
            self.was_full = end - self.head > self.capacity();
            if self.was_full {
                return Err(NoPlace::Full);
            }
        }
        Ok(at + padding)
    }

    /// How many between two looks.
    fn pauses(&self) -> u64 {
        (self.capacity() / (LINE as u64 * LINES_PER_PAUSE)).min(MOST_PAUSES)
    }

    /// How much of it goes before a record of that size, which is contiguous.
    #[inline(always)]
    fn padding(&self, at: u64, size: u64) -> u64 {
        let until_end = self.capacity() - self.offset(at);
        if size <= until_end { 0 } else { until_end }
    }

    /// Where the tail is behind a block of `len` bytes, if it was at `at` before.
    pub(super) fn end_of(&self, at: u64, len: usize) -> u64 {
        at + self.padding(at, record_size(len)) + record_size(len)
    }

    /// Whether such a block has room, as far as is known: the head is not looked at.
    pub(super) fn fits(&self, at: u64, len: usize) -> bool {
        self.end_of(at, len) + LINE as u64 - self.head <= self.capacity()
    }

    /// Whether a block of `len` bytes has room now.
    ///
    /// # Errors
    ///
    /// Those of an attempt to write it, but for `Full`.
    pub(super) fn has_room(&mut self, len: usize) -> Result<bool, TrySendError> {
        if len > self.max_block {
            return Err(TrySendError::TooLarge { len, max: self.max_block });
        }
        if self.closer.is_closed() {
            return Err(self.disconnected());
        }
        self.refresh_head().map_err(TrySendError::Violation)?;
        Ok(self.fits(self.position, len))
    }

    /// Whether the consumer has given up the ring: see [`Consumer::give_up`](super::Consumer::give_up).
    /// Relaxed: it carries no data.
    #[inline(always)]
    pub(super) fn is_given_up(&self) -> bool {
        self.ring.word32::<GIVEN_UP>().load(Ordering::Relaxed) != 0
    }

    /// The committed tail.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// How many payload bytes a record at `start` can have without wrapping, within what is known to be free.
    #[inline]
    fn free_behind(&self, start: u64) -> usize {
        let until_end = self.capacity() - self.offset(start);
        let free = (self.head + self.capacity()).saturating_sub(start + LINE as u64);
        (until_end.min(free) as usize).saturating_sub(HEADER).min(self.max_block)
    }

    /// Loads and checks `head`, the one word that the consumer tells us.
    fn refresh_head(&mut self) -> Result<(), Violation> {
        // Acquire: the consumer's reads of what it gave back come before our writes to it.
        let head = self.ring.word64::<HEAD>().load(Ordering::Acquire);
        let whole_lines = head.is_multiple_of(LINE as u64);
        if !whole_lines || head < self.head || head > self.position {
            return Err(self.poison(Violation::Head));
        }
        if head != self.head {
            // The wake that came with it may yet come, and then finds nothing.
            self.hints = self.hints.saturating_add(1);
        }
        self.head = head;
        Ok(())
    }

    #[cold]
    fn poison(&mut self, violation: Violation) -> Violation {
        self.broken = Some(violation);
        self.closer.close_as(CloseReason::ProtocolViolation);
        violation
    }

    // ---- writing

    #[inline(always)]
    fn write_parts<const N: usize>(&self, start: u64, header: Option<u64>, parts: [&[u8]; N]) {
        let mut at = HEADER;
        if let Some(header) = header {
            self.ring.set_second_word(start, header);
            at += 8;
        }
        for part in parts {
            self.ring.copy_in(start, at, part);
            at += part.len();
        }
    }

    /// Puts zeros where something was written that is not committed: all from the committed tail up to `end`,
    /// but for the header at the tail, which was not stored.
    #[cold]
    #[inline(never)]
    fn overwrite_until(&self, end: u64) {
        let (start, len) = (self.position, end - self.position);
        if len > 0 {
            let until_end = len.min(self.capacity() - self.offset(start));
            self.overwrite(start, HEADER, until_end as usize - HEADER);
            self.overwrite(start + until_end, 0, (len - until_end) as usize);
        }
    }

    /// Puts zeros where something was written that is not committed. `from` counts from the start of the line
    /// at `start`.
    #[cold]
    #[inline(never)]
    fn overwrite(&self, start: u64, from: usize, len: usize) {
        const ZEROS: &[u8] = &[0; 4096];
        let end = from + len;
        let mut at = from;
        while at < end {
            let piece = ZEROS.len().min(end - at);
            self.ring.copy_in(start, at, &ZEROS[..piece]);
            at += piece;
        }
    }

    /// Makes the record of this size at the committed tail visible.
    #[inline(always)]
    fn commit_here(&mut self, len: usize, size: u64) {
        let next = self.position + size;
        if self.cleared != next {
            self.ring.header(next).store(EMPTY, Ordering::Relaxed);
            failpoint!("publish.zero");
        }
        self.ring.header(self.position).store(data_header(self.position, len), Ordering::Release);
        failpoint!("publish.header");
        self.position = next;
        self.last_size = size;
    }

    /// Stores the 0 that the next block of one line needs behind it, while nobody waits for that: a line that
    /// the other end holds is long in coming, and a header waits for every store before it. To be called
    /// after a publish and the fence behind it, if there is one, for that would wait too.
    #[inline(always)]
    pub(crate) fn clear_ahead(&mut self) {
        let ahead = self.position + self.last_size;
        if self.cleared != ahead && ahead + LINE as u64 - self.head <= self.capacity() {
            self.ring.header(ahead).store(EMPTY, Ordering::Relaxed);
            failpoint!("publish.ahead");
            self.cleared = ahead;
            if self.last_size > LINE as u64 {
                self.prepare_lines();
            } else {
                self.ring.prefetch_for_write(self.position + LINES_AHEAD);
            }
        }
    }

    /// What a commit that ends there will take to be 0 already.
    #[cfg(test)]
    pub(super) fn cleared(&self) -> Option<u64> {
        (self.cleared != NOWHERE && self.cleared > self.position).then_some(self.cleared)
    }

    #[inline(never)]
    fn prepare_lines(&self) {
        for line in 1..(self.last_size / LINE as u64).min(4) {
            self.ring.prefetch_for_write(self.position + line * LINE as u64);
        }
    }

    /// Makes the record at `start`, and the padding before it if there is any, visible.
    #[inline(always)]
    fn commit_one(&mut self, start: u64, len: usize) {
        if start == self.position {
            self.commit_here(len, record_size(len));
        } else {
            self.commit_padded(start, len);
        }
    }

    /// The padding's header is stored last: nothing behind it can be seen before.
    #[cold]
    fn commit_padded(&mut self, start: u64, len: usize) {
        let next = start + record_size(len);
        self.ring.header(next).store(EMPTY, Ordering::Relaxed);
        failpoint!("publish.padded.zero");
        self.ring.header(start).store(data_header(start, len), Ordering::Relaxed);
        failpoint!("publish.padded.record");
        let padding = padding_header(self.position, start - self.position);
        self.ring.header(self.position).store(padding, Ordering::Release);
        failpoint!("publish.padded.header");
        self.position = next;
    }

    // ---- waiting for room

    /// Waits until a block of `len` bytes has a place. Padding and the zeroed line are part of the question.
    #[cold]
    fn wait_for_place(&mut self, len: usize, deadline: Option<Instant>) -> Result<(), SendTimeoutError> {
        let deadline = super::patience(deadline);
        let mut waiting = self.waiting;
        let mut pauses = 0;
        let mut look = |producer: &mut Producer| {
            if pauses > 0 {
                pauses -= 1;
                return false;
            }
            pauses = producer.pauses();
            producer.is_decided(len)
        };
        for _ in 0..waiting.brief_looks() {
            if look(self) {
                return Ok(());
            }
            spin_hint();
        }
        let result = match waiting.look(deadline, self.position / LINE as u64, || look(self)) {
            Looked::Found => Ok(()),
            // The last look may have been one that was left out.
            Looked::TimedOut if self.is_decided(len) => Ok(()),
            Looked::TimedOut => Err(SendTimeoutError::TimedOut),
            Looked::Sleep(began) => {
                let slept = self.sleep_for_place(len, deadline);
                waiting.slept(began, self.position / LINE as u64);
                slept
            }
        };
        self.waiting = waiting;
        result
    }

    /// Whether an attempt to place a block would do anything but find the ring full.
    fn is_decided(&mut self, len: usize) -> bool {
        self.was_full = false; // The waits leave time between their looks by themselves.
        !matches!(self.try_place(len), Err(TrySendError::Full))
    }

    fn sleep_for_place(&mut self, len: usize, deadline: Option<Instant>) -> Result<(), SendTimeoutError> {
        loop {
            let before = self.head;
            if self.arm_for_place(len) {
                return Ok(());
            }
            let slice = Instant::now() + SPACE_SLICE;
            let until = deadline.map_or(slice, |deadline| deadline.min(slice));
            failpoint!("park.space.set");
            let woken = self.sleep(until);
            failpoint!("park.space.slept");
            futex::set(self.producer_parked(), 0);
            failpoint!("park.space.cleared");
            if self.is_decided(len) {
                return Ok(());
            }
            self.account(before, woken).map_err(SendTimeoutError::Violation)?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(SendTimeoutError::TimedOut);
            }
        }
    }

    /// Counts a return from a sleep for space that began with this head.
    pub(crate) fn account(&mut self, before: u64, woken: Woken) -> Result<(), Violation> {
        if self.head == before && woken == Woken::Hint {
            self.hints = self.hints.saturating_sub(1);
            if self.hints == 0 {
                return Err(self.poison(Violation::FruitlessWakes));
            }
        }
        Ok(())
    }

    /// The last head seen.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// The word that a sleep for space waits on, for a thread that does not hold the producer meanwhile.
    pub(crate) fn space_word(&self) -> SpaceWord {
        SpaceWord { ring: self.ring.clone(), scope: self.scope }
    }

    /// Sets the parked word and looks again. False: there is no place, and a sleep may follow.
    pub(crate) fn arm_for_place(&mut self, len: usize) -> bool {
        futex::set(self.producer_parked(), 1);
        fence(Ordering::SeqCst);
        let decided = self.is_decided(len);
        if decided {
            futex::set(self.producer_parked(), 0);
        }
        decided
    }

    fn sleep(&self, until: Instant) -> Woken {
        let space = Wait { word: self.producer_parked(), expected: 1, scope: self.scope };
        if self.closer.sleeps_on_private() {
            futex::wait(&[space, self.closer.as_wait()], Some(until))
        } else {
            futex::wait(&[space], Some(until))
        }
    }
}

/// A ring's parked word for space; see [`Producer::space_word`].
pub(crate) struct SpaceWord {
    ring: RingView,
    scope: Scope,
}

impl SpaceWord {
    pub(crate) fn as_wait(&self) -> Wait<'_> {
        Wait { word: self.ring.word32::<PRODUCER_PARKED>(), expected: 1, scope: self.scope }
    }
}

/// The length of a block of these parts.
#[inline(always)]
fn length<const N: usize>(header: Option<u64>, parts: [&[u8]; N]) -> usize {
    header.map_or(0, |_| 8) + parts.iter().map(|part| part.len()).sum::<usize>()
}

/// For errors of an attempt that is known not to be `Full`.
fn not_full(error: TrySendError) -> SendTimeoutError {
    match error {
        TrySendError::Full => SendTimeoutError::TimedOut,
        TrySendError::TooLarge { len, max } => SendTimeoutError::TooLarge { len, max },
        TrySendError::Disconnected(reason) => SendTimeoutError::Disconnected(reason),
        TrySendError::Violation(violation) => SendTimeoutError::Violation(violation),
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if let Some(reason) = self.closes_on_drop {
            self.closer.close_as(reason);
        }
    }
}

/// A block begun in place by [`Producer::begin`]: where its record begins, and how many bytes may be written.
#[derive(Debug)]
pub(crate) struct Draft {
    start: u64,
    room: usize,
    /// What was cleared ahead when the draft grew beyond one line.
    cleared: u64,
}

impl Draft {
    #[inline(always)]
    pub(crate) fn room(&self) -> usize {
        self.room
    }
}

/// Room for one block, written in place through [`io::Write`]: [`Producer::grant`]. It becomes visible with
/// [`commit`](Self::commit). If it is dropped, nothing is sent, and what was written is overwritten with
/// zeros. Until then the other side can read it in the ring's memory, and also if the grant is leaked
/// ([`std::mem::forget`]). More than its room is written in part, as to any full writer.
///
/// # Examples
///
/// ```
/// use std::io::Write;
///
/// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
/// let mut grant = producer.grant(4)?;
/// assert_eq!(grant.write(b"abcdef")?, 4);
/// grant.commit();
/// let mut block = Vec::new();
/// consumer.recv(&mut block)?;
/// assert_eq!(block, b"abcd");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a grant that is not committed sends nothing"]
pub struct Grant<'a> {
    producer: &'a mut Producer,
    /// Where the record begins; padding lies before it if this is not the committed tail.
    start: u64,
    len: usize,
    written: usize,
}

impl Grant<'_> {
    /// How many more bytes can be written. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// let (mut producer, _consumer) = ringpost::ring::local(4096)?;
    /// let mut grant = producer.grant(10)?;
    /// grant.write_all(b"abc")?;
    /// assert_eq!((grant.remaining(), grant.written()), (7, 3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn remaining(&self) -> usize {
        self.len - self.written
    }

    /// How many bytes were written. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, _consumer) = ringpost::ring::local(4096)?;
    /// assert_eq!(producer.grant(10)?.written(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn written(&self) -> usize {
        self.written
    }

    /// Makes what was written visible as one block, and wakes the reader. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.grant(10)?.commit(); // a block of no bytes
    /// assert_eq!(consumer.try_recv(&mut Vec::new()), Ok(0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn commit(self) {
        self.producer.commit_one(self.start, self.written);
        self.producer.notify();
        std::mem::forget(self); // Its drop is for what is not committed.
    }
}

impl Drop for Grant<'_> {
    /// What was written and not committed is not for the other side, who can read the ring's memory.
    #[inline(always)]
    fn drop(&mut self) {
        self.producer.overwrite(self.start, HEADER, self.written);
    }
}

impl io::Write for Grant<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fit = &bytes[..bytes.len().min(self.remaining())];
        self.producer.ring.copy_in(self.start, HEADER + self.written, fit);
        failpoint!("grant.written");
        self.written += fit.len();
        Ok(fit.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Several blocks that become visible together with [`commit`](Self::commit): [`Producer::batch`]. If it is
/// dropped, none is sent, and their bytes are overwritten with zeros, as those of a [`Grant`].
///
/// # Examples
///
/// ```
/// use ringpost::ring::TrySendError;
///
/// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
/// let mut batch = producer.batch();
/// let mut pushed = 0;
/// loop {
///     match batch.push(b"as many as there is room for") {
///         Ok(()) => pushed += 1,
///         Err(TrySendError::Full) => break,
///         Err(error) => return Err(error.into()),
///     }
/// }
/// batch.commit();
/// for _ in 0..pushed {
///     assert_eq!(consumer.try_recv(&mut Vec::new()), Ok(28));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a batch that is not committed sends nothing"]
pub struct Batch<'a> {
    producer: &'a mut Producer,
    /// How far the ring is written, uncommitted.
    at: u64,
    /// The header at the committed tail, stored last.
    first: u64,
}

impl Batch<'_> {
    /// Adds a block. Does not block.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_send`]. If there is no room, [`Full`](TrySendError::Full), the batch stays as
    /// it was and can be committed.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::ring::TrySendError;
    ///
    /// let (mut producer, mut consumer) = ringpost::ring::local(128)?;
    /// let mut batch = producer.batch();
    /// batch.push(b"fits")?;
    /// assert_eq!(batch.push(b"does not"), Err(TrySendError::Full));
    /// batch.commit();
    /// assert_eq!(consumer.try_recv(&mut Vec::new()), Ok(4));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn push(&mut self, block: &[u8]) -> Result<(), TrySendError> {
        let len = block.len();
        let producer = &mut *self.producer;
        if len > producer.max_block {
            return Err(TrySendError::TooLarge { len, max: producer.max_block });
        }
        if producer.closer.is_closed() {
            return Err(producer.disconnected());
        }
        let start = match producer.place(self.at, len) {
            Ok(start) => start,
            Err(NoPlace::Full) => return Err(TrySendError::Full),
            Err(NoPlace::Violation(violation)) => return Err(TrySendError::Violation(violation)),
        };
        producer.ring.prefetch_for_write(start + LINES_AHEAD_IN_BATCH);
        producer.write_parts(start, None, [block]);
        if start != self.at {
            self.put_header(self.at, padding_header(self.at, start - self.at));
        }
        self.put_header(start, data_header(start, len));
        failpoint!("batch.record");
        self.at = start + record_size(len);
        Ok(())
    }

    /// The first header waits for the commit; the others are hidden behind it and can be stored at once.
    #[inline]
    fn put_header(&mut self, position: u64, header: u64) {
        if position == self.producer.position {
            self.first = header;
        } else {
            self.producer.ring.header(position).store(header, Ordering::Relaxed);
        }
    }

    /// Makes all blocks visible, with one fence and one wake for all of them. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// let mut batch = producer.batch();
    /// batch.push(b"one")?;
    /// batch.push(b"two")?;
    /// batch.commit();
    /// assert_eq!(consumer.try_recv(&mut Vec::new()), Ok(3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn commit(self) {
        let (producer, at) = (&mut *self.producer, self.at);
        if at != producer.position {
            producer.ring.header(at).store(EMPTY, Ordering::Relaxed);
            failpoint!("batch.zero");
            producer.ring.header(producer.position).store(self.first, Ordering::Release);
            failpoint!("batch.header");
            producer.position = at;
            producer.notify();
        }
        std::mem::forget(self); // Its drop is for what is not committed.
    }
}

impl Drop for Batch<'_> {
    /// As for a [`Grant`].
    #[inline(always)]
    fn drop(&mut self) {
        self.producer.overwrite_until(self.at);
    }
}
