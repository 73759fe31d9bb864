//! Users of this process.

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

pub fn is_root() -> bool {
    geteuid().is_root()
}

/// This thread, and those that it starts, are another user's from here on. The kernel keeps users by thread.
pub fn leave_root(uid: u32, gid: u32, groups: &[u32]) {
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups).unwrap();
    set_thread_gid(Gid::from_raw(gid)).unwrap();
    set_thread_uid(Uid::from_raw(uid)).unwrap();
}
