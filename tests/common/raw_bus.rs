//! A server of a process of its own, for hand-written clients, whose descriptors are counted.

use super::proc::raise_descriptor_limit;
use super::raw::RawClient;
use super::role::{Role, Stage, setting};
use super::server::{as_set, serve, start_server};
use super::users::leave_root;
use super::{Place, becomes};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

/// Users without accounts.
pub const ALICES: u32 = 65_532;
pub const BOBS: u32 = 65_533;

/// The role of the server.
pub fn serve_with_quotas(stage: &Stage) {
    match setting("FILES") {
        Some(files) => {
            let maximum = getrlimit(Resource::Nofile).maximum;
            setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum }).unwrap();
        }
        None => raise_descriptor_limit(),
    }
    let mut quotas = ringpost::Quotas::default();
    quotas.links = setting("LINKS").unwrap_or(quotas.links);
    quotas.topics = setting("TOPICS").unwrap_or(quotas.topics);
    quotas.subscriptions = setting("SUBSCRIPTIONS").unwrap_or(quotas.subscriptions);
    quotas.ring_bytes = setting("BYTES").unwrap_or(quotas.ring_bytes);
    quotas.registrations = setting("PACE").unwrap_or(1_000_000);
    serve(as_set().quotas(quotas).allow_user(ALICES).allow_user(BOBS), stage);
}

/// A server that lets other users in.
pub struct Bus {
    /// Locked, so that threads of several users may ask one server.
    pub server: Mutex<Role>,
    pub pid: u32,
    /// How many descriptors it has without clients.
    pub idle: usize,
    pub place: Place,
}

impl Bus {
    pub fn start(settings: &[(&str, &str)]) -> Bus {
        let place = Place::new();
        std::fs::set_permissions(place.directory.path(), Permissions::from_mode(0o755)).unwrap();
        let server = start_server(&place, &[&[("RING", "4096")], settings].concat());
        let pid = server.pid();
        Bus { server: Mutex::new(server), pid, idle: descriptors(pid), place }
    }

    pub fn path(&self) -> &Path {
        &self.place.path
    }

    pub fn register(&self, name: &str) -> RawClient {
        RawClient::register(self.path(), name)
    }

    /// Waits until the server has two descriptors for each client, so many besides, and no other.
    pub fn has(&self, clients: usize, besides: usize) {
        let wanted = self.idle + 2 * clients + besides;
        becomes("the server has as many descriptors as it should", || descriptors(self.pid), &wanted);
    }

    pub fn listed(&self, name: &str) -> ringpost::ClientInfo {
        let clients = ringpost::Observer::connect(self.path()).unwrap().list().unwrap();
        clients.into_iter().find(|client| client.name.as_str() == name).unwrap()
    }
}

pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Runs a function as another user. `None` without root's rights.
pub fn as_user<T: Send>(uid: u32, run: impl FnOnce() -> T + Send) -> Option<T> {
    if !super::users::is_root() {
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

/// The request failed with this code, and its text has these words.
pub fn refused<T>(answer: Result<T, (u16, String)>, code: u16, words: &[&str]) {
    let Err((found, why)) = answer else { panic!("not refused with {code}") };
    assert_eq!(found, code, "{why}");
    for word in words {
        assert!(why.contains(word), "{word:?} is not in {why:?}");
    }
}
