//! A bus of three processes, each of which may have its own surroundings, and all that they do together.

use super::common::role::{Role, numbers};
use super::common::{Place, eventually};
use std::process::Command;

/// How a process is started: its settings, and a change of its command.
pub struct Surroundings {
    pub settings: Vec<(&'static str, String)>,
    pub wrap: fn(&mut Command, &Place),
}

impl Surroundings {
    pub fn usual() -> Surroundings {
        Surroundings { settings: Vec::new(), wrap: |_, _| {} }
    }

    /// Starts a role. `None` if the surroundings cannot be had here.
    fn start(&self, role: &str, place: &Place) -> Option<Role> {
        let mut settings = vec![("PATH", place.path.to_str().unwrap())];
        settings.extend(self.settings.iter().map(|(key, value)| (*key, value.as_str())));
        let mut started = Role::start_as(role, &settings, |command| (self.wrap)(command, place)).unwrap();
        match started.hear("").as_str() {
            "ready" => Some(started),
            "skipped" => None,
            other => panic!("{role}: {other}"),
        }
    }
}

/// What each party was told of calls that the system refuses.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub server: String,
    pub alice: String,
    pub bob: String,
}

fn ask(role: &mut Role, order: &str, word: &str) -> String {
    role.tell(order);
    role.hear(word)
}

/// Runs a bus on which everything is done that can be, and on which alice dies. `None` if the surroundings
/// cannot be had.
pub fn run(server: &Surroundings, clients: &Surroundings) -> Option<Told> {
    let place = Place::new();
    let mut server = server.start("server", &place)?;
    let mut alice = clients.start("alice", &place)?;
    let mut bob = clients.start("bob", &place)?;
    for _ in 0..2 {
        ask(&mut bob, "call", "called");
        // Everybody sleeps when the next thing comes.
        bob.tell("send");
        assert_eq!(ask(&mut alice, "receive", "got"), format!("{:?}", b"message"));
        bob.hear("sent");
        bob.tell("take");
        ask(&mut alice, "publish", "published");
        assert_eq!(bob.hear("took"), format!("{:?}", b"sample"));
    }
    let alices = ask(&mut alice, "told", "told");
    alice.kill();
    ask(&mut bob, "mourn", "mourned");
    eventually("the server forgets her", || ask(&mut server, "clients", "clients") == "1");
    let told =
        Told { server: ask(&mut server, "told", "told"), alice: alices, bob: ask(&mut bob, "told", "told") };
    bob.tell("end");
    assert!(bob.end().success());
    eventually("bob has left", || ask(&mut server, "clients", "clients") == "0");
    let sums = numbers(&ask(&mut server, "end", "ended"));
    assert_eq!(sums["violations"], 0);
    assert!(server.end().success());
    assert!(place.is_clean(), "the server leaves nothing behind");
    Some(told)
}
