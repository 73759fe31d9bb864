//! Links of a process that forks or executes another program: they are the parent's, and end with it.

use super::common::role::{Role, Stage, say, setting};
use super::common::{begin, eventually};
use super::{Pair, echo};
use ringpost::{CallError, Client, CloseReason, ConnectError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;

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

fn register(name: &str) -> Client {
    Client::register(setting::<PathBuf>("PATH").unwrap(), name).unwrap()
}

const FORKED: CloseReason = CloseReason::Forked;

/// The role of a caller whose forked child tries to use the link, and drops it.
pub fn use_in_a_child(_stage: &Stage) {
    let mut carol = register("carol");
    let mut link = carol.connect("bob").unwrap();
    link.submit(b"the parent's").unwrap();
    link.submit(b"the parent's, too").unwrap();
    assert_eq!(link.response().unwrap(), b"the parent's");
    // What the child takes is still there in the parent.
    let (mut both, mut owned) = (Some(link), Some(carol));
    let child = fork(|| {
        let (Some(mut link), Some(mut carol)) = (both.take(), owned.take()) else { unreachable!() };
        assert_eq!(link.call(b"x"), Err(CallError::NotSent(FORKED)));
        assert_eq!(link.post(b"x"), Err(CallError::NotSent(FORKED)));
        assert_eq!(link.submit(b"x"), Err(CallError::NotSent(FORKED)));
        assert_eq!(link.response(), Err(CallError::Disconnected(FORKED)));
        assert_eq!(link.closer().reason(), Some(FORKED));
        assert!(matches!(carol.connect("bob"), Err(ConnectError::ServerGone(FORKED))));
        link.closer().close();
        drop(link);
        drop(carol);
        // A client of its own is as good as any.
        let mut dave = register("dave");
        assert_eq!(dave.connect("bob").unwrap().call(b"the child's").unwrap(), b"the child's");
    });
    let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
    let mut link = both.unwrap();
    assert_eq!(link.response().unwrap(), b"the parent's, too");
    assert_eq!(link.call(b"goes on").unwrap(), b"goes on");
    say(format_args!("child {}", status.exit_status().unwrap_or(-1)));
}

/// The role of a caller that has a child when it is killed.
pub fn leave_a_child(stage: &Stage) {
    let mut carol = register("carol");
    let mut link = carol.connect("bob").unwrap();
    assert_eq!(link.call(b"x").unwrap(), b"x");
    let child = fork(|| {
        // It holds copies of all descriptors. It ends with the test, and reads nothing: the orders are its
        // parent's.
        let _ = poll(&mut [PollFd::new(&std::io::stdin(), PollFlags::empty())], None);
    });
    say(format_args!("child {}", child.as_raw_nonzero()));
    stage.await_order("go on");
    assert_eq!(link.call(b"goes on").unwrap(), b"goes on");
    say("called");
    stage.await_order("never");
}

/// The role of a caller that becomes another program, which ends with its input.
pub fn become_another(stage: &Stage) {
    let mut carol = register("carol");
    let mut link = carol.connect("bob").unwrap();
    assert_eq!(link.call(b"x").unwrap(), b"x");
    say("called");
    stage.await_order("execute");
    let error = Command::new("sleep").arg("600").exec();
    panic!("it was not executed: {error}");
}

fn role(pair: &Pair, name: &str) -> Role {
    Role::start(name, &[("PATH", pair.bus.path().to_str().unwrap())])
}

#[test]
fn a_forked_child_cannot_use_a_link() {
    let pair = Pair::new(echo);
    let mut carol = role(&pair, "forks");
    assert_eq!(carol.hear("child"), "0");
}

/// Its pipe is not closed by that, because the child has a copy; the process is gone.
#[test]
fn a_caller_that_dies_is_noticed_although_its_child_lives() {
    let pair = Pair::new(echo);
    let mut carol = role(&pair, "leaves");
    let child = carol.hear("child");
    carol.tell("go on");
    carol.hear("called");
    assert_eq!(pair.serving.links().len(), 1);
    carol.kill();
    eventually("bob notices the death", || pair.serving.links().is_empty());
    let child = Pid::from_raw(child.parse().unwrap()).unwrap();
    assert!(rustix::process::test_kill_process(child).is_ok(), "the child lives");
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
}

/// Its process lives on, but it is another program, which has not the descriptors.
#[test]
fn a_caller_that_executes_another_program_is_noticed() {
    let mut pair = Pair::new(echo);
    let mut carol = role(&pair, "executes");
    carol.hear("called");
    assert_eq!(pair.serving.links().len(), 1);
    carol.tell("execute");
    eventually("bob notices the end", || pair.serving.links().is_empty());
    let pid = Pid::from_raw(carol.pid().cast_signed()).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_ok(), "the process lives");
    eventually("the server notices it, too", || pair.links_of("bob") == 0);
}

/// A callee in another process that is killed in the middle of a call.
#[test]
fn a_callee_that_dies_is_noticed() {
    let bus = super::common::Bus::start();
    let mut alice = bus.client("alice");
    let settings = [("PATH", bus.path().to_str().unwrap())];
    let mut bob = Role::start("calls", &settings);
    bob.tell("serve");
    bob.hear("serving");
    let mut link = alice.connect("bob").unwrap();
    assert_eq!(link.peer().pid, bob.pid());
    assert_eq!(link.call(b"x").unwrap(), b"x");
    let waiting = begin(move || (link.call(b"sleep").map(|_| ()), link));
    bob.hear("asleep");
    bob.kill();
    let (told, mut link) = waiting.end("the callee's death");
    assert_eq!(told, Err(CallError::Disconnected(CloseReason::Died)));
    assert_eq!(link.call(b"x"), Err(CallError::NotSent(CloseReason::Died)));
}
