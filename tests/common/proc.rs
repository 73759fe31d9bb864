//! What the kernel tells about processes and their threads.

use std::fs;

/// The states of a process's threads by their names; `self` for this process. A thread that ends meanwhile is
/// left out.
pub fn threads(pid: &str) -> Vec<(String, char)> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| {
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            // The name in there may hold anything; the state comes after its last parenthesis.
            let state = stat.rsplit_once(')')?.1.trim_start().chars().next()?;
            Some((name.trim_end().to_owned(), state))
        })
        .collect()
}

/// Whether every thread of the process sleeps.
pub fn is_asleep(pid: u32) -> bool {
    let threads = threads(&pid.to_string());
    !threads.is_empty() && threads.iter().all(|(_, state)| *state == 'S')
}

/// The state of the worker of a client of a server in this process, while it lives.
fn worker(client: &str) -> Option<char> {
    let wanted: String = format!("rp-{client}").chars().take(15).collect();
    threads("self").into_iter().find(|(name, _)| *name == wanted).map(|(_, state)| state)
}

/// Whether that worker sleeps.
pub fn worker_sleeps(client: &str) -> bool {
    worker(client) == Some('S')
}

/// Whether that worker has ended.
pub fn worker_is_gone(client: &str) -> bool {
    worker(client).is_none()
}

/// The names of the server's and the clients' own threads in this process, sorted.
pub fn own_threads() -> Vec<String> {
    let mut names: Vec<String> =
        threads("self").into_iter().map(|(name, _)| name).filter(|name| name.starts_with("rp-")).collect();
    names.sort_unstable();
    names
}

/// What a process holds: threads, descriptors, mappings of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    pub threads: usize,
    pub descriptors: usize,
    pub channels: usize,
}

impl Holdings {
    /// Those of this process.
    pub fn now() -> Holdings {
        Holdings::of("self")
    }

    pub fn of(pid: &str) -> Holdings {
        let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        Holdings {
            threads: count("task"),
            descriptors: count("fd"),
            channels: maps.lines().filter(|line| line.contains("ringpost-channel")).count(),
        }
    }
}

/// All mappings of a process: those of channels, the stacks of its threads, what its allocator holds.
pub fn mappings(pid: u32) -> usize {
    fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines().count()
}

/// As many descriptors as this process may have: a library leaves that to its process.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}
