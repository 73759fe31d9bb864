//! Limits how many events each user can cause, so that nobody fills the program's log.
//!
//! Each user has an allowance for each kind of event: a number at once, and some per second after that.
//! Events beyond it are left out and counted, and the count is reported every [`REPORT`] while it grows. One
//! user's events never use up another's allowance. The server's own faults (a call that does not return, a
//! broken registry) have an allowance of their own, and so has what no user caused (a lack of descriptors).

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often the number of events that were left out is reported.
const REPORT: Duration = Duration::from_secs(2);

/// How often unused allowances are looked for when all places are taken.
const SWEEP: Duration = Duration::from_secs(1);

/// Most allowances that are kept. Users beyond that share one per kind.
const MOST: usize = 1024;

/// Events that share one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Register,
    Unregister,
    Death,
    Violation,
    Refused,
    Control,
    /// The server's own faults.
    Own,
}

/// Who caused an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    User(u32),
    /// One of more users than can have an allowance each.
    Others,
    Server,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Register => "register",
            Kind::Unregister => "unregister",
            Kind::Death => "death",
            Kind::Violation => "violation",
            Kind::Refused => "refused",
            Kind::Control => "control",
            Kind::Own => "own",
        }
    }

    /// How many at once, and the time after which one more is allowed. Hundreds of clients may come and go
    /// in normal use; refusals need not be logged as often.
    fn allowance(self) -> (u32, Duration) {
        match self {
            Kind::Refused => (100, Duration::from_millis(500)),
            Kind::Own => (1000, Duration::from_millis(100)),
            _ => (200, Duration::from_millis(100)),
        }
    }
}

/// How many events of one kind and one user were left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) kind: Kind,
    pub(super) cause: Cause,
    pub(super) events: u64,
}

struct Allowance {
    left: u32,
    /// The time up to which `left` was refilled.
    since: Instant,
    left_out: u64,
    /// When to report what was left out, if anything was.
    report: Option<Instant>,
}

#[derive(Default)]
pub(super) struct EventLimits {
    allowances: HashMap<(Kind, Cause), Allowance>,
    /// When the first report is due.
    due: Option<Instant>,
    /// When unused allowances were last looked for.
    swept: Option<Instant>,
}

impl Allowance {
    fn refill(&mut self, kind: Kind, now: Instant) {
        let (most, each) = kind.allowance();
        let more = now.saturating_duration_since(self.since).as_nanos() / each.as_nanos();
        match u32::try_from(more) {
            Ok(more) if more < most => {
                self.left = (self.left + more).min(most);
                self.since += each * more;
            }
            _ => (self.left, self.since) = (most, now),
        }
    }

    fn is_untouched(&mut self, kind: Kind, now: Instant) -> bool {
        self.refill(kind, now);
        self.left == kind.allowance().0 && self.left_out == 0
    }
}

impl EventLimits {
    /// Whether this event may be reported. If not, it is counted.
    pub(super) fn allow(&mut self, kind: Kind, cause: Cause, now: Instant) -> bool {
        let cause = if self.has_room_for(kind, cause, now) { cause } else { Cause::Others };
        let (most, _) = kind.allowance();
        let allowance = self.allowances.entry((kind, cause)).or_insert(Allowance {
            left: most,
            since: now,
            left_out: 0,
            report: None,
        });
        allowance.refill(kind, now);
        if let Some(left) = allowance.left.checked_sub(1) {
            allowance.left = left;
            return true;
        }
        allowance.left_out += 1;
        let report = *allowance.report.get_or_insert(now + REPORT);
        self.due = Some(self.due.map_or(report, |due| due.min(report)));
        false
    }

    fn has_room_for(&mut self, kind: Kind, cause: Cause, now: Instant) -> bool {
        if self.allowances.len() < MOST || self.allowances.contains_key(&(kind, cause)) {
            return true;
        }
        // In a flood of users, do not search all allowances for each of them.
        if self.swept.is_some_and(|swept| now < swept + SWEEP) {
            return false;
        }
        self.swept = Some(now);
        self.allowances.retain(|(kind, _), allowance| !allowance.is_untouched(*kind, now));
        self.allowances.len() < MOST
    }

    /// When the next report is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The reports that are due now; with `all`, those that are not due yet as well.
    pub(super) fn take(&mut self, now: Instant, all: bool) -> Vec<LeftOut> {
        let mut taken = Vec::new();
        for ((kind, cause), allowance) in &mut self.allowances {
            if allowance.report.is_some_and(|report| all || report <= now) {
                let events = std::mem::take(&mut allowance.left_out);
                allowance.report = None;
                taken.push(LeftOut { kind: *kind, cause: *cause, events });
            }
        }
        self.due = self.allowances.values().filter_map(|allowance| allowance.report).min();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(limits: &mut EventLimits, kind: Kind, cause: Cause, times: usize, now: Instant) -> usize {
        (0..times).filter(|_| limits.allow(kind, cause, now)).count()
    }

    #[test]
    fn a_flood_by_one_user_is_bounded_and_counted_and_affects_nobody_else() {
        let (alice, mallory) = (Cause::User(1), Cause::User(2));
        let mut limits = EventLimits::default();
        let start = Instant::now();
        assert_eq!(told(&mut limits, Kind::Refused, mallory, 10_000, start), 100);
        assert_eq!(told(&mut limits, Kind::Refused, alice, 5, start), 5);
        assert_eq!(told(&mut limits, Kind::Death, mallory, 5, start), 5);
        assert_eq!(told(&mut limits, Kind::Own, Cause::Server, 5, start), 5);
        assert_eq!(limits.due(), Some(start + REPORT));
        assert_eq!(limits.take(start, false), []);
        let left_out = LeftOut { kind: Kind::Refused, cause: mallory, events: 9_900 };
        assert_eq!(limits.take(start + REPORT, false), [left_out]);
        assert_eq!((limits.due(), limits.take(start + REPORT, true)), (None, vec![]));
        // Two a second come back, and never more than the allowance.
        let later = start + Duration::from_secs(10);
        assert_eq!(told(&mut limits, Kind::Refused, mallory, 1000, later), 20);
        let hours = start + Duration::from_secs(1_000_000);
        assert_eq!(told(&mut limits, Kind::Refused, mallory, 1000, hours), 100);
        assert_eq!(limits.take(hours, true)[0].events, 980 + 900);
    }

    #[test]
    fn memory_is_bounded_however_many_users_there_are() {
        let mut limits = EventLimits::default();
        let start = Instant::now();
        let all: usize =
            (0..5000).map(|uid| told(&mut limits, Kind::Refused, Cause::User(uid), 2, start)).sum();
        assert!(limits.allowances.len() <= MOST + 1, "{}", limits.allowances.len());
        assert_eq!(all, 2 * MOST + 100, "those beyond share one allowance");
        // Users that were quiet make room.
        let later = start + Duration::from_secs(100);
        assert_eq!(told(&mut limits, Kind::Refused, Cause::User(9999), 1000, later), 100);
    }
}
