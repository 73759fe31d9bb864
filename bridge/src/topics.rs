//! Topics: samples of exported publishers told to the other nodes, and theirs published here.
//!
//! A sample keeps its publisher, its topic and its number. What is lost on the way (at a full queue, or
//! because the network was gone) is a gap in the numbers, as at home; nothing is sent twice. Reliable
//! subscriptions are reliable at each server, not across: between the servers nobody holds a publisher up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ringpost::{Async, Caller, Publisher, Sample, SampleError, Subscriber, Topic};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{debug, warn};
use zenoh::qos::{CongestionControl, Priority};

use crate::local::Local;
use crate::relay::Wanted;
use crate::tls::MOST_PAYLOAD;
use crate::wire::{Said, What, is_foreign, sample_bytes};

/// Topics of one remote publisher.
const MOST_TOPICS: usize = 256;
/// For so long the first sample of a topic waits for the subscriptions that were there before the topic.
const ATTACHING: Duration = Duration::from_millis(100);

/// A sample of a remote publisher.
pub struct Arrived {
    pub topic: Topic,
    pub sequence: u64,
    pub payload: Vec<u8>,
    /// What it takes of that which may wait of its node.
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
    for (index, mut subscriber) in watched.into_iter().enumerate() {
        let local = local.clone();
        tasks.spawn(async move {
            loop {
                match subscriber.recv().await {
                    Ok(sample) => told(&local, index, &sample),
                    Err(SampleError::Violation { publisher, violation }) => {
                        warn!("{} broke the protocol: {violation}", publisher.name);
                    }
                    Err(error) => return debug!("topics: {error}"),
                }
            }
        });
    }
    match tasks.is_empty() {
        true => std::future::pending().await,
        false => _ = tasks.join_next().await,
    }
}

fn told(local: &Local, index: usize, sample: &Sample<'_>) {
    let (settings, name) = (&local.node.settings, sample.publisher().name);
    // What represents a client of another node has its topics from there.
    if is_foreign(&name) || !settings.exports(name.as_str()) {
        return;
    }
    // A topic that several patterns match is told once.
    let Ok(topic) = Topic::try_from(sample.topic()) else { return };
    if settings.export.iter().position(|pattern| pattern.matches(&topic)) != Some(index) {
        return;
    }
    if sample.payload().len() > MOST_PAYLOAD {
        return debug!("{topic}: {} bytes are too many for the network", sample.payload().len());
    }
    let what = What::Topic(name, topic);
    let said = Said { node: local.node.name().clone(), instance: local.node.instance, what };
    let bytes = sample_bytes(sample.sequence(), sample.payload());
    let put = local.node.session.put(said.to_string(), bytes).priority(Priority::DataLow);
    let put = put.congestion_control(CongestionControl::Drop);
    if let Err(error) = zenoh::Wait::wait(put) {
        debug!("a sample was not sent: {error}");
    }
}

/// Publishes the samples of a remote publisher.
pub async fn publish(samples: &mut mpsc::Receiver<Arrived>, wants: mpsc::Sender<Wanted>) {
    let mut topics: HashMap<Topic, Option<Publisher>> = HashMap::new();
    while let Some(Arrived { topic, sequence, payload, _room }) = samples.recv().await {
        if !topics.contains_key(&topic) {
            if topics.len() >= MOST_TOPICS {
                continue;
            }
            let (publisher, of_publisher) = oneshot::channel();
            let wanted = Wanted { topic: topic.clone(), first: sequence, publisher };
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
        if sequence <= publisher.sequence() {
            continue;
        }
        let sent = publisher.skip_to(sequence).and_then(|()| publisher.send(&payload[..]));
        if let Err(error) = sent {
            debug!("{topic}: {error}");
        }
    }
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
