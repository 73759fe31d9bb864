//! A listener and many links in one thread.

use super::common::proc::raise_descriptor_limit;
use super::common::{Bus, LIMIT, begin};
use super::echo;
use ringpost::{CloseReason, Link, Readiness, Ready, Responder};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;
use std::mem::MaybeUninit;

const LINKS: usize = 300;
const CALLS: usize = 10;

/// The number of the listener among what the loop waits for.
const LISTENER: u64 = u64::MAX;

/// Serves what is there and arms. Returns how the link has ended, if it has.
fn serve(responder: &mut Responder) -> Option<CloseReason> {
    loop {
        if let Some(end) = responder.serve_ready(echo).unwrap() {
            return Some(end);
        }
        if responder.arm().unwrap() {
            return None;
        }
    }
}

#[test]
fn a_listener_and_its_links_are_served_by_one_thread() {
    raise_descriptor_limit();
    let bus = Bus::with(|builder| builder.ring_size(4096));
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let mut listener = bob.listen().unwrap();
    let serving = begin(move || {
        let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
        let of_listener = listener.readiness().unwrap();
        epoll::add(&epoll, &of_listener, EventData::new_u64(LISTENER), EventFlags::IN).unwrap();
        let mut links: Vec<Option<(Responder, Readiness)>> = Vec::new();
        let mut ended = 0;
        let timeout = Timespec::try_from(LIMIT).unwrap();
        while !listener.arm().unwrap() {}
        while ended < LINKS {
            let mut space = [MaybeUninit::<epoll::Event>::uninit(); 64];
            let (events, _) = epoll::wait(&epoll, &mut space, Some(&timeout)).unwrap();
            assert!(!events.is_empty(), "{} links, {ended} of them ended", links.len());
            for event in events {
                if event.data.u64() != LISTENER {
                    let place = &mut links[event.data.u64() as usize];
                    let Some((responder, readiness)) = place else { panic!("it was taken out") };
                    if let Some(end) = serve(responder) {
                        assert_eq!(end, CloseReason::Peer);
                        ended += 1;
                        epoll::delete(&epoll, &*readiness).unwrap();
                        *place = None;
                    }
                    continue;
                }
                loop {
                    while let Some(incoming) = listener.try_accept().unwrap() {
                        let mut responder = incoming.arms().accept().unwrap();
                        let readiness = responder.readiness().unwrap();
                        let number = EventData::new_u64(links.len() as u64);
                        epoll::add(&epoll, &readiness, number, EventFlags::IN).unwrap();
                        assert_eq!(serve(&mut responder), None);
                        links.push(Some((responder, readiness)));
                    }
                    if listener.arm().unwrap() {
                        break;
                    }
                }
            }
        }
        links.len()
    });
    let mut links: Vec<Link> = (0..LINKS).map(|_| alice.connect("bob").unwrap()).collect();
    for call in 0..CALLS {
        for (number, link) in links.iter_mut().enumerate() {
            let payload = [call as u8, number as u8];
            link.submit(&payload).unwrap();
        }
        for (number, link) in links.iter_mut().enumerate() {
            assert_eq!(link.response().unwrap(), [call as u8, number as u8]);
        }
    }
    drop(links);
    assert_eq!(serving.end("all links end"), LINKS);
}

/// The library's own threads do not grow with that.
#[test]
fn no_thread_is_started_for_it() {
    let bus = Bus::start();
    let mut clients: Vec<_> = (0..20).map(|number| bus.client(&format!("c{number}"))).collect();
    let before = super::common::proc::threads("self").len();
    let readinesses: Vec<_> = clients.iter_mut().map(|client| client.readiness().unwrap()).collect();
    for client in &mut clients {
        while !client.arm().unwrap() {}
    }
    // Other tests of this program come and go, so their threads are told apart by their names.
    let of_library = super::common::proc::own_threads();
    assert!(of_library.iter().filter(|name| *name == "rp-watcher").count() <= 1, "{of_library:?}");
    drop(readinesses);
    assert!(before > 0);
}
