//! `Lists`: asks for the list of all clients, for a presence that has missed changes or has another server.
//!
//! Whoever looks for changes must not wait for a server, so a list is made on another thread: on the one that
//! registers the client again, or on one that lives until it is there.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::client::session::{Session, ask_anew, deadline_in};
use crate::client::topics::set::Topics;
use crate::client::topics::subscription::Subscription;
use crate::connect::Ask;
use crate::connect::dial::{DialError, Line};
use crate::connect::listing::decode_page;
use crate::os::threads;
use crate::registry::ClientInfo;
use crate::testing::failpoints::failpoint;
use crate::wire::Peer;

/// How long the server has for a list.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pauses before it is asked again, from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The lists of one presence.
#[derive(Debug, Default)]
pub(in crate::client::topics) struct Lists {
    /// The number of the list that was asked for last.
    asked: AtomicU64,
    /// How many threads are about to bring one.
    under_way: AtomicU32,
    /// The newest one that has come and was not taken.
    latest: Mutex<Option<Listed>>,
}

/// A list that has come.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) number: u64,
    /// Of which server it is: the epoch of that one's presence.
    pub(super) epoch: u64,
    pub(super) peers: Vec<Peer>,
}

impl Lists {
    /// The number of the list that was asked for last.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn take(&self) -> Option<Listed> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether somebody is about to bring a list, or has brought one that was not taken.
    pub(super) fn is_coming(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) > 0
            || self.latest.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Asks for a list, and waits for it until the deadline.
    pub(in crate::client::topics) fn fetch(
        &self,
        topics: &Topics,
        session: &Session,
        epoch: u64,
        deadline: Instant,
    ) -> Result<(), DialError> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        failpoint!("list.asked", [topic], seldom);
        let listed = ask_anew(&topics.path, deadline, |line| list(&line, deadline)).and_then(|peers| {
            // Another server may have answered.
            let is_current = session.closer.reason().is_none();
            is_current.then_some(peers).ok_or(DialError::NoServer(std::io::ErrorKind::ConnectionReset.into()))
        });
        failpoint!("list.received", [topic], seldom);
        let done = listed.map(|peers| self.put(Listed { number, epoch, peers }));
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        done
    }

    fn put(&self, listed: Listed) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.as_ref().is_none_or(|other| other.number < listed.number) {
            *latest = Some(listed);
        }
    }

    /// Asks for a list on a thread of its own, until it is there or there is no use in it any more. Does not
    /// block, unless there can be no thread.
    pub(in crate::client::topics) fn fetch_later(
        self: &Arc<Self>,
        topics: &Weak<Topics>,
        subscription: &Arc<Subscription>,
        epoch: u64,
    ) {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let (lists, topics, subscription) = (Arc::clone(self), topics.clone(), Arc::downgrade(subscription));
        let begun = {
            let (lists, topics, subscription) = (Arc::clone(&lists), topics.clone(), subscription.clone());
            threads::spawn("rp-list", move || lists.fetch_until_done(&topics, &subscription, epoch))
        };
        if begun.is_err() {
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            lists.try_to_fetch(&topics, &subscription, epoch);
        }
    }

    fn fetch_until_done(&self, topics: &Weak<Topics>, subscription: &Weak<Subscription>, epoch: u64) {
        let mut pause = FIRST_PAUSE;
        while let Some(false) = self.try_to_fetch(topics, subscription, epoch) {
            std::thread::sleep(pause);
            pause = LONGEST_PAUSE.min(2 * pause);
        }
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether a list was made. `None` if it is of no use any more: under another registration there is
    /// another one.
    fn try_to_fetch(
        &self,
        topics: &Weak<Topics>,
        subscription: &Weak<Subscription>,
        epoch: u64,
    ) -> Option<bool> {
        let (topics, subscription) = (topics.upgrade()?, subscription.upgrade()?);
        let session = topics.session().filter(|session| session.closer.reason().is_none())?;
        if subscription.reason().is_some() {
            return None;
        }
        let fetched = self.fetch(&topics, &session, epoch, deadline_in(PATIENCE));
        subscription.tell();
        Some(fetched.is_ok())
    }
}

/// All clients, page by page.
fn list(line: &Line, deadline: Instant) -> Result<Vec<Peer>, DialError> {
    line.refuse_descriptors();
    let (mut peers, mut from_slot) = (Vec::new(), 0);
    loop {
        let body = line.ask(&Ask::List { from_slot }, deadline)?.body;
        let (page, next) = decode_page(&body, from_slot).ok_or(DialError::NotRingpost)?;
        peers.extend(page.into_iter().map(peer));
        match next {
            None => return Ok(peers),
            Some(next) => from_slot = next,
        }
    }
}

fn peer(ClientInfo { name, key, pid, uid, gid, .. }: ClientInfo) -> Peer {
    Peer { name, key, pid, uid, gid }
}
