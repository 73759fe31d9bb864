//! What `{:?}` shows: who or what it is, in a line, however much there is behind it.

use crate::common::Bus;
use ringpost::channel;
use ringpost::{Reconnect, Server, ring};
use std::fmt::Debug;

fn shows(what: &impl Debug, parts: &[&str]) {
    let shown = format!("{what:?}");
    assert!(shown.len() < 200, "{} bytes: {shown}", shown.len());
    for part in parts {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
}

#[test]
fn clients_show_who_they_are() {
    let bus = Bus::start();
    // A process with many clients shows no more of each.
    let _others: Vec<_> = (0..20).map(|n| bus.client(&format!("other {n}"))).collect();
    let client = bus.client("alice");
    let key = client.key().to_string();
    let open = ["\"alice\"", &key, "closed: None"];
    let handle = client.closer();
    shows(&client, &open);
    shows(&handle, &open);
    let (caller, inbox) = client.split();
    shows(&caller, &open);
    shows(&inbox, &open);
    handle.close();
    let closed = ["\"alice\"", "Local"];
    shows(&caller, &closed);
    shows(&inbox, &closed);
    shows(&handle, &closed);
}

/// As its key does, it says what it is now.
#[test]
fn a_client_that_registers_again_shows_its_newest_key() {
    let Bus { server, place } = Bus::start();
    let builder = ringpost::Client::builder(&place.path).reconnect(Reconnect::default());
    let (mut caller, inbox) = builder.register("alice").unwrap().split();
    let former = caller.key().to_string();
    shows(&inbox, &["\"alice\"", &former, "closed: None"]);
    server.join_after_shutdown();
    shows(&inbox, &["\"alice\"", &former, "Shutdown"]);
    let _server = Server::builder(&place.path).start().unwrap();
    let newest = caller.reconnect(None).unwrap().to_string();
    for shown in [&caller as &dyn Debug, &inbox] {
        shows(&shown, &["\"alice\"", &newest, "closed: None"]);
    }
}

#[test]
fn servers_show_where_they_are() {
    let bus = Bus::with(|builder| (0..1000).fold(builder, |builder, uid| builder.allow_user(uid)));
    let path = bus.path().to_str().unwrap();
    shows(&bus.server, &[path]);
    shows(&bus.server.stopper(), &[path]);
}

#[test]
fn rings_show_how_large_they_are() {
    let (mut producer, consumer) = ring::local(4096).unwrap();
    let sizes = ["capacity: 4096", "max_block: 2040"];
    shows(&producer, &[&sizes[..], &["closed: None"]].concat());
    shows(&consumer, &[&sizes[..], &["closed: None"]].concat());
    shows(&producer.closer(), &["closed: None"]);
    shows(&producer.grant(100).unwrap(), &[&sizes[..], &["len: 100"]].concat());
    producer.closer().close();
    shows(&consumer, &["LOCAL"]);
}

#[test]
fn ends_of_a_channel_show_their_rings() {
    let (host, descriptor) = channel::create(4096, Default::default()).unwrap();
    let guest = channel::open(&descriptor, Default::default()).unwrap();
    for end in [&host.requests as &dyn Debug, &host.inbox, &guest.requests, &guest.inbox] {
        shows(&end, &["capacity: 4096"]);
    }
    host.closer.close();
    assert_eq!(guest.closer.reason(), Some(ring::CloseReason::PEER));
    shows(&guest.closer, &["PEER"]);
}
