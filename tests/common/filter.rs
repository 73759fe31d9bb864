//! A kernel that refuses one system call, played by a filter.

use rustix::io::Errno;
use rustix::thread::{futex, set_no_new_privs};

/// `futex_waitv` has the same number everywhere.
const FUTEX_WAITV: u32 = 449;

/// From here on the kernel refuses `futex_waitv` to this thread and those that it starts. False if that cannot be had here.
pub fn refuse_waitv(errno: Errno) -> bool {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const SKIP_UNLESS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut steps = [
        // The call's number comes first in what the filter sees.
        step(LOAD, 0, 0),
        step(SKIP_UNLESS, 1, FUTEX_WAITV),
        step(ANSWER, 0, libc::SECCOMP_RET_ERRNO | errno.raw_os_error().unsigned_abs()),
        step(ANSWER, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    let set = set_no_new_privs(true).is_ok() && {
        // SAFETY: `program` and the steps that it points to are alive and valid; the kernel copies them and keeps no pointer.
        let answer =
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        answer == 0
    };
    set && refused() == Some(errno)
}

/// How the kernel refuses the call, if it does. It has nothing to wait for here, which is refused, too, but otherwise.
fn refused() -> Option<Errno> {
    let nothing = futex::waitv(&[], futex::WaitvFlags::empty(), None, rustix::thread::ClockId::Monotonic);
    nothing.err()
}
