//! Counts how much of the server each user has, and refuses what goes beyond the user's quotas.
//!
//! The quotas hold for each user separately, but not for the server's own user and root. Those are limited
//! only by what there is in all, and a part of that is reserved for them, so that a server's owner always
//! gets in. All users who have no number in the server's user namespace share one account.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::connect::{Quotas, Refusal, UserFigures, is_root, same_user};
use crate::os::processors;
use crate::ring::WaitStrategy;

/// The part of all places that is kept for the server's own user and root: one in so many.
const RESERVE: u32 = 8;

/// Why a user gets no more.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) refusal: Refusal,
    pub(super) why: String,
}

#[derive(Debug, Default)]
struct Use {
    asking: u32,
    clients: u32,
    ring_bytes: u64,
    spinning: u32,
    /// When the last registration would have come if they came evenly spaced.
    registered: Option<Instant>,
    links: u32,
    topics: u32,
    subscriptions: u32,
}

/// How much each user has.
#[derive(Debug)]
pub(super) struct Ledger {
    quotas: Mutex<Quotas>,
    own: u32,
    users: Mutex<HashMap<u32, Use>>,
}

/// The place of a connection that has not registered among those of its user, until this is dropped.
#[derive(Debug)]
pub(super) struct AskingShare {
    ledger: Arc<Ledger>,
    uid: u32,
}

/// A client's share of its user's quotas, until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Share {
    of: Option<(Arc<Ledger>, u32)>,
    ring_bytes: u64,
    wait: Option<WaitStrategy>,
    /// It is no longer counted as a client, but its memory may still be there.
    left: AtomicBool,
}

/// A link's share of the quotas of one side's user, until this is dropped.
#[derive(Debug)]
pub(super) struct LinkShare {
    ledger: Arc<Ledger>,
    uid: u32,
    ring_bytes: u64,
}

impl Ledger {
    pub(super) fn new(quotas: Quotas) -> Ledger {
        Ledger {
            quotas: Mutex::new(quotas),
            own: rustix::process::geteuid().as_raw(),
            users: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Use>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn quotas(&self) -> Quotas {
        *self.quotas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other quotas hold from now on. Who has more than that keeps it.
    pub(super) fn set_quotas(&self, quotas: Quotas) {
        *self.quotas.lock().unwrap_or_else(PoisonError::into_inner) = quotas;
    }

    pub(super) fn is_exempt(&self, uid: u32) -> bool {
        same_user(uid, self.own) || is_root(uid)
    }

    /// What each user has that has anything, in the order of their ids.
    pub(super) fn users(&self) -> Vec<UserFigures> {
        let figures = |(uid, user): (&u32, &Use)| {
            let Use { asking, clients, ring_bytes, spinning, links, topics, subscriptions, .. } = *user;
            UserFigures { uid: *uid, asking, clients, ring_bytes, spinning, links, topics, subscriptions }
        };
        let mut users: Vec<UserFigures> = self.lock().iter().map(figures).collect();
        users.retain(|user| *user != UserFigures { uid: user.uid, ..UserFigures::default() });
        users.sort_by_key(|user| user.uid);
        users
    }

    /// How much all users have together to whom quotas apply.
    fn of_others(&self, users: &HashMap<u32, Use>, part: impl Fn(&Use) -> u32) -> u32 {
        users.iter().filter(|(uid, _)| !self.is_exempt(**uid)).map(|(_, user)| part(user)).sum()
    }

    /// One more connection of this user, of at most `most` in all. `closing` more are still being closed.
    pub(super) fn begin_asking(
        self: &Arc<Self>,
        uid: u32,
        closing: usize,
        most: u32,
    ) -> Result<AskingShare, Over> {
        let mut users = self.lock();
        let busy = |why: String| Err(Over { refusal: Refusal::Busy, why });
        if !self.is_exempt(uid) {
            let asking = users.get(&uid).map_or(0, |user| user.asking) as usize + closing;
            let quota = self.quotas().asking;
            if asking >= quota as usize {
                return busy(format!(
                    "user {uid} has {quota} connections that have not registered, which is its quota: close some, or start \
                     the server with a larger one (quotas, --quota asking=N)"
                ));
            }
            if self.of_others(&users, |user| user.asking) >= most - most / RESERVE {
                return busy("too many connections at once: try again later".into());
            }
        }
        users.entry(uid).or_default().asking += 1;
        Ok(AskingShare { ledger: Arc::clone(self), uid })
    }

    /// One more client of this user, of at most `most` in all, with so many bytes of rings.
    pub(super) fn begin_client(
        self: &Arc<Self>,
        uid: u32,
        most: u32,
        ring_bytes: u64,
        wait: WaitStrategy,
    ) -> Result<Share, Over> {
        let mut users = self.lock();
        let mut wait = wait;
        let now = Instant::now();
        if !self.is_exempt(uid) {
            let others = self.of_others(&users, |user| user.clients);
            let spinners = self.of_others(&users, |user| user.spinning) as usize;
            let user = users.entry(uid).or_default();
            let Quotas { clients, ring_bytes: bytes, spinning, registrations, .. } = self.quotas();
            if user.clients >= clients {
                return Err(over(Refusal::Quota, uid, &format!("{clients} clients"), "clients=N"));
            }
            if user.ring_bytes.saturating_add(ring_bytes) > bytes {
                let what =
                    format!("{} of {bytes} bytes of rings, and a client takes {ring_bytes}", user.ring_bytes);
                return Err(over(
                    Refusal::Quota,
                    uid,
                    &what,
                    "ring-bytes=BYTES), or with smaller rings (ring_size, --ring-size",
                ));
            }
            if others >= most - most / RESERVE {
                let why = "the server is full for other users than its own: wait until a client is gone, or start it for more \
                           (max_clients, --max-clients)";
                return Err(Over { refusal: Refusal::Full, why: why.into() });
            }
            user.pace(uid, registrations, now)?;
            if wait == WaitStrategy::Spin
                && (user.spinning >= spinning || spinners > processors::usable() / 2)
            {
                wait = WaitStrategy::Adaptive;
            }
        }
        let user = users.entry(uid).or_default();
        user.clients += 1;
        user.ring_bytes += ring_bytes;
        user.spinning += u32::from(wait == WaitStrategy::Spin);
        drop(users);
        let of = Some((Arc::clone(self), uid));
        Ok(Share { of, ring_bytes, wait: Some(wait), left: AtomicBool::new(false) })
    }
}

/// The refusal for a user who has as much as its quota allows.
fn over(refusal: Refusal, uid: u32, what: &str, option: &str) -> Over {
    let why = format!(
        "user {uid} has {what}, which is its quota: the server's owner can start it with a larger one \
         (quotas, --quota {option})"
    );
    Over { refusal, why }
}

impl Use {
    /// Counts one more registration or link, if there were not too many in the last second.
    fn pace(&mut self, uid: u32, registrations: u32, now: Instant) -> Result<(), Over> {
        // A user may be ahead of even spacing by one second's registrations.
        let step = Duration::from_secs(1) / registrations.max(1);
        let due = self.registered.map_or(now, |due| due.max(now)) + step;
        if registrations == 0 || due > now + Duration::from_secs(1) + step {
            let what = format!("{registrations} registrations, links, topics or subscriptions a second");
            return Err(over(Refusal::Busy, uid, &what, "registrations=N; try again later"));
        }
        self.registered = Some(due);
        Ok(())
    }
}

impl Ledger {
    /// One more link of this user, with so many bytes of rings. A link that was there before the server is
    /// `old`: it comes as fast as it likes, and its bytes are not known.
    pub(super) fn begin_link(
        self: &Arc<Self>,
        uid: u32,
        ring_bytes: u64,
        old: bool,
    ) -> Result<LinkShare, Over> {
        let mut users = self.lock();
        let user = users.entry(uid).or_default();
        if !self.is_exempt(uid) {
            let Quotas { links, ring_bytes: bytes, registrations, .. } = self.quotas();
            if user.links >= links {
                return Err(over(Refusal::Quota, uid, &format!("{links} links"), "links=N"));
            }
            if user.ring_bytes.saturating_add(ring_bytes) > bytes {
                let what = format!(
                    "{} of {bytes} bytes of rings, and this link takes {ring_bytes}",
                    user.ring_bytes
                );
                let option = "ring-bytes=BYTES), or the link can have smaller rings (ring_size";
                return Err(over(Refusal::Quota, uid, &what, option));
            }
            if !old {
                user.pace(uid, registrations, Instant::now())?;
            }
        }
        user.links += 1;
        user.ring_bytes += ring_bytes;
        drop(users);
        Ok(LinkShare { ledger: Arc::clone(self), uid, ring_bytes })
    }

    /// One more report of links that were there before the server.
    pub(super) fn begin_report(&self, uid: u32) -> Result<(), Over> {
        if self.is_exempt(uid) {
            return Ok(());
        }
        self.lock().entry(uid).or_default().pace(uid, self.quotas().registrations, Instant::now())
    }

    /// How many links count against a user's quota.
    #[cfg(test)]
    pub(super) fn links_of(&self, uid: u32) -> u32 {
        self.lock().get(&uid).map_or(0, |user| user.links)
    }

    /// The most links that one user may have at one client; no limit for those who are exempt.
    pub(super) fn links_at_one_client(&self, uid: u32) -> u32 {
        if self.is_exempt(uid) { u32::MAX } else { self.quotas().links }
    }
}

/// What a client's topic, its subscription, or one publisher that its subscription has taken, takes of its
/// user's quotas, until this is dropped.
#[derive(Debug)]
pub(super) struct TopicShare {
    ledger: Arc<Ledger>,
    uid: u32,
    topics: u32,
    subscriptions: u32,
    ring_bytes: u64,
}

impl Ledger {
    /// One more topic of this user, with so many bytes of memory.
    pub(super) fn begin_topic(self: &Arc<Self>, uid: u32, ring_bytes: u64) -> Result<TopicShare, Over> {
        self.begin_share(uid, [1, 0], ring_bytes)
    }

    /// One more subscription of this user.
    pub(super) fn begin_subscription(self: &Arc<Self>, uid: u32) -> Result<TopicShare, Over> {
        self.begin_share(uid, [0, 1], 0)
    }

    /// One more publisher that a subscription of this user takes, which it may do as fast as it likes.
    pub(super) fn begin_pair(self: &Arc<Self>, uid: u32, ring_bytes: u64) -> Result<TopicShare, Over> {
        self.begin_share(uid, [0, 0], ring_bytes)
    }

    fn begin_share(
        self: &Arc<Self>,
        uid: u32,
        [topics, subscriptions]: [u32; 2],
        ring_bytes: u64,
    ) -> Result<TopicShare, Over> {
        let mut users = self.lock();
        let user = users.entry(uid).or_default();
        if !self.is_exempt(uid) {
            let quotas = self.quotas();
            let over = |what: &str, option: &str| Err(over(Refusal::Quota, uid, what, option));
            if user.topics.saturating_add(topics) > quotas.topics {
                return over(&format!("{} topics", quotas.topics), "topics=N");
            }
            if user.subscriptions.saturating_add(subscriptions) > quotas.subscriptions {
                return over(&format!("{} subscriptions", quotas.subscriptions), "subscriptions=N");
            }
            if user.ring_bytes.saturating_add(ring_bytes) > quotas.ring_bytes {
                let (used, most) = (user.ring_bytes, quotas.ring_bytes);
                let what = format!("{used} of {most} bytes of rings, and this takes {ring_bytes}");
                let option = "ring-bytes=BYTES), or the topic can have a smaller ring (ring_size";
                return over(&what, option);
            }
            if topics + subscriptions > 0 {
                user.pace(uid, quotas.registrations, Instant::now())?;
            }
        }
        user.topics += topics;
        user.subscriptions += subscriptions;
        user.ring_bytes += ring_bytes;
        drop(users);
        Ok(TopicShare { ledger: Arc::clone(self), uid, topics, subscriptions, ring_bytes })
    }

    /// How many topics and subscriptions count against a user's quotas.
    #[cfg(test)]
    pub(super) fn topics_of(&self, uid: u32) -> [u32; 2] {
        self.lock().get(&uid).map_or([0, 0], |user| [user.topics, user.subscriptions])
    }

    /// Delays a user's further registrations, topics and subscriptions: one of them took this long.
    pub(super) fn slow_down(&self, uid: u32, by: Duration) {
        if !self.is_exempt(uid)
            && let Some(user) = self.lock().get_mut(&uid)
            && let Some(due) = &mut user.registered
        {
            *due += by;
        }
    }
}

impl Drop for TopicShare {
    fn drop(&mut self) {
        if let Some(user) = self.ledger.lock().get_mut(&self.uid) {
            user.topics = user.topics.saturating_sub(self.topics);
            user.subscriptions = user.subscriptions.saturating_sub(self.subscriptions);
            user.ring_bytes = user.ring_bytes.saturating_sub(self.ring_bytes);
        }
    }
}

impl Drop for LinkShare {
    fn drop(&mut self) {
        if let Some(user) = self.ledger.lock().get_mut(&self.uid) {
            user.links = user.links.saturating_sub(1);
            user.ring_bytes = user.ring_bytes.saturating_sub(self.ring_bytes);
        }
    }
}

impl Drop for AskingShare {
    fn drop(&mut self) {
        if let Some(user) = self.ledger.lock().get_mut(&self.uid) {
            user.asking -= 1;
        }
    }
}

impl Share {
    /// How the client's worker waits. `None` stands for the server's strategy.
    pub(super) fn wait(&self) -> Option<WaitStrategy> {
        self.wait
    }

    /// The client is gone; its worker and its memory may still be there.
    pub(super) fn leave(&self) {
        if !self.left.swap(true, Ordering::AcqRel)
            && let Some((ledger, uid)) = &self.of
            && let Some(user) = ledger.lock().get_mut(uid)
        {
            user.clients = user.clients.saturating_sub(1);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.leave();
        if let Some((ledger, uid)) = &self.of
            && let Some(user) = ledger.lock().get_mut(uid)
        {
            user.ring_bytes = user.ring_bytes.saturating_sub(self.ring_bytes);
            user.spinning = user.spinning.saturating_sub(u32::from(self.wait == Some(WaitStrategy::Spin)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Users other than this process's and root.
    const ALICE: u32 = 70_001;
    const BOB: u32 = 70_002;

    fn ledger(set: impl FnOnce(&mut Quotas)) -> Arc<Ledger> {
        let mut quotas = Quotas {
            asking: 3,
            clients: 3,
            ring_bytes: 1000,
            spinning: 1,
            registrations: 100,
            links: 2,
            topics: 2,
            subscriptions: 3,
        };
        set(&mut quotas);
        Arc::new(Ledger::new(quotas))
    }

    fn refused(found: Result<Share, Over>) -> (Refusal, String) {
        let Over { refusal, why } = found.unwrap_err();
        (refusal, why)
    }

    #[test]
    fn quotas_hold_for_each_user_separately_and_not_for_the_owner() {
        let ledger = ledger(|_| {});
        let client = |uid| ledger.begin_client(uid, 100, 10, WaitStrategy::Park);
        let alices: Vec<Share> = (0..3).map(|_| client(ALICE).unwrap()).collect();
        let (refusal, why) = refused(client(ALICE));
        assert_eq!(refusal, Refusal::Quota);
        assert!(why.contains("3 clients") && why.contains("--quota clients=N"), "{why}");
        let _bob = client(BOB).unwrap();
        let _own: Vec<Share> = (0..50).map(|_| client(ledger.own).unwrap()).collect();
        let _root = client(0).unwrap();
        alices[0].leave();
        let _again = client(ALICE).unwrap();
        drop(alices);
        assert_eq!(ledger.lock()[&ALICE].clients, 1);
        assert_eq!(ledger.lock()[&ALICE].ring_bytes, 10);
    }

    #[test]
    fn bytes_count_until_the_memory_is_freed() {
        let ledger = ledger(|_| {});
        let client = || ledger.begin_client(ALICE, 100, 400, WaitStrategy::Park);
        let (one, _two) = (client().unwrap(), client().unwrap());
        one.leave();
        let (refusal, why) = refused(client());
        assert_eq!(refusal, Refusal::Quota);
        assert!(why.contains("800 of 1000 bytes") && why.contains("--quota ring-bytes=BYTES"), "{why}");
        drop(one);
        client().unwrap();
    }

    #[test]
    fn places_are_kept_for_the_owner() {
        let ledger = ledger(|quotas| quotas.clients = 100);
        let client = |uid| ledger.begin_client(uid, 16, 1, WaitStrategy::Park);
        let _shares: Vec<Share> = (0..14).map(|n| client(ALICE + n % 2).unwrap()).collect();
        let (refusal, why) = refused(client(BOB));
        assert_eq!(refusal, Refusal::Full);
        assert!(why.contains("--max-clients"), "{why}");
        client(0).unwrap();
        // The same for connections that ask.
        let mut alices: Vec<AskingShare> =
            (0..3).map(|_| ledger.begin_asking(ALICE, 0, 5).unwrap()).collect();
        let over = ledger.begin_asking(ALICE, 0, 100).unwrap_err();
        assert_eq!(over.refusal, Refusal::Busy);
        assert!(over.why.contains("--quota asking=N"), "{}", over.why);
        let _bobs = ledger.begin_asking(BOB, 2, 100).unwrap();
        assert!(ledger.begin_asking(BOB, 2, 100).is_err(), "what is being closed counts");
        assert!(ledger.begin_asking(BOB, 0, 4).is_err(), "others have all but the reserve");
        ledger.begin_asking(0, 100, 4).unwrap();
        assert_eq!(ledger.lock()[&0].asking, 0, "its place is free again");
        alices.pop();
        ledger.begin_asking(ALICE, 0, 100).unwrap();
    }

    #[test]
    fn one_second_s_registrations_may_come_at_once_and_the_others_evenly() {
        let ledger = ledger(|quotas| quotas.registrations = 5);
        let client = || ledger.begin_client(ALICE, 100, 1, WaitStrategy::Park).map(drop);
        let served = (0..100).filter(|_| client().is_ok()).count();
        assert!((5..=10).contains(&served), "{served}");
        let over = client().unwrap_err();
        assert_eq!(over.refusal, Refusal::Busy);
        assert!(
            over.why.contains("5 registrations, links, topics or subscriptions a second")
                && over.why.contains("--quota registrations=N")
        );
        let deadline = Instant::now() + Duration::from_secs(60);
        while client().is_err() {
            assert!(Instant::now() < deadline, "none for ever");
            std::thread::yield_now();
        }
    }

    #[test]
    fn links_count_for_their_user_until_they_end() {
        let ledger = ledger(|quotas| quotas.registrations = 5);
        let link = |uid, bytes| ledger.begin_link(uid, bytes, false);
        let (one, _two) = (link(ALICE, 400).unwrap(), link(ALICE, 0).unwrap());
        let over = link(ALICE, 0).unwrap_err();
        assert_eq!(over.refusal, Refusal::Quota);
        assert!(over.why.contains("2 links") && over.why.contains("--quota links=N"), "{}", over.why);
        drop(one);
        let _one = link(ALICE, 1000).unwrap();
        let over = link(BOB, 1001).unwrap_err();
        assert_eq!(over.refusal, Refusal::Quota);
        assert!(over.why.contains("ring_size"), "{}", over.why);
        let _own: Vec<LinkShare> = (0..50).map(|_| link(ledger.own, 100).unwrap()).collect();
        assert_eq!((ledger.links_at_one_client(ALICE), ledger.links_at_one_client(0)), (2, u32::MAX));
        let over = (0..100).find_map(|_| link(BOB, 0).map(drop).err()).expect("too many a second");
        assert_eq!(over.refusal, Refusal::Busy);
        assert!(over.why.contains("--quota registrations=N"), "{}", over.why);
        (0..100).for_each(|_| drop(ledger.begin_link(BOB, 0, true).unwrap()));
        assert_eq!(ledger.begin_report(BOB).unwrap_err().refusal, Refusal::Busy);
        (0..100).for_each(|_| ledger.begin_report(0).unwrap());
    }

    #[test]
    fn topics_subscriptions_and_what_they_take_count_until_they_end() {
        let ledger = ledger(|_| {});
        let _topics = (ledger.begin_topic(ALICE, 400).unwrap(), ledger.begin_topic(ALICE, 0).unwrap());
        let over = ledger.begin_topic(ALICE, 0).unwrap_err();
        assert_eq!(over.refusal, Refusal::Quota);
        assert!(over.why.contains("2 topics") && over.why.contains("--quota topics=N"), "{}", over.why);
        let subscriptions: Vec<_> = (0..3).map(|_| ledger.begin_subscription(ALICE).unwrap()).collect();
        let over = ledger.begin_subscription(ALICE).unwrap_err();
        assert!(over.why.contains("3 subscriptions") && over.why.contains("subscriptions=N"), "{}", over.why);
        let pair = ledger.begin_pair(ALICE, 600).unwrap();
        let over = ledger.begin_pair(ALICE, 1).unwrap_err();
        assert!(
            over.why.contains("1000 of 1000 bytes") && over.why.contains("ring-bytes=BYTES"),
            "{}",
            over.why
        );
        let _bobs = (ledger.begin_topic(BOB, 1000).unwrap(), ledger.begin_subscription(BOB).unwrap());
        drop((pair, subscriptions));
        let Use { topics, subscriptions, ring_bytes, .. } = ledger.lock()[&ALICE];
        assert_eq!((topics, subscriptions, ring_bytes), (2, 0, 400));
        let _own: Vec<_> = (0..50).map(|_| ledger.begin_topic(ledger.own, 100).unwrap()).collect();
    }

    #[test]
    fn who_costs_much_time_waits_for_it() {
        let ledger = ledger(|quotas| quotas.subscriptions = 1000);
        let subscribe = |uid| ledger.begin_subscription(uid).map(drop);
        subscribe(ALICE).unwrap();
        ledger.slow_down(ALICE, Duration::from_secs(3600));
        let over = subscribe(ALICE).unwrap_err();
        assert_eq!(over.refusal, Refusal::Busy);
        subscribe(BOB).unwrap();
        ledger.slow_down(0, Duration::from_secs(3600));
        subscribe(0).unwrap();
    }

    #[test]
    fn workers_beyond_the_quota_wait_adaptively_in_place_of_spinning() {
        let ledger = ledger(|_| {});
        let client = |uid| ledger.begin_client(uid, 100, 1, WaitStrategy::Spin).unwrap();
        let first = client(ALICE);
        assert_eq!(first.wait(), Some(WaitStrategy::Spin));
        assert_eq!(client(ALICE).wait(), Some(WaitStrategy::Adaptive));
        assert_eq!(client(ledger.own).wait(), Some(WaitStrategy::Spin));
        drop(first);
        assert_eq!(client(ALICE).wait(), Some(WaitStrategy::Spin));
    }
}
