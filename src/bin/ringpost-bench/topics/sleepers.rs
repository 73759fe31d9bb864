//! Readers that sleep: how long until the last of many has a sample, beside bare futexes, and beside as many
//! acknowledged sends. Each sleeper is a thread of the partner process.

use std::sync::atomic::Ordering;
use std::thread::Builder;
use std::time::{Duration, Instant};

use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::stats::{Beside, quantile};
use ringpost::testing::futex_wait;
use ringpost::{Key, Name, RecvError, SampleError, WaitStrategy};
use serde::Serialize;

use super::partner::{FORTH, Partner, PartnerOptions, Role, register, rest, sample, subscribe};
use super::spinning::{plan, publisher, wait_for_readers};
use super::words::{END, WOKEN, Words};
use crate::measurement::Session;
use crate::setup::Setup;

/// From the publication until the last of many that sleep has it.
#[derive(Serialize)]
pub struct Woken {
    pub subscribers: u32,
    pub block_samples: u32,
    #[serde(flatten)]
    pub blocks: Beside,
    /// The same samples beside as many bare futex wakes, where `blocks` is beside something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bare: Option<Beside>,
}

/// Before each sample, so that all fall asleep: they share a CPU.
fn fall_asleep(sleepers: u32) {
    std::thread::sleep(Duration::from_micros(300) + Duration::from_micros(15) * sleepers);
    // The CPU of this thread may have slept, too.
    let awake = Instant::now();
    while awake.elapsed() < Duration::from_micros(20) {
        std::hint::spin_loop();
    }
}

/// The median time of `tell` until so many have said that they are awake.
fn block(
    partner: &mut Partner,
    sleepers: u32,
    count: u32,
    mut tell: impl FnMut() -> Outcome,
) -> Result<f64, Failure> {
    let mut times = Vec::new();
    let mut due = partner.words.word64(WOKEN).load(Ordering::Acquire);
    for _ in 0..count {
        fall_asleep(sleepers);
        due += u64::from(sleepers);
        let start = Instant::now();
        tell()?;
        partner.wait_for(WOKEN, due)?;
        times.push(start.elapsed().as_nanos() as f64);
    }
    Ok(quantile(&times, 0.5))
}

/// The same of bare futexes.
fn bare_block(bare: &mut Partner, sleepers: u32, count: u32) -> Result<f64, Failure> {
    let words = bare.words.clone();
    block(bare, sleepers, count, || {
        let value = words.sleeper(0).load(Ordering::Relaxed).wrapping_add(1);
        words.wake(sleepers, value);
        Ok(())
    })
}

/// One sample to so many parked subscribers, beside as many futex wakes.
pub fn wakes(session: &Session, subscribers: u32, count: u32) -> Result<Woken, Failure> {
    session.with(plan(session), |setup| {
        let mut publisher = publisher(setup, "wakes")?;
        let mut asleep = Partner::start(setup, Role::Asleep, "wakes", subscribers)?;
        wait_for_readers(&publisher, subscribers)?;
        let mut bare = Partner::start(setup, Role::Bare, "bare", subscribers)?;
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        for number in setup.blocks() {
            setup.begin(number, "parked subscribers")?;
            floor.push(bare_block(&mut bare, subscribers, count)?);
            ours.push(block(&mut asleep, subscribers, count, || {
                publisher.send(&sample(1)).map_err(Failure::failed)
            })?);
        }
        let blocks = Beside::of(&ours, &floor);
        Ok(Woken { subscribers, block_samples: count, blocks, bare: None })
    })
}

/// One sample to so many parked subscribers, beside as many acknowledged sends.
pub fn sends(session: &Session, subscribers: u32, count: u32) -> Result<Woken, Failure> {
    session.with(plan(session), |setup| {
        let mut publisher = publisher(setup, "sends")?;
        let mut asleep = Partner::start(setup, Role::Asleep, "sends", subscribers)?;
        wait_for_readers(&publisher, subscribers)?;
        let mut inboxes = Partner::start(setup, Role::Inboxes, "inbox", subscribers)?;
        let keys = keys(setup, subscribers)?;
        let mut bare = Partner::start(setup, Role::Bare, "bare", subscribers)?;
        let (mut ours, mut floor, mut least) = (Vec::new(), Vec::new(), Vec::new());
        for number in setup.blocks() {
            setup.begin(number, "beside acknowledged sends")?;
            least.push(bare_block(&mut bare, subscribers, count)?);
            floor.push(block(&mut inboxes, subscribers, count, || {
                keys.iter().try_for_each(|&key| setup.client.send(key, &sample(1)).map_err(Failure::failed))
            })?);
            ours.push(block(&mut asleep, subscribers, count, || {
                publisher.send(&sample(1)).map_err(Failure::failed)
            })?);
        }
        let (blocks, bare) = (Beside::of(&ours, &floor), Some(Beside::of(&ours, &least)));
        Ok(Woken { subscribers, block_samples: count, blocks, bare })
    })
}

fn keys(setup: &mut Setup, count: u32) -> Result<Vec<Key>, Failure> {
    let key = |number: u32| {
        let name =
            Name::try_from(format!("bench-inboxes-inbox{number}").as_str()).map_err(Failure::failed)?;
        let found = setup.client.look_up(name).map_err(Failure::failed)?;
        found.ok_or_else(|| Failure::failed("a receiving client is not registered"))
    };
    (0..count).map(key).collect()
}

// ---- the partner's side

/// Starts a thread for each sleeper, and rests. A thread that fails ends the process, so that nobody waits
/// for it.
fn threads<T: Send + 'static>(
    all: Vec<T>,
    body: impl Fn(u32, T) -> Outcome + Clone + Send + 'static,
) -> Outcome {
    for (number, one) in (0..).zip(all) {
        let body = body.clone();
        let run = move || {
            if let Err(why) = body(number, one) {
                eprintln!("ringpost-bench: {why:?}");
                std::process::exit(1);
            }
        };
        Builder::new().name("sleeper".into()).spawn(run).map_err(Failure::failed)?;
    }
    rest()
}

pub fn subscriptions(options: &PartnerOptions, words: &Words) -> Outcome {
    let mut client = register(options, "")?;
    let all = (0..options.count)
        .map(|_| subscribe(&mut client, &options.prefix, FORTH, WaitStrategy::Park))
        .collect::<Result<Vec<_>, _>>()?;
    let words = words.clone();
    threads(all, move |_, mut subscriber| {
        loop {
            match subscriber.recv() {
                Ok(_) => words.count_woken(),
                Err(SampleError::Disconnected(_)) => return Ok(()),
                Err(error) => return Err(Failure::failed(error)),
            }
        }
    })
}

pub fn bare(options: &PartnerOptions, words: &Words) -> Outcome {
    let words = words.clone();
    threads(vec![(); options.count as usize], move |number, ()| {
        let word = words.sleeper(number);
        let mut last = 0;
        while last != END {
            let value = word.load(Ordering::Acquire);
            if value == last {
                futex_wait(word, last, None);
                continue;
            }
            last = value;
            words.count_woken();
        }
        Ok(())
    })
}

pub fn inboxes(options: &PartnerOptions, words: &Words) -> Outcome {
    let all = (0..options.count)
        .map(|number| register(options, &number.to_string()))
        .collect::<Result<Vec<_>, _>>()?;
    let words = words.clone();
    threads(all, move |_, mut client| {
        loop {
            match client.recv() {
                Ok(_) => words.count_woken(),
                Err(RecvError::Disconnected(_)) => return Ok(()),
                Err(error) => return Err(Failure::failed(error)),
            }
        }
    })
}
