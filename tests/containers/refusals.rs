//! A filter that refuses newer calls, with each error that filters use: everything goes on in another way,
//! and whoever does without is told so once.

use super::bus::{Surroundings, Told, run};
use super::common::filter::Refused;
use super::common::role::setting;
use rustix::io::Errno;

/// `SO_PEERPIDFD` and `MFD_NOEXEC_SEAL`, from the kernel's headers.
const PEER_PIDFD: u32 = 77;
const NOEXEC_SEAL: u32 = 8;

const FUTEX_WAITV: libc::c_long = 449;

fn refused(name: &str) -> Refused {
    match name {
        "futex_waitv" => Refused::call(FUTEX_WAITV),
        "membarrier" => Refused::call(libc::SYS_membarrier),
        "noexec_seal" => Refused::call(libc::SYS_memfd_create).with_any_of(1, NOEXEC_SEAL),
        "peer_pidfd" => Refused::call(libc::SYS_getsockopt).with(2, PEER_PIDFD),
        "pidfd_open" => Refused::call(libc::SYS_pidfd_open),
        "pidfd_send_signal" => Refused::call(libc::SYS_pidfd_send_signal),
        "waitid" => Refused::call(libc::SYS_waitid),
        "pwritev2" => Refused::call(libc::SYS_pwritev2),
        "preadv2" => Refused::call(libc::SYS_preadv2),
        other => panic!("{other:?}"),
    }
}

/// Refuses what the settings of this role say. False if filters cannot be had.
pub fn refuse_as_set() -> bool {
    let Some(names) = setting::<String>("REFUSED") else { return true };
    let errno = Errno::from_raw_os_error(setting("ERRNO").unwrap());
    names.split(',').all(|name| refused(name).everywhere(errno))
}

fn under(names: &str, errno: Errno) -> Surroundings {
    Surroundings {
        settings: vec![("REFUSED", names.to_owned()), ("ERRNO", errno.raw_os_error().to_string())],
        ..Surroundings::usual()
    }
}

/// Runs the bus with the refusal on either side and on both, and compares what the parties were told, when
/// they were refused something, with what they should be.
fn check(names: &str, server: &str, publisher: &str, subscriber: &str) {
    for errno in [Errno::PERM, Errno::NOSYS] {
        for (at_server, at_clients) in [(true, false), (false, true), (true, true)] {
            let surroundings = |refuses| if refuses { under(names, errno) } else { Surroundings::usual() };
            let Some(told) = run(&surroundings(at_server), &surroundings(at_clients)) else {
                return eprintln!("skipped: no filter can be set here, so no call can be refused");
            };
            let at = |refuses: bool, calls: &str| if refuses { calls } else { "" }.to_owned();
            let wanted = Told {
                server: at(at_server, server),
                alice: at(at_clients, publisher),
                bob: at(at_clients, subscriber),
            };
            assert_eq!(told, wanted, "{names}: {errno}");
        }
    }
}

#[test]
fn without_futex_waitv() {
    check("futex_waitv", "futex_waitv", "futex_waitv", "futex_waitv");
}

/// Only a publisher makes such barriers, and the server has a topic of its own.
#[test]
fn without_membarrier() {
    check("membarrier", "membarrier", "membarrier", "");
}

/// Clients make no memory files, except for the topics that they publish, whose files the server makes.
#[test]
fn without_the_seal_that_files_are_not_executable() {
    let call = "memfd_create with MFD_NOEXEC_SEAL";
    check("noexec_seal", call, "", "");
}

/// Processes are found by number then.
#[test]
fn without_descriptors_of_peers() {
    check("peer_pidfd", "SO_PEERPIDFD", "", "");
}

#[test]
fn without_descriptors_of_processes_by_number() {
    check("pidfd_open,pidfd_send_signal", "", "", "");
}

/// Pipes show the ends of processes.
#[test]
fn without_any_descriptor_of_a_process() {
    check("peer_pidfd,pidfd_open", "SO_PEERPIDFD and pidfd_open", "", "");
}

#[test]
fn without_ways_to_ask_for_processes_and_to_write_quietly() {
    check("waitid,pwritev2,preadv2", "", "", "");
}

#[test]
fn without_all_of_them() {
    let all =
        "futex_waitv,membarrier,noexec_seal,peer_pidfd,pidfd_open,pidfd_send_signal,waitid,pwritev2,preadv2";
    check(
        all,
        "futex_waitv,memfd_create with MFD_NOEXEC_SEAL,SO_PEERPIDFD and pidfd_open,membarrier",
        "futex_waitv,membarrier",
        "futex_waitv",
    );
}
