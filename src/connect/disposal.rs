//! `Disposal`: closes descriptors from other processes on its own threads, because that may take long.
//!
//! The sender of a descriptor decides how long its last close takes: a lingering TCP socket blocks the
//! closing thread for as many seconds as the sender chose, a large memory file until its pages are freed. The
//! same holds for a Unix socket with such a descriptor in its queue. So threads that must not block hand
//! these descriptors over to this module, which never blocks its caller.
//!
//! Threads start when there is something to close and end after an idle time. One user's descriptors occupy
//! at most [`THREADS_PER_USER`] of the [`THREADS`] threads. So they delay only that user's other descriptors,
//! as long as no more than [`THREADS`] / [`THREADS_PER_USER`] users do this at once. The waiting descriptors
//! are counted by user, so that callers can limit them.
//!
//! A program that closes all descriptors also closes those that wait here. So before a number is closed it is
//! checked: whether it still belongs to the same file, if that is known, or else whether it is in use at all.
//! Which file a foreign descriptor belongs to cannot be asked without waiting for that file's system.

#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::fcntl_getfd;

use crate::os::descriptors::{self, close_if};
use crate::os::threads;
use crate::shm::PerProcess;

/// The most threads that close one user's descriptors at the same time.
const THREADS_PER_USER: usize = 2;

/// The most threads of one [`Disposal`].
const THREADS: usize = 16;

/// How long an idle thread waits before it ends.
const IDLE: Duration = Duration::from_millis(200);

/// A queue of descriptors for each user, and the threads that close them. Clones share both.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disposal {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when there may be something to close.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    users: HashMap<u32, User>,
    threads: usize,
    idle: usize,
}

#[derive(Debug, Default)]
struct User {
    waiting: VecDeque<(OwnedFd, Option<(u64, u64)>)>,
    /// The number of descriptors being closed now, each on a thread.
    closing: usize,
}

/// Closes a descriptor on another thread. Never blocks and never closes it on the calling thread: if no
/// thread can be started, the descriptor stays open until one can.
pub(crate) fn close_elsewhere(descriptor: OwnedFd) {
    static OURS: PerProcess<Disposal> = PerProcess::new();
    match OURS.get_or_make(|| Ok(Disposal::default())) {
        Ok(disposal) => disposal.close(0, descriptor, None),
        // Out of memory: leaking the descriptor is better than closing it here.
        Err(_) => _ = descriptor.into_raw_fd(),
    }
}

impl Disposal {
    /// Closes a descriptor that may hold something this user sent, and that belongs to this file if that is
    /// known. Does not block.
    pub(crate) fn close(&self, user: u32, descriptor: OwnedFd, file: Option<(u64, u64)>) {
        let mut state = self.shared.lock();
        state.users.entry(user).or_default().waiting.push_back((descriptor, file));
        self.shared.call_thread(&mut state);
    }

    /// The number of this user's descriptors that wait or are being closed.
    pub(crate) fn of_user(&self, user: u32) -> usize {
        self.shared.lock().users.get(&user).map_or(0, |user| user.waiting.len() + user.closing)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes or starts a thread if there is something to close.
    fn call_thread(self: &Arc<Self>, state: &mut State) {
        if state.next().is_none() {
            return;
        }
        if state.idle > 0 {
            self.changed.notify_one();
        } else if state.threads < THREADS {
            let shared = Arc::clone(self);
            let started = threads::spawn("rp-disposal", move || shared.run());
            // If no thread started, the descriptor waits for a running one, or for the next attempt.
            state.threads += usize::from(started.is_ok());
        }
    }

    fn run(self: &Arc<Self>) {
        let mut state = self.lock();
        loop {
            let Some(uid) = state.next() else {
                state.idle += 1;
                let waited = self.changed.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
                state = waited.0;
                state.idle -= 1;
                if waited.1.timed_out() && state.next().is_none() {
                    state.threads -= 1;
                    return;
                }
                continue;
            };
            let Some(user) = state.users.get_mut(&uid) else { continue };
            let Some((descriptor, file)) = user.waiting.pop_front() else { continue };
            user.closing += 1;
            self.call_thread(&mut state); // this thread may be busy for long
            drop(state);
            let is_ours = match file {
                Some(file) => descriptors::file(&descriptor) == Some(file),
                None => fcntl_getfd(&descriptor).is_ok(),
            };
            close_if(is_ours, Some(descriptor)); // may take long
            state = self.lock();
            if let Some(user) = state.users.get_mut(&uid) {
                user.closing -= 1;
                if user.closing == 0 && user.waiting.is_empty() {
                    state.users.remove(&uid);
                }
            }
        }
    }
}

impl State {
    /// A user with something to close and fewer threads than allowed.
    fn next(&self) -> Option<u32> {
        let ready = |user: &User| !user.waiting.is_empty() && user.closing < THREADS_PER_USER;
        self.users.iter().find(|(_, user)| ready(user)).map(|(uid, _)| *uid)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // Something is left only if no thread could be started. Leaking it is better than closing it on this
        // thread, whichever that is.
        for (descriptor, _) in self.users.drain().flat_map(|(_, user)| user.waiting) {
            let _ = descriptor.into_raw_fd();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt::{set_socket_linger, set_socket_send_buffer_size};
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    /// Longer than any test.
    const LINGER: Duration = Duration::from_secs(60);

    /// A socket whose close lasts until its other end is closed.
    fn lingering(listener: &TcpListener) -> (OwnedFd, TcpStream) {
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, _) = listener.accept().unwrap();
        set_socket_send_buffer_size(&socket, 1 << 16).unwrap();
        socket.set_nonblocking(true).unwrap();
        let full = loop {
            match socket.write(&[0; 1 << 16]) {
                Ok(1..) => {}
                Ok(0) => unreachable!("something is sent"),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        set_socket_linger(&socket, Some(LINGER)).unwrap();
        (socket.into(), other)
    }

    fn until(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + LINGER;
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    fn closes_at_once(disposal: &Disposal, user: u32) {
        let (mut here, there) = UnixStream::pair().unwrap();
        let file = descriptors::file(&there);
        disposal.close(user, there.into(), file);
        here.set_read_timeout(Some(LINGER)).unwrap();
        assert_eq!(here.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn one_user_s_descriptors_delay_no_other_user_s() {
        let disposal = Disposal::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut others, began) = (Vec::new(), Instant::now());
        for _ in 0..5 {
            let (socket, other) = lingering(&listener);
            disposal.close(1, socket, None);
            others.push(other);
        }
        let closing = |user| disposal.shared.lock().users.get(&user).map_or(0, |user| user.closing);
        until("both threads of the user linger", || closing(1) == THREADS_PER_USER);
        for user in 2..20 {
            closes_at_once(&disposal, user);
        }
        assert_eq!((disposal.of_user(1), closing(1)), (5, THREADS_PER_USER));
        assert!(began.elapsed() < LINGER);
        drop(others);
        until("all are closed", || disposal.of_user(1) == 0);
        until("the threads end when they have nothing to do", || disposal.shared.lock().threads == 0);
        closes_at_once(&disposal, 1);
    }

    /// As after a program has closed all descriptors and opened others.
    #[test]
    fn a_number_that_belongs_to_another_file_is_left_alone() {
        let disposal = Disposal::default();
        let (mut here, there) = UnixStream::pair().unwrap();
        disposal.close(1, there.into(), descriptors::file(&here));
        until("it was looked at", || disposal.of_user(1) == 0);
        here.set_nonblocking(true).unwrap();
        assert_eq!(here.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn close_elsewhere_does_not_block() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (socket, other) = lingering(&listener);
        let began = Instant::now();
        close_elsewhere(socket);
        assert!(began.elapsed() < LINGER);
        drop(other);
    }
}
