//! The server's socket: whether a server answers there, whether others reach it, and what a dead one left.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringpost::{Observer, RegisterError, ServerInfo};

use super::finding::Finding;
use ringpost::cli::stats::thousands;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks at the socket that was chosen, and for servers and dead sockets at the `usual` places.
pub fn check(path: &Path, usual: &[PathBuf]) -> (Vec<Finding>, Option<ServerInfo>) {
    let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut findings = Vec::new();
    findings.extend(directory(path));
    let (socket, server) = socket(path);
    findings.push(socket);
    if let Some(server) = &server {
        findings.extend(reach(path));
        findings.push(room(server));
    }
    let others = usual.iter().filter(|other| !is_same(path, other));
    findings.extend(others.filter_map(|other| elsewhere(other, server.is_none())));
    (findings, server)
}

/// Where servers usually listen. Nothing is made there.
pub fn usual_places() -> Vec<PathBuf> {
    let own = rustix::process::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let mut places: Vec<PathBuf> =
        runtime.into_iter().map(|runtime| runtime.join("ringpost/bus.sock")).collect();
    places.push(format!("/tmp/ringpost-{own}/bus.sock").into());
    places.push("/run/ringpost/bus.sock".into());
    places
}

fn is_same(one: &Path, other: &Path) -> bool {
    let inode = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    one == other || inode(one).is_some_and(|found| inode(other) == Some(found))
}

/// What a shell takes as this one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The directory of the socket. Whoever may write there can put a socket of their own in its place.
fn directory(path: &Path) -> Option<Finding> {
    let check = "directory";
    let directory = path.parent()?;
    let shown = quoted(directory);
    let found = match fs::metadata(directory) {
        Ok(found) if found.is_dir() => found,
        Ok(_) => {
            return Some(Finding::problem(
                check,
                format!("{shown} is not a directory"),
                "No server can listen there.",
                "choose another socket with --socket, for server and clients",
            ));
        }
        Err(error) => {
            return Some(Finding::problem(
                check,
                format!("{shown}: {error}"),
                "No server can listen there, and no client finds one.",
                format!("mkdir -m 700 {shown}, or another socket with --socket"),
            ));
        }
    };
    let (mode, owner, own) = (found.mode() & 0o7777, found.uid(), rustix::process::geteuid().as_raw());
    let facts = format!("{shown} of user {owner}, mode {mode:03o}");
    if mode & 0o022 == 0 && (owner == own || owner == 0) {
        return Some(Finding::ok(check, facts));
    }
    if mode & 0o022 != 0 {
        return Some(Finding::warning(
            check,
            facts,
            "Others may write there: they can put a socket of their own in the server's place. So clients trust there only root \
             and their own user.",
            format!("chmod go-w {shown}, or a socket in a directory of its own"),
        ));
    }
    Some(Finding::ok(check, format!("{facts}, who decides which server is there")))
}

/// Asks the server who it is.
fn socket(path: &Path) -> (Finding, Option<ServerInfo>) {
    let check = "socket";
    let shown = quoted(path);
    let start = format!("ringpost-server --socket {shown}");
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => Some(found.file_type()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            let means = "Whether a server is there cannot be seen. This user may not enter the directory.";
            let mend = "run this as a user who may, or let this user into the directory: chmod, or a group";
            return (Finding::problem(check, format!("{shown}: {error}"), means, mend), None);
        }
    };
    let Some(kind) = kind else {
        return (Finding::ok(check, format!("no server is at {shown} yet; {start} starts one")), None);
    };
    if !kind.is_socket() && !kind.is_symlink() {
        let found = format!("{shown} is not a socket");
        let mend = "choose another socket, or remove what lies there";
        return (Finding::problem(check, found, "No server can listen there.", mend), None);
    }
    let error = match ask(path) {
        Ok(server) => {
            let found = format!(
                "a server answers at {shown}: process {}, user {}, ringpost {}",
                server.pid, server.uid, server.version
            );
            return (Finding::ok(check, found), Some(server));
        }
        Err(error) => error,
    };
    let problem = |means: &str, mend: &str| Finding::problem(check, error.to_string(), means, mend);
    let finding = match &error {
        RegisterError::NoServer { .. } => Finding::warning(
            check,
            format!("{shown} is left of a server that was killed"),
            "Nobody listens there. Clients are told that there is no server. The next server removes it by itself.",
            start,
        ),
        RegisterError::NotPermitted { .. } => problem(
            "A server may be there, but this user cannot use it.",
            "start the server with --allow-user or --allow-group, or add users or groups to [access] and run ringpost reload",
        ),
        RegisterError::Untrusted { .. } => problem(
            "Clients of this user refuse to connect, because it may not be the server that they mean.",
            "put the socket into a directory that only the server's user or root may write to",
        ),
        RegisterError::TimedOut { .. } => problem(
            "A server is there, but it does not answer: it is stopped, or the machine is overloaded.",
            "look for it with ps; kill -CONT lets a stopped process go on",
        ),
        RegisterError::NotRingpost { .. } => {
            problem("Clients cannot register there.", "choose another socket with --socket")
        }
        RegisterError::VersionMismatch { .. } => problem(
            "Programs of this version cannot use that server.",
            "install the same version of ringpost on both sides, and start the server anew",
        ),
        RegisterError::Full(_) | RegisterError::Quota(_) | RegisterError::Refused(_) => Finding::warning(
            check,
            error.to_string(),
            "A server is there, but it does not let this program ask.",
            "try again; see the quotas with ringpost status",
        ),
        _ => problem("The server cannot be asked.", "see the error"),
    };
    (finding, None)
}

fn ask(path: &Path) -> Result<ServerInfo, RegisterError> {
    Observer::connect_timeout(path, PATIENCE)?.server()
}

/// If the socket is open to others, they must also be able to get there.
fn reach(path: &Path) -> Option<Finding> {
    let check = "reach";
    let mode = fs::metadata(path).ok()?.mode();
    let mode = mode & 0o777;
    let (for_all, for_group) = (mode & 0o002 != 0, mode & 0o020 != 0);
    if !for_all && !for_group {
        return Some(Finding::ok(
            check,
            format!("the socket (mode {mode:03o}) is for the server's own user and root"),
        ));
    }
    // A group may be that of the directory, too.
    let enter = if for_all { 0o001 } else { 0o011 };
    let closed = path
        .ancestors()
        .skip(1)
        .find(|above| fs::metadata(above).is_ok_and(|found| found.mode() & enter == 0));
    match closed {
        None => Some(Finding::ok(check, format!("the socket (mode {mode:03o}) can be reached by others"))),
        Some(closed) => Some(Finding::warning(
            check,
            format!(
                "the socket (mode {mode:03o}) is for others, too, but {} is closed to them",
                quoted(closed)
            ),
            "The users whom the server allows cannot reach it.",
            format!("chmod go+x {}, or a socket elsewhere", quoted(closed)),
        )),
    }
}

/// Whether there is room for more clients.
fn room(server: &ServerInfo) -> Finding {
    let check = "clients";
    let (clients, most) = (u64::from(server.clients), u64::from(server.max_clients));
    let found = format!("{} of at most {}", thousands(clients), thousands(most));
    if clients * 10 < most * 9 {
        return Finding::ok(check, found);
    }
    Finding::warning(
        check,
        found,
        "When all places are taken, the server refuses more clients.",
        format!("start the server with a larger --max-clients, such as {}", (most * 2).min(65_536)),
    )
}

/// A usual place that was not chosen: tells of a server there if the chosen place has none, and of a socket
/// that a dead one left.
fn elsewhere(path: &Path, is_missed: bool) -> Option<Finding> {
    let check = "elsewhere";
    let shown = quoted(path);
    if !fs::symlink_metadata(path).ok()?.file_type().is_socket() {
        return None;
    }
    match ask(path) {
        Ok(server) if is_missed => Some(Finding::warning(
            check,
            format!("a server answers at {shown}: process {}, user {}", server.pid, server.uid),
            "It is not the one that was looked for, but there is none.",
            format!("--socket {shown}, or export RINGPOST_SOCKET={shown}"),
        )),
        Ok(_) => None,
        Err(RegisterError::NoServer { .. }) => Some(Finding::warning(
            check,
            format!("{shown} is left of a server that was killed"),
            "Clients that look there are told that there is no server.",
            format!("rm {shown}"),
        )),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use ringpost::Server;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use tempfile::TempDir;

    fn place() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let path = directory.path().join("bus");
        (directory, path)
    }

    /// What is found, by check.
    fn verdicts(path: &Path, usual: &[PathBuf]) -> Vec<(&'static str, Verdict)> {
        check(path, usual).0.iter().map(|finding| (finding.check, finding.verdict)).collect()
    }

    #[test]
    fn a_server_is_found_and_so_is_what_a_dead_one_left() {
        use Verdict::{Ok, Problem, Warning};
        let (directory, path) = place();
        let (_other, elsewhere) = place();
        assert_eq!(verdicts(&path, &[]), [("directory", Ok), ("socket", Ok)]);
        // A listener that is gone leaves its file.
        drop(UnixListener::bind(&elsewhere).unwrap());
        let usual = [elsewhere.clone(), path.clone()];
        assert_eq!(verdicts(&path, &usual), [("directory", Ok), ("socket", Ok), ("elsewhere", Warning)]);
        assert_eq!(verdicts(&elsewhere, &usual), [("directory", Ok), ("socket", Warning)]);
        fs::remove_file(&elsewhere).unwrap();
        let server = Server::builder(&path).max_clients(8).start().unwrap();
        let all = [("directory", Ok), ("socket", Ok), ("reach", Ok), ("clients", Ok)];
        assert_eq!(verdicts(&path, &usual), all);
        // The server at a usual place is told only to who has none.
        let other = [("directory", Ok), ("socket", Ok), ("elsewhere", Warning)];
        assert_eq!(verdicts(&elsewhere, &usual), other);
        let clients: Vec<_> =
            (0..8).map(|number| ringpost::Client::register(&path, format!("{number}")).unwrap()).collect();
        assert!(verdicts(&path, &[]).contains(&("clients", Warning)));
        drop((clients, server));
        fs::write(&path, "").unwrap();
        assert_eq!(verdicts(&path, &[])[1], ("socket", Problem));
        assert_eq!(verdicts(&path.join("below"), &[])[0], ("directory", Problem));
        assert_eq!(verdicts(&directory.path().join("missing/bus"), &[])[0], ("directory", Problem));
    }

    #[test]
    fn a_directory_that_others_can_write_to_and_one_that_they_cannot_enter() {
        let (directory, path) = place();
        let set = |mode| fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        set(0o777);
        assert_eq!(verdicts(&path, &[])[0], ("directory", Verdict::Warning));
        set(0o755);
        let mut access = ringpost::Access::default();
        access.users = vec![65_533];
        let _server = Server::builder(&path).access(access).start().unwrap();
        // Above it may be a directory that is closed to others, wherever tests run.
        let reached = |path: &Path| reach(path).unwrap();
        set(0o700);
        let found = reached(&path);
        assert_eq!(found.verdict, Verdict::Warning, "{found:?}");
        assert!(found.mend.starts_with(&format!("chmod go+x {}", quoted(directory.path()))), "{found:?}");
    }

    #[test]
    fn paths_are_one_word_for_a_shell() {
        assert_eq!(quoted(Path::new("/run/a-b.sock")), "/run/a-b.sock");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
