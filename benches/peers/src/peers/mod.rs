//! The peers: what each is, and the functions that are its processes.

mod dbus;
mod descriptors;
mod floor;
mod iceoryx;
mod ipc_channel;
mod one_way;
mod redis;
mod ringpost;
mod rings;
mod tools;
mod topics;

pub use tools::shm_prefix;
pub use topics::READERS;

use serde::Serialize;

use crate::context::Context;
use crate::failure::Outcome;
use crate::measure::Measured;

/// One way to do the work.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub name: &'static str,
    pub kind: Kind,
    /// A few words for the table.
    pub what: &'static str,
    /// Bytes of a message.
    pub sizes: &'static [usize],
    pub version: Version,
    pub play: Play,
}

impl Peer {
    /// Whether both ends look all the time.
    pub fn spins(&self) -> bool {
        match self.kind {
            Kind::Spinning | Kind::OneWay => true,
            // Whoever reads from a program's socket sleeps.
            Kind::Publish | Kind::Topics => !matches!(self.version, Version::Asked(_)),
            _ => self.name == iceoryx::NAMED_SPIN.name,
        }
    }

    pub fn is_floor(&self) -> bool {
        self.kind.floor() == Some(self.name)
    }
}

/// What is compared with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Spinning,
    Blocking,
    Forwarding,
    Named,
    OneWay,
    Publish,
    Topics,
    FanOut,
}

impl Kind {
    /// In the order of the table.
    pub const ALL: [Kind; 8] = [
        Kind::Spinning,
        Kind::Blocking,
        Kind::Forwarding,
        Kind::Named,
        Kind::OneWay,
        Kind::Publish,
        Kind::Topics,
        Kind::FanOut,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Kind::Spinning => "A call and its response between two processes, both ends look all the time",
            Kind::Blocking => "A call and its response between two processes, ends that wait may sleep",
            Kind::Forwarding => "A to B and back between two clients of a broker, ends that wait may sleep",
            Kind::Named => "A method call by name from client to client, as each system does it by default",
            Kind::OneWay => "One way between two threads of one process, for each message",
            Kind::Publish => "Published to one reader in another process, for each message",
            Kind::Topics => "There and back over two topics between two processes",
            Kind::FanOut => "Published to readers that sleep, each a process, until the last of them has it",
        }
    }

    /// The peer that is the least this machine allows.
    pub fn floor(self) -> Option<&'static str> {
        match self {
            Kind::Spinning => Some(floor::SPINNING.name),
            Kind::Blocking => Some(floor::BLOCKING.name),
            Kind::Topics => Some(floor::SPINNING.name),
            Kind::FanOut => Some(topics::FLOOR_FAN.name),
            Kind::Forwarding | Kind::Named | Kind::OneWay | Kind::Publish => None,
        }
    }
}

/// How a peer's version is known.
#[derive(Debug, Clone, Copy)]
pub enum Version {
    /// It is the kernel's.
    None,
    /// Of a crate.
    Of(&'static str),
    /// Of a program, which may not be installed.
    Asked(fn() -> Outcome<String>),
}

/// A client measures; any other process says when it is ready.
pub type Client = fn(&Context) -> Outcome<Measured>;
pub type Other = fn(&Context) -> Outcome;

/// A peer's processes.
#[derive(Debug, Clone, Copy)]
pub enum Play {
    /// The client on one CPU, the server on the other.
    Pair { server: Other, client: Client },
    /// The client and the other end on one CPU, the broker between them on the other.
    Brokered { broker: Other, server: Other, client: Client },
    /// The client on one CPU, the other end and the broker between them on the other.
    Named { broker: Other, server: Other, client: Client },
    /// The client, which publishes, on one CPU; readers, and the broker if there is one, on the other.
    Broadcast { broker: Option<Other>, reader: Other, client: Client },
    /// One process, whose second thread is on the other CPU.
    Alone { client: Client },
}

impl Play {
    pub fn client(&self) -> Client {
        match self {
            Play::Pair { client, .. }
            | Play::Brokered { client, .. }
            | Play::Named { client, .. }
            | Play::Broadcast { client, .. }
            | Play::Alone { client } => *client,
        }
    }
}

/// The sizes of requests and responses.
const SIZES: &[usize] = &[64, 4096];

/// In the order of the table.
pub static ALL: &[&Peer] = &[
    &floor::SPINNING,
    &ringpost::SPIN,
    &iceoryx::SPIN,
    &ipc_channel::SPIN,
    &descriptors::STREAM_SPIN,
    &descriptors::SEQPACKET_SPIN,
    &descriptors::PIPE_SPIN,
    &floor::BLOCKING,
    &ringpost::ADAPTIVE,
    &ringpost::PARK,
    &iceoryx::EVENT,
    &ipc_channel::BLOCKING,
    &descriptors::STREAM,
    &descriptors::SEQPACKET,
    &descriptors::PIPE,
    &ringpost::FORWARD_ADAPTIVE,
    &ringpost::FORWARD_PARK,
    &redis::REDIS,
    &dbus::DBUS,
    &ringpost::LINK,
    &iceoryx::NAMED,
    &iceoryx::NAMED_SPIN,
    &descriptors::NAMED,
    &dbus::NAMED,
    &redis::NAMED,
    &rings::RINGPOST,
    &rings::RTRB,
    &rings::ARRAY_QUEUE,
    &rings::CHANNEL,
    &rings::RINGPOST_BATCH,
    &rings::RTRB_CHUNK,
    &topics::RINGPOST,
    &topics::RINGFIRE,
    &topics::CROSSBAR,
    &topics::ICEORYX,
    &topics::REDIS,
    &topics::DBUS,
    &topics::RINGPOST_TOPICS,
    &topics::RINGFIRE_TOPICS,
    &topics::CROSSBAR_TOPICS,
    &topics::ICEORYX_TOPICS,
    &topics::REDIS_TOPICS,
    &topics::DBUS_TOPICS,
    &topics::FLOOR_FAN,
    &topics::RINGPOST_FAN,
    &topics::RINGFIRE_FAN,
    &topics::CROSSBAR_FAN,
    &topics::ICEORYX_FAN,
    &topics::REDIS_FAN,
    &topics::DBUS_FAN,
];

pub fn find(name: &str) -> Option<&'static Peer> {
    ALL.iter().copied().find(|peer| peer.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_floors_exist() {
        for (at, peer) in ALL.iter().enumerate() {
            assert!(ALL[..at].iter().all(|other| other.name != peer.name), "{}", peer.name);
            assert!(peer.kind.floor().is_none_or(|floor| find(floor).is_some()));
            assert!(!peer.sizes.is_empty());
        }
    }
}
