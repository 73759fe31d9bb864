//! Who is on the other side of a connection, as the kernel says.

#![forbid(unsafe_code)]

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::sys;

/// The other side's process, user and group at the time when it connected (or, for a server, began to listen).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// 0 if it lives in a process namespace that this one does not see.
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

pub(crate) fn peer_credentials(socket: impl AsFd) -> io::Result<Credentials> {
    // Read here rather than by rustix, whose type cannot hold the pid 0 that a foreign namespace shows.
    let found = sys::peer_credentials(socket.as_fd())?;
    Ok(Credentials { pid: u32::try_from(found.pid).unwrap_or(0), uid: found.uid, gid: found.gid })
}

/// Whether the other side was a member of one of these groups when it connected.
pub(crate) fn peer_in_groups(socket: impl AsFd, primary: u32, groups: &[u32]) -> bool {
    !groups.is_empty()
        && (groups.contains(&primary)
            || sys::peer_groups(socket.as_fd())
                .is_ok_and(|supplementary| supplementary.iter().any(|gid| groups.contains(gid))))
}

/// A descriptor that becomes readable when the other process ends. `None` if there is no way to get one; its
/// connection tells then, except while a forked child holds that open.
pub(crate) fn peer_pidfd(socket: impl AsFd, pid: u32) -> Option<OwnedFd> {
    sys::peer_pidfd(socket.as_fd()).ok().or_else(|| {
        // By number, on kernels before 6.5. The process was alive a moment ago, when it spoke.
        pidfd_open(by_number(pid)?, PidfdFlags::empty()).ok()
    })
}

/// Whether the other process has ended, as far as can be told. Does not block, and keeps no descriptor.
pub(crate) fn peer_is_dead(socket: impl AsFd, pid: u32) -> bool {
    match sys::peer_pidfd(socket.as_fd()) {
        Ok(pidfd) => {
            let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
            matches!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&now)), Ok(1..))
        }
        Err(error) => match error.raw_os_error() {
            // What the kernels say of a process that was waited for.
            Some(libc::ESRCH | libc::EINVAL | libc::ENODATA) => true,
            // No descriptor, no memory: that says nothing.
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => false,
            // Not known to this kernel, or forbidden. The number may be another's by now; then the connection must tell.
            _ => by_number(pid).is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)),
        },
    }
}

fn by_number(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    /// That the dead are told from it, `tests/overload/` shows with other processes.
    #[test]
    fn this_process_lives() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert!(!peer_is_dead(&here, std::process::id()));
    }
}
