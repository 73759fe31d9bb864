//! `ringpost-server --sandbox`: what it must still be able to do, and what it cannot do any more.

use super::common::program::{Ended, Program, SERVER};
use super::common::{LIMIT, Place, await_server, eventually};
use ringpost::{Client, Observer};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;

/// A server in its sandbox, with a socket, a configuration and a log, each in a directory of its own.
struct Sandboxed {
    server: Program,
    place: Place,
    config: PathBuf,
    log: PathBuf,
}

const OPEN: &str = "sandbox = true\n[log]\nlevel = \"debug\"\n";

impl Sandboxed {
    /// `None` if the kernel has no Landlock or no filters.
    fn start(environment: &[(&str, &str)]) -> Option<Sandboxed> {
        Sandboxed::start_with(environment, Place::new(), "")
    }

    /// With more settings.
    fn start_with(environment: &[(&str, &str)], mut place: Place, settings: &str) -> Option<Sandboxed> {
        let [socket, config, log] =
            ["run/bus", "etc/server.toml", "log/server.log"].map(|path| place.directory.path().join(path));
        for file in [&socket, &config, &log] {
            fs::create_dir(file.parent().unwrap()).unwrap();
        }
        place.path = socket;
        fs::write(&config, format!("{settings}{OPEN}")).unwrap();
        let [path, config_path, log_path] = [&place.path, &config, &log].map(|path| path.to_str().unwrap());
        let arguments = ["--socket", path, "--config", config_path, "--log-file", log_path];
        let mut server = Program::start_with(SERVER, &arguments, |command| {
            command.envs(environment.iter().copied());
        });
        eventually("it listens or ends", || server.is_over() || place.path.exists());
        if server.is_over() {
            let Ended { stderr, .. } = server.end();
            assert!(stderr.contains("--sandbox: "), "{stderr}");
            eprintln!("skipped: {stderr}");
            return None;
        }
        await_server(&place.path);
        let log_of = || fs::read_to_string(&log).unwrap_or_default();
        eventually("its start is over", || log_of().contains("listening"));
        Some(Sandboxed { server, place, config, log })
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// A line of `/proc` about the process.
    fn status(&self, key: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.server.id())).unwrap();
        let of = |task: fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            Some(status.lines().find_map(|line| line.strip_prefix(key))?.trim_matches([':', '\t']).to_owned())
        };
        tasks.flatten().filter_map(of).collect()
    }

    fn use_it(&self, name: &str) {
        let mut client = Client::builder(&self.place.path).timeout(LIMIT).register(name).unwrap();
        let _serving =
            client.listen().unwrap().serve(|request, response| response.write(request.payload())).unwrap();
        assert_eq!(client.connect(name).unwrap().call(b"x").unwrap(), b"x");
        let mut sub = client.subscribe("a/*").unwrap();
        let mut presence = client.presence().unwrap();
        client.publish("a/b").unwrap().send(b"x").unwrap();
        assert_eq!(sub.recv_timeout(LIMIT).unwrap().payload(), b"x");
        presence.recv_timeout(LIMIT).unwrap();
        assert_eq!(client.call(b"x").unwrap(), b"x");
    }
}

#[test]
fn all_threads_are_limited_and_the_bus_works() {
    let Some(sandboxed) = Sandboxed::start(&[]) else { return };
    sandboxed.use_it("alice");
    let client = Client::register(&sandboxed.place.path, "bob").unwrap();
    let filters = sandboxed.status("Seccomp");
    assert!(filters.len() >= 4 && filters.iter().all(|mode| mode == "2"), "{filters:?}");
    drop(client);
    let log = sandboxed.log();
    assert!(!log.contains("fall_back") && !log.contains("violation"), "{log}");
}

#[test]
fn it_opens_its_log_anew_and_loads_its_configuration_anew() {
    let Some(sandboxed) = Sandboxed::start(&[]) else { return };
    let moved = sandboxed.log.with_extension("old");
    fs::rename(&sandboxed.log, &moved).unwrap();
    // Editors replace a file.
    let new = sandboxed.config.with_extension("new");
    fs::write(&new, format!("{OPEN}[[access.rules]]\nacts = [\"register\"]\nwhat = [\"reserved\"]\nusers = [\"root\"]\nnames = [\"nobody\"]\n"))
        .unwrap();
    fs::rename(&new, &sandboxed.config).unwrap();
    sandboxed.server.signal(Signal::HUP);
    let log = || fs::read_to_string(&sandboxed.log).unwrap_or_default();
    eventually("it has loaded it", || log().contains("reload"));
    assert!(!log().contains("not_reloaded"), "{}", log());
    let error = Client::register(&sandboxed.place.path, "reserved").unwrap_err();
    assert!(error.to_string().contains("reserved"), "{error}");
    sandboxed.use_it("alice");
    eventually("it logs", || log().contains("alice"));
    Observer::connect(&sandboxed.place.path).unwrap().control("log-level trace").unwrap();
    sandboxed.use_it("bob");
    eventually("it logs calls", || log().contains("call"));
}

#[test]
fn it_removes_its_files_at_its_end_and_says_how_it_was() {
    let Some(sandboxed) = Sandboxed::start(&[]) else { return };
    sandboxed.use_it("alice");
    sandboxed.server.signal(Signal::TERM);
    let Sandboxed { server, place, log, .. } = sandboxed;
    assert_eq!(server.end().status, Some(0));
    assert!(fs::read_to_string(log).unwrap().contains("stopped"));
    let left: Vec<_> = fs::read_dir(place.path.parent().unwrap()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn it_reaches_nothing_else() {
    let Some(sandboxed) = Sandboxed::start(&[]) else { return };
    // The configuration now leads elsewhere.
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("server.toml");
    fs::write(&target, OPEN).unwrap();
    fs::remove_file(&sandboxed.config).unwrap();
    std::os::unix::fs::symlink(&target, &sandboxed.config).unwrap();
    let refused = Observer::connect(&sandboxed.place.path).unwrap().control("reload").unwrap_err();
    assert!(refused.to_string().contains("ermission denied"), "{refused}");
    sandboxed.use_it("alice");
}

/// It answers who scrapes its metrics, at a port and at a socket, which it removes at its end.
#[test]
fn it_is_scraped() {
    let scrape = |mut stream: Box<dyn ReadWrite>| {
        stream.write_all(b"GET /metrics/clients HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("\nringpost_client_calls_total{client=\"alice\"} "), "{answer}");
    };
    let client = |sandboxed: &Sandboxed| Client::register(&sandboxed.place.path, "alice").unwrap();
    let Some(sandboxed) = Sandboxed::start_with(&[], Place::new(), "metrics = \"127.0.0.1:0\"\n") else {
        return;
    };
    eventually("its log says where", || sandboxed.log().contains("/metrics\n"));
    let log = sandboxed.log();
    let (_, address) = log.split_once("address=http://").unwrap();
    let _alice = client(&sandboxed);
    scrape(Box::new(TcpStream::connect(address.split_once("/metrics\n").unwrap().0).unwrap()));

    let place = Place::new();
    let directory = place.directory.path().join("metrics");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("socket");
    let settings = format!("metrics = {:?}\n", format!("unix:{}", path.to_str().unwrap()));
    let Some(sandboxed) = Sandboxed::start_with(&[], place, &settings) else { return };
    let alice = client(&sandboxed);
    scrape(Box::new(UnixStream::connect(&path).unwrap()));
    drop(alice);
    sandboxed.server.signal(Signal::TERM);
    let Sandboxed { server, place, .. } = sandboxed;
    assert_eq!(server.end().status, Some(0));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    drop(place);
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// It tells a service manager how it is, and asks itself for the watchdog.
#[test]
fn a_service_manager_hears_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "2000000")];
    let Some(sandboxed) = Sandboxed::start(&environment) else { return };
    let hear = |wanted: &str| {
        let mut state = [0; 4096];
        loop {
            let length = manager.recv(&mut state).expect(wanted);
            if String::from_utf8_lossy(&state[..length]).contains(wanted) {
                return;
            }
        }
    };
    hear("READY=1");
    // The second one comes when the server has been asked under its limits.
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    sandboxed.server.signal(Signal::HUP);
    hear("RELOADING=1");
    hear("READY=1");
    sandboxed.server.signal(Signal::TERM);
    hear("STOPPING=1");
    assert_eq!(sandboxed.server.end().status, Some(0));
}
