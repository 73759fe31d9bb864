//! Each end, waited for in every way.

use super::common::{Bus, Gate, begin};
use super::{Linked, Waiter, Way, arm, echo, wait_for};
use ringpost::{ReadinessError, Ready};

#[test]
fn a_caller_hears_of_responses() {
    for way in Way::ALL {
        let gate = Gate::default();
        let within = gate.clone();
        let bus = Bus::with(|builder| {
            builder.service(move |request, response| {
                within.pass();
                response.write(request.payload())
            })
        });
        let (mut caller, _inbox) = bus.client("alice").split();
        let readiness = caller.readiness().unwrap();
        let mut waiter = Waiter::new(way, &readiness);
        caller.submit(b"one").unwrap();
        gate.wait_for(1);
        assert!(caller.try_response().unwrap().is_none());
        arm(&mut caller, &mut waiter);
        gate.open();
        waiter.wait();
        assert_eq!(caller.try_response().unwrap().unwrap(), b"one");
        caller.submit(b"two").unwrap();
        let two = wait_for(&mut caller, &mut waiter, |caller| {
            caller.try_response().unwrap().map(|reply| reply.to_vec())
        });
        assert_eq!(two, b"two");
    }
}

#[test]
fn an_inbox_hears_of_messages() {
    let bus = Bus::start();
    let mut bob = bus.client("bob");
    for way in Way::ALL {
        let (_caller, mut inbox) = bus.client("alice").split();
        let readiness = inbox.readiness().unwrap();
        let mut waiter = Waiter::new(way, &readiness);
        for number in 0..3_u8 {
            assert!(inbox.try_recv().unwrap().is_none());
            arm(&mut inbox, &mut waiter);
            bob.send("alice", &[number]).unwrap();
            waiter.wait();
            assert_eq!(inbox.try_recv().unwrap().unwrap().payload(), [number]);
        }
    }
}

/// One descriptor for both halves.
#[test]
fn a_client_hears_of_both() {
    let bus = Bus::start();
    let mut bob = bus.client("bob");
    for way in Way::ALL {
        let mut alice = bus.client("alice");
        let readiness = alice.readiness().unwrap();
        let mut waiter = Waiter::new(way, &readiness);
        for number in 0..3_u8 {
            arm(&mut alice, &mut waiter);
            bob.send("alice", &[number]).unwrap();
            waiter.wait();
            assert_eq!(alice.try_recv().unwrap().unwrap().payload(), [number]);
            alice.caller().submit(&[number]).unwrap();
            let response = wait_for(&mut alice, &mut waiter, |alice| {
                alice.caller().try_response().unwrap().map(|reply| reply.to_vec())
            });
            assert_eq!(response, [number]);
        }
    }
}

#[test]
fn a_listener_hears_of_callers() {
    let bus = Bus::start();
    for way in Way::ALL {
        let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
        let mut listener = bob.listen().unwrap();
        assert!(matches!(listener.arm(), Err(ReadinessError::NotAsked)));
        let readiness = listener.readiness().unwrap();
        let mut waiter = Waiter::new(way, &readiness);
        assert!(listener.try_accept().unwrap().is_none());
        arm(&mut listener, &mut waiter);
        let connecting = begin(move || {
            let link = alice.connect("bob").unwrap();
            (alice, link)
        });
        waiter.wait();
        let incoming = wait_for(&mut listener, &mut waiter, |listener| listener.try_accept().unwrap());
        let _responder = incoming.accept().unwrap();
        connecting.end("the link is opened");
    }
}

#[test]
fn both_ends_of_a_link_hear_of_each_other() {
    for way in Way::ALL {
        let Linked { mut link, mut responder, rest: _rest } = Linked::new();
        let (of_link, of_responder) = (link.readiness().unwrap(), responder.readiness().unwrap());
        let (mut links, mut responders) = (Waiter::new(way, &of_link), Waiter::new(way, &of_responder));
        for number in 0..3_u8 {
            assert_eq!(responder.serve_ready(echo), Ok(None));
            arm(&mut responder, &mut responders);
            link.submit(&[number]).unwrap();
            responders.wait();
            arm(&mut link, &mut links);
            assert_eq!(responder.serve_ready(echo), Ok(None));
            links.wait();
            assert_eq!(link.try_response().unwrap().unwrap(), [number]);
            // A post wakes, too.
            arm(&mut responder, &mut responders);
            link.post(&[number]).unwrap();
            responders.wait();
            let mut posted = Vec::new();
            let served = responder.serve_ready(|request, _| {
                assert!(!request.wants_response());
                posted = request.payload().to_vec();
                Ok(())
            });
            assert_eq!((served, posted), (Ok(None), vec![number]));
        }
    }
}

/// An end of which nobody was told that it may wait in an event loop.
#[test]
fn who_has_not_asked_cannot_arm() {
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    assert!(matches!(alice.arm(), Err(ReadinessError::NotAsked)));
    assert!(matches!(alice.caller().arm(), Err(ReadinessError::NotAsked)));
    assert!(matches!(alice.inbox().arm(), Err(ReadinessError::NotAsked)));
    let mut listener = bob.listen().unwrap();
    let connecting = begin(move || {
        let link = alice.connect("bob").unwrap();
        (alice, link)
    });
    let mut responder = listener.accept().unwrap().accept().unwrap();
    let (_alice, mut link) = connecting.end("the link is opened");
    assert!(matches!(link.readiness(), Err(ReadinessError::NotArmable)));
    assert!(matches!(link.arm(), Err(ReadinessError::NotArmable)));
    assert!(matches!(responder.readiness(), Err(ReadinessError::NotArmable)));
    assert!(matches!(responder.arm(), Err(ReadinessError::NotArmable)));
}
