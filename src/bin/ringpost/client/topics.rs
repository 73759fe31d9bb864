//! What `/pub`, `/sub` and `/unsub` do.

use std::sync::mpsc::SyncSender;

use ringpost::{Caller, Closer, Pattern, PublishError, Publisher, Subscriber, Topic};

use super::Shown;
use crate::{session, subscribe};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;

/// How many topics stay published. The one that was not used for longest ends.
const MOST: usize = 16;

/// The topics that are published, and the patterns that are subscribed to.
pub struct Topics {
    /// The last one first. They stay published for further samples.
    publishers: Vec<Publisher>,
    subscriptions: Vec<(Pattern, Closer)>,
    show: SyncSender<Shown>,
}

impl Topics {
    /// Samples are given to the printing thread by `show`.
    pub fn new(show: SyncSender<Shown>) -> Topics {
        Topics { publishers: Vec::new(), subscriptions: Vec::new(), show }
    }

    /// Whether a topic is published already. It goes on without a server.
    pub fn publishes(&self, topic: &Topic) -> bool {
        self.publishers.iter().any(|publisher| publisher.topic() == topic)
    }

    /// Publishes a sample, and the topic if it is not published yet.
    pub fn publish(&mut self, caller: &mut Caller, topic: &Topic, sample: &[u8]) -> Outcome {
        let open = self.publishers.iter().position(|publisher| publisher.topic() == topic);
        let mut publisher = match open {
            Some(at) => self.publishers.remove(at),
            None => Publisher::options().publish(caller, topic).map_err(session::failed_publish)?,
        };
        let sent = publisher.send(sample);
        // One that failed otherwise is published anew the next time.
        if matches!(sent, Ok(()) | Err(PublishError::TooLarge { .. })) {
            self.publishers.insert(0, publisher);
            self.publishers.truncate(MOST);
        }
        sent.map_err(session::failed_publish)
    }

    /// Subscribes to a pattern, and shows its samples until [`unsubscribe`](Self::unsubscribe). Returns what
    /// is to be said.
    pub fn subscribe(&mut self, caller: &mut Caller, pattern: &Pattern) -> Result<String, Failure> {
        let shown = out::readable(pattern.as_str().as_bytes());
        if self.subscriptions.iter().any(|(subscribed, _)| subscribed == pattern) {
            return Err(Failure::failed(format!("{shown} is shown already; /unsub {shown} ends that")));
        }
        let mut subscriber =
            Subscriber::options().subscribe(caller, pattern).map_err(session::failed_subscribe)?;
        let publishers = subscriber.publishers().len();
        let closer = subscriber.closer();
        let show = self.show.clone();
        session::spawn("samples", move || take(subscriber, &show))?;
        self.subscriptions.push((pattern.clone(), closer));
        Ok(match publishers {
            0 => format!("subscribed to {shown}, which nobody publishes now\n"),
            1 => format!("subscribed to {shown}, which has 1 publisher now\n"),
            publishers => format!("subscribed to {shown}, which has {publishers} publishers now\n"),
        })
    }

    pub fn unsubscribe(&mut self, pattern: &Pattern) -> Outcome {
        let Some(at) = self.subscriptions.iter().position(|(subscribed, _)| subscribed == pattern) else {
            let shown: Vec<_> = self
                .subscriptions
                .iter()
                .map(|(pattern, _)| out::readable(pattern.as_str().as_bytes()))
                .collect();
            return Err(Failure::failed(match &shown[..] {
                [] => "nothing is subscribed to: /sub PATTERN does that".to_owned(),
                shown => format!("this is not subscribed to; what is: {}", shown.join(", ")),
            }));
        };
        let (_, closer) = self.subscriptions.remove(at);
        closer.close();
        Ok(())
    }
}

/// Gives samples to the printing thread, until the subscription or that thread ends.
fn take(mut subscriber: Subscriber, show: &SyncSender<Shown>) {
    loop {
        let lines = match subscriber.recv() {
            Ok(sample) if sample.missed() > 0 => vec![subscribe::missed(&sample), subscribe::line(&sample)],
            Ok(sample) => vec![subscribe::line(&sample)],
            Err(error) if error.is_disconnected() => return,
            // One publisher cannot be read any more.
            Err(error) => vec![out::readable(error.to_string().as_bytes())],
        };
        for line in lines {
            if show.send(Shown::Arrived(line)).is_err() {
                return;
            }
        }
    }
}
