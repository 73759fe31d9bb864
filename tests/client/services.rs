//! Services that behave in all sorts of ways: the caller is told, and nobody else notices.

use crate::common::{Bus, Gate, begin};
use ringpost::{CallError, Request, Response, ServiceError};
use std::io::Write;

fn moody(gate: Gate) -> impl Fn(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> {
    move |request, response| match request.payload() {
        b"panic" => panic!("as the caller wished"),
        b"half, then panic" => {
            response.write(&[1; 100])?;
            panic!("as the caller wished");
        }
        b"error" => Err(ServiceError::new("\x1b[31mno\nthanks")),
        b"long error" => Err(ServiceError::new("ä".repeat(5000))),
        b"half, then error" => {
            response.write(&[1; 100])?;
            Err(ServiceError::new("no"))
        }
        b"nothing" => Ok(()),
        b"too much" => response.write(&vec![0; response.remaining() + 1]),
        b"too much in pieces" => loop {
            response.write(&[0; 1000])?;
        },
        b"too much, ignored" => {
            response.write(b"kept")?;
            let _ = response.write(&vec![0; response.remaining() + 1]);
            Ok(())
        }
        b"exactly all" => {
            let most = response.remaining();
            response.write(&vec![5; most])?;
            assert_eq!((response.remaining(), response.written()), (0, most));
            Ok(())
        }
        b"second thoughts" => {
            response.write(&[0; 500])?;
            response.clear();
            assert_eq!(response.written(), 0);
            write!(response, "{} + {}", 1, 2)?;
            response.write(b" = 3")
        }
        b"io error" => {
            let most = response.remaining();
            response.write_all(&vec![0; most])?;
            response.write_all(b"x")?;
            Ok(())
        }
        b"who" => {
            let (name, key) = (request.name(), request.key());
            let (pid, uid, gid) = (request.pid(), request.uid(), request.gid());
            write!(response, "{name} {key} {pid} {uid} {gid}")?;
            Ok(())
        }
        b"wait" => {
            gate.pass();
            Ok(())
        }
        other => response.write(other),
    }
}

#[test]
fn every_mood_is_answered() {
    for ring_size in [4096, 256 * 1024] {
        let bus = Bus::with(|b| b.ring_size(ring_size).service(moody(Gate::default())));
        let mut client = bus.client("alice");
        let most = client.limits().max_call;
        for _ in 0..20 {
            let panicked = client.call(b"panic");
            assert!(matches!(panicked, Err(CallError::ServiceFailed(why)) if why.contains("panic")));
            let panicked = client.call(b"half, then panic");
            assert!(matches!(panicked, Err(CallError::ServiceFailed(_))));
            // Nothing in a service's words steers the caller's terminal.
            assert_eq!(client.call(b"error"), Err(CallError::ServiceFailed("[31mnothanks".into())));
            assert_eq!(client.call(b"half, then error"), Err(CallError::ServiceFailed("no".into())));
            match client.call(b"long error") {
                Err(CallError::ServiceFailed(why)) => {
                    assert!(why.len() <= most && why.chars().all(|c| c == 'ä') && why.len() > 1000);
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(client.call(b"nothing").unwrap(), b"");
            assert!(matches!(client.call(b"too much"), Err(CallError::ResponseTooLarge(_))));
            assert!(matches!(client.call(b"too much in pieces"), Err(CallError::ResponseTooLarge(_))));
            assert_eq!(client.call(b"too much, ignored").unwrap(), b"kept");
            assert_eq!(client.call(b"exactly all").unwrap(), vec![5; most]);
            assert_eq!(client.call(b"second thoughts").unwrap(), b"1 + 2 = 3");
            assert!(matches!(client.call(b"io error"), Err(CallError::ServiceFailed(_))));
            assert_eq!(client.call(b"echo").unwrap(), b"echo");
        }
    }
}

#[test]
fn a_service_knows_who_calls() {
    let bus = Bus::with(|b| b.service(moody(Gate::default())));
    let mut client = bus.client("alice");
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let expected = format!("alice {} {} {uid} {gid}", client.key(), std::process::id());
    assert_eq!(String::from_utf8_lossy(client.call(b"who").unwrap()), expected);
}

#[test]
fn a_service_that_takes_its_time_delays_its_caller_only() {
    let gate = Gate::default();
    let bus = Bus::with(|b| b.service(moody(gate.clone())));
    let mut slow = bus.client("slow");
    let key = slow.key();
    let waiting = begin(move || slow.call(b"wait").map(<[u8]>::to_vec));
    gate.wait_for(1);
    let mut other = bus.client("other");
    for i in 0..1000_u32 {
        assert_eq!(other.call(&i.to_le_bytes()).unwrap(), i.to_le_bytes());
    }
    other.send(key, b"for later").unwrap();
    assert_eq!(other.list().unwrap().len(), 2);
    bus.client("a third").ping().unwrap();
    assert!(!waiting.is_over());
    gate.open();
    assert_eq!(waiting.end("the slow call").unwrap(), b"");
}

#[test]
fn many_calls_run_at_once() {
    let gate = Gate::default();
    let bus = Bus::with(|b| b.service(moody(gate.clone())));
    let waiting: Vec<_> = (0..10)
        .map(|i| {
            let mut client = bus.client(&format!("client {i}"));
            begin(move || client.call(b"wait").map(<[u8]>::to_vec))
        })
        .collect();
    gate.wait_for(10);
    gate.open();
    for call in waiting {
        call.end("a call").unwrap();
    }
}
