//! What a service manager such as systemd wants: to pass the socket, to be told how the server is, and to see
//! that it is alive.
//!
//! It asks by environment variables: `LISTEN_FDS`, `NOTIFY_SOCKET`, `WATCHDOG_USEC`. Without them nothing
//! here does anything.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringpost::{Observer, RegisterError};
use rustix::net::{SocketAddrUnix, getsockname};
use rustix::time::{ClockId, clock_gettime};

use ringpost::cli::args::SocketOption;
use ringpost::cli::exit::{self, Failure};
use ringpost::cli::inherited;

/// The first descriptor that a service manager passes.
const FIRST: i32 = 3;

/// How long a notification may wait until the manager reads.
const PATIENCE: Duration = Duration::from_secs(1);

/// The socket that the service manager passed, if it passed one, and its path.
pub fn passed_socket() -> Result<Option<(OwnedFd, PathBuf)>, Failure> {
    let number = |name| env::var(name).ok()?.parse::<u32>().ok();
    // What was passed to a parent of this process is not for this process.
    if number("LISTEN_PID") != Some(process::id()) {
        return Ok(None);
    }
    match number("LISTEN_FDS") {
        None | Some(0) => return Ok(None),
        Some(1) => {}
        Some(more) => {
            return Err(Failure::usage(format!(
                "the service manager passed {more} sockets (LISTEN_FDS): give the socket unit one ListenSequentialPacket="
            )));
        }
    }
    let cannot = |why: String| Failure::usage(format!("cannot use the socket of the service manager: {why}"));
    let socket = inherited::take(FIRST).map_err(|error| cannot(error.to_string()))?;
    let address = getsockname(&socket).ok().and_then(|address| SocketAddrUnix::try_from(address).ok());
    match address.as_ref().and_then(SocketAddrUnix::path_bytes) {
        Some(path) => {
            let path = PathBuf::from(OsStr::from_bytes(path));
            Ok(Some((socket, std::path::absolute(&path).unwrap_or(path))))
        }
        None => Err(cannot("it has no path; use ListenSequentialPacket=PATH in the socket unit".into())),
    }
}

/// The path of the server's socket: where the passed socket is, else where the option says.
pub fn place(option: &SocketOption, passed: Option<&Path>) -> Result<PathBuf, Failure> {
    let Some(passed) = passed else { return option.path() };
    match &option.socket {
        Some(path) if std::path::absolute(path).is_ok_and(|path| path != passed) => {
            Err(Failure::usage(format!(
                "the socket is to be {}, but the service manager passed {}: give both the same path, or leave out --socket",
                path.display(),
                passed.display()
            )))
        }
        _ => Ok(passed.to_owned()),
    }
}

/// Tells the service manager how the server is. Clones share it.
#[derive(Clone)]
pub struct Manager {
    /// It passed the socket.
    has_socket: bool,
    stopping: Arc<AtomicBool>,
}

impl Manager {
    pub fn new(has_socket: bool) -> Manager {
        Manager { has_socket, stopping: Arc::default() }
    }

    /// Clients can connect. From now on the watchdog is fed.
    pub fn ready(&self, path: &Path) -> Result<(), Failure> {
        if let Some(patience) = watchdog() {
            let (manager, path) = (self.clone(), path.to_owned());
            thread::Builder::new()
                .name("watchdog".into())
                .spawn(move || manager.feed(&path, patience))
                .map_err(|error| Failure::failed(format!("cannot start the watchdog's thread: {error}")))?;
        }
        let status = format!("Serving at {}", exit::one_line(&path.display().to_string()));
        tell(&format!("READY=1\nSTATUS={status}\n"));
        Ok(())
    }

    /// The server has begun to end.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        tell("STOPPING=1\n");
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Feeds the watchdog whenever the server answers on its own socket. The manager ends a server that has
    /// not fed it for `patience`.
    fn feed(&self, path: &Path, patience: Duration) {
        while !self.is_stopping() {
            // Connecting and the answer may take a quarter of the time each, and so may the pause: a slow
            // server is in time.
            let next = Instant::now() + patience / 4;
            let seen = look(path, patience / 4);
            if self.is_stopping() {
                return; // then it answers nobody
            }
            if let Seen::Silent(why) | Seen::Unreachable(why) = &seen {
                tracing::error!(
                    target: "ringpost",
                    event = "watchdog",
                    error = why,
                    "no client can reach the server: if the service manager made the socket, start its socket unit anew",
                );
            }
            // A new server would not bring the manager's socket back to its path, only end all clients.
            if matches!(seen, Seen::Alive) || (self.has_socket && matches!(seen, Seen::Unreachable(_))) {
                tell("WATCHDOG=1\n");
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

/// The configuration is being loaded anew, until [`reloaded`] is called.
pub fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\n"));
}

pub fn reloaded() {
    tell("READY=1\n");
}

/// How long the manager waits to be fed, if it does.
fn watchdog() -> Option<Duration> {
    let microseconds = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    let is_ours = env::var("WATCHDOG_PID").map_or(true, |pid| pid.parse() == Ok(process::id()));
    is_ours.then(|| Duration::from_micros(microseconds))
}

fn tell(message: &str) {
    if let Err(error) = notify(message) {
        tracing::warn!(
            target: "ringpost",
            event = "notify",
            error = %error,
            "the service manager cannot be told how the server is, and may end it: see NOTIFY_SOCKET",
        );
    }
}

/// Sends a notification, if the manager wants any. Waits a moment for one that does not read.
fn notify(message: &str) -> io::Result<()> {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    // A name that begins so has no file.
    let manager = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&socket)?,
    };
    let own = UnixDatagram::unbound()?;
    own.set_write_timeout(Some(PATIENCE))?;
    own.send_to_addr(message.as_bytes(), &manager).map(drop)
}

/// What came of asking the server at the path who it is.
enum Seen {
    Alive,
    Silent(String),
    /// This server is not there.
    Unreachable(String),
}

/// Asks the server at the path who it is. A refusal is an answer, too.
fn look(path: &Path, patience: Duration) -> Seen {
    match Observer::connect_timeout(path, patience).and_then(|observer| observer.server()) {
        Ok(server) if server.pid == process::id() => Seen::Alive,
        Ok(server) => {
            Seen::Unreachable(format!("the server of process {} answers at {}", server.pid, path.display()))
        }
        Err(RegisterError::Full(_) | RegisterError::Quota(_) | RegisterError::Refused(_)) => Seen::Alive,
        Err(error @ RegisterError::TimedOut { .. }) => Seen::Silent(error.to_string()),
        Err(error) => Seen::Unreachable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passed_socket_is_where_it_is_and_nothing_else_may_be_asked_for() {
        let place = |option: Option<&str>, passed: Option<&str>| {
            place(&SocketOption { socket: option.map(PathBuf::from) }, passed.map(Path::new))
        };
        assert_eq!(place(None, Some("/run/x/bus")), Ok("/run/x/bus".into()));
        assert_eq!(place(Some("/run/x/./bus"), Some("/run/x/bus")), Ok("/run/x/bus".into()));
        assert_eq!(place(Some("bus"), None), Ok("bus".into()));
        let error = place(Some("/run/y/bus"), Some("/run/x/bus")).unwrap_err().to_string();
        assert!(error.contains("/run/x/bus") && error.contains("/run/y/bus"), "{error}");
    }
}
