//! What `ringpost ls --json` prints.

use std::borrow::Cow;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringpost::{ClientInfo, LinkInfo, Quotas, ServerInfo, TopicInfo};
use serde::Serialize;

use super::{uptime, users};

/// The JSON output.
#[derive(Serialize)]
pub struct Listing<'a> {
    server: ServerObject<'a>,
    users: Vec<UserObject>,
    clients: Vec<ClientObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Vec<LinkObject<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<Vec<TopicObject<'a>>>,
}

impl<'a> Listing<'a> {
    pub fn new(
        server: &'a ServerInfo,
        socket: &'a Path,
        clients: &'a [ClientInfo],
        links: Option<&'a [LinkInfo]>,
        topics: Option<&'a [TopicInfo]>,
    ) -> Listing<'a> {
        Listing {
            server: ServerObject::new(server, socket),
            users: users(clients).into_iter().map(|(uid, clients)| UserObject { uid, clients }).collect(),
            clients: clients.iter().map(ClientObject::new).collect(),
            links: links.map(|links| links.iter().map(LinkObject::new).collect()),
            topics: topics.map(|topics| topics.iter().map(TopicObject::new).collect()),
        }
    }
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
    delivered: u64,
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
            delivered: counters.delivered,
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
