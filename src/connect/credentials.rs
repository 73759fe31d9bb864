//! Who is on the other side of a connection, as the kernel says.

#![forbid(unsafe_code)]

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use crate::os::credentials;

/// The other side's process, user and group at the time when it connected (or, for a server, began to
/// listen).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// 0 if it lives in a process namespace that this one does not see.
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

pub(crate) fn peer_credentials(socket: impl AsFd) -> io::Result<Credentials> {
    // Read here rather than by rustix, whose type cannot hold the pid 0 that a foreign namespace shows.
    let found = credentials::peer_credentials(socket.as_fd())?;
    Ok(Credentials { pid: u32::try_from(found.pid).unwrap_or(0), uid: found.uid, gid: found.gid })
}

/// The numbers by which the kernel shows every user and every group that has no number in this process's user
/// namespace. Any number of strangers may have them, so they stand for nobody in particular.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unknown {
    user: u32,
    group: u32,
}

fn unknown() -> Unknown {
    static UNKNOWN: OnceLock<Unknown> = OnceLock::new();
    let read = |path| std::fs::read_to_string(path).ok()?.trim().parse().ok();
    *UNKNOWN.get_or_init(|| Unknown {
        user: read("/proc/sys/kernel/overflowuid").unwrap_or(65_534),
        group: read("/proc/sys/kernel/overflowgid").unwrap_or(65_534),
    })
}

/// Whether the number stands for every user that this process's user namespace does not know.
pub(crate) fn is_unknown_user(uid: u32) -> bool {
    uid == unknown().user
}

/// The same for groups.
pub(crate) fn is_unknown_group(gid: u32) -> bool {
    gid == unknown().group
}

/// Whether both numbers are of one user, for certain. All such questions are asked here: two users who are
/// unknown have the same number, and may be two.
pub(crate) fn same_user(one: u32, other: u32) -> bool {
    one == other && !is_unknown_user(one)
}

/// What to tell a user that is unknown, in place of the option that lets others in.
pub(crate) fn cannot_be_allowed(uid: u32) -> String {
    format!(
        "to allow user {uid} lets nobody in: {uid} is the number of everyone who has none in the server's user namespace. \
         Use a user that has one there, or a group (ServerBuilder::allow_group, --allow-group)"
    )
}

/// Whether the number is root's.
pub(crate) fn is_root(uid: u32) -> bool {
    same_user(uid, 0)
}

/// The same for groups.
pub(crate) fn same_group(one: u32, other: u32) -> bool {
    one == other && !is_unknown_group(one)
}

/// Whether the other side was a member of one of these groups when it connected. Fails if the kernel does not
/// say.
pub(crate) fn peer_in_groups(socket: impl AsFd, primary: u32, groups: &[u32]) -> io::Result<bool> {
    let is_one = |gid: u32| groups.iter().any(|group| same_group(gid, *group));
    if groups.is_empty() || is_one(primary) {
        return Ok(!groups.is_empty());
    }
    Ok(credentials::peer_groups(socket.as_fd())?.into_iter().any(is_one))
}

/// A descriptor that becomes readable when the other process ends. `None` if there is no way to get one; its
/// connection tells then, except while a forked child holds that open.
pub(crate) fn peer_pidfd(socket: impl AsFd, pid: u32) -> Option<OwnedFd> {
    credentials::peer_pidfd(socket.as_fd()).ok().or_else(|| {
        // By number, on kernels before 6.5. The process was alive a moment ago, when it spoke.
        pidfd_open(by_number(pid)?, PidfdFlags::empty()).ok()
    })
}

/// Whether the kernel tells processes apart by the sockets that they connected. A filter may refuse that with
/// one of the errors that stand for a dead process, so this process, which lives, is asked after first.
fn peer_pidfd_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    if let Some(works) = WORKS.get() {
        return *works;
    }
    let Ok((here, _there)) = std::os::unix::net::UnixStream::pair() else { return false };
    match credentials::peer_pidfd(here.as_fd()) {
        Err(error) if lacks_room(&error) => false,
        answer => *WORKS.get_or_init(|| answer.is_ok()),
    }
}

/// No descriptor, no memory: that says nothing.
fn lacks_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// Whether no process has the number. `kill` is believed only if it finds this process.
fn is_free(pid: Pid) -> bool {
    test_kill_process(pid) == Err(Errno::SRCH) && test_kill_process(rustix::process::getpid()).is_ok()
}

/// Whether the other process has ended, as far as can be told. Does not block, and keeps no descriptor.
pub(crate) fn peer_is_dead(socket: impl AsFd, pid: u32) -> bool {
    match credentials::peer_pidfd(socket.as_fd()) {
        Ok(pidfd) => {
            let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
            matches!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&now)), Ok(1..))
        }
        Err(error) => match error.raw_os_error() {
            // What the kernels say of a process that was waited for.
            Some(libc::ESRCH | libc::EINVAL | libc::ENODATA) if peer_pidfd_works() => true,
            _ if lacks_room(&error) => false,
            // Not known to this kernel, or forbidden. The number may be another's by now; then the connection
            // must tell.
            _ => by_number(pid).is_some_and(is_free),
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

    #[test]
    fn who_is_unknown_is_the_same_as_nobody() {
        let Unknown { user, group } = unknown();
        assert!(!same_user(user, user) && !same_group(group, group));
        assert!(same_user(user - 1, user - 1) && same_group(group - 1, group - 1));
        assert!(!same_user(user - 1, user) && !same_group(group - 1, group));
        assert!(is_root(0) && !is_root(1) && is_unknown_user(user) && is_unknown_group(group));
    }

    #[test]
    fn nobody_is_in_the_group_of_the_unknown() {
        let (here, _there) = UnixStream::pair().unwrap();
        let own = rustix::process::getegid().as_raw();
        let is_in = |primary, groups: &[u32]| peer_in_groups(&here, primary, groups).unwrap();
        assert!(!is_in(unknown().group, &[unknown().group, own + 1]));
        assert!(!is_in(own, &[]) && is_in(own, &[own + 1, own]));
    }

    /// What is no socket has none that could be told. That is not the same as to be in none.
    #[test]
    fn groups_that_are_not_told_are_not_denied() {
        let (pipe, _writer) = io::pipe().unwrap();
        assert!(peer_in_groups(&pipe, 1, &[2]).is_err());
        assert!(peer_in_groups(&pipe, 2, &[2]).unwrap() && !peer_in_groups(&pipe, 1, &[]).unwrap());
    }

    /// That the dead are told from it, `tests/overload/` shows with other processes.
    #[test]
    fn this_process_lives() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert!(!peer_is_dead(&here, std::process::id()));
    }
}
