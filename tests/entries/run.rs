//! Runs `ringpost` with a socket, and lists its commands.

use crate::common::Place;
use crate::common::program::{CLIENT, Ended, command, finish};
use std::ffi::OsStr;
use std::path::Path;

/// `ringpost`, with the socket at the end.
pub fn ringpost<A: AsRef<OsStr>>(socket: &Path, arguments: &[A]) -> Ended {
    let mut command = command(CLIENT);
    command.args(arguments).arg("--socket").arg(socket);
    finish(command, b"")
}

/// Every command that connects, for a client `x`.
pub fn all_commands() -> [&'static [&'static str]; 8] {
    [
        &["ls"],
        &["call", "--as", "x", "y"],
        &["send", "--as", "x", "--to", "y", "z"],
        &["listen", "--as", "x"],
        &["client", "x"],
        &["publish", "--as", "x", "--topic", "t"],
        &["subscribe", "--as", "x", "**"],
        &["watch"],
    ]
}

/// A private directory for a socket, and the socket's path as text.
pub fn place() -> (Place, String) {
    let place = Place::new();
    let socket = place.path.to_str().unwrap().to_owned();
    (place, socket)
}
