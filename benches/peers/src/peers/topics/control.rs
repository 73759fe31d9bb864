//! What publisher and readers of a peer tell each other about the measurement, in shared memory of its own.
//! Nothing of it is touched for a message of a spinning reader, so that it does not stand in the figure.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ringpost::testing::Segment;

use crate::context::Context;
use crate::failure::{OrFail, Outcome};

/// Far enough apart for processors that fetch lines in pairs.
const READY: usize = 0;
const RECEIVED: usize = 256;
const TOTAL: usize = 512;
/// One word for each reader of the floor, each in a line of its own.
const WORDS: usize = 4096;
const APART: usize = 256;

pub struct Control {
    segment: Segment,
    /// Publisher and readers share a CPU.
    yields: bool,
}

impl Control {
    /// Makes the memory, tells where it is, and waits for the readers.
    pub fn create(context: &Context) -> Outcome<Control> {
        let length = WORDS + APART * context.readers as usize;
        let (segment, descriptor) = Segment::create("peers-control", length).or_fail("make shared memory")?;
        let number = descriptor.as_raw_fd();
        // For as long as this process lives.
        std::mem::forget(descriptor);
        let control = Control { segment, yields: !context.pins.differ() };
        context.ready(format!("/proc/{}/fd/{number}", std::process::id()))?;
        while control.segment.word32(READY).load(Ordering::Acquire) < context.readers {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(control)
    }

    pub fn open(context: &Context) -> Outcome<Control> {
        let file = File::options().read(true).write(true).open(context.other());
        let segment =
            Segment::open(file.or_fail("open the shared memory")?).or_fail("map the shared memory")?;
        Ok(Control { segment, yields: !context.pins.differ() })
    }

    /// A reader is ready: how many were before it.
    pub fn enter(&self) -> u32 {
        self.segment.word32(READY).fetch_add(1, Ordering::AcqRel)
    }

    /// How many messages readers say they have received.
    pub fn received(&self) -> &AtomicU64 {
        self.segment.word64(RECEIVED)
    }

    /// Waits until so many were received.
    #[inline]
    pub fn wait_received(&self, count: u64) {
        while self.received().load(Ordering::Acquire) < count {
            match self.yields {
                true => std::thread::yield_now(),
                false => std::hint::spin_loop(),
            }
        }
    }

    /// A reader has received the last message, and these before it.
    pub fn done(&self, count: u64) {
        self.segment.word64(TOTAL).store(count + 1, Ordering::Release);
    }

    /// Waits until the reader has received the last message: how many before it.
    pub fn total(&self) -> u64 {
        loop {
            match self.segment.word64(TOTAL).load(Ordering::Acquire) {
                0 => std::thread::sleep(Duration::from_millis(1)),
                count => return count - 1,
            }
        }
    }

    pub fn word(&self, reader: u32) -> &AtomicU32 {
        self.segment.word32(WORDS + APART * reader as usize)
    }
}
