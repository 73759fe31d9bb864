//! Changes the user of a thread.

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Changes the user of this thread and of the threads it starts. For the kernel, each thread has its own
/// user.
pub fn leave_root(uid: u32, gid: u32, groups: &[u32]) {
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups).unwrap();
    set_thread_gid(Gid::from_raw(gid)).unwrap();
    set_thread_uid(Uid::from_raw(uid)).unwrap();
}
