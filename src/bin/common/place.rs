//! Finds the other programs, and makes private temporary directories.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::exit::Failure;

/// The executable of this process.
pub fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot find this program's own path: {error}")))
}

/// The path of the program `name`, which must be in the same directory as this one.
pub fn sibling(name: &str) -> Result<PathBuf, Failure> {
    let path = this_program()?.with_file_name(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Failure::failed(format!(
            "{} is missing: build all programs with `cargo build --release --features cli --bins`, or install them \
             into one directory",
            path.display()
        )))
    }
}

/// A directory that only this user may access. It is removed with its contents on drop.
#[derive(Debug)]
pub struct TempDir(tempfile::TempDir);

impl TempDir {
    /// Makes `ringpost-PURPOSE-RANDOM` in `$TMPDIR`, or in `/tmp` if a socket's path would be too long there.
    pub fn new(purpose: &str) -> Result<TempDir, Failure> {
        let mut parent = std::env::temp_dir();
        // A socket's path may have 107 bytes. This name and that of the socket's lock file need less than 60.
        if parent.as_os_str().len() > 47 {
            parent = PathBuf::from("/tmp");
        }
        tempfile::Builder::new()
            .prefix(&format!("ringpost-{purpose}-"))
            .rand_bytes(16)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map(TempDir)
            .map_err(|error| {
                Failure::failed(format!(
                    "cannot create a directory in {}: {error}; set TMPDIR to a directory that you can write to",
                    parent.display()
                ))
            })
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_temporary_directory_is_private_and_removed_on_drop() {
        let path = {
            let directory = TempDir::new("test").unwrap();
            fs::write(directory.path().join("file"), b"x").unwrap();
            assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
            directory.path().to_path_buf()
        };
        assert!(!path.exists());
    }
}
