//! The line editor on a terminal, which prints arriving messages above the line being typed.
//!
//! The editor has its own thread, because reading from a terminal cannot be interrupted. At the end the
//! program abandons that thread and restores the terminal's settings. The editor reads a line only when asked
//! to, so that it does not draw while a command prints.
//!
//! While a line is typed, messages go to the editor's thread through rustyline's queue, which holds one, and
//! that thread draws them. A message that is queued just when the line is finished stays in the queue until
//! the next line is read. Therefore the program asks for one last, empty line at its end. Then it closes the
//! gate: the prompt passes the gate whenever the editor draws, so a closed gate stops the editor from drawing
//! over the last output.

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

use super::Event;
use super::complete::Completion;
use crate::session;
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::out;

type Line = rustyline::Editor<Completion, MemHistory>;

/// The number of lines in the history, which is not saved.
const HISTORY: usize = 1000;

/// How long to wait until the editor has stopped drawing. A list of completions that fills the screen can
/// delay it.
const STANDSTILL: Duration = Duration::from_millis(500);

/// Draws nothing: moves the cursor up and down again.
const NOTHING: &str = "\x1b[A\n";

/// What the editor is asked to read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// A name to register under.
    Name,
    /// A message or a command.
    Line,
    /// Nothing: the editor only shows the remaining messages.
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
    /// A copy of the line being typed.
    typed: Arc<Mutex<String>>,
    gate: Arc<Gate>,
}

impl Editor {
    /// Starts the editor, if stdin and stdout are a terminal that can edit lines.
    pub fn open(socket: &Path, events: &SyncSender<Event>) -> Result<Option<Editor>, Failure> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let cannot = |error: &dyn std::fmt::Display| {
            Failure::failed(format!(
                "cannot edit lines on this terminal: {error}; use `ringpost client | cat` to work without editing"
            ))
        };
        let config = Config::builder()
            .max_history_size(HISTORY)
            .map_err(|error| cannot(&error))?
            .completion_type(CompletionType::List)
            // Else the editor would wait for a second Tab, and delay messages until then.
            .completion_show_all_if_ambiguous(true)
            .build();
        let history = MemHistory::with_config(&config);
        let mut line = Line::with_history(config, history).map_err(|error| cannot(&error))?;
        // If the program ended in the middle of synchronized output, the terminal would wait for the rest.
        line.enable_synchronized_output(false);
        let typed = Arc::<Mutex<String>>::default();
        line.set_helper(Some(Completion { socket: socket.to_owned(), on: false, typed: Arc::clone(&typed) }));
        // Fails if TERM names a terminal that cannot move its cursor.
        let Ok(printer) = line.create_external_printer() else { return Ok(None) };
        let settings = tcgetattr(io::stdin()).map_err(|error| cannot(&error))?;
        let (asks, asked) = mpsc::channel();
        let events = events.clone();
        let gate = Arc::<Gate>::default();
        let (editor_gate, printer_gate) = (Arc::clone(&gate), Arc::clone(&gate));
        session::spawn("editor", move || {
            edit(line, &editor_gate, &asked, &events);
            editor_gate.abandon();
        })?;
        let printer = Printer { to: Box::new(printer), gate: printer_gate };
        Ok(Some(Editor { asks, printer: Some(printer), settings, reading: None, typed, gate }))
    }

    /// Takes the printer, of which there is one.
    pub fn printer(&mut self) -> Option<Printer> {
        self.printer.take()
    }

    /// Starts reading a line, unless one is being read already. The line comes as an event.
    pub fn ask(&mut self, ask: Ask) {
        if self.reading.is_none() && self.asks.send(ask).is_ok() {
            self.reading = Some(ask);
        }
    }

    /// Asks for the last, empty line, after the one that is being read.
    pub fn rest(&mut self) {
        if self.asks.send(Ask::Rest).is_ok() {
            self.reading.get_or_insert(Ask::Rest);
        }
    }

    /// Must be called when the line has been read.
    pub fn answered(&mut self) {
        self.reading = None;
    }

    /// Restores the terminal, whatever the editor is doing.
    pub fn close(&mut self) {
        let Some(ask) = self.reading.take() else { return };
        // If the printer was never taken, nothing closed the gate, and only keys make the editor draw.
        if self.printer.is_none() {
            self.gate.wait();
        }
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.settings);
        // Switches bracketed paste off, as the editor does, and clears the line.
        let mut last = String::from("\x1b[?2004l\r\x1b[K");
        // Shows an unfinished line once more, so that the user can copy it.
        let typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
        if ask != Ask::Rest && !typed.is_empty() {
            last.push_str(&format!("{}{}\n", ask.prompt(), out::readable(typed.as_bytes())));
        }
        let _ = out::put(last.as_bytes());
    }
}

/// Stops the editor from drawing at the end: the editor passes it whenever it draws.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    passage: Passage,
    /// Whether a line is being read. Then messages go through rustyline's queue.
    reading: bool,
    /// How often `reading` has changed.
    changes: u64,
}

#[derive(Default, PartialEq, Eq)]
enum Passage {
    #[default]
    Open,
    Closed,
    /// The editor waits at the closed gate, or has ended.
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

    /// Must be called when a line has been read.
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

    /// Must be called when the editor has ended.
    fn abandon(&self) {
        self.state().passage = Passage::Reached;
        self.changed.notify_all();
    }

    /// Waits until a line is being read, and returns `changes`; `None` if that does not happen in time.
    fn wait_for_reading(&self) -> Option<u64> {
        let idle = |state: &mut State| !state.reading && state.passage != Passage::Reached;
        let waited = self.changed.wait_timeout_while(self.state(), STANDSTILL, idle);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.reading && state.passage != Passage::Reached { Some(state.changes) } else { None }
    }

    /// Waits until the editor has reached the closed gate, or the time is up.
    fn wait(&self) {
        let not_there = |state: &mut State| state.passage != Passage::Reached;
        drop(self.changed.wait_timeout_while(self.state(), STANDSTILL, not_there));
    }
}

/// A prompt that passes the gate whenever it is drawn.
struct Gated<'a>(&'static str, &'a Gate);

impl Prompt for Gated<'_> {
    fn raw(&self) -> &str {
        self.1.pass();
        self.0
    }
}

/// The body of the editor's thread.
fn edit(mut line: Line, gate: &Gate, asked: &Receiver<Ask>, events: &SyncSender<Event>) {
    while let Ok(ask) = asked.recv() {
        if let Some(completion) = line.helper_mut() {
            completion.on = ask == Ask::Line;
        }
        let event = loop {
            let read = line.readline(&Gated(ask.prompt(), gate));
            gate.leave();
            match read {
                // The last line is read again and again until the program ends.
                Ok(_) | Err(ReadlineError::Eof | ReadlineError::Interrupted) if ask == Ask::Rest => {}
                Ok(text) => {
                    if ask == Ask::Line {
                        // An error means only that the line is not in the history.
                        let _ = line.add_history_entry(text.as_str());
                    }
                    break Event::Line(text.into_bytes());
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => break Event::EndOfInput,
                Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    note("the line is not UTF-8 text: type it again");
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

/// Whether the error says that the terminal is gone. Reading as well as writing may report that.
fn is_hangup(error: &ReadlineError) -> bool {
    let code = match error {
        ReadlineError::Io(error) => error.raw_os_error(),
        ReadlineError::Errno(errno) => io::Error::from(*errno).raw_os_error(),
        _ => None,
    };
    code == Some(Errno::IO.raw_os_error())
}

/// Prints messages above the line that is being typed.
pub struct Printer {
    to: Box<dyn ExternalPrinter + Send>,
    gate: Arc<Gate>,
}

impl Printer {
    /// Prints one line. Waits if the editor still has to draw an earlier one.
    pub fn line(&mut self, text: &str) -> Outcome {
        // If the editor has ended, no line is being typed.
        self.to.print(format!("{text}\n")).or_else(|_| out::line(text))
    }

    /// Waits until the queue is empty, and closes the gate. If the editor has taken the last message but not
    /// drawn it yet, it draws it before it reaches the gate.
    pub fn close(&mut self) {
        // The queue holds one message, so this one enters when the last was taken. That proves nothing if
        // `reading` changed meanwhile: while no line is read, messages bypass the queue.
        while let Some(before) = self.gate.wait_for_reading() {
            let _ = self.to.print(NOTHING.into());
            if self.gate.state().changes == before {
                break;
            }
        }
        self.gate.close();
    }

    /// Makes the editor draw, so that it reaches the gate. Never returns if the editor is there already.
    pub fn redraw(&mut self) {
        let _ = self.to.print(NOTHING.into());
    }
}
