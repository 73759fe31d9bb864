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

use common::proc::raise_descriptor_limit;
use common::raw::RawClient;
use common::raw_links::Side;
use common::role::{Role, Stage, setting};
use common::server::{as_set, serve, start_server};
use common::users::leave_root;
use common::{Place, becomes};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// Users without accounts.
const ALICES: u32 = 65_532;
const BOBS: u32 = 65_533;

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

fn serve_with_quotas(stage: &Stage) {
    match setting("FILES") {
        Some(files) => {
            let maximum = getrlimit(Resource::Nofile).maximum;
            setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum }).unwrap();
        }
        None => raise_descriptor_limit(),
    }
    let mut quotas = ringpost::Quotas::default();
    quotas.links = setting("LINKS").unwrap_or(quotas.links);
    quotas.ring_bytes = setting("BYTES").unwrap_or(quotas.ring_bytes);
    quotas.registrations = setting("PACE").unwrap_or(1_000_000);
    serve(as_set().quotas(quotas).allow_user(ALICES).allow_user(BOBS), stage);
}

/// A server that lets other users in.
struct Bus {
    /// Locked, so that threads of several users may ask one server.
    server: Mutex<Role>,
    pid: u32,
    /// How many descriptors it has without clients.
    idle: usize,
    place: Place,
}

impl Bus {
    fn start(settings: &[(&str, &str)]) -> Bus {
        let place = Place::new();
        std::fs::set_permissions(place.directory.path(), Permissions::from_mode(0o755)).unwrap();
        let server = start_server(&place, &[&[("RING", "4096")], settings].concat());
        let pid = server.pid();
        Bus { server: Mutex::new(server), pid, idle: descriptors(pid), place }
    }

    fn path(&self) -> &Path {
        &self.place.path
    }

    fn register(&self, name: &str) -> RawClient {
        RawClient::register(self.path(), name)
    }

    /// Waits until the server has two descriptors for each client, one for each bell, five for each
    /// introduction that waits, and no other.
    fn comes_to(&self, clients: usize, bells: usize, waiting: usize) {
        let wanted = self.idle + 2 * clients + bells + 5 * waiting;
        becomes("the server has as many descriptors as it should", || descriptors(self.pid), &wanted);
    }

    fn listed(&self, name: &str) -> ringpost::ClientInfo {
        let clients = ringpost::Observer::connect(self.path()).unwrap().list().unwrap();
        clients.into_iter().find(|client| client.name.as_str() == name).unwrap()
    }
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
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

/// Runs a function as another user. `None` without root's rights.
fn as_user<T: Send>(uid: u32, run: impl FnOnce() -> T + Send) -> Option<T> {
    if !common::users::is_root() {
        eprintln!("skipped: only root can play another user");
        return None;
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            leave_root(uid, uid, &[]);
            run()
        });
        Some(thread.join().unwrap())
    })
}
