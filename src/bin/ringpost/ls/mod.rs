//! `ringpost ls`: lists the registered clients, their links and topics, and describes the server, without
//! registering.

mod json;
mod tables;

use std::path::Path;
use std::time::Duration;

use ringpost::{ClientInfo, Observer, ServerInfo};

use crate::cli::LsOptions;
use crate::patience::patiently;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;

pub fn run(socket: &Path, options: &LsOptions) -> Outcome {
    // Signals end it at once, because there is nothing to be left in order.
    let observer =
        patiently(socket, &options.wait, None, None, |left| Observer::connect_timeout(socket, left))?;
    let server = observer.server().map_err(Failure::failed)?;
    let mut clients = observer.list().map_err(Failure::failed)?;
    sort(&mut clients);
    let links = options.links.then(|| observer.links()).transpose().map_err(Failure::failed)?;
    let mut topics = options.topics.then(|| observer.topics()).transpose().map_err(Failure::failed)?;
    if let Some(topics) = &mut topics {
        topics.sort_by(|a, b| (&a.topic, a.publisher).cmp(&(&b.topic, b.publisher)));
    }
    if options.json {
        return out::json(&json::Listing::new(
            &server,
            socket,
            &clients,
            links.as_deref(),
            topics.as_deref(),
        ));
    }
    let width = out::terminal_width();
    let mut text = tables::clients(&clients, options.keys, width);
    if let Some(links) = &links {
        text.push_str(&tables::links(links, width));
    }
    if let Some(topics) = &topics {
        text.push_str(&tables::topics(topics, width));
    }
    text.push_str(&tables::server(&server, &clients, width));
    out::put(text.as_bytes())
}

fn sort(clients: &mut [ClientInfo]) {
    clients.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
}

/// The number of clients of each user, in the order of the users' numbers.
fn users(clients: &[ClientInfo]) -> Vec<(u32, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for client in clients {
        *counts.entry(client.uid).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// How long the server has run; zero if the clock was set back.
fn uptime(server: &ServerInfo) -> Duration {
    server.started.elapsed().unwrap_or_default()
}
