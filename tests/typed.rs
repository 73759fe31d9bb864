//! Tests of typed payloads: values arrive as they were sent, and a value of another type is reported as an
//! error.

mod common;

use common::{Bus, LIMIT, within_limit};
use ringpost::zerocopy::byteorder::little_endian::U32;
use ringpost::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes, Unaligned};
use ringpost::{
    CallError, EncodeError, FromPayload, Payload, PayloadError, Request, Response, SendError, ServiceError,
    codec,
};
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
    let Question { a, b, what, .. } = request.read()?;
    let answer = match what {
        What::Add => a.checked_add(b),
        What::Divide => a.checked_div(b),
    };
    response.write(answer.ok_or_else(|| ServiceError::new("there is no answer"))?.as_bytes())
}

#[test]
fn a_service_of_values() {
    let bus = Bus::with(|b| b.service(calculate));
    let mut client = bus.client("alice");
    let answer = client.call(question(6, What::Add, 7).as_bytes()).unwrap();
    assert_eq!(answer.read(), Ok(13_i64));
    let answer = client.call_timeout(question(6, What::Divide, 2).as_bytes(), LIMIT).unwrap();
    assert_eq!(answer.read(), Ok(3_i64));
    let none = CallError::ServiceFailed("there is no answer".into());
    assert_eq!(client.call(question(1, What::Divide, 0).as_bytes()).unwrap_err(), none);
    // The same on the calling half.
    let (mut caller, _inbox) = client.split();
    let answer = caller.call(question(i64::MAX, What::Add, 0).as_bytes()).unwrap();
    assert_eq!(answer.read(), Ok(i64::MAX));
}

#[test]
fn a_request_of_another_type_is_answered_with_what_is_wrong() {
    let bus = Bus::with(|b| b.service(calculate));
    let mut client = bus.client("alice");
    let told = |error: CallError| match error {
        CallError::ServiceFailed(why) => why,
        other => panic!("{other:?}"),
    };
    let why = told(client.call(7_u32.as_bytes()).unwrap_err());
    assert!(why.starts_with("4 bytes are not a ") && why.contains("which has 24"), "{why}");
    // The right size, but not a valid value.
    let why = told(client.call([0_u64; 3].as_bytes()).unwrap_err());
    assert!(why.contains("though their number is right"), "{why}");
    let answer = client.call(question(2, What::Add, 2).as_bytes()).unwrap();
    assert_eq!(answer.read(), Ok(4_i64));
}

#[test]
fn a_response_of_another_type_is_an_error_and_nothing_is_lost() {
    let bus = Bus::start(); // echoes
    let mut client = bus.client("alice");
    let reply = client.call(7_u32.as_bytes()).unwrap();
    let error = reply.read::<u64>().unwrap_err();
    assert!(matches!(error, PayloadError::Size { found: 4, expected: Some(8), .. }), "{error}");
    let error = reply.read::<What>().unwrap_err();
    assert!(matches!(error, PayloadError::Invalid { .. }), "{error}");
    assert_eq!(reply.read(), Ok(7_u32), "a reply is read as often as one likes");
    assert_eq!(client.call(2_u32.as_bytes()).unwrap().read(), Ok(What::Divide));
    assert_eq!(client.call(().as_bytes()).unwrap().read(), Ok(()));
}

#[test]
fn a_reply_is_its_bytes() {
    let bus = Bus::start();
    let mut client = bus.client("alice");
    let reply = client.call("text").unwrap();
    assert_eq!(reply, b"text");
    assert_eq!(reply, "text");
    assert_eq!(reply, b"text".to_vec());
    assert_ne!(reply, "texts");
    assert_eq!((reply.len(), reply.payload(), &reply[1..]), (4, &b"text"[..], &b"ext"[..]));
    assert_eq!(format!("{reply:?}"), format!("{:?}", b"text"));
    let copy = reply;
    assert_eq!(copy, reply);
}

#[test]
fn typed_calls_are_pipelined_too() {
    let bus = Bus::start();
    let mut client = bus.client("alice");
    for number in 0..100_u32 {
        client.caller().submit(number.as_bytes()).unwrap();
    }
    for number in 0..50_u32 {
        assert_eq!(client.caller().response().unwrap().read(), Ok(number));
    }
    // A response of another type is consumed, too.
    assert!(client.caller().response().unwrap().read::<u64>().is_err());
    for number in 51..100_u32 {
        assert_eq!(client.caller().response_timeout(LIMIT).unwrap().read(), Ok(number));
    }
    assert_eq!(client.caller().response().unwrap_err(), CallError::NothingOutstanding);
}

#[test]
fn messages_of_values() {
    within_limit("typed messages", || {
        let bus = Bus::start();
        let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
        alice.send(bob.key(), 1_u32.as_bytes()).unwrap();
        alice.send_timeout(bob.key(), 2_u32.as_bytes(), LIMIT).unwrap();
        alice.send(bob.key(), question(3, What::Add, 4).as_bytes()).unwrap();
        assert_eq!(bob.recv().unwrap().read(), Ok(1_u32));
        assert_eq!(bob.recv_timeout(LIMIT).unwrap().read(), Ok(2_u32));
        assert_eq!(bob.recv().unwrap().read(), Ok(question(3, What::Add, 4)));
        // The same on the receiving half.
        alice.send(bob.key(), 5_u32.as_bytes()).unwrap();
        let (_bob, mut inbox) = bob.split();
        assert_eq!(inbox.recv().unwrap().read(), Ok(5_u32));
    });
}

#[test]
fn a_message_of_another_type_stays_readable() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    alice.send(bob.key(), b"12345").unwrap();
    alice.send(bob.key(), 6_u32.as_bytes()).unwrap();
    let message = bob.recv().unwrap();
    let error = message.read::<u32>().unwrap_err();
    assert!(matches!(error, PayloadError::Size { found: 5, .. }), "{error}");
    assert_eq!((message.sender(), message.payload()), (alice.key(), &b"12345"[..]));
    assert_eq!(bob.recv().unwrap().read(), Ok(6_u32), "the next one is not disturbed");
}

#[test]
fn slices_are_read_where_they_lie() {
    let bus = Bus::with(|b| {
        b.service(|request: Request<'_>, response: &mut Response<'_>| {
            let series: &Series = codec::view(request.payload())?;
            let sum = series.points.iter().map(|point| u64::from(point.get())).sum::<u64>();
            response.write(series.number.as_bytes())?;
            response.write(sum.as_bytes())
        })
    });
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let numbers: Vec<U32> = (0..=1000).map(U32::new).collect();
    let answer = alice.call(numbers.as_bytes()).unwrap();
    assert_eq!(answer[..4], [0; 4]);
    assert_eq!(answer[4..], 500_500_u64.to_ne_bytes());
    // Half a number more.
    let error = alice.call(&[0; 10]).unwrap_err();
    assert!(matches!(error, CallError::ServiceFailed(_)), "{error}");
    alice.send(bob.key(), numbers.as_bytes()).unwrap();
    let message = bob.recv().unwrap();
    let series: &Series = codec::view(message.payload()).unwrap();
    assert_eq!((series.number.get(), series.points.len()), (0, 1000));
}

#[test]
fn values_that_are_too_large_are_refused_as_bytes_are() {
    let bus = Bus::with(|b| {
        b.ring_size(4096).service(|_: Request<'_>, response: &mut Response<'_>| {
            response.write(&[1_u8; 1000])?;
            response.write(&[1_u8; 2000])
        })
    });
    let (mut alice, bob) = (bus.client("alice"), bus.client("bob"));
    let limits = alice.limits();
    let large = [0_u64; 512];
    assert_eq!(
        alice.call(large.as_bytes()).unwrap_err(),
        CallError::TooLarge { len: 4096, max: limits.max_call }
    );
    assert_eq!(
        alice.send(bob.key(), large.as_bytes()),
        Err(SendError::TooLarge { len: 4096, max: limits.max_message })
    );
    let error = alice.call(b"").unwrap_err();
    assert!(matches!(error, CallError::ResponseTooLarge(_)), "{error}");
}

/// A user-defined format: decimal digits, without negative numbers.
#[derive(Debug, PartialEq)]
struct Digits(i64);

impl Payload for Digits {
    fn encode<R>(self, _max: usize, send: impl FnOnce(&[u8]) -> R) -> Result<R, EncodeError> {
        match u64::try_from(self.0) {
            Ok(number) => Ok(send(number.to_string().as_bytes())),
            Err(error) => Err(EncodeError::Failed { type_name: "Digits", why: error.to_string() }),
        }
    }
}

impl FromPayload<'_> for Digits {
    fn from_payload(bytes: &[u8]) -> Result<Digits, PayloadError> {
        let number = str::from_utf8(bytes).ok().and_then(|digits| digits.parse().ok());
        number.map(Digits).ok_or(PayloadError::Invalid { type_name: "Digits" })
    }
}

#[test]
fn a_format_of_ones_own_is_a_payload_too() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let reply = alice.call(Digits(42)).unwrap();
    assert_eq!((reply.payload(), reply.read()), (&b"42"[..], Ok(Digits(42))));
    alice.caller().submit_all([1, 2].map(Digits)).unwrap();
    assert_eq!(alice.caller().response().unwrap().read(), Ok(Digits(1)));
    assert_eq!(alice.caller().response().unwrap(), "2");
    alice.send(bob.key(), Digits(7)).unwrap();
    assert_eq!(bob.recv().unwrap().read(), Ok(Digits(7)));
    // What cannot be encoded is not sent, and says why.
    assert!(matches!(alice.call(Digits(-1)), Err(CallError::Encode(EncodeError::Failed { .. }))));
    assert!(matches!(alice.caller().submit(Digits(-1)), Err(CallError::Encode(_))));
    assert!(matches!(alice.send(bob.key(), Digits(-1)), Err(SendError::Encode(_))));
    assert_eq!((alice.caller().outstanding(), alice.caller().statistics().unwrap().calls), (0, 3));
}

#[cfg(feature = "serde")]
mod encoded {
    use super::*;
    use ringpost::Postcard;
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
        let Postcard(command) = request.read()?;
        match command {
            Command::Put { .. } => response.write(Postcard(Answer::Done)),
            Command::Get(key) => response.write(Postcard(Answer::Value(Some(&key)))),
            Command::Fill(size) => {
                // What does not fit leaves no trace in the response.
                let room = response.remaining();
                let tried = response.write(Postcard(Answer::Full(vec![0; size])));
                if tried.is_err() {
                    assert_eq!(response.remaining(), room);
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
        assert_eq!(client.call(Postcard(&put)).unwrap().read(), Ok(Postcard(Answer::Done)));
        let get = Command::Get("borrowed from the response".into());
        let value = client.call_timeout(Postcard(&get), LIMIT).unwrap().read();
        assert_eq!(value, Ok(Postcard(Answer::Value(Some("borrowed from the response")))));
        client.caller().submit(Postcard(&put)).unwrap();
        client.caller().submit(Postcard(get)).unwrap();
        client.caller().submit(Postcard(Command::Fill(3))).unwrap();
        assert_eq!(client.caller().response().unwrap().read(), Ok(Postcard(Answer::Done)));
        assert!(matches!(
            client.caller().response_timeout(LIMIT).unwrap().read(),
            Ok(Postcard(Answer::Value(Some(_))))
        ));
        assert_eq!(client.caller().response().unwrap().read(), Ok(Postcard(Answer::Full(vec![0; 3]))));
    }

    #[test]
    fn what_is_of_another_type_is_an_error_on_either_side() {
        let bus = Bus::with(|b| b.service(answer));
        let mut client = bus.client("alice");
        let error = client.call(Postcard((9_u8, 9_u8))).unwrap_err();
        let CallError::ServiceFailed(why) = &error else { panic!("{error:?}") };
        assert!(why.contains("use the same type on both sides"), "{why}");
        let get = Command::Get("x".into());
        let reply = client.call(Postcard(&get)).unwrap();
        assert!(reply.read::<Postcard<String>>().is_err());
        let error = reply.read::<Postcard<u8>>().unwrap_err();
        assert!(matches!(error, PayloadError::LeftOver { left: 3, .. }), "{error:?}");
        assert!(reply.read::<Postcard<Answer<'_>>>().is_ok());
    }

    #[test]
    fn what_is_too_large_is_not_sent() {
        let bus = Bus::with(|b| b.ring_size(4096).service(answer));
        let (mut client, bob) = (bus.client("alice"), bus.client("bob"));
        let limits = client.limits();
        // One byte for the variant, two for the length.
        let fits = Command::Get("x".repeat(limits.max_call - 3));
        let over = Command::Get("x".repeat(limits.max_call - 2));
        let error = client.call(Postcard(&over)).unwrap_err();
        assert!(
            matches!(error, CallError::Encode(EncodeError::TooLarge { max, .. }) if max == limits.max_call),
            "{error:?}"
        );
        let error = client.caller().submit(Postcard(&over)).unwrap_err();
        assert!(matches!(error, CallError::Encode(_)), "{error:?}");
        let error = client.send(bob.key(), Postcard(&fits)).unwrap_err();
        let max = limits.max_message;
        assert!(
            matches!(error, SendError::Encode(EncodeError::TooLarge { max: said, .. }) if said == max),
            "{error:?}"
        );
        assert_eq!(client.caller().statistics().unwrap().calls, 0);
        // A request that just fits has a response that does not: its variant, too, takes a byte.
        let error = client.call(Postcard(&fits)).unwrap_err();
        assert!(matches!(error, CallError::ResponseTooLarge(_)), "{error:?}");
        assert!(client.call(Postcard(Command::Fill(10))).is_ok());
    }

    #[test]
    fn messages_of_serde_values() {
        within_limit("serde messages", || {
            let bus = Bus::start();
            let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
            let map = BTreeMap::from([("one".to_owned(), 1), ("two".to_owned(), 2)]);
            alice.send(bob.key(), Postcard(&map)).unwrap();
            alice.send_timeout(bob.key(), Postcard(&map), LIMIT).unwrap();
            alice.send(bob.key(), &[255; 3]).unwrap();
            alice.send(bob.key(), Postcard("last")).unwrap();
            type Map = BTreeMap<String, i32>;
            assert_eq!(bob.recv().unwrap().read::<Postcard<Map>>().unwrap().0, map);
            assert_eq!(bob.recv_timeout(LIMIT).unwrap().read(), Ok(Postcard(map)));
            let third = bob.recv().unwrap();
            assert!(matches!(third.read::<Postcard<Map>>(), Err(PayloadError::Decode { .. })));
            assert_eq!(third.payload(), [255; 3]);
            let last = bob.recv().unwrap();
            assert_eq!(last.read(), Ok(Postcard("last")));
        });
    }
}
