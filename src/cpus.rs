//! The CPUs of this computer, as the kernel's files tell of them.

#![forbid(unsafe_code)]

use std::ops::RangeInclusive;
use std::sync::OnceLock;

/// How many CPUs the computer has. Those that a thread may use do not tell: it may be pinned to one, and the other end of its ring to
/// another.
pub(crate) fn online() -> usize {
    static ONLINE: OnceLock<usize> = OnceLock::new();
    *ONLINE.get_or_init(|| {
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online");
        online
            .ok()
            .and_then(|list| ranges(&list))
            .map(|ranges| ranges.into_iter().map(Iterator::count).sum())
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    })
}

/// A list such as `0-3,8`, which is not empty.
pub(crate) fn ranges(list: &str) -> Option<Vec<RangeInclusive<usize>>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first.parse().ok()?..=last.parse().ok()?;
        (!range.is_empty()).then_some(range)
    };
    list.trim().split(',').map(range).collect()
}

#[cfg(all(test, not(loom)))]
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
        assert_eq!(online(), list.lines().filter(|line| line.starts_with("processor")).count());
    }
}
