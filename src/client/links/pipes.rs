//! What comes with a link besides its memory: pipes and the peer's process, and what each is for.

#![forbid(unsafe_code)]

use rustix::event::epoll::EventFlags;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::pipe::fcntl_getpipe_size;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::channel::LinkEnds;
use crate::connect::disposal::close_elsewhere;
use crate::os::descriptors::Ours;
use crate::ring::{Kick, OwnPipe};
use crate::shm::backend::{PipeReader, PipeWriter};
use crate::testing::failpoints::failpoint;

/// What a server sends of a link besides its memory.
#[derive(Debug)]
pub(in crate::client) struct Pipes {
    /// The read end of this end's pipe, and its write end.
    own: OwnedFd,
    own_kick: OwnedFd,
    /// The write end of the peer's pipe.
    peers: OwnedFd,
    /// The peer's process; from a server that gets no descriptor of it, another write end of the peer's
    /// pipe.
    process: OwnedFd,
}

impl Pipes {
    /// Takes what a server sent. If it is something else, it is closed on another thread, because the close
    /// may take long.
    pub(in crate::client) fn check([own, own_kick, peers, process]: [OwnedFd; 4]) -> Option<Pipes> {
        let known = is_pipe_end(own.as_fd(), OFlags::RDONLY)
            && is_pipe_end(own_kick.as_fd(), OFlags::WRONLY)
            && is_pipe_end(peers.as_fd(), OFlags::WRONLY)
            && (is_process(process.as_fd()) || is_pipe_end(process.as_fd(), OFlags::WRONLY));
        if !known {
            [own, own_kick, peers, process].into_iter().for_each(close_elsewhere);
            return None;
        }
        Some(Pipes { own, own_kick, peers, process })
    }

    /// From now on this end kicks the other one. Returns what is watched, and this end's own pipe.
    pub(in crate::client) fn connect(self, ends: &LinkEnds) -> (PeerDescriptors, LinkPipe) {
        let reader = Arc::new(PipeReader::new(self.own));
        ends.peers.set(PipeWriter::new(self.peers));
        let process = Ours::new(self.process);
        let watched = PeerDescriptors { own: Arc::clone(&reader), peers: ends.peers.clone(), process };
        let own = OwnPipe::new(reader, ends.own.clone());
        (watched, LinkPipe { own, kick: PipeWriter::new(self.own_kick), slot: ends.own.clone() })
    }
}

/// The pipe of one end of a link, until it is known whether the end may wait in an event loop.
#[derive(Debug)]
pub(in crate::client) struct LinkPipe {
    pub(super) own: OwnPipe,
    kick: PipeWriter,
    /// Where the closers of this side look for it.
    slot: Kick,
}

impl LinkPipe {
    /// The end may wait in an event loop: from now on its own closers kick it there. Without this the write
    /// end is not kept.
    pub(super) fn arms(self) -> OwnPipe {
        self.slot.set(self.kick);
        failpoint!("arm.link", [link], seldom);
        self.own
    }
}

/// The descriptors by which each end of a link notices the end of the other.
#[derive(Debug)]
pub(in crate::client) struct PeerDescriptors {
    /// The read end of this end's pipe. The peer sees when it is closed.
    own: Arc<PipeReader>,
    /// The write end of the peer's.
    peers: Kick,
    /// The peer's process, or what stands in for it.
    process: Ours,
}

impl PeerDescriptors {
    /// What shows that the peer is gone: an error on its pipe, or that its process can be waited for.
    pub(in crate::client) fn watched(&self) -> impl Iterator<Item = (BorrowedFd<'_>, EventFlags)> {
        let peers = self.peers.pipe().map(|pipe| (pipe.as_fd(), EventFlags::empty()));
        peers.into_iter().chain([(self.process.as_fd(), EventFlags::IN)])
    }

    /// Whether the numbers still belong to these files: other code may have closed them.
    pub(in crate::client) fn have_their_numbers(&self) -> bool {
        let peers = self.peers.pipe().is_some_and(PipeWriter::is_ours);
        self.own.is_ours() && peers && self.process.is_ours()
    }
}

/// Whether it is this end of a pipe. The calls ask the kernel alone, so they cannot take long.
pub(in crate::client) fn is_pipe_end(descriptor: BorrowedFd<'_>, mode: OFlags) -> bool {
    let access = fcntl_getfl(descriptor).map(|flags| flags & OFlags::RWMODE);
    fcntl_getpipe_size(descriptor).is_ok() && access == Ok(mode)
}

/// Whether it stands for a process. Asks for a state that is not taken away by that, so it changes nothing,
/// and fails with `ECHILD` for a process that is no child.
pub(in crate::client) fn is_process(descriptor: BorrowedFd<'_>) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::PidFd(descriptor), look), Err(Errno::BADF | Errno::INVAL))
}
