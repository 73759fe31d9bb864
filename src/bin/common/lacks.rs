//! Finds out which system calls this process is refused, by making them as the library does.

use std::io;
use std::os::unix::net::UnixStream;

use crate::connect::peer_pidfd;
use crate::os::lacks::untold;
use crate::os::{barrier, futex, memfd};

/// A call that the kernel does not know, or a filter refuses, and what the library does instead.
#[derive(Debug)]
pub struct Refused {
    pub call: &'static str,
    pub error: io::Error,
    pub instead: &'static str,
}

/// The calls that are refused and can be done without. Fails if one is refused that nothing can replace.
pub fn refused() -> Result<Vec<Refused>, String> {
    let cannot = |call: &str, error: io::Error| format!("{call} is refused: {error}");
    memfd::create("ringpost-doctor").map_err(|errno| cannot("memfd_create", errno.into()))?;
    let (here, _there) = UnixStream::pair().map_err(|error| cannot("socketpair", error))?;
    let _ = peer_pidfd(&here, std::process::id());
    let _ = barrier::is_available();
    let _ = futex::sleeps_on_all();
    Ok(untold().map(|(lack, error)| Refused { call: lack.what(), error, instead: lack.instead() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where tests run nothing may be refused, or something may: what is found says so completely.
    #[test]
    fn what_is_refused_is_described() {
        for Refused { call, error, instead } in refused().unwrap() {
            assert!(!call.is_empty() && !instead.is_empty() && error.raw_os_error().is_some());
        }
    }
}
