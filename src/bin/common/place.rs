//! Where things are: this program's siblings, and private directories.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};

use super::exit::Failure;

/// The executable of this process.
pub fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot tell where this program lies: {error}")))
}

/// The program `name`, which is built and installed beside this one.
pub fn sibling(name: &str) -> Result<PathBuf, Failure> {
    let path = this_program()?.with_file_name(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Failure::failed(format!(
            "{name} is not beside this program ({} is missing): build all three with \
             `cargo build --release --features cli --bins`, or install them into one directory",
            path.display()
        )))
    }
}

/// A directory that only this user may enter; it goes, with what is in it, when this value is dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes `ringpost-PURPOSE-RANDOM` in `$TMPDIR`, or in `/tmp` where a socket's path would be too long
    /// there.
    pub fn new(purpose: &str) -> Result<TempDir, Failure> {
        let mut parent = std::env::temp_dir();
        // A socket's path has 107 bytes; the name, the socket in it and its lock file take less than 60.
        if parent.as_os_str().len() > 47 {
            parent = PathBuf::from("/tmp");
        }
        let cannot = |path: &Path, error: io::Error| {
            Failure::failed(format!(
                "cannot make the directory {}: {error}; set TMPDIR to one that can be written",
                path.display()
            ))
        };
        for _ in 0..16 {
            let mut random = [0_u8; 8];
            getrandom(&mut random, GetRandomFlags::empty()).map_err(|error| cannot(&parent, error.into()))?;
            let path = parent.join(format!("ringpost-{purpose}-{:016x}", u64::from_ne_bytes(random)));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(TempDir(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(cannot(&path, error)),
            }
        }
        Err(cannot(&parent, io::ErrorKind::AlreadyExists.into()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_temporary_directory_is_private_and_goes() {
        let path = {
            let directory = TempDir::new("test").unwrap();
            fs::write(directory.path().join("file"), b"x").unwrap();
            assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
            directory.path().to_path_buf()
        };
        assert!(!path.exists());
    }
}
