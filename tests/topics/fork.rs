//! Topics of a process that forks: they are the parent's.

use super::common::role::{Role, Stage, say};
use super::common::{Bus, LIMIT};
use super::{next, number, register, send_number};
use ringpost::{CloseReason, Policy, PublishError, Publisher, SampleError, Subscriber};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::io::Write;
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
    // A grant, which the child gives back and publishes, each in a process of its own.
    let held = both.0.as_mut().map(|numbers| {
        let mut grant = numbers.grant(40).unwrap();
        grant.as_mut_ptr();
        grant.write_all(&2_u64.to_ne_bytes()).unwrap();
        Some(grant)
    });
    let mut held = held.unwrap();
    let given_back = fork(|| {
        let mut grant = held.take().unwrap();
        assert!(grant.write_all(b"more").is_err());
    });
    let published = fork(|| held.take().unwrap().commit());
    assert_eq!(number(&next(&mut sub)), 1);
    assert!(sub.try_recv().unwrap().is_none(), "the child published");
    held.unwrap().commit();
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
    send_number(&mut numbers, 3);
    for count in 2..=3 {
        let sample = next(&mut sub);
        assert_eq!((number(&sample), sample.sequence()), (count, count));
    }
    say(format_args!(
        "child {}",
        [given_back, published, status].map(|status| status.unwrap_or(-1)).iter().sum::<i32>()
    ));
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

pub fn fork_while_viewing(_stage: &Stage) {
    let mut alice = register("alice");
    let options = Publisher::options().ring_size(4096).reliable(LIMIT);
    let mut jobs = options.publish(alice.caller(), "jobs").unwrap();
    let mut sub = Subscriber::options().policy(Policy::Reliable).subscribe(alice.caller(), "jobs").unwrap();
    while jobs.try_send(&[7; 248]).is_ok() {}
    let mut held = Some(sub.recv_ref().unwrap());
    let status = fork(|| {
        let view = held.take().unwrap();
        assert_eq!((view.read_at::<[u8; 248]>(0), view.finish()), (Ok(Some([7; 248])), Ok(())));
    });
    let full = jobs.try_send(&[7; 248]);
    assert!(
        matches!(full, Err(PublishError::Full)),
        "the child took what its parent has yet to read: {full:?}"
    );
    assert_eq!(held.unwrap().read_at::<[u8; 248]>(0), Ok(Some([7; 248])));
    while sub.try_recv().unwrap().is_some() {}
    jobs.try_send(&[7; 248]).unwrap();
    say(format_args!("child {}", status.unwrap_or(-1)));
}

#[test]
fn a_forked_child_cannot_use_what_its_parent_has() {
    for role in ["forks while publishing", "forks while subscribing", "forks while viewing"] {
        let bus = Bus::start();
        let mut alice = Role::start(role, &[("PATH", bus.path().to_str().unwrap())]);
        assert_eq!(alice.hear("child"), "0", "{role}");
    }
}
