//! Programs that run, and what they say.

use crate::common::{Begun, LIMIT, Place, begin, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

pub const SERVER: &str = env!("CARGO_BIN_EXE_ringpost-server");
pub const CLIENT: &str = env!("CARGO_BIN_EXE_ringpost");
pub const BENCH: &str = env!("CARGO_BIN_EXE_ringpost-bench");

/// A program that runs. It is killed by its own id when this is dropped.
pub struct Program {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stdout: Option<Begun<Vec<u8>>>,
    stderr: Option<Begun<String>>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Program {
    pub fn start(program: &str, arguments: &[&str]) -> Program {
        Program::start_with(program, arguments, |_| {})
    }

    pub fn start_with(program: &str, arguments: &[&str], set: impl FnOnce(&mut Command)) -> Program {
        let mut command = Command::new(program);
        command.args(arguments).env_remove("RINGPOST_SOCKET").env_remove("XDG_RUNTIME_DIR");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        set(&mut command);
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let stdout = begin(move || {
            let mut all = Vec::new();
            loop {
                let before = all.len();
                if output.read_until(b'\n', &mut all).unwrap() == 0 {
                    return all;
                }
                let line = String::from_utf8_lossy(&all[before..]).trim_end_matches('\n').to_owned();
                let _ = sender.send(line);
            }
        });
        let mut errors = child.stderr.take().unwrap();
        let stderr = begin(move || {
            let mut all = String::new();
            errors.read_to_string(&mut all).unwrap();
            all
        });
        let stdin = child.stdin.take();
        Program { child, stdin, lines, stdout: Some(stdout), stderr: Some(stderr) }
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

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Ends its input and waits for its end.
    pub fn end(mut self) -> Ended {
        drop(self.stdin.take());
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(Instant::now() < deadline, "the program does not end");
            std::thread::sleep(Duration::from_millis(1));
        };
        let stdout = self.stdout.take().unwrap().end("standard output stays open");
        let stderr = self.stderr.take().unwrap().end("standard error stays open");
        Ended { status, stdout, stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run(program: &str, arguments: &[&str]) -> Ended {
    Program::start(program, arguments).end()
}

pub fn run_with(program: &str, arguments: &[&str], input: &[u8]) -> Ended {
    let mut program = Program::start(program, arguments);
    program.write(input);
    program.end()
}

impl Ended {
    /// It went well and wrote this to its standard output.
    pub fn well(self) -> Vec<u8> {
        assert_eq!(self.status, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// It failed, and one line says why.
    pub fn failed(self) -> String {
        assert_eq!(self.status, Some(1), "{self:?}");
        assert_eq!(self.stdout, b"", "data of a failure: {self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{:?}", self.stderr);
        self.stderr
    }
}

pub fn start_server(place: &Place, more: &[&str]) -> Program {
    let mut arguments = vec!["--socket", text(&place.path)];
    arguments.extend_from_slice(more);
    let server = Program::start(SERVER, &arguments);
    eventually("the socket appears", || place.path.exists());
    server
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A listener with `--json`, and its key.
pub fn start_listener(place: &Place, name: &str, more: &[&str]) -> (Program, String) {
    let mut arguments = vec!["listen", "--socket", text(&place.path), "--json", "--as", name];
    arguments.extend_from_slice(more);
    let mut listener = Program::start(CLIENT, &arguments);
    let registered = listener.json_line();
    assert_eq!(registered["registered"]["name"], name);
    let key = registered["registered"]["key"].as_str().unwrap().to_owned();
    assert_eq!(key.len(), 26);
    (listener, key)
}

pub fn ls(place: &Place) -> Value {
    let output = run(CLIENT, &["ls", "--json", "--socket", text(&place.path)]).well();
    assert_eq!(output.iter().filter(|byte| **byte == b'\n').count(), 1);
    serde_json::from_slice(&output).unwrap()
}

pub fn names(place: &Place) -> Vec<String> {
    let clients = ls(place)["clients"].clone();
    let name = |client: &Value| client["name"].as_str().unwrap().to_owned();
    let mut names: Vec<String> = clients.as_array().unwrap().iter().map(name).collect();
    names.sort();
    names
}
