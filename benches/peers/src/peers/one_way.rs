//! Messages one way from one thread to another. Every message is a number, repeated; the receiver compares
//! all of its bytes. The receiver reads the clock once for every [`MANY`] messages: the figure for a message
//! is the median of these means.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::machine::pin;
use crate::measure::{Measured, quantile};

/// With its header, a line of ringpost's.
pub const SIZE: usize = 56;

pub type Message = [u8; SIZE];

/// Messages that a ring holds, in each of the peers.
pub const CAPACITY: usize = 1024;

/// Messages of a batch, where there are any.
pub const BATCH: u64 = 16;

/// Messages between two readings of the clock.
const MANY: u64 = 256;

/// The sending end.
pub trait Put: Send {
    /// Sends the messages with these numbers, waiting for room; gives up when nobody receives any more.
    fn put(&mut self, numbers: Range<u64>, over: &Over) -> Outcome;
}

/// The receiving end.
pub trait Take: Send {
    /// Receives so many messages, waiting for them, and hands each to `check` in their order.
    fn take(&mut self, count: u64, check: impl FnMut(&[u8]) -> Outcome) -> Outcome;
}

/// Whether the receiver has had enough.
#[derive(Debug, Default)]
pub struct Over(AtomicBool);

impl Over {
    /// To be asked while there is no room.
    #[inline]
    pub fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The message with this number.
#[inline(always)]
pub fn message(number: u64) -> Message {
    let mut message = [0; SIZE];
    for word in message.chunks_exact_mut(8) {
        word.copy_from_slice(&number.to_le_bytes());
    }
    message
}

/// The sender in this thread, the receiver in another on the other CPU.
pub fn run(context: &Context, mut put: impl Put, take: impl Take) -> Outcome<Measured> {
    let over = &Over::default();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let measured = pin(context.pins.server).and_then(|()| receive(context, take));
            over.0.store(true, Ordering::Relaxed);
            measured
        });
        let mut next = 0;
        let mut sent = Ok(());
        while sent.is_ok() && !over.is() {
            sent = put.put(next..next + MANY, over);
            next += MANY;
        }
        // The receiver may still wait, if this end failed: it finds out when this end is gone, or the time
        // limit ends both.
        drop(put);
        let measured =
            receiver.join().unwrap_or_else(|_| Err(Failure::new("the receiving thread panicked")))?;
        // What could not be sent after the end does not matter.
        match sent {
            Err(why) if !over.is() => Err(why),
            _ => Ok(measured),
        }
    })
}

fn receive(context: &Context, mut from: impl Take) -> Outcome<Measured> {
    let mut number = 0_u64;
    let mut means = Vec::new();
    let mut began = Instant::now();
    let start = began;
    let warm = context.budget / 4;
    loop {
        from.take(MANY, |bytes| {
            if *bytes != message(number) {
                return Err(wrong(number));
            }
            number += 1;
            Ok(())
        })?;
        let now = Instant::now();
        if now - start > warm {
            means.push((now - began).as_nanos() as f64 / MANY as f64);
        }
        if now - start > warm + context.budget && means.len() >= 10 {
            break;
        }
        began = now;
    }
    let count = means.len() as u64 * MANY;
    let (median, p99) = (quantile(&mut means, 0.5), quantile(&mut means, 0.99));
    Ok(Measured { median, p99, count, received: None })
}

#[cold]
fn wrong(number: u64) -> Failure {
    Failure::new(format!("message {number} came with wrong bytes, or in the wrong order"))
}
