//! A block that has arrived: found, copied out, released.

use super::Consumer;
use super::look::Found;
use crate::ring::layout::{HEADER, ONE_LINE};
use crate::ring::{Deadline, Ended, RecvError, Stop};

impl Consumer {
    /// The next block, if one is there, to be copied out in parts. Does not block.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    ///
    /// # Examples
    ///
    /// See [`Block`].
    #[inline]
    pub fn try_recv_ref(&mut self) -> Result<Option<Block<'_>>, RecvError> {
        Ok(self.next_block()?)
    }

    /// As [`try_recv_ref`](Self::try_recv_ref), for use in this crate: reports an end as [`Ended`].
    #[inline]
    pub(crate) fn next_block(&mut self) -> Result<Option<Block<'_>>, Ended> {
        let found = match self.look_quickly(self.load_header()) {
            Some(found) => found,
            None => match self.try_find()? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        Ok(Some(Block { consumer: self, found }))
    }

    #[inline(never)]
    pub(crate) fn try_find(&mut self) -> Result<Option<Found>, Ended> {
        let found = self.look()?;
        if found.is_none() {
            self.pay_wake_if_owed();
        }
        Ok(found)
    }

    /// The next block, to be copied out in parts. Blocks until one is there, or the ring is closed and empty.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// See [`Block`].
    pub fn recv_ref(&mut self) -> Result<Block<'_>, RecvError> {
        self.recv_ref_timeout(Deadline::NEVER)
    }

    /// As [`recv_ref`](Self::recv_ref), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// Those of [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Examples
    ///
    /// See [`Block`].
    pub(crate) fn recv_ref_timeout(&mut self, deadline: impl Into<Deadline>) -> Result<Block<'_>, RecvError> {
        Ok(self.wait_for_block(&mut deadline.into())?)
    }

    #[inline(always)]
    pub(crate) fn wait_for_block(&mut self, deadline: &mut Deadline) -> Result<Block<'_>, Stop> {
        let found = match self.find_soon() {
            Some(found) => found,
            None => self.find(deadline)?,
        };
        Ok(Block { consumer: self, found })
    }

    /// The block that was found just now.
    #[inline(always)]
    pub(crate) fn take(&mut self, found: Found) -> Block<'_> {
        Block { consumer: self, found }
    }
}

#[inline]
pub(super) fn copy_whole(block: &Block<'_>, into: &mut Vec<u8>) -> Found {
    into.clear();
    block.append_to(0, into);
    block.found
}

/// A block that has arrived and is still in the ring: [`Consumer::recv_ref`]. It is read only by copying. It
/// stays the next block until it is [released](Self::release).
///
/// Between processes the other side can change it meanwhile, if it breaks the rules: copy what must not
/// change, once.
///
/// # Examples
///
/// ```
/// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
/// producer.send(b"hello")?;
/// drop(consumer.recv_ref()?); // not released
/// let mut block = Vec::new();
/// consumer.recv(&mut block)?;
/// assert_eq!(block, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Block<'a> {
    pub(super) consumer: &'a mut Consumer,
    pub(super) found: Found,
}

impl Block<'_> {
    /// The block's length in bytes. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.send(b"hello")?;
    /// assert_eq!(consumer.recv_ref()?.len(), 5);
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
    /// assert!(consumer.recv_ref()?.is_empty());
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
    /// consumer.recv_ref()?.read_at(0, &mut head);
    /// assert_eq!(&head, b"head");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn read_at(&self, offset: usize, to: &mut [u8]) {
        let inside = offset.checked_add(to.len()).is_some_and(|end| end <= self.found.len);
        assert!(inside, "the block ends before the bytes asked for");
        self.consumer.end.ring.copy_out(self.found.start, HEADER + offset, to);
    }

    /// Appends the bytes from `offset` to the end of the block; none if `offset` is beyond it.
    #[inline(always)]
    pub(crate) fn append_to(&self, offset: usize, to: &mut Vec<u8>) {
        let len = self.found.len.saturating_sub(offset);
        if self.found.len <= ONE_LINE && len > 0 {
            self.consumer.end.ring.append_from_line(self.found.start, HEADER + offset, len, to);
        } else if len > 0 {
            self.consumer.end.ring.append_to(self.found.start, HEADER + offset, len, to);
        }
    }

    /// The first eight bytes, if there are as many.
    #[inline(always)]
    pub(crate) fn first_word(&self) -> Option<[u8; 8]> {
        (self.found.len >= 8).then(|| self.consumer.end.ring.second_word(self.found.start))
    }

    /// Gives the block's place back to the producer. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(128)?;
    /// producer.try_send(b"fills it")?;
    /// consumer.recv_ref()?.release();
    /// producer.try_send(b"again")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn release(self) {
        let Block { consumer, found } = self;
        consumer.pass(found);
        consumer.give_back();
        consumer.settle();
    }

    /// The same, and tells the producer's side how many blocks were taken so far.
    #[inline(always)]
    pub(crate) fn release_counted(self) {
        let Block { consumer, found } = self;
        consumer.pass(found);
        consumer.tell_taken();
        consumer.give_back();
        consumer.settle();
    }

    /// As [`release`](Self::release), but the caller must call [`Consumer::settle`] to send the wake.
    #[inline(always)]
    pub(crate) fn release_quietly(self) {
        self.consumer.pass(self.found);
        self.consumer.give_back();
    }
}
