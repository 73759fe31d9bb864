//! `LinkOptions`: how a link differs from the usual one.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::error::ConnectError;
use super::link::Link;
use crate::channel::{ChannelError, Geometry};
use crate::client::Caller;
use crate::ring::WaitStrategy;
use crate::wire::{Address, NameError};

/// Sets up a [`Link`]: [`Link::options`].
///
/// | setting | default |
/// | --- | --- |
/// | [`ring_size`](Self::ring_size) | the server's |
/// | [`wait`](Self::wait) | the client's own |
/// | [`timeout`](Self::timeout) | the client's own, 5 s |
/// | [`arms`](Self::arms) | no |
///
/// # Examples
///
/// ```
/// use ringpost::{Link, WaitStrategy};
///
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let _serving = bob.listen()?.serve(|request, response| response.write(request.payload()))?;
/// let options = Link::options().ring_size(1 << 20).wait(WaitStrategy::Park);
/// let mut link = options.connect(alice.caller(), "bob")?;
/// let large = vec![7; link.limits().max_call];
/// assert_eq!(link.call(&large)?, large);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing until connect is called"]
pub struct LinkOptions {
    pub(super) ring_size: Option<usize>,
    pub(super) wait: Option<WaitStrategy>,
    pub(super) timeout: Option<Duration>,
    pub(super) arms: bool,
}

impl LinkOptions {
    /// The size of each of the link's two rings in bytes: a power of two from 4 KiB to 1 GiB. It limits how
    /// large a call can be (half of it, a little less), and how many can be on their way.
    pub fn ring_size(mut self, bytes: usize) -> Self {
        self.ring_size = Some(bytes);
        self
    }

    /// How this end waits for responses. The client that serves chooses for its own end.
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.wait = Some(strategy);
        self
    }

    /// How long [`connect`](Self::connect) may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// This end of the link may wait in an event loop: see [`Ready`](crate::Ready). Then it keeps one
    /// descriptor more, and the client that serves makes a memory fence for each response.
    pub fn arms(mut self) -> Self {
        self.arms = true;
        self
    }

    /// The size of its rings that the server is asked for: 0 for its own choice.
    pub(super) fn size_of_rings(&self) -> Result<u64, ChannelError> {
        let geometry = self.ring_size.map(Geometry::new).transpose()?;
        Ok(geometry.map_or(0, |geometry| geometry.ring_size() as u64))
    }

    /// Opens a link to another client, as [`Client::connect`](crate::Client::connect) does.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub fn connect(
        &self,
        caller: &mut Caller,
        to: impl TryInto<Address, Error: Into<NameError>>,
    ) -> Result<Link, ConnectError> {
        let to = to.try_into().map_err(|error| ConnectError::InvalidName(error.into()))?;
        super::handshake::connect(caller, to, self)
    }
}
