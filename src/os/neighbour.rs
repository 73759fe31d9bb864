//! Moves a thread to another CPU that shares its cache.

#![forbid(unsafe_code)]

use std::fs;

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::os::processors::ranges;

/// Moves this thread to another CPU that it may use and that shares the largest cache with the present one,
/// if there is any. Afterwards it may use the same CPUs as before.
///
/// The kernel does this by itself when it wakes a thread while another CPU is idle, but not when all CPUs are
/// busy, and its balancing every few milliseconds comes too late for a slot of half a millisecond.
///
/// The kernel has no call that moves a thread once, so this narrows the thread's CPUs and widens them again.
/// Meanwhile an operator may change the CPUs of all threads (`taskset -ap`), and that change must last.
/// `reference` is a thread of this process whose CPUs the library never changes: this thread moves only if it
/// may use the same CPUs as the reference, and has the reference's CPUs in the end.
pub(crate) fn move_to_neighbour(reference: Option<Pid>) {
    let Some(reference) = reference else { return };
    let allowed = |thread: Option<Pid>| sched_getaffinity(thread).ok();
    let allow = |cpus: &CpuSet| sched_setaffinity(None, cpus).is_ok();
    move_within(sched_getcpu(), &|| allowed(None), &|| allowed(Some(reference)), &allow);
}

/// How many changes by an operator are followed while this thread moves.
const CHANGES: usize = 3;

fn move_within(
    here: usize,
    own: &dyn Fn() -> Option<CpuSet>,
    reference: &dyn Fn() -> Option<CpuSet>,
    allow: &dyn Fn(&CpuSet) -> bool,
) {
    let Some(mut allowed) = own() else { return };
    // A pinned worker comes here with every slot: it need not read which CPUs are near.
    if here >= CpuSet::MAX_CPU || allowed.count() < 2 || reference() != Some(allowed) {
        return;
    }
    let mut others = neighbours(here, &allowed);
    others.unset(here);
    if others.count() == 0 || !allow(&others) {
        return;
    }
    let mut narrowed = others;
    for _ in 0..CHANGES {
        // If the CPUs are not those that were set here, an operator has changed them: leave them. Widening
        // fails only if the kernel has just taken a CPU away.
        if own() != Some(narrowed) || !allow(&allowed) {
            return;
        }
        match reference() {
            Some(now) if now != allowed => (narrowed, allowed) = (allowed, now),
            _ => return,
        }
    }
}

/// The CPUs of `allowed` that share the largest cache with this one; all of them if the kernel does not say.
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
    use std::cell::RefCell;

    #[test]
    fn a_thread_moves_and_may_use_the_same_cpus_as_before() {
        let allowed = || {
            let set = sched_getaffinity(None).unwrap();
            (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect::<Vec<_>>()
        };
        // In a thread of its own, because the affinity belongs to a thread.
        let main = Some(rustix::thread::gettid());
        std::thread::spawn(move || {
            let before = allowed();
            move_to_neighbour(main);
            assert_eq!(allowed(), before);
            let mut only = CpuSet::new();
            only.set(before[0]);
            sched_setaffinity(None, &only).unwrap();
            move_to_neighbour(main);
            assert_eq!((allowed(), sched_getcpu()), (vec![before[0]], before[0]), "there is no other");
        })
        .join()
        .unwrap();
    }

    fn set(cpus: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        cpus.iter().for_each(|cpu| set.set(*cpu));
        set
    }

    /// An operator changes first the reference's CPUs and then this thread's, at any two points of a move.
    #[test]
    fn cpus_that_an_operator_sets_during_a_move_last() {
        let (before, after) = (set(&[0, 1, 2]), set(&[1, 2]));
        for (first, second) in (0..12).flat_map(|first| (first..12).map(move |second| (first, second))) {
            let state = RefCell::new((0, before, before)); // calls so far, the reference's CPUs, this thread's CPUs
            let step = || {
                let (calls, reference, own) = &mut *state.borrow_mut();
                if *calls == first {
                    *reference = after;
                }
                if *calls == second {
                    *own = after;
                }
                *calls += 1;
            };
            let own = || {
                step();
                Some(state.borrow().2)
            };
            let reference = || {
                step();
                Some(state.borrow().1)
            };
            let allow = |cpus: &CpuSet| {
                step();
                state.borrow_mut().2 = *cpus;
                true
            };
            move_within(0, &own, &reference, &allow);
            let calls = state.borrow().0;
            // Changes that come after the move.
            (calls..12).for_each(|_| step());
            assert!(state.borrow().2 == after, "changed at calls {first} and {second} of {calls}");
        }
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
