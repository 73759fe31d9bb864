//! Samples: copied out and lent, copied out and owned, or read in place.

#![forbid(unsafe_code)]

use std::fmt;

use zerocopy::FromBytes;

use super::error::Overrun;
use super::notice::Notice;
use crate::codec::{FromPayload, PayloadError};
use crate::topic::{InPlace, Overwritten};
use crate::wire::{Peer, Topic};

/// Which sample it is, and of whom.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) topic: &'a Topic,
    pub(super) publisher: &'a Peer,
    pub(super) sequence: u64,
    pub(super) missed: u64,
}

/// A sample that was taken: [`Subscriber::recv`](crate::Subscriber::recv). Its bytes were copied, and stay
/// readable until the next operation of the subscriber.
///
/// # Examples
///
/// ```
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let mut prices = alice.publish("prices/AAPL")?;
/// let mut sub = bob.subscribe("prices/*")?;
/// prices.send(&7_u32.to_ne_bytes())?;
/// let sample = sub.recv()?;
/// assert_eq!((sample.topic(), sample.publisher().name.as_str()), ("prices/AAPL", "alice"));
/// assert_eq!((sample.sequence(), sample.missed()), (1, 0));
/// assert_eq!(sample.payload(), 7_u32.to_ne_bytes());
/// assert_eq!(sample.read::<u32>()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    pub(super) payload: &'a [u8],
    pub(super) origin: Origin<'a>,
}

impl<'a> Sample<'a> {
    /// The payload.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Reads the payload as a value: one of a fixed layout, or a `Postcard`. See [`codec`](crate::codec).
    ///
    /// # Errors
    ///
    /// The bytes are not a value of this type. The sample stays readable.
    #[inline]
    pub fn read<T: FromPayload<'a>>(&self) -> Result<T, PayloadError> {
        T::from_payload(self.payload)
    }

    /// The topic under which it was published.
    pub fn topic(&self) -> &'a str {
        self.origin.topic
    }

    /// Who published it, as the server knew it when it published the topic.
    pub fn publisher(&self) -> &'a Peer {
        self.origin.publisher
    }

    /// Its number among the samples of its publisher, which count from 1.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.origin.sequence
    }

    /// How many samples of this publisher were passed over just before it: overwritten before this subscriber
    /// took them, or left out because only the latest is wanted. What was published before the subscription
    /// does not count.
    #[inline]
    pub fn missed(&self) -> u64 {
        self.origin.missed
    }

    /// A sample that can be kept.
    pub fn to_owned(&self) -> OwnedSample {
        OwnedSample {
            payload: self.payload.to_vec(),
            topic: self.origin.topic.clone(),
            publisher: *self.origin.publisher,
            sequence: self.origin.sequence,
            missed: self.origin.missed,
        }
    }
}

impl fmt::Debug for Sample<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("Sample", &self.origin, self.payload.len(), f)
    }
}

/// A [`Sample`] that can be kept: what [`Subscriber::iter`](crate::Subscriber::iter) gives.
///
/// # Examples
///
/// ```
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let mut prices = alice.publish("prices/AAPL")?;
/// let mut sub = bob.subscribe("prices/*")?;
/// prices.send(b"one")?;
/// prices.send(b"two")?;
/// let both: Vec<_> = sub.iter().take(2).collect::<Result<_, _>>()?;
/// assert_eq!((both[0].payload(), both[1].payload()), (&b"one"[..], &b"two"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedSample {
    payload: Vec<u8>,
    topic: Topic,
    publisher: Peer,
    sequence: u64,
    missed: u64,
}

impl OwnedSample {
    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// As [`Sample::read`].
    ///
    /// # Errors
    ///
    /// The bytes are not a value of this type. The sample stays readable.
    pub fn read<'a, T: FromPayload<'a>>(&'a self) -> Result<T, PayloadError> {
        T::from_payload(&self.payload)
    }

    /// The topic under which it was published.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Who published it, as the server knew it when it published the topic.
    pub fn publisher(&self) -> &Peer {
        &self.publisher
    }

    /// Its number among the samples of its publisher, which count from 1.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// As [`Sample::missed`].
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl fmt::Debug for OwnedSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OwnedSample { topic, publisher, sequence, missed, payload } = self;
        let origin = Origin { topic, publisher, sequence: *sequence, missed: *missed };
        show("OwnedSample", &origin, payload.len(), f)
    }
}

fn show(kind: &str, origin: &Origin<'_>, bytes: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(kind)
        .field("topic", &origin.topic.as_str())
        .field("publisher", &origin.publisher.name)
        .field("sequence", &origin.sequence)
        .field("missed", &origin.missed)
        .field("bytes", &bytes)
        .finish()
}

/// A sample in place, in the publisher's memory: [`Subscriber::recv_ref`](crate::Subscriber::recv_ref). For
/// large samples, of which only a part is needed, or that go elsewhere anyway.
///
/// The publisher may overwrite it at any time, unless the subscription is
/// [reliable](crate::Policy::Reliable). So there is no slice of it: each access copies, and says whether what
/// it copied was the sample. [`as_ptr`](Self::as_ptr) is for code that reads in place nevertheless. It counts
/// as taken when this is dropped.
///
/// # Examples
///
/// ```
/// use std::io::Write;
///
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let mut frames = alice.publish("camera/front")?;
/// let mut sub = bob.subscribe("camera/*")?;
/// let mut frame = frames.grant(1000)?;
/// frame.write_all(&640_u32.to_ne_bytes())?;
/// frame.write_all(&[7; 996])?;
/// frame.commit();
/// let view = sub.recv_ref()?;
/// assert_eq!((view.len(), view.read_at::<u32>(0)?), (1000, Some(640)));
/// let mut row = [0; 64];
/// assert_eq!(view.copy_to(4, &mut row)?, 64);
/// assert_eq!(row, [7; 64]);
/// view.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SampleView<'a> {
    pub(super) sample: InPlace<'a>,
    pub(super) notice: &'a Notice,
    pub(super) topic: &'a Topic,
    pub(super) publisher: &'a Peer,
}

impl SampleView<'_> {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.sample.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes from a position on into a buffer, as many as there are and fit. Returns how many.
    ///
    /// # Errors
    ///
    /// [`Overrun`] if the publisher has overwritten the sample: then the buffer holds anything.
    pub fn copy_to(&self, at: usize, buffer: &mut [u8]) -> Result<usize, Overrun> {
        let most = buffer.len().min(self.len().saturating_sub(at));
        if most > 0 {
            self.sample.copy_out(at, &mut buffer[..most]).map_err(|Overwritten| Overrun)?;
        }
        Ok(most)
    }

    /// Reads a value of a fixed layout from a position on. `None` if the sample ends before.
    ///
    /// # Errors
    ///
    /// [`Overrun`] if the publisher has overwritten the sample.
    pub fn read_at<T: FromBytes + zerocopy::IntoBytes>(&self, at: usize) -> Result<Option<T>, Overrun> {
        let mut value = T::new_zeroed();
        let bytes = value.as_mut_bytes();
        let copied = self.copy_to(at, bytes)?;
        Ok((copied == size_of::<T>()).then_some(value))
    }

    /// The address of its first byte in the publisher's memory, a multiple of 8. [`len`](Self::len) bytes can
    /// be read there, and none be written, as long as this view lives: a store ends the process. It is for
    /// code that takes an address: that of another language, a device, a system call.
    ///
    /// The publisher may overwrite these bytes at any time, even between two reads of the same byte. So in
    /// Rust no slice may be made of them; there, [`copy_to`](Self::copy_to) is the way. Compute what you need
    /// from the bytes, then ask [`check`](Self::check), and use the result only if it says `Ok`. Until then
    /// the bytes may be anything, so they must not decide which memory is touched: copy a length or an index
    /// before you check and use it. A publisher that breaks the rules can change a sample without `check`
    /// noticing, also one that is received reliably.
    ///
    /// Does not block.
    ///
    /// # Examples
    ///
    /// The kernel reads a sample in place: it is written to a file without being copied in this process.
    ///
    /// ```
    /// # use std::os::fd::AsRawFd;
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// # let file = tempfile::tempfile()?;
    /// let mut frames = alice.publish("camera/front")?;
    /// let mut sub = bob.subscribe("camera/*")?;
    /// frames.send(&[7; 1000])?;
    /// let view = sub.recv_ref()?;
    /// // SAFETY: as many bytes can be read there as long as the view lives, and the kernel takes any values.
    /// let written = unsafe { libc::write(file.as_raw_fd(), view.as_ptr().cast(), view.len()) };
    /// assert_eq!(written, 1000);
    /// view.finish()?; // it was the sample
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_ptr(&self) -> *const u8 {
        self.sample.address()
    }

    /// Whether all that was read so far was the sample: what was copied, and what was read through
    /// [`as_ptr`](Self::as_ptr). Does not block.
    ///
    /// # Errors
    ///
    /// [`Overrun`] if the publisher has overwritten it meanwhile, or is about to. It stays so.
    pub fn check(&self) -> Result<(), Overrun> {
        self.sample.check().map_err(|Overwritten| Overrun)
    }

    /// The topic under which it was published.
    pub fn topic(&self) -> &str {
        self.topic
    }

    /// Who published it, as the server knew it when it published the topic.
    pub fn publisher(&self) -> &Peer {
        self.publisher
    }

    /// Its number among the samples of its publisher, which count from 1.
    pub fn sequence(&self) -> u64 {
        self.sample.taken.sequence
    }

    /// As [`Sample::missed`].
    pub fn missed(&self) -> u64 {
        self.sample.taken.missed
    }

    /// Takes it, and says whether all that was read of it was the sample.
    ///
    /// # Errors
    ///
    /// [`Overrun`] if the publisher has overwritten it meanwhile.
    pub fn finish(self) -> Result<(), Overrun> {
        self.check()
    }
}

/// In a forked child the subscription is its parent's, for which nothing was taken.
impl Drop for SampleView<'_> {
    fn drop(&mut self) {
        if self.notice.is_forked() {
            self.sample.leave();
        }
    }
}

impl fmt::Debug for SampleView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topic, publisher) = (self.topic, self.publisher);
        let origin = Origin { topic, publisher, sequence: self.sequence(), missed: self.missed() };
        show("SampleView", &origin, self.len(), f)
    }
}
