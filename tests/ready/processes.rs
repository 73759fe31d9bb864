//! Forked children, and processes that close all their descriptors, while an end is armed.

use super::common::role::{Role, say, setting};
use super::common::{Bus, LIMIT, eventually};
use super::{Waiter, Way, arm, register};
use ringpost::{Client, CloseReason, Link, ReadinessError, Ready, RecvError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::time::Timespec;
use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// The role of a process whose forked child tries to arm what its parent has armed.
pub fn use_in_a_child() {
    let mut carol = register("carol");
    let mut listener = carol.listen().unwrap();
    let mut dave = register("dave");
    let mut link = Link::options().arms().connect(carol.caller(), "bob").unwrap();
    assert_eq!(link.call(b"x").unwrap(), b"x");
    let readinesses = [carol.readiness().unwrap(), listener.readiness().unwrap(), link.readiness().unwrap()];
    let mut waiters = readinesses.each_ref().map(|readiness| Waiter::new(Way::Level, readiness));
    arm(&mut carol, &mut waiters[0]);
    arm(&mut listener, &mut waiters[1]);
    arm(&mut link, &mut waiters[2]);
    let mut all = Some((carol, listener, link, readinesses));
    let child = fork(|| {
        let Some((mut carol, mut listener, mut link, readinesses)) = all.take() else { unreachable!() };
        for armed in [carol.arm(), carol.caller().arm(), carol.inbox().arm(), listener.arm(), link.arm()] {
            assert!(!armed.unwrap());
        }
        assert_eq!(carol.try_recv(), Err(RecvError::Disconnected(CloseReason::Forked)));
        let forked = |asked| matches!(asked, Err(ReadinessError::Disconnected(CloseReason::Forked)));
        assert!(forked(carol.readiness().map(drop)) && forked(link.readiness().map(drop)));
        carol.closer().close();
        link.closer().close();
        listener.closer().close();
        drop((carol, listener, link, readinesses));
    });
    let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
    let (mut carol, mut listener, mut link, _readinesses) = all.unwrap();
    assert!(waiters.iter_mut().all(|waiter| !waiter.is_readable()), "the child has touched something");
    // The parent's arms still hold.
    dave.send("carol", b"goes on").unwrap();
    waiters[0].wait();
    assert_eq!(carol.try_recv().unwrap().unwrap().payload(), b"goes on");
    link.submit(b"goes on").unwrap();
    let response = super::wait_for(&mut link, &mut waiters[2], |link| {
        link.try_response().unwrap().map(|reply| reply.to_vec())
    });
    assert_eq!(response, b"goes on");
    assert!(listener.try_accept().unwrap().is_none());
    say(format_args!("child {}", status.exit_status().unwrap_or(-1)));
}

#[test]
fn a_forked_child_touches_nothing() {
    let bus = Bus::start();
    let mut bob = bus.client("bob");
    let serving = bob.listen().unwrap().serve(super::echo).unwrap();
    let mut carol = Role::start("forks", &[("PATH", bus.path().to_str().unwrap())]);
    assert_eq!(carol.hear("child"), "0");
    serving.stop();
}

/// The role of a process that becomes a daemon while it is armed, and then opens pipes of its own, which get
/// the numbers.
pub fn close_all_descriptors() {
    let mut carol = Client::register(setting::<std::path::PathBuf>("PATH").unwrap(), "carol").unwrap();
    let mut link = Link::options().arms().connect(carol.caller(), "bob").unwrap();
    assert_eq!(link.call(b"x").unwrap(), b"x");
    let readinesses = [carol.readiness().unwrap(), link.readiness().unwrap()];
    while !carol.arm().unwrap() {}
    while !link.arm().unwrap() {}
    let (client_closer, link_closer) = (carol.closer(), link.closer());
    // SAFETY: it closes descriptors by number. Code that uses them afterwards is what is tested.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let pipes: Vec<_> = (0..100).map(|_| std::io::pipe().unwrap()).collect();
    eventually("the end is noticed", || {
        let _ = (carol.arm(), link.arm());
        client_closer.reason() == Some(CloseReason::CutOff)
            && link_closer.reason() == Some(CloseReason::CutOff)
    });
    assert!(!carol.arm().unwrap(), "a look tells the end");
    assert_eq!(carol.try_recv(), Err(RecvError::Disconnected(CloseReason::CutOff)));
    assert!(matches!(link.arm(), Err(ReadinessError::Disconnected(CloseReason::CutOff))));
    drop((carol, link, readinesses, client_closer, link_closer));
    for (reader, _writer) in &pipes {
        let mut fd = [PollFd::new(reader, PollFlags::IN)];
        let ready = poll(&mut fd, Some(&Timespec::default())).unwrap();
        assert_eq!(ready, 0, "a pipe of the program was written, or its writing end closed");
    }
    say("harmed nobody");
}

#[test]
fn a_process_that_closes_its_descriptors_harms_nobody() {
    let bus = Bus::start();
    let mut bob = bus.client("bob");
    let serving = bob.listen().unwrap().serve(super::echo).unwrap();
    let mut carol = Role::start("cut off", &[("PATH", bus.path().to_str().unwrap())]);
    carol.hear_within("harmed nobody", LIMIT);
    serving.stop();
}
