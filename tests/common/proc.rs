//! Reads the state of processes and their threads from `/proc`.

use super::eventually;
use std::fs::{self, DirEntry};

/// The names and states of a process's threads (`self` for this process), except threads that end meanwhile.
pub fn threads(pid: &str) -> Vec<(String, char)> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| {
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            Some((name.trim_end().to_owned(), state(&task)?))
        })
        .collect()
}

/// The state of a thread, unless it has ended.
fn state(task: &DirEntry) -> Option<char> {
    let stat = fs::read_to_string(task.path().join("stat")).ok()?;
    // The name, in parentheses, may contain anything; the state follows the last parenthesis.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Whether every thread of the process sleeps.
pub fn is_asleep(pid: u32) -> bool {
    let threads = threads(&pid.to_string());
    !threads.is_empty() && threads.iter().all(|(_, state)| *state == 'S')
}

/// Waits until all other threads of this process sleep.
///
/// Before descriptors are closed by number: a thread that is about to close one itself, or to use it, cannot
/// know that it was closed meanwhile, and given to another file. One that waits for the first time reads
/// files about processors, for example.
pub fn others_sleep() {
    let this = rustix::thread::gettid().as_raw_nonzero().to_string();
    eventually("all other threads sleep", || {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        let mut others = tasks.filter(|task| task.file_name().to_str() != Some(&this));
        others.all(|task| state(&task).is_none_or(|state| state == 'S'))
    });
}

/// The state of a client's worker thread, if the server is in this process and the worker lives.
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

/// What memory that is shared with other processes is called.
const SHARED: [&str; 4] = ["ringpost-channel", "ringpost-link", "ringpost-topic", "ringpost-page"];

/// The number of a process's threads, descriptors and mappings of channels, links and topics.
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
            channels: maps.lines().filter(|line| SHARED.iter().any(|name| line.contains(name))).count(),
        }
    }
}

/// The number of mappings of a process, the allocator's included. The stacks of threads do not count: when
/// many threads have ended at once, the C library keeps any number of stacks. Stacks that are never given
/// back show in the memory that `churn` checks.
pub fn mappings(pid: u32) -> usize {
    /// The size of the stack of each thread that the library starts.
    const STACK: u64 = 2 << 20;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mappings: Vec<(u64, u64, &str)> = maps
        .lines()
        .map(|line| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
            (start, end, &rest[..4])
        })
        .collect();
    // Each follows its guard, which nobody may touch.
    let is_stack = |pair: &&[(u64, u64, &str)]| {
        let [(_, below, guard), (start, end, stack)] = **pair else { return false };
        (guard, stack) == ("---p", "rw-p") && below == start && end - start == STACK
    };
    mappings.len() - 2 * mappings.windows(2).filter(is_stack).count()
}

/// Raises the limit of descriptors as far as allowed, which the library does not do itself.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}
