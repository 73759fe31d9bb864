//! Lines edited on a terminal, with what arrives shown above the line that is being typed.
//!
//! The editor runs on a thread of its own, because a read from a terminal cannot be interrupted: whoever ends
//! the program leaves that thread behind and gives the terminal its settings back. It reads only when it is
//! asked to, so that nothing draws while a command prints, and so that it does not begin anew at the end.
//!
//! While a line is typed, a message goes to the editor through rustyline's queue of one, and is drawn by the
//! editor's thread. One that is queued in the moment in which the line is finished stays there until the next
//! line is read: that is why the end asks for one last, empty line. It then closes the gate of the prompt,
//! which the editor asks for whenever it draws: behind it the editor stands still, and draws nothing over
//! what the end has to say.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{CompletionType, Config, ExternalPrinter, Prompt};

use super::complete::Completion;
use super::{Event, spawn};
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::out;

type Line = rustyline::Editor<Completion, MemHistory>;

/// How many lines the history holds; they are not kept over the program's end.
const HISTORY: usize = 1000;

/// How long the end waits for the editor to stand still; a list of completions that fills the screen can hold
/// it up.
const STANDSTILL: Duration = Duration::from_millis(500);

/// Draws nothing: one row up, and down again.
const NOTHING: &str = "\x1b[A\n";

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
    /// The line as it is typed.
    typed: Arc<Mutex<String>>,
    gate: Arc<Gate>,
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
        // The end may come while it draws: the terminal would wait for the rest.
        line.enable_synchronized_output(false);
        let typed = Arc::<Mutex<String>>::default();
        line.set_helper(Some(Completion { socket: socket.to_owned(), on: false, typed: Arc::clone(&typed) }));
        // It is refused where TERM names a terminal that cannot move its cursor.
        let Ok(printer) = line.create_external_printer() else { return Ok(None) };
        let settings = tcgetattr(io::stdin()).map_err(|error| cannot(&error))?;
        let (asks, asked) = mpsc::channel();
        let events = events.clone();
        let gate = Arc::<Gate>::default();
        let (before, behind) = (Arc::clone(&gate), Arc::clone(&gate));
        spawn("editor", move || {
            edit(line, &before, &asked, &events);
            before.abandon();
        })?;
        let printer = Printer { to: Box::new(printer), gate: behind };
        Ok(Some(Editor { asks, printer: Some(printer), settings, reading: None, typed, gate }))
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

    /// Begins the end: behind the line that is being read, if there is one, comes the last one.
    pub fn rest(&mut self) {
        if self.asks.send(Ask::Rest).is_ok() {
            self.reading.get_or_insert(Ask::Rest);
        }
    }

    /// What was asked for has come.
    pub fn answered(&mut self) {
        self.reading = None;
    }

    /// Gives the terminal back, whatever the editor is at.
    pub fn close(&mut self) {
        let Some(ask) = self.reading.take() else { return };
        // Where there never was anything to print, nobody has closed the gate, and only keys make the editor
        // draw.
        if self.printer.is_none() {
            self.gate.wait();
        }
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.settings);
        // As the editor does it: no marks around pasted text.
        let mut last = String::from("\x1b[?2004l\r\x1b[K");
        // What was typed in vain is left for whoever wants to copy it.
        let typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
        if ask != Ask::Rest && !typed.is_empty() {
            last.push_str(&format!("{}{}\n", ask.prompt(), out::readable(typed.as_bytes())));
        }
        let _ = out::put(last.as_bytes());
    }
}

/// What the editor passes whenever it draws.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    passage: Passage,
    /// Whether a line is being read: then what is printed goes through the queue.
    reading: bool,
    /// How often that has changed.
    changes: u64,
}

#[derive(Default, PartialEq, Eq)]
enum Passage {
    #[default]
    Open,
    Closed,
    /// The editor stands before it for ever, or has ended.
    Reached,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self) {
        let mut state = self.state();
        if !state.reading {
            state.reading = true;
            state.changes += 1;
            self.changed.notify_all();
        }
        while state.passage != Passage::Open {
            state.passage = Passage::Reached;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The line has been read.
    fn leave(&self) {
        let mut state = self.state();
        state.reading = false;
        state.changes += 1;
    }

    fn close(&self) {
        let mut state = self.state();
        if state.passage == Passage::Open {
            state.passage = Passage::Closed;
        }
    }

    /// The editor will not draw any more.
    fn abandon(&self) {
        self.state().passage = Passage::Reached;
        self.changed.notify_all();
    }

    /// Waits until a line is read, and tells how often that has changed; none if it does not come to that.
    fn wait_for_reading(&self) -> Option<u64> {
        let idle = |state: &mut State| !state.reading && state.passage != Passage::Reached;
        let waited = self.changed.wait_timeout_while(self.state(), STANDSTILL, idle);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.reading && state.passage != Passage::Reached { Some(state.changes) } else { None }
    }

    /// Waits until the editor stands before the closed gate; not for ever.
    fn wait(&self) {
        let not_there = |state: &mut State| state.passage != Passage::Reached;
        drop(self.changed.wait_timeout_while(self.state(), STANDSTILL, not_there));
    }
}

/// A prompt behind a gate.
struct Gated<'a>(&'static str, &'a Gate);

impl Prompt for Gated<'_> {
    fn raw(&self) -> &str {
        self.1.pass();
        self.0
    }
}

/// The editor's thread.
fn edit(mut line: Line, gate: &Gate, asked: &Receiver<Ask>, events: &SyncSender<Event>) {
    while let Ok(ask) = asked.recv() {
        if let Some(completion) = line.helper_mut() {
            completion.on = ask == Ask::Line;
        }
        let event = loop {
            let read = line.readline(&Gated(ask.prompt(), gate));
            gate.leave();
            match read {
                // The end decides when this one ends.
                Ok(_) | Err(ReadlineError::Eof | ReadlineError::Interrupted) if ask == Ask::Rest => {}
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
                Err(error) if is_hangup(&error) => break Event::EndOfInput,
                Err(error) => break Event::InputFailed(error.to_string()),
            }
        };
        if ask == Ask::Rest || events.send(event).is_err() {
            return;
        }
    }
}

/// Whether the terminal is gone, which its reader as well as its writer may be told.
fn is_hangup(error: &ReadlineError) -> bool {
    let code = match error {
        ReadlineError::Io(error) => error.raw_os_error(),
        ReadlineError::Errno(errno) => io::Error::from(*errno).raw_os_error(),
        _ => None,
    };
    code == Some(Errno::IO.raw_os_error())
}

/// Prints above the line that is being typed.
pub struct Printer {
    to: Box<dyn ExternalPrinter + Send>,
    gate: Arc<Gate>,
}

impl Printer {
    /// Prints one line; waits while the editor has another one to draw.
    pub fn line(&mut self, text: &str) -> Outcome {
        // Without the editor, nobody is typing.
        self.to.print(format!("{text}\n")).or_else(|_| out::line(text))
    }

    /// Waits until nothing is queued any more, and closes the gate. The editor may have taken the last line
    /// and not drawn it yet: it does so before it asks for the prompt.
    pub fn close(&mut self) {
        // The queue holds one, so that a second one enters when the first was taken. It tells nothing if it
        // went past the queue because no line was read at that moment.
        while let Some(before) = self.gate.wait_for_reading() {
            let _ = self.to.print(NOTHING.into());
            if self.gate.state().changes == before {
                break;
            }
        }
        self.gate.close();
    }

    /// Makes the editor draw, so that it comes to the gate. It does not return if the editor is there
    /// already.
    pub fn stir(&mut self) {
        let _ = self.to.print(NOTHING.into());
    }
}
