//! Paths of the connect channel's socket: the default one, long ones, and whether one is safe to use.

#![forbid(unsafe_code)]

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, statat};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::credentials::{is_root, is_unknown_user, same_user};

/// Why the default socket's directory cannot be used.
///
/// # Examples
///
/// ```no_run
/// use ringpost::PathError;
///
/// match ringpost::default_path() {
///     Ok(path) => println!("{path:?}"),
///     Err(PathError::Foreign { path, owner }) => println!("{path:?} belongs to user {owner}!"),
///     Err(error) => println!("{error}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The path is not a directory. Symbolic links are not followed.
    #[error(
        "{0:?} is not a directory (symbolic links are not followed): remove it, or name a socket \
         (programs: --socket or RINGPOST_SOCKET)"
    )]
    NotADirectory(PathBuf),
    /// The directory belongs to another user.
    #[error(
        "{path:?} belongs to user {owner}{}, who could intercept messages there; name another socket \
         (programs: --socket or RINGPOST_SOCKET)", of_unknown(*owner)
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Other users may access the directory.
    #[error(
        "other users may access {path:?} (mode {mode:03o}): run chmod 700 on it, or name a socket \
         (programs: --socket or RINGPOST_SOCKET)"
    )]
    TooOpen {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A system call failed.
    #[error(
        "cannot use {path:?} for the socket: {source}; name a socket (programs: --socket or RINGPOST_SOCKET)"
    )]
    System {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A note for owners that the user namespace does not know.
fn of_unknown(owner: u32) -> &'static str {
    if is_unknown_user(owner) { " (the number of every user without one in this user namespace)" } else { "" }
}

/// The default path of the server's socket.
///
/// It is `ringpost/bus.sock` under `$XDG_RUNTIME_DIR` if that is an absolute path, else
/// `/tmp/ringpost-UID/bus.sock`. The directory is created if it is missing. It must be a real directory that
/// belongs to this user and that others cannot access (mode 0700). Does not block. The programs look at
/// `$RINGPOST_SOCKET` first; the library does not.
///
/// # Errors
///
/// See [`PathError`].
///
/// # Examples
///
/// ```
/// let path = ringpost::default_path()?;
/// assert_eq!(path.file_name().unwrap(), "bus.sock");
/// # Ok::<(), ringpost::PathError>(())
/// ```
pub fn default_path() -> Result<PathBuf, PathError> {
    let own = rustix::process::geteuid().as_raw();
    let directory = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) if Path::new(&runtime).is_absolute() => PathBuf::from(runtime).join("ringpost"),
        _ => PathBuf::from(format!("/tmp/ringpost-{own}")),
    };
    private_directory(&directory, own)?;
    Ok(directory.join("bus.sock"))
}

/// Makes the path absolute, so that it stays right when the working directory changes. Returns it unchanged
/// if the working directory is unknown; then a relative path leads nowhere anyway.
pub(crate) fn lasting(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// The address of a socket, and a descriptor that must stay open while the address is used.
///
/// A path that is too long for an address is reached through its directory's descriptor. Then only the last
/// component must be short enough.
pub(crate) fn address(path: &Path) -> Result<(SocketAddrUnix, Option<OwnedFd>), Errno> {
    let too_long = match SocketAddrUnix::new(path) {
        Err(errno @ Errno::NAMETOOLONG) => errno,
        address => return address.map(|address| (address, None)),
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(too_long) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, parent, flags, Mode::empty())?;
    let through = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    // Fails if `/proc` is not mounted.
    statat(CWD, &through, AtFlags::empty()).map_err(|_| too_long)?;
    Ok((SocketAddrUnix::new(through.join(name))?, Some(directory)))
}

/// Creates the directory if it is missing, and checks that it is private.
fn private_directory(path: &Path, own: u32) -> Result<(), PathError> {
    let system = |errno: Errno| PathError::System { path: path.to_owned(), source: errno.into() };
    match mkdirat(CWD, path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(system(errno)),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match openat(CWD, path, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(PathError::NotADirectory(path.to_owned())),
        Err(errno) => return Err(system(errno)),
    };
    let found = fstat(&directory).map_err(system)?;
    if !same_user(found.st_uid, own) {
        return Err(PathError::Foreign { path: path.to_owned(), owner: found.st_uid });
    }
    let mode = Mode::from_raw_mode(found.st_mode).bits() & 0o777;
    if mode & 0o077 != 0 {
        return Err(PathError::TooOpen { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Whether a client may trust a server that runs as `server_uid` behind the socket at `path`.
///
/// It may trust its own user, root, and the owner of a socket in a directory where nobody else can put one.
pub(crate) fn trustworthy(path: &Path, own: u32, server_uid: u32) -> bool {
    same_user(server_uid, own)
        || is_root(server_uid)
        || others_socket_is_safe(path, server_uid).unwrap_or(false)
}

fn others_socket_is_safe(path: &Path, server_uid: u32) -> Result<bool, Errno> {
    let look = |path: &Path| -> Result<Stat, Errno> { statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) };
    let socket = look(path)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = look(parent)?;
    let is_directory = FileType::from_raw_mode(directory.st_mode) == FileType::Directory;
    let writable_by_others = directory.st_mode & 0o022 != 0;
    let owner = directory.st_uid;
    Ok(same_user(socket.st_uid, server_uid)
        && is_directory
        && !writable_by_others
        && (same_user(owner, server_uid) || is_root(owner)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn own() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn a_missing_directory_is_made_private() {
        let scratch = scratch();
        let path = scratch.path().join("new");
        private_directory(&path, own()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        private_directory(&path, own()).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_private_is_refused() {
        let scratch = scratch();
        let real = scratch.path().join("real");
        private_directory(&real, own()).unwrap();
        let link = scratch.path().join("link");
        symlink(&real, &link).unwrap();
        assert!(matches!(private_directory(&link, own()), Err(PathError::NotADirectory(_))));
        let file = scratch.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(private_directory(&file, own()), Err(PathError::NotADirectory(_))));
        assert!(matches!(private_directory(&real, own() + 1), Err(PathError::Foreign { .. })));
        fs::set_permissions(&real, PermissionsExt::from_mode(0o750)).unwrap();
        assert!(matches!(private_directory(&real, own()), Err(PathError::TooOpen { mode: 0o750, .. })));
        let nowhere = scratch.path().join("missing/below");
        assert!(matches!(private_directory(&nowhere, own()), Err(PathError::System { .. })));
    }

    /// Users without a number in this user namespace are strangers, even if this process's user has none
    /// either.
    #[test]
    fn users_unknown_to_the_namespace_are_not_trusted() {
        const UNKNOWN: u32 = 65_534;
        let scratch = scratch();
        let path = scratch.path().join("socket");
        fs::write(&path, "").unwrap();
        assert!(!trustworthy(&path, UNKNOWN, UNKNOWN) && trustworthy(&path, UNKNOWN, 0));
        if own() != 0 {
            return eprintln!("skipped: only root can give files away");
        }
        let unknown = Some(UNKNOWN);
        std::os::unix::fs::chown(&path, unknown, unknown).unwrap();
        assert!(!trustworthy(&path, own(), UNKNOWN), "its own socket in root's directory");
        std::os::unix::fs::chown(scratch.path(), unknown, unknown).unwrap();
        assert!(!trustworthy(&path, own(), UNKNOWN));
        fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let error = private_directory(scratch.path(), UNKNOWN).unwrap_err();
        assert!(error.to_string().contains("every user without one"), "{error}");
    }

    #[test]
    fn another_user_s_server_is_trusted_only_where_nobody_else_can_put_a_socket() {
        let scratch = scratch();
        let path = scratch.path().join("socket");
        fs::write(&path, "").unwrap();
        let stranger = own() + 1;
        assert!(trustworthy(&path, own(), own()));
        assert!(trustworthy(&path, own(), 0));
        assert!(!trustworthy(&path, own(), stranger), "the socket is not the stranger's");
        // Another user may trust our socket in our directory.
        assert!(trustworthy(&path, stranger, own()));
        fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o1777)).unwrap();
        assert_eq!(trustworthy(&path, stranger, own()), own() == 0);
    }
}
