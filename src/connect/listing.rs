//! Encodes and decodes lists of clients and `ServerInfo`, for the connect channel and for the rings.

use std::time::{Duration, SystemTime};

use super::quotas::Quotas;
use crate::registry::{ClientInfo, ClientState, Counters};
use crate::ring::WaitStrategy;
use crate::wire::{Key, Name, PROTOCOL_VERSION, take};

/// The largest encoding of one client in a page, in bytes.
const MOST_ENTRY: usize = 16 + 1 + 4 * 3 + 8 + 8 * 6 + 1 + 4 + 1 + Name::MAX_LEN;

/// Bytes before the entries of a page: the slot at which the next page starts.
const PAGE_HEADER: usize = 4;

/// In place of that slot: this is the last page. (Slots have 16 bits.)
const NO_MORE: u32 = u32::MAX;

/// The number of clients that certainly fit into a page of `bytes` bytes.
pub(crate) fn clients_per_page(bytes: usize) -> usize {
    bytes.saturating_sub(PAGE_HEADER) / MOST_ENTRY
}

/// Encodes a page of clients. `next` is the slot at which the next page starts, if there is one.
pub(crate) fn encode_page(clients: &[ClientInfo], next: Option<u32>) -> Vec<u8> {
    let mut page = next.unwrap_or(NO_MORE).to_le_bytes().to_vec();
    clients.iter().for_each(|client| push_client(&mut page, client));
    page
}

pub(super) fn push_client(page: &mut Vec<u8>, client: &ClientInfo) {
    page.extend_from_slice(&client.key.to_bytes());
    page.push(match client.state {
        ClientState::Leaving => 1,
        _ => 0,
    });
    for number in [client.pid, client.uid, client.gid] {
        page.extend_from_slice(&number.to_le_bytes());
    }
    page.extend_from_slice(&since_epoch(client.registered).to_le_bytes());
    let Counters { calls, sent, delivered, received, bytes_in, bytes_out } = client.counters;
    for number in [calls, sent, delivered, received, bytes_in, bytes_out] {
        page.extend_from_slice(&number.to_le_bytes());
    }
    page.push(client.serves.into());
    page.extend_from_slice(&client.links.to_le_bytes());
    let name = client.name.as_bytes();
    page.push(name.len() as u8);
    page.extend_from_slice(name);
}

/// Decodes a page that was requested from `from_slot` on; `None` if it is malformed.
///
/// The clients must be in the order of their slots, and the next page must start after them. So each slot
/// comes once, and no server can send an endless list.
pub(crate) fn decode_page(page: &[u8], from_slot: u32) -> Option<(Vec<ClientInfo>, Option<u32>)> {
    let (next, mut rest) = number32(page)?;
    let mut clients = Vec::new();
    let mut behind = from_slot;
    while !rest.is_empty() {
        let client;
        (client, rest) = take_client(rest)?;
        let slot = u32::from(client.key.slot());
        if slot < behind {
            return None;
        }
        behind = slot + 1;
        clients.push(client);
    }
    match next {
        NO_MORE => Some((clients, None)),
        next if next > from_slot && next >= behind && u16::try_from(next).is_ok() => {
            Some((clients, Some(next)))
        }
        _ => None,
    }
}

pub(super) fn take_client(bytes: &[u8]) -> Option<(ClientInfo, &[u8])> {
    let (key, rest) = take::<16>(bytes)?;
    let ([state], rest) = take::<1>(rest)?;
    let (pid, rest) = number32(rest)?;
    let (uid, rest) = number32(rest)?;
    let (gid, rest) = number32(rest)?;
    let (registered, rest) = number64(rest)?;
    let (calls, rest) = number64(rest)?;
    let (sent, rest) = number64(rest)?;
    let (delivered, rest) = number64(rest)?;
    let (received, rest) = number64(rest)?;
    let (bytes_in, rest) = number64(rest)?;
    let (bytes_out, rest) = number64(rest)?;
    let ([serves], rest) = take::<1>(rest)?;
    let (links, rest) = number32(rest)?;
    let ([len], rest) = take::<1>(rest)?;
    let (name, rest) = rest.split_at_checked(len.into())?;
    let client = ClientInfo {
        name: Name::from_bytes(name).ok()?,
        key: Key::from_bytes(key),
        state: if state == 1 { ClientState::Leaving } else { ClientState::Live },
        pid,
        uid,
        gid,
        registered: at_epoch(registered),
        counters: Counters { calls, sent, delivered, received, bytes_in, bytes_out },
        serves: serves != 0,
        links,
    };
    Some((client, rest))
}

/// A server's process, limits and settings.
///
/// Returned by [`Observer::server`](crate::Observer::server) and [`Server::info`](crate::Server::info).
///
/// # Examples
///
/// ```
/// use ringpost::{Observer, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// let info = Observer::connect(&path)?.server()?;
/// println!("pid {}, ringpost {}, {} of {} clients", info.pid, info.version, info.clients, info.max_clients);
/// assert_eq!(info, server.info());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Its process id.
    pub pid: u32,
    /// The id of the user that it runs as.
    pub uid: u32,
    /// Its version of this library.
    pub version: String,
    /// Its protocol version.
    pub protocol: u32,
    /// When it started: its current time less its uptime. Setting the server's clock changes this value.
    pub started: SystemTime,
    /// The number of registered clients.
    pub clients: u32,
    /// The largest number of clients.
    pub max_clients: u32,
    /// The size of each ring, in bytes.
    pub ring_size: usize,
    /// The size of the largest block, in bytes, header included.
    pub max_block: usize,
    /// How its workers wait.
    pub wait: WaitStrategy,
    /// The limits for each user. `None` if the server does not tell.
    pub quotas: Option<Quotas>,
}

impl ServerInfo {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [self.pid, self.uid, self.clients, self.max_clients] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [since_epoch(self.started), self.ring_size as u64, self.max_block as u64] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.push(match self.wait {
            WaitStrategy::Spin => 0,
            WaitStrategy::Adaptive => 1,
            WaitStrategy::Park => 2,
        });
        bytes.extend_from_slice(self.version.as_bytes());
        if let Some(quotas) = &self.quotas {
            bytes.push(0);
            bytes.extend_from_slice(quotas.encode().as_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<ServerInfo> {
        let (pid, rest) = number32(bytes)?;
        let (uid, rest) = number32(rest)?;
        let (clients, rest) = number32(rest)?;
        let (max_clients, rest) = number32(rest)?;
        let (started, rest) = number64(rest)?;
        let (ring_size, rest) = number64(rest)?;
        let (max_block, rest) = number64(rest)?;
        let ([wait], text) = take::<1>(rest)?;
        let text = str::from_utf8(text).ok()?;
        let (version, quotas) = text.split_once('\0').unwrap_or((text, ""));
        Some(ServerInfo {
            pid,
            uid,
            version: version.chars().filter(|c| !c.is_control()).collect(),
            protocol: PROTOCOL_VERSION,
            started: at_epoch(started),
            clients,
            max_clients,
            ring_size: usize::try_from(ring_size).ok()?,
            max_block: usize::try_from(max_block).ok()?,
            wait: match wait {
                0 => WaitStrategy::Spin,
                1 => WaitStrategy::Adaptive,
                2 => WaitStrategy::Park,
                _ => return None,
            },
            quotas: Quotas::decode(quotas),
        })
    }
}

pub(super) fn number32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = take(bytes)?;
    Some((u32::from_le_bytes(number), rest))
}

pub(super) fn number64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = take(bytes)?;
    Some((u64::from_le_bytes(number), rest))
}

/// Nanoseconds since 1970; 0 for an earlier time.
fn since_epoch(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn at_epoch(nanoseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn client(slot: u16, name: &str) -> ClientInfo {
        ClientInfo {
            name: Name::new(name).unwrap(),
            key: Key::new(slot, 1, [2; 10]),
            state: ClientState::Leaving,
            pid: 1,
            uid: 2,
            gid: 3,
            registered: at_epoch(4),
            counters: Counters {
                calls: 5,
                sent: 6,
                delivered: 9,
                received: 7,
                bytes_in: 8,
                bytes_out: u64::MAX,
            },
            serves: true,
            links: 9,
        }
    }

    #[test]
    fn pages_decode_whole_and_cut_pages_are_refused() {
        let clients = [client(3, "a"), client(5, &"ü".repeat(32))];
        let page = encode_page(&clients, Some(9));
        assert!(page.len() <= PAGE_HEADER + 2 * MOST_ENTRY);
        assert_eq!(decode_page(&page, 3), Some((clients.to_vec(), Some(9))));
        assert_eq!(decode_page(&encode_page(&[], None), 0), Some((vec![], None)));
        let whole = [4, encode_page(&clients[..1], None).len(), page.len()];
        for len in (0..page.len()).filter(|len| !whole.contains(len)) {
            assert_eq!(decode_page(&page[..len], 0), None, "{len} bytes");
        }
        assert_eq!(clients_per_page(PAGE_HEADER + MOST_ENTRY), 1);
        // One client must fit into the smallest block.
        assert!(clients_per_page(crate::channel::MIN_BLOCK - crate::wire::BLOCK_HEADER) >= 1);
    }

    #[test]
    fn no_server_can_send_an_endless_list() {
        let page = |slots: &[u16], next| {
            let clients: Vec<_> = slots.iter().map(|&slot| client(slot, "a")).collect();
            decode_page(&encode_page(&clients, next), 4).is_some()
        };
        assert!(page(&[4, 5, 9], Some(10)) && page(&[], Some(5)) && page(&[u16::MAX], None));
        assert!(page(&[4], Some(u16::MAX.into())));
        // A next page that starts no later than this one, or at an invalid slot.
        for next in [0, 3, 4, 1 << 16, u32::MAX - 1] {
            assert!(!page(&[], Some(next)), "{next}");
        }
        // Clients of an earlier page, a slot twice, wrong order, and a client of the next page.
        assert!(!page(&[3], None) && !page(&[5, 5], None) && !page(&[6, 5], None) && !page(&[7], Some(7)));
    }

    #[test]
    fn server_info_decodes_to_what_was_encoded() {
        let info = ServerInfo {
            pid: 1,
            uid: 2,
            version: "0.1.0".into(),
            protocol: PROTOCOL_VERSION,
            started: at_epoch(3),
            clients: 4,
            max_clients: 5,
            ring_size: 6,
            max_block: 7,
            wait: WaitStrategy::Park,
            quotas: Some(Quotas::default()),
        };
        let bytes = info.encode();
        assert_eq!(ServerInfo::decode(&bytes), Some(info));
        assert_eq!(ServerInfo::decode(&bytes[..40]), None);
    }

    fn any_client() -> impl Strategy<Value = ClientInfo> {
        let numbers = (any::<u128>(), any::<[u32; 4]>(), any::<u64>(), any::<[u64; 6]>());
        let name = prop_oneof!["[a-z]{1,64}", "[à-é]{1,32}"];
        (name, any::<bool>(), numbers).prop_map(
            |(name, leaving, (key, [pid, uid, gid, links], at, counts))| {
                let [calls, sent, delivered, received, bytes_in, bytes_out] = counts;
                ClientInfo {
                    // 26 such letters may be a key.
                    name: Name::new(&name).unwrap_or_else(|_| Name::new("x").unwrap()),
                    key: Key::from_u128(key),
                    state: if leaving { ClientState::Leaving } else { ClientState::Live },
                    pid,
                    uid,
                    gid,
                    registered: at_epoch(at),
                    counters: Counters { calls, sent, delivered, received, bytes_in, bytes_out },
                    serves: links % 2 == 1,
                    links,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn any_page_decodes_to_what_was_encoded(mut clients in vec(any_client(), 0..5), next in proptest::option::of(0..65_536u32)) {
            clients.sort_by_key(|client| client.key.slot());
            clients.dedup_by_key(|client| client.key.slot());
            let page = encode_page(&clients, next);
            prop_assert!(clients.len() <= clients_per_page(PAGE_HEADER + clients.len() * MOST_ENTRY));
            prop_assert!(page.len() <= PAGE_HEADER + clients.len() * MOST_ENTRY);
            let behind = clients.last().map_or(1, |client| u32::from(client.key.slot()) + 1);
            let goes_on = next.is_none_or(|next| next >= behind);
            prop_assert_eq!(decode_page(&page, 0), goes_on.then_some((clients, next)));
        }

        /// Random bytes and pages with a changed byte are refused, or else decode to a page that encodes
        /// and decodes to the same again.
        #[test]
        fn any_bytes_are_a_page_or_refused(
            noise in vec(any::<u8>(), 0..300),
            client in any_client(),
            at: prop::sample::Index,
            byte: u8,
        ) {
            let mut page = encode_page(&[client], None);
            let at = at.index(page.len());
            page[at] = byte;
            for bytes in [noise, page] {
                let Some((clients, next)) = decode_page(&bytes, 0) else { continue };
                let again = encode_page(&clients, next);
                prop_assert_eq!(again.len(), bytes.len());
                prop_assert_eq!(decode_page(&again, 0), Some((clients, next)));
            }
        }

        #[test]
        fn any_server_info_decodes_to_what_was_encoded(
            numbers: [u32; 4],
            sizes: [u32; 2],
            started: u64,
            wait in 0..3usize,
            version in "[0-9a-z.]{0,20}",
            noise in vec(any::<u8>(), 0..80),
        ) {
            let [pid, uid, clients, max_clients] = numbers;
            let wait = [WaitStrategy::Spin, WaitStrategy::Adaptive, WaitStrategy::Park][wait];
            let [ring_size, max_block] = sizes.map(|size| size as usize);
            let started = at_epoch(started);
            let protocol = PROTOCOL_VERSION;
            let info = ServerInfo {
                pid, uid, version, protocol, started, clients, max_clients, ring_size, max_block, wait,
                quotas: None,
            };
            prop_assert_eq!(ServerInfo::decode(&info.encode()), Some(info));
            if let Some(info) = ServerInfo::decode(&noise) {
                prop_assert!(noise.len() >= 41 && noise[40] < 3 && !info.version.chars().any(char::is_control));
                prop_assert_eq!(&info.encode()[..41], &noise[..41]);
            }
        }
    }
}
