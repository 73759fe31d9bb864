//! Where the system refuses the calls by which a pipe is best written and read, as old kernels do and filters
//! may, kicks come all the same.

use std::path::PathBuf;
use std::time::Instant;

use ringpost::{Client, Link};
use rustix::io::Errno;

use super::common::by_epoll::ByEpoll;
use super::common::filter::Refused;
use super::common::role::{Role, Stage, say, setting};
use super::common::server::{as_set, serve as serve_bus, shut_down, start_server};
use super::common::{Bus, LIMIT, Place, begin};

const CALLS: u32 = 300;

/// Refuses both calls in this process. False if no filter can be set.
fn refuse() -> bool {
    let errno = Errno::from_raw_os_error(setting("ERRNO").unwrap());
    let both = [libc::SYS_pwritev2, libc::SYS_preadv2];
    both.into_iter().all(|call| Refused::call(call).everywhere(errno))
}

fn skipped() {
    println!("skipped: no filter can be set here, so no call can be refused");
}

/// The role of a server, whose writes are refused.
pub fn serve(stage: &Stage) {
    if !refuse() {
        skipped();
    }
    serve_bus(as_set(), stage);
}

/// The role of a client that serves one link and calls over another, both in an event loop.
pub fn ask_and_serve(stage: &Stage) {
    if !refuse() {
        skipped();
    }
    let mut bob = Client::register(setting::<PathBuf>("PATH").unwrap(), "bob").unwrap();
    let mut listener = bob.listen().unwrap();
    let accepting = ByEpoll::of(&mut listener, false).unwrap();
    say("listens");
    let incoming = accepting.until(&mut listener, None, |listener| listener.try_accept().unwrap()).unwrap();
    let mut responder = incoming.arms().accept().unwrap();
    let serving = begin(move || {
        let by = ByEpoll::of(&mut responder, true).unwrap();
        by.until(&mut responder, None, |responder| {
            responder.serve_ready(|request, response| response.write(request.payload())).unwrap()
        })
        .unwrap()
    });
    stage.await_order("call");
    let mut link = Link::options().arms().connect(bob.caller(), "alice").unwrap();
    call_by_epoll(&mut link);
    drop(link);
    say(format_args!("served {:?}", serving.end("the link ends")));
}

fn call_by_epoll(link: &mut Link) {
    let by = ByEpoll::of(link, false).unwrap();
    for number in 0..CALLS {
        link.submit(&number.to_le_bytes()).unwrap();
        let answer = by.until(link, Some(Instant::now() + LIMIT), |link| {
            link.try_response().unwrap().map(|reply| reply.to_vec())
        });
        assert_eq!(answer.expect("the answer comes"), number.to_le_bytes());
    }
}

#[test]
fn a_client_that_may_neither_write_nor_read_so_kicks_and_is_kicked() {
    for errno in [Errno::NOSYS, Errno::PERM] {
        let bus = Bus::start();
        let number = errno.raw_os_error().to_string();
        let mut alice = bus.client("alice");
        let echo = |request: ringpost::Request<'_>, response: &mut ringpost::Response<'_>| {
            response.write(request.payload())
        };
        let serving = alice.listen().unwrap().serve(echo).unwrap();
        let mut bob = Role::start("client", &[("PATH", bus.path().to_str().unwrap()), ("ERRNO", &number)]);
        bob.hear("listens");
        let mut link = Link::options().arms().connect(alice.caller(), "bob").unwrap();
        call_by_epoll(&mut link);
        bob.tell("call");
        drop(link);
        assert_eq!(bob.hear("served"), "Peer");
        assert!(bob.end().success());
        serving.stop();
        serving.join();
    }
}

#[test]
fn a_server_that_may_not_write_so_kicks() {
    for errno in [Errno::NOSYS, Errno::PERM] {
        let place = Place::new();
        let number = errno.raw_os_error().to_string();
        let server = start_server(&place, &[("ERRNO", &number)]);
        let mut alice = Client::register(&place.path, "alice").unwrap();
        let by = ByEpoll::of(&mut alice, true).unwrap();
        let own = alice.key();
        for number in 0..CALLS {
            let until = Some(Instant::now() + LIMIT);
            alice.caller().submit(&number.to_le_bytes()).unwrap();
            let answer = by.until(&mut alice, until, |alice| {
                alice.caller().try_response().unwrap().map(|reply| reply.to_vec())
            });
            assert_eq!(answer.expect("the answer comes"), number.to_le_bytes());
            alice.try_send(own, &number.to_le_bytes()).unwrap();
            let message = by.until(&mut alice, until, |alice| alice.try_recv().unwrap());
            assert_eq!(message.expect("the message comes").payload(), number.to_le_bytes());
        }
        alice.unregister().unwrap();
        shut_down(server);
    }
}
