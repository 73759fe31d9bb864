//! Redis: PUBLISH, and SUBSCRIBE in each reader. PUBLISH answers how many received it, which is read before
//! the next one.

use super::{
    Kind, Message, Peer, Play, Publish, Receive, System, Wait, fanning_out, from_bytes, peer, publishing,
    there_and_back, to_bytes,
};
use crate::context::Context;
use crate::failure::Outcome;
use crate::peers::redis::{Line, NAME, REDIS, broker};

const BROKER: Option<crate::peers::Other> = Some(broker);

const fn of(name: &'static str, kind: Kind, play: Play) -> Peer {
    peer(name, kind, "PUBLISH to subscribers, over a Unix socket", REDIS.version, play)
}

pub static PUBLISH: Peer = of("publish-redis", Kind::Publish, publishing::<Redis>(BROKER));
pub static TOPICS: Peer = of("topics-redis", Kind::Topics, there_and_back::<Redis>(BROKER));
pub static FAN: Peer = of("fan-redis", Kind::FanOut, fanning_out::<Redis>(BROKER));

struct Redis;

struct Sends {
    line: Line,
    topic: String,
}

struct Takes(Line);

impl System for Redis {
    type Publisher = Sends;
    type Reader = Takes;
    const KEEPS: bool = true;

    fn publisher(context: &Context, topic: &str, _: Wait) -> Outcome<Sends> {
        Ok(Sends { line: Line::connect(context, &context.path(NAME))?, topic: topic.to_string() })
    }

    fn reader(context: &Context, topic: &str, _: Wait) -> Outcome<Takes> {
        let mut line = Line::connect(context, &context.path(NAME))?;
        line.command(&[b"SUBSCRIBE", topic.as_bytes()])?;
        line.take(|_| ())?;
        Ok(Takes(line))
    }
}

impl Publish for Sends {
    fn publish(&mut self, message: &Message) -> Outcome {
        self.line.command(&[b"PUBLISH", self.topic.as_bytes(), &to_bytes(message)])?;
        self.line.take(|_| ())
    }
}

impl Receive for Takes {
    fn receive(&mut self) -> Outcome<Message> {
        self.0.take(|payload| from_bytes(payload))?
    }
}
