//! The threads of the workers: starts and pins them, and ends a client when its worker has ended.

#![forbid(unsafe_code)]

use rustix::thread::{CpuSet, sched_setaffinity};
use std::io;
use std::sync::Arc;

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

/// Starts a worker's thread.
pub(super) fn start_worker(worker: Worker) -> io::Result<()> {
    let shared = Arc::clone(&worker.operations.shared);
    let member = Arc::clone(&worker.operations.member);
    shared.workers.begins(&member);
    let started = threads::spawn(&threads::name_for(member.peer.name.as_str()), move || {
        let exit = OnExit {
            shared: Arc::clone(&worker.operations.shared),
            member: Arc::clone(&worker.operations.member),
        };
        exit.shared.workers.enter(Part::Worker(exit.member.peer.key));
        exit.member.measured.runs_here();
        // Declared after `exit`, so dropped before it: the channel's memory must be freed before the
        // server may report that everything is gone.
        let mut worker = worker;
        if let Some(cpu) = exit.shared.settings.pin {
            let _ = pin_to(cpu);
        }
        let end = worker.run();
        let service = Arc::clone(&worker.operations.service);
        drop(worker);
        conclude(&exit.shared, Arc::clone(&exit.member), end);
        let _ = contain(|| service.left(&exit.member.peer));
        let _ = contain(|| drop(service));
        if matches!(end, End::Closed(CloseReason::Shutdown)) {
            // Again: if the service joined the server just now, nobody waits for this worker any more, so
            // that it must end its client itself.
            conclude(&exit.shared, Arc::clone(&exit.member), end);
        }
    });
    match started {
        Ok(thread) => shared.workers.has_begun(member.peer.key, thread),
        Err(error) => {
            shared.worker_ends(&member);
            return Err(error);
        }
    }
    Ok(())
}

/// Ends a worker's thread for the rest of the server, even after a panic outside a service (which would be a
/// bug in this library), so that nobody waits for it in vain.
struct OnExit {
    shared: Arc<Shared>,
    member: Arc<Member>,
}

impl Drop for OnExit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.end(&self.member, CloseReason::Died);
            self.shared.finish(Arc::clone(&self.member));
        }
        self.shared.worker_ends(&self.member);
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
    shared.finish(member);
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
