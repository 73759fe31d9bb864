//! The operations that wait for what others send: messages, and callers.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::Ready;
use super::asynchronous::Async;
use super::runtime::poll_until;
use super::waits::Receives;
use crate::client::{AcceptError, Incoming, Listener, Message, RecvError};

impl<T: Receives> Async<T> {
    /// Waits for the next message: as [`Inbox::recv`](crate::Inbox::recv).
    ///
    /// Dropped before its end, it took nothing.
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub async fn recv(&mut self) -> Result<Message, RecvError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, RecvError>> {
        let Async { end, watch, second, turns, .. } = self;
        let watch = second.as_ref().unwrap_or(watch);
        let inbox = end.as_inbox();
        poll_until(cx, watch, turns, inbox, |inbox| inbox.try_recv(), Ready::arm)
    }
}

impl Async<Listener> {
    /// Waits for a client that asks for a link: as [`Listener::accept`]. The link that comes of it can be
    /// wrapped, too.
    ///
    /// Dropped before its end, it took nobody.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`].
    pub async fn accept(&mut self) -> Result<Incoming, AcceptError> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        let Async { end, watch, turns, .. } = self;
        let accepted = ready!(poll_until(cx, watch, turns, end, Listener::try_accept, Ready::arm));
        Poll::Ready(accepted.map(Incoming::arms))
    }
}

/// The messages, as [`recv`](Async::recv) returns them. It ends behind the first error.
impl<T: Receives + Unpin> Stream for Async<T> {
    type Item = Result<Message, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let received = ready!(this.poll_recv(cx));
        this.over = received.is_err();
        Poll::Ready(Some(received))
    }
}

/// The callers, as [`accept`](Async::accept) returns them. It ends behind the first error.
impl Stream for Async<Listener> {
    type Item = Result<Incoming, AcceptError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let accepted = ready!(this.poll_accept(cx));
        this.over = accepted.is_err();
        Poll::Ready(Some(accepted))
    }
}
