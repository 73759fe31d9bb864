//! Tests of the listening socket and of its files.

use super::*;
use rustix::fs::{Timespec, Timestamps, utimensat};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, connect, sendmsg};
use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

#[test]
fn a_path_has_one_server_and_no_files_remain() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    let first = Listener::bind(&path, 0o600, None).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(Listener::bind(&path, 0o600, None), Err(ListenError::InUse(_))));
    drop(first);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    Listener::bind(&path, 0o666, None).unwrap();
}

#[test]
fn a_stale_socket_is_replaced_and_anything_else_is_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    drop(UnixListener::bind(&path).unwrap());
    fs::write(scratch.path().join("bus.lock"), "").unwrap();
    drop(Listener::bind(&path, 0o600, None).unwrap());
    fs::write(&path, "precious").unwrap();
    assert!(matches!(Listener::bind(&path, 0o600, None), Err(ListenError::NotASocket(_))));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}

#[test]
fn only_our_own_socket_is_removed() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    let ours = Listener::bind(&path, 0o600, None).unwrap();
    fs::remove_file(&path).unwrap();
    let _theirs = UnixListener::bind(&path).unwrap();
    drop(ours);
    assert!(path.exists());
}

fn lock_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// The socket's file, as long as it is there.
fn inode(listener: &Listener) -> Inode {
    listener.files.as_ref().unwrap().inode()
}

fn due(listener: &Listener) -> Instant {
    listener.due().unwrap()
}

fn names(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn the_kernel_knows_the_path() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    let _listener = Listener::bind(&path, 0o600, None).unwrap();
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let shown = path.to_str().unwrap();
    assert!(sockets.lines().any(|line| line.ends_with(&format!(" {shown}"))), "{sockets}");
}

/// A cleaner of temporary files may remove a living server's lock file.
#[test]
fn a_living_server_keeps_its_path_without_its_lock_file() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    let mut first = Listener::bind(&path, 0o600, None).unwrap();
    let in_use = || matches!(Listener::bind(&path, 0o600, None), Err(ListenError::InUse(_)));
    fs::remove_file(lock_of(&path)).unwrap();
    assert!(in_use() && inode_of(&path) == Ok(inode(&first)));
    assert_eq!(names(scratch.path()), 1, "the one that was refused left nothing");
    // With a full backlog, like that of a stopped server.
    let address = SocketAddrUnix::new(&path).unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket = socket_for(&path).unwrap();
        match connect(&socket, &address) {
            Ok(()) => waiting.push(socket),
            Err(errno) => break assert_eq!(errno, Errno::AGAIN),
        }
    }
    assert!(in_use() && inode_of(&path) == Ok(inode(&first)));
    // The lock file is recreated when it is due.
    first.keep_fresh(Instant::now());
    assert!(!lock_of(&path).exists(), "it is not time yet");
    first.keep_fresh(due(&first));
    assert!(lock_of(&path).exists() && in_use());
    drop(first);
    assert_eq!(names(scratch.path()), 0);
}

#[test]
fn another_server_s_files_are_not_removed() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    let mut first = Listener::bind(&path, 0o600, None).unwrap();
    // Both files are removed, and a second server takes the path.
    fs::remove_file(&path).unwrap();
    fs::remove_file(lock_of(&path)).unwrap();
    let second = Listener::bind(&path, 0o600, None).unwrap();
    first.keep_fresh(due(&first));
    drop(first);
    assert_eq!((inode_of(&path), names(scratch.path())), (Ok(inode(&second)), 2));
    assert!(matches!(Listener::bind(&path, 0o600, None), Err(ListenError::InUse(_))));
    drop(second);
    assert_eq!(names(scratch.path()), 0);
}

#[test]
fn both_files_get_a_new_time() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    let mut listener = Listener::bind(&path, 0o600, None).unwrap();
    let old = Timespec { tv_sec: 1_000_000, tv_nsec: 0 };
    let age = |path: &Path| fs::symlink_metadata(path).unwrap().modified().unwrap().elapsed().unwrap();
    let files = [path.clone(), lock_of(&path)];
    for file in &files {
        let times = Timestamps { last_access: old, last_modification: old };
        utimensat(CWD, file, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        assert!(age(file) > Duration::from_secs(1_000_000));
    }
    listener.keep_fresh(due(&listener));
    for file in &files {
        assert!(age(file) < Duration::from_secs(1_000));
    }
}

#[test]
fn a_socket_on_which_others_listen_is_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    let _theirs = UnixListener::bind(&path).unwrap();
    assert!(matches!(Listener::bind(&path, 0o600, None), Err(ListenError::InUse(_))));
    assert_eq!(names(scratch.path()), 1);
    // A bound socket that does not listen is replaced.
    let stale = scratch.path().join("stale");
    let socket = socket_for(&stale).unwrap();
    bind(&socket, &SocketAddrUnix::new(&stale).unwrap()).unwrap();
    Listener::bind(&stale, 0o600, None).unwrap();
}

#[test]
fn when_servers_race_for_a_stale_path_one_wins() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    for _ in 0..50 {
        drop(UnixListener::bind(&path).unwrap());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || Listener::bind(&path, 0o600, None))
            })
            .collect();
        let all: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1, "{all:?}");
        assert!(all.iter().all(|one| matches!(one, Ok(_) | Err(ListenError::InUse(_)))), "{all:?}");
        drop(all);
        assert_eq!(names(scratch.path()), 0);
    }
}

#[test]
fn impossible_paths_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let long = scratch.path().join("x".repeat(120));
    let error = Listener::bind(&long, 0o600, None).unwrap_err();
    assert!(matches!(error, ListenError::TooLong(_)), "{error}");
    let nowhere = scratch.path().join("missing/bus");
    let error = Listener::bind(&nowhere, 0o600, None).unwrap_err();
    assert!(matches!(error, ListenError::System { .. }), "{error}");
}

// ---- sockets that were given

/// A socket that listens and waits for connections, like one that a service manager passes.
fn listening(path: &Path) -> OwnedFd {
    let socket = unconnected();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&socket, 10).unwrap();
    socket
}

fn unconnected() -> OwnedFd {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

fn connected(path: &Path) -> OwnedFd {
    let socket = unconnected();
    connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

#[test]
fn a_socket_that_was_given_is_left_as_it_was_with_those_who_wait() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    let socket = listening(&path);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    let mut given = Listener::given(socket.try_clone().unwrap()).unwrap();
    assert_eq!(given.accept().unwrap_err(), Errno::AGAIN, "it does not wait");
    let _early = connected(&path);
    assert!(!given.shut());
    assert_eq!(given.due(), None);
    given.keep_fresh(Instant::now());
    given.hide();
    given.remove();
    drop(given);
    let mut next = Listener::given(socket.try_clone().unwrap()).unwrap();
    next.accept().expect("whoever waited");
    let _late = connected(&path);
    next.abandon();
    drop(next);
    Listener::given(socket).unwrap().accept().expect("whoever came later");
    assert_eq!((names(scratch.path()), fs::metadata(&path).unwrap().permissions().mode()), (1, mode));
}

/// Those who connected before the socket was given could do so.
#[test]
fn descriptors_on_a_socket_that_was_given_are_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    let socket = listening(&path);
    let early = connected(&path);
    let (reader, _writer) = io::pipe().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [reader.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(&early, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
    let accepted = Listener::given(socket).unwrap().accept().unwrap();
    assert_eq!(accepted.hear(&mut [0; 8]), crate::connect::Heard::Descriptors);
}

#[test]
fn a_socket_of_another_kind_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let stream = UnixListener::bind(scratch.path().join("stream")).unwrap();
    let network = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (pipe, _writer) = io::pipe().unwrap();
    let wrong: [(OwnedFd, &str); 4] = [
        (stream.into(), "SOCK_SEQPACKET"),
        (network.into(), "SOCK_SEQPACKET"),
        (unconnected(), "does not listen"),
        (pipe.into(), "not a socket"),
    ];
    for (socket, part) in wrong {
        let error = Listener::given(socket).unwrap_err();
        assert!(matches!(error, ListenError::Unfit(_)) && error.to_string().contains(part), "{error}");
    }
}
