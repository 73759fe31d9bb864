//! `Subscription`: what a subscriber, its client's topics and the watcher share.
//!
//! The watcher puts the parts here that came. The subscriber fetches them when the [notice](super::notice)
//! has changed.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::notice::Notice;
use super::part::{Identity, Life, Part};
use super::presence::Lists;
use crate::channel::NewestFigures;
use crate::connect::connection::Descriptors;
use crate::connect::topics::{Source, Waits};
use crate::ring;
use crate::wire::{CloseReason, Pattern, Policy};

pub(in crate::client) struct Subscription {
    pub(super) what: What,
    pub(super) policy: Policy,
    pub(super) waits: Waits,
    /// How many of the last samples of a publisher are wanted that was there before.
    pub(super) history: u64,
    pub(super) notice: Notice,
    /// Where is counted what is taken.
    pub(super) figures: NewestFigures,
    /// 0, or why it has ended.
    closed: AtomicU32,
    /// 0, or why no more publishers come: the registration has ended.
    dry: AtomicU32,
    /// Whether the client is not registered now. Then a publisher may not know that somebody still reads.
    unregistered: AtomicBool,
    /// Whether its subscriber has it. Until then whoever makes it asks again if the registration ends.
    made: AtomicBool,
    state: Mutex<State>,
}

/// What is subscribed to.
#[derive(Debug, Clone)]
pub(super) enum What {
    Topics(Pattern),
    /// The server's own topic of registrations, with the lists that belong to it.
    Presence(Arc<Lists>),
    /// The server's own topic of copies, with at least so many bytes of each payload.
    Tap {
        most: u16,
    },
}

/// A reason as a word, and 0 for none.
pub(super) fn word(reason: CloseReason) -> u32 {
    ring::CloseReason::from(reason).as_word()
}

fn of_word(word: u32) -> Option<CloseReason> {
    ring::CloseReason::from_word(word).map(CloseReason::from)
}

#[derive(Default)]
struct State {
    arrived: Vec<Part>,
    /// The publishers that it has, or had and would go on with.
    known: HashSet<Identity>,
    /// How many parts came under this registration.
    came: u64,
    /// The publishers that came under it, by the server's numbers of the publications.
    lives: HashMap<u64, Weak<Life>>,
    /// With how many of them those are left out that have ended.
    next_sweep: usize,
}

/// As few publishers are not worth a sweep.
const LEAST_SWEPT: usize = 64;

impl Subscription {
    pub(super) fn new(
        what: What,
        policy: Policy,
        waits: Waits,
        history: u64,
        figures: NewestFigures,
    ) -> io::Result<Subscription> {
        Ok(Subscription {
            what,
            policy,
            waits,
            history,
            notice: Notice::new()?,
            figures,
            closed: AtomicU32::new(0),
            dry: AtomicU32::new(0),
            unregistered: AtomicBool::new(false),
            made: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_made(&self) -> bool {
        self.made.load(Ordering::Relaxed)
    }

    pub(super) fn is_made_now(&self) {
        self.made.store(true, Ordering::Relaxed);
    }

    pub(super) fn tell(&self) {
        self.notice.tell();
    }

    // ---- for the watcher

    /// A publisher came. What is wrong with it is dropped, and false returned. Does not block.
    pub(super) fn add(self: &Arc<Self>, source: Source, came: Descriptors) -> bool {
        let publication = source.publication;
        let part = Part::open(source, came, self);
        let opened = part.is_some();
        {
            let mut state = self.lock();
            state.came += 1;
            if let Some(part) = part {
                if state.lives.len() >= state.next_sweep {
                    state.lives.retain(|_, life| life.strong_count() > 0);
                    state.next_sweep = LEAST_SWEPT.max(2 * state.lives.len());
                }
                state.lives.insert(publication, Arc::downgrade(part.life()));
                state.known.insert(part.identity.clone());
                state.arrived.push(part);
            }
        }
        self.tell();
        opened
    }

    /// The server has ended a publication that it has given.
    pub(super) fn is_over(&self, publication: u64) {
        let life = self.lock().lives.remove(&publication);
        if let Some(life) = life.and_then(|life| life.upgrade()) {
            life.is_over();
        }
    }

    /// It was made anew under another registration.
    pub(super) fn begins_anew(&self) {
        {
            let mut state = self.lock();
            state.came = 0;
            state.lives.clear();
        }
        self.dry.store(0, Ordering::SeqCst);
        self.unregistered.store(false, Ordering::SeqCst);
        self.tell();
    }

    /// The registration has ended, for now or for good.
    pub(super) fn registration_has_ended(&self) {
        self.unregistered.store(true, Ordering::SeqCst);
        self.tell();
    }

    /// No more publishers come, for this reason.
    pub(super) fn runs_dry(&self, reason: CloseReason) {
        self.dry.store(word(reason), Ordering::SeqCst);
        self.tell();
    }

    /// Ends it, for this reason; the first one stays. With atomics and system calls only, for a signal
    /// handler. Does nothing in a forked child.
    pub(in crate::client) fn close(&self, reason: CloseReason) {
        if !self.notice.is_forked() {
            let _ = self.closed.compare_exchange(0, word(reason), Ordering::SeqCst, Ordering::SeqCst);
            self.tell();
        }
    }

    // ---- for the subscriber

    /// Why it has ended, if it has.
    pub(in crate::client) fn reason(&self) -> Option<CloseReason> {
        if self.notice.is_forked() {
            return Some(CloseReason::Forked);
        }
        of_word(self.closed.load(Ordering::SeqCst))
    }

    /// Why no more publishers come, if so.
    pub(super) fn why_dry(&self) -> Option<CloseReason> {
        of_word(self.dry.load(Ordering::SeqCst))
    }

    pub(super) fn is_unregistered(&self) -> bool {
        self.unregistered.load(Ordering::SeqCst)
    }

    pub(super) fn take_arrived(&self) -> Vec<Part> {
        std::mem::take(&mut self.lock().arrived)
    }

    /// How many parts came under this registration.
    pub(super) fn came(&self) -> u64 {
        self.lock().came
    }

    /// Whether it has had samples of this publisher.
    pub(super) fn knows(&self, identity: &Identity) -> bool {
        self.lock().known.contains(identity)
    }

    /// The publisher is not known any more.
    pub(super) fn forget(&self, identity: &Identity) {
        self.lock().known.remove(identity);
    }
}
