//! docs/SYSCALLS.md against a trace: in each phase, a server and a client make no call that it does not list.
//!
//! The traced process is a role of this program under `strace`. It writes a line when a phase begins, which
//! the trace shows, too. Only the library's threads count, and in a client the thread that uses the library.

use super::common::proc::{is_asleep, threads};
use super::common::role::{Role, Stage, say, setting};
use super::common::server::as_set;
use super::common::{Bus, LIMIT, Place, eventually};
use ringpost::cli::calls::{self, CALLS, Phase, Side};
use ringpost::{Client, Observer, Subscriber, WaitStrategy};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Waits for an order, and says that the next phase begins.
fn phase(stage: &Stage, phase: &str) {
    stage.await_order(phase);
    say(format_args!("phase {phase}"));
}

/// Says which process this is, and which of its threads.
fn say_who() {
    say(format_args!("ready {} {}", std::process::id(), rustix::thread::gettid().as_raw_pid()));
}

/// The role of a server.
pub fn server(stage: &Stage) {
    say_who();
    phase(stage, "start");
    let server = as_set().start().unwrap();
    say("phase idle");
    loop {
        let order = stage.order();
        say(format_args!("phase {order}"));
        if order == "shutdown" {
            break;
        }
    }
    server.join_after_shutdown();
    say("phase idle");
}

/// The role of a client.
pub fn client(stage: &Stage) {
    say_who();
    let (path, wait) = (setting::<PathBuf>("PATH").unwrap(), setting("WAIT").unwrap());
    phase(stage, "register");
    let mut alice = Client::builder(&path).wait(wait).timeout(LIMIT).register("alice").unwrap();
    alice.call(b"x").unwrap();
    say("phase idle");
    phase(stage, if wait == WaitStrategy::Spin { "poll" } else { "sleep" });
    for _ in 0..20 {
        alice.call(b"x").unwrap();
    }
    say("phase idle");
    if wait == WaitStrategy::Park {
        phase(stage, "message");
        let bob = alice.look_up("bob").unwrap().unwrap();
        alice.send(bob, b"x").unwrap();
        alice.recv_timeout(LIMIT).unwrap();
        say("phase idle");
        phase(stage, "link");
        let serving = alice.listen().unwrap().serve(|request, response| response.write(request.payload()));
        let mut link = alice.connect("bob").unwrap();
        link.call(b"x").unwrap();
        say("linked");
        stage.await_order("go on");
        drop((link, serving));
        say("phase idle");
        phase(stage, "topic");
        let mut publisher = alice.publish("alice").unwrap();
        let mut sub = alice.subscribe("*").unwrap();
        let mut presence = alice.presence().unwrap();
        presence.recv_timeout(LIMIT).unwrap();
        publisher.send(b"x").unwrap();
        sub.recv_timeout(LIMIT).unwrap();
        drop((publisher, sub, presence));
        say("phase idle");
    }
    phase(stage, "shutdown");
    alice.unregister().unwrap();
    say("phase idle");
}

fn can_trace() -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-f", "--decode-pids=comm", "-o", "/dev/null", "true"]);
    strace.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A role under strace.
struct Traced {
    role: Role,
    pid: u32,
    /// The thread that uses the library.
    thread: String,
}

impl Traced {
    fn start(name: &str, settings: &[(&str, &str)], trace: &Path) -> Traced {
        let started = Role::start_as(name, settings, |command| {
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "--decode-pids=comm", "-o"]).arg(trace);
            strace.arg(command.get_program()).args(command.get_args());
            for (key, value) in command.get_envs() {
                strace.env(key, value.unwrap_or_default());
            }
            strace.stdin(Stdio::piped()).stdout(Stdio::piped());
            *command = strace;
        });
        let mut role = started.unwrap();
        let who = role.hear("ready");
        let (pid, thread) = who.split_once(' ').unwrap();
        Traced { role, pid: pid.parse().unwrap(), thread: thread.to_owned() }
    }

    /// Begins a phase when all that belongs to the one before is done.
    fn begin(&mut self, phase: &str) {
        eventually("the phase before is over", || is_asleep(self.pid));
        self.next(phase);
    }

    fn next(&mut self, phase: &str) {
        self.role.tell(phase);
        assert_eq!(self.role.hear("phase"), phase);
    }

    fn ends_its_phase(&mut self) {
        assert_eq!(self.role.hear("phase"), "idle");
    }
}

/// The calls of each phase.
type Found = BTreeMap<String, BTreeSet<String>>;

/// Threads that look after something every few seconds, and the calls by which they do. On a busy machine
/// that may fall into a phase that has no such calls itself.
const TICKED: [&str; 3] = ["poll", "sleep", "message"];
const TICKING: [&str; 2] = ["rp-acceptor", "rp-watcher"];
const TICKS: [&str; 4] = ["epoll_ctl", "epoll_pwait", "fstat", "ppoll"];

/// Adds the calls of each phase in a trace: those of the library's threads, and of another thread in the
/// phases in which that counts.
fn read(trace: &Path, thread: &str, counts: impl Fn(&str) -> bool, found: &mut Found) {
    let text = std::fs::read_to_string(trace).unwrap();
    let mut now = String::new();
    for line in text.lines() {
        let Some((id, rest)) = line.split_once('<') else { continue };
        let Some((name, call)) = rest.split_once("> ") else { continue };
        let call = call.trim_start();
        if call.starts_with("write(1,") {
            // What the role says.
            if let Some((_, phase)) = call.split_once("@ phase ") {
                now = phase.split('\\').next().unwrap().to_owned();
            }
            continue;
        }
        let (call, _) = call.split_once('(').unwrap_or_default();
        let is_call =
            !call.is_empty() && call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_call && (name.starts_with("rp-") || id == thread && counts(&now)) {
            let calls = found.entry(now.clone()).or_default();
            let ticks = TICKED.contains(&now.as_str()) && TICKING.contains(&name) && TICKS.contains(&call);
            if !ticks {
                calls.insert(call.to_owned());
            }
        }
    }
}

/// Calls that were traced and are not listed for their phase.
fn unlisted(side: Side, found: &Found) -> Vec<String> {
    let of = |phase: &str| Phase::ALL.into_iter().find(|known| known.name() == phase);
    let is_listed =
        |name: &str, phase| CALLS.iter().any(|call| call.name == name && call.is_made(side, phase));
    let mut missing = Vec::new();
    for (phase, calls) in found {
        let Some(phase) = of(phase) else { continue };
        missing.extend(
            calls
                .iter()
                .filter(|name| !is_listed(name, phase))
                .map(|name| format!("{}: {name}", phase.name())),
        );
    }
    missing
}

/// Checks that each phase was traced, and that its calls are listed.
fn check(side: Side, found: &Found) {
    for phase in Phase::ALL {
        // Polling makes no call.
        let is_traced = found.contains_key(phase.name());
        let is_none = phase == Phase::Poll || side == Side::Client && phase == Phase::Start;
        assert!(is_traced || is_none, "{}: {found:#?}", phase.name());
    }
    let missing = unlisted(side, found);
    assert!(missing.is_empty(), "docs/SYSCALLS.md does not list: {missing:#?}\nof {found:#?}");
}

/// The tables and lists in the repository are those of the table in the code. With `RINGPOST_WRITE_LISTS`
/// they are written.
#[test]
fn the_document_and_the_lists_are_those_of_the_table() {
    const BEGIN: &str = "<!-- made from the table -->\n";
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = root.join("docs/SYSCALLS.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, _) = text.split_once(BEGIN).expect("where the table begins");
    let mut files = vec![(page, format!("{before}{BEGIN}\n{}", calls::tables()))];
    for (side, name) in [(Side::Server, "server.json"), (Side::Client, "client.json")] {
        files.push((root.join("packaging/seccomp").join(name), calls::allow_list(side)));
    }
    for (path, wanted) in files {
        if std::env::var_os("RINGPOST_WRITE_LISTS").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == wanted, "{} differs: set RINGPOST_WRITE_LISTS=1 for this test", path.display());
    }
}

#[test]
fn a_server_makes_only_the_calls_that_are_listed() {
    if !can_trace() {
        return eprintln!("skipped: strace is missing, or may not trace here");
    }
    let mut found = Found::new();
    let place = Place::new();
    let trace = place.directory.path().join("trace");
    let path = place.path.to_str().unwrap();
    for wait in [WaitStrategy::Spin, WaitStrategy::Park] {
        let mut server =
            Traced::start("traced server", &[("PATH", path), ("WAIT", &wait.to_string())], &trace);
        server.begin("start");
        server.ends_its_phase();
        let register = |name| Client::builder(path).wait(wait).timeout(LIMIT).register(name).unwrap();
        server.next("register");
        let (mut alice, mut bob) = (register("alice"), register("bob"));
        // Their workers have begun then.
        for client in [&mut alice, &mut bob] {
            client.call(b"x").unwrap();
        }
        if wait == WaitStrategy::Spin {
            // The workers spin.
            eventually("the acceptor has done all that belongs to the clients", || {
                let threads = threads(&server.pid.to_string());
                threads.iter().any(|(name, state)| name == "rp-acceptor" && *state == 'S')
            });
            server.next("poll");
            for _ in 0..20 {
                alice.call(b"x").unwrap();
            }
            server.next("idle");
        } else {
            server.begin("sleep");
            for _ in 0..20 {
                alice.call(b"x").unwrap();
                eventually("it sleeps", || is_asleep(server.pid));
            }
            server.begin("message");
            alice.send(bob.key(), b"x").unwrap();
            bob.recv_timeout(LIMIT).unwrap();
            server.begin("link");
            let serving = bob.listen().unwrap().serve(|request, response| response.write(request.payload()));
            alice.connect("bob").unwrap().call(b"x").unwrap();
            drop(serving);
            server.begin("topic");
            let mut publisher = alice.publish("a").unwrap();
            let mut sub: Subscriber = bob.subscribe("*").unwrap();
            let mut presence = bob.presence().unwrap();
            presence.recv_timeout(LIMIT).unwrap();
            publisher.send(b"x").unwrap();
            sub.recv_timeout(LIMIT).unwrap();
            assert_eq!(Observer::connect(path).unwrap().figures().unwrap().topics[0].samples, 1);
            drop((publisher, sub, presence));
            server.begin("shutdown");
            server.ends_its_phase();
        }
        drop((alice, bob));
        if wait == WaitStrategy::Spin {
            server.next("shutdown");
            server.ends_its_phase();
        }
        // The role's own thread starts the server and ends it.
        let counts = |phase: &str| matches!(phase, "start" | "shutdown");
        let thread = server.thread.clone();
        assert!(server.role.end().success());
        read(&trace, &thread, counts, &mut found);
    }
    check(Side::Server, &found);
}

#[test]
fn a_client_makes_only_the_calls_that_are_listed() {
    if !can_trace() {
        return eprintln!("skipped: strace is missing, or may not trace here");
    }
    let mut found = Found::new();
    for wait in [WaitStrategy::Spin, WaitStrategy::Park] {
        let bus = Bus::with(|builder| builder.wait(wait));
        let mut bob = bus.client("bob");
        let _serving = bob.listen().unwrap().serve(|request, response| response.write(request.payload()));
        let trace = bus.place.directory.path().join("trace");
        let path = bus.path().to_str().unwrap().to_owned();
        let mut alice =
            Traced::start("traced client", &[("PATH", &path), ("WAIT", &wait.to_string())], &trace);
        alice.begin("register");
        alice.ends_its_phase();
        alice.begin(if wait == WaitStrategy::Spin { "poll" } else { "sleep" });
        alice.ends_its_phase();
        if wait == WaitStrategy::Park {
            alice.begin("message");
            let to = bob.look_up("alice").unwrap().unwrap();
            bob.recv_timeout(LIMIT).unwrap();
            bob.send(to, b"x").unwrap();
            alice.ends_its_phase();
            alice.begin("link");
            alice.role.hear("linked");
            bob.connect("alice").unwrap().call(b"x").unwrap();
            alice.role.tell("go on");
            alice.ends_its_phase();
            alice.begin("topic");
            alice.ends_its_phase();
        }
        alice.begin("shutdown");
        alice.ends_its_phase();
        let thread = alice.thread.clone();
        assert!(alice.role.end().success());
        read(&trace, &thread, |_| true, &mut found);
    }
    check(Side::Client, &found);
}
