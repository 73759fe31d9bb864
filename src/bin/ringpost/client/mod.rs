//! `ringpost client`: sends typed lines as messages and prints arriving messages.
//!
//! One thread reads stdin (with a line editor if stdin and stdout are a terminal), one receives messages, one
//! for each `/sub` takes samples, and one prints what these have. The main thread handles the events of all.
//! Reading cannot be interrupted, so the reading thread is not joined at the end.

mod complete;
mod editor;
mod line;
mod plain;
mod talk;
mod topics;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use ringpost::{Client, ClientBuilder, Inbox, Observer, RegisterError};

use crate::cli::ClientOptions;
use crate::listen;
use crate::patience::patiently;
use crate::session;
use editor::{Ask, Editor, Printer};
use plain::Plain;
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::out;
use ringpost::cli::signals::Interrupt;
use talk::{Count, Talk};

/// The time-out for registering, for a call, and for room in a receiver's inbox.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait at the end until all messages are printed, in case nobody reads the output.
const DRAIN: Duration = Duration::from_secs(2);

/// What the threads report to the main thread.
enum Event {
    Line(Vec<u8>),
    /// A line longer than any message can be.
    TooLong,
    EndOfInput,
    InputFailed(String),
    Signal,
    /// The channel was closed.
    Gone(String),
    /// Printing a message failed.
    Output(Failure),
    /// The printing thread has finished.
    Printed,
}

/// What the printing thread is given. The channel has no room, so that those who give take turns: no topic,
/// however quick, keeps a message from being shown.
enum Shown {
    Line(String),
    /// No more messages can come, and this is why.
    End(String),
}

/// Reads lines and prints messages: with or without a line editor.
enum Screen {
    Editor(Editor),
    Plain(Plain),
}

pub fn run(socket: &Path, options: &ClientOptions) -> Outcome {
    let interrupt = Interrupt::install()?;
    let (events, arrived) = mpsc::sync_channel(64);
    let on_signal = events.clone();
    // If the queue is full, the main thread still sees the interrupt's flag.
    interrupt.then(move || drop(on_signal.try_send(Event::Signal)));
    let mut screen = match Editor::open(socket, &events)? {
        Some(editor) => Screen::Editor(editor),
        None => Screen::Plain(Plain::open(&events)?),
    };
    let client = register(socket, options, &mut screen, &arrived, &interrupt);
    let outcome = match client {
        Ok(Some(client)) => serve(client, &mut screen, &events, &arrived, &interrupt),
        // The input ended, or the user gave up, before a name was given.
        Ok(None) if screen.is_for_a_person() => Ok(()),
        Ok(None) => interrupt.check().and(Err(Failure::usage("no name given: use ringpost client NAME"))),
        Err(failure) => Err(failure),
    };
    screen.close();
    outcome
}

/// Registers under `name`, or asks for a name. A person is asked again until a name is accepted.
fn register(
    socket: &Path,
    options: &ClientOptions,
    screen: &mut Screen,
    arrived: &Receiver<Event>,
    interrupt: &Interrupt,
) -> Result<Option<Client>, Failure> {
    if let Some(name) = options.name() {
        return session::register(socket, &name, &options.wait, None, None, interrupt).map(Some);
    }
    let person = screen.is_for_a_person();
    if person || options.wait.wait_for_server.is_some() {
        // Find out whether there is a server before asking for a name.
        patiently(socket, &options.wait, None, Some(interrupt), |left| {
            Observer::connect_timeout(socket, left)
        })?;
    }
    loop {
        let line = match screen.next(Ask::Name, arrived) {
            Event::Line(line) => line,
            Event::InputFailed(why) => return Err(unreadable(&why)),
            Event::TooLong => Vec::new(),
            _ => return Ok(None),
        };
        if interrupt.caught().is_some() {
            return Ok(None);
        }
        let failure = match std::str::from_utf8(&line).map(|text| builder(socket).register(text.trim())) {
            Ok(Ok(client)) => return Ok(Some(client)),
            Ok(Err(error @ (RegisterError::InvalidName { .. } | RegisterError::NameTaken { .. }))) => {
                Failure::failed(error)
            }
            Ok(Err(error)) => return Err(Failure::failed(error)),
            Err(_) => Failure::failed("a name must be UTF-8 text"),
        };
        if !person {
            return Err(failure);
        }
        tell(&failure);
    }
}

fn builder(socket: &Path) -> ClientBuilder {
    Client::builder(socket).timeout(PATIENCE)
}

/// Handles lines and messages until the end, and unregisters.
fn serve(
    client: Client,
    screen: &mut Screen,
    events: &SyncSender<Event>,
    arrived: &Receiver<Event>,
    interrupt: &Interrupt,
) -> Outcome {
    let name = out::readable(client.name().as_bytes());
    let registered = out::line(&format!("registered as {name}, key {}", client.key()));
    let person = screen.is_for_a_person();
    let closer = client.closer();
    let (caller, inbox) = client.split();
    let (show, shown) = mpsc::sync_channel(0);
    let mut talk = Talk::new(caller, person, show.clone());
    let (busy, on_signal) = (Arc::clone(&talk.busy), events.clone());
    interrupt.then(move || {
        let _ = on_signal.try_send(Event::Signal);
        // A stopped server must not block a request that is under way.
        if busy.load(Ordering::SeqCst) {
            closer.close();
        }
    });
    let printer = screen.printer();
    let sender = events.clone();
    let started = registered.and_then(|()| {
        if person {
            note("type NAME or KEY, a space, and the message; /help shows the commands; Ctrl-D ends");
        }
        session::spawn("inbox", move || receive(inbox, &show))?;
        session::spawn("printer", move || print(shown, printer, &sender))
    });
    let printing = started.is_ok();
    let result = started.and_then(|()| talk.run(screen, arrived, interrupt));
    screen.rest();
    let Talk { caller, topics, count, .. } = talk;
    drop(topics);
    let left = caller.unregister();
    let printed = if printing { drain(arrived) } else { Ok(()) };
    screen.close();
    result?;
    printed?;
    session::warn(left);
    match count {
        // A person has seen the errors, but a script needs the exit status.
        Count { lines, failed } if failed > 0 && !person => {
            Err(Failure::failed(format!("{failed} of {lines} lines failed; the reasons are above")))
        }
        _ => Ok(()),
    }
}

impl Screen {
    /// Whether a person types the lines.
    fn is_for_a_person(&self) -> bool {
        match self {
            Screen::Editor(_) => true,
            Screen::Plain(plain) => plain.person,
        }
    }

    /// Waits for the next event, and shows a person the prompt of `ask` meanwhile.
    fn next(&mut self, ask: Ask, arrived: &Receiver<Event>) -> Event {
        match self {
            Screen::Editor(editor) => editor.ask(ask),
            Screen::Plain(plain) => plain.ask(ask),
        }
        let event = arrived.recv().unwrap_or(Event::EndOfInput);
        let input =
            matches!(event, Event::Line(_) | Event::TooLong | Event::EndOfInput | Event::InputFailed(_));
        match self {
            Screen::Editor(editor) if input => editor.answered(),
            // The user has not ended the prompt's line.
            Screen::Plain(plain) if !matches!(event, Event::Line(_) | Event::TooLong) => plain.end_prompt(),
            _ => {}
        }
        event
    }

    fn printer(&mut self) -> Option<Printer> {
        match self {
            Screen::Editor(editor) => editor.printer(),
            Screen::Plain(_) => None,
        }
    }

    /// Shows what has arrived, without asking for another line.
    fn rest(&mut self) {
        if let Screen::Editor(editor) = self {
            editor.rest();
        }
    }

    fn close(&mut self) {
        if let Screen::Editor(editor) = self {
            editor.close();
        }
    }
}

/// Gives messages to the printing thread, until the channel is closed.
fn receive(mut inbox: Inbox, show: &SyncSender<Shown>) {
    loop {
        let (shown, last) = match inbox.recv() {
            Ok(message) => {
                let (name, key) = (message.sender_name().as_str(), message.sender().to_string());
                (Shown::Line(listen::line(name, &key, message.payload())), false)
            }
            Err(error) => (Shown::End(session::gone(&error)), true),
        };
        if show.send(shown).is_err() || last {
            return;
        }
    }
}

/// Prints messages and samples until no more messages can come.
fn print(shown: Receiver<Shown>, mut printer: Option<Printer>, events: &SyncSender<Event>) {
    let end = loop {
        match shown.recv() {
            Ok(Shown::Line(line)) => {
                let printed = match &mut printer {
                    Some(printer) => printer.line(&line),
                    None => out::line(&line),
                };
                if let Err(failure) = printed {
                    break Event::Output(failure);
                }
            }
            Ok(Shown::End(why)) => break Event::Gone(why),
            Err(error) => break Event::Gone(error.to_string()),
        }
    };
    // Ends the threads that still have something to show.
    drop(shown);
    let _ = events.send(end);
    if let Some(printer) = &mut printer {
        printer.close();
    }
    let _ = events.send(Event::Printed);
    if let Some(printer) = &mut printer {
        printer.redraw();
    }
}

/// After unregistering, waits until the messages that had arrived are printed.
fn drain(arrived: &Receiver<Event>) -> Outcome {
    let limit = Instant::now() + DRAIN;
    let mut outcome = Ok(());
    loop {
        match arrived.recv_timeout(limit.saturating_duration_since(Instant::now())) {
            Ok(Event::Printed) | Err(_) => return outcome,
            Ok(Event::Output(failure)) => outcome = Err(failure),
            Ok(_) => {}
        }
    }
}

/// Prints an error as one line, with control characters escaped.
fn tell(what: &impl std::fmt::Display) {
    note(out::readable(what.to_string().as_bytes()));
}

fn unreadable(why: &str) -> Failure {
    Failure::failed(format!("cannot read standard input: {why}"))
}
