//! Topics: samples of exported publishers told to the other nodes, and theirs published here.
//!
//! A sample keeps its publisher, its topic and its number. What is lost on the way (at a full queue, or
//! because the network was gone) is a gap in the numbers, as at home; nothing is sent twice. Reliable
//! subscriptions are reliable at each server, not across: between the servers nobody holds a publisher up.
//!
//! # Batches
//!
//! The bridge takes the samples that are there, at most `MOST_SAMPLES` or `MOST_BATCH` bytes of them, and
//! puts those of one topic of one publisher as one batch. It never waits for more: a sample that is alone
//! goes at once, and while a put is under way the next ones gather in their publisher's ring. The library
//! takes samples of several publishers in turn, so none of them waits behind a busy one for longer than such
//! a round. The other bridge publishes a batch as a whole. Both let other tasks run between two batches.
//!
//! # A full queue
//!
//! One put goes to all nodes that listen. At a node whose queue is full it waits for `PATIENCE`, once; after
//! that, puts pass that node over until a part of its queue was sent. So a slow node holds up the samples for
//! others by at most that time for each 64 KiB that it takes (by 50 ms if a sample is larger than that), and
//! never messages or calls, which have a queue of their own. Meanwhile the rings go on, and what the bridge
//! cannot take is lost there, where it has cost nothing yet. Without that wait, with a publisher that does
//! not pause, 15 to 60 % of the samples that were taken got lost at the queue, and a batch had 200 to 350 of
//! them; with 1 ms mostly less than 5 %, and a batch had 700 to 900; 5 ms gained nothing more, nor did a
//! longer queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringpost::{Async, Caller, Key, Peer, Publisher, Sample, SampleError, Subscriber, Topic};
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{debug, warn};
use zenoh::key_expr::KeyExpr;
use zenoh::qos::{CongestionControl, Priority};

use crate::local::Local;
use crate::relay::Wanted;
use crate::tls::MOST_PAYLOAD;
use crate::wire::{Batch, MOST_BATCH, MOST_SAMPLES, Said, Samples, What, is_foreign};

/// Topics of one remote publisher.
const MOST_TOPICS: usize = 256;
/// Topics of local publishers whose keys are remembered.
const MOST_SOURCES: usize = 1024;
/// For so long the first sample of a topic waits for the subscriptions that were there before the topic.
const ATTACHING: Duration = Duration::from_millis(100);
/// For so long a put waits at a full queue.
pub const PATIENCE: Duration = Duration::from_millis(1);

/// Samples of a remote publisher.
pub struct Arrived {
    pub topic: Topic,
    /// As they came: not checked.
    pub batch: Vec<u8>,
    /// What they take of that which may wait of their node.
    pub _room: OwnedSemaphorePermit,
}

/// Subscribes to what is exported: one subscription for each pattern.
pub fn subscribe(local: &Local, caller: &mut Caller) -> Result<Vec<Async<Subscriber>>, String> {
    let mut watched = Vec::new();
    for pattern in &local.node.settings.export {
        let subscriber = Subscriber::options().arms().subscribe(caller, pattern);
        let subscriber = subscriber.map_err(|error| format!("cannot subscribe to {pattern}: {error}"))?;
        watched.push(Async::new(subscriber).map_err(|error| error.to_string())?);
    }
    Ok(watched)
}

/// Tells the other nodes the samples. Returns when the server is gone.
pub async fn tell(local: &Arc<Local>, watched: Vec<Async<Subscriber>>) {
    let mut tasks = tokio::task::JoinSet::new();
    for (index, subscriber) in watched.into_iter().enumerate() {
        let round = Round::new(local.clone(), index);
        tasks.spawn(async move {
            let error = tell_those(subscriber, round).await;
            debug!("topics: {error}");
        });
    }
    match tasks.is_empty() {
        true => std::future::pending().await,
        false => _ = tasks.join_next().await,
    }
}

/// Tells the samples of one subscription. Returns why there are no more.
async fn tell_those(mut subscriber: Async<Subscriber>, mut round: Round) -> SampleError {
    loop {
        if let Err(error) = subscriber.recv().await.map(|sample| round.add(&sample)).or_else(goes_on) {
            return error;
        }
        // What else is there by now.
        while !round.is_full() {
            match subscriber.get_mut().try_recv() {
                Ok(None) => break,
                Ok(Some(sample)) => round.add(&sample),
                Err(error) => {
                    if let Err(error) = goes_on(error) {
                        return error;
                    }
                }
            }
        }
        if round.tell() {
            tokio::task::yield_now().await;
        }
    }
}

fn goes_on(error: SampleError) -> Result<(), SampleError> {
    match error {
        SampleError::Violation { publisher, violation } => {
            warn!("{} broke the protocol: {violation}", publisher.name);
            Ok(())
        }
        error => Err(error),
    }
}

/// The samples that were there at one time, one batch for each topic of each publisher.
struct Round {
    local: Arc<Local>,
    /// The number of the pattern.
    index: usize,
    /// Topics of publishers, and where they are found.
    sources: Vec<Source>,
    places: HashMap<Key, HashMap<Topic, usize>>,
    /// The source of the last sample: the next one is probably of the same.
    last: usize,
    /// Those whose batches are not empty.
    open: Vec<usize>,
    samples: usize,
    bytes: usize,
    /// Whether the last put found a full queue. Then another thread stands in for this one during the next,
    /// which costs more than a put that does not wait.
    is_slow: bool,
}

struct Source {
    publisher: Key,
    topic: Topic,
    /// None if it is not told, or not for this pattern.
    key: Option<KeyExpr<'static>>,
    batch: Batch,
}

impl Round {
    fn new(local: Arc<Local>, index: usize) -> Round {
        Round {
            local,
            index,
            sources: Vec::new(),
            places: HashMap::new(),
            last: 0,
            open: Vec::new(),
            samples: 0,
            bytes: 0,
            is_slow: false,
        }
    }

    fn is_full(&self) -> bool {
        self.samples >= MOST_SAMPLES || self.bytes >= MOST_BATCH
    }

    fn add(&mut self, sample: &Sample<'_>) {
        self.samples += 1;
        let Some(at) = self.place(sample.publisher(), sample.topic()) else { return };
        self.last = at;
        let (source, payload) = (&mut self.sources[at], sample.payload());
        if source.key.is_none() {
            return;
        }
        if payload.len() > MOST_PAYLOAD {
            return debug!("{}: {} bytes are too many for the network", source.topic, payload.len());
        }
        self.bytes += payload.len();
        if source.batch.is_empty() {
            self.open.push(at);
        }
        if !source.batch.add(sample.sequence(), payload) {
            self.put(at, false);
            self.sources[at].batch.add(sample.sequence(), payload);
        }
    }

    fn place(&mut self, publisher: &Peer, topic: &str) -> Option<usize> {
        if let Some(last) = self.sources.get(self.last)
            && last.publisher == publisher.key
            && *last.topic == *topic
        {
            return Some(self.last);
        }
        if let Some(&at) = self.places.get(&publisher.key).and_then(|topics| topics.get(topic)) {
            return Some(at);
        }
        let topic = Topic::try_from(topic).ok()?;
        let key = self.key(publisher, &topic);
        self.places.entry(publisher.key).or_default().insert(topic.clone(), self.sources.len());
        self.sources.push(Source { publisher: publisher.key, topic, key, batch: Batch::default() });
        Some(self.sources.len() - 1)
    }

    /// Under which key this topic is told, if it is.
    fn key(&self, publisher: &Peer, topic: &Topic) -> Option<KeyExpr<'static>> {
        let (node, name) = (&self.local.node, publisher.name);
        // What represents a client of another node has its topics from there.
        if is_foreign(&name) || !node.settings.exports(name.as_str()) {
            return None;
        }
        // A topic that several patterns match is told once.
        if node.settings.export.iter().position(|pattern| pattern.matches(topic)) != Some(self.index) {
            return None;
        }
        let what = What::Topic(name, topic.clone());
        let said = Said { node: node.name().clone(), instance: node.instance, what };
        said.to_string().try_into().inspect_err(|error| debug!("{topic} is not told: {error}")).ok()
    }

    /// Puts what is there. Returns whether there may be more.
    fn tell(&mut self) -> bool {
        let open = std::mem::take(&mut self.open);
        for (number, &at) in open.iter().enumerate() {
            self.put(at, number + 1 == open.len());
        }
        if self.sources.len() > MOST_SOURCES {
            (self.sources, self.places) = Default::default();
        }
        let was_full = self.is_full();
        (self.samples, self.bytes) = (0, 0);
        was_full
    }

    fn put(&mut self, at: usize, is_last: bool) {
        let Source { key: Some(key), batch, .. } = &mut self.sources[at] else { return };
        let put = self.local.node.session.put(&*key, batch.take()).priority(Priority::DataLow);
        let put = put.congestion_control(CongestionControl::Drop).express(is_last);
        let (put, since) = (|| zenoh::Wait::wait(put), Instant::now());
        let done = match self.is_slow {
            true => tokio::task::block_in_place(put),
            false => put(),
        };
        self.is_slow = since.elapsed() >= PATIENCE;
        if let Err(error) = done {
            debug!("samples were not sent: {error}");
        }
    }
}

/// Publishes the samples of a remote publisher.
pub async fn publish(
    samples: Arc<Mutex<mpsc::Receiver<Arrived>>>,
    wants: mpsc::Sender<Wanted>,
    under_way: Arc<()>,
) {
    let mut samples = samples.lock().await;
    let mut topics: HashMap<Topic, Option<Publisher>> = HashMap::new();
    while let Some(Arrived { topic, batch, _room }) = samples.recv().await {
        let Some(batch) = Samples::read(&batch) else {
            debug!("{topic}: a batch that is none was ignored");
            continue;
        };
        if !topics.contains_key(&topic) {
            if topics.len() >= MOST_TOPICS {
                continue;
            }
            let Some((first, _)) = batch.clone().next() else { continue };
            let (publisher, of_publisher) = oneshot::channel();
            let wanted = Wanted { topic: topic.clone(), first, publisher };
            if wants.send(wanted).await.is_err() {
                return;
            }
            let Ok(published) = of_publisher.await else { return };
            let publisher = published.inspect_err(|error| warn!("{topic} cannot be published here: {error}"));
            let publisher = publisher.ok();
            if let Some(publisher) = &publisher {
                attached(publisher).await;
            }
            topics.insert(topic.clone(), publisher);
        }
        let Some(Some(publisher)) = topics.get_mut(&topic) else { continue };
        for (sequence, payload) in batch {
            let ahead = sequence.saturating_sub(publisher.sequence());
            let sent = match ahead {
                0 => continue,
                1 => publisher.send(payload),
                _ => publisher.skip_to(sequence).and_then(|()| publisher.send(payload)),
            };
            if let Err(error) = sent {
                debug!("{topic}: {error}");
            }
        }
        if !samples.is_empty() {
            tokio::task::yield_now().await;
        }
    }
    // It has left, and all is published. Its topics end with what represents it.
    drop(under_way);
    std::future::pending().await
}

async fn attached(publisher: &Publisher) {
    let any = async {
        while publisher.subscribers() == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let _ = tokio::time::timeout(ATTACHING, any).await;
}
