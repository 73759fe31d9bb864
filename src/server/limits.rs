//! Which limit of the system keeps this server from another thread or more memory, for the texts of refusals.
//!
//! The system answers with one of two error numbers, whichever of half a dozen limits was reached. So each of
//! them is compared with what is used, as far as that can be read. Nothing here is needed for anything but
//! words.

#![forbid(unsafe_code)]

use rustix::process::{Resource, getrlimit};
use std::fs;
use std::io;

use crate::channel::ChannelError;
use crate::os::remedy::{locked_memory, on_memory, on_resources};
use crate::os::threads::stack_size;
use crate::shm::SegmentError;

/// Address space that must be left besides a new client's: what the server and its service need for
/// themselves.
pub(super) const HEADROOM: usize = 16 << 20;

/// Mappings of a client: its channel; and its thread's stack and signal stack, each with the guard page
/// below.
const MAPPINGS: u64 = 5;

/// Processes and threads that the system keeps for root, or that come and go.
const SLACK: u64 = 8;

/// Address space of a thread: its stack, and the page below.
pub(super) fn thread() -> usize {
    stack_size() + rustix::param::page_size()
}

/// What to do about a lack, when that much memory was asked for, with the limit named if it can be found.
pub(super) fn remedy(error: &io::Error, asked: usize) -> String {
    let limit = match error.raw_os_error() {
        Some(libc::ENOMEM) => address_space(asked).or_else(mappings),
        // Of memory too, where it was asked for by the C library on behalf of a thread.
        Some(libc::EAGAIN) => {
            let memory = address_space(asked).or_else(mappings).or_else(|| limit_of_locked_memory(asked));
            memory.or_else(control_group).or_else(system).or_else(user)
        }
        _ => None,
    };
    match limit {
        Some(limit) => format!("; {limit}"),
        None => on_resources(error).to_owned(),
    }
}

/// What to do about something that a server's start lacks.
pub(super) fn on_start(action: &str, error: &io::Error) -> String {
    match action {
        "start a thread" => remedy(error, thread()),
        "map memory" => on_memory(error).to_owned(),
        _ => on_resources(error).to_owned(),
    }
}

/// Memory that could not be had, with what to do about it.
pub(super) fn in_words(error: &ChannelError, asked: usize) -> String {
    match error {
        ChannelError::Segment(SegmentError::System { action, source }) => {
            // A map that is refused with EAGAIN is not short of threads, but of memory that it may lock.
            let remedy = match source.raw_os_error() {
                Some(libc::EAGAIN) => on_memory(source).to_owned(),
                _ => remedy(source, asked),
            };
            format!("cannot {action}: {source}{remedy}")
        }
        other => other.to_string(),
    }
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn address_space(asked: usize) -> Option<String> {
    let limit = getrlimit(Resource::As).current?;
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().next()?.parse().ok()?;
    let used = pages.saturating_mul(rustix::param::page_size() as u64);
    // What others take and give back meanwhile is no more than this.
    let reached = used.saturating_add((asked + HEADROOM) as u64) >= limit;
    reached.then(|| {
        format!(
            "its limit of address space is {} KiB: raise it (ulimit -v), or use smaller rings",
            limit / 1024
        )
    })
}

/// A process that locks all it maps (`mlockall`) may be allowed to lock no more.
fn limit_of_locked_memory(asked: usize) -> Option<String> {
    let limit = getrlimit(Resource::Memlock).current?;
    let locked = locked_memory();
    (locked > 0 && locked.saturating_add(asked as u64) >= limit).then(|| {
        format!(
            "its limit of locked memory is {} KiB, and it locks what it maps: raise it (ulimit -l), or lock less",
            limit / 1024
        )
    })
}

fn mappings() -> Option<String> {
    let limit = number("/proc/sys/vm/max_map_count")?;
    let threads = fs::read_dir("/proc/self/task").ok()?.count() as u64;
    // Counting them is long work, for which there must be a reason.
    if threads.saturating_mul(MAPPINGS) < limit / 2 {
        return None;
    }
    let used = fs::read("/proc/self/maps").ok()?.iter().filter(|byte| **byte == b'\n').count() as u64;
    (used + MAPPINGS + SLACK >= limit)
        .then(|| format!("a process may have {limit} mappings: raise that (sysctl vm.max_map_count)"))
}

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// Where the controller of tasks keeps a process's group, in the first form of control groups or in the
/// second.
fn group_of_tasks(groups: &str) -> Option<String> {
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            wanted(controllers).then_some(path)
        })
    };
    let first = path_of(&|controllers| controllers.split(',').any(|name| name == "pids"));
    match first {
        Some(path) => Some(format!("{CONTROL_GROUPS}/pids{path}")),
        None => path_of(&str::is_empty).map(|path| format!("{CONTROL_GROUPS}{path}")),
    }
}

fn control_group() -> Option<String> {
    let directory = group_of_tasks(&fs::read_to_string("/proc/self/cgroup").ok()?)?;
    // The limit may be that of a group further up.
    let mut group = directory.as_str();
    while group.len() >= CONTROL_GROUPS.len() {
        if let (Some(limit), Some(used)) =
            (number(&format!("{group}/pids.max")), number(&format!("{group}/pids.current")))
            && used >= limit
        {
            return Some(format!("its control group may have {limit} tasks: raise that (pids.max)"));
        }
        group = group.rsplit_once('/')?.0;
    }
    None
}

fn system() -> Option<String> {
    let threads = number("/proc/sys/kernel/threads-max")?;
    let numbers = number("/proc/sys/kernel/pid_max")?;
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let used: u64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    // Numbers below 300 are given once only.
    match used + SLACK {
        most if most >= threads => {
            Some(format!("the system may have {threads} threads: raise that (sysctl kernel.threads-max)"))
        }
        most if most + 300 >= numbers => {
            Some(format!("the system may have {numbers} process numbers: raise that (sysctl kernel.pid_max)"))
        }
        _ => None,
    }
}

/// What the whole user has is not to be had cheaply; but if nothing else is reached, it is this.
fn user() -> Option<String> {
    let limit = getrlimit(Resource::Nproc).current?;
    Some(format!("its user may have {limit} processes and threads: raise that (ulimit -u)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_lacks_has_a_remedy_and_anything_else_none() {
        for code in [libc::EAGAIN, libc::ENOMEM, libc::EMFILE] {
            let remedy = remedy(&io::Error::from_raw_os_error(code), thread());
            assert!(remedy.starts_with("; ") && remedy.contains("raise"), "{remedy}");
        }
        assert_eq!(remedy(&io::Error::from_raw_os_error(libc::EACCES), thread()), "");
    }

    #[test]
    fn memory_that_may_not_be_locked_is_not_a_lack_of_threads() {
        let source = io::Error::from_raw_os_error(libc::EAGAIN);
        let error = ChannelError::Segment(SegmentError::System { action: "map a memory file", source });
        let why = in_words(&error, 1);
        assert!(why.contains("ulimit -l") && !why.contains("ulimit -u"), "{why}");
        assert!(error.to_string().contains("ulimit -l"), "{error}");
    }

    #[test]
    fn the_group_of_tasks_is_found_in_both_forms() {
        let second = "0::/user.slice/a b:c\n";
        assert_eq!(group_of_tasks(second).as_deref(), Some("/sys/fs/cgroup/user.slice/a b:c"));
        let first = "9:name=systemd:/x\n8:cpu,pids:/box\n4:memory:/y\n0::/\n";
        assert_eq!(group_of_tasks(first).as_deref(), Some("/sys/fs/cgroup/pids/box"));
        assert_eq!(group_of_tasks("4:memory:/y\n"), None);
    }

    /// None of them is reached while the tests run.
    #[test]
    fn limits_that_are_far_away_are_not_named() {
        assert_eq!(
            (address_space(thread()), mappings(), control_group(), system()),
            (None, None, None, None)
        );
    }
}
