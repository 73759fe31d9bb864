//! Tests of the documents: shell blocks run as written, and the README's server and client work together.
//!
//! Shell blocks run in a private directory, with the programs just built. Their output must match line by
//! line, except that keys, numbers and the white space between columns may differ. `documents.rs` tests links
//! and names. Rust blocks are documentation tests, too (`src/lib.rs`).

#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;
mod documents;

use common::role::{self, Role};
use common::{LIMIT, await_server, eventually};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// The documents with blocks for a shell.
const DOCUMENTS: [(&str, &str); 4] = [
    ("README.md", include_str!("../../README.md")),
    ("docs/PROGRAMS.md", include_str!("../../docs/PROGRAMS.md")),
    ("docs/FIGURES.md", include_str!("../../docs/FIGURES.md")),
    ("docs/TOPICS.md", include_str!("../../docs/TOPICS.md")),
];

/// Commands that are not run here (by their beginnings), and why.
const EXEMPT: [(&str, &str); 3] = [
    ("cargo build ", "builds what is tested here; `tests/programs/` runs the demo"),
    ("cargo test ", "this test is a part of it"),
    (
        "cargo run --release --manifest-path benches/peers/",
        "builds a crate of its own, which has its own tests",
    ),
];

/// The known kinds of blocks. A new kind must be added here, so that it is tested. `bindings/c/test` and
/// `bindings/python/test` run those in other languages.
const KINDS: [&str; 8] = ["rust", "rust,no_run", "sh", "console", "text", "c", "cpp", "python"];

/// The limit for commands that measure, which may be slow on a busy computer.
const LONG: Duration = Duration::from_secs(300);

struct Block {
    kind: &'static str,
    /// The document and the line in it.
    place: String,
    lines: Vec<&'static str>,
}

fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (document, text) in DOCUMENTS {
        let mut inside = false;
        for (number, line) in text.lines().enumerate() {
            match line.strip_prefix("```") {
                Some("") if inside => inside = false,
                Some(kind) if !inside => {
                    inside = true;
                    blocks.push(Block {
                        kind,
                        place: format!("{document}:{}", number + 1),
                        lines: Vec::new(),
                    });
                }
                _ if inside => blocks.last_mut().unwrap().lines.push(line),
                _ => {}
            }
        }
        assert!(!inside, "{document} ends inside a block");
    }
    blocks
}

fn is_exempt(command: &str) -> bool {
    EXEMPT.iter().any(|(start, _)| command.starts_with(start))
}

/// Replaces everything in a line that differs from run to run.
fn normal(line: &str) -> String {
    let plain = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut normal = String::new();
    let mut word = String::new();
    for character in plain.chars().chain([' ']) {
        if character.is_ascii_alphanumeric() {
            word.push(character);
            continue;
        }
        if word.parse::<ringpost::Key>().is_ok() {
            normal.push_str("KEY");
        } else {
            // A run of digits is a number.
            let mut digits = false;
            for letter in word.chars() {
                if !letter.is_ascii_digit() {
                    normal.push(letter);
                } else if !digits {
                    normal.push('9');
                }
                digits = letter.is_ascii_digit();
            }
        }
        word.clear();
        normal.push(character);
    }
    normal.trim_end().to_owned()
}

/// A shell that takes one command after another. All that it started goes with it.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

/// Comes before a command's exit status.
const STATUS: &str = "@ended ";

impl Shell {
    fn start(directory: &Path) -> Shell {
        let programs = Path::new(env!("CARGO_BIN_EXE_ringpost")).parent().unwrap();
        // The same place as after the README's build command.
        std::fs::create_dir(directory.join("target")).unwrap();
        std::os::unix::fs::symlink(programs, directory.join("target/release")).unwrap();
        let mut path = programs.as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut child = Command::new("bash")
            .arg("--norc")
            .current_dir(directory)
            .env("PATH", path)
            .env("RINGPOST_SOCKET", directory.join("private.sock"))
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "exec 2>&1").unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        // This thread ends with the last process that has the pipe.
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Shell { child, stdin, lines }
    }

    /// Runs a command until it has ended and printed the expected number of lines, including those of
    /// background processes.
    fn run(&mut self, command: &str, expected: usize, limit: Duration) -> (i32, Vec<String>) {
        // The command must not read the following commands as its input.
        writeln!(self.stdin, "{{ {command}\n}} < /dev/null; echo \"{STATUS}$?\"").unwrap();
        let (mut status, mut output) = (None, Vec::new());
        while status.is_none() || output.len() < expected {
            let line = self.lines.recv_timeout(limit).unwrap_or_else(|_| {
                panic!("`{command}` ended with {status:?} and put out {output:#?}, then nothing more came")
            });
            // The last line of a command may have no end.
            match line.split_once(STATUS) {
                Some((last, code)) => {
                    status = Some(code.parse().unwrap());
                    output.extend((!last.is_empty()).then(|| last.to_owned()));
                }
                None => output.push(line),
            }
        }
        (status.unwrap(), output)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Kills the shell and its background processes, by their process group.
        let group = Pid::from_raw(self.child.id() as i32).unwrap();
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

#[test]
fn every_block_is_of_a_kind_that_is_tested() {
    for block in blocks() {
        assert!(KINDS.contains(&block.kind), "{}: a block of kind {:?}", block.place, block.kind);
    }
    let commands: Vec<_> = blocks().into_iter().filter(|block| block.kind == "sh").collect();
    for (start, _) in EXEMPT {
        let used = commands.iter().any(|block| block.lines.iter().any(|line| line.starts_with(start)));
        assert!(used, "{start:?} is exempt and is in none of the documents");
    }
}

#[test]
fn commands_succeed() {
    let directory = tempfile::tempdir().unwrap();
    let mut shell = Shell::start(directory.path());
    for block in blocks().into_iter().filter(|block| block.kind == "sh") {
        for command in block.lines.into_iter().filter(|line| !line.is_empty() && !is_exempt(line)) {
            let (status, output) = shell.run(command, 0, LONG);
            assert_eq!(status, 0, "{}: `{command}`: {output:#?}", block.place);
        }
    }
}

#[test]
fn sessions_go_as_shown() {
    let all = blocks();
    let mut sessions = 0;
    let mut logs = 0;
    for (at, block) in all.iter().enumerate().filter(|(_, block)| block.kind == "console") {
        let directory = tempfile::tempdir().unwrap();
        let mut shell = Shell::start(directory.path());
        let mut lines = block.lines.iter().peekable();
        while let Some(line) = lines.next() {
            let command = line.strip_prefix("$ ").expect("a session begins with a command");
            let mut shown = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                shown.push(normal(line));
            }
            let (status, output) = shell.run(command, shown.len(), LIMIT);
            let came: Vec<_> = output.iter().map(|line| normal(line)).collect();
            assert_eq!(status, 0, "{}: `{command}`: {output:#?}", block.place);
            assert_eq!(came, shown, "{}: `{command}`: {output:#?}", block.place);
            if command.starts_with("ringpost-server ") {
                // A user would type the next command after the server has started.
                await_server(&directory.path().join("bus.sock"));
            }
        }
        // The block of text behind a session is from the server's log.
        if let Some(log) = all.get(at + 1).filter(|next| next.kind == "text") {
            let shown: Vec<_> = log.lines.iter().map(|line| normal(line)).collect();
            let mut came = Vec::new();
            eventually("the log is written", || {
                let log = std::fs::read_to_string(directory.path().join("server.log")).unwrap_or_default();
                came = log.lines().map(normal).collect();
                came.len() >= shown.len()
            });
            assert_eq!(came[..shown.len()], shown, "{}", log.place);
            logs += 1;
        }
        sessions += 1;
    }
    assert!(sessions > 1 && logs > 0, "{sessions} sessions, {logs} logs");
}

/// Runs the README's server or client, each in a process of this test program.
mod server {
    include!("server.rs");

    pub fn run() {
        main().unwrap();
    }
}

mod client {
    include!("client.rs");

    pub fn run() {
        main().unwrap();
    }
}

#[test]
fn role() {
    match role::role() {
        Some((role, _)) if role == "server" => server::run(),
        Some((role, _)) if role == "client" => client::run(),
        _ => {}
    }
}

#[test]
fn the_server_and_the_client_of_the_readme_work_side_by_side() {
    let code: Vec<_> = blocks()
        .into_iter()
        .filter(|block| block.place.starts_with("README.md") && block.kind.starts_with("rust"))
        .map(|block| block.lines.join("\n") + "\n")
        .collect();
    assert_eq!(
        code,
        [include_str!("server.rs"), include_str!("client.rs")],
        "tests/readme has what runs here"
    );

    let directory = tempfile::tempdir().unwrap();
    let start = |role: &str| {
        Role::start_as(role, &[], |command| {
            command.env("XDG_RUNTIME_DIR", directory.path());
        })
        .unwrap()
    };
    let _server = start("server");
    await_server(&directory.path().join("ringpost/bus.sock"));
    assert!(start("client").end().success());
}
