// Hidden set-up of documentation examples: a socket path in a temporary directory, removed at the end.
//
//     # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
//     let server = Server::builder(&path).start()?;
{
    struct TemporaryPath {
        path: std::path::PathBuf,
        _directory: tempfile::TempDir,
    }

    impl std::ops::Deref for TemporaryPath {
        type Target = std::path::Path;

        fn deref(&self) -> &std::path::Path {
            &self.path
        }
    }

    impl AsRef<std::path::Path> for TemporaryPath {
        fn as_ref(&self) -> &std::path::Path {
            &self.path
        }
    }

    impl AsRef<std::ffi::OsStr> for TemporaryPath {
        fn as_ref(&self) -> &std::ffi::OsStr {
            self.path.as_os_str()
        }
    }

    let directory = tempfile::tempdir().expect("a temporary directory");
    TemporaryPath { path: directory.path().join("bus"), _directory: directory }
}
