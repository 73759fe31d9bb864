//! Tests of clients and servers whose process forks or executes another program.
//!
//! A forked child has copies of everything its parent had. It must not be able to use or end any of it, and
//! the parent must not notice its attempts. The parent's death must be noticed even if the child lives on.

#![allow(unsafe_code, reason = "there is no safe fork")]

mod common;

use common::proc::{is_asleep, worker_is_gone};
use common::role::{self, Role, Stage, say, setting};
use common::{Bus, Gate, LIMIT, Place, begin, eventually, within_limit};
use ringpost::{
    CallError, Caller, Client, CloseReason, Inbox, Reconnect, ReconnectError, RecvError, RegisterError,
    Request, Response, SendError, Server,
};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::fmt::Debug;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "whole" => fork_whole(&stage),
        "split" => fork_split(&stage),
        "pipelined" => fork_pipelined(),
        "midway" => fork_midway(),
        "waiting" => fork_while_waiting(&stage),
        "crowd" => fork_in_a_crowd(),
        "family" => fork_family(&stage),
        "survived" => leave_a_child(&stage),
        "server" => fork_server(&stage),
        "replaced" => replace(&stage),
        "replacement" => show_descriptors(&stage),
        other => panic!("no role {other:?}"),
    }
}

// ---- forking

const FORKED: CloseReason = CloseReason::Forked;

/// Runs `child` in a forked process, which exits with status 0 if `child` returns.
fn fork(child: impl FnOnce()) -> Pid {
    // SAFETY: the child continues with only the forking thread. The C library keeps its allocator usable;
    // what else the child uses is what this test checks. The child never returns from here.
    match unsafe { libc::fork() } {
        0 => {
            let through = catch_unwind(AssertUnwindSafe(child)).is_ok();
            std::process::exit(i32::from(!through));
        }
        pid => Pid::from_raw(pid).filter(|_| pid > 0).expect("fork failed"),
    }
}

/// Waits for a child, which must exit with status 0.
fn reap(child: Pid) {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some((_, status)) = waitpid(Some(child), WaitOptions::NOHANG).unwrap() {
            return assert_eq!(status.exit_status(), Some(0), "the child failed: {status:?}");
        }
        assert!(Instant::now() < deadline, "the child hangs");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn socket() -> PathBuf {
    setting("PATH").expect("a socket")
}

fn register(name: &str) -> Client {
    Client::register(socket(), name).unwrap()
}

fn start(role: &str, bus: &Bus) -> Role {
    start_at(role, &bus.place)
}

fn start_at(role: &str, place: &Place) -> Role {
    Role::start(role, &[("PATH", place.path.to_str().unwrap())])
}

// ---- what a child can try

fn not_sent<T: Debug>(result: Result<T, CallError>) {
    assert_eq!(result.map(|_| ()).unwrap_err(), CallError::NotSent(FORKED));
}

/// Tries every operation that asks the server. None may block.
fn try_asking(caller: &mut Caller) {
    let soon = Duration::from_secs(3600);
    let large = vec![1; caller.limits().max_call];
    not_sent(caller.call(b"child"));
    not_sent(caller.call(&large));
    not_sent(caller.call_timeout(b"child", soon));
    not_sent(caller.call_timeout(b"child", Instant::now() + soon));
    not_sent(caller.submit(b"child"));
    not_sent(caller.try_submit(b"child"));
    not_sent(caller.submit_all([&b"child"[..], b"child"]));
    not_sent(caller.look_up("alice"));
    not_sent(caller.list());
    not_sent(caller.wait_for("alice", soon));
    not_sent(caller.ping());
    not_sent(caller.statistics());
    let own = caller.key();
    assert_eq!(caller.try_send(own, b"child"), Err(SendError::NotSent(FORKED)));
    assert_eq!(caller.send(own, b"child"), Err(SendError::NotSent(FORKED)));
    assert_eq!(caller.send("alice", b"child"), Err(SendError::NotSent(FORKED)));
    assert_eq!(caller.send_timeout(own, b"child", soon), Err(SendError::NotSent(FORKED)));
    assert_eq!(caller.send_timeout(own, b"child", Instant::now() + soon), Err(SendError::NotSent(FORKED)));
}

fn try_receiving(inbox: &mut Inbox) {
    for _ in 0..3 {
        assert_eq!(inbox.try_recv(), Err(RecvError::Disconnected(FORKED)));
        assert_eq!(inbox.recv(), Err(RecvError::Disconnected(FORKED)));
        let timed = inbox.recv_timeout(Duration::from_secs(3600));
        assert_eq!(timed, Err(RecvError::Disconnected(FORKED)));
    }
}

/// Checks that the parent's client still works.
fn goes_on(client: &mut Client) {
    client.caller().ping().unwrap();
    for n in 0..1000_u32 {
        assert_eq!(client.call_timeout(&n.to_le_bytes(), LIMIT).unwrap(), n.to_le_bytes());
    }
    let own = client.key();
    client.send_timeout(own, b"to myself", LIMIT).unwrap();
    assert_eq!(client.recv_timeout(LIMIT).unwrap().payload(), b"to myself");
    assert_eq!(client.look_up(*client.name()).unwrap(), Some(own));
}

// ---- a client as it is, with messages in its inbox

#[test]
fn a_child_cannot_use_its_parent_s_client() {
    let bus = Bus::start();
    let mut parent = start("whole", &bus);
    let mut bob = bus.client("bob");
    let key: ringpost::Key = parent.hear("key").parse().unwrap();
    // A message that the child must not take, and then more than a full ring of them.
    bob.send(key, b"before the fork").unwrap();
    parent.tell("fork");
    parent.hear("tried");
    eventually("only the children are gone", || bus.server.clients().unwrap().len() == 2);
    bob.send(key, b"after the fork").unwrap();
    parent.tell("receive");
    parent.hear("received");
    parent.tell("leave");
    parent.hear("left");
    assert_eq!(bob.look_up("alice"), Ok(None));
    assert!(parent.end().success());
}

fn fork_whole(stage: &Stage) {
    let mut client = register("alice");
    let handle = client.closer();
    say(format_args!("key {}", client.key()));
    stage.await_order("fork");
    // Each child tries every operation, and then one way of dropping the client.
    for way in 0..4 {
        reap(fork(|| {
            assert_eq!(handle.reason(), Some(FORKED));
            handle.close();
            assert!(CloseReason::Forked.to_string().contains("register one of its own"));
            assert_eq!(client.caller().outstanding(), 0);
            let copy = std::mem::replace(&mut client, register(&format!("child {way}")));
            let _own = client.call(b"its own").unwrap();
            match way {
                0 => drop(copy),
                1 => not_sent(copy.unregister()),
                2 => not_sent(copy.unregister()),
                _ => {
                    let (mut caller, mut inbox) = copy.split();
                    try_asking(&mut caller);
                    try_receiving(&mut inbox);
                    drop(inbox);
                    caller.closer().close();
                    not_sent(caller.unregister());
                }
            }
        }));
        goes_on_but_for_messages(&mut client);
    }
    say("tried");
    stage.await_order("receive");
    assert_eq!(client.recv_timeout(LIMIT).unwrap().payload(), b"before the fork");
    assert_eq!(client.recv_timeout(LIMIT).unwrap().payload(), b"after the fork");
    goes_on(&mut client);
    say("received");
    stage.await_order("leave");
    client.unregister().unwrap();
    say("left");
}

fn goes_on_but_for_messages(client: &mut Client) {
    client.caller().ping().unwrap();
    for n in 0..5000_u32 {
        assert_eq!(client.call_timeout(&n.to_le_bytes(), LIMIT).unwrap(), n.to_le_bytes());
    }
}

// ---- halves on two threads

#[test]
fn a_child_cannot_use_its_parent_s_halves() {
    let bus = Bus::start();
    let mut parent = start("split", &bus);
    let mut bob = bus.client("bob");
    let key: ringpost::Key = parent.hear("key").parse().unwrap();
    bob.send(key, b"before the fork").unwrap();
    parent.tell("fork");
    parent.hear("tried");
    parent.tell("go on");
    parent.hear("received");
    assert!(parent.end().success());
}

fn fork_split(stage: &Stage) {
    // A reconnecting client also belongs to the parent only.
    let client = Client::builder(socket()).reconnect(Reconnect::default()).register("alice").unwrap();
    let (mut caller, mut inbox) = client.split();
    say(format_args!("key {}", caller.key()));
    stage.await_order("fork");
    for _ in 0..3 {
        reap(fork(|| {
            try_receiving(&mut inbox);
            try_asking(&mut caller);
            assert!(matches!(caller.reconnect(None), Err(ReconnectError::Ended(FORKED))));
            caller.closer().close();
            assert_eq!(caller.closer().reason(), Some(FORKED));
            // Dropping the copy must not close the parent's inbox.
            inbox = register("child").split().1;
        }));
        caller.ping().unwrap();
    }
    say("tried");
    stage.await_order("go on");
    assert_eq!(inbox.recv_timeout(LIMIT).unwrap().payload(), b"before the fork");
    let own = caller.key();
    let receiver = begin(move || inbox.recv_timeout(LIMIT).map(|message| message.into_payload()));
    caller.send(own, b"to myself").unwrap();
    assert_eq!(receiver.end("the inbox"), Ok(b"to myself".to_vec()));
    caller.unregister().unwrap();
    say("received");
}

// ---- with calls outstanding

#[test]
fn a_child_does_not_get_its_parent_s_responses() {
    let bus = Bus::start();
    let mut parent = start("pipelined", &bus);
    parent.hear("done");
    assert!(parent.end().success());
}

fn fork_pipelined() {
    let mut client = register("alice");
    for round in 0..20_u32 {
        for n in 0..100_u32 {
            client.caller().submit(&(round * 100 + n).to_le_bytes()).unwrap();
        }
        // This also takes the earlier responses into the client's queue.
        client.caller().ping().unwrap();
        client.caller().submit(b"one more").unwrap();
        reap(fork(|| {
            for _ in 0..3 {
                assert_eq!(client.caller().outstanding(), 101);
                assert_eq!(client.caller().response(), Err(CallError::Disconnected(FORKED)));
            }
            not_sent(client.call(b"child"));
        }));
        for n in 0..100_u32 {
            assert_eq!(client.caller().response_timeout(LIMIT).unwrap(), (round * 100 + n).to_le_bytes());
        }
        assert_eq!(client.caller().response_timeout(LIMIT).unwrap(), b"one more");
    }
    // Only the responses that had not arrived are still outstanding.
    client.caller().submit(b"a last one").unwrap();
    reap(fork(|| assert_eq!(client.caller().response(), Err(CallError::Disconnected(FORKED)))));
    assert_eq!(client.caller().response_timeout(LIMIT).unwrap(), b"a last one");
    client.unregister().unwrap();
    say("done");
}

// ---- in the middle of an operation

/// The child continues the operation after the parent has committed more requests that nobody has taken yet.
/// If it wrote anything, it would overwrite the parent's requests.
#[test]
fn a_fork_in_the_middle_of_an_operation_leaves_the_ring_to_the_parent() {
    let gate = Gate::default();
    let held = gate.clone();
    let bus = Bus::with(|builder| {
        builder.service(move |request: Request<'_>, response: &mut Response<'_>| {
            held.pass();
            response.write(request.payload())
        })
    });
    let mut parent = start("midway", &bus);
    parent.hear("the child is through");
    gate.open();
    parent.hear("done");
    assert!(parent.end().success());
}

/// Forks in the iterator, so that the child is inside `submit_all`. It waits there until the parent has
/// submitted everything.
fn fork_midway() {
    let mut client = register("alice");
    let requests: Vec<[u8; 4]> = (0..50_u32).map(u32::to_le_bytes).collect();
    let (mut submitted_all, signal) = std::io::pipe().unwrap();
    let mut signal = Some(signal);
    let mut child = None;
    let mut in_child = false;
    let submitted = client.caller().submit_all(requests.iter().enumerate().map(|(n, request)| {
        if n == 25 {
            // SAFETY: as in `fork`; the child exits below.
            let pid = unsafe { libc::fork() };
            in_child = pid == 0;
            child = Pid::from_raw(pid);
            if in_child {
                drop(signal.take());
                submitted_all.read_to_end(&mut Vec::new()).unwrap();
            }
        }
        &request[..]
    }));
    if in_child {
        let right = submitted == Err(CallError::NotSent(FORKED));
        std::process::exit(i32::from(!right));
    }
    submitted.unwrap();
    drop(signal);
    reap(child.unwrap());
    say("the child is through");
    for request in requests {
        assert_eq!(client.caller().response_timeout(LIMIT).unwrap(), request);
    }
    goes_on(&mut client);
    client.unregister().unwrap();
    say("done");
}

// ---- while another thread waits

#[test]
fn a_parent_that_waits_is_not_woken_by_its_child() {
    let bus = Bus::start();
    let mut parent = start("waiting", &bus);
    let mut bob = bus.client("bob");
    let key: ringpost::Key = parent.hear("key").parse().unwrap();
    eventually("the parent sleeps", || is_asleep(parent.pid()));
    parent.tell("fork");
    parent.hear("tried");
    bob.send(key, b"at last").unwrap();
    parent.hear("received at last");
    assert!(parent.end().success());
}

fn fork_while_waiting(stage: &Stage) {
    let (mut caller, mut inbox) = register("alice").split();
    let handle = caller.closer();
    let receiver = begin(move || inbox.recv().map(|message| message.into_payload()));
    say(format_args!("key {}", caller.key()));
    stage.await_order("fork");
    for _ in 0..10 {
        reap(fork(|| {
            try_asking(&mut caller);
            handle.close();
        }));
    }
    assert!(!receiver.is_over(), "it was woken");
    say("tried");
    let received = receiver.end("the inbox").unwrap();
    say(format_args!("received {}", String::from_utf8(received).unwrap()));
    caller.unregister().unwrap();
}

// ---- a client of the child's own

/// Other threads keep registering and unregistering, so that some hold the watcher's locks at a fork.
#[test]
fn a_child_of_a_busy_process_registers() {
    let bus = Bus::start();
    let mut parent = start("crowd", &bus);
    parent.hear("done");
    assert!(parent.end().success());
    eventually("everybody has left", || bus.server.clients().unwrap().is_empty());
}

fn fork_in_a_crowd() {
    let enough = AtomicBool::new(false);
    let mut client = Some(register("alice"));
    std::thread::scope(|scope| {
        for n in 0..3 {
            let enough = &enough;
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    // The drop of the one before waits for the server for a second at most.
                    match Client::register(socket(), format!("other {n}")) {
                        Ok(client) => drop(client),
                        Err(RegisterError::NameTaken { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
        for round in 0..60 {
            let child = fork(|| {
                let mut own = register(&format!("child {round}"));
                let mut inherited = client.take().unwrap();
                not_sent(inherited.call(b"child"));
                assert_eq!(own.call_timeout(b"own", LIMIT).unwrap(), b"own");
                drop(inherited);
                own.unregister().unwrap();
            });
            reap(child);
        }
        enough.store(true, Ordering::Relaxed);
        goes_on(client.as_mut().unwrap());
    });
    client.unwrap().unregister().unwrap();
    say("done");
}

/// A client that the child registers works fully, but not in a child of that child. The server is killed:
/// then nobody closes the channels, and only the watcher can end the waits.
#[test]
fn a_child_s_own_client_is_a_whole_one() {
    let place = Place::new();
    let mut server = start_at("server", &place);
    server.hear("ready");
    let mut parent = start_at("family", &place);
    let mut bob = Client::register(&place.path, "bob").unwrap();
    let parent_key: ringpost::Key = parent.hear("key").parse().unwrap();
    let child_key = parent.hear("child").parse().unwrap();
    assert_ne!(parent_key, child_key);
    parent.hear("grandchild failed as it should");
    bob.send(child_key, b"to the child").unwrap();
    parent.hear("child heard to the child");
    bob.send(parent_key, b"to the parent").unwrap();
    parent.tell("receive");
    parent.hear("parent heard to the parent");
    server.kill();
    let mut ends = [parent.hear(""), parent.hear("")];
    ends.sort();
    assert_eq!(ends, ["child ends: the other process is gone", "parent ends: the other process is gone"]);
    assert!(parent.end().success());
}

fn fork_family(stage: &Stage) {
    let mut client = register("parent");
    say(format_args!("key {}", client.key()));
    let child = fork(|| {
        let client = &mut client;
        let mut own = register("child");
        say(format_args!("child {}", own.key()));
        reap(fork(|| {
            not_sent(own.call(b"grandchild"));
            not_sent(client.call(b"grandchild"));
        }));
        say("grandchild failed as it should");
        let heard = own.recv_timeout(LIMIT).unwrap();
        say(format_args!("child heard {}", String::from_utf8_lossy(heard.payload())));
        say(format_args!("child ends: {}", end_of(own)));
    });
    stage.await_order("receive");
    let heard = client.recv_timeout(LIMIT).unwrap();
    say(format_args!("parent heard {}", String::from_utf8_lossy(heard.payload())));
    say(format_args!("parent ends: {}", end_of(client)));
    reap(child);
}

/// Waits for messages without a deadline, on a thread, so that the test fails instead of hanging.
fn end_of(mut client: Client) -> CloseReason {
    match within_limit("a wait for the end", move || client.recv()) {
        Err(RecvError::Disconnected(reason)) => reason,
        other => panic!("no end: {other:?}"),
    }
}

// ---- a child that outlives its parent

#[test]
fn the_death_of_a_parent_is_seen_though_its_child_lives() {
    let bus = Bus::start();
    for state in ["idle", "receiving", "calling"] {
        let mut parent = start("survived", &bus);
        let key = parent.hear("key").parse::<ringpost::Key>().unwrap();
        parent.hear("child is there");
        parent.tell(state);
        parent.hear(state);
        parent.kill();
        eventually("its name is free and its worker gone", || {
            worker_is_gone("alice") && bus.server.clients().unwrap().iter().all(|client| client.key != key)
        });
        let again = bus.client("alice");
        // The child now reads its parent's standard input.
        parent.tell("are you there?");
        parent.hear("child lives");
        again.unregister().unwrap();
    }
}

/// A parent that ends its client itself is unregistered, in whichever way it does so.
#[test]
fn a_child_does_not_keep_its_parent_registered() {
    let bus = Bus::start();
    for way in ["unregister", "drop", "close", "exit"] {
        let mut parent = start("survived", &bus);
        parent.hear("key");
        parent.hear("child is there");
        parent.tell(way);
        if way == "exit" {
            // Its standard output does not end, because its child has it too.
            eventually("its name is free", || bus.server.clients().unwrap().is_empty());
        } else {
            parent.hear("left");
            eventually("its name is free", || bus.server.clients().unwrap().is_empty());
        }
        bus.client("alice").unregister().unwrap();
    }
}

fn leave_a_child(stage: &Stage) {
    let mut client = register("alice");
    let parent = rustix::process::getpid();
    say(format_args!("key {}", client.key()));
    // SAFETY: as in `fork`.
    if unsafe { libc::fork() } == 0 {
        // Keeps copies of everything until standard input ends. While the parent lives, the parent reads it.
        eventually("its parent is gone", || rustix::process::getppid() != Some(parent));
        let mut line = [0; 64];
        while rustix::io::read(std::io::stdin(), &mut line).is_ok_and(|read| read > 0) {
            not_sent(client.call(b"child"));
            say("child lives");
        }
        std::process::exit(0);
    }
    say("child is there");
    match stage.order().as_str() {
        "idle" => {
            say("idle");
            std::thread::park();
        }
        "receiving" => {
            say("receiving");
            let _ = client.recv();
        }
        "calling" => {
            say("calling");
            while client.call(b"x").is_ok() {}
        }
        "unregister" => client.unregister().unwrap(),
        "drop" => drop(client),
        "close" => client.closer().close(),
        "exit" => std::process::exit(0),
        order => panic!("no order {order:?}"),
    }
    say("left");
    stage.await_order("never");
}

// ---- a server

#[test]
fn a_server_is_not_ended_by_its_forked_child() {
    let place = Place::new();
    let mut parent = start_at("server", &place);
    parent.hear("ready");
    let mut client = Client::register(&place.path, "alice").unwrap();
    for way in ["drop", "shutdown", "join", "own"] {
        parent.tell(way);
        parent.hear("tried");
        assert!(place.path.exists(), "{way} removed the socket");
        client.caller().ping().unwrap();
        Client::register(&place.path, "bob").unwrap().unregister().unwrap();
    }
    parent.tell("end");
    parent.hear("ended");
    assert_eq!(client.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
    assert!(parent.end().success());
    assert!(place.is_clean());
}

fn fork_server(stage: &Stage) {
    let server = Server::builder(socket()).start().unwrap();
    let mut server = Some(server);
    say("ready");
    loop {
        let order = stage.order();
        if order == "end" {
            server.take().unwrap().join_after_shutdown();
            return say("ended");
        }
        reap(fork(|| {
            let inherited = server.take().unwrap();
            let stopper = inherited.stopper();
            match order.as_str() {
                "drop" => drop(inherited),
                "shutdown" => {
                    inherited.shutdown();
                    stopper.shutdown();
                    inherited.clients().unwrap();
                }
                "join" => assert_eq!(inherited.join().registered, 0),
                "own" => {
                    // The child starts its own server elsewhere, and drops the parent's while that runs.
                    let path = socket().with_extension("child");
                    let own = Server::builder(&path).start().unwrap();
                    let mut client = Client::register(&path, "child").unwrap();
                    drop(inherited);
                    assert_eq!(client.call_timeout(b"x", LIMIT).unwrap(), b"x");
                    client.unregister().unwrap();
                    assert_eq!(own.join_after_shutdown().registered, 1);
                }
                order => panic!("no order {order:?}"),
            }
        }));
        say("tried");
    }
}

// ---- exec

/// The process lives on with the same process id, but its client counts as dead.
#[test]
fn executing_another_program_ends_the_registration() {
    let bus = Bus::start();
    let mut process = start("replaced", &bus);
    let mut bob = bus.client("bob");
    let key: ringpost::Key = process.hear("key").parse().unwrap();
    let before = process.hear("pid");
    bob.send(key, b"never to be read").unwrap();
    process.tell("execute");
    assert_eq!(process.hear("pid"), before, "it is the same process");
    let open = process.hear("open");
    assert!(!open.contains("ringpost") && !open.contains("socket") && !open.contains("eventpoll"), "{open}");
    eventually("its name is free", || bob.look_up("alice").unwrap().is_none());
    assert_eq!(bob.send(key, b"too late"), Err(SendError::NotFound));
    let path = bus.path().to_owned();
    within_limit("registering again", move || match Client::register(path, "alice") {
        Ok(client) => client.unregister().unwrap(),
        Err(RegisterError::NameTaken { .. }) => panic!("the name is still taken"),
        Err(error) => panic!("{error}"),
    });
    process.tell("end");
    assert!(process.end().success());
}

fn replace(stage: &Stage) {
    let client = register("alice");
    say(format_args!("key {}", client.key()));
    say(format_args!("pid {}", std::process::id()));
    stage.await_order("execute");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role", "--nocapture", "--test-threads=1"]);
    let error = command.env("RINGPOST_TEST_ROLE", "replacement").exec();
    panic!("it was not executed: {error}");
}

fn show_descriptors(stage: &Stage) {
    say(format_args!("pid {}", std::process::id()));
    // The first three are those of whoever runs the tests, and may be sockets.
    let is_own = |fd: &std::fs::DirEntry| {
        fd.file_name().to_str().and_then(|number| number.parse().ok()).is_some_and(|number: u32| number > 2)
    };
    let open: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter(is_own)
        .filter_map(|fd| Some(std::fs::read_link(fd.path()).ok()?.display().to_string()))
        .collect();
    say(format_args!("open {}", open.join(" ")));
    stage.await_order("end");
}
