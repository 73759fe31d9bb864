//! A kernel that refuses one system call, or one socket option, played by a filter.

use rustix::io::Errno;
use rustix::thread::{futex, set_no_new_privs};

/// `futex_waitv` has the same number everywhere.
const FUTEX_WAITV: u32 = 449;

/// `SO_PASSRIGHTS`, by which a socket refuses descriptors since Linux 6.16.
const PASS_RIGHTS: u32 = 83;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const SKIP_UNLESS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Where in what the filter sees the call's number and its third argument lie.
const NUMBER: u32 = 0;
const THIRD: u32 = 32;

fn step(code: u16, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf, k }
}

fn answer(errno: Errno) -> libc::sock_filter {
    step(ANSWER, 0, libc::SECCOMP_RET_ERRNO | errno.raw_os_error().unsigned_abs())
}

/// From here on the kernel refuses `futex_waitv` to this thread and those that it starts. False if that cannot be had here.
pub fn refuse_waitv(errno: Errno) -> bool {
    let steps = [
        step(LOAD, 0, NUMBER),
        step(SKIP_UNLESS, 1, FUTEX_WAITV),
        answer(errno),
        step(ANSWER, 0, libc::SECCOMP_RET_ALLOW),
    ];
    install(&steps) && refused() == Some(errno)
}

/// From here on this thread, and those that it starts, find a kernel before 6.16, on which a socket takes descriptors from anybody.
/// False if that cannot be had here.
pub fn refuse_to_refuse_descriptors() -> bool {
    install(&[
        step(LOAD, 0, NUMBER),
        step(SKIP_UNLESS, 3, libc::SYS_setsockopt as u32),
        step(LOAD, 0, THIRD),
        step(SKIP_UNLESS, 1, PASS_RIGHTS),
        answer(Errno::NOPROTOOPT),
        step(ANSWER, 0, libc::SECCOMP_RET_ALLOW),
    ])
}

fn install(steps: &[libc::sock_filter]) -> bool {
    let mut steps = steps.to_vec();
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    set_no_new_privs(true).is_ok() && {
        // SAFETY: `program` and the steps that it points to are alive and valid; the kernel copies them and keeps no pointer.
        let answer =
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        answer == 0
    }
}

/// How the kernel refuses the call, if it does. It has nothing to wait for here, which is refused, too, but otherwise.
fn refused() -> Option<Errno> {
    let nothing = futex::waitv(&[], futex::WaitvFlags::empty(), None, rustix::thread::ClockId::Monotonic);
    nothing.err()
}
