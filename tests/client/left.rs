//! A service hears once of each client that left, after the client's last call has returned.

use crate::common::raw::{CALL, RawClient};
use crate::common::{Bus, Gate, Place, becomes, eventually, within_limit};
use ringpost::{Client, CloseReason, Peer, RecvError, Request, Response, Server, Service, ServiceError};
use std::sync::{Arc, Mutex};

/// Keeps the clients that it served, and the order in which they left.
#[derive(Default)]
struct Doorman {
    log: Mutex<Vec<String>>,
    gate: Gate,
}

impl Doorman {
    fn tell(&self, text: String) {
        self.log.lock().unwrap().push(text);
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

impl Service for Doorman {
    fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
        if request.payload() == b"wait" {
            self.gate.pass();
        }
        self.tell(format!("call {} {}", request.peer().name, request.peer().key));
        response.write(request.payload())
    }

    fn left(&self, client: &Peer) {
        self.tell(format!("left {} {}", client.name, client.key));
        assert!(client.name != "a bomb", "as the client wished");
    }
}

#[test]
fn a_service_hears_once_that_a_client_unregistered() {
    let doorman = Arc::new(Doorman::default());
    let bus = Bus::with(|b| b.service_with(Arc::clone(&doorman)));
    let mut alice = bus.client("alice");
    let key = alice.key();
    alice.call(b"").unwrap();
    assert_eq!(doorman.log(), [format!("call alice {key}")]);
    alice.unregister().unwrap();
    let both = [format!("call alice {key}"), format!("left alice {key}")];
    becomes("the service knows", || doorman.log(), &both.to_vec());
    // Of a client that never called, too; and one that panics there does no harm to the next.
    for name in ["a bomb", "bob"] {
        let client = bus.client(name);
        let left = format!("left {name} {}", client.key());
        drop(client);
        eventually("the service knows of the next", || doorman.log().last() == Some(&left));
    }
    drop(bus);
    assert_eq!(doorman.log().len(), 4, "nobody leaves twice");
}

#[test]
fn a_service_hears_of_a_death_after_the_last_call_has_returned() {
    let doorman = Arc::new(Doorman::default());
    let bus = Bus::with(|b| b.service_with(Arc::clone(&doorman)));
    let mut guest = RawClient::register(bus.path(), "alice");
    guest.request(CALL, 0, b"wait");
    doorman.gate.wait_for(1);
    let key = guest.key;
    drop(guest);
    eventually("the name is free", || bus.server.clients().unwrap().is_empty());
    assert_eq!(doorman.log(), [""; 0], "the call has not returned");
    doorman.gate.open();
    let both = [format!("call alice {key}"), format!("left alice {key}")];
    becomes("the service knows", || doorman.log(), &both.to_vec());
}

#[test]
fn a_shutdown_waits_until_the_service_has_heard_that_all_have_left() {
    let doorman = Arc::new(Doorman::default());
    let boxed: Box<dyn Service> = Box::new(Arc::clone(&doorman));
    let bus = Bus::with(|b| b.service_with(boxed));
    let clients: Vec<Client> = ["alice", "bob", "a bomb"].map(|name| bus.client(name)).into();
    let summary = bus.server.join_after_shutdown();
    assert_eq!((summary.registered, summary.abandoned), (3, 0));
    let mut wanted: Vec<_> = clients.iter().map(|c| format!("left {} {}", c.name(), c.key())).collect();
    let mut log = doorman.log();
    wanted.sort();
    log.sort();
    assert_eq!(log, wanted);
}

/// Drops the server when the first client has left.
#[derive(Default)]
struct LastOrders(Mutex<Option<Server>>);

impl Service for LastOrders {
    fn call(&self, _: Request<'_>, _: &mut Response<'_>) -> Result<(), ServiceError> {
        Ok(())
    }

    fn left(&self, client: &Peer) {
        if client.name == "alice" {
            drop(self.0.lock().unwrap().take());
        }
    }
}

#[test]
fn a_service_may_end_the_server_when_a_client_has_left() {
    within_limit("the server's end", || {
        let place = Place::new();
        let service = Arc::new(LastOrders::default());
        let server = Server::builder(&place.path).service_with(Arc::clone(&service)).start().unwrap();
        *service.0.lock().unwrap() = Some(server);
        let (alice, mut bob) =
            (Client::register(&place.path, "alice").unwrap(), Client::register(&place.path, "bob").unwrap());
        drop(alice);
        assert_eq!(bob.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
        eventually("the path is free", || !place.path.exists());
    });
}
