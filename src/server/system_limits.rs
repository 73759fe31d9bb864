//! Finds out which system limit kept the server from getting a thread or memory, for error texts.
//!
//! The system reports only one of two error numbers, whichever of half a dozen limits was reached. So this
//! compares each limit with what is used, as far as that can be read. Only texts depend on it.

#![forbid(unsafe_code)]

use rustix::process::{Resource, getrlimit};
use std::fs;
use std::io;

use crate::channel::ChannelError;
use crate::os::remedy::{locked_memory, on_memory, on_resources};
use crate::os::threads::stack_size;

/// Address space that must remain free when a client is added: what the server and its service need.
pub(super) const HEADROOM: usize = 16 << 20;

/// Mappings per client: its channel, and its thread's stack and signal stack, each with a guard page.
const MAPPINGS: u64 = 5;

/// Processes and threads that the system reserves for root, or that come and go.
const SLACK: u64 = 8;

/// Address space of a thread: its stack and the guard page.
pub(super) fn thread() -> usize {
    stack_size() + rustix::param::page_size()
}

/// What to do about a failed request for `asked` bytes. Names the limit if it can be found.
pub(super) fn remedy(error: &io::Error, asked: usize) -> String {
    let limit = match error.raw_os_error() {
        Some(libc::ENOMEM) => address_space(asked).or_else(mappings),
        // The C library also reports this when it gets no memory for a thread.
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

/// What to do about a system call that failed at the server's start.
pub(super) fn on_start(action: &str, error: &io::Error) -> String {
    match action {
        "start a thread" => remedy(error, thread()),
        "map memory" => on_memory(error).to_owned(),
        _ => on_resources(error).to_owned(),
    }
}

/// The text of a failed attempt to get memory for a client, with what to do about it.
pub(super) fn in_words(error: &ChannelError, asked: usize) -> String {
    match error {
        ChannelError::System { action, source } => {
            // A mapping that is refused with EAGAIN lacks not threads but memory that it may lock.
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
    // The headroom allows for what other threads map and unmap meanwhile.
    let reached = used.saturating_add((asked + HEADROOM) as u64) >= limit;
    reached.then(|| {
        format!(
            "its limit of address space is {} KiB: raise it (ulimit -v), or use smaller rings",
            limit / 1024
        )
    })
}

/// A process that locks all its mappings (`mlockall`) may have reached its limit of locked memory.
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
    // Counting mappings takes long, so it is done only if there may be too many.
    if threads.saturating_mul(MAPPINGS) < limit / 2 {
        return None;
    }
    let used = fs::read("/proc/self/maps").ok()?.iter().filter(|byte| **byte == b'\n').count() as u64;
    (used + MAPPINGS + SLACK >= limit)
        .then(|| format!("a process may have {limit} mappings: raise that (sysctl vm.max_map_count)"))
}

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// The directory of the process's control group that limits tasks (control groups of version 1 or 2).
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
    // An outer group's limit applies, too.
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
    // The kernel does not reuse process numbers below 300.
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

/// How much the user has in all is costly to find out. But if no other limit was reached, it must be this
/// one.
fn user() -> Option<String> {
    let limit = getrlimit(Resource::Nproc).current?;
    Some(format!("its user may have {limit} processes and threads: raise that (ulimit -u)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lack_has_a_remedy_and_other_errors_have_none() {
        for code in [libc::EAGAIN, libc::ENOMEM, libc::EMFILE] {
            let remedy = remedy(&io::Error::from_raw_os_error(code), thread());
            assert!(remedy.starts_with("; ") && remedy.contains("raise"), "{remedy}");
        }
        assert_eq!(remedy(&io::Error::from_raw_os_error(libc::EACCES), thread()), "");
    }

    #[test]
    fn a_lack_of_lockable_memory_is_not_reported_as_a_lack_of_threads() {
        let source = io::Error::from_raw_os_error(libc::EAGAIN);
        let error = ChannelError::System { action: "map a memory file", source };
        let why = in_words(&error, 1);
        assert!(why.contains("ulimit -l") && !why.contains("ulimit -u"), "{why}");
        assert!(error.to_string().contains("ulimit -l"), "{error}");
    }

    #[test]
    fn the_control_group_is_found_in_both_versions() {
        let second = "0::/user.slice/a b:c\n";
        assert_eq!(group_of_tasks(second).as_deref(), Some("/sys/fs/cgroup/user.slice/a b:c"));
        let first = "9:name=systemd:/x\n8:cpu,pids:/box\n4:memory:/y\n0::/\n";
        assert_eq!(group_of_tasks(first).as_deref(), Some("/sys/fs/cgroup/pids/box"));
        assert_eq!(group_of_tasks("4:memory:/y\n"), None);
    }

    /// No limit is reached while the tests run.
    #[test]
    fn limits_that_are_not_reached_are_not_named() {
        assert_eq!(
            (address_space(thread()), mappings(), control_group(), system()),
            (None, None, None, None)
        );
    }
}
