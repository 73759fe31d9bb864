//! Tests of what a server does for those who ask with a proof, by hand-written clients: introductions, pipes
//! to wait by, refusals, and that nothing is left behind whatever becomes of an introduction.
//!
//! The server is a process of its own, whose descriptors are counted.

#[path = "../common/mod.rs"]
mod common;

mod introductions;
mod kicks;
mod leftovers;
mod refusals;
mod reports;

use common::raw::RawClient;
use common::raw_bus::{ALICES, BOBS, Bus, as_user, serve_with_quotas};
use common::raw_links::Side;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = common::role::role() else { return };
    match role.as_str() {
        "server" => serve_with_quotas(&stage),
        "asker" => refusals::ask_with_anothers_proof(&stage),
        other => panic!("no role {other:?}"),
    }
}

/// Waits until the server has two descriptors for each client, one for each bell, five for each introduction
/// that waits, and no other.
trait ComesTo {
    fn comes_to(&self, clients: usize, bells: usize, waiting: usize);
}

impl ComesTo for Bus {
    fn comes_to(&self, clients: usize, bells: usize, waiting: usize) {
        self.has(clients, bells + 5 * waiting);
    }
}

/// A thread of root's on which a client takes, when it is told to by a thread of another user.
struct Taker {
    orders: Sender<()>,
    taken: Mutex<Receiver<Option<Side>>>,
}

impl Taker {
    fn of(client: &Arc<RawClient>, bus: &Bus) -> Taker {
        let (client, path) = (Arc::clone(client), bus.path().to_owned());
        let ((orders, told), (say, taken)) = (channel(), channel());
        std::thread::spawn(move || {
            // Ends with the sender of orders.
            told.iter().for_each(|()| say.send(client.take(&path)).unwrap());
        });
        Taker { orders, taken: Mutex::new(taken) }
    }

    fn take(&self) -> Option<Side> {
        self.orders.send(()).unwrap();
        self.taken.lock().unwrap().recv().unwrap()
    }
}
