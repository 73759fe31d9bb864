//! Links between clients: opening, calls, posts, ends, forks, and a server that dies meanwhile.

#![allow(unsafe_code, reason = "there is no safe fork")]

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod ends;
mod errors;
mod fork;
mod outlive;
mod peers;
mod posts;
mod serving;

use common::Bus;
use common::role;
use ringpost::{Client, Request, Response, ServeHandle, ServerBuilder, ServiceError};

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "forks" => fork::use_in_a_child(&stage),
        "leaves" => fork::leave_a_child(&stage),
        "calls" => outlive::call_on(&stage),
        "executes" => fork::become_another(&stage),
        "lacks" => errors::lack_descriptors(&stage),
        "other" => errors::open_many(&stage),
        "serves" => ends::serve(&stage),
        "listens" => ends::listen(&stage),
        "calls bob" => ends::call(&stage),
        "forks while serving" => serving::fork_while_serving(&stage),
        "cut off while serving" => serving::cut_off_while_serving(&stage),
        "serves many" => serving::serve_many(&stage),
        "server" => common::server::serve(common::server::as_set(), &stage),
        other => panic!("no role {other:?}"),
    }
}

/// Two clients; bob serves.
struct Pair {
    alice: Client,
    bob: Client,
    serving: ServeHandle,
    bus: Bus,
}

impl Pair {
    fn new<F>(service: F) -> Pair
    where
        F: Fn(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> + Send + Sync + 'static,
    {
        Pair::on(|builder| builder, service)
    }

    fn on<F>(set: impl FnOnce(ServerBuilder) -> ServerBuilder, service: F) -> Pair
    where
        F: Fn(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> + Send + Sync + 'static,
    {
        let bus = Bus::with(set);
        let [alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
        let serving = bob.listen().unwrap().serve(service).unwrap();
        Pair { alice, bob, serving, bus }
    }

    /// How many links the server notes for a client.
    fn links_of(&mut self, name: &str) -> u32 {
        let list = self.alice.list().unwrap();
        list.iter().find(|client| client.name.as_str() == name).unwrap().links
    }
}

fn echo(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    response.write(request.payload())
}
