//! Finds out which system calls this process is refused, by making them as the library does.

use std::io;
use std::os::unix::net::UnixStream;

use crate::connect::peer_pidfd;
use crate::os::lacks::untold;
use crate::os::{barrier, futex, memfd};

/// A call that the kernel does not know, or a filter refuses, and what who is refused it does instead.
#[derive(Debug)]
pub struct Refused {
    pub call: &'static str,
    pub error: io::Error,
    pub instead: &'static str,
}

/// The calls that are refused here.
pub fn refused() -> Vec<Refused> {
    let no_memory = memfd::create("ringpost-doctor").err().map(|errno| Refused {
        call: "memfd_create",
        error: errno.into(),
        instead: "cannot start a server, but can be a client",
    });
    if let Ok((here, _there)) = UnixStream::pair() {
        let _ = peer_pidfd(&here, std::process::id());
    }
    let _ = barrier::is_available();
    let _ = futex::sleeps_on_all();
    let lacks = untold().map(|(lack, error)| Refused { call: lack.what(), error, instead: lack.instead() });
    no_memory.into_iter().chain(lacks).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where tests run nothing may be refused, or something may: what is found says so completely.
    #[test]
    fn what_is_refused_is_described() {
        for Refused { call, error, instead } in refused() {
            assert!(!call.is_empty() && !instead.is_empty() && error.raw_os_error().is_some());
        }
    }
}
