//! Taking one block: the public calls.

use std::time::Instant;

use super::Consumer;
use super::block::{Incoming, copy_whole};
use crate::ring::{Deadline, RecvError, RecvTimeoutError, TryRecvError};

impl Consumer {
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
}

#[inline]
fn take_whole(incoming: Incoming<'_>, into: &mut Vec<u8>) -> usize {
    let found = copy_whole(&incoming, into);
    incoming.release();
    found.len
}
