#![allow(unsafe_code)]

//! The scheduling policy of a thread: read, and set back to the default one.

use std::io;
use std::mem::zeroed;

/// How the kernel schedules a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// As any thread.
    Default,
    /// Before all others, by its priority or its deadline.
    RealTime,
    /// By the kernel's number for it.
    Other(libc::c_int),
}

impl Policy {
    pub(crate) fn of_this_thread() -> Policy {
        Policy::of(0)
    }

    /// The process's main thread has the process's number.
    pub(crate) fn of_the_main_thread() -> Policy {
        Policy::of(rustix::process::getpid().as_raw_pid())
    }

    /// The default one, if the kernel does not tell.
    fn of(thread: libc::pid_t) -> Policy {
        // SAFETY: takes a number and gives one. Not by the C library's function of that name: one of them
        // refuses it.
        let answer = unsafe { libc::syscall(libc::SYS_sched_getscheduler, thread) };
        match libc::c_int::try_from(answer).map(|policy| policy & !libc::SCHED_RESET_ON_FORK) {
            Ok(libc::SCHED_FIFO | libc::SCHED_RR | libc::SCHED_DEADLINE) => Policy::RealTime,
            Ok(policy @ 1..) => Policy::Other(policy),
            Ok(_) | Err(_) => Policy::Default,
        }
    }
}

/// Gives this thread the default policy, with its nice value as it is.
pub(crate) fn set_default_policy() -> io::Result<()> {
    set_policy(libc::SCHED_OTHER, 0)
}

#[cfg(test)]
pub(crate) fn set_real_time_policy() -> bool {
    set_policy(libc::SCHED_FIFO, 1).is_ok()
}

fn set_policy(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    // SAFETY: zeros are valid for these plain integers, of which some C libraries have more than one.
    let mut parameters: libc::sched_param = unsafe { zeroed() };
    parameters.sched_priority = priority;
    // SAFETY: the pointer is that of a whole `sched_param`, of which the kernel reads the first number. 0 is
    // this thread.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
