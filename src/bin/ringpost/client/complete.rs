//! What Tab completes: commands, and the names of the clients that are registered at that moment.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringpost::Observer;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::line::COMMANDS;
use ringpost::cli::out;

/// How long the server may take to say who is there: the editor stands still meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);

/// The editor's helper.
pub struct Completion {
    pub socket: PathBuf,
    /// Off while a name is asked for.
    pub on: bool,
    /// The line as it is typed, for those outside of the editor.
    pub typed: Arc<Mutex<String>>,
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = &line[..cursor];
        let word = before.trim_start();
        let start = before.len() - word.len();
        if !self.on {
            return Ok((start, Vec::new()));
        }
        if word.starts_with('/') {
            return Ok((start, commands(word)));
        }
        // A server that does not answer has nobody to offer.
        let clients = Observer::connect_timeout(&self.socket, PATIENCE).and_then(|observer| observer.list());
        let clients: Vec<(String, String)> = clients
            .unwrap_or_default()
            .iter()
            .map(|client| (client.name.as_str().to_owned(), client.key.to_string()))
            .collect();
        Ok((start, receivers(word, &clients)))
    }
}

fn commands(word: &str) -> Vec<Pair> {
    COMMANDS
        .into_iter()
        .filter(|command| command.starts_with(word))
        .map(|command| Pair { display: command.trim_end().into(), replacement: command.into() })
        .collect()
}

/// Who can be meant by `word`, the line's beginning: those whose names begin with it, else those whose keys
/// do.
fn receivers(word: &str, clients: &[(String, String)]) -> Vec<Pair> {
    let begun = word.strip_prefix('"').unwrap_or(word);
    // Behind the name there is the message, where nothing is completed.
    let message_begins = if begun.len() < word.len() {
        begun.contains('"')
    } else {
        word.contains(|letter: char| letter.is_ascii_whitespace())
    };
    if message_begins {
        return Vec::new();
    }
    let mut found: Vec<Pair> = clients
        .iter()
        .filter(|(name, _)| name.starts_with(begun))
        .map(|(name, key)| Pair {
            display: out::readable(name.as_bytes()),
            replacement: format!("{} ", address(name, key)),
        })
        .collect();
    if found.is_empty() && begun.len() == word.len() {
        let begun = begun.to_ascii_uppercase();
        found = clients
            .iter()
            .filter(|(_, key)| key.starts_with(&begun))
            .map(|(name, key)| Pair {
                display: format!("{key} {}", out::readable(name.as_bytes())),
                replacement: format!("{key} "),
            })
            .collect();
    }
    found.sort_by(|a, b| a.display.cmp(&b.display));
    found
}

/// How a line addresses the client: by its name, in quotes if it needs them, or by its key where a name
/// cannot be written or would disturb the terminal.
fn address(name: &str, key: &str) -> String {
    let spaced = name.contains(|letter: char| letter.is_ascii_whitespace());
    if out::readable(name.as_bytes()) != name {
        key.to_owned()
    } else if !spaced && !name.starts_with(['"', '/']) {
        name.to_owned()
    } else if !name.contains('"') {
        format!("\"{name}\"")
    } else {
        key.to_owned()
    }
}

impl Hinter for Completion {
    type Hint = String;

    /// No hints: but this is asked whenever the line has changed.
    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        line.clone_into(&mut self.typed.lock().unwrap_or_else(PoisonError::into_inner));
        None
    }
}

impl Highlighter for Completion {}

impl Validator for Completion {}

impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    fn replacements(word: &str) -> Vec<String> {
        let clients = [
            ("bob", "00K1"),
            ("bobby", "00K2"),
            ("my service", "0AK3"),
            ("/slash", "00K4"),
            ("a \" b", "00K5"),
            ("zero\u{202e}", "00K6"),
        ]
        .map(|(name, key)| (name.to_owned(), key.to_owned()));
        receivers(word, &clients).into_iter().map(|pair| pair.replacement).collect()
    }

    #[test]
    fn names_are_completed_as_they_have_to_be_written() {
        assert_eq!(replacements("bo"), ["bob ", "bobby "]);
        assert_eq!(replacements("bobb"), ["bobby "]);
        assert_eq!(replacements("my"), ["\"my service\" "]);
        assert_eq!(replacements("\"my s"), ["\"my service\" "]);
        assert_eq!(replacements("\"/s"), ["\"/slash\" "]);
        assert_eq!(replacements("a"), ["00K5 "], "no quoting serves");
        assert_eq!(replacements("zero"), ["00K6 "], "it would turn the line around");
        assert_eq!(replacements("").len(), 6);
    }

    #[test]
    fn keys_are_completed_where_no_name_is_meant_and_messages_never() {
        assert_eq!(replacements("0a"), ["0AK3 "]);
        assert_eq!(replacements("nobody"), [""; 0]);
        assert_eq!(replacements("bob bo"), [""; 0]);
        assert_eq!(replacements("bob "), [""; 0]);
        assert_eq!(replacements("\"my service\" bo"), [""; 0]);
    }

    #[test]
    fn commands_are_completed() {
        let found = |word| commands(word).into_iter().map(|pair| pair.replacement).collect::<Vec<_>>();
        assert_eq!(found("/w"), ["/who"]);
        assert_eq!(found("/ca"), ["/call "]);
        assert_eq!(found("/").len(), 4);
        assert_eq!(found("/x"), [""; 0]);
    }
}
