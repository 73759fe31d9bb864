//! `ringpost listen`: registers and prints arriving messages.
//!
//! One thread receives and prints. The main thread waits for a reason to end: enough messages, the time-out,
//! a signal, or the server's end. Then it unregisters, and the other thread prints the messages that were
//! delivered before that, so that no message is lost whose sender was told that it was delivered.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringpost::{CloseReason, Inbox, Key, Message, Name, Reconnect, ReconnectEvent, RecvError};
use serde::Serialize;

use crate::cli::ListenOptions;
use crate::end::{self, End};
use crate::session;
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::out;
use ringpost::cli::signals::Interrupt;

pub fn run(socket: &Path, options: &ListenOptions) -> Outcome {
    let deadline = options.timeout.map(|time| Instant::now() + time);
    let interrupt = Interrupt::install()?;
    let reconnect = reconnect(options.reconnect, options.name, options.json);
    let client = session::register(socket, &options.name, &options.wait, deadline, reconnect, &interrupt)?;
    let key = client.key();
    let (caller, inbox) = client.split();

    let (events, arrived) = mpsc::channel();
    let on_signal = events.clone();
    end::watch_output(events.clone())?;
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
                Ok(_) => end::wait(&arrived, deadline),
                Err(error) => End::Output(Failure::failed(format!("cannot start a thread: {error}"))),
            }
        }
    };

    let left = session::left(caller, options.reconnect);
    let (end, left) = match end {
        End::Signal | End::Time => (end::drain(&arrived, end), left),
        // The other thread has finished. If the server is lost, there is no need to warn about unregistering.
        end => (end, Ok(())),
    };
    let came = printed.load(Ordering::Relaxed);
    let verdict = end::judge(end, came, options.count, "messages", interrupt.caught());
    if verdict.is_ok() {
        session::warn(left);
    }
    verdict
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

/// What a client does when its server has ended, if it is to register `again`.
pub fn reconnect(again: bool, name: Name, json: bool) -> Option<Reconnect> {
    again.then(|| Reconnect::default().on_event(move |event| show(event, &name, json)))
}

/// Prints the events of reconnecting. An output error is ignored here; the next message finds it again.
fn show(event: &ReconnectEvent, name: &Name, json: bool) {
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
    #[serde(flatten)]
    payload: Payload<'a>,
}

/// The name and the key of a client, in JSON.
#[derive(Serialize)]
pub struct Who<'a> {
    pub name: &'a str,
    pub key: &'a str,
}

/// A payload in JSON: as text, or in base 64 if it is no UTF-8.
#[derive(Serialize)]
pub struct Payload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl<'a> Payload<'a> {
    pub fn new(payload: &'a [u8]) -> Payload<'a> {
        match std::str::from_utf8(payload) {
            Ok(text) => Payload { payload: Some(text), payload_base64: None },
            Err(_) => Payload { payload: None, payload_base64: Some(STANDARD.encode(payload)) },
        }
    }
}

impl<'a> Received<'a> {
    fn new(name: &'a str, key: &'a str, payload: &'a [u8]) -> Received<'a> {
        Received { from: Who { name, key }, payload: Payload::new(payload) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_contains_every_byte_of_a_message() {
        let text = |payload| serde_json::to_string(&Received::new("bob", "K", payload)).unwrap();
        let start = r#"{"from":{"name":"bob","key":"K"},"#;
        assert_eq!(text("h\u{e9}\n".as_bytes()), format!("{start}\"payload\":\"h\u{e9}\\n\"}}"));
        assert_eq!(text(b"\xff\x00"), format!("{start}\"payload_base64\":\"/wA=\"}}"));
        assert_eq!(text(b""), format!("{start}\"payload\":\"\"}}"));
    }
}
