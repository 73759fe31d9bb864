//! `ringpost status`: tells whether a server is there, how it is, and what its users have of what they may.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ringpost::{Figures, Observer, Quotas, ServerFigures, ServerInfo, UserFigures};
use serde::Serialize;

use crate::cli::StatusOptions;
use crate::patience::patiently;
use ringpost::cli::args::{readable_bytes, readable_time};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;
use ringpost::cli::stats::thousands;
use ringpost::cli::table::Table;

pub fn run(socket: &Path, options: &StatusOptions) -> Outcome {
    // Signals end it at once, because there is nothing to be left in order.
    let observer =
        patiently(socket, &options.wait, None, None, |left| Observer::connect_timeout(socket, left))?;
    let look = || {
        let server = observer.server().map_err(Failure::failed)?;
        Ok((server, observer.figures().map_err(Failure::failed)?))
    };
    let (mut server, mut figures) = look()?;
    let mut rates = None;
    if let Some(time) = options.over {
        let until = Instant::now() + time;
        let before = figures;
        thread::sleep(until.saturating_duration_since(Instant::now()));
        let first = server;
        (server, figures) = look()?;
        if (first.pid, first.started) != (server.pid, server.started) {
            return Err(Failure::failed("another server came meanwhile: try again"));
        }
        rates = Some(Rates::between(&before, &figures));
    }
    let status = Status { socket, server: &server, figures: &figures, rates };
    if options.json { out::json(&status.json()) } else { out::put(status.text().as_bytes()) }
}

/// What happened in each second between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Rates {
    seconds: f64,
    calls: f64,
    messages: f64,
    bytes_in: f64,
    bytes_out: f64,
    /// Of one CPU.
    cpu_percent: f64,
}

impl Rates {
    fn between(before: &Figures, after: &Figures) -> Rates {
        let seconds = after.uptime.saturating_sub(before.uptime).as_secs_f64().max(1e-3);
        let (old, new) = (&before.server, &after.server);
        let rate = |before: u64, after: u64| tenths(after.saturating_sub(before) as f64 / seconds);
        Rates {
            seconds: tenths(seconds),
            calls: rate(old.calls, new.calls),
            messages: rate(old.messages, new.messages),
            bytes_in: rate(old.bytes_in, new.bytes_in),
            bytes_out: rate(old.bytes_out, new.bytes_out),
            cpu_percent: tenths(100.0 * new.cpu.saturating_sub(old.cpu).as_secs_f64() / seconds),
        }
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// All that is printed.
struct Status<'a> {
    socket: &'a Path,
    server: &'a ServerInfo,
    figures: &'a Figures,
    rates: Option<Rates>,
}

impl Status<'_> {
    fn text(&self) -> String {
        let Status { server, figures, .. } = self;
        let of = &figures.server;
        let mut text = String::new();
        let mut line = |label: &str, value: String| text.push_str(&format!("{label:<9}{value}\n"));
        line(
            "server",
            format!(
                "process {} of user {}, ringpost {}, protocol {}",
                server.pid,
                server.uid,
                out::readable(server.version.as_bytes()),
                server.protocol
            ),
        );
        line("socket", out::readable(self.socket.as_os_str().as_encoded_bytes()));
        line("up", readable_time(figures.uptime));
        line(
            "clients",
            format!(
                "{} of at most {}; {} registered in all, {} died",
                thousands(server.clients.into()),
                thousands(server.max_clients.into()),
                thousands(of.registered),
                thousands(of.died)
            ),
        );
        line(
            "now",
            format!("{}, {}", counted(figures.links.len(), "link"), counted(figures.topics.len(), "topic")),
        );
        line(
            "done",
            format!(
                "{} calls, {} messages, {} bytes in, {} bytes out",
                thousands(of.calls),
                thousands(of.messages),
                thousands(of.bytes_in),
                thousands(of.bytes_out)
            ),
        );
        line("refused", format!("{}; {} violations", thousands(of.refused), thousands(of.violations)));
        line(
            "CPU",
            format!(
                "{:.1} s in all; {} of at most {} workers run hot",
                of.cpu.as_secs_f64(),
                of.workers_hot,
                of.workers_most
            ),
        );
        if let Some(rates) = self.rates {
            let whole = |rate: f64| thousands(rate.round() as u64);
            line(
                "rates",
                format!(
                    "{} calls/s, {} messages/s, {} bytes/s in, {} bytes/s out, {:.1} % of a CPU",
                    whole(rates.calls),
                    whole(rates.messages),
                    whole(rates.bytes_in),
                    whole(rates.bytes_out),
                    rates.cpu_percent
                ),
            );
        }
        line(
            "settings",
            format!(
                "waits {}, rings of {}, blocks up to {}",
                server.wait,
                readable_bytes(server.ring_size),
                readable_bytes(server.max_block)
            ),
        );
        text.push_str(&self.users());
        text
    }

    /// A table of what each user has, below what each may have.
    fn users(&self) -> String {
        let users = &self.figures.server.users;
        let Some(quotas) = self.server.quotas else { return String::new() };
        let mut table =
            Table::new("USER|CLIENTS|RINGS|LINKS|TOPICS|SUBSCRIPTIONS|ASKING|SPINNING|REGISTRATIONS/S");
        let may = user_of(quotas);
        table.row(row("each may have".into(), &may).chain([quotas.registrations.to_string()]));
        for user in users {
            let name = if self.is_exempt(user.uid) {
                format!("{} (no limit)", user.uid)
            } else {
                user.uid.to_string()
            };
            table.row(row(name, &Amounts::of(user)).chain(["-".to_owned()]));
        }
        format!("\n{}", table.text())
    }

    /// Whether a user has no quotas: root, and the server's own.
    fn is_exempt(&self, uid: u32) -> bool {
        uid == 0 || uid == self.server.uid
    }

    fn json(&self) -> Json<'_> {
        let Status { server, figures, .. } = self;
        let ServerFigures {
            calls, messages, bytes_in, bytes_out, registered, died, violations, refused, ..
        } = figures.server;
        Json {
            socket: self.socket.to_string_lossy().into_owned(),
            pid: server.pid,
            uid: server.uid,
            version: &server.version,
            protocol: server.protocol,
            uptime_seconds: milliseconds(figures.uptime),
            wait: server.wait.to_string(),
            clients: server.clients,
            max_clients: server.max_clients,
            ring_size: server.ring_size,
            max_block: server.max_block,
            links: figures.links.len(),
            topics: figures.topics.len(),
            cpu_seconds: milliseconds(figures.server.cpu),
            workers_hot: figures.server.workers_hot,
            workers_most: figures.server.workers_most,
            totals: Totals { calls, messages, bytes_in, bytes_out, registered, died, violations, refused },
            rates: self.rates,
            quotas: server
                .quotas
                .map(|quotas| QuotasObject { amounts: user_of(quotas), registrations: quotas.registrations }),
            users: figures
                .server
                .users
                .iter()
                .map(|user| UserObject {
                    uid: user.uid,
                    exempt: self.is_exempt(user.uid),
                    amounts: Amounts::of(user),
                })
                .collect(),
        }
    }
}

fn counted(number: usize, what: &str) -> String {
    format!("{} {what}{}", thousands(number as u64), if number == 1 { "" } else { "s" })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1e3
}

/// What a user has, or may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Amounts {
    clients: u32,
    ring_bytes: u64,
    links: u32,
    topics: u32,
    subscriptions: u32,
    asking: u32,
    spinning: u32,
}

impl Amounts {
    fn of(user: &UserFigures) -> Amounts {
        let UserFigures { clients, ring_bytes, links, topics, subscriptions, asking, spinning, .. } = *user;
        Amounts { clients, ring_bytes, links, topics, subscriptions, asking, spinning }
    }
}

fn user_of(quotas: Quotas) -> Amounts {
    let Quotas { clients, ring_bytes, links, topics, subscriptions, asking, spinning, .. } = quotas;
    Amounts { clients, ring_bytes, links, topics, subscriptions, asking, spinning }
}

fn row(name: String, amounts: &Amounts) -> impl Iterator<Item = String> {
    let Amounts { clients, ring_bytes, links, topics, subscriptions, asking, spinning } = *amounts;
    let rings = readable_bytes(usize::try_from(ring_bytes).unwrap_or(usize::MAX));
    let numbers = [links, topics, subscriptions, asking, spinning].map(|number| number.to_string());
    [name, clients.to_string(), rings].into_iter().chain(numbers)
}

#[derive(Serialize)]
struct Json<'a> {
    socket: String,
    pid: u32,
    uid: u32,
    version: &'a str,
    protocol: u32,
    uptime_seconds: f64,
    wait: String,
    clients: u32,
    max_clients: u32,
    ring_size: usize,
    max_block: usize,
    links: usize,
    topics: usize,
    cpu_seconds: f64,
    workers_hot: u32,
    workers_most: u32,
    /// Since the server's start.
    totals: Totals,
    /// For each second; only with `--over`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<Rates>,
    /// What each user may have who is not exempt.
    quotas: Option<QuotasObject>,
    users: Vec<UserObject>,
}

#[derive(Serialize)]
struct Totals {
    calls: u64,
    messages: u64,
    bytes_in: u64,
    bytes_out: u64,
    registered: u64,
    died: u64,
    violations: u64,
    refused: u64,
}

#[derive(Serialize)]
struct QuotasObject {
    #[serde(flatten)]
    amounts: Amounts,
    registrations: u32,
}

#[derive(Serialize)]
struct UserObject {
    uid: u32,
    exempt: bool,
    #[serde(flatten)]
    amounts: Amounts,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringpost::{Client, Server};

    #[test]
    fn rates_are_differences_by_the_servers_time() {
        let mut before = Figures::default();
        let mut after = Figures::default();
        (before.uptime, after.uptime) = (Duration::from_secs(10), Duration::from_secs(12));
        (before.server.calls, after.server.calls) = (100, 400);
        (before.server.bytes_in, after.server.bytes_in) = (9, 5);
        after.server.cpu = Duration::from_millis(500);
        let rates = Rates::between(&before, &after);
        assert_eq!((rates.seconds, rates.calls, rates.bytes_in, rates.cpu_percent), (2.0, 150.0, 0.0, 25.0));
        // The server's clock stands still.
        assert!(Rates::between(&after, &after).calls == 0.0);
    }

    #[test]
    fn the_text_tells_who_has_what() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bus");
        let server = Server::builder(&path).max_clients(10).start().unwrap();
        let _alice = Client::register(&path, "alice").unwrap();
        let observer = Observer::connect(&path).unwrap();
        let (info, figures) = (observer.server().unwrap(), observer.figures().unwrap());
        let rates = Some(Rates::between(&figures, &figures));
        let text = Status { socket: &path, server: &info, figures: &figures, rates }.text();
        for part in
            ["\nclients  1 of at most 10; ", "\nrates    0 calls/s, ", "\neach may have      256  256 MiB"]
        {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        drop(server);
    }
}
