//! Advice for error texts: what to do about a failed system call.

#![forbid(unsafe_code)]

use std::io;

/// Advice about a lack of resources; empty for other errors.
pub(crate) fn on_resources(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE) => "; raise the limit of open files (ulimit -n)",
        Some(libc::ENFILE) => "; the whole system has too many files open, close some",
        Some(libc::ENOMEM) => {
            "; free some memory, raise the limits of address space and mappings (ulimit -v, sysctl vm.max_map_count), \
             or use fewer clients or smaller rings"
        }
        Some(libc::EFBIG) => "; raise the limit of file sizes, which memory files have too (ulimit -f)",
        // The error for a process that may not have more threads. For memory, see `on_memory`.
        Some(libc::EAGAIN) => {
            "; raise the limits of processes and threads (ulimit -u, sysctl kernel.threads-max, pids.max of a container)"
        }
        _ => "",
    }
}

/// Advice about a pipe that could not be made. The error is ENFILE also if the user has too many pages in
/// pipes.
pub(crate) fn on_pipes(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENFILE) => {
            "; its user has as many pages in pipes as it may, or the whole system has too many files open: raise              /proc/sys/fs/pipe-user-pages-hard or fs.file-max, or close some"
        }
        _ => on_resources(error),
    }
}

/// Advice about memory that could not be mapped. The error is EAGAIN if the process locks all its memory and
/// has reached the limit.
pub(crate) fn on_memory(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => {
            "; raise the limit of locked memory (ulimit -l), or lock less: this process locks what it maps"
        }
        _ => on_resources(error),
    }
}

/// Advice about an operation that needs memory and threads, for both of which the error may be EAGAIN. For a
/// process that locks memory it names that limit, which is by far the smaller one.
pub(crate) fn on_memory_or_threads(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EAGAIN) if locked_memory() > 0 => on_memory(error),
        _ => on_resources(error),
    }
}

/// The bytes of memory that this process has locked; 0 if the kernel does not tell.
pub(crate) fn locked_memory() -> u64 {
    locked_bytes(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()).unwrap_or(0)
}

fn locked_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Advice about a connection that could not be accepted or made.
pub(crate) fn on_connection(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOMEM | libc::ENOBUFS) => {
            "; the system has no memory for it, free some (or raise memory.max of a container)"
        }
        Some(libc::EAGAIN) => "; its queue is full, try again",
        _ => on_resources(error),
    }
}

/// Advice about an operation that failed for a path.
pub(crate) fn on_place(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "; make its directory first, or choose another path",
        Some(libc::ENOTDIR) => "; a part of the path is a file, choose another path",
        Some(libc::EISDIR | libc::EADDRINUSE) => "; remove what lies there, or choose another path",
        Some(libc::ELOOP) => "; symbolic links are not followed here, choose another path",
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => "; choose a path where this user may write",
        Some(libc::EINVAL | libc::ENAMETOOLONG) => "; choose another path",
        Some(libc::ENOSPC | libc::EDQUOT) => "; make room there, or choose another path",
        _ => on_resources(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_locked_is_found() {
        assert_eq!(locked_bytes("VmPeak:\t 10 kB\nVmLck:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(locked_bytes(&std::fs::read_to_string("/proc/self/status").unwrap()), Some(0));
        assert_eq!(locked_bytes("VmPeak:\t 10 kB\n"), None);
    }

    #[test]
    fn whatever_lacks_has_a_remedy_and_anything_else_none() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EFBIG] {
            let error = io::Error::from_raw_os_error(code);
            assert!(on_resources(&error).starts_with("; "), "{error}");
            assert_eq!(on_place(&error), on_resources(&error));
        }
        // The same error means something else for other operations.
        let on = |code, of: fn(&io::Error) -> &'static str| of(&io::Error::from_raw_os_error(code));
        assert!(
            on(libc::EAGAIN, on_resources).contains("ulimit -u")
                && on(libc::EAGAIN, on_memory).contains("ulimit -l")
        );
        assert!(
            on(libc::ENOMEM, on_connection).contains("memory")
                && !on(libc::ENOMEM, on_connection).contains("ulimit")
        );
        assert!(on(libc::EMFILE, on_connection).contains("ulimit -n"));
        assert!(on(libc::EMFILE, on_pipes).contains("ulimit -n"));
        assert!(on(libc::ENFILE, on_pipes).contains("pipe-user-pages-hard"));
        let error = io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(on_resources(&error), "");
        assert!(on_place(&error).starts_with("; "));
        assert_eq!(on_place(&io::Error::other("something")), "");
    }
}
