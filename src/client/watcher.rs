//! The watcher: a thread of the process that notices when a server, the peer of a link or a publisher ends.
//!
//! It sleeps on the lifelines, links and publishers of all clients of this process. When one ends, for
//! whatever reason, it closes that client's channel or that link, which wakes all waits there. So those waits
//! need no time-out, and an idle client costs nothing.
//!
//! A forked child has copies of everything, but neither the thread nor the clients. It gets its own watcher
//! with its first registration. It must not use its parent's: other threads may have held the locks at the
//! fork, both processes share the epoll instance, and a shutdown of a connection would end it for both. The
//! child only closes its copies of the descriptors.
//!
//! If the process closes all its descriptors (`descriptors.rs`), all channels and links are closed as
//! `CutOff`, the thread ends, and the next registration starts a new one.

#![forbid(unsafe_code)]

use rustix::event::epoll::{self, EventFlags};
use rustix::time::Timespec;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Instant;

use super::links::{Bell, Intake, Links, OpenLink, PeerDescriptors, Taker, Takes};
use super::topics::{Life, Topics};
use crate::connect::connection::Connection;
use crate::os::descriptors::{CutOff, Ours, Waits, Wake};
use crate::os::threads;
use crate::ring::Closer;
use crate::shm::PerProcess;
use crate::shm::backend::PipeReader;
use crate::testing::failpoints::failpoint;
use crate::wire::CloseReason;

/// The process's watcher, once there is one.
type Current = Mutex<Option<Arc<Watcher>>>;

pub(super) struct Watcher {
    waits: Waits,
    all: Mutex<All>,
    /// When this descriptor is closed, the thread knows that the process has closed its descriptors.
    wake: Wake,
    /// Whether something was closed where no lock could be taken.
    sweep: AtomicBool,
    /// The bells that are taken for rung.
    rung: Mutex<Vec<u64>>,
}

#[derive(Default)]
struct All {
    /// Whether the thread has ended.
    ended: bool,
    next: u64,
    /// What is watched. Holding it here keeps its descriptor numbers from being reused.
    watched: HashMap<u64, Watched>,
}

static WATCHER: PerProcess<Current> = PerProcess::new();

/// Something whose end is noticed.
pub(super) enum Watched {
    /// The connection of a registered client.
    Lifeline { lifeline: Arc<Connection>, closer: Closer, links: Arc<Links> },
    /// One end of a link.
    Link { link: Arc<OpenLink>, descriptors: PeerDescriptors },
    /// The bell by which a server announces introductions or parts. It rings often, and ends with the server.
    Bell { bell: Bell, of: Ringer },
    /// The process of a publisher.
    Publisher { life: Arc<Life>, process: Ours },
}

/// For whom a bell rings.
pub(super) enum Ringer {
    Listener(Arc<Intake>),
    Topics(Weak<Topics>),
}

impl Ringer {
    fn taker(&self) -> Option<Taker> {
        match self {
            Ringer::Listener(intake) => Some(Taker::Listener(Arc::clone(intake))),
            Ringer::Topics(topics) => topics.upgrade().map(Taker::Topics),
        }
    }
}

impl Watched {
    /// Its descriptors, and the events of each that mean the end. The kernel adds errors and hang-ups.
    fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, EventFlags)> {
        let (one, link) = match self {
            // The end only, so that a server which sends data does not keep this thread busy.
            Watched::Lifeline { lifeline, .. } => (Some((lifeline.as_fd(), EventFlags::RDHUP)), None),
            Watched::Link { descriptors, .. } => (None, Some(descriptors.watched())),
            Watched::Bell { bell, .. } => (Some((bell.as_fd(), EventFlags::IN)), None),
            Watched::Publisher { process, .. } => (Some((process.as_fd(), EventFlags::IN)), None),
        };
        one.into_iter().chain(link.into_iter().flatten())
    }

    /// Whether the numbers of its descriptors still belong to them.
    fn has_its_numbers(&self) -> bool {
        match self {
            Watched::Lifeline { lifeline, .. } => lifeline.has_its_number(),
            Watched::Link { descriptors, .. } => descriptors.have_their_numbers(),
            Watched::Bell { bell, .. } => bell.has_its_number(),
            Watched::Publisher { process, .. } => process.is_ours(),
        }
    }

    /// Whether it was closed on this side, and only its watch is left.
    fn is_to_end(&self) -> bool {
        match self {
            // Its connection is shut down then, which the thread notices.
            Watched::Lifeline { .. } | Watched::Bell { .. } | Watched::Publisher { .. } => false,
            Watched::Link { link, .. } => link.is_to_end(),
        }
    }

    /// The other side is gone.
    fn ended(&self) {
        match self {
            Watched::Lifeline { closer, links, .. } => {
                // A server that shut down has stored the reason in the channel.
                closer.close_as(closer.reason().unwrap_or(CloseReason::Died.into()));
                failpoint!("watch.closed", [client, link], seldom);
                links.registration_has_ended();
            }
            Watched::Link { link, .. } => link.peer_is_gone(),
            // The lifeline tells.
            Watched::Bell { .. } => {}
            Watched::Publisher { life, .. } => life.is_gone(),
        }
    }

    /// It was closed on this side.
    fn swept(&self) {
        match self {
            Watched::Lifeline { .. } | Watched::Bell { .. } | Watched::Publisher { .. } => {}
            Watched::Link { link, .. } => link.swept(),
        }
    }

    /// The process has closed the descriptors.
    fn cut_off(&self) {
        match self {
            Watched::Lifeline { closer, links, .. } => {
                closer.close_as(CloseReason::CutOff);
                links.registration_has_ended();
            }
            Watched::Link { link, .. } => link.close_as(CloseReason::CutOff),
            Watched::Bell { .. } => {}
            Watched::Publisher { life, .. } => life.is_cut_off(),
        }
    }

    /// Gives the descriptors back. A connection ends by that for both sides, if `hang_up` says so.
    fn dismiss(self, hang_up: bool) {
        match self {
            Watched::Lifeline { lifeline, .. } if hang_up => lifeline.hang_up(),
            Watched::Lifeline { .. } | Watched::Bell { .. } | Watched::Publisher { .. } => {}
            Watched::Link { link, descriptors } => {
                drop(descriptors);
                failpoint!("watch.dropped", [link], seldom);
                link.note_the_end();
            }
        }
    }
}

/// Something that is watched until [`end`](Self::end).
pub(super) struct Watch {
    token: u64,
    watcher: Arc<Watcher>,
    /// The watcher of the process in which the watch began.
    of: &'static Current,
}

fn current() -> io::Result<&'static Current> {
    WATCHER.get_or_make(|| Ok(Mutex::default()))
}

impl Watcher {
    fn make() -> io::Result<Arc<Watcher>> {
        let (waits, wake) = Waits::new()?;
        let (sweep, rung) = (AtomicBool::new(false), Mutex::default());
        Ok(Arc::new(Watcher { waits, all: Mutex::default(), wake, sweep, rung }))
    }

    /// The process's watcher. Starts it if there is none, or if the last one ended because its descriptors
    /// were closed.
    fn get(current: &Current) -> io::Result<Arc<Watcher>> {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = &*current {
            if !watcher.waits.are_ours() {
                // Its thread may not have noticed yet.
                watcher.end();
            }
            if !watcher.lock().ended {
                return Ok(Arc::clone(watcher));
            }
            *current = None;
        }
        let watcher = Watcher::make()?;
        let own = Arc::clone(&watcher);
        // If this fails, the next registration tries again.
        threads::spawn("rp-watcher", move || own.run())?;
        *current = Some(Arc::clone(&watcher));
        Ok(watcher)
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut takes = Takes::default();
        loop {
            let tokens = match self.waits.wait(takes.due().map(until).as_ref()) {
                Ok(tokens) => tokens,
                Err(CutOff) => return self.end(),
            };
            for token in tokens {
                if takes.heard(&self.waits, token) || self.has_rung(token, &mut takes) {
                    continue;
                }
                let watched = self.lock().watched.remove(&token);
                if let Some(watched) = watched {
                    self.has_ended(watched);
                    takes.link_ended(token);
                }
            }
            self.ring(&mut takes);
            takes.go_on(&self.waits);
            if self.sweep.swap(false, Ordering::SeqCst) {
                self.sweep();
            }
        }
    }

    /// Whether it was a bell, which still can ring.
    fn has_rung(&self, token: u64, takes: &mut Takes) -> bool {
        let (announced, taker) = match self.lock().watched.get(&token) {
            Some(Watched::Bell { bell, of }) if bell.has_its_number() => (bell.announced(), of.taker()),
            _ => return false,
        };
        match (announced, taker) {
            (Some(0), Some(_)) => true,
            (Some(most), Some(taker)) => {
                takes.rung(&self.waits, token, &taker, most);
                true
            }
            _ => false,
        }
    }

    /// Takes what waits where somebody [asked](Watch::ring) for it.
    fn ring(&self, takes: &mut Takes) {
        let rung = std::mem::take(&mut *self.rung.lock().unwrap_or_else(PoisonError::into_inner));
        for token in rung {
            let taker = match self.lock().watched.get(&token) {
                Some(Watched::Bell { of, .. }) => of.taker(),
                _ => None,
            };
            if let Some(taker) = taker {
                takes.rung(&self.waits, token, &taker, usize::MAX);
            }
        }
    }

    fn has_ended(&self, watched: Watched) {
        if watched.has_its_numbers() {
            self.forget(&watched);
            failpoint!("watch.removed", [client, link], seldom);
            watched.ended();
        } else {
            watched.cut_off();
        }
        watched.dismiss(false);
    }

    /// Takes descriptors out of the epoll instance: closing them does not, if a forked child has copies.
    fn forget(&self, watched: &Watched) {
        if self.waits.are_ours() {
            for (descriptor, _) in watched.descriptors() {
                let _ = epoll::delete(&self.waits, descriptor);
            }
        }
    }

    /// Ends what was closed where no lock could be taken.
    fn sweep(&self) {
        let closed: Vec<Watched> = self
            .lock()
            .watched
            .extract_if(|_, watched| watched.is_to_end())
            .map(|(_, watched)| watched)
            .collect();
        for watched in closed {
            self.forget(&watched);
            watched.swept();
            watched.dismiss(true);
        }
    }

    /// Closes all channels and links after the process closed its descriptors: the connections are gone, or
    /// their ends would not be noticed.
    fn end(&self) {
        let watched = {
            let mut all = self.lock();
            all.ended = true;
            std::mem::take(&mut all.watched)
        };
        for watched in watched.into_values() {
            watched.cut_off();
            watched.dismiss(true);
        }
    }

    /// In a forked child, closes its copies of the descriptors. Changes nothing else: the state may be
    /// inconsistent if another thread was changing it at the fork.
    fn forget_inherited(&self, token: u64) {
        let all = match self.all.try_lock() {
            Ok(all) => Some(all),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let watched = all.and_then(|mut all| all.watched.remove(&token));
        drop(watched);
    }
}

/// How long it is until then.
fn until(then: Instant) -> Timespec {
    let left = then.saturating_duration_since(Instant::now());
    Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
}

/// Marks the token by which the watcher hears a caller's hello; the rest is that of the link's watch.
pub(super) const HELLO: u64 = 1 << 62;

/// The watcher waits by the pipe of a link for its caller's hello, until this is dropped.
pub(super) struct Hearing {
    watcher: Arc<Watcher>,
    of: &'static Current,
    pipe: Arc<PipeReader>,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        // A forked child shares the instance with its parent.
        if WATCHER.get().is_some_and(|ours| ptr::eq(ours, self.of)) && self.watcher.waits.are_ours() {
            let _ = epoll::delete(&self.watcher.waits, &*self.pipe);
        }
    }
}

impl Watch {
    /// The watcher hears what comes by the pipe of this link.
    pub(super) fn hear(&self, pipe: &Arc<PipeReader>) -> io::Result<Hearing> {
        let token = epoll::EventData::new_u64(HELLO | self.token);
        epoll::add(&self.watcher.waits, &**pipe, token, EventFlags::IN)?;
        Ok(Hearing { watcher: Arc::clone(&self.watcher), of: self.of, pipe: Arc::clone(pipe) })
    }

    pub(super) fn token(&self) -> u64 {
        self.token
    }

    /// Lets the watcher take what waits, as if this bell had rung.
    pub(super) fn ring(&self) {
        if self.is_ours() {
            self.watcher.rung.lock().unwrap_or_else(PoisonError::into_inner).push(self.token);
            self.watcher.wake.wake();
        }
    }

    /// Watches something: closes it when the other side ends. Starts the process's watcher if necessary.
    pub(super) fn begin(watched: Watched) -> io::Result<Watch> {
        let of = current()?;
        loop {
            let watcher = Watcher::get(of)?;
            let mut all = watcher.lock();
            if all.ended {
                continue;
            }
            let token = all.next;
            for (descriptor, events) in watched.descriptors() {
                let added = epoll::add(&watcher.waits, descriptor, epoll::EventData::new_u64(token), events);
                if let Err(errno) = added {
                    drop(all);
                    watcher.forget(&watched);
                    return Err(errno.into());
                }
            }
            all.next += 1;
            all.watched.insert(token, watched);
            drop(all);
            return Ok(Watch { token, watcher, of });
        }
    }

    /// A watch of nothing, for a client without a connection.
    #[cfg(fuzzing)]
    pub(super) fn of_nothing() -> io::Result<Watch> {
        Ok(Watch { token: u64::MAX - 1, watcher: Watcher::make()?, of: current()? })
    }

    /// Whether this process made the watch, and not one that it was forked from.
    pub(super) fn is_ours(&self) -> bool {
        WATCHER.get().is_some_and(|ours| ptr::eq(ours, self.of))
    }

    /// Ends the watch, and gives the descriptors back: a client's connection ends for both sides. Idempotent.
    /// In a forked child, what is the parent's is unaffected.
    pub(super) fn end(&self) {
        if !self.is_ours() {
            return self.watcher.forget_inherited(self.token);
        }
        let watched = self.watcher.lock().watched.remove(&self.token);
        if let Some(watched) = watched {
            self.watcher.forget(&watched);
            watched.dismiss(true);
        }
    }

    /// Lets the watcher end what was closed on this side. May be called in a signal handler.
    pub(super) fn sweep(&self) {
        if self.is_ours() {
            self.watcher.sweep.store(true, Ordering::SeqCst);
            self.watcher.wake.wake();
        }
    }
}
