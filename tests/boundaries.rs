//! Tests of what a party can not access: other users, clients with their channel's descriptor, the next
//! client in a slot, callers of a discarded response, and executed programs.

mod common;

use common::filter::Refused;
#[cfg(feature = "cli")]
use common::program::{Program, SERVER};
use common::raw::{CALL, Heard, PING, REGISTER, RawClient, Ring, VERSION, datagram, dial, hear, say as tell};
use common::role::{self, Role, Stage, say, setting};
use common::users::is_root;
use common::{Bus, Place, await_server, eventually, slot_of, within_limit};
use ringpost::{Client, Observer, RegisterError, Request, Response, Server, ServiceError};
use rustix::fs::{
    FallocateFlags, Mode, OFlags, SealFlags, fallocate, fchmod, fcntl_add_seals, fcntl_get_seals, ftruncate,
    open,
};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;

#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "other user" => connect_and_reach_into(setting("PID").unwrap(), &setting::<String>("PATH").unwrap()),
        "tracer" => say(format_args!("got {}", reach_into(setting("PID").unwrap()).join(", "))),
        "embedding server" => serve_and_wait(&stage),
        "holder" => hold_everything(),
        "executed" => tell_descriptors(),
        "cannot listen" => try_to_listen(),
        other => panic!("no role {other:?}"),
    }
}

// ---- the socket, before anybody can connect

const GROUP: u32 = 65_531;

/// The role: a server that may not listen, nor remove its socket. So the socket stays as it is just before
/// the server would listen.
fn try_to_listen() {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let path: PathBuf = setting("PATH").unwrap();
    let server = match setting::<String>("ALLOWED").unwrap().as_str() {
        "nobody" => Server::builder(&path),
        "a user" => Server::builder(&path).allow_user(1000),
        _ => Server::builder(&path).allow_group(GROUP),
    };
    let refused = Refused::call(libc::SYS_unlinkat).here(Errno::ACCESS)
        && Refused::call(libc::SYS_listen).here(Errno::NOSPC);
    if !refused {
        return say("skipped");
    }
    say(server.start().unwrap_err());
}

#[test]
fn the_socket_has_its_mode_and_group_before_anybody_can_connect() {
    for (allowed, mode, group) in
        [("nobody", 0o600, None), ("a user", 0o666, None), ("a group", 0o660, Some(GROUP))]
    {
        if group.is_some() && !is_root() {
            eprintln!("skipped: only root can give a file to any group");
            continue;
        }
        let place = Place::new();
        let path = place.path.to_str().unwrap();
        let mut server = Role::start("cannot listen", &[("PATH", path), ("ALLOWED", allowed)]);
        let error = server.hear("");
        if error == "skipped" {
            return eprintln!("skipped: no filter can be set here, so no system call can be refused");
        }
        assert!(error.contains("cannot listen at"), "{error}");
        let found = fs::metadata(&place.path).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{allowed}");
        assert!(group.is_none_or(|group| found.gid() == group), "{allowed}");
    }
}

// ---- other processes, of another user or of the same

const OTHER_USER: u32 = 65_532;

/// Tries every known way to access the server's memory and descriptors, and returns what succeeded.
fn reach_into(server: u32) -> Vec<String> {
    let mut got = Vec::new();
    let mut note = |what: String, succeeded: bool| {
        if succeeded {
            got.push(what);
        }
    };
    let of_server = |what: &str| format!("/proc/{server}/{what}");
    for place in ["mem", "maps", "environ"] {
        // Some of these files open but contain nothing. `mem` opens for a tracer, but a read starts at
        // address 0, where nothing is mapped.
        let read = fs::read(of_server(place));
        let empty = read.as_ref().is_ok_and(Vec::is_empty);
        let denied = read.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        note(place.to_owned(), !empty && !denied);
    }
    for place in ["fd", "map_files"] {
        let Ok(entries) = fs::read_dir(of_server(place)) else { continue };
        note(place.to_owned(), true);
        for entry in entries.flatten() {
            let leads_to = fs::read_link(entry.path()).unwrap_or_default();
            let opened = open(entry.path(), OFlags::RDWR | OFlags::NONBLOCK, Mode::empty());
            note(format!("{place}:{}", leads_to.display()), opened.is_ok());
        }
    }
    let pidfd = pidfd_open(Pid::from_raw(server as i32).unwrap(), PidfdFlags::empty()).unwrap();
    for fd in 0..64 {
        if let Ok(taken) = pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty()) {
            let leads_to = fs::read_link(format!("/proc/self/fd/{}", taken.as_raw_fd())).unwrap_or_default();
            note(format!("pidfd_getfd:{}", leads_to.display()), true);
        }
    }
    got
}

/// The role of a process of another user.
fn connect_and_reach_into(server: u32, path: &str) {
    let refused = |error: &RegisterError| matches!(error, RegisterError::NotPermitted { .. });
    let mut got = reach_into(server);
    if !Client::register(path, "other_user").is_err_and(|error| refused(&error)) {
        got.push("a registration".to_owned());
    }
    if !Observer::connect(path).and_then(|o| o.list()).is_err_and(|error| refused(&error)) {
        got.push("a list".to_owned());
    }
    say(format_args!("got {}", got.join(", ")));
}

/// Starts a role as an unprivileged user, if this process is root. `None` if that user cannot execute this
/// program.
fn start_unprivileged(role: &str, settings: &[(&str, &str)]) -> Option<Role> {
    let started = Role::start_as(role, settings, |command| {
        if is_root() {
            command.uid(OTHER_USER).gid(OTHER_USER).current_dir("/");
        }
    });
    if let Err(error) = &started {
        eprintln!("skipped: another user cannot run this program: {error}");
    }
    started.ok()
}

/// Runs as root only, because nobody else can start a process of another user.
#[test]
fn another_user_gets_at_nothing() {
    if !is_root() {
        return eprintln!("skipped: only root can start another user's process");
    }
    let bus = Bus::start();
    // Everyone may enter the directory, so that this tests the socket.
    fs::set_permissions(bus.place.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut client = bus.client("alice");
    client.call(b"x").unwrap();
    let pid = std::process::id().to_string();
    let settings = [("PATH", bus.path().to_str().unwrap()), ("PID", &pid)];
    if let Some(mut other_user) = start_unprivileged("other user", &settings) {
        assert_eq!(other_user.hear("got"), "");
    }
    assert_eq!(client.call(b"y").unwrap(), b"y");
}

/// A directory in which an unprivileged user may start a server.
fn unprivileged_place() -> Place {
    let place = Place::new();
    if is_root() {
        chown(place.directory.path(), Some(OTHER_USER), Some(OTHER_USER)).unwrap();
    }
    place
}

/// A program with a server, which other processes of the same user may trace (if the system allows tracing).
fn serve_and_wait(stage: &Stage) {
    let place = setting::<PathBuf>("PATH").unwrap();
    let _server = Server::builder(&place).start().unwrap();
    let mut alice = Client::register(&place, "alice").unwrap();
    alice.call(b"x").unwrap();
    say(format_args!("pid {}", std::process::id()));
    stage.await_order("end");
}

/// Even a process that may trace the server finds no descriptor of a channel there, because the server closes
/// them after sending. Only privileged processes may open the kernel's list of mapped files. (A tracer can
/// read the server's memory: see SECURITY.md.)
#[test]
fn no_descriptor_of_a_channel_lies_in_the_server() {
    let place = unprivileged_place();
    let settings = [("PATH", place.path.to_str().unwrap())];
    let Some(mut server) = start_unprivileged("embedding server", &settings) else { return };
    let pid = server.hear("pid");
    let Some(mut tracer) = start_unprivileged("tracer", &[("PID", &pid)]) else { return };
    let got = tracer.hear("got");
    println!("a process of the same user gets: {got}");
    assert!(!got.contains("ringpost-channel"), "{got}");
    server.tell("end");
    assert!(server.end().success());
}

/// Other processes of the same user cannot trace `ringpost-server` either.
#[test]
#[cfg(feature = "cli")]
fn the_same_user_gets_at_nothing_of_the_program() {
    let place = unprivileged_place();
    let started = Program::try_start_with(SERVER, &["--socket", place.path.to_str().unwrap()], |command| {
        command.current_dir("/");
        if is_root() {
            command.uid(OTHER_USER).gid(OTHER_USER);
        }
    });
    let server = match started {
        Ok(server) => server,
        Err(error) => return eprintln!("skipped: another user cannot run this program: {error}"),
    };
    await_server(&place.path);
    let pid = server.id().to_string();
    let Some(mut tracer) = start_unprivileged("tracer", &[("PID", &pid)]) else { return };
    assert_eq!(tracer.hear("got"), "");
}

// ---- a client that holds the descriptor of its channel

fn register(path: &Path, name: &str) -> (OwnedFd, OwnedFd) {
    let line = dial(path);
    tell(&line, &datagram(VERSION, REGISTER, name.as_bytes()));
    match hear(&line) {
        Heard::Reply { status: 0, descriptor: Some(descriptor), .. } => (line, descriptor),
        other => panic!("not registered: {other:?}"),
    }
}

#[test]
fn a_channel_can_be_neither_resized_nor_unsealed() {
    let bus = Bus::with(|builder| builder.ring_size(4096));
    let (_line, received) = register(bus.path(), "alice");
    let len = rustix::fs::fstat(&received).unwrap().st_size as u64;
    // Opens the same file again for writing.
    let name = format!("/proc/self/fd/{}", received.as_raw_fd());
    let reopened = open(name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    for channel in [&received, &reopened] {
        for other in [0, 1, len - 1, len - 4096, len + 1, len * 2] {
            assert_eq!(ftruncate(channel, other), Err(Errno::PERM), "{other} bytes");
        }
        assert_eq!(fallocate(channel, FallocateFlags::empty(), 0, len + 4096), Err(Errno::PERM));
        for more in [SealFlags::WRITE, SealFlags::FUTURE_WRITE, SealFlags::empty()] {
            assert_eq!(fcntl_add_seals(channel, more), Err(Errno::PERM));
        }
        let seals = fcntl_get_seals(channel).unwrap();
        assert!(seals.contains(SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW));
        let executable = fchmod(channel, Mode::from_raw_mode(0o777));
        // Since Linux 6.3 it cannot be made executable either.
        assert!(executable == Err(Errno::PERM) || !seals.contains(SealFlags::EXEC));
        let unchanged = rustix::fs::fstat(channel).unwrap();
        assert_eq!(unchanged.st_size as u64, len);
    }
}

/// A client can punch a hole into its channel. The hole reads as zero, and nobody else notices.
#[test]
fn a_hole_in_a_channel_hurts_only_its_client() {
    let bus = Bus::with(|builder| builder.ring_size(4096));
    let mut honest = bus.client("honest");
    let (_line, channel) = register(bus.path(), "digger");
    let len = rustix::fs::fstat(&channel).unwrap().st_size as u64;
    for round in 0..100_u32 {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&channel, hole, 0, len).unwrap();
        assert_eq!(honest.call(&round.to_le_bytes()).unwrap(), round.to_le_bytes());
    }
    within_limit("the shutdown", move || assert_eq!(bus.server.join_after_shutdown().abandoned, 0));
}

// ---- the next client in a slot

#[test]
fn a_recycled_slot_shows_no_old_byte() {
    let bus = Bus::with(|builder| builder.ring_size(4096).max_clients(2));
    let mut sender = bus.client("sender");
    let mut keys = Vec::new();
    for round in 0..5 {
        let mut client = RawClient::register(bus.path(), &format!("guest {round}"));
        let first = common::raw::Ring::Request;
        assert_eq!(client.offset(first, 0), 8192);
        // All bytes are zero except the description of the channel and the server's parked word.
        let mut bytes = vec![0; client.segment.len()];
        client.segment.copy_out(0, &mut bytes);
        let parked = 256 + 128;
        let described = |at: usize| at < 32 || (parked..parked + 4).contains(&at);
        let old = bytes.iter().enumerate().find(|&(at, &byte)| byte != 0 && !described(at));
        assert_eq!(old, None, "round {round}");
        let own = sender.list().unwrap().into_iter().find(|found| found.key == client.key).unwrap();
        assert_eq!(own.name.as_str(), format!("guest {round}"));
        assert_eq!((own.counters.calls, own.counters.delivered, own.counters.received), (0, 0, 0));
        assert!(!keys.contains(&client.key), "a key is never given twice");
        keys.push(client.key);
        // Fill every ring.
        for _ in 0..60 {
            let sequence = client.request(common::raw::CALL, 0, &[0xa5; 40]);
            assert_eq!(client.response().unwrap().1, sequence);
        }
        while sender.try_send(client.key, &[0xa5; 100]).is_ok() {}
        let taken = client.head(Ring::Request).load(Ordering::Relaxed);
        assert_eq!(taken, client.tail);
        drop(client);
        eventually("the slot is free", || bus.server.info().clients == 1);
        for old in &keys {
            assert!(sender.send(*old, b"to whoever has the slot").is_err());
        }
    }
    let slots: Vec<u16> = keys.iter().map(|key| slot_of(*key)).collect();
    assert!(slots.iter().all(|slot| *slot == slots[0]), "one slot was used again and again: {slots:?}");
}

// ---- what a service took back

/// Never part of a response that is sent.
const SECRET: &[u8] = b"never to be sent; ";

/// A service that writes the secret (on request more than fits into a small ring in one piece), discards it,
/// and then does what the caller asked for.
fn takes_back(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    let (what, times) = request.payload().split_at(5);
    for _ in 0..times[0] {
        response.write(SECRET)?;
    }
    match what {
        b"clear" => response.clear(),
        b"again" => {
            response.clear();
            response.write(&SECRET.repeat(3))?;
            response.clear();
        }
        b"fails" => return Err(ServiceError::new("no")),
        b"panic" => std::panic::resume_unwind(Box::new("as the caller wished")),
        b"large" => loop {
            response.write(SECRET)?;
        },
        other => panic!("{other:?}"),
    }
    response.write(b"no")
}

/// A client can read its whole rings. What a service wrote there and discarded must be erased before the
/// answer arrives.
#[test]
fn what_was_taken_back_is_not_in_the_callers_memory() {
    let bus = Bus::with(|b| b.ring_size(4096).service(takes_back));
    let mut spy = RawClient::register(bus.path(), "spy");
    let mut ring = vec![0; spy.ring_size() as usize];
    for round in 0..200_u8 {
        // At every position in the ring: near its end, a response restarts at the ring's start or in memory.
        for what in ["clear", "again", "fails", "panic", "large"] {
            for times in [1, 4, 40, 100] {
                spy.request(CALL, 0, &[what.as_bytes(), &[times]].concat());
                let (_, _, body) = spy.response().unwrap();
                spy.segment.copy_out(spy.offset(Ring::Response, 0), &mut ring);
                let seen = ring.windows(8).filter(|bytes| *bytes == &SECRET[..8]).count();
                assert_eq!(seen, 0, "round {round}, {what}, {times} times; the answer was {body:?}");
            }
        }
        spy.request(PING, 0, &[]);
        spy.response().unwrap();
    }
}

// ---- what a program that is executed gets

/// The descriptors of this process, with their numbers and targets.
fn descriptors() -> io::Result<Vec<(i32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // Skip the descriptor that reads this directory.
        if let (Ok(what), Ok(number)) =
            (fs::read_link(entry.path()), entry.file_name().to_string_lossy().parse())
        {
            found.push((number, what.to_string_lossy().into_owned()));
        }
    }
    Ok(found)
}

fn tell_descriptors() {
    let own = format!("/proc/{}/fd", std::process::id());
    let inherited: Vec<String> = descriptors()
        .unwrap()
        .into_iter()
        .filter(|(number, what)| *number > 2 && *what != own)
        .map(|(number, what)| format!("{number}:{what}"))
        .collect();
    say(format_args!("inherited {}", inherited.join(" ")));
}

/// All descriptors of a server, its clients, watcher and observers are closed in an executed program. Runs in
/// a separate process, because other tests hold descriptors, too.
#[test]
fn no_descriptor_survives_exec() {
    Role::start("holder", &[]).hear("in order");
}

fn hold_everything() {
    // Whoever runs the tests may leave descriptors open, of files with any names.
    let left_open = descriptors().unwrap();
    let is_ours = |what: &str| is_ours(what) && !left_open.iter().any(|(_, other)| what.ends_with(other));
    let place = Place::new();
    let server = Server::builder(&place.path).start().unwrap();
    let mut alice = Client::register(&place.path, "alice").unwrap();
    let bob = Client::register(&place.path, "bob").unwrap();
    let observer = Observer::connect(&place.path).unwrap();
    assert_eq!(observer.list().unwrap().len(), 2);
    alice.send(bob.key(), b"x").unwrap();
    let held = descriptors().unwrap();
    // At least the socket, its lock, both ends of three connections, pidfds, epolls, eventfds and the
    // registry.
    assert!(held.len() > 3 + 10, "{held:?}");
    for (number, what) in &held {
        // Skip the directory's own descriptor, which is closed again.
        let Ok(info) = fs::read_to_string(format!("/proc/self/fdinfo/{number}")) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let closed = i32::from_str_radix(flags, 8).unwrap() & OFlags::CLOEXEC.bits() as i32 != 0;
        assert!(*number <= 2 || closed || !is_ours(what), "{number} is {what}");
    }
    // Both sides close a channel's descriptor after mapping it, so it cannot be passed on by mistake.
    assert!(!held.iter().any(|(_, what)| what.contains("ringpost-channel")), "{held:?}");
    let mut executed = Role::start("executed", &[]);
    let inherited = executed.hear("inherited");
    assert!(!inherited.split(' ').any(&is_ours), "{inherited}");
    // The same through `Command`.
    let listed = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(!listed.lines().any(is_ours), "{listed}");
    drop(server);
    say("in order");
}

/// Whether this descriptor target (from `/proc`) is one that this library opens.
fn is_ours(what: &str) -> bool {
    ["socket:", "memfd:", "pidfd", "eventpoll", "eventfd", ".lock"].iter().any(|kind| what.contains(kind))
}
