//! `ringpost listen`: registers and prints arriving messages.
//!
//! One thread receives and prints. The main thread waits for a reason to end: enough messages, the time-out,
//! a signal, or the server's end. Then it unregisters, and the other thread prints the messages that were
//! delivered before that, so that no message is lost whose sender was told that it was delivered.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringpost::{Client, CloseReason, Inbox, Key, Message, Name, Reconnect, ReconnectEvent, RecvError};
use serde::Serialize;

use crate::cli::ListenOptions;
use crate::session;
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::out;
use ringpost::cli::signals::Interrupt;

/// How long registering may take.
const REGISTER: Duration = Duration::from_secs(5);

/// How long to wait at the end until all messages are printed, in case nobody reads the output.
const DRAIN: Duration = Duration::from_secs(2);

/// Why listening ends.
enum End {
    Signal,
    Time,
    /// The requested number of messages was printed.
    Enough,
    /// Printing failed.
    Output(Failure),
    /// The channel was closed.
    Gone(String),
}

pub fn run(socket: &Path, options: &ListenOptions) -> Outcome {
    let deadline = options.timeout.map(|time| Instant::now() + time);
    let interrupt = Interrupt::install()?;
    let mut settings =
        Client::builder(socket).timeout(options.timeout.map_or(REGISTER, |time| time.min(REGISTER)));
    if options.reconnect {
        let (name, json) = (options.name, options.json);
        settings = settings.reconnect(Reconnect::default().on_event(move |event| show(event, &name, json)));
    }
    let client = settings.register(options.name.as_str()).map_err(Failure::failed)?;
    let key = client.key();
    let (caller, inbox) = client.split();

    let (events, arrived) = mpsc::channel();
    let on_signal = events.clone();
    interrupt.then(move || drop(on_signal.send(End::Signal)));
    let printed = Arc::new(AtomicU64::new(0));
    let said = announce(&options.name, key, options.json);
    let (json, wanted, counter) = (options.json, options.count, Arc::clone(&printed));
    let again = options.reconnect;
    let end = match said {
        Err(failure) => End::Output(failure),
        Ok(()) => {
            let receiver = thread::Builder::new().name("inbox".into()).spawn(move || {
                let _ = events.send(receive(inbox, json, again, wanted, &counter));
            });
            match receiver {
                Ok(_) => wait(&arrived, deadline),
                Err(error) => End::Output(Failure::failed(format!("cannot start a thread: {error}"))),
            }
        }
    };

    let left = session::left(caller, options.reconnect);
    let (end, left) = match end {
        End::Signal | End::Time => (drain(&arrived, end), left),
        // The other thread has finished. If the server is lost, there is no need to warn about unregistering.
        end => (end, Ok(())),
    };
    let came = printed.load(Ordering::Relaxed);
    let verdict = judge(end, came, options, interrupt.caught());
    if verdict.is_ok() {
        session::warn(left);
    }
    verdict
}

/// Waits for a reason to end.
fn wait(arrived: &Receiver<End>, deadline: Option<Instant>) -> End {
    let end = match deadline {
        None => arrived.recv().ok(),
        Some(deadline) => arrived.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok(),
    };
    end.unwrap_or(End::Time)
}

/// After unregistering, waits until the remaining messages are printed. Then the channel's close is expected.
fn drain(arrived: &Receiver<End>, end: End) -> End {
    let limit = Instant::now() + DRAIN;
    loop {
        match arrived.recv_timeout(limit.saturating_duration_since(Instant::now())) {
            Ok(End::Signal | End::Time) => {}
            Ok(End::Gone(_)) | Err(_) => return end,
            Ok(through @ (End::Enough | End::Output(_))) => return through,
        }
    }
}

/// Receives and prints until there is a reason to end.
fn receive(mut inbox: Inbox, json: bool, again: bool, wanted: Option<u64>, printed: &AtomicU64) -> End {
    loop {
        let message = match inbox.recv() {
            Ok(message) => message,
            // Reported once. The next call registers again, or gives up.
            Err(RecvError::Disconnected(CloseReason::Died | CloseReason::Shutdown)) if again => continue,
            Err(error) => return End::Gone(session::gone(&error)),
        };
        if let Err(failure) = print(&message, json) {
            return End::Output(failure);
        }
        let came = printed.fetch_add(1, Ordering::Relaxed) + 1;
        if Some(came) == wanted {
            return End::Enough;
        }
    }
}

/// Prints the key by which others reach this client.
pub fn announce(name: &Name, key: Key, json: bool) -> Outcome {
    if json {
        return out::json(&Registered { registered: Who { name, key: &key.to_string() } });
    }
    note(format_args!("registered as {name}, key {key}"));
    Ok(())
}

/// Prints the events of reconnecting. An output error is ignored here; the next message finds it again.
pub fn show(event: &ReconnectEvent, name: &Name, json: bool) {
    match event {
        ReconnectEvent::Ended { reason } => note(format_args!("{reason}: waiting for the next server")),
        ReconnectEvent::Registered { key, .. } => drop(announce(name, *key, json)),
        ReconnectEvent::GaveUp { .. } => note(event),
        _ => {}
    }
}

fn print(message: &Message, json: bool) -> Outcome {
    let (name, key) = (message.sender_name().as_str(), message.sender().to_string());
    if json {
        out::json(&Received::new(name, &key, message.payload()))
    } else {
        out::line(&line(name, &key, message.payload()))
    }
}

/// Formats a message for people: `alice (KEY): text`.
pub fn line(name: &str, key: &str, payload: &[u8]) -> String {
    format!("{} ({key}): {}", out::readable(name.as_bytes()), out::readable(payload))
}

/// The first JSON object.
#[derive(Serialize)]
struct Registered<'a> {
    registered: Who<'a>,
}

/// The JSON object of a message.
#[derive(Serialize)]
struct Received<'a> {
    from: Who<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

#[derive(Serialize)]
struct Who<'a> {
    name: &'a str,
    key: &'a str,
}

impl<'a> Received<'a> {
    fn new(name: &'a str, key: &'a str, payload: &'a [u8]) -> Received<'a> {
        let text = std::str::from_utf8(payload).ok();
        let payload_base64 = if text.is_none() { Some(STANDARD.encode(payload)) } else { None };
        Received { from: Who { name, key }, payload: text, payload_base64 }
    }
}

/// Turns the reason for the end into the command's outcome.
fn judge(end: End, came: u64, options: &ListenOptions, signal: Option<&str>) -> Outcome {
    let short = |why: &str| match options.count {
        Some(wanted) if came < wanted => {
            Err(Failure::failed(format!("{came} of {wanted} messages arrived before {why}")))
        }
        _ => Ok(()),
    };
    match end {
        End::Enough => Ok(()),
        End::Output(failure) => Err(failure),
        End::Gone(why) => Err(Failure::failed(match options.count {
            Some(wanted) => format!("{why} ({came} of {wanted} messages arrived)"),
            None => why,
        })),
        End::Time => short("the time-out; raise --timeout"),
        End::Signal => short(signal.unwrap_or("a signal")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(count: Option<u64>) -> ListenOptions {
        ListenOptions { name: "x".parse().unwrap(), count, timeout: None, reconnect: false, json: false }
    }

    #[test]
    fn json_contains_every_byte_of_a_message() {
        let text = |payload| serde_json::to_string(&Received::new("bob", "K", payload)).unwrap();
        let start = r#"{"from":{"name":"bob","key":"K"},"#;
        assert_eq!(text("h\u{e9}\n".as_bytes()), format!("{start}\"payload\":\"h\u{e9}\\n\"}}"));
        assert_eq!(text(b"\xff\x00"), format!("{start}\"payload_base64\":\"/wA=\"}}"));
        assert_eq!(text(b""), format!("{start}\"payload\":\"\"}}"));
    }

    #[test]
    fn fewer_messages_than_requested_are_a_failure() {
        assert!(
            judge(End::Time, 1, &options(Some(2)), None)
                .unwrap_err()
                .to_string()
                .starts_with("1 of 2 messages arrived")
        );
        assert!(
            judge(End::Signal, 1, &options(Some(2)), Some("SIGINT"))
                .unwrap_err()
                .to_string()
                .contains("SIGINT")
        );
        assert_eq!(judge(End::Time, 2, &options(Some(2)), None), Ok(()));
        assert_eq!(judge(End::Time, 0, &options(None), None), Ok(()));
        assert_eq!(judge(End::Enough, 2, &options(Some(2)), None), Ok(()));
        assert!(judge(End::Gone("gone".into()), 0, &options(None), None).is_err());
        assert_eq!(
            judge(End::Output(Failure::ClosedPipe), 0, &options(Some(9)), None),
            Err(Failure::ClosedPipe)
        );
    }
}
