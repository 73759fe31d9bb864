//! `Reconnect`: when, and how often, a client tries to register again.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::RegisterError;
use super::event::ReconnectEvent;
use super::session::deadline_from;
use crate::shm::backend::fill_random;

const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_secs(2);
const WITHIN: Duration = Duration::from_secs(60);

/// The shortest delay, whatever is set. An attempt without a server takes some microseconds, and a server may
/// end each new connection at once; so this keeps a client without a server to a few percent of a CPU.
const LEAST_DELAY: Duration = Duration::from_millis(1);

/// The number of successive refusals that count as final. A server may refuse at first, because the client's
/// former connection still has the name.
const REFUSALS: u32 = 3;

/// How a client registers again after its server has ended: see
/// [`ClientBuilder::reconnect`](super::ClientBuilder::reconnect).
///
/// The delay before an attempt doubles from the first to the longest. Each is shortened by a random part of
/// up to half, so that the clients of a restarted server do not all connect at once.
///
/// | setting | default |
/// | --- | --- |
/// | [`first_delay`](Self::first_delay) | 20 ms |
/// | [`longest_delay`](Self::longest_delay) | 2 s |
/// | [`attempts`](Self::attempts) | unlimited |
/// | [`within`](Self::within) | 60 s from the first operation that tries |
/// | [`on_event`](Self::on_event) | nothing |
///
/// The client gives up, with [`CloseReason::GaveUp`](crate::CloseReason::GaveUp), after the last attempt or
/// at the end of the time. It also gives up after three successive refusals because the name is taken, the
/// server is full, or the user is not allowed; and at once if the server has another version, is not to be
/// trusted, or is not Ringpost.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Reconnect, ReconnectEvent};
/// use std::time::Duration;
///
/// # use ringpost::Server;
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// # let _server = Server::builder(&path).start()?;
/// let reconnect = Reconnect::default()
///     .longest_delay(Duration::from_millis(500))
///     .within(Duration::from_secs(600))
///     .on_event(|event| match event {
///         ReconnectEvent::Registered { key, .. } => eprintln!("back, with the key {key}"),
///         other => eprintln!("{other}"),
///     });
/// let client = Client::builder(&path).reconnect(reconnect).register("alice")?;
/// # drop(client);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "it does nothing until a builder is given it"]
pub struct Reconnect {
    first: Duration,
    longest: Duration,
    attempts: u32,
    within: Duration,
    on_event: Option<Listener>,
}

type Listener = Arc<dyn Fn(&ReconnectEvent) + Send + Sync>;

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("first", &self.first)
            .field("longest", &self.longest)
            .field("attempts", &self.attempts)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

impl Default for Reconnect {
    fn default() -> Reconnect {
        Reconnect {
            first: FIRST_DELAY,
            longest: LONGEST_DELAY,
            attempts: u32::MAX,
            within: WITHIN,
            on_event: None,
        }
    }
}

impl Reconnect {
    /// The delay before the first attempt: 20 ms by default, at least 1 ms.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Reconnect;
    /// use std::time::Duration;
    ///
    /// let eager = Reconnect::default().first_delay(Duration::from_millis(1));
    /// # drop(eager);
    /// ```
    pub fn first_delay(mut self, delay: Duration) -> Self {
        self.first = delay;
        self
    }

    /// The longest delay before an attempt: 2 s by default, at least 1 ms.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Reconnect;
    /// use std::time::Duration;
    ///
    /// let patient = Reconnect::default().longest_delay(Duration::from_secs(30));
    /// # drop(patient);
    /// ```
    pub fn longest_delay(mut self, delay: Duration) -> Self {
        self.longest = delay;
        self
    }

    /// The largest number of attempts after the end of a connection: unlimited by default, at least one.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Reconnect;
    ///
    /// let once = Reconnect::default().attempts(1);
    /// # drop(once);
    /// ```
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// How long to try after the end of a connection, from the first operation that tries: 60 s by default.
    /// The last attempt is made at the end of this time.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Reconnect;
    /// use std::time::Duration;
    ///
    /// let for_a_day = Reconnect::default().within(Duration::from_secs(24 * 60 * 60));
    /// # drop(for_a_day);
    /// ```
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Sets a function that is called for each event, on the thread whose operation caused it. It should
    /// return quickly.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Reconnect, ReconnectEvent, Server};
    /// use std::sync::mpsc;
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let server = Server::builder(&path).start()?;
    /// let (sender, events) = mpsc::channel();
    /// let reconnect = Reconnect::default().on_event(move |event| drop(sender.send(event.clone())));
    /// let mut client = Client::builder(&path).reconnect(reconnect).register("alice")?;
    /// server.join_after_shutdown();
    /// assert!(client.call(b"ping").is_err());
    /// assert!(matches!(events.recv()?, ReconnectEvent::Ended { .. }));
    /// let _server = Server::builder(&path).start()?;
    /// assert_eq!(client.call(b"ping")?, b"ping");
    /// assert!(matches!(events.recv()?, ReconnectEvent::Registered { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_event(mut self, listener: impl Fn(&ReconnectEvent) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(listener));
        self
    }

    pub(super) fn tell(&self, event: &ReconnectEvent) {
        if let Some(listener) = &self.on_event {
            listener(event);
        }
    }

    /// The delay before an attempt (the first one is 0), shortened according to the random number.
    fn delay(&self, attempt: u32, random: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
        let whole = self.first.max(LEAST_DELAY).saturating_mul(factor).min(self.longest).max(LEAST_DELAY);
        shorten(whole, random)
    }
}

/// What a failed attempt says about further ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Another attempt may succeed at any time.
    Passing,
    /// The server refused. Another attempt may succeed.
    Refusal,
    /// Another attempt cannot succeed without intervention.
    Final,
}

fn kind(error: &RegisterError) -> Kind {
    match error {
        RegisterError::NoServer { .. }
        | RegisterError::TimedOut { .. }
        | RegisterError::Refused(_)
        | RegisterError::Channel(_)
        | RegisterError::System { .. } => Kind::Passing,
        RegisterError::NameTaken { .. }
        | RegisterError::Full(_)
        | RegisterError::Quota(_)
        | RegisterError::NotAllowed(_)
        | RegisterError::NotPermitted { .. } => Kind::Refusal,
        RegisterError::InvalidName { .. }
        | RegisterError::PathTooLong { .. }
        | RegisterError::Untrusted { .. }
        | RegisterError::NotRingpost { .. }
        | RegisterError::VersionMismatch { .. } => Kind::Final,
    }
}

/// The schedule of the attempts after the end of a connection.
pub(super) struct Schedule {
    began: Instant,
    /// The number of failed attempts, and how many of the last ones in a row were refusals.
    pub(super) attempts: u32,
    refusals: u32,
    /// When the next attempt is due.
    pub(super) next: Instant,
}

impl Schedule {
    pub(super) fn begin(policy: &Reconnect, now: Instant, random: u32) -> Schedule {
        let mut schedule = Schedule { began: now, attempts: 0, refusals: 0, next: now };
        schedule.plan(policy, now, random);
        schedule
    }

    /// Records a failure. Returns the delay until the next attempt, or `None` if there is none.
    pub(super) fn failed(
        &mut self,
        policy: &Reconnect,
        error: &RegisterError,
        now: Instant,
        random: u32,
    ) -> Option<Duration> {
        self.attempts = self.attempts.saturating_add(1);
        self.refusals = if kind(error) == Kind::Refusal { self.refusals + 1 } else { 0 };
        let decided = kind(error) == Kind::Final || self.refusals == REFUSALS;
        let used_up = self.attempts >= policy.attempts || now.duration_since(self.began) >= policy.within;
        if decided || used_up {
            return None;
        }
        self.plan(policy, now, random);
        Some(self.next.saturating_duration_since(now))
    }

    fn plan(&mut self, policy: &Reconnect, now: Instant, random: u32) {
        let left = policy.within.saturating_sub(now.duration_since(self.began));
        let delay = policy.delay(self.attempts, random).min(left);
        self.next = deadline_from(now, delay);
    }
}

/// Shortens a delay by a random part of up to half.
pub(super) fn shorten(delay: Duration, random: u32) -> Duration {
    let half = delay / 2;
    half + (delay - half).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// A random number.
pub(super) fn random() -> u32 {
    let mut bytes = [0; 4];
    // This never fails after the computer has started. If it did, delays would not be randomised.
    let _ = fill_random(&mut bytes);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = u32::MAX;
    const MS: Duration = Duration::from_millis(1);

    fn no_server() -> RegisterError {
        RegisterError::NoServer { path: "bus".into(), source: std::io::ErrorKind::NotFound.into() }
    }

    fn taken() -> RegisterError {
        RegisterError::NameTaken { name: "alice".into() }
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let policy = Reconnect::default();
        let longest: Vec<u128> = (0..10).map(|attempt| policy.delay(attempt, MOST).as_millis()).collect();
        assert_eq!(longest, [20, 40, 80, 160, 320, 640, 1280, 2000, 2000, 2000]);
        for attempt in [31, 32, 33, 1000, MOST] {
            assert_eq!(policy.delay(attempt, MOST), LONGEST_DELAY);
        }
        let none = Reconnect::default().first_delay(Duration::ZERO);
        assert_eq!((none.delay(0, MOST), none.delay(3, MOST)), (LEAST_DELAY, 8 * LEAST_DELAY));
        for none in
            [none.clone().longest_delay(Duration::ZERO), Reconnect::default().longest_delay(Duration::ZERO)]
        {
            assert_eq!((none.delay(0, MOST), none.delay(MOST, MOST)), (LEAST_DELAY, LEAST_DELAY));
        }
        let endless = Reconnect::default().first_delay(Duration::MAX).longest_delay(Duration::MAX);
        assert_eq!(endless.delay(3, 0), Duration::MAX / 2);
    }

    #[test]
    fn jitter_takes_away_up_to_a_half() {
        let policy = Reconnect::default();
        for attempt in 0..12 {
            let whole = policy.delay(attempt, MOST);
            assert_eq!(policy.delay(attempt, 0), whole / 2);
            let middle = policy.delay(attempt, MOST / 2);
            assert!(middle > whole / 2 && middle < whole, "{middle:?} of {whole:?}");
        }
        assert!((0..20).any(|_| random() != random()), "it is not random");
    }

    #[test]
    fn attempts_are_bounded_by_their_number() {
        let now = Instant::now();
        let policy = Reconnect::default().attempts(3);
        let mut schedule = Schedule::begin(&policy, now, MOST);
        assert_eq!(schedule.next, now + 20 * MS);
        assert_eq!(schedule.failed(&policy, &no_server(), now, MOST), Some(40 * MS));
        assert_eq!(schedule.failed(&policy, &no_server(), now, MOST), Some(80 * MS));
        assert_eq!(schedule.failed(&policy, &no_server(), now, MOST), None);
        assert_eq!(schedule.attempts, 3);
        // None at all is one.
        let policy = Reconnect::default().attempts(0);
        let mut schedule = Schedule::begin(&policy, now, 0);
        assert_eq!(schedule.failed(&policy, &no_server(), now, 0), None);
    }

    #[test]
    fn attempts_are_bounded_by_time_and_the_last_comes_at_its_end() {
        let began = Instant::now();
        let policy = Reconnect::default().within(100 * MS);
        let mut schedule = Schedule::begin(&policy, began, MOST);
        let mut due = Vec::new();
        loop {
            let now = schedule.next;
            due.push((now - began).as_millis());
            if schedule.failed(&policy, &no_server(), now, MOST).is_none() {
                break;
            }
        }
        assert_eq!(due, [20, 60, 100]);
        // Without any time one attempt is made.
        let policy = Reconnect::default().within(Duration::ZERO);
        let mut schedule = Schedule::begin(&policy, began, MOST);
        assert_eq!(schedule.next, began);
        assert_eq!(schedule.failed(&policy, &no_server(), began, MOST), None);
        // And with all the time there is, the clock does not overflow.
        let policy = Reconnect::default().first_delay(Duration::MAX).longest_delay(Duration::MAX);
        let policy = policy.within(Duration::MAX);
        assert!(Schedule::begin(&policy, began, MOST).next > began);
    }

    #[test]
    fn refusals_are_believed_when_they_are_repeated() {
        let now = Instant::now();
        let policy = Reconnect::default();
        let mut schedule = Schedule::begin(&policy, now, 0);
        let mut fails = |error| schedule.failed(&policy, &error, now, 0).is_none();
        assert!(!fails(taken()) && !fails(RegisterError::Full("full".into())));
        assert!(!fails(no_server()), "a server that restarts begins anew");
        assert!(!fails(taken()) && !fails(taken()));
        assert!(fails(taken()));
        let mut schedule = Schedule::begin(&policy, now, 0);
        let other = RegisterError::VersionMismatch { server: 9, own: 1 };
        assert_eq!(schedule.failed(&policy, &other, now, 0), None);
    }
}
