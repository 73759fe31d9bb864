//! The serving side of links: listeners, responders, handles, services.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use ringpost::{
    AcceptError, CallError, Client, CloseReason, ConnectError, Peer, Request, Response, Service, ServiceError,
};

#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus");
    let _server = ringpost::Server::builder(&path).start().unwrap();
    let mut alice = Client::register(&path, "alice").unwrap();
    let mut bob = Client::register(&path, "bob").unwrap();
    let serving = bob.listen().unwrap().serve(|request, response| response.write(request.payload())).unwrap();
    let mut link = alice.connect("bob").unwrap();
    assert_eq!(link.call(b"ping").unwrap(), b"ping");
    assert_eq!(serving.links()[0].name, "alice");
    drop(link);
    serving.stop();
    serving.join();
}
