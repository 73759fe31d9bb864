//! The peer of a connection, as the kernel reports it: its process, user and groups.

#![forbid(unsafe_code)]

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use crate::os::credentials;
use crate::os::lacks::Lack;
use crate::wire::Peer;

/// The peer's process, user and group at the time when it connected (or, for a server, began to listen).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// 0 if the peer runs in a process namespace that this one cannot see.
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl From<&Peer> for Credentials {
    fn from(Peer { pid, uid, gid, .. }: &Peer) -> Credentials {
        Credentials { pid: *pid, uid: *uid, gid: *gid }
    }
}

pub(crate) fn peer_credentials(socket: impl AsFd) -> io::Result<Credentials> {
    // Not by rustix, whose type cannot hold the pid 0 of a process in another namespace.
    let found = credentials::peer_credentials(socket.as_fd())?;
    Ok(Credentials { pid: u32::try_from(found.pid).unwrap_or(0), uid: found.uid, gid: found.gid })
}

/// The numbers that the kernel reports for users and groups without a number in this process's user
/// namespace. All such users have the same number, so it identifies nobody.
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

/// Whether this is the number of all users that this process's user namespace does not know.
pub(crate) fn is_unknown_user(uid: u32) -> bool {
    uid == unknown().user
}

/// Like [`is_unknown_user`], for groups.
pub(crate) fn is_unknown_group(gid: u32) -> bool {
    gid == unknown().group
}

/// Whether both numbers certainly belong to one user. Use this instead of `==`: two different users may both
/// have the number for unknown users.
pub(crate) fn same_user(one: u32, other: u32) -> bool {
    one == other && !is_unknown_user(one)
}

/// The error text for an attempt to allow the number of all unknown users.
pub(crate) fn cannot_be_allowed(uid: u32) -> String {
    format!(
        "every user without a number in the server's user namespace is user {uid}, so this one cannot be allowed: use a user \
         that has a number there, or allow a group (allow_group, --allow-group)"
    )
}

/// Whether this is root's number.
pub(crate) fn is_root(uid: u32) -> bool {
    same_user(uid, 0)
}

/// Like [`same_user`], for groups.
pub(crate) fn same_group(one: u32, other: u32) -> bool {
    one == other && !is_unknown_group(one)
}

/// Whether the peer was a member of one of these groups when it connected. Fails if the kernel does not tell.
pub(crate) fn peer_in_groups(socket: impl AsFd, primary: u32, groups: &[u32]) -> io::Result<bool> {
    let is_one = |gid: u32| groups.iter().any(|group| same_group(gid, *group));
    if groups.is_empty() || is_one(primary) {
        return Ok(!groups.is_empty());
    }
    Ok(credentials::peer_groups(socket.as_fd())?.into_iter().any(is_one))
}

/// The groups besides its own one that the peer was a member of when it connected. Fails if the kernel does
/// not tell.
pub(crate) fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    credentials::peer_groups(socket.as_fd())
}

/// A descriptor that becomes readable when the peer's process ends. `None` if there is no way to get one:
/// then only the end of the connection shows it, but not while a forked child keeps that open.
pub(crate) fn peer_pidfd(socket: impl AsFd, pid: u32) -> Option<OwnedFd> {
    match credentials::peer_pidfd(socket.as_fd()) {
        Ok(pidfd) => Some(pidfd),
        // Before Linux 6.5, by process id. It is still the peer's: the peer has just sent something.
        Err(error) => by_its_number(pid, &error),
    }
}

/// A descriptor of a process by its number, after its peer's socket has given none.
fn by_its_number(pid: u32, error: &io::Error) -> Option<OwnedFd> {
    let opened = match by_number(pid) {
        Some(pid) => pidfd_open(pid, PidfdFlags::empty()),
        // It has no number in this process's namespace.
        None => Err(Errno::NOSYS),
    };
    let dead = |errno: &Errno| *errno == Errno::SRCH && pidfd_open_works();
    match &opened {
        _ if lacks_room(error) || peer_pidfd_works() => {}
        Ok(_) => Lack::PeerPidfd.note(error),
        Err(errno) if lacks_room(&(*errno).into()) || dead(errno) => {}
        Err(errno) => Lack::Pidfd.note(&(*errno).into()),
    }
    opened.ok()
}

fn pidfd_open_works() -> bool {
    pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).is_ok()
}

/// A descriptor of this process, that becomes readable when it ends. `None` if there is no way to get one.
pub(crate) fn own_pidfd() -> Option<OwnedFd> {
    let opened = pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    opened.ok().or_else(|| peer_pidfd(UnixStream::pair().ok()?.0, std::process::id()))
}

/// Whether the kernel gives out pidfds of peers. A seccomp filter may deny them with an error that otherwise
/// means a dead process, so this tries it once with this process, which is alive.
fn peer_pidfd_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    if let Some(works) = WORKS.get() {
        return *works;
    }
    let Ok((here, _there)) = UnixStream::pair() else { return false };
    match credentials::peer_pidfd(here.as_fd()) {
        Err(error) if lacks_room(&error) => false,
        answer => *WORKS.get_or_init(|| answer.is_ok()),
    }
}

/// Whether this process is out of descriptors or memory. Such an error says nothing about the peer.
fn lacks_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// Whether no process has this id. `kill` is trusted only if it finds this process (a filter may deny it).
fn is_free(pid: Pid) -> bool {
    test_kill_process(pid) == Err(Errno::SRCH) && test_kill_process(rustix::process::getpid()).is_ok()
}

/// Whether the peer's process has certainly ended. Does not block.
pub(crate) fn peer_is_dead(socket: impl AsFd, pid: u32) -> bool {
    match credentials::peer_pidfd(socket.as_fd()) {
        Ok(pidfd) => {
            let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
            matches!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&now)), Ok(1..))
        }
        Err(error) => match error.raw_os_error() {
            // The kernels' errors for a process that has been waited for.
            Some(libc::ESRCH | libc::EINVAL | libc::ENODATA) if peer_pidfd_works() => true,
            _ if lacks_room(&error) => false,
            // Pidfds of peers are unknown to this kernel, or denied. If another process has the id by now,
            // only the end of the connection shows the peer's death.
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

    #[test]
    fn the_number_of_unknown_users_equals_no_user() {
        let Unknown { user, group } = unknown();
        assert!(!same_user(user, user) && !same_group(group, group));
        assert!(same_user(user - 1, user - 1) && same_group(group - 1, group - 1));
        assert!(!same_user(user - 1, user) && !same_group(group - 1, group));
        assert!(is_root(0) && !is_root(1) && is_unknown_user(user) && is_unknown_group(group));
    }

    #[test]
    fn nobody_is_in_the_group_of_unknown_groups() {
        let (here, _there) = UnixStream::pair().unwrap();
        let own = rustix::process::getegid().as_raw();
        let is_in = |primary, groups: &[u32]| peer_in_groups(&here, primary, groups).unwrap();
        assert!(!is_in(unknown().group, &[unknown().group, own + 1]));
        assert!(!is_in(own, &[]) && is_in(own, &[own + 1, own]));
    }

    /// A pipe has no peer credentials, so its peer's groups are unknown. That differs from having no groups.
    #[test]
    fn unknown_groups_are_an_error_and_not_a_no() {
        let (pipe, _writer) = io::pipe().unwrap();
        assert!(peer_in_groups(&pipe, 1, &[2]).is_err());
        assert!(peer_in_groups(&pipe, 2, &[2]).unwrap() && !peer_in_groups(&pipe, 1, &[]).unwrap());
    }

    /// `tests/overload/` has the opposite case, with other processes.
    #[test]
    fn a_living_peer_is_not_taken_for_dead() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert!(!peer_is_dead(&here, std::process::id()));
    }
}
