//! `ringpost ls`: lists the registered clients, their links and topics, and describes the server, without
//! registering.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringpost::{ClientInfo, ClientState, LinkInfo, Observer, Quotas, ServerInfo, TopicInfo};
use serde::Serialize;

use crate::cli::LsOptions;
use ringpost::cli::args::{readable_bytes, readable_time};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;
use ringpost::cli::stats::thousands;

pub fn run(socket: &Path, options: &LsOptions) -> Outcome {
    let observer = Observer::connect(socket).map_err(Failure::failed)?;
    let server = observer.server().map_err(Failure::failed)?;
    let mut clients = observer.list().map_err(Failure::failed)?;
    let links = options.links.then(|| observer.links()).transpose().map_err(Failure::failed)?;
    let topics = options.topics.then(|| observer.topics()).transpose().map_err(Failure::failed)?;
    if options.json {
        sort(&mut clients);
        let server = ServerObject::new(&server, socket);
        let users = users(&clients);
        return out::json(&Listing {
            server,
            users,
            clients: clients.iter().map(ClientObject::new).collect(),
            links: links.as_ref().map(|links| links.iter().map(LinkObject::new).collect()),
            topics: topics.as_ref().map(|topics| topics.iter().map(TopicObject::new).collect()),
        });
    }
    let last = server_line(&server, clients.len());
    let quotas = quotas_line(&server, &clients);
    let links = links.map_or(String::new(), |links| self::links(&links));
    let topics = topics.map_or(String::new(), self::topics);
    out::put(format!("{}{links}{topics}{last}\n{quotas}", self::clients(clients)).as_bytes())
}

/// Formats links as a table.
fn links(links: &[LinkInfo]) -> String {
    let cells = |link: &LinkInfo| {
        let [caller, callee] = [link.caller, link.callee].map(|name| out::readable(name.as_bytes()));
        [caller, callee, readable_time(link.age)]
    };
    let rows: Vec<[String; 3]> = links.iter().map(cells).collect();
    table(&["CALLER", "CALLEE", "AGE"], &rows)
}

/// Formats topics as a table, in their order.
fn topics(mut topics: Vec<TopicInfo>) -> String {
    topics.sort_by(|a, b| (&a.topic, a.publisher).cmp(&(&b.topic, b.publisher)));
    let cells = |topic: &TopicInfo| {
        [
            out::readable(topic.topic.as_str().as_bytes()),
            out::readable(topic.publisher.as_bytes()),
            readable_time(topic.age),
            topic.subscriptions.to_string(),
            readable_bytes(topic.ring_size),
        ]
    };
    let rows: Vec<[String; 5]> = topics.iter().map(cells).collect();
    table(&["TOPIC", "PUBLISHER", "AGE", "SUBSCRIPTIONS", "RING"], &rows)
}

/// Formats the clients as a table.
pub fn clients(mut clients: Vec<ClientInfo>) -> String {
    sort(&mut clients);
    let rows: Vec<[String; 9]> = clients.iter().map(row).collect();
    table(&HEADINGS, &rows)
}

fn sort(clients: &mut [ClientInfo]) {
    clients.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
}

/// The JSON output.
#[derive(Serialize)]
struct Listing<'a> {
    server: ServerObject<'a>,
    users: Vec<UserObject>,
    clients: Vec<ClientObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Vec<LinkObject<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<Vec<TopicObject<'a>>>,
}

#[derive(Serialize)]
struct LinkObject<'a> {
    caller: &'a str,
    callee: &'a str,
    age_seconds: f64,
}

impl<'a> LinkObject<'a> {
    fn new(link: &'a LinkInfo) -> LinkObject<'a> {
        LinkObject {
            caller: link.caller.as_str(),
            callee: link.callee.as_str(),
            age_seconds: seconds(link.age),
        }
    }
}

#[derive(Serialize)]
struct TopicObject<'a> {
    topic: &'a str,
    publisher: &'a str,
    subscriptions: u32,
    ring_size: usize,
    age_seconds: f64,
}

impl<'a> TopicObject<'a> {
    fn new(topic: &'a TopicInfo) -> TopicObject<'a> {
        TopicObject {
            topic: topic.topic.as_str(),
            publisher: topic.publisher.as_str(),
            subscriptions: topic.subscriptions,
            ring_size: topic.ring_size,
            age_seconds: seconds(topic.age),
        }
    }
}

#[derive(Serialize)]
struct ServerObject<'a> {
    socket: Cow<'a, str>,
    pid: u32,
    uid: u32,
    version: &'a str,
    protocol: u32,
    wait: String,
    clients: u32,
    max_clients: u32,
    ring_size: usize,
    max_block: usize,
    /// The limits of each user except the server's own and root.
    quotas: Option<QuotasObject>,
    /// Seconds since 1970.
    started_unix: f64,
    uptime_seconds: f64,
}

#[derive(Serialize)]
struct QuotasObject {
    asking: u32,
    clients: u32,
    ring_bytes: u64,
    spinning: u32,
    registrations: u32,
    links: u32,
    topics: u32,
    subscriptions: u32,
}

impl QuotasObject {
    fn new(quotas: Quotas) -> QuotasObject {
        let Quotas {
            asking, clients, ring_bytes, spinning, registrations, links, topics, subscriptions, ..
        } = quotas;
        QuotasObject { asking, clients, ring_bytes, spinning, registrations, links, topics, subscriptions }
    }
}

/// The number of clients of one user.
#[derive(Serialize)]
struct UserObject {
    uid: u32,
    clients: usize,
}

fn users(clients: &[ClientInfo]) -> Vec<UserObject> {
    let mut counts = BTreeMap::new();
    for client in clients {
        *counts.entry(client.uid).or_default() += 1;
    }
    counts.into_iter().map(|(uid, clients)| UserObject { uid, clients }).collect()
}

/// The line with the quotas and each user's number of clients.
fn quotas_line(server: &ServerInfo, clients: &[ClientInfo]) -> String {
    let Some(quotas) = server.quotas else { return String::new() };
    let Quotas { asking, clients: most, ring_bytes, spinning, registrations, .. } = quotas;
    let Quotas { links, topics, subscriptions, .. } = quotas;
    let used: Vec<String> =
        users(clients).iter().map(|user| format!("; user {} has {}", user.uid, user.clients)).collect();
    format!(
        "limits for each other user: {most} clients, {links} links, {topics} topics, {subscriptions} subscriptions, {} of rings, {asking} unregistered connections, {spinning} spinning \
         workers, {registrations} registrations per second{}\n",
        readable_bytes(usize::try_from(ring_bytes).unwrap_or(usize::MAX)),
        used.concat(),
    )
}

#[derive(Serialize)]
struct ClientObject<'a> {
    name: &'a str,
    key: String,
    pid: u32,
    uid: u32,
    gid: u32,
    state: String,
    /// Seconds since 1970.
    registered_unix: f64,
    calls: u64,
    sent: u64,
    received: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// Whether it takes links.
    serves: bool,
    links: u32,
}

impl<'a> ServerObject<'a> {
    fn new(server: &'a ServerInfo, socket: &'a Path) -> ServerObject<'a> {
        ServerObject {
            socket: socket.to_string_lossy(),
            pid: server.pid,
            uid: server.uid,
            version: &server.version,
            protocol: server.protocol,
            wait: server.wait.to_string(),
            clients: server.clients,
            max_clients: server.max_clients,
            ring_size: server.ring_size,
            max_block: server.max_block,
            quotas: server.quotas.map(QuotasObject::new),
            started_unix: unix(server.started),
            uptime_seconds: seconds(uptime(server)),
        }
    }
}

impl<'a> ClientObject<'a> {
    fn new(client: &'a ClientInfo) -> ClientObject<'a> {
        let counters = client.counters;
        ClientObject {
            name: client.name.as_str(),
            key: client.key.to_string(),
            pid: client.pid,
            uid: client.uid,
            gid: client.gid,
            state: client.state.to_string(),
            registered_unix: unix(client.registered),
            calls: counters.calls,
            sent: counters.sent,
            received: counters.received,
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out,
            serves: client.serves,
            links: client.links,
        }
    }
}

fn unix(time: SystemTime) -> f64 {
    seconds(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1e3
}

const HEADINGS: [&str; 9] =
    ["NAME", "KEY", "STATE", "PID", "UID", "CALLS", "SENT", "RECEIVED", "BYTES IN/OUT"];

fn row(client: &ClientInfo) -> [String; 9] {
    let counters = client.counters;
    [
        out::readable(client.name.as_bytes()),
        client.key.to_string(),
        match client.state {
            ClientState::Live if client.serves => "serving".to_owned(),
            state => state.to_string(),
        },
        client.pid.to_string(),
        client.uid.to_string(),
        counters.calls.to_string(),
        counters.sent.to_string(),
        counters.received.to_string(),
        format!("{}/{}", counters.bytes_in, counters.bytes_out),
    ]
}

/// Formats a table with columns two spaces apart: the first three left-aligned, the numbers right-aligned.
fn table<const N: usize>(headings: &[&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let mut row = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = if column < 3 { ("", &padding[..]) } else { (&padding[..], "") };
            row.push_str(&format!("{gap}{before}{cell}{after}"));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    line(*headings);
    for row in rows {
        line(std::array::from_fn(|column| row[column].as_str()));
    }
    text
}

fn server_line(server: &ServerInfo, clients: usize) -> String {
    format!(
        "{clients} of at most {} clients; server pid {}, ringpost {}, up {}, waits {}, rings of {}, blocks up to {}",
        thousands(server.max_clients.into()),
        server.pid,
        out::readable(server.version.as_bytes()),
        readable_time(uptime(server)),
        server.wait,
        readable_bytes(server.ring_size),
        readable_bytes(server.max_block),
    )
}

/// How long the server has run; zero if the clock was set back.
fn uptime(server: &ServerInfo) -> Duration {
    server.started.elapsed().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let rows = [
            ["\u{e9}".into(), "K".into(), "live".into(), "1".into()],
            ["longer".into(), "K".into(), "l".into(), "123".into()],
        ];
        assert_eq!(
            table(&["NAME", "KEY", "STATE", "N"], &rows),
            "NAME    KEY  STATE    N\n\u{e9}       K    live     1\nlonger  K    l      123\n"
        );
        assert_eq!(table(&["A", "B"], &[]), "A  B\n");
    }
}
