//! Completion with Tab: of commands, of the names and keys of the registered clients, and of topics.

use std::collections::BTreeSet;
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

/// How long to wait for the list of clients, while the editor is blocked.
const PATIENCE: Duration = Duration::from_millis(500);

/// The editor's helper.
pub struct Completion {
    pub socket: PathBuf,
    /// False while the user is asked for a name to register under.
    pub on: bool,
    /// A copy of the line being typed, for use outside the editor's thread.
    pub typed: Arc<Mutex<String>>,
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = &line[..cursor];
        let word = before.trim_start();
        let of_topics = argument(word, &["/pub", "/sub", "/unsub"]);
        let word = of_topics.or(argument(word, &["/call"])).unwrap_or(word);
        let start = before.len() - word.len();
        if !self.on {
            return Ok((start, Vec::new()));
        }
        if of_topics.is_some() {
            // If the server does not answer, nothing is completed.
            let published =
                Observer::connect_timeout(&self.socket, PATIENCE).and_then(|observer| observer.topics());
            let published = published.unwrap_or_default();
            return Ok((start, topics(word, published.iter().map(|topic| topic.topic.as_str()))));
        }
        if word.starts_with('/') && start == before.len() - before.trim_start().len() {
            return Ok((start, commands(word)));
        }
        // If the server does not answer, nothing is completed.
        let clients = Observer::connect_timeout(&self.socket, PATIENCE).and_then(|observer| observer.list());
        let clients: Vec<(String, String)> = clients
            .unwrap_or_default()
            .iter()
            .map(|client| (client.name.as_str().to_owned(), client.key.to_string()))
            .collect();
        Ok((start, receivers(word, &clients)))
    }
}

/// What comes after one of these commands: a client as in a message, or a topic.
fn argument<'a>(line: &'a str, commands: &[&str]) -> Option<&'a str> {
    let rest = commands.iter().find_map(|command| line.strip_prefix(command))?;
    rest.starts_with(|letter: char| letter.is_ascii_whitespace()).then(|| rest.trim_start())
}

fn commands(word: &str) -> Vec<Pair> {
    COMMANDS
        .into_iter()
        .filter(|command| command.starts_with(word))
        .map(|command| Pair { display: command.trim_end().into(), replacement: command.into() })
        .collect()
}

/// The clients that complete `word`, the beginning of the line: those whose names begin with it, or else
/// those whose keys do.
fn receivers(word: &str, clients: &[(String, String)]) -> Vec<Pair> {
    let begun = word.strip_prefix('"').unwrap_or(word);
    // After the name comes the message, in which nothing is completed.
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

/// The topics that begin with `word`.
fn topics<'a>(word: &str, topics: impl Iterator<Item = &'a str>) -> Vec<Pair> {
    let begun = word.strip_prefix('"').unwrap_or(word);
    if begun.contains('"') || begun.len() == word.len() && begun.contains(' ') {
        return Vec::new();
    }
    // Several clients may publish one.
    let begins = |topic: &&str| topic.starts_with(begun) && out::readable(topic.as_bytes()) == **topic;
    let found: BTreeSet<&str> = topics.filter(begins).collect();
    let quoted = |topic: &str| match topic.contains([' ', '"']) || topic.starts_with('"') {
        false => Some(format!("{topic} ")),
        true => (!topic.contains('"')).then(|| format!("\"{topic}\" ")),
    };
    found
        .into_iter()
        .filter_map(|topic| Some(Pair { display: topic.to_owned(), replacement: quoted(topic)? }))
        .collect()
}

/// How to address the client in a line: by its name, quoted if necessary, or by its key if the name cannot be
/// quoted or contains characters that are not safe to print.
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

    /// Gives no hint, but copies the line: rustyline calls this whenever the line has changed.
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
    fn names_are_completed_with_quotes_where_needed() {
        assert_eq!(replacements("bo"), ["bob ", "bobby "]);
        assert_eq!(replacements("bobb"), ["bobby "]);
        assert_eq!(replacements("my"), ["\"my service\" "]);
        assert_eq!(replacements("\"my s"), ["\"my service\" "]);
        assert_eq!(replacements("\"/s"), ["\"/slash\" "]);
        assert_eq!(replacements("a"), ["00K5 "], "this name cannot be quoted");
        assert_eq!(replacements("zero"), ["00K6 "], "this name would change the direction of the line");
        assert_eq!(replacements("").len(), 6);
    }

    #[test]
    fn keys_are_completed_if_no_name_matches_and_messages_never() {
        assert_eq!(replacements("0a"), ["0AK3 "]);
        assert_eq!(replacements("nobody"), [""; 0]);
        assert_eq!(replacements("bob bo"), [""; 0]);
        assert_eq!(replacements("bob "), [""; 0]);
        assert_eq!(replacements("\"my service\" bo"), [""; 0]);
    }

    #[test]
    fn the_client_after_a_call_is_completed_like_that_of_a_message() {
        for (line, rest) in [
            ("/call ", Some("")),
            ("/call  bo", Some("bo")),
            ("/call bob te", Some("bob te")),
            ("/call", None),
            ("/caller x", None),
            ("/server x", None),
            ("bob /call x", None),
        ] {
            assert_eq!(argument(line, &["/call"]), rest, "{line:?}");
        }
    }

    #[test]
    fn topics_are_completed_with_quotes_where_needed() {
        let known = ["prices/a", "prices/b c", "prices/a", "z\"z"];
        let found = |word| {
            let found = topics(word, known.into_iter()).into_iter();
            found.map(|pair| pair.replacement).collect::<Vec<_>>()
        };
        assert_eq!(found("pri"), ["prices/a ", "\"prices/b c\" "]);
        assert_eq!(found("\"prices/b "), ["\"prices/b c\" "]);
        assert_eq!(found(""), ["prices/a ", "\"prices/b c\" "], "the last one cannot be quoted");
        assert_eq!(found("prices/a te"), [""; 0]);
        assert_eq!(found("\"prices/b c\" te"), [""; 0]);
    }

    #[test]
    fn commands_are_completed() {
        let found = |word| commands(word).into_iter().map(|pair| pair.replacement).collect::<Vec<_>>();
        assert_eq!(found("/w"), ["/who"]);
        assert_eq!(found("/ca"), ["/call "]);
        assert_eq!(found("/").len(), 8);
        assert_eq!(found("/x"), [""; 0]);
    }
}
