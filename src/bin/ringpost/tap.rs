//! `ringpost tap`: shows calls, messages, posts and samples as they happen.
//!
//! One thread takes them and prints them, several with one write if they come quickly. Another one notices
//! the server's end. The main thread waits for a reason to end.

mod show;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Instant, SystemTime};

use jiff::tz::TimeZone;
use ringpost::{
    Address, Caller, Key, Name, Observer, Reconnect, Sample, SampleError, Subscriber, TapKind, TapRecord,
};

use crate::cli::{Form, TapOptions};
use crate::end::{self, End};
use crate::{listen, patience, session};
use ringpost::cli::exit::{Failure, Outcome, note, one_line};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::{out, tap};
use show::{Seen, Shape};

/// So many bytes are printed at once at most, a line more or less.
const MOST: usize = 64 * 1024;

pub fn run(socket: &Path, options: &TapOptions) -> Outcome {
    let deadline = options.timeout.map(|time| Instant::now() + time);
    let interrupt = Interrupt::install()?;
    let name = match &options.name {
        Some(name) => *name,
        None => format!("tap {}", std::process::id()).parse::<Name>().map_err(Failure::failed)?,
    };
    let reconnect = options.reconnect.then(Reconnect::default);
    let client = session::register(socket, &name, &options.wait, deadline, reconnect, &interrupt)?;
    let key = client.key();
    let (mut caller, inbox) = client.split();
    let subscriber = begin(socket, &mut caller, options, deadline)?;
    let closer = subscriber.closer();
    listen::announce(&name, key, options.json)?;

    let (events, arrived) = mpsc::channel();
    let (on_signal, on_end) = (events.clone(), events.clone());
    end::watch_output(events.clone())?;
    interrupt.then(move || drop(on_signal.send(End::Signal)));
    let shown = Arc::new(AtomicU64::new(0));
    let printing = Printing::new(options, &shown);
    session::spawn("tap", move || drop(events.send(printing.all(subscriber))))?;
    let again = options.reconnect;
    session::spawn("inbox", move || {
        drop(on_end.send(End::Gone(session::attend(inbox, again, "it only taps"))));
    })?;
    let end = end::wait(&arrived, deadline);

    closer.close();
    let end = match end {
        End::Signal | End::Time => end::drain(&arrived, end),
        end => end,
    };
    let lost = matches!(end, End::Gone(_));
    let left = session::left(caller, options.reconnect);
    let came = shown.load(Ordering::Relaxed);
    end::judge(end, came, options.count, what(options), interrupt.caught())?;
    if !lost {
        session::warn(left);
    }
    Ok(())
}

/// What is counted, in words.
fn what(options: &TapOptions) -> &'static str {
    match options {
        TapOptions { topic: Some(_), .. } => "samples",
        TapOptions { calls: true, .. } | TapOptions { link: Some(_), .. } => "calls",
        TapOptions { messages: true, .. } | TapOptions { to: Some(_), .. } => "messages",
        _ => "calls and messages",
    }
}

/// Subscribes to what is to be shown.
fn begin(
    socket: &Path,
    caller: &mut Caller,
    options: &TapOptions,
    deadline: Option<Instant>,
) -> Result<Subscriber, Failure> {
    let settings = Subscriber::options().timeout(patience::left(deadline));
    if let Some(pattern) = &options.topic {
        let mut subscriber = settings.subscribe(caller, pattern).map_err(session::failed_subscribe)?;
        if subscriber.publishers().is_empty() {
            note(format_args!("ringpost: nobody publishes {pattern} now: waiting for a publisher"));
        }
        return Ok(subscriber);
    }
    let Some(name) = &options.link else {
        let most = if options.payload == Form::None { 0 } else { options.snap.into() };
        return caller.tap(most).map_err(session::failed_subscribe);
    };
    let topic = tap::topic_of(name).map_err(Failure::failed)?;
    let mut subscriber = settings.subscribe(caller, topic.as_str()).map_err(session::failed_subscribe)?;
    if subscriber.publishers().iter().all(|publisher| publisher.name != *name) {
        return Err(not_tappable(socket, name, deadline));
    }
    Ok(subscriber)
}

/// Why there is nothing to see of the links of this client.
fn not_tappable(socket: &Path, name: &Name, deadline: Option<Instant>) -> Failure {
    let observer = Observer::connect_timeout(socket, patience::left(deadline));
    let clients = match observer.and_then(|observer| observer.list()) {
        Ok(clients) => clients,
        Err(error) => return Failure::failed(error),
    };
    if !clients.iter().any(|client| client.name == *name) {
        return Failure::failed(format!("no client is called {name}; `ringpost ls` lists them"));
    }
    Failure::failed(format!(
        "{name} does not let this user see its links: it has to serve with `ringpost serve --tappable`, or \
         `Caller::listen_tappable` in the library, and then its own user, that of the server and root may see them"
    ))
}

struct Printing {
    shape: Shape,
    json: bool,
    wanted: Option<u64>,
    from: Option<Address>,
    to: Option<Address>,
    kind: Option<TapKind>,
    /// Whether samples are shown, and not records.
    samples: bool,
    /// Who alone is believed about its links.
    link: Option<Name>,
    zone: TimeZone,
    shown: Arc<AtomicU64>,
    /// What is to be printed.
    lines: Vec<u8>,
    /// How many were missed before the next one that is shown.
    missed: u64,
    /// Whether something came that is no record.
    nonsense: bool,
}

impl Printing {
    fn new(options: &TapOptions, shown: &Arc<AtomicU64>) -> Printing {
        let kind = match options {
            TapOptions { calls: true, .. } => Some(TapKind::Call),
            TapOptions { messages: true, .. } => Some(TapKind::Message),
            _ => None,
        };
        Printing {
            shape: Shape { form: options.payload, most: options.snap.into() },
            json: options.json,
            wanted: options.count,
            from: options.from,
            to: options.to,
            kind,
            samples: options.topic.is_some(),
            link: options.link,
            zone: TimeZone::system(),
            shown: Arc::clone(shown),
            lines: Vec::new(),
            missed: 0,
            nonsense: false,
        }
    }

    /// Prints until there is a reason to end.
    fn all(mut self, mut subscriber: Subscriber) -> End {
        loop {
            let mut more = match subscriber.recv().map(|sample| self.take(&sample)) {
                Ok(Ok(shown)) => u64::from(shown),
                Ok(Err(failure)) => return End::Output(failure),
                Err(error) if error.is_disconnected() => return End::Gone(session::failed_sample(&error)),
                Err(error) => {
                    failed(&error);
                    continue;
                }
            };
            while self.lines.len() < MOST && self.wanted.is_none_or(|wanted| self.came() + more < wanted) {
                match subscriber.try_recv() {
                    Ok(Some(sample)) => match self.take(&sample) {
                        Ok(shown) => more += u64::from(shown),
                        Err(failure) => return End::Output(failure),
                    },
                    // The next `recv` waits, or says why not.
                    Ok(None) => break,
                    Err(error) if error.is_disconnected() => break,
                    Err(error) => failed(&error),
                }
            }
            if let Err(failure) = self.put(more) {
                return End::Output(failure);
            }
            if Some(self.came()) == self.wanted {
                return End::Enough;
            }
        }
    }

    fn came(&self) -> u64 {
        self.shown.load(Ordering::Relaxed)
    }

    /// Formats what came, if it is to be shown. Returns whether it is.
    fn take(&mut self, sample: &Sample<'_>) -> Result<bool, Failure> {
        let missed = sample.missed();
        if missed > 0 && !self.json {
            let what = if self.samples { "sample" } else { "record" };
            note(format_args!("missed {missed} {what}{}", if missed == 1 { "" } else { "s" }));
        }
        self.missed += missed;
        if self.samples {
            return self.add(Seen::Sample(sample, SystemTime::now()));
        }
        if self.link.is_some_and(|link| sample.publisher().name != link) {
            return Ok(false);
        }
        match sample.read::<TapRecord>() {
            Ok(record) if self.wants(&record) => self.add(Seen::Record(&record)),
            Ok(_) => Ok(false),
            Err(error) => {
                if !std::mem::replace(&mut self.nonsense, true) {
                    let publisher = sample.publisher().name;
                    note(one_line(&format!("ringpost: {publisher} publishes what is no record: {error}")));
                }
                Ok(false)
            }
        }
    }

    fn wants(&self, record: &TapRecord) -> bool {
        let is_to = |to: &Address| record.to.is_some_and(|key| is(to, key, record.to_name.as_ref()));
        self.kind.is_none_or(|kind| kind == record.kind) && self.to.as_ref().is_none_or(is_to)
    }

    fn add(&mut self, seen: Seen<'_>) -> Result<bool, Failure> {
        let from = seen.from();
        if self.from.as_ref().is_some_and(|wanted| !is(wanted, from.key, Some(&from.name))) {
            return Ok(false);
        }
        if self.json {
            let missed = std::mem::take(&mut self.missed);
            self.lines.extend_from_slice(seen.json(self.shape, missed)?.as_bytes());
            self.lines.push(b'\n');
        } else {
            self.lines.extend_from_slice(seen.lines(self.shape, &self.zone).as_bytes());
        }
        Ok(true)
    }

    /// Prints so many that were added.
    fn put(&mut self, more: u64) -> Outcome {
        if self.lines.is_empty() {
            return Ok(());
        }
        let put = out::put(&self.lines);
        self.lines.clear();
        if put.is_ok() {
            self.shown.fetch_add(more, Ordering::Relaxed);
        }
        put
    }
}

/// Whether this is the client that was named.
fn is(wanted: &Address, key: Key, name: Option<&Name>) -> bool {
    match wanted {
        Address::Key(wanted) => *wanted == key,
        Address::Name(wanted) => Some(wanted) == name,
    }
}

/// A publisher that cannot be read any more; others go on.
fn failed(error: &SampleError) {
    note(one_line(&format!("ringpost: {}", session::failed_sample(error))));
}
