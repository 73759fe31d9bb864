//! Calls over a link: sizes, types, pipelining, deadlines, and services that misbehave.

use super::common::{Gate, within_limit};
use super::{Pair, echo};
use ringpost::{CallError, Link, ServiceError, WaitStrategy};
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[test]
fn every_size_comes_back_by_name_and_by_key() {
    let mut pair = Pair::new(echo);
    let key = pair.bob.key();
    for (mut link, ring_size) in [
        (pair.alice.connect("bob").unwrap(), 256 << 10),
        (pair.alice.connect(key).unwrap(), 256 << 10),
        (Link::options().ring_size(4096).connect(pair.alice.caller(), key).unwrap(), 4096),
        (Link::options().ring_size(1 << 22).connect(pair.alice.caller(), key).unwrap(), 1 << 22),
    ] {
        let limits = link.limits();
        assert_eq!((limits.ring_size, limits.max_call), (ring_size, ring_size / 2 - 16));
        assert_eq!((link.peer().name.as_str(), link.peer().key), ("bob", key));
        assert_eq!(link.peer().pid, std::process::id());
        for len in [0, 1, 39, 40, 41, 1000, limits.max_call] {
            let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            assert_eq!(link.call(&payload).unwrap(), payload, "{len} bytes");
        }
        let (len, max) = (limits.max_call + 1, limits.max_call);
        let error = link.call(&vec![0; len]).unwrap_err();
        assert_eq!(error, CallError::TooLarge { len, max });
        assert!(error.to_string().contains("ring_size"), "{error}");
        assert_eq!(link.post(&vec![0; len]), Err(CallError::TooLarge { len, max }));
        assert_eq!(link.call(b"goes on").unwrap(), b"goes on");
    }
}

#[test]
fn every_way_to_wait_works() {
    let mut pair = Pair::new(echo);
    for wait in [WaitStrategy::Spin, WaitStrategy::default(), WaitStrategy::Park] {
        let mut link = Link::options().wait(wait).connect(pair.alice.caller(), "bob").unwrap();
        for number in 0..1000_u32 {
            assert_eq!(link.call(&number.to_le_bytes()).unwrap(), number.to_le_bytes(), "{wait:?}");
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Numbers {
    one: u64,
    other: u64,
}

#[test]
fn values_have_types() {
    let mut pair = Pair::new(|request, response| {
        let Numbers { one, other } = request.read()?;
        response.write(&(one * other).to_ne_bytes())
    });
    let mut link = pair.alice.connect("bob").unwrap();
    let product: u64 = link.call(Numbers { one: 6, other: 7 }.as_bytes()).unwrap().read().unwrap();
    assert_eq!(product, 42);
    assert!(matches!(link.call(b"too short"), Err(CallError::ServiceFailed(_))));
}

#[test]
fn submitted_calls_are_answered_in_order() {
    const CALLS: u32 = 20_000;
    let mut pair = Pair::new(echo);
    let mut link = Link::options().ring_size(4096).connect(pair.alice.caller(), "bob").unwrap();
    within_limit("pipelined calls over a link", move || {
        let numbers: Vec<[u8; 4]> = (0..CALLS).map(u32::to_le_bytes).collect();
        link.submit_all(&numbers).unwrap();
        assert_eq!(link.outstanding(), CALLS as usize);
        assert_eq!(link.call(b"after them").unwrap(), b"after them");
        for number in &numbers {
            assert_eq!(link.response().unwrap(), number);
        }
        assert_eq!(link.response(), Err(CallError::NothingOutstanding));
        assert_eq!(link.try_response(), Err(CallError::NothingOutstanding));
    });
}

#[test]
fn a_deadline_ends_a_wait_and_the_link_goes_on() {
    let gate = Gate::default();
    let bobs = gate.clone();
    let mut pair = Pair::new(move |request, response| {
        if request.payload() == b"wait" {
            bobs.pass();
        }
        response.write(request.payload())
    });
    let mut link = pair.alice.connect("bob").unwrap();
    let soon = Duration::from_millis(20);
    let late = link.call_timeout(b"wait", soon).unwrap_err();
    assert_eq!((late.clone(), late.may_have_executed()), (CallError::TimedOut, true));
    link.submit(b"next").unwrap();
    assert_eq!(link.try_response().unwrap(), None);
    assert_eq!(link.response_timeout(soon), Err(CallError::TimedOut));
    gate.open();
    assert_eq!(link.response().unwrap(), b"next", "the late one is discarded");
    assert_eq!(link.call_timeout(b"again", Duration::from_secs(60)).unwrap(), b"again");
}

/// While one link's service waits, fails or panics, another link of the same client is served.
#[test]
fn a_service_harms_nobody_but_its_caller() {
    let gate = Gate::default();
    let bobs = gate.clone();
    let mut pair = Pair::new(move |request, response| {
        match request.payload() {
            b"wait" => bobs.pass(),
            b"fail" => return Err(ServiceError::new("out of order")),
            b"panic" => panic!("on purpose"),
            b"too much" => response.write(&vec![0; 1 << 20])?,
            _ => {}
        }
        response.write(request.payload())
    });
    let mut link = pair.alice.connect("bob").unwrap();
    let mut other = pair.alice.connect("bob").unwrap();
    link.submit(b"wait").unwrap();
    gate.wait_for(1);
    assert_eq!(other.call(b"fail"), Err(CallError::ServiceFailed("out of order".into())));
    assert!(matches!(other.call(b"panic"), Err(CallError::ServiceFailed(why)) if why.contains("panicked")));
    let too_much = other.call(b"too much").unwrap_err();
    assert!(matches!(too_much, CallError::ResponseTooLarge(_)), "{too_much}");
    assert_eq!(other.call(b"fine").unwrap(), b"fine");
    assert_eq!(pair.alice.call(b"the server, too").unwrap(), b"the server, too");
    gate.open();
    assert_eq!(link.response().unwrap(), b"wait");
    assert_eq!(pair.serving.links().len(), 2);
}

/// A link is a handle of its own: it moves to another thread while its client goes on.
#[test]
fn links_work_on_threads_of_their_own() {
    let mut pair = Pair::new(echo);
    let threads: Vec<_> = (0..4_u8)
        .map(|thread| {
            let mut link = pair.alice.connect("bob").unwrap();
            std::thread::spawn(move || {
                for number in 0..5000_u32 {
                    let payload = [&[thread][..], &number.to_le_bytes()].concat();
                    assert_eq!(link.call(&payload).unwrap(), payload);
                }
                link
            })
        })
        .collect();
    for number in 0..1000_u32 {
        assert_eq!(pair.alice.call(&number.to_le_bytes()).unwrap(), number.to_le_bytes());
    }
    let links: Vec<Link> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!((links.len() as u32, pair.links_of("alice"), pair.links_of("bob")), (4, 4, 4));
}
