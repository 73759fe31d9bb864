//! The command line and the configuration file, which has the same settings, and what both together must
//! fulfil.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use ringpost::{Pattern, Topic};
use serde::Deserialize;

use crate::wire::NodeName;

/// Joins the Ringpost servers of several computers over Zenoh.
///
/// Nothing leaves or enters without a line that allows it: --allow names the nodes that are spoken with,
/// --export what they may see, --import what of theirs appears here.
#[derive(Debug, Parser)]
#[command(name = "ringpost-bridge", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Read settings from this TOML file, too; its keys are the long options
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub options: Options,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show two nodes on this computer: a message, a call, a topic and presence cross between them
    Demo,
    /// One of the processes of the demonstration
    #[command(hide = true)]
    DemoPart(Part),
}

#[derive(Debug, Args)]
pub struct Part {
    pub part: String,
    pub node: String,
    pub socket: PathBuf,
    pub endpoint: String,
}

/// The settings: each may stand on the command line or in the file.
#[derive(Debug, Default, Clone, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Options {
    /// This node's name: bob is bob@NAME elsewhere. With TLS, the common name of its certificate
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// The server's socket [default: $RINGPOST_SOCKET, else $XDG_RUNTIME_DIR/ringpost/bus.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Where other nodes may connect: tls/ADDRESS:PORT, tcp/ADDRESS:PORT
    #[arg(long, value_name = "ENDPOINT")]
    pub listen: Vec<String>,
    /// Nodes to connect to
    #[arg(long, value_name = "ENDPOINT")]
    pub connect: Vec<String>,
    /// Speak with the node of this name, and no other
    #[arg(long, value_name = "NODE")]
    pub allow: Vec<String>,
    /// Let those nodes see and use the local clients and topics that match
    #[arg(long, value_name = "PATTERN")]
    pub export: Vec<String>,
    /// Let remote clients (NODE/NAME) and topics (NODE/TOPIC) that match appear here
    #[arg(long, value_name = "PATTERN")]
    pub import: Vec<String>,
    /// How many remote clients may appear here [default: 1024]
    #[arg(long, value_name = "N")]
    pub max_clients: Option<usize>,
    /// The certificates of the authority that signs the nodes' certificates (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// This node's certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Allow tcp/ beyond this computer: whoever reaches the port can pose as any allowed node
    #[arg(long)]
    pub insecure: bool,
    /// Find nodes of the local network by multicast
    #[arg(long)]
    pub scout: bool,
}

/// What a bridge runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    pub node: NodeName,
    pub socket: PathBuf,
    pub listen: Vec<String>,
    pub connect: Vec<String>,
    pub allow: Vec<NodeName>,
    pub export: Vec<Pattern>,
    pub import: Vec<Pattern>,
    pub max_clients: usize,
    pub tls: Option<Tls>,
    pub scout: bool,
}

/// The files of mutual TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Settings {
    /// Settings from the command line and the file that it names. Of two values that of the command line
    /// counts; lists are added.
    pub fn of(cli: Cli) -> Result<Settings, String> {
        let mut options = cli.options;
        if let Some(path) = &cli.config {
            let file = read(path)?;
            options.node = options.node.or(file.node);
            options.socket = options.socket.or(file.socket);
            options.max_clients = options.max_clients.or(file.max_clients);
            options.ca = options.ca.or(file.ca);
            options.certificate = options.certificate.or(file.certificate);
            options.key = options.key.or(file.key);
            options.listen.extend(file.listen);
            options.connect.extend(file.connect);
            options.allow.extend(file.allow);
            options.export.extend(file.export);
            options.import.extend(file.import);
            options.insecure |= file.insecure;
            options.scout |= file.scout;
        }
        Settings::check(options)
    }

    /// What the options together must fulfil.
    pub fn check(options: Options) -> Result<Settings, String> {
        let node = options.node.ok_or("--node is missing: the name of this node")?;
        let node: NodeName = node.parse().map_err(|error| format!("--node: {error}"))?;
        let mut allow = Vec::new();
        for text in options.allow {
            let other: NodeName = text.parse().map_err(|error| format!("--allow: {error}"))?;
            if other == node {
                return Err(format!("--allow {other}: that is this node itself"));
            }
            if !allow.contains(&other) {
                allow.push(other);
            }
        }
        if options.listen.is_empty() && options.connect.is_empty() && !options.scout {
            return Err("one of --listen, --connect and --scout is needed".into());
        }
        let tls = match (options.ca, options.certificate, options.key) {
            (Some(ca), Some(certificate), Some(key)) => Some(Tls { ca, certificate, key }),
            (None, None, None) => None,
            _ => return Err("--ca, --certificate and --key are needed together".into()),
        };
        for endpoint in options.listen.iter().chain(&options.connect) {
            check_endpoint(endpoint, tls.is_some(), options.insecure)?;
        }
        if options.scout && tls.is_none() && !options.insecure {
            return Err("--scout finds nodes beyond this computer: it needs TLS, or --insecure".into());
        }
        Ok(Settings {
            node,
            socket: socket(options.socket)?,
            listen: options.listen,
            connect: options.connect,
            allow,
            export: patterns("--export", options.export)?,
            import: patterns("--import", options.import)?,
            max_clients: options.max_clients.unwrap_or(1024),
            tls,
            scout: options.scout,
        })
    }

    /// Whether other nodes may see a local client, by its name, or a topic.
    pub fn exports(&self, text: &str) -> bool {
        matches(&self.export, text)
    }

    /// Whether a client, by its name, or a topic of another node may appear here.
    pub fn imports(&self, node: &NodeName, text: &str) -> bool {
        matches(&self.import, &format!("{node}/{text}"))
    }
}

fn matches(patterns: &[Pattern], text: &str) -> bool {
    Topic::try_from(text).is_ok_and(|topic| patterns.iter().any(|pattern| pattern.matches(&topic)))
}

fn patterns(option: &str, texts: Vec<String>) -> Result<Vec<Pattern>, String> {
    let parse = |text: &String| Pattern::try_from(text).map_err(|error| format!("{option} {text}: {error}"));
    texts.iter().map(parse).collect()
}

fn read(path: &Path) -> Result<Options, String> {
    let cannot = |why: &dyn std::fmt::Display| format!("the configuration {}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| cannot(&error))?;
    toml::from_str(&text).map_err(|error| cannot(&error))
}

/// The server's socket, as the other programs find it.
fn socket(given: Option<PathBuf>) -> Result<PathBuf, String> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    given
        .or_else(|| set("RINGPOST_SOCKET"))
        .or_else(|| Some(set("XDG_RUNTIME_DIR")?.join("ringpost/bus.sock")))
        .ok_or_else(|| "--socket is missing: where the server is".into())
}

/// With certificates every connection is authenticated; without, none is, so that both on one node would say
/// nothing about who is at the other end. So a node has either, and without certificates stays on this
/// computer.
fn check_endpoint(endpoint: &str, tls: bool, insecure: bool) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{endpoint}: {why}"));
    let Some((protocol, address)) = endpoint.split_once('/') else {
        return wrong("an endpoint looks like tls/ADDRESS:PORT");
    };
    if endpoint.contains(['?', '#']) {
        return wrong("settings of an endpoint are not taken from here");
    }
    match protocol {
        "tls" if tls => Ok(()),
        "quic" if tls && cfg!(feature = "quic") => Ok(()),
        "quic" if !cfg!(feature = "quic") => wrong("this program was built without the feature quic"),
        "tls" | "quic" => wrong("it needs --ca, --certificate and --key"),
        "tcp" if tls => wrong("it is not authenticated; a node with certificates uses tls/ only"),
        "tcp" if insecure || is_here(address) => Ok(()),
        "tcp" => wrong("it leaves this computer unauthenticated and unencrypted; use tls/, or --insecure"),
        _ => wrong("the protocol is none of tls, tcp and quic"),
    }
}

/// Whether an address is one of this computer's alone. All that a name stands for must be.
fn is_here(address: &str) -> bool {
    address.to_socket_addrs().is_ok_and(|mut found| found.all(|found| IpAddr::is_loopback(&found.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(line: &[&str]) -> Result<Settings, String> {
        let line = ["ringpost-bridge", "--socket", "s"].iter().chain(line);
        Settings::of(Cli::try_parse_from(line).map_err(|error| error.to_string())?)
    }

    fn refused(line: &[&str], why: &str) {
        let error = settings(line).expect_err(&format!("{line:?} must be refused"));
        assert!(error.contains(why), "{line:?}: {error}");
    }

    #[test]
    fn what_leaves_this_computer_needs_certificates_or_a_word() {
        let open = ["--node", "a", "--listen", "tcp/0.0.0.0:7447"];
        refused(&open, "--insecure");
        assert!(settings(&[&open[..], &["--insecure"]].concat()).is_ok());
        assert!(settings(&["--node", "a", "--listen", "tcp/127.0.0.1:0"]).is_ok());
        assert!(settings(&["--node", "a", "--connect", "tcp/[::1]:7447"]).is_ok());
        refused(&["--node", "a", "--listen", "tls/0.0.0.0:7447"], "--ca");
        let files = ["--ca", "x", "--certificate", "x", "--key", "x"];
        let both = ["--node", "a", "--listen", "tls/0.0.0.0:1", "--connect", "tcp/127.0.0.1:2"];
        refused(&[&both[..], &files].concat(), "not authenticated");
        refused(&["--node", "a", "--listen", "tls/0.0.0.0:1", "--ca", "x"], "together");
        refused(&["--node", "a", "--scout"], "--insecure");
        refused(&["--node", "a", "--listen", "tcp/127.0.0.1:0#iface=eth0"], "settings");
        refused(&["--node", "a"], "--listen");
        refused(&["--node", "a@b", "--listen", "tcp/127.0.0.1:0"], "node name");
        refused(&["--node", "a", "--allow", "a", "--listen", "tcp/127.0.0.1:0"], "itself");
    }

    #[test]
    fn nothing_passes_without_a_line() {
        let line = ["--node", "a", "--listen", "tcp/127.0.0.1:0"];
        let (none, b) = (settings(&line).unwrap(), "b".parse().unwrap());
        assert!(!none.exports("bob") && !none.imports(&b, "bob") && none.allow.is_empty());
        let some = ["--export", "bob", "--export", "prices/**", "--import", "b/*"];
        let some = settings(&[&line[..], &some].concat()).unwrap();
        assert!(some.exports("bob") && some.exports("prices/x") && !some.exports("bobby"));
        assert!(some.imports(&b, "bob") && !some.imports(&b, "prices/x"));
        assert!(!some.imports(&"c".parse().unwrap(), "bob"));
    }

    #[test]
    fn the_file_has_the_same_settings() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.toml");
        let text = "node = \"b\"\nlisten = [\"tcp/127.0.0.1:0\"]\nallow = [\"c\"]\nmax-clients = 5\n";
        std::fs::write(&path, text).unwrap();
        let file = path.to_str().unwrap();
        let read = settings(&["--config", file, "--node", "a", "--allow", "d"]).unwrap();
        assert_eq!((read.node.as_str(), read.allow.len(), read.max_clients), ("a", 2, 5));
        std::fs::write(&path, "nodes = \"b\"").unwrap();
        refused(&["--config", file], "nodes");
        std::fs::write(&path, "node = 5").unwrap();
        refused(&["--config", file], "string");
        refused(&["--config", "/nowhere/at/all"], "No such file");
    }
}
