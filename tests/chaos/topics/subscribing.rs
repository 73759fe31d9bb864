//! A subscription: what it receives, and the check of each sample.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringpost::{
    Caller, CloseReason, Closer, Key, Policy, SampleError, SampleView, SubscribeError, Subscriber,
};

use super::super::history::{Kind, Op, Outcome, now};
use super::super::looping::Looping;
use super::super::plan::Waits;
use super::super::random::Random;
use super::content;
use super::order::Order;
use super::publishing::AGAIN;
use super::{ASKING, Topical, deadline};

const PATTERNS: [&str; 5] = ["chaos/**", "chaos/*", "chaos/*/c", "chaos/a", "**"];

/// The numbers of this process's subscriptions.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// The subscription has ended.
pub struct Over;

pub struct Sub<'a> {
    topical: &'a Topical,
    subscriber: Subscriber,
    looping: Option<Looping<'a>>,
    number: u64,
    policy: Policy,
    /// Whether its client registers again.
    again: bool,
    order: Order,
}

/// What a look found.
enum Found {
    Nothing,
    Sample,
    /// Something about one publisher.
    Told,
    Over,
}

impl<'a> Sub<'a> {
    pub fn begin(
        topical: &'a Topical,
        caller: &mut Caller,
        waits: Waits,
        again: bool,
        random: &mut Random,
    ) -> Result<Option<Sub<'a>>, Over> {
        let pattern = PATTERNS[random.below(PATTERNS.len() as u64) as usize];
        let policy = [Policy::Lossy, Policy::Latest, Policy::Reliable][random.below(3) as usize];
        let history = if random.once_in(4) { random.below(20) } else { 0 };
        let mut options = Subscriber::options().policy(policy).history(history).timeout(ASKING);
        if waits != Waits::Inside {
            options = options.arms();
        }
        topical.history.begin(0, Op::Subscribe, deadline(2 * ASKING));
        let subscribed = options.subscribe(caller, pattern);
        let since = now();
        let (outcome, ended) = match &subscribed {
            Ok(_) => (Outcome::Ok, Ok(())),
            Err(SubscribeError::NotReliable { .. } | SubscribeError::Refused(_)) => {
                (Outcome::Refused, Ok(()))
            }
            Err(SubscribeError::Quota(_)) => (Outcome::Quota, Ok(())),
            Err(SubscribeError::TimedOut) => (Outcome::TimedOut, Ok(())),
            Err(SubscribeError::Disconnected(_)) => (Outcome::Disconnected, Err(Over)),
            Err(SubscribeError::Server(error)) => (topical.outcome(error), Ok(())),
            Err(SubscribeError::System { .. }) => (Outcome::System, Ok(())),
            Err(error) => topical.history.violation(0, Op::Subscribe, &format!("{error:?}")),
        };
        topical.history.end(0, Op::Subscribe, outcome, deadline(2 * ASKING));
        ended?;
        let Ok(mut subscriber) = subscribed else { return Ok(None) };
        let looping = Looping::of(&topical.history, 0, &mut subscriber, waits);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        // A client that registers again subscribes again at another server, after some have published there.
        let order = Order::new(policy, since, again || history > 0 || topical.history.is_scarce());
        Ok(Some(Sub { topical, subscriber, looping, number, policy, again, order }))
    }

    pub fn closer(&self) -> Closer {
        self.subscriber.closer()
    }

    fn wrong(&self, what: &str) -> ! {
        let what = format!("{:?} subscription {}: {what}", self.policy, self.number);
        self.topical.history.violation(0, Op::TakeSample, &what)
    }

    /// Looks once, or waits until then. `tells`: the harness is told of each sample.
    fn take(&mut self, random: &mut Random, until: Option<Instant>, waits: bool, tells: bool) -> Found {
        let found = if let (true, Some(looping)) = (waits, &self.looping) {
            let look = |sub: &mut Subscriber| match sub.try_recv() {
                Ok(None) => None,
                Ok(Some(sample)) => Some(Ok(sample.to_owned())),
                Err(error) => Some(Err(error)),
            };
            match looping.wait_for(&mut self.subscriber, until, look) {
                Ok(found) => found.map(Some),
                Err(None) => Err(SampleError::TimedOut),
                Err(Some(reason)) => Err(SampleError::Disconnected(reason)),
            }
        } else if !waits && random.once_in(6) {
            return self.take_in_place();
        } else if !waits {
            self.subscriber.try_recv().map(|found| found.map(|sample| sample.to_owned()))
        } else {
            let received = match until {
                Some(until) => self.subscriber.recv_timeout(until),
                None => self.subscriber.recv(),
            };
            received.map(|sample| Some(sample.to_owned()))
        };
        match found {
            Ok(None) | Err(SampleError::TimedOut) => Found::Nothing,
            Ok(Some(sample)) => {
                let said = content::read(sample.payload()).unwrap_or_else(|wrong| self.wrong(&wrong));
                let key = sample.publisher().key;
                if self.topical.history.is_scarce() {
                    self.order.may_begin_anywhere();
                }
                if let Err(wrong) = self.order.next(&said, sample.sequence(), sample.missed(), key) {
                    self.wrong(&wrong);
                }
                if tells {
                    self.tell(said.publisher, said.sequence);
                }
                Found::Sample
            }
            Err(error) => self.told(error),
        }
    }

    fn told(&mut self, error: SampleError) -> Found {
        match error {
            SampleError::Evicted { publisher } | SampleError::NotReliable { publisher }
                if self.policy == Policy::Reliable =>
            {
                self.gives_up(publisher.key, publisher.pid);
                Found::Told
            }
            SampleError::Disconnected(
                CloseReason::Local
                | CloseReason::Died
                | CloseReason::Shutdown
                | CloseReason::GaveUp
                | CloseReason::Unregistered,
            ) => Found::Over,
            error => self.wrong(&format!("{error:?}")),
        }
    }

    /// It need not have what this publisher publishes. The harness forgets what it was told of it.
    fn gives_up(&mut self, key: Key, pid: u32) {
        for publisher in self.order.gives_up(key, pid) {
            self.tell(publisher, u64::MAX);
        }
    }

    fn take_in_place(&mut self) -> Found {
        let read = |view: SampleView<'_>| {
            let mut bytes = vec![0; view.len()];
            let copied = view.copy_to(0, &mut bytes);
            let told = (view.sequence(), view.missed(), *view.publisher());
            (bytes, told, copied.is_ok() && view.finish().is_ok())
        };
        let found = self.subscriber.try_recv_ref().map(|found| found.map(read));
        let (bytes, (sequence, missed, publisher), whole) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return Found::Nothing,
            Err(error) => return self.told(error),
        };
        if !whole {
            if self.policy == Policy::Reliable {
                self.wrong(&format!("sample {sequence} was overwritten while it was read"));
            }
            self.order.overrun(publisher.key, publisher.pid);
            return Found::Sample;
        }
        let said = content::read(&bytes).unwrap_or_else(|wrong| self.wrong(&wrong));
        match self.order.next(&said, sequence, missed, publisher.key) {
            Ok(()) => Found::Sample,
            Err(wrong) => self.wrong(&wrong),
        }
    }

    /// Reads what is there, or waits for something, at random.
    pub fn step(&mut self, random: &mut Random) -> Result<(), Over> {
        let (waits, most) = (random.once_in(3), 1 + random.below(60));
        let time = Duration::from_micros(random.below(8000));
        self.topical.history.begin(0, Op::TakeSample, deadline(time));
        let until = Instant::now() + time;
        let mut over = Ok(());
        for _ in 0..most {
            match self.take(random, Some(until), waits, false) {
                Found::Sample | Found::Told => {}
                Found::Nothing => break,
                Found::Over => {
                    over = Err(Over);
                    break;
                }
            }
            if waits && Instant::now() >= until {
                break;
            }
        }
        self.topical.history.end(0, Op::TakeSample, Outcome::Ok, deadline(time));
        over
    }

    /// Tells the last sample of a publisher that it has received. A client that does not register again
    /// cannot follow one that does to its next server.
    fn tell(&self, publisher: u64, last: u64) {
        if publisher & AGAIN != 0 && !self.again {
            return;
        }
        let words = [0, publisher, last, self.number, 0, 0];
        self.topical.history.put(Kind::Seen, 1, Op::TakeSample, Outcome::Ok, words);
    }

    /// Reads until it is closed, and tells all that it has received.
    pub fn read_on(mut self, mut random: Random) {
        for (publisher, last) in self.order.lasts() {
            self.tell(publisher, last);
        }
        loop {
            if let Found::Over = self.take(&mut random, None, true, true) {
                return self.end();
            }
        }
    }

    /// Ends it: the harness expects nothing of it any more.
    pub fn end(self) {
        let words = [0, 0, 0, self.number, 0, 0];
        self.topical.history.put(Kind::Unsubscribed, 1, Op::CloseTopic, Outcome::Ok, words);
        drop(self.looping);
        drop(self.subscriber);
    }
}
