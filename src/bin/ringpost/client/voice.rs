//! Where the output goes: above the line that is typed, or plainly to standard output and standard error.

use jiff::ZonedDateTime;

use super::editor::Screen;
use ringpost::cli::exit::{Outcome, note};
use ringpost::cli::out;

/// Prints for `ringpost client`. The threads share it.
#[derive(Clone)]
pub enum Voice {
    Screen(Screen),
    Plain,
}

impl Voice {
    /// Prints data, of which each line has its line break.
    pub fn put(&self, lines: &str) -> Outcome {
        match self {
            _ if lines.is_empty() => Ok(()),
            Voice::Screen(screen) => screen.print(lines),
            Voice::Plain => out::put(lines.as_bytes()),
        }
    }

    /// Prints a line that is no data.
    pub fn note(&self, line: &str) {
        match self {
            Voice::Screen(screen) => screen.note(line),
            Voice::Plain => note(line),
        }
    }

    /// Prints an error as one line, with control characters escaped.
    pub fn tell(&self, what: &impl std::fmt::Display) {
        self.note(&out::readable(what.to_string().as_bytes()));
    }

    /// Puts the time before what has just arrived, where it is shown to a person. Scripts get it as it is.
    pub fn stamped(&self, line: &str) -> String {
        match self {
            Voice::Screen(_) => format!("{} {line}", ZonedDateTime::now().strftime("%H:%M:%S")),
            Voice::Plain => line.to_owned(),
        }
    }
}
