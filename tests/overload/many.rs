//! Tests ten thousand clients at once (or `RINGPOST_MANY`).

use super::common::proc::{mappings, raise_descriptor_limit};
use super::common::role::{Role, Stage, numbers, say, setting};
use super::common::{LIMIT, Place, eventually};
use super::{Baseline, from_environment, registered, shut_down, start_server};
use ringpost::{Client, Key, RegisterError};
use rustix::process::{Resource, getrlimit};
use std::path::PathBuf;
use std::time::Instant;

const MANY: u64 = 10_000;
const PROCESSES: u64 = 4;

/// Registers many clients in one process. Each calls once and sends once to its neighbour; then all leave.
pub fn crowd(stage: &Stage) {
    raise_descriptor_limit();
    let (path, index): (PathBuf, u64) = (setting("PATH").unwrap(), setting("INDEX").unwrap());
    let size: u64 = setting("SIZE").unwrap();
    let name = |i: u64| format!("crowd {index} {i}");
    let settings = Client::builder(path).timeout(LIMIT);
    let mut clients: Vec<Client> = (0..size).map(|i| settings.register(name(i)).unwrap()).collect();
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    say(format_args!("registered descriptors={descriptors}"));
    stage.await_order("call");
    let keys: Vec<Key> = clients.iter().map(Client::key).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.call(&i.to_le_bytes()).unwrap(), i.to_le_bytes());
        client.send(keys[(i + 1) % keys.len()], &i.to_le_bytes()).unwrap();
    }
    for (i, client) in clients.iter_mut().enumerate() {
        let message = client.recv().unwrap();
        let from = (i + keys.len() - 1) % keys.len();
        assert_eq!((message.sender(), message.payload()), (keys[from], &from.to_le_bytes()[..]));
    }
    say("called");
    stage.await_order("leave");
    clients.into_iter().for_each(|client| client.unregister().unwrap());
    say("left");
}

/// The number of clients that the system allows: each needs a descriptor, a thread and five mappings in the
/// server.
fn allowed() -> u64 {
    let number = |path: &str| -> Option<u64> { std::fs::read_to_string(path).ok()?.trim().parse().ok() };
    let least = [
        getrlimit(Resource::Nofile).maximum.map(|most| most.saturating_sub(200)),
        number("/proc/sys/vm/max_map_count").map(|most| most.saturating_sub(2_000) / 5),
        number("/proc/sys/kernel/pid_max").map(|most| most.saturating_sub(4_000)),
        number("/proc/sys/kernel/threads-max").map(|most| most.saturating_sub(4_000)),
    ];
    least.into_iter().flatten().min().unwrap_or(MANY)
}

#[test]
fn ten_thousand_clients() {
    let wanted = from_environment("RINGPOST_MANY").unwrap_or(MANY);
    let size = wanted.min(allowed()) / PROCESSES;
    let count = size * PROCESSES;
    if count < wanted {
        eprintln!("the limits of this system allow {count} clients in place of {wanted}");
    }
    let place = Place::new();
    let server =
        start_server(&place, &[("RING", "4096"), ("CLIENTS", &count.to_string()), ("RAISE", "true")]);
    let baseline = Baseline::of(&server, &place.path);
    let began = Instant::now();
    let mut crowds: Vec<Role> = (0..PROCESSES)
        .map(|index| {
            let (index, size) = (index.to_string(), size.to_string());
            Role::start(
                "crowd",
                &[("PATH", place.path.to_str().unwrap()), ("INDEX", &index), ("SIZE", &size)],
            )
        })
        .collect();
    for crowd in &mut crowds {
        let said = numbers(&crowd.hear_within("registered", LIMIT * 10));
        // One for each client, and a few more.
        assert!(said["descriptors"] < size + 32, "{said:?}");
    }
    eprintln!("{count} registered after {:?}: {:?}", began.elapsed(), baseline.now());
    assert_eq!(registered(&place.path), count as usize);
    eventually("each has its thread, channel and connection", || baseline.has_clients(count as usize));
    let full = Client::register(&place.path, "one too many").unwrap_err();
    assert!(matches!(full, RegisterError::Full(_)), "{full:?}");
    eprintln!("{} mappings, {}", mappings(server.pid()), resident(server.pid()));
    for crowd in &mut crowds {
        crowd.tell("call");
    }
    for crowd in &mut crowds {
        crowd.hear_within("called", LIMIT * 10);
    }
    for crowd in &mut crowds {
        crowd.tell("leave");
    }
    for crowd in &mut crowds {
        crowd.hear_within("left", LIMIT * 10);
    }
    for crowd in crowds {
        assert!(crowd.end().success());
    }
    eventually("all have left", || registered(&place.path) == 0);
    baseline.await_restored();
    eprintln!("all over after {:?}", began.elapsed());
    let sums = shut_down(server);
    assert_eq!(
        (sums["registered"], sums["calls"], sums["messages"]),
        (count + baseline.registered, count + baseline.registered, count)
    );
    assert_eq!((sums["refused"], sums["violations"], sums["abandoned"]), (baseline.refused + 1, 0, 0));
    assert!(place.is_clean());
}

/// The memory of a process, to be printed.
fn resident(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let wanted = |line: &&str| line.starts_with("VmRSS") || line.starts_with("RssAnon");
    status
        .lines()
        .filter(wanted)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}
