//! For this repository's own benchmarks: both halves of a call, or all parts of a message's way, on one
//! thread, so that each finds the other's block committed and nothing spins. Not part of the library's
//! interface.

use std::error::Error;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::channel::{self, Geometry, Host};
use crate::client::internals::client_on;
use crate::ring::WaitStrategy;
use crate::server::internals::{Receiver, TestWorker};
use crate::wire::Key;
use crate::{CallError, Caller, Inbox, SendError};

/// A client and its worker, face to face.
#[derive(Debug)]
pub struct FaceToFace {
    caller: Caller,
    test_worker: TestWorker,
    /// The number of the next request.
    next: u32,
    _inbox: Inbox,
    _far_end: OwnedFd,
}

/// The server's ends of a new channel, and a client on its other ends.
fn channel_with_client(geometry: &Geometry) -> Result<(Host, Caller, Inbox, OwnedFd), Box<dyn Error>> {
    let (host, descriptor) = channel::create_for_server(geometry, WaitStrategy::Spin)?;
    let guest = channel::open_for_client(&descriptor, WaitStrategy::Spin)?;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (caller, inbox) = client_on(guest, near, Key::from_u128(0))?;
    Ok((host, caller, inbox, far))
}

impl FaceToFace {
    /// A client whose worker echoes.
    pub fn new(ring_size: usize) -> Result<FaceToFace, Box<dyn Error>> {
        let geometry = Geometry::new(ring_size)?;
        let (host, caller, inbox, far_end) = channel_with_client(&geometry)?;
        let test_worker = TestWorker::new(host, geometry)?;
        Ok(FaceToFace { caller, test_worker, next: 0, _inbox: inbox, _far_end: far_end })
    }

    /// The client's first half: the request is committed.
    #[inline(never)]
    pub fn submit(&mut self, request: &[u8]) -> Result<(), CallError> {
        self.next += 1;
        self.caller.submit(request)
    }

    /// Commits the response to the next request, which is still to be made. Whether there was room.
    pub fn answer_ahead(&mut self, response: &[u8]) -> bool {
        self.next += 1;
        self.test_worker.answer_ahead(self.next - 1, response)
    }

    /// The client's whole part of a call: the response must be there already. Its length.
    #[inline(never)]
    pub fn call(&mut self, request: &[u8]) -> Result<usize, CallError> {
        self.caller.call(request).map(|reply| reply.len())
    }

    /// The server's part: a request is there, its response is committed.
    #[inline(never)]
    pub fn serve(&mut self) {
        self.test_worker.serve();
    }

    /// The client's second half: the response is there. Its length.
    #[inline(never)]
    pub fn collect(&mut self) -> Result<usize, CallError> {
        self.caller.response().map(|reply| reply.len())
    }
}

impl Drop for FaceToFace {
    fn drop(&mut self) {
        // Nobody serves the caller's farewell.
        self.caller.closer().close();
    }
}

/// A message's way from one client through the server into another's inbox.
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
    /// Two clients; the sender's worker serves when it is told to.
    pub fn new(ring_size: usize) -> Result<Forward, Box<dyn Error>> {
        let geometry = Geometry::new(ring_size)?;
        let (host, sender, own_inbox, far_end) = channel_with_client(&geometry)?;
        let test_worker = TestWorker::new(host, geometry)?;
        let (host, to, inbox, other_far_end) = channel_with_client(&geometry)?;
        let receiver = test_worker.receiver(host)?;
        let rest = (own_inbox, [far_end, other_far_end]);
        Ok(Forward { sender, test_worker, receiver, to, inbox, next: 0, _rest: rest })
    }

    /// A whole call by the sender, to bring its rings around.
    pub fn call(&mut self, request: &[u8]) -> Result<(), CallError> {
        self.sender.submit(request)?;
        self.test_worker.serve();
        self.next += 1;
        self.sender.response().map(|_| ())
    }

    /// Commits the server's acknowledgement of the next message, which is still to be sent. Whether there was
    /// room.
    pub fn acknowledge_ahead(&mut self) -> bool {
        self.next += 1;
        self.test_worker.answer_ahead(self.next - 1, &[])
    }

    /// The sender's part, both halves: the acknowledgement must be there already.
    #[inline(never)]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.sender.send(self.receiver.key(), message)
    }

    /// The server's part: messages were sent, they are then in the receiver's inbox. Nothing can be sent
    /// afterwards.
    #[inline(never)]
    pub fn serve(&mut self) {
        self.test_worker.serve();
    }

    /// Puts a message into the inbox without a sender. Whether there was room.
    pub fn deliver(&self, message: &[u8]) -> bool {
        self.receiver.deliver(message)
    }

    /// The receiver's part: a message is there. Its length; `None` if there is none.
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
