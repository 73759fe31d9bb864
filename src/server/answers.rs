//! Answers that bring a client its channel, from their sending until they were taken.
//!
//! A descriptor on its way counts on the account of the *sender's* user: whoever registers and never reads
//! the answer uses up the server's. Past the limit of open files the kernel lets that user send no more
//! descriptors, and nobody can register. It stays on its way when the server closes its own end, so closing
//! helps nobody. Therefore answers that were not taken are counted, also those of clients that were thrown
//! out or left, and a registration beyond the bounds is put off until an earlier answer was taken. An
//! honest client takes its answer at once, so that a crowd of them is only a little slower. Who waits in vain
//! is refused at the end of its time.
//!
//! Whether an answer was taken says the connection: nothing that the server sent on it is left unread
//! (`SIOCOUTQ`). That is so, too, when the other side has closed it. So the connection is kept open here
//! until then.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connect::{Accepted, is_root, same_user};
use crate::wire::Name;

/// Answers of one user, and of all users, that may be on their way. With 4 of one user a crowd of 2,300
/// threads that register at once waited so long that up to half of them found no place to ask; with 64 hardly
/// any. All together are less than a third of the usual limit of open files, and a part of them is kept for
/// the server's own user and root.
const OF_ONE_USER: usize = 64;
const IN_ALL: usize = 320;
const RESERVE: usize = 64;

/// How often to look whether an answer was taken: while somebody waits for that, and while a connection is
/// kept open for it.
const SOON: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_secs(1);

/// How long what a look has told is believed.
const BRIEFLY: Duration = Duration::from_micros(100);

/// Why a registration is refused that waited in vain.
pub(super) fn not_taken(uid: u32) -> String {
    format!(
        "user {uid} has {OF_ONE_USER} answers to registrations that it does not read, or all users have {}: read them, or \
         close their connections, and try again",
        IN_ALL - RESERVE
    )
}

/// How many answers of all users may be on their way when this user gets one more.
fn most_in_all(uid: u32) -> usize {
    let is_owner = is_root(uid) || same_user(uid, rustix::process::geteuid().as_raw());
    if is_owner { IN_ALL } else { IN_ALL - RESERVE }
}

#[derive(Debug, Default)]
pub(super) struct Answers {
    sent: Vec<Arc<Accepted>>,
    /// Connections with a registration that was put off, in the order in which they asked.
    waiting: VecDeque<(u64, Name)>,
    due: Option<Instant>,
    /// When they were last looked at.
    looked: Option<Instant>,
}

impl Answers {
    /// Whether one more answer may be sent to this user now.
    pub(super) fn may_send(&mut self, uid: u32) -> bool {
        if self.has_room(uid) {
            return true;
        }
        // Not for each of a thousand that are tried again at once.
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now < looked + BRIEFLY) {
            return false;
        }
        self.look(now);
        self.has_room(uid)
    }

    fn has_room(&self, uid: u32) -> bool {
        let of_user = self.sent.iter().filter(|socket| socket.who().uid == uid).count();
        of_user < OF_ONE_USER && self.sent.len() < most_in_all(uid)
    }

    /// Forgets what was taken.
    fn look(&mut self, now: Instant) {
        self.sent.retain(|socket| !socket.is_all_taken());
        self.looked = Some(now);
    }

    pub(super) fn sent(&mut self, socket: &Arc<Accepted>) {
        self.sent.push(Arc::clone(socket));
    }

    /// A registration waits until an answer was taken.
    pub(super) fn put_off(&mut self, token: u64, name: Name) {
        self.waiting.push_back((token, name));
        self.due = Some(Instant::now() + SOON);
    }

    /// Whether this connection's registration was put off.
    pub(super) fn is_put_off(&self, token: u64) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == token)
    }

    /// Its connection is about to be closed. It is kept open here only if an answer was sent on it and not
    /// taken.
    pub(super) fn forget(&mut self, token: u64, socket: &Arc<Accepted>) {
        self.waiting.retain(|(waiting, _)| *waiting != token);
        if Arc::strong_count(socket) == 1 {
            return;
        }
        if socket.is_all_taken() {
            self.sent.retain(|sent| !Arc::ptr_eq(sent, socket));
        } else {
            socket.end();
            self.due.get_or_insert_with(|| Instant::now() + LATER);
        }
    }

    /// When to look again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The registrations to try again, if it is time. Those that cannot go on are put off again.
    pub(super) fn take_those_due(&mut self, now: Instant) -> VecDeque<(u64, Name)> {
        if self.due.is_none_or(|due| now < due) {
            return VecDeque::new();
        }
        self.look(now);
        let kept_open = self.sent.iter().any(|socket| Arc::strong_count(socket) == 1);
        self.due = kept_open.then(|| now + LATER);
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn some_are_kept_for_the_owner_whatever_others_leave_unread() {
        let pair =
            || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (mut answers, mut others) = (Answers::default(), Vec::new());
        let first = 70_001;
        let mut uid = first;
        while answers.may_send(uid) {
            for _ in 0..OF_ONE_USER {
                let (here, there) = pair();
                let here = Accepted::for_test(here, uid);
                here.send(b"unread").unwrap();
                answers.sent(&Arc::new(here));
                others.push(there);
            }
            assert!(!answers.has_room(uid), "one user has no more than its part");
            uid += 1;
        }
        assert_eq!(others.len(), IN_ALL - RESERVE);
        assert!(answers.may_send(0) && answers.may_send(rustix::process::geteuid().as_raw()));
        others.drain(..OF_ONE_USER);
        answers.look(Instant::now());
        assert!(answers.has_room(first) && answers.has_room(uid));
    }
}
