//! `Intake`: what a listener and the watcher share: the callers that were introduced and wait to be accepted.
//!
//! The server announces an introduction by a byte in a pipe, the bell, on which the watcher sleeps. The
//! watcher takes it ([`takes`](super::takes)), says hello to the caller, and puts it here, so that callers
//! do not wait for a listener that is busy, and are told at once when too many wait.
//!
//! A waiting listener sleeps on a word that is incremented with each change. It reads the word before it
//! looks, so a change after that makes the kernel's compare fail.

#![forbid(unsafe_code)]

use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::Instant;

use super::end::LinkEnd;
use super::incoming::{Heard, Incoming};
use super::pipes::{Pipes, is_pipe_end};
use super::set::Links;
use crate::channel::{Geometry, LinkEnds, Side, open_link};
use crate::client::session::{Session, ask_anew};
use crate::client::watcher::{Hearing, Ringer, Watch, Watched};
use crate::connect::dial::{Answer, DialError, Line};
use crate::connect::disposal::close_elsewhere;
use crate::connect::{Ask, Introduction, Role};
use crate::os::descriptors::Ours;
use crate::os::futex::{self, Scope, Wait};
use crate::ring::{Closer, WaitStrategy};
use crate::shm::backend::{PipeReader, PipeWriter};
use crate::testing::failpoints::failpoint;
use crate::wire::{CloseReason, HELLO_TIME, Status};

/// How many callers may wait to be accepted.
pub(super) const BACKLOG: usize = 128;

/// A listener's queue of callers. It belongs to a client, over all its registrations.
pub(in crate::client) struct Intake {
    pub(super) links: Arc<Links>,
    state: Mutex<State>,
    /// Incremented with each change that a listener may wait for.
    changed: AtomicU32,
    /// 0, or why it takes nobody any more.
    closed: AtomicU32,
    /// By which a forked child knows that it is one.
    process: Closer,
    /// What a listener in an event loop waits by, once it was asked for: it is kicked with each change.
    pipe: OnceLock<(Arc<PipeReader>, PipeWriter)>,
}

struct State {
    /// The newest registration, under which it listens.
    session: Arc<Session>,
    /// The watch of the bell that this registration's server gave.
    bell: Option<Watch>,
    waiting: VecDeque<Incoming>,
    /// Those that have not said hello. They have a place among those that wait.
    silent: Vec<Silent>,
    /// Whether it was [ended](Intake::end). From then on the client's words are another listener's.
    over: bool,
}

/// A caller that has not said hello.
struct Silent {
    incoming: Incoming,
    /// Before the caller's descriptors are closed, the watcher forgets the pipe.
    hearing: Option<Hearing>,
}

/// A caller whose hello the watcher is to hear, by the token of the link's watch.
pub(in crate::client) struct Unheard {
    pub(super) token: u64,
    /// The link's number among those of its client.
    pub(super) number: u64,
    pub(super) until: Instant,
}

/// The read end of a pipe into which the server writes a byte for each introduction, and one for all that
/// wait at the beginning.
#[derive(Debug)]
pub(in crate::client) struct Bell {
    pipe: Ours,
    has_rung: AtomicBool,
}

impl Bell {
    /// Takes what a server sent. If it is no pipe, it is closed on another thread.
    pub(in crate::client) fn check(descriptor: OwnedFd) -> Option<Bell> {
        if is_pipe_end(descriptor.as_fd(), OFlags::RDONLY) {
            return Some(Bell { pipe: Ours::new(descriptor), has_rung: AtomicBool::new(false) });
        }
        close_elsewhere(descriptor);
        None
    }

    /// How many introductions it has announced since the last time, or `None` if it will not ring any more.
    /// Does not block, even if the server has made the pipe one that does.
    pub(in crate::client) fn announced(&self) -> Option<usize> {
        match self.read()? {
            0 => Some(0),
            _ if !self.has_rung.swap(true, Ordering::Relaxed) => Some(usize::MAX),
            times => Some(times),
        }
    }

    fn read(&self) -> Option<usize> {
        use rustix::io::{Errno, IoSliceMut, ReadWriteFlags, preadv2};
        let mut bytes = [0; 256];
        // With this offset the call reads like `read`.
        match preadv2(&self.pipe, &mut [IoSliceMut::new(&mut bytes)], u64::MAX, ReadWriteFlags::NOWAIT) {
            Ok(0) => None,
            Ok(read) => Some(read),
            Err(Errno::AGAIN | Errno::INTR) => Some(0),
            // Before Linux 5.16 there is no such read of a pipe, and a filter may forbid it with any error.
            Err(_) => rustix::io::read(&self.pipe, &mut bytes[..1]).ok().filter(|read| *read > 0),
        }
    }

    /// Whether its number is still its own.
    pub(in crate::client) fn has_its_number(&self) -> bool {
        self.pipe.is_ours()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Intake {
    /// Of a client that has asked no server yet.
    pub(in crate::client) fn without_bell(session: &Arc<Session>) -> Arc<Intake> {
        Arc::new(Intake {
            links: Arc::clone(&session.links),
            state: Mutex::new(State {
                session: Arc::clone(session),
                bell: None,
                waiting: VecDeque::new(),
                silent: Vec::new(),
                over: false,
            }),
            changed: AtomicU32::new(0),
            closed: AtomicU32::new(0),
            process: session.closer.clone(),
            pipe: OnceLock::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the server for a bell, and goes on with it under this registration.
    pub(super) fn listen(
        self: &Arc<Self>,
        session: &Arc<Session>,
        deadline: Instant,
    ) -> Result<(), DialError> {
        let ask = Ask::Listen(session.proof());
        let path = &self.links.place.path;
        let answer = ask_anew(path, deadline, |line: Line| line.ask(&ask, deadline))?;
        self.hang(session, answer)
    }

    /// Goes on with the bell that came with the server's answer.
    pub(super) fn hang(self: &Arc<Self>, session: &Arc<Session>, answer: Answer) -> Result<(), DialError> {
        failpoint!("listen.heard", [link], seldom);
        let bell = answer.descriptors.only().and_then(Bell::check).ok_or(DialError::NotRingpost)?;
        let watch = Watch::begin(Watched::Bell { bell, of: Ringer::Listener(Arc::clone(self)) })?;
        let former = {
            let mut state = self.lock();
            if state.over {
                Some(watch)
            } else {
                state.session = Arc::clone(session);
                session.words.set_serving(true);
                state.bell.replace(watch)
            }
        };
        if let Some(former) = former {
            former.end();
        }
        failpoint!("listen.serving", [link], seldom);
        if self.reason().is_some() {
            self.end();
        }
        self.tell_change();
        Ok(())
    }

    /// Whether this process is a forked child of the one that listens.
    pub(in crate::client) fn is_forked(&self) -> bool {
        self.process.is_forked()
    }

    /// The newest registration under which it listens.
    pub(super) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.lock().session)
    }

    /// Takes nobody any more from now on, for this reason; the first one stays. With atomics and a system
    /// call only, for a signal handler.
    pub(in crate::client) fn close(&self, reason: CloseReason) {
        let _ = self.closed.compare_exchange(0, reason as u32, Ordering::SeqCst, Ordering::SeqCst);
        self.tell_change();
    }

    /// Why it takes nobody any more, if it does not.
    pub(in crate::client) fn reason(&self) -> Option<CloseReason> {
        match self.closed.load(Ordering::SeqCst) {
            0 => None,
            word => Some(CloseReason::from_told(word)),
        }
    }

    /// What is left to do after a [close](Self::close): gives the bell back, says that the client does not
    /// serve, and sends those away that wait. Only the first time: the client may have another listener then.
    pub(super) fn end(&self) {
        let (bell, callers) = {
            let mut state = self.lock();
            if !std::mem::replace(&mut state.over, true) {
                state.session.words.set_serving(false);
            }
            (state.bell.take(), state.take_callers())
        };
        failpoint!("listen.over", [link], seldom);
        if let Some(bell) = bell {
            bell.end();
        }
        drop(callers);
    }

    /// In a forked child, closes its copies of the descriptors, as far as that can be done without a lock.
    pub(super) fn forget_inherited(&self) {
        let state = match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(mut state) = state {
            if let Some(bell) = state.bell.take() {
                bell.end();
            }
            let callers = state.take_callers();
            drop(state);
            drop(callers);
        }
    }

    /// The next caller that is still there.
    pub(in crate::client) fn next(&self) -> Option<Incoming> {
        loop {
            let incoming = self.lock().waiting.pop_front()?;
            if incoming.is_there() {
                return Some(incoming);
            }
        }
    }

    /// A caller that has not said hello.
    #[cfg(fuzzing)]
    pub(in crate::client) fn next_silent(&self) -> Option<Incoming> {
        Some(self.lock().silent.pop()?.incoming)
    }

    /// The word to read before a look.
    pub(super) fn changes(&self) -> u32 {
        self.changed.load(Ordering::Acquire)
    }

    /// Sleeps until something changes after the word was read, at most until the deadline. Returns whether it
    /// has passed.
    pub(super) fn sleep(&self, seen: u32, until: Option<Instant>) -> bool {
        futex::wait(&[Wait { word: &self.changed, expected: seen, scope: Scope::Private }], until);
        until.is_some_and(|until| Instant::now() >= until)
    }

    pub(in crate::client) fn tell_change(&self) {
        self.changed.fetch_add(1, Ordering::Release);
        futex::wake(&self.changed, Scope::Private, u32::MAX >> 1);
        if let Some((_, kick)) = self.pipe.get()
            && !self.is_forked()
        {
            kick.kick();
        }
    }

    /// What to wait by for a change. The first time it makes it.
    pub(super) fn pipe(&self) -> io::Result<Arc<PipeReader>> {
        if self.pipe.get().is_none() {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            let _ = self.pipe.set((Arc::new(PipeReader::new(read)), PipeWriter::new(write)));
        }
        self.pipe_if_made().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn pipe_if_made(&self) -> Option<Arc<PipeReader>> {
        self.pipe.get().map(|(pipe, _)| Arc::clone(pipe))
    }

    /// Whether a caller waits that is still there.
    pub(super) fn has_next(&self) -> bool {
        self.lock().waiting.iter().any(Incoming::is_there)
    }

    /// Admits a caller that was introduced: says hello to it, and lets it wait, at first for its own hello.
    /// Called by the watcher; does not block. If anything is wrong with what came, the caller finds the link
    /// closed. Returns whom the watcher is to hear.
    pub(in crate::client) fn admit(
        &self,
        session: &Session,
        introduction: &Introduction,
        descriptors: [OwnedFd; Introduction::DESCRIPTORS],
    ) -> Option<Unheard> {
        let until = Instant::now() + HELLO_TIME;
        let mut incoming = self.meet(session, introduction, descriptors)?;
        failpoint!("link.met", [link], seldom);
        if !incoming.say(Status::Hello, &[]) {
            return None;
        }
        failpoint!("link.greeted", [link], seldom);
        let (number, token) = (incoming.end.open.number, incoming.end.watch().map(Watch::token));
        let mut gone = Callers::default();
        let turned_away = {
            let mut state = self.lock();
            if state.callers() >= BACKLOG {
                // Those that gave up need no place.
                gone = state.take_gone();
            }
            if self.reason().is_some() || state.over || state.callers() >= BACKLOG {
                Some(incoming)
            } else {
                state.silent.push(Silent { incoming, hearing: None });
                None
            }
        };
        drop(gone);
        if let Some(mut incoming) = turned_away {
            incoming.say(Status::Busy, &[]);
            return None;
        }
        self.hear(number).then_some(Unheard { token: token?, number, until })
    }

    /// Looks for the hello of a silent caller: if it is there, the caller waits to be accepted. Returns
    /// whether it is still to be heard. For the watcher.
    pub(super) fn hear(&self, number: u64) -> bool {
        let (heard, silent) = {
            let mut state = self.lock();
            let Some(at) = state.silent.iter().position(|silent| silent.is(number)) else { return false };
            match state.silent[at].hear() {
                Heard::Nothing => return true,
                heard => (heard, state.silent.remove(at)),
            }
        };
        let Silent { incoming, hearing } = silent;
        drop(hearing);
        if heard == Heard::Hello {
            self.keep(incoming);
        }
        false
    }

    /// Gives a silent caller up. For the watcher.
    pub(super) fn give_up(&self, number: u64) {
        let silent = {
            let mut state = self.lock();
            let at = state.silent.iter().position(|silent| silent.is(number));
            at.map(|at| state.silent.remove(at))
        };
        drop(silent);
    }

    /// A caller waits to be accepted.
    fn keep(&self, incoming: Incoming) {
        let too_late = {
            let mut state = self.lock();
            if state.over {
                Some(incoming)
            } else {
                state.waiting.push_back(incoming);
                None
            }
        };
        match too_late {
            Some(incoming) => drop(incoming),
            None => self.tell_change(),
        }
    }

    /// Opens the link, and begins to watch the caller. If that fails, the server is told that the link has
    /// ended: by the end itself once there is one, before that here.
    fn meet(
        &self,
        session: &Session,
        introduction: &Introduction,
        descriptors: [OwnedFd; Introduction::DESCRIPTORS],
    ) -> Option<Incoming> {
        let strategy = self.links.place.wait;
        let Some((ends, pipes)) = open(introduction, descriptors, strategy) else {
            session.words.flip(introduction.index);
            return None;
        };
        failpoint!("take.mapped", [link], seldom);
        let (descriptors, pipe) = pipes.connect(&ends);
        let (role, closer) = (Role::Callee, ends.closer);
        let end = LinkEnd::begin(&self.links, session, role, introduction, descriptors, closer).ok()?;
        let rings = (ends.consumer, ends.producer);
        Some(Incoming::new(end, rings, Some(pipe), introduction.ring_size, strategy))
    }
}

/// Callers on their way out.
#[derive(Default)]
struct Callers {
    _silent: Vec<Silent>,
    _waiting: VecDeque<Incoming>,
}

impl State {
    fn callers(&self) -> usize {
        self.waiting.len() + self.silent.len()
    }

    fn take_callers(&mut self) -> Callers {
        Callers { _silent: std::mem::take(&mut self.silent), _waiting: std::mem::take(&mut self.waiting) }
    }

    fn take_gone(&mut self) -> Callers {
        let Callers { _silent: silent, _waiting: waiting } = self.take_callers();
        let (there, _waiting) = waiting.into_iter().partition(Incoming::is_there);
        self.waiting = there;
        let (there, _silent) = silent.into_iter().partition(|silent| silent.incoming.is_there());
        self.silent = there;
        Callers { _silent, _waiting }
    }
}

impl Silent {
    fn is(&self, number: u64) -> bool {
        self.incoming.end.open.number == number
    }

    /// Looks, and lets the watcher wait if nothing is there.
    fn hear(&mut self) -> Heard {
        loop {
            let heard = self.incoming.hear();
            if heard != Heard::Nothing {
                return heard;
            }
            if self.hearing.is_none()
                && let (Some(watch), Some(pipe)) = (self.incoming.end.watch(), self.incoming.pipe())
            {
                match watch.hear(pipe) {
                    Ok(hearing) => self.hearing = Some(hearing),
                    Err(_) => return Heard::End,
                }
            }
            if self.incoming.arm_for_hello() {
                return Heard::Nothing;
            }
        }
    }
}

/// Opens what the server sent. What is wrong is closed on another thread.
fn open(
    introduction: &Introduction,
    [segment, pipes @ ..]: [OwnedFd; Introduction::DESCRIPTORS],
    strategy: WaitStrategy,
) -> Option<(LinkEnds, Pipes)> {
    let pipes = Pipes::check(pipes);
    let geometry = Geometry::new(introduction.ring_size)
        .and_then(|geometry| geometry.with_max_block(introduction.max_block));
    match geometry.and_then(|geometry| open_link(&segment, &geometry, strategy, Side::Callee)) {
        // It is what it should be, so that its close takes no time; the mapping stays.
        Ok(ends) => Some((ends, pipes?)),
        Err(_) => {
            close_elsewhere(segment);
            None
        }
    }
}
