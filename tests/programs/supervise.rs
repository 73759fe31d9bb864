//! Tests of what a service manager does: it passes the socket, is told how the server is, and sees that it is
//! alive. The test is the manager.

use crate::common::given::{await_connection, listening};
use crate::common::raw::RawClient;
use crate::common::{LIMIT, Place, begin, eventually};
use crate::program::*;
use ringpost::{Client, Observer};
use rustix::net::SocketType;
use rustix::process::Signal;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A server with this socket as descriptor 3. The shell that puts it there becomes the server, so it has the
/// number that `LISTEN_PID` says.
fn with_socket(socket: &OwnedFd, arguments: &[&str]) -> Command {
    started_by("exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1", socket, arguments)
}

fn started_by(script: &str, input: &OwnedFd, arguments: &[&str]) -> Command {
    let mut command = command("sh");
    command.args(["-c", &format!("{script}; exec \"$@\""), "sh", SERVER]).args(arguments);
    command.stdin(Stdio::from(input.try_clone().unwrap()));
    command
}

// ---- the socket

#[test]
fn a_passed_socket_is_served_and_left_to_the_next_server() {
    let place = Place::new();
    let socket = listening(&place.path, SocketType::SEQPACKET);
    for name in ["early", "between"] {
        let path = place.path.clone();
        let client = begin(move || Client::builder(path).timeout(LIMIT).register(name));
        await_connection(&socket);
        // Any user may be let in, although no path is given.
        let server = Program::spawn(&mut with_socket(&socket, &["--allow-user", "1"]));
        let mut client = client.end("it registers").unwrap();
        assert_eq!(client.call(b"x").unwrap(), b"x");
        assert_eq!(names(&place), [name]);
        server.signal(Signal::TERM);
        let ended = server.end();
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        assert!(ended.stderr.contains(text(&place.path)), "{}", ended.stderr);
        assert!(client.recv().is_err());
        assert!(place.path.exists());
        assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 1, "no lock file");
    }
}

/// A shutdown that takes a while, because a client does not read its answers.
#[test]
fn a_passed_socket_stays_if_a_second_signal_ends_the_server() {
    let place = Place::new();
    let socket = listening(&place.path, SocketType::SEQPACKET);
    let mut server = Program::spawn(&mut with_socket(&socket, &["--ring-size", "4K"]));
    let mut mute = RawClient::register(&place.path, "mute");
    mute.stop_the_worker();
    eventually("a repeated signal ends it", || {
        if !server.is_over() {
            server.signal(Signal::TERM);
        }
        server.is_over()
    });
    assert_eq!(server.end().status, None, "the signal ended it");
    assert!(place.path.exists());
}

#[test]
fn a_socket_that_was_passed_wrongly_is_refused() {
    let place = Place::new();
    let socket = listening(&place.path, SocketType::SEQPACKET);
    let other = place.directory.path().join("other");
    let stream = listening(&place.directory.path().join("stream"), SocketType::STREAM);
    let (pipe, _writer) = std::io::pipe().unwrap();
    let two = "exec 3<&0; export LISTEN_PID=$$ LISTEN_FDS=2";
    let none = "export LISTEN_PID=$$ LISTEN_FDS=1";
    let wrong = [
        (with_socket(&socket, &["--socket", text(&other)]), "--socket"),
        (with_socket(&stream, &[]), "SOCK_SEQPACKET"),
        (with_socket(&pipe.into(), &[]), "no path"),
        (started_by(two, &socket, &[]), "2 sockets"),
        (started_by(none, &socket, &[]), "service manager"),
    ];
    for (mut command, part) in wrong {
        let why = Program::spawn(&mut command).end().refused(2);
        assert!(why.contains(part), "{part:?} is not in {why}");
    }
    // The same path may be said.
    let mut server = Program::spawn(&mut with_socket(&socket, &["--socket", text(&place.path)]));
    eventually("it serves", || {
        server.is_over() || Observer::connect(&place.path).is_ok_and(|one| one.list().is_ok())
    });
    assert!(!server.is_over());
    // What was passed to another process is not for this one.
    let own = ["--socket", text(&other)];
    let mut foreign = started_by("exec 3<&0; export LISTEN_PID=1 LISTEN_FDS=1", &socket, &own);
    let server = Program::spawn(&mut foreign);
    eventually("it serves", || Observer::connect(&other).is_ok());
    server.signal(Signal::TERM);
    assert_eq!(server.end().status, Some(0));
}

#[test]
fn systemd_passes_a_socket_like_that() {
    let place = Place::new();
    let line = ["--seqpacket", "--listen", text(&place.path), SERVER];
    let Ok(server) = Program::try_start_with("systemd-socket-activate", &line, |_| {}) else {
        return eprintln!("skipped: systemd-socket-activate is not installed");
    };
    eventually("it listens", || place.path.exists());
    // The first connection starts the server.
    eventually("it serves", || Client::register(&place.path, "alice").is_ok());
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
}

// ---- notifications

/// A manager's end of the notifications.
struct Manager {
    place: Place,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Manager {
        let place = Place::new();
        let socket = UnixDatagram::bind(place.directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Manager { place, socket }
    }

    /// A server with a log and a configuration file, which is told to notify.
    fn start(&self, set: impl FnOnce(&mut Command)) -> Program {
        fs::write(self.file("server.toml"), "").unwrap();
        let (config, log) = (self.file("server.toml"), self.file("log"));
        let line = ["--socket", text(&self.place.path), "--config", text(&config), "--log-file", text(&log)];
        Program::start_with(SERVER, &line, |command| {
            command.env("NOTIFY_SOCKET", self.file("notify"));
            set(command);
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.directory.path().join(name)
    }

    /// The next notification.
    fn hear(&self) -> String {
        let mut space = [0; 4096];
        let length = self.socket.recv(&mut space).expect("no notification came");
        String::from_utf8(space[..length].to_vec()).unwrap()
    }

    /// How often the log tells this event, with this in it.
    fn events(&self, event: &str, part: &str) -> usize {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        let tells = |line: &&str| line.split(' ').any(|word| word == event) && line.contains(part);
        log.lines().filter(tells).count()
    }
}

#[test]
fn a_manager_hears_of_the_start_of_reloads_and_of_the_end() {
    let manager = Manager::new();
    let server = manager.start(|_| {});
    let ready = manager.hear();
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    let status = format!("STATUS=Serving at {}", manager.place.path.display());
    assert!(ready.lines().any(|line| line == status), "{ready}");
    // Clients can connect.
    Client::register(&manager.place.path, "alice").unwrap();
    for wrong in [false, true] {
        if wrong {
            // What fails is over, too.
            fs::write(manager.file("server.toml"), "nonsense = 1\n").unwrap();
        }
        server.signal(Signal::HUP);
        let reloading = manager.hear();
        assert!(reloading.contains("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(manager.hear(), "READY=1\n");
    }
    server.signal(Signal::TERM);
    assert_eq!(manager.hear(), "STOPPING=1\n");
    assert_eq!(server.end().status, Some(0));
    assert_eq!(manager.events("notify", ""), 0);
}

/// A name that begins with @ has no file.
#[test]
fn a_manager_may_have_an_abstract_name() {
    let manager = Manager::new();
    let name = format!("{}", manager.file("notify").display());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let server = manager.start(|command| {
        command.env("NOTIFY_SOCKET", format!("@{name}"));
    });
    let mut space = [0; 4096];
    let length = socket.recv(&mut space).expect("no notification came");
    assert!(space[..length].starts_with(b"READY=1\n"));
    server.signal(Signal::TERM);
    assert_eq!(server.end().status, Some(0));
}

/// Its queue is full, and the server ends all the same.
#[test]
fn a_manager_that_does_not_read_holds_up_nothing() {
    let manager = Manager::new();
    // Each sender can fill a part of it only.
    let mut senders = Vec::new();
    let mut room = true;
    while room {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        room = sender.send_to(b"x", manager.file("notify")).is_ok();
        while sender.send_to(b"x", manager.file("notify")).is_ok() {}
        senders.push(sender);
    }
    let server = manager.start(|_| {});
    eventually("the log says so", || manager.events("notify", "") == 1);
    Client::register(&manager.place.path, "alice").unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.end().status, Some(0));
}

#[test]
fn a_manager_that_cannot_be_told_is_no_reason_to_end() {
    let manager = Manager::new();
    let server = manager.start(|command| {
        command.env("NOTIFY_SOCKET", manager.file("nobody"));
    });
    eventually("the log says so", || manager.events("notify", "") == 1);
    Client::register(&manager.place.path, "alice").unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.end().status, Some(0));
}

// ---- the watchdog

#[test]
fn the_watchdog_is_fed_only_while_the_server_answers_on_its_socket() {
    let manager = Manager::new();
    let server = manager.start(|command| {
        command.env("WATCHDOG_USEC", "400000").env_remove("WATCHDOG_PID");
    });
    assert!(manager.hear().contains("READY=1"));
    for _ in 0..3 {
        assert_eq!(manager.hear(), "WATCHDOG=1\n");
    }
    let hidden = manager.file("hidden");
    let path = &manager.place.path;
    // Nobody listens there; somebody listens and does not answer; another server answers.
    let before = complaints(&manager, "no server");
    fs::rename(path, &hidden).unwrap();
    not_fed(&manager, "no server", before);
    let before = complaints(&manager, "in time");
    let mute = listening(path, SocketType::SEQPACKET);
    not_fed(&manager, "in time", before);
    drop(mute);
    fs::remove_file(path).unwrap();
    let other = ringpost::Server::builder(path).start().unwrap_err();
    assert!(
        matches!(other, ringpost::StartError::Listen(ringpost::ListenError::InUse(_))),
        "the lock is held"
    );
    fs::remove_file(manager.file("bus.lock")).unwrap();
    let before = complaints(&manager, "answers at");
    let other = ringpost::Server::builder(path).start().unwrap();
    not_fed(&manager, "answers at", before);
    other.join_after_shutdown();
    // What is there again is fed again.
    fs::rename(&hidden, path).unwrap();
    assert_eq!(manager.hear(), "WATCHDOG=1\n");
    server.signal(Signal::TERM);
    assert_eq!(server.end().status, Some(0));
}

/// A new server would not bring the path of the manager's socket back, only end all clients.
#[test]
fn the_watchdog_is_fed_although_the_path_of_a_passed_socket_is_gone() {
    let manager = Manager::new();
    let path = &manager.place.path;
    let socket = listening(path, SocketType::SEQPACKET);
    let log = manager.file("log");
    let mut command = with_socket(&socket, &["--log-file", text(&log)]);
    command.env("NOTIFY_SOCKET", manager.file("notify")).env("WATCHDOG_USEC", "400000");
    let server = Program::spawn(&mut command);
    assert!(manager.hear().contains("READY=1"));
    fs::rename(path, manager.file("hidden")).unwrap();
    let of_no_server = || complaints(&manager, "no server");
    eventually("it complains", || of_no_server() > 0);
    let before = of_no_server();
    for _ in 0..5 {
        assert_eq!(manager.hear(), "WATCHDOG=1\n");
    }
    eventually("it complains again", || of_no_server() > before);
    // Who listens there and does not answer may be this server itself.
    let before = complaints(&manager, "in time");
    let _mute = listening(path, SocketType::SEQPACKET);
    not_fed(&manager, "in time", before);
    server.signal(Signal::TERM);
    assert_eq!(server.end().status, Some(0));
}

/// How often the server has complained of this.
fn complaints(manager: &Manager, why: &str) -> usize {
    manager.events("watchdog", why)
}

/// Checks that the server complains of this again and again, after so many complaints of before, and feeds
/// nobody meanwhile.
fn not_fed(manager: &Manager, why: &str, before: usize) {
    eventually("it complains", || complaints(manager, why) > before);
    manager.socket.set_nonblocking(true).unwrap();
    while manager.socket.recv(&mut [0; 64]).is_ok() {}
    let before = complaints(manager, why);
    eventually("it complains again", || complaints(manager, why) > before + 1);
    assert!(manager.socket.recv(&mut [0; 64]).is_err(), "it was fed");
    manager.socket.set_nonblocking(false).unwrap();
}

#[test]
fn no_watchdog_is_fed_that_is_another_process_s() {
    let manager = Manager::new();
    let server = manager.start(|command| {
        command.env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    });
    assert!(manager.hear().contains("READY=1"));
    Client::register(&manager.place.path, "alice").unwrap();
    server.signal(Signal::TERM);
    assert_eq!(manager.hear(), "STOPPING=1\n");
    assert_eq!(server.end().status, Some(0));
}
