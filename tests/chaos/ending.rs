//! Ends a round: the clients may be stopped first, the server dies, and every client must notice.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use ringpost::Observer;
use rustix::process::Signal;

use super::census::Holdings;
use super::client_process::ClientProcess;
use super::failpoints::Side;
use super::history::{Gate, Op};
use super::plan::{Finish, Plan};
use super::round::{ALLOWANCE_KIB, Broken, Chaos, Done, Due};
use super::server_process::{GRACE, ServerProcess};

/// How long an introduction may wait for a client that does not listen any more, and what a publisher has
/// published before it ended for its subscribers.
const NOT_TAKEN: Duration = Duration::from_secs(6);

/// How long a server may take to start. That is no promise of the library: it makes and removes files, and on
/// a busy disk each of them may wait for seconds for what others write.
const STARTING: Duration = Duration::from_secs(30);

/// What a process is at, for people.
fn at_what(pid: u32) -> String {
    let read = |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let status = read("status");
    let state = status.lines().find(|line| line.starts_with("State:")).unwrap_or("State: gone");
    format!("{state}, at {:?}: {}", read("wchan"), read("stack"))
}

impl Chaos {
    /// Waits until the server takes connections. Returns what it holds before its first client.
    pub(super) fn await_server(
        &mut self,
        server: &mut ServerProcess,
        due: &mut Due,
    ) -> Result<Holdings, Broken> {
        let (socket, pid) = (self.socket.clone(), server.pid());
        let (mut observed, mut held, mut why) = (None, None, "there is no socket".to_owned());
        let taken = self.until(due, "the server takes connections", STARTING, |_| {
            if socket.exists() {
                let observer = Observer::connect(&socket);
                // Once it has answered, the connection is among what it holds.
                match observer
                    .as_ref()
                    .map_err(ToString::to_string)
                    .and_then(|observer| observer.list().map_err(|error| error.to_string()))
                {
                    Ok(_) => observed = Holdings::of(pid),
                    Err(error) => why = error,
                }
            }
            Ok(observed.is_some() || server.ended().is_some())
        });
        taken.map_err(|broken| match broken {
            Broken::Vain(what) => Broken::Vain(format!("{what}: {why}; the server: {}", at_what(pid))),
            broken => broken,
        })?;
        self.until(due, "the server lets go of an observer", Duration::ZERO, |_| {
            held = Holdings::of(pid);
            let less = |held: Holdings| observed.is_some_and(|with| held.descriptors < with.descriptors);
            Ok(held.is_some_and(less) || server.ended().is_some())
        })?;
        held.ok_or_else(|| Broken::Promise("the server did not start".into()))
    }

    pub(super) fn end_server(
        &mut self,
        plan: &Plan,
        server: &mut ServerProcess,
        base: Option<Holdings>,
        due: &mut Due,
    ) -> Done {
        if server.ended().is_none() {
            self.await_names(server, due)?;
        }
        if plan.held && server.ended().is_none() {
            self.set_gate(Gate::Hold(self.round + 1));
            self.set_link_gate(Gate::Hold(self.round + 1));
            self.await_messages(server, due)?;
            if plan.descriptors == 0 {
                self.await_no_links(server, due)?;
                self.await_samples(server, due)?;
            }
        }
        if let Some(base) = base
            && server.ended().is_none()
        {
            self.set_gate(Gate::Leave(self.round + 1));
            self.set_link_gate(Gate::Leave(self.round + 1));
            self.await_quiet(&base, server, due)?;
        }
        let alive = server.ended().is_none();
        match plan.finish {
            Finish::Kill => server.signal(Signal::KILL),
            Finish::Terminate => server.signal(Signal::TERM),
        }
        let grace = Duration::from_millis(GRACE) + Duration::from_secs(1);
        let mut status = None;
        self.until(due, "the server ends", grace, |_| {
            status = server.ended();
            Ok(status.is_some())
        })?;
        let Some(status) = status else { return Ok(()) };
        match (status.signal(), &server.point) {
            (None, _) if status.success() => self.servers.in_order += 1,
            (Some(signal), _) if signal == Signal::KILL.as_raw() => self.servers.killed += 1,
            // It was told to stop before it watched for that signal.
            (Some(signal), _) if signal == Signal::TERM.as_raw() && plan.finish == Finish::Terminate => {
                self.servers.killed += 1;
            }
            (Some(signal), Some(point)) if signal == Signal::USR2.as_raw() => {
                self.servers.at_failpoints += 1;
                self.hits.add(Side::Server, point.name);
            }
            _ => return Err(Broken::Promise(format!("the server ended by itself: {status}"))),
        }
        let at_its_point = status.signal() == Some(Signal::USR2.as_raw());
        let early = |(time, _): &&(u64, u64)| server.ended_at.is_some_and(|ended| *time < ended);
        match self.watch.orphaned.iter().find(early) {
            Some((_, slot)) if alive && !at_its_point => {
                Err(Broken::Promise(format!("client {slot} was told that the server died, and it lived")))
            }
            _ => Ok(()),
        }
    }

    /// Every client ends its operation while the server lives, so no wake was lost. Then those that wait for
    /// messages must have received all that were acknowledged.
    fn await_messages(&mut self, server: &mut ServerProcess, due: &mut Due) -> Done {
        self.await_idle(due, Some(server))?;
        let mut waits = None;
        let received = self.until(due, "the messages are received", Duration::ZERO, |chaos| {
            waits = chaos.processes.iter().find_map(|process| {
                let receives = process.open[1].is_some_and(|event| event.op == Op::ReceiveLong);
                let missing = chaos.watch.judge.waiting_for(process.key.filter(|_| receives)?);
                (missing > 0).then_some((process.slot, missing))
            });
            Ok(waits.is_none() || server.ended().is_some())
        });
        received.map_err(|broken| match (broken, waits) {
            (Broken::Vain(_), Some((slot, missing))) => Broken::Promise(format!(
                "client {slot} waits for messages, and {missing} that were acknowledged do not come"
            )),
            (broken, _) => broken,
        })
    }

    /// All links were closed at both ends; then the server must know of none.
    fn await_no_links(&mut self, server: &mut ServerProcess, due: &mut Due) -> Done {
        let (socket, mut left) = (self.socket.clone(), Vec::new());
        let forgotten = self.until(due, "the server knows of no link", NOT_TAKEN, |_| {
            if server.ended().is_some() {
                return Ok(true);
            }
            let listed = Observer::connect(&socket).ok().and_then(|observer| observer.list().ok());
            let Some(clients) = listed else { return Ok(false) };
            left = clients.into_iter().filter(|client| client.links > 0).collect();
            Ok(left.is_empty())
        });
        forgotten.map_err(|broken| match broken {
            Broken::Vain(_) if !left.is_empty() => {
                Broken::Promise(format!("all links have ended, and the server counts some: {left:?}"))
            }
            broken => broken,
        })
    }

    /// Nobody publishes any more. Then every subscription must come to the last sample of each publisher that
    /// it reads, also of those that were killed.
    fn await_samples(&mut self, server: &mut ServerProcess, due: &mut Due) -> Done {
        let mut missing = None;
        let come = self.until(due, "the samples are received", Duration::ZERO, |chaos| {
            missing = chaos.watch.topics.missing();
            Ok(missing.is_none() || server.ended().is_some())
        });
        come.map_err(|broken| match (broken, missing) {
            (Broken::Vain(_), Some(missing)) => Broken::Promise(missing),
            (broken, _) => broken,
        })
    }

    /// No client may find its name taken by a dead process.
    fn await_names(&mut self, server: &mut ServerProcess, due: &mut Due) -> Done {
        let mut slot = None;
        let freed = self.until(due, "a name is free", Duration::ZERO, |chaos| {
            slot = chaos
                .processes
                .iter()
                .find(|process| process.taken_since.is_some())
                .map(|process| process.slot);
            Ok(slot.is_none() || server.ended().is_some())
        });
        freed.map_err(|broken| match (broken, slot) {
            (Broken::Vain(_), Some(slot)) => {
                Broken::Promise(format!("the name in slot {slot} is not free again after its death"))
            }
            (broken, _) => broken,
        })
    }

    /// Every client leaves; then the server must hold what it held at first.
    fn await_quiet(&mut self, base: &Holdings, server: &ServerProcess, due: &mut Due) -> Done {
        self.await_idle(due, None)?;
        let mut clients = None;
        let socket = self.socket.clone();
        let registry = self.until(due, "the registry is empty", Duration::ZERO, |_| {
            clients = Observer::connect(&socket).ok().and_then(|observer| observer.list().ok());
            Ok(clients.as_ref().is_some_and(Vec::is_empty))
        });
        if let Err(Broken::Vain(_)) = registry {
            return Err(Broken::Promise(format!("clients that are gone are still registered: {clients:?}")));
        }
        registry?;
        let (pid, mut held) = (server.pid(), None);
        let back = self.until(due, "the server is as it was", NOT_TAKEN, |_| {
            held = Holdings::of(pid);
            Ok(held.is_some_and(|held| held.is_back_at(base, ALLOWANCE_KIB)))
        });
        if let Err(Broken::Vain(_)) = back {
            return Err(Broken::Promise(format!("after quiet the server holds {held:?}; at first {base:?}")));
        }
        back?;
        let more = held.map_or(0, |held| held.memory_kib.saturating_sub(base.memory_kib));
        self.most_memory_kib = self.most_memory_kib.max(more);
        self.quiet_rounds += 1;
        Ok(())
    }

    /// Whether it waits at its gate, or need not.
    fn is_idle(&self, process: &ClientProcess) -> bool {
        let gate = self.gate_of(process.side);
        let works = process.side != Side::Client && matches!(gate, Gate::Open(_));
        works || process.idle == Some(gate.word().into())
    }

    /// Waits until every client waits at the gate.
    pub(super) fn await_idle(&mut self, due: &mut Due, mut server: Option<&mut ServerProcess>) -> Done {
        // A client with links may first have to see an attempt to its end.
        let idle = self.until(due, "everybody is idle", Duration::from_secs(3), |chaos| {
            // The server may still reach its failpoint; then there is nothing to wait for.
            let over = server.as_mut().is_some_and(|server| server.ended().is_some());
            Ok(over || chaos.processes.iter().all(|process| chaos.is_idle(process)))
        });
        match idle {
            Err(Broken::Vain(_)) => {
                let busy: Vec<String> = self
                    .processes
                    .iter()
                    .filter(|process| !self.is_idle(process))
                    .map(|process| format!("{} (pid {}): {:?}", process.name(), process.pid(), process.open))
                    .collect();
                Err(Broken::Promise(format!("still not at an end: {}", busy.join("; "))))
            }
            done => done,
        }
    }

    /// Waits until every client has noticed the server's end and received what was committed before it.
    pub(super) fn settle(&mut self, due: &mut Due) -> Done {
        self.set_gate(Gate::Closed(self.round + 2));
        self.await_idle(due, None)
    }
}
