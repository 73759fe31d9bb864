//! The CPUs of this computer, and how many of them this process may use.
//!
//! The number is the least of three: the CPUs that are online, those to which the process is restricted
//! (`taskset`, a cpuset), and the CPU quota of its control group. All can change at any time, so a thread
//! for which the number matters reads them again now and then, before it sleeps.

#![forbid(unsafe_code)]

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use rustix::process::getpid;
use rustix::thread::{CpuSet, sched_getaffinity};

/// The number of CPUs that this process could use when it was last read; 0 before that.
static USABLE: AtomicUsize = AtomicUsize::new(0);

/// The number of CPUs that this process may use, at least one. Reads only a word, except for the first time.
pub(crate) fn usable() -> usize {
    match USABLE.load(Ordering::Relaxed) {
        0 => {
            look_again_if_due();
            USABLE.load(Ordering::Relaxed).max(1)
        }
        usable => usable,
    }
}

/// Updates the number for [`usable`], at most once per second in the process. Takes about 50 us, so only
/// threads that are about to sleep call it.
pub(crate) fn look_again_if_due() {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    /// The second of the last update, counted from 1.
    static SECOND: AtomicU64 = AtomicU64::new(0);
    let second = BEGAN.get_or_init(Instant::now).elapsed().as_secs() + 1;
    let last = SECOND.load(Ordering::Relaxed);
    // One thread updates it. The others use the old number.
    if second > last && SECOND.compare_exchange(last, second, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        let limits = [Some(online_now()), allowed(), quota(Path::new("/"))];
        let least = limits.into_iter().flatten().min().unwrap_or(1).max(1);
        USABLE.store(least, Ordering::Relaxed);
    }
}

/// The number of CPUs that the main thread or this thread may use (this one may be pinned to others).
fn allowed() -> Option<usize> {
    let (main, own) = (sched_getaffinity(Some(getpid())).ok()?, sched_getaffinity(None).ok()?);
    Some((0..CpuSet::MAX_CPU).filter(|&cpu| main.is_set(cpu) || own.is_set(cpu)).count())
}

/// The smallest quota of this process's control group and of its parents, in CPUs, rounded up. `root` is the
/// root of the file system.
fn quota(root: &Path) -> Option<usize> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mut least: Option<usize> = None;
    for line in groups.lines() {
        let Some((controllers, group)) = line.split_once(':').and_then(|(_, line)| line.split_once(':'))
        else {
            continue;
        };
        let mounts: &[&str] = if controllers.is_empty() {
            &["sys/fs/cgroup", "sys/fs/cgroup/unified"]
        } else if controllers.split(',').any(|name| name == "cpu") {
            &["sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"]
        } else {
            continue;
        };
        // In a container this may be the path outside of it, of which only the root is visible here.
        for (mount, above) in
            mounts.iter().flat_map(|mount| Path::new(group).ancestors().map(move |a| (mount, a)))
        {
            let directory = root.join(mount).join(above.strip_prefix("/").unwrap_or(above));
            least = least.into_iter().chain(quota_of(&directory)).min();
        }
    }
    least
}

/// The quota of one group, for control groups of version 1 or 2.
fn quota_of(group: &Path) -> Option<usize> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let (quota, period) = match read("cpu.max") {
        Some(line) => {
            let (quota, period) = line.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        None => (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
    };
    // "max" and -1 mean no quota.
    let (quota, period): (u64, u64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    usize::try_from(quota.div_ceil(period.max(1))).ok().map(|cpus| cpus.max(1))
}

/// The number of online CPUs.
fn online_now() -> usize {
    let online = fs::read_to_string("/sys/devices/system/cpu/online");
    online
        .ok()
        .and_then(|list| ranges(&list))
        .map(|ranges| ranges.into_iter().map(Iterator::count).sum())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Parses a list such as `0-3,8`, which must not be empty.
pub(crate) fn ranges(list: &str) -> Option<Vec<RangeInclusive<usize>>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first.parse().ok()?..=last.parse().ok()?;
        (!range.is_empty()).then_some(range)
    };
    list.trim().split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        for (list, read) in [
            ("0", Some(vec![0..=0])),
            ("0-1\n", Some(vec![0..=1])),
            ("0-3,8,10-11", Some(vec![0..=3, 8..=8, 10..=11])),
            ("", None),
            ("3-1", None),
            ("0,", None),
        ] {
            assert_eq!(ranges(list), read, "{list:?}");
        }
    }

    #[test]
    fn all_cpus_are_counted_whatever_this_thread_may_use() {
        let list = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        assert_eq!(online_now(), list.lines().filter(|line| line.starts_with("processor")).count());
    }

    #[test]
    fn the_smallest_quota_of_all_groups_above_counts_and_is_rounded_up() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let quota = || quota(root.path());
        assert_eq!(quota(), None);
        put("proc/self/cgroup", "0::/user.slice/a b\n");
        put("sys/fs/cgroup/user.slice/a b/cpu.max", "max 100000\n");
        assert_eq!(quota(), None);
        put("sys/fs/cgroup/user.slice/cpu.max", "250000 100000\n");
        assert_eq!(quota(), Some(3), "of the group above");
        put("sys/fs/cgroup/user.slice/a b/cpu.max", "50000 100000\n");
        assert_eq!(quota(), Some(1), "half a CPU is one thread's");
        // Version 1, with the path outside of a container, whose own group is mounted.
        put("proc/self/cgroup", "9:name=systemd:/x\n8:cpu,cpuacct:/box/7\n4:memory:/y\n");
        put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
        put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
        assert_eq!(quota(), None);
        put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n");
        assert_eq!(quota(), Some(4));
        put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "nonsense\n");
        assert_eq!(quota(), None);
    }

    /// Uses a new thread, because it changes the thread's affinity.
    #[test]
    fn a_pinned_thread_does_not_hide_the_process_s_other_cpus() {
        let main = sched_getaffinity(Some(getpid())).unwrap();
        let counted = std::thread::spawn(move || {
            let mut one = CpuSet::new();
            one.set((0..CpuSet::MAX_CPU).find(|&cpu| main.is_set(cpu)).unwrap());
            rustix::thread::sched_setaffinity(None, &one).unwrap();
            allowed()
        });
        assert_eq!(counted.join().unwrap(), Some(main.count() as usize));
    }

    #[test]
    fn what_may_be_used_is_at_least_one_and_at_most_what_there_is() {
        look_again_if_due();
        assert!((1..=online_now()).contains(&usable()));
    }
}
