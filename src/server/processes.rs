//! The deaths that a lifeline does not tell of, because a forked child holds it open.
//!
//! A pidfd of the client's process tells at once. It is a second descriptor for each client, so it is kept
//! only while there are enough of them: [`SPARE`] stay free for others, and each connection that comes closer
//! to the limit takes the place of a pidfd. Whoever has none is asked after every [`PERIOD`], by a pidfd that
//! is closed again; so with descriptors at their end the news of such a death is late by as much, and of
//! every other death it is not.

#![forbid(unsafe_code)]

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use crate::connect::{Accepted, peer_is_dead, peer_pidfd};
use crate::os::descriptors::{Ours, Waits};

/// Descriptors that are left to others while there is a pidfd to give up.
const SPARE: u64 = 16;

/// How often the processes without a pidfd are asked after.
const PERIOD: Duration = Duration::from_secs(1);

/// Clients' processes, by the tokens of their connections.
#[derive(Debug, Default)]
pub(super) struct Processes {
    pidfds: HashMap<u64, Ours>,
    /// Those that have no pidfd.
    unwatched: HashSet<u64>,
    /// When to ask after them.
    due: Option<Instant>,
}

/// Whether fewer than that many descriptors are left beyond this one. The kernel gives the lowest number that
/// is free.
pub(super) fn nearly_the_last(descriptor: impl AsFd, left: u64) -> bool {
    let number = u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0);
    getrlimit(Resource::Nofile).current.is_some_and(|limit| number + left >= limit)
}

impl Processes {
    /// Watches the process at the other end of a connection. Its pidfd's token is the connection's and 1.
    pub(super) fn watch(&mut self, epoll: &Waits, socket: &Accepted, pid: u32, token: u64) {
        let pidfd = peer_pidfd(socket, pid).filter(|pidfd| {
            let data = epoll::EventData::new_u64(token + 1);
            !nearly_the_last(pidfd, SPARE) && epoll::add(epoll, pidfd, data, epoll::EventFlags::IN).is_ok()
        });
        match pidfd {
            Some(pidfd) => {
                self.pidfds.insert(token, Ours::new(pidfd));
            }
            None => self.leave_unwatched(token),
        }
    }

    /// A connection that was just accepted takes the place of a pidfd, if its own is one of the last.
    pub(super) fn make_room(&mut self, epoll: &Waits, socket: &mut Accepted) {
        if nearly_the_last(&*socket, SPARE) && self.give_up_one(epoll) {
            socket.renumber();
        }
    }

    /// Closes a pidfd, so that its descriptor can be another's. False if there is none left.
    pub(super) fn give_up_one(&mut self, epoll: &Waits) -> bool {
        let Some(token) = self.pidfds.keys().next().copied() else { return false };
        if let Some(pidfd) = self.pidfds.remove(&token) {
            let _ = epoll::delete(epoll, &pidfd);
        }
        self.leave_unwatched(token);
        true
    }

    fn leave_unwatched(&mut self, token: u64) {
        self.unwatched.insert(token);
        self.due.get_or_insert_with(|| Instant::now() + PERIOD);
    }

    /// The connection is about to be closed.
    pub(super) fn forget(&mut self, epoll: &Waits, token: u64) {
        if let Some(pidfd) = self.pidfds.remove(&token) {
            // A forked process may hold it too; then closing it would not take it out.
            let _ = epoll::delete(epoll, &pidfd);
        }
        self.unwatched.remove(&token);
        if self.unwatched.is_empty() {
            self.due = None;
        }
    }

    /// The numbers may be others' by now, so they are not closed.
    pub(super) fn abandon(&mut self) {
        self.pidfds.drain().for_each(|(_, pidfd)| std::mem::forget(pidfd));
        (self.unwatched, self.due) = (HashSet::new(), None);
    }

    /// When to ask after those that have no pidfd.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The connections whose processes are found dead, if it is time to look.
    pub(super) fn find_dead<'a>(
        &mut self,
        now: Instant,
        peer: impl Fn(u64) -> Option<(&'a Accepted, u32)>,
    ) -> Vec<u64> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = Some(now + PERIOD);
        let is_dead = |token: &u64| peer(*token).is_some_and(|(socket, pid)| peer_is_dead(socket, pid));
        self.unwatched.iter().copied().filter(is_dead).collect()
    }
}

/// Whether a lack of descriptors is what failed.
pub(super) fn is_lack_of_descriptors(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE)
}
