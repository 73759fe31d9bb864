//! Tests of a client's death that its forked child hides by keeping the connection open.

use super::common::role::{Role, Stage, say, setting};
use super::common::{Place, eventually, raw};
use super::{Baseline, registered, shut_down, start_server};
use ringpost::Client;
use rustix::io::{FdFlags, fcntl_setfd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Registers, and starts a child that inherits the connection and outlives this process.
pub fn parent(stage: &Stage) {
    let path: PathBuf = setting("PATH").unwrap();
    let line = raw::dial(&path);
    raw::say(&line, &raw::datagram(raw::VERSION, raw::REGISTER, b"parent"));
    let raw::Heard::Reply { status: 0, descriptor: Some(_channel), .. } = raw::hear(&line) else {
        panic!("not registered")
    };
    fcntl_setfd(&line, FdFlags::empty()).unwrap();
    // The child ends when the test closes the pipe of the orders.
    let mut child = Command::new("cat").stdin(Stdio::inherit()).stdout(Stdio::null()).spawn().unwrap();
    say(format_args!("child {}", child.id()));
    // The test kills this process here.
    let _ = stage.order();
    let _ = child.wait();
}

fn is_found_out(place: &Place, settings: &[(&str, &str)], fill: bool) {
    let server = start_server(place, &[&[("RING", "4096")], settings].concat());
    let baseline = Baseline::of(&server, &place.path);
    let mut parent = Role::start("parent", &[("PATH", place.path.to_str().unwrap())]);
    let child: u32 = parent.hear("child").parse().unwrap();
    let mut others = Vec::new();
    while fill && let Ok(client) = Client::register(&place.path, format!("other {}", others.len())) {
        others.push(client);
    }
    assert_eq!(registered(&place.path), others.len() + 1);
    parent.kill();
    assert!(std::path::Path::new(&format!("/proc/{child}")).exists());
    eventually("its death is seen", || registered(&place.path) == others.len());
    assert!(std::path::Path::new(&format!("/proc/{child}")).exists(), "the child holds the connection");
    for client in &mut others {
        assert_eq!(client.call(b"x").unwrap(), b"x");
    }
    Client::register(&place.path, "parent").unwrap();
    drop((others, parent));
    baseline.await_restored();
    let sums = shut_down(server);
    assert_eq!(sums["violations"], 0);
}

#[test]
fn a_death_that_a_forked_child_hides_is_seen() {
    is_found_out(&Place::new(), &[], false);
}

/// The server has closed its pidfds because it needs descriptors for connections.
#[test]
fn a_death_that_a_forked_child_hides_is_seen_without_descriptors_too() {
    is_found_out(&Place::new(), &[("FILES", "64")], true);
}
