//! iceoryx2's publish-subscribe: the publisher loans memory, writes, and sends; when a reader's buffer is
//! full the oldest of it is replaced. It can only be polled, so that for readers that sleep its event service
//! stands beside.

use iceoryx2::node::Node;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::event::PortFactory as Events;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory as Samples;

use super::{
    CAPACITY, Kind, Message, Peer, Publish, READERS, Receive, System, Version, Wait, fanning_out, peer,
    publishing, there_and_back,
};
use crate::context::Context;
use crate::failure::{OrFail, Outcome};
use crate::peers::iceoryx::node;

const VERSION: Version = Version::Of("iceoryx2");

pub static PUBLISH: Peer = peer(
    "publish-iceoryx2",
    Kind::Publish,
    "publish-subscribe, polled",
    VERSION,
    publishing::<Iceoryx>(None),
);
pub static TOPICS: Peer = peer(
    "topics-iceoryx2",
    Kind::Topics,
    "publish-subscribe, two services, polled",
    VERSION,
    there_and_back::<Iceoryx>(None),
);
pub static FAN: Peer = peer(
    "fan-iceoryx2",
    Kind::FanOut,
    "publish-subscribe, and its event service to wait",
    VERSION,
    fanning_out::<Iceoryx>(None),
);

struct Iceoryx;

type Ipc = ipc::Service;

/// What both ends have: the node goes last.
struct Service {
    samples: Samples<Ipc, Message, ()>,
    events: Option<Events<Ipc>>,
    _node: Node<Ipc>,
}

impl Service {
    fn open(context: &Context, topic: &str, wait: Wait) -> Outcome<Service> {
        let most = READERS.iter().copied().fold(1, u32::max) as usize;
        let node = node(context)?;
        let name = |text: &str| ServiceName::new(text).or_fail("name a service");
        let samples = node
            .service_builder(&name(topic)?)
            .publish_subscribe::<Message>()
            .max_publishers(1)
            .max_subscribers(most)
            .max_nodes(most + 2)
            .subscriber_max_buffer_size(if wait == Wait::Spin { CAPACITY } else { 16 })
            .enable_safe_overflow(true)
            .open_or_create()
            .or_fail("open the service")?;
        let events = match wait {
            Wait::Spin => None,
            Wait::Sleep => Some(
                node.service_builder(&name(&format!("{topic} events"))?)
                    .event()
                    .max_notifiers(1)
                    .max_listeners(most)
                    .max_nodes(most + 2)
                    .open_or_create()
                    .or_fail("open the events")?,
            ),
        };
        Ok(Service { samples, events, _node: node })
    }
}

struct Sends {
    publisher: Publisher<Ipc, Message, ()>,
    notifier: Option<Notifier<Ipc>>,
    _service: Service,
}

struct Takes {
    subscriber: Subscriber<Ipc, Message, ()>,
    listener: Option<Listener<Ipc>>,
    _service: Service,
}

impl System for Iceoryx {
    type Publisher = Sends;
    type Reader = Takes;

    fn publisher(context: &Context, topic: &str, readers_wait: Wait) -> Outcome<Sends> {
        let service = Service::open(context, topic, readers_wait)?;
        let publisher = service.samples.publisher_builder().create().or_fail("create a publisher")?;
        let events = service.events.as_ref();
        let notifier = events.map(|events| events.notifier_builder().create().or_fail("prepare events"));
        Ok(Sends { publisher, notifier: notifier.transpose()?, _service: service })
    }

    fn reader(context: &Context, topic: &str, wait: Wait) -> Outcome<Takes> {
        let service = Service::open(context, topic, wait)?;
        let subscriber = service.samples.subscriber_builder().create().or_fail("create a subscriber")?;
        let events = service.events.as_ref();
        let listener = events.map(|events| events.listener_builder().create().or_fail("listen for events"));
        Ok(Takes { subscriber, listener: listener.transpose()?, _service: service })
    }
}

impl Publish for Sends {
    #[inline]
    fn publish(&mut self, message: &Message) -> Outcome {
        let loan = self.publisher.loan_uninit().or_fail("loan a sample")?;
        loan.write_payload(*message).send().or_fail("send a sample")?;
        if let Some(notifier) = &self.notifier {
            notifier.notify().or_fail("send an event")?;
        }
        Ok(())
    }
}

impl Receive for Takes {
    #[inline]
    fn receive(&mut self) -> Outcome<Message> {
        loop {
            if let Some(sample) = self.subscriber.receive().or_fail("receive a sample")? {
                return Ok(*sample.payload());
            }
            match &self.listener {
                Some(listener) => {
                    listener.blocking_wait(|_| ()).or_fail("wait for an event")?;
                }
                None => std::hint::spin_loop(),
            }
        }
    }
}
