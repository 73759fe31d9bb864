//! `Quotas`: the limits that a server sets for each user.

#![forbid(unsafe_code)]

use crate::os::processors;

/// Limits for each user of a server. The server's own user and root are exempt.
///
/// | quota | `--quota` | default | beyond the limit |
/// | --- | --- | --- | --- |
/// | `asking` | `asking=N` | 256 | the connection is refused; try again |
/// | `clients` | `clients=N` | 256 | [`RegisterError::Quota`](crate::RegisterError::Quota) |
/// | `ring_bytes` | `ring-bytes=BYTES` | 256 MiB, at most a quarter of the memory | the same |
/// | `spinning` | `spinning=N` | a quarter of the CPUs | the worker waits adaptively |
/// | `registrations` | `registrations=N` | 500 per second | the registration, link, topic or subscription is refused; try again |
/// | `links` | `links=N` | 1024 | the link is refused |
/// | `topics` | `topics=N` | 64 | the topic is refused |
/// | `subscriptions` | `subscriptions=N` | 1024 | the subscription is refused |
///
/// # Examples
///
/// ```
/// use ringpost::{Quotas, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let mut quotas = Quotas::default();
/// quotas.clients = 10;
/// let server = Server::builder(&path).allow_user(1000).quotas(quotas).start()?;
/// assert_eq!(server.info().quotas, Some(quotas));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quotas {
    /// Connections that have not registered: new ones, observers, and those still being closed.
    pub asking: u32,
    /// Registered clients.
    pub clients: u32,
    /// Bytes of the clients' rings, used or not: three rings and two pages for each client, two rings and a
    /// page for each link that a client opened, a ring and a page for each topic that it publishes, and a
    /// page for each publisher of a topic that it has subscribed to.
    pub ring_bytes: u64,
    /// Workers that spin without pause, if the server's wait strategy is
    /// [`WaitStrategy::Spin`](crate::WaitStrategy::Spin).
    pub spinning: u32,
    /// Registrations, new links, reports of links, topics and subscriptions per second.
    pub registrations: u32,
    /// Links that its clients opened, in all, and at most as many to one client.
    pub links: u32,
    /// Topics that its clients publish. Several clients that publish the same one count each.
    pub topics: u32,
    /// Subscriptions of its clients, those to presence included.
    pub subscriptions: u32,
}

impl Default for Quotas {
    /// The default limits, for the memory and the CPUs that this process may use. Does not block.
    fn default() -> Quotas {
        const MOST: u64 = 256 << 20;
        let memory = memory_limit().map_or(MOST, |bytes| bytes / 4);
        Quotas {
            asking: 256,
            clients: 256,
            ring_bytes: memory.min(MOST),
            spinning: (processors::usable() / 4) as u32,
            registrations: 500,
            links: 1024,
            topics: 64,
            subscriptions: 1024,
        }
    }
}

impl Quotas {
    /// The quotas as text: `asking=256 clients=256` and so on.
    pub(crate) fn encode(&self) -> String {
        let Quotas { asking, clients, ring_bytes, spinning, registrations, links, topics, subscriptions } =
            self;
        format!(
            "asking={asking} clients={clients} ring-bytes={ring_bytes} spinning={spinning} registrations={registrations} \
             links={links} topics={topics} subscriptions={subscriptions}"
        )
    }

    /// `None` if a quota is missing. Unknown ones are ignored.
    pub(crate) fn decode(text: &str) -> Option<Quotas> {
        let of = |name: &str| -> Option<u64> {
            let values = text.split(' ').filter_map(|part| part.split_once('='));
            values.filter(|(found, _)| *found == name).find_map(|(_, value)| value.parse().ok())
        };
        let small = |name: &str| u32::try_from(of(name)?).ok();
        Some(Quotas {
            asking: small("asking")?,
            clients: small("clients")?,
            ring_bytes: of("ring-bytes")?,
            spinning: small("spinning")?,
            registrations: small("registrations")?,
            links: small("links")?,
            topics: small("topics")?,
            subscriptions: small("subscriptions")?,
        })
    }
}

/// The memory that this process may use: the limit of its control group, or the computer's memory.
fn memory_limit() -> Option<u64> {
    let number = |path: &str| -> Option<u64> { std::fs::read_to_string(path).ok()?.trim().parse().ok() };
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        match controllers {
            "" => Some(("/sys/fs/cgroup".to_owned(), path, "memory.max")),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Some(("/sys/fs/cgroup/memory".to_owned(), path, "memory.limit_in_bytes"))
            }
            _ => None,
        }
    });
    let mut least: Option<u64> = None;
    for (root, path, file) in own {
        let mut group = format!("{root}{path}");
        while group.len() >= root.len() {
            least = least.into_iter().chain(number(&format!("{group}/{file}"))).min();
            let Some((above, _)) = group.rsplit_once('/') else { break };
            group = above.to_owned();
        }
    }
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line =
            text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))?;
        line.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    least.into_iter().chain(total).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_read_back_as_text() {
        let quotas = Quotas::default();
        assert_eq!(Quotas::decode(&quotas.encode()), Some(quotas));
        assert_eq!(Quotas::decode(&format!("{} more=1", quotas.encode())), Some(quotas));
        assert_eq!(Quotas::decode("asking=1 clients=2"), None);
        assert_eq!(Quotas::decode(""), None);
    }
}
