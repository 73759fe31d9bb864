//! Pipes that wake a thread in an event loop: whoever wakes it writes one byte, a *kick*.
//!
//! Nothing here blocks, whatever the other process does with its own end. The kernel is asked not to wait for
//! each call, and where it cannot be asked, only a descriptor is used that is in non-blocking mode. The mode
//! belongs to the open file, so each process gets an open file of its own. A full pipe is readable, so a kick
//! that finds no room is not lost.
//!
//! A write into a pipe that nobody reads raises SIGPIPE, which ends a process that did not ask for anything
//! else. The kernel is asked not to raise it, and where it cannot be asked, the signal is taken back.
//!
//! Other code may close a descriptor and get its number for another file. So each number is checked before it
//! is used: a byte must not end up in somebody's file.

#![forbid(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::{Mode, OFlags, fcntl_getfl, open};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2, read, write};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::descriptors::Ours;
use super::signals::without_sigpipe;

/// The size of a pipe: the least that the system gives. A peer may have the buffer of a larger one filled.
const SIZE: usize = 4096;

/// With this offset, calls that take one read and write as at the end of a pipe.
const NO_OFFSET: u64 = u64::MAX;

/// `RWF_NOSIGNAL`, since Linux 6.18.
const NOSIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

// How to write without waiting, from the best way to one that always works. Which one works depends on the
// kernel, and on how the pipe was opened: of a file that was opened by name, the kernel cannot be asked not
// to wait.

/// The kernel neither waits nor raises a signal.
const QUIETLY: u8 = 0;
/// The kernel does not wait.
const AT_ONCE: u8 = 1;
/// The descriptor's own mode says that it does not wait, and the kernel raises no signal.
const QUIETLY_BY_MODE: u8 = 2;
/// The descriptor's own mode says that it does not wait.
const BY_MODE: u8 = 3;

/// A pipe, made to be handed over.
#[derive(Debug)]
pub(crate) struct NewPipe {
    pub(crate) read: OwnedFd,
    /// The write end, for who reads: its own closers kick it.
    pub(crate) write: OwnedFd,
    /// The write end again, for another process: an open file of its own, so that neither process can change
    /// the mode of the other's. Without `/proc` it is the same open file. This is the one that takes fewer
    /// calls to write to.
    pub(crate) other: OwnedFd,
}

/// Makes a pipe for kicks. Does not block.
///
/// # Errors
///
/// The system's: `EMFILE`, or `ENFILE`, which also says that the user has too many pages in pipes
/// (`/proc/sys/fs/pipe-user-pages-hard`).
pub(crate) fn kick_pipe() -> io::Result<NewPipe> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // A larger one works, too.
    let _ = fcntl_setpipe_size(&write, SIZE);
    let path = format!("/proc/self/fd/{}", write.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let own = match open(path, flags, Mode::empty()) {
        Ok(own) => own,
        Err(Errno::MFILE | Errno::NFILE) => return Err(Errno::MFILE.into()),
        Err(_) => write.try_clone()?,
    };
    Ok(NewPipe { read, write: own, other: write })
}

/// The write end of a pipe: kicks whoever waits at the other end.
#[derive(Debug)]
pub(crate) struct PipeWriter {
    pipe: Ours,
    /// The best way that has not failed.
    way: AtomicU8,
}

impl PipeWriter {
    pub(crate) fn new(descriptor: OwnedFd) -> PipeWriter {
        PipeWriter { pipe: Ours::new(descriptor), way: AtomicU8::new(QUIETLY) }
    }

    /// Whether its number is still its own.
    pub(crate) fn is_ours(&self) -> bool {
        self.pipe.is_ours()
    }

    /// Makes the other end readable. Does not block. May be called in a signal handler.
    pub(crate) fn kick(&self) {
        if self.pipe.is_ours() {
            kick(self.pipe.as_fd(), &self.way);
        }
    }
}

/// It shows an error when nobody has the read end any more.
impl AsFd for PipeWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

fn kick(pipe: BorrowedFd<'_>, way: &AtomicU8) {
    let byte = [IoSlice::new(&[1])];
    let by = |flags| pwritev2(pipe, &byte, NO_OFFSET, flags);
    loop {
        let now = way.load(Ordering::Relaxed);
        let written = match now {
            QUIETLY => by(ReadWriteFlags::NOWAIT | NOSIGNAL),
            AT_ONCE => without_sigpipe(|| by(ReadWriteFlags::NOWAIT)),
            _ if !does_not_wait(pipe) => return,
            QUIETLY_BY_MODE => by(NOSIGNAL),
            _ => without_sigpipe(|| write(pipe, &[1])),
        };
        match written {
            // Full, or nobody reads any more.
            Ok(_) | Err(Errno::AGAIN | Errno::PIPE) => return,
            Err(_) if now == BY_MODE => return,
            // The kernel does not know the call or its flags, or not for this pipe, or a filter forbids them
            // with any error.
            Err(_) => way.store(now + 1, Ordering::Relaxed),
        }
    }
}

fn does_not_wait(pipe: BorrowedFd<'_>) -> bool {
    fcntl_getfl(pipe).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
}

/// The read end of a pipe: readable once it was kicked, until it is drained.
#[derive(Debug)]
pub(crate) struct PipeReader(Ours);

impl PipeReader {
    pub(crate) fn new(descriptor: OwnedFd) -> PipeReader {
        PipeReader(Ours::new(descriptor))
    }

    /// Whether its number is still its own.
    pub(crate) fn is_ours(&self) -> bool {
        self.0.is_ours()
    }

    /// Takes the kicks that are there, and returns how many there were, or `None` if the number is not the
    /// pipe's any more. Does not block. If the other side has written packets, it takes only the first of
    /// them: afterwards there is room for another kick, and as long as there are packets left, the pipe is
    /// readable.
    pub(crate) fn drain(&self) -> Option<usize> {
        /// More than a pipe holds: who writes while this reads cannot keep it here.
        const MOST: usize = 1 << 17;
        if !self.is_ours() {
            return None;
        }
        let (mut bytes, mut taken) = ([0; 256], 0);
        while let Ok(read) = take(self.0.as_fd(), &mut bytes) {
            taken += read;
            if read < bytes.len() || taken >= MOST {
                break;
            }
        }
        Some(taken)
    }
}

fn take(pipe: BorrowedFd<'_>, bytes: &mut [u8]) -> rustix::io::Result<usize> {
    match preadv2(pipe, &mut [IoSliceMut::new(bytes)], NO_OFFSET, ReadWriteFlags::NOWAIT) {
        Err(error) if error != Errno::AGAIN && does_not_wait(pipe) => read(pipe, bytes),
        taken => taken,
    }
}

impl AsFd for PipeReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::fs::fcntl_setfl;
    use rustix::time::Timespec;

    fn pipe() -> (PipeReader, PipeWriter, OwnedFd) {
        let NewPipe { read, write, other } = kick_pipe().unwrap();
        (PipeReader::new(read), PipeWriter::new(write), other)
    }

    fn is_readable(pipe: &PipeReader) -> bool {
        let mut waits = [PollFd::new(pipe, PollFlags::IN)];
        poll(&mut waits, Some(&Timespec::default())).unwrap();
        waits[0].revents().contains(PollFlags::IN)
    }

    #[test]
    fn a_kick_makes_it_readable_until_it_is_drained() {
        let (reader, writer, other) = pipe();
        assert_eq!((is_readable(&reader), reader.drain()), (false, Some(0)));
        writer.kick();
        PipeWriter::new(other).kick();
        assert!(is_readable(&reader));
        assert_eq!((reader.drain(), is_readable(&reader)), (Some(2), false));
    }

    /// Each way to write, on a pipe that is full and on one that nobody reads, also when the other process
    /// has made its end one that waits. This thread would not come back, or the process would end.
    #[test]
    fn no_kick_waits_or_ends_the_process() {
        for way in [QUIETLY, AT_ONCE, QUIETLY_BY_MODE, BY_MODE] {
            let (reader, writer, other) = pipe();
            fcntl_setfl(&other, OFlags::empty()).unwrap();
            let other = PipeWriter::new(other);
            for writer in [&writer, &other] {
                writer.way.store(way, Ordering::Relaxed);
                (0..2 * SIZE).for_each(|_| writer.kick());
            }
            assert!(is_readable(&reader));
            assert_eq!(reader.drain(), Some(SIZE), "one page");
            drop(reader);
            writer.kick();
            other.kick();
        }
    }

    /// Another process kicks in the best way that this kernel knows, whatever works for the end's own
    /// closers.
    #[test]
    fn the_way_is_found_for_each_pipe_alone() {
        let (reader, own, other) = pipe();
        let other = PipeWriter::new(other);
        own.kick();
        other.kick();
        assert_eq!(reader.drain(), Some(2));
        let [own, other] = [own, other].map(|writer| writer.way.into_inner());
        assert!(other <= AT_ONCE && other <= own, "{other} {own}");
    }

    #[test]
    fn packets_are_drained_one_by_one() {
        let (reader, writer, other) = pipe();
        fcntl_setfl(&other, OFlags::DIRECT | OFlags::NONBLOCK).unwrap();
        let _ = fcntl_setpipe_size(&other, 16 * SIZE);
        let packets = PipeWriter::new(other);
        (0..3).for_each(|_| packets.kick());
        writer.kick();
        for left in [true, true, true, false] {
            assert_eq!((reader.drain(), is_readable(&reader)), (Some(1), left));
        }
    }
}
