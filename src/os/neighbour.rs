//! On which CPU a worker runs.

#![forbid(unsafe_code)]

use std::fs;

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::os::processors::ranges;

/// Moves this thread to another CPU that it may use and that shares the largest cache with this one, if there
/// is any. It may use the same ones afterwards as before.
///
/// `reference` is a thread of the server whose CPUs this library never changes once it runs. An operator may
/// change the CPUs of all threads at any time (`taskset -ap`), also while this thread's are narrowed, and
/// that is to last. The kernel offers no way to narrow them for one move only. So this thread moves only if
/// it may use the same CPUs as the reference, and has the same ones as the reference in the end.
///
/// The scheduler does that by itself when a thread is woken while another CPU is idle, but not when both are
/// as busy as they are when turns change hands; its balancing, every few milliseconds, is too late for a
/// turn.
pub(crate) fn move_to_neighbour(reference: Option<Pid>) {
    let Some(reference) = reference else { return };
    let allowed = |thread: Option<Pid>| sched_getaffinity(thread).ok();
    let allow = |cpus: &CpuSet| sched_setaffinity(None, cpus).is_ok();
    move_within(sched_getcpu(), &|| allowed(None), &|| allowed(Some(reference)), &allow);
}

/// How often what was allowed may change while this thread moves.
const CHANGES: usize = 3;

fn move_within(
    here: usize,
    own: &dyn Fn() -> Option<CpuSet>,
    reference: &dyn Fn() -> Option<CpuSet>,
    allow: &dyn Fn(&CpuSet) -> bool,
) {
    let Some(mut allowed) = own() else { return };
    // A pinned worker comes here in each turn: it need not ask for neighbours.
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
        // Somebody else has set what it is now. And what was allowed a moment ago still is, unless the CPU
        // was just taken away.
        if own() != Some(narrowed) || !allow(&allowed) {
            return;
        }
        match reference() {
            Some(now) if now != allowed => (narrowed, allowed) = (allowed, now),
            _ => return,
        }
    }
}

/// The CPUs of `allowed` that share the largest cache with this one; all of them, if the kernel does not
/// tell.
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
        // In a thread of its own: the affinity is a thread's.
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

    /// An operator changes first the reference's CPUs and then this thread's, at any two moments of a move.
    #[test]
    fn what_an_operator_sets_in_the_midst_of_a_move_lasts() {
        let (before, after) = (set(&[0, 1, 2]), set(&[1, 2]));
        for (first, second) in (0..12).flat_map(|first| (first..12).map(move |second| (first, second))) {
            let state = RefCell::new((0, before, before)); // how many calls there were, the reference's, this thread's
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
            // What comes after the move comes now.
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
