#![allow(unsafe_code)]

//! Reads the scheduling policy of a thread, and resets it to the default.

use std::io;
use std::mem::zeroed;

/// How the kernel schedules a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The default policy.
    Default,
    /// A real-time policy: runs before all other threads, by priority or deadline.
    RealTime,
    /// Another policy, with the kernel's number.
    Other(libc::c_int),
}

impl Policy {
    pub(crate) fn of_this_thread() -> Policy {
        Policy::of(0)
    }

    /// The policy of the main thread, whose thread id is the process id.
    pub(crate) fn of_the_main_thread() -> Policy {
        Policy::of(rustix::process::getpid().as_raw_pid())
    }

    /// The policy of a thread; the default if the kernel does not tell.
    fn of(thread: libc::pid_t) -> Policy {
        // SAFETY: the call takes and returns integers only. It is made directly, because one C library's
        // wrapper always fails.
        let answer = unsafe { libc::syscall(libc::SYS_sched_getscheduler, thread) };
        match libc::c_int::try_from(answer).map(|policy| policy & !libc::SCHED_RESET_ON_FORK) {
            Ok(libc::SCHED_FIFO | libc::SCHED_RR | libc::SCHED_DEADLINE) => Policy::RealTime,
            Ok(policy @ 1..) => Policy::Other(policy),
            Ok(_) | Err(_) => Policy::Default,
        }
    }
}

/// Gives this thread the default policy, without changing its nice value.
pub(crate) fn set_default_policy() -> io::Result<()> {
    set_policy(libc::SCHED_OTHER, 0)
}

#[cfg(test)]
pub(crate) fn set_real_time_policy() -> bool {
    set_policy(libc::SCHED_FIFO, 1).is_ok()
}

fn set_policy(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    // SAFETY: zeros are valid for a struct of integers. (Some C libraries have several fields.)
    let mut parameters: libc::sched_param = unsafe { zeroed() };
    parameters.sched_priority = priority;
    // SAFETY: the pointer is to a valid `sched_param`, of which the kernel reads the first field. 0 means
    // this thread.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
