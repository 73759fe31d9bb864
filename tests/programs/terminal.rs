//! Tests of `ringpost client` on a terminal.

use crate::common::{Place, eventually};
use crate::program::*;
use crate::screen::without_time;
use crate::tty::Tty;
use rustix::process::Signal;
use std::process::Stdio;

/// Starts a client, and waits until it is registered and shows its prompt.
pub fn registered(place: &Place, name: &str) -> Tty {
    let tty = Tty::client(&place.path, &[name]);
    tty.shows(&format!("registered as {name}, key "));
    tty.line_is(">");
    tty
}

fn send(place: &Place, from: &str, to: &str, text: &str) {
    run(CLIENT, &["send", "--socket", text_of(place), "--as", from, "--to", to, text]).well();
}

fn text_of(place: &Place) -> &str {
    text(&place.path)
}

/// The client's key, from `ls`.
fn key_of(place: &Place, name: &str) -> String {
    let listing = ls(place);
    let client = listing["clients"].as_array().unwrap().iter().find(|client| client["name"] == name);
    client.unwrap()["key"].as_str().unwrap().to_owned()
}

/// Checks that the client ended with success, its name is free, and the terminal is restored.
pub fn left_well(place: &Place, mut tty: Tty, name: &str) {
    assert_eq!(tty.end(), Some(0), "{}", tty.text());
    assert!(!names(place).contains(&name.to_owned()), "the end of the registration was awaited");
    assert!(tty.is_restored());
}

#[test]
fn a_name_is_asked_for_until_it_can_be_had() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let (_bob, key) = start_listener(&place, "bob", &[]);
    let mut tty = Tty::client(&place.path, &[]);
    for (name, why) in [
        ("bob", "\"bob\" is taken"),
        ("", "at least one character"),
        (&key, "key"),
        (&"x".repeat(65), "64"),
        ("a\tb", "cannot be"),
    ] {
        tty.line_is("name:");
        tty.press(&format!("{}\r", name.replace('\t', "\x16\t")));
        tty.until(why, |screen| {
            let rows = screen.text();
            let last = rows.lines().rev().nth(1).unwrap_or_default().to_owned();
            screen.current() == "name:" && last.contains(why)
        });
    }
    tty.press("  alice \r");
    tty.line_is(">");
    let key = key_of(&place, "alice");
    tty.shows(&format!("registered as alice, key {key}\n"));
    tty.press("/quit\r");
    left_well(&place, tty, "alice");
}

#[test]
fn whoever_does_not_want_a_name_leaves_and_without_a_server_none_is_asked_for() {
    let place = Place::new();
    let mut tty = Tty::client(&place.path, &[]);
    assert_eq!(tty.end(), Some(1));
    tty.shows("ringpost-server");
    assert!(!tty.text().contains("name:"));
    let _server = start_server(&place, &[]);
    for key in ["\x04", "\x03", "ali\x03"] {
        let mut tty = Tty::client(&place.path, &[]);
        tty.line_is("name:");
        tty.press(key);
        assert_eq!(tty.end(), Some(0), "{}", tty.text());
        assert!(tty.is_restored());
    }
    assert_eq!(names(&place), [""; 0]);
}

#[test]
fn a_message_leaves_the_line_that_is_typed_as_it_is() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let (mut bob, _) = start_listener(&place, "bob", &[]);
    let mut tty = registered(&place, "alice");
    tty.press("bob half a li");
    tty.line_is("> bob half a li");
    run_with(CLIENT, &["--socket", text_of(&place), "client", "carol"], b"alice hello\nalice again\n").well();
    tty.until("the message stands above the line", |screen| {
        let text = screen.text();
        let rows: Vec<_> = text.lines().collect();
        let shown = rows.len() > 3
            && without_time(rows[rows.len() - 3]).starts_with("carol (")
            && rows[rows.len() - 3].ends_with("): hello")
            && rows[rows.len() - 2].ends_with("): again");
        shown && screen.current() == "> bob half a li"
    });
    // The cursor's position is unchanged, too.
    tty.press("\x1b[D\x1b[D");
    send(&place, "dave", "alice", "while editing");
    tty.shows("): while editing");
    tty.press("X");
    tty.line_is("> bob half a Xli");
    tty.press("\x7f\x05ne\r");
    assert_eq!(bob.json_line()["payload"], "half a line");
    tty.line_is(">");
    tty.press("\x04");
    left_well(&place, tty, "alice");
}

#[test]
fn no_text_can_spoil_the_terminal() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut tty = registered(&place, "alice");
    tty.press("typing");
    tty.line_is("> typing");
    send(&place, "carol", "alice", "\x1b[2J\x1b]0;title\x07two\nlines\r\u{202e}turned\t\u{9b}31m");
    tty.shows(r"): \u{1b}[2J\u{1b}]0;title\u{7}two\nlines\r\u{202e}turned\t\u{9b}31m");
    tty.line_is("> typing");
    // Responses and errors are escaped, too.
    tty.press("\x15/server a\x16\tb\r");
    tty.shows("\na\\tb\n");
    tty.line_is(">");
    tty.press("\"x\x16\ty\" z\r");
    tty.shows("control character");
    tty.line_is(">");
    tty.press("/quit\r");
    left_well(&place, tty, "alice");
}

#[test]
fn names_and_commands_are_completed() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let (mut bob, _) = start_listener(&place, "bob", &[]);
    let (mut spaced, _) = start_listener(&place, "my service", &[]);
    let mut tty = registered(&place, "alice");
    tty.press("bo\t");
    tty.line_is("> bob");
    tty.press("hello bo\t");
    tty.line_is("> bob hello bo");
    tty.press("\r");
    assert_eq!(bob.json_line()["payload"], "hello bo");
    tty.line_is(">");
    tty.press("my\thi\r");
    assert_eq!(spaced.json_line()["payload"], "hi");
    // New clients are completed, too; if several match, all are shown.
    let (_bobby, bobby_key) = start_listener(&place, "bobby", &[]);
    tty.line_is(">");
    tty.press("b\t");
    tty.line_is("> bob");
    tty.until("both are shown", |screen| screen.shows_above("bob    bobby"));
    tty.press("b\t");
    tty.line_is("> bobby");
    tty.press(&format!("\x15{}\t", bobby_key[..10].to_lowercase()));
    tty.line_is(&format!("> {bobby_key}"));
    tty.press("\x15/w\t");
    tty.line_is("> /who");
    tty.press("\x15/se\techo\r");
    tty.until("the response", |screen| screen.shows_above("echo") && screen.current() == ">");
    tty.press("\x04");
    left_well(&place, tty, "alice");
}

#[test]
fn commands_do_what_help_says() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let (mut bob, bob_key) = start_listener(&place, "bob", &[]);
    let mut tty = registered(&place, "alice");
    let key = key_of(&place, "alice");
    tty.press("/who\r");
    tty.until("both are listed", |screen| {
        let text = screen.text();
        // Keys are shortened to what is unique.
        let row = |name: &str, key: &str| {
            let start =
                |line: &str| line.split_whitespace().nth(1).is_some_and(|short| key.starts_with(short));
            text.lines().any(|line| line.starts_with(name) && start(line) && line.contains("live"))
        };
        row("alice", &key) && row("bob", &bob_key) && screen.current() == ">"
    });
    tty.press("/help\r");
    for word in [
        "/who",
        "/call NAME TEXT",
        "/server TEXT",
        "/pub TOPIC TEXT",
        "/sub PATTERN",
        "/unsub PATTERN",
        "/help",
        "/quit",
        "NAME message",
        "KEY message",
        "Tab",
    ] {
        tty.shows(word);
    }
    tty.line_is(">");
    for (line, answer) in [
        ("/server two words", "two words"),
        ("/nothing", "there is no command /nothing"),
        ("/server", "the text of the request"),
        ("/call", "the text of the request"),
        ("/call bob", "the text of the request"),
        ("/pub", "the text of the sample"),
        ("/pub t", "the text of the sample"),
        ("/pub t/* x", "cannot contain '*'"),
        ("/sub", "a topic or a pattern"),
        ("/sub a b", "between double quotes"),
        ("/sub a//b", "at least one character"),
        ("/unsub t", "/sub PATTERN"),
        ("/call bob x", "bob answers no calls"),
        ("/call nobody x", "/who lists"),
        ("/who is there", "takes no arguments"),
        ("nobody hello", "/who lists"),
        ("bob", "a space"),
        ("/msg bob", "a space"),
        ("/to bob x", "between double quotes"),
        ("/to", "no receiver is chosen"),
    ] {
        tty.press(&format!("{line}\r"));
        tty.until(answer, |screen| {
            let text = screen.text();
            // What was refused has a mark.
            let mark =
                |line: &str| line.starts_with("! ") || line == "two words" || line.starts_with("no rec");
            let last = text.lines().rev().nth(1).unwrap_or_default();
            screen.current() == ">" && last.contains(answer) && mark(last)
        });
    }
    // The history contains earlier lines, including failed ones.
    tty.press(&format!("{bob_key} once\r"));
    assert_eq!(bob.json_line()["payload"], "once");
    tty.line_is(">");
    tty.press("\x1b[A\x1b[A");
    tty.line_is("> /to");
    tty.press("\x1b[B\r");
    assert_eq!(bob.json_line()["payload"], "once");
    tty.line_is(">");
    tty.press("/quit\r");
    left_well(&place, tty, "alice");
}

#[test]
fn clients_are_called_over_links_that_stay_open() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut tty = registered(&place, "alice");
    for round in 1..=2 {
        let serving = start_serving(&place, "my echo", &["--echo"]);
        tty.press(&format!("/call \"my echo\" one {round}\r"));
        tty.until("the response", |screen| screen.shows_above(&format!("one {round}")));
        tty.line_is(">");
        tty.press(&format!("/call m\t\x16\ta \u{fc} {round}\r"));
        tty.until("the response", |screen| screen.shows_above(&format!("\\ta \u{fc} {round}")));
        tty.line_is(">");
        serving.signal(Signal::TERM);
        let ended = serving.end();
        assert!(ended.stderr.contains("served 2 calls over 2 links"), "{}", ended.stderr);
    }
    tty.press("/call \"my echo\" gone\r");
    tty.shows("/who lists the clients");
    tty.press("/quit\r");
    left_well(&place, tty, "alice");
}

/// Whether the programs inherit an ignored SIGHUP, which they then ignore, too.
pub(super) fn hang_ups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 != 0
}

#[test]
fn every_way_out_unregisters() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    for keys in ["\x04", "\x03", "half\x03\x03", "/quit\r"] {
        let mut tty = registered(&place, "alice");
        tty.press(keys);
        left_well(&place, tty, "alice");
    }
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        if signal == Signal::HUP && hang_ups_are_ignored() {
            eprintln!("SIGHUP left out: it is ignored here, as below nohup, and so by the program");
            continue;
        }
        let mut tty = registered(&place, "alice");
        tty.press("half");
        tty.line_is("> half");
        tty.signal(signal);
        left_well(&place, tty, "alice");
    }
    // The terminal is closed.
    let mut tty = registered(&place, "alice");
    tty.hang_up();
    assert_eq!(tty.end(), Some(0));
    assert_eq!(names(&place), [""; 0]);
}

#[test]
fn a_server_that_stands_still_does_not_hold_a_person() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let mut tty = registered(&place, "alice");
    server.signal(Signal::STOP);
    tty.press("/who\r");
    tty.shows("> /who\n");
    tty.signal(Signal::INT);
    assert_eq!(tty.end(), Some(0), "{}", tty.text());
    server.signal(Signal::CONT);
    eventually("the name is free", || names(&place).is_empty());
}

#[test]
fn whatever_was_acknowledged_is_shown_however_the_end_falls() {
    let place = Place::new();
    let _server = start_server(&place, &["--ring-size", "4K"]);
    for round in 0..5 {
        let mut tty = registered(&place, "alice");
        let line = |number: usize| format!("alice {round}-{number}\n");
        let mut carol = Program::start(CLIENT, &["--socket", text_of(&place), "client", "carol"]);
        carol.write((0..499).map(line).collect::<String>().as_bytes());
        tty.shows(&format!("): {round}-{}", 20 * round));
        tty.press("/quit\r");
        assert_eq!(tty.end(), Some(0), "{}", tty.text());
        // However the end fell, this one comes after it.
        carol.write(line(499).as_bytes());
        let ended = carol.end();
        // Failed lines are reported with their numbers, from 1.
        let failed = |number: usize| ended.stderr.contains(&format!("line {}: ", number + 1));
        let shown = tty.text();
        let missing: Vec<usize> = (0..500)
            .filter(|&number| !failed(number) && !shown.contains(&format!("): {round}-{number}\n")))
            .collect();
        assert!(missing.is_empty(), "{missing:?} not shown:\n{shown}\n{}", ended.stderr);
        assert!(failed(499), "nobody was there any more: {}", ended.stderr);
    }
}

#[test]
fn without_a_terminal_on_both_sides_it_is_plain() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    // If stdout is a file, data goes there and prompts go to the terminal.
    let output = place.directory.path().join("output");
    let file = std::fs::File::create(&output).unwrap();
    let mut tty = Tty::client_with(&place.path, &[], |command| {
        command.stdout(Stdio::from(file));
    });
    tty.line_is("name:");
    tty.press("alice\n");
    tty.shows("/help shows the commands");
    tty.press("/server hello\n");
    eventually("the response is in the file", || {
        let text = std::fs::read_to_string(&output).unwrap();
        text == "hello\n"
    });
    tty.press("\x04");
    left_well(&place, tty, "alice");
    // The terminal cannot move its cursor.
    let mut tty = Tty::client_with(&place.path, &["alice"], |command| {
        command.env("TERM", "dumb");
    });
    tty.shows("registered as alice, key ");
    tty.press("alice to myself\n");
    tty.shows("): to myself");
    tty.press("\x04");
    left_well(&place, tty, "alice");
}
