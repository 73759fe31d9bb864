//! The reading end.

use std::fmt;
use std::time::Instant;

use super::layout::{
    self, CONSUMER_PARKED, EMPTY, GIVEN_UP, HEAD, HEADER, Header, LINE, ONE_LINE, PRODUCER_PARKED, Violation,
    record_size,
};
use super::wait::{Looked, Waiting, Yields};
use super::{
    CloseReason, Closer, Deadline, RecvError, RecvTimeoutError, SPARE_HINTS, Setup, TryRecvError,
    WaitStrategy,
};
use crate::shm::RingView;
use crate::shm::futex::{self, Scope, Wait, Woken};
use crate::sync::{Ordering, fence, spin_hint};
use crate::testing::failpoints::failpoint;

/// The reading end of a ring. It may be moved to another thread, but there is only one.
///
/// What was committed before the ring was closed is received first. Dropping it closes a ring between
/// threads, and a channel that is used by itself.
///
/// # Examples
///
/// ```
/// use ringpost::ring::RecvError;
///
/// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
/// let reader = std::thread::spawn(move || {
///     let (mut block, mut sum) = (Vec::new(), 0);
///     loop {
///         match consumer.recv(&mut block) {
///             Ok(_) => sum += u32::from(block[0]),
///             Err(RecvError::Disconnected(_)) => return Ok(sum),
///             Err(error) => return Err(error),
///         }
///     }
/// });
/// for number in 1..=100 {
///     producer.send(&[number])?;
/// }
/// drop(producer); // the end
/// assert_eq!(reader.join().unwrap(), Ok(5050));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Consumer {
    ring: RingView,
    max_block: usize,
    /// The longest block that comes as one line.
    one_line: usize,
    /// Where the next record begins. What lies before was taken, and given back but for what a drain
    /// withholds; then it is owed, too.
    position: u64,
    broken: Option<Violation>,
    /// What was taken when the producer was last notified; all of it was given back then.
    notified: u64,
    /// From this position on a fence is due, whatever else happens: the next quarter of the ring.
    next_quarter: u64,
    closer: Closer,
    scope: Scope,
    waiting: Waiting,
    hints: u64,
    closes_on_drop: Option<CloseReason>,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("capacity", &self.ring.capacity())
            .field("max_block", &self.max_block)
            .field("closed", &self.closer.reason())
            .finish_non_exhaustive()
    }
}

/// A committed block that was found at `start`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    start: u64,
    len: usize,
}

impl Found {
    /// What its record takes.
    #[inline(always)]
    fn size(self) -> u64 {
        if self.len <= ONE_LINE { LINE as u64 } else { record_size(self.len) }
    }
}

impl Consumer {
    pub(crate) fn new(setup: &Setup) -> Consumer {
        debug_assert!(setup.capacity.is_power_of_two() && setup.capacity >= layout::MIN_CAPACITY);
        debug_assert!(setup.max_block <= layout::largest_block(setup.capacity));
        Consumer {
            ring: setup.view.ring(setup.control, setup.data, setup.capacity),
            max_block: setup.max_block,
            one_line: setup.max_block.min(ONE_LINE),
            position: setup.start,
            broken: None,
            notified: setup.start,
            next_quarter: setup.start,
            closer: setup.closer.clone(),
            scope: setup.scope,
            waiting: Waiting::new(setup.strategy),
            hints: SPARE_HINTS,
            closes_on_drop: setup.closes_on_drop,
        }
    }

    /// The largest block that can arrive, in bytes. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (_producer, consumer) = ringpost::ring::local(4096)?;
    /// assert_eq!(consumer.max_block(), 2040);
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
    /// consumer.set_wait_strategy(WaitStrategy::Park);
    /// # producer.try_send(b"x")?;
    /// # consumer.recv(&mut Vec::new())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        self.waiting = Waiting::new(strategy);
    }

    /// How often its waits gave the CPU away.
    pub(crate) fn yields(&self) -> Yields {
        self.waiting.yields()
    }

    /// Whether a wait may end in sleep.
    pub(crate) fn may_sleep(&self) -> bool {
        self.waiting.strategy != WaitStrategy::Spin
    }

    /// A handle that closes the channel from any thread and ends this end's waits. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::CloseReason;
    /// use ringpost::ring::RecvError;
    ///
    /// let (_producer, mut consumer) = ringpost::ring::local(4096)?;
    /// let closer = consumer.closer();
    /// let reader = std::thread::spawn(move || consumer.recv(&mut Vec::new()));
    /// closer.close();
    /// assert_eq!(reader.join().unwrap(), Err(RecvError::Disconnected(CloseReason::Local)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }

    /// Takes the next block if one is there: `into` is cleared and holds the block afterwards. Returns its
    /// length. Does not block.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty), [`Disconnected`](TryRecvError::Disconnected) or
    /// [`Violation`](TryRecvError::Violation); `into` is left as it was.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::ring::TryRecvError;
    ///
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// let mut block = Vec::new();
    /// assert_eq!(consumer.try_recv(&mut block), Err(TryRecvError::Empty));
    /// producer.send(b"hello")?;
    /// assert_eq!(consumer.try_recv(&mut block), Ok(5));
    /// assert_eq!(block, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_recv(&mut self, into: &mut Vec<u8>) -> Result<usize, TryRecvError> {
        let incoming = self.try_incoming()?;
        Ok(take_whole(incoming, into))
    }

    /// Takes the next block: `into` is cleared and holds it afterwards. Returns its length. Blocks until one
    /// is there, or the ring is closed and empty.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](RecvError::Disconnected) or [`Violation`](RecvError::Violation).
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.send(b"hello")?;
    /// let mut block = Vec::new();
    /// assert_eq!(consumer.recv(&mut block)?, 5);
    /// assert_eq!(block, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv(&mut self, into: &mut Vec<u8>) -> Result<usize, RecvError> {
        let incoming = self.incoming()?;
        Ok(take_whole(incoming, into))
    }

    /// As [`recv`](Self::recv), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv), and [`TimedOut`](RecvTimeoutError::TimedOut).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::ring::RecvTimeoutError;
    /// use std::time::Duration;
    ///
    /// let (_producer, mut consumer) = ringpost::ring::local(4096)?;
    /// let nothing = consumer.recv_timeout(&mut Vec::new(), Duration::from_millis(5));
    /// assert_eq!(nothing, Err(RecvTimeoutError::TimedOut));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_timeout(
        &mut self,
        into: &mut Vec<u8>,
        deadline: impl Into<Deadline>,
    ) -> Result<usize, RecvTimeoutError> {
        let incoming = self.incoming_until(deadline.into().start())?;
        Ok(take_whole(incoming, into))
    }

    /// As [`recv`](Self::recv), but blocks until the deadline at most.
    ///
    /// # Errors
    ///
    /// Those of [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.send(b"hello")?;
    /// let deadline = Instant::now() + Duration::from_secs(5);
    /// assert_eq!(consumer.recv_deadline(&mut Vec::new(), deadline), Ok(5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_deadline(
        &mut self,
        into: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<usize, RecvTimeoutError> {
        let incoming = self.incoming_until(Some(deadline))?;
        Ok(take_whole(incoming, into))
    }

    /// The next block, if one is there, to be copied out in parts. Does not block.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.send(b"head:body")?;
    /// let incoming = consumer.try_incoming()?;
    /// assert_eq!(incoming.len(), 9);
    /// let mut body = [0; 4];
    /// incoming.read_at(5, &mut body);
    /// assert_eq!(&body, b"body");
    /// incoming.release(); // dropped instead, the block would stay
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_incoming(&mut self) -> Result<Incoming<'_>, TryRecvError> {
        let found = match self.look_quickly() {
            Some(found) => found,
            None => self.try_find()?,
        };
        Ok(Incoming { consumer: self, found })
    }

    #[inline(never)]
    fn try_find(&mut self) -> Result<Found, TryRecvError> {
        match self.look() {
            Some(found) => found,
            None => {
                self.pay_wake_if_owed();
                Err(TryRecvError::Empty)
            }
        }
    }

    /// The next block, to be copied out in parts. Blocks until one is there, or the ring is closed and empty.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.send(b"hello")?;
    /// let incoming = consumer.incoming()?;
    /// assert_eq!(incoming.len(), 5);
    /// incoming.release();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn incoming(&mut self) -> Result<Incoming<'_>, RecvError> {
        self.incoming_until(None).map_err(RecvTimeoutError::untimed)
    }

    /// Begins to take several blocks, whose places are given back together: see [`Drain`]. Does not block.
    ///
    /// # Examples
    ///
    /// Waits for a block, and takes what has come with it:
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// for name in ["one", "two", "three"] {
    ///     producer.send(name.as_bytes())?;
    /// }
    /// let mut block = Vec::new();
    /// let mut bytes = consumer.recv(&mut block)?;
    /// let mut drain = consumer.drain();
    /// while let Ok(len) = drain.try_recv(&mut block) {
    ///     bytes += len;
    /// }
    /// assert_eq!(bytes, 11);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn drain(&mut self) -> Drain<'_> {
        Drain { consumer: self }
    }

    /// As [`incoming`](Self::incoming), but blocks until the deadline at most.
    ///
    /// # Errors
    ///
    /// Those of [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// let (_producer, mut consumer) = ringpost::ring::local(4096)?;
    /// assert!(consumer.incoming_deadline(Instant::now()).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn incoming_deadline(&mut self, deadline: Instant) -> Result<Incoming<'_>, RecvTimeoutError> {
        self.incoming_until(Some(deadline))
    }

    #[inline(always)]
    pub(crate) fn incoming_until(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Incoming<'_>, RecvTimeoutError> {
        let found = match self.find_soon() {
            Some(found) => found,
            None => self.find(deadline)?,
        };
        Ok(Incoming { consumer: self, found })
    }

    /// Whatever the first looks did not find: a block that comes later, padding, the end of the ring, broken
    /// rules.
    #[cold]
    #[inline(never)]
    pub(crate) fn find(&mut self, deadline: Option<Instant>) -> Result<Found, RecvTimeoutError> {
        self.find_or(deadline, &mut |_| false)
    }

    /// The same. Before it sleeps because nothing came while it looked, it asks `goes_on` whether to look as
    /// long again instead.
    #[cold]
    pub(crate) fn find_or(
        &mut self,
        deadline: Option<Instant>,
        goes_on: &mut dyn FnMut(Yields) -> bool,
    ) -> Result<Found, RecvTimeoutError> {
        loop {
            match self.look() {
                Some(found) => return found.map_err(not_empty),
                None => self.wait(deadline, goes_on)?,
            }
        }
    }

    // ---- what the layers above build on

    /// A block that is there or comes within the looks that a wait makes before its first reading of the
    /// clock.
    #[inline(always)]
    pub(crate) fn find_soon(&self) -> Option<Found> {
        let mut looks = self.waiting.brief_looks();
        loop {
            let found = self.look_quickly();
            if found.is_some() || looks == 0 {
                return found;
            }
            looks -= 1;
            spin_hint();
        }
    }

    /// The block that was found just now.
    #[inline(always)]
    pub(crate) fn take(&mut self, found: Found) -> Incoming<'_> {
        Incoming { consumer: self, found }
    }

    /// Tells the other side that nothing is taken any more, and wakes it if it waits for room. For an inbox
    /// whose receiver is gone while its channel stays open. On a closed channel, and in a forked child,
    /// it does nothing.
    pub(crate) fn give_up(&self) {
        if self.closer.is_closed() {
            return;
        }
        self.ring.word32::<GIVEN_UP>().store(1, Ordering::Relaxed);
        failpoint!("give_up.stored");
        // As after giving back room: a producer that parks later looks at the word behind its own fence.
        fence(Ordering::SeqCst);
        self.wake_producer();
        failpoint!("give_up.told");
    }

    /// For a layer above that found a block against its rules: poisons this end and closes the channel.
    pub(crate) fn reject(&mut self, violation: Violation) -> Violation {
        self.poison(violation);
        violation
    }

    // ---- looking

    /// A block that keeps every rule, which is what is there nearly always. On anything else `look` decides,
    /// which looks for itself.
    #[inline(always)]
    fn look_quickly(&self) -> Option<Found> {
        let word = self.load_header();
        let len = (word & 0xffff_ffff) as usize;
        // A broken consumer has closed its channel, and a forked child finds it closed: both take the other
        // way.
        if word >> 32 != layout::data_mark(self.position) || self.closer.is_closed_here() {
            return None;
        }
        // A single line lies within the ring wherever it begins.
        let sound = len <= self.one_line || self.is_sound(len);
        sound.then_some(Found { start: self.position, len })
    }

    #[inline(never)]
    fn is_sound(&self, len: usize) -> bool {
        let offset = self.position & (self.capacity() - 1);
        len <= self.max_block && offset + record_size(len) <= self.capacity()
    }

    /// A block, the end of the ring or a broken rule; `None` if there is nothing now.
    fn look(&mut self) -> Option<Result<Found, TryRecvError>> {
        let word = self.load_header();
        if word == EMPTY {
            return self.look_closed();
        }
        self.examine(word)
    }

    #[inline(always)]
    fn load_header(&self) -> u64 {
        // Acquire: whoever sees the header sees the payload, and the zero behind it.
        self.ring.header(self.position).load(Ordering::Acquire)
    }

    #[inline(always)]
    fn capacity(&self) -> u64 {
        self.ring.capacity() as u64
    }

    fn look_closed(&mut self) -> Option<Result<Found, TryRecvError>> {
        if self.closer.is_closed() { self.look_after_close() } else { None }
    }

    /// Closed was seen; only a look that comes after that tells that nothing is left.
    #[cold]
    fn look_after_close(&mut self) -> Option<Result<Found, TryRecvError>> {
        let reason = self.closer.reason()?;
        if let Some(violation) = self.broken {
            return Some(Err(TryRecvError::Violation(violation)));
        }
        match self.load_header() {
            EMPTY => Some(Err(TryRecvError::Disconnected(reason))),
            word => self.examine(word),
        }
    }

    fn examine(&mut self, word: u64) -> Option<Result<Found, TryRecvError>> {
        if self.closer.is_forked() {
            // What lies here is its parent's, which goes on reading.
            return Some(Err(TryRecvError::Disconnected(CloseReason::Forked)));
        }
        if let Some(violation) = self.broken {
            return Some(Err(TryRecvError::Violation(violation)));
        }
        match layout::check(word, self.position, self.ring.capacity(), self.max_block) {
            Ok(Header::Data(len)) => Some(Ok(Found { start: self.position, len })),
            Ok(Header::Padding) => self.skip_padding(),
            Err(violation) => Some(Err(self.poison(violation))),
        }
    }

    #[cold]
    fn skip_padding(&mut self) -> Option<Result<Found, TryRecvError>> {
        self.position += self.capacity() - (self.position & (self.capacity() - 1));
        self.give_back();
        failpoint!("consume.padding");
        self.settle();
        // At offset 0 there is no padding, so this does not go on for ever.
        self.look()
    }

    #[cold]
    fn poison(&mut self, violation: Violation) -> TryRecvError {
        self.broken = Some(violation);
        self.closer.close_as(CloseReason::ProtocolViolation);
        TryRecvError::Violation(violation)
    }

    // ---- giving back

    /// Takes a block that was copied out. Its place is still to be given back.
    #[inline(always)]
    fn pass(&mut self, found: Found) {
        failpoint!("consume.copied");
        self.hints += 1;
        self.position += found.size();
    }

    /// Gives all that was taken back to the producer.
    #[inline(always)]
    fn give_back(&self) {
        // Release: our reads of these bytes come before the producer's next writes to them.
        self.ring.word64::<HEAD>().store(self.position, Ordering::Release);
        failpoint!("consume.head");
    }

    /// Pays what the last block made due.
    #[inline(always)]
    pub(crate) fn settle(&mut self) {
        if self.position >= self.next_quarter || self.producer_parked().load(Ordering::Relaxed) == 1 {
            self.pay_wake();
        }
    }

    #[inline]
    fn pay_wake_if_owed(&mut self) {
        if self.owes_wake() {
            self.pay_wake();
        }
    }

    /// The consumer's half of the space wake.
    #[cold]
    #[inline(never)]
    fn pay_wake(&mut self) {
        // Again, unless a drain took the last blocks.
        self.give_back();
        self.next_quarter = self.position + self.capacity() / 4;
        fence(Ordering::SeqCst);
        self.wake_after_fence();
    }

    /// Whether anything was taken that a parked producer may not know of.
    #[inline(always)]
    pub(crate) fn owes_wake(&self) -> bool {
        self.notified != self.position
    }

    /// The same behind a SeqCst fence that the caller made.
    #[inline(always)]
    pub(crate) fn wake_after_fence(&mut self) {
        // A producer that parks later sees, behind its own fence, all that was given back: nothing is owed to
        // it.
        if !self.owes_wake() {
            return;
        }
        self.notified = self.position;
        self.wake_producer();
    }

    #[inline(always)]
    fn wake_producer(&self) {
        let word = self.producer_parked();
        if word.load(Ordering::Relaxed) == 1 && word.swap(0, Ordering::Relaxed) == 1 {
            failpoint!("wake.space.swapped");
            futex::wake(word, self.scope, 1);
            failpoint!("wake.space.woken");
        }
    }

    #[inline(always)]
    fn producer_parked(&self) -> &crate::sync::AtomicU32 {
        self.ring.word32::<PRODUCER_PARKED>()
    }

    fn consumer_parked(&self) -> &crate::sync::AtomicU32 {
        self.ring.word32::<CONSUMER_PARKED>()
    }

    // ---- waiting

    /// Whether a look would find something, or the end.
    #[inline(always)]
    fn is_pending(&self) -> bool {
        self.load_header() != EMPTY || self.closer.is_closed()
    }

    /// Waits until a look would find something, or the end.
    #[cold]
    fn wait(
        &mut self,
        deadline: Option<Instant>,
        goes_on: &mut dyn FnMut(Yields) -> bool,
    ) -> Result<(), RecvTimeoutError> {
        // What is owed for space is paid after the first few looks: in a quick exchange the next publish pays
        // it.
        self.pay_wake_if_owed();
        let deadline = super::patience(deadline);
        let mut waiting = self.waiting;
        let result = match waiting.look(deadline, self.hints, || self.is_pending()) {
            Looked::Found => Ok(()),
            Looked::TimedOut => Err(RecvTimeoutError::TimedOut),
            Looked::Sleep(_) if !waiting.has_switched_enough() && goes_on(waiting.yields()) => {
                waiting.spin_again();
                Ok(())
            }
            Looked::Sleep(began) => {
                let slept = self.sleep_for_data(deadline);
                waiting.slept(began, self.hints);
                slept
            }
        };
        self.waiting = waiting;
        result
    }

    #[cold]
    fn sleep_for_data(&mut self, deadline: Option<Instant>) -> Result<(), RecvTimeoutError> {
        loop {
            futex::set(self.consumer_parked(), 1);
            fence(Ordering::SeqCst);
            if self.is_pending() {
                futex::set(self.consumer_parked(), 0);
                return Ok(());
            }
            failpoint!("park.data.set");
            let woken = self.sleep(deadline);
            failpoint!("park.data.slept");
            if self.closer.is_forked() {
                // By a handler of a signal that ended the sleep: the word is its parent's, who may sleep by
                // it.
                return Ok(());
            }
            futex::set(self.consumer_parked(), 0);
            failpoint!("park.data.cleared");
            if self.is_pending() {
                return Ok(());
            }
            match woken {
                Woken::TimedOut => return Err(RecvTimeoutError::TimedOut),
                Woken::Hint => {
                    self.hints -= 1;
                    if self.hints == 0 {
                        return Err(not_empty(self.poison(Violation::FruitlessWakes)));
                    }
                }
                Woken::Interrupted | Woken::Slice => {}
            }
        }
    }

    fn sleep(&self, deadline: Option<Instant>) -> Woken {
        let data = Wait { word: self.consumer_parked(), expected: 1, scope: self.scope };
        if self.closer.sleeps_on_private() {
            futex::wait(&[data, self.closer.as_wait()], deadline)
        } else {
            futex::wait(&[data], deadline)
        }
    }
}

fn not_empty(error: TryRecvError) -> RecvTimeoutError {
    match error {
        TryRecvError::Empty => RecvTimeoutError::TimedOut,
        TryRecvError::Disconnected(reason) => RecvTimeoutError::Disconnected(reason),
        TryRecvError::Violation(violation) => RecvTimeoutError::Violation(violation),
    }
}

#[inline]
fn take_whole(incoming: Incoming<'_>, into: &mut Vec<u8>) -> usize {
    let found = copy_whole(&incoming, into);
    incoming.release();
    found.len
}

#[inline]
fn copy_whole(incoming: &Incoming<'_>, into: &mut Vec<u8>) -> Found {
    into.clear();
    incoming.append_to(0, into);
    incoming.found
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(reason) = self.closes_on_drop {
            self.closer.close_as(reason);
        }
    }
}

/// A block that has arrived and still lies in the ring: [`Consumer::incoming`]. What the other side wrote is
/// looked at only in copies. It stays the next block until it is [released](Self::release).
///
/// Between processes the other side can change it meanwhile, if it breaks the rules: copy what must not
/// change, once.
///
/// # Examples
///
/// ```
/// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
/// producer.send(b"hello")?;
/// drop(consumer.incoming()?); // not released
/// let mut block = Vec::new();
/// consumer.recv(&mut block)?;
/// assert_eq!(block, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Incoming<'a> {
    consumer: &'a mut Consumer,
    found: Found,
}

impl Incoming<'_> {
    /// The block's length in bytes. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.send(b"hello")?;
    /// assert_eq!(consumer.incoming()?.len(), 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn len(&self) -> usize {
        self.found.len
    }

    /// Whether the block has no bytes. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.send(b"")?;
    /// assert!(consumer.incoming()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.found.len == 0
    }

    /// Copies the bytes from `offset` on. Does not block.
    ///
    /// # Panics
    ///
    /// If `offset + to.len()` is more than the block's length.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.send(b"head:body")?;
    /// let mut head = [0; 4];
    /// consumer.incoming()?.read_at(0, &mut head);
    /// assert_eq!(&head, b"head");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn read_at(&self, offset: usize, to: &mut [u8]) {
        let inside = offset.checked_add(to.len()).is_some_and(|end| end <= self.found.len);
        assert!(inside, "the block ends before the bytes asked for");
        self.consumer.ring.copy_out(self.found.start, HEADER + offset, to);
    }

    /// Appends the bytes from `offset` to the end of the block; none if `offset` is beyond it. Does not
    /// block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.send(b"head:body")?;
    /// let mut body = b"the ".to_vec();
    /// consumer.incoming()?.append_to(5, &mut body);
    /// assert_eq!(body, b"the body");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn append_to(&self, offset: usize, to: &mut Vec<u8>) {
        let len = self.found.len.saturating_sub(offset);
        if self.found.len <= ONE_LINE && len > 0 {
            self.consumer.ring.append_from_line(self.found.start, HEADER + offset, len, to);
        } else if len > 0 {
            self.consumer.ring.append_to(self.found.start, HEADER + offset, len, to);
        }
    }

    /// The first eight bytes, if there are as many.
    #[inline(always)]
    pub(crate) fn first_word(&self) -> Option<[u8; 8]> {
        (self.found.len >= 8).then(|| self.consumer.ring.second_word(self.found.start))
    }

    /// Gives the block's place back to the producer. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(128)?;
    /// producer.try_send(b"fills it")?;
    /// consumer.incoming()?.release();
    /// producer.try_send(b"again")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn release(self) {
        let Incoming { consumer, found } = self;
        consumer.pass(found);
        consumer.give_back();
        consumer.settle();
    }

    /// The same, with a wake that is due left to the caller: see [`Consumer::settle`].
    #[inline(always)]
    pub(crate) fn release_quietly(self) {
        self.consumer.pass(self.found);
        self.consumer.give_back();
    }
}

/// Several blocks taken one after another, whose places are given back together: [`Consumer::drain`].
///
/// Each block that a [`Consumer`] takes by itself costs a store to a line that the producer reads. Here there
/// is one for many: when a quarter of the ring was taken, when a look finds nothing or the producer sleeps,
/// and when this is dropped. Until then the producer lacks the room of the blocks taken, which is always less
/// than a quarter of the ring. So drop it before you wait for anything that the producer's side does.
/// Forgotten instead, it withholds that room until the consumer next takes a block or finds none.
///
/// Blocks that were not taken stay in the ring.
///
/// # Examples
///
/// ```
/// use ringpost::ring::TryRecvError;
///
/// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
/// let mut batch = producer.batch();
/// batch.push(b"one")?;
/// batch.push(b"two")?;
/// batch.commit();
///
/// let mut block = Vec::new();
/// let mut drain = consumer.drain();
/// assert_eq!(drain.try_recv(&mut block), Ok(3));
/// assert_eq!(drain.try_recv(&mut block), Ok(3));
/// assert_eq!(drain.try_recv(&mut block), Err(TryRecvError::Empty));
/// drop(drain);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a drain takes nothing by itself"]
pub struct Drain<'a> {
    consumer: &'a mut Consumer,
}

impl Drain<'_> {
    /// Takes the next block if one is there: `into` is cleared and holds the block afterwards. Returns its
    /// length. Does not block.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_recv`]. What was taken before stays taken.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.send(b"hello")?;
    /// let mut block = Vec::new();
    /// assert_eq!(consumer.drain().try_recv(&mut block), Ok(5));
    /// assert_eq!(block, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_recv(&mut self, into: &mut Vec<u8>) -> Result<usize, TryRecvError> {
        let found = copy_whole(&self.consumer.try_incoming()?, into);
        self.consumer.pass(found);
        self.consumer.settle();
        Ok(found.len)
    }
}

impl Drop for Drain<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.consumer.owes_wake() {
            self.consumer.give_back();
            self.consumer.settle();
        }
    }
}
