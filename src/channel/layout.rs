//! The layout of a channel's and a link's segment, as in the tables *Channel* and *A link's segment* in
//! `docs/PROTOCOL.md`.
//!
//! All control blocks are in the first page. A channel's second page holds the client's figures. That page
//! and the rings' data use memory page by page from the first access on, so an idle client uses only a few
//! pages.

use crate::ring::layout::{
    CONSUMER_PARKED, CONTROL, MAX_CAPACITY, MIN_CAPACITY, PRODUCER_PARKED, largest_block,
};
use crate::shm::Segment;

use super::ChannelError;

/// The version of the layout described here and of the ring protocol in it.
pub(crate) const LAYOUT_VERSION: u32 = 3;

const MAGIC: [u8; 8] = *b"RINGPOST";
const WORDS: usize = 32;
const LINK_RINGS: usize = 2;
pub(super) const CLOSED: usize = 128;
const CONTROLS: usize = 256;
/// Not 0 while the client takes links; only the client writes it.
pub(super) const SERVING: usize = 2048;
/// A bit for each link of the client, which the client changes when the link ends for it.
pub(super) const ENDED: usize = 2112;
/// Where the figures of a channel begin; see `figures.rs`.
pub(super) const FIGURES: usize = 4096;
/// Where the data of a channel's rings begin.
pub(super) const CHANNEL_DATA: usize = 8192;
/// Where the data of a link's rings begin, which has no figures.
pub(super) const LINK_DATA: usize = 4096;

/// The smallest ring of a channel: a page, so that ring data is page-aligned.
pub(super) const MIN_RING: usize = 4096;
/// The largest ring. Three of these can be mapped on any 64-bit machine.
pub(super) const MAX_RING: usize = MAX_CAPACITY;
const _: () = assert!(MIN_RING >= MIN_CAPACITY);

/// The sizes of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    ring_size: usize,
    max_block: usize,
}

/// The smallest allowed size of the largest block. Every block of the protocol without a payload fits into
/// it.
pub(crate) const MIN_BLOCK: usize = 256;

impl Geometry {
    /// Sizes for rings of `ring_size` bytes (a power of two from 4 KiB to 1 GiB), with the largest possible
    /// blocks (`ring_size / 2 - 8` bytes).
    ///
    /// # Errors
    ///
    /// [`ChannelError::RingSize`].
    pub(crate) fn new(ring_size: usize) -> Result<Geometry, ChannelError> {
        if !ring_size.is_power_of_two() || !(MIN_RING..=MAX_RING).contains(&ring_size) {
            return Err(ChannelError::RingSize(ring_size as u64));
        }
        Ok(Geometry { ring_size, max_block: largest_block(ring_size) })
    }

    /// The same ring size, with blocks of at most `max_block` bytes, header included (at least 256).
    ///
    /// # Errors
    ///
    /// [`ChannelError::MaxBlock`].
    pub(crate) fn with_max_block(self, max_block: usize) -> Result<Geometry, ChannelError> {
        if !(MIN_BLOCK..=largest_block(self.ring_size)).contains(&max_block) {
            let error = ChannelError::MaxBlock { max_block: max_block as u64, ring_size: self.ring_size };
            return Err(error);
        }
        Ok(Geometry { max_block, ..self })
    }

    /// The size of each ring, in bytes.
    pub(crate) fn ring_size(&self) -> usize {
        self.ring_size
    }

    /// The size of the largest block, in bytes.
    pub(crate) fn max_block(&self) -> usize {
        self.max_block
    }

    /// The length of a channel's segment.
    pub(crate) fn segment_len(&self) -> usize {
        CHANNEL_DATA + Ring::ALL.len() * self.ring_size
    }

    /// The length of a link's segment.
    pub(crate) fn link_len(&self) -> usize {
        LINK_DATA + LINK_RINGS * self.ring_size
    }
}

/// The rings, in their order in the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ring {
    Request = 0,
    Response = 1,
    Inbox = 2,
}

impl Ring {
    /// The rings of a channel. A link has the first two.
    pub(super) const ALL: [Ring; 3] = [Ring::Request, Ring::Response, Ring::Inbox];

    pub(super) fn control(self) -> usize {
        CONTROLS + self as usize * CONTROL
    }

    /// Where its data begin, if the data of all rings begin at `start`.
    pub(super) fn data(self, start: usize, geometry: &Geometry) -> usize {
        start + self as usize * geometry.ring_size
    }

    pub(super) fn parked_words(self) -> [usize; 2] {
        [self.control() + CONSUMER_PARKED, self.control() + PRODUCER_PARKED]
    }
}

/// The words at the start of the segment. They are copied out once and then checked.
pub(super) struct Words {
    magic: [u8; 8],
    version: u32,
    ring_size: u64,
    max_block: u64,
}

impl Words {
    pub(super) fn describing(geometry: &Geometry) -> Words {
        Words {
            magic: MAGIC,
            version: LAYOUT_VERSION,
            ring_size: geometry.ring_size as u64,
            max_block: geometry.max_block as u64,
        }
    }

    pub(super) fn write(&self, segment: &Segment) {
        segment.copy_in(0, &self.magic);
        segment.copy_in(8, &self.version.to_le_bytes());
        segment.copy_in(16, &self.ring_size.to_le_bytes());
        segment.copy_in(24, &self.max_block.to_le_bytes());
    }

    pub(super) fn read(segment: &Segment) -> Result<Words, ChannelError> {
        if segment.len() < FIGURES {
            return Err(ChannelError::NotAChannel);
        }
        let mut bytes = [0; WORDS];
        segment.copy_out(0, &mut bytes);
        Ok(Words {
            magic: take(&bytes, 0),
            version: u32::from_le_bytes(take(&bytes, 8)),
            ring_size: u64::from_le_bytes(take(&bytes, 16)),
            max_block: u64::from_le_bytes(take(&bytes, 24)),
        })
    }

    pub(super) fn check(&self, found: usize) -> Result<Geometry, ChannelError> {
        if self.magic != MAGIC {
            return Err(ChannelError::NotAChannel);
        }
        if self.version != LAYOUT_VERSION {
            return Err(ChannelError::Version { found: self.version });
        }
        let ring_size =
            usize::try_from(self.ring_size).map_err(|_| ChannelError::RingSize(self.ring_size))?;
        let max_block = usize::try_from(self.max_block).unwrap_or(usize::MAX);
        let geometry = Geometry::new(ring_size)?.with_max_block(max_block)?;
        let needed = geometry.segment_len();
        if found != needed {
            return Err(ChannelError::Length { found, needed });
        }
        Ok(geometry)
    }
}

fn take<const N: usize>(bytes: &[u8; WORDS], at: usize) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(&bytes[at..at + N]);
    taken
}
