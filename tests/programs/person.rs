//! Tests of what a person does at the terminal of `ringpost client`: interrupts, stops, resizes, pastes,
//! searches, and goes on when the server comes back.

use crate::common::{LIMIT, Place, eventually};
use crate::program::*;
use crate::screen::{Narrow, Screen, without_time};
use crate::terminal::{left_well, registered};
use crate::tty::Tty;
use ringpost::Client;
use rustix::process::Signal;

/// Registers a client in this process.
fn client(place: &Place, name: &str) -> Client {
    Client::register(&place.path, name).unwrap()
}

fn receive(client: &mut Client) -> String {
    let message = client.recv_timeout(LIMIT).unwrap();
    String::from_utf8(message.into_payload()).unwrap()
}

/// How often a line can be seen, with or without the time before it.
fn seen(screen: &Screen, line: &str) -> usize {
    screen.text().lines().filter(|row| without_time(row) == line).count()
}

#[test]
fn the_line_outlives_the_server_and_is_sent_to_the_next_one() {
    for signal in [Signal::KILL, Signal::TERM] {
        let place = Place::new();
        let server = start_server(&place, &[]);
        let mut tty = registered(&place, "alice");
        tty.press("/sub news\r/to bob\r");
        tty.line_is("bob>");
        tty.press("half a li");
        tty.line_is("bob> half a li");
        server.signal(signal);
        tty.shows("waiting for the next one");
        tty.line_is("bob> half a li");
        // It can be edited meanwhile. What is entered is refused, unless a server comes soon.
        tty.press("ne");
        tty.line_is("bob> half a line");
        drop(server.end());
        let _server = start_server(&place, &[]);
        tty.shows("registered again, key ");
        tty.line_is("bob> half a line");
        let mut bob = client(&place, "bob");
        tty.press("\r");
        let message = bob.recv_timeout(LIMIT).unwrap();
        assert_eq!(message.payload(), b"half a line");
        bob.send(message.sender_name().as_str(), b"got it").unwrap();
        tty.shows("): got it");
        // The subscription is there again, too.
        let mut news = bob.publish("news").unwrap();
        eventually("she has subscribed", || news.subscribers() == 1);
        news.send(b"good").unwrap();
        tty.shows("news bob 1: good");
        tty.press("/quit\r");
        left_well(&place, tty, "alice");
    }
}

#[test]
fn without_a_server_lines_are_refused_and_not_lost() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let mut tty = registered(&place, "alice");
    server.signal(Signal::TERM);
    tty.shows("waiting for the next one");
    tty.press("bob early\rbob half");
    tty.shows("! not sent to bob: there is no server now");
    tty.line_is("> bob half");
    tty.press("\x03\x1b[A");
    tty.line_is("> bob early");
    // A person who gives up is not held.
    tty.press("\x03\x03");
    assert_eq!(tty.end(), Some(0), "{}", tty.text());
    assert!(tty.is_restored());
    drop(server.end());
}

#[test]
fn a_name_that_is_lost_ends_the_client_and_the_line_stays_in_view() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let mut tty = registered(&place, "alice");
    tty.press("bob half a li");
    tty.line_is("> bob half a li");
    // While she stands still, somebody else takes the name.
    tty.signal(Signal::STOP);
    server.signal(Signal::TERM);
    drop(server.end());
    let _server = start_server(&place, &[]);
    let _other = client(&place, "alice");
    tty.signal(Signal::CONT);
    assert_eq!(tty.end(), Some(1), "{}", tty.text());
    tty.until("the reason stands below the line", |screen| {
        let text = screen.text();
        let mut rows = text.lines().rev();
        rows.next().is_some_and(|row| row.starts_with("ringpost: "))
            && rows.next() == Some("> bob half a li")
            && text.contains("is taken")
    });
    assert!(tty.is_restored());
    // Without a server, a new client ends at once.
    let place = Place::new();
    let mut tty = Tty::client(&place.path, &[]);
    assert_eq!(tty.end(), Some(1));
}

#[test]
fn it_stops_and_goes_on_as_a_job_any_number_of_times() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut bob = client(&place, "bob");
    let mut tty = Tty::shell(&place.path);
    tty.line_is("SHELL");
    tty.press("\"$RINGPOST\" client --socket \"$AT\" alice\r");
    tty.line_is(">");
    for round in 0..5 {
        tty.press(&format!("bob half {round}"));
        tty.line_is(&format!("> bob half {round}"));
        assert!(tty.is_raw());
        tty.press("\x1a");
        tty.line_is("SHELL");
        assert!(tty.is_restored(), "in round {round}");
        tty.press("fg\r");
        tty.line_is(&format!("> bob half {round}"));
        eventually("keys come one by one again", || tty.is_raw());
        tty.press(" done\r");
        assert_eq!(receive(&mut bob), format!("half {round} done"));
        tty.line_is(">");
    }
    // Stopped and continued from outside.
    tty.press("still");
    tty.line_is("> still");
    let alice = ls(&place)["clients"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|client| (client["name"] == "alice").then(|| client["pid"].as_i64().unwrap()));
    let alice = rustix::process::Pid::from_raw(alice.unwrap() as i32).unwrap();
    rustix::process::kill_process(alice, Signal::TSTP).unwrap();
    tty.line_is("SHELL");
    tty.press("fg\r");
    tty.line_is("> still");
    eventually("keys come one by one again", || tty.is_raw());
    tty.press("\x03\x03");
    tty.line_is("SHELL");
    assert!(tty.is_restored());
    tty.press("exit\r");
    tty.end();
}

#[test]
fn no_line_is_lost_or_doubled_when_the_terminal_changes_its_size() {
    for narrow in [Narrow::Folds, Narrow::Cuts] {
        let place = Place::new();
        let _server = start_server(&place, &[]);
        let mut bob = client(&place, "bob");
        let mut tty = registered(&place, "alice");
        let mut number = 0;
        let mut check = |tty: &Tty, typed: &str| {
            bob.send("alice", format!("<{number}>").as_bytes()).unwrap();
            number += 1;
            tty.until("all lines are there, once, and what is typed", |screen| {
                let text = screen.text();
                let once = |number| text.matches(&format!("<{number}>")).count() == 1;
                let rows: Vec<&str> = text.lines().collect();
                // The line begins behind the message, and is there once.
                let begin = rows.iter().position(|row| row.contains(&format!("<{}>", number - 1)));
                (0..number).all(once)
                    && begin.is_some_and(|begin| rows[begin + 1..].concat() == format!("> {typed}"))
                    && text.matches("> 0123").count() == 1
            });
        };
        let resize = |tty: &mut Tty, columns: u16| {
            // What was drawn for another width must not arrive behind the change. Without a history the key
            // only rings, behind all that came before: a signal, the question that follows, and the answer.
            for _ in 0..3 {
                let rung = tty.bells();
                tty.press("\x1b[A");
                tty.until("it has rung", |screen| screen.bells > rung);
            }
            tty.resize(columns, narrow);
            tty.until("the line is drawn anew", |screen| {
                screen.text().lines().rev().take(3).all(|row| row.chars().count() < columns.into())
            });
        };
        let typed = "0123456789".repeat(10);
        tty.press(&typed);
        check(&tty, &typed);
        for columns in [70, 60, 40, 90, 33, 200, 50, 51, 34, 1000] {
            resize(&mut tty, columns);
            check(&tty, &typed);
        }
        // With the cursor in the middle, where it does not tell what the terminal does.
        tty.press(&"\x1b[D".repeat(80));
        for columns in [60, 30, 100, 50] {
            resize(&mut tty, columns);
            check(&tty, &typed);
        }
        tty.press("\x15\x0b/quit\r");
        left_well(&place, tty, "alice");
    }
}

#[test]
fn a_pasted_block_is_taken_as_lines() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut bob = client(&place, "bob");
    let mut tty = registered(&place, "alice");
    tty.press("bob zero\x1b[200~, one\nbob two\r\n/help\rbob \tthree\r\rbob fo\x1b[201~ur");
    for message in ["zero, one", "two", "\tthree"] {
        assert_eq!(receive(&mut bob), message);
    }
    tty.shows("\n/quit ");
    tty.line_is("> bob four");
    tty.press("\r");
    assert_eq!(receive(&mut bob), "four");
    // Keys in it are text.
    tty.press("\x1b[200~bob \x03\x1b[A\x04\x1b[201~\r");
    assert_eq!(receive(&mut bob), "\x03\x1b[A\x04");
    // A large block comes whole and in order.
    let lines: Vec<String> = (0..1000).map(|number| format!("bob {number}\n")).collect();
    tty.press(&format!("\x1b[200~{}\x1b[201~", lines.concat()));
    for number in 0..1000 {
        assert_eq!(receive(&mut bob), number.to_string());
    }
    tty.press("/quit\r");
    left_well(&place, tty, "alice");
}

#[test]
fn an_interrupt_cancels_the_line_and_without_one_ends() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut bob = client(&place, "bob");
    let mut tty = registered(&place, "alice");
    tty.press("bob not this\x03");
    tty.until("it is cancelled", |screen| screen.current() == ">" && screen.shows_above("> bob not this^C"));
    tty.press("bob but this\r");
    assert_eq!(receive(&mut bob), "but this");
    tty.line_is(">");
    tty.press("\x03");
    left_well(&place, tty, "alice");
}

#[test]
fn messages_are_shown_while_the_history_is_searched() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut bob = client(&place, "bob");
    let mut tty = registered(&place, "alice");
    for line in ["one", "two", "three"] {
        tty.press(&format!("bob {line}\r"));
        assert_eq!(receive(&mut bob), line);
    }
    tty.press("half\x12t");
    tty.line_is("(search) t: bob three");
    bob.send("alice", b"in between").unwrap();
    tty.until("the message stands above the search", |screen| {
        screen.text().contains("): in between\n") && screen.current() == "(search) t: bob three"
    });
    tty.press("w");
    tty.line_is("(search) tw: bob two");
    tty.press("\x03");
    tty.line_is("> half");
    tty.press("\x15\x12tw\r");
    assert_eq!(receive(&mut bob), "two");
    tty.line_is(">");
    tty.press("/quit\r");
    left_well(&place, tty, "alice");
}

#[test]
fn a_receiver_is_chosen_and_keys_are_short() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let (mut bob, mut carol) = (client(&place, "bob"), client(&place, "carol"));
    let mut tty = registered(&place, "alice");
    tty.press("/to bob\r");
    tty.line_is("bob>");
    tty.press("carol is here\r");
    assert_eq!(receive(&mut bob), "carol is here");
    tty.press("/msg carol hello\r");
    assert_eq!(receive(&mut carol), "hello");
    // Behind the time stands the sender with the beginning of his key, which is enough to write to him.
    bob.send("alice", b"hi").unwrap();
    let mut short = String::new();
    tty.until("the message has come", |screen| {
        let text = screen.text();
        let row = text.lines().find(|row| row.ends_with("): hi") && without_time(row) != *row);
        let shown = row.and_then(|row| without_time(row).strip_prefix("bob ("));
        short = shown.unwrap_or_default().trim_end_matches("): hi").to_owned();
        shown.is_some()
    });
    assert!(bob.key().to_string().starts_with(&short) && short.len() < 10, "{short}");
    tty.press("/to\r");
    tty.line_is(">");
    tty.press(&format!("{} by key\r", short.to_lowercase()));
    assert_eq!(receive(&mut bob), "by key");
    tty.press("nobody at all\r");
    tty.until("it is refused", |screen| {
        screen.text().contains("\n! not sent to nobody: no client is registered as nobody")
    });
    tty.line_is(">");
    tty.press("/quit\r");
    left_well(&place, tty, "alice");
}

#[test]
fn the_list_of_clients_fits_the_terminal() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let _other = client(&place, "long name ".repeat(6).trim());
    let mut tty = registered(&place, "alice");
    for columns in [80, 40, 20] {
        tty.resize(columns, Narrow::Folds);
        tty.press("/who\r");
        tty.until("the table is there, and no row is folded", |screen| {
            seen(screen, "> /who") == 1 && screen.current() == ">" && {
                let text = screen.text();
                let table = text.lines().skip_while(|row| *row != "> /who").skip(1);
                let rows: Vec<&str> = table.take_while(|row| *row != ">").collect();
                rows.len() == 3
                    && rows[0].starts_with("NAME")
                    && rows.iter().all(|row| row.chars().count() < columns.into())
            }
        });
        tty.press("\x0c");
        tty.until("the screen is clear", |screen| screen.text() == ">");
    }
    tty.press("/quit\r");
    left_well(&place, tty, "alice");
}
