//! Tests that shells complete names and topics as the server knows them, by the shells themselves.

use crate::common::{Place, eventually};
use crate::program::*;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A server with two clients and a topic.
struct Busy {
    place: Place,
    _programs: Vec<Program>,
}

impl Busy {
    fn start() -> Busy {
        let place = Place::new();
        let server = start_server(&place, &[]);
        let line = ["publish", "--socket", text(&place.path), "--as", "bob smith", "--topic", "prices/AAPL"];
        let publisher = Program::start(CLIENT, &line);
        let (listener, _) = start_listener(&place, "alice", &[]);
        let observer = ringpost::Observer::connect(&place.path).unwrap();
        eventually("it publishes", || observer.topics().unwrap().len() == 1);
        Busy { place, _programs: vec![publisher, listener, server] }
    }
}

/// The script for a shell, and a shell that can run the programs. `None` if the shell is not installed.
fn shell(name: &str, directory: &Path) -> Option<(PathBuf, Command)> {
    let installed = Command::new(name).arg("-c").arg("exit 0").stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {name} is not installed");
        return None;
    }
    let line = ["generate", "completions", "--shell", name, "--out", text(directory)];
    let file = String::from_utf8(run(CLIENT, &line).well()).unwrap();
    let mut command = command(name);
    let programs = Path::new(CLIENT).parent().unwrap();
    command.env("PATH", format!("{}:/usr/bin:/bin", programs.display())).env("HOME", directory);
    Some((PathBuf::from(file.trim_end()), command))
}

fn lines(command: Command) -> Vec<String> {
    let ended = finish(command, b"");
    let output = String::from_utf8(ended.quiet()).unwrap();
    output.lines().map(str::to_owned).collect()
}

/// What bash offers for a line, whose last word is the one being typed.
fn in_bash(line: &[&str]) -> Option<Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let (file, mut bash) = shell("bash", directory.path())?;
    let calls = r#"
        source "$1"; shift
        words=("$@"); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        last=$((COMP_CWORD - 1))
        eval "$(complete -p ringpost | sed 's/.*-F \([^ ]*\).*/function=\1/')"
        "$function" ringpost "${words[COMP_CWORD]}" "${words[last]}"
        for one in "${COMPREPLY[@]}"; do echo "$one"; done"#;
    bash.args(["--norc", "-c", calls, "bash", text(&file)]).args(line);
    Some(lines(bash))
}

#[test]
fn bash_offers_names_and_topics() {
    let busy = Busy::start();
    let socket = text(&busy.place.path);
    let offers = |words: &[&str]| in_bash(&[&["ringpost", "--socket", socket], words].concat());
    let Some(all) = offers(&["send", "--as", "x", "--to", ""]) else { return };
    assert_eq!(all, ["alice", r"bob\ smith"]);
    let check = |words: &[&str], wanted: &[&str]| assert_eq!(offers(words).unwrap(), wanted, "{words:?}");
    check(&["send", "--to", "al"], &["alice"]);
    check(&["send", "--to", "zed"], &[]);
    // As bash divides --to=al.
    check(&["call", "--to", "=", "al"], &["alice"]);
    check(&["call", "--to", "="], &["alice", r"bob\ smith"]);
    check(&["publish", "--topic", "pri"], &["prices/AAPL"]);
    check(&["subscribe", "--as", "x", ""], &["prices/AAPL"]);
    check(&["subscribe", "--po"], &["--policy"]);
    check(&["top", "--filter", "bo"], &[r"bob\ smith"]);
    // The socket after the word, as bash divides --socket=PATH.
    let late = ["ringpost", "send", "--socket", "=", socket, "--to", "a"];
    assert_eq!(in_bash(&late).unwrap(), ["alice"]);
    let nowhere = busy.place.directory.path().join("nowhere");
    assert_eq!(in_bash(&["ringpost", "--socket", text(&nowhere), "send", "--to", ""]).unwrap(), [""; 0]);
}

#[test]
fn fish_offers_names_and_topics() {
    let busy = Busy::start();
    let directory = tempfile::tempdir().unwrap();
    let offers = |line: &str| {
        let (file, mut fish) = shell("fish", directory.path())?;
        let line = format!("ringpost --socket {} {line}", text(&busy.place.path));
        let calls = "source $argv[1]; complete -C $argv[2]";
        fish.args(["--no-config", "-c", calls, text(&file), &line]);
        let first = |line: String| line.split('\t').next().unwrap().to_owned();
        Some(lines(fish).into_iter().map(first).collect::<Vec<_>>())
    };
    let Some(all) = offers("send --to ") else { return };
    assert_eq!(all, ["alice", "bob smith"]);
    assert_eq!(offers("call --to al").unwrap(), ["alice"]);
    assert_eq!(offers("publish --topic ").unwrap(), ["prices/AAPL"]);
    assert_eq!(offers("subscribe pri").unwrap(), ["prices/AAPL"]);
}

/// zsh's own functions need a terminal; here what they call is called.
#[test]
fn zsh_offers_names_and_topics() {
    let busy = Busy::start();
    let directory = tempfile::tempdir().unwrap();
    let offers = |function: &str| {
        let (file, mut zsh) = shell("zsh", directory.path())?;
        let calls = r#"
            compdef() { }
            compadd() { print -l -- ${(P)argv[-1]} }
            BUFFER="ringpost --socket $2 send --to "
            source $1
            $3"#;
        zsh.args(["-f", "-c", calls, "zsh", text(&file), text(&busy.place.path), function]);
        let script = std::fs::read_to_string(&file).unwrap();
        let live = |line: &&str| line.ends_with(&format!(":{function}' \\"));
        let arguments: Vec<String> = script.lines().filter(live).map(|line| line[..6].to_owned()).collect();
        Some((arguments, lines(zsh)))
    };
    let Some((arguments, names)) = offers("_ringpost_names") else { return };
    assert_eq!(
        (arguments.len(), names),
        (6, vec!["alice".to_owned(), "bob smith".to_owned()]),
        "{arguments:?}"
    );
    let (arguments, topics) = offers("_ringpost_topics").unwrap();
    assert_eq!((arguments.len(), topics), (3, vec!["prices/AAPL".to_owned()]), "{arguments:?}");
}
