//! Tests of wrong inputs to the library and the programs: each gives a typed error that says what to do.
//!
//! The inputs, their errors, the remedy in the error text, and the tests (in this directory unless a path is
//! given):
//!
//! - an invalid name: empty, 65 bytes, control character, outer space, other blanks, invisible character at
//!   an end, direction change, private-use character, a key: `InvalidName` with its `NameError`; remedy:
//!   shorten, remove, trim or change a character (`names::a_text_that_is_no_name...`,
//!   `names::the_server_refuses...`).
//! - name: not UTF-8: `NameError::NotUtf8`; remedy: where (`names::the_server_refuses...`).
//! - name: taken: `NameTaken`; remedy: choose another, or wait (`names::a_taken_name...`).
//! - key: too short, too long, over 128 bits, other characters: `ParseKeyError`; remedy: copy the whole key
//!   (`keys::a_malformed_key...`).
//! - key: unknown, stale: `SendError::NotFound`; remedy: look its name up again
//!   (`keys::a_key_that_leads_nowhere...`).
//! - the client's own key: works (`keys::one_s_own_key...`).
//! - size: 0, the maximum: work (`sizes::nothing_and_the_most...`, `client/calls.rs`, `client/messages.rs`
//!   for every size).
//! - size: one over, over the ring: `TooLarge`; remedy: send less, or larger rings
//!   (`sizes::nothing_and_the_most...`).
//! - full inbox: `InboxFull`, `TimedOut`; remedy: try again, or wait (`sizes::a_full_inbox...`,
//!   `client/messages.rs`).
//! - no server, stale socket, a file: `NoServer`; remedy: start one, with the command
//!   (`places::where_no_server_is...`).
//! - path too long: `PathTooLong`, `ListenError::TooLong`; remedy: at most 104 bytes
//!   (`places::paths_that...`).
//! - a path without a file name, such as `/`: `NoFileName`; remedy: add a name (`places::paths_that...`).
//! - second server on the path: `ListenError::InUse`; remedy: stop it, or another socket
//!   (`places::a_second_server...`, `processes.rs`).
//! - the path of a living server whose lock file is gone: `ListenError::InUse`; remedy: stop it, or another
//!   socket (`places::a_living_server...`).
//! - stale socket of a dead server: replaced (`places::a_stale_socket...`, `processes.rs`).
//! - something else at the path, or at its lock file: `NotASocket`, `ListenError::System`; remedy: remove it,
//!   or another path (`places::something_else...`).
//! - another user's socket or lock file in an open directory: `ListenError::System`; remedy: another path
//!   (`places::a_squatted...`).
//! - unwritable directory: `ListenError::System`; remedy: a path where this user may write
//!   (`places::a_directory_that_cannot...`).
//! - default directory: symlink, file, foreign, open, missing: `PathError`; remedy: remove it, chmod, or name
//!   a socket (`places::the_default_directory...`).
//! - socket of another user, or in its directory: `NotPermitted`; remedy: `--allow-user UID`
//!   (`users::another_user...`, `users::a_closed_directory...`).
//! - member of a group: accepted if the group is allowed (`users::a_group_is_let_in...`,
//!   `users::the_program...`).
//! - a group that is not the server's: `ForeignGroup`; remedy: start it as a member, or allow users
//!   (`users::a_group_that...`).
//! - another user's server in an open directory: `Untrusted`; remedy: use a closed directory
//!   (`users::another_user_s_server...`).
//! - a user or group without a number in the user namespace: `UnknownAllowed`, `NotPermitted`, `Untrusted`;
//!   remedy: use a user with a number (`users::users_without...`, `users::the_number...`).
//! - what a rule of the server closes: `NotAllowed` of each operation; remedy: ask the server's owner
//!   (`tests/access/acts.rs`).
//! - too many clients: `Full`; remedy: wait, or `--max-clients` (`limits::too_many_clients`).
//! - too many connections at once: `Refused`; remedy: later (`client/connect.rs`).
//! - too few descriptors: client, server at start, server later: `System`, `StartError`, `Refused`; remedy:
//!   `ulimit -n` (`limits::a_client_without...`, `limits::a_server_without...`, `processes.rs`).
//! - too few threads: server at start, server later: `System`, `Refused`; remedy: `ulimit -u`
//!   (`limits::a_server_without_threads...`).
//! - setting out of range, or against another: `MaxClients`, `Geometry`, `Pin`, `NobodyAllowed`; remedy: the
//!   range (`limits::settings...`).
//! - the longest and shortest times: no time-out; `TimedOut` (`limits::the_longest...`,
//!   `limits::no_time...`).
//! - another version: client, server, channel: refusal 2, `VersionMismatch`, `ChannelError::Version`; remedy:
//!   both versions; use the same (`versions`).
//! - not Ringpost at all: refusal 1, `NotRingpost`; remedy: another socket (`places::something_else...`,
//!   `client/connect.rs`).
//! - a time that is not positive: status 2; remedy: a positive number of seconds
//!   (`options::that_are_negative`).
//! - standard input that does not end: status 1 in time; remedy: `--timeout`, or an argument (`input`).
//! - services that fail, answer too much or too late: `ServiceFailed`, `ResponseTooLarge`, `TimedOut`
//!   (`client/services.rs`).
//!
//! `commands` has each of these for the programs, `options` wrong command lines, and `closed` output that
//! cannot be written. Errors are always one line on stderr; the status is 2 for a wrong command line, else 1.

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "cli")]
mod closed;
#[cfg(feature = "cli")]
mod commands;
#[cfg(feature = "cli")]
mod input;
mod keys;
mod limits;
mod names;
#[cfg(feature = "cli")]
mod options;
mod places;
mod remedies;
#[cfg(feature = "cli")]
mod run;
mod sizes;
mod users;
mod versions;

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = common::role::role() else { return };
    match role.as_str() {
        "other user" => users::try_to_register(),
        "foreign server" => users::serve_as_other(&stage),
        "server as told" => places::start_server_as_told(),
        "default path" => places::tell_default_path(),
        "poor client" => limits::register_poorly(),
        "poor server" => limits::start_poorly(),
        "locked" => remedies::serve_or_register_locked(&stage),
        #[cfg(feature = "cli")]
        "server without accept" => remedies::exec_without_accept(),
        "server with few threads" => limits::serve_with_few_threads(&stage),
        other => panic!("no role {other:?}"),
    }
}

/// Checks that the text is one line and contains all these words.
fn assert_mentions(text: &str, words: &[&str]) {
    assert_eq!(text.trim_end().lines().count(), 1, "not one line: {text:?}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
