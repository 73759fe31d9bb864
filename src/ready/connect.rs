//! The operations that ask the server on a connection of their own: to connect, and to listen.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::task::{Poll, ready};

use super::asynchronous::Async;
use super::runtime::{Watch, poll_until};
use super::waits::AsksServer;
use super::{Readiness, ReadinessError};
use crate::client::{ConnectError, Connecting, Greeting, Link, Listener, Listening, ServeError};
use crate::wire::{Address, NameError};

impl<T: AsksServer> Async<T> {
    /// Opens a link to another client, by its key or its name: as
    /// [`Caller::connect`](crate::Caller::connect). Waits until the other client has accepted or refused.
    ///
    /// Blocks for a millisecond at most, if many connect to the server at this moment. A server that has too
    /// much to do says so, by [`ConnectError::Busy`]. For other options open the link on a thread that may
    /// block, with [`LinkOptions::arms`](crate::LinkOptions::arms), and wrap it.
    ///
    /// Dropped before its end, nothing is left of the attempt.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect(
        &mut self,
        to: impl TryInto<Address, Error: Into<NameError>>,
    ) -> Result<Async<Link>, ConnectError> {
        let to = to.try_into().map_err(|error| ConnectError::InvalidName(error.into()))?;
        let mut connecting = Connecting::begin(self.end.as_caller(), to, Link::options().arms())?;
        let failed = |source| ConnectError::System { action: "wait for the server", source };
        let greeting = when_readable(&mut connecting, Connecting::look, failed).await?;
        drop(connecting);
        self.greet(greeting).await
    }

    async fn greet(&mut self, mut greeting: Greeting) -> Result<Async<Link>, ConnectError> {
        let failed = |source| ConnectError::System { action: "wait for the other client", source };
        let pipe = greeting.pipe().ok_or_else(|| unready(ReadinessError::NotArmable))?;
        let watch = Watch::new(Readiness::of_end(pipe)).map_err(failed)?;
        let look = |greeting: &mut Greeting| greeting.look().map(|accepted| accepted.then_some(()));
        let arm = |greeting: &mut Greeting| Ok(greeting.arm());
        poll_fn(|cx| poll_until(cx, &watch, &mut self.turns, &mut greeting, look, arm)).await?;
        // Its descriptor is the link's.
        drop(watch);
        Async::new(greeting.into_link()).map_err(unready)
    }

    /// Lets other clients connect to this one, until the listener is dropped: as
    /// [`Caller::listen`](crate::Caller::listen).
    ///
    /// Blocks for a millisecond at most, if many connect to the server at this moment.
    ///
    /// Dropped before its end, the client does not listen.
    ///
    /// # Errors
    ///
    /// See [`ServeError`].
    pub async fn listen(&mut self) -> Result<Async<Listener>, ServeError> {
        let mut listening = self.end.as_caller().begin_to_listen()?;
        let failed = |source| ServeError::System { action: "wait for the server", source };
        let listener = when_readable(&mut listening, Listening::look, failed).await?;
        Async::new(listener).map_err(|error| match error {
            ReadinessError::Disconnected(reason) => ServeError::Disconnected(reason),
            error => failed(io::Error::other(error)),
        })
    }
}

/// Waits until `look`, which is called whenever the descriptor is readable, finds something.
async fn when_readable<Q: AsFd, R, E>(
    question: &mut Q,
    look: impl Fn(&mut Q) -> Result<Option<R>, E>,
    failed: impl Fn(io::Error) -> E,
) -> Result<R, E> {
    // A descriptor of its own, which is dropped first: the question closes its own in its own way.
    let watch = Watch::new(question.as_fd().try_clone_to_owned().map_err(&failed)?).map_err(&failed)?;
    poll_fn(|cx| {
        loop {
            ready!(watch.poll(cx)).map_err(&failed)?;
            if let Some(found) = look(question)? {
                return Poll::Ready(Ok(found));
            }
        }
    })
    .await
}

fn unready(error: ReadinessError) -> ConnectError {
    match error {
        ReadinessError::Disconnected(reason) => ConnectError::Gone(reason),
        error => {
            ConnectError::System { action: "wait for the other client", source: io::Error::other(error) }
        }
    }
}
