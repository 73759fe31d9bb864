//! Posts: one way, in order with the calls of their link.

use super::common::{Gate, begin};
use super::{Pair, echo};
use ringpost::{CallError, Link, ServiceError};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A service that checks that numbers come in order, and answers how many it has seen.
fn counted(pair: impl FnOnce(Pair)) {
    let seen = Mutex::new(0_u32);
    pair(Pair::new(move |request, response| {
        let mut seen = seen.lock().unwrap();
        if !request.wants_response() {
            let number: u32 = request.read()?;
            assert_eq!(number, *seen);
            *seen += 1;
            return response.write(b"nobody hears this");
        }
        response.write(&seen.to_ne_bytes())
    }));
}

#[test]
fn posts_and_calls_are_served_in_order() {
    const POSTS: u32 = 50_000;
    counted(|mut pair| {
        let mut link = Link::options().ring_size(4096).connect(pair.alice.caller(), "bob").unwrap();
        begin(move || {
            for number in 0..POSTS {
                link.post(&number.to_ne_bytes()).unwrap();
                if number % 100 == 99 {
                    assert_eq!(link.call(b"").unwrap().read::<u32>().unwrap(), number + 1);
                }
                if number % 100 == 49 {
                    link.submit(b"").unwrap();
                }
            }
            for at in 0..POSTS / 100 {
                assert_eq!(link.response().unwrap().read::<u32>().unwrap(), 100 * at + 50);
            }
            assert_eq!(link.outstanding(), 0);
        })
        .end("posts and calls");
    });
}

/// Nothing is owed to a caller whose posts fill the ring, so it must not wait for a response.
#[test]
fn a_ring_full_of_posts_is_waited_for_and_loses_none() {
    let gate = Gate::default();
    let bobs = gate.clone();
    let seen = AtomicU32::new(0);
    let mut pair = Pair::new(move |request, response| {
        bobs.pass();
        if request.wants_response() {
            return response.write(&seen.load(Ordering::Relaxed).to_ne_bytes());
        }
        seen.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let mut link = Link::options().ring_size(4096).connect(pair.alice.caller(), "bob").unwrap();
    // One is being served, and this many fill the ring.
    let full = 4096 / 64 - 1;
    for _ in 0..=full {
        link.post(b"x").unwrap();
        gate.wait_for(1);
    }
    assert_eq!(link.call_timeout(b"", Duration::from_millis(20)), Err(CallError::TimedOut));
    let posting = begin(move || {
        for _ in 0..1000 {
            link.post(b"x").unwrap();
        }
        link.call(b"").unwrap().read::<u32>().unwrap()
    });
    assert!(!posting.is_over());
    gate.open();
    assert_eq!(posting.end("posts into a full ring"), full + 1 + 1000);
}

/// Posts before a call that takes long leave the ring before its response comes.
#[test]
fn room_among_posts_is_found_while_a_call_is_outstanding() {
    let gate = Gate::default();
    let bobs = gate.clone();
    let mut pair = Pair::new(move |request, response| {
        if request.wants_response() {
            bobs.pass();
        }
        response.write(request.payload())
    });
    let mut link = Link::options().ring_size(4096).connect(pair.alice.caller(), "bob").unwrap();
    let posting = begin(move || {
        for _ in 0..50 {
            link.post(b"before").unwrap();
        }
        link.submit(b"call").unwrap();
        // More than fits before the posts have left.
        for _ in 0..30 {
            link.post(b"behind").unwrap();
        }
        link
    });
    let mut link = posting.end("posts around a call");
    gate.open();
    assert_eq!(link.response().unwrap(), b"call");
}

#[test]
fn nobody_hears_of_a_post_that_fails() {
    let mut pair = Pair::new(|request, response| match request.payload() {
        b"fail" => Err(ServiceError::new("out of order")),
        b"panic" => panic!("on purpose"),
        b"too much" => response.write(&vec![0; 1 << 20]),
        payload => response.write(payload),
    });
    let mut link = pair.alice.connect("bob").unwrap();
    for post in [&b"fail"[..], b"panic", b"too much", b"fine"] {
        link.post(post).unwrap();
        assert_eq!(link.outstanding(), 0);
        assert_eq!(link.call(b"after it").unwrap(), b"after it");
    }
}

#[test]
fn posts_between_submitted_calls_leave_their_responses_alone() {
    let mut pair = Pair::new(echo);
    let mut link = pair.alice.connect("bob").unwrap();
    for round in 0..200_u32 {
        link.submit(&round.to_ne_bytes()).unwrap();
        link.post(b"between").unwrap();
        assert_eq!(link.response().unwrap().read::<u32>().unwrap(), round);
    }
}
