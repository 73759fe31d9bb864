//! The process with the subscriptions, and this process's handle on it. It shares a CPU with the floor's
//! partner, and with the server, so it sleeps between blocks.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringpost::cli::child::{Helper, die_with_parent};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;
use ringpost::cli::place::this_program;
use ringpost::cli::signals::Interrupt;
use ringpost::testing::{Segment, futex_wait, futex_wake};
use ringpost::{Client, Publisher, Subscriber, WaitStrategy};

use super::words::{COUNT, END, IDLE, LENGTH, READY, SEEN, TAKEN, TASK, TURN, Words, now};
use crate::link::serving::{on_cpu_of_server, raise_limit};
use crate::setup::Setup;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Words of a sample of 56 bytes: the same number in each.
pub const SIZE: usize = 56;

/// The topics of a role, each with a prefix of its own.
pub const FORTH: &str = "forth";
pub const BACK: &str = "back";

/// What the other process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Takes samples of `PREFIX/forth`, and publishes answers to `PREFIX/back`; spins in its turn.
    Awake,
    /// Subscribes to `PREFIX/forth` so many times, and never reads.
    Never,
    /// The same with subscriptions whose readers might sleep.
    Perhaps,
    /// Subscribes so many times, takes one sample of each, and rests.
    Holder,
    /// Subscribes so many times with threads that sleep, each until a sample comes.
    Asleep,
    /// So many threads that sleep on a bare word each.
    Bare,
    /// So many clients with a thread each that sleeps until a message comes.
    Inboxes,
    /// Subscribes to `PREFIX/forth` and to `PREFIX/back`, and does its worst.
    Malicious,
}

/// The arguments of the process.
#[derive(Debug, Args)]
pub struct PartnerOptions {
    pub role: Role,
    pub socket: PathBuf,
    pub prefix: String,
    pub count: u32,
}

/// What it does in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Takes samples until the one with the number of the turn's end.
    Take = 1,
    /// Answers so many samples.
    Answer = 2,
    /// Opens the view of so many samples.
    View = 3,
}

/// The process, seen from the one that measures.
pub struct Partner {
    pub words: Words,
    pub process: Helper,
    turn: u32,
    interrupt: Interrupt,
}

impl Partner {
    /// Starts the process on the CPU of the setup's server, and waits until it has subscribed.
    pub fn start(setup: &Setup, role: Role, prefix: &str, count: u32) -> Result<Partner, Failure> {
        on_cpu_of_server(setup, || Partner::start_here(setup, role, prefix, count))
    }

    /// The same where this thread runs.
    pub fn start_here(setup: &Setup, role: Role, prefix: &str, count: u32) -> Result<Partner, Failure> {
        let made = Segment::create("ringpost-words", LENGTH);
        let (segment, descriptor) = made.map_err(Failure::failed)?;
        let words = Words(Arc::new(segment));
        let (role, count) = (role.to_possible_value(), count.to_string());
        let role = role.as_ref().map_or("", |role| role.get_name());
        let arguments = [
            "topic-partner".as_ref(),
            role.as_ref(),
            setup.socket().as_os_str(),
            prefix.as_ref(),
            count.as_ref(),
        ];
        let mut process = Helper::start(&this_program()?, arguments, Stdio::from(descriptor))?;
        process.line(PATIENCE, &setup.interrupt)?;
        Ok(Partner { words, process, turn: 0, interrupt: setup.interrupt.clone() })
    }

    /// Runs `body` while the process does `task` `count` times.
    pub fn turn<T>(
        &mut self,
        task: Task,
        count: u64,
        body: impl FnOnce(&Words) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.turn += 1;
        let turn = u64::from(self.turn);
        self.words.word64(COUNT).store(count, Ordering::Relaxed);
        self.words.word32(TASK).store(task as u32, Ordering::Relaxed);
        let word = self.words.word32(TURN);
        word.store(self.turn, Ordering::Release);
        futex_wake(word, 1);
        self.wait_for(READY, turn)?;
        let words = self.words.clone();
        let done = body(&words)?;
        self.wait_for(IDLE, turn)?;
        Ok(done)
    }

    /// Waits until one of the words that count is at least `value`. Looks after the process now and then.
    pub fn wait_for(&mut self, at: usize, value: u64) -> Outcome {
        let words = self.words.clone();
        let word = words.word64(at);
        let mut looks = 0_u32;
        while word.load(Ordering::Acquire) < value {
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(1 << 18) {
                self.interrupt.check()?;
                self.process.check()?;
            }
            std::hint::spin_loop();
        }
        Ok(())
    }
}

/// The body of the process.
pub fn partner(options: &PartnerOptions) -> Outcome {
    die_with_parent();
    raise_limit();
    let segment = Segment::open(io::stdin())
        .map_err(|error| Failure::failed(format!("standard input is no shared memory: {error}")))?;
    if segment.len() < LENGTH {
        return Err(Failure::failed("the shared memory is too small"));
    }
    let words = Words(Arc::new(segment));
    match options.role {
        Role::Awake => awake(options, &words),
        Role::Never => idle(options, WaitStrategy::Spin),
        Role::Perhaps => idle(options, WaitStrategy::Park),
        Role::Holder => hold(options),
        Role::Asleep => super::sleepers::subscriptions(options, &words),
        Role::Bare => super::sleepers::bare(options, &words),
        Role::Inboxes => super::sleepers::inboxes(options, &words),
        Role::Malicious => super::malicious::attack(options),
    }
}

/// Registers with the name of the role.
pub fn register(options: &PartnerOptions, more: &str) -> Result<Client, Failure> {
    let role = options.role.to_possible_value();
    let role = role.as_ref().map_or("", |role| role.get_name());
    let name = format!("bench-{role}-{}{more}", options.prefix);
    Client::builder(&options.socket)
        .wait(WaitStrategy::Park)
        .timeout(PATIENCE)
        .register(name.as_str())
        .map_err(Failure::failed)
}

/// Subscribes to one of the role's topics.
pub fn subscribe(
    client: &mut Client,
    prefix: &str,
    topic: &str,
    wait: WaitStrategy,
) -> Result<Subscriber, Failure> {
    let options = Subscriber::options().wait(wait).timeout(PATIENCE);
    options.subscribe(client.caller(), format!("{prefix}/{topic}").as_str()).map_err(Failure::failed)
}

/// Says that all is there, and rests until it is killed.
pub fn rest() -> Outcome {
    out::line("ready")?;
    loop {
        std::thread::park();
    }
}

fn idle(options: &PartnerOptions, wait: WaitStrategy) -> Outcome {
    let mut client = register(options, "")?;
    let _all = (0..options.count)
        .map(|_| subscribe(&mut client, &options.prefix, FORTH, wait))
        .collect::<Result<Vec<_>, _>>()?;
    rest()
}

/// One sample of each subscription, so that the memory of the ring is mapped: the last that was published.
fn hold(options: &PartnerOptions) -> Outcome {
    let mut client = register(options, "")?;
    let mut all = Vec::with_capacity(options.count as usize);
    for _ in 0..options.count {
        let with_history = Subscriber::options().history(1).timeout(PATIENCE);
        let topic = format!("{}/{FORTH}", options.prefix);
        let mut subscriber =
            with_history.subscribe(client.caller(), topic.as_str()).map_err(Failure::failed)?;
        subscriber.recv_timeout(PATIENCE).map_err(Failure::failed)?;
        all.push(subscriber);
    }
    rest()
}

fn awake(options: &PartnerOptions, words: &Words) -> Outcome {
    let mut client = register(options, "")?;
    let topic = format!("{}/{BACK}", options.prefix);
    let mut publisher = client.publish(topic.as_str()).map_err(Failure::failed)?;
    let mut subscriber = subscribe(&mut client, &options.prefix, FORTH, WaitStrategy::Spin)?;
    out::line("ready")?;
    let word = words.word32(TURN);
    let mut turn = 0;
    loop {
        while word.load(Ordering::Acquire) == turn {
            futex_wait(word, turn, None);
        }
        turn = word.load(Ordering::Acquire);
        if turn == END {
            return Ok(());
        }
        let (task, count) =
            (words.word32(TASK).load(Ordering::Relaxed), words.word64(COUNT).load(Ordering::Relaxed));
        words.word64(READY).store(u64::from(turn), Ordering::Release);
        let taken = match task {
            1 => take(&mut subscriber, count)?,
            2 => answer(&mut subscriber, &mut publisher, count)?,
            _ => view(&mut subscriber, words, count)?,
        };
        words.word64(TAKEN).store(taken, Ordering::Relaxed);
        words.word64(IDLE).store(u64::from(turn), Ordering::Release);
    }
}

/// The number in all words of a sample.
#[inline]
pub fn number(payload: &[u8]) -> Result<u64, Failure> {
    let wrong = || Failure::failed("a sample has wrong bytes, so the measurement is invalid");
    let (words, rest) = payload.as_chunks::<8>();
    let first = words.first().ok_or_else(wrong)?;
    if rest.is_empty() && words.iter().all(|word| word == first) {
        Ok(u64::from_ne_bytes(*first))
    } else {
        Err(wrong())
    }
}

/// The sample with this number.
#[inline]
pub fn sample(number: u64) -> [u8; SIZE] {
    let mut sample = [0; SIZE];
    sample.as_chunks_mut::<8>().0.fill(number.to_ne_bytes());
    sample
}

/// Takes until the sample with this number: how many.
fn take(subscriber: &mut Subscriber, last: u64) -> Result<u64, Failure> {
    let mut taken = 0;
    loop {
        let sample = subscriber.recv().map_err(Failure::failed)?;
        let number = number(sample.payload())?;
        taken += 1;
        if number >= last {
            return Ok(taken);
        }
    }
}

fn answer(subscriber: &mut Subscriber, publisher: &mut Publisher, count: u64) -> Result<u64, Failure> {
    for _ in 0..count {
        let sample = subscriber.recv().map_err(Failure::failed)?;
        publisher.send(sample.payload()).map_err(Failure::failed)?;
    }
    Ok(count)
}

/// Says when each view was open.
fn view(subscriber: &mut Subscriber, words: &Words, count: u64) -> Result<u64, Failure> {
    for _ in 0..count {
        let view = subscriber.recv_ref().map_err(Failure::failed)?;
        let seen = now();
        // Open means that the first bytes are there.
        let mut first = [0; 8];
        view.copy_to(0, &mut first).map_err(Failure::failed)?;
        view.finish().map_err(Failure::failed)?;
        words.word64(SEEN).store(seen, Ordering::Release);
    }
    Ok(count)
}
