//! Services that behave in all sorts of ways: the caller is told, and nobody else notices.

use crate::common::payload::Random;
use crate::common::{Bus, Gate, LIMIT, Place, begin, eventually, within_limit};
use ringpost::{CallError, Client, CloseReason, Peer, RecvError, Request, Response, Server, ServiceError};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

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
            assert_eq!(response.remaining(), 0);
            Ok(())
        }
        b"second thoughts" => {
            let room = response.remaining();
            response.write(&[0; 500])?;
            response.clear();
            assert_eq!(response.remaining(), room);
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
            let Peer { name, key, pid, uid, gid, .. } = request.peer();
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
            assert!(matches!(client.call(b"io error"), Err(CallError::ResponseTooLarge(_))));
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
    assert_eq!(String::from_utf8_lossy(&client.call(b"who").unwrap()), expected);
}

#[test]
fn a_service_that_takes_its_time_delays_its_caller_only() {
    let gate = Gate::default();
    let bus = Bus::with(|b| b.service(moody(gate.clone())));
    let mut slow = bus.client("slow");
    let key = slow.key();
    let waiting = begin(move || slow.call(b"wait").map(|reply| reply.to_vec()));
    gate.wait_for(1);
    let mut other = bus.client("other");
    for i in 0..1000_u32 {
        assert_eq!(other.call(&i.to_le_bytes()).unwrap(), i.to_le_bytes());
    }
    other.send(key, b"for later").unwrap();
    assert_eq!(other.list().unwrap().len(), 2);
    bus.client("a third").caller().ping().unwrap();
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
            begin(move || client.call(b"wait").map(|reply| reply.to_vec()))
        })
        .collect();
    gate.wait_for(10);
    gate.open();
    for call in waiting {
        call.end("a call").unwrap();
    }
}

/// What a service panics with may do harm of its own when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// While one client's calls panic, one after the other and in pipelines, another calls and messages as if
/// nothing were.
#[test]
fn panics_are_answered_in_order_and_nobody_else_notices() {
    within_limit("calls that panic", || {
        let bus = Bus::with(|b| {
            b.ring_size(8192).service(|request: Request<'_>, response: &mut Response<'_>| {
                match request.payload().first() {
                    Some(b'p') => panic!("as the caller wished"),
                    Some(b'b') => std::panic::panic_any(Bomb),
                    Some(b'h') => {
                        response.write(&[0; 3000])?;
                        panic!("with a response begun");
                    }
                    _ => response.write(request.payload()),
                }
            })
        });
        let mut victim = bus.client("victim");
        let (mut other, mut third) = (bus.client("other"), bus.client("third"));
        let undisturbed = begin(move || {
            for i in 0..2000_u32 {
                let request = format!("x{i}");
                assert_eq!(other.call(request.as_bytes()).unwrap(), request.as_bytes());
                other.send(third.key(), request.as_bytes()).unwrap();
                assert_eq!(third.recv().unwrap().payload(), request.as_bytes());
            }
        });
        let mut random = Random::new(3);
        for round in 0..30_u32 {
            let kinds: Vec<u8> = (0..random.below(40)).map(|_| b"xxpbh"[random.below(5)]).collect();
            for (i, kind) in kinds.iter().enumerate() {
                victim.caller().submit(&[*kind, i as u8, round as u8]).unwrap();
            }
            for (i, kind) in kinds.iter().enumerate() {
                match (kind, victim.caller().response()) {
                    (b'x', answer) => assert_eq!(answer.unwrap(), [*kind, i as u8, round as u8]),
                    (_, Err(CallError::ServiceFailed(why))) => assert!(why.contains("panicked"), "{why}"),
                    (_, other) => panic!("round {round}, call {i}: {other:?}"),
                }
            }
        }
        // A call that fails is a call.
        let before = victim.caller().statistics().unwrap().calls;
        assert!(victim.call(b"p").is_err() && victim.call(b"b").is_err() && victim.call(b"x").is_ok());
        assert_eq!(victim.caller().statistics().unwrap().calls, before + 3);
        undisturbed.end("the others");
        drop(victim);
        let summary = bus.server.join_after_shutdown();
        assert_eq!((summary.abandoned, summary.violations), (0, 0));
    });
}

/// As many as were committed when the shutdown began are answered, though most of them panic.
#[test]
fn panics_do_not_cut_a_shutdown_short() {
    let gate = Gate::default();
    let bus = Bus::with(|b| b.ring_size(4096).grace(LIMIT).service(moody(gate.clone())));
    let mut client = bus.client("alice");
    client.caller().submit(b"wait").unwrap();
    gate.wait_for(1);
    for i in 0..60 {
        client.caller().submit(if i % 3 == 0 { "echo" } else { "panic" }).unwrap();
    }
    let Bus { server, place } = bus;
    server.shutdown();
    eventually("the shutdown has begun", || !place.path.exists());
    gate.open();
    assert_eq!(client.caller().response().unwrap(), b"");
    for i in 0..60 {
        match client.caller().response() {
            Ok(answer) => assert_eq!((i % 3, answer.payload()), (0, &b"echo"[..])),
            Err(CallError::ServiceFailed(_)) => assert_ne!(i % 3, 0),
            Err(error) => panic!("call {i}: {error}"),
        }
    }
    let summary = within_limit("the shutdown", move || server.join());
    assert_eq!((summary.calls, summary.abandoned), (61, 0));
}

/// A service that is a client of its own server: to the server it is a client like any other.
fn calls_back(path: PathBuf) -> impl Fn(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> {
    move |request, response| {
        let Some(depth) = request.payload().first().copied().filter(|depth| *depth > 0) else {
            return response.write(b"bottom");
        };
        let name = format!("{} {depth}", request.peer().name);
        let mut inner = Client::register(&path, name)?;
        inner.send(request.peer().key, &[depth])?;
        response.write(&inner.call(&[depth - 1])?)
    }
}

#[test]
fn a_service_may_call_back_into_its_own_server() {
    let place = Place::new();
    let server =
        Server::builder(&place.path).max_clients(12).service(calls_back(place.path.clone())).start().unwrap();
    let clients: Vec<Client> =
        (0..2).map(|i| Client::register(&place.path, format!("c{i}")).unwrap()).collect();
    let calls: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            begin(move || {
                for _ in 0..10 {
                    assert_eq!(client.call(&[4]).unwrap(), b"bottom");
                    assert_eq!(client.recv().unwrap().payload(), [4]);
                }
                client
            })
        })
        .collect();
    let mut clients: Vec<Client> = calls.into_iter().map(|call| call.end("a call")).collect();
    // If the server is full, the service fails and its error says so.
    match clients[0].call(&[100]) {
        Err(CallError::ServiceFailed(why)) => assert!(why.contains("is full"), "{why}"),
        other => panic!("{other:?}"),
    }
    // Each drop waits for a second at most.
    eventually("the inner clients have left", || server.info().clients == 2);
    assert_eq!(clients[1].call(&[1]).unwrap(), b"bottom");
    eventually("the inner clients have left", || server.info().clients == 2);
    assert_eq!(server.join_after_shutdown().abandoned, 0);
}

/// Even one that ends the server in which it runs.
#[test]
fn a_service_may_shut_its_own_server_down() {
    let stopper: Arc<OnceLock<ringpost::Stopper>> = Arc::default();
    let at_hand = Arc::clone(&stopper);
    let bus = Bus::with(|b| {
        b.service(move |_: Request<'_>, response: &mut Response<'_>| {
            at_hand.get().unwrap().shutdown();
            response.write(b"good bye")
        })
    });
    stopper.set(bus.server.stopper()).unwrap();
    let mut client = bus.client("alice");
    assert_eq!(client.call(b"x").unwrap(), b"good bye");
    assert_eq!(client.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
    assert_eq!(within_limit("the shutdown", move || bus.server.join()).abandoned, 0);
}
