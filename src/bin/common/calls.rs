//! The system calls of servers and clients, by phase: what docs/SYSCALLS.md lists, the allow-lists in
//! packaging/seccomp contain, and the sandbox of `ringpost-server` allows.

use std::collections::BTreeSet;

/// One side of a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Server,
    Client,
}

/// A part of a process's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A server begins to listen.
    Start,
    /// A client registers.
    Register,
    /// A call while both sides poll.
    Poll,
    /// A call for which they sleep.
    Sleep,
    /// A message is sent and received.
    Message,
    /// A link is made, used and closed.
    Link,
    /// Topics and presence.
    Topic,
    /// The server shuts down, or the client leaves.
    Shutdown,
}

impl Phase {
    pub const ALL: [Phase; 8] = [
        Phase::Start,
        Phase::Register,
        Phase::Poll,
        Phase::Sleep,
        Phase::Message,
        Phase::Link,
        Phase::Topic,
        Phase::Shutdown,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Start => "start",
            Phase::Register => "register",
            Phase::Poll => "poll",
            Phase::Sleep => "sleep",
            Phase::Message => "message",
            Phase::Link => "link",
            Phase::Topic => "topic",
            Phase::Shutdown => "shutdown",
        }
    }
}

/// A system call, and when it is made.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub name: &'static str,
    pub number: libc::c_long,
    /// The phases in which a server makes it, and those in which a client does.
    server: &'static str,
    client: &'static str,
}

impl Call {
    /// Whether it is made by this side in this phase.
    pub fn is_made(&self, side: Side, phase: Phase) -> bool {
        self.phases(side).split_whitespace().any(|name| name == phase.name())
    }

    fn phases(&self, side: Side) -> &'static str {
        match side {
            Side::Server => self.server,
            Side::Client => self.client,
        }
    }
}

macro_rules! calls {
    ($($(#[$only:meta])? $name:ident $number:ident $(: $server:literal, $client:literal)?;)*) => {
        &[$($(#[$only])? Call {
            name: stringify!($name),
            number: libc::$number,
            server: concat!("" $(, $server)?),
            client: concat!("" $(, $client)?),
        },)*]
    };
}

/// The calls of the library.
#[rustfmt::skip]
pub const CALLS: &[Call] = calls! {
    accept4 SYS_accept4: "register link topic shutdown", "";
    bind SYS_bind: "start", "";
    brk SYS_brk: "start register link topic shutdown", "register link topic shutdown";
    clock_gettime SYS_clock_gettime: "register sleep message link topic shutdown", "register sleep message link topic shutdown";
    clock_nanosleep SYS_clock_nanosleep: "start shutdown", "register";
    clone SYS_clone: "start register link topic shutdown", "register link topic shutdown";
    clone3 SYS_clone3: "start register link topic shutdown", "register link topic shutdown";
    close SYS_close: "start register link topic shutdown", "register link topic shutdown";
    connect SYS_connect: "start shutdown", "register link topic shutdown";
    epoll_create1 SYS_epoll_create1: "start", "register";
    epoll_ctl SYS_epoll_ctl: "start register link topic shutdown", "register link topic shutdown";
    epoll_pwait SYS_epoll_pwait: "register link topic shutdown", "register link topic shutdown";
    eventfd2 SYS_eventfd2: "start", "";
    exit SYS_exit: "start register link topic shutdown", "register link topic shutdown";
    fchmod SYS_fchmod: "start topic", "";
    fchmodat SYS_fchmodat: "start", "";
    fchownat SYS_fchownat: "start", "";
    fcntl SYS_fcntl: "start register link topic shutdown", "register link topic shutdown";
    flock SYS_flock: "start", "";
    fstat SYS_fstat: "start register link topic shutdown", "register link topic shutdown";
    fstatfs SYS_fstatfs: "topic", "register link topic shutdown";
    ftruncate SYS_ftruncate: "start register link topic shutdown", "";
    futex SYS_futex: "start register sleep message link topic shutdown", "register sleep message link topic shutdown";
    futex_waitv SYS_futex_waitv: "start register sleep message link topic shutdown", "register sleep message link topic shutdown";
    getegid SYS_getegid: "topic", "";
    geteuid SYS_geteuid: "start register link topic shutdown", "register link topic shutdown";
    getpid SYS_getpid: "start register link topic shutdown", "register link topic shutdown";
    getrandom SYS_getrandom: "start register link topic shutdown", "register link topic shutdown";
    getrusage SYS_getrusage: "register link topic shutdown", "register link topic shutdown";
    getsockopt SYS_getsockopt: "register link topic shutdown", "register link topic shutdown";
    gettid SYS_gettid: "start register link topic shutdown", "register link topic shutdown";
    ioctl SYS_ioctl: "register link topic shutdown", "";
    kill SYS_kill: "register link topic", "";
    listen SYS_listen: "start", "";
    madvise SYS_madvise: "start register link topic shutdown", "register link topic shutdown";
    membarrier SYS_membarrier: "topic", "topic";
    memfd_create SYS_memfd_create: "start register link topic shutdown", "";
    mmap SYS_mmap: "start register link topic shutdown", "register link topic shutdown";
    mprotect SYS_mprotect: "start register link topic shutdown", "register link topic shutdown";
    mremap SYS_mremap: "start register link topic shutdown", "register link topic shutdown";
    munmap SYS_munmap: "start register link topic shutdown", "register link topic shutdown";
    newfstatat SYS_newfstatat: "start shutdown", "";
    #[cfg(target_arch = "x86_64")] open SYS_open: "link topic", "";
    openat SYS_openat: "start register link topic", "register";
    pidfd_open SYS_pidfd_open: "register link topic", "";
    pipe2 SYS_pipe2: "link topic", "";
    ppoll SYS_ppoll: "register link topic shutdown", "register link topic shutdown";
    prctl SYS_prctl: "start register link topic shutdown", "register link topic shutdown";
    pread64 SYS_pread64: "topic", "";
    preadv2 SYS_preadv2: "", "link topic shutdown";
    prlimit64 SYS_prlimit64: "start register link topic shutdown", "";
    pwritev2 SYS_pwritev2: "link topic shutdown", "link topic shutdown";
    read SYS_read: "start register", "register link topic";
    recvfrom SYS_recvfrom: "register link topic shutdown", "register link topic shutdown";
    recvmsg SYS_recvmsg: "", "register link topic shutdown";
    rseq SYS_rseq: "start register link topic shutdown", "register link topic shutdown";
    rt_sigpending SYS_rt_sigpending: "start register link topic shutdown", "register link topic shutdown";
    rt_sigprocmask SYS_rt_sigprocmask: "start register link topic shutdown", "register link topic shutdown";
    rt_sigtimedwait SYS_rt_sigtimedwait: "start register link topic shutdown", "register link topic shutdown";
    sched_getaffinity SYS_sched_getaffinity: "start register link topic shutdown", "register link topic shutdown";
    sched_getscheduler SYS_sched_getscheduler: "start register link topic shutdown", "register link topic shutdown";
    sched_yield SYS_sched_yield: "register sleep message link topic shutdown", "register sleep message link topic shutdown";
    sendmsg SYS_sendmsg: "register link topic shutdown", "";
    sendto SYS_sendto: "register link topic shutdown", "register link topic shutdown";
    set_robust_list SYS_set_robust_list: "start register link topic shutdown", "register link topic shutdown";
    setsockopt SYS_setsockopt: "start", "register link topic shutdown";
    shutdown SYS_shutdown: "register link topic shutdown", "register link topic shutdown";
    sigaltstack SYS_sigaltstack: "start register link topic shutdown", "register link topic shutdown";
    socket SYS_socket: "start", "register link topic shutdown";
    socketpair SYS_socketpair: "start", "register";
    statx SYS_statx: "start register", "register";
    unlinkat SYS_unlinkat: "start shutdown", "";
    utimensat SYS_utimensat: "register", "";
    waitid SYS_waitid: "", "link topic shutdown";
    write SYS_write: "link topic shutdown", "link topic";
};

/// What `ringpost-server` needs besides while it runs: for its log, signals, configuration, memory, threads,
/// and to tell a service manager how it is.
#[rustfmt::skip]
pub const PROGRAM: &[Call] = calls! {
    brk SYS_brk;
    clock_nanosleep SYS_clock_nanosleep;
    clone SYS_clone;
    clone3 SYS_clone3;
    connect SYS_connect;
    exit SYS_exit;
    exit_group SYS_exit_group;
    fsync SYS_fsync;
    getdents64 SYS_getdents64;
    inotify_add_watch SYS_inotify_add_watch;
    inotify_init1 SYS_inotify_init1;
    ioctl SYS_ioctl;
    kill SYS_kill;
    lseek SYS_lseek;
    madvise SYS_madvise;
    mmap SYS_mmap;
    mprotect SYS_mprotect;
    mremap SYS_mremap;
    munmap SYS_munmap;
    openat SYS_openat;
    prctl SYS_prctl;
    read SYS_read;
    readlinkat SYS_readlinkat;
    recvmsg SYS_recvmsg;
    renameat SYS_renameat;
    renameat2 SYS_renameat2;
    restart_syscall SYS_restart_syscall;
    rseq SYS_rseq;
    rt_sigaction SYS_rt_sigaction;
    rt_sigprocmask SYS_rt_sigprocmask;
    rt_sigreturn SYS_rt_sigreturn;
    sched_yield SYS_sched_yield;
    set_robust_list SYS_set_robust_list;
    sigaltstack SYS_sigaltstack;
    socket SYS_socket;
    socketpair SYS_socketpair;
    statx SYS_statx;
    tgkill SYS_tgkill;
    unlinkat SYS_unlinkat;
    write SYS_write;
    writev SYS_writev;
    #[cfg(target_arch = "x86_64")] open SYS_open;
    #[cfg(target_arch = "x86_64")] poll SYS_poll;
    #[cfg(target_arch = "x86_64")] readlink SYS_readlink;
    #[cfg(target_arch = "x86_64")] rename SYS_rename;
    #[cfg(target_arch = "x86_64")] unlink SYS_unlink;
};

/// What a program needs besides until it runs: the kernel's and the loader's part, then its own start.
#[rustfmt::skip]
pub const LOAD: &[Call] = calls! {
    execve SYS_execve;
    faccessat SYS_faccessat;
    getsockname SYS_getsockname;
    landlock_add_rule SYS_landlock_add_rule;
    landlock_create_ruleset SYS_landlock_create_ruleset;
    landlock_restrict_self SYS_landlock_restrict_self;
    mkdirat SYS_mkdirat;
    newfstatat SYS_newfstatat;
    pread64 SYS_pread64;
    seccomp SYS_seccomp;
    set_tid_address SYS_set_tid_address;
    umask SYS_umask;
    #[cfg(target_arch = "x86_64")] access SYS_access;
    #[cfg(target_arch = "x86_64")] arch_prctl SYS_arch_prctl;
    #[cfg(target_arch = "x86_64")] mkdir SYS_mkdir;
};

/// What `ringpost` needs besides [`PROGRAM`] and [`LOAD`]: a terminal, and programs that it starts.
#[rustfmt::skip]
pub const TOOLS: &[Call] = calls! {
    chdir SYS_chdir;
    dup SYS_dup;
    dup3 SYS_dup3;
    getegid SYS_getegid;
    geteuid SYS_geteuid;
    getgid SYS_getgid;
    getpgid SYS_getpgid;
    getppid SYS_getppid;
    getuid SYS_getuid;
    pidfd_open SYS_pidfd_open;
    pidfd_send_signal SYS_pidfd_send_signal;
    pipe2 SYS_pipe2;
    setpgid SYS_setpgid;
    setsid SYS_setsid;
    wait4 SYS_wait4;
    waitid SYS_waitid;
    #[cfg(target_arch = "x86_64")] dup2 SYS_dup2;
    #[cfg(target_arch = "x86_64")] fork SYS_fork;
    #[cfg(target_arch = "x86_64")] vfork SYS_vfork;
};

/// The names of all calls that a program of this side may make, sorted.
fn all_of(side: Side) -> BTreeSet<&'static str> {
    let library = CALLS.iter().filter(|call| !call.phases(side).is_empty());
    let tools: &[Call] = if side == Side::Client { TOOLS } else { &[] };
    library.chain(PROGRAM).chain(LOAD).chain(tools).map(|call| call.name).collect()
}

/// The number of a call of these tables.
pub fn number_of(name: &str) -> Option<i64> {
    let known = [CALLS, PROGRAM, LOAD, TOOLS].into_iter().flatten();
    known.into_iter().find(|call| call.name == name).map(|call| call.number)
}

/// The allow-list of a side, in the form of OCI runtimes: packaging/seccomp.
pub fn allow_list(side: Side) -> String {
    let names: Vec<String> = all_of(side).into_iter().map(|name| format!("        \"{name}\"")).collect();
    format!(
        "{{\n  \"defaultAction\": \"SCMP_ACT_ERRNO\",\n  \"defaultErrnoRet\": 1,\n  \"architectures\": [\"SCMP_ARCH_X86_64\", \
         \"SCMP_ARCH_AARCH64\"],\n  \"syscalls\": [\n    {{\n      \"names\": [\n{}\n      ],\n      \"action\": \
         \"SCMP_ACT_ALLOW\"\n    }}\n  ]\n}}\n",
        names.join(",\n")
    )
}

/// The tables of docs/SYSCALLS.md.
pub fn tables() -> String {
    let mut text = String::from("| call | server | client |\n| --- | --- | --- |\n");
    for call in CALLS {
        let phases = |side| match call.phases(side) {
            "" => "–".to_owned(),
            phases => phases.replace(' ', ", "),
        };
        text.push_str(&format!(
            "| `{}` | {} | {} |\n",
            call.name,
            phases(Side::Server),
            phases(Side::Client)
        ));
    }
    for (who, calls) in [
        ("`ringpost-server` besides, while it runs", PROGRAM),
        ("Both programs, until they run", LOAD),
        ("`ringpost` besides, which has a terminal and starts programs", TOOLS),
    ] {
        let names: Vec<String> = calls.iter().map(|call| format!("`{}`", call.name)).collect();
        text.push_str(&format!("\n{who}: {}.\n", names.join(", ")));
    }
    text
}
