//! Namespaces of processes, users, networks and mounts on either side of a bus, with a root that can only be
//! read, 64 MiB of shared memory and few descriptors.

use super::bus::{Surroundings, Told, run};
use super::common::Place;
use std::ffi::OsString;
use std::process::{Command, Stdio};

/// New namespaces, in which this user is root.
const UNSHARE: [&str; 9] = [
    "--user",
    "--map-root-user",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--net",
    "--ipc",
    "--uts",
];

/// What a container is set up with: only the socket's directory can be written to.
const SET_UP: &str = "mount -t tmpfs -o size=64m tmpfs /dev/shm && mount --bind \"$1\" \"$1\" \
    && mount -o remount,bind,ro / && ulimit -n 96 && shift && exec \"$@\"";

/// Puts a command into a container.
fn contain(command: &mut Command, place: &Place) {
    let mut inner = vec![command.get_program().to_owned()];
    inner.extend(command.get_args().map(OsString::from));
    let mut outer = Command::new("unshare");
    outer.args(UNSHARE).args(["sh", "-c", SET_UP, "sh"]).arg(place.directory.path()).args(inner);
    for (key, value) in command.get_envs() {
        outer.env(key, value.unwrap_or_default());
    }
    outer.stdin(Stdio::piped()).stdout(Stdio::piped());
    *command = outer;
}

/// Whether there are namespaces for this user.
fn can_contain() -> bool {
    let place = Place::new();
    let mut command = Command::new("true");
    contain(&mut command, &place);
    command.stderr(Stdio::null()).stdout(Stdio::null()).stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn container() -> Surroundings {
    Surroundings { settings: Vec::new(), wrap: contain }
}

fn check(server: &Surroundings, clients: &Surroundings) {
    if !can_contain() {
        return eprintln!("skipped: this user gets no namespaces here (unshare --user)");
    }
    let nothing = Told { server: String::new(), alice: String::new(), bob: String::new() };
    assert_eq!(run(server, clients), Some(nothing));
}

/// The server sees no numbers of its clients' processes.
#[test]
fn a_server_in_a_container() {
    check(&container(), &Surroundings::usual());
}

#[test]
fn clients_in_containers() {
    check(&Surroundings::usual(), &container());
}

/// Each has a container of its own.
#[test]
fn everybody_in_a_container() {
    check(&container(), &container());
}
