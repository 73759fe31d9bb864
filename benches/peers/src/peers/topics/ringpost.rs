//! Ringpost's topics by their public interface: every process is a client of one server, which takes no part
//! in what is published.

use std::time::Duration;

use ringpost::{Client, Publisher, Server, Subscriber, WaitStrategy};

use super::{
    Kind, Message, Peer, Play, Publish, Receive, System, Version, Wait, fanning_out, from_bytes, peer,
    publishing, there_and_back, to_bytes,
};
use crate::context::Context;
use crate::failure::{OrFail, Outcome};

const BROKER: Option<crate::peers::Other> = Some(broker);

const fn of(name: &'static str, kind: Kind, what: &'static str, play: Play) -> Peer {
    peer(name, kind, what, Version::Of("ringpost"), play)
}

pub static PUBLISH: Peer = of(
    "publish-ringpost",
    Kind::Publish,
    "send and recv, WaitStrategy::Spin",
    publishing::<Ringpost>(BROKER),
);
pub static TOPICS: Peer = of(
    "topics-ringpost",
    Kind::Topics,
    "two topics, send and recv, WaitStrategy::Spin",
    there_and_back::<Ringpost>(BROKER),
);
pub static FAN: Peer = of(
    "fan-ringpost",
    Kind::FanOut,
    "send and recv, the default way of waiting",
    fanning_out::<Ringpost>(BROKER),
);

fn broker(context: &Context) -> Outcome {
    let path = context.path("bus");
    let server = Server::builder(&path).start().or_fail("start the server")?;
    context.ready(&path)?;
    // Until this process is told to end.
    server.join();
    Ok(())
}

fn client(context: &Context, what: &str) -> Outcome<Client> {
    let name = format!("{what}-{}", std::process::id());
    Client::register(&context.path("bus"), name.as_str()).or_fail("register with the server")
}

struct Ringpost;

/// The client goes last.
struct Sends(Publisher, Client);

struct Takes(Subscriber, Client);

impl System for Ringpost {
    type Publisher = Sends;
    type Reader = Takes;

    fn publisher(context: &Context, topic: &str, _: Wait) -> Outcome<Sends> {
        let mut client = client(context, "publisher")?;
        Ok(Sends(client.publish(topic).or_fail("publish a topic")?, client))
    }

    fn reader(context: &Context, topic: &str, wait: Wait) -> Outcome<Takes> {
        let mut client = client(context, "subscriber")?;
        let options = Subscriber::options().wait(match wait {
            Wait::Spin => WaitStrategy::Spin,
            Wait::Sleep => WaitStrategy::Adaptive,
        });
        let subscriber = options.subscribe(client.caller(), topic).or_fail("subscribe")?;
        Ok(Takes(subscriber, client))
    }
}

impl Publish for Sends {
    #[inline]
    fn publish(&mut self, message: &Message) -> Outcome {
        self.0.send(&to_bytes(message)).or_fail("publish")
    }

    /// The client's watcher attaches a subscription after it is in force.
    fn wait_for(&self, readers: u32) {
        while self.0.subscribers() < readers as usize {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Receive for Takes {
    #[inline]
    fn receive(&mut self) -> Outcome<Message> {
        from_bytes(self.0.recv().or_fail("receive")?.payload())
    }
}
