//! Other code closes all descriptors, as programs do that become daemons, and opens files that get their
//! numbers: no kick ends up in such a file, and whoever waits by one is told that it was cut off.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringpost::{CallError, Client, CloseReason, Link, Ready, RecvError};
use rustix::event::PollFlags;

use super::common::proc::others_sleep;
use super::common::raw::RawClient;
use super::common::raw_links::is_ready;
use super::common::role::{Role, Stage, say, setting};
use super::common::{Bus, eventually};
use super::raw::{OK, RawLink, STATUS_HELLO};

/// More than the process had descriptors.
const FILES: usize = 64;

/// Closes all descriptors, and opens files with their numbers, each with a name and three bytes.
fn close_all(directory: &std::path::Path) -> Vec<(PathBuf, File)> {
    others_sleep();
    // SAFETY: it closes descriptors by number. Code that uses them afterwards is what is tested.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    (0..FILES)
        .map(|number| {
            let path = directory.join(format!("file {number}"));
            // As the pipes were: to another file nothing would be written in any case.
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true).custom_flags(libc::O_NONBLOCK);
            let file = options.open(&path);
            fs::write(&path, b"abc").unwrap();
            (path, file.unwrap())
        })
        .collect()
}

/// The role: a client whose ends wait in an event loop, and that is cut off then.
pub fn be_cut_off(stage: &Stage) {
    let directory: PathBuf = setting("FILES").unwrap();
    let mut alice = Client::register(setting::<PathBuf>("PATH").unwrap(), "alice").unwrap();
    let mut listener = alice.listen().unwrap();
    let options = Link::options().arms();
    let mut link = options.connect(alice.caller(), "raw").unwrap();
    let whole = alice.readiness().unwrap();
    let (for_link, for_listener) = (link.readiness().unwrap(), listener.readiness().unwrap());
    assert!(link.arm().unwrap() && listener.arm().unwrap());
    // The first kick of a pipe may come at once.
    eventually("it waits", || alice.arm().unwrap());
    say("waits");
    stage.await_order("cut");
    let mut files = close_all(&directory);
    // Each of these kicks, or would: posts to the peer, closes on this side, whatever is woken.
    let ended = loop {
        match link.post(b"") {
            Ok(()) => {}
            Err(CallError::Disconnected(reason) | CallError::NotSent(reason)) => break reason,
            Err(error) => panic!("{error}"),
        }
    };
    say(format_args!("link {ended:?}"));
    let ended = loop {
        // It does not wait any more, and a look tells why.
        assert!(!alice.arm().unwrap_or(false));
        match alice.try_recv() {
            Ok(_) => {}
            Err(RecvError::Disconnected(reason)) => break reason,
            Err(error) => panic!("{error}"),
        }
    };
    say(format_args!("client {ended:?}"));
    eventually("the listener has ended", || !listener.arm().unwrap());
    link.closer().close();
    listener.closer().close();
    alice.closer().close();
    drop((link, listener, alice, whole, for_link, for_listener));
    for (path, file) in &mut files {
        let mut found = String::new();
        file.read_to_string(&mut found).expect("its number is still its own");
        assert_eq!((found.as_str(), fs::read_to_string(path).unwrap().as_str()), ("abc", "abc"));
    }
    say("nothing was written");
}

#[test]
fn no_kick_goes_into_a_file_that_got_the_number() {
    let bus = Bus::with(|builder| builder.ring_size(4096));
    let raw = RawClient::register(bus.path(), "raw");
    let bell = raw.listen(bus.path());
    let files = tempfile::tempdir().unwrap();
    let settings = [("PATH", bus.path().to_str().unwrap()), ("FILES", files.path().to_str().unwrap())];
    let mut alice = Role::start("cut off", &settings);
    let mut side = None;
    eventually("alice calls", || {
        let _ = is_ready(&bell, PollFlags::IN, Duration::from_millis(1));
        side = raw.take(bus.path());
        side.is_some()
    });
    let mut link = RawLink::open(side.unwrap(), false);
    link.send(STATUS_HELLO, 0, &[]);
    link.send(OK, 0, &[]);
    alice.hear("waits");
    // So that alice's next post, and the close of her link, kick.
    for word in link.parked() {
        word.store(2, Ordering::Relaxed);
    }
    alice.tell("cut");
    // This side keeps its descriptors, waits in an event loop all the time, and takes what comes.
    eventually("alice's link has ended", || {
        for word in link.parked() {
            word.store(2, Ordering::Relaxed);
        }
        let _ = link.next();
        link.closed() != 0
    });
    for what in ["link", "client"] {
        let ended = alice.hear(what);
        println!("{what}: {ended}");
        // The other side, whose own descriptors are whole, may have said so before.
        let fits = [CloseReason::CutOff, CloseReason::Died, CloseReason::Peer, CloseReason::Unregistered];
        assert!(fits.iter().any(|reason| format!("{reason:?}") == ended), "{what}: {ended}");
        assert!(what != "link" || ended == "CutOff", "this one said nothing: {ended}");
    }
    alice.hear("nothing was written");
    assert!(alice.end().success());
}
