//! `SocketFile`: the file of a server's socket, whose mode and group say who can reach the server.

#![forbid(unsafe_code)]

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, chmod, chownat, fstat, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::listener::ListenError;

/// A socket's file, and to whom it is open.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Its device and inode number.
    inode: (u64, u64),
    /// The mode and the group that it was given.
    open_to: Mutex<(u32, Option<u32>)>,
}

impl SocketFile {
    pub(crate) fn new(path: &Path, inode: (u64, u64), open_to: (u32, Option<u32>)) -> SocketFile {
        SocketFile { path: path.to_owned(), inode, open_to: Mutex::new(open_to) }
    }

    /// Gives the file another mode and, if one is named, another group. If it was removed, or another file is
    /// at its path, nothing is done.
    pub(crate) fn open_to(&self, mode: u32, group: Option<u32>) -> Result<(), ListenError> {
        let mut open_to = self.open_to.lock().unwrap_or_else(PoisonError::into_inner);
        if *open_to == (mode, group) {
            return Ok(());
        }
        let system = |action| {
            move |errno: Errno| ListenError::System { action, path: self.path.clone(), source: errno.into() }
        };
        // By a descriptor of this very file, so that whoever may write to the directory cannot put a link to
        // another file into its place meanwhile.
        let file =
            match openat(CWD, &self.path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                Ok(file) => file,
                Err(Errno::NOENT) => return Ok(()),
                Err(errno) => return Err(system("look at")(errno)),
            };
        let found = fstat(&file).map_err(system("look at"))?;
        if (found.st_dev, found.st_ino) != self.inode {
            return Ok(());
        }
        if let Some(group) = group {
            give_to(&file, group).map_err(|errno| match errno {
                Errno::PERM => ListenError::ForeignGroup { group },
                errno => system("set the group of")(errno),
            })?;
        }
        // A descriptor without access has no other way to its file's mode.
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let set = |place: &Path| chmod(place, Mode::from_raw_mode(mode));
        let changed = set(link.as_ref()).or_else(|errno| match errno {
            // Without /proc, by the path, as when it was made.
            Errno::NOENT => set(&self.path),
            errno => Err(errno),
        });
        if let Err(errno) = changed {
            if group.is_some() {
                let _ = give_to(&file, found.st_gid);
            }
            return Err(system("set the mode of")(errno));
        }
        *open_to = (mode, group);
        Ok(())
    }
}

fn give_to(file: &OwnedFd, group: u32) -> Result<(), Errno> {
    chownat(file.as_fd(), "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)
}
