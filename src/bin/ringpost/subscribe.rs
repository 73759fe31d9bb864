//! `ringpost subscribe`: prints the samples of the topics that match a pattern.
//!
//! One thread takes samples and prints them, several with one write if they come quickly. Another one notices
//! the server's end. The main thread waits for a reason to end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use ringpost::{Sample, SampleError, Subscriber};
use serde::Serialize;

use crate::cli::{Policy, SubscribeOptions};
use crate::end::{self, End};
use crate::listen::{self, Payload, Who};
use crate::{patience, session};
use ringpost::cli::exit::{Failure, Outcome, note, one_line};
use ringpost::cli::out;
use ringpost::cli::signals::Interrupt;

/// So many bytes are printed at once at most, a line more or less.
const MOST: usize = 64 * 1024;

pub fn run(socket: &Path, options: &SubscribeOptions) -> Outcome {
    let deadline = options.timeout.map(|time| Instant::now() + time);
    let interrupt = Interrupt::install()?;
    let reconnect = listen::reconnect(options.reconnect, options.name, options.json);
    let client = session::register(socket, &options.name, &options.wait, deadline, reconnect, &interrupt)?;
    let key = client.key();
    let (mut caller, inbox) = client.split();
    let settings = Subscriber::options().policy(policy(options.policy)).history(options.history);
    let mut subscriber = settings
        .timeout(patience::left(deadline))
        .subscribe(&mut caller, &options.pattern)
        .map_err(session::failed_subscribe)?;
    let closer = subscriber.closer();
    listen::announce(&options.name, key, options.json)?;
    if subscriber.publishers().is_empty() {
        note(format_args!("ringpost: nobody publishes {} now: waiting for a publisher", options.pattern));
    }

    let (events, arrived) = mpsc::channel();
    let (on_signal, on_end) = (events.clone(), events.clone());
    end::watch_output(events.clone())?;
    interrupt.then(move || drop(on_signal.send(End::Signal)));
    let counts = Arc::new(Counts::default());
    let printing = Printing {
        json: options.json,
        wanted: options.count,
        counts: Arc::clone(&counts),
        lines: Vec::new(),
    };
    session::spawn("samples", move || drop(events.send(printing.all(subscriber))))?;
    let again = options.reconnect;
    session::spawn("inbox", move || {
        drop(on_end.send(End::Gone(session::attend(inbox, again, "it only subscribes"))));
    })?;
    let end = end::wait(&arrived, deadline);

    closer.close();
    let end = match end {
        End::Signal | End::Time => end::drain(&arrived, end),
        end => end,
    };
    let lost = matches!(end, End::Gone(_));
    let left = session::left(caller, options.reconnect);
    let came = counts.printed.load(Ordering::Relaxed);
    end::judge(end, came, options.count, "samples", interrupt.caught())?;
    if !lost {
        session::warn(left);
    }
    match counts.broken.load(Ordering::Relaxed) {
        0 => Ok(()),
        broken => Err(Failure::failed(format!(
            "{broken} publisher{} could not be read to the end; the reasons are above",
            if broken == 1 { "" } else { "s" }
        ))),
    }
}

fn policy(policy: Policy) -> ringpost::Policy {
    match policy {
        Policy::Lossy => ringpost::Policy::Lossy,
        Policy::Latest => ringpost::Policy::Latest,
        Policy::Reliable => ringpost::Policy::Reliable,
    }
}

/// What came so far.
#[derive(Default)]
struct Counts {
    printed: AtomicU64,
    /// Publishers that evicted this subscription, refused it or broke a rule.
    broken: AtomicU64,
}

struct Printing {
    json: bool,
    wanted: Option<u64>,
    counts: Arc<Counts>,
    /// What is to be printed.
    lines: Vec<u8>,
}

impl Printing {
    /// Prints samples until there is a reason to end.
    fn all(mut self, mut subscriber: Subscriber) -> End {
        loop {
            match subscriber.recv().map(|sample| self.add(&sample)) {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return End::Output(failure),
                Err(error) => match self.failed(&error) {
                    Some(end) => return end,
                    None => continue,
                },
            }
            let mut more = 1;
            while self.lines.len() < MOST && self.wanted.is_none_or(|wanted| self.came() + more < wanted) {
                match subscriber.try_recv() {
                    Ok(Some(sample)) => {
                        if let Err(failure) = self.add(&sample) {
                            return End::Output(failure);
                        }
                        more += 1;
                    }
                    // The next `recv` waits, or says why not.
                    Ok(None) => break,
                    Err(error) => {
                        if let Some(end) = self.failed(&error) {
                            return self.put(more).err().map_or(end, End::Output);
                        }
                    }
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
        self.counts.printed.load(Ordering::Relaxed)
    }

    /// Formats a sample.
    fn add(&mut self, sample: &Sample<'_>) -> Outcome {
        let publisher = sample.publisher();
        if self.json {
            let object = Received {
                topic: sample.topic(),
                publisher: Who { name: publisher.name.as_str(), key: &publisher.key.to_string() },
                sequence: sample.sequence(),
                missed: sample.missed(),
                payload: Payload::new(sample.payload()),
            };
            self.lines.extend_from_slice(out::json_text(&object)?.as_bytes());
        } else {
            self.lines.extend_from_slice(line(sample).as_bytes());
        }
        self.lines.push(b'\n');
        if sample.missed() > 0 && !self.json {
            note(missed(sample));
        }
        Ok(())
    }

    /// Prints so many samples that were added.
    fn put(&mut self, samples: u64) -> Outcome {
        let put = out::put(&self.lines);
        self.lines.clear();
        if put.is_ok() {
            self.counts.printed.fetch_add(samples, Ordering::Relaxed);
        }
        put
    }

    /// Says why a publisher cannot be read any more. Returns the reason to end if it is the end of all.
    fn failed(&self, error: &SampleError) -> Option<End> {
        if error.is_disconnected() {
            return Some(End::Gone(session::failed_sample(error)));
        }
        self.counts.broken.fetch_add(1, Ordering::Relaxed);
        note(one_line(&format!("ringpost: {}", session::failed_sample(error))));
        None
    }
}

/// Formats a sample for people: `prices/AAPL alice 17: text`.
pub fn line(sample: &Sample<'_>) -> String {
    let [topic, name] = [sample.topic(), sample.publisher().name.as_str()];
    let payload = out::readable(sample.payload());
    format!(
        "{} {} {}: {payload}",
        out::readable(topic.as_bytes()),
        out::readable(name.as_bytes()),
        sample.sequence()
    )
}

/// Says for people how many samples were missed before this one: `missed 3 samples of alice on prices/AAPL`.
pub fn missed(sample: &Sample<'_>) -> String {
    let missed = sample.missed();
    format!(
        "missed {missed} sample{} of {} on {}",
        if missed == 1 { "" } else { "s" },
        out::readable(sample.publisher().name.as_bytes()),
        out::readable(sample.topic().as_bytes()),
    )
}

/// The JSON object of a sample.
#[derive(Serialize)]
struct Received<'a> {
    topic: &'a str,
    publisher: Who<'a>,
    sequence: u64,
    missed: u64,
    #[serde(flatten)]
    payload: Payload<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_whole_sample_in_one_object() {
        let object = |payload| Received {
            topic: "prices/AAPL",
            publisher: Who { name: "alice", key: "K" },
            sequence: 7,
            missed: 2,
            payload: Payload::new(payload),
        };
        let text = |payload| serde_json::to_string(&object(payload)).unwrap();
        let start =
            r#"{"topic":"prices/AAPL","publisher":{"name":"alice","key":"K"},"sequence":7,"missed":2,"#;
        assert_eq!(text(b"x"), format!("{start}\"payload\":\"x\"}}"));
        assert_eq!(text(b"\xff\x00"), format!("{start}\"payload_base64\":\"/wA=\"}}"));
    }
}
