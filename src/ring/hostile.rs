//! A ring whose other side is the caller, who may write any word and any byte of it: for the fuzz targets.

use std::sync::atomic::AtomicBool;

use super::layout::{CONSUMER_PARKED, CONTROL, HEAD, MIN_CAPACITY, PRODUCER_PARKED, largest_block};
use super::{Closer, Consumer, Producer, Setup, WaitStrategy};
use crate::shm::futex::Scope;
use crate::shm::{Segment, View};
use crate::sync::Ordering;

const DATA: usize = CONTROL + 128;
const GUARD: usize = 64;

static ALONE: AtomicBool = AtomicBool::new(false);

/// From now on each end's other side is a fuzz target on the same thread, which cannot end a wait.
pub(crate) fn stay_alone() {
    ALONE.store(true, Ordering::Relaxed);
}

pub(crate) fn is_alone() -> bool {
    ALONE.load(Ordering::Relaxed)
}

/// The memory of a ring, as the other side sees it.
#[derive(Debug)]
pub struct Memory {
    setup: Setup,
}

/// A ring of `MIN_CAPACITY << shift` bytes that begins at a line number.
pub fn ring(shift: u32, start_line: u64) -> Memory {
    let capacity = MIN_CAPACITY << shift;
    let view = View::new(Segment::anonymous(DATA + capacity + GUARD).expect("memory"));
    let start = start_line % (1 << 57) * 64;
    view.store64(HEAD, start, Ordering::Relaxed);
    let parked = vec![CONSUMER_PARKED, PRODUCER_PARKED];
    let closer = Closer::new(view.clone(), Scope::Shared, parked, Some(CONTROL), false);
    Memory {
        setup: Setup {
            view,
            control: 0,
            data: DATA,
            capacity,
            max_block: largest_block(capacity),
            scope: Scope::Shared,
            closer,
            strategy: WaitStrategy::Park,
            closes_on_drop: None,
            start,
        },
    }
}

impl Memory {
    /// The end under attack.
    pub fn producer(&self) -> Producer {
        Producer::new(&self.setup)
    }

    /// The end under attack.
    pub fn consumer(&self) -> Consumer {
        Consumer::new(&self.setup)
    }

    /// Bytes of data.
    pub fn capacity(&self) -> u64 {
        self.setup.capacity as u64
    }

    /// The word that the consumer writes.
    pub fn head(&self) -> u64 {
        self.setup.view.load64(HEAD, Ordering::Relaxed)
    }

    /// Writes that word.
    pub fn set_head(&self, head: u64) {
        self.setup.view.store64(HEAD, head, Ordering::Relaxed);
    }

    /// Writes both parked words and the shared closed word.
    pub fn set_words(&self, consumer: u32, producer: u32, closed: u32) {
        for (offset, value) in [(CONSUMER_PARKED, consumer), (PRODUCER_PARKED, producer), (CONTROL, closed)] {
            self.setup.view.word32(offset).store(value, Ordering::Relaxed);
        }
    }

    /// Writes the header at a position.
    pub fn set_header(&self, position: u64, header: u64) {
        let offset = (position / 64 * 64 % self.capacity()) as usize;
        self.setup.view.store64(DATA + offset, header, Ordering::Relaxed);
    }

    /// Writes bytes anywhere into the data; what would lie outside is left out.
    pub fn set_bytes(&self, offset: usize, bytes: &[u8]) {
        let offset = offset % self.setup.capacity;
        let fits = bytes.len().min(self.setup.capacity - offset);
        self.setup.view.copy_in(DATA + offset, &bytes[..fits]);
    }

    /// Whether the bytes between the words and the data, and behind the data, are as they were.
    pub fn guards_hold(&self) -> bool {
        [DATA - GUARD, DATA + self.setup.capacity].into_iter().all(|guard| {
            let mut bytes = [0; GUARD];
            self.setup.view.copy_out(guard, &mut bytes);
            bytes.iter().all(|&byte| byte == 0)
        })
    }
}
