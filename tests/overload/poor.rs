//! Tests of clients with few descriptors, threads or little address space: failures are typed errors without
//! leaks.

use super::common::role::{Role, Stage, say, setting};
use super::common::users::{is_root, leave_root};
use super::common::{Place, eventually};
use super::{Baseline, advises, registered, shut_down, start_server};
use ringpost::{Client, RegisterError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A user with no other processes.
const POOR: &str = "64125";

/// Sets the limits of this role, except for address space.
pub fn limit_as_set() {
    if let Some(files) = setting("FILES") {
        setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: Some(files) }).unwrap();
    }
    if let Some(uid) = setting("UID") {
        // The kernel limits threads per user, but not those of root.
        leave_root(uid, uid, &[]);
    }
    if let Some(threads) = setting("THREADS") {
        setrlimit(Resource::Nproc, Rlimit { current: Some(threads), maximum: Some(threads) }).unwrap();
    }
}

/// Limits the address space to what this process maps now and so many KiB more.
pub fn limit_space() {
    if let Some(more) = setting::<u64>("SPACE") {
        let maximum = getrlimit(Resource::As).maximum;
        setrlimit(Resource::As, Rlimit { current: Some(mapped() + more * 1024), maximum }).unwrap();
    }
}

/// Bytes of address space in use.
fn mapped() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split_whitespace().next().unwrap().parse().unwrap();
    pages * rustix::param::page_size() as u64
}

fn lowest_free_descriptor() -> u64 {
    use std::os::fd::AsRawFd;
    fs::File::open("/dev/null").unwrap().as_raw_fd() as u64
}

fn set_files(current: Option<u64>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

/// Registers clients with fewer and fewer resources, and continues with those that it has.
pub fn client(stage: &Stage) {
    let path: PathBuf = setting("PATH").unwrap();
    let register = |name: &str| Client::register(&path, name);
    match setting::<String>("LACKS").unwrap().as_str() {
        "descriptors" => {
            let before = getrlimit(Resource::Nofile).current;
            let mut failed = 0;
            let mut clients = Vec::new();
            // Starts with no descriptor, and allows one more in each round, before and after the watcher
            // runs. So each place that opens one fails once.
            for round in 0..2 {
                for more in 0..8 {
                    set_files(before);
                    set_files(Some(lowest_free_descriptor() + more));
                    match register(&format!("poor {round} {more}")) {
                        Ok(client) => clients.push(client),
                        Err(error @ (RegisterError::System { .. } | RegisterError::Channel(_))) => {
                            advises(&error, &["open files", "ulimit -n"]);
                            failed += 1;
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                    for client in &mut clients {
                        assert_eq!(client.call(b"x").unwrap(), b"x");
                    }
                }
                set_files(before);
            }
            say(format_args!("failed={failed} registered={}", clients.len()));
            stage.await_order("on");
            clients.push(register("at last").unwrap());
            clients.into_iter().for_each(|client| client.unregister().unwrap());
        }
        "threads" => {
            limit_as_set();
            for n in 0..3 {
                let error = register(&format!("poor {n}")).unwrap_err();
                assert!(matches!(error, RegisterError::System { .. }), "{error:?}");
                advises(&error, &["watch the server", "ulimit -u"]);
            }
            say("failed=3 registered=0");
            stage.await_order("on");
        }
        "space" => {
            let mut clients = vec![register("first").unwrap()];
            // Leaves room for three and a half more channels, besides the allocator's free memory.
            let channel = 3 * clients[0].limits().ring_size as u64 + 8192;
            let limit = Some(mapped() + 3 * channel + channel / 2);
            setrlimit(Resource::As, Rlimit { current: limit, maximum: None }).unwrap();
            let (mut failed, mut left) = (0, 0);
            while failed < 10 {
                match register(&format!("poor {left}")) {
                    Ok(client) => {
                        left += 1;
                        clients.push(client);
                    }
                    Err(error @ RegisterError::Channel(_)) => {
                        advises(&error, &["Cannot allocate memory", "ulimit -v"]);
                        failed += 1;
                    }
                    Err(error) => panic!("{error:?}"),
                }
                for client in &mut clients {
                    assert_eq!(client.call(b"x").unwrap(), b"x");
                }
            }
            say(format_args!("failed={failed} registered={}", clients.len()));
            stage.await_order("on");
            setrlimit(Resource::As, Rlimit { current: None, maximum: None }).unwrap();
            clients.push(register("at last").unwrap());
            clients.into_iter().for_each(|client| client.unregister().unwrap());
        }
        other => panic!("no lack of {other:?}"),
    }
    say("done");
}

/// A client's process runs out of a resource: its registrations fail, but its other clients and the server
/// continue.
fn a_poor_client(lacks: &str, ring: &str, settings: &[(&str, &str)]) {
    let place = Place::new();
    fs::set_permissions(place.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let server = start_server(&place, &[("RING", ring), ("ALLOW", POOR)]);
    let baseline = Baseline::of(&server, &place.path);
    let mut alice = Client::register(&place.path, "alice").unwrap();
    let all = [&[("PATH", place.path.to_str().unwrap()), ("LACKS", lacks)], settings].concat();
    let mut poor = Role::start("poor client", &all);
    let said = super::numbers(&poor.hear(""));
    assert!(said["failed"] >= 3, "{said:?}");
    let there = said["registered"] as usize + 1;
    eventually("only who is registered is here", || {
        registered(&place.path) == there && baseline.has_clients(there)
    });
    assert_eq!(alice.call(b"x").unwrap(), b"x");
    poor.tell("on");
    poor.hear("done");
    assert!(poor.end().success());
    alice.unregister().unwrap();
    baseline.await_restored();
    assert_eq!(shut_down(server)["violations"], 0);
    assert!(place.is_clean());
}

#[test]
fn a_client_without_descriptors_is_told_so() {
    a_poor_client("descriptors", "4096", &[]);
}

/// Runs as root only, to become another user: root's threads are not limited.
#[test]
fn a_client_without_threads_is_told_so() {
    if !is_root() {
        return eprintln!("skipped: only root can play a user with no other threads");
    }
    a_poor_client("threads", "4096", &[("UID", POOR), ("THREADS", "1")]);
}

#[test]
fn a_client_without_address_space_is_told_so() {
    a_poor_client("space", "16777216", &[]);
}
