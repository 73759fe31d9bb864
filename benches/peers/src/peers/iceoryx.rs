//! iceoryx2's request and response: the client loans memory, copies the request into it, sends it, and
//! receives the complete response; the server loans, writes and sends the response. Its responses can only be
//! polled, so that for ends that sleep its event service stands beside: one event each way, sent after the
//! request or the response.

use iceoryx2::node::Node;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::request_response::PortFactory as Calls;

use super::{Kind, Peer, Play, SIZES, Version};
use crate::context::Context;
use crate::failure::{Failure, OrFail, Outcome};
use crate::measure::{Measured, measure};
use crate::work::{NUMBER, Work, answer_to};

pub static SPIN: Peer = Peer {
    name: "iceoryx2-spin",
    kind: Kind::Spinning,
    what: "request and response, polled",
    sizes: SIZES,
    version: Version::Of("iceoryx2"),
    play: Play::Pair { server: |context| serve(context, false), client: |context| call(context, false) },
};

pub static EVENT: Peer = Peer {
    name: "iceoryx2-event",
    kind: Kind::Blocking,
    what: "request and response, and its event service to wait",
    sizes: SIZES,
    version: Version::Of("iceoryx2"),
    play: Play::Pair { server: |context| serve(context, true), client: |context| call(context, true) },
};

pub static NAMED: Peer = Peer { name: "named-iceoryx2-event", kind: Kind::Named, ..EVENT };

pub static NAMED_SPIN: Peer = Peer { name: "named-iceoryx2-spin", kind: Kind::Named, ..SPIN };

type Factory = Calls<ipc::Service, [u8], (), [u8], ()>;

/// The node of one end. Its files go into the private directory, and its shared memory gets a name that tells
/// whose it is.
pub(super) fn node(context: &Context) -> Outcome<Node<ipc::Service>> {
    set_log_level(LogLevel::Error);
    let mut config = Config::default();
    let dir = context.dir.as_os_str().as_encoded_bytes();
    config.global.set_root_path(&Path::new(dir).or_fail("use the directory")?);
    config.global.prefix =
        FileName::new(super::tools::shm_prefix(&context.dir).as_bytes()).or_fail("use the prefix")?;
    NodeBuilder::new()
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .config(&config)
        .create::<ipc::Service>()
        .or_fail("create a node")
}

/// One end: its node, the service for calls, and how it waits.
struct End {
    calls: Factory,
    events: Option<Events>,
    // Last, so that what it made goes first.
    _node: Node<ipc::Service>,
}

struct Events {
    own: Listener<ipc::Service>,
    other: Notifier<ipc::Service>,
}

impl End {
    /// `own` and `other` name the events that this end waits for and sends.
    fn open(context: &Context, waits: bool, own: &str, other: &str) -> Outcome<End> {
        let node = node(context)?;
        let name = |text: &str| ServiceName::new(text).or_fail("name a service");
        let calls = node
            .service_builder(&name("calls")?)
            .request_response::<[u8], [u8]>()
            .max_clients(1)
            .max_servers(1)
            .open_or_create()
            .or_fail("open the service")?;
        let events = if waits {
            let open = |text: &str| {
                node.service_builder(&name(text)?).event().open_or_create().or_fail("open the event")
            };
            Some(Events {
                own: open(own)?.listener_builder().create().or_fail("listen for events")?,
                other: open(other)?.notifier_builder().create().or_fail("prepare events")?,
            })
        } else {
            None
        };
        Ok(End { calls, events, _node: node })
    }

    /// Waits until `look` finds something.
    #[inline]
    fn wait<T>(&self, look: impl Fn() -> Outcome<Option<T>>) -> Outcome<T> {
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            match &self.events {
                Some(events) => {
                    events.own.blocking_wait(|_| ()).or_fail("wait for an event")?;
                }
                None => std::hint::spin_loop(),
            }
        }
    }

    /// Tells the other end to look.
    #[inline]
    fn notify(&self) -> Outcome {
        if let Some(events) = &self.events {
            events.other.notify().or_fail("send an event")?;
        }
        Ok(())
    }
}

fn serve(context: &Context, waits: bool) -> Outcome {
    let end = End::open(context, waits, "requests", "responses")?;
    let server =
        end.calls.server_builder().initial_max_slice_len(context.size).create().or_fail("create a server")?;
    context.ready("")?;
    loop {
        let request = end.wait(|| server.receive().or_fail("receive a request"))?;
        let bytes = request.payload();
        let (first, last) = answer_to(bytes)?;
        let response = request.loan_slice_uninit(bytes.len()).or_fail("loan a response")?;
        let mut response = response.write_from_slice(bytes);
        response.payload_mut()[..NUMBER].copy_from_slice(&first);
        response.send().or_fail("send a response")?;
        end.notify()?;
        if last {
            // The client takes the response from memory that goes with this process.
            while request.is_connected() {
                std::thread::yield_now();
            }
            return Ok(());
        }
    }
}

fn call(context: &Context, waits: bool) -> Outcome<Measured> {
    let end = End::open(context, waits, "responses", "requests")?;
    let client =
        end.calls.client_builder().initial_max_slice_len(context.size).create().or_fail("create a client")?;
    let ask = |work: &mut Work| {
        let request = work.next();
        let loan = client.loan_slice_uninit(request.len()).or_fail("loan a request")?;
        let pending = loan.write_from_slice(request).send().or_fail("send a request")?;
        end.notify()?;
        let response = end.wait(|| {
            let response = pending.receive().or_fail("receive a response")?;
            if response.is_none() && pending.number_of_server_connections() == 0 {
                return Err(Failure::new("no server has the request"));
            }
            Ok(response)
        })?;
        work.check(response.payload())
    };
    measure(ask, context.size, context.budget)
}
