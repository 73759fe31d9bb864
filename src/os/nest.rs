//! `Nest`: one descriptor that is readable while one of several pipes is, or after some time.
//!
//! It is an epoll instance, which any event loop can wait on like a pipe.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::descriptors::close_if;
use crate::shm::backend::PipeReader;

pub(crate) struct Nest {
    /// `Some` until the drop.
    epoll: Option<OwnedFd>,
    /// Stays in it. By this one, the instance can be told from another file that has got its number.
    first: Arc<PipeReader>,
    /// The others, by their addresses.
    others: Mutex<HashMap<usize, Arc<PipeReader>>>,
    timer: Option<OwnedFd>,
}

impl Nest {
    pub(crate) fn new(first: Arc<PipeReader>) -> io::Result<Nest> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*first, EventData::new_u64(0), EventFlags::IN)?;
        Ok(Nest { epoll: Some(epoll), first, others: Mutex::default(), timer: None })
    }

    /// One that can also be set to a time.
    pub(crate) fn with_timer(first: Arc<PipeReader>) -> io::Result<Nest> {
        let mut nest = Nest::new(first)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        epoll::add(nest.as_fd(), &timer, EventData::new_u64(0), EventFlags::IN)?;
        nest.timer = Some(timer);
        Ok(nest)
    }

    /// Besides the first, it is these pipes from now on. It keeps them open as long.
    pub(crate) fn hold<'p>(&self, pipes: impl Iterator<Item = &'p Arc<PipeReader>>) -> io::Result<()> {
        if !self.is_ours() {
            return Ok(());
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let mut former = std::mem::take(&mut *others);
        let mut added = Ok(());
        for pipe in pipes {
            let address = Arc::as_ptr(pipe).addr();
            if let Some(held) = former.remove(&address) {
                others.insert(address, held);
            } else if let Entry::Vacant(place) = others.entry(address) {
                match epoll::add(self.as_fd(), &**pipe, EventData::new_u64(0), EventFlags::IN) {
                    Ok(()) => _ = place.insert(Arc::clone(pipe)),
                    Err(errno) => added = Err(errno.into()),
                }
            }
        }
        // A close alone does not take them out, if a forked child has copies.
        for pipe in former.values() {
            let _ = epoll::delete(self.as_fd(), &**pipe);
        }
        added
    }

    /// It is readable at this time, too, or at none. Does nothing without a timer.
    pub(crate) fn set_timer(&self, until: Option<Instant>) {
        let Some(timer) = self.timer.as_ref().filter(|timer| self.is_ours() && self.has(timer)) else {
            return;
        };
        // 0 stands for never.
        let left =
            until.map(|until| until.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1)));
        let left = left.unwrap_or_default();
        let value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        let _ = timerfd_settime(timer, TimerfdTimerFlags::empty(), &once);
    }

    /// Whether the number is still that of the instance: other code may have closed it.
    fn is_ours(&self) -> bool {
        self.first.is_ours() && self.has(&*self.first)
    }

    /// Whether a descriptor is in the instance.
    fn has(&self, descriptor: impl AsFd) -> bool {
        epoll::modify(self.as_fd(), descriptor, EventData::new_u64(0), EventFlags::IN).is_ok()
    }
}

impl fmt::Debug for Nest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nest").finish_non_exhaustive()
    }
}

impl AsFd for Nest {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.epoll {
            Some(epoll) => epoll.as_fd(),
            None => unreachable!("it is taken by the drop alone"),
        }
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        let is_ours = self.is_ours();
        let has_timer = is_ours && self.timer.as_ref().is_some_and(|timer| self.has(timer));
        close_if(has_timer, self.timer.take());
        close_if(is_ours, self.epoll.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::pipe::{NewPipe, PipeWriter, kick_pipe};
    use rustix::event::{PollFd, PollFlags, poll};

    fn pipe() -> (Arc<PipeReader>, PipeWriter) {
        let NewPipe { read, write, .. } = kick_pipe().unwrap();
        (Arc::new(PipeReader::new(read)), PipeWriter::new(write))
    }

    fn is_readable(nest: &Nest, patience: Duration) -> bool {
        let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        poll(&mut [PollFd::new(nest, PollFlags::IN)], Some(&timeout)).unwrap() == 1
    }

    #[test]
    fn it_is_readable_while_one_of_its_pipes_is() {
        let ((first, first_kick), (second, kick), (third, _writer)) = (pipe(), pipe(), pipe());
        let nest = Nest::new(Arc::clone(&first)).unwrap();
        nest.hold([&second, &third].into_iter()).unwrap();
        assert!(!is_readable(&nest, Duration::ZERO));
        kick.kick();
        assert!(is_readable(&nest, Duration::from_secs(60)));
        second.drain();
        assert!(!is_readable(&nest, Duration::ZERO));
        first_kick.kick();
        assert!(is_readable(&nest, Duration::from_secs(60)));
        first.drain();
    }

    #[test]
    fn a_pipe_that_it_holds_no_more_has_no_part_in_it() {
        let ((first, _kick), (second, kick), (third, others)) = (pipe(), pipe(), pipe());
        let nest = Nest::new(first).unwrap();
        nest.hold([&second, &third].into_iter()).unwrap();
        kick.kick();
        nest.hold(std::iter::once(&third)).unwrap();
        assert!(!is_readable(&nest, Duration::ZERO));
        others.kick();
        assert!(is_readable(&nest, Duration::from_secs(60)));
        nest.hold([&second, &third].into_iter()).unwrap();
        third.drain();
        assert!(is_readable(&nest, Duration::ZERO), "the kick is still there");
    }

    #[test]
    fn it_is_readable_at_the_time_that_was_set() {
        let (first, _kick) = pipe();
        let nest = Nest::with_timer(first).unwrap();
        nest.set_timer(Some(Instant::now() + Duration::from_secs(600)));
        assert!(!is_readable(&nest, Duration::ZERO));
        nest.set_timer(Some(Instant::now()));
        assert!(is_readable(&nest, Duration::from_secs(60)));
        nest.set_timer(None);
        assert!(!is_readable(&nest, Duration::ZERO));
    }
}
