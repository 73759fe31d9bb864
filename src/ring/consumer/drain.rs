//! Several blocks whose places are given back together: `Drain`.

use super::Consumer;
use super::block::copy_whole;
use crate::ring::RecvError;

impl Consumer {
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
    /// while let Some(len) = drain.try_recv(&mut block)? {
    ///     bytes += len;
    /// }
    /// assert_eq!(bytes, 11);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn drain(&mut self) -> Drain<'_> {
        Drain { consumer: self }
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
/// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
/// let mut batch = producer.batch();
/// batch.push(b"one")?;
/// batch.push(b"two")?;
/// batch.commit();
///
/// let mut block = Vec::new();
/// let mut drain = consumer.drain();
/// assert_eq!(drain.try_recv(&mut block), Ok(Some(3)));
/// assert_eq!(drain.try_recv(&mut block), Ok(Some(3)));
/// assert_eq!(drain.try_recv(&mut block), Ok(None));
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
    /// length; `None` if nothing is there now. Does not block.
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
    /// assert_eq!(consumer.drain().try_recv(&mut block), Ok(Some(5)));
    /// assert_eq!(block, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_recv(&mut self, into: &mut Vec<u8>) -> Result<Option<usize>, RecvError> {
        let Some(block) = self.consumer.try_recv_ref()? else { return Ok(None) };
        let found = copy_whole(&block, into);
        self.consumer.pass(found);
        self.consumer.settle();
        Ok(Some(found.len))
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
