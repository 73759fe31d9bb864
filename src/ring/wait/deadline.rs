//! The limit in time of an operation that waits.

use std::time::{Duration, Instant};

use crate::shm::backend::{effective_deadline, now};

/// How long an operation may wait at most.
///
/// The methods whose names end in `_timeout` take `impl Into<Deadline>`: a [`Duration`] counts from the call,
/// an [`Instant`] is a point in time, and `None` is no limit. A duration that the clock cannot hold is no
/// limit either. A limit that has passed already still lets the operation succeed if it need not wait.
///
/// # Examples
///
/// ```
/// use ringpost::ring::{self, RecvError};
/// use std::time::{Duration, Instant};
///
/// let (mut producer, mut consumer) = ring::local(4096)?;
/// let mut block = Vec::new();
/// let nothing = consumer.recv_timeout(&mut block, Duration::from_millis(5));
/// assert_eq!(nothing, Err(RecvError::TimedOut));
/// producer.send(b"hello")?;
/// assert_eq!(consumer.recv_timeout(&mut block, Instant::now()), Ok(5));
/// producer.send(b"hello")?;
/// assert_eq!(consumer.recv_timeout(&mut block, None), Ok(5)); // waits for as long as it takes
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Limit);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Never,
    /// This long after [`Deadline::start`], which is called when something is about to wait.
    After(Duration),
    At(Instant),
}

impl Deadline {
    /// No limit.
    pub(crate) const NEVER: Deadline = Deadline(Limit::Never);

    /// `NEVER`, made in place, which stores less than a copy of the constant.
    #[inline(always)]
    pub(crate) fn never() -> Deadline {
        Deadline(Limit::Never)
    }

    /// The time left until the deadline. Reads no clock for a duration that was not started.
    pub(crate) fn left(&self) -> Option<Duration> {
        match self.0 {
            Limit::Never => None,
            Limit::After(timeout) => Some(timeout),
            Limit::At(deadline) => Some(deadline.saturating_duration_since(now())),
        }
    }

    /// The point in time, if there is a limit. For a duration it reads the clock at the first call. An
    /// operation that need not wait never calls this, so its limit costs nothing.
    #[cold]
    pub(crate) fn start(&mut self) -> Option<Instant> {
        if let Limit::After(timeout) = self.0 {
            self.0 = now().checked_add(timeout).map_or(Limit::Never, Limit::At);
        }
        let deadline = match self.0 {
            Limit::At(deadline) => Some(deadline),
            Limit::Never | Limit::After(_) => None,
        };
        effective_deadline(deadline)
    }

    /// From a point in time that may be missing.
    pub(crate) fn until(deadline: Option<Instant>) -> Deadline {
        deadline.map_or(Deadline::NEVER, Deadline::from)
    }
}

impl From<Duration> for Deadline {
    #[inline]
    fn from(timeout: Duration) -> Deadline {
        Deadline(Limit::After(timeout))
    }
}

impl From<Instant> for Deadline {
    #[inline]
    fn from(deadline: Instant) -> Deadline {
        Deadline(Limit::At(deadline))
    }
}

/// The only conversion from an `Option`: with a second one, the type of a bare `None` would be ambiguous.
impl From<Option<Duration>> for Deadline {
    #[inline]
    fn from(timeout: Option<Duration>) -> Deadline {
        timeout.map_or(Deadline::NEVER, Deadline::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_from_the_first_start_and_from_no_other() {
        let mut deadline = Deadline::from(Duration::from_secs(60));
        let before = Instant::now();
        let first = deadline.start().unwrap();
        assert!(first >= before + Duration::from_secs(60));
        assert_eq!(deadline.start(), Some(first));
    }

    #[test]
    fn an_instant_stays_and_none_is_no_limit() {
        let now = Instant::now();
        assert_eq!(Deadline::from(now).start(), Some(now));
        assert_eq!(Deadline::from(None).start(), None);
        assert_eq!(Deadline::from(Duration::MAX).start(), None);
        assert_eq!(Deadline::from(None), Deadline::NEVER);
    }

    #[test]
    fn what_is_left_is_counted_from_the_start() {
        let second = Duration::from_secs(1);
        let mut deadline = Deadline::from(second);
        assert_eq!(deadline.left(), Some(second));
        deadline.start();
        std::thread::sleep(Duration::from_millis(1));
        assert!(deadline.left() < Some(second));
        assert_eq!(Deadline::from(Instant::now()).left(), Some(Duration::ZERO));
        assert_eq!(Deadline::NEVER.left(), None);
    }
}
