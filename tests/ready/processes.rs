//! Forked children, and processes that close all their descriptors, while an end is armed.

use super::common::proc::others_sleep;
use super::common::role::{Role, say, setting};
use super::common::{Bus, LIMIT, eventually};
use super::{Waiter, Way, arm, register};
use ringpost::{
    Change, Client, CloseReason, Link, Listener, Policy, Presence, PublishError, Publisher, Readiness,
    ReadinessError, Ready, RecvError, SampleError, Subscriber,
};
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
    let mut all = Some((carol, listener, link, readinesses));
    // The kick that belongs to an answer from before may come late, but not again and again.
    let status = (0..3).find_map(|_| {
        let (carol, listener, link, _) = all.as_mut().unwrap();
        arm(carol, &mut waiters[0]);
        arm(listener, &mut waiters[1]);
        arm(link, &mut waiters[2]);
        let status = use_what_is_armed(&mut all);
        waiters.iter_mut().all(|waiter| !waiter.is_readable()).then_some(status)
    });
    let status = status.expect("the child has touched something");
    let (mut carol, mut listener, mut link, _readinesses) = all.unwrap();
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
    say(format_args!("child {status}"));
}

/// In a forked child, tries to arm and to end what its parent has armed. Returns how the child ended.
fn use_what_is_armed(all: &mut Option<(Client, Listener, Link, [Readiness; 3])>) -> i32 {
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
    status.exit_status().unwrap_or(-1)
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

/// A publisher that has no room, its reliable subscriber, another subscriber, and a presence.
struct Topics {
    jobs: Publisher,
    behind: Subscriber,
    sub: Subscriber,
    who: Presence,
}

impl Topics {
    fn new(carol: &mut Client, dave: &mut Client) -> Topics {
        let options = Publisher::options().ring_size(4096).reliable(LIMIT).arms();
        let mut jobs = options.publish(carol.caller(), "jobs").unwrap();
        let behind = Subscriber::options().policy(Policy::Reliable).subscribe(dave.caller(), "jobs").unwrap();
        let sub = Subscriber::options().arms().subscribe(carol.caller(), "prices/*").unwrap();
        let mut who = carol.presence().unwrap();
        while jobs.try_send(&[0; 100]).is_ok() {}
        while who.try_recv().unwrap().is_some() {}
        Topics { jobs, behind, sub, who }
    }

    fn readinesses(&mut self) -> [Readiness; 3] {
        [self.jobs.readiness().unwrap(), self.sub.readiness().unwrap(), self.who.readiness().unwrap()]
    }

    fn arm(&mut self) -> [Result<bool, ReadinessError>; 3] {
        [self.jobs.arm(), self.sub.arm(), self.who.arm()]
    }
}

/// The role of a process whose forked child tries to arm the topics that its parent has armed.
pub fn use_topics_in_a_child() {
    let (mut carol, mut dave) = (register("carol"), register("dave"));
    let mut prices = dave.publish("prices/AAPL").unwrap();
    let mut topics = Topics::new(&mut carol, &mut dave);
    while topics.sub.publishers().is_empty() {}
    assert!(topics.sub.try_recv().unwrap().is_none());
    let readinesses = topics.readinesses();
    let mut waiters = readinesses.each_ref().map(|readiness| Waiter::new(Way::Level, readiness));
    // The watcher may be about to wake the subscriber for its new publisher.
    others_sleep();
    arm(&mut topics.jobs, &mut waiters[0]);
    arm(&mut topics.sub, &mut waiters[1]);
    arm(&mut topics.who, &mut waiters[2]);
    let mut all = Some((topics, readinesses, prices));
    let child = fork(|| {
        let Some((mut topics, readinesses, mut prices)) = all.take() else { unreachable!() };
        assert!(topics.arm().into_iter().all(|armed| !armed.unwrap()));
        let forked = SampleError::Disconnected(CloseReason::Forked);
        assert_eq!(topics.sub.try_recv().unwrap_err(), forked);
        assert_eq!(topics.who.try_recv().unwrap_err(), forked);
        assert_eq!(topics.who.recv().unwrap_err(), forked);
        for publisher in [&mut topics.jobs, &mut prices] {
            let unsent = publisher.try_send(b"x");
            assert!(matches!(unsent, Err(PublishError::Disconnected(CloseReason::Forked))));
        }
        let asked = topics.sub.readiness();
        assert!(matches!(asked, Err(ReadinessError::Disconnected(CloseReason::Forked))));
        topics.sub.closer().close();
        topics.jobs.closer().close();
        drop((topics, readinesses, prices));
    });
    let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
    let (mut topics, _readinesses, prices_of_parent) = all.unwrap();
    prices = prices_of_parent;
    let touched = waiters.each_mut().map(|waiter| waiter.is_readable());
    assert_eq!(touched, [false; 3], "the child has touched something");
    // The parent's arms still hold.
    prices.send(b"goes on").unwrap();
    waiters[1].wait();
    assert_eq!(topics.sub.try_recv().unwrap().unwrap().payload(), b"goes on");
    while topics.behind.try_recv().unwrap().is_some() {}
    waiters[0].wait();
    topics.jobs.try_send(&[0; 100]).unwrap();
    let erin = register("erin");
    waiters[2].wait();
    assert!(matches!(topics.who.try_recv(), Ok(Some(Change::Appeared(peer))) if peer.key == erin.key()));
    say(format_args!("child {}", status.exit_status().unwrap_or(-1)));
}

#[test]
fn a_forked_child_touches_no_topic() {
    let bus = Bus::start();
    let mut carol = Role::start("forks with topics", &[("PATH", bus.path().to_str().unwrap())]);
    assert_eq!(carol.hear("child"), "0");
}

/// The role of a process that closes all its descriptors while it waits for topics.
pub fn close_all_descriptors_of_topics() {
    let (mut carol, mut dave) = (register("carol"), register("dave"));
    let mut topics = Topics::new(&mut carol, &mut dave);
    let readinesses = topics.readinesses();
    while topics.arm().into_iter().any(|armed| !armed.unwrap()) {
        assert!(topics.sub.try_recv().unwrap().is_none());
        let _ = topics.who.try_recv().unwrap();
    }
    others_sleep();
    // SAFETY: it closes descriptors by number. Code that uses them afterwards is what is tested.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let pipes: Vec<_> = (0..100).map(|_| std::io::pipe().unwrap()).collect();
    let cut_off = Some(SampleError::Disconnected(CloseReason::CutOff));
    eventually("the end is noticed", || {
        let _ = topics.arm();
        topics.sub.try_recv().err() == cut_off && topics.who.try_recv().err() == cut_off
    });
    drop((topics, readinesses, carol, dave));
    for (reader, _writer) in &pipes {
        let mut fd = [PollFd::new(reader, PollFlags::IN)];
        let ready = poll(&mut fd, Some(&Timespec::default())).unwrap();
        assert_eq!(ready, 0, "a pipe of the program was written, or its writing end closed");
    }
    say("harmed nobody");
}

#[test]
fn a_process_that_closes_its_descriptors_harms_nobody_by_its_topics() {
    let bus = Bus::start();
    let mut carol = Role::start("cut off with topics", &[("PATH", bus.path().to_str().unwrap())]);
    carol.hear_within("harmed nobody", LIMIT);
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
    others_sleep();
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
