//! What each end can do as a future. Sealed: nobody else's type is an end.

use super::{Readiness, ReadinessError, Ready};
use crate::client::{
    Caller, Calls, Client, Inbox, Link, Listener, Presence, Publisher, Responder, Subscriber,
};

/// An end that can be wrapped.
pub trait Waits: Ready {
    /// By what it is waited for. A whole client has two descriptors: one that stood for both would stay
    /// readable while nobody receives.
    fn readinesses(&mut self) -> Result<(Readiness, Option<Readiness>), ReadinessError> {
        Ok((self.readiness()?, None))
    }
}

impl Waits for Client {
    fn readinesses(&mut self) -> Result<(Readiness, Option<Readiness>), ReadinessError> {
        Ok((self.caller().readiness()?, Some(self.inbox().readiness()?)))
    }
}

impl Waits for Caller {}
impl Waits for Inbox {}
impl Waits for Link {}
impl Waits for Listener {}
impl Waits for Responder {}
impl Waits for Publisher {}
impl Waits for Subscriber {}
impl Waits for Presence {}

/// An end that calls.
pub trait Asks: Waits {
    fn calls(&mut self) -> &mut Calls;

    fn arm_calls(&mut self) -> Result<bool, ReadinessError> {
        self.calls().arm_for_arrivals()
    }
}

impl Asks for Client {
    fn calls(&mut self) -> &mut Calls {
        self.caller().own_calls()
    }
}

impl Asks for Caller {
    fn calls(&mut self) -> &mut Calls {
        self.own_calls()
    }
}

impl Asks for Link {
    fn calls(&mut self) -> &mut Calls {
        self.own_calls()
    }
}

/// An end that calls a server.
pub trait AsksServer: Asks {
    fn as_caller(&mut self) -> &mut Caller;

    fn into_caller(self) -> Caller;
}

impl AsksServer for Client {
    fn as_caller(&mut self) -> &mut Caller {
        self.caller()
    }

    fn into_caller(self) -> Caller {
        self.split().0
    }
}

impl AsksServer for Caller {
    fn as_caller(&mut self) -> &mut Caller {
        self
    }

    fn into_caller(self) -> Caller {
        self
    }
}

/// An end that receives messages.
pub trait Receives: Waits {
    fn as_inbox(&mut self) -> &mut Inbox;
}

impl Receives for Client {
    fn as_inbox(&mut self) -> &mut Inbox {
        self.inbox()
    }
}

impl Receives for Inbox {
    fn as_inbox(&mut self) -> &mut Inbox {
        self
    }
}
