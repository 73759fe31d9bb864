//! Tests of the pictures, on a terminal in memory.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::bus::{Bus, Client, Link, Server, Times, Topic};
use super::super::table::{Id, Sort};
use super::*;
use crate::client::keys::Key;

const PLAIN: Palette = Palette { colours: false };

/// So much in so many seconds.
fn count(total: u64, per_second: f64) -> Count {
    Count { total, per_second: Some(per_second) }
}

fn state() -> State {
    let client = |name: &str, calls: f64| Client {
        name: name.into(),
        key: format!("KEY-{name}"),
        state: "live".into(),
        pid: 16_887,
        calls: count(12_345, calls),
        sent: count(10, 2.5),
        received: count(10, 0.0),
        bytes_in: count(1 << 20, 2048.0),
        bytes_out: count(1 << 20, 0.0),
        inbox: Ring { used: 131_072, size: 262_144 },
        requests: Ring { used: 64, size: 262_144 },
        waiting_senders: 3,
        cpu_percent: Some(12.4),
        service: Times {
            count: 4,
            p50_ns: Some(850),
            p90_ns: Some(900),
            p99_ns: Some(1_200),
            max_ns: Some(1_300),
        },
        wake: Times { p99_ns: Some(52_000), ..Times::default() },
        missed: count(7, 7.0),
        published: count(0, 0.0),
        taken: count(0, 0.0),
        ..Client::default()
    };
    let link = Link {
        caller: "alice".into(),
        callee: "bob".into(),
        age_seconds: 200.0,
        requests: count(12, 3.0),
        served: count(10, 3.0),
        bytes_out: count(640, 192.0),
        bytes_in: count(640, 192.0),
        ..Link::default()
    };
    let topic = Topic {
        topic: "prices/AAPL".into(),
        publisher: "alice".into(),
        subscriptions: 2,
        ring_size: 262_144,
        age_seconds: 5.0,
        samples: count(100, 50.0),
        bytes: count(6_400, 3_200.0),
    };
    let server = Server {
        pid: 16_874,
        version: "0.1.0".into(),
        clients: 2,
        max_clients: 1_024,
        calls: count(12_345, 1_234.0),
        messages: count(10, 2.5),
        bytes_in: count(1, 0.0),
        bytes_out: count(1, 0.0),
        died: count(1, 1.0),
        registered: count(3, 1.0),
        cpu_percent: Some(45.0),
        workers_hot: 1,
        workers_most: 2,
        ..Server::default()
    };
    let bus = Bus {
        uptime_seconds: 200.0,
        interval_seconds: Some(1.0),
        stamped: true,
        server,
        clients: vec![client("alice", 1_234.0), client("bob", 0.0)],
        links: vec![link],
        topics: vec![topic],
    };
    State { bus, page: 17, ..State::default() }
}

/// What a terminal of this size shows, line by line, without spaces at the ends.
fn shown_on(state: &State, palette: Palette, width: u16, height: u16) -> (Vec<String>, Buffer) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(state, palette, frame.area(), frame.buffer_mut())).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    ((0..height).map(line).collect(), buffer)
}

fn lines(state: &State, width: u16, height: u16) -> Vec<String> {
    shown_on(state, PLAIN, width, height).0
}

#[test]
fn eighty_columns_and_24_lines_show_the_bus() {
    let lines = lines(&state(), 80, 24);
    assert_eq!(
        lines[..8],
        [
            "ringpost 0.1.0  pid 16874  up 3 min 20 s",
            "calls 1234/s  messages 2.5/s  in 0/s  out 0/s  cpu 45%  hot workers 1 of 2",
            "clients 2 of 1,024  registered 3  died 1  violations 0  refused 0",
            "[Clients 2]   Links 1    Topics 1",
            "NAME           CALLS/s MSGS/s SMPL/s BYTES/s INBOX WAIT LOST/s SVC99 WAKE99  CPU",
            "alice             1234    2.5      0    2048 ██▌··    3    7.0 1.2µs   52µs  12%",
            "bob                  0    2.5      0    2048 ██▌··    3    7.0 1.2µs   52µs  12%",
            "",
        ]
    );
    assert_eq!(lines[23], "q quit  ? help  Tab view  < > order  r reverse  / filter  p pause  Enter detail");
}

#[test]
fn links_and_topics_have_views_of_their_own() {
    let shown = lines(&State { view: View::Links, ..state() }, 80, 24);
    assert_eq!(shown[4], "CALLER     CALLEE     CALLS/s  OPEN OUT/s  IN/s SVC50 SVC99          AGE");
    assert_eq!(shown[5], "alice      bob            3.0     2   192   192     -     -   3 min 20 s");
    let shown = lines(&State { view: View::Topics, ..state() }, 80, 24);
    assert_eq!(shown[4], "TOPIC            PUBLISHER  SMPL/s BYTES/s SUBS     RING          AGE");
    assert_eq!(shown[5], "prices/AAPL      alice          50    3200    2  256 KiB          5 s");
}

#[test]
fn a_client_in_detail_fits_80_by_24() {
    let state = State { detail: Some("KEY-alice".into()), ..state() };
    let lines = lines(&state, 80, 24);
    for wanted in [
        "alice  live  key KEY-alice  pid 16887  user 0  group 0",
        "unread messages 0  senders that wait 3  its worker's cpu 12%  links 0",
        "calls                             12,345               1234",
        "inbox                  ██████······   50%            131,072 of 262,144",
        "service                      4    850ns    900ns    1.2µs    1.3µs",
        "alice calls bob: 3.0/s",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted:?} is not in {lines:#?}");
    }
    assert_eq!(lines[23], "Esc back  p pause  q quit");
}

#[test]
fn who_has_left_is_said_in_detail() {
    let state = State { detail: Some("KEY-dave".into()), ..state() };
    assert!(lines(&state, 80, 24).iter().any(|line| line == "This client is not registered any more."));
}

#[test]
fn before_the_first_look_nothing_is_claimed() {
    let lines = lines(&State::default(), 80, 24);
    assert_eq!((lines[0].as_str(), lines[1].as_str(), lines[5].as_str()), ("ringpost", "", ""));
}

#[test]
fn no_terminal_is_too_small() {
    for width in (0..40).chain([79, 81, 400]) {
        for height in (0..14).chain([100]) {
            for view in View::ALL {
                let mut state = State { view, gone: Some("the server has ended".into()), ..state() };
                for key in [Key::Char('?'), Key::Escape, Key::End, Key::Enter, Key::Escape, Key::Char('/')] {
                    shown_on(&state, Palette { colours: true }, width, height);
                    state.press(&key);
                }
                state.filter = "\u{4e2d}\u{4e2d}".repeat(30);
                shown_on(&state, PLAIN, width, height);
            }
        }
    }
}

#[test]
fn a_low_terminal_keeps_the_table() {
    assert_eq!(lines(&state(), 30, 2), ["NAME           CALLS/s MSGS/s", "alice             1234    2.5"]);
    assert_eq!(lines(&state(), 10, 3)[1..], ["alice", "bob"]);
    let gone = State { gone: Some("the server has ended; waiting for the next".into()), ..state() };
    for height in 1..12 {
        assert!(lines(&gone, 60, height)[0].contains("the server has ended"), "{height}");
    }
}

#[test]
fn the_chosen_row_is_in_view_however_many_there_are() {
    let mut state = state();
    state.bus.clients = (0..100)
        .map(|n| Client { name: format!("client {n:02}"), key: n.to_string(), ..Client::default() })
        .collect();
    for (chosen, first, last) in [(0, "00", "17"), (50, "41", "58"), (99, "82", "99")] {
        state.chosen = Some(Id::Key(chosen.to_string()));
        let (lines, buffer) = shown_on(&state, PLAIN, 80, 24);
        assert!(lines[5].starts_with(&format!("client {first}")), "{lines:#?}");
        assert!(lines[22].starts_with(&format!("client {last}")), "{lines:#?}");
        let at = lines.iter().position(|line| line.starts_with(&format!("client {chosen:02}"))).unwrap();
        assert!(buffer[(79, at as u16)].modifier.contains(Modifier::REVERSED));
    }
    assert_eq!(page(24), 18);
}

#[test]
fn without_colours_nothing_is_coloured() {
    let coloured = |palette, state: &State| {
        let (_, buffer) = shown_on(state, palette, 120, 24);
        buffer.content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    for (help, detail, gone) in
        [(false, None, None), (true, None, None), (false, Some("KEY-bob"), None), (false, None, Some("gone"))]
    {
        let (detail, gone) = (detail.map(str::to_owned), gone.map(str::to_owned));
        let state = State { help, detail, gone, ..state() };
        assert!(!coloured(PLAIN, &state));
    }
    assert!(coloured(Palette { colours: true }, &state()));
}

#[test]
fn what_is_typed_and_paused_and_filtered_can_be_seen() {
    let mut state = state();
    for key in ['p', '/', 'b', 'o'] {
        state.press(&Key::Char(key));
    }
    let shown = lines(&state, 80, 24);
    assert!(shown[0].starts_with(" paused   ringpost"), "{}", shown[0]);
    assert_eq!(shown[3], "[Clients 2]   Links 1    Topics 1   only \"bo\": 1");
    assert_eq!((shown[5].split(' ').next(), shown[23].as_str()), (Some("bob"), "filter: bo"));
    state.filter = "nobody".into();
    assert!(lines(&state, 80, 24)[5].starts_with("nothing passes the filter"));
}

#[test]
fn nobody_s_name_controls_the_terminal_or_breaks_the_table() {
    let mut state = state();
    state.bus.clients[0].name = "\u{202e}\x1b[2J".repeat(3) + "\u{4e2d}\u{4e2d}";
    state.sort = Sort::Calls;
    for detail in [None, Some("KEY-alice".to_owned())] {
        state.detail = detail;
        let (lines, buffer) = shown_on(&state, PLAIN, 80, 24);
        assert!(buffer.content.iter().all(|cell| !cell.symbol().contains(['\x1b', '\u{202e}'])));
        assert!(lines.iter().any(|line| line.contains("\\u{202e}")), "{lines:#?}");
    }
    state.detail = None;
    assert!(lines(&state, 80, 24)[5].contains("… "), "a name that is too long is cut");
}

#[test]
fn help_fits_80_by_24() {
    let shown = lines(&State { help: true, ..state() }, 80, 24);
    assert!(shown[..23].iter().any(|line| line.ends_with("as the clients say.")), "{shown:#?}");
}

#[test]
fn bars_show_eighths() {
    for (used, wanted) in [(0, "····"), (1, "▏···"), (50, "██··"), (53, "██▏·"), (99, "████"), (100, "████")]
    {
        assert_eq!(bar(Ring { used, size: 100 }, 4), wanted);
    }
    assert_eq!(bar(Ring { used: 1, size: 0 }, 0), "");
    assert_eq!(bar(Ring { used: 5, size: 0 }, 3), "···");
}

#[test]
fn texts_are_cut_at_whole_characters() {
    assert_eq!(aligned("abc", 5, true), "abc  ");
    assert_eq!(aligned("abc", 5, false), "  abc");
    assert_eq!(aligned("abcdef", 4, true), "abc…");
    assert_eq!(aligned("\u{4e2d}\u{4e2d}\u{4e2d}", 4, true), "\u{4e2d}… ");
    assert_eq!(aligned("abc", 0, true), "");
}
