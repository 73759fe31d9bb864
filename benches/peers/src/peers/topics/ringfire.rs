//! ringfire's ring of fixed slots, whose writer overwrites what is not read. Readers that sleep wait with its
//! `FutexWait` as it is by default.

use ringfire::{BusySpin, FutexWait, RingConsumer, RingProducer, WaitStrategy};

use super::{
    CAPACITY, Kind, Message, Peer, Publish, Receive, System, Version, Wait, fanning_out, peer, publishing,
    there_and_back,
};
use crate::context::Context;
use crate::failure::{OrFail, Outcome};
use crate::peers::shm_prefix;

const VERSION: Version = Version::Of("ringfire");

pub static PUBLISH: Peer = peer(
    "publish-ringfire",
    Kind::Publish,
    "push and recv_blocking, BusySpin",
    VERSION,
    publishing::<Ringfire>(None),
);
pub static TOPICS: Peer = peer(
    "topics-ringfire",
    Kind::Topics,
    "two rings, push and recv_blocking, BusySpin",
    VERSION,
    there_and_back::<Ringfire>(None),
);
pub static FAN: Peer = peer(
    "fan-ringfire",
    Kind::FanOut,
    "push and recv_blocking, FutexWait",
    VERSION,
    fanning_out::<Ringfire>(None),
);

struct Ringfire;

fn path(context: &Context, topic: &str) -> String {
    format!("/dev/shm/{}{topic}", shm_prefix(&context.dir))
}

enum Reader {
    Spins(RingConsumer<Message>),
    Sleeps(RingConsumer<Message>, FutexWait),
}

impl System for Ringfire {
    type Publisher = RingProducer<Message>;
    type Reader = Reader;

    fn publisher(context: &Context, topic: &str, _: Wait) -> Outcome<Self::Publisher> {
        RingProducer::create(path(context, topic), CAPACITY as u64).or_fail("make a ring")
    }

    fn reader(context: &Context, topic: &str, wait: Wait) -> Outcome<Reader> {
        let consumer = RingConsumer::attach(path(context, topic)).or_fail("attach to the ring")?;
        Ok(match wait {
            Wait::Spin => Reader::Spins(consumer),
            Wait::Sleep => Reader::Sleeps(consumer, FutexWait::default()),
        })
    }
}

impl Publish for RingProducer<Message> {
    #[inline]
    fn publish(&mut self, message: &Message) -> Outcome {
        self.push(message);
        Ok(())
    }
}

impl Receive for Reader {
    #[inline]
    fn receive(&mut self) -> Outcome<Message> {
        fn next(consumer: &mut RingConsumer<Message>, wait: &mut impl WaitStrategy) -> Outcome<Message> {
            Ok(consumer.recv_blocking(wait))
        }
        match self {
            Reader::Spins(consumer) => next(consumer, &mut BusySpin),
            Reader::Sleeps(consumer, wait) => next(consumer, wait),
        }
    }
}
