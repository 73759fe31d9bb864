//! Tests of `--wait-for-server`: commands that start before their server does.

use crate::common::{Place, eventually};
use crate::program::*;
use rustix::process::Signal;
use std::fs::{self, File};
use std::path::PathBuf;

/// A command that waits for its server, and the file with its standard error.
struct Waiting {
    program: Program,
    errors: PathBuf,
}

impl Waiting {
    fn start(place: &Place, name: &str, arguments: &[&str]) -> Waiting {
        let errors = place.path.with_extension(format!("{name}.errors"));
        let file = File::create(&errors).unwrap();
        let arguments = [arguments, &["--socket", text(&place.path)]].concat();
        let program = Program::start_with(CLIENT, &arguments, |command| {
            command.stderr(file);
        });
        let waiting = Waiting { program, errors };
        waiting.says("ringpost: waiting for a server at \"");
        waiting
    }

    fn says(&self, text: &str) {
        eventually(text, || fs::read_to_string(&self.errors).unwrap().contains(text));
    }
}

#[test]
fn every_command_can_start_before_its_server() {
    let place = Place::new();
    let start = |name, arguments: &[&str]| Waiting::start(&place, name, arguments);
    const WAIT: &str = "--wait-for-server";
    let listen = start("listen", &["listen", "--as", "listen", WAIT, "--count", "1"]);
    let serve = start("serve", &["serve", "--as", "serve", "--echo", WAIT]);
    let topic = ["--as", "publish", "--topic", "t", "--subscribers", "1"];
    let mut publish = start("publish", &[&["publish", WAIT][..], &topic].concat());
    let subscribe = start("subscribe", &["subscribe", "--as", "subscribe", "t", "--count", "1", WAIT]);
    let mut watch = start("watch", &["watch", WAIT]);
    let client = start("client", &["client", "client", WAIT]);
    let mut call = start("call", &["call", "--as", "call", "called", WAIT]);
    let mut ls = start("ls", &["ls", "--wait-for-server=1000", "--json"]);

    let server = start_server(&place, &[]);
    assert_eq!(call.program.line(), "called", "not ended by the time-out of five seconds");
    assert!(ls.program.line().contains("\"clients\""));
    let present = watch.program.line();
    assert!(present.starts_with("present ") || present.starts_with("appeared "), "{present}");
    publish.program.write(b"sample\n");
    let samples = String::from_utf8(subscribe.program.end().well()).unwrap();
    assert!(samples.ends_with(": sample\n"), "{samples}");
    publish.program.end().well();
    let others = ["listen", "serve", "client"];
    eventually("all are there", || others.iter().all(|name| names(&place).contains(&(*name).to_owned())));
    // One that finds its server at once says nothing.
    let send = ["send", "--as", "send", "--to", "listen", "hello", WAIT, "--socket", text(&place.path)];
    run(CLIENT, &send).quiet();
    assert!(String::from_utf8(listen.program.end().well()).unwrap().ends_with(": hello\n"));
    client.program.end().well();
    serve.program.signal(Signal::TERM);
    serve.program.end().well();
    watch.program.signal(Signal::TERM);
    watch.program.end().well();
    server.signal(Signal::TERM);
    server.end().well();
}

#[test]
fn the_wait_ends_in_time_and_by_a_signal() {
    let place = Place::new();
    for arguments in [
        &["ls", "--wait-for-server=0.05"][..],
        &["serve", "--as", "x", "--echo", "--wait-for-server=0.05"],
        &["listen", "--as", "x", "--wait-for-server", "--timeout", "0.05"],
        &["send", "--as", "x", "--to", "y", "z", "--wait-for-server=1000", "--timeout", "0.05"],
    ] {
        let ended = run(CLIENT, &[arguments, &["--socket", text(&place.path)]].concat());
        assert_eq!((ended.status, ended.stdout.len()), (Some(1), 0), "{ended:?}");
        let said: Vec<&str> = ended.stderr.lines().collect();
        assert!(said.len() == 2 && said[1].contains("no server at"), "{said:?}");
        assert!(said[1].ends_with("none came in time"), "{said:?}");
    }
    for (name, signal) in [("call", Signal::TERM), ("subscribe", Signal::INT)] {
        let waiting = Waiting::start(&place, name, &[name, "--as", "x", "y", "--wait-for-server"]);
        waiting.program.signal(signal);
        assert_eq!(waiting.program.end().status, Some(1));
        assert!(fs::read_to_string(&waiting.errors).unwrap().contains("ended by SIG"));
    }
}

/// Nothing but a missing server is waited for.
#[test]
fn other_failures_end_a_command_at_once() {
    let place = Place::new();
    let failed = |arguments: &[&str]| {
        run(CLIENT, &[arguments, &["--wait-for-server", "--socket", text(&place.path)]].concat()).failed()
    };
    // Without the option not even that, but it is told.
    let none = run(CLIENT, &["ls", "--socket", text(&place.path)]).failed();
    assert!(none.ends_with("--wait-for-server waits for one\n"), "{none}");
    fs::create_dir_all(place.path.parent().unwrap()).unwrap();
    let _server = start_server(&place, &[]);
    let (_listener, _) = start_listener(&place, "bob", &[]);
    assert!(failed(&["listen", "--as", "bob"]).contains("taken"));
    let long = "x".repeat(200);
    let ended = run(CLIENT, &["ls", "--wait-for-server", "--socket", &long]).failed();
    assert!(ended.contains("too long"), "{ended}");
}
