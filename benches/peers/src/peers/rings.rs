//! Rings between two threads: ringpost's by itself, rtrb's, and crossbeam's queue and channel. Each holds as
//! many messages, and both ends look all the time, except for the channel, whose own way of waiting belongs
//! to it.

use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use crossbeam_queue::ArrayQueue;
use ringpost::ring::{RecvError, SendError};

use super::one_way::{BATCH, CAPACITY, Message, Over, Put, SIZE, Take, message, run};
use super::{Kind, Peer, Play, Version};
use crate::context::Context;
use crate::failure::{Failure, OrFail, Outcome};
use crate::measure::Measured;

const fn peer(
    name: &'static str,
    what: &'static str,
    of: &'static str,
    client: fn(&Context) -> Outcome<Measured>,
) -> Peer {
    Peer {
        name,
        kind: Kind::OneWay,
        what,
        sizes: &[SIZE],
        version: Version::Of(of),
        play: Play::Alone { client },
    }
}

pub static RINGPOST: Peer =
    peer("ringpost-ring", "ring::local, try_send and try_recv", "ringpost", ringpost_client::<false>);
pub static RTRB: Peer = peer("rtrb", "push and pop", "rtrb", |context| {
    let (producer, consumer) = rtrb::RingBuffer::new(CAPACITY);
    run(context, Rtrb::<_, false>(producer), Rtrb::<_, false>(consumer))
});
pub static ARRAY_QUEUE: Peer =
    peer("crossbeam-queue", "ArrayQueue, push and pop", "crossbeam-queue", |context| {
        let queue = Arc::new(ArrayQueue::new(CAPACITY));
        run(context, Queue(Arc::clone(&queue)), Queue(queue))
    });
pub static CHANNEL: Peer =
    peer("crossbeam-channel", "bounded, send and recv", "crossbeam-channel", |context| {
        let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
        run(context, ChannelIn(sender), ChannelOut(receiver))
    });
pub static RINGPOST_BATCH: Peer =
    peer("ringpost-ring-batch", "batches and drains of 16", "ringpost", ringpost_client::<true>);
pub static RTRB_CHUNK: Peer = peer("rtrb-chunk", "chunks of 16, both ends", "rtrb", |context| {
    let (producer, consumer) = rtrb::RingBuffer::new(CAPACITY);
    run(context, Rtrb::<_, true>(producer), Rtrb::<_, true>(consumer))
});

#[cold]
fn nobody() -> Failure {
    Failure::new("the other end is gone")
}

/// Tries until it succeeds or is over.
#[inline(always)]
fn until<T>(over: &Over, mut attempt: impl FnMut() -> Option<T>) -> Outcome<T> {
    loop {
        if let Some(done) = attempt() {
            return Ok(done);
        }
        if over.is() {
            return Err(nobody());
        }
        std::hint::spin_loop();
    }
}

// ---- ringpost

struct RingIn<const BATCHES: bool>(ringpost::ring::Producer);
struct RingOut<const BATCHES: bool>(ringpost::ring::Consumer, Vec<u8>);

fn ringpost_client<const BATCHES: bool>(context: &Context) -> Outcome<Measured> {
    // A message of this size takes a line.
    let (producer, consumer) = ringpost::ring::local(CAPACITY * 64).or_fail("make a ring")?;
    run(context, RingIn::<BATCHES>(producer), RingOut::<BATCHES>(consumer, Vec::new()))
}

impl<const BATCHES: bool> Put for RingIn<BATCHES> {
    #[inline]
    fn put(&mut self, numbers: Range<u64>, over: &Over) -> Outcome {
        let room = |sent: Result<(), SendError>| match sent {
            Ok(()) => Some(Ok(())),
            Err(SendError::Full) => None,
            Err(error) => Some(Err(error).or_fail("send")),
        };
        if !BATCHES {
            for number in numbers {
                let message = message(number);
                until(over, || room(self.0.try_send(&message)))??;
            }
            return Ok(());
        }
        for first in numbers.step_by(BATCH as usize) {
            let mut batch = self.0.batch();
            for number in first..first + BATCH {
                let message = message(number);
                until(over, || room(batch.push(&message)))??;
            }
            batch.commit();
        }
        Ok(())
    }
}

impl<const BATCHES: bool> Take for RingOut<BATCHES> {
    #[inline]
    fn take(&mut self, count: u64, mut check: impl FnMut(&[u8]) -> Outcome) -> Outcome {
        let RingOut(consumer, message) = self;
        if !BATCHES {
            return (0..count).try_for_each(|_| {
                receive(message, |into| consumer.try_recv(into))?;
                check(message)
            });
        }
        for _ in 0..count / BATCH {
            let mut drain = consumer.drain();
            for _ in 0..BATCH {
                receive(message, |into| drain.try_recv(into))?;
                check(message)?;
            }
        }
        Ok(())
    }
}

/// Looks until there is one.
#[inline(always)]
fn receive(
    into: &mut Vec<u8>,
    mut look: impl FnMut(&mut Vec<u8>) -> Result<Option<usize>, RecvError>,
) -> Outcome {
    loop {
        match look(into) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => std::hint::spin_loop(),
            Err(error) => return Err(error).or_fail("receive"),
        }
    }
}

// ---- rtrb

struct Rtrb<End, const CHUNKS: bool>(End);

impl<const CHUNKS: bool> Put for Rtrb<rtrb::Producer<Message>, CHUNKS> {
    #[inline]
    fn put(&mut self, numbers: Range<u64>, over: &Over) -> Outcome {
        if !CHUNKS {
            for number in numbers {
                until(over, || self.0.push(message(number)).ok())?;
            }
            return Ok(());
        }
        for first in numbers.step_by(BATCH as usize) {
            // A chunk borrows the producer: look first, then take it.
            until(over, || (self.0.slots() >= BATCH as usize).then_some(()))?;
            let chunk = self.0.write_chunk_uninit(BATCH as usize).or_fail("get a chunk")?;
            chunk.fill_from_iter((first..first + BATCH).map(message));
        }
        Ok(())
    }
}

impl<const CHUNKS: bool> Take for Rtrb<rtrb::Consumer<Message>, CHUNKS> {
    #[inline]
    fn take(&mut self, count: u64, mut check: impl FnMut(&[u8]) -> Outcome) -> Outcome {
        let mut left = count;
        while left > 0 {
            if !CHUNKS {
                match self.0.pop() {
                    Ok(message) => {
                        check(&message)?;
                        left -= 1;
                    }
                    Err(_) if self.0.is_abandoned() => return Err(nobody()),
                    Err(_) => std::hint::spin_loop(),
                }
                continue;
            }
            if self.0.slots() < BATCH as usize {
                if self.0.is_abandoned() {
                    return Err(nobody());
                }
                std::hint::spin_loop();
                continue;
            }
            let chunk = self.0.read_chunk(BATCH as usize).or_fail("get a chunk")?;
            let (first, second) = chunk.as_slices();
            first.iter().chain(second).try_for_each(|message| check(message))?;
            chunk.commit_all();
            left -= BATCH;
        }
        Ok(())
    }
}

// ---- crossbeam

struct Queue(Arc<ArrayQueue<Message>>);

impl Put for Queue {
    #[inline]
    fn put(&mut self, numbers: Range<u64>, over: &Over) -> Outcome {
        for number in numbers {
            let mut message = message(number);
            until(over, || self.0.push(message).map_err(|back| message = back).ok())?;
        }
        Ok(())
    }
}

impl Take for Queue {
    #[inline]
    fn take(&mut self, count: u64, mut check: impl FnMut(&[u8]) -> Outcome) -> Outcome {
        for _ in 0..count {
            let message = loop {
                match self.0.pop() {
                    Some(message) => break message,
                    None => std::hint::spin_loop(),
                }
            };
            check(&message)?;
        }
        Ok(())
    }
}

struct ChannelIn(Sender<Message>);
struct ChannelOut(Receiver<Message>);

impl Put for ChannelIn {
    #[inline]
    fn put(&mut self, mut numbers: Range<u64>, _: &Over) -> Outcome {
        // It finds out by itself when nobody receives any more.
        numbers.try_for_each(|number| self.0.send(message(number))).map_err(|_| nobody())
    }
}

impl Take for ChannelOut {
    #[inline]
    fn take(&mut self, count: u64, mut check: impl FnMut(&[u8]) -> Outcome) -> Outcome {
        for _ in 0..count {
            check(&self.0.recv().or_fail("receive")?)?;
        }
        Ok(())
    }
}
