//! A ring for fuzz targets, which may write any word and byte of it in place of the other side.

use super::layout::{CONSUMER_PARKED, CONTROL, HEAD, MIN_CAPACITY, PRODUCER_PARKED, largest_block};
use super::{Closer, Consumer, Peer, Producer, Setup, WaitStrategy};
use crate::shm::backend::Ordering;
use crate::shm::backend::fuzz;
use crate::shm::futex::Scope;
use crate::shm::{Segment, View};

const DATA: usize = CONTROL + 128;
const GUARD: usize = 64;
const MOST_SHIFTS: u32 = 5;

/// How many fruitless wakes an end tolerates, beyond one for each thing that it received.
pub const SPARE_HINTS: u64 = super::SPARE_HINTS;

/// The memory of a ring, as the other side sees it.
#[derive(Debug, Clone)]
pub struct Memory {
    view: View,
    capacity: usize,
    start: u64,
}

impl Memory {
    /// The memory of the largest of the rings that [`begin`](Self::begin) makes.
    pub fn new() -> Memory {
        let capacity = MIN_CAPACITY << MOST_SHIFTS;
        let view = View::new(Segment::anonymous(DATA + capacity + GUARD).expect("memory"));
        Memory { view, capacity, start: 0 }
    }

    /// Makes every byte 0 again, for the next input: a ring of `MIN_CAPACITY << shift` bytes that begins at a
    /// line number.
    ///
    /// # Panics
    ///
    /// If the end of the last input still exists.
    pub fn begin(&mut self, shift: u32, start_line: u64) {
        fuzz::begin();
        fuzz::wipe(&mut self.view);
        self.capacity = MIN_CAPACITY << shift.min(MOST_SHIFTS);
        self.start = start_line % (1 << 57) * 64;
        self.set_head(self.start);
    }

    fn setup(&self) -> Setup {
        let parked = vec![CONSUMER_PARKED, PRODUCER_PARKED];
        let closer = Closer::new(self.view.clone(), Scope::Shared, parked, Some(CONTROL), Peer::Unheard);
        Setup {
            view: self.view.clone(),
            control: 0,
            data: DATA,
            capacity: self.capacity,
            max_block: largest_block(self.capacity),
            scope: Scope::Shared,
            closer,
            kick: Default::default(),
            strategy: WaitStrategy::Park,
            closes_on_drop: None,
            start: self.start,
        }
    }

    /// The end under attack.
    pub fn producer(&self) -> Producer {
        Producer::new(&self.setup())
    }

    /// The end under attack.
    pub fn consumer(&self) -> Consumer {
        Consumer::new(&self.setup())
    }

    /// Bytes of data.
    pub fn capacity(&self) -> u64 {
        self.capacity as u64
    }

    /// The word that the consumer writes.
    pub fn head(&self) -> u64 {
        self.view.word64(HEAD).load(Ordering::Relaxed)
    }

    /// Writes that word.
    pub fn set_head(&self, head: u64) {
        self.view.word64(HEAD).store(head, Ordering::Relaxed);
    }

    /// Writes both parked words and the shared closed word.
    pub fn set_words(&self, consumer: u32, producer: u32, closed: u32) {
        for (offset, value) in [(CONSUMER_PARKED, consumer), (PRODUCER_PARKED, producer), (CONTROL, closed)] {
            self.view.word32(offset).store(value, Ordering::Relaxed);
        }
    }

    /// Writes the header at a position.
    pub fn set_header(&self, position: u64, header: u64) {
        let offset = (position / 64 * 64 % self.capacity()) as usize;
        self.view.word64(DATA + offset).store(header, Ordering::Relaxed);
    }

    /// Writes bytes anywhere into the data; what would lie outside is left out.
    pub fn set_bytes(&self, offset: usize, bytes: &[u8]) {
        let offset = offset % self.capacity;
        let fits = bytes.len().min(self.capacity - offset);
        self.view.copy_in(DATA + offset, &bytes[..fits]);
    }

    /// Calls `act` with the memory during the end's next sleep.
    pub fn meanwhile(&self, act: impl FnOnce(&Memory) + 'static) {
        let memory = self.clone();
        fuzz::meanwhile(Box::new(move || act(&memory)));
    }

    /// Whether the bytes between the words and the data, and behind the data, are as they were.
    pub fn guards_hold(&self) -> bool {
        [DATA - GUARD, DATA + self.capacity].into_iter().all(|guard| {
            let mut bytes = [0; GUARD];
            self.view.copy_out(guard, &mut bytes);
            bytes.iter().all(|&byte| byte == 0)
        })
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new()
    }
}
