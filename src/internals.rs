//! For this repository's own benchmarks: both halves of a call on one thread, so that each finds the other's block committed and
//! nothing spins. Not part of the library's interface.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::channel::{self, Geometry};
use crate::client::internals::caller_on;
use crate::protocol::Key;
use crate::ring::WaitStrategy;
use crate::server::internals::Desk;
use crate::{CallError, Caller};

/// A client and its worker, face to face.
#[derive(Debug)]
pub struct FaceToFace {
    caller: Caller,
    desk: Desk,
    _far_end: OwnedFd,
}

impl FaceToFace {
    /// A client whose worker echoes.
    pub fn new(ring_size: usize) -> Result<FaceToFace, Box<dyn std::error::Error>> {
        let geometry = Geometry::new(ring_size)?;
        let (host, descriptor) = channel::create_for_server(&geometry, WaitStrategy::Spin)?;
        let guest = channel::open_for_client(&descriptor, WaitStrategy::Spin)?;
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let caller = caller_on(guest, near, Key::from_u128(0))?;
        Ok(FaceToFace { caller, desk: Desk::new(host, geometry)?, _far_end: far })
    }

    /// The client's first half: the request is committed.
    #[inline(never)]
    pub fn submit(&mut self, request: &[u8]) -> Result<(), CallError> {
        self.caller.submit(request)
    }

    /// The server's part: a request is there, its response is committed.
    #[inline(never)]
    pub fn serve(&mut self) {
        self.desk.serve();
    }

    /// The client's second half: the response is there. Its length.
    #[inline(never)]
    pub fn collect(&mut self) -> Result<usize, CallError> {
        self.caller.response().map(<[u8]>::len)
    }
}

impl Drop for FaceToFace {
    fn drop(&mut self) {
        // Nobody serves the caller's farewell.
        self.caller.close_handle().close();
    }
}
