//! Several blocks that become visible together: `Batch`.

use super::room::NoPlace;
use super::{NOWHERE, Producer};
use crate::ring::SendError;
use crate::ring::layout::{EMPTY, LINE, data_header, padding_header, record_size};
use crate::shm::backend::Ordering;
use crate::testing::failpoints::failpoint;

/// How far ahead lines are prefetched within a batch, whose stores are closer together: 0.8 to 1.02 of the
/// time.
const LINES_AHEAD_IN_BATCH: u64 = 2 * LINE as u64;

impl Producer {
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
    /// assert_eq!(consumer.try_recv(&mut block), Ok(Some(3)));
    /// assert_eq!(consumer.try_recv(&mut block), Ok(Some(3)));
    /// assert_eq!(block, b"two");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn batch(&mut self) -> Batch<'_> {
        self.cleared = NOWHERE;
        Batch { at: self.end.position, first: EMPTY, producer: self }
    }
}

/// Several blocks that become visible together with [`commit`](Self::commit): [`Producer::batch`]. If it is
/// dropped, none is sent, and their bytes are overwritten with zeros, as those of a [`Grant`](super::Grant).
///
/// # Examples
///
/// ```
/// use ringpost::ring::SendError;
///
/// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
/// let mut batch = producer.batch();
/// let mut pushed = 0;
/// loop {
///     match batch.push(b"as many as there is room for") {
///         Ok(()) => pushed += 1,
///         Err(SendError::Full) => break,
///         Err(error) => return Err(error.into()),
///     }
/// }
/// batch.commit();
/// for _ in 0..pushed {
///     assert_eq!(consumer.try_recv(&mut Vec::new()), Ok(Some(28)));
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
    /// Those of [`Producer::try_send`]. If there is no room, [`Full`](SendError::Full), the batch stays as
    /// it was and can be committed.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::ring::SendError;
    ///
    /// let (mut producer, mut consumer) = ringpost::ring::local(128)?;
    /// let mut batch = producer.batch();
    /// batch.push(b"fits")?;
    /// assert_eq!(batch.push(b"does not"), Err(SendError::Full));
    /// batch.commit();
    /// assert_eq!(consumer.try_recv(&mut Vec::new()), Ok(Some(4)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn push(&mut self, block: &[u8]) -> Result<(), SendError> {
        let len = block.len();
        let producer = &mut *self.producer;
        if len > producer.end.max_block {
            return Err(SendError::TooLarge { len, max: producer.end.max_block });
        }
        if producer.end.closer.is_closed() {
            return Err(producer.send_error());
        }
        let start = match producer.place(self.at, len) {
            Ok(start) => start,
            Err(NoPlace::Full) => return Err(SendError::Full),
            Err(NoPlace::Fault(violation)) => return Err(SendError::Violation(violation)),
        };
        producer.end.ring.prefetch_for_write(start + LINES_AHEAD_IN_BATCH);
        producer.write_parts(start, None, &[block]);
        if start != self.at {
            self.put_header(self.at, padding_header(self.at, start - self.at));
        }
        self.put_header(start, data_header(start, len));
        failpoint!("batch.record", [channel], always);
        self.at = start + record_size(len);
        Ok(())
    }

    /// Keeps the first header for the commit. The others cannot be seen before it and are stored at once.
    #[inline]
    fn put_header(&mut self, position: u64, header: u64) {
        if position == self.producer.end.position {
            self.first = header;
        } else {
            self.producer.end.ring.header(position).store(header, Ordering::Relaxed);
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
    /// assert_eq!(consumer.try_recv(&mut Vec::new()), Ok(Some(3)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn commit(self) {
        let (producer, at) = (&mut *self.producer, self.at);
        if at != producer.end.position {
            producer.end.ring.header(at).store(EMPTY, Ordering::Relaxed);
            failpoint!("batch.zero", [channel], always);
            producer.end.ring.header(producer.end.position).store(self.first, Ordering::Release);
            failpoint!("batch.header", [channel], always);
            producer.end.position = at;
            producer.notify();
        }
        std::mem::forget(self); // Its drop is for what is not committed.
    }
}

impl Drop for Batch<'_> {
    /// As for a [`Grant`](super::Grant).
    #[inline(always)]
    fn drop(&mut self) {
        self.producer.overwrite_until(self.at);
    }
}
