//! Topics that are restricted to some users. Without root, which can play others, this is skipped.

use super::common::role::{Role, Stage, say, setting};
use super::common::users::{is_root, leave_root};
use super::common::{Bus, eventually};
use super::{register, send_number};
use ringpost::{Publisher, SampleError};
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const NOBODY: u32 = 65_532;
const OTHER: u32 = 65_533;

/// Subscribes as another user, and says what it gets.
pub fn subscribe_as_another(stage: &Stage) {
    let uid = setting("UID").unwrap();
    leave_root(uid, uid, &[]);
    let mut client = register(&format!("user{uid}"));
    let mut sub = client.subscribe("**").unwrap();
    say("subscribed");
    stage.await_order("look");
    match sub.recv_timeout(Duration::from_millis(300)) {
        Ok(sample) => say(format_args!("got {}", sample.topic())),
        Err(SampleError::TimedOut) => say("got nothing"),
        Err(error) => panic!("{error}"),
    }
    stage.await_order("end");
}

#[test]
fn a_topic_is_given_to_its_users_only() {
    if !is_root() {
        return eprintln!("skipped: only root can play another user");
    }
    let bus = Bus::with(|builder| builder.allow_user(NOBODY).allow_user(OTHER));
    set_permissions(bus.place.directory.path(), Permissions::from_mode(0o755)).unwrap();
    let mut alice = bus.client("alice");
    for before in [true, false] {
        let start = |uid: &str| {
            let mut role =
                Role::start("tries as another user", &[("PATH", bus.path().to_str().unwrap()), ("UID", uid)]);
            role.hear("subscribed");
            role
        };
        let early: Vec<_> = if before { vec![start("65532"), start("65533")] } else { Vec::new() };
        let options = Publisher::options().users(&[NOBODY]);
        let mut secret = options.publish(alice.caller(), "secret").unwrap();
        let mut users = if before { early } else { vec![start("65532"), start("65533")] };
        eventually("one of them is attached", || secret.subscribers() == 1);
        send_number(&mut secret, 1);
        for (user, expected) in users.iter_mut().zip(["secret", "nothing"]) {
            user.tell("look");
            assert_eq!(user.hear("got"), expected);
        }
        assert_eq!(secret.subscribers(), 1);
        drop(users);
        eventually("they are gone", || {
            alice.list().unwrap().iter().all(|client| client.name.as_str() == "alice")
        });
    }
}
