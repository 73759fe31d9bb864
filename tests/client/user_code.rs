//! The user's own code, called in the middle of an operation: it may panic, wait for what the operation does,
//! or take its time.

use crate::common::{Bus, Gate, LIMIT, begin, within_limit};
use ringpost::{CallError, Client, CloseReason, Reconnect, Request, Response, WaitStrategy};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const STRATEGIES: [WaitStrategy; 3] = [WaitStrategy::Spin, WaitStrategy::Adaptive, WaitStrategy::Park];

/// So often that the worker is met awake, asleep and lying down.
const ROUNDS: usize = 300;

/// A bus whose service says of each call that it was served, and a client of it.
fn telling(strategy: WaitStrategy) -> (Bus, Client, Receiver<Vec<u8>>) {
    let (tell, served) = mpsc::channel();
    let tell = Mutex::new(tell);
    let bus = Bus::with(|b| {
        b.wait(strategy).service(move |request: Request<'_>, response: &mut Response<'_>| {
            let _ = tell.lock().unwrap().send(request.payload().to_vec());
            response.write(request.payload())
        })
    });
    let client = Client::builder(bus.path()).wait(strategy).register("alice").unwrap();
    (bus, client, served)
}

#[test]
fn an_iterator_may_wait_for_what_an_earlier_call_does() {
    for strategy in STRATEGIES {
        within_limit("an iterator that waits for its own calls", move || {
            let (_bus, mut client, served) = telling(strategy);
            for round in 0..ROUNDS {
                let requests = (0..3).map(|n| {
                    if n > 0 {
                        served.recv_timeout(LIMIT / 2).expect("the worker sleeps on");
                    }
                    // The worker lies down: before, while or after the next call is committed.
                    for _ in 0..round % 100 * n {
                        std::hint::spin_loop();
                    }
                    &b"request"[..]
                });
                client.caller().submit_all(requests).unwrap();
                served.recv_timeout(LIMIT / 2).expect("the last one");
                for _ in 0..3 {
                    assert_eq!(client.caller().response().unwrap(), b"request");
                }
            }
        });
    }
}

/// Its drop is its own code, too.
#[test]
fn an_iterator_may_wait_when_it_is_dropped() {
    struct Waits<'s>(u32, &'s Receiver<Vec<u8>>);
    impl Iterator for Waits<'_> {
        type Item = &'static [u8];
        fn next(&mut self) -> Option<&'static [u8]> {
            self.0 = self.0.checked_sub(1)?;
            Some(b"request")
        }
    }
    impl Drop for Waits<'_> {
        fn drop(&mut self) {
            for _ in 0..2 {
                self.1.recv_timeout(LIMIT / 2).expect("the worker sleeps on");
            }
        }
    }
    for strategy in STRATEGIES {
        within_limit("a drop that waits for what was submitted", move || {
            let (_bus, mut client, served) = telling(strategy);
            for _ in 0..ROUNDS {
                client.caller().submit_all(Waits(2, &served)).unwrap();
                for _ in 0..2 {
                    assert_eq!(client.caller().response().unwrap(), b"request");
                }
            }
        });
    }
}

/// What went before is submitted; the client can be used as before.
#[test]
fn an_iterator_may_panic() {
    for strategy in STRATEGIES {
        within_limit("calls before a panic", move || {
            let (_bus, mut client, served) = telling(strategy);
            for _ in 0..ROUNDS {
                let requests = (0..5).map(|n| {
                    if n == 2 {
                        std::panic::resume_unwind(Box::new("on purpose"));
                    }
                    &b"request"[..]
                });
                assert!(catch_unwind(AssertUnwindSafe(|| client.caller().submit_all(requests))).is_err());
                assert_eq!(client.caller().outstanding(), 2);
                for _ in 0..2 {
                    served.recv_timeout(LIMIT / 2).expect("the worker sleeps on");
                }
                for _ in 0..2 {
                    assert_eq!(client.caller().response().unwrap(), b"request");
                }
            }
            assert_eq!(client.call(b"after").unwrap(), b"after");
        });
    }
}

#[test]
fn what_went_before_a_call_that_cannot_go_is_served() {
    for strategy in STRATEGIES {
        within_limit("calls before an error", move || {
            let (_bus, mut client, served) = telling(strategy);
            let too_long = vec![0; client.limits().max_call + 1];
            for _ in 0..ROUNDS {
                let refused = client.caller().submit_all([&b"request"[..], &too_long]);
                assert!(matches!(refused, Err(CallError::TooLarge { .. })));
                served.recv_timeout(LIMIT / 2).expect("the worker sleeps on");
                assert_eq!(client.caller().response().unwrap(), b"request");
            }
        });
    }
}

/// A listener of a client that registers again panics when it hears of the end: no call is counted twice, and
/// none is left out.
#[test]
fn a_listener_may_panic() {
    let gate = Gate::default();
    let held = gate.clone();
    let bus = Bus::with(|b| {
        b.grace(Duration::ZERO).service(move |request: Request<'_>, response: &mut Response<'_>| {
            held.pass();
            response.write(request.payload())
        })
    });
    let panics = Arc::new(AtomicBool::new(true));
    let reconnect = Reconnect::default().on_event({
        let panics = Arc::clone(&panics);
        move |_| {
            if panics.load(Ordering::Relaxed) {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        }
    });
    let mut client = Client::builder(bus.path()).reconnect(reconnect).register("alice").unwrap();
    client.caller().submit(b"first").unwrap();
    client.caller().submit(b"second").unwrap();
    gate.wait_for(1);
    let calling = begin(move || {
        let caught = catch_unwind(AssertUnwindSafe(|| client.call(b"third").map(|reply| reply.to_vec())));
        (caught.is_err(), client)
    });
    bus.server.stopper().shutdown();
    let (panicked, mut client) = calling.end("a call during a shutdown");
    panics.store(false, Ordering::Relaxed);
    assert!(panicked);
    assert_eq!(client.caller().outstanding(), 2);
    for _ in 0..2 {
        let ended = client.caller().response().unwrap_err();
        assert!(
            matches!(ended, CallError::Disconnected(CloseReason::Shutdown | CloseReason::Died)),
            "{ended}"
        );
    }
    assert_eq!(client.caller().response(), Err(CallError::NothingOutstanding));
    gate.open();
}
