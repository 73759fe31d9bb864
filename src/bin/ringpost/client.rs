//! `ringpost client`: lines in, messages out.
//!
//! Three threads: one reads stdin, one prints what arrives, and this one acts on what either of them reports. Reading
//! cannot be interrupted, so that thread is left behind at the end.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use ringpost::{Address, Caller, Client, ClientBuilder, Inbox, Name, RegisterError};

use crate::common::exit::{Failure, LEAVING, Outcome, note};
use crate::common::out;
use crate::common::signals::Interrupt;
use crate::listen;
use crate::session;

/// The longest that registering, or finding room in a receiver's inbox, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the end waits until what has arrived is printed, should no one read it.
const DRAIN: Duration = Duration::from_secs(2);

enum Event {
    Line(Vec<u8>),
    /// A line that is longer than any message.
    TooLong,
    EndOfInput,
    InputFailed(io::Error),
    Signal,
    /// The channel was closed.
    Gone(String),
    /// What arrives cannot be printed.
    Output(Failure),
}

pub fn run(socket: &Path, name: Option<Name>) -> Outcome {
    let interactive = io::stdin().is_terminal();
    let interrupt = Interrupt::install()?;
    let (events, arrived) = mpsc::sync_channel(64);
    let (input, on_signal) = (events.clone(), events.clone());
    // Should the queue be full, the flag is seen all the same.
    interrupt.then(move || drop(on_signal.try_send(Event::Signal)));
    spawn("stdin", move || read(&input))?;

    let Some(client) = register(socket, name, interactive, &arrived, &interrupt)? else {
        // The input or the user's patience ended before there was a name.
        return interrupt.check().and(Err(Failure::usage("no name was given: ringpost client NAME")));
    };
    let registered = out::line(&format!(
        "registered as {}, key {}",
        out::readable(client.name().as_str().as_bytes()),
        client.key()
    ));
    let (mut caller, inbox) = client.split();
    let printer = events;
    let started = registered.and_then(|()| {
        if interactive {
            note("write KEY|NAME, a space, and the message; Ctrl-D ends");
        }
        spawn("inbox", move || print(inbox, &printer))
    });
    let result = started.and_then(|()| talk(&mut caller, &arrived, interactive, &interrupt));
    let left = caller.unregister_timeout(LEAVING);
    if result.is_ok() {
        drain(&arrived)?;
        session::warn(left);
    }
    result.and_then(|failed| match failed {
        Count { failed: 0, .. } => Ok(()),
        // A person has seen it; a script has only the status.
        _ if interactive => Ok(()),
        Count { lines, failed } => {
            Err(Failure::failed(format!("{failed} of {lines} lines failed, as told above")))
        }
    })
}

/// Registers under `name`, or under one that is asked for, as often as it takes where a person types it.
fn register(
    socket: &Path,
    name: Option<Name>,
    interactive: bool,
    arrived: &Receiver<Event>,
    interrupt: &Interrupt,
) -> Result<Option<Client>, Failure> {
    if let Some(name) = name {
        return builder(socket).register(name).map(Some).map_err(Failure::failed);
    }
    loop {
        if interactive {
            prompt("name: ");
        }
        let line = match arrived.recv() {
            Ok(Event::Line(line)) => line,
            Ok(Event::InputFailed(error)) => return Err(unreadable(&error)),
            Ok(Event::TooLong) => Vec::new(),
            _ => {
                if interactive {
                    note("");
                }
                return Ok(None);
            }
        };
        if interrupt.caught().is_some() {
            return Ok(None);
        }
        let Ok(text) = std::str::from_utf8(&line) else {
            retry(interactive, Failure::failed("a name is UTF-8 text"))?;
            continue;
        };
        match builder(socket).register(text.trim()) {
            Ok(client) => return Ok(Some(client)),
            Err(error @ (RegisterError::InvalidName { .. } | RegisterError::NameTaken { .. })) => {
                retry(interactive, Failure::failed(error))?;
            }
            Err(error) => return Err(Failure::failed(error)),
        }
    }
}

/// Tells a person what is wrong with the name, and ends for a script.
fn retry(interactive: bool, failure: Failure) -> Outcome {
    if interactive {
        note(failure);
        Ok(())
    } else {
        Err(failure)
    }
}

fn builder(socket: &Path) -> ClientBuilder {
    Client::builder(socket).timeout(PATIENCE)
}

/// How many lines asked for something, and how many of them did not get it.
#[derive(Default)]
struct Count {
    lines: u64,
    failed: u64,
}

/// Acts on what happens until the input ends.
fn talk(
    caller: &mut Caller,
    arrived: &Receiver<Event>,
    interactive: bool,
    interrupt: &Interrupt,
) -> Result<Count, Failure> {
    let mut count = Count::default();
    loop {
        if interrupt.caught().is_some() {
            return Ok(count);
        }
        if interactive {
            prompt("> ");
        }
        let done = match arrived.recv() {
            Ok(Event::Line(line)) => match parse(&line) {
                Ok(None) => continue,
                Ok(Some((to, message))) => send(caller, &to, message),
                Err(why) => Err(Failure::failed(why)),
            },
            Ok(Event::TooLong) => {
                Err(Failure::failed(format!("the line has more than {} bytes", session::MOST)))
            }
            Ok(Event::EndOfInput | Event::Signal) | Err(_) => {
                if interactive {
                    note("");
                }
                return Ok(count);
            }
            Ok(Event::InputFailed(error)) => return Err(unreadable(&error)),
            Ok(Event::Gone(why)) => return Err(Failure::failed(why)),
            Ok(Event::Output(failure)) => return Err(failure),
        };
        count.lines += 1;
        if let Err(failure) = done {
            count.failed += 1;
            note(if interactive { failure.to_string() } else { format!("line {}: {failure}", count.lines) });
        }
    }
}

fn send(caller: &mut Caller, to: &Address, message: &[u8]) -> Outcome {
    let key = session::found(caller.resolve(to), to)?;
    caller.send_timeout(key, message, PATIENCE).map_err(Failure::failed)
}

/// A line's receiver and message; none for a blank line.
fn parse(line: &[u8]) -> Result<Option<(Address, &[u8])>, String> {
    let wanted = "write KEY|NAME, a space, and the message; a name with spaces goes between double quotes";
    let start = line.iter().position(|byte| !byte.is_ascii_whitespace());
    let Some(line) = start.map(|start| &line[start..]) else { return Ok(None) };
    let (to, rest) = match line.strip_prefix(b"\"") {
        Some(quoted) => {
            let end = quoted
                .iter()
                .position(|&byte| byte == b'"')
                .ok_or("the closing quote of the name is missing")?;
            (&quoted[..end], &quoted[end + 1..])
        }
        None => line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len())),
    };
    // One space ends the address; whatever follows it is the message, spaces too.
    let message = match rest.split_first() {
        Some((space, message)) if space.is_ascii_whitespace() => message,
        _ => return Err(wanted.to_string()),
    };
    let to = std::str::from_utf8(to).map_err(|_| "a name is UTF-8 text".to_string())?;
    Ok(Some((to.parse::<Address>().map_err(|error| error.to_string())?, message)))
}

/// Reads stdin line by line, without the line ends.
fn read(events: &SyncSender<Event>) {
    let mut stdin = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let event = match stdin.by_ref().take(session::MOST + 1).read_until(b'\n', &mut line) {
            Ok(0) => Event::EndOfInput,
            Err(error) => Event::InputFailed(error),
            Ok(_) if line.last() == Some(&b'\n') => {
                line.pop();
                Event::Line(line)
            }
            Ok(_) if line.len() as u64 > session::MOST => match stdin.skip_until(b'\n') {
                Ok(_) => Event::TooLong,
                Err(error) => Event::InputFailed(error),
            },
            Ok(_) => Event::Line(line),
        };
        let last = matches!(event, Event::EndOfInput | Event::InputFailed(_));
        if events.send(event).is_err() || last {
            return;
        }
    }
}

/// Prints what arrives until the channel is closed.
fn print(mut inbox: Inbox, events: &SyncSender<Event>) {
    let end = loop {
        match inbox.recv() {
            Ok(message) => {
                let line = listen::line(
                    message.from_name().as_str(),
                    &message.from().to_string(),
                    message.payload(),
                );
                if let Err(failure) = out::line(&line) {
                    break Event::Output(failure);
                }
            }
            Err(error) => break Event::Gone(session::gone(&error)),
        }
    };
    let _ = events.send(end);
}

/// After unregistering: waits until what had arrived is printed.
fn drain(arrived: &Receiver<Event>) -> Outcome {
    let limit = Instant::now() + DRAIN;
    loop {
        match arrived.recv_timeout(limit.saturating_duration_since(Instant::now())) {
            Ok(Event::Gone(_)) | Err(_) => return Ok(()),
            Ok(Event::Output(failure)) => return Err(failure),
            Ok(_) => {}
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Outcome {
    let started = thread::Builder::new().name(name.into()).spawn(body);
    started.map(drop).map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))
}

fn prompt(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::failed(format!("cannot read standard input: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Address {
        Address::Name(text.parse().unwrap())
    }

    #[test]
    fn a_line_is_an_address_and_a_message() {
        assert_eq!(parse(b"bob hi there "), Ok(Some((name("bob"), &b"hi there "[..]))));
        assert_eq!(parse(b"  bob  two spaces"), Ok(Some((name("bob"), &b" two spaces"[..]))));
        assert_eq!(parse(b"bob\thi"), Ok(Some((name("bob"), &b"hi"[..]))));
        assert_eq!(parse(b"bob "), Ok(Some((name("bob"), &b""[..]))));
        assert_eq!(parse(b"bob \xff\x00"), Ok(Some((name("bob"), &b"\xff\x00"[..]))));
        assert_eq!(parse("\u{fc}n\u{ef} x".as_bytes()), Ok(Some((name("\u{fc}n\u{ef}"), &b"x"[..]))));
        assert!(matches!(parse(b"0040180G7ZZZZZZZZZZZZZZZZZ hi"), Ok(Some((Address::Key(_), b"hi")))));
    }

    #[test]
    fn a_name_with_spaces_is_quoted() {
        assert_eq!(parse(b"\"my service\" \"hi\""), Ok(Some((name("my service"), &b"\"hi\""[..]))));
        for wrong in [&b"\"my service hi"[..], b"\"\" hi", b"\"my service\"hi", b"\"a b\""] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn blank_lines_ask_for_nothing_and_others_must_be_whole() {
        assert_eq!(parse(b""), Ok(None));
        assert_eq!(parse(b" \t "), Ok(None));
        for wrong in [&b"bob"[..], b"\xff hi", b"a\x01b hi"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
