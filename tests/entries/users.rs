//! Tests of users: whom a server accepts, and whom a client trusts.
//!
//! Roles that give up root's rights play other users. Without root these tests are skipped.

#[cfg(feature = "cli")]
use crate::common::program::{CLIENT, Program, SERVER};
use crate::common::role::{Role, Stage, say, setting};
use crate::common::users::{is_root, leave_root};
use crate::common::{Place, await_server, eventually};
use crate::{assert_mentions, skipped};
use ringpost::{AccessError, Client, Observer, RegisterError, Server, ServerBuilder, StartError};
#[cfg(feature = "cli")]
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// User and group numbers; they need no accounts.
pub const NOBODY: u32 = 65_532;
const OTHER: u32 = 65_533;
const GROUP: u32 = 65_000;

/// The role of another user that tries to register, and reports the result.
pub fn try_to_register() {
    let groups: String = setting("GROUPS").unwrap_or_default();
    let groups: Vec<u32> = groups.split(',').filter_map(|group| group.parse().ok()).collect();
    let uid = setting("UID").unwrap();
    leave_root(uid, setting("GID").unwrap_or(uid), &groups);
    let path: PathBuf = setting("PATH").unwrap();
    let observed = Observer::connect(&path).and_then(|observer| observer.list());
    let registered = Client::register(&path, "other");
    assert_eq!(observed.is_ok(), registered.is_ok(), "{observed:?}");
    match registered {
        Ok(mut client) => {
            assert_eq!(client.call(b"x").unwrap(), b"x");
            let own = client.key();
            let seen = observed_uid(&mut client, own);
            say(format_args!("registered uid={seen}"));
        }
        Err(error @ RegisterError::NotPermitted { .. }) => say(format_args!("not permitted: {error}")),
        Err(error @ RegisterError::Untrusted { .. }) => say(format_args!("untrusted: {error}")),
        Err(error) => say(format_args!("failed: {error:?}")),
    }
}

fn observed_uid(client: &mut Client, key: ringpost::Key) -> u32 {
    client.list().unwrap().iter().find(|client| client.key == key).unwrap().uid
}

/// The role of another user's server.
pub fn serve_as_other(stage: &Stage) {
    leave_root(OTHER, OTHER, &[]);
    let path: PathBuf = setting("PATH").unwrap();
    let _server = Server::builder(path).allow_user(NOBODY).start().unwrap();
    say("ready");
    stage.await_order("end");
}

/// A directory that all users can access.
fn open_place(mode: u32) -> Place {
    let place = Place::new();
    fs::set_permissions(place.directory.path(), Permissions::from_mode(mode)).unwrap();
    place
}

fn ask(place: &Place, settings: &[(&str, &str)]) -> String {
    let mut all = vec![("PATH", place.path.to_str().unwrap())];
    all.extend_from_slice(settings);
    let mut other = Role::start("other user", &all);
    let said = other.hear("");
    assert!(other.end().success());
    said
}

fn mode_of(place: &Place) -> u32 {
    fs::metadata(&place.path).unwrap().permissions().mode() & 0o777
}

#[test]
fn another_user_is_let_in_only_if_allowed() {
    if !is_root() {
        return skipped("only root can play another user");
    }
    let place = open_place(0o755);
    let start = |set: fn(ServerBuilder) -> ServerBuilder| set(Server::builder(&place.path)).start().unwrap();
    let nobody = [("UID", "65532")];

    // No other user is allowed: the socket is not accessible.
    let server = start(|b| b);
    assert_eq!(mode_of(&place), 0o600);
    let why = ask(&place, &nobody);
    assert!(why.starts_with("not permitted"), "{why}");
    assert_mentions(&why, &["--allow-user 65532", "directory that user 65532 may enter"]);
    assert_eq!(server.join_after_shutdown().refused, 0);

    // Another user is allowed: the socket is accessible to all, and the server asks the kernel for the user.
    let server = start(|b| b.allow_user(OTHER));
    assert_eq!(mode_of(&place), 0o666);
    let why = ask(&place, &nobody);
    assert!(why.starts_with("not permitted"), "{why}");
    assert_mentions(&why, &["user 65532 is not allowed", "--allow-user 65532"]);
    assert_eq!(ask(&place, &[("UID", "65533")]), "registered uid=65533");
    assert_eq!(server.join_after_shutdown().refused, 2);

    let server = start(|b| b.allow_user(OTHER).allow_user(NOBODY));
    assert_eq!(ask(&place, &nobody), "registered uid=65532");
    assert_eq!(ask(&place, &[("UID", "65533")]), "registered uid=65533");
    assert_eq!(server.join_after_shutdown().refused, 0);
}

#[test]
fn a_group_is_let_in_by_its_members_first_or_further_group() {
    if !is_root() {
        return skipped("only root can play a member of another group");
    }
    let place = open_place(0o755);
    let member = [("UID", "65532"), ("GID", "65000")];
    let further = [("UID", "65532"), ("GROUPS", "1,65000,7")];
    let other = [("UID", "65532"), ("GROUPS", "1,7")];

    // One group and no users: the socket belongs to the group.
    let server = Server::builder(&place.path).allow_group(GROUP).start().unwrap();
    assert_eq!(mode_of(&place), 0o660);
    assert_eq!(ask(&place, &member), "registered uid=65532");
    assert_eq!(ask(&place, &further), "registered uid=65532");
    let why = ask(&place, &other);
    assert!(why.starts_with("not permitted"), "{why}");
    assert_mentions(&why, &["--allow-user 65532"]);
    assert_eq!(server.join_after_shutdown().refused, 0);

    // Several groups: the socket is accessible to all, and the server asks the kernel.
    let server = Server::builder(&place.path).allow_group(1000).allow_group(GROUP).start().unwrap();
    assert_eq!(mode_of(&place), 0o666);
    assert_eq!(ask(&place, &member), "registered uid=65532");
    assert_eq!(ask(&place, &further), "registered uid=65532");
    let why = ask(&place, &other);
    assert!(why.starts_with("not permitted"), "{why}");
    assert_mentions(&why, &["user 65532 is not allowed", "--allow-user 65532"]);
    assert_eq!(server.join_after_shutdown().refused, 2);

    // A group and a user.
    let server = Server::builder(&place.path).allow_group(GROUP).allow_user(OTHER).start().unwrap();
    assert_eq!(ask(&place, &further), "registered uid=65532");
    assert_eq!(ask(&place, &[("UID", "65533")]), "registered uid=65533");
    assert!(ask(&place, &other).starts_with("not permitted"));
    drop(server);
}

#[test]
#[cfg(feature = "cli")]
fn the_program_lets_a_group_in() {
    if !is_root() {
        return skipped("only root can play a member of another group");
    }
    let place = open_place(0o755);
    let socket = place.path.to_str().unwrap();
    let server = Program::start(SERVER, &["--socket", socket, "--allow-group", "65000"]);
    await_server(&place.path);
    assert_eq!(mode_of(&place), 0o660);
    assert_eq!(ask(&place, &[("UID", "65532"), ("GID", "65000")]), "registered uid=65532");
    let why = ask(&place, &[("UID", "65532"), ("GID", "7")]);
    assert!(why.starts_with("not permitted"), "{why}");
    server.signal(Signal::TERM);
    assert_eq!(server.end().status, Some(0));
}

#[test]
fn a_group_that_is_not_one_s_own_cannot_be_let_in() {
    if !is_root() {
        return skipped("only root can play a user of whom it knows the groups");
    }
    let place = open_place(0o777);
    let settings = [("PATH", place.path.to_str().unwrap()), ("GROUP", "65000")];
    let mut server = Role::start("server as told", &settings);
    assert_mentions(&server.hear("group"), &["group 65000", "not a member", "as root", "allow users"]);
    assert!(place.is_clean());
}

/// Only its owner may enter the directory, whatever the server allows.
#[test]
fn a_closed_directory_says_that_it_is_in_the_way() {
    if !is_root() {
        return skipped("only root can play another user");
    }
    let place = open_place(0o700);
    let _server = Server::builder(&place.path).allow_user(NOBODY).start().unwrap();
    let why = ask(&place, &[("UID", "65532")]);
    assert!(why.starts_with("not permitted"), "{why}");
    assert_mentions(&why, &["in a directory that user 65532 may enter"]);
}

#[test]
fn another_user_s_server_is_believed_only_where_nobody_else_can_put_one() {
    if !is_root() {
        return skipped("only root can play another user's server");
    }
    // In a directory like /tmp, in which everyone may put a socket.
    let place = open_place(0o1777);
    let path = place.path.to_str().unwrap();
    let mut server = Role::start("foreign server", &[("PATH", path)]);
    server.hear("ready");
    let why = ask(&place, &[("UID", "65532")]);
    assert!(why.starts_with("untrusted"), "{why}");
    assert_mentions(&why, &["runs as user 65533", "only 65533 or root can write"]);
    let error = Client::register(&place.path, "root").unwrap_err();
    assert!(matches!(error, RegisterError::Untrusted { uid: OTHER, .. }), "{error:?}");
    server.tell("end");
    assert!(server.end().success());
    eventually("its socket is gone", || place.is_clean());

    // In a directory that belongs to that user.
    let place = open_place(0o755);
    std::os::unix::fs::chown(place.directory.path(), Some(OTHER), Some(OTHER)).unwrap();
    let path = place.path.to_str().unwrap();
    let mut server = Role::start("foreign server", &[("PATH", path)]);
    server.hear("ready");
    assert_eq!(ask(&place, &[("UID", "65532")]), "registered uid=65532");
    server.tell("end");
    assert!(server.end().success());
}

/// All users without a number in a process's user namespace have the same number there, including the
/// process's own user if it has none.
#[test]
#[cfg(feature = "cli")]
fn users_without_a_number_in_the_namespace_are_nobody() {
    if !is_root() || !can_unshare_users() {
        return skipped("no user namespace can be made here, or only root can play other users");
    }
    // A server whose user has no number, and two other users without one.
    let place = open_place(0o777);
    let path = place.path.to_str().unwrap();
    let server = Program::start("unshare", &["-U", SERVER, "--socket", path, "--allow-user", "0"]);
    await_server(&place.path);
    for uid in ["65532", "65533", "0"] {
        let why = ask(&place, &[("UID", uid)]);
        assert!(why.starts_with("not permitted"), "{why}");
        assert_mentions(&why, &["user 65534 is not allowed", "every user without a number"]);
    }
    server.signal(Signal::TERM);
    let ended = server.end();
    assert!(ended.status == Some(0) && ended.stderr.contains(" unknown_user uid=65534 "), "{}", ended.stderr);
    assert!(ended.stderr.contains(" refused reason=user "), "{}", ended.stderr);

    // A client whose user has no number, and another user's server that allows root.
    let place = open_place(0o1777);
    let path = place.path.to_str().unwrap();
    let mut server = Role::start("foreign server", &[("PATH", path)]);
    server.hear("ready");
    let why = crate::common::program::run("unshare", &["-U", CLIENT, "ls", "--socket", path]).failed();
    assert_mentions(
        &why,
        &["runs as user 65534", "others could have put its socket there", "user namespace"],
    );
    server.tell("end");
    assert!(server.end().success());

    // Without user namespaces, the own user is recognised as usual.
    let place = open_place(0o755);
    let path = place.path.to_str().unwrap();
    let server = Program::start("unshare", &["-Ur", SERVER, "--socket", path]);
    await_server(&place.path);
    crate::common::program::run("unshare", &["-Ur", CLIENT, "ls", "--socket", path]).well();
    server.signal(Signal::TERM);
    assert_eq!(server.end().status, Some(0));
}

#[cfg(feature = "cli")]
fn can_unshare_users() -> bool {
    std::process::Command::new("unshare").args(["-U", "true"]).status().is_ok_and(|status| status.success())
}

#[test]
fn the_number_of_all_who_have_none_cannot_be_let_in() {
    let place = Place::new();
    let users = |b: ServerBuilder| b.allow_user(1).allow_user(65_534);
    let groups = |b: ServerBuilder| b.allow_group(65_534);
    for set in [users, groups] {
        let error = set(Server::builder(&place.path)).start().unwrap_err();
        assert!(matches!(error, StartError::Access(AccessError::UnknownAllowed(65_534))), "{error:?}");
        assert_mentions(&error.to_string(), &["65534", "may be anyone", "a number of its own"]);
    }
    #[cfg(feature = "cli")]
    for option in ["--allow-user", "--allow-group"] {
        let line = ["--socket", place.path.to_str().unwrap(), option, "65534"];
        assert_mentions(&crate::common::program::run(SERVER, &line).refused(2), &["65534 cannot be let in"]);
    }
    assert!(place.is_clean());
}
