//! A worker without a thread, for this repository's benchmarks, tests and fuzz targets.

#![forbid(unsafe_code)]
#![allow(dead_code, reason = "each of its users needs a part")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::builder::Settings;
use super::delivery::{Delivery, Inbox};
use super::member::Member;
use super::shared::Shared;
use super::worker::Worker;
use crate::channel::{Geometry, Host};
use crate::link::{Request, Response, Service};
use crate::os::descriptors::Waits;
use crate::registry::{Owner, Registered, Registry};
use crate::ring::{Consumer, Producer, WaitStrategy};
use crate::wire::{Key, Name, Peer, Status};

/// A worker that serves when it is told to.
pub(crate) struct TestWorker(Worker);

impl std::fmt::Debug for TestWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestWorker")
    }
}

/// Another client of the same server, to which messages are sent. It asks for nothing, so it has no worker.
pub(crate) struct Receiver {
    member: Arc<Member>,
    _ends: (Consumer, Producer),
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver")
    }
}

impl Receiver {
    pub(crate) fn key(&self) -> Key {
        self.member.peer.key
    }

    /// Puts a message from this client into its own inbox.
    pub(crate) fn deliver(&self, payload: &[u8]) -> bool {
        self.member.inbox.deliver(&Delivery { from: &self.member, payload, handed: None }, None) == Status::Ok
    }
}

/// Registers a client, and returns its entry and the ends of the rings that its worker would hold.
fn member(
    shared: &Shared,
    name: &str,
    host: Host,
) -> Result<(Arc<Member>, Consumer, Producer), Box<dyn Error>> {
    let name = Name::new(name)?;
    let owner = Owner { pid: 0, uid: 0, gid: 0 };
    let Registered { key, counters } =
        shared.registry.register(&name, owner).map_err(|error| error.to_string())?;
    let peer = Peer { name, key, pid: 0, uid: 0, gid: 0 };
    let inbox = Inbox::new(host.inbox, host.intake.clone(), counters.clone());
    let member = Arc::new(Member::new(peer, inbox, (host.closer, host.intake), counters, 0));
    shared.members.insert(Arc::clone(&member));
    Ok((member, host.requests, host.responses))
}

impl TestWorker {
    /// A worker that echoes.
    pub(crate) fn new(host: Host, geometry: Geometry) -> Result<TestWorker, Box<dyn Error>> {
        let echo = |request: Request<'_>, response: &mut Response<'_>| response.write(request.payload());
        TestWorker::with_service(host, geometry, echo)
    }

    pub(crate) fn with_service(
        host: Host,
        geometry: Geometry,
        service: impl Service,
    ) -> Result<TestWorker, Box<dyn Error>> {
        let settings = Settings {
            path: "unused".into(),
            max_clients: 2,
            geometry,
            wait: WaitStrategy::Spin,
            pin: None,
            access: Default::default(),
            grace: Duration::ZERO,
            control: None,
        };
        let registry = Registry::create(2)?;
        let wake = Waits::new()?.1;
        let shared = Arc::new(Shared::new(settings, registry, Box::new(service), wake));
        let (member, requests, responses) = member(&shared, "benchmark", host)?;
        Ok(TestWorker(Worker::new(shared, member, requests, responses)))
    }

    /// Another client of the same server.
    pub(crate) fn receiver(&self, host: Host) -> Result<Receiver, Box<dyn Error>> {
        let (member, requests, responses) = member(&self.0.operations.shared, "receiver", host)?;
        Ok(Receiver { member, _ends: (requests, responses) })
    }

    /// Serves the requests that are there.
    pub(crate) fn serve(&mut self) {
        let _ = self.0.serve_some();
    }

    /// Commits the response to a request that is still to come, so that its sender finds it at once.
    /// [`serve`](Self::serve) answers that request a second time; its sender can ask nothing more after
    /// that.
    pub(crate) fn answer_ahead(&mut self, sequence: u32, body: &[u8]) -> bool {
        let done = self.0.responder.respond(sequence, Status::Ok, body).is_ok();
        self.0.responder.notify();
        done
    }
}
