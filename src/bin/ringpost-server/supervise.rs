//! What a service manager such as systemd wants: to pass the socket, to be told how the server is, and to see
//! that it is alive.
//!
//! It asks by environment variables: `LISTEN_FDS`, `NOTIFY_SOCKET`, `WATCHDOG_USEC`. Without them nothing
//! here does anything.

use std::env;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringpost::{Observer, RegisterError};
use rustix::net::{SocketAddrUnix, getsockname};
use sd_notify::NotifyState;

use ringpost::cli::args::SocketOption;
use ringpost::cli::exit::{self, Failure};
use ringpost::cli::inherited;

/// The first descriptor that a service manager passes.
const FIRST: i32 = 3;

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
#[derive(Clone, Default)]
pub struct Manager {
    stopping: Arc<AtomicBool>,
}

impl Manager {
    /// Clients can connect. From now on the watchdog is fed.
    pub fn ready(&self, path: &Path) -> Result<(), Failure> {
        if let Some(patience) = sd_notify::watchdog_enabled() {
            let (path, stopping) = (path.to_owned(), Arc::clone(&self.stopping));
            thread::Builder::new()
                .name("watchdog".into())
                .spawn(move || feed(&path, patience, &stopping))
                .map_err(|error| Failure::failed(format!("cannot start the watchdog's thread: {error}")))?;
        }
        let status = format!("Serving at {}", exit::one_line(&path.display().to_string()));
        tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
        Ok(())
    }

    /// The server has begun to end.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        tell(&[NotifyState::Stopping]);
    }
}

/// The configuration is being loaded anew, until [`reloaded`] is called.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

pub fn reloaded() {
    tell(&[NotifyState::Ready]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(
            target: "ringpost",
            event = "notify",
            error = %error,
            "the service manager cannot be told how the server is, and may end it: see NOTIFY_SOCKET",
        );
    }
}

/// Feeds the watchdog whenever the server answers on its own socket. The manager ends a server that has not
/// fed it for `patience`.
fn feed(path: &Path, patience: Duration, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Relaxed) {
        // Connecting and the answer may take a quarter of the time each, and so may the pause: a slow server
        // is in time.
        let next = Instant::now() + patience / 4;
        match look(path, patience / 4) {
            Ok(()) => tell(&[NotifyState::Watchdog]),
            // Then it answers nobody.
            Err(_) if stopping.load(Ordering::Relaxed) => return,
            Err(why) => tracing::error!(
                target: "ringpost",
                event = "watchdog",
                error = why,
                "the server does not answer on its socket; unless it does soon, the service manager will end it",
            ),
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Asks the server at the path who it is. A refusal is an answer, too.
fn look(path: &Path, patience: Duration) -> Result<(), String> {
    match Observer::connect_timeout(path, patience).and_then(|observer| observer.server()) {
        Ok(server) if server.pid == process::id() => Ok(()),
        Ok(server) => Err(format!("the server of process {} answers at {}", server.pid, path.display())),
        Err(RegisterError::Full(_) | RegisterError::Quota(_) | RegisterError::Refused(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
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
