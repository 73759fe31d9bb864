//! One thread that spins, sleeps and waits in an event loop by turns.

use super::common::Bus;
use super::{Waiter, Way, serve_in_background, wait_for};
use ringpost::{Client, Link, Ready, WaitStrategy};

#[test]
fn a_client_spins_sleeps_and_arms_by_turns() {
    for wait in [WaitStrategy::Spin, WaitStrategy::Park, WaitStrategy::default()] {
        let bus = Bus::start();
        let mut bob = bus.client("bob");
        let mut alice = Client::builder(bus.path()).wait(wait).register("alice").unwrap();
        let readiness = alice.readiness().unwrap();
        let mut waiter = Waiter::new(Way::Edge, &readiness);
        for round in 0..2000_u32 {
            let number = round.to_le_bytes();
            assert_eq!(alice.call(&number).unwrap(), number);
            bob.send("alice", &number).unwrap();
            if round % 3 == 0 {
                assert!(!alice.arm().unwrap(), "a message is there");
            }
            assert_eq!(alice.recv().unwrap().payload(), number);
            alice.caller().submit(&number).unwrap();
            let response = wait_for(&mut alice, &mut waiter, |alice| {
                alice.caller().try_response().unwrap().map(|reply| reply.to_vec())
            });
            assert_eq!(response, number);
            // An arm that nobody heeds harms nothing.
            if round % 5 == 0 {
                let _ = alice.arm().unwrap();
            }
        }
    }
}

#[test]
fn a_link_spins_sleeps_and_arms_by_turns() {
    for wait in [WaitStrategy::Spin, WaitStrategy::Park, WaitStrategy::default()] {
        let bus = Bus::start();
        let [mut alice, bob] = ["alice", "bob"].map(|name| bus.client(name));
        let serving = serve_in_background(bob);
        let mut link = Link::options().wait(wait).arms().connect(alice.caller(), "bob").unwrap();
        let readiness = link.readiness().unwrap();
        let mut waiter = Waiter::new(Way::Level, &readiness);
        for round in 0..2000_u32 {
            let number = round.to_le_bytes();
            assert_eq!(link.call(&number).unwrap(), number);
            link.submit(&number).unwrap();
            let response = wait_for(&mut link, &mut waiter, |link| {
                link.try_response().unwrap().map(|reply| reply.to_vec())
            });
            assert_eq!(response, number);
            if round % 5 == 0 {
                let _ = link.arm().unwrap();
            }
        }
        drop(link);
        serving.end("bob hears of the end");
    }
}
