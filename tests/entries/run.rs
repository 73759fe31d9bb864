//! The programs, run to their end.

use crate::common::{LIMIT, Place, begin};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const SERVER: &str = env!("CARGO_BIN_EXE_ringpost-server");
pub const CLIENT: &str = env!("CARGO_BIN_EXE_ringpost");
pub const BENCH: &str = env!("CARGO_BIN_EXE_ringpost-bench");

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ended {
    /// It did nothing, ended with this status, and says why on one line.
    pub fn refused(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{self:?}");
        assert_eq!(self.stdout, b"", "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{:?}", self.stderr);
        assert!(self.stderr.starts_with("ringpost") && self.stderr.ends_with('\n'), "{:?}", self.stderr);
        assert!(!self.stderr.chars().any(|c| c.is_control() && c != '\n'), "{:?}", self.stderr);
        self.stderr
    }

    /// It went well and had nothing to complain of.
    pub fn well(self) -> Vec<u8> {
        assert_eq!((self.status, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self.stdout
    }
}

/// A command without anything of this process's environment that it heeds.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_remove("RINGPOST_SOCKET").env_remove("XDG_RUNTIME_DIR");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for its end; it is killed, by its own id, if that does not come.
pub fn end(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the program does not end");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a command with this as its input.
pub fn finish(mut command: Command, input: &[u8]) -> Ended {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that ends before it has read everything is no fault.
    let written = begin(move || drop(stdin.write_all(&input)));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = begin(move || read(stdout));
    let stderr = begin(move || read(stderr));
    let status = end(&mut child);
    written.end("standard input stays open");
    let stdout = stdout.end("standard output stays open");
    let stderr = String::from_utf8(stderr.end("standard error stays open")).unwrap();
    Ended { status, stdout, stderr }
}

fn read(from: Option<impl Read>) -> Vec<u8> {
    let mut all = Vec::new();
    if let Some(mut from) = from {
        from.read_to_end(&mut all).unwrap();
    }
    all
}

pub fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> Ended {
    let mut command = command(program);
    command.args(arguments);
    finish(command, b"")
}

/// `ringpost`, with the socket at the end.
pub fn ringpost<A: AsRef<OsStr>>(socket: &Path, arguments: &[A]) -> Ended {
    let mut command = command(CLIENT);
    command.args(arguments).arg("--socket").arg(socket);
    finish(command, b"")
}

/// Every command that connects, for a client `x`.
pub fn all_commands() -> [&'static [&'static str]; 5] {
    [
        &["ls"],
        &["call", "--as", "x", "y"],
        &["send", "--as", "x", "--to", "y", "z"],
        &["listen", "--as", "x"],
        &["client", "x"],
    ]
}

/// A place for a socket, and its path as text.
pub fn place() -> (Place, String) {
    let place = Place::new();
    let socket = place.path.to_str().unwrap().to_owned();
    (place, socket)
}
