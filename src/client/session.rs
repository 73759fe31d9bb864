//! One registration: what the two halves of a client share of it, and how it comes to be.

#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Limits;
use super::backoff::{random, shorten};
use super::error::RegisterError;
use super::links::Links;
use super::watcher::{Watch, Watched};
use crate::channel::{self, Guest, Kicks, LinkWords};
use crate::connect::connection::Connection;
use crate::connect::dial::{Answer, DialError, Line};
use crate::connect::{Ask, Proof, Refusal, Reply, Secret, cannot_be_allowed, is_unknown_user};
use crate::ring::{Closer, WaitStrategy};
use crate::testing::failpoints::failpoint;
use crate::wire::CloseReason;
use crate::wire::{BLOCK_HEADER, Key, MESSAGE_OVERHEAD, Name, PROTOCOL_VERSION};

/// One registration. When the last half of the client is gone, so is the lifeline, and with it the
/// registration.
pub(super) struct Session {
    pub(super) key: Key,
    pub(super) name: Name,
    pub(super) limits: Limits,
    pub(super) closer: Closer,
    secret: Secret,
    /// The words by which the server sees which links have ended, and whether the client serves.
    pub(super) words: LinkWords,
    /// The pipes by which its own closers end waits in event loops.
    pub(super) kicks: Kicks,
    /// The client's links, which outlive the registration.
    pub(super) links: Arc<Links>,
    watch: Watch,
    /// Also kept here, so that a closer can use it without a lock.
    lifeline: Option<Arc<Connection>>,
}

impl Session {
    /// Begins to watch the lifeline.
    pub(super) fn begin(
        guest: &Guest,
        lifeline: Connection,
        proof: Proof,
        name: Name,
        links: Arc<Links>,
    ) -> io::Result<Session> {
        let lifeline = Arc::new(lifeline);
        let watch = Watch::begin(Watched::Lifeline {
            lifeline: Arc::clone(&lifeline),
            closer: guest.closer.clone(),
            links: Arc::clone(&links),
        })?;
        Ok(Session::under(watch, Some(lifeline), guest, proof, name, links))
    }

    pub(super) fn under(
        watch: Watch,
        lifeline: Option<Arc<Connection>>,
        guest: &Guest,
        proof: Proof,
        name: Name,
        links: Arc<Links>,
    ) -> Session {
        let geometry = guest.geometry();
        let limits = Limits {
            max_call: geometry.max_block() - BLOCK_HEADER,
            max_message: geometry.max_block() - MESSAGE_OVERHEAD,
            ring_size: geometry.ring_size(),
        };
        links.topics.figures.set(guest.figures.clone());
        let (closer, words, kicks) = (guest.closer.clone(), guest.links.clone(), guest.kicks.clone());
        let Proof { key, secret } = proof;
        Session { key, name, limits, closer, secret, words, kicks, links, watch, lifeline }
    }

    /// What shows the server on another connection that this client asks.
    pub(super) fn proof(&self) -> Proof {
        Proof { key: self.key, secret: self.secret }
    }

    /// Whether this process was forked after the client was registered.
    pub(super) fn is_forked(&self) -> bool {
        self.closer.is_forked()
    }

    /// Ends every wait, and the connection with it: the server frees the name. In a forked child it does
    /// neither.
    pub(super) fn end(&self, reason: CloseReason) {
        self.close(reason, |session| session.watch.end());
    }

    /// The same with atomics and system calls only, for a signal handler. The watcher does what is left.
    pub(super) fn hang_up(&self, reason: CloseReason) {
        self.close(reason, |session| {
            if session.watch.is_ours() {
                session.links.end_soon();
                session.watch.sweep();
                if let Some(lifeline) = &session.lifeline {
                    lifeline.hang_up();
                }
            }
        });
    }

    fn close(&self, reason: CloseReason, end_connection: fn(&Session)) {
        self.closer.close_as(reason);
        failpoint!("session.closed", [client], seldom);
        end_connection(self);
        failpoint!("session.ended", [client], seldom);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.watch.end();
    }
}

/// Where and how to register.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) wait: WaitStrategy,
    pub(super) timeout: Duration,
    /// Whether the client is a relay.
    pub(super) relay: bool,
}

impl Place {
    /// Registers a name. Blocks until the server answers, at most until the deadline.
    pub(super) fn register(
        &self,
        name: Name,
        links: &Arc<Links>,
        deadline: Instant,
    ) -> Result<(Guest, Arc<Session>), RegisterError> {
        let asked = ask_anew(&self.path, deadline, |line| {
            let ask = if self.relay { Ask::RegisterRelay(name) } else { Ask::Register(name) };
            let answer = line.ask(&ask, deadline)?;
            Ok((line, answer))
        });
        let (line, answer) = asked.map_err(|error| explain(error, &self.path, Some(&name)))?;
        self.begin(line, answer, name, links)
    }

    /// Opens the channel that came with the answer.
    pub(super) fn begin(
        &self,
        line: Line,
        answer: Answer,
        name: Name,
        links: &Arc<Links>,
    ) -> Result<(Guest, Arc<Session>), RegisterError> {
        let not_ringpost = || RegisterError::NotRingpost { path: self.path.clone() };
        let proof = Reply::registration(&answer.body).ok_or_else(not_ringpost)?;
        let descriptor = answer.descriptors.first().ok_or_else(not_ringpost)?;
        let guest = channel::open_for_client(descriptor, self.wait)?;
        // It is what it should be, so that its close takes no time; the mapping stays.
        drop(answer.descriptors.only());
        failpoint!("join.mapped", [client], seldom);
        let session = Session::begin(&guest, line.into_lifeline(), proof, name, Arc::clone(links))
            .map_err(|source| RegisterError::System { action: "watch the server", source })?;
        failpoint!("join.watched", [client], seldom);
        Ok((guest, Arc::new(session)))
    }
}

/// The pauses between two questions to a server that is busy, from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// Asks on a new connection, and on another one after a while if the server is busy. Blocks at most until the
/// deadline.
pub(super) fn ask_anew<T>(
    path: &Path,
    deadline: Instant,
    mut ask: impl FnMut(Line) -> Result<T, DialError>,
) -> Result<T, DialError> {
    let mut pause = FIRST_PAUSE;
    loop {
        match Line::connect(path, deadline).and_then(&mut ask) {
            Err(busy @ DialError::Refused(Refusal::Busy, _)) => {
                let pause_now = shorten(pause, random());
                if deadline.saturating_duration_since(Instant::now()) <= pause_now {
                    return Err(busy);
                }
                std::thread::sleep(pause_now);
                pause = LONGEST_PAUSE.min(2 * pause);
            }
            done => return done,
        }
    }
}

pub(super) fn deadline_in(timeout: Duration) -> Instant {
    deadline_from(Instant::now(), timeout)
}

/// A time-out beyond what the clock can hold is one that nobody will see the end of.
pub(super) fn deadline_from(now: Instant, timeout: Duration) -> Instant {
    now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(u32::MAX.into()))
}

/// What the owner of a socket that is closed to this process has to do.
fn let_in(source: &io::Error) -> String {
    let uid = rustix::process::geteuid().as_raw();
    if is_unknown_user(uid) {
        return format!("{source}; {}", cannot_be_allowed(uid));
    }
    format!(
        "{source}; its server must allow user {uid} (allow_user, --allow-user {uid}), on a socket in a directory that \
         user {uid} may enter"
    )
}

pub(super) fn explain(error: DialError, path: &Path, name: Option<&Name>) -> RegisterError {
    let path = path.to_owned();
    match error {
        DialError::NoServer(source) => RegisterError::NoServer { path, source },
        DialError::TooLong => RegisterError::PathTooLong { path },
        DialError::NotPermitted(source) => RegisterError::NotPermitted { path, why: let_in(&source) },
        DialError::Untrusted { uid } => RegisterError::Untrusted { path, uid },
        DialError::TimedOut => RegisterError::TimedOut { path },
        DialError::NotRingpost => RegisterError::NotRingpost { path },
        DialError::Version { found } => {
            RegisterError::VersionMismatch { server: found, own: PROTOCOL_VERSION }
        }
        DialError::Io(source) => RegisterError::System { action: "reach the server", source },
        DialError::Refused(refusal, why) => match refusal {
            Refusal::NameTaken => {
                let name = name.map(|name| name.as_str().to_owned()).unwrap_or_default();
                RegisterError::NameTaken { name }
            }
            Refusal::Full => RegisterError::Full(why),
            Refusal::Quota => RegisterError::Quota(why),
            Refusal::NotAllowed => RegisterError::NotPermitted { path, why },
            Refusal::AgainstRules => RegisterError::NotAllowed(why),
            Refusal::NotRingpost
            | Refusal::Version
            | Refusal::Unknown
            | Refusal::InvalidName
            | Refusal::ShuttingDown
            | Refusal::Busy
            | Refusal::NoResources
            | Refusal::NotFound
            | Refusal::NotServing
            | Refusal::Backlog
            | Refusal::NotRegistered => RegisterError::Refused(why),
        },
    }
}
