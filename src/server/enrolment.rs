//! How a connection becomes a client: its name in the registry, its channel, its worker, and the answer that
//! brings it the channel.

#![forbid(unsafe_code)]

use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::acceptor::{Acceptor, NO_DESCRIPTORS, State, start_worker};
use super::builder::Settings;
use super::delivery::Inbox;
use super::events::{Event, Refused};
use super::member::Member;
use super::processes::nearly_the_last;
use super::quotas::{Over, Share};
use super::system_limits;
use super::worker::Worker;
use crate::channel;
use crate::connect::{Credentials, Refusal, Reply};
use crate::os::remedy::on_resources;
use crate::registry::{Owner, RegisterError};
use crate::ring::CloseReason;
use crate::shm::Segment;
use crate::testing::failpoints::failpoint;
use crate::wire::{Key, Name, Peer};

/// The last descriptors, which are not for clients: so that there is one for a new client's memory, and
/// observers are still answered.
const LAST_DESCRIPTORS: u64 = 8;

impl Acceptor {
    pub(super) fn register(&mut self, token: u64, name: &Name) {
        let Some(connection) = self.connections.get(&token) else { return };
        let who = connection.socket.who();
        let Credentials { pid, uid, gid } = who;
        let refused = |reason: &'static str, message: &'static str| Refused {
            name: Some(*name),
            ..Refused::new(reason, message).of(who)
        };
        if nearly_the_last(&*connection.socket, LAST_DESCRIPTORS) {
            self.shared.events.tell(Event::Refused(refused("descriptors", NO_DESCRIPTORS)));
            return self.refuse(token, Refusal::NoResources, NO_DESCRIPTORS);
        }
        // Before it costs anything.
        if !self.answers.may_send(uid) {
            return self.answers.put_off(token, *name);
        }
        let Settings { geometry, wait, max_clients, .. } = &self.shared.settings;
        let bytes = geometry.segment_len() as u64;
        let share = match self.shared.ledger.begin_client(uid, *max_clients, bytes, *wait) {
            Ok(share) => share,
            Err(Over { refusal, why }) => {
                let refused = refused("quota", "a registration beyond what its user may have");
                self.shared.events.tell(Event::Refused(refused));
                return self.refuse(token, refusal, &why);
            }
        };
        failpoint!("register.heard");
        match self.shared.registry.register(name, Owner { pid, uid, gid }) {
            Ok(key) => {
                failpoint!("register.claimed");
                if let Err((refusal, why)) = self.enroll(token, key, name, share) {
                    let _ = self.shared.registry.release(key);
                    let mut refused = refused("resources", "cannot serve a client");
                    refused.error = Some(why.clone());
                    self.shared.events.tell(Event::Refused(refused));
                    self.refuse(token, refusal, &why);
                }
            }
            Err(error) => {
                let refusal = match error {
                    RegisterError::NameTaken => Refusal::NameTaken,
                    RegisterError::Full => Refusal::Full,
                    RegisterError::Registry(_) => Refusal::NoResources,
                };
                let mut refused = refused("", "a registration was refused");
                refused.reason = format!("{refusal:?}").into();
                self.shared.events.tell(Event::Refused(refused));
                self.refuse(token, refusal, &error.to_string());
            }
        }
    }

    /// Makes everything that a registered client needs, and sends it its key and channel.
    fn enroll(&mut self, token: u64, key: Key, name: &Name, share: Share) -> Result<(), (Refusal, String)> {
        let no_resources = |why: String| (Refusal::NoResources, why);
        let Settings { geometry, wait, .. } = &self.shared.settings;
        let wait = share.wait().unwrap_or(*wait);
        let no_memory = |error, asked| {
            no_resources(format!("no memory for a client: {}", system_limits::in_words(&error, asked)))
        };
        let (host, descriptor) = channel::create_for_server(geometry, wait)
            .map_err(|error| no_memory(error, 3 * geometry.ring_size()))?;
        failpoint!("register.channel");
        // Its own allocator ends a server that cannot have the little that it needs besides. As many workers
        // as there were at once before need no more: the stacks of their threads are kept.
        let workers = self.shared.workers.count() + 1;
        if workers > self.most_workers {
            let spare = Segment::anonymous(system_limits::HEADROOM);
            drop(spare.map_err(|error| no_memory(error.into(), system_limits::HEADROOM))?);
        }
        let counters = match self.shared.registry.counters(key) {
            Ok(Some(counters)) => counters,
            Ok(None) => return Err(no_resources("the registration did not last: try again".into())),
            Err(error) => return Err(no_resources(error.to_string())),
        };
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
        let Credentials { pid, uid, gid } = connection.socket.who();
        let inbox = Inbox::new(host.inbox, host.intake.clone(), counters.clone());
        let closers = (host.closer, host.intake);
        let peer = Peer { name: *name, key, pid, uid, gid };
        let member = Arc::new(Member::new(peer, inbox, closers, counters, token).with_share(share));
        self.shared.members.insert(Arc::clone(&member));
        failpoint!("register.member");
        let worker =
            Worker::new(Arc::clone(&self.shared), Arc::clone(&member), host.requests, host.responses);
        if let Err(error) = start_worker(worker) {
            self.shared.forget(&member);
            return Err(no_resources(format!(
                "cannot start a thread: {error}{}",
                system_limits::remedy(&error, system_limits::thread())
            )));
        }
        self.most_workers = self.most_workers.max(workers);
        failpoint!("register.worker");
        // Before the answer: once the client has it, its worker may tell that it unregistered.
        self.shared.events.tell(Event::Register { peer });
        let sent = connection.socket.send_with(&Reply::registered(key), &descriptor);
        failpoint!("register.sent");
        // Before its pidfd, which may take the descriptor's place.
        drop(descriptor);
        match sent {
            Ok(_) => self.answers.sent(&connection.socket),
            // It left.
            Err(Errno::PIPE | Errno::CONNRESET) => {}
            // Nothing is left of it but its worker, which finds its channel closed.
            Err(errno) => {
                self.shared.end(&member, CloseReason::Died);
                self.shared.events.tell(Event::Unregister { peer });
                return Err(no_resources(cannot_send(errno)));
            }
        }
        self.processes.watch(&self.epoll, &connection.socket, pid, token);
        failpoint!("register.watched");
        connection.state = State::Registered { member: Arc::clone(&member) };
        self.end_asking(uid);
        if sent.is_err() {
            self.client_died(token);
            return Ok(());
        }
        self.shared.sums.registered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Why the kernel does not send a client its channel, and what the server's owner can do.
fn cannot_send(errno: Errno) -> String {
    let remedy = match errno {
        Errno::TOOMANYREFS => {
            "; too many descriptors that the server's user sent were not received: end the programs that do not receive \
             them, or raise the server's limit of open files (ulimit -n)"
        }
        _ => on_resources(&errno.into()),
    };
    format!("the server cannot send a client its channel: {errno}{remedy}")
}
