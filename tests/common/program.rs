//! Runs Ringpost's programs, and checks their output and exit status.

use super::{Begun, LIMIT, begin};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

pub const SERVER: &str = env!("CARGO_BIN_EXE_ringpost-server");
pub const CLIENT: &str = env!("CARGO_BIN_EXE_ringpost");
pub const BENCH: &str = env!("CARGO_BIN_EXE_ringpost-bench");

/// A command without the environment variables that the programs read.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_remove("RINGPOST_SOCKET").env_remove("XDG_RUNTIME_DIR");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process that is killed on drop.
pub struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running program, which is killed on drop.
pub struct Program {
    child: Killed,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    written: Option<Begun<()>>,
    stdout: Begun<Vec<u8>>,
    stderr: Begun<Vec<u8>>,
}

/// How a program ended, and its output as far as it went through pipes.
#[derive(Debug)]
pub struct Ended {
    /// `None` if a signal ended it.
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Program {
    pub fn start(program: &str, arguments: &[&str]) -> Program {
        Program::start_with(program, arguments, |_| {})
    }

    pub fn start_with(program: &str, arguments: &[&str], set: impl FnOnce(&mut Command)) -> Program {
        Program::try_start_with(program, arguments, set).unwrap()
    }

    /// Fails if the program cannot be started, for example by another user.
    pub fn try_start_with(
        program: &str,
        arguments: &[&str],
        set: impl FnOnce(&mut Command),
    ) -> io::Result<Program> {
        let mut command = command(program);
        command.args(arguments);
        set(&mut command);
        Program::try_spawn(&mut command)
    }

    pub fn spawn(command: &mut Command) -> Program {
        Program::try_spawn(command).unwrap()
    }

    fn try_spawn(command: &mut Command) -> io::Result<Program> {
        let mut child = command.spawn()?;
        let (sender, lines) = mpsc::channel();
        let output = child.stdout.take();
        let stdout = begin(move || {
            let mut all = Vec::new();
            let Some(output) = output else { return all };
            let mut output = BufReader::new(output);
            loop {
                let before = all.len();
                if output.read_until(b'\n', &mut all).unwrap() == 0 {
                    return all;
                }
                let line = String::from_utf8_lossy(&all[before..]).trim_end_matches('\n').to_owned();
                let _ = sender.send(line);
            }
        });
        let errors = child.stderr.take();
        let stderr = begin(move || {
            let mut all = Vec::new();
            if let Some(mut errors) = errors {
                errors.read_to_end(&mut all).unwrap();
            }
            all
        });
        let stdin = child.stdin.take();
        Ok(Program { child: Killed(child), stdin, lines, written: None, stdout, stderr })
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child.0)
    }

    pub fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// The next line on its standard output.
    pub fn line(&mut self) -> String {
        self.lines.recv_timeout(LIMIT).expect("no line came")
    }

    pub fn json_line(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Writes all its input. The program may end without reading it all.
    pub fn feed(mut self, input: &[u8]) -> Program {
        let (stdin, input) = (self.stdin.take(), input.to_vec());
        self.written = stdin.map(|mut stdin| begin(move || drop(stdin.write_all(&input))));
        self
    }

    pub fn is_over(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_some()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Closes its input and waits until it ends.
    pub fn end(self) -> Ended {
        self.end_within(LIMIT)
    }

    /// Like [`end`](Self::end), with another limit.
    pub fn end_within(self, limit: Duration) -> Ended {
        let Program { mut child, stdin, written, stdout, stderr, .. } = self;
        drop(stdin);
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = child.0.try_wait().unwrap() {
                break status.code();
            }
            assert!(Instant::now() < deadline, "the program does not end");
            thread::sleep(Duration::from_millis(1));
        };
        if let Some(written) = written {
            written.end("standard input stays open");
        }
        // The pipes end when the last process that holds them ends.
        let stdout = stdout.end("standard output stays open");
        let stderr = String::from_utf8(stderr.end("standard error stays open")).unwrap();
        Ended { status, stdout, stderr }
    }
}

impl Ended {
    /// Checks that it succeeded, and returns its standard output.
    pub fn well(self) -> Vec<u8> {
        assert_eq!(self.status, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Like [`well`](Self::well), and checks that it wrote nothing to standard error.
    pub fn quiet(self) -> Vec<u8> {
        assert_eq!(self.stderr, "", "{self:?}");
        self.well()
    }

    /// Checks that it ended with this status, without output, and returns its error, which must be one line.
    pub fn refused(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{self:?}");
        assert_eq!(self.stdout, b"", "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{:?}", self.stderr);
        assert!(self.stderr.starts_with("ringpost") && self.stderr.ends_with('\n'), "{:?}", self.stderr);
        assert!(!self.stderr.chars().any(|c| c.is_control() && c != '\n'), "{:?}", self.stderr);
        self.stderr
    }

    /// Checks that it failed, and returns its error, which must be one line.
    pub fn failed(self) -> String {
        self.refused(1)
    }
}

/// Runs a command with this input.
pub fn finish(mut command: Command, input: &[u8]) -> Ended {
    Program::spawn(&mut command).feed(input).end()
}

pub fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> Ended {
    run_with(program, arguments, b"")
}

pub fn run_with<A: AsRef<OsStr>>(program: &str, arguments: &[A], input: &[u8]) -> Ended {
    let mut command = command(program);
    command.args(arguments);
    finish(command, input)
}
