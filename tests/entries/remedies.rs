//! Tests that errors name the limit that was reached, in terms of the program or of the library's builder.

use crate::common::role::{Role, Stage, say, setting};
use crate::common::users::{is_root, leave_root};
use crate::common::{Bus, Place, begin, eventually};
use crate::{assert_mentions, skipped};
use ringpost::channel;
use ringpost::ring::{self, Producer, SendError as RingSendError};
use ringpost::{CallError, Client, RegisterError, Request, Response, Server, ServiceError};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

// ---- memory that is locked

/// An unprivileged user with no other processes, whose locked memory is limited.
const LOCKING: u32 = 64_124;

/// Makes this process lock everything that it maps from now on, and limits the locked bytes.
fn lock(bytes: u64) {
    setrlimit(Resource::Memlock, Rlimit { current: Some(bytes), maximum: Some(bytes) }).unwrap();
    leave_root(LOCKING, LOCKING, &[]);
    mlockall(MlockAllFlags::FUTURE).unwrap();
}

/// The role of a server or client in a process that locks its memory.
pub fn serve_or_register_locked(stage: &Stage) {
    let path: PathBuf = setting("PATH").unwrap();
    match setting::<String>("WHO").unwrap().as_str() {
        "server" => {
            let start = || Server::builder(&path).allow_user(0).ring_size(16 << 20).start().unwrap();
            // The C library keeps thread stacks for the next threads.
            drop(start());
            lock(8 << 20);
            let _server = start();
            say("ready");
            stage.await_order("end");
        }
        "start" => {
            lock(1 << 20);
            say(Server::builder(&path).start().unwrap_err());
        }
        "client" => {
            lock(8 << 20);
            say(Client::register(&path, "locked").unwrap_err());
        }
        other => panic!("no {other:?}"),
    }
}

fn is_about_locked_memory(why: &str) {
    assert_mentions(why, &["ulimit -l", "locks what it maps"]);
    for other in ["ulimit -u", "ulimit -n", "threads", "address space"] {
        assert!(!why.contains(other), "{other}: {why}");
    }
}

#[test]
fn memory_that_may_not_be_locked_is_named() {
    if !is_root() {
        return skipped("only root can play a user without the right to lock memory");
    }
    let open = |place: &Place| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(place.directory.path(), mode).unwrap();
    };
    let place = Place::new();
    open(&place);
    let mut server = Role::start("locked", &[("PATH", place.path.to_str().unwrap()), ("WHO", "server")]);
    server.hear("ready");
    // Clients trust that user's server only if the directory belongs to that user.
    let own = Some(LOCKING);
    std::os::unix::fs::chown(place.directory.path(), own, own).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.directory.path(), closed).unwrap();
    match Client::register(&place.path, "alice").unwrap_err() {
        RegisterError::Refused(why) => is_about_locked_memory(&why),
        other => panic!("{other:?}"),
    }
    server.tell("end");
    assert!(server.end().success());

    let place = Place::new();
    open(&place);
    let mut server = Role::start("locked", &[("PATH", place.path.to_str().unwrap()), ("WHO", "start")]);
    is_about_locked_memory(&server.hear(""));

    let place = Place::new();
    open(&place);
    let _server = Server::builder(&place.path).allow_user(LOCKING).ring_size(16 << 20).start().unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.directory.path(), closed).unwrap();
    let mut client = Role::start("locked", &[("PATH", place.path.to_str().unwrap()), ("WHO", "client")]);
    is_about_locked_memory(&client.hear(""));
}

// ---- connections that cannot be accepted

/// The role of a `ringpost-server` that cannot accept connections.
#[cfg(feature = "cli")]
pub fn exec_without_accept() {
    use crate::common::filter::Refused;
    use crate::common::program::{SERVER, command};
    use rustix::io::Errno;
    use std::os::unix::process::CommandExt;
    let errno = Errno::from_raw_os_error(setting("ERRNO").unwrap());
    if !Refused::call(libc::SYS_accept4).here(errno) {
        return say("skipped");
    }
    say("filtered");
    let mut command = command(SERVER);
    command.arg("--socket").arg(setting::<PathBuf>("PATH").unwrap());
    let error = command.stderr(std::process::Stdio::inherit()).exec();
    panic!("not started: {error}");
}

#[test]
#[cfg(feature = "cli")]
fn a_connection_that_cannot_be_accepted_names_what_lacks() {
    use crate::common::await_server;
    let cases = [
        (libc::ENOMEM, "reason=accept ", "memory", "ulimit -n"),
        (libc::ENOBUFS, "reason=accept ", "memory", "open files"),
        (libc::EMFILE, "reason=descriptors ", "ulimit -n", "memory"),
        (libc::EPERM, "reason=accept ", "cannot accept", "ulimit"),
    ];
    for (errno, reason, named, other) in cases {
        let place = Place::new();
        let log = place.directory.path().join("log");
        let settings = [("PATH", place.path.to_str().unwrap()), ("ERRNO", &errno.to_string())];
        let file = std::fs::File::create(&log).unwrap();
        let mut server = Role::start_as("server without accept", &settings, |c| {
            c.stderr(file);
        })
        .unwrap();
        if server.hear("") == "skipped" {
            return skipped("no filter can be set here");
        }
        await_server(&place.path);
        let mut line = String::new();
        eventually("the server says why", || {
            let text = std::fs::read_to_string(&log).unwrap();
            line = text.lines().find(|line| line.contains(" refused ")).unwrap_or_default().to_owned();
            text.ends_with('\n') && !line.is_empty()
        });
        assert!(line.contains(reason) && line.contains(named) && !line.contains(other), "{line}");
    }
}

// ---- sizes

fn too_large(max: usize) -> String {
    format!(
        "the service's response is larger than the maximum of {max} bytes: answer less, or start the server with \
         larger rings (ring_size, --ring-size), and a larger max_block if it was given one"
    )
}

/// A payload of exactly the reported limit is accepted, and one with one more byte is not.
#[test]
fn a_response_may_have_as_much_as_is_told_and_no_byte_more() {
    for (ring_size, max_block) in [(4096, 2040), (4096, 256), (1 << 16, 1000)] {
        let service = |request: Request<'_>, response: &mut Response<'_>| {
            let [way, len @ ..] = request.payload() else { return Err(ServiceError::new("which?")) };
            let bytes = vec![7; u32::from_le_bytes(len.try_into().unwrap()) as usize];
            match way {
                b'w' => response.write(&bytes),
                b'p' => bytes.iter().try_for_each(|byte| response.write(&[*byte])),
                // The library's error is found inside that of `Write`.
                _ => Write::write_all(response, &bytes).map_err(ServiceError::from),
            }
        };
        let place = Place::new();
        let builder = Server::builder(&place.path).ring_size(ring_size).max_block(max_block);
        let _server = builder.service(service).start().unwrap();
        let mut client = Client::register(&place.path, "alice").unwrap();
        let max = client.limits().max_call;
        for way in *b"wpi" {
            let mut ask = |len: usize| {
                let len = u32::try_from(len).unwrap().to_le_bytes();
                client.call(&[&[way][..], &len].concat()).map(|reply| reply.to_vec())
            };
            assert_eq!(ask(max).unwrap(), vec![7; max]);
            for len in [max + 1, ring_size, 1 << 20] {
                match ask(len).unwrap_err() {
                    CallError::ResponseTooLarge(why) => {
                        assert_eq!(why, too_large(max));
                        assert_mentions(
                            &why,
                            &[&format!("of {max} bytes"), "answer less", "ring_size", "--ring-size"],
                        );
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

/// A way to write a block. Its error is the length and the limit.
type Way = fn(&mut Producer, &[u8]) -> Result<(), (usize, usize, String)>;

#[test]
fn a_ring_takes_as_much_as_it_tells_and_no_byte_more() {
    fn tried(error: RingSendError) -> (usize, usize, String) {
        match error {
            RingSendError::TooLarge { len, max } => (len, max, error.to_string()),
            other => panic!("{other:?}"),
        }
    }
    let ways: [Way; 4] = [
        |producer, block| producer.try_send(block).map_err(tried),
        |producer, block| producer.send(block).map_err(tried),
        |producer, block| producer.send_timeout(block, Duration::from_secs(60)).map_err(tried),
        |producer, block| {
            let mut batch = producer.batch();
            batch.push(block).map_err(tried)?;
            batch.commit();
            Ok(())
        },
    ];
    let (mut host, descriptor) = channel::create(4096, Default::default()).unwrap();
    let mut guest = channel::open(&descriptor, Default::default()).unwrap();
    let (mut producer, mut consumer) = ring::local(4096).unwrap();
    let mut block = Vec::new();
    for way in ways {
        for (producer, consumer) in
            [(&mut producer, &mut consumer), (&mut guest.requests, &mut host.requests)]
        {
            let max = producer.max_block();
            way(producer, &vec![7; max]).unwrap();
            assert_eq!(consumer.recv(&mut block), Ok(max));
            let (len, told, why) = way(producer, &vec![7; max + 1]).unwrap_err();
            assert_eq!((len, told), (max + 1, max));
            assert_mentions(&why, &[&len.to_string(), &max.to_string()]);
        }
    }
    assert_eq!(guest.requests.max_block(), 2040);
}

/// A payload of exactly the limit is accepted. The error names the ring size first, and the largest block
/// only if one was set.
#[test]
#[cfg(feature = "cli")]
fn programs_tell_the_limit_of_the_payload() {
    use crate::common::program::{CLIENT, run_with};
    for max_block in [None, Some(300)] {
        let bus = Bus::with(|b| {
            let b = b.ring_size(4096);
            if let Some(bytes) = max_block { b.max_block(bytes) } else { b }
        });
        let bob = bus.client("bob");
        let socket = bus.path().to_str().unwrap();
        let limits = bob.limits();
        for (line, max) in [
            (&["call", "--as", "x", "--socket", socket][..], limits.max_call),
            (&["send", "--as", "x", "--to", "bob", "--socket", socket], limits.max_message),
        ] {
            run_with(CLIENT, line, &vec![b'x'; max]).well();
            let why = run_with(CLIENT, line, &vec![b'x'; max + 1]).failed();
            assert_mentions(&why, &[&format!("{} bytes", max + 1), &format!("{max} bytes"), "send less"]);
            let rings = why.find("--ring-size").unwrap();
            assert!(why.find("a larger max_block if it was given one").unwrap() > rings, "{why}");
        }
    }
}

// ---- whose server it is

/// Errors name the builder's method for programs with a server, and the option for `ringpost-server`.
#[test]
fn what_a_server_s_owner_can_do_is_said_for_programs_of_their_own_too() {
    let bus = Bus::with(|b| b.max_clients(1));
    let alice = bus.client("alice");
    let full = Client::register(bus.path(), "bob").unwrap_err().to_string();
    assert_mentions(&full, &["max_clients", "--max-clients"]);
    let max = alice.limits().max_call;
    let large = CallError::TooLarge { len: max + 1, max }.to_string();
    assert_mentions(&large, &["ring_size", "--ring-size"]);

    let place = Place::new();
    let none = Client::register(&place.path, "alice").unwrap_err().to_string();
    let own = none.find("start the program whose server listens there").unwrap();
    assert!(none.find("ringpost-server --socket").unwrap() > own, "{none}");

    // The socket is not accessible, and the user is not allowed.
    if !is_root() {
        return skipped("only root can play another user");
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.directory.path(), mode).unwrap();
    for allowed in [None, Some(64_125)] {
        let builder = Server::builder(&place.path);
        let builder = if let Some(uid) = allowed { builder.allow_user(uid) } else { builder };
        let _server = builder.start().unwrap();
        let path = place.path.clone();
        let refused = begin(move || {
            leave_root(LOCKING, LOCKING, &[]);
            Client::register(&path, "x").unwrap_err().to_string()
        });
        let option = format!("--allow-user {LOCKING}");
        assert_mentions(&refused.end("the registration"), &["allow_user", &option]);
    }
}
