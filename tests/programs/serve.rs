//! Tests of `ringpost serve` and of calls to it: what a command is given and answers, how it fails, several
//! at once, and the ends of everybody.

use crate::common::{LIMIT, Place, begin, eventually};
use crate::program::*;
use crate::terminal::hang_ups_are_ignored;
use ringpost::{CallError, Client, Link};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs;
use std::io::Write;

/// Starts `ringpost serve` with a shell command.
fn start_shell(place: &Place, name: &str, script: &str) -> Program {
    start_serving(place, name, &["--exec", "sh", "-c", script])
}

fn call(place: &Place, to: &str, request: &[u8]) -> crate::common::program::Ended {
    run_with(CLIENT, &["call", "--socket", text(&place.path), "--as", "caller", "--to", to], request)
}

fn link(place: &Place, name: &str, to: &str) -> (Client, Link) {
    let mut client = Client::register(&place.path, name).unwrap();
    let link = client.connect(to).unwrap();
    (client, link)
}

#[test]
fn calls_are_answered_byte_for_byte() {
    let place = Place::new();
    let _server = start_server(&place, &["--ring-size", "1M"]);
    let echo = start_serving(&place, "echo", &["--echo"]);
    let cat = start_serving(&place, "my cat", &["--exec", "cat", "-"]);
    let everything: Vec<u8> = (0..500_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let requests = [&b""[..], b"\n", b"no line end", b"\0\xff\xfe\r\n", &everything];
    for to in ["echo", "my cat"] {
        for request in requests {
            assert!(call(&place, to, request).quiet() == request, "{to}: {} bytes", request.len());
        }
    }
    let key = ls(&place)["clients"]
        .as_array()
        .unwrap()
        .iter()
        .find(|client| client["name"] == "echo")
        .unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(call(&place, &key, b"by key").quiet(), b"by key");
    for (program, served) in [(echo, "served 6 calls over 7 links"), (cat, "served 5 calls over 6 links")] {
        program.signal(Signal::INT);
        let ended = program.end();
        assert_eq!((ended.status, &ended.stdout[..]), (Some(0), &b""[..]), "{}", ended.stderr);
        assert!(
            ended.stderr.starts_with("registered as ") && ended.stderr.contains(served),
            "{}",
            ended.stderr
        );
    }
    assert_eq!(names(&place), [""; 0]);
}

#[test]
fn a_command_that_fails_is_a_failed_call_that_says_why() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let serving = start_shell(&place, "sh", "read -r script; eval \"$script\"");
    for (script, said) in [
        ("exit 3", "the service failed: the command ended with status 3\n"),
        ("echo partly; echo 'no such thing' >&2; echo more >&2; exit 1", "status 1: no such thing\n"),
        ("printf '\\n\\n  \\033[31mred\\n' >&2; exit 1", "status 1: \\u{1b}[31mred\n"),
        ("kill -9 $$", "was ended by SIGKILL (9)\n"),
        ("echo last words >&2; kill -TERM $$", "was ended by SIGTERM (15): last words\n"),
        ("nosuchprogram", "status 127: "),
        ("head -c 200000 /dev/zero", "answered too much"),
        ("yes", "answered too much"),
        ("yes x | head -c 100000 >&2; exit 1", "status 1: x\n"),
    ] {
        let why = call(&place, "sh", format!("{script}\n").as_bytes()).failed();
        assert!(why.contains(said), "{script}: {why}");
    }
    // It goes on, and what is written to standard error is no failure.
    assert_eq!(call(&place, "sh", b"echo fine; echo not so >&2\n").quiet(), b"fine\n");
    serving.signal(Signal::TERM);
    let ended = serving.end();
    assert!(ended.stderr.contains("served 10 calls over 11 links; 9 failed"), "{}", ended.stderr);
}

#[test]
fn no_use_of_the_pipes_can_hang_it() {
    let place = Place::new();
    let _server = start_server(&place, &["--ring-size", "1M"]);
    // More than the pipes hold, in every direction.
    let request = vec![b'x'; 400_000];
    for (script, response) in [
        ("exec <&-; echo closed", 7),
        ("echo unread", 7),
        ("cat; cat >&2 < /dev/zero & kill $!", 400_000),
        ("head -c 400000 /dev/zero >&2; head -c 400000 /dev/zero; cat > /dev/null", 400_000),
        ("head -c 400000 /dev/zero; cat", 0),
        ("exec >&- 2>&-; cat > /dev/null", 0),
        // Another process holds the pipes for longer.
        ("sleep 1000 & echo $! > pid; echo done", 5),
    ] {
        let directory = place.directory.path().display();
        let serving = start_shell(&place, "sh", &format!("cd {directory} && {{ {script}; }}"));
        let called = call(&place, "sh", &request);
        if response == 0 && script.contains("head") {
            assert!(called.failed().contains("answered too much"), "{script}");
        } else {
            assert_eq!(called.quiet().len(), response, "{script}");
        }
        serving.signal(Signal::TERM);
        serving.end().well();
    }
    let pid = fs::read_to_string(place.directory.path().join("pid")).unwrap();
    kill_process(pid_of(&pid), Signal::KILL).unwrap();
}

fn pid_of(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

/// Each of two commands waits for the other.
#[test]
fn commands_of_several_links_run_at_once() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let fifo = place.directory.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let script =
        format!("read -r how; case $how in read) cat '{0}';; *) echo over >'{0}';; esac", fifo.display());
    let _serving = start_shell(&place, "sh", &script);
    let (_alice, mut one) = link(&place, "alice", "sh");
    let (_bob, mut other) = link(&place, "bob", "sh");
    let reading = begin(move || one.call_timeout(b"read\n", LIMIT).map(|reply| reply.to_vec()));
    let writing = begin(move || other.call_timeout(b"write\n", LIMIT).map(|reply| reply.to_vec()));
    assert_eq!(reading.end("the reading command").unwrap(), b"over\n");
    assert_eq!(writing.end("the writing command").unwrap(), b"");
}

/// A call whose command says its process id in a file and never ends.
fn endless(place: &Place) -> (Program, crate::common::Begun<Result<Vec<u8>, CallError>>, Pid) {
    let file = place.directory.path().join("pid");
    let script = format!("echo $$ > '{0}.new'; mv '{0}.new' '{0}'; exec sleep 1000", file.display());
    let serving = start_shell(place, "sh", &script);
    let (alice, mut link) = link(place, "alice", "sh");
    let called = begin(move || {
        let response = link.call_timeout(b"", LIMIT).map(|reply| reply.to_vec());
        drop(alice);
        response
    });
    eventually("the command runs", || file.exists());
    let pid = pid_of(&fs::read_to_string(&file).unwrap());
    (serving, called, pid)
}

#[test]
fn commands_end_with_the_program() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::KILL] {
        if signal == Signal::HUP && hang_ups_are_ignored() {
            eprintln!("SIGHUP left out: it is ignored here, and so by the program");
            continue;
        }
        let place = Place::new();
        let _server = start_server(&place, &[]);
        let (serving, called, pid) = endless(&place);
        assert!(test_kill_process(pid).is_ok());
        serving.signal(signal);
        let ended = serving.end();
        let why = called.end("the call").unwrap_err();
        assert!(why.may_have_executed() && !why.is_timeout(), "{why}");
        if signal != Signal::KILL {
            assert_eq!(ended.status, Some(0), "{}", ended.stderr);
            assert!(ended.stderr.contains("served 1 call over 2 links; 1 failed"), "{}", ended.stderr);
        }
        eventually("the command has ended", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            stat.map_or(true, |stat| stat.contains(") Z "))
        });
    }
}

#[test]
fn a_call_does_not_wait_for_longer_than_it_is_told() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let _serving = start_shell(&place, "sh", "exec sleep 1000");
    let socket = text(&place.path);
    let arguments = ["call", "--socket", socket, "--as", "x", "--to", "sh", "--timeout", "3", "x"];
    let why = run(CLIENT, &arguments).failed();
    assert!(why.contains("deadline") && why.contains("raise --timeout"), "{why}");
}

#[test]
fn whoever_cannot_be_called_is_said_so() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let (_bob, _) = start_listener(&place, "bob", &[]);
    for (to, said) in [
        ("nobody", "no client is registered as nobody"),
        ("bob", "bob answers no calls"),
        ("caller", "caller answers"),
    ] {
        let why = call(&place, to, b"x").failed();
        assert!(why.contains(said), "{to}: {why}");
    }
    let _serving = start_serving(&place, "echo", &["--echo"]);
    let socket = text(&place.path);
    let taken = run(CLIENT, &["serve", "--as", "echo", "--echo", "--socket", socket]).failed();
    assert!(taken.contains("taken"), "{taken}");
    let too_large = call(&place, "echo", &vec![0; 200_000]).failed();
    assert!(too_large.contains("200000 bytes are more"), "{too_large}");
}

#[test]
fn a_program_that_does_not_exist_is_a_wrong_command_line() {
    let place = Place::new();
    let plain = place.directory.path().join("plain");
    fs::File::create(&plain).unwrap().write_all(b"text").unwrap();
    for command in ["nosuchprogram", "/nonexistent", "/", text(&plain)] {
        let why = run(CLIENT, &["serve", "--as", "x", "--socket", "s", "--exec", command]).refused(2);
        assert!(why.contains("no such program"), "{why}");
    }
}

#[test]
fn messages_are_dropped_with_a_word() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let errors = place.directory.path().join("errors");
    let said = || fs::read_to_string(&errors).unwrap();
    let line = ["serve", "--socket", text(&place.path), "--as", "echo", "--echo"];
    let serving = Program::start_with(CLIENT, &line, |command| {
        command.stderr(fs::File::create(&errors).unwrap());
    });
    eventually("it serves", || call(&place, "echo", b"anybody?").status == Some(0));
    for _ in 0..2 {
        run(CLIENT, &["send", "--as", "x", "--to", "echo", "hello", "--socket", text(&place.path)]).quiet();
    }
    assert_eq!(call(&place, "echo", b"still").quiet(), b"still");
    eventually("the word comes", || said().contains("x sent a message"));
    serving.signal(Signal::TERM);
    serving.end().well();
    assert_eq!(said().matches("x sent a message").count(), 1, "{}", said());
}

#[test]
fn the_servers_end_is_the_end_unless_it_is_to_register_again() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let serving = start_serving(&place, "plain", &["--echo"]);
    let again = start_serving(&place, "again", &["--echo", "--reconnect"]);
    let (_alice, mut link) = link(&place, "alice", "again");
    assert_eq!(link.call(b"before").unwrap(), b"before");
    drop(server);
    let ended = serving.end();
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("the server died: start it again"), "{}", ended.stderr);
    // An open link goes on, with and without a server.
    assert_eq!(link.call(b"without").unwrap(), b"without");
    let _server = Program::start(SERVER, &["--socket", text(&place.path)]);
    eventually("it serves others again", || call(&place, "again", b"new").status == Some(0));
    assert_eq!(link.call(b"after").unwrap(), b"after");
    again.signal(Signal::TERM);
    let ended = again.end();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("waiting for the next server"), "{}", ended.stderr);
    assert!(link.call(b"over").unwrap_err().is_disconnected());
}
