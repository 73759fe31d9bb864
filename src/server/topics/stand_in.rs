//! Pipes that show the ends of processes where the system gives out no descriptors of them.
//!
//! A subscriber gets the read end. It hangs up when the server closes the write end: when the publisher is
//! gone, or with the server. So topics do not outlive the server then.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::os::descriptors::Ours;
use crate::wire::Key;

/// A pipe of which nothing is read or written. Dropping it shows the end.
#[derive(Debug)]
pub(super) struct StandIn {
    read: Ours,
    _write: Ours,
}

impl StandIn {
    pub(super) fn new() -> io::Result<StandIn> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(StandIn { read: Ours::new(read), _write: Ours::new(write) })
    }

    /// What a subscriber gets.
    pub(super) fn shown(&self) -> io::Result<OwnedFd> {
        self.read.as_fd().try_clone_to_owned()
    }
}

/// What stands in for the process of a publication that has ended.
pub(super) fn ended() -> io::Result<OwnedFd> {
    StandIn::new()?.shown()
}

/// Those of the clients that publish.
#[derive(Debug, Default)]
pub(super) struct StandIns(HashMap<Key, StandIn>);

impl StandIns {
    /// What stands in for the process of a client, until the client is [removed](Self::remove).
    pub(super) fn of(&mut self, key: Key) -> io::Result<OwnedFd> {
        match self.0.entry(key) {
            Entry::Occupied(known) => known.get().shown(),
            Entry::Vacant(place) => place.insert(StandIn::new()?).shown(),
        }
    }

    pub(super) fn remove(&mut self, key: Key) {
        self.0.remove(&key);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn shows_the_end(descriptor: &OwnedFd) -> bool {
        let mut asked = [PollFd::new(descriptor, PollFlags::IN)];
        poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn each_shows_the_end_of_its_client_alone() {
        let [alice, bob] = [1, 2].map(Key::from_u128);
        let mut all = StandIns::default();
        let shown = [alice, alice, bob].map(|key| all.of(key).unwrap());
        assert_eq!(shown.each_ref().map(shows_the_end), [false; 3]);
        all.remove(alice);
        assert_eq!(shown.each_ref().map(shows_the_end), [true, true, false]);
        all.clear();
        assert!(shows_the_end(&shown[2]) && shows_the_end(&ended().unwrap()));
    }
}
