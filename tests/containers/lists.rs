//! The allow-lists of packaging/seccomp: the programs run under them, from their start to their end.

use super::common::program::{CLIENT, Ended, Program, SERVER};
use super::common::role::{command, say, setting};
use super::common::{LIMIT, Place, await_server, eventually};
use ringpost::Client;
use ringpost::cli::calls::number_of;
use rustix::process::Signal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The role: executes a program under a list.
pub fn execute() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging/seccomp")
        .join(setting::<String>("LIST").unwrap());
    let list: Value = serde_json::from_slice(&fs::read(list).unwrap()).unwrap();
    assert_eq!((&list["defaultAction"], &list["defaultErrnoRet"]), (&"SCMP_ACT_ERRNO".into(), &1.into()));
    let left_out: String = setting("LEFT_OUT").unwrap_or_default();
    let names = list["syscalls"][0]["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    let rules = names
        .filter(|name| *name != left_out)
        .map(|name| (number_of(name).unwrap_or_else(|| panic!("{name}")), Vec::new()))
        .collect();
    let (refused, architecture) = (SeccompAction::Errno(1), std::env::consts::ARCH.try_into().unwrap());
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    let program: String = setting("PROGRAM").unwrap();
    let arguments: String = setting("ARGUMENTS").unwrap();
    let mut program = Command::new(program);
    program.args(arguments.split('\n'));
    if seccompiler::apply_filter(&filter).is_err() {
        return say("skipped");
    }
    panic!("{}", program.exec());
}

/// Starts a program under a list.
fn start(list: &str, program: &str, arguments: &[&str], left_out: &str) -> Program {
    let settings =
        [("LIST", list), ("PROGRAM", program), ("ARGUMENTS", &arguments.join("\n")), ("LEFT_OUT", left_out)];
    let mut command = command("listed", &settings);
    command.env_remove("RINGPOST_SOCKET").env_remove("XDG_RUNTIME_DIR");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Program::spawn(&mut command)
}

fn is_skipped(output: &[u8]) -> bool {
    let is = String::from_utf8_lossy(output).contains("@ skipped");
    if is {
        eprintln!("skipped: no filter can be set here");
    }
    is
}

/// Waits for its end. Until it is executed, its role would end with its input.
fn run(mut program: Program) -> Ended {
    eventually("it ends", || program.is_over());
    program.end()
}

fn client(place: &Place, arguments: &[&str]) -> Ended {
    let (socket, path) = ("--socket", place.path.to_str().unwrap());
    run(start("client.json", CLIENT, &[arguments, &[socket, path]].concat(), ""))
}

#[test]
fn the_programs_run_under_their_lists() {
    for more in [&[][..], &["--sandbox"]] {
        let place = Place::new();
        let log = place.directory.path().join("log");
        let mut arguments =
            vec!["--socket", place.path.to_str().unwrap(), "--log-file", log.to_str().unwrap()];
        arguments.extend(["--metrics", "127.0.0.1:0"]);
        arguments.extend(more);
        let mut server = start("server.json", SERVER, &arguments, "");
        eventually("it listens or ends", || server.is_over() || place.path.exists());
        if server.is_over() {
            let Ended { stdout, stderr, .. } = server.end();
            assert!(is_skipped(&stdout) || stderr.contains("--sandbox: the server cannot"), "{stderr}");
            return eprintln!("skipped: {stderr}");
        }
        await_server(&place.path);
        let called = client(&place, &["call", "--as", "alice", "hello"]).well();
        assert!(String::from_utf8_lossy(&called).contains("hello"));
        let mut bob = Client::builder(&place.path).timeout(LIMIT).register("bob").unwrap();
        // A program that starts others.
        let path = place.path.to_str().unwrap();
        let serving = start(
            "client.json",
            CLIENT,
            &["serve", "--as", "carol", "--socket", path, "--exec", "sh", "-c", "echo out"],
            "",
        );
        let carol = bob.wait_for("carol", LIMIT).unwrap();
        let mut link = None;
        eventually("she listens", || {
            link = bob.connect(carol).ok();
            link.is_some()
        });
        let mut link = link.unwrap();
        assert_eq!(link.call_timeout(b"x", LIMIT).unwrap().payload(), b"out\n");
        let listed = client(&place, &["ls"]).well();
        assert!(String::from_utf8_lossy(&listed).contains("carol"));
        let status = client(&place, &["status"]).well();
        assert!(String::from_utf8_lossy(&status).contains("clients  2 of at most 1,024"), "{status:?}");
        let doctor = client(&place, &["doctor"]);
        assert_ne!(doctor.status, Some(2), "{doctor:?}");
        serving.signal(Signal::TERM);
        assert_eq!(run(serving).status, Some(0));
        drop((link, bob));
        server.signal(Signal::TERM);
        assert_eq!(server.end().status, Some(0));
        let log = fs::read_to_string(&log).unwrap();
        assert!(log.contains("stopped") && !log.contains("fall_back"), "{log}");
    }
}

/// The lists are in force: without one of their calls a server does not start.
#[test]
fn what_is_not_in_a_list_is_refused() {
    let place = Place::new();
    let arguments = ["--socket", place.path.to_str().unwrap()];
    let Ended { status, stdout, stderr } = run(start("server.json", SERVER, &arguments, "memfd_create"));
    if !is_skipped(&stdout) {
        assert!(status == Some(1) && stderr.contains("cannot create a memory file"), "{stderr}");
    }
}
