//! Which ends of a channel or a link are kicked by which pipe.

use super::layout::Ring;
use crate::ring::{Kick, Sleeper};

/// The pipes by which the ends of a client are kicked that wait in an event loop. The server holds the write
/// ends, and the client's own closers have others. Each is empty until the client asks for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kicks {
    /// Of the half that calls: it waits for responses, and for room for requests.
    pub(crate) caller: Kick,
    /// Of the half that receives messages.
    pub(crate) inbox: Kick,
}

impl Kicks {
    /// The three rings with the pipes that the host kicks.
    pub(super) fn at_the_host(&self) -> [Sleepers; 3] {
        [
            Sleepers { producer: self.caller.clone(), ..Sleepers::of(Ring::Request) },
            Sleepers { consumer: self.caller.clone(), ..Sleepers::of(Ring::Response) },
            Sleepers { consumer: self.inbox.clone(), ..Sleepers::of(Ring::Inbox) },
        ]
    }
}

/// A ring, and the pipes by which this side kicks its ends.
pub(super) struct Sleepers {
    pub(super) ring: Ring,
    pub(super) consumer: Kick,
    pub(super) producer: Kick,
}

impl Sleepers {
    /// Nobody is kicked.
    pub(super) fn of(ring: Ring) -> Sleepers {
        Sleepers { ring, consumer: Kick::default(), producer: Kick::default() }
    }

    pub(super) fn all(&self) -> [Sleeper; 2] {
        let [consumer, producer] = self.ring.parked_words();
        [
            Sleeper { word: consumer, kick: self.consumer.clone() },
            Sleeper { word: producer, kick: self.producer.clone() },
        ]
    }
}
