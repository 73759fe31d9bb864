//! The bridge and its server, from the registration to the end of the connection: who is exported, who is
//! represented here, and where questions and samples of other nodes go.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringpost::{Async, Client, Key, Name, Peer, RegisterError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tracing::info;
use zenoh::liveliness::LivelinessToken;

use crate::links::{Awaited, LinkJob};
use crate::node::{Answers, Node, lock};
use crate::presence;
use crate::relay::{self, Job, Who};
use crate::topics::{self, Arrived};
use crate::wire::{Answer, Ask, NodeName, OnLink, Outcome, Said, Step, What, is_foreign};

/// Questions that wait for one remote client's representative, and batches of samples.
const QUEUE: usize = 256;
/// Links that one node may have with this one, from there.
const MOST_LINKS: usize = 1024;
/// How long the word of a new client may take that speaks to another node.
const TELLING: Duration = Duration::from_secs(2);
/// How many registrations are under way at once.
const REGISTRATIONS: usize = 8;

pub struct Local {
    pub node: Arc<Node>,
    pub registrations: Semaphore,
    /// The local clients that other nodes see, or are about to. The token is withdrawn when it is dropped.
    exported: Mutex<HashMap<Key, (Name, Option<LivelinessToken>)>>,
    /// Set off when other nodes were told of one more.
    told: Notify,
    relays: Mutex<HashMap<(NodeName, Name), Relay>>,
    /// Links of clients of other nodes with local ones.
    links: Mutex<HashMap<LinkId, mpsc::Sender<LinkJob>>>,
    /// What other nodes have not answered, for each link of a local client with one of theirs.
    pub awaited: Mutex<HashMap<u64, Awaited>>,
}

/// A link of a client of another node: the node, the run of its bridge and that one's number.
pub type LinkId = (NodeName, u64, u64);

/// What represents a remote client here.
struct Relay {
    /// The client's key at its own server.
    key: Key,
    jobs: mpsc::Sender<Job>,
    samples: mpsc::Sender<Arrived>,
    /// The number of the last message that came from this client. One that is not later was there before.
    last: u64,
    /// Whether the client is registered here.
    here: Arc<AtomicBool>,
    /// What ends with this. None once the client has left: it ends by itself then.
    task: Option<AbortHandle>,
}

impl Relay {
    /// The client has left. If it is registered here, what is under way is waited for.
    fn leaves(mut self) {
        if self.here.load(Ordering::Relaxed) {
            self.task = None;
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Serves as long as the server is there. Returns why it ended.
pub async fn serve(node: &Arc<Node>) -> String {
    let bridge = format!("bridge@{}", node.name());
    let client = match tokio::task::block_in_place(|| register(node, &bridge)) {
        Ok(client) => client,
        Err(error) => return format!("cannot register {bridge}: {error}"),
    };
    let local = Arc::new(Local {
        node: node.clone(),
        registrations: Semaphore::new(REGISTRATIONS),
        exported: Mutex::default(),
        told: Notify::new(),
        relays: Mutex::default(),
        links: Mutex::default(),
        awaited: Mutex::default(),
    });
    let (mut caller, inbox) = client.split();
    let ended = async {
        let watched = topics::subscribe(&local, &mut caller)?;
        let presence = caller.presence().map_err(|error| error.to_string())?;
        let presence = Async::new(presence).map_err(|error| error.to_string())?;
        let mut inbox = Async::new(inbox).map_err(|error| error.to_string())?;
        node.set_local(Some(local.clone()));
        for other in &node.settings.allow {
            local.appoint(other);
        }
        info!("joined the server at {}", node.settings.socket.display());
        let refuse = async {
            // Nobody has anything to say to the bridge itself: its senders get no confirmation.
            while inbox.recv().await.is_ok() {}
        };
        tokio::select! {
            () = presence::tell(&local, presence) => {}
            () = topics::tell(&local, watched) => {}
            () = refuse => {}
        }
        Ok::<(), String>(())
    };
    let ended = ended.await;
    node.set_local(None);
    local.end();
    tokio::task::block_in_place(|| drop(caller));
    match ended {
        Ok(()) => "the server has ended the connection".into(),
        Err(error) => error,
    }
}

pub fn register(node: &Node, name: &str) -> Result<Client, RegisterError> {
    Client::builder(&node.settings.socket).relay().register(name)
}

impl Local {
    /// Gives up all that it has.
    pub fn end(&self) {
        // Dropped outside the locks: that ends tasks, which may have something to say here.
        let exported = std::mem::take(&mut *lock(&self.exported));
        let relays = std::mem::take(&mut *lock(&self.relays));
        drop((exported, relays));
    }

    /// Lets other nodes use a client: before they are told of it, because some are quick.
    pub fn export(&self, peer: &Peer) {
        lock(&self.exported).insert(peer.key, (peer.name, None));
    }

    /// Other nodes are told of a client.
    pub fn tells(&self, peer: &Peer, token: LivelinessToken) {
        info!("{} is exported", peer.name);
        if let Some((_, of_client)) = lock(&self.exported).get_mut(&peer.key) {
            *of_client = Some(token);
        }
        self.told.notify_waiters();
    }

    /// Whether other nodes are told of a client. One that has just registered may be quicker than the word of
    /// it: that is waited for.
    pub async fn shows(&self, name: &Name, key: Key) -> bool {
        let is_told = || lock(&self.exported).get(&key).is_some_and(|(_, token)| token.is_some());
        let told = async {
            loop {
                let next = self.told.notified();
                if is_told() {
                    return;
                }
                next.await;
            }
        };
        is_told()
            || !is_foreign(name)
                && self.node.settings.exports(name.as_str())
                && tokio::time::timeout(TELLING, told).await.is_ok()
    }

    pub fn withdraw(&self, key: Key) {
        let gone = lock(&self.exported).remove(&key);
        if let Some((name, _)) = gone {
            info!("{name} is not exported any more");
        }
    }

    pub fn is_exported(&self, key: Key) -> bool {
        lock(&self.exported).contains_key(&key)
    }

    /// Makes the representatives of a node's clients those that should be there.
    pub fn appoint(self: &Arc<Self>, node: &NodeName) {
        let owner = self.node.owner(node);
        let present = lock(&self.node.remote).of_node(node, owner);
        let known: Vec<Name> =
            lock(&self.relays).keys().filter(|(of, _)| of == node).map(|(_, name)| *name).collect();
        for name in known.into_iter().chain(present.into_keys()) {
            self.appoint_client(node, &name);
        }
        if owner.is_none() {
            lock(&self.links).retain(|(of, _, _), _| of != node);
        }
    }

    /// The same for one client.
    pub fn appoint_client(self: &Arc<Self>, node: &NodeName, client: &Name) {
        let Some(full) = node.member(client) else { return };
        // Looked at behind this lock, so that the last to look is the last to act.
        let mut relays = lock(&self.relays);
        let key = lock(&self.node.remote).client(node, self.node.owner(node), client);
        let key = key.filter(|_| self.node.settings.imports(node, client.as_str()));
        let id = (node.clone(), *client);
        if relays.get(&id).map(|relay| relay.key) == key {
            return;
        }
        let former = relays.remove(&id);
        if let Some(key) = key {
            let (jobs, of_jobs) = mpsc::channel(QUEUE);
            let (samples, of_samples) = mpsc::channel(QUEUE);
            let who = Who { node: node.clone(), full, key };
            let here = Arc::new(AtomicBool::new(false));
            let run = relay::run(self.clone(), who, of_jobs, of_samples, here.clone());
            let task = Some(self.node.spawn(run));
            relays.insert(id, Relay { key, jobs, samples, last: 0, here, task });
        }
        drop(relays);
        match former {
            Some(former) if self.node.owner(node).is_some() => former.leaves(),
            former => drop(former),
        }
    }

    /// A question of another node.
    pub fn asked(self: &Arc<Self>, from: NodeName, ask: Ask<'_>, answer: Answers) {
        match ask {
            Ask::Claim { .. } => {}
            Ask::Send { sequence, from: client, to, patience, payload, .. } => {
                if !self.is_exported(to) {
                    return answer.give(Answer::new(Outcome::NotFound, "not exported"));
                }
                let until = (!patience.is_zero()).then(|| Instant::now() + patience);
                let mut relays = lock(&self.relays);
                let Some(relay) = relays.get_mut(&(from, client)) else {
                    return answer.give(not_imported(&client, self.node.name()));
                };
                if sequence <= relay.last {
                    return answer.give(Answer::new(Outcome::Refused, "this message came before"));
                }
                match relay.jobs.try_reserve() {
                    Ok(place) => {
                        relay.last = sequence;
                        place.send(Job::Send { to, until, payload: payload.to_vec(), answer });
                    }
                    Err(_) => answer.give(Answer::new(Outcome::InboxFull, "")),
                }
            }
            Ask::Open { instance, link, from: client, to, .. } => {
                if !self.is_exported(to) {
                    return answer.give(Answer::new(Outcome::NotFound, "not exported"));
                }
                let id = (from.clone(), instance, link);
                {
                    let links = lock(&self.links);
                    let of_node = links.keys().filter(|(of, _, _)| *of == from).count();
                    if of_node >= MOST_LINKS || links.contains_key(&id) {
                        return answer.give(Answer::new(Outcome::Refused, "too many links"));
                    }
                }
                match lock(&self.relays).get(&(from, client)) {
                    None => answer.give(not_imported(&client, self.node.name())),
                    Some(relay) => match relay.jobs.try_reserve() {
                        Ok(place) => place.send(Job::Open { id, to, answer }),
                        Err(_) => answer.give(Answer::new(Outcome::Refused, "too much to do")),
                    },
                }
            }
            Ask::Close { instance, link } => {
                lock(&self.links).remove(&(from, instance, link));
                answer.give(Answer::ok(b""));
            }
        }
    }

    /// A call or a post of another node. Without room for it, its link ends.
    pub fn called(&self, from: &NodeName, said: &OnLink<'_>, room: Option<OwnedSemaphorePermit>) {
        let (id, sequence) = ((from.clone(), said.instance, said.link), said.sequence);
        let mut links = lock(&self.links);
        let Some(jobs) = links.get(&id) else { return };
        let job = room.map(|room| LinkJob {
            sequence,
            post: said.step == Step::Post,
            payload: said.payload.to_vec(),
            room,
        });
        if job.is_none_or(|job| jobs.try_send(job).is_err()) {
            links.remove(&id);
        }
    }

    /// Another node has answered a call or a post.
    pub fn answered(&self, from: &NodeName, said: &OnLink<'_>) {
        let mut awaited = lock(&self.awaited);
        if let Some(link) = awaited.get_mut(&said.link).filter(|link| link.to == *from)
            && let Some(call) = link.calls.remove(&said.sequence)
        {
            let _ = call.send(match said.step {
                Step::Failed => Err(said.text()),
                _ => Ok(said.payload.to_vec()),
            });
        }
    }

    pub fn add_link(&self, id: LinkId, jobs: mpsc::Sender<LinkJob>) {
        lock(&self.links).insert(id, jobs);
    }

    pub fn remove_link(&self, id: &LinkId) {
        lock(&self.links).remove(id);
    }

    /// Samples of another node. Those for which its publisher's representative has no room are lost, and are
    /// a gap. This runs on a thread of the session, and must not wait.
    pub fn samples(&self, said: Said, bytes: Cow<'_, [u8]>) {
        let What::Topic(publisher, topic) = said.what else { return };
        if self.node.settings.imports(&said.node, topic.as_str())
            && let Some(room) = self.node.room_for_samples(&said.node, bytes.len())
            && let Some(relay) = lock(&self.relays).get(&(said.node, publisher))
            && let Ok(place) = relay.samples.try_reserve()
        {
            place.send(Arrived { topic, batch: bytes.into_owned(), _room: room });
        }
    }
}

fn not_imported(client: &Name, own: &NodeName) -> Answer {
    Answer::new(Outcome::NotAllowed, format!("the node {own} does not import {client}"))
}
