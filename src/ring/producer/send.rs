//! Writing one block: the public calls.

use super::Producer;
use crate::ring::{Deadline, SendError};

impl Producer {
    /// Writes one block, if there is room now. Does not block.
    ///
    /// # Errors
    ///
    /// [`Full`](SendError::Full), and then nothing has changed. The next attempt after `Full` waits about a
    /// microsecond before it looks (less in a ring of less than 64 KiB), because looks without a pause slow
    /// down the consumer. Otherwise [`TooLarge`](SendError::TooLarge),
    /// [`Disconnected`](SendError::Disconnected), or [`Violation`](SendError::Violation).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::ring::{self, SendError};
    ///
    /// let (mut producer, mut consumer) = ring::local(128)?; // room for one line and a zeroed one
    /// producer.try_send(b"first")?;
    /// assert_eq!(producer.try_send(b"second"), Err(SendError::Full));
    /// let mut block = Vec::new();
    /// assert_eq!(consumer.try_recv(&mut block), Ok(Some(5)));
    /// producer.try_send(b"second")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_send(&mut self, block: &[u8]) -> Result<(), SendError> {
        self.try_publish(None, &[block])?;
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
    /// See [`Producer`].
    pub fn send(&mut self, block: &[u8]) -> Result<(), SendError> {
        self.send_until(block, Deadline::NEVER)
    }

    /// As [`send`](Self::send), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), and [`TimedOut`](SendError::TimedOut): nothing was written.
    ///
    /// # Examples
    ///
    /// See [`SendError`].
    pub fn send_timeout(&mut self, block: &[u8], deadline: impl Into<Deadline>) -> Result<(), SendError> {
        self.send_until(block, deadline.into())
    }

    fn send_until(&mut self, block: &[u8], deadline: Deadline) -> Result<(), SendError> {
        self.publish(None, &[block], deadline)?;
        self.notify();
        Ok(())
    }
}
