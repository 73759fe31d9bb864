//! Lines edited on a terminal, with what arrives shown above the line that is being typed.
//!
//! The editor runs on a thread of its own, because a read from a terminal cannot be interrupted: whoever ends the
//! program leaves that thread behind and gives the terminal its settings back. It reads only when it is asked to, so
//! that nothing draws while a command prints, and so that it does not begin anew at the end.
//!
//! While a line is typed, a message goes to the editor through rustyline's queue of one, and is drawn by the editor's
//! thread. One that is queued in the moment in which the line is finished stays in the queue until the next line is
//! read. That is why the end asks for one last, empty line: in it the queue runs dry, and `Printer::flush` knows when.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{CompletionType, Config, ExternalPrinter};

use super::complete::Completion;
use super::{Event, spawn};
use crate::common::exit::{Failure, Outcome, note};
use crate::common::out;

type Line = rustyline::Editor<Completion, MemHistory>;

/// How many lines the history holds; they are not kept over the program's end.
const HISTORY: usize = 1000;

/// What the editor is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// A name to register under.
    Name,
    /// Something to do.
    Line,
    /// Nothing: to show what is still to be shown.
    Rest,
}

impl Ask {
    pub fn prompt(self) -> &'static str {
        match self {
            Ask::Name => "name: ",
            Ask::Line => "> ",
            Ask::Rest => "",
        }
    }
}

pub struct Editor {
    asks: Sender<Ask>,
    printer: Option<Printer>,
    /// The terminal's settings before the editor changes them.
    settings: Termios,
    reading: Option<Ask>,
}

impl Editor {
    /// An editor, if stdin and stdout are a terminal on which lines can be edited.
    pub fn open(socket: &Path, events: &SyncSender<Event>) -> Result<Option<Editor>, Failure> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let cannot = |error: &dyn std::fmt::Display| {
            Failure::failed(format!(
                "cannot edit lines on this terminal: {error}; `ringpost client | cat` does without"
            ))
        };
        let config = Config::builder()
            .max_history_size(HISTORY)
            .map_err(|error| cannot(&error))?
            .completion_type(CompletionType::List)
            // A second Tab would be waited for, and messages with it.
            .completion_show_all_if_ambiguous(true)
            .build();
        let history = MemHistory::with_config(&config);
        let mut line = Line::with_history(config, history).map_err(|error| cannot(&error))?;
        line.set_helper(Some(Completion { socket: socket.to_owned(), on: false }));
        // It is refused where TERM names a terminal that cannot move its cursor.
        let Ok(printer) = line.create_external_printer() else { return Ok(None) };
        let settings = tcgetattr(io::stdin()).map_err(|error| cannot(&error))?;
        let (asks, asked) = mpsc::channel();
        let events = events.clone();
        spawn("editor", move || edit(line, &asked, &events))?;
        Ok(Some(Editor { asks, printer: Some(Printer(Box::new(printer))), settings, reading: None }))
    }

    /// What prints above the line; there is one.
    pub fn printer(&mut self) -> Option<Printer> {
        self.printer.take()
    }

    /// Begins to read a line, which comes as an event, unless that is under way.
    pub fn ask(&mut self, ask: Ask) {
        if self.reading.is_none() && self.asks.send(ask).is_ok() {
            self.reading = Some(ask);
        }
    }

    /// What was asked for has come.
    pub fn answered(&mut self) {
        self.reading = None;
    }

    /// Gives the terminal back, whatever the editor is at.
    pub fn close(&mut self) {
        let Some(ask) = self.reading.take() else { return };
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.settings);
        // As the editor does it: no marks around pasted text. What is half typed stays in view.
        let _ = out::put(if ask == Ask::Rest { b"\x1b[?2004l\r\x1b[K" } else { b"\x1b[?2004l\r\n" });
    }
}

/// The editor's thread.
fn edit(mut line: Line, asked: &Receiver<Ask>, events: &SyncSender<Event>) {
    while let Ok(ask) = asked.recv() {
        if let Some(completion) = line.helper_mut() {
            completion.on = ask == Ask::Line;
        }
        let event = loop {
            match line.readline(ask.prompt()) {
                Ok(text) => {
                    if ask == Ask::Line {
                        // It can only fail to grow.
                        let _ = line.add_history_entry(text.as_str());
                    }
                    break Event::Line(text.into_bytes());
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => break Event::EndOfInput,
                Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    note("what was typed is not UTF-8 text: type the line again");
                }
                Err(error) => break Event::InputFailed(error.to_string()),
            }
        };
        if ask == Ask::Rest || events.send(event).is_err() {
            return;
        }
    }
}

/// Prints above the line that is being typed.
pub struct Printer(Box<dyn ExternalPrinter + Send>);

impl Printer {
    /// Prints one line; waits while the editor has another one to draw.
    pub fn line(&mut self, text: &str) -> Outcome {
        // Without the editor, nobody is typing.
        self.0.print(format!("{text}\n")).or_else(|_| out::line(text))
    }

    /// Waits until what was printed can be seen, which takes an editor that reads.
    pub fn flush(&mut self) {
        // The queue holds one: the first of these enters it when the last line has been taken out, the second when the
        // first was taken, by when that line was drawn. They draw nothing: one row up and one down.
        for _ in 0..2 {
            if self.0.print("\x1b[A\n".into()).is_err() {
                return;
            }
        }
    }
}
