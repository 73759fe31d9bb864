//! The ends of a topic on bare memory, without a server.

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};

use crate::ring::{Deadline, Kick, WaitStrategy};
use crate::topic::{
    Audience, Newcomer, Reader, Shape, Start, Writer, create_page, create_topic, open_page, open_topic,
    publish_on,
};
use crate::wire::{Key, Name, Peer, Policy};

/// The line at which the words of the page begin.
const LINE: u16 = 3;

/// A writer with one subscription.
#[derive(Debug)]
pub struct TopicWriter {
    writer: Writer,
    /// The descriptors of the segment and of the page, for the reader.
    pub descriptors: [OwnedFd; 2],
}

impl TopicWriter {
    /// Makes the memory of a topic, and of a subscription that may or may not sleep.
    pub fn new(ring_size: usize, may_sleep: bool) -> Result<TopicWriter, Box<dyn Error>> {
        let shape = Shape::new(ring_size)?;
        let segment = create_topic(&shape)?;
        let view = publish_on(&segment, &shape)?;
        let page = create_page()?;
        let audience = Audience::new(None)?;
        let writer = Writer::new(view, shape, 1, audience.clone(), WaitStrategy::Spin);
        let peer = Peer { name: Name::new("reader")?, key: Key::from_u128(1), pid: 1, uid: 1, gid: 1 };
        audience.admit(Newcomer {
            id: 1,
            peer,
            page: open_page(&page)?,
            line: LINE,
            may_sleep,
            reliable: false,
            from_beginning: true,
            kick: Kick::default(),
            pipe: None,
        });
        Ok(TopicWriter { writer, descriptors: [segment, page] })
    }

    /// Publishes a sample.
    #[inline(never)]
    pub fn send(&mut self, payload: &[u8]) -> bool {
        self.writer.send(payload, Deadline::NEVER).is_ok()
    }
}

/// A reader.
#[derive(Debug)]
pub struct TopicReader {
    reader: Reader,
    sample: Vec<u8>,
}

impl TopicReader {
    /// Opens the memory that a writer has made.
    pub fn new(ring_size: usize, segment: impl AsFd, page: impl AsFd) -> Result<TopicReader, Box<dyn Error>> {
        let shape = Shape::new(ring_size)?;
        let view = open_topic(segment, &shape)?;
        let page = (open_page(page)?, LINE, Kick::default());
        let reader = Reader::new(view, shape, page, 1, Start::Beginning, Policy::Lossy);
        Ok(TopicReader { reader, sample: Vec::with_capacity(64) })
    }

    /// Takes a sample, if there is one: its bytes, and how many were missed before it.
    #[inline(never)]
    pub fn try_take(&mut self) -> Option<(&[u8], u64)> {
        let taken = self.reader.try_take(&mut self.sample).ok()??;
        Some((&self.sample, taken.missed))
    }
}
