//! On which CPU a worker runs.

#![forbid(unsafe_code)]

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::cpus::ranges;

/// Moves this thread to another CPU that it may use and that shares the largest cache with this one, if there is any. It may use the same
/// ones afterwards as before.
///
/// The CPUs that this thread may use are named one by one from then on: should the process be allowed others later, it does not use those.
///
/// The scheduler does that by itself when a thread is woken while another CPU is idle, but not when both are as busy as they
/// are when turns change hands; its balancing, every few milliseconds, is too late for a turn.
pub(super) fn move_to_neighbour() {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let here = sched_getcpu();
    // A pinned worker comes here in each turn: it need not ask for neighbours.
    if here >= CpuSet::MAX_CPU || allowed.count() < 2 {
        return;
    }
    let mut others = neighbours(here, &allowed);
    others.unset(here);
    if others.count() > 0 && sched_setaffinity(None, &others).is_ok() {
        // What was allowed a moment ago still is, unless the CPU was just taken away; the others are there then.
        let _ = sched_setaffinity(None, &allowed);
    }
}

/// The CPUs of `allowed` that share the largest cache with this one; all of them, if the kernel does not tell.
fn neighbours(cpu: usize, allowed: &CpuSet) -> CpuSet {
    let list = fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/cache/index3/shared_cpu_list"));
    let Some(ranges) = list.ok().and_then(|list| ranges(&list)) else { return *allowed };
    let mut near = CpuSet::new();
    for cpu in ranges.into_iter().flatten().filter(|&cpu| cpu < CpuSet::MAX_CPU) {
        if allowed.is_set(cpu) {
            near.set(cpu);
        }
    }
    near
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_moves_and_may_use_the_same_cpus_as_before() {
        let allowed = || {
            let set = sched_getaffinity(None).unwrap();
            (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect::<Vec<_>>()
        };
        // In a thread of its own: the affinity is a thread's.
        std::thread::spawn(move || {
            let before = allowed();
            move_to_neighbour();
            assert_eq!(allowed(), before);
            let mut only = CpuSet::new();
            only.set(before[0]);
            sched_setaffinity(None, &only).unwrap();
            move_to_neighbour();
            assert_eq!((allowed(), sched_getcpu()), (vec![before[0]], before[0]), "there is no other");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn neighbours_share_a_cache_and_are_allowed() {
        let allowed = sched_getaffinity(None).unwrap();
        let near = neighbours(sched_getcpu(), &allowed);
        assert!((0..CpuSet::MAX_CPU).all(|cpu| !near.is_set(cpu) || allowed.is_set(cpu)));
        assert!(near.count() > 0);
        assert_eq!(neighbours(CpuSet::MAX_CPU, &allowed).count(), allowed.count(), "of an unknown CPU");
    }
}
