//! This node among the others: the session, the claim of the name, and questions to other nodes.
//!
//! # The claim
//!
//! A bridge claims its node's name by a liveliness token with the number of its run, its *instance*, which
//! begins with the time of its start. Each node believes the oldest claim of a name that it sees, and answers
//! no other; so nodes that have seen two bridges of one name in different orders, after a partition, agree
//! again. A bridge asks each node that it meets whether the name is its own. One that hears *no* for longer
//! than a dead bridge is remembered (`LEASE` and the time to notice) has lost, and ends.
//!
//! # Priorities
//!
//! Claims go before everything. Messages and calls have one priority, so that their order is kept, and block
//! at a full queue: one question of each node at a time, behind a gate, so that a slow node delays only those
//! who talk to it. What waits for the gate or for an answer is bounded by `ROOM`; a question beyond that is
//! refused at once. Answers have the priority of their question, and go through the same gate. Samples of
//! topics have the lowest priority, and are dropped at a full queue (see `topics`): subscribers see that as
//! a gap.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tracing::{debug, error, info, warn};
use zenoh::Session;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Publisher;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::query::{ConsolidationMode, Query};
use zenoh::sample::Locality;

use crate::cli::Settings;
use crate::local::Local;
use crate::presence::Remote;
use crate::tls;
use crate::wire::{
    Answer, Ask, NodeName, OnLink, Outcome, PREFIX, Said, Step, What, link_key, query_key, read_query_key,
};

/// After so long without a word, a node is gone.
pub const LEASE: Duration = Duration::from_secs(4);
/// For so long a claim may be refused before it is lost: an earlier run may still be remembered.
const CLAIM: Duration = Duration::from_secs(8);
/// A message that takes so long to be put into a queue has found it full.
const SLOW: Duration = Duration::from_millis(1);
/// What may be on the way to one node and not be answered, in pieces of 1 KiB: the largest block, and half as
/// much for the rest, of which the open links are a part.
const ROOM: usize = tls::MOST_PAYLOAD / 1024 * 3 / 2;
/// As many registrations of a node's clients as may be here are made at once; after that, one in this time.
const REGISTRATION: Duration = Duration::from_millis(10);
/// Between two questions who else is there, when more clients were told of than may appear.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// What each question counts beside its payload, in the same pieces: its memory here and there.
const EACH: usize = 4;

/// The session, and what is known of the other nodes.
pub struct Node {
    pub session: Session,
    pub settings: Settings,
    pub instance: u64,
    /// For numbers that are never used twice.
    numbers: AtomicU64,
    ways: HashMap<NodeName, Way>,
    /// The claims that are seen, of each allowed node.
    claims: Mutex<HashMap<NodeName, BTreeSet<u64>>>,
    /// The clients of this node's server. None while there is no server.
    local: Mutex<Option<Arc<Local>>>,
    /// What the other nodes tell of their clients.
    pub remote: Mutex<Remote>,
    /// What finds out whether this node has its name, by the node that it asks: one task for each.
    contends: Mutex<HashMap<NodeName, AbortHandle>>,
    fatal: mpsc::Sender<String>,
    runtime: tokio::runtime::Handle,
}

/// The way to one node.
struct Way {
    /// What is said over links with it.
    links: Publisher<'static>,
    gate: tokio::sync::Mutex<()>,
    room: Arc<Semaphore>,
    /// The same for what the node asks of us. It does not exceed that if it keeps to its own bound.
    asked: Arc<Semaphore>,
    /// The same for samples that it sent and that are not published yet.
    samples: Arc<Semaphore>,
    /// When the next registration of one of its clients is due, if they came at an even pace.
    registration: tokio::sync::Mutex<Instant>,
    /// Whether the last message to it found a full queue.
    slow: AtomicBool,
}

impl Way {
    /// Puts a message into the node's queue, which may block while that is full: one thread for each such
    /// node, and only the first time without another to stand in for it. (That is not asked for each time,
    /// because it costs more than the message.)
    fn put<T>(&self, put: impl FnOnce() -> T) -> T {
        let since = Instant::now();
        let done = match self.slow.load(Ordering::Relaxed) {
            true => tokio::task::block_in_place(put),
            false => put(),
        };
        self.slow.store(since.elapsed() > SLOW, Ordering::Relaxed);
        done
    }
}

fn pieces(len: usize) -> u32 {
    (len / 1024 + EACH) as u32
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The other node is not there.
    NotSent,
    /// Too much is on the way to it.
    Full,
    /// Nobody knows whether it was done.
    NoAnswer,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// Opens the session, claims the name, and listens. What ends this node comes to `fatal`. Ends of the
    /// session and the tokens are the caller's to keep.
    pub async fn open(
        settings: Settings,
        fatal: mpsc::Sender<String>,
    ) -> Result<(Arc<Node>, LivelinessToken), String> {
        let session = zenoh::open(tls::configuration(&settings)?)
            .await
            .map_err(|error| format!("cannot open the network: {error}"))?;
        let millis = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis() as u64;
        let room = || Arc::new(Semaphore::new(ROOM));
        let mut ways = HashMap::new();
        for other in &settings.allow {
            let links = session.declare_publisher(link_key(other, &settings.node)).priority(Priority::Data);
            // Not express: what comes while one is written goes with the next, in one piece.
            let links = links.congestion_control(CongestionControl::Block);
            let links = links.allowed_destination(Locality::Remote).await;
            let links = links.map_err(|error| format!("the network: {error}"))?;
            let way = Way {
                links,
                gate: tokio::sync::Mutex::new(()),
                room: room(),
                asked: room(),
                samples: room(),
                registration: Instant::now().into(),
                slow: AtomicBool::new(false),
            };
            ways.insert(other.clone(), way);
        }
        let node = Arc::new(Node {
            instance: millis << 16 | u64::from(std::process::id() & 0xFFFF),
            numbers: AtomicU64::new(1),
            ways,
            claims: Mutex::default(),
            local: Mutex::default(),
            remote: Mutex::default(),
            contends: Mutex::default(),
            fatal,
            runtime: tokio::runtime::Handle::current(),
            session,
            settings,
        });
        node.listen().await.map_err(|error| format!("the network: {error}"))?;
        let claim = Said { node: node.name().clone(), instance: node.instance, what: What::Claim };
        let claim = node.session.liveliness().declare_token(claim.to_string()).await;
        Ok((node, claim.map_err(|error| format!("the network: {error}"))?))
    }

    pub fn name(&self) -> &NodeName {
        &self.settings.node
    }

    /// Room for samples of this node. None if too many of it wait already.
    pub fn room_for_samples(&self, node: &NodeName, len: usize) -> Option<OwnedSemaphorePermit> {
        self.ways.get(node)?.samples.clone().try_acquire_many_owned(pieces(len)).ok()
    }

    /// Waits until one more of a node's clients may be registered. A node whose clients come and go all the
    /// time costs the server no more than that, and other nodes nothing.
    pub async fn may_register(&self, node: &NodeName) {
        let Some(way) = self.ways.get(node) else { return };
        let mut due = way.registration.lock().await;
        let at_once = REGISTRATION * u32::try_from(self.settings.max_clients).unwrap_or(u32::MAX);
        let now = Instant::now();
        if let Some(wait) = due.saturating_duration_since(now).checked_sub(at_once) {
            tokio::time::sleep(wait).await;
        }
        *due = now.max(*due) + REGISTRATION;
    }

    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Hears what the allowed nodes say, and other bridges of this node's name.
    async fn listen(self: &Arc<Node>) -> zenoh::Result<()> {
        for other in &self.settings.allow {
            let node = self.clone();
            let key = format!("{PREFIX}/{other}/**");
            let tokens = self.session.liveliness().declare_subscriber(&key).history(true);
            let heard = move |token: zenoh::sample::Sample| {
                node.token(token.key_expr(), token.kind() == zenoh::sample::SampleKind::Put);
            };
            tokens.callback(heard).background().await?;
            let node = self.clone();
            let heard = move |sample: zenoh::sample::Sample| {
                if let Some(said) = node.believed(sample.key_expr())
                    && let Some(local) = node.local()
                {
                    local.samples(said, sample.payload().to_bytes());
                }
            };
            self.session.declare_subscriber(&key).callback(heard).background().await?;
            let (node, from) = (self.clone(), other.clone());
            let heard =
                move |sample: zenoh::sample::Sample| node.on_link(&from, &sample.payload().to_bytes());
            let key = link_key(self.name(), other);
            self.session.declare_subscriber(key).callback(heard).background().await?;
        }
        let node = self.clone();
        let key = format!("{PREFIX}/{}/*/node", self.name());
        let tokens = self.session.liveliness().declare_subscriber(key).history(true);
        let heard = move |token: zenoh::sample::Sample| {
            node.token(token.key_expr(), token.kind() == zenoh::sample::SampleKind::Put);
        };
        tokens.callback(heard).background().await?;
        let node = self.clone();
        let key = format!("{PREFIX}/{}/from/*/*", self.name());
        self.session.declare_queryable(key).callback(move |query| node.asked(query)).background().await
    }

    /// What a key says, if it is the word of the bridge that has the node's name.
    fn believed(&self, key: &str) -> Option<Said> {
        let said = Said::read(key)?;
        (self.owner(&said.node) == Some(said.instance)).then_some(said)
    }

    /// The bridge that has the name of this node, as far as is known here.
    pub fn owner(&self, node: &NodeName) -> Option<u64> {
        lock(&self.claims).get(node)?.first().copied()
    }

    /// A token has appeared, or vanished.
    fn token(self: &Arc<Node>, key: &str, present: bool) {
        let Some(said) = Said::read(key) else {
            return debug!("a token that is none was ignored");
        };
        match &said.what {
            What::Claim if said.node == *self.name() && said.instance == self.instance => {}
            What::Claim => self.claimed(said.node, said.instance, present),
            What::Client(name, _) => {
                if self.settings.imports(&said.node, name.as_str()) {
                    let again = lock(&self.remote).token(&said, present, self.settings.max_clients);
                    for other in again {
                        let node = self.clone();
                        self.runtime.spawn(async move { node.look_again(other).await });
                    }
                    if let Some(local) = self.local() {
                        local.appoint_client(&said.node, name);
                    }
                }
            }
            What::Topic(..) => {}
        }
    }

    /// There is room again for clients of a node that did not appear: asks who is there.
    async fn look_again(self: Arc<Node>, other: NodeName) {
        let most = self.settings.max_clients;
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            lock(&self.remote).looks(&other);
            let found = self.others(&other, most).await;
            let again = lock(&self.remote).found(&other, &found, most);
            if let Some(local) = self.local() {
                local.appoint(&other);
            }
            if !again {
                return;
            }
        }
    }

    /// Clients of a node that may appear here and do not yet: so many at most.
    async fn others(&self, other: &NodeName, most: usize) -> Vec<Said> {
        let mut found = Vec::new();
        let get = self.session.liveliness().get(format!("{PREFIX}/{other}/*/client/**"));
        let get = get.timeout(Duration::from_secs(2)).with(zenoh::handlers::FifoChannel::new(64));
        let Ok(replies) = get.await else { return found };
        while let Ok(reply) = replies.recv_async().await
            && found.len() < most
        {
            let Some(said) = reply.result().ok().and_then(|token| Said::read(token.key_expr())) else {
                continue;
            };
            if let What::Client(name, _) = &said.what
                && said.node == *other
                && self.settings.imports(other, name.as_str())
                && !lock(&self.remote).knows(&said)
            {
                found.push(said);
            }
        }
        found
    }

    /// A bridge claims a name, or is gone.
    fn claimed(self: &Arc<Node>, other: NodeName, instance: u64, present: bool) {
        let (before, after) = {
            let mut claims = lock(&self.claims);
            let of_node = claims.entry(other.clone()).or_default();
            let before = of_node.first().copied();
            // A second claim is remembered, and a few more; beyond that somebody plays.
            match present {
                true if of_node.len() < 8 => _ = of_node.insert(instance),
                true => return debug!("more bridges than a few claim to be the node {other}"),
                false => _ = of_node.remove(&instance),
            }
            (before, of_node.first().copied())
        };
        if other == *self.name() {
            if present && instance < self.instance {
                self.contends(other);
            }
            return;
        }
        match (before, after) {
            (None, Some(_)) => info!("node {other} is here"),
            (Some(_), None) => info!("node {other} is gone"),
            (Some(before), Some(after)) if before != after => info!("node {other} is another run now"),
            _ => {}
        }
        if before != after {
            if after.is_some() {
                self.contends(other.clone());
            }
            if let Some(local) = self.local() {
                local.appoint(&other);
            }
        }
    }

    /// Finds out whether this bridge has its name: anew, if it was about to.
    fn contends(self: &Arc<Node>, asked: NodeName) {
        let (node, other) = (self.clone(), Some(asked.clone()).filter(|other| other != self.name()));
        let task = self.spawn(async move { node.contend(other).await });
        if let Some(former) = lock(&self.contends).insert(asked, task) {
            former.abort();
        }
    }

    /// Whether this bridge has its name: by what another node says, or by an older bridge that is seen here.
    async fn contend(self: Arc<Node>, other: Option<NodeName>) {
        let since = Instant::now();
        loop {
            let refused = match &other {
                None => self.owner(self.name()).is_some_and(|owner| owner < self.instance),
                Some(other) => {
                    let ask = Ask::Claim { instance: self.instance };
                    match self.ask(other, &ask, Duration::from_secs(2)).await {
                        Ok(answer) if answer.outcome == Outcome::Ok => {
                            return info!("node {other} knows this node as {}", self.name());
                        }
                        Ok(_) => true,
                        Err(Lost::NotSent) => return,
                        Err(_) => false,
                    }
                }
            };
            if other.is_none() && !refused {
                return;
            }
            if refused && since.elapsed() > CLAIM {
                let _ = self.fatal.try_send(format!("the name {} is taken by another bridge", self.name()));
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    pub fn local(&self) -> Option<Arc<Local>> {
        lock(&self.local).clone()
    }

    /// The server is there, or is gone.
    pub fn set_local(&self, local: Option<Arc<Local>>) {
        *lock(&self.local) = local;
    }

    /// Another node asks. This runs on a thread of the session, and must not wait.
    fn asked(self: &Arc<Node>, query: Query) {
        let Some((from, verb)) = read_query_key(query.key_expr(), self.name()) else { return };
        let Some(way) = self.ways.get(&from) else { return };
        let payload = query.payload().map(|payload| payload.to_bytes().into_owned()).unwrap_or_default();
        // A node that asks more than any bridge does at once gets no answer to that.
        let Ok(room) = way.asked.clone().try_acquire_many_owned(pieces(payload.len())) else { return };
        let asked = Asked { query, from: from.clone(), _room: room };
        let answer = Answers { asked: Some(asked), node: self.clone() };
        let Some(ask) = Ask::read(verb, &payload) else {
            return answer.give(Answer::new(Outcome::Refused, "malformed"));
        };
        let (Ask::Claim { instance }
        | Ask::Send { instance, .. }
        | Ask::Open { instance, .. }
        | Ask::Close { instance, .. }) = ask;
        if self.owner(&from) != Some(instance) {
            return answer
                .give(Answer::new(Outcome::NotAllowed, format!("another bridge is the node {from}")));
        }
        match (ask, self.local()) {
            (Ask::Claim { .. }, _) => answer.give(Answer::ok(b"")),
            (_, None) => answer.give(Answer::new(Outcome::NotFound, "the server of that node is not there")),
            (ask, Some(local)) => local.asked(from, ask, answer),
        }
    }

    /// Another node says something over a link. This runs on a thread of the session, and must not wait.
    fn on_link(&self, from: &NodeName, bytes: &[u8]) {
        let (Some(said), Some(local)) = (OnLink::read(bytes), self.local()) else { return };
        match said.step {
            Step::Call | Step::Post => {
                let known = self.owner(from) == Some(said.instance);
                let room = self.ways.get(from).filter(|_| known).and_then(|way| {
                    way.asked.clone().try_acquire_many_owned(pieces(said.payload.len())).ok()
                });
                local.called(from, &said, room);
            }
            Step::Done | Step::Failed if said.instance == self.instance => local.answered(from, &said),
            Step::Done | Step::Failed => {}
        }
    }

    /// Room for a call over a link. Until this is dropped, it counts as being on the way.
    pub fn room_for_call(&self, to: &NodeName, len: usize) -> Option<OwnedSemaphorePermit> {
        self.ways.get(to)?.room.clone().try_acquire_many_owned(pieces(len)).ok()
    }

    /// Says something over a link. It arrives, or the link ends.
    pub async fn say(&self, to: &NodeName, said: &OnLink<'_>) -> Result<(), Lost> {
        let way = self.ways.get(to).ok_or(Lost::NotSent)?;
        let bytes = said.bytes();
        let _gate = way.gate.lock().await;
        way.put(|| zenoh::Wait::wait(way.links.put(bytes))).map_err(|error| {
            error!("a call or an answer to the node {to} was not sent: {error}");
            Lost::NotSent
        })
    }

    /// Asks another node, once, and waits for its answer.
    pub async fn ask(&self, to: &NodeName, ask: &Ask<'_>, within: Duration) -> Result<Answer, Lost> {
        let mut answers = self.ask_often(to, ask, within).await?;
        answers.next().await.ok_or(Lost::NoAnswer)
    }

    /// Asks another node, and returns its answers as they come.
    pub async fn ask_often(&self, to: &NodeName, ask: &Ask<'_>, within: Duration) -> Result<Replies, Lost> {
        let way = self.ways.get(to).ok_or(Lost::NotSent)?;
        let bytes = ask.bytes();
        let room = way.room.clone().try_acquire_many_owned(pieces(bytes.len())).map_err(|_| Lost::Full)?;
        let priority = match ask {
            Ask::Claim { .. } => Priority::InteractiveHigh,
            _ => Priority::Data,
        };
        let gate = tokio::time::timeout(within, way.gate.lock()).await.map_err(|_| Lost::Full)?;
        if self.owner(to).is_none() {
            return Err(Lost::NotSent);
        }
        let get = self.session.get(query_key(to, self.name(), ask.verb())).payload(bytes);
        let get = get.timeout(within).consolidation(ConsolidationMode::None).priority(priority);
        let get = get.congestion_control(CongestionControl::Block).express(true);
        let replies = way.put(|| zenoh::Wait::wait(get.with(zenoh::handlers::FifoChannel::new(4))));
        drop(gate);
        match replies {
            Ok(replies) => Ok(Replies { replies, _room: room }),
            Err(error) => {
                error!("a question to the node {to} was not sent: {error}");
                Err(Lost::NotSent)
            }
        }
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.runtime.spawn(task).abort_handle()
    }

    /// Nothing of other nodes is here any more.
    pub fn end(&self) {
        if let Some(local) = lock(&self.local).take() {
            local.end();
        }
    }
}

/// The answers to a question. Until this is dropped, it counts as being on the way.
pub struct Replies {
    replies: zenoh::handlers::FifoChannelHandler<zenoh::query::Reply>,
    _room: OwnedSemaphorePermit,
}

impl Replies {
    /// None at the end: the time is over, the node is gone, or it has nothing to say any more.
    pub async fn next(&mut self) -> Option<Answer> {
        let reply = self.replies.recv_async().await.ok()?;
        Answer::read(reply.result().ok()?.payload().to_bytes().into_owned())
    }
}

/// A question that is to be answered: with an error, if it is dropped.
pub struct Answers {
    asked: Option<Asked>,
    node: Arc<Node>,
}

/// A question of another node. As long as this is there, it takes of what that node may ask at once.
struct Asked {
    query: Query,
    from: NodeName,
    _room: OwnedSemaphorePermit,
}

impl Answers {
    /// The last answer.
    pub fn give(mut self, answer: Answer) {
        self.reply(answer);
    }

    fn reply(&mut self, answer: Answer) {
        if let Some(asked) = self.asked.take() {
            self.node.spawn(reply(self.node.clone(), Arc::new(asked), answer));
        }
    }

    /// An answer that is not the last. Returns what keeps the question open.
    pub fn keep(mut self, answer: Answer) -> Kept {
        let asked = self.asked.take().map(Arc::new);
        if let Some(asked) = &asked {
            self.node.spawn(reply(self.node.clone(), asked.clone(), answer));
        }
        Kept { _asked: asked }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.reply(Answer::new(Outcome::Ended, "it was given up"));
    }
}

/// A question that was answered once and stays open.
pub struct Kept {
    _asked: Option<Arc<Asked>>,
}

async fn reply(node: Arc<Node>, asked: Arc<Asked>, answer: Answer) {
    let Some(way) = node.ways.get(&asked.from) else { return };
    let _gate = way.gate.lock().await;
    let reply = asked.query.reply(asked.query.key_expr().clone(), answer.bytes()).express(true);
    if let Err(error) = way.put(|| zenoh::Wait::wait(reply)) {
        warn!("an answer to the node {} was not sent: {error}", asked.from);
    }
}
