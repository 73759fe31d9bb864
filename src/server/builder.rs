//! `ServerBuilder`: a server's settings, and the check of them when it starts.

#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use super::access::{Access, CheckedAccess, Rule};
use super::control::Commands;
use super::worker_thread::check_cpu;
use super::{Server, StartError};
use crate::channel::{ChannelError, Geometry};
use crate::connect::{Quotas, lasting};
use crate::link::{Request, Response, Service, ServiceError};
use crate::ring::WaitStrategy;

/// The default size of each ring.
const DEFAULT_RING_SIZE: usize = 256 * 1024;

/// The default limit of clients that are registered at once.
const DEFAULT_MAX_CLIENTS: u32 = 1024;

/// The largest limit of clients: keys have 16 bits for the slot.
pub(super) const MOST_CLIENTS: u32 = 65_536;

/// How long a shutdown waits for workers by default.
const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// All settings, checked.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) max_clients: u32,
    pub(super) geometry: Geometry,
    pub(super) wait: WaitStrategy,
    pub(super) pin: Option<usize>,
    /// Who may use the server at first.
    pub(super) access: CheckedAccess,
    pub(super) grace: Duration,
    pub(super) control: Option<Commands>,
}

/// Sets up a [`Server`].
///
/// | setting | default | limits |
/// | --- | --- | --- |
/// | [`max_clients`](Self::max_clients) | 1024 | 1 to 65536 |
/// | [`ring_size`](Self::ring_size) of each ring | 256 KiB | a power of two, 4 KiB to 1 GiB |
/// | [`max_block`](Self::max_block), header included | half the ring less 8 bytes | 256 bytes to that |
/// | [`wait`](Self::wait) | adaptive | |
/// | [`pin`](Self::pin) | not pinned | a CPU of this machine |
/// | [`allow_user`](Self::allow_user), [`allow_group`](Self::allow_group) | the server's user and root | |
/// | [`socket`](Self::socket) | made at the path | listens already |
/// | [`grace`](Self::grace) | 5 s | |
/// | [`quotas`](Self::quotas) of each other user | see [`Quotas`] | |
/// | [`access`](Self::access): these three, and rules | no rules | see [`Access`] |
/// | [`control`](Self::control) | no commands | |
/// | [`service`](Self::service), [`service_with`](Self::service_with) | echo | |
///
/// Nothing is checked or made, and nothing blocks, before [`start`](Self::start).
///
/// # Examples
///
/// ```
/// use ringpost::{Server, WaitStrategy};
/// use std::time::Duration;
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path)
///     .max_clients(100)
///     .ring_size(64 * 1024)
///     .wait(WaitStrategy::Adaptive)
///     .grace(Duration::from_secs(1))
///     .start()?;
/// server.join_after_shutdown();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until start is called"]
pub struct ServerBuilder {
    path: PathBuf,
    socket: Option<OwnedFd>,
    max_clients: u32,
    ring_size: usize,
    max_block: Option<usize>,
    wait: WaitStrategy,
    pin: Option<usize>,
    users: Vec<u32>,
    groups: Vec<u32>,
    grace: Duration,
    quotas: Option<Quotas>,
    rules: Vec<Rule>,
    service: Box<dyn Service>,
    control: Option<Commands>,
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ServerBuilder {
    pub(super) fn new(path: PathBuf) -> ServerBuilder {
        ServerBuilder {
            path: lasting(path),
            socket: None,
            max_clients: DEFAULT_MAX_CLIENTS,
            ring_size: DEFAULT_RING_SIZE,
            max_block: None,
            wait: WaitStrategy::default(),
            pin: None,
            users: Vec::new(),
            groups: Vec::new(),
            grace: DEFAULT_GRACE,
            quotas: None,
            rules: Vec::new(),
            service: Box::new(echo),
            control: None,
        }
    }

    /// The code that answers calls, as a function or a closure. It runs on the worker thread of the client
    /// that calls, several at once: see [`Service`]. Without one the server echoes.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Server};
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let count = AtomicU64::new(0);
    /// let _server = Server::builder(&path)
    ///     .service(move |_, response| {
    ///         let before = count.fetch_add(1, Ordering::Relaxed);
    ///         response.write(&before.to_le_bytes())
    ///     })
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.call(b"")?, 0_u64.to_le_bytes());
    /// assert_eq!(client.call(b"")?, 1_u64.to_le_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn service<F>(self, service: F) -> Self
    where
        F: Fn(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> + Send + Sync + 'static,
    {
        self.service_with(service)
    }

    /// The code that answers calls, as any [`Service`]: for one that hears of clients that leave, and for
    /// those in an `Arc` or a `Box<dyn Service>`.
    pub fn service_with(mut self, service: impl Service) -> Self {
        self.service = Box::new(service);
        self
    }

    /// Limits how many clients are registered at once. Each costs a thread, a descriptor, and memory as its
    /// rings are used. While there are enough descriptors it costs a second one, by which the server notices
    /// a death at once even if a forked child hides it.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, RegisterError, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path).max_clients(1).start()?;
    /// let _alice = Client::register(&path, "alice")?;
    /// assert!(matches!(Client::register(&path, "bob"), Err(RegisterError::Full(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_clients(mut self, clients: u32) -> Self {
        self.max_clients = clients;
        self
    }

    /// Sets the size of each of a client's three rings, in bytes: a power of two from 4 KiB to 1 GiB. It
    /// bounds the largest block, how many requests can be outstanding, and how many messages fit into an
    /// inbox.
    pub fn ring_size(mut self, bytes: usize) -> Self {
        self.ring_size = bytes;
        self
    }

    /// Sets the size of the largest block in bytes, including its 8-byte header: from 256 to half a ring less
    /// 8, which is the default.
    pub fn max_block(mut self, bytes: usize) -> Self {
        self.max_block = Some(bytes);
        self
    }

    /// Sets how workers wait for requests and for room. Clients choose for their own ends, with
    /// [`ClientBuilder::wait`](crate::ClientBuilder::wait).
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.wait = strategy;
        self
    }

    /// Pins all workers to one CPU. This is for a single client that needs the lowest latency, together with
    /// [`WaitStrategy::Spin`] on both sides and the client on another CPU. Several workers that spin on one
    /// CPU keep each other from working.
    pub fn pin(mut self, cpu: usize) -> Self {
        self.pin = Some(cpu);
        self
    }

    /// Allows the processes of another user to connect, by user id. They must be able to reach the socket's
    /// directory. Can be used several times.
    ///
    /// The number by which the kernel shows every user that the server's user namespace does not know (65534,
    /// `nobody`) is refused, because a process with it may belong to anyone.
    pub fn allow_user(mut self, uid: u32) -> Self {
        self.users.push(uid);
        self
    }

    /// Allows the processes of a group to connect, by group id. They must be able to reach the socket's
    /// directory. Can be used several times.
    ///
    /// With one group and no users, the socket gets this group. An unprivileged process can do that only for
    /// groups that it is in.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Server;
    /// use std::os::unix::fs::MetadataExt;
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let own = std::fs::metadata(path.parent().unwrap())?.gid();
    /// let _server = Server::builder(&path).allow_group(own).start()?;
    /// assert_eq!(std::fs::metadata(&path)?.mode() & 0o777, 0o660);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn allow_group(mut self, gid: u32) -> Self {
        self.groups.push(gid);
        self
    }

    /// Limits what each user other than the server's own and root may have of this server: see [`Quotas`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Quotas, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let mut quotas = Quotas::default();
    /// quotas.clients = 10;
    /// let _server = Server::builder(&path).allow_user(1000).quotas(quotas).start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn quotas(mut self, quotas: Quotas) -> Self {
        self.quotas = Some(quotas);
        self
    }

    /// Sets who may use the server, and for what, as a whole: the users and groups that may connect, quotas
    /// and rules, in place of those that were given before. [`Access`] has an example. It can be replaced
    /// while the server runs ([`Server::access_control`]).
    pub fn access(mut self, access: Access) -> Self {
        let Access { users, groups, quotas, rules } = access;
        (self.users, self.groups, self.quotas, self.rules) = (users, groups, Some(quotas), rules);
        self
    }

    /// Serves on this socket, which listens already, instead of making one at the path. A service manager
    /// passes such a socket (systemd: a socket unit with `ListenSequentialPacket=`), so that clients can
    /// connect before the server has started, and wait while it is started anew.
    ///
    /// The path must lead to the socket: clients find it there, and the server shows it. Mode, owner and file
    /// of the socket belong to whoever made it: the server does not change, lock or remove them. At the end
    /// it closes its descriptor, and leaves those who have connected by then to the next server; if no
    /// other process holds the socket, they are disconnected. The socket is made non-blocking, for all
    /// who hold it. Nothing keeps two servers from serving on one socket, each some of the clients; so
    /// start the next one when this one has ended. Who connects is checked as on any socket.
    ///
    /// It must be a Unix socket of the type `SOCK_SEQPACKET`; else [`start`](Self::start) fails with
    /// [`ListenError::Unfit`](crate::ListenError::Unfit).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Server};
    /// use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// // As a service manager does before it starts the server.
    /// let flags = SocketFlags::CLOEXEC;
    /// let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    /// rustix::net::bind(&socket, &SocketAddrUnix::new(&*path)?)?;
    /// rustix::net::listen(&socket, 1024)?;
    ///
    /// let server = Server::builder(&path).socket(socket.try_clone()?).start()?;
    /// let mut alice = Client::register(&path, "alice")?;
    /// assert_eq!(alice.call(b"ping")?, b"ping");
    /// server.join_after_shutdown();
    /// assert!(path.exists(), "the socket stays for the next server");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn socket(mut self, socket: OwnedFd) -> Self {
        self.socket = Some(socket);
        self
    }

    /// Lets an operator give commands to this server while it runs, with
    /// [`Observer::control`](crate::Observer::control): `control` gets the text of each, and returns what to
    /// tell the operator, or why it failed. Only the server's own user and root may give commands; the server
    /// checks that. Each is an [event](crate#events).
    ///
    /// Commands run one after the other, on a thread that is there while there are any, so they may take
    /// long. But an operator learns nothing of one that takes more than ten seconds, and a shutdown waits for
    /// it no longer than the [grace period](Self::grace). A panic is caught, and fails the command.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{ControlError, Observer, Server};
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let paused = AtomicBool::new(false);
    /// let _server = Server::builder(&path)
    ///     .control(move |command| match command {
    ///         "pause" => {
    ///             paused.store(true, Ordering::Relaxed);
    ///             Ok("paused".to_owned())
    ///         }
    ///         other => Err(format!("there is no command {other:?}: use pause")),
    ///     })
    ///     .start()?;
    /// let operator = Observer::connect(&path)?;
    /// assert_eq!(operator.control("pause")?, "paused");
    /// assert!(matches!(operator.control("stop"), Err(ControlError::Failed(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn control(
        mut self,
        control: impl Fn(&str) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        self.control = Some(Commands::new(control));
        self
    }

    /// Sets how long a shutdown waits for calls that are being served. Then all channels are closed, and
    /// workers have another second to end. A worker whose call does not return by then is left behind and
    /// counted as [`abandoned`](crate::ServerSummary::abandoned).
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts the server's threads. When this returns, clients can connect.
    ///
    /// Blocks only as long as the system takes to make them. It does not change the process's limits,
    /// signals, signal handlers, working directory or file mode mask. Each client needs a descriptor: if the
    /// limit of open files (`RLIMIT_NOFILE`) is lower than the number of clients, raise it first, as
    /// `ringpost-server` does.
    ///
    /// # Errors
    ///
    /// A setting out of its limits, a path that cannot be used, or a lack of resources; see [`StartError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Server, StartError};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// assert!(matches!(Server::builder(&path).max_clients(0).start(), Err(StartError::MaxClients(0))));
    /// assert!(matches!(Server::builder(&path).ring_size(5000).start(), Err(StartError::Geometry(_))));
    /// let _server = Server::builder(&path).start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start(self) -> Result<Server, StartError> {
        let (geometry, access) = self.checked()?;
        let settings = Settings {
            path: self.path,
            max_clients: self.max_clients,
            geometry,
            wait: self.wait,
            pin: self.pin,
            access,
            grace: self.grace,
            control: self.control,
        };
        Server::start(settings, self.socket, self.service)
    }

    /// Checks the settings as [`start`](Self::start) does, and makes nothing. Whether the path can be used,
    /// and whether there are enough resources, only a start shows. Does not block.
    ///
    /// # Errors
    ///
    /// A setting out of its limits; see [`StartError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Server, StartError};
    ///
    /// let builder = Server::builder("/nowhere/bus").ring_size(5000);
    /// assert!(matches!(builder.check(), Err(StartError::Geometry(_))));
    /// assert!(builder.ring_size(8192).check().is_ok());
    /// ```
    pub fn check(&self) -> Result<(), StartError> {
        self.checked().map(drop)
    }

    fn checked(&self) -> Result<(Geometry, CheckedAccess), StartError> {
        if !(1..=MOST_CLIENTS).contains(&self.max_clients) {
            return Err(StartError::MaxClients(self.max_clients));
        }
        if let Some(cpu) = self.pin {
            check_cpu(cpu)?;
        }
        let (users, groups, rules) = (self.users.clone(), self.groups.clone(), self.rules.clone());
        let access =
            CheckedAccess::new(Access { users, groups, quotas: self.quotas.unwrap_or_default(), rules })?;
        Ok((geometry(self.ring_size, self.max_block)?, access))
    }
}

fn echo(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    response.write(request.payload())
}

fn geometry(ring_size: usize, max_block: Option<usize>) -> Result<Geometry, ChannelError> {
    let geometry = Geometry::new(ring_size)?;
    match max_block {
        Some(bytes) => geometry.with_max_block(bytes),
        None => Ok(geometry),
    }
}
