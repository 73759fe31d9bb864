//! crossbar's bus of fixed slots, which can only be polled; for readers that sleep its topics, whose payloads
//! lie in blocks that are counted.

use crossbar::{BusSubscriber, Config, PodBus, Publisher, Stream, Subscriber, Topic};

use super::{
    CAPACITY, Kind, Message, Peer, Publish, Receive, SIZE, System, Version, Wait, fanning_out, from_bytes,
    peer, publishing, there_and_back, to_bytes,
};
use crate::context::Context;
use crate::failure::{OrFail, Outcome};
use crate::peers::shm_prefix;

const VERSION: Version = Version::Of("crossbar");

pub static PUBLISH: Peer =
    peer("publish-crossbar", Kind::Publish, "PodBus, publish and try_recv", VERSION, publishing::<Bus>(None));
pub static TOPICS: Peer = peer(
    "topics-crossbar",
    Kind::Topics,
    "two PodBus, publish and try_recv",
    VERSION,
    there_and_back::<Bus>(None),
);
pub static FAN: Peer = peer(
    "fan-crossbar",
    Kind::FanOut,
    "a topic of its pool, publish and recv",
    VERSION,
    fanning_out::<Pool>(None),
);

fn name(context: &Context, topic: &str) -> String {
    format!("{}{topic}", shm_prefix(&context.dir))
}

struct Bus;

impl System for Bus {
    type Publisher = PodBus<Message>;
    type Reader = BusSubscriber<Message>;

    fn publisher(context: &Context, topic: &str, _: Wait) -> Outcome<Self::Publisher> {
        PodBus::create(&name(context, topic), CAPACITY).or_fail("make a bus")
    }

    fn reader(context: &Context, topic: &str, _: Wait) -> Outcome<Self::Reader> {
        BusSubscriber::connect(&name(context, topic)).or_fail("connect to the bus")
    }
}

impl Publish for PodBus<Message> {
    #[inline]
    fn publish(&mut self, message: &Message) -> Outcome {
        PodBus::publish(self, *message);
        Ok(())
    }
}

impl Receive for BusSubscriber<Message> {
    #[inline]
    fn receive(&mut self) -> Outcome<Message> {
        loop {
            match self.try_recv() {
                Some(message) => return Ok(message),
                None => std::hint::spin_loop(),
            }
        }
    }
}

struct Pool;

impl System for Pool {
    type Publisher = (Publisher, Topic);
    type Reader = (Stream, Subscriber);

    fn publisher(context: &Context, topic: &str, _: Wait) -> Outcome<Self::Publisher> {
        // A block has 8 bytes more than its payload.
        let config = Config { block_size: (SIZE + 8) as u32, ..Config::default() };
        let mut publisher = Publisher::create(&name(context, topic), config).or_fail("make a publisher")?;
        let topic = publisher.register("/topic").or_fail("make a topic")?;
        Ok((publisher, topic))
    }

    fn reader(context: &Context, topic: &str, _: Wait) -> Outcome<Self::Reader> {
        let subscriber = Subscriber::connect(&name(context, topic)).or_fail("connect to the publisher")?;
        Ok((subscriber.subscribe("/topic").or_fail("subscribe")?, subscriber))
    }
}

impl Publish for (Publisher, Topic) {
    fn publish(&mut self, message: &Message) -> Outcome {
        self.0.publish(&self.1, &to_bytes(message)).or_fail("publish")
    }
}

impl Receive for (Stream, Subscriber) {
    fn receive(&mut self) -> Outcome<Message> {
        from_bytes(&self.0.recv().or_fail("receive")?)
    }
}
