//! `ringpost complete`: prints the names or topics that there are now, for shell completions.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use ringpost::{Observer, RegisterError};

use ringpost::cli::args::SocketOption;
use ringpost::cli::completions::Live;
use ringpost::cli::exit::Outcome;
use ringpost::cli::out;

/// The arguments that are completed so.
pub const LIVE: [Live; 6] = [
    Live { argument: "to", kind: "names" },
    Live { argument: "from", kind: "names" },
    Live { argument: "link", kind: "names" },
    Live { argument: "filter", kind: "names" },
    Live { argument: "topic", kind: "topics" },
    Live { argument: "pattern", kind: "topics" },
];

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Names,
    Topics,
}

/// How long whoever presses Tab waits for a server.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prints them one a line. Without a server there are none, which is no failure.
pub fn run(kind: Kind, words: &[OsString]) -> Outcome {
    let socket = SocketOption { socket: socket_in(words) };
    let Ok(path) = socket.path() else { return Ok(()) };
    let found = Observer::connect_timeout(path, PATIENCE).and_then(|observer| ask(&observer, kind));
    found.unwrap_or_default().iter().try_for_each(|one| out::line(one))
}

fn ask(observer: &Observer, kind: Kind) -> Result<BTreeSet<String>, RegisterError> {
    Ok(match kind {
        Kind::Names => observer.list()?.into_iter().map(|client| client.name.to_string()).collect(),
        Kind::Topics => observer.topics()?.into_iter().map(|topic| topic.topic.to_string()).collect(),
    })
}

/// The socket that a line names, whose words may be divided at `=` as bash does.
fn socket_in(words: &[OsString]) -> Option<PathBuf> {
    let mut words = words.iter().map(OsString::as_os_str).filter(|word| *word != OsStr::new("="));
    let mut socket = None;
    while let Some(word) = words.next() {
        if word == "--socket" {
            socket = words.next();
        } else if let Some(path) = word.to_str().and_then(|word| word.strip_prefix("--socket=")) {
            socket = Some(OsStr::new(path));
        }
    }
    socket.filter(|path| !path.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_found_in_a_line() {
        let socket = |line: &str| socket_in(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in
            ["--socket a send --to", "send --socket=a --to", "send --socket = a", "--socket b --socket a x"]
        {
            assert_eq!(socket(&format!("ringpost {line}")), Some("a".into()), "{line}");
        }
        for line in ["ringpost send --to", "ringpost --socket", "ringpost --socket="] {
            assert_eq!(socket(line), None, "{line}");
        }
    }
}
