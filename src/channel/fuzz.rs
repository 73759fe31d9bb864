//! A channel for fuzz targets, which may write any word and byte of it in place of the other side.

use super::layout::{CHANNEL_DATA, CLOSED, Ring};
use super::{CLIENT, EndOptions, Geometry, Guest, Host, LinkEnds, SERVER, Side, guest_of, host_of, link};
use crate::ring::WaitStrategy;
use crate::ring::layout::{CONSUMER_PARKED, HEAD, PRODUCER_PARKED};
use crate::shm::backend::Ordering;
use crate::shm::backend::fuzz;
use crate::shm::{Segment, View};

/// The rings of a channel, for [`Memory`].
pub const REQUESTS: usize = 0;
/// See [`REQUESTS`].
pub const RESPONSES: usize = 1;
/// See [`REQUESTS`].
pub const INBOX: usize = 2;

const RING: usize = 4096;
const GUARD: usize = 64;

/// The memory of the smallest channel or link, as the other side sees it.
#[derive(Debug, Clone)]
pub struct Memory {
    view: View,
    geometry: Geometry,
}

impl Memory {
    /// The memory, with every byte 0.
    pub fn new() -> Memory {
        let geometry = Geometry::new(RING).expect("the smallest ring");
        let memory = Segment::anonymous(geometry.segment_len() + GUARD).expect("memory");
        Memory { view: View::new(memory), geometry }
    }

    /// Makes every byte 0 again, for the next input. From then on blocks have at most `max_block` bytes.
    ///
    /// # Panics
    ///
    /// If an end of the last input still exists.
    pub fn begin(&mut self, max_block: usize) {
        fuzz::begin();
        fuzz::wipe(&mut self.view);
        let most = Geometry::new(RING).expect("the smallest ring");
        self.geometry = most.with_max_block(max_block).unwrap_or(most);
    }

    /// Bytes of the largest block.
    pub fn max_block(&self) -> usize {
        self.geometry.max_block()
    }

    /// The sizes of the rings.
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The server's ends.
    pub(crate) fn host(&self) -> Host {
        host_of(self.view.clone(), self.geometry, WaitStrategy::Park, &SERVER).expect("memory")
    }

    /// The client's ends.
    pub(crate) fn guest(&self) -> Guest {
        guest_of(self.view.clone(), self.geometry, WaitStrategy::Park, &CLIENT).expect("memory")
    }

    /// One side's ends of a link, whose rings are the first two of a channel here.
    pub(crate) fn link(&self, side: Side) -> LinkEnds {
        let options = EndOptions { data: CHANNEL_DATA, ..link::LINK };
        link::ends_of(self.view.clone(), self.geometry, WaitStrategy::Park, side, &options).expect("memory")
    }

    fn control(ring: usize) -> usize {
        Ring::ALL[ring % Ring::ALL.len()].control()
    }

    fn at(&self, ring: usize, position: u64) -> usize {
        Ring::ALL[ring % Ring::ALL.len()].data(CHANNEL_DATA, &self.geometry) + position as usize % RING
    }

    /// The header of the line at a position.
    pub fn header(&self, ring: usize, position: u64) -> u64 {
        self.view.word64(self.at(ring, position / 64 * 64)).load(Ordering::Relaxed)
    }

    /// Writes the header of the line at a position.
    pub fn set_header(&self, ring: usize, position: u64, header: u64) {
        self.view.word64(self.at(ring, position / 64 * 64)).store(header, Ordering::Relaxed);
    }

    /// Reads the bytes at a position, up to the end of the ring.
    pub fn read(&self, ring: usize, position: u64, len: usize, into: &mut Vec<u8>) {
        into.clear();
        into.resize(len.min(RING - position as usize % RING), 0);
        self.view.copy_out(self.at(ring, position), into);
    }

    /// Writes bytes at a position, up to the end of the ring.
    pub fn set_bytes(&self, ring: usize, position: u64, bytes: &[u8]) {
        let fits = bytes.len().min(RING - position as usize % RING);
        self.view.copy_in(self.at(ring, position), &bytes[..fits]);
    }

    /// How far a ring was consumed.
    pub fn head(&self, ring: usize) -> u64 {
        self.view.word64(Self::control(ring) + HEAD).load(Ordering::Relaxed)
    }

    /// Sets how far a ring was consumed.
    pub fn set_head(&self, ring: usize, head: u64) {
        self.view.word64(Self::control(ring) + HEAD).store(head, Ordering::Relaxed);
    }

    /// Writes a ring's parked words.
    pub fn set_parked(&self, ring: usize, consumer: u32, producer: u32) {
        for (offset, value) in [(CONSUMER_PARKED, consumer), (PRODUCER_PARKED, producer)] {
            self.view.word32(Self::control(ring) + offset).store(value, Ordering::Relaxed);
        }
    }

    /// The shared closed word: why the channel was closed.
    pub fn closed(&self) -> u32 {
        self.view.word32(CLOSED).load(Ordering::Relaxed)
    }

    /// Writes the shared closed word.
    pub fn set_closed(&self, word: u32) {
        self.view.word32(CLOSED).store(word, Ordering::Relaxed);
    }

    /// Calls `act` with the memory during an end's next sleep.
    pub fn meanwhile(&self, act: impl FnOnce(&Memory) + 'static) {
        let memory = self.clone();
        fuzz::meanwhile(Box::new(move || act(&memory)));
    }

    /// Whether the bytes that nobody writes are as they were: around the control blocks and the figures, and
    /// behind the data.
    pub fn guards_hold(&self) -> bool {
        [192, 1408, 4096 - GUARD, CHANNEL_DATA - GUARD, self.geometry.segment_len()].into_iter().all(
            |guard| {
                let mut bytes = [0; GUARD];
                self.view.copy_out(guard, &mut bytes);
                bytes.iter().all(|&byte| byte == 0)
            },
        )
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new()
    }
}
