//! Ends of links whose other side is another process: killed, forked, replaced, unregistered, cut off.

use super::common::proc::others_sleep;
use super::common::role::{Role, Stage, say, setting};
use super::common::{Bus, Gate, LIMIT, begin, eventually};
use super::echo;
use ringpost::{CallError, Client, CloseReason, ConnectError, Link, Request, Response, ServiceError};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

// ---- the other process

fn register(name: &str) -> Client {
    Client::register(setting::<PathBuf>("PATH").unwrap(), name).unwrap()
}

/// Serves as bob.
pub fn serve(stage: &Stage) {
    let mut bob = register("bob");
    let answer = |request: Request<'_>, response: &mut Response<'_>| match request.payload() {
        b"hang" => {
            say("hangs");
            loop {
                std::thread::park();
            }
        }
        payload => response.write(payload),
    };
    let serving = bob.listen().unwrap().serve(answer).unwrap();
    say("serves");
    act(stage, || {
        bob.unregister().unwrap();
        serving.join();
    });
}

/// Listens as bob, and accepts nobody.
pub fn listen(stage: &Stage) {
    let mut bob = register("bob");
    let mut listener = bob.listen().unwrap();
    say("listens");
    let _incoming = listener.accept().unwrap();
    say("asked");
    act(stage, || drop(bob));
}

/// Calls bob as alice.
pub fn call(stage: &Stage) {
    let mut alice = register("alice");
    let mut link = alice.connect("bob").unwrap();
    let first = setting::<String>("CALL").unwrap();
    assert_eq!(link.call(first.as_str()).unwrap(), first.as_bytes());
    say("called");
    act(stage, || alice.unregister().unwrap());
    drop(link);
}

/// Does what it is told.
fn act(stage: &Stage, leave: impl FnOnce()) {
    match stage.order().as_str() {
        "leave" => {
            leave();
            say("left");
        }
        "fork" => fork(),
        "exec" => {
            let error = Command::new("sleep").arg("3600").exec();
            panic!("exec: {error}");
        }
        "cut" => {
            others_sleep();
            // SAFETY: it closes descriptors by number. Code that uses them afterwards is what is tested.
            unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
        }
        other => panic!("{other:?}"),
    }
    stage.order();
}

/// Leaves a child that holds all descriptors.
fn fork() {
    // SAFETY: the child only sleeps until it is killed.
    match unsafe { libc::fork() } {
        0 => loop {
            // SAFETY: it has no effect but to wait for a signal.
            unsafe { libc::pause() };
        },
        child => say(format_args!("child {child}")),
    }
}

// ---- this one

fn start(role: &str, bus: &Bus) -> Role {
    Role::start(role, &[("PATH", bus.path().to_str().unwrap()), ("CALL", "hello")])
}

/// Bob in another process, and a link to it.
fn served(bus: &Bus) -> (Role, Client, Link) {
    let mut bob = start("serves", bus);
    bob.hear("serves");
    let mut alice = bus.client("alice");
    let mut link = alice.connect("bob").unwrap();
    assert_eq!(link.peer().pid, bob.pid());
    assert_eq!(link.call(b"hello").unwrap(), b"hello");
    (bob, alice, link)
}

/// The child that a process left.
struct Child(Pid);

impl Child {
    fn of(parent: &mut Role) -> Child {
        parent.tell("fork");
        Child(Pid::from_raw(parent.hear("child").parse().unwrap()).unwrap())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

fn told(link: &Link) -> Option<CloseReason> {
    link.closer().reason()
}

fn is_told(link: &mut Link, reason: CloseReason) {
    let closer = link.closer();
    eventually("the end is told", || closer.reason().is_some());
    assert_eq!(told(link), Some(reason));
    assert_eq!(link.call(b"anybody?"), Err(CallError::NotSent(reason)));
}

#[test]
fn a_callee_that_is_killed_has_died() {
    let bus = Bus::start();
    let (mut bob, mut alice, mut idle) = served(&bus);
    let mut calling = alice.connect("bob").unwrap();
    let waiting = begin(move || calling.call(b"hang").map(|_| ()));
    bob.hear("hangs");
    bob.kill();
    assert_eq!(waiting.end("a call"), Err(CallError::Disconnected(CloseReason::Died)));
    is_told(&mut idle, CloseReason::Died);
    eventually("the server has noticed", || alice.look_up("bob").unwrap().is_none());
    assert!(matches!(alice.connect("bob"), Err(ConnectError::NotFound)));
}

/// A forked child of the callee has its pipes, so that their ends stay open.
#[test]
fn a_callee_that_is_killed_has_died_although_a_child_holds_its_pipes() {
    let bus = Bus::start();
    let (mut bob, _alice, mut link) = served(&bus);
    let child = Child::of(&mut bob);
    assert_eq!(link.call(b"still there").unwrap(), b"still there");
    bob.kill();
    is_told(&mut link, CloseReason::Died);
    drop(child);
}

#[test]
fn a_callee_that_becomes_another_program_has_died() {
    let bus = Bus::start();
    let (mut bob, _alice, mut link) = served(&bus);
    bob.tell("exec");
    is_told(&mut link, CloseReason::Died);
}

#[test]
fn a_callee_whose_process_closes_its_descriptors_has_died() {
    let bus = Bus::start();
    let (mut bob, _alice, mut link) = served(&bus);
    bob.tell("cut");
    let closer = link.closer();
    eventually("the end is told", || closer.reason().is_some());
    // Bob's own end may be told of first, and says that bob has closed it.
    let told = told(&link);
    assert!(matches!(told, Some(CloseReason::Died | CloseReason::Peer)), "{told:?}");
    assert!(link.call(b"anybody?").unwrap_err().is_disconnected());
}

#[test]
fn a_callee_that_unregisters_says_so() {
    let bus = Bus::start();
    let (mut bob, _alice, mut link) = served(&bus);
    bob.tell("leave");
    is_told(&mut link, CloseReason::Unregistered);
    bob.hear("left");
}

#[test]
fn a_callee_that_is_killed_before_it_accepts_is_gone() {
    let bus = Bus::start();
    let mut bob = start("listens", &bus);
    bob.hear("listens");
    let mut alice = bus.client("alice");
    let connecting = begin(move || alice.connect("bob").map(|_| ()));
    bob.hear("asked");
    bob.kill();
    let refused = connecting.end("connecting");
    assert!(matches!(refused, Err(ConnectError::Gone(CloseReason::Died))), "{refused:?}");
}

/// How bob's responder and its service's `left` hear of the caller's end.
fn caller_ends(order: &str, wanted: CloseReason) {
    let bus = Bus::start();
    let mut bob = bus.client("bob");
    let mut listener = bob.listen().unwrap();
    let serving = begin(move || {
        let mut responder = listener.accept().unwrap().accept().unwrap();
        let closer = responder.closer();
        let ended = responder.serve(echo);
        assert_eq!(responder.serve(echo), ended, "the same again");
        (ended, closer.reason())
    });
    let mut alice = start("calls bob", &bus);
    alice.hear("called");
    let child = match order {
        "fork and kill" => Some(Child::of(&mut alice)),
        _ => None,
    };
    match order {
        "kill" | "fork and kill" => alice.kill(),
        order => alice.tell(order),
    }
    assert_eq!(serving.end("the link's end"), (Ok(wanted), Some(wanted)), "{order}");
    drop(child);
}

#[test]
fn the_end_of_a_caller_is_told() {
    caller_ends("kill", CloseReason::Died);
    caller_ends("fork and kill", CloseReason::Died);
    caller_ends("exec", CloseReason::Died);
    caller_ends("leave", CloseReason::Unregistered);
}

#[test]
fn a_caller_that_is_killed_in_a_call_is_gone_when_it_is_answered() {
    let bus = Bus::start();
    let (mut bob, gate) = (bus.client("bob"), Gate::default());
    let bobs = gate.clone();
    let service = move |_: Request<'_>, _: &mut Response<'_>| -> Result<(), ServiceError> {
        bobs.pass();
        Ok(())
    };
    let serving = bob.listen().unwrap().serve(service).unwrap();
    let mut alice = start("calls bob", &bus);
    gate.wait_for(1);
    alice.kill();
    assert_eq!(serving.links().len(), 1, "its call is served");
    gate.open();
    eventually("the link is over", || serving.links().is_empty());
    serving.stop();
    serving.join();
}

/// Bob is busy; who gave up meanwhile is passed over.
#[test]
fn a_caller_that_is_killed_before_it_is_accepted_is_passed_over() {
    let bus = Bus::start();
    let mut bob = bus.client("bob");
    let mut listener = bob.listen().unwrap();
    let mut alice = start("calls bob", &bus);
    let waits = || {
        let list = ringpost::Observer::connect(bus.path()).unwrap().list().unwrap();
        list.iter().any(|client| client.name.as_str() == "bob" && client.links == 1)
    };
    eventually("alice is introduced", waits);
    alice.kill();
    eventually("bob has noticed that alice is gone", || !waits());
    let mut carol = bus.client("carol");
    let connecting = begin(move || carol.connect("bob").map(|_| ()));
    let incoming = listener.accept_timeout(LIMIT).unwrap();
    assert_eq!(incoming.peer().name, "carol");
    drop(incoming);
    let gone = connecting.end("connecting");
    assert!(matches!(gone, Err(ConnectError::Gone(CloseReason::Peer))), "{gone:?}");
    assert!(listener.accept_timeout(Duration::ZERO).is_err());
}

/// A service that ends its link may answer after the end.
#[test]
fn each_call_has_one_result_when_an_answer_comes_behind_the_end() {
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let [before, behind] = [(); 2].map(|()| Gate::default());
    let (mut listener, bobs) = (bob.listen().unwrap(), [before.clone(), behind.clone()]);
    let serving = begin(move || {
        let mut responder = listener.accept().unwrap().accept().unwrap();
        let closer = responder.closer();
        responder.serve(|request, response| {
            bobs[0].pass();
            closer.close();
            bobs[1].pass();
            response.write(request.payload())
        })
    });
    let mut link = alice.connect("bob").unwrap();
    link.submit_all([b"one", b"two", b"six"]).unwrap();
    before.open();
    behind.wait_for(1);
    let ended = CallError::Disconnected(CloseReason::Peer);
    assert_eq!(link.response().unwrap_err(), ended, "to the first");
    behind.open();
    assert_eq!(serving.end("the answer behind the end"), Ok(CloseReason::Local));
    assert_eq!(link.outstanding(), 2);
    assert_eq!(link.response().unwrap_err(), ended, "to the second");
    assert_eq!(link.try_response().unwrap_err(), ended, "to the third");
    assert_eq!(link.response().unwrap_err(), CallError::NothingOutstanding);
    assert_eq!(link.call(b"four").unwrap_err(), CallError::NotSent(CloseReason::Peer));
}
