//! Makes a connection a client: gives it a name, a channel and a worker, and sends it the channel.

#![forbid(unsafe_code)]

use rustix::io::Errno;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::access::{Act, Who};
use super::admission::NO_DESCRIPTORS;
use super::answers::Declined;
use super::broker::LinkMarks;
use super::builder::Settings;
use super::connections::{ConnectionId, Connections};
use super::delivery::Inbox;
use super::departure::client_died;
use super::events::{Event, Refused};
use super::measured::Measured;
use super::member::Member;
use super::processes::nearly_the_last;
use super::quotas::{Over, Share};
use super::relays::Relay;
use super::shared::Shared;
use super::system_limits;
use super::worker::Worker;
use super::worker_thread::start_worker;
use crate::channel::{self, ChannelError};
use crate::connect::{Accepted, Credentials, Proof, Refusal, Reply, Secret, peer_groups};
use crate::os::remedy::on_resources;
use crate::registry::{CounterCells, Owner, RegisterError, Registered};
use crate::shm::Segment;
use crate::shm::backend::fill_random;
use crate::testing::failpoints::failpoint;
use crate::wire::{CloseReason, Name, Peer, VanishReason};

/// The last descriptors, which are not for clients: one of them is needed for a new client's memory, and
/// observers must still be answered.
pub(super) const LAST_DESCRIPTORS: u64 = 8;

/// Registers clients, and remembers how many workers there were.
pub(super) struct Enrolment {
    shared: Arc<Shared>,
    /// The most workers that there were at once.
    most_workers: usize,
}

/// A client that is in the registry, and nowhere else yet.
struct NewClient {
    peer: Peer,
    groups: Box<[u32]>,
    counters: CounterCells,
    share: Share,
    is_relay: bool,
}

impl Enrolment {
    pub(super) fn new(shared: Arc<Shared>) -> Enrolment {
        Enrolment { shared, most_workers: 0 }
    }

    /// Registers the client at the other end of a connection, or refuses it.
    pub(super) fn register(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        name: &Name,
        is_relay: bool,
    ) {
        let Some(connection) = connections.get(id) else { return };
        let socket = Arc::clone(&connection.socket);
        let who = socket.who();
        let Credentials { pid, uid, gid } = who;
        let refused = |reason: &'static str, message: &'static str| Refused {
            name: Some(*name),
            ..Refused::new(reason, message).of(who)
        };
        // What the kernel does not tell is no member's, so a rule does not let it in by a group.
        let groups = peer_groups(&*socket).unwrap_or_default();
        let client = Who { name, uid, gid, groups: &groups };
        let allowed = self.shared.check_name(Act::Register, name, &client);
        let allowed = allowed.and_then(|()| self.shared.check_relay(is_relay, name, &client));
        if let Err(Declined { refusal, why }) = allowed {
            let mut refused = refused("rule", "a registration that a rule does not allow");
            refused.error = Some(why.clone());
            self.shared.events.tell(Event::Refused(refused));
            return connections.refuse(&self.shared, id, refusal, &why);
        }
        if nearly_the_last(&*socket, LAST_DESCRIPTORS) {
            self.shared.events.tell(Event::Refused(refused("descriptors", NO_DESCRIPTORS)));
            return connections.refuse(&self.shared, id, Refusal::NoResources, NO_DESCRIPTORS);
        }
        let Settings { geometry, wait, max_clients, .. } = &self.shared.settings;
        let bytes = geometry.segment_len() as u64;
        let share = match self.shared.ledger.begin_client(uid, *max_clients, bytes, *wait) {
            Ok(share) => share,
            Err(Over { refusal, why }) => {
                let refused = refused("quota", "a registration beyond what its user may have");
                self.shared.events.tell(Event::Refused(refused));
                return connections.refuse(&self.shared, id, refusal, &why);
            }
        };
        failpoint!("register.heard", [server], seldom);
        match self.shared.roll.register(&self.shared.registry, name, Owner { pid, uid, gid }) {
            Ok(Registered { key, counters }) => {
                failpoint!("register.claimed", [server], seldom);
                let peer = Peer { name: *name, key, pid, uid, gid };
                let client = NewClient { peer, groups: groups.into(), counters, share, is_relay };
                if let Err(why) = self.enroll(connections, id, &socket, client) {
                    let _ =
                        self.shared.roll.release(&self.shared.registry, &peer, VanishReason::Unregistered);
                    let mut refused = refused("resources", "cannot serve a client");
                    refused.error = Some(why.clone());
                    self.shared.events.tell(Event::Refused(refused));
                    connections.refuse(&self.shared, id, Refusal::NoResources, &why);
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
                connections.refuse(&self.shared, id, refusal, &error.to_string());
            }
        }
    }

    /// Makes everything that a registered client needs, and sends it its key and channel. Otherwise says why
    /// not.
    fn enroll(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        socket: &Arc<Accepted>,
        client: NewClient,
    ) -> Result<(), String> {
        let NewClient { peer, groups, counters, share, is_relay } = client;
        let no_random = |error| format!("cannot get random bytes for a secret: {error}");
        let mut random = [0; 16];
        fill_random(&mut random).map_err(no_random)?;
        let proof = Proof { key: peer.key, secret: Secret::new(random) };
        let mut tickets = [0; 8];
        if is_relay {
            fill_random(&mut tickets).map_err(no_random)?;
        }
        let relay = is_relay.then(|| Relay::new(u64::from_ne_bytes(tickets)));
        let Settings { geometry, wait, .. } = &self.shared.settings;
        let wait = share.wait().unwrap_or(*wait);
        let no_memory =
            |error, asked| format!("no memory for a client: {}", system_limits::in_words(&error, asked));
        let (host, descriptor) = channel::create_for_server(geometry, wait)
            .map_err(|error| no_memory(error, 3 * geometry.ring_size()))?;
        failpoint!("register.channel", [server], seldom);
        // The allocator would end the server if it lacked the little memory that the client needs besides. If
        // there were as many workers before, no more is needed: their threads' stacks are kept.
        let workers = self.shared.workers.count() + 1;
        if workers > self.most_workers {
            let spare = Segment::anonymous(system_limits::HEADROOM);
            drop(spare.map_err(|source| {
                no_memory(ChannelError::System { action: "map memory", source }, system_limits::HEADROOM)
            })?);
        }
        let measured = Measured::at(&host.requests, &host.responses);
        let inbox = Inbox::new(host.inbox, host.intake.clone(), counters.clone());
        let closers = (host.closer, host.intake);
        let member = Member::new(peer, inbox, closers, counters, id).with(
            proof.secret,
            LinkMarks::new(host.links),
            host.kicks,
            share,
        );
        let member = member.in_groups(groups).with_figures(measured, host.figures).with_relay(relay);
        let member = Arc::new(member);
        if self.shared.is_stamped() {
            member.set_stamped(true);
        }
        self.shared.members.insert(Arc::clone(&member));
        failpoint!("register.member", [server], seldom);
        let worker =
            Worker::new(Arc::clone(&self.shared), Arc::clone(&member), host.requests, host.responses);
        if let Err(error) = start_worker(worker) {
            self.shared.forget(&member, CloseReason::Unregistered);
            let remedy = system_limits::remedy(&error, system_limits::thread());
            return Err(format!("cannot start a thread: {error}{remedy}"));
        }
        self.most_workers = self.most_workers.max(workers);
        failpoint!("register.worker", [server], seldom);
        // Before the answer: once the client has that, its worker may report that it unregistered.
        self.shared.events.tell(Event::Register { peer });
        let sent = socket.send_with(&Reply::registered(&proof), &[descriptor.as_fd()]);
        failpoint!("register.sent", [server], seldom);
        // Before the process is watched, so that its pidfd can have this descriptor's number.
        drop(descriptor);
        match sent {
            Ok(_) => connections.unread.sent(socket, 1),
            // The client has left.
            Err(Errno::PIPE | Errno::CONNRESET) => {}
            // Only the worker is left of this client. It finds its channel closed.
            Err(errno) => {
                self.shared.end(&member, CloseReason::Died);
                self.shared.events.tell(Event::Unregister { peer });
                return Err(cannot_send("a client its channel", errno));
            }
        }
        connections.register(id, &member);
        if sent.is_err() {
            client_died(&self.shared, connections, id);
            return Ok(());
        }
        self.shared.sums.registered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Why the kernel does not send descriptors, and what the server's owner can do.
pub(super) fn cannot_send(what: &str, errno: Errno) -> String {
    let remedy = match errno {
        Errno::TOOMANYREFS => {
            "; too many descriptors that the server's user sent were not received: end the programs that do not receive \
             them, or raise the server's limit of open files (ulimit -n)"
        }
        _ => on_resources(&errno.into()),
    };
    format!("the server cannot send {what}: {errno}{remedy}")
}
