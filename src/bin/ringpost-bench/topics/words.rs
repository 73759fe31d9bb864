//! What the measuring process and its partner share: bare words, each in lines of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ringpost::testing::{Segment, futex_wake};
use rustix::time::{ClockId, clock_gettime};

/// The number of the block that the partner works at, and of the last one that it has begun and finished.
pub const TURN: usize = 0;
pub const READY: usize = 256;
pub const IDLE: usize = 512;
/// What it is to do, and how often.
pub const TASK: usize = 768;
pub const COUNT: usize = 776;
/// How many samples it has taken in a block.
pub const TAKEN: usize = 1024;
/// When it saw the last one, in nanoseconds of the monotonic clock.
pub const SEEN: usize = 1280;
/// How many of those that sleep have woken.
pub const WOKEN: usize = 1536;
/// One word for each sleeper of the floor.
const SLEEPERS: usize = 4096;
const APART: usize = 256;

pub const MOST_SLEEPERS: u32 = 256;
pub const LENGTH: usize = SLEEPERS + APART * MOST_SLEEPERS as usize;

/// In place of a number, to end a sleeper.
pub const END: u32 = u32::MAX;

#[derive(Clone)]
pub struct Words(pub Arc<Segment>);

impl Words {
    pub fn word64(&self, at: usize) -> &AtomicU64 {
        self.0.word64(at)
    }

    pub fn word32(&self, at: usize) -> &AtomicU32 {
        self.0.word32(at)
    }

    /// The word on which one sleeper of the floor sleeps.
    pub fn sleeper(&self, number: u32) -> &AtomicU32 {
        self.0.word32(SLEEPERS + APART * number as usize)
    }

    /// Wakes all sleepers of the floor, one after the other.
    pub fn wake(&self, sleepers: u32, value: u32) {
        for number in 0..sleepers {
            self.sleeper(number).store(value, Ordering::Release);
            futex_wake(self.sleeper(number), 1);
        }
    }

    pub fn count_woken(&self) {
        self.word64(WOKEN).fetch_add(1, Ordering::AcqRel);
    }
}

/// The time of a clock that is the same in all processes.
#[inline]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
