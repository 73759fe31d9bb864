//! A block that has arrived: found, copied out, released.

use std::time::Instant;

use super::Consumer;
use super::look::Found;
use crate::ring::layout::{HEADER, ONE_LINE};
use crate::ring::{RecvError, RecvTimeoutError, TryRecvError};

impl Consumer {
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
    pub(crate) fn try_find(&mut self) -> Result<Found, TryRecvError> {
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

    /// The block that was found just now.
    #[inline(always)]
    pub(crate) fn take(&mut self, found: Found) -> Incoming<'_> {
        Incoming { consumer: self, found }
    }
}

#[inline]
pub(super) fn copy_whole(incoming: &Incoming<'_>, into: &mut Vec<u8>) -> Found {
    into.clear();
    incoming.append_to(0, into);
    incoming.found
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
