//! What a server is told before it starts.

#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::service::{Request, Response, Service};
use super::{Server, StartError};
use crate::channel::{Geometry, GeometryError};
use crate::ring::WaitStrategy;

/// Bytes of each ring, if nothing else is said.
pub const DEFAULT_RING_SIZE: usize = 256 * 1024;

/// How many clients can be registered at once, if nothing else is said.
pub const DEFAULT_MAX_CLIENTS: u32 = 1024;

/// Most clients that a server can be told to accept: keys have 16 bits for the slot.
pub const MOST_CLIENTS: u32 = 65_536;

/// How long a shutdown waits for workers, if nothing else is said.
const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// Everything that was set, checked.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) max_clients: u32,
    pub(super) geometry: Geometry,
    pub(super) wait: WaitStrategy,
    pub(super) pin: Option<usize>,
    pub(super) users: Vec<u32>,
    pub(super) groups: Vec<u32>,
    pub(super) grace: Duration,
}

/// Sets up a [`Server`].
///
/// | setting | default | limits |
/// | --- | --- | --- |
/// | [`max_clients`](Self::max_clients) | 1024 | 1 to 65536 |
/// | [`ring_size`](Self::ring_size), each of a client's three rings | 256 KiB | a power of two, 4 KiB to 1 GiB |
/// | [`max_block`](Self::max_block), header included | half the ring less 8 bytes | 256 bytes to that |
/// | [`wait`](Self::wait) | adaptive | |
/// | [`pin`](Self::pin) | not pinned | a CPU of this machine |
/// | [`allow_user`](Self::allow_user), [`allow_group`](Self::allow_group) | only the server's own user and root | |
/// | [`grace`](Self::grace) | 5 s | |
/// | [`service`](Self::service) | echo | |
#[must_use = "a builder does nothing until start is called"]
pub struct ServerBuilder {
    path: PathBuf,
    max_clients: u32,
    ring_size: usize,
    max_block: Option<usize>,
    wait: WaitStrategy,
    pin: Option<usize>,
    users: Vec<u32>,
    groups: Vec<u32>,
    grace: Duration,
    service: Box<dyn Service>,
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ServerBuilder {
    pub(super) fn new(path: PathBuf) -> ServerBuilder {
        ServerBuilder {
            path,
            max_clients: DEFAULT_MAX_CLIENTS,
            ring_size: DEFAULT_RING_SIZE,
            max_block: None,
            wait: WaitStrategy::default(),
            pin: None,
            users: Vec::new(),
            groups: Vec::new(),
            grace: DEFAULT_GRACE,
            service: Box::new(|request: Request<'_>, response: &mut Response<'_>| {
                response.write(request.payload())
            }),
        }
    }

    /// The code that answers calls.
    pub fn service(mut self, service: impl Service) -> Self {
        self.service = Box::new(service);
        self
    }

    /// How many clients can be registered at once. Each costs a thread, two descriptors, and memory as its rings are used.
    pub fn max_clients(mut self, clients: u32) -> Self {
        self.max_clients = clients;
        self
    }

    /// Bytes of each of a client's three rings.
    pub fn ring_size(mut self, bytes: usize) -> Self {
        self.ring_size = bytes;
        self
    }

    /// Bytes of the largest block, its 8-byte header included.
    pub fn max_block(mut self, bytes: usize) -> Self {
        self.max_block = Some(bytes);
        self
    }

    /// How workers wait for requests.
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.wait = strategy;
        self
    }

    /// Pins all workers to one CPU.
    pub fn pin(mut self, cpu: usize) -> Self {
        self.pin = Some(cpu);
        self
    }

    /// Lets another user's processes connect, by user id. They must be able to reach the socket's directory.
    pub fn allow_user(mut self, uid: u32) -> Self {
        self.users.push(uid);
        self
    }

    /// Lets a group's processes connect, by group id. They must be able to reach the socket's directory.
    pub fn allow_group(mut self, gid: u32) -> Self {
        self.groups.push(gid);
        self
    }

    /// How long a shutdown waits for calls that are being served. Workers then have another second to notice that their channels
    /// are closed; one that still sits in a call after that is left behind.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts the server's threads. When this returns, clients can connect.
    ///
    /// # Errors
    ///
    /// A setting out of its limits, a path that cannot be used, or a lack of resources; see [`StartError`].
    pub fn start(self) -> Result<Server, StartError> {
        let (settings, service) = self.check()?;
        Server::start(settings, service)
    }

    fn check(self) -> Result<(Settings, Box<dyn Service>), StartError> {
        if !(1..=MOST_CLIENTS).contains(&self.max_clients) {
            return Err(StartError::MaxClients(self.max_clients));
        }
        // It means "leave it as it is" to the kernel.
        if let Some(nobody) = self.users.iter().chain(&self.groups).find(|&&id| id == u32::MAX) {
            return Err(StartError::NobodyAllowed(*nobody));
        }
        let geometry = geometry(self.ring_size, self.max_block)?;
        let settings = Settings {
            path: self.path,
            max_clients: self.max_clients,
            geometry,
            wait: self.wait,
            pin: self.pin,
            users: self.users,
            groups: self.groups,
            grace: self.grace,
        };
        Ok((settings, self.service))
    }
}

fn geometry(ring_size: usize, max_block: Option<usize>) -> Result<Geometry, GeometryError> {
    let geometry = Geometry::new(ring_size)?;
    match max_block {
        Some(bytes) => geometry.with_max_block(bytes),
        None => Ok(geometry),
    }
}
