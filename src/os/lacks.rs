//! What the kernel or a filter refuses, and what is done instead: noted where it is found, told once.
//!
//! It is found in places that must not call the program's code: under locks, or in the middle of a wait. So
//! it is noted there with atomics, and told later, by the server's log or by a client that has registered.

#![forbid(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// Something of the system without which this library goes on in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    FutexWaitv,
    Membarrier,
    NoexecSeal,
    PeerPidfd,
    Pidfd,
}

const ALL: [Lack; 5] = [Lack::FutexWaitv, Lack::Membarrier, Lack::NoexecSeal, Lack::PeerPidfd, Lack::Pidfd];

/// A set bit for each that was noted and not told yet, so that the question costs one load.
static UNTOLD: AtomicU32 = AtomicU32::new(0);

/// The error with which each was refused. 0 if it was not.
static ERRORS: [AtomicI32; ALL.len()] = [const { AtomicI32::new(0) }; ALL.len()];

impl Lack {
    /// What was refused.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Lack::FutexWaitv => "futex_waitv",
            Lack::Membarrier => "membarrier",
            Lack::NoexecSeal => "memfd_create with MFD_NOEXEC_SEAL",
            Lack::PeerPidfd => "SO_PEERPIDFD",
            Lack::Pidfd => "SO_PEERPIDFD and pidfd_open",
        }
    }

    /// What is done instead, and what that means.
    pub(crate) fn instead(self) -> &'static str {
        match self {
            Lack::FutexWaitv => {
                "sleeps on several words in slices of 10 ms to 0.5 s, so an idle process wakes up now and then"
            }
            Lack::Membarrier => "publishers make a fence with each sample, which makes each a little slower",
            Lack::NoexecSeal => "memory files are not marked as never executable",
            Lack::PeerPidfd => "processes are watched by their number, with pidfd_open",
            Lack::Pidfd => {
                "ends of processes are seen by connections and pipes alone: a forked child that keeps them open hides a death, \
                 and topics end with the server"
            }
        }
    }

    /// Tells the program's log. It is the program's code, so no lock may be held.
    pub(crate) fn warn(self, error: &io::Error) {
        tracing::warn!(
            target: "ringpost", event = "fall_back", call = self.what(), error = %error, instead = self.instead(),
            "the kernel does not know a call, or a filter refuses it: it is done without"
        );
    }

    /// Notes that it was refused. Only the first time counts.
    pub(crate) fn note(self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(libc::ENOSYS);
        let first = ERRORS[self as usize].compare_exchange(0, errno, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            UNTOLD.fetch_or(1 << self as u32, Ordering::Release);
        }
    }
}

/// Tells the program's log what was noted and not told yet, from a client.
pub(crate) fn tell() {
    untold().for_each(|(lack, error)| lack.warn(&error));
}

/// Takes out what was noted and not told yet, with the error of each. Nobody else gets it then.
pub(crate) fn untold() -> impl Iterator<Item = (Lack, io::Error)> {
    let noted = match UNTOLD.load(Ordering::Relaxed) {
        0 => 0,
        _ => UNTOLD.swap(0, Ordering::Acquire),
    };
    let is_noted = move |lack: &Lack| noted & (1 << *lack as u32) != 0;
    let error = |lack: Lack| ERRORS[lack as usize].load(Ordering::Relaxed);
    ALL.into_iter().filter(is_noted).map(move |lack| (lack, io::Error::from_raw_os_error(error(lack))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_with_the_first_error() {
        for lack in ALL {
            assert_eq!(ALL[lack as usize], lack);
        }
        Lack::Pidfd.note(&io::Error::from_raw_os_error(libc::EPERM));
        Lack::Pidfd.note(&io::Error::from_raw_os_error(libc::ENOSYS));
        let told =
            || untold().filter(|(lack, _)| *lack == Lack::Pidfd).map(|(_, error)| error.raw_os_error());
        // A test beside this one may have taken it.
        assert!(told().all(|errno| errno == Some(libc::EPERM)));
        Lack::Pidfd.note(&io::Error::from_raw_os_error(libc::ENOSYS));
        assert_eq!(told().count(), 0);
    }
}
