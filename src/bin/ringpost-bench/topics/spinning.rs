//! Readers that spin: publishing to one, there and back over two topics, and what many subscriptions cost.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor::Blocks;
use ringpost::cli::place::this_program;
use ringpost::cli::stats::{Beside, Spread, tenths};
use ringpost::{Publisher, Subscriber, WaitStrategy};
use serde::Serialize;

use super::partner::{BACK, FORTH, PATIENCE, Partner, Role, SIZE, Task, number, sample, subscribe};
use super::words::TAKEN;
use crate::calls::{IN_BLOCK, WARM};
use crate::measurement::Session;
use crate::one_way::{Between, OneWayRing};
use crate::setup::{DEFAULT_RING_SIZE, Plan, Setup, ways};

/// Publishing to one reader that is awake.
#[derive(Serialize)]
pub struct Publishing {
    pub block_samples: u64,
    /// Compared with the ring of one reader, one block at a time, through as many bytes.
    #[serde(flatten)]
    pub blocks: Beside,
    /// The part of the samples that the reader received.
    pub received: Spread,
}

/// A sample and an answer, over a topic each.
#[derive(Serialize)]
pub struct Trips {
    pub block_trips: u32,
    /// Compared with the floor.
    #[serde(flatten)]
    pub blocks: Beside,
}

/// What subscriptions cost the publisher while nobody reads.
#[derive(Serialize)]
pub struct Cost {
    pub subscriptions: u32,
    pub block_samples: u64,
    /// With so many that never sleep, compared with one.
    #[serde(flatten)]
    pub blocks: Beside,
    /// With so many that may sleep, and do not now.
    pub may_sleep_ns: Spread,
    /// How much more that is than with one that never sleeps.
    pub may_sleep_more_ns: Spread,
}

/// Publishes to `PREFIX/forth`.
pub fn publisher(setup: &mut Setup, prefix: &str) -> Result<Publisher, Failure> {
    let published = setup.client.publish(format!("{prefix}/{FORTH}").as_str()).map_err(Failure::failed)?;
    let closer = published.closer();
    setup.end_waits_on_signals(move || closer.close());
    Ok(published)
}

/// Waits until so many subscriptions are attached.
pub fn wait_for_readers(publisher: &Publisher, count: u32) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    while publisher.subscribers() < count as usize {
        if Instant::now() > deadline {
            return Err(Failure::failed(format!(
                "{} of {count} subscriptions were attached within {} seconds",
                publisher.subscribers(),
                PATIENCE.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// This process's ends of two topics, and the process at the other ends.
pub struct Ends {
    pub publisher: Publisher,
    pub subscriber: Subscriber,
    pub partner: Partner,
    next: u64,
}

impl Ends {
    pub fn open(setup: &mut Setup, prefix: &str) -> Result<Ends, Failure> {
        let publisher = publisher(setup, prefix)?;
        let partner = Partner::start(setup, Role::Awake, prefix, 1)?;
        let subscriber = subscribe(&mut setup.client, prefix, BACK, WaitStrategy::Spin)?;
        wait_for_readers(&publisher, 1)?;
        let closers = [publisher.closer(), publisher.closer(), subscriber.closer(), subscriber.closer()];
        let [one, two, three, four] = closers;
        // Else this process could wait for an answer for ever.
        partner.process.when_it_ends(move || [one, three].iter().for_each(|end| end.close()))?;
        setup.end_waits_on_signals(move || [two, four].iter().for_each(|end| end.close()));
        Ok(Ends { publisher, subscriber, partner, next: 0 })
    }

    /// Publishes in pieces of `each`, while the reader takes what it can: the nanoseconds of one in each
    /// piece, and the part that was received.
    pub fn publish(&mut self, pieces: u32, each: u64) -> Result<(Vec<f64>, f64), Failure> {
        let Ends { publisher, partner, next, .. } = self;
        let count = u64::from(pieces) * each;
        let times = partner.turn(Task::Take, *next + count, |_| {
            let mut piece = || {
                let start = Instant::now();
                for _ in 0..each {
                    *next += 1;
                    publisher.send(&sample(*next)).map_err(Failure::failed)?;
                }
                Ok(start.elapsed().as_nanos() as f64 / each as f64)
            };
            (0..pieces).map(|_| piece()).collect::<Result<Vec<_>, Failure>>()
        })?;
        let taken = partner.words.word64(TAKEN).load(Ordering::Relaxed);
        Ok((times, taken as f64 / count as f64))
    }

    /// Makes round trips in pieces of `each`, after some that are not timed: the nanoseconds of one in each
    /// piece.
    pub fn trips(&mut self, pieces: u32, each: u32) -> Result<Vec<f64>, Failure> {
        let Ends { publisher, subscriber, partner, next } = self;
        let count = u64::from(WARM) + u64::from(pieces) * u64::from(each);
        partner.turn(Task::Answer, count, |_| {
            let mut trip = || -> Outcome {
                *next += 1;
                publisher.send(&sample(*next)).map_err(Failure::failed)?;
                let answer = subscriber.recv().map_err(Failure::failed)?;
                match number(answer.payload())? == *next {
                    true => Ok(()),
                    false => {
                        Err(Failure::failed("an answer is another one's, so the measurement is invalid"))
                    }
                }
            };
            (0..WARM).try_for_each(|_| trip())?;
            (0..pieces)
                .map(|_| {
                    let start = Instant::now();
                    (0..each).try_for_each(|_| trip())?;
                    Ok(start.elapsed().as_nanos() as f64 / f64::from(each))
                })
                .collect()
        })
    }
}

pub fn publishing(session: &Session, count: u64) -> Result<Publishing, Failure> {
    session.with(plan(session), |setup| {
        let mut ends = Ends::open(setup, "publish")?;
        let mut ring = OneWayRing::start(
            Between::Processes,
            DEFAULT_RING_SIZE,
            WaitStrategy::Spin,
            session.about.pin,
            &this_program()?,
        )?;
        let breaker = ring.breaker();
        let (forth, back) = (ends.publisher.closer(), ends.subscriber.closer());
        setup.end_waits_on_signals(move || {
            breaker();
            forth.close();
            back.close();
        });
        let (mut ours, mut floor, mut received) = (Vec::new(), Vec::new(), Vec::new());
        for block in setup.blocks() {
            setup.begin(block, "publishing to one reader")?;
            ring.block(&sample(1), count / 4 + 1, 1)?;
            floor.push(ring.block(&sample(1), count, 1)?);
            ends.publish(1, count / 4 + 1)?;
            let (times, part) = ends.publish(1, count)?;
            ours.extend(times);
            received.push(part);
        }
        let blocks = Beside::of(&ours, &floor);
        Ok(Publishing { block_samples: count, blocks, received: Spread::of_ratios(&received) })
    })
}

pub fn trips(session: &Session) -> Result<Trips, Failure> {
    session.with(plan(session), |setup| {
        let mut ends = Ends::open(setup, "trips")?;
        let (mut floor, mut ours) = (Blocks::new(ways(setup.floor_pins())), Vec::new());
        for block in setup.blocks() {
            setup.begin(block, "there and back")?;
            setup.floor(&mut floor, WARM, IN_BLOCK)?;
            ours.extend(ends.trips(1, IN_BLOCK)?);
        }
        Ok(Trips { block_trips: IN_BLOCK, blocks: Beside::of(&ours, floor.faster().1) })
    })
}

/// What publishing costs with subscriptions that nobody reads.
pub fn cost(session: &Session, subscriptions: u32, count: u64) -> Result<Cost, Failure> {
    session.with(plan(session), |setup| {
        let kinds = [
            ("one", Role::Never, 1),
            ("many", Role::Never, subscriptions),
            ("perhaps", Role::Perhaps, subscriptions),
        ];
        let mut publishers = Vec::new();
        for (prefix, role, many) in kinds {
            let publisher = publisher(setup, prefix)?;
            let partner = Partner::start(setup, role, prefix, many)?;
            wait_for_readers(&publisher, many)?;
            publishers.push((publisher, partner, Vec::new()));
        }
        for block in setup.blocks() {
            setup.begin(block, "many subscriptions")?;
            // Another one is first in turn.
            let first = block as usize % publishers.len();
            for step in 0..publishers.len() {
                let at = (first + step) % publishers.len();
                let (publisher, partner, times) = &mut publishers[at];
                partner.process.check()?;
                publish_unread(publisher, count / 4 + 1)?;
                times.push(publish_unread(publisher, count)?);
            }
        }
        let [one, many, perhaps] = [0, 1, 2].map(|at| &publishers[at].2);
        let more: Vec<f64> = perhaps.iter().zip(one).map(|(more, one)| tenths(more - one)).collect();
        Ok(Cost {
            subscriptions,
            block_samples: count,
            blocks: Beside::of(many, one),
            may_sleep_ns: Spread::of(perhaps),
            may_sleep_more_ns: Spread::of(&more),
        })
    })
}

/// Publishes so many samples: the nanoseconds for each.
pub fn publish_unread(publisher: &mut Publisher, count: u64) -> Result<f64, Failure> {
    let start = Instant::now();
    for number in 0..count {
        publisher.send(&sample(number)).map_err(Failure::failed)?;
    }
    Ok(start.elapsed().as_nanos() as f64 / count as f64)
}

/// The plan of a setup whose server sleeps soon.
pub fn plan(session: &Session) -> Plan {
    Plan { wait: WaitStrategy::Adaptive, others: super::MOST, ..session.plan(SIZE) }
}
