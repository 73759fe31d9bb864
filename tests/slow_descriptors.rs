//! Tests of a malicious server that sends descriptors whose close takes long.
//!
//! It sends them instead of a channel, together with it, in any answer, and afterwards. Nevertheless
//! deadlines of its clients hold, and neither their drop nor the end of their process blocks.

mod common;

use common::raw::{self, VERSION, accept, datagram, listen_at};
use common::role::{self, Role, say, setting};
use common::{Place, begin, filter};
use ringpost::channel;
use ringpost::{CallError, Client, Observer, RegisterError, WaitStrategy};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::sockopt::{set_socket_linger, set_socket_send_buffer_size};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the close of one descriptor takes.
const LINGER: Duration = Duration::from_secs(60);

/// More than any operation takes that does not wait for such a close.
const LIMIT: Duration = Duration::from_secs(25);

/// The time-out of the clients' operations.
const TIMEOUT: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_millis(500);

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, _)) = role::role() else { return };
    match role.as_str() {
        "armed server" => serve(),
        other => panic!("no role {other:?}"),
    }
}

/// A socket whose last close lasts until its other end is closed.
fn lingering() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    set_socket_send_buffer_size(&socket, 1 << 16).unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.write(&[0; 1 << 16]).is_ok() {}
    set_socket_linger(&socket, Some(LINGER)).unwrap();
    (socket.into(), other)
}

/// A memory file that takes some tenths of a second to free.
fn large_file() -> OwnedFd {
    let file = memfd_create("large", MemfdFlags::CLOEXEC).unwrap();
    let mut file = std::fs::File::from(file);
    let piece = vec![1; 1 << 20];
    for _ in 0..256 {
        file.write_all(&piece).unwrap();
    }
    file.into()
}

/// Serves connections as the role's setting says, until it is killed.
fn serve() {
    let path: PathBuf = setting("PATH").unwrap();
    let way: String = setting("WAY").unwrap();
    let socket = listen_at(&path);
    let mut kept = Vec::new();
    let mut others = Vec::new();
    say("ready");
    loop {
        // Made in advance, because it takes a while.
        let large = (way == "large").then(large_file);
        let line = accept(&socket);
        let mut request = [0; 100];
        if rustix::io::read(&line, &mut request).unwrap_or(0) < 16 {
            continue;
        }
        let what = u16::from_le_bytes([request[12], request[13]]);
        let (slow, other) = lingering();
        others.push(other);
        let (host, channel) = channel::create(4096, WaitStrategy::Park).unwrap();
        let good = match what {
            raw::REGISTER => datagram(VERSION, 0, &[7; 32]),
            // An empty list.
            raw::LIST => datagram(VERSION, 0, &[255; 4]),
            _ => datagram(VERSION, 0, &[0; 41]),
        };
        let send =
            |datagram: &[u8], descriptors: &[&OwnedFd]| raw::try_say_with(&line, datagram, descriptors);
        let sent = match way.as_str() {
            "instead" => send(&good, &[&slow]),
            "large" => send(&good, &large.iter().collect::<Vec<_>>()),
            "besides" => send(&good, &[&channel, &slow]),
            "before" => send(&good, &[&slow, &channel]),
            "many" => send(&good, &[&slow; 253]),
            "refusal" => send(&datagram(VERSION, 6, b"full"), &[&slow]),
            "version" => send(&datagram(9, 0, &[7; 32]), &[&slow]),
            "nonsense" => send(b"nonsense", &[&slow]),
            "nothing" => send(b"", &[&slow]),
            // Two datagrams; the second one was not asked for.
            "afterwards" | "afterwards, then gone" => {
                let _ = send(&good, &[&channel]);
                send(&good, &[&slow])
            }
            "empty, then armed" => {
                raw::say(&line, b"");
                send(b"", &[&slow])
            }
            other => panic!("no way {other:?}"),
        };
        match sent {
            Ok(_) => say("sent"),
            Err(errno) => say(format!("refused {errno}")),
        }
        // Closes it on a thread, because the last close blocks.
        std::thread::spawn(move || drop((slow, channel, large)));
        if way != "afterwards, then gone" && way != "instead" {
            kept.push((line, host));
        }
    }
}

/// Whether the kernel can refuse descriptors (Linux 6.16 and later).
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kernel {
    OfThisMachine,
    Old,
}

/// Runs a client operation, and checks that it returns within the limit.
fn in_time<T: Send + 'static>(what: &str, kernel: Kernel, run: impl FnOnce() -> T + Send + 'static) -> T {
    let run = move || {
        if kernel == Kernel::Old && !filter::refuse_to_refuse_descriptors() {
            println!("skipped: no filter can be set here, so that this is the kernel of this machine");
        }
        run()
    };
    begin(run).end_within(what, LIMIT)
}

fn start(place: &Place, way: &str) -> Role {
    let mut server = Role::start("armed server", &[("PATH", place.path.to_str().unwrap()), ("WAY", way)]);
    server.hear("ready");
    server
}

fn register(path: &Path) -> Result<Client, RegisterError> {
    Client::builder(path).timeout(TIMEOUT).register("alice")
}

#[test]
fn no_answer_to_a_registration_holds_a_client() {
    for way in ["instead", "large", "besides", "before", "many", "refusal", "version", "nonsense", "nothing"]
    {
        let place = Place::new();
        let mut server = start(&place, way);
        let path = place.path.clone();
        let error = in_time(way, Kernel::OfThisMachine, move || register(&path).map(drop)).unwrap_err();
        println!("{way}: {error}");
        server.hear("sent");
        match way {
            "nothing" => assert!(matches!(error, RegisterError::NoServer { .. }), "{error}"),
            "instead" | "large" => assert!(matches!(error, RegisterError::Channel(_)), "{error}"),
            "refusal" => assert!(matches!(error, RegisterError::Full(_)), "{error}"),
            "version" => assert!(matches!(error, RegisterError::VersionMismatch { .. }), "{error}"),
            _ => assert!(matches!(error, RegisterError::NotRingpost { .. }), "{error}"),
        }
        server.kill();
    }
}

fn nothing_that_comes_after_a_registration_holds_a_client(kernel: Kernel) {
    for way in ["afterwards", "afterwards, then gone"] {
        let place = Place::new();
        let mut server = start(&place, way);
        let path = place.path.clone();
        in_time(way, kernel, move || {
            let mut client = register(&path).unwrap();
            // The server reports whether it could send the descriptor before the client refused it.
            println!("{way}: {}", server.hear(""));
            let end = client.call_timeout(b"x", SOON).unwrap_err();
            let ended =
                matches!(end, CallError::TimedOut | CallError::Disconnected(_) | CallError::NotSent(_));
            assert!(ended, "{end}");
            let handle = client.closer();
            handle.close();
            drop(client);
            drop(handle);
            server.kill();
        });
    }
}

#[test]
fn nothing_that_comes_after_a_registration_holds_a_client_here() {
    nothing_that_comes_after_a_registration_holds_a_client(Kernel::OfThisMachine);
}

#[test]
fn nothing_that_comes_after_a_registration_holds_a_client_of_an_old_kernel() {
    nothing_that_comes_after_a_registration_holds_a_client(Kernel::Old);
}

fn no_answer_holds_an_observer(kernel: Kernel) {
    for way in ["instead", "many", "refusal", "empty, then armed", "nothing", "afterwards"] {
        let place = Place::new();
        let mut server = start(&place, way);
        let path = place.path.clone();
        in_time(way, kernel, move || {
            let observer = Observer::connect_timeout(&path, SOON).unwrap();
            for _ in 0..2 {
                let listed = observer.list().map(|clients| clients.len());
                let told = observer.server().map(|info| info.clients);
                println!("{way}: {listed:?} {told:?}");
            }
            drop(observer);
            server.kill();
        });
    }
}

#[test]
fn no_answer_holds_an_observer_here() {
    no_answer_holds_an_observer(Kernel::OfThisMachine);
}

#[test]
fn no_answer_holds_an_observer_of_an_old_kernel() {
    no_answer_holds_an_observer(Kernel::Old);
}

/// A process ends in time even if its end makes the last close of the descriptors.
#[cfg(feature = "cli")]
#[test]
fn the_program_ends_in_time() {
    use common::program::{CLIENT, command, finish};
    for kernel in [Kernel::OfThisMachine, Kernel::Old] {
        for way in ["instead", "large", "besides", "many", "afterwards"] {
            let place = Place::new();
            let mut server = start(&place, way);
            let calls: &[&[&str]] = match (way, kernel) {
                ("instead", Kernel::Old) => &[&["call", "--as", "a", "--timeout", "1", "x"], &["ls"]],
                _ => &[&["call", "--as", "a", "--timeout", "1", "x"]],
            };
            for what in calls {
                let mut command = command(CLIENT);
                command.args(*what).arg("--socket").arg(&place.path);
                let ended = in_time(way, kernel, move || finish(command, b""));
                println!("{way}, {kernel:?}: {:?}: {}", ended.status, ended.stderr.trim_end());
                assert_eq!(ended.status, Some(1));
            }
            server.kill();
        }
    }
}
