//! The files beside a server: its socket, the lock of it, and the socket of its metrics.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The lock file beside the socket.
pub fn lock_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// The files of a server that runs, to be removed if it cannot do so itself.
pub struct Files(Vec<((u64, u64), PathBuf)>);

impl Files {
    /// Those of them that are there now.
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Files {
        let found = |path: PathBuf| inode_of(&path).map(|inode| (inode, path));
        Files(paths.into_iter().filter_map(found).collect())
    }

    /// Removes them, unless others are there by now.
    pub fn remove(&self) {
        for (inode, path) in &self.0 {
            if inode_of(path) == Some(*inode) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Removes files when it is dropped.
pub struct Removed(pub Files);

impl Drop for Removed {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// Identifies the file at a path, to notice if it is replaced.
fn inode_of(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}
