//! Tests of overload: too many clients, messages or threads, too few descriptors or memory, stopped
//! processes.
//!
//! Server and clients are separate processes. In each test the affected party gets an error that explains the
//! reason, nobody else is affected, and afterwards everything is as before. Long forms:
//! `RINGPOST_CHURN_MINUTES`, `RINGPOST_STOP_SECONDS`, `RINGPOST_MANY`.

#[path = "../common/mod.rs"]
mod common;

mod capacity;
mod churn;
mod descriptors;
mod events;
mod flood;
mod hidden_deaths;
mod many;
mod poor;
mod roles;
mod shutdown;
mod stopped;
mod threads;
mod turns;

use common::proc::{Holdings, mappings};
use common::role::{Role, numbers};
use common::server::{shut_down, start_server, start_server_as};
use common::{Place, eventually, registered};
use ringpost::{Client, Key, RegisterError};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::str::FromStr;

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = common::role::role() else { return };
    match role.as_str() {
        "server" => roles::serve(&stage),
        "client" => roles::obey(&stage),
        "flooder" => flood::flood(&stage),
        "pair" => flood::talk(),
        "churner" => churn::come_and_go(&stage),
        "crowd" => many::crowd(&stage),
        "parent" => hidden_deaths::parent(&stage),
        "poor client" => poor::client(&stage),
        other => panic!("no role {other:?}"),
    }
}

// ---- helpers of the tests

fn start_client(place: &Place, name: &str, settings: &[(&str, &str)]) -> (Role, Key) {
    let all = [&[("PATH", place.path.to_str().unwrap()), ("NAME", name)], settings].concat();
    let mut client = Role::start("client", &all);
    let key: ringpost::Key = client.hear("key").parse().unwrap();
    (client, key)
}

/// What an idle server holds: without clients.
#[derive(Debug, Clone, Copy)]
struct Baseline {
    pid: u32,
    holdings: Holdings,
    mappings: usize,
    /// Counted separately, because recently refused connections may still have descriptors.
    sockets: usize,
    /// The registrations and refusals that this took.
    registered: u64,
    refused: u64,
}

/// The number of mappings may differ by those that the allocator keeps.
const SPARE_MAPPINGS: usize = 16;

/// More clients than the C library keeps thread stacks and arenas for.
const WARM: u64 = 40;

impl Baseline {
    /// Measures a new server. Some clients register and leave first, so that one-time allocations are
    /// included.
    fn of(server: &Role, path: &Path) -> Baseline {
        let pid = server.pid();
        let holdings = Holdings::of(&pid.to_string());
        let sockets = sockets(pid);
        let some = (0..WARM).map_while(|n| Client::register(path, format!("warm {n}")).ok());
        let mut some: Vec<Client> = some.collect();
        for client in &mut some {
            client.call(b"x").unwrap();
        }
        let registered_now = some.len() as u64;
        drop(some);
        let refused = u64::from(registered_now < WARM);
        let mut baseline =
            Baseline { pid, holdings, mappings: 0, sockets, registered: registered_now, refused };
        eventually("they have left", || baseline.is_restored());
        baseline.mappings = mappings(pid);
        baseline
    }

    fn now(&self) -> Holdings {
        Holdings::of(&self.pid.to_string())
    }

    /// Checks that the server holds one thread, channel and connection for each of this many clients, and
    /// nothing else.
    fn has_clients(&self, clients: usize) -> bool {
        let Holdings { threads, channels, .. } = self.now();
        (threads, channels) == (self.holdings.threads + clients, self.holdings.channels + clients)
            && sockets(self.pid) == self.sockets + clients
    }

    fn is_restored(&self) -> bool {
        self.now() == self.holdings
    }

    fn await_restored(&self) {
        eventually("the server holds what it held before", || self.is_restored());
        let now = mappings(self.pid);
        assert!(now <= self.mappings + SPARE_MAPPINGS, "{now} mappings, before {}", self.mappings);
    }
}

/// The number of a process's sockets.
fn sockets(pid: u32) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

/// Checks that an error text names the remedy.
fn advises(error: &RegisterError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

fn signal(process: &Role, signal: Signal) {
    kill_process(Pid::from_raw(process.pid() as i32).unwrap(), signal).unwrap();
}

/// The environment variable of a test's long form.
fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().ok().unwrap_or_else(|| panic!("{name}={text} is not a number")))
}
