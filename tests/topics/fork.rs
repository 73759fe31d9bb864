//! Topics of a process that forks: they are the parent's.

use super::common::Bus;
use super::common::role::{Role, Stage, say};
use super::{next, number, register, send_number};
use ringpost::{CloseReason, PublishError, SampleError};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `child` in a forked process, and returns its status: 0 if `child` returns.
fn fork(child: impl FnOnce()) -> Option<i32> {
    // SAFETY: the child continues with only the forking thread. The C library keeps its allocator usable;
    // what else the child uses is what this test checks. The child never returns from here.
    let pid = match unsafe { libc::fork() } {
        0 => {
            let through = catch_unwind(AssertUnwindSafe(child)).is_ok();
            std::process::exit(i32::from(!through));
        }
        pid => Pid::from_raw(pid).filter(|_| pid > 0).expect("fork failed"),
    };
    waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1.exit_status()
}

const FORKED: CloseReason = CloseReason::Forked;

pub fn fork_while_publishing(_stage: &Stage) {
    let mut alice = register("alice");
    let mut sub = alice.subscribe("numbers").unwrap();
    let mut both = (Some(alice.publish("numbers").unwrap()), Some(alice));
    if let Some(numbers) = &mut both.0 {
        send_number(numbers, 1);
    }
    let status = fork(|| {
        let (Some(mut numbers), Some(mut alice)) = (both.0.take(), both.1.take()) else { unreachable!() };
        let forked = |error| matches!(error, PublishError::Disconnected(FORKED));
        assert!(forked(numbers.send(b"x").unwrap_err()));
        assert!(forked(numbers.try_send(b"x").unwrap_err()));
        assert!(forked(numbers.grant(9).map(|_| ()).unwrap_err()));
        assert!(forked(alice.publish("more").map(|_| ()).unwrap_err()));
        assert_eq!((numbers.subscribers(), numbers.closer().reason()), (0, Some(FORKED)));
        numbers.closer().close();
        drop(numbers);
        drop(alice);
        // A client of its own is as good as any.
        let mut carol = register("carol");
        let mut own = carol.subscribe("own").unwrap();
        let mut publisher = carol.publish("own").unwrap();
        send_number(&mut publisher, 9);
        assert_eq!(number(&next(&mut own)), 9);
    });
    let mut numbers = both.0.unwrap();
    send_number(&mut numbers, 2);
    assert_eq!((number(&next(&mut sub)), number(&next(&mut sub))), (1, 2));
    say(format_args!("child {}", status.unwrap_or(-1)));
}

pub fn fork_while_subscribing(_stage: &Stage) {
    let mut alice = register("alice");
    let mut numbers = alice.publish("numbers").unwrap();
    let mut both = (Some(alice.subscribe("numbers").unwrap()), Some(alice));
    send_number(&mut numbers, 1);
    send_number(&mut numbers, 2);
    if let Some(sub) = &mut both.0 {
        assert_eq!(number(&next(sub)), 1);
    }
    let status = fork(|| {
        let (Some(mut sub), Some(mut alice)) = (both.0.take(), both.1.take()) else { unreachable!() };
        let forked = SampleError::Disconnected(FORKED);
        assert_eq!(sub.recv().unwrap_err(), forked);
        assert_eq!(sub.try_recv().unwrap_err(), forked);
        assert_eq!(sub.recv_ref().map(|_| ()).unwrap_err(), forked);
        let _ = (sub.publishers(), sub.lag());
        assert!(alice.subscribe("more").is_err());
        sub.closer().close();
        drop(sub);
        drop(alice);
    });
    // What the child tried to take is still there, and later samples come.
    let mut sub = both.0.unwrap();
    assert_eq!(number(&next(&mut sub)), 2);
    send_number(&mut numbers, 3);
    assert_eq!(number(&next(&mut sub)), 3);
    say(format_args!("child {}", status.unwrap_or(-1)));
}

#[test]
fn a_forked_child_cannot_use_what_its_parent_has() {
    for role in ["forks while publishing", "forks while subscribing"] {
        let bus = Bus::start();
        let mut alice = Role::start(role, &[("PATH", bus.path().to_str().unwrap())]);
        assert_eq!(alice.hear("child"), "0", "{role}");
    }
}
