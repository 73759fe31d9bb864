//! Each way in which a link does not come about: the error, its text, and that nothing is left.

use super::common::role::{Role, Stage, say, setting};
use super::common::users::{is_root, leave_root};
use super::common::{Bus, begin, eventually};
use super::{Pair, echo};
use ringpost::{Client, CloseReason, ConnectError, Key, Link, Quotas, Reconnect, RegisterError, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

fn error(alice: &mut Client, to: &str) -> ConnectError {
    alice.connect(to).unwrap_err()
}

fn says(error: &ConnectError, parts: &[&str]) {
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn whoever_cannot_be_reached_is_named_with_the_remedy() {
    let mut pair = Pair::new(echo);
    let alice = &mut pair.alice;
    let told = error(alice, " bob");
    assert!(matches!(told, ConnectError::InvalidName(_)));
    says(&told, &["no client can have this name"]);
    let told = error(alice, "nobody");
    assert!(matches!(told, ConnectError::NotFound));
    says(&told, &["left, or never was", "wait_for"]);
    assert!(matches!(alice.connect(Key::from_bytes([7; 16])), Err(ConnectError::NotFound)));
    let _carol = pair.bus.client("carol");
    let told = error(alice, "carol");
    assert!(matches!(told, ConnectError::NotServing));
    says(&told, &["Client::listen"]);
    let told = Link::options().ring_size(5000).connect(alice.caller(), "bob").unwrap_err();
    assert!(matches!(told, ConnectError::Channel(_)));
    says(&told, &["5000", "power of two"]);
    assert_eq!(pair.links_of("alice"), 0);
}

#[test]
fn a_refusal_comes_with_its_text() {
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let mut listener = bob.listen().unwrap();
    let refusing = begin(move || {
        let incoming = listener.accept().unwrap();
        assert_eq!(incoming.peer().name.as_str(), "alice");
        incoming.refuse("not today");
        listener
    });
    let told = error(&mut alice, "bob");
    assert!(matches!(&told, ConnectError::Refused(why) if why == "not today"));
    says(&told, &["refused", "not today"]);
    refusing.end("a refusal");
}

/// One that would have carried the calls on is refused, and refuses as it was.
#[test]
fn a_refusal_is_passed_on() {
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let mut listener = bob.listen().unwrap();
    for (why, expected) in [
        (ConnectError::NotFound, "NotFound"),
        (ConnectError::NotServing, "NotServing"),
        (ConnectError::Busy("of late".into()), "Busy"),
        (ConnectError::NotAllowed("a rule".into()), "NotAllowed(\"a rule\")"),
        (ConnectError::Refused("not today".into()), "Refused(\"not today\")"),
        (ConnectError::Quota("too many".into()), "Refused(\"the server refused: too many\")"),
    ] {
        let refusing = begin(move || {
            listener.accept().unwrap().refuse_as(&why);
            listener
        });
        let told = format!("{:?}", error(&mut alice, "bob"));
        assert!(told.starts_with(expected), "{told}, not {expected}");
        listener = refusing.end("a refusal");
    }
}

#[test]
fn nobody_who_accepts_is_a_matter_of_time() {
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let listener = bob.listen().unwrap();
    let short = Link::options().timeout(Duration::from_millis(30));
    let told = short.connect(alice.caller(), "bob").unwrap_err();
    assert!(told.is_timeout());
    says(&told, &["in time", "timeout"]);
    // The client's own limit holds without options. It holds for the registration, too, whose answer may come
    // too late; then the name is free a little later.
    let hasty = Client::builder(bus.path()).timeout(Duration::from_millis(30));
    let mut carol = None;
    eventually("carol is registered in time", || match hasty.register("carol") {
        Ok(client) => carol.insert(client).name().as_str() == "carol",
        Err(RegisterError::TimedOut { .. } | RegisterError::NameTaken { .. }) => false,
        Err(error) => panic!("{error}"),
    });
    assert!(error(&mut carol.unwrap(), "bob").is_timeout());
    drop(listener);
    assert!(matches!(error(&mut alice, "bob"), ConnectError::NotServing));
}

#[test]
fn a_listener_that_goes_away_is_gone() {
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let mut listener = bob.listen().unwrap();
    let leaving = begin(move || {
        let incoming = listener.accept().unwrap();
        bob.unregister().unwrap();
        drop(incoming);
    });
    let told = error(&mut alice, "bob");
    assert!(matches!(told, ConnectError::Gone(CloseReason::Unregistered)), "{told}");
    says(&told, &["before it was accepted", "unregistered"]);
    leaving.end("a client that leaves");
}

/// Any user but the server's own, who has no quota.
const OTHER: u32 = 65533;

/// The role of another user that opens as many links as it may.
pub fn open_many(stage: &Stage) {
    leave_root(OTHER, OTHER, &[]);
    let mut other = Client::register(setting::<PathBuf>("PATH").unwrap(), "other").unwrap();
    let mut links = Vec::new();
    let told = loop {
        match other.connect("bob") {
            Ok(link) => links.push(link),
            Err(error) => break error,
        }
    };
    assert!(matches!(told, ConnectError::Quota(_)), "{told}");
    say(format_args!("opened {} {told}", links.len()));
    stage.await_order("close one");
    links.pop();
    // The server counts a link until both sides have ended it.
    eventually("there is room again", || match other.connect("bob") {
        Ok(mut link) => link.call(b"room again").unwrap() == *b"room again",
        Err(ConnectError::Quota(_)) => false,
        Err(error) => panic!("{error}"),
    });
    say("done");
}

#[test]
fn quotas_are_named_with_the_option_that_raises_them() {
    if !is_root() {
        return eprintln!("skipped: only root can play another user");
    }
    let mut quotas = Quotas::default();
    quotas.links = 2;
    let mut pair = Pair::on(|builder| builder.allow_user(OTHER).quotas(quotas), echo);
    let everybody = Permissions::from_mode(0o755);
    std::fs::set_permissions(pair.bus.place.directory.path(), everybody).unwrap();
    let own: Vec<Link> = (0..5).map(|_| pair.alice.connect("bob").unwrap()).collect();
    let mut other = Role::start("other", &[("PATH", pair.bus.path().to_str().unwrap())]);
    let told = other.hear("opened");
    assert!(told.starts_with("2 ") && told.contains("--quota links=N"), "{told}");
    assert_eq!((pair.links_of("other"), pair.links_of("alice")), (2, own.len() as u32));
    other.tell("close one");
    other.hear("done");
}

#[test]
fn a_client_without_its_server_opens_no_links() {
    let Pair { mut alice, bob, serving, bus } = Pair::new(echo);
    bus.server.join_after_shutdown();
    let told = error(&mut alice, "bob");
    assert!(matches!(told, ConnectError::ServerGone(CloseReason::Shutdown)), "{told}");
    assert!(told.is_disconnected());
    says(&told, &["not registered", "register again"]);
    drop((bob, serving));
}

/// The server lives, but its socket is gone: nobody can reach it.
#[test]
fn a_server_that_cannot_be_reached_is_named() {
    let mut pair = Pair::new(echo);
    std::fs::remove_file(pair.bus.path()).unwrap();
    let told = error(&mut pair.alice, "bob");
    assert!(matches!(told, ConnectError::Server(RegisterError::NoServer { .. })), "{told}");
    says(&told, &["no server at"]);
    assert_eq!(pair.alice.call(b"still there").unwrap(), b"still there");
}

/// As every question, without an error in between.
#[test]
fn a_client_that_registers_again_connects_after_that() {
    let bus = Bus::start();
    let again =
        |name: &str| Client::builder(bus.path()).reconnect(Reconnect::default()).register(name).unwrap();
    let [mut alice, mut bob] = ["alice", "bob"].map(again);
    let serving = bob.listen().unwrap().serve(echo).unwrap();
    let former = alice.key();
    bus.server.join_after_shutdown();
    let _server = Server::builder(&bus.place.path).start().unwrap();
    eventually("bob serves at the new server", || match alice.connect("bob") {
        Ok(mut link) => link.call(b"ping").unwrap() == *b"ping",
        Err(ConnectError::NotFound | ConnectError::NotServing | ConnectError::TimedOut) => false,
        Err(error) => panic!("{error}"),
    });
    assert_ne!(alice.key(), former);
    drop(serving);
}

/// The role of a client that may open ever more files, from none on.
pub fn lack_descriptors(stage: &Stage) {
    let mut carol = Client::register(setting::<PathBuf>("PATH").unwrap(), "carol").unwrap();
    let limit = getrlimit(Resource::Nofile);
    let mut failed = 0;
    let mut link = (3..)
        .find_map(|current| {
            setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit }).unwrap();
            let connected = carol.connect("bob");
            setrlimit(Resource::Nofile, limit).unwrap();
            let Err(error) = connected else { return connected.ok() };
            says(&error, &["ulimit -n"]);
            failed += 1;
            None
        })
        .unwrap();
    assert_eq!(link.call(b"enough").unwrap(), b"enough");
    say(format_args!("failed {failed}"));
    stage.await_order("end");
}

/// Each attempt gets a little further, and leaves nothing.
#[test]
fn a_lack_of_descriptors_is_named_with_the_remedy() {
    let mut pair = Pair::new(echo);
    let mut carol = Role::start("lacks", &[("PATH", pair.bus.path().to_str().unwrap())]);
    let failed: u32 = carol.hear("failed").parse().unwrap();
    assert!(failed >= 4, "{failed}");
    eventually("one link is left", || pair.links_of("carol") == 1 && pair.links_of("bob") == 1);
}
