//! Broadcast: one end publishes, readers in other processes receive. Each system with 56 bytes, in three
//! ways:
//!
//! - *Publish*: to one reader that looks all the time, as fast as the publisher can. Where the memory is
//!   bounded and the publisher does not wait, the reader misses some: how many it received stands beside.
//!   Redis and D-Bus keep what is not read yet, so there the publisher waits for every 64 messages.
//! - *Topics*: there and back, over one topic each way.
//! - *Fan-out*: to readers that sleep, until the last of them has it.

mod control;
mod crossbar;
mod dbus;
mod floor;
mod iceoryx;
mod redis;
mod ringfire;
mod ringpost;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::control::Control;
use super::{Kind, Peer, Play, Version};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::measure::{Measured, quantile, time};
use crate::work::Work;

pub use crossbar::{FAN as CROSSBAR_FAN, PUBLISH as CROSSBAR, TOPICS as CROSSBAR_TOPICS};
pub use dbus::{FAN as DBUS_FAN, PUBLISH as DBUS, TOPICS as DBUS_TOPICS};
pub use floor::FAN as FLOOR_FAN;
pub use iceoryx::{FAN as ICEORYX_FAN, PUBLISH as ICEORYX, TOPICS as ICEORYX_TOPICS};
pub use redis::{FAN as REDIS_FAN, PUBLISH as REDIS, TOPICS as REDIS_TOPICS};
pub use ringfire::{FAN as RINGFIRE_FAN, PUBLISH as RINGFIRE, TOPICS as RINGFIRE_TOPICS};
pub use ringpost::{FAN as RINGPOST_FAN, PUBLISH as RINGPOST, TOPICS as RINGPOST_TOPICS};

/// How many readers there are in turn, in a fan-out.
pub const READERS: &[u32] = &[1, 8, 32];

/// Messages that a publisher's memory holds, where that can be said: 256 KiB.
const CAPACITY: usize = 4096;

const SIZE: usize = size_of::<Message>();

/// A number in each of its words.
type Message = [u64; 7];

/// The number of the last message.
const LAST: u64 = u64::MAX;

/// Messages between two readings of the clock.
const MANY: u64 = 1000;

/// Messages after which a publisher waits whose messages are kept until they are read.
const KEPT: u64 = 64;

const FORTH: &str = "forth";
const BACK: &str = "back";

/// How a reader waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Spin,
    Sleep,
}

trait Publish {
    fn publish(&mut self, message: &Message) -> Outcome;

    /// Waits until the publisher knows its readers, if it does.
    fn wait_for(&self, _readers: u32) {}
}

trait Receive {
    /// Waits for the next message.
    fn receive(&mut self) -> Outcome<Message>;
}

/// One way to broadcast.
trait System {
    type Publisher: Publish;
    type Reader: Receive;
    /// Whether what is not read yet is kept without a bound.
    const KEEPS: bool = false;

    fn publisher(context: &Context, topic: &str, readers_wait: Wait) -> Outcome<Self::Publisher>;
    /// The topic has a publisher.
    fn reader(context: &Context, topic: &str, wait: Wait) -> Outcome<Self::Reader>;
}

const fn peer(name: &'static str, kind: Kind, what: &'static str, version: Version, play: Play) -> Peer {
    Peer { name, kind, what, sizes: &[SIZE], version, play }
}

/// As fast as the publisher can, to one reader.
const fn publishing<S: System>(broker: Option<super::Other>) -> Play {
    Play::Broadcast { broker, reader: receive_all::<S>, client: publish_all::<S> }
}

/// One topic each way.
const fn there_and_back<S: System>(broker: Option<super::Other>) -> Play {
    Play::Broadcast { broker, reader: send_back::<S>, client: send_there::<S> }
}

/// To many readers.
const fn fanning_out<S: System>(broker: Option<super::Other>) -> Play {
    Play::Broadcast { broker, reader: receive_and_say::<S>, client: fan_out::<S> }
}

#[inline(always)]
fn message(number: u64) -> Message {
    [number; 7]
}

/// The number of a message, all of whose words are compared.
#[inline(always)]
fn number(message: &Message) -> Outcome<u64> {
    let [first, ..] = *message;
    if *message == [first; 7] { Ok(first) } else { Err(Failure::new("a message has wrong bytes")) }
}

/// A message of a system that hands out bytes.
fn from_bytes(bytes: &[u8]) -> Outcome<Message> {
    let mut message = Message::default();
    if bytes.len() != SIZE {
        return Err(Failure::new(format!("a message has {} bytes, not {SIZE}", bytes.len())));
    }
    for (word, bytes) in message.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Ok(message)
}

fn to_bytes(message: &Message) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(message) {
        *bytes = word.to_ne_bytes();
    }
    bytes
}

fn publish_all<S: System>(context: &Context) -> Outcome<Measured> {
    let mut publisher = S::publisher(context, FORTH, Wait::Spin)?;
    let control = Control::create(context)?;
    publisher.wait_for(context.readers);
    let mut sent = 0;
    let mut publish_many = || -> Outcome<f64> {
        let began = Instant::now();
        for _ in 0..MANY {
            sent += 1;
            publisher.publish(&message(sent))?;
            if S::KEEPS && sent.is_multiple_of(KEPT) {
                control.wait_received(sent);
            }
        }
        Ok(began.elapsed().as_nanos() as f64 / MANY as f64)
    };
    let warm = Instant::now();
    while warm.elapsed() < context.budget / 4 {
        publish_many()?;
    }
    let mut means = Vec::new();
    let start = Instant::now();
    while start.elapsed() < context.budget || means.is_empty() {
        means.push(publish_many()?);
    }
    publisher.publish(&message(LAST))?;
    let received = control.total() as f64 / sent as f64;
    let count = means.len() as u64 * MANY;
    let (median, p99) = (quantile(&mut means, 0.5), quantile(&mut means, 0.99));
    Ok(Measured { median, p99, count, received: Some(received) })
}

fn receive_all<S: System>(context: &Context) -> Outcome {
    let control = Control::open(context)?;
    let mut reader = S::reader(context, FORTH, Wait::Spin)?;
    control.enter();
    let (mut last, mut count) = (0, 0);
    loop {
        let number = number(&reader.receive()?)?;
        if number <= last {
            return Err(Failure::new(format!("message {number} came after message {last}")));
        }
        if number == LAST {
            control.done(count);
            return Ok(());
        }
        last = number;
        count += 1;
        if S::KEEPS {
            control.received().store(count, Ordering::Release);
        }
    }
}

/// The answer holds the number, but for its first word, which is inverted.
fn send_there<S: System>(context: &Context) -> Outcome<Measured> {
    let mut publisher = S::publisher(context, FORTH, Wait::Spin)?;
    let control = Control::create(context)?;
    publisher.wait_for(context.readers);
    let mut reader = S::reader(context, BACK, Wait::Spin)?;
    control.enter();
    let mut sent = 0;
    let mut ask = |_: &mut Work| {
        sent += 1;
        publisher.publish(&message(sent))?;
        let [first, rest @ ..] = reader.receive()?;
        if first == !sent && rest == [sent; 6] {
            Ok(())
        } else {
            Err(Failure::new(format!("the answer to message {sent} is another one's")))
        }
    };
    let measured = time(&mut ask, &mut Work::new(0), context.budget)?;
    publisher.publish(&message(LAST))?;
    control.total();
    Ok(measured)
}

fn send_back<S: System>(context: &Context) -> Outcome {
    let control = Control::open(context)?;
    let mut publisher = S::publisher(context, BACK, Wait::Spin)?;
    let mut reader = S::reader(context, FORTH, Wait::Spin)?;
    control.enter();
    loop {
        let number = number(&reader.receive()?)?;
        if number == LAST {
            control.done(0);
            return Ok(());
        }
        let mut answer = message(number);
        answer[0] = !number;
        publisher.publish(&answer)?;
    }
}

fn fan_out<S: System>(context: &Context) -> Outcome<Measured> {
    let mut publisher = S::publisher(context, FORTH, Wait::Sleep)?;
    let control = Control::create(context)?;
    publisher.wait_for(context.readers);
    let measured = to_the_last(context, &control, |number| publisher.publish(&message(number)))?;
    publisher.publish(&message(LAST))?;
    control.total();
    Ok(measured)
}

/// Times each message until every reader has it. Before each, all have the time to fall asleep.
fn to_the_last(
    context: &Context,
    control: &Control,
    mut publish: impl FnMut(u64) -> Outcome,
) -> Outcome<Measured> {
    let readers = context.readers;
    // Some look for a while before they sleep, and all share a CPU.
    let rest = Duration::from_micros(200) + Duration::from_micros(50) * readers;
    let mut number = 0;
    let mut once = || -> Outcome<f64> {
        std::thread::sleep(rest);
        number += 1;
        // The sleep is over, but the CPU may have slept, too.
        let awake = Instant::now();
        while awake.elapsed() < Duration::from_micros(20) {
            std::hint::spin_loop();
        }
        let began = Instant::now();
        publish(number)?;
        control.wait_received(number * u64::from(readers));
        Ok(began.elapsed().as_nanos() as f64)
    };
    let warm = Instant::now();
    while warm.elapsed() < context.budget / 4 {
        once()?;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < context.budget || times.len() < 10 {
        times.push(once()?);
    }
    let count = times.len() as u64;
    let (median, p99) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
    Ok(Measured { median, p99, count, received: None })
}

fn receive_and_say<S: System>(context: &Context) -> Outcome {
    let control = Control::open(context)?;
    let mut reader = S::reader(context, FORTH, Wait::Sleep)?;
    control.enter();
    let mut last = 0;
    loop {
        let number = number(&reader.receive()?)?;
        if number == LAST {
            control.done(last);
            return Ok(());
        }
        if number != last + 1 {
            return Err(Failure::new(format!("message {number} came after message {last}")));
        }
        last = number;
        control.received().fetch_add(1, Ordering::AcqRel);
    }
}
