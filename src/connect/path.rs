//! Where the connect channel lies.

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
    /// It exists but is not a directory; a symbolic link is not followed.
    #[error(
        "{0:?} is not a directory (symbolic links are not followed): remove it, or name a socket \
         (--socket or RINGPOST_SOCKET for the programs)"
    )]
    NotADirectory(PathBuf),
    /// It belongs to another user.
    #[error(
        "{path:?} belongs to user {owner}, not to us{}: somebody may be waiting for our messages there; name another \
         socket (--socket or RINGPOST_SOCKET for the programs)", of_unknown(*owner)
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Others may enter or change it.
    #[error(
        "{path:?} is open to others (mode {mode:03o}): run chmod 700 on it, or name a socket (--socket or \
         RINGPOST_SOCKET for the programs)"
    )]
    TooOpen {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A system call failed.
    #[error(
        "cannot use {path:?} for the socket: {source}; name a socket (--socket or RINGPOST_SOCKET for the programs)"
    )]
    System {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// What such a number says.
fn of_unknown(owner: u32) -> &'static str {
    if is_unknown_user(owner) { " for certain (it is the number of everyone who has none here)" } else { "" }
}

/// The default path of the connect channel: `ringpost/bus.sock` under `$XDG_RUNTIME_DIR` if that is an
/// absolute path, or else `ringpost-UID/bus.sock` under `/tmp`. The directory is made if it is missing, and
/// must be a real one, ours, and closed to others (mode 0700). Does not block. The programs look at
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

/// The same place, whatever the process makes its working directory later. As it was if that cannot be told;
/// then nothing is found there either.
pub(crate) fn lasting(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// The address of a socket, and what must stay open as long as it is used: a path that is too long for an
/// address is reached by way of its directory's descriptor. Only the last name must be short enough, then.
pub(crate) fn address(path: &Path) -> Result<(SocketAddrUnix, Option<OwnedFd>), Errno> {
    let too_long = match SocketAddrUnix::new(path) {
        Err(errno @ Errno::NAMETOOLONG) => errno,
        address => return address.map(|address| (address, None)),
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(too_long) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, parent, flags, Mode::empty())?;
    let through = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    // Without that file system there is no such way.
    statat(CWD, &through, AtFlags::empty()).map_err(|_| too_long)?;
    Ok((SocketAddrUnix::new(through.join(name))?, Some(directory)))
}

/// Makes the directory if it is missing, and checks it.
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

/// Whether a client should believe a server that runs as `server_uid` behind the socket at `path`: one of our
/// own or of root, or the owner of a socket in a directory in which nobody else can put one.
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
    fn squatted_places_are_refused() {
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

    /// What belongs to users who have no number in this user namespace belongs to strangers, also if this
    /// process's user has none.
    #[test]
    fn nobody_trusts_those_who_are_unknown() {
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
        assert!(error.to_string().contains("everyone who has none"), "{error}");
    }

    #[test]
    fn a_foreign_server_is_believed_only_where_nobody_else_can_put_a_socket() {
        let scratch = scratch();
        let path = scratch.path().join("socket");
        fs::write(&path, "").unwrap();
        let stranger = own() + 1;
        assert!(trustworthy(&path, own(), own()));
        assert!(trustworthy(&path, own(), 0));
        assert!(!trustworthy(&path, own(), stranger), "the socket is not the stranger's");
        // From a stranger's view, our own socket in our own directory is safe to use.
        assert!(trustworthy(&path, stranger, own()));
        fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o1777)).unwrap();
        assert_eq!(trustworthy(&path, stranger, own()), own() == 0);
    }
}
