//! Taking one block: the public calls.

use super::block::copy_whole;
use super::{Block, Consumer};
use crate::ring::{Deadline, RecvError};

impl Consumer {
    /// Takes the next block if one is there: `into` is cleared and holds the block afterwards. Returns its
    /// length; `None` if nothing is there now. Does not block.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](RecvError::Disconnected) or [`Violation`](RecvError::Violation); `into` is left as it
    /// was.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// let mut block = Vec::new();
    /// assert_eq!(consumer.try_recv(&mut block), Ok(None));
    /// producer.send(b"hello")?;
    /// assert_eq!(consumer.try_recv(&mut block), Ok(Some(5)));
    /// assert_eq!(block, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_recv(&mut self, into: &mut Vec<u8>) -> Result<Option<usize>, RecvError> {
        Ok(self.try_recv_ref()?.map(|block| take_whole(block, into)))
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
    /// See [`Consumer`].
    pub fn recv(&mut self, into: &mut Vec<u8>) -> Result<usize, RecvError> {
        Ok(take_whole(self.recv_ref()?, into))
    }

    /// As [`recv`](Self::recv), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv), and [`TimedOut`](RecvError::TimedOut).
    ///
    /// # Examples
    ///
    /// See [`RecvError`].
    pub fn recv_timeout(
        &mut self,
        into: &mut Vec<u8>,
        deadline: impl Into<Deadline>,
    ) -> Result<usize, RecvError> {
        Ok(take_whole(self.recv_ref_timeout(deadline)?, into))
    }
}

#[inline]
fn take_whole(block: Block<'_>, into: &mut Vec<u8>) -> usize {
    let found = copy_whole(&block, into);
    block.release();
    found.len
}
