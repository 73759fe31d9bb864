//! What waits to be taken by the clients that listen, and the bells by which they hear of it.
//!
//! An introduction that waits holds descriptors of the server, so how many wait is limited: at one client, of
//! one user, and in all. Whatever is not taken in time is dropped. What waits for one client is taken in turn
//! from each user's callers, so that a user who fills its share delays others by one introduction only.

#![forbid(unsafe_code)]

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, getrlimit};
use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::table::LinkId;
use crate::connect::Introduction;
use crate::os::descriptors::Ours;
use crate::wire::{HELLO_TIME, Key};

/// How many introductions wait for one client.
pub(crate) const AT_ONE_CLIENT: usize = 128;

/// How many of these may be of one user's callers.
pub(crate) const OF_ONE_USER: usize = 64;

/// The descriptors of all that wait are at most a quarter of those that the process may have.
const PART: u64 = 4 * Introduction::DESCRIPTORS as u64;

/// The most introductions that wait in all, if the process may have any number of descriptors.
const IN_ALL: u64 = 1024;

/// The part of all places that is kept for those who are exempt from quotas: one in so many.
const RESERVE: usize = 8;

/// One side of a link that was not taken yet.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) introduction: Introduction,
    pub(super) descriptors: [OwnedFd; Introduction::DESCRIPTORS],
    due: Instant,
}

impl Part {
    pub(super) fn new(introduction: Introduction, descriptors: [OwnedFd; Introduction::DESCRIPTORS]) -> Part {
        Part { introduction, descriptors, due: Instant::now() + HELLO_TIME }
    }

    /// The caller's user.
    fn uid(&self) -> u32 {
        self.introduction.peer.uid
    }
}

/// A client that listens, or did.
#[derive(Debug, Default)]
struct Listening {
    bell: Option<Ours>,
    /// Whether it ever had one.
    has_listened: bool,
    /// What waits, by the callers' users. The first of the first user is the next.
    users: VecDeque<(u32, VecDeque<Part>)>,
}

impl Listening {
    /// How many wait, in all and of one user.
    fn count(&self, uid: u32) -> (usize, usize) {
        let of_user = self.users.iter().find(|(user, _)| *user == uid).map_or(0, |(_, parts)| parts.len());
        (self.users.iter().map(|(_, parts)| parts.len()).sum(), of_user)
    }

    fn push(&mut self, part: Part) {
        match self.users.iter_mut().find(|(user, _)| *user == part.uid()) {
            Some((_, parts)) => parts.push_back(part),
            None => self.users.push_back((part.uid(), VecDeque::from([part]))),
        }
    }

    fn put_back(&mut self, part: Part) {
        let at = self.users.iter().position(|(user, _)| *user == part.uid());
        let (_, mut parts) = at.and_then(|at| self.users.remove(at)).unwrap_or_default();
        let uid = part.uid();
        parts.push_front(part);
        self.users.push_front((uid, parts));
    }

    fn take(&mut self) -> Option<Part> {
        let (uid, mut parts) = self.users.pop_front()?;
        let part = parts.pop_front();
        if !parts.is_empty() {
            self.users.push_back((uid, parts));
        }
        part
    }

    fn remove(&mut self, id: LinkId) -> Option<Part> {
        let is_it = |part: &Part| part.introduction.id == id;
        let at = self.users.iter().position(|(_, parts)| parts.iter().any(is_it))?;
        let parts = &mut self.users.get_mut(at)?.1;
        let part = parts.iter().position(is_it).and_then(|place| parts.remove(place));
        if parts.is_empty() {
            self.users.remove(at);
        }
        part
    }
}

/// Why no more may wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TooMany {
    AtTheClient,
    OfTheUserAtTheClient,
    InAll,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    clients: HashMap<Key, Listening>,
    /// All that wait.
    ids: HashSet<LinkId>,
    of_users: HashMap<u32, usize>,
    /// When each is dropped, in order. Those that do not wait any more are skipped.
    due: VecDeque<(Instant, Key, LinkId)>,
}

/// How many introductions may wait in all.
fn most() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (limit / PART).clamp(4, IN_ALL) as usize
}

impl Waiting {
    /// Whether one more may wait for a client, of a caller of this user. One user gets at most a quarter of
    /// all places, and a part of them is kept for those who are exempt from quotas.
    pub(super) fn may_wait(
        &self,
        key: Key,
        uid: u32,
        is_exempt: impl Fn(u32) -> bool,
    ) -> Result<(), TooMany> {
        let (at_client, of_user) = self.clients.get(&key).map_or((0, 0), |client| client.count(uid));
        let in_all = most();
        let others = || -> usize {
            self.of_users.iter().filter(|(uid, _)| !is_exempt(**uid)).map(|(_, parts)| parts).sum()
        };
        let own = self.of_users.get(&uid).copied().unwrap_or(0);
        let has_its_share = || own >= in_all / 4 || others() >= in_all - in_all / RESERVE;
        if at_client >= AT_ONE_CLIENT {
            Err(TooMany::AtTheClient)
        } else if of_user >= OF_ONE_USER {
            Err(TooMany::OfTheUserAtTheClient)
        } else if self.ids.len() >= in_all || !is_exempt(uid) && has_its_share() {
            Err(TooMany::InAll)
        } else {
            Ok(())
        }
    }

    /// Puts a part behind those of its user that wait for a client.
    pub(super) fn push(&mut self, key: Key, part: Part) {
        self.due.push_back((part.due, key, part.introduction.id));
        self.note(&part);
        self.clients.entry(key).or_default().push(part);
    }

    /// Puts a part back that was just taken and could not be handed over. It is still listed as due.
    pub(super) fn put_back(&mut self, key: Key, part: Part) {
        self.note(&part);
        self.clients.entry(key).or_default().put_back(part);
    }

    /// Takes the part that is next for a client: of the user whose turn it is, the one that has waited
    /// longest.
    pub(super) fn take(&mut self, key: Key) -> Option<Part> {
        let part = self.clients.get_mut(&key)?.take()?;
        self.forget(&part);
        Some(part)
    }

    fn note(&mut self, part: &Part) {
        self.ids.insert(part.introduction.id);
        *self.of_users.entry(part.uid()).or_default() += 1;
    }

    fn forget(&mut self, part: &Part) {
        self.ids.remove(&part.introduction.id);
        if let Some(count) = self.of_users.get_mut(&part.uid()) {
            *count -= 1;
            if *count == 0 {
                self.of_users.remove(&part.uid());
            }
        }
    }

    /// When the first part is dropped. Nothing is due for parts that were taken.
    pub(super) fn due(&mut self) -> Option<Instant> {
        while let Some((due, _, id)) = self.due.front() {
            if self.ids.contains(id) {
                return Some(*due);
            }
            self.due.pop_front();
        }
        None
    }

    /// Drops what has waited too long, and returns its numbers.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<LinkId> {
        let mut expired = Vec::new();
        while self.due().is_some_and(|due| due <= now) {
            let Some((_, key, id)) = self.due.pop_front() else { break };
            if let Some(part) = self.clients.get_mut(&key).and_then(|client| client.remove(id)) {
                self.forget(&part);
                expired.push(id);
            }
        }
        expired
    }

    // ---- bells

    /// From now on a client hears of introductions by this bell.
    pub(super) fn set_bell(&mut self, key: Key, bell: OwnedFd) {
        let client = self.clients.entry(key).or_default();
        client.bell = Some(Ours::new(bell));
        client.has_listened = true;
        if !client.users.is_empty() {
            self.ring(key);
        }
    }

    /// Whether a client ever had a bell.
    pub(super) fn has_listened(&self, key: Key) -> bool {
        self.clients.get(&key).is_some_and(|client| client.has_listened)
    }

    /// Whether a client can hear its bell. A bell whose other end is closed is dropped.
    pub(super) fn can_hear(&mut self, key: Key) -> bool {
        let Some(client) = self.clients.get_mut(&key) else { return false };
        let Some(bell) = client.bell.as_ref().filter(|bell| bell.is_ours()) else { return false };
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut looked = [PollFd::new(bell, PollFlags::empty())];
        let hears = poll(&mut looked, Some(&now)).is_err() || !looked[0].revents().contains(PollFlags::ERR);
        if !hears {
            client.bell = None;
        }
        hears
    }

    /// Rings a client's bell. A full pipe rings already; one that nobody holds needs no ringing. Writing to
    /// it raises `SIGPIPE`, which the library's threads have blocked.
    pub(super) fn ring(&self, key: Key) {
        if let Some(bell) = self.clients.get(&key).and_then(|client| client.bell.as_ref())
            && bell.is_ours()
        {
            let _ = rustix::io::write(bell, &[1]);
        }
    }

    // ---- ends

    /// A client is gone: drops what waits for it.
    pub(super) fn left(&mut self, key: Key) {
        if let Some(client) = self.clients.remove(&key) {
            client.users.iter().flat_map(|(_, parts)| parts).for_each(|part| self.forget(part));
        }
    }

    /// Forgets everything without closing it: the descriptors' numbers may be others' by now.
    pub(super) fn abandon(&mut self) {
        for (_, client) in std::mem::take(self).clients {
            std::mem::forget(client.bell);
            client.users.into_iter().for_each(std::mem::forget);
        }
    }

    /// How many introductions wait.
    #[cfg(any(fuzzing, test))]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Name, Peer};
    use rustix::io::read;

    const CALLEE: Key = Key::from_u128(7);

    fn part(id: LinkId, uid: u32) -> Part {
        let (reader, _) = std::io::pipe().unwrap();
        let descriptors = std::array::from_fn(|_| OwnedFd::from(reader.try_clone().unwrap()));
        let peer = Peer { name: Name::new("alice").unwrap(), key: Key::from_u128(1), pid: 1, uid, gid: 1 };
        Part::new(Introduction { id, index: 0, ring_size: 4096, max_block: 2040, peer }, descriptors)
    }

    #[test]
    fn parts_are_taken_in_order_and_put_back_in_front() {
        let mut waiting = Waiting::default();
        assert!(waiting.take(CALLEE).is_none() && waiting.due().is_none());
        (1..=3).for_each(|id| waiting.push(CALLEE, part(id, 70_001)));
        let first = waiting.take(CALLEE).unwrap();
        assert_eq!((first.introduction.id, waiting.len()), (1, 2));
        waiting.put_back(CALLEE, first);
        assert_eq!((waiting.len(), waiting.due.len()), (3, 3));
        let taken: Vec<LinkId> = (0..3).map(|_| waiting.take(CALLEE).unwrap().introduction.id).collect();
        assert_eq!(taken, [1, 2, 3]);
        assert!(waiting.due().is_none() && waiting.due.is_empty() && waiting.of_users.is_empty());
    }

    /// A user who fills its share does not keep others waiting.
    #[test]
    fn users_take_turns() {
        let mut waiting = Waiting::default();
        let users = [1, 1, 1, 1, 2, 2, 3];
        (1..).zip(users).for_each(|(id, uid)| waiting.push(CALLEE, part(id, uid)));
        let mut take = || waiting.take(CALLEE).unwrap();
        let taken: Vec<LinkId> = (0..4).map(|_| take().introduction.id).collect();
        assert_eq!(taken, [1, 5, 7, 2]);
        let next = take();
        assert_eq!(next.introduction.id, 6);
        waiting.put_back(CALLEE, next);
        waiting.push(CALLEE, part(8, 3));
        let taken: Vec<LinkId> = (0..4).map(|_| waiting.take(CALLEE).unwrap().introduction.id).collect();
        assert_eq!(taken, [6, 3, 8, 4]);
        assert!(waiting.take(CALLEE).is_none() && waiting.clients[&CALLEE].users.is_empty());
    }

    #[test]
    fn what_waits_too_long_is_dropped_and_nothing_else() {
        let mut waiting = Waiting::default();
        let began = Instant::now();
        (1..=3).for_each(|id| waiting.push(CALLEE, part(id, 70_001)));
        waiting.push(Key::from_u128(8), part(4, 70_001));
        assert_eq!(waiting.take(CALLEE).unwrap().introduction.id, 1);
        assert!(waiting.expire(began).is_empty());
        assert!(waiting.due().unwrap() >= began + HELLO_TIME);
        assert_eq!(waiting.expire(Instant::now() + HELLO_TIME), [2, 3, 4]);
        assert!(waiting.take(CALLEE).is_none() && waiting.due().is_none() && waiting.len() == 0);
    }

    #[test]
    fn how_many_wait_is_limited_for_each_client_each_user_and_in_all() {
        let mut waiting = Waiting::default();
        let most = most();
        assert!(most >= 4 && most <= IN_ALL as usize);
        let mut id = 0;
        let mut push = |waiting: &mut Waiting, key: Key, uid: u32| {
            id += 1;
            let may = waiting.may_wait(key, uid, |uid| uid == 0);
            if may.is_ok() {
                waiting.push(key, part(id, uid));
            }
            may
        };
        let of_user = OF_ONE_USER.min(most / 4);
        for _ in 0..of_user {
            push(&mut waiting, CALLEE, 70_001).unwrap();
        }
        let why = if of_user == OF_ONE_USER { TooMany::OfTheUserAtTheClient } else { TooMany::InAll };
        assert_eq!(push(&mut waiting, CALLEE, 70_001), Err(why));
        push(&mut waiting, CALLEE, 70_002).unwrap();
        if most > 4 * OF_ONE_USER {
            (1..OF_ONE_USER).for_each(|_| push(&mut waiting, CALLEE, 70_002).unwrap());
            assert_eq!(push(&mut waiting, CALLEE, 70_003), Err(TooMany::AtTheClient));
            push(&mut waiting, Key::from_u128(8), 70_001).unwrap();
        }
        let mut uid = 71_000;
        while waiting.len() < most - most / RESERVE {
            uid += 1;
            push(&mut waiting, Key::from_u128(u128::from(uid)), uid).unwrap();
        }
        assert_eq!(push(&mut waiting, Key::from_u128(9), 72_000), Err(TooMany::InAll));
        while waiting.len() < most {
            uid += 1;
            push(&mut waiting, Key::from_u128(u128::from(uid)), 0).unwrap();
        }
        assert_eq!(push(&mut waiting, Key::from_u128(9), 0), Err(TooMany::InAll));
        waiting.left(CALLEE);
        push(&mut waiting, Key::from_u128(9), 72_000).unwrap();
    }

    #[test]
    fn a_bell_rings_for_what_waits_already_and_a_closed_one_is_dropped() {
        let mut waiting = Waiting::default();
        assert!(!waiting.can_hear(CALLEE));
        waiting.push(CALLEE, part(1, 70_001));
        assert!(!waiting.can_hear(CALLEE));
        let (reader, writer) = std::io::pipe().unwrap();
        waiting.set_bell(CALLEE, writer.into());
        assert_eq!(read(&reader, &mut [0; 8]), Ok(1));
        assert!(waiting.can_hear(CALLEE));
        waiting.ring(CALLEE);
        assert_eq!(read(&reader, &mut [0; 8]), Ok(1));
        drop(reader);
        assert!(!waiting.can_hear(CALLEE) && waiting.clients[&CALLEE].bell.is_none());
    }
}
