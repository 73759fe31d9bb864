//! Starts the library's own threads.
//!
//! A new thread inherits signal mask, scheduling policy and allowed CPUs from the thread that starts it,
//! which may have set them for its own work. The library's threads must not keep them: a watcher that shares
//! its CPU with a spinning real-time thread would never run, and a library thread must not take a signal that
//! the program waits for. So [`spawn`] gives each thread what fits any program:
//!
//! - All signals are blocked, from the first instruction on. The exceptions are those that a thread's own
//!   instruction raises (such as `SIGSEGV`): if these are blocked, the kernel ends the process without asking
//!   the handler of the program, or of Rust's own stack guard.
//! - The policy is the default one if it was a real-time one.
//! - The CPUs are those of the process, which are those of its main thread. They are set once, at the start,
//!   and only if others were inherited: a later change, such as `taskset -ap`, stays.
//! - The stack has an explicit size.
//!
//! The nice value is inherited.

#![forbid(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::process::getpid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_name};

use super::scheduling::{Policy, set_default_policy};
use super::signals::BlockedSignals;

/// The least stack size. Services run on these stacks.
const STACK: usize = 2 << 20;

/// The largest stack size: with a larger one hardly any thread could be started.
const LARGEST_STACK: usize = 1 << 30;

/// The longest name of a thread, in bytes.
const LONGEST_NAME: usize = 15;

/// How long to wait until a new thread has given up what it inherited.
const SETTLING_TIME: Duration = Duration::from_millis(100);

/// Bytes of a thread's stack: 2 MiB, or more if the program's environment asks for more (`RUST_MIN_STACK`),
/// at most 1 GiB.
pub(crate) fn stack_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| stack_for(std::env::var("RUST_MIN_STACK").ok().as_deref()))
}

fn stack_for(asked: Option<&str>) -> usize {
    asked.and_then(|bytes| bytes.parse().ok()).unwrap_or(0).clamp(STACK, LARGEST_STACK)
}

/// The name of a thread that works for the one with this name.
pub(crate) fn name_for(name: &str) -> String {
    let text = format!("rp-{name}");
    let cut = (0..=text.len().min(LONGEST_NAME)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[..cut].to_owned()
}

/// Gives this thread, which is one of the library's, another name for the operating system.
pub(crate) fn rename(name: &str) {
    if let Ok(name) = CString::new(name) {
        let _ = set_name(&name);
    }
}

/// Starts a thread of the library. Its name should begin with `rp-` and have at most 15 bytes.
///
/// Does not block, unless the new thread must not keep this thread's policy or CPUs. Then it waits until the
/// new thread has given them up, for 100 ms at most: if a real-time thread went on at once and never slept,
/// the new thread, with the same priority and CPU, might never run.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let inherited = Inherited::of_this_thread();
    let must_settle = inherited.is_some();
    let (settled, is_settled) = mpsc::channel::<()>();
    let builder = Builder::new().name(name.to_owned()).stack_size(stack_size());
    let blocked = BlockedSignals::begin();
    let started = builder.spawn(move || {
        if let Some(inherited) = inherited {
            inherited.leave();
        }
        drop(settled);
        body()
    });
    drop(blocked);
    let thread = started?;
    if must_settle {
        // Ends when the other end is dropped.
        let _ = is_settled.recv_timeout(SETTLING_TIME);
    }
    Ok(thread)
}

/// What a thread inherits and must give up.
struct Inherited {
    /// The process's CPUs, if this thread has others.
    cpus: Option<CpuSet>,
    /// Whether the policy must be given up.
    policy: bool,
}

impl Inherited {
    /// What a thread that this one starts must give up, if anything.
    fn of_this_thread() -> Option<Inherited> {
        let own = sched_getaffinity(None).ok();
        let cpus = sched_getaffinity(Some(getpid())).ok().filter(|cpus| own != Some(*cpus));
        let policy = is_policy_to_leave(Policy::of_this_thread(), Policy::of_the_main_thread);
        (cpus.is_some() || policy).then_some(Inherited { cpus, policy })
    }

    /// Changes the CPUs first: while the thread has its real-time priority it moves at once.
    fn leave(&self) {
        if let Some(cpus) = &self.cpus {
            // Refused only if these CPUs were just taken away from the process. Then the kernel has chosen
            // others.
            let _ = sched_setaffinity(None, cpus);
        }
        if self.policy {
            // Lowering one's own priority needs no permission.
            let _ = set_default_policy();
        }
    }
}

/// Whether a new thread must give the policy up: a real-time one always, another one (batch, idle) unless the
/// main thread has it too.
fn is_policy_to_leave(own: Policy, process: impl FnOnce() -> Policy) -> bool {
    match own {
        Policy::Default => false,
        Policy::RealTime => true,
        Policy::Other(_) => process() != own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::gettid;
    use std::fs;

    /// A line of `/proc` about a thread, or about this one without an id.
    fn status(thread: Option<i32>, key: &str) -> String {
        let path = match thread {
            Some(thread) => format!("/proc/self/task/{thread}/status"),
            None => "/proc/thread-self/status".to_owned(),
        };
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
        line.trim().to_owned()
    }

    fn blocked() -> u64 {
        u64::from_str_radix(&status(None, "SigBlk"), 16).unwrap()
    }

    /// All signals that a thread can block, without those that its own instructions raise. The C library
    /// reserves 32 and 33.
    fn all_but_faults() -> u64 {
        let excepted = [
            libc::SIGKILL,
            libc::SIGSTOP,
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGILL,
            libc::SIGFPE,
            libc::SIGTRAP,
            libc::SIGSYS,
            32,
            33,
        ];
        excepted.iter().fold(u64::MAX, |mask, signal| mask & !(1 << (signal - 1)))
    }

    #[test]
    fn signals_are_blocked_there_and_here_as_before() {
        let before = blocked();
        let there = spawn("rp-test", blocked).unwrap().join().unwrap();
        assert_eq!(there & all_but_faults(), all_but_faults(), "{there:x}");
        assert_eq!(there & !all_but_faults() & ((1 << 31) - 1), 0, "{there:x}");
        assert_eq!(blocked(), before);
    }

    #[test]
    fn a_pinned_thread_starts_threads_that_have_the_process_s_cpus() {
        let process = status(Some(getpid().as_raw_pid()), "Cpus_allowed_list");
        // The affinity of a thread that ends with the test.
        let (own, there) = std::thread::spawn(|| {
            let mut one = CpuSet::new();
            let all = sched_getaffinity(None).unwrap();
            one.set((0..CpuSet::MAX_CPU).find(|&cpu| all.is_set(cpu)).unwrap());
            sched_setaffinity(None, &one).unwrap();
            let there = spawn("rp-test", || status(None, "Cpus_allowed_list")).unwrap().join().unwrap();
            (status(None, "Cpus_allowed_list"), there)
        })
        .join()
        .unwrap();
        assert_eq!(there, process);
        assert!(!own.contains([',', '-']), "{own}: the caller's stay");
    }

    /// A spinning real-time thread on one CPU starts a library thread, which must run all the same.
    #[test]
    fn a_real_time_thread_starts_ordinary_ones_that_run_while_it_spins() {
        let spun = std::thread::spawn(|| {
            let mut one = CpuSet::new();
            one.set(rustix::thread::sched_getcpu());
            sched_setaffinity(None, &one).unwrap();
            if !super::super::scheduling::set_real_time_policy() {
                return None;
            }
            let (told, hear) = mpsc::channel();
            let thread = spawn("rp-test", move || {
                let _ = told.send((Policy::of_this_thread(), gettid()));
            });
            let deadline = std::time::Instant::now() + Duration::from_secs(60);
            let heard = loop {
                match hear.try_recv() {
                    Ok(heard) => break heard,
                    Err(_) => assert!(std::time::Instant::now() < deadline, "it never ran"),
                }
            };
            assert_eq!(Policy::of_this_thread(), Policy::RealTime, "the caller's stays");
            thread.unwrap().join().unwrap();
            Some(heard.0)
        });
        match spun.join().unwrap() {
            Some(policy) => assert_eq!(policy, Policy::Default),
            None => eprintln!("skipped: this user may not have real-time threads"),
        }
    }

    #[test]
    fn a_stack_has_a_size_that_a_thread_can_have() {
        for (asked, size) in [
            (None, STACK),
            (Some("1"), STACK),
            (Some("-1"), STACK),
            (Some("8388608"), 8 << 20),
            (Some("1099511627776"), LARGEST_STACK),
            (Some("18446744073709551615"), LARGEST_STACK),
        ] {
            assert_eq!(stack_for(asked), size, "{asked:?}");
        }
    }

    #[test]
    fn only_the_whole_process_s_policy_is_kept() {
        let (batch, idle) = (Policy::Other(libc::SCHED_BATCH), Policy::Other(libc::SCHED_IDLE));
        for (own, process, leaves) in [
            (Policy::Default, Policy::RealTime, false),
            (Policy::RealTime, Policy::RealTime, true),
            (Policy::RealTime, Policy::Default, true),
            (batch, batch, false),
            (batch, Policy::Default, true),
            (batch, idle, true),
        ] {
            assert_eq!(is_policy_to_leave(own, || process), leaves, "{own:?} in {process:?}");
        }
    }
}
