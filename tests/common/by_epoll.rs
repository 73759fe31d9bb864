//! Waits as an event loop does: looks until nothing is there, arms, and waits by epoll.

use ringpost::{Readiness, ReadinessError, Ready};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long a kick may take that must come, on a machine that has other things to do.
const KICK: Duration = Duration::from_secs(20);

/// Why a wait found nothing.
#[derive(Debug)]
pub enum Vain {
    TimedOut,
    Ended(ReadinessError),
    /// Something was there, and the descriptor did not become readable.
    Missed,
}

/// An epoll instance with the readiness of one end.
pub struct ByEpoll {
    epoll: OwnedFd,
    _readiness: Readiness,
}

impl ByEpoll {
    /// `edge`: edge-triggered.
    pub fn of(end: &mut impl Ready, edge: bool) -> Result<ByEpoll, ReadinessError> {
        let readiness = end.readiness()?;
        let system = |errno: Errno| ReadinessError::System { action: "use epoll", source: errno.into() };
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(system)?;
        let flags = if edge { EventFlags::IN | EventFlags::ET } else { EventFlags::IN };
        epoll::add(&epoll, &readiness, EventData::new_u64(0), flags).map_err(system)?;
        Ok(ByEpoll { epoll, _readiness: readiness })
    }

    /// Waits until the descriptor is readable. Returns false if it is not until then.
    pub fn wait(&self, until: Option<Instant>) -> bool {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.map(|left| Timespec::try_from(left).expect("not so long"));
            let mut space = [MaybeUninit::<Event>::uninit(); 1];
            match epoll::wait(&self.epoll, &mut space, left.as_ref()) {
                Ok((events, _)) => return !events.is_empty(),
                Err(Errno::INTR) => {}
                Err(errno) => panic!("epoll_wait: {errno}"),
            }
        }
    }

    /// Looks again and again until something is there, and waits in between.
    pub fn until<E: Ready, T>(
        &self,
        end: &mut E,
        until: Option<Instant>,
        mut look: impl FnMut(&mut E) -> Option<T>,
    ) -> Result<T, Vain> {
        loop {
            if let Some(found) = look(end) {
                return Ok(found);
            }
            if end.arm().map_err(Vain::Ended)? && !self.wait(until) {
                // Whoever makes something be there kicks then.
                let found = look(end).ok_or(Vain::TimedOut)?;
                return if self.wait(Some(Instant::now() + KICK)) { Ok(found) } else { Err(Vain::Missed) };
            }
        }
    }
}
