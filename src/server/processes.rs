//! Notices the deaths that a lifeline does not show, because a forked child holds it open.
//!
//! A pidfd of the client's process shows its death at once. But it is a second descriptor per client, so it
//! is kept only while there are enough: [`SPARE`] descriptors stay free for others, and a connection that
//! comes closer to the limit takes the place of a pidfd. Processes without one are looked at every
//! [`PERIOD`], by a pidfd that is closed again. So when descriptors run out, only such deaths are noticed
//! late, and by no more than that.

#![forbid(unsafe_code)]

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::connections::{ConnectionId, Source};
use crate::connect::{Accepted, peer_is_dead, peer_pidfd};
use crate::os::descriptors::{Ours, Waits};

/// Descriptors that are left free while there is a pidfd to give up.
const SPARE: u64 = 16;

/// How often the processes without a pidfd are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// The clients' processes, by connection.
#[derive(Debug, Default)]
pub(super) struct Processes {
    pidfds: HashMap<ConnectionId, Ours>,
    /// Those without a pidfd.
    unwatched: HashSet<ConnectionId>,
    /// When to look at those without a pidfd.
    due: Option<Instant>,
}

/// Whether at most `left` descriptors are left beyond this one. The kernel always gives out the lowest free
/// number.
pub(super) fn nearly_the_last(descriptor: impl AsFd, left: u64) -> bool {
    let number = u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0);
    getrlimit(Resource::Nofile).current.is_some_and(|limit| number + left >= limit)
}

impl Processes {
    /// Watches the process at the other end of a connection.
    pub(super) fn watch(&mut self, waits: &Waits, socket: &Accepted, id: ConnectionId) {
        let pidfd = peer_pidfd(socket, socket.who().pid).filter(|pidfd| {
            let data = Source::Process(id).data();
            !nearly_the_last(pidfd, SPARE) && epoll::add(waits, pidfd, data, epoll::EventFlags::IN).is_ok()
        });
        match pidfd {
            Some(pidfd) => {
                self.pidfds.insert(id, Ours::new(pidfd));
            }
            None => self.leave_unwatched(id),
        }
    }

    /// A copy of the pidfd of a connection's process, if there is one.
    pub(super) fn pidfd(&self, id: ConnectionId) -> Option<OwnedFd> {
        self.pidfds.get(&id)?.as_fd().try_clone_to_owned().ok()
    }

    /// Gives a connection that was just accepted the place of a pidfd, if its descriptor is one of the last.
    pub(super) fn make_room(&mut self, waits: &Waits, socket: &mut Accepted) {
        if nearly_the_last(&*socket, SPARE) && self.give_up_one(waits) {
            socket.renumber();
        }
    }

    /// Closes a pidfd to free a descriptor. False if there is none left.
    pub(super) fn give_up_one(&mut self, waits: &Waits) -> bool {
        let Some(id) = self.pidfds.keys().next().copied() else { return false };
        if let Some(pidfd) = self.pidfds.remove(&id) {
            let _ = epoll::delete(waits, &pidfd);
        }
        self.leave_unwatched(id);
        true
    }

    fn leave_unwatched(&mut self, id: ConnectionId) {
        self.unwatched.insert(id);
        self.due.get_or_insert_with(|| Instant::now() + PERIOD);
    }

    /// Stops watching the process of a connection, which is about to be closed.
    pub(super) fn forget(&mut self, waits: &Waits, id: ConnectionId) {
        if let Some(pidfd) = self.pidfds.remove(&id) {
            // A forked process may hold it, too. Then closing it does not take it out of the epoll instance.
            let _ = epoll::delete(waits, &pidfd);
        }
        self.unwatched.remove(&id);
        if self.unwatched.is_empty() {
            self.due = None;
        }
    }

    /// Forgets all pidfds without closing them: their numbers may be others' by now.
    pub(super) fn abandon(&mut self) {
        self.pidfds.drain().for_each(|(_, pidfd)| std::mem::forget(pidfd));
        (self.unwatched, self.due) = (HashSet::new(), None);
    }

    /// When [`find_dead`](Self::find_dead) has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The connections without a pidfd whose processes are found dead, if it is time to look.
    pub(super) fn find_dead<'a>(
        &mut self,
        now: Instant,
        socket_of: impl Fn(ConnectionId) -> Option<&'a Accepted>,
    ) -> Vec<ConnectionId> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = Some(now + PERIOD);
        let is_dead =
            |id: &ConnectionId| socket_of(*id).is_some_and(|socket| peer_is_dead(socket, socket.who().pid));
        self.unwatched.iter().copied().filter(is_dead).collect()
    }
}

/// Whether an operation failed for lack of descriptors.
pub(super) fn is_lack_of_descriptors(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE)
}
