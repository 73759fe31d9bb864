//! Tests of limits: too many clients, too few descriptors or threads, settings out of range.

use crate::common::role::{Role, Stage, say, setting};
use crate::common::users::{is_root, leave_root};
use crate::common::{Bus, Place, begin, eventually, within_limit};
use crate::{assert_mentions, skipped};
use ringpost::{Client, RegisterError, Server, ServerBuilder, StartError, WaitStrategy};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::PathBuf;
use std::time::Duration;

#[test]
fn too_many_clients() {
    let bus = Bus::with(|b| b.max_clients(3));
    let mut clients: Vec<Client> = ["a", "b", "c"].map(|name| bus.client(name)).into();
    for _ in 0..3 {
        let error = Client::register(bus.path(), "d").unwrap_err();
        assert!(matches!(error, RegisterError::Full(_)), "{error:?}");
        assert_mentions(&error.to_string(), &["is full", "wait until a client leaves", "--max-clients"]);
    }
    for client in &mut clients {
        assert_eq!(client.call(b"x").unwrap(), b"x");
    }
    clients.pop();
    bus.client("d");
}

type Setting = fn(ServerBuilder) -> ServerBuilder;

#[test]
fn settings_out_of_range_or_against_each_other() {
    let place = Place::new();
    let cases: [(&str, Setting, &[&str]); 15] = [
        ("no clients", |b| b.max_clients(0), &["max_clients", "got 0", "1 to 65536"]),
        ("too many clients", |b| b.max_clients(65_537), &["65537", "1 to 65536"]),
        ("no ring", |b| b.ring_size(0), &["0 bytes", "power of two"]),
        ("a small ring", |b| b.ring_size(2048), &["2048", "from 4096"]),
        ("an odd ring", |b| b.ring_size(5000), &["5000", "power of two"]),
        ("a large ring", |b| b.ring_size(2 << 30), &["to 1073741824"]),
        ("the largest number", |b| b.ring_size(usize::MAX), &["power of two"]),
        ("a small block", |b| b.max_block(255), &["255", "use 256 to"]),
        ("no block", |b| b.max_block(0), &["use 256 to"]),
        (
            "a block over half its ring",
            |b| b.ring_size(4096).max_block(2041),
            &["256 to 2040", "larger rings"],
        ),
        ("a block of the ring's size", |b| b.ring_size(4096).max_block(4096), &["larger rings"]),
        ("a CPU that is not there", |b| b.pin(999), &["CPU 999", "use a CPU"]),
        ("no user", |b| b.allow_user(u32::MAX), &["4294967295 is no user", "0 to 4294967294"]),
        ("no group", |b| b.allow_group(u32::MAX), &["4294967295 is no user and no group"]),
        ("a CPU beyond all numbers", |b| b.pin(usize::MAX), &["use a CPU"]),
    ];
    for (what, set, words) in cases {
        match set(Server::builder(&place.path)).start() {
            Err(StartError::Listen(_) | StartError::System { .. }) | Ok(_) => panic!("{what}"),
            Err(error) => assert_mentions(&error.to_string(), words),
        }
    }
    assert!(place.is_clean());
    for text in ["", "sleep", "Spin", " park"] {
        let error = text.parse::<WaitStrategy>().unwrap_err();
        assert_mentions(&error.to_string(), &["spin", "adaptive", "park"]);
    }
}

/// Time-outs that exceed the clock's range mean no time-out.
#[test]
fn the_longest_times_are_no_times() {
    let bus = Bus::with(|b| b.grace(Duration::MAX));
    let mut client = Client::builder(bus.path()).timeout(Duration::MAX).register("alice").unwrap();
    assert_eq!(client.call_timeout(b"x", Duration::MAX).unwrap(), b"x");
    let waiting = begin(move || client.recv().unwrap_err());
    let summary = within_limit("the shutdown", move || bus.server.join_after_shutdown());
    assert_eq!((summary.registered, summary.abandoned), (1, 0));
    waiting.end("the client");
}

#[test]
fn no_time_at_all_is_a_time_out() {
    let bus = Bus::with(|b| b.grace(Duration::ZERO));
    let error = Client::builder(bus.path()).timeout(Duration::ZERO).register("alice").unwrap_err();
    assert!(matches!(error, RegisterError::TimedOut { .. }), "{error:?}");
    assert_mentions(&error.to_string(), &["in time", "try again"]);
    let bob = bus.client("bob");
    let summary = within_limit("the shutdown", move || bus.server.join_after_shutdown());
    assert_eq!(summary.abandoned, 0);
    drop(bob);
}

// ---- descriptors

fn limit_descriptors(most: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }).unwrap();
}

/// Registers with more and more descriptors allowed, and reports how each attempt ended.
pub fn register_poorly() {
    let path: PathBuf = setting("PATH").unwrap();
    for most in 3..64 {
        limit_descriptors(most);
        // Uses a new name, because the server may notice the end of the last attempt a moment later.
        match Client::register(&path, format!("poor {most}")) {
            Ok(mut client) => {
                assert_eq!(client.call(b"x").unwrap(), b"x");
                return say("registered");
            }
            Err(error) => say(format_args!("failed {} {error}", kind(&error))),
        }
    }
}

fn kind(error: &RegisterError) -> &'static str {
    match error {
        RegisterError::System { action, .. } if action.contains("reach") => "reach",
        RegisterError::System { .. } => "watch",
        _ => "other",
    }
}

/// Each descriptor of a registration fails once: its socket, and the channel that it receives. The watcher's
/// descriptor uses the channel's number, which is closed by then.
#[test]
fn a_client_without_descriptors_says_so() {
    let bus = Bus::start();
    let mut poor = Role::start("poor client", &[("PATH", bus.path().to_str().unwrap())]);
    let mut kinds = Vec::new();
    loop {
        let line = poor.hear("");
        let Some(failed) = line.strip_prefix("failed ") else {
            assert_eq!(line, "registered");
            break;
        };
        let (kind, why) = failed.split_once(' ').unwrap();
        assert_mentions(why, &["Too many open files", "ulimit -n"]);
        kinds.push(kind.to_owned());
    }
    let watched = kinds.iter().filter(|kind| *kind == "watch").count();
    let reached = kinds.iter().filter(|kind| *kind == "reach").count();
    assert!(reached >= 2 && watched + reached == kinds.len(), "{kinds:?}");
    assert!(poor.end().success());
    // Failed attempts left nothing behind.
    eventually("all have left", || bus.server.info().clients == 0);
}

/// Starts servers with fewer and fewer descriptors allowed, and reports how each ended.
pub fn start_poorly() {
    let path: PathBuf = setting("PATH").unwrap();
    // The server program raises its soft limit, so lower the hard one.
    for most in (3..40).rev() {
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) }).unwrap();
        match Server::builder(&path).start() {
            Ok(server) => drop(server),
            Err(error) => say(format_args!("failed {error}")),
        }
    }
    say("done");
}

#[test]
fn a_server_without_descriptors_does_not_start_and_leaves_nothing() {
    let place = Place::new();
    let mut poor = Role::start("poor server", &[("PATH", place.path.to_str().unwrap())]);
    let mut failed = 0;
    loop {
        let line = poor.hear("");
        if line == "done" {
            break;
        }
        assert_mentions(line.strip_prefix("failed ").unwrap(), &["Too many open files", "ulimit -n"]);
        failed += 1;
    }
    assert!(failed >= 4, "registry, eventfd, epoll, lock, socket: {failed}");
    assert!(poor.end().success());
    assert!(place.is_clean());
}

// ---- threads

/// A user with no other processes, because the kernel counts threads per user.
const LONELY: u32 = 64_123;

/// Serves as a user with this limit of threads, including the main thread.
pub fn serve_with_few_threads(stage: &Stage) {
    leave_root(LONELY, LONELY, &[]);
    let most = setting("THREADS");
    setrlimit(Resource::Nproc, Rlimit { current: most, maximum: most }).unwrap();
    match Server::builder(setting::<PathBuf>("PATH").unwrap()).start() {
        Ok(_server) => {
            say("ready");
            stage.await_order("end");
        }
        Err(error) => say(format_args!("failed {error}")),
    }
}

#[test]
fn a_server_without_threads_says_so() {
    if !is_root() {
        return skipped("only root can play a user with no other threads");
    }
    let start = |place: &Place, threads: &str| {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(place.directory.path(), open).unwrap();
        let settings = [("PATH", place.path.to_str().unwrap()), ("THREADS", threads)];
        Role::start("server with few threads", &settings)
    };
    let place = Place::new();
    let mut server = start(&place, "1");
    assert_mentions(&server.hear("failed"), &["cannot start a thread", "ulimit -u"]);
    assert!(server.end().success());
    assert!(place.is_clean());

    // Enough for the main thread, the acceptor and one client.
    let place = Place::new();
    let mut server = start(&place, "3");
    server.hear("ready");
    // Clients trust that user's server only if the directory belongs to that user.
    let own = Some(LONELY);
    std::os::unix::fs::chown(place.directory.path(), own, own).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.directory.path(), closed).unwrap();
    let mut alice = Client::register(&place.path, "alice").unwrap();
    for _ in 0..3 {
        let error = Client::register(&place.path, "bob").unwrap_err();
        assert!(matches!(error, RegisterError::Refused(_)), "{error:?}");
        assert_mentions(&error.to_string(), &["cannot start a thread", "ulimit -u"]);
        assert_eq!(alice.call(b"x").unwrap(), b"x");
    }
    assert_eq!(alice.list().unwrap().len(), 1);
    alice.unregister().unwrap();
    let mut bob = None;
    eventually("there is a thread for another", || {
        bob = Client::register(&place.path, "bob").ok();
        bob.is_some()
    });
    drop(bob);
    server.tell("end");
    assert!(server.end().success());
}
