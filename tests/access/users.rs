//! Other users: whom a rule names by user or group, and what becomes of a user who is let in or shut out.
//! Without root, which can play others, these are skipped.

use super::common::role::{Role, Stage, say, setting};
use super::common::users::{is_root, leave_root};
use super::common::{Bus, eventually};
use super::{closed, with_rules};
use ringpost::{Access, Act, Client, PublishError, RegisterError, Rule, SendError};
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const ALICE: u32 = 65_530;
const BOB: u32 = 65_531;
/// A group of which a user can be a member besides its own group.
const TEAM: u32 = 65_500;

/// As another user: does what it is told, and says what became of it.
pub fn ask(stage: &Stage) {
    let uid: u32 = setting("UID").unwrap();
    let groups: Vec<u32> = setting("GROUP").into_iter().collect();
    leave_root(uid, setting("GID").unwrap_or(uid), &groups);
    let path: PathBuf = setting("PATH").unwrap();
    let mut client = None;
    loop {
        let order = stage.order();
        let (what, object) = order.split_once(' ').unwrap_or((&order, ""));
        let became = match (what, &mut client) {
            ("register", place) => match Client::register(&path, object) {
                Ok(registered) => {
                    *place = Some(registered);
                    "ok".to_owned()
                }
                Err(RegisterError::NotAllowed(_)) => "not allowed".to_owned(),
                Err(RegisterError::NotPermitted { .. }) => "not permitted".to_owned(),
                Err(RegisterError::Quota(_)) => "quota".to_owned(),
                Err(error) => format!("{error:?}"),
            },
            ("send", Some(client)) => match client.send(object, b"x") {
                Ok(()) => "ok".to_owned(),
                Err(SendError::NotAllowed(_)) => "not allowed".to_owned(),
                Err(error) => format!("{error:?}"),
            },
            ("publish", Some(client)) => match client.publish(object) {
                Ok(_) => "ok".to_owned(),
                Err(PublishError::NotAllowed(_)) => "not allowed".to_owned(),
                Err(PublishError::Refused(why)) if why.contains("is not allowed to connect") => {
                    "not permitted".to_owned()
                }
                Err(error) => format!("{error:?}"),
            },
            ("leave", place) => {
                *place = None;
                "ok".to_owned()
            }
            _ => panic!("no order {order:?}"),
        };
        say(format_args!("{what}: {became}"));
    }
}

fn bus(access: Access) -> Option<Bus> {
    if !is_root() {
        eprintln!("skipped: only root can play another user");
        return None;
    }
    let bus = Bus::with(|builder| builder.access(access));
    set_permissions(bus.place.directory.path(), Permissions::from_mode(0o755)).unwrap();
    Some(bus)
}

fn start(bus: &Bus, uid: u32, group: Option<u32>) -> Role {
    let path = bus.path().to_str().unwrap();
    let (uid, group) = (uid.to_string(), group.map(|group| group.to_string()));
    let mut settings = vec![("PATH", path), ("UID", uid.as_str())];
    settings.extend(group.as_deref().map(|group| ("GROUP", group)));
    Role::start("asks", &settings)
}

/// Gives an order, and checks what becomes of it.
fn order(role: &mut Role, order: &str, expected: &str) {
    role.tell(order);
    let what = order.split(' ').next().unwrap();
    assert_eq!(role.hear(&format!("{what}:")), expected, "{order}");
}

fn access(users: &[u32], rules: impl Into<Vec<Rule>>) -> Access {
    let mut access = with_rules(rules);
    access.users = users.to_vec();
    access
}

#[test]
fn a_rule_names_users_and_the_members_of_groups() {
    let mut by_user = closed(&[Act::Publish, Act::Send], &["a"]);
    by_user.users = vec![ALICE];
    let mut by_group = closed(&[Act::Publish], &["b"]);
    by_group.groups = vec![TEAM];
    let mut by_own_group = closed(&[Act::Publish], &["c"]);
    by_own_group.groups = vec![BOB];
    // The name is a claim, which must fit the user.
    let mut by_both = closed(&[Act::Publish], &["d"]);
    (by_both.users, by_both.names) = (vec![BOB], vec!["bob".into()]);
    let Some(bus) = bus(access(&[ALICE, BOB], [by_user, by_group, by_own_group, by_both])) else { return };
    let _receiver = bus.client("a");
    let (mut alice, mut bob) = (start(&bus, ALICE, Some(TEAM)), start(&bus, BOB, None));
    order(&mut alice, "register alice", "ok");
    order(&mut bob, "register bob", "ok");
    for (topic, alices, bobs) in [
        ("a", "ok", "not allowed"),
        ("b", "ok", "not allowed"),
        ("c", "not allowed", "ok"),
        ("d", "not allowed", "ok"),
        ("e", "ok", "ok"),
    ] {
        order(&mut alice, &format!("publish {topic}"), alices);
        order(&mut bob, &format!("publish {topic}"), bobs);
    }
    order(&mut alice, "send a", "ok");
    order(&mut bob, "send a", "not allowed");
    for (role, own) in [(&mut alice, "bob 2"), (&mut bob, "alice 2")] {
        order(role, "leave", "ok");
        order(role, &format!("register {own}"), "ok");
        order(role, "publish d", "not allowed");
    }
    // The server's own user is held back, too: this test's is root.
    let mut own = bus.client("bob");
    assert!(matches!(own.publish("a"), Err(PublishError::NotAllowed(_))));
}

#[test]
fn a_user_is_let_in_and_shut_out_while_the_server_runs() {
    let Some(bus) = bus(access(&[], [])) else { return };
    let control = bus.server.access_control();
    let mut own = bus.client("own");
    let (mut alice, mut bob) = (start(&bus, ALICE, Some(TEAM)), start(&bus, BOB, None));
    order(&mut alice, "register alice", "not permitted");
    let mut team = access(&[], []);
    team.groups = vec![TEAM];
    control.replace(team).unwrap();
    order(&mut alice, "register alice", "ok");
    order(&mut bob, "register bob", "not permitted");
    control.replace(access(&[BOB], [])).unwrap();
    order(&mut bob, "register bob", "ok");
    // Her registration goes on, and what she does by her channel. For the rest she would have to connect
    // anew.
    order(&mut alice, "send own", "ok");
    order(&mut alice, "publish news", "not permitted");
    assert_eq!(own.recv().unwrap().sender_name().as_str(), "alice");
    order(&mut alice, "leave", "ok");
    eventually("she is gone", || bus.server.clients().unwrap().len() == 2);
    order(&mut alice, "register alice", "not permitted");
}

#[test]
fn smaller_quotas_hold_for_what_comes() {
    let Some(bus) = bus(access(&[ALICE], [])) else { return };
    let (mut one, mut two) = (start(&bus, ALICE, None), start(&bus, ALICE, None));
    order(&mut one, "register one", "ok");
    let mut tight = access(&[ALICE], []);
    (tight.quotas.clients, tight.quotas.topics) = (1, 0);
    bus.server.access_control().replace(tight).unwrap();
    assert_eq!(bus.server.info().quotas.map(|quotas| (quotas.clients, quotas.topics)), Some((1, 0)));
    order(&mut two, "register two", "quota");
    order(&mut one, "send one", "ok");
    order(&mut one, "leave", "ok");
    eventually("it is gone", || bus.server.clients().unwrap().is_empty());
    order(&mut two, "register two", "ok");
}
