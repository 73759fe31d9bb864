//! The line editor on a terminal. Messages are printed above the line that is typed.
//!
//! A thread reads keys, and never ends: reading cannot be interrupted. Everybody who draws or prints holds
//! the lock of the state and leaves the terminal with the whole line and its cursor. So messages come at any
//! time, also during a search, and after [`Editor::close`] nobody draws.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::Termios;

use super::Event;
use super::complete::Completion;
use super::keyboard;
use super::keys::Key;
use super::terminal::{self, Signals, Terminal};
use super::typing::{Effect, Typing};
use super::view::{Size, View};
use crate::session;
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::out;

/// How long to wait at the end for somebody who prints. The terminal may not take the output.
const STANDSTILL: Duration = Duration::from_millis(500);

pub const BELL: &str = "\x07";

/// What a person is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// A name to register under.
    Name,
    /// A message or a command.
    Line,
}

impl Ask {
    /// With the receiver that was chosen for messages.
    pub fn prompt(self, chosen: Option<&str>) -> String {
        match (self, chosen) {
            (Ask::Name, _) => "name: ".to_owned(),
            (Ask::Line, None) => "> ".to_owned(),
            (Ask::Line, Some(name)) => format!("{name}> "),
        }
    }
}

pub struct Editor {
    screen: Screen,
    /// The terminal's settings before the editor changed them.
    settings: Termios,
}

/// Prints above the line that is typed.
#[derive(Clone)]
pub struct Screen(Arc<Mutex<State>>);

pub struct State {
    pub terminal: Terminal,
    pub view: View,
    pub typing: Typing,
    /// `None` while nothing is asked for. Then nothing is drawn.
    prompt: Option<String>,
    pub ask: Ask,
    /// Whether messages go to a receiver that was chosen, so that lines begin with no name.
    pub chosen: bool,
    pub closed: bool,
}

impl Editor {
    /// Starts the editor, if stdin and stdout are a terminal that can edit lines.
    pub fn open(socket: &Path, events: &SyncSender<Event>) -> Result<Option<Editor>, Failure> {
        let cannot = |error: io::Error| {
            Failure::failed(format!(
                "cannot edit lines on this terminal: {error}; use `ringpost client | cat` to work without editing"
            ))
        };
        let Some(terminal) = Terminal::open().map_err(cannot)? else { return Ok(None) };
        let signals = Signals::catch().map_err(cannot)?;
        let settings = terminal.settings();
        terminal.enter()?;
        let (view, typing) = (View::default(), Typing::default());
        let state =
            State { terminal, view, typing, prompt: None, ask: Ask::Line, chosen: false, closed: false };
        let screen = Screen(Arc::new(Mutex::new(state)));
        let editor = Editor { screen: screen.clone(), settings };
        let (completion, events) = (Completion { socket: socket.to_owned() }, events.clone());
        session::spawn("keys", move || keyboard::read(&screen, signals, &completion, &events))?;
        Ok(Some(editor))
    }

    pub fn screen(&self) -> Screen {
        self.screen.clone()
    }

    /// The terminal's settings before the editor changed them.
    pub fn settings(&self) -> Termios {
        self.settings.clone()
    }

    /// Shows the prompt from now on. Lines come as events.
    pub fn ask(&self, ask: Ask, chosen: Option<&str>) {
        let mut state = self.screen.lock();
        let prompt = ask.prompt(chosen);
        if state.prompt.as_ref() == Some(&prompt) {
            return;
        }
        (state.ask, state.chosen) = (ask, chosen.is_some());
        state.prompt = Some(prompt);
        // If the terminal is gone, reading says so.
        let _ = state.draw();
    }

    /// Restores the terminal. A line that is not finished stays in view, so that it can be copied.
    pub fn close(&self) {
        let deadline = Instant::now() + STANDSTILL;
        let mut state = loop {
            match self.screen.0.try_lock() {
                Ok(state) => break state,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(TryLockError::WouldBlock) => return terminal::restore(&self.settings),
            }
        };
        if state.closed {
            return;
        }
        let mut last = state.view.erase(terminal::size().columns);
        state.typing.end_search();
        let line = state.typing.shown().line;
        if let (Some(prompt), false) = (&state.prompt, line.is_empty()) {
            last.push_str(&format!("{}\n", out::readable(format!("{prompt}{line}").as_bytes())));
        }
        let _ = out::put(last.as_bytes());
        state.closed = true;
        state.terminal.leave();
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        self.close();
    }
}

impl Screen {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints lines, each of which has its line break.
    pub fn print(&self, lines: &str) -> Outcome {
        let mut state = self.lock();
        if state.closed { out::put(lines.as_bytes()) } else { state.above(lines) }
    }

    /// Prints a line to standard error.
    pub fn note(&self, line: &str) {
        if io::stderr().is_terminal() {
            let _ = self.print(&format!("{line}\n"));
        } else {
            note(line);
        }
    }
}

impl State {
    /// Draws the line in place of what is drawn.
    pub fn draw(&mut self) -> Outcome {
        let text = self.drawn();
        out::put(text.as_bytes())
    }

    fn drawn(&mut self) -> String {
        let Some(prompt) = &self.prompt else { return String::new() };
        let shown = self.typing.shown();
        let prompt = shown.prompt.as_ref().unwrap_or(prompt);
        let (before, after) = shown.line.split_at(shown.cursor);
        self.view.draw(prompt, before, after, terminal::size())
    }

    /// Prints above the line.
    pub fn above(&mut self, lines: &str) -> Outcome {
        let text = format!("{}{lines}{}", self.view.erase(terminal::size().columns), self.drawn());
        out::put(text.as_bytes())
    }

    /// Leaves a finished line in view.
    pub fn finish(&mut self, line: &str, mark: &str) -> String {
        let prompt = self.prompt.as_deref().unwrap_or_default();
        // All of its rows: it is not drawn over any more.
        let size = Size { rows: usize::MAX, ..terminal::size() };
        let drawn = self.view.draw(prompt, &format!("{line}{mark}"), "", size);
        self.view.forget();
        format!("{drawn}\n")
    }

    /// Whether a key stops the program.
    pub fn stops(&self, key: &Key) -> bool {
        let stop = self.terminal.special().stop;
        matches!(key, Key::Ctrl(letter) if Some(*letter) == stop) && !self.typing.is_quoting()
    }

    /// Does what a key means. Returns what is to be reported.
    pub fn press(&mut self, key: Key) -> Result<Option<Event>, Failure> {
        if let Key::Column(column) = key {
            if self.view.answered(column) {
                self.draw()?;
            }
            return Ok(None);
        }
        let special = self.terminal.special();
        let effect = match (key, self.ask) {
            (Key::Paste(text), ask) => self.typing.paste(&text, ask == Ask::Line),
            // A question is left by the key that leaves a line.
            (Key::Ctrl(letter), Ask::Name) if special.interrupt == Some(letter) => Effect::Interrupt,
            (key, _) => self.typing.press(key, special),
        };
        let mut event = None;
        match effect {
            Effect::Changed => self.draw()?,
            Effect::Nothing => out::put(BELL.as_bytes())?,
            Effect::Clear => {
                self.view.forget();
                let text = format!("\x1b[H\x1b[2J{}", self.drawn());
                out::put(text.as_bytes())?;
            }
            Effect::Lines(lines) => {
                let mut text: String = lines.iter().map(|line| self.finish(line, "")).collect();
                match self.ask {
                    Ask::Line => lines.iter().for_each(|line| self.typing.remember(line)),
                    Ask::Name => self.prompt = None,
                }
                text.push_str(&self.drawn());
                out::put(text.as_bytes())?;
                event = Some(Event::Lines(lines.into_iter().map(String::into_bytes).collect()));
            }
            Effect::Cancelled(line) => {
                let text = self.finish(&line, "^C") + &self.drawn();
                out::put(text.as_bytes())?;
            }
            Effect::Interrupt => {
                // As the key does in other programs.
                let _ = kill_process(getpid(), Signal::INT);
            }
            Effect::End => event = Some(Event::EndOfInput),
        }
        Ok(event)
    }
}
