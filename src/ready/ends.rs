//! What each end waits for, and by what.

#![forbid(unsafe_code)]

use super::sealed::Sealed;
use super::{Readiness, ReadinessError, Ready};
use crate::client::{Caller, Client, Inbox, Link, Listener, Presence, Publisher, Responder, Subscriber};

/// Both halves at once: look at both, also if the descriptor is readable for one of them only.
impl Ready for Client {
    fn readiness(&mut self) -> Result<Readiness, ReadinessError> {
        let pipes = [self.caller().pipe()?, self.inbox().pipe()?];
        let nested = Readiness::of_several(pipes);
        nested.map_err(|source| ReadinessError::System { action: "make an epoll instance", source })
    }

    fn arm(&mut self) -> Result<bool, ReadinessError> {
        // Messages come before the end, so the inbox comes before the caller, which may tell it.
        Ok(self.inbox().arm_end()? && self.caller().arm_end()?)
    }
}

/// It waits for responses: look with [`Caller::try_response`]. If the last [`Caller::try_submit`] said
/// [`Full`](crate::CallError::Full), it waits for room, too: submit again.
///
/// The first [`readiness`](Ready::readiness) of a registration blocks until the server and the client's
/// worker have answered, at most for [`ClientBuilder::timeout`](crate::ClientBuilder::timeout). From then on
/// the worker makes a memory fence for each response.
impl Ready for Caller {
    fn readiness(&mut self) -> Result<Readiness, ReadinessError> {
        self.pipe().map(Readiness::of_end)
    }

    fn arm(&mut self) -> Result<bool, ReadinessError> {
        self.arm_end()
    }
}

/// It waits for messages: look with [`Inbox::try_recv`].
///
/// The first [`readiness`](Ready::readiness) of a registration blocks until the server has answered, at most
/// for [`ClientBuilder::timeout`](crate::ClientBuilder::timeout).
impl Ready for Inbox {
    fn readiness(&mut self) -> Result<Readiness, ReadinessError> {
        self.pipe().map(Readiness::of_end)
    }

    fn arm(&mut self) -> Result<bool, ReadinessError> {
        self.arm_end()
    }
}

/// It waits for responses: look with [`Link::try_response`]. If the last [`Link::try_submit`] or
/// [`Link::try_post`] said [`Full`](crate::CallError::Full), it waits for room, too. The link must have been
/// opened with [`LinkOptions::arms`](crate::LinkOptions::arms). Neither function blocks.
impl Ready for Link {
    fn readiness(&mut self) -> Result<Readiness, ReadinessError> {
        self.pipe().map(Readiness::of_end)
    }

    fn arm(&mut self) -> Result<bool, ReadinessError> {
        self.arm_end()
    }
}

/// It waits for requests: look with [`Responder::serve_ready`]. The link must have been accepted with
/// [`Incoming::arms`](crate::Incoming::arms). Neither function blocks.
impl Ready for Responder {
    fn readiness(&mut self) -> Result<Readiness, ReadinessError> {
        self.pipe().map(Readiness::of_end)
    }

    fn arm(&mut self) -> Result<bool, ReadinessError> {
        self.arm_end()
    }
}

/// It waits for a client that asks for a link: look with [`Listener::try_accept`]. Its readiness does not end
/// with a registration. Neither function blocks.
impl Ready for Listener {
    fn readiness(&mut self) -> Result<Readiness, ReadinessError> {
        self.pipe().map(Readiness::of_end)
    }

    fn arm(&mut self) -> Result<bool, ReadinessError> {
        self.arm_end()
    }
}

/// It waits for samples of all its publishers: look with [`Subscriber::try_recv`]. It must have subscribed
/// with [`SubscribeOptions::arms`](crate::SubscribeOptions::arms). Its readiness does not end with a
/// registration. Neither function blocks.
impl Ready for Subscriber {
    fn readiness(&mut self) -> Result<Readiness, ReadinessError> {
        self.nest().map(Readiness::of_nest)
    }

    fn arm(&mut self) -> Result<bool, ReadinessError> {
        self.arm_end()
    }
}

/// It waits for room, if the last [`Publisher::try_send`] said [`Full`](crate::PublishError::Full): send
/// again. Otherwise there is nothing to wait for, and [`arm`](Ready::arm) says `false`. It must have
/// published with [`PublishOptions::arms`](crate::PublishOptions::arms). Its readiness does not end with a
/// registration. Neither function blocks.
///
/// The descriptor is also readable when a subscriber has used up the publisher's patience. The next
/// `try_send` evicts it.
impl Ready for Publisher {
    fn readiness(&mut self) -> Result<Readiness, ReadinessError> {
        self.nest().map(Readiness::of_nest)
    }

    fn arm(&mut self) -> Result<bool, ReadinessError> {
        self.arm_end()
    }
}

/// It waits for a change: look with [`Presence::try_recv`]. Its readiness does not end with a registration.
/// Neither function blocks.
impl Ready for Presence {
    fn readiness(&mut self) -> Result<Readiness, ReadinessError> {
        self.nest().map(Readiness::of_nest)
    }

    fn arm(&mut self) -> Result<bool, ReadinessError> {
        self.arm_end()
    }
}

impl Sealed for Client {}
impl Sealed for Caller {}
impl Sealed for Inbox {}
impl Sealed for Link {}
impl Sealed for Responder {}
impl Sealed for Listener {}
impl Sealed for Subscriber {}
impl Sealed for Publisher {}
impl Sealed for Presence {}
