//! Tests of socket paths: without a server, with another server, and where no server can be.

use crate::common::raw::listen_at;
use crate::common::role::{Role, say, setting};
use crate::common::users::{is_root, leave_root};
use crate::common::{Bus, Place};
use crate::users::NOBODY;
use crate::{assert_mentions, skipped};
use ringpost::{Client, ListenError, Observer, PathError, RegisterError, Server, StartError};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

fn refused(path: &Path) -> ListenError {
    match Server::builder(path).start() {
        Err(StartError::Listen(error)) => error,
        Err(other) => panic!("{path:?}: {other}"),
        Ok(_) => panic!("{path:?}: a server runs there"),
    }
}

/// Leaves a socket like that of a dead server at the path.
fn leave_stale(path: &Path) {
    drop(listen_at(path));
    assert!(path.exists());
}

#[test]
fn where_no_server_is_a_client_is_told_how_to_start_one() {
    let place = Place::new();
    let file = place.directory.path().join("file");
    fs::write(&file, "").unwrap();
    let stale = place.directory.path().join("stale");
    leave_stale(&stale);
    let below_a_file = file.join("bus");
    let circle = place.directory.path().join("circle");
    symlink(&circle, &circle).unwrap();
    let missing = place.directory.path().join("missing/bus");
    let folder = place.directory.path().to_owned();
    for path in [&place.path, &missing, &file, &stale, &below_a_file, &circle, &folder] {
        let errors =
            [Client::register(path, "alice").unwrap_err(), Observer::connect(path).map(drop).unwrap_err()];
        for error in errors {
            assert!(
                matches!(&error, RegisterError::NoServer { path: told, .. } if told == path),
                "{error:?}"
            );
            assert_mentions(&error.to_string(), &["no server", "start one", path.to_str().unwrap()]);
        }
    }
}

#[test]
fn paths_that_no_socket_can_have() {
    let place = Place::new();
    let long = place.directory.path().join("x".repeat(108));
    let error = Client::register(&long, "alice").unwrap_err();
    assert!(matches!(&error, RegisterError::PathTooLong { path } if *path == long), "{error:?}");
    assert_mentions(&error.to_string(), &["too long", "104 bytes"]);
    let error = refused(&long);
    assert!(matches!(error, ListenError::TooLong(_)), "{error:?}");
    assert_mentions(&error.to_string(), &["too long", "104 bytes"]);
    // The longest possible path has the length that the error says.
    let rest = 104 - place.directory.path().as_os_str().len() - 1;
    let longest = place.directory.path().join("x".repeat(rest));
    let server = Server::builder(&longest).start().unwrap();
    Client::register(&longest, "alice").unwrap();
    drop(server);
    assert!(matches!(refused(&place.directory.path().join("x".repeat(rest + 1))), ListenError::TooLong(_)));
    let error = refused(Path::new(OsStr::from_bytes(b"/tmp/a\0b")));
    assert!(matches!(error, ListenError::System { .. }), "{error:?}");
    assert_mentions(&error.to_string(), &["choose another path"]);
    let nul = Path::new(OsStr::from_bytes(b"/tmp/a\0b"));
    let folder = format!("{}/", place.directory.path().display());
    let missing = format!("{folder}missing/");
    for odd in [nul, Path::new(""), Path::new(&folder), Path::new(&missing)] {
        let error = Client::register(odd, "alice").unwrap_err();
        assert!(matches!(error, RegisterError::NoServer { .. }), "{odd:?}: {error:?}");
    }
    for odd in ["", "/", "..", &folder, &missing].map(Path::new) {
        let error = refused(odd);
        assert!(matches!(error, ListenError::NoFileName(_)), "{odd:?}: {error:?}");
        assert_mentions(&error.to_string(), &["does not end with a file name", "add a name"]);
    }
    assert!(place.is_clean());
}

#[test]
fn something_else_at_the_path_is_kept_and_named() {
    let place = Place::new();
    let directory = place.directory.path();
    let file = directory.join("file");
    fs::write(&file, "precious").unwrap();
    let link = directory.join("link");
    symlink("nowhere", &link).unwrap();
    fs::create_dir(directory.join("folder")).unwrap();
    for path in [&file, &link, &directory.join("folder")] {
        let error = refused(path);
        assert!(matches!(&error, ListenError::NotASocket(told) if told == path), "{error:?}");
        assert_mentions(&error.to_string(), &["not a socket", "remove it", "another path"]);
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    // The lock file is a symbolic link or a directory.
    symlink(&file, directory.join("a.lock")).unwrap();
    fs::create_dir(directory.join("b.lock")).unwrap();
    for name in ["a", "b"] {
        let error = refused(&directory.join(name));
        assert!(matches!(error, ListenError::System { .. }), "{error:?}");
        assert_mentions(&error.to_string(), &["cannot create", &format!("/{name}."), "another path"]);
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    assert_eq!(fs::read_dir(directory).unwrap().count(), 5);
    let stream = directory.join("stream");
    let _listener = UnixListener::bind(&stream).unwrap();
    let error = Client::register(&stream, "alice").unwrap_err();
    assert!(matches!(error, RegisterError::NotRingpost { .. }), "{error:?}");
    assert_mentions(&error.to_string(), &["not a ringpost server", "another socket"]);
}

#[test]
fn a_stale_socket_is_replaced() {
    let place = Place::new();
    leave_stale(&place.path);
    fs::write(place.directory.path().join("bus.lock"), "").unwrap();
    let server = Server::builder(&place.path).start().unwrap();
    Client::register(&place.path, "alice").unwrap().caller().ping().unwrap();
    drop(server);
    assert!(place.is_clean());
}

#[test]
fn a_second_server_on_the_path_is_refused_and_the_first_goes_on() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    // Also with another spelling of the path.
    let detour = bus.place.directory.path().join(".").join("bus");
    for path in [bus.path(), &detour] {
        let error = refused(path);
        assert!(matches!(error, ListenError::InUse(_)), "{error:?}");
        assert_mentions(&error.to_string(), &["another server", "stop it", "choose another socket"]);
    }
    assert_eq!(alice.call(b"x").unwrap(), b"x");
    bus.client("bob");
}

/// A cleaner of temporary files removes the lock file of a running server, which is also stopped for a while.
#[test]
#[cfg(feature = "cli")]
fn a_living_server_is_not_replaced_though_its_lock_file_is_gone() {
    use crate::common::program::{Program, SERVER, run};
    use rustix::process::Signal;
    let place = Place::new();
    let lock = place.directory.path().join("bus.lock");
    let line = ["--socket", place.path.to_str().unwrap()];
    let first = Program::start(SERVER, &line);
    crate::common::eventually("it serves", || Client::register(&place.path, "probe").is_ok());
    let mut alice = Client::register(&place.path, "alice").unwrap();
    fs::remove_file(&lock).unwrap();
    assert_mentions(&run(SERVER, &line).failed(), &["another server is running", "stop it"]);
    first.signal(Signal::STOP);
    assert_mentions(&run(SERVER, &line).failed(), &["another server is running", "stop it"]);
    assert!(matches!(refused(&place.path), ListenError::InUse(_)));
    first.signal(Signal::CONT);
    assert_eq!(alice.call(b"x").unwrap(), b"x");
    Client::register(&place.path, "bob").unwrap();
    // This server must not remove the lock file that another server has made meanwhile.
    fs::write(&lock, "").unwrap();
    first.signal(Signal::TERM);
    assert_eq!(first.end().status, Some(0));
    assert!(!place.path.exists() && lock.exists());
}

// ---- directories

/// Starts a server at the given path as an unprivileged user.
pub fn start_server_as_told() {
    if is_root() {
        leave_root(NOBODY, NOBODY, &[]);
    }
    let mut builder = Server::builder(setting::<PathBuf>("PATH").unwrap());
    if let Some(group) = setting("GROUP") {
        builder = builder.allow_group(group);
    }
    match builder.start() {
        Err(StartError::Listen(error @ ListenError::System { .. })) => say(format_args!("refused {error}")),
        Err(StartError::Listen(error @ ListenError::ForeignGroup { .. })) => {
            say(format_args!("group {error}"))
        }
        other => say(format_args!("unexpected {other:?}")),
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let place = Place::new();
    fs::set_permissions(place.directory.path(), Permissions::from_mode(0o555)).unwrap();
    let mut server = Role::start("server as told", &[("PATH", place.path.to_str().unwrap())]);
    let why = server.hear("refused");
    assert_mentions(&why, &["cannot create", "bus.lock", "choose a path where this user may write"]);
    fs::set_permissions(place.directory.path(), Permissions::from_mode(0o755)).unwrap();
    assert!(place.is_clean());
}

/// In a directory like `/tmp`, in which everyone may put files, another user's socket or lock file is neither
/// used nor removed.
#[test]
fn a_squatted_socket_or_lock_is_refused() {
    if !is_root() {
        return skipped("only root can play another user's server");
    }
    for squatted in ["bus", "bus.lock"] {
        let place = Place::new();
        fs::set_permissions(place.directory.path(), Permissions::from_mode(0o1777)).unwrap();
        let squatted = place.directory.path().join(squatted);
        leave_stale(&squatted);
        let mut server = Role::start("server as told", &[("PATH", place.path.to_str().unwrap())]);
        let why = server.hear("refused");
        assert_mentions(&why, &["cannot create"]);
        assert!(squatted.exists(), "it was removed");
    }
}

/// Prints this process's default path.
pub fn tell_default_path() {
    match ringpost::default_path() {
        Ok(path) => say(format_args!("path {}", path.display())),
        Err(PathError::NotADirectory(why)) => tell("not a directory", &PathError::NotADirectory(why)),
        Err(error @ PathError::Foreign { .. }) => tell("foreign", &error),
        Err(error @ PathError::TooOpen { .. }) => tell("too open", &error),
        Err(error) => tell("other", &error),
    }
}

fn tell(kind: &str, error: &PathError) {
    say(format_args!("{kind}: {error}"));
}

fn default_path_in(runtime: &Path) -> String {
    let mut role = Role::start_as("default path", &[], |command| {
        command.env("XDG_RUNTIME_DIR", runtime);
    })
    .unwrap();
    role.hear("")
}

#[test]
fn the_default_directory_must_be_a_real_one_of_ours_and_closed() {
    let place = Place::new();
    let runtime = place.directory.path();
    let ours = runtime.join("ringpost");
    assert_eq!(default_path_in(runtime), format!("path {}/bus.sock", ours.display()));
    let elsewhere = "--socket or RINGPOST_SOCKET";
    fs::set_permissions(&ours, Permissions::from_mode(0o750)).unwrap();
    let why = default_path_in(runtime);
    assert!(why.starts_with("too open"), "{why}");
    assert_mentions(&why, &["mode 750", "chmod 700", elsewhere]);
    fs::remove_dir(&ours).unwrap();

    let real = runtime.join("real");
    fs::create_dir(&real).unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o700)).unwrap();
    symlink(&real, &ours).unwrap();
    let why = default_path_in(runtime);
    assert!(why.starts_with("not a directory"), "{why}");
    assert_mentions(&why, &["symbolic links are not followed", "remove it", elsewhere]);
    fs::remove_file(&ours).unwrap();
    fs::write(&ours, "").unwrap();
    assert!(default_path_in(runtime).starts_with("not a directory"));
    fs::remove_file(&ours).unwrap();

    let why = default_path_in(&runtime.join("missing"));
    assert!(why.starts_with("other"), "{why}");
    assert_mentions(&why, &["missing/ringpost", elsewhere]);
    // A relative `$XDG_RUNTIME_DIR` is ignored.
    let fallback = default_path_in(Path::new("relative"));
    assert!(fallback.contains("/tmp/ringpost-"), "{fallback}");

    if !is_root() {
        return skipped("a directory of another user: only root can make one");
    }
    fs::create_dir(&ours).unwrap();
    fs::set_permissions(&ours, Permissions::from_mode(0o700)).unwrap();
    chown(&ours, Some(NOBODY), Some(NOBODY)).unwrap();
    let why = default_path_in(runtime);
    assert!(why.starts_with("foreign"), "{why}");
    assert_mentions(&why, &["belongs to user 65532", elsewhere]);
}
