//! Runs all parts of a call or a message on one thread, for this repository's benchmarks.
//!
//! Each part finds the block of the other already committed, so nothing spins. Not part of the library's
//! interface.

mod topics;

pub use topics::{TopicReader, TopicWriter};

use std::error::Error;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::channel::{self, Geometry, Host, LinkEnds, Side};
use crate::client::internals::{client_on, link_on, responder_on, serve_some};
use crate::ring::{Consumer, Producer, WaitStrategy};
use crate::server::internals::{Receiver, TestWorker};
use crate::wire::{BlockHeader, Key, Operation, Status};
use crate::{CallError, Caller, Inbox, Link, Responder, SendError};

/// A client and its worker on one thread.
#[derive(Debug)]
pub struct FaceToFace {
    caller: Caller,
    test_worker: TestWorker,
    /// The number of the next request.
    next: u32,
    _inbox: Inbox,
    _far_end: OwnedFd,
}

/// Makes a channel: the server's ends, and a client with the other ends.
fn channel_with_client(geometry: &Geometry) -> Result<(Host, Caller, Inbox, OwnedFd), Box<dyn Error>> {
    let (host, descriptor) = channel::create_for_server(geometry, WaitStrategy::Spin)?;
    let guest = channel::open_for_client(&descriptor, WaitStrategy::Spin)?;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (caller, inbox) = client_on(guest, near, Key::from_u128(0))?;
    Ok((host, caller, inbox, far))
}

impl FaceToFace {
    /// Makes a client whose worker echoes.
    pub fn new(ring_size: usize) -> Result<FaceToFace, Box<dyn Error>> {
        let geometry = Geometry::new(ring_size)?;
        let (host, caller, inbox, far_end) = channel_with_client(&geometry)?;
        let test_worker = TestWorker::new(host, geometry)?;
        Ok(FaceToFace { caller, test_worker, next: 0, _inbox: inbox, _far_end: far_end })
    }

    /// The client's first half of a call: commits the request.
    #[inline(never)]
    pub fn submit(&mut self, request: &[u8]) -> Result<(), CallError> {
        self.next += 1;
        self.caller.submit(request)
    }

    /// Commits the response to the next request in advance. Returns whether there was room.
    pub fn answer_ahead(&mut self, response: &[u8]) -> bool {
        self.next += 1;
        self.test_worker.answer_ahead(self.next - 1, response)
    }

    /// The client's whole part of a call. The response must already be committed. Returns its length.
    #[inline(never)]
    pub fn call(&mut self, request: &[u8]) -> Result<usize, CallError> {
        self.caller.call(request).map(|reply| reply.len())
    }

    /// The same with a limit in time.
    #[inline(never)]
    pub fn call_timeout(&mut self, request: &[u8], timeout: Duration) -> Result<usize, CallError> {
        self.caller.call_timeout(request, timeout).map(|reply| reply.len())
    }

    /// The server's part: takes a request, which must be committed, and commits its response.
    #[inline(never)]
    pub fn serve(&mut self) {
        self.test_worker.serve();
    }

    /// The client's second half of a call: takes the response, which must be committed. Returns its length.
    #[inline(never)]
    pub fn collect(&mut self) -> Result<usize, CallError> {
        self.caller.response().map(|reply| reply.len())
    }
}

impl Drop for FaceToFace {
    fn drop(&mut self) {
        // Nobody would answer the caller's request to unregister.
        self.caller.closer().close();
    }
}

/// Two clients on one thread, and the worker that forwards messages between them.
#[derive(Debug)]
pub struct Forward {
    sender: Caller,
    test_worker: TestWorker,
    receiver: Receiver,
    to: Caller,
    inbox: Inbox,
    /// The number of the sender's next request.
    next: u32,
    _rest: (Inbox, [OwnedFd; 2]),
}

impl Forward {
    /// Makes two clients, and the sender's worker, which serves only on request.
    pub fn new(ring_size: usize) -> Result<Forward, Box<dyn Error>> {
        let geometry = Geometry::new(ring_size)?;
        let (host, sender, own_inbox, far_end) = channel_with_client(&geometry)?;
        let test_worker = TestWorker::new(host, geometry)?;
        let (host, to, inbox, other_far_end) = channel_with_client(&geometry)?;
        let receiver = test_worker.receiver(host)?;
        let rest = (own_inbox, [far_end, other_far_end]);
        Ok(Forward { sender, test_worker, receiver, to, inbox, next: 0, _rest: rest })
    }

    /// A whole call by the sender, to advance its rings.
    pub fn call(&mut self, request: &[u8]) -> Result<(), CallError> {
        self.sender.submit(request)?;
        self.test_worker.serve();
        self.next += 1;
        self.sender.response().map(|_| ())
    }

    /// Commits the acknowledgement of the next message in advance. Returns whether there was room.
    pub fn acknowledge_ahead(&mut self) -> bool {
        self.next += 1;
        self.test_worker.answer_ahead(self.next - 1, &[])
    }

    /// The sender's whole part. The acknowledgement must already be committed.
    #[inline(never)]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.sender.send(self.receiver.key(), message)
    }

    /// The server's part: moves the sent messages to the receiver's inbox. Nothing can be sent afterwards.
    #[inline(never)]
    pub fn serve(&mut self) {
        self.test_worker.serve();
    }

    /// Puts a message into the inbox without a sender. Returns whether there was room.
    pub fn deliver(&self, message: &[u8]) -> bool {
        self.receiver.deliver(message)
    }

    /// The receiver's part: takes a message and returns its length; `None` if there is none.
    #[inline(never)]
    pub fn receive(&mut self) -> Option<usize> {
        self.inbox.try_recv().ok()?.map(|message| message.payload().len())
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // As above.
        self.sender.closer().close();
        self.to.closer().close();
    }
}

/// The calling end of a link, whose other end is served by hand.
#[derive(Debug)]
pub struct CallingEnd {
    link: Link,
    requests: Consumer,
    responses: Producer,
    /// The number of the next call.
    next: u32,
}

/// Makes a link: the sizes, and the ends of the caller and the callee.
fn link(ring_size: usize) -> Result<(Geometry, [LinkEnds; 2]), Box<dyn Error>> {
    let geometry = Geometry::new(ring_size)?;
    let descriptor = channel::create_link(&geometry)?;
    let open = |side| channel::open_link(&descriptor, &geometry, WaitStrategy::Spin, side);
    Ok((geometry, [open(Side::Caller)?, open(Side::Callee)?]))
}

impl CallingEnd {
    /// Makes a link.
    pub fn new(ring_size: usize) -> Result<CallingEnd, Box<dyn Error>> {
        let (geometry, [caller, callee]) = link(ring_size)?;
        let link = link_on(caller, &geometry)?;
        Ok(CallingEnd { link, requests: callee.consumer, responses: callee.producer, next: 0 })
    }

    /// Commits the response to the next call in advance. Returns whether there was room.
    pub fn answer_ahead(&mut self, response: &[u8]) -> bool {
        let header = BlockHeader::new(Status::Ok as u16, 0, self.next).to_word();
        self.next += 1;
        let published = self.responses.try_publish(Some(header), &[response]).is_ok();
        self.responses.notify();
        published
    }

    /// Takes what the caller has sent, so that there is room again.
    pub fn take_all(&mut self) {
        while let Ok(Some(_)) = self.requests.try_recv(&mut Vec::new()) {}
    }

    /// The caller's part of a call. The response must already be committed. Returns its length.
    #[inline(never)]
    pub fn call(&mut self, request: &[u8]) -> Result<usize, CallError> {
        self.link.call(request).map(|reply| reply.len())
    }

    /// The caller's part of a post.
    #[inline(never)]
    pub fn post(&mut self, message: &[u8]) -> Result<(), CallError> {
        self.link.post(message)
    }
}

/// The serving end of a link, whose other end calls by hand. It echoes.
#[derive(Debug)]
pub struct ServingEnd {
    responder: Responder,
    requests: Producer,
    responses: Consumer,
}

impl ServingEnd {
    /// Makes a link.
    pub fn new(ring_size: usize) -> Result<ServingEnd, Box<dyn Error>> {
        let (geometry, [caller, callee]) = link(ring_size)?;
        let responder = responder_on(callee, &geometry)?;
        Ok(ServingEnd { responder, requests: caller.producer, responses: caller.consumer })
    }

    /// Commits a call. Returns whether there was room.
    pub fn call(&mut self, request: &[u8]) -> bool {
        let header = BlockHeader::new(Operation::Call as u16, 0, 0).to_word();
        let published = self.requests.try_publish(Some(header), &[request]).is_ok();
        self.requests.notify();
        published
    }

    /// The callee's part: takes up to 64 calls, of which one must be committed, and commits their responses.
    #[inline(never)]
    pub fn serve(&mut self) {
        serve_some(&mut self.responder);
    }

    /// Takes all responses, and returns how many there were.
    pub fn collect(&mut self) -> usize {
        std::iter::from_fn(|| self.responses.try_recv(&mut Vec::new()).ok()?).count()
    }
}
