//! Writing one block: the public calls.

use std::time::Instant;

use super::Producer;
use crate::ring::{Deadline, SendError, SendTimeoutError, TrySendError};

impl Producer {
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
}
