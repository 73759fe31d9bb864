//! `Async`: an end whose operations are futures.

use std::fmt;

use super::runtime::Watch;
use super::waits::Waits;
use super::{Readiness, ReadinessError};

/// An end whose operations are futures, which wait in the event loop of tokio or of async-io. Needs the
/// feature `tokio` or `async-io`. With both, it is tokio if it was wrapped inside of a tokio runtime.
///
/// The operations have their plain names:
///
/// | end | operations |
/// | --- | --- |
/// | [`Client`], [`Caller`], [`Link`] | [`call`], [`submit`], [`response`] |
/// | [`Client`], [`Caller`] | [`send`], [`look_up`], [`list`], [`ping`], [`statistics`] |
/// | | [`connect`], [`listen`], [`unregister`], [`confirm`] |
/// | [`Client`], [`Inbox`] | [`recv`]; a [`Stream`] of messages |
/// | [`Link`] | [`post`] |
/// | [`Listener`] | [`accept`]; a [`Stream`] of callers |
/// | [`Responder`] | [`serve`], [`serve_pipelined`], with services that may await |
/// | [`Publisher`] | [`send`] |
/// | [`Subscriber`] | [`recv`]; a [`Stream`] of samples |
/// | [`Presence`] | [`recv`]; a [`Stream`] of changes |
///
/// [`call`]: Async::call
/// [`submit`]: Async::submit
/// [`response`]: Async::response
/// [`send`]: Async::send
/// [`look_up`]: Async::look_up
/// [`list`]: Async::list
/// [`ping`]: Async::ping
/// [`statistics`]: Async::statistics
/// [`connect`]: Async::connect
/// [`listen`]: Async::listen
/// [`unregister`]: Async::unregister
/// [`confirm`]: Async::confirm
/// [`recv`]: Async::recv
/// [`post`]: Async::post
/// [`accept`]: Async::accept
/// [`serve`]: Async::serve
/// [`serve_pipelined`]: Async::serve_pipelined
/// [`Client`]: crate::Client
/// [`Caller`]: crate::Caller
/// [`Inbox`]: crate::Inbox
/// [`Link`]: crate::Link
/// [`Listener`]: crate::Listener
/// [`Responder`]: crate::Responder
/// [`Publisher`]: crate::Publisher
/// [`Subscriber`]: crate::Subscriber
/// [`Presence`]: crate::Presence
/// [`Stream`]: futures_core::Stream
///
/// Each does what the operation of the same name of the end itself does, and fails as that does. Where that
/// blocks, this awaits, without a limit in time: wrap a time-out of your runtime around it. The `try_`
/// operations are there through [`get_mut`](Self::get_mut). To call and to receive at the same time,
/// [split](crate::Client::split) the client first.
///
/// **A future may be dropped at any point.** A request was sent then wholly or not at all, and if it was, its
/// response is discarded when it comes. A message, a sample, a response or a caller that was not returned is
/// there for the next operation. No payload is kept: it is encoded when the future is first polled.
///
/// Nothing is locked, no thread is started, and every future is `Send` if what you give it is. Each client,
/// and each link, is an end of its own: to ask two things at once, register or connect twice.
///
/// A [`Publisher`] must have been published with [`PublishOptions::arms`](crate::PublishOptions::arms), and a
/// [`Subscriber`] with [`SubscribeOptions::arms`](crate::SubscribeOptions::arms).
///
/// A client that [registers again](crate::ClientBuilder::reconnect) does not do so by itself in here, because
/// that may take long: the operation that finds the end says so, and so do those that follow. Take the client
/// out, [reconnect](crate::Caller::reconnect) on a thread that may block, and wrap it again.
///
/// # Examples
///
/// ```
#[cfg_attr(feature = "tokio", doc = "# tokio::runtime::Runtime::new()?.block_on(async {")]
#[cfg_attr(not(feature = "tokio"), doc = "# async_io::block_on(async {")]
/// # use ringpost::{Async, Client, Server};
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// # let _server = Server::builder(&path).start()?;
/// let mut alice = Async::new(Client::register(&path, "alice")?)?;
/// println!("{:?}", alice.call(b"ping").await?);
/// alice.send("alice", b"a note").await?;
/// println!("{:?}", alice.recv().await?);
/// alice.unregister().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Async<T> {
    pub(super) end: T,
    pub(super) watch: Watch<Readiness>,
    /// Of a whole client: the watch of its inbox. The other is its caller's.
    pub(super) second: Option<Watch<Readiness>>,
    /// How often in a row it was found ready.
    pub(super) turns: u32,
    /// Whether its stream is over.
    pub(super) over: bool,
}

impl<T: fmt::Debug> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(&self.end).finish()
    }
}

impl<T: Waits> Async<T> {
    /// Wraps an end, and puts its descriptor into the event loop of the runtime that this is called in.
    ///
    /// Blocks as [`Ready::readiness`](crate::Ready::readiness) does: for a client until the server has
    /// answered, which is a matter of microseconds unless it is stopped or overloaded. Where that matters,
    /// ask for the readiness on another thread first.
    ///
    /// # Errors
    ///
    /// See [`ReadinessError`]. The end is dropped.
    ///
    /// # Panics
    ///
    /// As everything of tokio that waits for descriptors, in a tokio runtime that was built without
    /// `enable_io`.
    pub fn new(mut end: T) -> Result<Async<T>, ReadinessError> {
        let watch = |readiness| {
            Watch::new(readiness)
                .map_err(|source| ReadinessError::System { action: "wait in the runtime", source })
        };
        let (first, second) = end.readinesses()?;
        let (watch, second) = (watch(first)?, second.map(watch).transpose()?);
        Ok(Async { end, watch, second, turns: 0, over: false })
    }

    /// The end. Does not block.
    pub fn get_ref(&self) -> &T {
        &self.end
    }

    /// The end, for its operations that do not block. Those that do block the runtime's thread.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.end
    }

    /// Takes the end out, for blocking operations, or for another runtime. Does not block.
    pub fn into_inner(self) -> T {
        self.end
    }
}
