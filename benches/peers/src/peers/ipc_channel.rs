//! ipc-channel's channels of bytes, one each way, made by the client and handed to the server.

use ipc_channel::TryRecvError;
use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, bytes_channel};

use super::{Kind, Peer, Play, SIZES, Version};
use crate::context::Context;
use crate::failure::{OrFail, Outcome};
use crate::measure::{Measured, measure};
use crate::work::{Work, answer_in_place};

pub static SPIN: Peer = Peer {
    name: "ipc-channel-spin",
    kind: Kind::Spinning,
    what: "channels of bytes, try_recv",
    sizes: SIZES,
    version: Version::Of("ipc-channel"),
    play: Play::Pair { server: serve::<true>, client: call::<true> },
};

pub static BLOCKING: Peer = Peer {
    name: "ipc-channel",
    kind: Kind::Blocking,
    what: "channels of bytes, recv",
    sizes: SIZES,
    version: Version::Of("ipc-channel"),
    play: Play::Pair { server: serve::<false>, client: call::<false> },
};

/// What the client hands over: the server's ends.
type Ends = (IpcBytesReceiver, IpcBytesSender);

#[inline]
fn receive<const SPIN: bool>(from: &IpcBytesReceiver) -> Outcome<Vec<u8>> {
    if !SPIN {
        return from.recv().or_fail("receive");
    }
    loop {
        match from.try_recv() {
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
            done => return done.or_fail("receive"),
        }
    }
}

fn serve<const SPIN: bool>(context: &Context) -> Outcome {
    let (server, name) = IpcOneShotServer::<Ends>::new().or_fail("make a server")?;
    context.ready(name)?;
    let (_keep, (requests, responses)) = server.accept().or_fail("accept the client")?;
    loop {
        let mut message = receive::<SPIN>(&requests)?;
        let last = answer_in_place(&mut message)?;
        responses.send(&message).or_fail("send")?;
        if last {
            return Ok(());
        }
    }
}

fn call<const SPIN: bool>(context: &Context) -> Outcome<Measured> {
    let (to_server, requests) = bytes_channel().or_fail("make a channel")?;
    let (responses, from_server) = bytes_channel().or_fail("make a channel")?;
    let server = IpcSender::<Ends>::connect(context.address.clone()).or_fail("connect to the server")?;
    server.send((requests, responses)).or_fail("hand over the channels")?;
    let ask = |work: &mut Work| {
        to_server.send(work.next()).or_fail("send")?;
        work.check(&receive::<SPIN>(&from_server)?)
    };
    measure(ask, context.size, context.budget)
}
