//! Honest parties that work during an attack: a publisher with a reliable and a lossy subscriber, whose
//! samples are verified and timed; and victims, which also subscribe to what the attacker publishes.

use crate::common::payload::content;
use crate::common::{Begun, Bus, LIMIT, begin, eventually};
use crate::well_behaved::median;
use ringpost::{CloseReason, Closer, Policy, Publisher, Sample, SampleError, Subscriber, WaitStrategy};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How the threads that receive samples are called.
pub const THREADS: &str = "tv-";

/// Of all that the attacker can subscribe to.
const TOPIC: &str = "open/honest";
const NAME: &str = "publisher";

/// How long the honest publisher waits for a reliable reader. Long enough for an honest one on a busy
/// machine.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The longest sample.
const LONGEST: usize = 600;

/// A sample: its number, and bytes that follow from it.
fn sample(number: u64) -> Vec<u8> {
    [&number.to_le_bytes()[..], &content(number, LONGEST)].concat()
}

/// Checks a sample of the honest publisher, and returns its number.
fn check(sample_in: &Sample<'_>) -> u64 {
    let number = u64::from_le_bytes(sample_in.payload()[..8].try_into().unwrap());
    assert!(sample_in.payload() == sample(number), "sample {number} is damaged");
    assert_eq!((sample_in.topic(), sample_in.publisher().name.as_str()), (TOPIC, NAME));
    assert_eq!(sample_in.sequence(), number, "it has another number");
    number
}

/// The order of the samples of one publisher.
#[derive(Debug, Default)]
struct Order {
    last: u64,
    received: u64,
    missed: u64,
}

impl Order {
    fn next(&mut self, sample: &Sample<'_>) {
        let number = check(sample);
        if self.last > 0 {
            assert_eq!(number, self.last + sample.missed() + 1, "{self:?}: a gap that is not counted");
        }
        // A reader that begins late may miss the first ones.
        self.missed += sample.missed();
        (self.last, self.received) = (number, self.received + 1);
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    rest: AtomicBool,
    rests: AtomicBool,
    slice: AtomicUsize,
    /// How many subscriptions the publisher has.
    attached: AtomicUsize,
    /// What the reliable reader has received, and what the other one has.
    received: [AtomicU64; 2],
    /// How many subscriptions the publisher has given up.
    evicted: AtomicU64,
}

/// A publisher and its two subscribers.
pub struct Flow {
    shared: Arc<Shared>,
    publishing: Begun<(Vec<u32>, Vec<String>, u64)>,
    reading: [(Begun<Order>, Closer); 2],
}

fn name_thread(name: &str) {
    rustix::thread::set_name(&std::ffi::CString::new(format!("{THREADS}{name}")).unwrap()).unwrap();
}

impl Flow {
    pub fn start(bus: &Bus, wait: WaitStrategy) -> Flow {
        let shared = Arc::new(Shared::default());
        let mut publisher = bus.client(NAME);
        let prices = Publisher::options().ring_size(1 << 16).reliable(PATIENCE).wait(wait);
        let prices = prices.publish(publisher.caller(), TOPIC).unwrap();
        let readers = [(0, "reliable", Policy::Reliable), (1, "lossy", Policy::Lossy)];
        let reading = readers.map(|(which, name, policy)| {
            let mut client = bus.client(name);
            let options = Subscriber::options().policy(policy).wait(wait);
            let sub = options.subscribe(client.caller(), TOPIC).unwrap();
            let (closer, told) = (sub.closer(), Arc::clone(&shared));
            let read = begin(move || {
                name_thread(name);
                let order = read(sub, &told.received[which], &told.stop);
                client.unregister().unwrap();
                order
            });
            (read, closer)
        });
        let told = Arc::clone(&shared);
        let publishing = begin(move || {
            let done = publish(prices, &told);
            publisher.unregister().unwrap();
            done
        });
        Flow { shared, publishing, reading }
    }

    /// Starts a new slice, whose samples are timed separately.
    pub fn next_slice(&self) {
        self.shared.slice.fetch_add(1, Ordering::Relaxed);
    }

    /// Checks that samples still come now.
    pub fn goes_on(&self) {
        let received = self.shared.received[0].load(Ordering::Relaxed);
        eventually("the honest publisher's samples are received", || {
            let over = self.publishing.is_over() || self.reading.iter().any(|(thread, _)| thread.is_over());
            self.shared.received[0].load(Ordering::Relaxed) > received + 10 || over
        });
    }

    /// Waits until the publisher has so many subscriptions.
    pub fn has_subscriptions(&self, number: usize) {
        eventually("the publisher has its subscriptions", || {
            self.shared.attached.load(Ordering::Relaxed) == number || self.publishing.is_over()
        });
    }

    /// How often the publisher has given somebody up, so far.
    pub fn evicted(&self) -> u64 {
        self.shared.evicted.load(Ordering::Relaxed)
    }

    pub fn rest(&self) {
        self.shared.rest.store(true, Ordering::Relaxed);
        eventually("the publisher rests", || self.shared.rests.load(Ordering::Relaxed));
    }

    pub fn work(&self) {
        self.shared.rest.store(false, Ordering::Relaxed);
    }

    /// Ends the work and checks that nothing was lost, and that nobody but the attacker was given up. Returns
    /// the median of each slice, in nanoseconds (0 if it had none), and how often the attacker was given up.
    pub fn end(self, attack: &str) -> (Vec<u32>, u64) {
        self.goes_on();
        self.next_slice();
        self.shared.stop.store(true, Ordering::Relaxed);
        let (medians, evicted, sent) = self.publishing.end("the honest publisher");
        assert!(evicted.iter().all(|name| name == attack), "given up: {evicted:?}");
        for (received, (reading, closer)) in self.shared.received.iter().zip(&self.reading) {
            let has_all = || received.load(Ordering::Relaxed) == sent || reading.is_over();
            eventually("an honest subscriber has the last sample", has_all);
            closer.close();
        }
        let [reliable, lossy] = self.reading.map(|(reading, _)| reading.end("an honest subscriber"));
        assert_eq!((reliable.last, reliable.received, reliable.missed), (sent, sent, 0));
        assert_eq!((lossy.last, lossy.received + lossy.missed), (sent, sent));
        (medians, evicted.len() as u64)
    }
}

/// Publishes until it is to stop. Each sample is timed until the reliable reader has it.
fn publish(mut prices: Publisher, told: &Shared) -> (Vec<u32>, Vec<String>, u64) {
    let (mut medians, mut took, mut evicted) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1_u64.. {
        let slice = told.slice.load(Ordering::Relaxed);
        if slice > medians.len() {
            medians.push(median(&mut took));
            medians.resize(slice, 0);
            took.clear();
        }
        while told.rest.load(Ordering::Relaxed) && !told.stop.load(Ordering::Relaxed) {
            told.rests.store(true, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(1));
        }
        told.rests.store(false, Ordering::Relaxed);
        told.attached.store(prices.subscribers(), Ordering::Relaxed);
        let payload = sample(number);
        let began = Instant::now();
        // In place, or all at once.
        if number.is_multiple_of(3) {
            let mut grant = prices.grant(payload.len()).unwrap();
            std::io::Write::write_all(&mut grant, &payload).unwrap();
            grant.commit();
        } else {
            prices.send_timeout(&payload, LIMIT).unwrap();
        }
        while told.received[0].load(Ordering::Relaxed) < number {
            assert!(began.elapsed() < LIMIT, "sample {number} does not come");
            thread::yield_now();
        }
        took.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
        evicted.extend(prices.evictions().into_iter().map(|gone| gone.subscriber.name.to_string()));
        told.evicted.store(evicted.len() as u64, Ordering::Relaxed);
        if told.stop.load(Ordering::Relaxed) {
            evicted.extend(prices.evictions().into_iter().map(|gone| gone.subscriber.name.to_string()));
            drop(prices);
            return (medians, evicted, number);
        }
    }
    unreachable!()
}

/// Reads until its subscription is closed.
fn read(mut sub: Subscriber, progress: &AtomicU64, stop: &AtomicBool) -> Order {
    let mut order = Order::default();
    loop {
        match sub.recv() {
            Ok(sample) => order.next(&sample),
            Err(SampleError::Disconnected(CloseReason::Local)) if stop.load(Ordering::Relaxed) => {
                return order;
            }
            Err(error) => panic!("{error}"),
        }
        progress.store(order.last, Ordering::Relaxed);
    }
}

/// What came to a victim.
#[derive(Debug, Default)]
pub struct Suffered {
    honest: u64,
    missed: u64,
    samples: u64,
    /// Of the attacker, and the last one.
    pub faults: u64,
    last: String,
}

/// Subscribes to everything, so also to what the attacker publishes.
pub struct Victim {
    stop: Arc<AtomicBool>,
    faults: Arc<AtomicU64>,
    reading: Begun<Suffered>,
    closer: Closer,
}

impl Victim {
    pub fn start(bus: &Bus, attack: &str, policy: Policy, wait: WaitStrategy) -> Victim {
        let stop = Arc::new(AtomicBool::new(false));
        let mut client = bus.client(&format!("victim {policy:?}"));
        let options = Subscriber::options().policy(policy).wait(wait);
        let sub = options.subscribe(client.caller(), "open/**").unwrap();
        let (closer, told, attack) = (sub.closer(), Arc::clone(&stop), attack.to_owned());
        let faults = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&faults);
        let reading = begin(move || {
            name_thread("victim");
            let suffered = suffer(sub, policy, &attack, &told, &counted);
            client.unregister().unwrap();
            suffered
        });
        Victim { stop, faults, reading, closer }
    }

    /// How often it has found a rule broken, so far.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    pub fn end(self) -> Suffered {
        self.stop.store(true, Ordering::Relaxed);
        self.closer.close();
        self.reading.end("a victim")
    }
}

fn suffer(
    mut sub: Subscriber,
    policy: Policy,
    attack: &str,
    told: &AtomicBool,
    faults: &AtomicU64,
) -> Suffered {
    let (mut suffered, mut order) = (Suffered::default(), Order::default());
    let of_the_attacker = |publisher: &ringpost::Peer, what: &str| {
        assert_eq!(publisher.name.as_str(), attack, "{policy:?}: {what}");
    };
    for turn in 0_u64.. {
        // Now and then in place.
        if turn.is_multiple_of(5)
            && let Ok(Some(view)) = sub.try_recv_ref()
        {
            let mut bytes = vec![0; view.len()];
            let copied = view.copy_to(0, &mut bytes);
            let (sequence, missed) = (view.sequence(), view.missed());
            if view.publisher().name.as_str() == NAME {
                if order.last > 0 {
                    assert_eq!(sequence, order.last + missed + 1, "a gap that is not counted");
                }
                order.last = sequence;
                order.received += 1;
                order.missed += missed;
                let whole = copied.is_ok() && view.finish().is_ok();
                assert!(!whole || bytes == sample(sequence), "sample {sequence} is damaged");
            } else {
                of_the_attacker(view.publisher(), "a sample");
                suffered.samples += 1;
            }
            continue;
        }
        match sub.recv() {
            Ok(sample) if sample.publisher().name.as_str() == NAME => order.next(&sample),
            Ok(sample) => {
                of_the_attacker(sample.publisher(), "a sample");
                suffered.samples += 1;
            }
            Err(
                error @ (SampleError::Violation { publisher, .. }
                | SampleError::Evicted { publisher }
                | SampleError::NotReliable { publisher }),
            ) => {
                suffered.last = error.to_string();
                of_the_attacker(&publisher, &suffered.last);
                suffered.faults += 1;
                faults.fetch_add(1, Ordering::Relaxed);
            }
            Err(SampleError::Disconnected(CloseReason::Local)) if told.load(Ordering::Relaxed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    (suffered.honest, suffered.missed) = (order.received, order.missed);
    assert!(suffered.honest > 0, "nothing of the honest publisher came");
    suffered
}
