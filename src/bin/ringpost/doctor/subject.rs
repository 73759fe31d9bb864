//! Whose limits are looked at: the server that runs, or one that would be started from here.

use ringpost::{ServerInfo, WaitStrategy};

use super::tree::Tree;

/// The defaults of a server that does not run yet.
const MAX_CLIENTS: u64 = 1024;
const RING_SIZE: u64 = 256 << 10;

/// A server, running or not.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The directory of the process whose limits hold: the server's, else this one's.
    pub process: String,
    /// The process is the server's. Else it is this one, whose limits a server started from here would get.
    pub is_server: bool,
    pub max_clients: u64,
    pub clients: u64,
    pub ring_size: u64,
    pub spins: bool,
}

impl Subject {
    /// The server that answered, if one did. It counts as running only if its process can be seen from here.
    pub fn of(tree: &Tree, server: Option<&ServerInfo>) -> Subject {
        let mut subject = Subject {
            process: "/proc/self".into(),
            is_server: false,
            max_clients: MAX_CLIENTS,
            clients: 0,
            ring_size: RING_SIZE,
            spins: false,
        };
        if let Some(server) = server {
            subject.max_clients = server.max_clients.into();
            subject.clients = server.clients.into();
            subject.ring_size = server.ring_size as u64;
            subject.spins = server.wait == WaitStrategy::Spin;
            if is_server(tree, server.pid) {
                (subject.process, subject.is_server) = (format!("/proc/{}", server.pid), true);
            }
        }
        subject
    }

    /// How the process is called in texts.
    pub fn who(&self) -> &'static str {
        if self.is_server { "the server" } else { "a server started from here" }
    }
}

/// Whether this process runs a server. A server in a container tells the number that it has there, which here
/// may be another process's.
fn is_server(tree: &Tree, pid: u32) -> bool {
    let tasks = format!("/proc/{pid}/task");
    tree.names(&tasks)
        .iter()
        .any(|task| tree.read(&format!("{tasks}/{task}/comm")).as_deref() == Some("rp-acceptor"))
}

#[cfg(test)]
pub mod tests {
    use super::super::tree::tests::tree;
    use super::*;

    /// A server that is not running, with the defaults.
    pub fn subject() -> Subject {
        Subject::of(&Tree::at("/nowhere"), None)
    }

    #[test]
    fn a_server_is_known_by_its_acceptor() {
        let (tree, _directory) = tree(&[
            ("proc/7/task/7/comm", "bus\n"),
            ("proc/7/task/8/comm", "rp-acceptor\n"),
            ("proc/1/task/1/comm", "init\n"),
        ]);
        assert!(is_server(&tree, 7) && !is_server(&tree, 1) && !is_server(&tree, 2));
    }
}
