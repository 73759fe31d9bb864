//! Tests of quotas: an allowed user takes as many connections and clients as it can, and others still get in.
//!
//! A role plays the other user, which needs root.

use crate::ALONE;
use crate::common::raw::{Heard, SERVER, VERSION, datagram, dial, hear};
use crate::common::role::{Role, Stage, say, setting};
use crate::common::users::{is_root, leave_root};
use crate::common::{Bus, Place, eventually};
use ringpost::{Client, Observer, Quotas, RegisterError, Server};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

const OTHER: u32 = 65_533;

/// More than any quota here.
const MANY: usize = 200;

fn connections(path: &Path, observe: bool) -> (Vec<OwnedFd>, String) {
    let mut held = Vec::new();
    for _ in 0..MANY {
        let line = dial(path);
        if observe {
            let _ =
                rustix::net::send(&line, &datagram(VERSION, SERVER, b""), rustix::net::SendFlags::NOSIGNAL);
        }
        let wait = Timespec { tv_sec: i64::from(observe) * 60, tv_nsec: 20_000_000 };
        if poll(&mut [PollFd::new(&line, PollFlags::IN)], Some(&wait)) == Ok(0) {
            held.push(line);
            continue;
        }
        match hear(&line) {
            Heard::Reply { status: 0, .. } => held.push(line),
            other => return (held, other.refusal().1),
        }
    }
    (held, "never refused".into())
}

/// The role of another user.
pub fn hog(stage: &Stage) {
    leave_root(OTHER, OTHER, &[]);
    let path: PathBuf = setting("PATH").unwrap();
    say("ready");
    loop {
        match stage.order().as_str() {
            "clients" => {
                let (mut clients, mut why) = (Vec::new(), String::new());
                for n in 0..MANY {
                    match Client::register(&path, format!("hog {n}")) {
                        Ok(client) => clients.push(client),
                        Err(RegisterError::Quota(text)) => {
                            why = text;
                            break;
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                }
                say(format_args!("{} {why}", clients.len()));
                stage.await_order("enough");
            }
            what => {
                let (held, why) = connections(&path, what == "observe");
                say(format_args!("{} {why}", held.len()));
                stage.await_order("enough");
            }
        }
        say("done");
    }
}

fn others_get_in(path: &Path) {
    for n in 0..20 {
        let mut client = Client::register(path, format!("honest {n}")).unwrap();
        client.caller().ping().unwrap();
        client.unregister().unwrap();
    }
    Observer::connect(path).unwrap().list().unwrap();
}

#[test]
fn a_user_that_takes_all_it_can_takes_its_quota() {
    if !is_root() {
        return eprintln!("skipped: only root can play another user");
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut quotas = Quotas::default();
    (quotas.asking, quotas.clients) = (30, 12);
    let place = Place::new();
    fs::set_permissions(place.directory.path(), Permissions::from_mode(0o755)).unwrap();
    let server =
        Server::builder(&place.path).max_clients(16).allow_user(OTHER).quotas(quotas).start().unwrap();
    let bus = Bus { server, place };
    let mut hog = Role::start("hog", &[("PATH", bus.path().to_str().unwrap())]);
    hog.hear("ready");
    for (what, most, option) in [
        ("clients", 12, "--quota clients=N"),
        ("silent", 30, "--quota asking=N"),
        ("observe", 30, "--quota asking=N"),
    ] {
        // What it closed before is closed here, too.
        eventually("it has no connection", || {
            let users = bus.server.figures().unwrap().server.users;
            users.iter().all(|user| user.uid != OTHER || user.asking == 0)
        });
        hog.tell(what);
        let said = hog.hear("");
        let (count, why) = said.split_once(' ').unwrap();
        // Idle connections are dropped after a while, which makes room for others.
        let count: usize = count.parse().unwrap();
        assert!(count >= most && (what == "silent" || count == most), "{what}: {said}");
        assert!(why.contains(option) && why.contains("user 65533"), "{what}: {why}");
        others_get_in(bus.path());
        hog.tell("enough");
        hog.hear("done");
    }
    assert_eq!(Observer::connect(bus.path()).unwrap().server().unwrap().quotas, Some(quotas));
}
