//! Completion with Tab: of commands, of the names and keys of the registered clients, and of topics.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use ringpost::Observer;

use super::line::COMMANDS;
use ringpost::cli::out;

/// How long to wait for the server's answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// The commands whose first word is a client.
const OF_CLIENTS: [&str; 3] = ["/call", "/msg", "/to"];

/// The commands whose first word is a topic.
const OF_TOPICS: [&str; 3] = ["/pub", "/sub", "/unsub"];

/// Completes words of a line.
pub struct Completion {
    pub socket: PathBuf,
}

/// What a word may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// How it is shown among others.
    pub shown: String,
    /// What is put in place of the word.
    pub word: String,
}

impl Completion {
    /// Where the last word of `before` begins, and what it may become. If the receiver of messages was
    /// `chosen`, a line begins with no name. Asks the server; if it does not answer, nothing is completed.
    pub fn of(&self, before: &str, chosen: bool) -> (usize, Vec<Candidate>) {
        let line = before.trim_start();
        let observer = || Observer::connect_timeout(&self.socket, PATIENCE);
        if let Some(word) = argument(line, &OF_TOPICS) {
            let published = observer().and_then(|observer| observer.topics()).unwrap_or_default();
            let found = topics(word, published.iter().map(|topic| topic.topic.as_str()));
            return (before.len() - word.len(), found);
        }
        let of_clients = argument(line, &OF_CLIENTS);
        if of_clients.is_none() && line.starts_with('/') {
            return (before.len() - line.len(), commands(line));
        }
        if of_clients.is_none() && chosen {
            return (before.len(), Vec::new());
        }
        let word = of_clients.unwrap_or(line);
        let clients = observer().and_then(|observer| observer.list()).unwrap_or_default();
        let clients: Vec<(String, String)> =
            clients.iter().map(|client| (client.name.as_str().to_owned(), client.key.to_string())).collect();
        (before.len() - word.len(), receivers(word, &clients))
    }
}

/// How all candidates begin.
pub fn common(candidates: &[Candidate]) -> String {
    let mut words = candidates.iter().map(|candidate| candidate.word.as_str());
    let first = words.next().unwrap_or_default();
    let shared = |length: usize, word: &str| {
        let equal = first[..length].chars().zip(word.chars()).take_while(|(a, b)| a == b);
        equal.map(|(letter, _)| letter.len_utf8()).sum()
    };
    first[..words.fold(first.len(), shared)].to_owned()
}

/// What comes after one of these commands: a client as in a message, or a topic.
fn argument<'a>(line: &'a str, commands: &[&str]) -> Option<&'a str> {
    let rest = commands.iter().find_map(|command| line.strip_prefix(command))?;
    rest.starts_with(|letter: char| letter.is_ascii_whitespace()).then(|| rest.trim_start())
}

fn commands(word: &str) -> Vec<Candidate> {
    COMMANDS
        .into_iter()
        .filter(|command| command.starts_with(word))
        .map(|command| Candidate { shown: command.trim_end().into(), word: command.into() })
        .collect()
}

/// The clients that complete `word`, the beginning of the line: those whose names begin with it, or else
/// those whose keys do.
fn receivers(word: &str, clients: &[(String, String)]) -> Vec<Candidate> {
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
    let mut found: Vec<Candidate> = clients
        .iter()
        .filter(|(name, _)| name.starts_with(begun))
        .map(|(name, key)| Candidate {
            shown: out::readable(name.as_bytes()),
            word: format!("{} ", address(name, key)),
        })
        .collect();
    if found.is_empty() && begun.len() == word.len() {
        let begun = begun.to_ascii_uppercase();
        found = clients
            .iter()
            .filter(|(_, key)| key.starts_with(&begun))
            .map(|(name, key)| Candidate {
                shown: format!("{key} {}", out::readable(name.as_bytes())),
                word: format!("{key} "),
            })
            .collect();
    }
    found.sort_by(|a, b| a.shown.cmp(&b.shown));
    found
}

/// The topics that begin with `word`.
fn topics<'a>(word: &str, topics: impl Iterator<Item = &'a str>) -> Vec<Candidate> {
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
        .filter_map(|topic| Some(Candidate { shown: topic.to_owned(), word: quoted(topic)? }))
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
        receivers(word, &clients).into_iter().map(|pair| pair.word).collect()
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
            found.map(|pair| pair.word).collect::<Vec<_>>()
        };
        assert_eq!(found("pri"), ["prices/a ", "\"prices/b c\" "]);
        assert_eq!(found("\"prices/b "), ["\"prices/b c\" "]);
        assert_eq!(found(""), ["prices/a ", "\"prices/b c\" "], "the last one cannot be quoted");
        assert_eq!(found("prices/a te"), [""; 0]);
        assert_eq!(found("\"prices/b c\" te"), [""; 0]);
    }

    #[test]
    fn what_all_candidates_share_is_completed_first() {
        let shared = |words: &[&str]| {
            let word = |word: &&str| Candidate { shown: String::new(), word: (*word).to_owned() };
            common(&words.iter().map(word).collect::<Vec<_>>())
        };
        assert_eq!(shared(&["bob ", "bobby "]), "bob");
        assert_eq!(shared(&["b\u{f6}b ", "b\u{f6}rn ", "b\u{f6}b "]), "b\u{f6}");
        assert_eq!(shared(&["bob "]), "bob ");
        assert_eq!(shared(&["\u{f6}", "\u{f7}"]), "");
        assert_eq!(shared(&[]), "");
    }

    #[test]
    fn commands_are_completed() {
        let found = |word| commands(word).into_iter().map(|pair| pair.word).collect::<Vec<_>>();
        assert_eq!(found("/w"), ["/who"]);
        assert_eq!(found("/ca"), ["/call "]);
        assert_eq!(found("/").len(), COMMANDS.len());
        assert_eq!(found("/x"), [""; 0]);
    }
}
