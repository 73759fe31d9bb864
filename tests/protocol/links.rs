//! Tests of links between the independent client and the library's clients.

use super::client::{Client, Connection, LINKS, REPORT, Reply, u16_at, u64_at};
use super::common::{Bus, becomes, begin, eventually};
use super::link::{BUSY, CALL, Ended, LIMIT, Link, OK, POST, REFUSED, connect, is_ready, listen, take};
use super::{bytes_of, small};
use ringpost::{ConnectError, Ready, Request, Response, ServiceError};
use rustix::event::PollFlags;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

/// Serves as a client of the library; posts are kept.
fn serving(bus: &Bus, posts: &Arc<Mutex<Vec<Vec<u8>>>>) -> (ringpost::Client, ringpost::ServeHandle) {
    let mut bob = bus.client("bob");
    let posts = Arc::clone(posts);
    let service = move |request: Request<'_>, response: &mut Response<'_>| -> Result<(), ServiceError> {
        if !request.wants_response() {
            posts.lock().unwrap().push(request.payload().to_vec());
        }
        super::echo(request, response)
    };
    let handle = bob.listen().unwrap().serve(service).unwrap();
    (bob, handle)
}

#[test]
fn it_calls_and_posts_to_a_client_of_the_library() {
    let bus = Bus::with(small);
    let posts = Arc::default();
    let (bob, handle) = serving(&bus, &posts);
    let client = Client::register(bus.path(), "alice").unwrap();
    let mut link = connect(bus.path(), &client, 8192, "bob").unwrap();
    assert_eq!(
        (link.peer_key, &link.peer_name[..], link.peer[0]),
        (bytes_of(bob.key()), "bob", std::process::id())
    );
    assert_eq!(link.begin_calls(), (OK, String::new()));
    becomes("the callee has the link", || handle.links().len(), &1);
    for call in 0..2000_u32 {
        let payload = super::content(call.into(), 1000);
        if call % 3 == 0 {
            link.send(POST, 0, &call.to_le_bytes());
        }
        assert_eq!(link.call(call, &payload), (OK, payload), "call {call}");
    }
    let expected: Vec<Vec<u8>> = (0..2000_u32).step_by(3).map(|call| call.to_le_bytes().to_vec()).collect();
    assert_eq!(*posts.lock().unwrap(), expected);
    // Several on their way, with posts between them, are answered in order.
    for call in 2000..2030 {
        link.send(CALL, call, &call.to_le_bytes());
        link.send(POST, 0, b"between");
    }
    for call in 2000..2030_u32 {
        let response = link.receive().unwrap();
        assert_eq!((response.code, response.sequence), (OK, call));
        assert_eq!(response.body, call.to_le_bytes());
    }
    let (status, text) = link.call(2030, b"fail");
    assert!(status == 8 && String::from_utf8(text).unwrap().contains("as asked"));
    let largest = vec![7; link.largest - 8];
    assert_eq!(link.call(2031, &largest), (OK, largest));
    assert_eq!(bus.server.clients().unwrap()[0].links, 1);
    link.close(&client, 2);
    becomes(
        "both have told the server",
        || bus.server.clients().unwrap().iter().map(|it| it.links).sum(),
        &0_u32,
    );
    becomes("the callee has let go", || handle.links().len(), &0);
}

/// Each lost kick would cost the time limit.
#[test]
fn it_waits_in_an_event_loop_for_a_client_of_the_library() {
    let bus = Bus::with(small);
    let (_bob, _handle) = serving(&bus, &Arc::default());
    let client = Client::register(bus.path(), "alice").unwrap();
    let mut link = connect(bus.path(), &client, 4096, "bob").unwrap();
    link.arms();
    assert_eq!(link.begin_calls(), (OK, String::new()));
    for call in 0..3000_u32 {
        assert_eq!(link.call(call, &call.to_le_bytes()), (OK, call.to_le_bytes().to_vec()));
    }
    link.close(&client, 2);
}

/// Both sides do.
#[test]
fn a_client_of_the_library_waits_for_it_in_an_event_loop() {
    let bus = Bus::with(small);
    let client = Client::register(bus.path(), "server").unwrap();
    let bell = listen(bus.path(), &client);
    let mut alice = bus.client("alice");
    let calls = begin(move || {
        let mut link = ringpost::Link::options().arms().connect(alice.caller(), "server").unwrap();
        let readiness = link.readiness().unwrap();
        for call in 0..3000_u32 {
            link.submit(&call.to_le_bytes()).unwrap();
            loop {
                if let Some(response) = link.try_response().unwrap() {
                    assert_eq!(response, call.to_be_bytes());
                    break;
                }
                assert!(!link.arm().unwrap() || is_ready(readiness.as_fd(), PollFlags::IN, LIMIT), "no kick");
            }
        }
    });
    let mut link = take(bus.path(), &client, &bell);
    link.arms();
    link.answer(OK, "");
    while let Ok(block) = link.receive() {
        let body: Vec<u8> = block.body.into_iter().rev().collect();
        link.send(OK, block.sequence, &body);
    }
    calls.end("the calls");
    link.close(&client, 2);
}

#[test]
fn it_serves_a_client_of_the_library_or_refuses_it() {
    let bus = Bus::with(small);
    let client = Client::register(bus.path(), "server").unwrap();
    let bell = listen(bus.path(), &client);
    let mut alice = bus.client("alice");
    let key = alice.key();
    let calls = begin(move || {
        assert!(matches!(alice.connect("server"), Err(ConnectError::Refused(why)) if why == "not today"));
        assert!(matches!(alice.connect("server"), Err(ConnectError::Busy(_))));
        let mut link = alice.connect("server").unwrap();
        for call in 0..1000_u32 {
            link.post(b"posted").unwrap();
            assert_eq!(link.call(&call.to_le_bytes()).unwrap(), &call.to_be_bytes());
        }
        drop(link);
        alice
    });
    let next = || -> Link {
        let link = take(bus.path(), &client, &bell);
        assert_eq!((link.peer_key, &link.peer_name[..]), (bytes_of(key), "alice"));
        link
    };
    let mut first = next();
    first.answer(REFUSED, "not today");
    first.close(&client, 2);
    let mut second = next();
    second.answer(BUSY, "");
    second.close(&client, 2);
    let mut link = next();
    link.answer(OK, "");
    let (mut posts, mut answered) = (0, 0_u32);
    let ended = loop {
        match link.receive() {
            Ok(block) if block.code == POST => {
                assert_eq!((block.sequence, &block.body[..]), (0, &b"posted"[..]));
                posts += 1;
            }
            Ok(block) => {
                assert_eq!((block.code, block.sequence), (CALL, answered));
                let body: Vec<u8> = block.body.into_iter().rev().collect();
                link.send(OK, answered, &body);
                answered += 1;
            }
            Err(ended) => break ended,
        }
    };
    assert_eq!((posts, answered), (1000, 1000));
    // "Local" is never stored: the other side closed it.
    assert_eq!(ended, Ended(2));
    link.close(&client, 2);
    let _alice = calls.end("the calls");
    becomes(
        "both have told the server",
        || bus.server.clients().unwrap().iter().map(|it| it.links).sum(),
        &0_u32,
    );
}

#[test]
fn its_end_is_noticed_and_it_notices_ends() {
    let bus = Bus::with(small);
    let posts = Arc::default();
    let (bob, handle) = serving(&bus, &posts);
    let client = Client::register(bus.path(), "alice").unwrap();
    let mut link = connect(bus.path(), &client, 0, "bob").unwrap();
    assert_eq!(link.begin_calls(), (OK, String::new()));
    // Without a word, as if it had died.
    drop(link);
    becomes("the callee has noticed", || handle.links().len(), &0);
    let mut link = connect(bus.path(), &client, 0, "bob").unwrap();
    assert_eq!(link.begin_calls(), (OK, String::new()));
    assert_eq!(link.call(0, b"x"), (OK, b"x".to_vec()));
    drop((handle, bob));
    assert!(matches!(link.receive(), Err(Ended(2 | 3))), "the callee has left");
    let Err(refused) = connect(bus.path(), &client, 0, "bob") else { panic!("there is nobody") };
    assert_eq!(refused.refusal(), 12);
}

/// A link goes on without the server.
#[test]
fn calls_go_on_when_the_server_has_ended() {
    let bus = Bus::with(small);
    let posts = Arc::default();
    let (_bob, _handle) = serving(&bus, &posts);
    let client = Client::register(bus.path(), "alice").unwrap();
    let mut link = connect(bus.path(), &client, 0, "bob").unwrap();
    assert_eq!(link.begin_calls(), (OK, String::new()));
    bus.server.join_after_shutdown();
    for call in 0..100 {
        assert_eq!(link.call(call, b"on"), (OK, b"on".to_vec()));
    }
}

#[test]
fn links_are_reported_and_listed() {
    let bus = Bus::with(small);
    let clients = ["alice", "bob"].map(|name| Client::register(bus.path(), name).unwrap());
    let mut indices = Vec::new();
    for (client, role, other) in [(&clients[0], 0, "bob"), (&clients[1], 1, "alice")] {
        let link = [&[role, other.len() as u8], other.as_bytes()].concat();
        let body = [&client.proof[..], &1_u16.to_le_bytes(), &link].concat();
        let reply = Connection::to(bus.path()).ask(REPORT, &body).body();
        assert_eq!((reply.len(), u16_at(&reply, 0)), (4, 1));
        indices.push(u16_at(&reply, 2));
    }
    let list = || Connection::to(bus.path()).ask(LINKS, &0_u64.to_le_bytes()).body();
    let page = list();
    assert_eq!(u64_at(&page, 0), u64::MAX);
    let number = u64_at(&page, 8);
    assert_eq!((&page[16..26], page.len()), (&b"\x05alice\x03bob"[..], 34));
    assert!(u64_at(&page, 26) < 60_000, "the age");
    assert!(number > 0);
    clients[0].end_link(indices[0]);
    eventually("the link is not listed", || list().len() == 8);
    let wrong = [&[7; 32][..], &[0; 2]].concat();
    assert_eq!(Connection::to(bus.path()).ask(REPORT, &wrong).refusal(), 15);
    assert!(matches!(Connection::to(bus.path()).ask(LINKS, b""), Reply::Refused { code: 3, .. }));
}
