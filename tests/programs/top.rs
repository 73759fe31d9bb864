//! Tests of `ringpost top`: on a terminal, as text, and as JSON.

use crate::common::{Place, eventually};
use crate::program::*;
use crate::screen::{Narrow, Screen};
use crate::terminal::hang_ups_are_ignored;
use crate::tty::Tty;
use ringpost::Client;
use rustix::process::Signal;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// A client that calls the server without pause.
struct Busy {
    end: Arc<AtomicBool>,
    calls: Option<JoinHandle<()>>,
}

impl Busy {
    fn start(place: &Place, name: &str) -> Busy {
        let mut client = Client::register(&place.path, name).unwrap();
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let calls =
            thread::spawn(move || while !ended.load(Ordering::Relaxed) && client.call(b"ping").is_ok() {});
        Busy { end, calls: Some(calls) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let _ = self.calls.take().unwrap().join();
    }
}

/// The line that begins with this name.
fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find(|line| line.split_whitespace().next() == Some(name))
}

/// The name that stands first in the table.
fn first(screen: &Screen) -> Option<String> {
    let text = screen.text();
    let mut rows = text.lines().skip_while(|line| !line.starts_with("NAME"));
    rows.nth(1).and_then(|line| line.split_whitespace().next()).map(str::to_owned)
}

/// Whether a number in this column of a table is above 0.
fn is_busy(text: &str, name: &str, column: usize) -> bool {
    let cell = line(text, name).and_then(|line| line.split_whitespace().nth(column));
    cell.is_some_and(|cell| !["-", "0"].contains(&cell))
}

fn is_given_back(tty: &mut Tty) {
    assert_eq!(tty.end(), Some(0), "{}", tty.text());
    assert!(tty.is_restored());
    tty.until("the screen is as before", |screen| {
        !screen.is_taken() && !screen.hidden && screen.text().is_empty()
    });
}

#[test]
fn the_bus_can_be_seen_and_looked_at_by_keys() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let _busy = Busy::start(&place, "busy");
    let mut idle = Client::register(&place.path, "idle").unwrap();
    let _topic = idle.publish("prices/AAPL").unwrap();
    let mut tty = Tty::top(&place.path, &["--interval", "0.1"]);
    tty.until("calls are counted", |screen| is_busy(&screen.text(), "busy", 1));
    tty.until("the other has none", |screen| {
        line(&screen.text(), "idle").is_some_and(|line| line.contains(" 0 "))
    });
    assert!(tty.is_raw());
    tty.press("r");
    tty.until("the names are reversed", |screen| first(screen).as_deref() == Some("idle"));
    tty.press("c");
    tty.until("the busiest is the first", |screen| first(screen).as_deref() == Some("busy"));
    tty.press("/IDL");
    tty.until("one is left", |screen| {
        line(&screen.text(), "busy").is_none() && first(screen).as_deref() == Some("idle")
    });
    tty.shows("filter: IDL");
    tty.press("\x1b");
    tty.until("both are there", |screen| line(&screen.text(), "busy").is_some());
    tty.press("\x1b[B\r");
    tty.shows("messages received");
    // Escape is told from the beginning of another key by what does not follow.
    tty.press("\x1b");
    tty.shows("Tab view");
    tty.press("\t\t");
    tty.until("topics are shown", |screen| line(&screen.text(), "prices/AAPL").is_some());
    tty.press("?");
    tty.shows("any key back");
    tty.press("x");
    tty.shows("Tab view");
    tty.press("q");
    is_given_back(&mut tty);
    assert_eq!(names(&place), ["busy", "idle"], "it did not register");
}

#[test]
fn the_terminal_is_given_back_at_every_end() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    for end in ["\x03", "q"] {
        let mut tty = Tty::top(&place.path, &[]);
        tty.shows("no client is registered");
        tty.press(end);
        is_given_back(&mut tty);
    }
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        if signal == Signal::HUP && hang_ups_are_ignored() {
            eprintln!("SIGHUP left out: it is ignored here, and so by the program");
            continue;
        }
        let mut tty = Tty::top(&place.path, &[]);
        tty.shows("no client is registered");
        tty.signal(signal);
        is_given_back(&mut tty);
    }
    let mut tty = Tty::top(&place.path, &[]);
    tty.shows("no client is registered");
    tty.hang_up();
    assert_eq!(tty.end(), Some(0));
}

#[test]
fn a_pause_keeps_the_picture() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut tty = Tty::top(&place.path, &["--interval", "0.1"]);
    tty.shows("no client is registered");
    tty.press("p");
    tty.shows(" paused ");
    let _late = Client::register(&place.path, "late").unwrap();
    // It goes on looking, and can be seen to do so: the server counts who asks.
    tty.press("/");
    tty.shows("filter:");
    assert!(line(&tty.text(), "late").is_none(), "{}", tty.text());
    tty.press("\rp");
    tty.until("it is shown", |screen| line(&screen.text(), "late").is_some());
    tty.press("q");
    is_given_back(&mut tty);
}

#[test]
fn a_terminal_of_another_size_is_drawn_anew() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let _clients = ["alice", "bob"].map(|name| Client::register(&place.path, name).unwrap());
    let mut tty = Tty::top(&place.path, &["--interval", "3600"]);
    tty.shows("Enter detail");
    tty.resize_to(30, 8, Narrow::Cuts);
    tty.until("it is narrow", |screen| {
        let text = screen.text();
        line(&text, "bob").is_some() && text.contains("? help") && !text.contains("Enter detail")
    });
    tty.resize_to(8, 2, Narrow::Cuts);
    tty.until("it is tiny", |screen| screen.text().trim_end() == "NAME\nalice");
    tty.resize_to(200, 50, Narrow::Cuts);
    tty.until("it is wide", |screen| {
        screen.text().contains("WAKE50") && screen.text().contains("Enter detail")
    });
    tty.press("q");
    is_given_back(&mut tty);
}

#[test]
fn a_shell_can_stop_it_and_let_it_go_on() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut tty = Tty::whole_shell(&place.path);
    tty.line_is("SHELL");
    tty.press("\"$RINGPOST\" top --socket \"$AT\"\r");
    tty.shows("no client is registered");
    tty.press("\x1a");
    tty.until("the shell has the terminal", |screen| {
        !screen.is_taken()
            && !screen.hidden
            && screen.text().contains("Stopped")
            && screen.current() == "SHELL"
    });
    let _alice = Client::register(&place.path, "alice").unwrap();
    tty.press("fg\r");
    tty.until("it goes on", |screen| {
        screen.is_taken() && screen.hidden && line(&screen.text(), "alice").is_some()
    });
    // Somebody else stops it.
    let top = tty.foreground();
    rustix::process::kill_process(top, Signal::TSTP).unwrap();
    tty.until("the shell has the terminal", |screen| {
        !screen.is_taken() && !screen.hidden && screen.current() == "SHELL"
    });
    tty.press("fg\r");
    tty.until("it goes on", |screen| screen.is_taken() && line(&screen.text(), "alice").is_some());
    tty.press("q");
    tty.until("the shell is back", |screen| {
        !screen.is_taken() && !screen.hidden && screen.current() == "SHELL"
    });
    tty.press("exit\r");
    assert_eq!(tty.end(), Some(0));
}

/// Nobody could let it go on.
#[test]
fn without_a_shell_ctrl_z_does_not_stop_it() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut tty = Tty::top_alone(&place.path);
    tty.shows("no client is registered");
    tty.press("\x1a?");
    tty.shows("any key back");
    tty.press("xq");
    is_given_back(&mut tty);
}

#[test]
fn it_goes_on_with_the_next_server() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let mut tty = Tty::top(&place.path, &["--interval", "0.1"]);
    tty.shows("no client is registered");
    server.signal(Signal::TERM);
    server.end().well();
    tty.shows("the server has ended; waiting for the next");
    let _next = start_server(&place, &[]);
    let _alice = Client::register(&place.path, "alice").unwrap();
    tty.until("it is seen", |screen| {
        line(&screen.text(), "alice").is_some() && !screen.text().contains("waiting for the next")
    });
    tty.press("q");
    is_given_back(&mut tty);
}

#[test]
fn there_are_no_colours_where_none_are_wanted() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let _alice = Client::register(&place.path, "alice").unwrap();
    for (value, coloured) in [("", true), ("1", false)] {
        let mut tty = Tty::top_with(&place.path, &[], |command| {
            command.env("NO_COLOR", value);
        });
        tty.until("it is drawn", |screen| line(&screen.text(), "alice").is_some());
        tty.press("?");
        tty.shows("any key back");
        tty.until("it is as it should", |screen| screen.coloured == coloured);
        tty.press("qq");
        is_given_back(&mut tty);
    }
}

#[test]
fn without_a_terminal_it_prints_tables() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let _busy = Busy::start(&place, "busy");
    let _idle = Client::register(&place.path, "idle").unwrap();
    let socket = text(&place.path);
    let once = ["top", "--socket", socket, "--interval", "0.1", "--once"];
    let shown = |more: &[&str]| String::from_utf8(run(CLIENT, &[&once[..], more].concat()).quiet()).unwrap();
    // A tenth of a second may pass without a call.
    let mut all = String::new();
    eventually("calls are counted", || {
        all = shown(&["--sort", "calls", "--reverse"]);
        is_busy(&all, "busy", 3)
    });
    let lines: Vec<&str> = all.lines().collect();
    assert!(lines[0].contains(" up ") && lines[0].contains("2 clients, calls "), "{all}");
    let headings: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(headings[..4], ["NAME", "PID", "UID", "CALLS/s"], "every column is there");
    assert!(lines[2].starts_with("idle") && lines[3].starts_with("busy"), "{all}");
    assert!(is_busy(&all, "busy", 3) && !is_busy(&all, "idle", 3), "{all}");
    let one = shown(&["--filter", "ID*E"]);
    assert!(line(&one, "idle").is_some() && line(&one, "busy").is_none(), "{one}");

    let mut printing = Program::start(CLIENT, &once[..5]);
    for _ in 0..2 {
        while !printing.line().starts_with("NAME") {}
    }
    printing.signal(Signal::TERM);
    printing.end().well();
}

/// The names of all fields of a value.
fn fields_of(value: &Value, fields: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                fields.push(name.clone());
                fields_of(value, fields);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields_of(value, fields)),
        _ => {}
    }
}

#[test]
fn each_look_is_one_json_object() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let busy = Busy::start(&place, "busy");
    let mut idle = Client::register(&place.path, "idle").unwrap();
    let _topic = idle.publish("prices/AAPL").unwrap();
    idle.send(idle.key(), b"a note to itself").unwrap();
    let line = ["top", "--socket", text(&place.path), "--interval", "0.1", "--json"];
    let once = run(CLIENT, &[&line[..], &["--once", "--filter", "idle"]].concat()).quiet();
    let once: Value = serde_json::from_slice(&once).unwrap();
    assert_eq!(once["clients"].as_array().unwrap().len(), 1);

    let mut looking = Program::start(CLIENT, &line);
    let look = looking.json_line();
    assert!(look["interval_seconds"].as_f64().unwrap() > 0.0, "{look}");
    assert!(look["server"]["calls"]["total"].is_u64() && look["server"]["pid"].is_u64(), "{look}");
    assert_eq!(
        (&look["topics"][0]["topic"], &look["topics"][0]["publisher"]),
        (&"prices/AAPL".into(), &"idle".into())
    );
    let client = |look: &Value, name: &str| {
        look["clients"].as_array().unwrap().iter().find(|client| client["name"] == name).unwrap().clone()
    };
    let shown = client(&look, "idle");
    assert_eq!(shown["key"], idle.key().to_string());
    assert!(shown["unread"] == 1 && shown["inbox"]["used"].as_u64().unwrap() > 0, "{shown}");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PROGRAMS.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut fields = Vec::new();
    fields_of(&look, &mut fields);
    for field in fields {
        assert!(page.contains(&format!("`{field}`")), "docs/PROGRAMS.md does not tell of {field}");
    }
    eventually("calls are counted, and durations are measured", || {
        let busy = client(&looking.json_line(), "busy");
        busy["calls"]["per_second"].as_f64().is_some_and(|rate| rate > 0.0)
            && busy["service"]["p99_ns"].as_u64().is_some_and(|time| time > 0)
    });
    drop((busy, idle));
    server.signal(Signal::TERM);
    server.end().well();
    eventually("the end is said", || looking.json_line()["waiting"].is_string());
    let _next = start_server(&place, &[]);
    assert!(looking.json_line()["clients"].as_array().unwrap().is_empty(), "the end is said once");
    looking.signal(Signal::INT);
    looking.end().quiet();
}

#[test]
fn without_a_server_it_fails_unless_it_may_wait() {
    let place = Place::new();
    let socket = text(&place.path);
    let why = run(CLIENT, &["top", "--once", "--socket", socket]).failed();
    assert!(why.contains(socket) && why.contains("--wait-for-server"), "{why}");
    let mut tty = Tty::top(&place.path, &[]);
    assert_eq!(tty.end(), Some(1));
    assert!(tty.is_restored() && tty.text().contains("no server at"), "{}", tty.text());
    let waiting = Program::start(
        CLIENT,
        &["top", "--once", "--socket", socket, "--interval", "0.1", "--wait-for-server"],
    );
    let _server = start_server(&place, &[]);
    assert!(String::from_utf8(waiting.end().well()).unwrap().contains("0 clients"));
}

#[test]
fn who_reads_its_output_may_stop_and_a_server_that_ends_is_said() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let line = ["top", "--socket", text(&place.path), "--interval", "0.1"];
    let mut head = command("sh");
    head.args(["-c", "\"$0\" \"$@\" | head -n 1", CLIENT]).args(line);
    assert!(String::from_utf8(finish(head, b"").quiet()).unwrap().contains("0 clients"));

    let errors = place.directory.path().join("errors");
    let said = || std::fs::read_to_string(&errors).unwrap();
    let mut looking = Program::start_with(CLIENT, &line, |command| {
        command.stderr(std::fs::File::create(&errors).unwrap());
    });
    looking.line();
    server.signal(Signal::TERM);
    server.end().well();
    eventually("the end is said", || said().ends_with('\n'));
    let once = Program::start(CLIENT, &[&line[..], &["--once"]].concat()).end();
    assert_eq!(once.status, Some(1));
    let _next = start_server(&place, &[]);
    let _alice = Client::register(&place.path, "alice").unwrap();
    while !looking.line().starts_with("alice") {}
    looking.signal(Signal::TERM);
    looking.end().well();
    assert_eq!(said(), "ringpost: the server has ended; waiting for the next\n");
}

#[test]
fn wrong_options_are_refused() {
    for wrong in [
        &["--interval", "0"][..],
        &["--interval", "0.01"],
        &["--interval", "nan"],
        &["--interval", "3601"],
        &["--sort", "beauty"],
        &["--json", "--sort", "calls"],
        &["stray"],
    ] {
        run(CLIENT, &[&["top"], wrong].concat()).refused(2);
    }
}
