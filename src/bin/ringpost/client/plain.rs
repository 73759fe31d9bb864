//! Reads lines without an editor: from a file, a pipe, or a terminal that cannot edit.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::sync::mpsc::SyncSender;

use super::Event;
use super::editor::Ask;
use crate::session;
use ringpost::cli::exit::{Failure, note};

pub struct Plain {
    /// Whether a person types the lines.
    pub person: bool,
}

impl Plain {
    /// Starts the thread that reads lines.
    pub fn open(events: &SyncSender<Event>) -> Result<Plain, Failure> {
        let person = io::stdin().is_terminal();
        let events = events.clone();
        session::spawn("stdin", move || read(&events))?;
        Ok(Plain { person })
    }

    /// Shows the prompt to a person.
    pub fn ask(&self, ask: Ask, chosen: Option<&str>) {
        if self.person {
            let _ = io::stderr().lock().write_all(ask.prompt(chosen).as_bytes());
        }
    }

    /// Ends the prompt's line if the user did not.
    pub fn end_prompt(&self) {
        if self.person {
            note("");
        }
    }
}

/// Reads stdin line by line, and removes the line breaks.
fn read(events: &SyncSender<Event>) {
    let mut stdin = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let event = match stdin.by_ref().take(session::MOST + 1).read_until(b'\n', &mut line) {
            Ok(0) => Event::EndOfInput,
            Err(error) => Event::InputFailed(error.to_string()),
            Ok(_) if line.last() == Some(&b'\n') => {
                line.pop();
                Event::Lines(vec![line])
            }
            Ok(_) if line.len() as u64 > session::MOST => match stdin.skip_until(b'\n') {
                Ok(_) => Event::TooLong,
                Err(error) => Event::InputFailed(error.to_string()),
            },
            Ok(_) => Event::Lines(vec![line]),
        };
        let last = matches!(event, Event::EndOfInput | Event::InputFailed(_));
        if events.send(event).is_err() || last {
            return;
        }
    }
}
