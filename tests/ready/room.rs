//! Waiting for room in a ring that was full.

use super::{Linked, Waiter, Way, arm, echo};
use ringpost::{CallError, Ready};

/// How many of these posts fit into an empty ring.
fn how_many_fit() -> usize {
    let Linked { mut link, responder: _responder, rest: _rest } = Linked::new();
    (0..).take_while(|_| link.try_post(&[7; 100]).is_ok()).count()
}

/// Nothing is answered, so that only the room can make it readable.
#[test]
fn a_link_hears_of_room() {
    let most = how_many_fit();
    for way in Way::ALL {
        let Linked { mut link, mut responder, rest: _rest } = Linked::new();
        let readiness = link.readiness().unwrap();
        let mut waiter = Waiter::new(way, &readiness);
        for _ in 0..3 {
            for _ in 0..most {
                link.post(&[7; 100]).unwrap();
            }
            assert_eq!(link.try_submit(&[7; 100]), Err(CallError::Full));
            arm(&mut link, &mut waiter);
            assert_eq!(responder.serve_ready(|_, _| Ok(())), Ok(None));
            waiter.wait();
            // Sooner or later there is room.
            while link.try_submit(&[7; 100]) == Err(CallError::Full) {
                if link.arm().unwrap() {
                    assert_eq!(responder.serve_ready(echo), Ok(None));
                    waiter.wait();
                }
            }
            while link.try_response().unwrap().is_none() {
                if link.arm().unwrap() {
                    assert_eq!(responder.serve_ready(echo), Ok(None));
                    waiter.wait();
                }
            }
        }
    }
}

#[test]
fn a_caller_hears_of_room() {
    for way in Way::ALL {
        let bus = super::Bus::with(|builder| builder.ring_size(4096));
        let (mut caller, _inbox) = bus.client("alice").split();
        let readiness = caller.readiness().unwrap();
        let mut waiter = Waiter::new(way, &readiness);
        let (mut sent, mut collected) = (0, 0);
        while collected < 1000 {
            while sent < 1000 {
                match caller.try_submit(&[7; 500]) {
                    Ok(()) => sent += 1,
                    Err(CallError::Full) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            while collected < sent && caller.try_response().unwrap().is_some() {
                collected += 1;
            }
            if collected < 1000 && caller.arm().unwrap() {
                waiter.wait();
            }
        }
    }
}

/// A response without room is kept, and no request is served until it is sent.
#[test]
fn a_responder_hears_of_room() {
    for way in Way::ALL {
        let Linked { mut link, mut responder, rest: _rest } = Linked::new();
        let readiness = responder.readiness().unwrap();
        let mut waiter = Waiter::new(way, &readiness);
        // Two lines of the ring each, so that each that is taken makes room for one.
        let answer = [7; 100];
        let mut served = 0;
        let mut serve = |responder: &mut ringpost::Responder| {
            let before = served;
            let done = responder.serve_ready(|_, response| {
                served += 1;
                response.write(&answer)
            });
            assert_eq!(done, Ok(None));
            served - before
        };
        for _ in 0..50 {
            link.submit(b"x").unwrap();
        }
        let first = serve(&mut responder);
        assert!((10..50).contains(&first), "{first}");
        assert_eq!(serve(&mut responder), 0);
        for left in (0..50).rev() {
            // As long as more are outstanding than the ring holds, one is kept.
            let waits = left + 1 > first;
            if waits {
                arm(&mut responder, &mut waiter);
            }
            assert_eq!(link.try_response().unwrap().unwrap(), answer);
            if waits {
                waiter.wait();
            }
            serve(&mut responder);
        }
        assert_eq!((served, link.outstanding()), (50, 0));
    }
}

/// A response that was kept is sent before the next ones by whatever serves next.
#[test]
fn who_stops_waiting_in_a_loop_keeps_the_order() {
    let Linked { mut link, mut responder, rest: _rest } = Linked::new();
    let answer = |request: ringpost::Request<'_>, response: &mut ringpost::Response<'_>| {
        let mut answer = vec![7; 900];
        answer[0] = request.payload()[0];
        response.write(&answer)
    };
    for number in 0..20_u8 {
        link.submit(&[number]).unwrap();
    }
    assert_eq!(responder.serve_ready(answer), Ok(None));
    let serving = super::common::begin(move || responder.serve(answer));
    for number in 0..20 {
        assert_eq!(link.response().unwrap()[0], number);
    }
    drop(link);
    assert_eq!(serving.end("the link ends"), Ok(ringpost::CloseReason::Peer));
}
