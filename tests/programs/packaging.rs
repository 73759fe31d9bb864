//! Tests of what packages are made of: units, users, directories, man pages, and where each file goes.

use crate::program::*;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a directory, relative to it.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// Runs a tool. `None` if it is not installed.
fn tool(name: &str, set: impl FnOnce(&mut Command)) -> Option<Output> {
    let mut command = Command::new(name);
    set(&mut command);
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: {name} is not installed");
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

/// Checks that a tool succeeded and had nothing to say.
fn quiet(output: &Output) {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    assert!(output.status.success() && all.is_empty(), "{}", String::from_utf8_lossy(&all));
}

/// What `packaging/install` installs of the built programs.
fn installed() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut install = Command::new(root().join("packaging/install"));
    install.env("DESTDIR", directory.path()).env("BIN", Path::new(CLIENT).parent().unwrap());
    quiet(&install.output().unwrap());
    directory
}

// ---- units

/// The units of a scope, with the programs that were just built in place of the installed ones.
fn units(scope: &str, directory: &Path) -> Vec<PathBuf> {
    let programs = Path::new(CLIENT).parent().unwrap();
    let copy = |name: String| {
        let unit = fs::read_to_string(root().join("packaging/systemd").join(scope).join(&name)).unwrap();
        assert!(!name.ends_with(".service") || unit.contains("=/usr/bin/ringpost-server"), "{name}");
        let path = directory.join(name);
        fs::write(&path, unit.replace("/usr/bin", text(programs))).unwrap();
        path
    };
    files(&root().join("packaging/systemd").join(scope)).into_iter().map(copy).collect()
}

#[test]
fn systemd_accepts_the_units() {
    for (scope, more) in [("system", None), ("user", Some("--user"))] {
        let directory = tempfile::tempdir().unwrap();
        let units = units(scope, directory.path());
        assert_eq!(units.len(), 2);
        let verified = tool("systemd-analyze", |command| {
            command.args(["verify", "--man=no", "--recursive-errors=no"]).args(more).args(units);
            command.env("XDG_RUNTIME_DIR", directory.path());
        });
        if let Some(output) = verified {
            quiet(&output);
        }
    }
}

/// As `systemd-analyze security` counts, of 100. What is open to the server is what it needs: who connects,
/// how much memory there is, and a device that it does not use.
#[test]
fn the_system_s_server_is_shut_in() {
    let directory = tempfile::tempdir().unwrap();
    let service =
        units("system", directory.path()).into_iter().find(|unit| unit.ends_with("ringpost.service"));
    let judged = tool("systemd-analyze", |command| {
        command.args(["security", "--offline=yes", "--no-pager", "--threshold=8"]).arg(service.unwrap());
    });
    if let Some(output) = judged {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// What the configuration of the units names is where they look for it.
#[test]
fn units_configuration_and_directories_name_the_same_places() {
    let read = |path: &str| fs::read_to_string(root().join("packaging").join(path)).unwrap();
    let service = read("systemd/system/ringpost.service");
    let socket = read("systemd/system/ringpost.socket");
    assert!(service.contains("--config /etc/ringpost/server.toml\n"));
    assert!(socket.contains("ListenSequentialPacket=/run/ringpost/bus.sock\n"));
    assert!(service.contains("reload --socket /run/ringpost/bus.sock\n"));
    assert!(read("tmpfiles.d/ringpost.conf").contains("\nd /run/ringpost 0755 ringpost ringpost -\n"));
    for line in ["User=ringpost\n", "Group=ringpost\n", "RuntimeDirectory=ringpost\n"] {
        assert!(service.contains(line), "{line}");
    }
}

#[test]
fn the_user_and_the_directory_are_made() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can give a directory away");
    }
    let directory = tempfile::tempdir().unwrap();
    let at_root = format!("--root={}", directory.path().display());
    let conf = |kind: &str| root().join("packaging").join(kind).join("ringpost.conf");
    fs::create_dir_all(directory.path().join("etc")).unwrap();
    let made = tool("systemd-sysusers", |command| {
        command.arg(&at_root).arg(conf("sysusers.d"));
    });
    let Some(made) = made else { return };
    assert!(made.status.success(), "{made:?}");
    let passwd = fs::read_to_string(directory.path().join("etc/passwd")).unwrap();
    assert!(passwd.lines().any(|line| line.starts_with("ringpost:")), "{passwd}");
    let made = tool("systemd-tmpfiles", |command| {
        command.args(["--create", &at_root]).arg(conf("tmpfiles.d"));
    });
    if made.is_some_and(|output| output.status.success()) {
        use std::os::unix::fs::MetadataExt;
        let found = fs::metadata(directory.path().join("run/ringpost")).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o755);
        assert_ne!(found.uid(), 0);
    }
}

#[test]
fn the_configuration_that_is_shipped_is_valid() {
    let config = fs::read_to_string(root().join("packaging/server.toml")).unwrap();
    // The group is made by the package.
    let here = config.replace("\"ringpost\"", "0");
    assert_ne!(here, config, "members of the group ringpost are let in");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.toml");
    fs::write(&path, here).unwrap();
    let socket = directory.path().join("bus");
    run(SERVER, &["--check-config", "--config", text(&path), "--socket", text(&socket)]).well();
}

// ---- files

#[test]
fn what_is_installed_is_what_the_debian_package_has() {
    let directory = installed();
    let installed = files(directory.path());
    for wanted in [
        "usr/bin/ringpost-server",
        "usr/lib/systemd/system/ringpost.socket",
        "usr/lib/systemd/user/ringpost.service",
        "usr/share/man/man1/ringpost-send.1",
        "usr/share/bash-completion/completions/ringpost",
        "etc/ringpost/server.toml",
    ] {
        assert!(installed.contains(wanted), "{wanted} is not in {installed:#?}");
    }
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let mut left = installed.clone();
    for asset in deb["assets"].as_array().unwrap() {
        let [source, target] = [0, 1].map(|index| asset[index].as_str().unwrap());
        let (folder, name) = source.strip_prefix("target/pkg/").unwrap().rsplit_once('/').unwrap();
        assert_eq!(format!("{folder}/"), target, "{source}");
        let (start, end) = name.split_once('*').unwrap_or((name, ""));
        let before = left.len();
        left.retain(|file| {
            let (place, file) = file.rsplit_once('/').unwrap();
            let fits = if name.contains('*') {
                file.starts_with(start) && file.ends_with(end)
            } else {
                file == name
            };
            !(place == folder && fits)
        });
        assert!(left.len() < before, "nothing is installed for {source}");
    }
    assert!(left.is_empty(), "not in the package: {left:#?}");
    for file in deb["conf-files"].as_array().unwrap() {
        assert!(installed.contains(file.as_str().unwrap().trim_start_matches('/')));
    }
}

#[test]
fn an_existing_configuration_is_kept() {
    let directory = installed();
    let config = directory.path().join("etc/ringpost/server.toml");
    fs::write(&config, "# mine\n").unwrap();
    let mut again = Command::new(root().join("packaging/install"));
    again.env("DESTDIR", directory.path()).env("BIN", Path::new(CLIENT).parent().unwrap());
    quiet(&again.output().unwrap());
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
}

#[test]
fn man_can_show_each_page() {
    let directory = tempfile::tempdir().unwrap();
    for program in [CLIENT, SERVER, BENCH] {
        run(program, &["generate", "man", "--out", text(directory.path())]).well();
    }
    for page in files(directory.path()) {
        let shown = tool("man", |command| {
            command.args(["--warnings", "--local-file"]).arg(directory.path().join(&page));
            command.env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8");
        });
        let Some(shown) = shown else { return };
        let said = String::from_utf8_lossy(&shown.stderr);
        assert!(shown.status.success() && said.is_empty(), "{page}: {said}");
        assert!(String::from_utf8_lossy(&shown.stdout).contains("EXIT STATUS"), "{page}");
    }
}
