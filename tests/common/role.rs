//! Child processes for tests: the test program starts itself again, to run one of its *roles*.
//!
//! A role reads orders from its standard input and answers with lines that begin with `@`. It ends when its
//! input ends, and it is killed when its handle is dropped, so that nothing outlives a test.

use super::LIMIT;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const ROLE: &str = "RINGPOST_TEST_ROLE";
const SETTING: &str = "RINGPOST_TEST_SETTING_";

/// The handle of a process that runs a role.
pub struct Role {
    child: Child,
    orders: Option<ChildStdin>,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    name: String,
}

/// What starts this test program to run a role.
pub fn command(role: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    for (key, value) in settings {
        command.env(format!("{SETTING}{key}"), value);
    }
    command
}

impl Role {
    pub fn start(role: &str, settings: &[(&str, &str)]) -> Role {
        Role::start_as(role, settings, |_| {}).unwrap()
    }

    /// Starts a role, after `set` has changed the command.
    pub fn start_as(
        role: &str,
        settings: &[(&str, &str)],
        set: impl FnOnce(&mut Command),
    ) -> std::io::Result<Role> {
        let mut command = command(role, settings);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        set(&mut command);
        let mut child = command.spawn()?;
        let orders = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        // This thread ends with the role's standard output.
        let reader = thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(said) = line.strip_prefix("@ ")
                    && sender.send(said.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        Ok(Role { child, orders, lines, reader: Some(reader), name: role.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn next_line(&mut self, limit: Duration) -> String {
        match self.lines.recv_timeout(limit) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("{} hangs", self.name),
            Err(RecvTimeoutError::Disconnected) => panic!("{} ended before it said anything more", self.name),
        }
    }

    /// Receives its next line, which must begin with this word, and returns the rest.
    pub fn hear(&mut self, word: &str) -> String {
        self.hear_within(word, LIMIT)
    }

    /// Like [`hear`](Self::hear), with another limit.
    pub fn hear_within(&mut self, word: &str, limit: Duration) -> String {
        let line = self.next_line(limit);
        match line.strip_prefix(word) {
            Some(rest) => rest.trim_start().to_owned(),
            None => panic!("{} said {line:?} where {word:?} was expected", self.name),
        }
    }

    /// Sends it an order.
    pub fn tell(&mut self, order: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
    }

    /// Sends SIGKILL and waits until it has ended.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ends.
    pub fn end(mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end", self.name);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Wait for the reading thread, which ends with the output unless another process holds that. If this
        // process ended first, the thread would look like a leak.
        let Some(reader) = self.reader.take() else { return };
        let deadline = Instant::now() + Duration::from_secs(1);
        while !reader.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        if reader.is_finished() {
            let _ = reader.join();
        }
    }
}

/// A role's connection to its parent.
pub struct Stage {
    orders: Receiver<String>,
}

/// The role of this process, if it was started for one.
pub fn role() -> Option<(String, Stage)> {
    let role = std::env::var(ROLE).ok()?;
    let (sender, orders) = mpsc::channel();
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
        // The parent is gone.
        std::process::exit(3);
    });
    Some((role, Stage { orders }))
}

/// A setting of this role.
pub fn setting<T: FromStr>(key: &str) -> Option<T> {
    std::env::var(format!("{SETTING}{key}")).ok().and_then(|value| value.parse().ok())
}

/// Prints a line to the parent. It starts a new line first, because the test harness may have begun one.
pub fn say(line: impl std::fmt::Display) {
    println!("\n@ {line}");
}

impl Stage {
    /// Waits for the next order.
    pub fn order(&self) -> String {
        self.orders.recv().expect("no order came")
    }

    /// The next order, if one was given.
    pub fn ordered(&self) -> Option<String> {
        self.orders.try_recv().ok()
    }

    /// Waits for the next order, which must be this one.
    pub fn await_order(&self, order: &str) {
        assert_eq!(self.order(), order);
    }
}

/// The numbers in a line of the form `a=1 b=2`.
pub fn numbers(line: &str) -> HashMap<String, u64> {
    line.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?)))
        .collect()
}
