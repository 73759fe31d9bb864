//! `ringpost publish`: publishes lines of standard input, or all of it as one sample.
//!
//! A thread reads the lines and another one notices the server's end. The main thread publishes, so that it
//! can end the topic properly whatever the other threads wait for. Whoever has a reason to end tells it to
//! [`Stop`], which ends the main thread's waits: for a line, for the time of the next sample, and for room.

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use ringpost::{Caller, Closer, PublishError, Publisher};

use crate::cli::PublishOptions;
use crate::end::End;
use crate::{listen, session};
use ringpost::cli::exit::{Failure, Outcome, note, one_line};
use ringpost::cli::out;
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::thousands;

/// How many lines are read ahead.
const AHEAD: usize = 256;

/// How often to look whether the subscriptions have joined that are waited for.
const LOOK: Duration = Duration::from_millis(5);

/// How far the samples may be behind the rate and still catch up.
const CATCH_UP: Duration = Duration::from_millis(10);

pub fn run(socket: &Path, options: &PublishOptions) -> Outcome {
    // Read before anybody has to wait for it.
    let block = options.block.then(|| session::stdin_until(None, "sample")).transpose()?;
    let interrupt = Interrupt::install()?;
    let reconnect = listen::reconnect(options.reconnect, options.name, false);
    let client = session::register(socket, &options.name, &options.wait, None, reconnect, &interrupt)?;
    let key = client.key();
    let (mut caller, inbox) = client.split();
    let mut publisher = publish(&mut caller, options)?;
    listen::announce(&options.name, key, false)?;

    let (lines, arrived) = mpsc::sync_channel(AHEAD);
    let stop = Arc::new(Stop::new(lines.clone(), publisher.closer()));
    let on_signal = Arc::clone(&stop);
    interrupt.then(move || on_signal.stop(End::Signal));
    let (attending, again) = (Arc::clone(&stop), options.reconnect);
    session::spawn("inbox", move || {
        attending.stop(End::Gone(session::attend(inbox, again, "it only publishes")));
    })?;
    let input = match block {
        Some(sample) => Input::Block { sample, left: options.count.unwrap_or(1) },
        None => {
            if io::stdin().is_terminal() {
                note("type lines, each of which is a sample; end with Ctrl-D on a new line");
            }
            session::spawn("stdin", move || read(&lines))?;
            Input::Lines(arrived)
        }
    };

    let mut published = Published { count: 0, failed: 0 };
    let end = published.all(&mut publisher, input, options, &stop);
    drop(publisher);
    let left = session::left(caller, options.reconnect);
    note(published.summary());
    match end {
        End::Output(failure) => Err(failure),
        End::Gone(why) => Err(Failure::failed(why)),
        End::Enough | End::Signal | End::Time => {
            session::warn(left);
            published.verdict()
        }
    }
}

/// Publishes the topic. A failure unregisters, as the caller is dropped.
fn publish(caller: &mut Caller, options: &PublishOptions) -> Result<Publisher, Failure> {
    let mut settings = Publisher::options().users(&options.users);
    if let Some(size) = options.ring_size {
        settings = settings.ring_size(size);
    }
    if let Some(stall) = options.reliable {
        settings = settings.reliable(stall);
    }
    settings.publish(caller, &options.topic).map_err(session::failed_publish)
}

/// What comes from standard input.
enum Event<'a> {
    Sample(Cow<'a, [u8]>),
    /// A line longer than any sample can be.
    TooLong,
    EndOfInput,
    InputFailed(String),
    /// There is a reason to end.
    Stop,
}

enum Input {
    Lines(Receiver<Event<'static>>),
    /// One sample, and how often it is still to be published.
    Block {
        sample: Vec<u8>,
        left: u64,
    },
}

impl Input {
    fn next(&mut self) -> Event<'_> {
        match self {
            Input::Lines(lines) => lines.recv().unwrap_or(Event::EndOfInput),
            Input::Block { left: 0, .. } => Event::EndOfInput,
            Input::Block { sample, left } => {
                *left -= 1;
                Event::Sample(Cow::Borrowed(sample))
            }
        }
    }
}

/// Reads stdin line by line, and removes the line ends.
fn read(events: &SyncSender<Event<'static>>) {
    let mut stdin = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let event = match stdin.by_ref().take(session::MOST + 1).read_until(b'\n', &mut line) {
            Ok(0) => Event::EndOfInput,
            Err(error) => Event::InputFailed(error.to_string()),
            Ok(_) if line.last() == Some(&b'\n') => {
                line.pop();
                Event::Sample(Cow::Owned(line))
            }
            Ok(_) if line.len() as u64 > session::MOST => match stdin.skip_until(b'\n') {
                Ok(_) => Event::TooLong,
                Err(error) => Event::InputFailed(error.to_string()),
            },
            Ok(_) => Event::Sample(Cow::Owned(line)),
        };
        let last = matches!(event, Event::EndOfInput | Event::InputFailed(_));
        if events.send(event).is_err() || last {
            return;
        }
    }
}

/// The first reason to end, which ends the waits of the thread that made this.
struct Stop {
    reason: Mutex<Option<End>>,
    publishing: Thread,
    lines: SyncSender<Event<'static>>,
    closer: Closer,
}

impl Stop {
    fn new(lines: SyncSender<Event<'static>>, closer: Closer) -> Stop {
        Stop { reason: Mutex::default(), publishing: thread::current(), lines, closer }
    }

    fn stop(&self, end: End) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
        // For one that waits for room, for a line, or for a time. If the queue has no room, nobody waits for
        // a line.
        self.closer.close();
        let _ = self.lines.try_send(Event::Stop);
        self.publishing.unpark();
    }

    fn is_set(&self) -> bool {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take(&self) -> Option<End> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until a point in time, or for a reason to end.
    fn wait_until(&self, time: Instant) {
        loop {
            let left = time.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_set() {
                return;
            }
            thread::park_timeout(left);
        }
    }
}

/// When the next sample is due.
struct Pace {
    every: Duration,
    due: Instant,
}

impl Pace {
    fn new(rate: Option<f64>) -> Pace {
        let every = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        Pace { every, due: Instant::now() }
    }

    fn wait(&mut self, stop: &Stop) {
        if self.every.is_zero() {
            return;
        }
        stop.wait_until(self.due);
        let late = Instant::now().checked_sub(CATCH_UP).unwrap_or(self.due);
        self.due = (self.due + self.every).max(late);
    }
}

/// How many samples were published, and how many could not be.
struct Published {
    count: u64,
    failed: u64,
}

impl Published {
    /// Publishes until there is a reason to end.
    fn all(
        &mut self,
        publisher: &mut Publisher,
        mut input: Input,
        options: &PublishOptions,
        stop: &Stop,
    ) -> End {
        if publisher.subscribers() < options.subscribers {
            let (there, wanted) = (publisher.subscribers(), options.subscribers);
            note(format_args!("ringpost: waiting for subscribers: {there} of {wanted}"));
        }
        while publisher.subscribers() < options.subscribers && !stop.is_set() {
            stop.wait_until(Instant::now() + LOOK);
        }
        let mut pace = Pace::new(options.rate);
        loop {
            if let Some(end) = stop.take() {
                return end;
            }
            if options.count == Some(self.count + self.failed) {
                return End::Enough;
            }
            let done = match input.next() {
                Event::Sample(sample) => {
                    pace.wait(stop);
                    if stop.is_set() {
                        continue;
                    }
                    publisher.send(&*sample)
                }
                Event::TooLong => {
                    self.fail(format_args!("the line has more than {} bytes", session::MOST));
                    continue;
                }
                Event::EndOfInput => return End::Enough,
                Event::InputFailed(why) => {
                    return End::Output(Failure::failed(format!("cannot read standard input: {why}")));
                }
                Event::Stop => continue,
            };
            match done {
                Ok(()) => self.count += 1,
                Err(_) if stop.is_set() => continue,
                Err(error @ PublishError::TooLarge { .. }) => self.fail(session::failed_publish(error)),
                Err(error) => return End::Output(session::failed_publish(error)),
            }
            if options.reliable.is_some() {
                tell_evictions(publisher);
            }
        }
    }

    fn fail(&mut self, why: impl std::fmt::Display) {
        self.failed += 1;
        note(one_line(&format!("ringpost: sample {}: {why}", self.count + self.failed)));
    }

    fn summary(&self) -> String {
        let plural = if self.count == 1 { "" } else { "s" };
        format!("published {} sample{plural}", thousands(self.count))
    }

    fn verdict(&self) -> Outcome {
        match self.failed {
            0 => Ok(()),
            failed => Err(Failure::failed(format!(
                "{failed} of {} samples could not be published; the reasons are above",
                self.count + failed
            ))),
        }
    }
}

/// Says who was evicted since the last time.
fn tell_evictions(publisher: &mut Publisher) {
    for eviction in publisher.evictions() {
        let name = out::readable(eviction.subscriber.name.as_bytes());
        let why = if eviction.stalled { "it did not read in time" } else { "it broke a rule" };
        note(format_args!("ringpost: evicted {name} ({}): {why}", eviction.subscriber.key));
    }
}
