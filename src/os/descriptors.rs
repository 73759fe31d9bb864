//! Descriptors that are safe if other code closes them: a program that becomes a daemon closes all from 3 on.
//!
//! Afterwards such a number is unused, or belongs to another file. So a number is not used or closed before
//! it was checked: [`Ours`] remembers which file it was, and [`Waits`] does the same for an epoll instance.
//!
//! A sleeping thread must notice this, too. Closed sockets silently leave an epoll instance, and closing the
//! instance is silent as well. But `poll` holds the files on which it sleeps. So the thread sleeps in `poll`,
//! on the instance and on one end of a private pair of sockets: when the other end is closed, `poll` returns.
//! Then the thread checks its numbers, which other files may have by then. To make that unlikely, the numbers
//! are high, and the thread also checks them after some time.

#![forbid(unsafe_code)]

use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::fs::fstat;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::time::Timespec;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

/// A socket or a memory file that is closed on drop only if its number still belongs to it.
#[derive(Debug)]
pub(crate) struct Ours {
    /// `Some` until the drop.
    socket: Option<OwnedFd>,
    /// Its device and inode, which no other such file can have while it is open.
    file: Option<(u64, u64)>,
}

/// Identifies a file by its device and inode. No other socket or memory file can have them while it is open.
pub(crate) fn file(fd: impl AsFd) -> Option<(u64, u64)> {
    fstat(fd).ok().map(|found| (found.st_dev, found.st_ino))
}

impl Ours {
    pub(crate) fn new(socket: OwnedFd) -> Ours {
        let file = file(&socket);
        Ours { socket: Some(socket), file }
    }

    /// Whether the number still belongs to the socket.
    pub(crate) fn is_ours(&self) -> bool {
        self.file.is_some() && file(self) == self.file
    }
}

impl AsFd for Ours {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Some(socket) => socket.as_fd(),
            None => unreachable!("it is taken by the drop alone"),
        }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let is_ours = self.is_ours();
        close_if(is_ours, self.socket.take());
    }
}

/// Closes a descriptor if it is ours; otherwise leaves its number to the code that uses it now.
pub(crate) fn close_if(is_ours: bool, descriptor: Option<OwnedFd>) {
    match descriptor {
        Some(descriptor) if !is_ours => _ = descriptor.into_raw_fd(),
        descriptor => drop(descriptor),
    }
}

/// Wakes the waiting thread.
#[derive(Debug)]
pub(crate) struct Wake(Ours);

impl Wake {
    /// Neither locks nor allocates, so it may be called in a signal handler.
    pub(crate) fn wake(&self) {
        if self.0.is_ours() {
            // If the socket is full, the thread is awake already.
            let _ = send(&self.0, &[1], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }
}

/// Other code has closed the descriptors.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CutOff;

/// An epoll instance on which one thread waits.
#[derive(Debug)]
pub(crate) struct Waits {
    /// `Some` until the drop.
    epoll: Option<OwnedFd>,
    /// The near end of the pair. It is also in the instance, by which that can be told from another one.
    near: Ours,
}

/// Numbers from here on are rarely reused, because the kernel assigns the lowest free number.
const HIGH: i32 = 512;

/// How often to check whether the numbers are still ours.
const LOOK: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Gives a descriptor a high number, if the process may have one.
fn raised(descriptor: OwnedFd) -> OwnedFd {
    fcntl_dupfd_cloexec(&descriptor, HIGH).unwrap_or(descriptor)
}

/// The token of the near end, which no event uses.
const MARK: u64 = u64::MAX;

impl Waits {
    pub(crate) fn new() -> io::Result<(Waits, Wake)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let (near, far) = (Ours::new(raised(near)), Ours::new(far));
        let epoll = raised(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        epoll::add(&epoll, &near, epoll::EventData::new_u64(MARK), epoll::EventFlags::empty())?;
        Ok((Waits { epoll: Some(epoll), near }, Wake(far)))
    }

    /// Whether the numbers still belong to the pair and to the instance. Another instance does not contain
    /// this near end.
    pub(crate) fn are_ours(&self) -> bool {
        self.near.is_ours()
            && epoll::modify(self, &self.near, epoll::EventData::new_u64(MARK), epoll::EventFlags::empty())
                .is_ok()
    }

    /// Waits for events, a [wake](Wake::wake), a signal or the time-out, but at most some seconds. Returns
    /// the tokens of the ready descriptors.
    pub(crate) fn wait(&self, timeout: Option<&Timespec>) -> Result<Vec<u64>, CutOff> {
        if !self.are_ours() {
            return Err(CutOff);
        }
        let mut both =
            [PollFd::new(self, PollFlags::IN), PollFd::new(&self.near, PollFlags::IN | PollFlags::RDHUP)];
        let timeout =
            timeout.map_or(LOOK, |timeout| if timeout.tv_sec < LOOK.tv_sec { *timeout } else { LOOK });
        let timeout = match poll(&mut both, Some(&timeout)) {
            Ok(_) => {
                let ended = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR | PollFlags::NVAL;
                if both[1].revents().intersects(ended) {
                    return Err(CutOff);
                }
                if both[1].revents().contains(PollFlags::IN) {
                    while matches!(recv(&self.near, &mut [0_u8; 64][..], RecvFlags::DONTWAIT), Ok((1.., _))) {
                    }
                }
                &Timespec { tv_sec: 0, tv_nsec: 0 }
            }
            Err(Errno::INTR) => return Ok(Vec::new()),
            // `poll` fails for lack of memory, or if the limit of open files is below two. Then wait for
            // events only, for a while.
            Err(_) => &Timespec { tv_sec: 0, tv_nsec: 10_000_000 },
        };
        let mut space = [MaybeUninit::<epoll::Event>::uninit(); 64];
        if !self.are_ours() {
            return Err(CutOff);
        }
        match epoll::wait(self, &mut space, Some(timeout)) {
            Ok((events, _)) => {
                Ok(events.iter().map(|event| event.data.u64()).filter(|token| *token != MARK).collect())
            }
            Err(Errno::BADF | Errno::INVAL) => Err(CutOff),
            Err(_) => Ok(Vec::new()),
        }
    }
}

impl AsFd for Waits {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.epoll {
            Some(epoll) => epoll.as_fd(),
            None => unreachable!("it is taken by the drop alone"),
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let are_ours = self.are_ours();
        close_if(are_ours, self.epoll.take());
    }
}
