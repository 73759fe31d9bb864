//! Helpers of the integration tests: a bus in a private directory, bounded waits, verifiable contents, and
//! child processes.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod by_epoll;
pub mod filter;
pub mod given;
pub mod noise;
pub mod payload;
pub mod proc;
#[cfg(feature = "cli")]
pub mod program;
pub mod raw;
pub mod raw_bus;
pub mod raw_links;
pub mod raw_topics;
pub mod role;
pub mod server;
pub mod traffic;
pub mod users;

use ringpost::{Client, Key, Observer, SendError, Server, ServerBuilder};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The limit for every wait in a test. What takes longer is considered hanging.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The limit for what a server of this process answers by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until the condition holds, and fails after [`LIMIT`].
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Polls until `found` returns `wanted`, and fails with the last value after [`LIMIT`].
pub fn becomes<T: PartialEq + Debug>(what: &str, found: impl Fn() -> T, wanted: &T) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let found = found();
        if found == *wanted {
            return;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}: {found:?}, not {wanted:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Checks that a send times out because the receiver's inbox has no room. On a busy machine the server's
/// answer may come too late; then this tries again.
pub fn finds_no_room(sender: &mut Client, to: Key, message: &[u8], patience: Duration) {
    eventually("the server says in time that there is no room", || {
        match sender.send_timeout(to, message, patience) {
            Err(SendError::TimedOut) => true,
            Err(SendError::NoAnswer) => false,
            other => panic!("{other:?}"),
        }
    });
}

/// Runs a function on a new thread, and fails the test if it does not return within [`LIMIT`].
pub fn within_limit<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    begin(run).end(what)
}

/// Runs a function on a new thread.
pub fn begin<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Begun<T> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let _ = sender.send(run());
    });
    Begun { receiver, thread }
}

/// A function that runs on a thread.
pub struct Begun<T> {
    receiver: mpsc::Receiver<T>,
    thread: thread::JoinHandle<()>,
}

impl<T> Begun<T> {
    /// Its result, which must come within [`LIMIT`].
    pub fn end(self, what: &str) -> T {
        self.end_within(what, LIMIT)
    }

    /// Like [`end`](Self::end), with another limit.
    pub fn end_within(self, what: &str, limit: Duration) -> T {
        match self.receiver.recv_timeout(limit) {
            Ok(result) => {
                self.thread.join().unwrap();
                result
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs: {what}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => match self.thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("it returned without a result"),
            },
        }
    }

    /// Whether the function has returned.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }
}

/// A private directory with a path for a socket.
pub struct Place {
    pub directory: TempDir,
    pub path: PathBuf,
}

impl Place {
    pub fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bus");
        Place { directory, path }
    }

    /// Whether the directory is empty.
    pub fn is_clean(&self) -> bool {
        std::fs::read_dir(self.directory.path()).unwrap().count() == 0
    }
}

/// Waits until a server listens there. The socket's file appears a moment earlier, without its final mode and
/// group.
pub fn await_server(path: &Path) {
    eventually("the server listens", || raw::try_dial(path).is_ok());
}

/// The slot of the registry that a key's client has or had: its last two bytes.
pub fn slot_of(key: Key) -> u16 {
    (u128::from_le_bytes(key.to_bytes()) >> 112) as u16
}

/// How often the slot had been given out before: the four bytes before the slot.
pub fn generation_of(key: Key) -> u32 {
    (u128::from_le_bytes(key.to_bytes()) >> 80) as u32
}

/// The number of clients registered there.
pub fn registered(path: &Path) -> usize {
    Observer::connect_timeout(path, LIMIT).unwrap().list().unwrap().len()
}

/// A server in this process.
pub struct Bus {
    // Dropped before the directory that contains its files.
    pub server: Server,
    pub place: Place,
}

impl Bus {
    pub fn start() -> Bus {
        Bus::with(|builder| builder)
    }

    pub fn with(set: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Bus {
        let place = Place::new();
        let server = set(Server::builder(&place.path)).start().unwrap();
        Bus { server, place }
    }

    pub fn path(&self) -> &Path {
        &self.place.path
    }

    pub fn client(&self, name: &str) -> Client {
        Client::builder(self.path()).timeout(PATIENCE).register(name).unwrap()
    }
}

/// Blocks threads until it is opened.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    arrived: usize,
    open: bool,
}

impl Gate {
    pub fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.arrived += 1;
        changed.notify_all();
        let (state, waited) = changed.wait_timeout_while(state, LIMIT, |state| !state.open).unwrap();
        assert!(!waited.timed_out() || state.open, "the gate was never opened");
    }

    /// Waits until this many threads have reached it.
    pub fn wait_for(&self, count: usize) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let (state, _) = changed.wait_timeout_while(state, LIMIT, |state| state.arrived < count).unwrap();
        assert!(state.arrived >= count, "only {} of {count} came to the gate", state.arrived);
    }

    pub fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }
}
