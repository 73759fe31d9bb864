//! Calls: every size, pipelines, deadlines, and order in all of it.

use crate::common::payload::{Random, content};
use crate::common::{Bus, Gate, LIMIT, eventually, within_limit};
use ringpost::{CallError, Client, RegisterError, Request, Response, SendError, ServiceError, WaitStrategy};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const MOMENT: Duration = Duration::from_millis(20);

/// Answers with as many bytes as the first four of the request say.
fn as_many(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    let (count, _) = request.payload().split_first_chunk::<4>().unwrap();
    let count = u32::from_le_bytes(*count) as usize;
    // In pieces, so that a response may outgrow the place where it was begun.
    let bytes = answer(count);
    bytes.chunks(97).try_for_each(|piece| response.write(piece))
}

fn answer(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 7 + count) as u8).collect()
}

#[test]
fn every_size_goes_there_and_back() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let mut client = bus.client("alice");
    let max = client.limits().max_call;
    assert_eq!(max, 4096 / 2 - 8 - 8);
    for size in 0..=max {
        let request: Vec<u8> = (0..size).map(|i| (i ^ size) as u8).collect();
        assert!(client.call(&request).unwrap() == request, "{size} bytes");
    }
    let over = vec![1; max + 1];
    assert_eq!(client.call(&over), Err(CallError::TooLarge { len: max + 1, max }));
    assert_eq!(client.caller().submit(&over), Err(CallError::TooLarge { len: max + 1, max }));
    assert_eq!(client.caller().outstanding(), 0);
    assert_eq!(client.call(b"still here").unwrap(), b"still here");
}

#[test]
fn the_largest_block_can_be_set() {
    let bus = Bus::with(|b| b.ring_size(4096).max_block(256));
    let mut client = bus.client("alice");
    let max = client.limits().max_call;
    assert_eq!(max, 248);
    assert_eq!(client.call(&vec![7; max]).unwrap(), vec![7; max]);
    assert!(matches!(client.call(&vec![7; max + 1]), Err(CallError::TooLarge { .. })));
}

/// Requests and responses of unlike sizes, with as many outstanding as there happen to be.
#[test]
fn responses_of_any_size_come_in_order() {
    within_limit("pipelined calls", || {
        let bus = Bus::with(|b| b.ring_size(8192).service(as_many));
        let mut client = bus.client("alice");
        let max = client.limits().max_call;
        let mut random = Random::new(1);
        let mut expected = VecDeque::new();
        for round in 0..20_000 {
            if random.below(3) > 0 {
                let (count, len) = (random.size(max), random.size(max).max(4));
                let mut request = vec![round as u8; len];
                request[..4].copy_from_slice(&(count as u32).to_le_bytes());
                client.caller().submit(&request).unwrap();
                expected.push_back(count);
            } else if let Some(count) = expected.pop_front() {
                assert!(client.caller().response().unwrap() == answer(count), "round {round}: {count} bytes");
            }
            assert_eq!(client.caller().outstanding(), expected.len());
        }
        for count in expected {
            assert!(client.caller().response().unwrap() == answer(count));
        }
        assert_eq!(client.caller().response(), Err(CallError::NothingOutstanding));
    });
}

/// The server cannot answer for want of room, the client cannot ask for want of room: it takes responses
/// meanwhile.
#[test]
fn two_full_rings_do_not_block_each_other() {
    within_limit("submitting with both rings full", || {
        let bus = Bus::with(|b| b.ring_size(4096));
        let mut client = bus.client("alice");
        let request = |i: u32| content(i.into(), 1000);
        for i in 0..5000 {
            client.caller().submit(&request(i)).unwrap();
        }
        assert_eq!(client.caller().outstanding(), 5000);
        for i in 0..5000 {
            assert!(client.caller().response().unwrap() == request(i), "response {i}");
        }
    });
}

#[test]
fn several_calls_go_in_one_step_and_an_error_tells_how_many_went() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let mut client = bus.client("alice");
    let requests: Vec<Vec<u8>> = (0..1000).map(|i| content(i, 200)).collect();
    client.caller().submit_all(requests.iter().map(Vec::as_slice)).unwrap();
    for request in &requests {
        assert!(client.caller().response().unwrap() == request);
    }
    let over = vec![0; client.limits().max_call + 1];
    let some: [&[u8]; 4] = [b"one", b"two", &over, b"three"];
    assert!(matches!(client.caller().submit_all(some), Err(CallError::TooLarge { .. })));
    assert_eq!(client.caller().outstanding(), 2);
    assert_eq!(client.caller().response().unwrap(), b"one");
    assert_eq!(client.caller().response().unwrap(), b"two");
}

#[test]
fn responses_that_nobody_collects_are_bounded() {
    within_limit("submitting without end", || {
        let bus = Bus::with(|b| b.ring_size(4096));
        let mut client = bus.client("alice");
        let mut submitted = 0_u32;
        let error = loop {
            match client.caller().submit(&submitted.to_le_bytes()) {
                Ok(()) => submitted += 1,
                Err(error) => break error,
            }
            assert!(submitted < 200_000, "memory grows without bound");
        };
        assert!(matches!(error, CallError::Uncollected { .. }), "{error:?}");
        assert_eq!(client.caller().outstanding(), submitted as usize);
        for i in 0..submitted {
            assert_eq!(client.caller().response().unwrap(), i.to_le_bytes());
        }
        assert_eq!(client.call(b"go on").unwrap(), b"go on");
    });
}

#[test]
fn submitted_calls_mix_with_all_the_rest() {
    within_limit("a mix of operations", || {
        let bus = Bus::with(|b| b.ring_size(4096));
        let mut client = bus.client("alice");
        let mut bob = bus.client("bob");
        let mut expected = VecDeque::new();
        let mut random = Random::new(2);
        for i in 0..5000_u32 {
            let bytes = i.to_le_bytes();
            match random.below(6) {
                0 | 1 => {
                    client.caller().submit(&bytes).unwrap();
                    expected.push_back(bytes);
                }
                2 => assert_eq!(client.call(&bytes).unwrap(), bytes),
                3 => {
                    client.send(bob.key(), &bytes).unwrap();
                    assert_eq!(bob.recv().unwrap().payload(), bytes);
                }
                4 => client.caller().ping().unwrap(),
                _ => {
                    if let Some(bytes) = expected.pop_front() {
                        assert_eq!(client.caller().response().unwrap(), bytes);
                    }
                }
            }
            assert_eq!(client.caller().outstanding(), expected.len());
        }
    });
}

#[test]
fn a_late_response_is_discarded() {
    let gate = Gate::default();
    let at_gate = gate.clone();
    let bus = Bus::with(|b| {
        b.service(move |request: Request<'_>, response: &mut Response<'_>| {
            if request.payload().starts_with(b"wait") {
                at_gate.pass();
            }
            response.write(request.payload())
        })
    });
    let mut client = bus.client("alice");
    assert_eq!(client.call_timeout(b"wait 1", MOMENT), Err(CallError::TimedOut));
    gate.wait_for(1);
    // Behind it: one that was submitted, one that nobody waits for any more, one that is still to come.
    client.caller().submit(b"two").unwrap();
    assert_eq!(client.call_timeout(b"three", Instant::now() + MOMENT), Err(CallError::TimedOut));
    assert_eq!(client.caller().response_timeout(MOMENT), Err(CallError::TimedOut));
    assert_eq!(client.caller().outstanding(), 1);
    client.caller().submit(b"four").unwrap();
    assert_eq!(client.caller().outstanding(), 2);
    gate.open();
    assert_eq!(client.call(b"five").unwrap(), b"five");
    assert_eq!(client.caller().response().unwrap(), b"two");
    assert_eq!(client.caller().response().unwrap(), b"four");
    assert_eq!(client.caller().outstanding(), 0);
    assert_eq!(client.caller().response(), Err(CallError::NothingOutstanding));
    assert_eq!(client.caller().statistics().unwrap().calls, 5, "those given up were executed all the same");
}

#[test]
fn questions_to_the_registry_have_deadlines_too() {
    let gate = Gate::default();
    let at_gate = gate.clone();
    let bus = Bus::with(|b| {
        b.service(move |request: Request<'_>, response: &mut Response<'_>| {
            at_gate.pass();
            response.write(request.payload())
        })
    });
    // On a busy machine a registration may take longer, and its name be taken until it is given up.
    let (builder, mut client) = (Client::builder(&bus.place.path).timeout(MOMENT), None);
    eventually("it is registered in time", || match builder.register("alice") {
        Ok(registered) => {
            client = Some(registered);
            true
        }
        Err(RegisterError::TimedOut { .. } | RegisterError::NameTaken { .. }) => false,
        Err(error) => panic!("{error:?}"),
    });
    let mut client = client.unwrap();
    let (name, key) = (*client.name(), client.key());
    client.caller().submit(b"held").unwrap();
    gate.wait_for(1);
    // The worker is at the gate, and answers in the order of the requests.
    assert_eq!(client.caller().ping(), Err(CallError::TimedOut));
    assert_eq!(client.look_up(name), Err(CallError::TimedOut));
    assert_eq!(client.look_up(key), Ok(Some(key)), "this asks nobody");
    assert_eq!(client.wait_for("nobody", MOMENT), Err(CallError::TimedOut));
    assert_eq!(client.send("alice", b"x"), Err(SendError::TimedOut), "the name could not be looked up");
    assert_eq!(client.list(), Err(CallError::TimedOut));
    assert_eq!(client.caller().statistics(), Err(CallError::TimedOut));
    assert_eq!(client.caller().outstanding(), 1);
    gate.open();
    client.caller().set_timeout(LIMIT);
    assert_eq!(client.caller().response().unwrap(), b"held");
    assert_eq!(client.look_up(name), Ok(Some(key)));
    assert_eq!(client.list().unwrap().len(), 1);
    assert_eq!(client.caller().statistics().unwrap().calls, 1);
    client.caller().ping().unwrap();
}

#[test]
fn a_call_that_found_no_room_in_time_was_not_sent() {
    let gate = Gate::default();
    let at_gate = gate.clone();
    let bus = Bus::with(|b| {
        b.ring_size(4096).service(move |request: Request<'_>, response: &mut Response<'_>| {
            at_gate.pass();
            response.write(request.payload())
        })
    });
    let mut client = bus.client("alice");
    client.caller().submit(b"first").unwrap();
    gate.wait_for(1);
    // One is in the service; fill the ring behind it: 64 lines, one of them always zero.
    for i in 0..63_u8 {
        client.caller().submit(&[i]).unwrap();
    }
    assert_eq!(client.call_timeout(b"no room", MOMENT), Err(CallError::TimedOut));
    assert_eq!(client.caller().outstanding(), 64);
    gate.open();
    assert_eq!(client.caller().response().unwrap(), b"first");
    for i in 0..63_u8 {
        assert_eq!(client.caller().response().unwrap(), [i]);
    }
    assert_eq!(client.caller().statistics().unwrap().calls, 64);
}

#[test]
fn times_beyond_the_clock_are_no_time_outs() {
    let bus = Bus::start();
    let (mut client, mut bob) = (bus.client("alice"), bus.client("bob"));
    assert_eq!(client.call_timeout(b"x", Duration::MAX).unwrap(), b"x");
    client.caller().submit(b"y").unwrap();
    assert_eq!(client.caller().response_timeout(Duration::MAX).unwrap(), b"y");
    client.send_timeout(bob.key(), b"z", Duration::MAX).unwrap();
    assert_eq!(bob.recv_timeout(Duration::MAX).unwrap().payload(), b"z");
}

#[test]
fn a_deadline_that_has_passed_ends_everything_at_once() {
    let bus = Bus::with(|b| {
        b.service(|_: Request<'_>, response: &mut Response<'_>| {
            std::thread::sleep(MOMENT);
            response.write(b"late")
        })
    });
    let mut client = bus.client("alice");
    for _ in 0..5 {
        assert_eq!(client.call_timeout(b"x", Instant::now()), Err(CallError::TimedOut));
    }
    assert!(client.recv_timeout(Instant::now()).is_err());
    assert_eq!(client.call(b"y").unwrap(), b"late");
    assert_eq!(client.caller().statistics().unwrap().calls, 6);
}

/// A response to an earlier call is there at once, and tells nothing of the worker: it may lie down just
/// then.
#[test]
fn a_call_behind_others_wakes_the_worker() {
    let bus = Bus::with(|b| b.wait(WaitStrategy::Park));
    let mut client = bus.client("alice");
    let began = Instant::now();
    within_limit("calls behind others", move || {
        for round in 0..20_000_u32 {
            // Fewer rounds on a slow machine.
            if round % 256 == 0 && began.elapsed() > LIMIT / 4 {
                break;
            }
            client.caller().submit_all([&b"first"[..], b"second"]).unwrap();
            assert_eq!(client.caller().response().unwrap(), b"first");
            // The worker answers the second and lies down: before, while or after the next call is made.
            for _ in 0..round % 100 {
                std::hint::spin_loop();
            }
            assert_eq!(client.call(b"third").unwrap(), b"third");
            assert_eq!(client.caller().response().unwrap(), b"second");
        }
    });
}
