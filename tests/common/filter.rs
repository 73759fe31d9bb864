//! Makes one system call or socket option fail, by a seccomp filter, to simulate old or restricted kernels.

use rustix::io::Errno;
use rustix::thread::{futex, set_no_new_privs};

/// `futex_waitv` has the same number everywhere.
const FUTEX_WAITV: libc::c_long = 449;

/// `SO_PASSRIGHTS`, by which a socket refuses descriptors since Linux 6.16.
const PASS_RIGHTS: u32 = 83;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const SKIP_UNLESS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const SKIP_WITHOUT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The offsets of the call's number and of its first argument in `seccomp_data`.
const NUMBER: u32 = 0;
const FIRST: u32 = 16;

fn step(code: u16, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf, k }
}

fn answer(errno: Errno) -> libc::sock_filter {
    step(ANSWER, 0, libc::SECCOMP_RET_ERRNO | errno.raw_os_error().unsigned_abs())
}

/// A system call to refuse, or only its calls with a certain value of an argument.
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    call: u32,
    /// An argument, how it is compared, and with what.
    argument: Option<(u32, u16, u32)>,
}

impl Refused {
    pub fn call(number: libc::c_long) -> Refused {
        Refused { call: number as u32, argument: None }
    }

    /// Arguments are counted from 0.
    pub fn with(self, argument: u32, value: u32) -> Refused {
        Refused { argument: Some((argument, SKIP_UNLESS, value)), ..self }
    }

    /// Only the calls that have one of these bits in an argument.
    pub fn with_any_of(self, argument: u32, bits: u32) -> Refused {
        Refused { argument: Some((argument, SKIP_WITHOUT, bits)), ..self }
    }

    fn steps(self, errno: Errno) -> Vec<libc::sock_filter> {
        let allow = step(ANSWER, 0, libc::SECCOMP_RET_ALLOW);
        match self.argument {
            None => vec![step(LOAD, 0, NUMBER), step(SKIP_UNLESS, 1, self.call), answer(errno), allow],
            Some((argument, unless, value)) => vec![
                step(LOAD, 0, NUMBER),
                step(SKIP_UNLESS, 3, self.call),
                step(LOAD, 0, FIRST + 8 * argument),
                step(unless, 1, value),
                answer(errno),
                allow,
            ],
        }
    }

    /// Refuses it from now on to this thread and the threads it starts. False if filters cannot be installed.
    pub fn here(self, errno: Errno) -> bool {
        install(&self.steps(errno), 0)
    }

    /// Like [`here`](Self::here), for all threads of this process.
    pub fn everywhere(self, errno: Errno) -> bool {
        install(&self.steps(errno), libc::SECCOMP_FILTER_FLAG_TSYNC)
    }
}

/// Refuses `futex_waitv` from now on to this thread and the threads it starts. False if filters cannot be
/// installed.
pub fn refuse_waitv(errno: Errno) -> bool {
    Refused::call(FUTEX_WAITV).here(errno) && refused() == Some(errno)
}

/// Simulates, for this thread and the threads it starts, a kernel before 6.16, which cannot refuse
/// descriptors. False if filters cannot be installed.
pub fn refuse_to_refuse_descriptors() -> bool {
    Refused::call(libc::SYS_setsockopt).with(2, PASS_RIGHTS).here(Errno::NOPROTOOPT)
}

fn install(steps: &[libc::sock_filter], flags: libc::c_ulong) -> bool {
    let mut steps = steps.to_vec();
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    set_no_new_privs(true).is_ok() && {
        // SAFETY: `program` and its steps are valid; the kernel copies them and keeps no pointer.
        let answer = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        };
        answer == 0
    }
}

/// The error with which the kernel refuses `futex_waitv`, if it does. The call has nothing to wait for, which
/// fails with another error.
fn refused() -> Option<Errno> {
    let nothing = futex::waitv(&[], futex::WaitvFlags::empty(), None, rustix::thread::ClockId::Monotonic);
    nothing.err()
}
