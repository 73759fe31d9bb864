//! Tests of the programs with wrong inputs: names, keys, sizes, paths, versions and limits.

use crate::common::program::{CLIENT, Program, SERVER, command, finish, run};
use crate::common::raw::{VERSION, datagram, listen_at};
use crate::common::users::is_root;
use crate::common::{Bus, Gate, becomes, eventually};
use crate::run::{all_commands, place, ringpost};
use crate::users::NOBODY;
use crate::versions::pretend;
use crate::{assert_mentions, skipped};
use ringpost::{Key, Request, Response, ServiceError};
use rustix::process::Signal;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;

#[test]
fn names_that_cannot_be() {
    let bus = Bus::start();
    let long = "x".repeat(65);
    let key = Key::from_bytes(u128::to_le_bytes(7)).to_string();
    let cases: [(&[u8], &str); 9] = [
        (b"", "at least one character"),
        (long.as_bytes(), "at most 64 bytes, but this one has 65; shorten it"),
        (b"a\nb", "remove"),
        (b"\x1b[2J", "remove"),
        (b"\x7f", "remove"),
        (b" a", "trim it"),
        (b"a ", "trim it"),
        (key.as_bytes(), "form of a key"),
        (b"\xff", "UTF-8"),
    ];
    for (name, remedy) in cases {
        let name = OsStr::from_bytes(name);
        let lines: [&[&OsStr]; 5] = [
            &["call".as_ref(), "--as".as_ref(), name, "y".as_ref()],
            &["send".as_ref(), "--as".as_ref(), name, "--to".as_ref(), "y".as_ref(), "z".as_ref()],
            &["listen".as_ref(), "--as".as_ref(), name],
            &["client".as_ref(), name],
            // The last one also accepts a key.
            &["send".as_ref(), "--as".as_ref(), "x".as_ref(), "--to".as_ref(), name, "z".as_ref()],
        ];
        for line in &lines[..if name.as_bytes() == key.as_bytes() { 4 } else { 5 }] {
            let why = ringpost(bus.path(), line).refused(2);
            assert_mentions(&why, &[remedy]);
        }
    }
    assert_eq!(bus.server.join_after_shutdown().registered, 0);
}

#[test]
fn names_and_keys_that_nobody_has_or_somebody_else() {
    let bus = Bus::start();
    let alice = bus.client("alice");
    for line in [&["call", "--as", "alice", "y"][..], &["listen", "--as", "alice"], &["client", "alice"]] {
        assert_mentions(&ringpost(bus.path(), line).refused(1), &["\"alice\" is taken", "choose another"]);
    }
    let send =
        |to: &str, status| ringpost(bus.path(), &["send", "--as", "x", "--to", to, "z"]).refused(status);
    assert_mentions(&send("nobody", 1), &["nobody", "ringpost ls"]);
    // These are almost keys, and so names, which no client has.
    let key = alice.key().to_string();
    for near in [&key[..25], &format!("{key}0"), &format!("U{}", &key[1..]), &format!("9{}", &key[1..])] {
        assert_mentions(&send(near, 1), &[near, "ringpost ls"]);
    }
    assert_mentions(&send(&key.repeat(3), 2), &["at most 64 bytes", "shorten"]);
    let stale = bus.client("bob").key();
    for key in [stale, Key::from_bytes(u128::to_le_bytes(0)), Key::from_bytes(u128::to_le_bytes(u128::MAX))] {
        assert_mentions(&send(&key.to_string(), 1), &["no client has this key", "look its name up"]);
    }
    // A client can send to its own name.
    ringpost(bus.path(), &["send", "--as", "x", "--to", "x", "z"]).quiet();
    becomes("all but alice have left", || bus.server.clients().unwrap().len(), &1);
}

#[test]
fn messages_of_the_wrong_size() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let mut alice = bus.client("alice");
    let (call, message) = (alice.limits().max_call, alice.limits().max_message);
    let with_input = |line: &[&str], len: usize| {
        let mut command = command(CLIENT);
        command.args(line).arg("--socket").arg(bus.path());
        finish(command, &vec![b'x'; len])
    };
    let send = ["send", "--as", "x", "--to", "alice"];
    for len in [0, call] {
        assert_eq!(with_input(&["call", "--as", "x"], len).quiet().len(), len);
    }
    for len in [0, message] {
        with_input(&send, len).quiet();
        assert_eq!(alice.recv().unwrap().payload().len(), len);
    }
    for len in [call + 1, 4096, 1 << 22] {
        let why = with_input(&["call", "--as", "x"], len).refused(1);
        assert_mentions(&why, &[&len.to_string(), &call.to_string(), "send less", "--ring-size"]);
    }
    for len in [message + 1, 4096, 1 << 22] {
        let why = with_input(&send, len).refused(1);
        assert_mentions(&why, &[&len.to_string(), &message.to_string(), "send less"]);
    }
    // A full inbox.
    let mut sender = bus.client("sender");
    while sender.try_send(alice.key(), b"x").is_ok() {}
    eventually("the server says in time that there is no room", || {
        let line = ["send", "--as", "x", "--to", "alice", "--timeout", "3", "z"];
        let why = ringpost(bus.path(), &line).refused(1);
        assert_mentions(&why, &["deadline; ", "raise --timeout"]);
        why.contains("no room in the receiver's inbox")
    });
}

#[test]
fn places_where_no_server_is() {
    let (place, socket) = place();
    for line in all_commands() {
        let why = ringpost(&place.path, line).refused(1);
        assert_mentions(&why, &["no server", &socket, "start one with ringpost-server --socket"]);
    }
    // A socket that a dead server left behind.
    drop(listen_at(&place.path));
    for line in all_commands() {
        assert_mentions(&ringpost(&place.path, line).refused(1), &["no server", "start one"]);
    }
    let long = place.directory.path().join("x".repeat(108));
    assert_mentions(&ringpost(&long, &["ls"]).refused(1), &["too long", "104 bytes"]);
}

#[test]
fn places_where_no_server_can_be() {
    let bus = Bus::start();
    let directory = bus.place.directory.path();
    let serve = |path: &std::path::Path| run(SERVER, &[OsStr::new("--socket"), path.as_os_str()]).refused(1);
    assert_mentions(&serve(bus.path()), &["another server is running", "stop it, or choose another socket"]);
    let file = directory.join("file");
    fs::write(&file, "").unwrap();
    assert_mentions(&serve(&file), &["not a socket", "remove it"]);
    assert_mentions(&serve(directory), &["not a socket"]);
    assert_mentions(&serve(std::path::Path::new("/")), &["does not end with a file name"]);
    assert_mentions(&serve(&directory.join("missing/bus")), &["make its directory first"]);
    assert_mentions(&serve(&file.join("bus")), &["choose another path"]);
    assert_mentions(&serve(&directory.join("x".repeat(108))), &["too long", "104 bytes"]);
}

#[test]
fn directories_that_are_not_ours_to_use() {
    let (place, _) = place();
    let runtime = place.directory.path();
    let ours = runtime.join("ringpost");
    let refused = || {
        let lines: [(&str, &[&str]); 2] = [(SERVER, &[]), (CLIENT, &["ls"])];
        lines.map(|(program, line)| {
            let mut command = command(program);
            command.args(line).env("XDG_RUNTIME_DIR", runtime);
            let why = finish(command, b"").refused(1);
            assert_mentions(&why, &["--socket or RINGPOST_SOCKET"]);
            why
        })
    };
    symlink(runtime, &ours).unwrap();
    refused().iter().for_each(|why| assert_mentions(why, &["symbolic links are not followed"]));
    fs::remove_file(&ours).unwrap();
    fs::create_dir(&ours).unwrap();
    fs::set_permissions(&ours, Permissions::from_mode(0o755)).unwrap();
    refused().iter().for_each(|why| assert_mentions(why, &["mode 755", "chmod 700"]));
    if !is_root() {
        return skipped("a directory of another user, one that cannot be written: only root can play that");
    }
    fs::set_permissions(&ours, Permissions::from_mode(0o700)).unwrap();
    chown(&ours, Some(NOBODY), Some(NOBODY)).unwrap();
    refused().iter().for_each(|why| assert_mentions(why, &["belongs to user 65532"]));

    fs::set_permissions(runtime, Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |program: &str, line: &[&str]| {
        let mut command = command(program);
        command.args(line).arg("--socket").arg(&place.path).uid(NOBODY).gid(NOBODY).current_dir("/");
        command
    };
    if as_nobody(SERVER, &["--version"]).output().is_err() {
        return skipped("another user cannot reach these programs");
    }
    let why = finish(as_nobody(SERVER, &[]), b"").refused(1);
    assert_mentions(&why, &["cannot create the lock file", "where this user may write"]);
    // The server does not allow this user.
    let _server = ringpost::Server::builder(&place.path).start().unwrap();
    for line in all_commands() {
        assert_mentions(
            &finish(as_nobody(CLIENT, line), b"").refused(1),
            &["not permitted", "--allow-user 65532"],
        );
    }
}

#[test]
fn too_many_clients_and_too_few_descriptors() {
    let bus = Bus::with(|b| b.max_clients(1));
    let alice = bus.client("alice");
    for line in [&["call", "--as", "x", "y"][..], &["listen", "--as", "x"], &["client", "x"]] {
        assert_mentions(&ringpost(bus.path(), line).refused(1), &["is full", "--max-clients"]);
    }
    ringpost(bus.path(), &["ls"]).quiet();
    drop(alice);
    let limited = |most: u32, program: &str, line: &[&str], socket: &std::path::Path| {
        let mut command = command("sh");
        command.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &most.to_string(), program]);
        command.args(line).arg("--socket").arg(socket);
        finish(command, b"")
    };
    // From one more than the standard three (the loader needs it) to enough: the program works or gives
    // remedy.
    let (spare, _) = place();
    let mut worked = false;
    for most in 4..20 {
        let ended = limited(most, CLIENT, &["call", "--as", "x", "y"], bus.path());
        worked = ended.status == Some(0);
        if !worked {
            assert_mentions(&ended.refused(1), &["ulimit -n"]);
        }
    }
    for most in 4..6 {
        let ended = limited(most, SERVER, &["--max-clients", "1"], &spare.path);
        assert_eq!(ended.status, Some(1), "{ended:?}");
        // It may first print a warning about the low limit.
        assert_mentions(ended.stderr.lines().last().unwrap(), &["ulimit -n"]);
    }
    assert!(worked, "twenty are enough");
    assert!(spare.is_clean());
}

#[test]
fn servers_of_another_version_or_kind() {
    for line in all_commands() {
        let (place, _) = place();
        let server = pretend(&place, 1, datagram(VERSION + 1, 2, b"go away"), None);
        let why = ringpost(&place.path, line).refused(1);
        let (theirs, own) = (format!("protocol version {}", VERSION + 1), format!("this program {VERSION}"));
        assert_mentions(&why, &[&theirs, &own, "same ringpost version"]);
        server.end("the server by hand");
    }
    let (place, _) = place();
    let server = pretend(&place, 1, b"220 mail.example ESMTP".to_vec(), None);
    assert_mentions(&ringpost(&place.path, &["ls"]).refused(1), &["not a ringpost server", "another socket"]);
    server.end("the server by hand");
}

#[test]
fn a_service_that_fails_is_the_caller_s_line() {
    let gate = Gate::default();
    let at_gate = gate.clone();
    let service = move |request: Request<'_>, response: &mut Response<'_>| match request.payload() {
        b"panic" => panic!("as the caller wished"),
        b"much" => response.write(&vec![0; response.remaining() + 1]),
        b"sleep" => {
            at_gate.pass();
            Ok(())
        }
        b"nothing" => Ok(()),
        _ => Err(ServiceError::new("two\nlines \u{1b}[31m")),
    };
    let bus = Bus::with(|b| b.service(service));
    let call = |seconds: &str, request: &str| {
        ringpost(bus.path(), &["call", "--as", "x", "--timeout", seconds, request])
    };
    assert_mentions(&call("60", "panic").refused(1), &["the service failed", "panicked"]);
    assert_mentions(&call("60", "much").refused(1), &["answered too much", "maximum"]);
    assert_mentions(&call("60", "x").refused(1), &["the service failed: twolines [31m"]);
    assert_eq!(call("60", "nothing").quiet(), b"");
    let why = call("3", "sleep").refused(1);
    assert_mentions(&why, &["before the deadline", "may have been executed", "raise --timeout"]);
    gate.open();
    eventually("all have left", || bus.server.info().clients == 0);
}

/// A user presses Ctrl-C after waiting too long.
#[test]
fn a_signal_ends_a_call_in_a_service_that_sleeps() {
    let gate = Gate::default();
    let at_gate = gate.clone();
    let bus = Bus::with(|b| {
        b.service(move |_: Request<'_>, _: &mut Response<'_>| {
            at_gate.pass();
            Ok(())
        })
    });
    for (count, signal, name) in [(1, Signal::INT, "SIGINT"), (2, Signal::TERM, "SIGTERM")] {
        let mut command = command(CLIENT);
        command.args(["call", "--as", "x", "--timeout", "600", "y", "--socket"]).arg(bus.path());
        let child = Program::spawn(&mut command);
        gate.wait_for(count);
        child.signal(signal);
        let why = child.end().failed();
        assert_mentions(&why, &["ended by", name]);
        eventually("its name is free", || bus.server.info().clients == 0);
    }
    gate.open();
}
