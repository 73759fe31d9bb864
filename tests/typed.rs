//! Typed payloads through a server: values arrive as they were sent, and what is of another type is an error
//! that says so.

mod common;

use common::{Bus, Gate, LIMIT, within_limit};
use ringpost::zerocopy::byteorder::little_endian::U32;
use ringpost::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes, Unaligned};
use ringpost::{
    CallAsError, CallError, PayloadError, RecvAsError, RecvError, RecvTimeoutError, Request, Response,
    SendError, ServiceError, TryRecvError,
};
use std::time::{Duration, Instant};

const MOMENT: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, IntoBytes, TryFromBytes, Immutable)]
#[zerocopy(crate = "ringpost::zerocopy")]
#[repr(u32)]
enum What {
    Add = 1,
    Divide = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, IntoBytes, TryFromBytes, Immutable)]
#[zerocopy(crate = "ringpost::zerocopy")]
#[repr(C)]
struct Question {
    a: i64,
    b: i64,
    what: What,
    spare: u32,
}

#[derive(IntoBytes, TryFromBytes, KnownLayout, Immutable, Unaligned)]
#[zerocopy(crate = "ringpost::zerocopy")]
#[repr(C)]
struct Series {
    number: U32,
    points: [U32],
}

fn question(a: i64, what: What, b: i64) -> Question {
    Question { a, b, what, spare: 0 }
}

fn calculate(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    let Question { a, b, what, .. } = request.payload_as()?;
    let answer = match what {
        What::Add => a.checked_add(b),
        What::Divide => a.checked_div(b),
    };
    response.write_as(&answer.ok_or_else(|| ServiceError::new("there is no answer"))?)
}

#[test]
fn a_service_of_values() {
    let bus = Bus::with(|b| b.service(calculate));
    let mut client = bus.client("alice");
    assert_eq!(client.call_as(&question(6, What::Add, 7)), Ok(13_i64));
    assert_eq!(client.call_as_timeout(&question(6, What::Divide, 2), LIMIT), Ok(3_i64));
    assert_eq!(client.call_as_deadline(&question(1, What::Add, 1), Instant::now() + LIMIT), Ok(2_i64));
    let none = CallError::ServiceFailed("there is no answer".into());
    assert_eq!(client.call_as::<_, i64>(&question(1, What::Divide, 0)), Err(CallAsError::Call(none)));
    // The same on the calling half.
    let (mut caller, _inbox) = client.split();
    assert_eq!(caller.call_as(&question(i64::MAX, What::Add, 0)), Ok(i64::MAX));
}

#[test]
fn a_request_of_another_type_is_answered_with_what_is_wrong() {
    let bus = Bus::with(|b| b.service(calculate));
    let mut client = bus.client("alice");
    let told = |error: CallAsError| match error {
        CallAsError::Call(CallError::ServiceFailed(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = told(client.call_as::<_, i64>(&7_u32).unwrap_err());
    assert!(why.starts_with("4 bytes are not a ") && why.contains("which has 24"), "{why}");
    // Of the right size, but no question.
    let why = told(client.call_as::<_, i64>(&[0_u64; 3]).unwrap_err());
    assert!(why.contains("though their number is right"), "{why}");
    assert_eq!(client.call_as(&question(2, What::Add, 2)), Ok(4_i64));
}

#[test]
fn a_response_of_another_type_is_an_error_and_nothing_is_lost() {
    let bus = Bus::start(); // echoes
    let mut client = bus.client("alice");
    let error = client.call_as::<_, u64>(&7_u32).unwrap_err();
    assert!(
        matches!(error, CallAsError::Response(PayloadError::Size { found: 4, expected: Some(8), .. })),
        "{error}"
    );
    let error = client.call_as::<_, What>(&7_u32).unwrap_err();
    assert!(matches!(error, CallAsError::Response(PayloadError::Invalid { .. })), "{error}");
    assert_eq!(client.call_as(&2_u32), Ok(What::Divide));
    assert_eq!(client.call_as(&()), Ok(()));
}

#[test]
fn typed_calls_are_pipelined_too() {
    let bus = Bus::start();
    let mut client = bus.client("alice");
    for number in 0..100_u32 {
        client.submit_as(&number).unwrap();
    }
    for number in 0..50_u32 {
        assert_eq!(client.response_as(), Ok(number));
    }
    // One that is not of the type asked for is taken all the same.
    assert!(matches!(client.response_as::<u64>(), Err(CallAsError::Response(_))));
    for number in 51..100_u32 {
        assert_eq!(client.response_as_timeout(LIMIT), Ok(number));
    }
    assert_eq!(client.response_as::<u32>(), Err(CallAsError::Call(CallError::NothingOutstanding)));
}

#[test]
fn deadlines_end_typed_calls() {
    let gate = Gate::default();
    let at_gate = gate.clone();
    let bus = Bus::with(|b| {
        b.service(move |request: Request<'_>, response: &mut Response<'_>| {
            at_gate.pass();
            response.write(request.payload())
        })
    });
    let mut client = bus.client("alice");
    let late = Err(CallAsError::Call(CallError::TimedOut));
    assert_eq!(client.call_as_timeout::<u32, u32>(&1, MOMENT), late);
    assert_eq!(client.call_as_deadline::<u32, u32>(&2, Instant::now() + MOMENT), late);
    client.submit_as(&3_u32).unwrap();
    assert_eq!(client.response_as_timeout::<u32>(MOMENT), late);
    gate.open();
    assert_eq!(client.response_as(), Ok(3_u32));
}

#[test]
fn messages_of_values() {
    within_limit("typed messages", || {
        let bus = Bus::start();
        let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
        assert_eq!(bob.try_recv_as::<u32>(), Err(RecvAsError::Recv(TryRecvError::Empty)));
        assert_eq!(bob.recv_as_timeout::<u32>(MOMENT), Err(RecvAsError::Recv(RecvTimeoutError::TimedOut)));
        alice.send_as(bob.key(), &1_u32).unwrap();
        alice.send_as_timeout(bob.key(), &2_u32, LIMIT).unwrap();
        alice.send_as_deadline(bob.key(), &3_u32, Instant::now() + LIMIT).unwrap();
        alice.send_as(bob.key(), &question(4, What::Add, 4)).unwrap();
        let first = bob.recv_as::<u32>().unwrap();
        assert_eq!((first.from(), first.from_name()), (alice.key(), alice.name()));
        assert_eq!(*first.payload(), 1);
        assert_eq!(bob.recv_as_timeout::<u32>(LIMIT).unwrap().into_payload(), 2);
        assert_eq!(bob.recv_as_deadline::<u32>(Instant::now() + LIMIT).unwrap().into_payload(), 3);
        let fourth = bob.recv().unwrap();
        assert_eq!(fourth.payload_as(), Ok(question(4, What::Add, 4)));
        // The same on the receiving half, up to the end.
        alice.send_as(bob.key(), &5_u32).unwrap();
        let (bob, mut inbox) = bob.split();
        assert_eq!(inbox.try_recv_as::<u32>().unwrap().into_payload(), 5);
        drop(bob);
        assert!(matches!(inbox.recv_as::<u32>(), Err(RecvAsError::Recv(RecvError::Disconnected(_)))));
    });
}

#[test]
fn a_message_of_another_type_is_handed_over_in_the_error() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    alice.send(bob.key(), b"12345").unwrap();
    alice.send_as(bob.key(), &6_u32).unwrap();
    let error = bob.recv_as::<u32>().unwrap_err();
    assert!(error.to_string().starts_with("a message from alice is of another type: 5 bytes"), "{error}");
    let RecvAsError::Payload { message, source: PayloadError::Size { found: 5, .. } } = error else {
        panic!("{error:?}")
    };
    assert_eq!((message.from(), message.payload()), (alice.key(), &b"12345"[..]));
    assert_eq!(bob.recv_as::<u32>().unwrap().into_payload(), 6, "the next one is not disturbed");
}

#[test]
fn slices_are_read_where_they_lie() {
    let bus = Bus::with(|b| {
        b.service(|request: Request<'_>, response: &mut Response<'_>| {
            let series: &Series = request.payload_ref()?;
            let sum = series.points.iter().map(|point| u64::from(point.get())).sum::<u64>();
            response.write_as(&series.number)?;
            response.write_as(&sum)
        })
    });
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let numbers: Vec<U32> = (0..=1000).map(U32::new).collect();
    let answer = alice.call_as::<[U32], [u8; 12]>(&numbers).unwrap();
    assert_eq!(answer[..4], [0; 4]);
    assert_eq!(answer[4..], 500_500_u64.to_ne_bytes());
    // Half a number more.
    let error = alice.call_as::<[u8], [u8; 12]>(&[0; 10]).unwrap_err();
    assert!(matches!(error, CallAsError::Call(CallError::ServiceFailed(_))), "{error}");
    alice.send_as(bob.key(), &numbers[..]).unwrap();
    let message = bob.recv().unwrap();
    let series = message.payload_ref::<Series>().unwrap();
    assert_eq!((series.number.get(), series.points.len()), (0, 1000));
}

#[test]
fn values_that_are_too_large_are_refused_as_bytes_are() {
    let bus = Bus::with(|b| {
        b.ring_size(4096).service(|_: Request<'_>, response: &mut Response<'_>| {
            response.write_as(&[1_u8; 1000])?;
            response.write_as(&[1_u8; 2000])
        })
    });
    let (mut alice, bob) = (bus.client("alice"), bus.client("bob"));
    let limits = alice.limits();
    let large = [0_u8; 4096];
    assert_eq!(
        alice.call_as::<_, u8>(&large),
        Err(CallAsError::Call(CallError::TooLarge { len: 4096, max: limits.max_call }))
    );
    assert_eq!(
        alice.send_as(bob.key(), &large),
        Err(SendError::TooLarge { len: 4096, max: limits.max_message })
    );
    let error = alice.call_as::<_, u8>(&()).unwrap_err();
    assert!(matches!(error, CallAsError::Call(CallError::ResponseTooLarge(_))), "{error}");
}

#[cfg(feature = "serde")]
mod encoded {
    use super::*;
    use ringpost::{CallSerdeError, EncodeError, SendSerdeError};
    use serde::{Deserialize, Serialize};
    use std::collections::BTreeMap;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Command {
        Put { key: String, value: Vec<u8> },
        Get(String),
        Fill(usize),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Answer<'a> {
        Done,
        Value(Option<&'a str>),
        Full(Vec<u8>),
    }

    fn answer(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
        match request.payload_serde()? {
            Command::Put { .. } => response.write_serde(&Answer::Done),
            Command::Get(key) => response.write_serde(&Answer::Value(Some(&key))),
            Command::Fill(size) => {
                // What does not fit leaves no trace in the response.
                let tried = response.write_serde(&Answer::Full(vec![0; size]));
                if tried.is_err() {
                    assert_eq!(response.written(), 0);
                }
                tried
            }
        }
    }

    #[test]
    fn a_service_of_serde_values() {
        let bus = Bus::with(|b| b.service(answer));
        let mut client = bus.client("alice");
        let put = Command::Put { key: "a".into(), value: vec![1, 2, 3] };
        assert_eq!(client.call_serde(&put), Ok(Answer::Done));
        let get = Command::Get("borrowed from the response".into());
        let value = client.call_serde_timeout::<_, Answer>(&get, LIMIT);
        assert_eq!(value, Ok(Answer::Value(Some("borrowed from the response"))));
        let until = Instant::now() + LIMIT;
        assert_eq!(client.call_serde_deadline(&Command::Fill(3), until), Ok(Answer::Full(vec![0; 3])));
        client.submit_serde(&put).unwrap();
        client.submit_serde(&get).unwrap();
        assert_eq!(client.response_serde(), Ok(Answer::Done));
        assert!(matches!(client.response_serde_timeout(LIMIT), Ok(Answer::Value(Some(_)))));
        let nothing = CallSerdeError::Call(CallError::NothingOutstanding);
        assert_eq!(client.response_serde::<Answer>(), Err(nothing));
    }

    #[test]
    fn what_is_of_another_type_is_an_error_on_either_side() {
        let bus = Bus::with(|b| b.service(answer));
        let mut client = bus.client("alice");
        let error = client.call_serde::<_, Answer>(&(9_u8, 9_u8)).unwrap_err();
        let CallSerdeError::Call(CallError::ServiceFailed(why)) = &error else { panic!("{error:?}") };
        assert!(why.contains("use the same type on both sides"), "{why}");
        let get = Command::Get("x".into());
        let error = client.call_serde::<_, String>(&get).unwrap_err();
        assert!(matches!(error, CallSerdeError::Response(_)), "{error:?}");
        let error = client.call_serde::<_, u8>(&get).unwrap_err();
        assert!(
            matches!(error, CallSerdeError::Response(PayloadError::LeftOver { left: 3, .. })),
            "{error:?}"
        );
        assert!(client.call_serde::<_, Answer>(&get).is_ok());
    }

    #[test]
    fn what_is_too_large_is_not_sent() {
        let bus = Bus::with(|b| b.ring_size(4096).service(answer));
        let (mut client, bob) = (bus.client("alice"), bus.client("bob"));
        let limits = client.limits();
        // One byte for the variant, two for the length.
        let fits = Command::Get("x".repeat(limits.max_call - 3));
        let over = Command::Get("x".repeat(limits.max_call - 2));
        let error = client.call_serde::<_, Answer>(&over).unwrap_err();
        assert!(
            matches!(error, CallSerdeError::Request(EncodeError::TooLarge { max, .. }) if max == limits.max_call),
            "{error:?}"
        );
        let error = client.submit_serde(&over).unwrap_err();
        assert!(matches!(error, CallSerdeError::Request(_)), "{error:?}");
        let error = client.send_serde(bob.key(), &fits).unwrap_err();
        let max = limits.max_message;
        assert!(
            matches!(error, SendSerdeError::Message(EncodeError::TooLarge { max: said, .. }) if said == max),
            "{error:?}"
        );
        assert_eq!(client.statistics().unwrap().calls, 0);
        // A request that just fits has a response that does not: its variant, too, takes a byte.
        let error = client.call_serde::<_, Answer>(&fits).unwrap_err();
        assert!(matches!(error, CallSerdeError::Call(CallError::ResponseTooLarge(_))), "{error:?}");
        assert!(client.call_serde::<_, Answer>(&Command::Fill(10)).is_ok());
    }

    #[test]
    fn messages_of_serde_values() {
        within_limit("serde messages", || {
            let bus = Bus::start();
            let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
            let map = BTreeMap::from([("one".to_owned(), 1), ("two".to_owned(), 2)]);
            alice.send_serde(bob.key(), &map).unwrap();
            alice.send_serde_timeout(bob.key(), &map, LIMIT).unwrap();
            alice.send_serde_deadline(bob.key(), &map, Instant::now() + LIMIT).unwrap();
            alice.send(bob.key(), &[255; 3]).unwrap();
            alice.send_serde(bob.key(), "last").unwrap();
            type Map = BTreeMap<String, i32>;
            assert_eq!(bob.recv_serde::<Map>().unwrap().into_payload(), map);
            assert_eq!(bob.recv_serde_timeout::<Map>(LIMIT).unwrap().into_payload(), map);
            let third = bob.recv_serde_deadline::<Map>(Instant::now() + LIMIT).unwrap();
            assert_eq!(third.from_name(), alice.name());
            match bob.recv_serde::<Map>() {
                Err(RecvAsError::Payload { message, source: PayloadError::Decode { .. } }) => {
                    assert_eq!(message.payload(), [255; 3]);
                }
                other => panic!("{other:?}"),
            }
            let last = bob.recv().unwrap();
            assert_eq!(last.payload_serde(), Ok("last"));
            let (_bob, mut inbox) = bob.split();
            assert_eq!(inbox.try_recv_serde::<Map>(), Err(RecvAsError::Recv(TryRecvError::Empty)));
        });
    }
}
