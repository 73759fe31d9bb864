//! Tests of what an operator does while the server runs: signals, another level, a log that is moved, and the
//! configuration loaded anew.

use crate::common::users::{is_root, leave_root};
use crate::common::{Begun, Place, begin, eventually};
use crate::program::*;
use ringpost::{Client, ControlError, Observer};
use rustix::process::Signal;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A directory for logs and configurations.
struct Etc(tempfile::TempDir);

impl Etc {
    fn new() -> Etc {
        Etc(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn stop(server: Program) {
    server.signal(Signal::TERM);
    server.end().well();
}

/// Gives the server a command, and returns its answer.
fn operate(place: &Place, command: &[&str]) -> Ended {
    run(CLIENT, &[&["--socket", text(&place.path)], command].concat())
}

fn said(ended: Ended) -> String {
    String::from_utf8(ended.quiet()).unwrap()
}

fn most_clients(place: &Place) -> u64 {
    ls(place)["server"]["quotas"]["clients"].as_u64().unwrap()
}

#[test]
fn a_hangup_opens_the_log_anew_and_other_signals_do_nothing() {
    let (place, etc) = (Place::new(), Etc::new());
    let (log, moved) = (etc.path("log"), etc.path("moved"));
    let server = start_server(&place, &["--log-file", text(&log)]);
    let mut alice = Client::register(&place.path, "alice").unwrap();
    eventually("she is in the log", || read(&log).contains(" register name=alice"));
    fs::rename(&log, &moved).unwrap();
    server.signal(Signal::HUP);
    eventually("it is opened anew", || read(&log).contains(" reload rules=0 users=0 groups=0\n"));
    for signal in [Signal::USR1, Signal::USR2, Signal::HUP, Signal::USR1] {
        server.signal(signal);
    }
    assert_eq!(alice.call(b"still there?").unwrap(), b"still there?");
    // It need not have anything to write.
    said(operate(&place, &["log-level", "error"]));
    let again = etc.path("again");
    fs::rename(&log, &again).unwrap();
    server.signal(Signal::HUP);
    eventually("there is an empty file", || log.exists());
    said(operate(&place, &["log-level", "info"]));
    stop(server);
    assert!(read(&log).contains(" stopped signal=SIGTERM"));
    assert!(!read(&moved).contains("reload") && read(&moved).contains("listening"));
}

#[test]
fn a_log_that_was_moved_or_removed_is_followed_without_a_signal() {
    let (place, etc) = (Place::new(), Etc::new());
    let (log, moved) = (etc.path("log"), etc.path("moved"));
    let server = start_server(&place, &["--log-file", text(&log)]);
    eventually("it has begun", || read(&log).contains(" listening "));
    fs::rename(&log, &moved).unwrap();
    let _alice = Client::register(&place.path, "alice").unwrap();
    eventually("there is a new file", || read(&log).contains(" register name=alice"));
    fs::remove_file(&log).unwrap();
    let _bob = Client::register(&place.path, "bob").unwrap();
    eventually("and another one", || read(&log).contains(" register name=bob"));
    stop(server);
    assert!(!read(&log).contains("alice") && !read(&moved).contains("alice"));
}

#[test]
fn the_level_changes_while_the_server_runs() {
    let (place, etc) = (Place::new(), Etc::new());
    let log = etc.path("log");
    let server = start_server(&place, &["--log-file", text(&log), "--log-level", "warn"]);
    let mut alice = Client::register(&place.path, "alice").unwrap();
    let mut call = |text: &str| {
        alice.call(text.as_bytes()).unwrap();
    };
    call("not logged");
    assert_eq!(said(operate(&place, &["log-level"])), "warn\n");
    assert_eq!(said(operate(&place, &["log-level", "trace"])), "trace (it was warn)\n");
    assert_eq!(said(operate(&place, &["log-level"])), "trace\n");
    call("seven 7");
    let entry = " TRACE call name=alice key=";
    eventually("the call is in the log", || read(&log).contains(entry));
    assert!(read(&log).contains(" bytes_in=7 bytes_out=7\n"));
    assert_eq!(said(operate(&place, &["log-level", "error"])), "error (it was trace)\n");
    call("not logged either");
    stop(server);
    let text = read(&log);
    assert!(
        text.contains(" INFO control command=log-level ")
            && text.contains("command=\"log-level trace\" pid=")
    );
    assert_eq!((text.matches(" call ").count(), text.matches("alice").count()), (1, 1), "{text}");
}

#[test]
fn a_level_that_is_none_is_a_wrong_command_line() {
    let place = Place::new();
    assert!(operate(&place, &["log-level", "loud"]).refused(2).contains("error, warn, info, debug, trace"));
    assert!(run(SERVER, &["--log-level", "loud"]).refused(2).contains("--log-level"));
    assert!(run(SERVER, &["-v", "--log-level", "info"]).refused(2).contains("--verbose"));
    assert!(operate(&place, &["reload"]).failed().contains("no server"));
}

#[test]
fn a_configuration_is_loaded_anew_and_a_wrong_one_changes_nothing() {
    let (place, etc) = (Place::new(), Etc::new());
    let log = etc.path("log");
    let head = format!("socket = {:?}\n", text(&place.path));
    let config = etc.write("bus.toml", &format!("{head}[access.quotas]\nclients = 5\n"));
    let server = Program::start(SERVER, &["--config", text(&config), "--log-file", text(&log)]);
    eventually("it serves", || Observer::connect(&place.path).is_ok());
    assert_eq!(most_clients(&place), 5);

    etc.write("bus.toml", &format!("{head}[access.quotas]\nclients = 6\n[log]\nlevel = \"debug\"\n"));
    let answer = said(operate(&place, &["reload"]));
    assert!(answer.contains("opened anew") && answer.contains("0 rules, 0 users, 0 groups"), "{answer}");
    assert_eq!(most_clients(&place), 6);
    assert_eq!(said(operate(&place, &["log-level"])), "debug\n");

    // What is wrong is told with its line, and all is as before.
    etc.write("bus.toml", &format!("{head}[access.quotas]\nclients = 7\ntopic = 1\n"));
    let why = operate(&place, &["reload"]).failed();
    assert!(
        why.contains("bus.toml: line 4: access.quotas.topic is not known: did you mean topics?"),
        "{why}"
    );
    etc.write("bus.toml", &format!("{head}[[access.rules]]\nacts = [\"publish\"]\nwhat = [\"a/x*\"]\n"));
    let why = operate(&place, &["reload"]).failed();
    assert!(why.contains("rule 1: \"a/x*\" is not a pattern of topics"), "{why}");
    fs::remove_file(&config).unwrap();
    let why = operate(&place, &["reload"]).failed();
    assert!(why.contains("cannot read the configuration"), "{why}");
    assert_eq!(most_clients(&place), 6);
    eventually("it is in the log", || read(&log).matches(" ERROR not_reloaded error=").count() == 3);

    // The level of an operator stays if the file says nothing new; what needs a new start is named.
    said(operate(&place, &["log-level", "warn"]));
    etc.write(
        "bus.toml",
        "max-clients = 7\nsocket = \"/elsewhere\"\n[access.quotas]\nclients = 8\n[log]\nlevel = \"debug\"\n",
    );
    let answer = said(operate(&place, &["reload"]));
    assert!(answer.ends_with("; after a new start also socket max-clients\n"), "{answer}");
    assert_eq!(said(operate(&place, &["log-level"])), "warn\n");
    etc.write("bus.toml", &format!("{head}[access.quotas]\nclients = 9\n"));
    server.signal(Signal::HUP);
    eventually("SIGHUP does the same", || most_clients(&place) == 9);
    stop(server);
}

#[test]
fn rules_of_the_configuration_hold_from_the_start_and_when_loaded_anew() {
    let (place, etc) = (Place::new(), Etc::new());
    let rule = |name: &str| format!("[[access.rules]]\nacts = [\"register\"]\nwhat = [{name:?}]\n");
    let config = etc.write("bus.toml", &rule("admin*"));
    let server = start_server(&place, &["--config", text(&config)]);
    let register = |name: &str| Client::register(&place.path, name).map(drop);
    assert!(register("alice").is_ok());
    assert!(register("admin 1").unwrap_err().to_string().contains("admin 1"));
    etc.write("bus.toml", &rule("al*"));
    said(operate(&place, &["reload"]));
    assert!(register("alice").is_err());
    assert!(register("admin 1").is_ok());
    stop(server);
}

#[test]
fn without_a_configuration_a_reload_says_so() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let answer = said(operate(&place, &["reload"]));
    assert!(answer.contains("the log goes to stderr") && answer.contains("--config FILE"), "{answer}");
    stop(server);
}

#[test]
fn only_the_server_s_user_and_root_may_give_commands() {
    if !is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let place = Place::new();
    fs::set_permissions(place.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let server = start_server(&place, &["--allow-user", "65531"]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            leave_root(65_531, 65_531, &[]);
            let observer = Observer::connect(&place.path).unwrap();
            assert!(matches!(observer.control("log-level trace"), Err(ControlError::NotPermitted)));
        });
    });
    assert_eq!(said(operate(&place, &["log-level"])), "info\n");
    server.signal(Signal::TERM);
    let log = server.end().stderr;
    assert!(log.contains(" refused reason=control pid=") && log.contains(" uid=65531 "), "{log}");
}

/// Starts a server with a pipe as its descriptor 3. Returns what comes through it, once it is closed.
fn with_ready_pipe(arguments: &[&str]) -> (Program, Begun<String>) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut line = vec!["-c", "exec \"$0\" \"$@\" 3>&0 0</dev/null", SERVER, "--ready-fd", "3"];
    line.extend_from_slice(arguments);
    let server = Program::start_with("sh", &line, |command| {
        command.stdin(Stdio::from(writer));
    });
    let told = begin(move || {
        let mut told = String::new();
        reader.read_to_string(&mut told).unwrap();
        told
    });
    (server, told)
}

#[test]
fn readiness_is_told_through_a_descriptor() {
    let place = Place::new();
    let (mut server, told) = with_ready_pipe(&["--socket", text(&place.path)]);
    assert_eq!(told.end("the descriptor stays open"), "ready\n");
    Client::register(&place.path, "alice").expect("it serves when it says so");
    assert!(!server.is_over());
    stop(server);

    let (server, told) = with_ready_pipe(&["--socket", "/missing/directory/bus"]);
    assert_eq!(told.end("the descriptor stays open"), "", "a server that does not start says nothing");
    server.end().failed();
    for number in ["77", "2", "-1"] {
        let why = run(SERVER, &["--socket", text(&place.path), "--ready-fd", number]).refused(2);
        assert!(why.contains(&format!("--ready-fd {number}: ")), "{why}");
    }
    assert!(place.is_clean());
}
