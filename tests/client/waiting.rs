//! Every way of waiting, on either side, gives the same results.

use crate::common::{Bus, LIMIT, begin, within_limit};
use ringpost::{Client, CloseReason, RecvError, WaitStrategy};
use std::time::{Duration, Instant};

const STRATEGIES: [WaitStrategy; 3] = [WaitStrategy::Spin, WaitStrategy::Adaptive, WaitStrategy::Park];

#[test]
fn every_strategy_works_with_every_other() {
    for ours in STRATEGIES {
        for theirs in STRATEGIES {
            within_limit("calls and messages", move || {
                let bus = Bus::with(|b| b.ring_size(4096).wait(theirs));
                let mut client = Client::builder(bus.path()).wait(ours).register("alice").unwrap();
                for i in 0..500_u32 {
                    assert_eq!(client.call(&i.to_le_bytes()).unwrap(), i.to_le_bytes());
                    client.send(client.key(), &i.to_le_bytes()).unwrap();
                    assert_eq!(client.recv().unwrap().payload(), i.to_le_bytes());
                }
                for i in 0..500_u32 {
                    client.caller().submit(&i.to_le_bytes()).unwrap();
                }
                for i in 0..500_u32 {
                    assert_eq!(client.caller().response().unwrap(), i.to_le_bytes());
                }
                client.unregister().unwrap();
            });
        }
    }
}

#[test]
fn every_strategy_keeps_deadlines_and_hears_of_the_end() {
    for strategy in STRATEGIES {
        let bus = Bus::start();
        let mut client = Client::builder(bus.path()).wait(strategy).register("alice").unwrap();
        let (began, patience) = (Instant::now(), Duration::from_millis(30));
        assert_eq!(client.recv_timeout(patience), Err(RecvError::TimedOut));
        assert!(began.elapsed() >= patience);
        let mut bob = bus.client("bob");
        let key = client.key();
        let receiving = begin(move || {
            let message = client.recv_timeout(LIMIT).unwrap().into_payload();
            (message, client.recv())
        });
        bob.send(key, b"x").unwrap();
        drop(bus.server);
        let (message, end) = receiving.end("recv");
        assert_eq!(message, b"x");
        assert_eq!(end, Err(RecvError::Disconnected(CloseReason::Shutdown)));
    }
}
