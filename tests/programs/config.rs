//! Tests of the configuration file: that it is checked, that the command line wins, and that the example is
//! valid.

use crate::common::Place;
use crate::program::*;
use ringpost::Observer;
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity};
use std::fs;
use std::path::Path;

fn check(config: &Path) -> Ended {
    run(SERVER, &["--config", text(config), "--check-config"])
}

#[test]
fn a_configuration_is_checked_without_starting_anything() {
    let place = Place::new();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("bus.toml");
    let head = format!("socket = {:?}\n", text(&place.path));
    let log = directory.path().join("log");
    fs::write(&config, format!("{head}[log]\nfile = {:?}\n", text(&log))).unwrap();
    assert_eq!(check(&config).quiet(), b"valid\n");
    assert!(place.is_clean() && !log.exists());
    for (wrong, why) in [
        ("max-client = 5", "line 2: max-client is not known: did you mean max-clients?"),
        ("ring-size = 5000", "5000"),
        ("max-clients = 0", "line 2: max-clients: give a number from 1 to 65536"),
        ("pin = 4095", "--pin 4095: "),
        ("[log]\nkeep = 3", "--log-keep"),
        ("[log]\nfile = \"SOCKET\"", "this is the path of the socket"),
        (
            "[access]\nusers = [\"nobody of this name\"]",
            "line 3: access.users: \"nobody of this name\": no such user",
        ),
        ("[[access.rules]]\nwhat = [\"a\"]", "rule 1 lists no act"),
        ("x = ", "line 2: not TOML"),
    ] {
        fs::write(&config, format!("{head}{}\n", wrong.replace("SOCKET", text(&place.path)))).unwrap();
        let found = check(&config).refused(2);
        assert!(found.contains(why), "{wrong:?}: {found}");
        // Nor does a server start with it.
        let found = run(SERVER, &["--config", text(&config)]).refused(2);
        assert!(found.contains(why), "{wrong:?}: {found}");
    }
    let missing = directory.path().join("missing");
    for missing in [missing.as_path(), directory.path(), Path::new("/dev/zero")] {
        assert!(check(missing).refused(2).contains("cannot read the configuration"));
    }
    // Other users cannot reach the default socket.
    fs::write(&config, "[access]\nusers = [65531]\n").unwrap();
    assert!(check(&config).refused(2).contains("--socket PATH"));
    // The command line can be checked, too.
    assert_eq!(run(SERVER, &["--check-config"]).quiet(), b"valid\n");
    run(SERVER, &["--check-config", "--ring-size", "5000"]).refused(2);
    assert!(place.is_clean());
}

#[test]
fn the_command_line_wins_over_the_configuration() {
    let (place, other) = (Place::new(), Place::new());
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("bus.toml");
    let head = format!("socket = {:?}\nmax-clients = 5\nring-size = \"8K\"\n", text(&other.path));
    fs::write(&config, format!("{head}[access.quotas]\nclients = 7\nlinks = 8\n")).unwrap();
    let options = ["--config", text(&config), "--max-clients", "6", "--quota", "clients=9"];
    let server = start_server(&place, &options);
    let info = Observer::connect(&place.path).unwrap().server().unwrap();
    assert_eq!((info.max_clients, info.ring_size), (6, 8192));
    let quotas = info.quotas.unwrap();
    assert_eq!((quotas.clients, quotas.links), (9, 8));
    assert!(other.is_clean());
    server.signal(Signal::TERM);
    server.end().well();
}

/// In the example a setting that is commented out follows its `#` at once, and prose after a space.
#[test]
fn the_example_is_valid_as_it_is_and_with_all_that_it_shows() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/server.toml");
    // The group need not exist here, and this process may be kept from the CPU.
    let cpus = sched_getaffinity(None).unwrap();
    let cpu = (0..CpuSet::MAX_CPU).find(|cpu| cpus.is_set(*cpu)).unwrap();
    let example = fs::read_to_string(example).unwrap().replace("\"ringpost\"", "0");
    let example = example.replace("pin = 0", &format!("pin = {cpu}"));
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("bus.toml");
    let all: String = example
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    for text in [&example, &all] {
        fs::write(&config, text).unwrap();
        let options = ["--config", super::program::text(&config), "--socket", "/run/x/bus", "--check-config"];
        assert_eq!(run(SERVER, &options).quiet(), b"valid\n");
    }
    // It shows every setting.
    let keys = "socket max-clients ring-size max-block wait pin sandbox metrics format file rotate keep level users groups acts what names \
                asking clients ring-bytes spinning registrations links topics subscriptions";
    for key in keys.split(' ') {
        assert!(all.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key} is missing");
    }
}
