//! Counts the answers with a descriptor in them that were sent and not read yet.
//!
//! A descriptor that was sent and not received counts against the *sender's* user: whoever registers and
//! never reads the answer uses up the server's allowance. Beyond the limit of open files the kernel lets that
//! user send no more descriptors, so nobody could register. Closing the server's own end does not help, since
//! the descriptor stays in flight. Therefore unread answers are counted, also those of clients that are gone,
//! and whatever needs another such answer is put off until an earlier one was read. An honest client reads
//! its answer at once, so a crowd of them is only slowed down a little.
//!
//! Whether an answer was read shows on its connection: nothing that the server sent there is left unread
//! (`SIOCOUTQ`). The same holds when the other side has closed the connection. So a connection is kept open
//! until its answer was read.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connect::{Accepted, is_root, same_user};

/// How many unread descriptors one user may have, each answer with as many as it has. With 4, up to half of
/// 2,300 threads that registered at once found no place to ask, because earlier ones waited so long; with 64
/// hardly any.
const OF_ONE_USER: usize = 64;
/// How many unread descriptors there may be in all: less than a third of the usual limit of open files.
const IN_ALL: usize = 320;
/// The part of these that is kept for root and the server's own user.
const RESERVE: usize = 64;

/// How often to look whether the answers on connections that are otherwise closed were read.
const LATER: Duration = Duration::from_secs(1);

/// How long the result of a look is relied on.
const BRIEFLY: Duration = Duration::from_micros(100);

/// The refusal's text for whoever waited in vain for earlier answers to be read.
pub(super) fn not_read(uid: u32) -> String {
    format!(
        "user {uid} has answers with {OF_ONE_USER} descriptors that it does not read, or all users have {}: read them, or \
         close their connections, and try again",
        IN_ALL - RESERVE
    )
}

/// How many unread answers there may be in all when this user gets one more.
fn most_in_all(uid: u32) -> usize {
    let is_owner = is_root(uid) || same_user(uid, rustix::process::geteuid().as_raw());
    if is_owner { IN_ALL } else { IN_ALL - RESERVE }
}

#[derive(Debug, Default)]
pub(super) struct UnreadAnswers {
    answers: Vec<Answer>,
    /// When to look at the answers whose connections are closed.
    due: Option<Instant>,
    /// When the answers were last looked at.
    looked: Option<Instant>,
}

/// An answer that may not have been read yet.
#[derive(Debug)]
struct Answer {
    connection: Arc<Accepted>,
    /// The connection is kept open only for this answer.
    closed: bool,
    /// How many descriptors it has. Several answers on one connection count as one.
    descriptors: usize,
}

impl UnreadAnswers {
    /// Whether one more answer with so many descriptors may be sent to this user now.
    pub(super) fn may_send(&mut self, uid: u32, descriptors: usize) -> bool {
        if self.has_room(uid, descriptors) {
            return true;
        }
        // A thousand registrations that are tried again at once must not look a thousand times.
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now < looked + BRIEFLY) {
            return false;
        }
        self.look(now);
        self.has_room(uid, descriptors)
    }

    fn has_room(&self, uid: u32, descriptors: usize) -> bool {
        let unread = |of: &dyn Fn(&&Answer) -> bool| -> usize {
            self.answers.iter().filter(of).map(|answer| answer.descriptors).sum()
        };
        unread(&|answer| answer.connection.who().uid == uid) + descriptors <= OF_ONE_USER
            && unread(&|_| true) + descriptors <= most_in_all(uid)
    }

    /// Forgets the answers that were read.
    fn look(&mut self, now: Instant) {
        self.answers.retain(|answer| !answer.connection.is_all_taken());
        self.looked = Some(now);
    }

    /// An answer with so many descriptors was sent on this connection.
    pub(super) fn sent(&mut self, connection: &Arc<Accepted>, descriptors: usize) {
        match self.answers.iter_mut().find(|answer| Arc::ptr_eq(&answer.connection, connection)) {
            Some(earlier) => earlier.descriptors += descriptors,
            None => {
                self.answers.push(Answer { connection: Arc::clone(connection), closed: false, descriptors });
            }
        }
    }

    /// The server is about to close this connection. It stays open here if an answer on it was not read.
    pub(super) fn closing(&mut self, connection: &Arc<Accepted>) {
        let is_its = |answer: &Answer| Arc::ptr_eq(&answer.connection, connection);
        let Some(place) = self.answers.iter().position(is_its) else { return };
        if connection.is_all_taken() {
            self.answers.swap_remove(place);
        } else {
            connection.end();
            self.answers[place].closed = true;
            self.due.get_or_insert_with(|| Instant::now() + LATER);
        }
    }

    /// When [`close_read`](Self::close_read) has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Closes the connections that were kept open for an answer that was read by now, if it is time to look.
    pub(super) fn close_read(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.look(now);
            let is_any_closed = self.answers.iter().any(|answer| answer.closed);
            self.due = is_any_closed.then(|| now + LATER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn places_are_kept_for_the_owner_however_many_answers_others_leave_unread() {
        let pair =
            || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (mut answers, mut others) = (UnreadAnswers::default(), Vec::new());
        let first = 70_001;
        let mut uid = first;
        while answers.may_send(uid, 1) {
            for _ in 0..OF_ONE_USER {
                let (here, there) = pair();
                let here = Accepted::for_test(here, uid);
                here.send(b"unread").unwrap();
                answers.sent(&Arc::new(here), 1);
                others.push(there);
            }
            assert!(!answers.has_room(uid, 1), "one user has no more than its share");
            uid += 1;
        }
        assert_eq!(others.len(), IN_ALL - RESERVE);
        assert!(answers.may_send(0, 1) && answers.may_send(rustix::process::geteuid().as_raw(), 1));
        others.drain(..OF_ONE_USER);
        answers.look(Instant::now());
        assert!(answers.has_room(first, OF_ONE_USER) && answers.has_room(uid, 1));
    }
}
