//! Nodes for the tests: a server in this process, and bridges as processes of their own.

#![allow(dead_code)] // each test file uses a part of it

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ringpost::{Change, Client, Presence, Server};
use tempfile::TempDir;

/// Nothing takes so long.
pub const LONG: Duration = Duration::from_secs(30);

/// An endpoint of this computer that is free now.
pub fn endpoint(protocol: &str) -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("{protocol}/127.0.0.1:{port}")
}

/// A server of one node.
pub struct Bus {
    pub directory: TempDir,
    pub server: Option<Server>,
}

impl Bus {
    pub fn start() -> Bus {
        let mut bus = Bus { directory: tempfile::tempdir().unwrap(), server: None };
        bus.serve();
        bus
    }

    pub fn serve(&mut self) {
        self.server = Some(Server::builder(self.path()).ring_size(1 << 16).start().unwrap());
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("bus.sock")
    }

    pub fn client(&self, name: &str) -> Client {
        Client::register(self.path(), name).unwrap()
    }
}

/// A bridge, as a process.
pub struct Bridge {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Bridge {
    pub fn start(node: &str, socket: &Path, arguments: &[&str]) -> Bridge {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost-bridge"));
        command.args(["--node", node, "--socket"]).arg(socket).args(arguments);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Bridge { child, lines, seen: Vec::new() }
    }

    /// Waits for a line of the log that has this text, from where the last wait ended.
    #[track_caller]
    pub fn says(&mut self, text: &str) {
        let deadline = Instant::now() + LONG;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line);
                    if self.seen[self.seen.len() - 1].contains(text) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("the bridge did not say {text:?}, but:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ends by itself.
    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LONG;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the bridge goes on");
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two nodes whose bridges know each other.
pub struct Pair {
    pub a: Bus,
    pub b: Bus,
    pub bridge_a: Bridge,
    pub bridge_b: Bridge,
    pub endpoint: String,
}

impl Pair {
    /// Both export and import these patterns; imports have the other node's name before them.
    pub fn start(export: &[&str]) -> Pair {
        let (a, b, endpoint) = (Bus::start(), Bus::start(), endpoint("tcp"));
        let mut bridge_a = bridge("a", "b", &a, &["--listen", &endpoint], export);
        bridge_a.says("joined the server");
        let mut bridge_b = bridge("b", "a", &b, &["--connect", &endpoint], export);
        bridge_b.says("knows this node as b");
        bridge_a.says("knows this node as a");
        Pair { a, b, bridge_a, bridge_b, endpoint }
    }

    /// Two clients that know each other: alice on a and bob on b.
    pub fn clients(&mut self) -> (Client, Client) {
        let (mut alice, mut bob) = (self.a.client("alice"), self.b.client("bob"));
        alice.wait_for("bob@b", LONG).unwrap();
        bob.wait_for("alice@a", LONG).unwrap();
        // And can be connected to.
        self.bridge_a.says("bob@b is here");
        self.bridge_b.says("alice@a is here");
        (alice, bob)
    }
}

pub fn bridge(node: &str, other: &str, bus: &Bus, network: &[&str], export: &[&str]) -> Bridge {
    let mut arguments = network.to_vec();
    arguments.extend(["--allow", other, "--import", "**"]);
    arguments.extend(export.iter().flat_map(|pattern| ["--export", pattern]));
    Bridge::start(node, &bus.path(), &arguments)
}

/// Watches who is there, from when this client is.
pub fn watch(client: &mut Client, name: &str) -> Presence {
    let mut presence = client.presence().unwrap();
    loop {
        if let Change::Present(peer) | Change::Appeared(peer) = presence.recv_timeout(LONG).unwrap()
            && peer.name == name
        {
            return presence;
        }
    }
}

/// Waits until it vanishes.
pub fn vanishes(presence: &mut Presence, name: &str) {
    loop {
        if let Change::Vanished { peer, .. } = presence.recv_timeout(LONG).unwrap()
            && peer.name == name
        {
            return;
        }
    }
}
