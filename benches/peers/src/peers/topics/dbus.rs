//! D-Bus: a signal through a dbus-daemon of our own, which each reader has asked for by a match rule. Nothing
//! answers a signal.

use super::{
    Kind, Message, Peer, Play, Publish, Receive, SIZE, System, Wait, fanning_out, from_bytes, peer,
    publishing, there_and_back, to_bytes,
};
use crate::context::Context;
use crate::failure::Outcome;
use crate::peers::dbus::wire::{self, Field};
use crate::peers::dbus::{Bus, DBUS, SOCKET, broker};

const BROKER: Option<crate::peers::Other> = Some(broker);

const INTERFACE: &str = "org.ringpost.Topic";

const fn of(name: &'static str, kind: Kind, play: Play) -> Peer {
    peer(name, kind, "signals, through dbus-daemon", DBUS.version, play)
}

pub static PUBLISH: Peer = of("publish-dbus", Kind::Publish, publishing::<DBus>(BROKER));
pub static TOPICS: Peer = of("topics-dbus", Kind::Topics, there_and_back::<DBus>(BROKER));
pub static FAN: Peer = of("fan-dbus", Kind::FanOut, fanning_out::<DBus>(BROKER));

struct DBus;

struct Sends {
    bus: Bus,
    topic: String,
}

struct Takes(Bus);

impl System for DBus {
    type Publisher = Sends;
    type Reader = Takes;
    const KEEPS: bool = true;

    fn publisher(context: &Context, topic: &str, _: Wait) -> Outcome<Sends> {
        Ok(Sends { bus: Bus::connect(context, &context.path(SOCKET))?, topic: topic.to_string() })
    }

    fn reader(context: &Context, topic: &str, _: Wait) -> Outcome<Takes> {
        let mut bus = Bus::connect(context, &context.path(SOCKET))?;
        let rule = format!("type='signal',interface='{INTERFACE}',member='{topic}'");
        // A string: its length, its bytes, and a zero.
        bus.ask_daemon("AddMatch", "s", &[&(rule.len() as u32).to_le_bytes(), rule.as_bytes(), &[0]])?;
        Ok(Takes(bus))
    }
}

impl Publish for Sends {
    fn publish(&mut self, message: &Message) -> Outcome {
        let fields = [
            Field::Path("/"),
            Field::Interface(INTERFACE),
            Field::Member(&self.topic),
            Field::Signature("ay"),
        ];
        let body = [&(SIZE as u32).to_le_bytes()[..], &to_bytes(message)];
        self.bus.send(wire::Message::Signal, &fields, &body).map(drop)
    }
}

impl Receive for Takes {
    fn receive(&mut self) -> Outcome<Message> {
        loop {
            // The daemon has signals of its own, whose body is another.
            let message = self.0.receive(|incoming| match incoming.kind {
                wire::Message::Signal => Ok(wire::bytes(incoming.body).ok().map(from_bytes)),
                _ => Ok(None),
            })?;
            if let Some(message) = message {
                return message;
            }
        }
    }
}
