#![allow(unsafe_code)]

//! What no safe wrapper offers: some socket options, or not for all their values; what one thread has used; a
//! thread's signals and its scheduling policy.

use std::io;
use std::marker::PhantomData;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// `SO_PEERGROUPS` (Linux 4.13), `SO_PEERPIDFD` (Linux 6.5) and `SO_PASSRIGHTS` (Linux 6.16), from the
/// kernel's generic socket header.
const PEER_GROUPS: libc::c_int = 59;
const PEER_PIDFD: libc::c_int = 77;
const PASS_RIGHTS: libc::c_int = 83;

/// `SO_PEERCRED`. The pid is 0 if the peer lives in a process namespace that this one does not see.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the pointer and `bytes` describe `found`, plain integers for any of whose values there is a
    // meaning.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &mut bytes,
        )
    };
    if answer == 0 { Ok(found) } else { Err(io::Error::last_os_error()) }
}

/// From now on nobody can send descriptors to this Unix socket, nor to those that it will accept: the sender
/// gets `EPERM`. An error where the kernel does not know the option.
pub(crate) fn refuse_descriptors(socket: BorrowedFd<'_>) -> io::Result<()> {
    let pass: libc::c_int = 0;
    // SAFETY: the pointer and the length are those of a plain integer, which the kernel only reads. The
    // descriptor is open: it is borrowed.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            PASS_RIGHTS,
            (&raw const pass).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How much of what was sent on this Unix socket the other side has neither received nor lost by closing
/// (`SIOCOUTQ`). It has no unit: 0 is nothing.
pub(crate) fn unreceived(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut amount: libc::c_int = 0;
    // SAFETY: the request stores an integer where the pointer points, and does nothing else. The descriptor
    // is open: it is borrowed.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut amount) };
    if answer == 0 { Ok(amount.unsigned_abs()) } else { Err(io::Error::last_os_error()) }
}

/// What this thread has used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThreadUse {
    pub(crate) cpu: Duration,
    /// How often it went to sleep of its own accord.
    pub(crate) sleeps: i64,
}

impl ThreadUse {
    pub(crate) fn now() -> ThreadUse {
        // SAFETY: `rusage` is made of integers alone, for which zeros are valid.
        let mut usage: libc::rusage = unsafe { zeroed() };
        // SAFETY: the pointer is that of a whole `rusage`, which the kernel fills. The call fails for an
        // unknown first argument only, and then leaves the zeros.
        unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
        // The times in it are brought up to date every few milliseconds only; this one is exact.
        ThreadUse { cpu: clock(libc::CLOCK_THREAD_CPUTIME_ID), sleeps: usage.ru_nvcsw }
    }
}

/// What a clock shows. (By way of `rustix` it ended the instruction counts, which run below valgrind, with
/// signal 11.)
pub(crate) fn clock(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is that of a whole `timespec`, which the kernel fills. Should the call fail, the
    // zeros stay.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Blocks all signals in this thread, until it is dropped, but those that an instruction of the thread itself
/// raises. Threads that are started meanwhile inherit that.
pub(crate) struct BlockedSignals {
    before: libc::sigset_t,
    /// The mask is a thread's: it must be dropped in the same one.
    _not_send: PhantomData<*const ()>,
}

/// A handler for these acts for the very thread that raised one. If it is blocked there, the kernel ends the
/// process.
const OF_INSTRUCTIONS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

impl BlockedSignals {
    pub(crate) fn begin() -> BlockedSignals {
        // SAFETY: a signal set is made of integers alone, for which zeros are valid. `sigfillset` and
        // `sigdelset` write to the whole sets that they are given, and fail for signals that do not
        // exist only.
        let (all, mut before) = unsafe {
            let mut all: libc::sigset_t = zeroed();
            libc::sigfillset(&raw mut all);
            for signal in OF_INSTRUCTIONS {
                libc::sigdelset(&raw mut all, signal);
            }
            (all, zeroed())
        };
        // SAFETY: both are whole sets. The mask of this thread is all that changes; it fails for an unknown
        // first argument only.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before) };
        BlockedSignals { before, _not_send: PhantomData }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: a whole set, which the same call has filled; no other is asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// Does something for which the kernel raises SIGXFSZ in this thread if it exceeds the limit of file sizes,
/// and which then fails with EFBIG. The signal is taken back, so that it does not end the process and no
/// handler of the program sees it. One that was pending before stays pending.
pub(crate) fn without_sigxfsz<T>(act: impl FnOnce() -> T) -> T {
    // SAFETY: signal sets are made of integers alone, for which zeros are valid; the calls write to whole
    // sets, and fail for signals that do not exist only.
    let (only, mut before, mut pending) = unsafe {
        let mut only: libc::sigset_t = zeroed();
        libc::sigaddset(&raw mut only, libc::SIGXFSZ);
        (only, zeroed::<libc::sigset_t>(), zeroed::<libc::sigset_t>())
    };
    // SAFETY: all are whole sets. What changes is this thread's mask; the test reads a set that the call
    // before has filled.
    let was_pending = unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const only, &raw mut before);
        libc::sigpending(&raw mut pending);
        libc::sigismember(&raw const pending, libc::SIGXFSZ) == 1
    };
    let done = act();
    if !was_pending {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a whole set and a whole time; nothing is to be told of the signal. It takes one that is
        // pending, and does not wait.
        unsafe { libc::sigtimedwait(&raw const only, std::ptr::null_mut(), &raw const at_once) };
    }
    // SAFETY: a whole set, which the first call has filled.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    done
}

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

/// The supplementary groups that the peer of a Unix socket had when it connected.
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let room = groups.len() * size_of::<libc::gid_t>();
        let mut bytes = room as libc::socklen_t;
        // SAFETY: the pointer and `bytes` describe the vector's initialised memory; the kernel writes at most
        // that many bytes there and the length to `bytes`. The descriptor is open: it is borrowed.
        let answer = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                PEER_GROUPS,
                groups.as_mut_ptr().cast(),
                &mut bytes,
            )
        };
        let needed = bytes as usize / size_of::<libc::gid_t>();
        if answer == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= groups.len() {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

/// A pidfd of the process that connected: unlike its number it is never another process's. An error where the
/// kernel does not know the option, or the process is gone.
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut fd: RawFd = -1;
    let mut bytes = size_of::<RawFd>() as libc::socklen_t;
    // SAFETY: the pointer and `bytes` describe `fd`, which the kernel fills with a descriptor.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, PEER_PIDFD, (&raw mut fd).cast(), &mut bytes)
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: the call succeeded and made this descriptor for us; nobody else knows it. It is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Gid;
    use rustix::thread::set_thread_groups;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    /// One that the kernel sent is taken; one that was there before stays.
    #[test]
    fn only_the_signal_of_the_act_itself_is_taken_back() {
        fn pending() -> bool {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigPnd:")).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (libc::SIGXFSZ - 1) != 0
        }
        fn raise() {
            // SAFETY: sends a signal, which is blocked, to this thread.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGXFSZ) };
            assert!(pending());
        }
        // The mask of a thread that ends with the test.
        std::thread::spawn(|| {
            without_sigxfsz(raise);
            assert!(!pending(), "and the process lives");
            // The thread ends with it, and the pending signal with the thread.
            std::mem::forget(BlockedSignals::begin());
            raise();
            without_sigxfsz(raise);
            assert!(pending(), "the first one is not ours");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_a_thread_has_used_grows_by_what_it_does() {
        let before = ThreadUse::now();
        while ThreadUse::now().cpu < before.cpu + Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        let between = ThreadUse::now();
        std::thread::sleep(Duration::from_millis(1)); // nothing is waited for: the sleep is what is counted
        let after = ThreadUse::now();
        assert!(between.sleeps < after.sleeps);
    }

    #[test]
    fn what_was_not_received_is_told_until_it_is_received_or_lost() {
        use std::io::{Read, Write};
        let (mut here, mut there) = UnixStream::pair().unwrap();
        assert_eq!(unreceived(here.as_fd()).unwrap(), 0);
        here.write_all(b"x").unwrap();
        assert!(unreceived(here.as_fd()).unwrap() > 0);
        there.read_exact(&mut [0]).unwrap();
        assert_eq!(unreceived(here.as_fd()).unwrap(), 0);
        here.write_all(b"y").unwrap();
        drop(there);
        assert_eq!(unreceived(here.as_fd()).unwrap(), 0);
    }

    #[test]
    fn a_peer_in_this_process_is_this_process() {
        let (here, _there) = UnixStream::pair().unwrap();
        let found = peer_credentials(here.as_fd()).unwrap();
        assert_eq!(u32::try_from(found.pid), Ok(std::process::id()));
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        assert_eq!((found.uid, found.gid), (user.as_raw(), group.as_raw()));
    }

    #[test]
    fn a_peer_in_this_process_has_this_process_s_groups() {
        let (here, _there) = UnixStream::pair().unwrap();
        let mut groups = peer_groups(here.as_fd()).unwrap();
        let mut own: Vec<u32> = rustix::process::getgroups().unwrap().iter().map(|g| g.as_raw()).collect();
        groups.sort_unstable();
        own.sort_unstable();
        assert_eq!(groups, own);
    }

    /// More groups than there is room for at the first attempt.
    #[test]
    fn all_of_many_groups_are_told() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("skipped: only root can be a member of any group");
        }
        let many: Vec<u32> = (1..=1000).collect();
        let gids: Vec<Gid> = many.iter().map(|gid| Gid::from_raw(*gid)).collect();
        // The groups of that thread alone, which ends with the test.
        let found = std::thread::spawn(move || {
            set_thread_groups(&gids).unwrap();
            let (here, _there) = UnixStream::pair().unwrap();
            peer_groups(here.as_fd()).unwrap()
        });
        assert_eq!(found.join().unwrap(), many);
    }

    #[test]
    fn what_is_no_socket_has_no_peer() {
        let (pipe, _writer) = io::pipe().unwrap();
        let errors = [
            peer_credentials(pipe.as_fd()).map(|_| ()).unwrap_err(),
            peer_groups(pipe.as_fd()).map(|_| ()).unwrap_err(),
            peer_pidfd(pipe.as_fd()).map(|_| ()).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK), "{error}");
        }
    }

    #[test]
    fn a_peer_s_pidfd_is_the_peer_s_and_closed_on_exec() {
        let (here, _there) = UnixStream::pair().unwrap();
        match peer_pidfd(here.as_fd()) {
            Ok(fd) => {
                assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
                let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
                assert!(about.contains(&format!("\nPid:\t{}\n", std::process::id())), "{about}");
            }
            // Before Linux 6.5.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT), "{error}"),
        }
    }
}
