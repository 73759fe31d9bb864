//! Reads how much CPU time and memory a process has used.

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

/// The CPU time of a process: of its living threads, in nanoseconds, if the kernel keeps scheduler
/// statistics; else in clock ticks (usually 10 ms).
pub fn cpu_time(pid: u32) -> Option<Duration> {
    precise(pid).or_else(|| in_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
}

fn precise(pid: u32) -> Option<Duration> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        // A thread that ends in between is not counted.
        let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    // Without scheduler statistics the files contain 0.
    (sum > 0).then(|| Duration::from_nanos(sum))
}

/// User and system time from the text of /proc/PID/stat. The process name, in parentheses, may contain
/// anything.
fn in_ticks(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs_f64((user + system) as f64 / clock_ticks_per_second() as f64))
}

/// The CPU time of the calling thread.
pub fn own_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A process's memory, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// All resident memory.
    pub rss_kib: u64,
    /// The part of it that is shared memory: the registry, and the pages of rings that were used.
    pub shared_kib: u64,
}

/// The memory of a process.
pub fn memory(pid: u32) -> Option<Memory> {
    memory_in(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn memory_in(status: &str) -> Option<Memory> {
    let field = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Memory { rss_kib: field("VmRSS:")?, shared_kib: field("RssShmem:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_parsed() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 5";
        let ticks = clock_ticks_per_second() as f64;
        assert_eq!(in_ticks(stat), Some(Duration::from_secs_f64(200.0 / ticks)));
        assert_eq!(in_ticks("7 (a"), None);
        let status = "Name:\tx\nVmRSS:\t  1234 kB\nRssAnon:\t 1 kB\nRssShmem:\t     56 kB\n";
        assert_eq!(memory_in(status), Some(Memory { rss_kib: 1234, shared_kib: 56 }));
        assert_eq!(memory_in("VmRSS:\t1234 kB\n"), None);
    }

    #[test]
    fn this_process_uses_cpu_time_and_memory() {
        let id = std::process::id();
        let before = own_cpu_time();
        while own_cpu_time() == before {}
        assert!(cpu_time(id).unwrap() > Duration::ZERO);
        assert!(memory(id).unwrap().rss_kib > 0);
    }
}
