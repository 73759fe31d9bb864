//! `ringpost client`: sends typed lines as messages and prints arriving messages.
//!
//! One thread reads stdin (with a line editor if stdin and stdout are a terminal), one receives messages, one
//! for each `/sub` takes samples, and one prints what these have. The main thread handles the events of all.
//! Reading cannot be interrupted, so the reading thread is not joined at the end. For a person, the client
//! registers again when its server has ended; a script ends then.

mod buffer;
mod complete;
mod editor;
mod history;
mod keyboard;
mod keybook;
pub mod keys;
mod line;
mod plain;
mod talk;
pub mod terminal;
mod topics;
mod typing;
mod view;
mod voice;
mod who;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use ringpost::{Client, CloseReason, Inbox, Observer, Reconnect, ReconnectEvent, RecvError, RegisterError};

use crate::cli::ClientOptions;
use crate::listen;
use crate::patience::patiently;
use crate::session;
use editor::{Ask, Editor};
use keybook::Keybook;
use plain::Plain;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::signals::Interrupt;
use talk::{Count, Talk};
use voice::Voice;

/// The time-out for registering, for a call, and for room in a receiver's inbox.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait at the end until all messages are printed, in case nobody reads the output.
const DRAIN: Duration = Duration::from_secs(2);

/// The longest delay before an attempt to register again. A person waits for it.
const AGAIN: Duration = Duration::from_millis(500);

/// What the threads report to the main thread.
enum Event {
    /// A line, or several that were pasted together.
    Lines(Vec<Vec<u8>>),
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
    Arrived(String),
    /// No more messages can come, and this is why.
    End(String),
}

/// Reads lines, with or without a line editor.
enum Input {
    Editor(Editor),
    Plain(Plain),
}

pub fn run(socket: &Path, options: &ClientOptions) -> Outcome {
    let interrupt = Interrupt::install()?;
    let (events, arrived) = mpsc::sync_channel(64);
    let on_signal = events.clone();
    // If the queue is full, the main thread still sees the interrupt's flag.
    interrupt.then(move || drop(on_signal.try_send(Event::Signal)));
    let input = match Editor::open(socket, &events)? {
        Some(editor) => {
            let settings = editor.settings();
            interrupt.at_last(move || terminal::restore(&settings));
            Input::Editor(editor)
        }
        None => Input::Plain(Plain::open(&events)?),
    };
    let keys = Keybook::default();
    let client = register(socket, options, &input, &keys, &arrived, &interrupt);
    let outcome = match client {
        Ok(Some(client)) => serve(client, &input, keys, &events, &arrived, &interrupt),
        // The input ended, or the user gave up, before a name was given.
        Ok(None) if input.is_of_a_person() => Ok(()),
        Ok(None) => interrupt.check().and(Err(Failure::usage("no name given: use ringpost client NAME"))),
        Err(failure) => Err(failure),
    };
    input.close();
    outcome
}

/// Registers under `name`, or asks for a name. A person is asked again until a name is accepted.
fn register(
    socket: &Path,
    options: &ClientOptions,
    input: &Input,
    keys: &Keybook,
    arrived: &Receiver<Event>,
    interrupt: &Interrupt,
) -> Result<Option<Client>, Failure> {
    let person = input.is_of_a_person();
    let again = person.then(|| reconnect(input.voice(), keys.clone()));
    if let Some(name) = options.name() {
        return session::register(socket, &name, &options.wait, None, again, interrupt).map(Some);
    }
    if person || options.wait.wait_for_server.is_some() {
        // Find out whether there is a server before asking for a name.
        patiently(socket, &options.wait, None, Some(interrupt), |left| {
            Observer::connect_timeout(socket, left)
        })?;
    }
    let mut builder = Client::builder(socket).timeout(PATIENCE);
    if let Some(again) = again {
        builder = builder.reconnect(again);
    }
    loop {
        let line = match input.next(Ask::Name, None, arrived) {
            Event::Lines(lines) => lines.concat(),
            Event::InputFailed(why) => return Err(unreadable(&why)),
            Event::TooLong => Vec::new(),
            _ => return Ok(None),
        };
        if interrupt.caught().is_some() {
            return Ok(None);
        }
        let registered = std::str::from_utf8(&line).map(|text| builder.clone().register(text.trim()));
        let failure = match registered {
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
        input.voice().tell(&failure);
    }
}

/// Registers again when the server has ended, for as long as a person waits for it, who is told.
fn reconnect(voice: Voice, keys: Keybook) -> Reconnect {
    let show = move |event: &ReconnectEvent| match event {
        ReconnectEvent::Ended { reason } => {
            let what = match reason {
                CloseReason::Shutdown => "the server shut down".to_owned(),
                CloseReason::Died => "the server died".to_owned(),
                reason => reason.to_string(),
            };
            voice.tell(&format!("{what}: waiting for the next one; what is typed is kept"));
        }
        ReconnectEvent::Registered { key, .. } => {
            keys.add([*key]);
            voice.tell(&format!("registered again, key {key}"));
        }
        ReconnectEvent::GaveUp { .. } => voice.tell(event),
        _ => {}
    };
    Reconnect::default().within(Duration::MAX).longest_delay(AGAIN).on_event(show)
}

/// Handles lines and messages until the end, and unregisters.
fn serve(
    client: Client,
    input: &Input,
    keys: Keybook,
    events: &SyncSender<Event>,
    arrived: &Receiver<Event>,
    interrupt: &Interrupt,
) -> Outcome {
    let (voice, person) = (input.voice(), input.is_of_a_person());
    keys.add([client.key()]);
    voice.tell(&format!("registered as {}, key {}", client.name(), client.key()));
    let closer = client.closer();
    let (caller, inbox) = client.split();
    let (show, shown) = mpsc::sync_channel(0);
    let mut talk = Talk::new(caller, person, voice.clone(), keys.clone(), show.clone());
    let (busy, on_signal) = (Arc::clone(&talk.busy), events.clone());
    interrupt.then(move || {
        let _ = on_signal.try_send(Event::Signal);
        // A stopped server must not block a request that is under way.
        if busy.load(Ordering::SeqCst) {
            closer.close();
        }
    });
    if person {
        voice.note("type a NAME, a space and the message; /help shows the commands; Ctrl-D ends");
    }
    let sender = events.clone();
    let keys = person.then_some(keys);
    let started = session::spawn("inbox", move || receive(inbox, keys.as_ref(), &show))
        .and_then(|()| session::spawn("printer", move || print(shown, &voice, &sender)));
    let printing = started.is_ok();
    let result = started.and_then(|()| talk.run(input, arrived, interrupt));
    let Talk { caller, topics, count, .. } = talk;
    drop(topics);
    let left = session::left(caller, person);
    let printed = if printing { drain(arrived) } else { Ok(()) };
    input.close();
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

impl Input {
    /// Whether a person types the lines.
    fn is_of_a_person(&self) -> bool {
        match self {
            Input::Editor(_) => true,
            Input::Plain(plain) => plain.person,
        }
    }

    /// Waits for the next event, and shows a person the prompt meanwhile.
    fn next(&self, ask: Ask, chosen: Option<&str>, arrived: &Receiver<Event>) -> Event {
        match self {
            Input::Editor(editor) => editor.ask(ask, chosen),
            Input::Plain(plain) => plain.ask(ask, chosen),
        }
        let event = arrived.recv().unwrap_or(Event::EndOfInput);
        match self {
            // The user has not ended the prompt's line.
            Input::Plain(plain) if !matches!(event, Event::Lines(_) | Event::TooLong) => plain.end_prompt(),
            _ => {}
        }
        event
    }

    fn voice(&self) -> Voice {
        match self {
            Input::Editor(editor) => Voice::Screen(editor.screen()),
            Input::Plain(_) => Voice::Plain,
        }
    }

    fn close(&self) {
        if let Input::Editor(editor) = self {
            editor.close();
        }
    }
}

/// Gives messages to the printing thread, until the channel is closed. With `keys`, for a person, keys are
/// shortened, and the inbox is that of the next server after the end of one.
fn receive(mut inbox: Inbox, keys: Option<&Keybook>, show: &SyncSender<Shown>) {
    loop {
        let (shown, last) = match inbox.recv() {
            Ok(message) => {
                let name = message.sender_name().as_str();
                let key = match keys {
                    Some(keys) => keys.short(message.sender()),
                    None => message.sender().to_string(),
                };
                (Shown::Arrived(listen::line(name, &key, message.payload())), false)
            }
            // Reported once. The next call registers again, or gives up.
            Err(RecvError::Disconnected(CloseReason::Died | CloseReason::Shutdown)) if keys.is_some() => {
                continue;
            }
            Err(error) => (Shown::End(session::gone(&error)), true),
        };
        if show.send(shown).is_err() || last {
            return;
        }
    }
}

/// Prints messages and samples until no more messages can come.
fn print(shown: Receiver<Shown>, voice: &Voice, events: &SyncSender<Event>) {
    let end = loop {
        match shown.recv() {
            Ok(Shown::Arrived(line)) => {
                if let Err(failure) = voice.put(&(voice.stamped(&line) + "\n")) {
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
    let _ = events.send(Event::Printed);
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

fn unreadable(why: &str) -> Failure {
    Failure::failed(format!("cannot read standard input: {why}"))
}
