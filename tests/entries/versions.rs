//! Tests of a peer of another version: with a hand-written client and a hand-written server.

use crate::assert_mentions;
use crate::common::raw::{
    LIST, REGISTER, SERVER, VERSION, accept, datagram, dial, hear, listen_at, say, say_with,
};
use crate::common::{Begun, Bus, Place, begin};
use ringpost::channel::ChannelError;
use ringpost::testing::Segment;
use ringpost::{Client, Observer, RegisterError};
use std::os::fd::OwnedFd;

#[test]
fn a_client_of_another_version_is_told_both_versions() {
    let bus = Bus::start();
    for version in [0, VERSION + 1, u32::MAX] {
        for (what, body) in
            [(REGISTER, &b"bob"[..]), (LIST, &[0; 4]), (SERVER, &[]), (999, b"what a later one asks")]
        {
            let line = dial(bus.path());
            say(&line, &datagram(version, what, body));
            let (refusal, why) = hear(&line).refusal();
            assert_eq!(refusal, 2, "{why}");
            assert_mentions(
                &why,
                &[
                    &format!("version {version} "),
                    &format!("uses version {VERSION}"),
                    "same ringpost version",
                ],
            );
        }
    }
    assert_eq!(bus.server.info().clients, 0);
    assert_eq!(bus.server.join_after_shutdown().refused, 12);
}

/// A hand-written server that answers the first request of each of `times` connections with these bytes.
pub fn pretend(place: &Place, times: usize, reply: Vec<u8>, descriptor: Option<OwnedFd>) -> Begun<()> {
    let socket = listen_at(&place.path);
    begin(move || {
        for _ in 0..times {
            let line = accept(&socket);
            let _ = rustix::io::read(&line, &mut [0; 100]).unwrap();
            match &descriptor {
                Some(descriptor) => say_with(&line, &reply, &[descriptor]),
                None => say(&line, &reply),
            }
        }
    })
}

#[test]
fn a_server_of_another_version_is_named_with_its_version() {
    // It either refuses, as it should, or answers with success.
    for (version, status) in [(VERSION + 1, 2), (0, 2), (77, 999), (VERSION + 1, 0)] {
        let place = Place::new();
        let server = pretend(&place, 2, datagram(version, status, b"go away"), None);
        let errors = [
            Client::register(&place.path, "alice").unwrap_err(),
            Observer::connect(&place.path).and_then(|observer| observer.list()).unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(error, RegisterError::VersionMismatch { server, own: VERSION } if server == version),
                "{error:?}"
            );
            let words = [&format!("protocol version {version}")[..], "same ringpost version on both sides"];
            assert_mentions(&error.to_string(), &words);
        }
        server.end("the server by hand");
    }
}

/// The same protocol, but another layout of the channel.
#[test]
fn a_channel_of_another_layout_is_named_with_its_version() {
    let (segment, descriptor) = Segment::create("another version", 1 << 16).unwrap();
    segment.copy_in(0, b"RINGPOST");
    segment.copy_in(8, &77_u32.to_le_bytes());
    let place = Place::new();
    let server = pretend(&place, 1, datagram(VERSION, 0, &[7; 32]), Some(descriptor));
    let error = Client::register(&place.path, "alice").unwrap_err();
    assert!(matches!(error, RegisterError::Channel(ChannelError::Version { found: 77 })), "{error:?}");
    assert_mentions(&error.to_string(), &["version 77", "version 3", "same ringpost version"]);
    server.end("the server by hand");
}
