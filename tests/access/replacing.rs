//! Access that is replaced: from then on other rules hold, what is there goes on, and an error changes
//! nothing.

use super::common::{Bus, LIMIT, begin};
use super::{closed, only, with_rules};
use ringpost::{
    Access, AccessError, Act, Client, ConnectError, PublishError, RegisterError, SampleError, SendError,
    Server, SubscribeError,
};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ALL: [Act; 6] = [Act::Register, Act::Serve, Act::Call, Act::Send, Act::Publish, Act::Subscribe];

#[test]
fn what_is_there_goes_on_and_what_is_asked_from_then_on_is_refused() {
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let _serving =
        bob.listen().unwrap().serve(|request, response| response.write(request.payload())).unwrap();
    let mut link = alice.connect("bob").unwrap();
    let mut prices = alice.publish("prices").unwrap();
    let mut sub = bob.subscribe("**").unwrap();
    alice.send("bob", b"before").unwrap();

    bus.server.access_control().replace(with_rules([closed(&ALL, &["*", "**"])])).unwrap();

    assert_eq!(link.call(b"on").unwrap(), b"on");
    prices.send(b"on").unwrap();
    assert_eq!(sub.recv_timeout(LIMIT).unwrap().payload(), b"on");
    assert_eq!(bob.recv_timeout(LIMIT).unwrap().payload(), b"before");
    assert_eq!(alice.call(b"on").unwrap(), b"on");

    assert!(matches!(alice.connect("bob"), Err(ConnectError::NotAllowed(_))));
    assert!(matches!(alice.send(bob.key(), b"after"), Err(SendError::NotAllowed(_))));
    assert!(matches!(alice.publish("news"), Err(PublishError::NotAllowed(_))));
    assert!(matches!(alice.subscribe("**"), Err(SubscribeError::NotAllowed(_))));
    assert!(matches!(Client::register(bus.path(), "carol"), Err(RegisterError::NotAllowed(_))));

    bus.server.access_control().replace(Access::default()).unwrap();
    alice.send(bob.key(), b"again").unwrap();
    assert_eq!(bob.recv_timeout(LIMIT).unwrap().payload(), b"again");
}

/// A subscription that is there gets later topics by the rules that hold when they come.
#[test]
fn later_topics_are_judged_by_later_rules() {
    let bus = Bus::start();
    let control = bus.server.access_control();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let mut sub = bob.subscribe("**").unwrap();
    let mut publishers = Vec::new();
    let mut next = |name: &str| {
        let mut publisher = alice.publish(name).unwrap();
        publisher.send(b"x").unwrap();
        publishers.push(publisher);
    };
    next("1");
    assert_eq!(sub.recv_timeout(LIMIT).unwrap().topic(), "1");
    control.replace(with_rules([closed(&[Act::Subscribe], &["2"])])).unwrap();
    next("2");
    next("3");
    assert_eq!(sub.recv_timeout(LIMIT).unwrap().topic(), "3");
    control.replace(with_rules([])).unwrap();
    next("4");
    assert_eq!(sub.recv_timeout(LIMIT).unwrap().topic(), "4");
    assert!(matches!(sub.recv_timeout(Duration::ZERO), Err(SampleError::TimedOut)));
}

/// Messages while the rules change: each is delivered or refused as the sender is told.
#[test]
fn each_message_is_judged_by_one_of_the_rules() {
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let (key, control) = (bob.key(), bus.server.access_control());
    static STOP: AtomicBool = AtomicBool::new(false);
    let changes = begin(move || {
        let mut changes = 0_u32;
        while !STOP.load(Ordering::Relaxed) {
            let rule = || {
                if changes % 3 == 2 {
                    only(&[Act::Send], &["bob"], &["alice"])
                } else {
                    closed(&[Act::Send], &["*"])
                }
            };
            control
                .replace(with_rules((!changes.is_multiple_of(3)).then(rule).into_iter().collect::<Vec<_>>()))
                .unwrap();
            changes += 1;
        }
        changes
    });
    let (mut sent, mut refused) = (0, 0);
    let deadline = Instant::now() + LIMIT;
    while sent < 300 || refused < 300 {
        assert!(Instant::now() < deadline, "{sent} sent, {refused} refused");
        match alice.send(key, b"x") {
            Ok(()) => {
                sent += 1;
                bob.recv_timeout(LIMIT).unwrap();
            }
            Err(SendError::NotAllowed(_)) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    STOP.store(true, Ordering::Relaxed);
    assert!(changes.end("the rules are changed") > 2);
    assert!(bob.try_recv().unwrap().is_none(), "a message that was refused was delivered");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_socket_is_as_open_as_its_users_and_groups_need() {
    let bus = Bus::start();
    let control = bus.server.access_control();
    let own = fs::metadata(bus.path()).unwrap().gid();
    let replace = |users: &[u32], groups: &[u32]| {
        let mut access = Access::default();
        (access.users, access.groups) = (users.to_vec(), groups.to_vec());
        control.replace(access)
    };
    assert_eq!(mode(bus.path()), 0o600);
    for (users, groups, expected) in [
        (&[][..], &[own][..], 0o660),
        (&[1000], &[own], 0o666),
        (&[], &[], 0o600),
        (&[1000], &[], 0o666),
        (&[], &[own], 0o660),
        (&[], &[own, 1001], 0o666),
        (&[], &[], 0o600),
    ] {
        replace(users, groups).unwrap();
        assert_eq!(mode(bus.path()), expected, "{users:?} {groups:?}");
    }
    // Another file in its place is left alone.
    fs::remove_file(bus.path()).unwrap();
    replace(&[1000], &[]).unwrap();
    fs::write(bus.path(), "another's").unwrap();
    let before = mode(bus.path());
    replace(&[], &[own]).unwrap();
    assert_eq!(mode(bus.path()), before);
    let elsewhere = bus.place.directory.path().join("elsewhere");
    fs::rename(bus.path(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, bus.path()).unwrap();
    replace(&[1000], &[]).unwrap();
    assert_eq!(mode(&elsewhere), before);
}

#[test]
fn an_access_that_cannot_be_changes_nothing() {
    let bus = Bus::with(|builder| builder.access(with_rules([closed(&[Act::Register], &["carol"])])));
    let control = bus.server.access_control();
    let rejected = |change: fn(&mut Access)| {
        let mut access = with_rules([closed(&[Act::Register], &["dave"])]);
        access.users = vec![1000];
        access.quotas.clients = 7;
        change(&mut access);
        let error = control.replace(access).unwrap_err();
        assert!(
            matches!(Client::register(bus.path(), "carol"), Err(RegisterError::NotAllowed(_))),
            "{error}"
        );
        drop(Client::register(bus.path(), "dave").unwrap());
        assert_eq!(
            (mode(bus.path()), bus.server.info().quotas.map(|quotas| quotas.clients)),
            (0o600, Some(256))
        );
        error
    };
    let error = rejected(|access| access.rules.push(closed(&[Act::Publish], &["a/b*"])));
    assert!(matches!(error, AccessError::Topic { rule: 2, .. }), "{error:?}");
    let error = rejected(|access| access.groups = vec![u32::MAX]);
    assert!(matches!(error, AccessError::NobodyAllowed(u32::MAX)), "{error:?}");
    let error = rejected(|access| access.users = vec![65_534]);
    assert!(matches!(error, AccessError::UnknownAllowed(65_534)), "{error:?}");
    let error = rejected(|access| access.rules = vec![closed(&[Act::Send], &["a"]); 300]);
    assert!(matches!(error, AccessError::TooMany { what: "rules", found: 300, .. }), "{error:?}");
    // The same at the start.
    let place = super::common::Place::new();
    let error = Server::builder(&place.path).access(with_rules([closed(&[], &["a"])])).start().unwrap_err();
    assert!(matches!(error, ringpost::StartError::Access(AccessError::NoActs { rule: 1 })), "{error:?}");
    assert!(place.is_clean());
}

#[test]
fn a_handle_outlives_its_server_and_does_nothing_then() {
    let bus = Bus::start();
    let control = bus.server.access_control();
    bus.server.join_after_shutdown();
    assert!(bus.place.is_clean());
    control.replace(with_rules([closed(&[Act::Send], &["*"])])).unwrap();
    assert!(control.replace(with_rules([closed(&[], &["*"])])).is_err(), "it still checks");
    assert!(bus.place.is_clean());
}

/// While a thread waits for the end of the server, another one replaces the access.
#[test]
fn access_is_replaced_while_the_server_is_joined() {
    let Bus { server, place } = Bus::start();
    let (control, stopper) = (server.access_control(), server.stopper());
    let joined = begin(move || server.join());
    control.replace(with_rules([closed(&[Act::Register], &["*"])])).unwrap();
    assert!(matches!(Client::register(&place.path, "alice"), Err(RegisterError::NotAllowed(_))));
    stopper.shutdown();
    assert_eq!(joined.end("the server ends").registered, 0);
}

#[test]
fn a_forked_child_does_not_change_its_parent_s_access() {
    let bus = Bus::start();
    let control = bus.server.access_control();
    // SAFETY: the child continues with only the forking thread. What it uses is what this test checks, and
    // the allocator, which the C library keeps usable. It never returns from here.
    let pid = match unsafe { libc::fork() } {
        0 => {
            let mut open = with_rules([closed(&[Act::Register], &["*"])]);
            open.users = vec![1000];
            let done = catch_unwind(AssertUnwindSafe(|| control.replace(open)));
            // SAFETY: it ends this process, which has nothing to clean up.
            unsafe { libc::_exit(i32::from(!matches!(done, Ok(Ok(()))))) }
        }
        pid => rustix::process::Pid::from_raw(pid).filter(|_| pid > 0).expect("fork failed"),
    };
    let ended = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    assert_eq!(ended.unwrap().unwrap().1.exit_status(), Some(0));
    drop(bus.client("alice"));
    assert_eq!(mode(bus.path()), 0o600, "the child opened the socket");
}
