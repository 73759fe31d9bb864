//! Ringpost by its public interface: a server with a service of its own in one process, a client in the
//! other. For a message from client to client there are three processes: the server, and two clients that
//! send to each other by key.

use std::sync::mpsc;
use std::time::Duration;

use ringpost::{Client, Request, Response, Server, ServiceError, WaitStrategy};

use super::{Kind, Peer, Play, SIZES, Version};
use crate::context::Context;
use crate::failure::{OrFail, Outcome};
use crate::measure::{Measured, measure};
use crate::work::{NUMBER, Work, answer_in_place, answer_to};

const VERSION: Version = Version::Of("ringpost");

pub static SPIN: Peer = Peer {
    name: "ringpost-spin",
    kind: Kind::Spinning,
    what: "client and server, WaitStrategy::Spin",
    sizes: SIZES,
    version: VERSION,
    play: Play::Pair {
        server: |context| serve(context, WaitStrategy::Spin),
        client: |context| call(context, WaitStrategy::Spin),
    },
};

pub static ADAPTIVE: Peer = Peer {
    name: "ringpost-adaptive",
    kind: Kind::Blocking,
    what: "the default: spins while that pays off, else sleeps",
    sizes: SIZES,
    version: VERSION,
    play: Play::Pair {
        server: |context| serve(context, WaitStrategy::Adaptive),
        client: |context| call(context, WaitStrategy::Adaptive),
    },
};

pub static PARK: Peer = Peer {
    name: "ringpost-park",
    kind: Kind::Blocking,
    what: "WaitStrategy::Park: sleeps at once",
    sizes: SIZES,
    version: VERSION,
    play: Play::Pair {
        server: |context| serve(context, WaitStrategy::Park),
        client: |context| call(context, WaitStrategy::Park),
    },
};

pub static FORWARD_ADAPTIVE: Peer = Peer {
    name: "ringpost-forward-adaptive",
    kind: Kind::Forwarding,
    what: "two acknowledged sends by key, the default way of waiting",
    sizes: SIZES,
    version: VERSION,
    play: Play::Brokered {
        broker: |context| forward(context, WaitStrategy::Adaptive),
        server: |context| return_messages(context, WaitStrategy::Adaptive),
        client: |context| send_messages(context, WaitStrategy::Adaptive),
    },
};

pub static FORWARD_PARK: Peer = Peer {
    name: "ringpost-forward-park",
    kind: Kind::Forwarding,
    what: "two acknowledged sends by key, WaitStrategy::Park",
    sizes: SIZES,
    version: VERSION,
    play: Play::Brokered {
        broker: |context| forward(context, WaitStrategy::Park),
        server: |context| return_messages(context, WaitStrategy::Park),
        client: |context| send_messages(context, WaitStrategy::Park),
    },
};

pub static LINK: Peer = Peer {
    name: "named-ringpost-link",
    kind: Kind::Named,
    what: "a call over a link, the default way of waiting",
    sizes: SIZES,
    version: VERSION,
    play: Play::Named {
        broker: |context| forward(context, WaitStrategy::Adaptive),
        server: serve_link,
        client: call_link,
    },
};

fn serve(context: &Context, strategy: WaitStrategy) -> Outcome {
    let (ended, end) = mpsc::channel();
    let path = context.path("bus");
    let server = Server::builder(&path)
        .wait(strategy)
        .pin(context.pins.server)
        .service(move |request: Request<'_>, response: &mut Response<'_>| {
            let request = request.payload();
            let (first, last) = answer_to(request).map_err(|why| ServiceError::new(why.to_string()))?;
            response.write(&first)?;
            response.write(&request[NUMBER..])?;
            if last {
                let _ = ended.send(());
            }
            Ok(())
        })
        .start()
        .or_fail("start the server")?;
    context.ready(&path)?;
    end.recv().or_fail("wait for the last call")?;
    // What was committed is answered first.
    server.join_after_shutdown();
    Ok(())
}

fn call(context: &Context, strategy: WaitStrategy) -> Outcome<Measured> {
    let mut client = Client::builder(context.other())
        .wait(strategy)
        .register("client")
        .or_fail("register with the server")?;
    let ask = |work: &mut Work| {
        let response = client.call(work.next()).or_fail("call")?;
        work.check(&response)
    };
    measure(ask, context.size, context.budget)
}

fn forward(context: &Context, strategy: WaitStrategy) -> Outcome {
    let path = context.path("bus");
    let server =
        Server::builder(&path).wait(strategy).pin(context.pins.server).start().or_fail("start the server")?;
    context.ready(&path)?;
    // Until this process is told to end.
    server.join();
    Ok(())
}

fn return_messages(context: &Context, strategy: WaitStrategy) -> Outcome {
    let mut client =
        Client::builder(context.other()).wait(strategy).register("b").or_fail("register with the server")?;
    context.ready(&context.address)?;
    loop {
        let message = client.recv().or_fail("receive")?;
        let from = message.sender();
        let mut payload = message.into_payload();
        let last = answer_in_place(&mut payload)?;
        client.send(from, &payload).or_fail("send")?;
        if last {
            return Ok(());
        }
    }
}

fn send_messages(context: &Context, strategy: WaitStrategy) -> Outcome<Measured> {
    let mut client =
        Client::builder(context.other()).wait(strategy).register("a").or_fail("register with the server")?;
    let other = client.wait_for("b", Duration::from_secs(10)).or_fail("wait for the other client")?;
    let ask = |work: &mut Work| {
        client.send(other, work.next()).or_fail("send")?;
        let message = client.recv().or_fail("receive")?;
        work.check(message.payload())
    };
    measure(ask, context.size, context.budget)
}

fn serve_link(context: &Context) -> Outcome {
    let mut client = Client::register(context.other(), "b").or_fail("register with the server")?;
    let mut listener = client.listen().or_fail("listen")?;
    context.ready(&context.address)?;
    let incoming = listener.accept().or_fail("accept a link")?;
    let mut responder = incoming.accept().or_fail("open the link")?;
    // Until the caller closes it.
    let ended = responder.serve(|request, response| {
        let request = request.payload();
        let (first, _) = answer_to(request).map_err(|why| ServiceError::new(why.to_string()))?;
        response.write(&first)?;
        response.write(&request[NUMBER..])
    });
    ended.map(drop).or_fail("serve the link")
}

fn call_link(context: &Context) -> Outcome<Measured> {
    let mut client = Client::register(context.other(), "a").or_fail("register with the server")?;
    let mut link = client.connect("b").or_fail("connect to the other client")?;
    let ask = |work: &mut Work| {
        let response = link.call(work.next()).or_fail("call")?;
        work.check(&response)
    };
    measure(ask, context.size, context.budget)
}
