//! The server's parts without their threads, for the fuzz targets, which hold the memory and the sockets.

#![forbid(unsafe_code)]

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::acceptor::Acceptor;
use super::builder::Settings;
use super::delivery::Inbox;
use super::member::Member;
use super::shared::Shared;
use super::worker::Worker;
use crate::channel::fuzz::Memory;
use crate::channel::{Geometry, Kicks};
use crate::link::End;
use crate::link::{Request, Response, ServiceError};
use crate::os::descriptors::Waits;
use crate::os::pipe::{NewPipe, PipeWriter, kick_pipe};
use crate::registry::{Owner, Registered, Registry};
use crate::ring::WaitStrategy;
use crate::wire::{CloseReason, Key, Name, Peer};

/// The most clients at once.
const CLIENTS: u32 = 3;

fn settings(path: &Path) -> Settings {
    Settings {
        path: path.to_owned(),
        max_clients: CLIENTS,
        geometry: Geometry::new(4096).expect("the smallest ring"),
        wait: WaitStrategy::Park,
        pin: None,
        access: Default::default(),
        grace: Duration::ZERO,
        control: None,
    }
}

/// A service that does what the request's first byte says, so that every way in which a service can end
/// occurs.
pub fn service(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    let payload = request.payload();
    match payload.first() {
        Some(1) => {
            response.write(payload)?;
            Err(ServiceError::new("as asked"))
        }
        // Without a message, because the fuzzer would take that for a finding. Seldom, because unwinding is
        // slow.
        Some(2) if payload.last().is_some_and(|last| last % 16 == 10) => {
            response.write(payload)?;
            resume_unwind(Box::new(()))
        }
        Some(3) => (0..100).try_for_each(|_| response.write(payload)),
        Some(4) => {
            response.write(&[4; 100])?;
            response.clear();
            response.write(payload)
        }
        Some(5) => std::io::copy(&mut &payload[1..], response).map(|_| ()).map_err(ServiceError::from),
        _ => payload.chunks(40).try_for_each(|part| response.write(part)),
    }
}

/// A server without threads: what its workers share.
#[derive(Debug)]
pub struct FuzzServer(Arc<Shared>, NewPipe);

/// Two clients, and the worker of the first.
pub struct Dispatcher {
    shared: Arc<Shared>,
    worker: Worker,
    alice: Arc<Member>,
    bob: Arc<Member>,
    ended: bool,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dispatcher")
    }
}

/// What a worker did when told to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// There was no request.
    Nothing,
    /// It served all requests that were there.
    Some,
    /// It has ended for this reason.
    Ended(CloseReason),
}

impl FuzzServer {
    /// Makes an empty server without threads.
    pub fn new() -> FuzzServer {
        let registry = Registry::create(CLIENTS).expect("a registry");
        let wake = Waits::new().expect("descriptors").1;
        let shared = Shared::new(settings(Path::new("unused")), registry, Box::new(service), wake);
        FuzzServer(Arc::new(shared), kick_pipe().expect("a pipe"))
    }

    /// Registers two clients on these channels.
    pub fn admit(&self, alice: &Memory, bob: &Memory) -> Dispatcher {
        let alice_host = alice.host();
        self.may_arm(&alice_host.kicks);
        let (requests, responses) = (alice_host.requests, alice_host.responses);
        let alice = self.member("alice", alice_host.inbox, (alice_host.closer, alice_host.intake));
        let bob_host = bob.host();
        self.may_arm(&bob_host.kicks);
        let bob = self.member("bob", bob_host.inbox, (bob_host.closer, bob_host.intake));
        let worker = Worker::new(Arc::clone(&self.0), Arc::clone(&alice), requests, responses);
        Dispatcher { shared: Arc::clone(&self.0), worker, alice, bob, ended: false }
    }

    /// Gives both halves of a client a pipe, which is soon full.
    fn may_arm(&self, kicks: &Kicks) {
        for kick in [&kicks.caller, &kicks.inbox] {
            kick.set(PipeWriter::new(self.1.write.try_clone().expect("a descriptor")));
        }
    }

    fn member(
        &self,
        name: &str,
        inbox: crate::ring::Producer,
        closers: (crate::ring::Closer, crate::ring::Closer),
    ) -> Arc<Member> {
        let Shared { registry, members, .. } = &*self.0;
        let (name, owner) = (Name::new(name).expect("a name"), Owner { pid: 1, uid: 2, gid: 3 });
        let Registered { key, counters } = registry.register(&name, owner).expect("there is room");
        let peer = Peer { name, key, pid: 1, uid: 2, gid: 3 };
        let inbox = Inbox::new(inbox, closers.1.clone(), counters.clone());
        let member = Arc::new(Member::new(peer, inbox, closers, counters, 2));
        members.insert(Arc::clone(&member));
        member
    }
}

impl Default for FuzzServer {
    fn default() -> FuzzServer {
        FuzzServer::new()
    }
}

impl Dispatcher {
    /// The keys of both clients.
    pub fn keys(&self) -> [Key; 2] {
        [self.alice.peer.key, self.bob.peer.key]
    }

    /// Serves the requests that are there, as the worker's thread does between two sleeps.
    pub fn serve(&mut self) -> Served {
        if self.ended {
            return Served::Ended(self.alice.closer.reason().expect("closed").into());
        }
        if self.worker.responder.is_idle() {
            return Served::Nothing;
        }
        let Err(end) = self.worker.serve_some() else { return Served::Some };
        self.ended = true;
        let reason = match end {
            End::Finished => CloseReason::Unregistered,
            End::Violation(_) => CloseReason::ProtocolViolation,
            End::Closed(reason) => reason,
        };
        self.shared.end(&self.alice, reason);
        Served::Ended(reason)
    }

    /// Ends the intake of requests, as a shutdown does.
    pub fn end_intake(&self) {
        self.alice.intake.close_as(CloseReason::Shutdown);
    }

    /// The second client leaves.
    pub fn bob_leaves(&self) {
        self.shared.end(&self.bob, CloseReason::Died);
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        for member in [&self.alice, &self.bob] {
            self.shared.end(member, CloseReason::Died);
        }
        assert_eq!(self.shared.registry.len().ok(), Some(0), "nobody is left");
    }
}

/// The server's end of the connect channel, on the caller's thread.
pub struct FuzzAcceptor {
    acceptor: Acceptor,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for FuzzAcceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FuzzAcceptor")
    }
}

impl FuzzAcceptor {
    /// Listens at a path.
    pub fn open(path: &Path) -> FuzzAcceptor {
        let (acceptor, shared) =
            Acceptor::prepare(settings(path), None, Box::new(service)).expect("a socket");
        FuzzAcceptor { acceptor, shared }
    }

    /// Deals with everything that has happened.
    pub fn turn(&mut self) {
        let _ = self.acceptor.turn(Some(Instant::now()));
    }

    /// Whether nobody is connected or registered and no worker lives.
    pub fn is_quiet(&self) -> bool {
        self.acceptor.connections.len() == 0
            && self.shared.workers.count() == 0
            && self.shared.registry.len().ok() == Some(0)
            && self.acceptor.broker.is_empty()
            && self.acceptor.topics.is_empty()
    }
}
