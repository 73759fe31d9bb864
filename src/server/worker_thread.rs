//! The threads of the workers: starts and pins them, and ends a client when its worker has ended.
//!
//! A thread whose worker has ended is kept for a moment, because to give it the next worker costs less than
//! to start and end a thread. But a call may leave something in its thread, such as thread-local values, and
//! then the next client must not find it. So a thread is not kept if the service was called there. A thread
//! is kept for [`KEPT`] only, and few at once, so that a server without clients soon has no more threads than
//! before.

#![forbid(unsafe_code)]

use rustix::thread::{CpuSet, sched_setaffinity};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use super::error::StartError;
use super::events::Event;
use super::member::Member;
use super::panics::contain;
use super::shared::Shared;
use super::worker::Worker;
use super::workers::Part;
use crate::link::End;
use crate::os::threads;
use crate::testing::failpoints::failpoint;
use crate::wire::CloseReason;

/// How long a thread waits for another worker.
const KEPT: Duration = Duration::from_millis(250);

/// What the standard library calls the thread of a worker. The operating system's name is the client's.
const NAME: &str = "rp-worker";

/// A worker that a thread waits for. The thread gets it when this is dropped, whatever happens before.
pub(super) struct Waiting {
    /// `Some` until the drop.
    worker: Option<Box<Worker>>,
    thread: SyncSender<Box<Worker>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            // It cannot fail: the thread ends only if nothing was taken from those that are kept.
            let _ = self.thread.send(worker);
        }
    }
}

/// Starts a worker on a new thread. If there is a thread that was kept, the worker starts when
/// what this returns is dropped.
pub(super) fn start_worker(worker: Worker) -> io::Result<Option<Waiting>> {
    let shared = Arc::clone(&worker.operations.shared);
    let member = Arc::clone(&worker.operations.member);
    let worker = Box::new(worker);
    if let Some(thread) = shared.workers.begins(&member) {
        return Ok(Some(Waiting { worker: Some(worker), thread }));
    }
    match threads::spawn(NAME, move || serve_all(worker)) {
        Ok(thread) => shared.workers.has_begun(member.peer.key, thread),
        Err(error) => {
            shared.worker_ends(&member, None);
            return Err(error);
        }
    }
    Ok(None)
}

/// What a thread does: one worker, and others after it while it is kept.
fn serve_all(first: Box<Worker>) {
    let shared = Arc::clone(&first.operations.shared);
    let mut next = serve(first, false);
    while let Some(waits) = next {
        next = shared.workers.next(&waits, KEPT).and_then(|worker| serve(worker, true));
    }
}

/// Runs a worker on this thread. If the thread is kept, returns by what it gets the next one.
fn serve(worker: Box<Worker>, reused: bool) -> Option<Receiver<Box<Worker>>> {
    let exit = OnExit {
        shared: Arc::clone(&worker.operations.shared),
        member: Arc::clone(&worker.operations.member),
        has_ended: false,
    };
    threads::rename(&threads::name_for(exit.member.peer.name.as_str()));
    exit.shared.workers.enter(Part::Worker(exit.member.peer.key));
    exit.member.measured.runs_here(reused);
    // Declared after `exit`, so dropped before it: the channel's memory must be freed before the server may
    // report that everything is gone. On the stack: with the worker on the heap, a call took 1.2 times as
    // long.
    let mut worker = *worker;
    if let Some(cpu) = exit.shared.settings.pin {
        let _ = pin_to(cpu);
    }
    let end = worker.run();
    let has_called = worker.operations.has_called;
    let service = Arc::clone(&worker.operations.service);
    drop(worker);
    conclude(&exit.shared, Arc::clone(&exit.member), end);
    let _ = contain(|| service.left(&exit.member.peer));
    let _ = contain(|| drop(service));
    if matches!(end, End::Closed(CloseReason::Shutdown)) {
        // Again: if the service joined the server just now, nobody waits for this worker any more, so that it
        // must end its client itself.
        conclude(&exit.shared, Arc::clone(&exit.member), end);
    }
    if has_called { None } else { exit.keep() }
}

/// Ends a worker's thread for the rest of the server, even after a panic outside a service (which would be a
/// bug in this library), so that nobody waits for it in vain.
struct OnExit {
    shared: Arc<Shared>,
    member: Arc<Member>,
    has_ended: bool,
}

impl OnExit {
    /// Ends the worker, and keeps its thread if there are not enough that are kept.
    fn keep(mut self) -> Option<Receiver<Box<Worker>>> {
        let (thread, waits) = mpsc::sync_channel(1);
        self.shared.workers.enter(Part::None);
        self.has_ended = true;
        self.shared.worker_ends(&self.member, Some(thread)).then_some(waits)
    }
}

impl Drop for OnExit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.end(&self.member, CloseReason::Died);
            self.shared.finish(Arc::clone(&self.member), false);
        }
        if !self.has_ended {
            self.shared.worker_ends(&self.member, None);
        }
    }
}

/// Ends the worker's client in the way that follows from how the worker ended.
fn conclude(shared: &Shared, member: Arc<Member>, end: End) {
    match end {
        End::Finished => {
            shared.end(&member, CloseReason::Unregistered);
            shared.events.tell(Event::Unregister { peer: member.peer });
        }
        End::Violation(violation) => shared.end_for(&member, violation),
        End::Closed(CloseReason::ProtocolViolation) => {
            if shared.end(&member, CloseReason::ProtocolViolation) {
                shared.log_violation(&member, &"its inbox ring is broken");
            }
        }
        // The acceptor ends the client when all workers are done, so that messages still reach it until then.
        // But if the server's end does not wait for this worker, the acceptor may be gone.
        End::Closed(CloseReason::Shutdown) if shared.workers.is_left_alone(member.peer.key) => {
            shared.end(&member, CloseReason::Shutdown);
        }
        End::Closed(CloseReason::Shutdown) => return,
        End::Closed(reason) => {
            shared.end(&member, reason);
        }
    }
    failpoint!("worker.concluded", [server], seldom);
    shared.finish(member, matches!(end, End::Finished));
    failpoint!("worker.finished", [server], seldom);
}

fn pin_to(cpu: usize) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
}

/// Finds out whether this process may run on a CPU, by a thread that tries.
pub(super) fn check_cpu(cpu: usize) -> Result<(), StartError> {
    let refused = |source: io::Error| StartError::Pin { cpu, source };
    if cpu >= CpuSet::MAX_CPU {
        return Err(refused(io::ErrorKind::InvalidInput.into()));
    }
    let thread = threads::spawn("rp-pin", move || pin_to(cpu))
        .map_err(|source| StartError::System { action: "start a thread", source })?;
    match thread.join() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(errno)) => Err(refused(errno.into())),
        Err(_) => Err(refused(io::ErrorKind::Other.into())),
    }
}
