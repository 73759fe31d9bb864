//! What the server and its clients say of links: proofs, introductions, reports and pages of links.
//!
//! `docs/PROTOCOL.md` describes them byte by byte.

use std::fmt;
use std::hint::black_box;
use std::time::Duration;

use crate::wire::{KEY, Key, Name, Peer, take};

/// Bytes of a [`Secret`].
const SECRET: usize = 16;

/// What only the server and one client know: random bytes that come with the registration. A key is known to
/// everyone.
#[derive(Clone, Copy, Eq)]
pub(crate) struct Secret([u8; SECRET]);

impl Secret {
    pub(crate) fn new(random: [u8; SECRET]) -> Secret {
        Secret(random)
    }
}

/// Looks at all bytes, wherever they differ, so that the time tells nothing of the secret.
impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        let differing =
            self.0.iter().zip(other.0).fold(0, |found, (one, other)| black_box(found | one ^ other));
        black_box(differing) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Shows on a new connection which registered client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) key: Key,
    pub(crate) secret: Secret,
}

impl Proof {
    /// Bytes of a proof.
    pub(crate) const LEN: usize = KEY + SECRET;

    pub(crate) fn encode(&self) -> [u8; Proof::LEN] {
        let mut bytes = [0; Proof::LEN];
        bytes[..KEY].copy_from_slice(&self.key.to_bytes());
        bytes[KEY..].copy_from_slice(&self.secret.0);
        bytes
    }

    /// For a client without a server.
    #[cfg(any(feature = "internals", fuzzing, test))]
    pub(crate) fn without_secret(key: Key) -> Proof {
        Proof { key, secret: Secret::new([0; SECRET]) }
    }

    /// Splits a proof off a body.
    pub(super) fn take(body: &[u8]) -> Option<(Proof, &[u8])> {
        let (key, rest) = take::<KEY>(body)?;
        let (secret, rest) = take::<SECRET>(rest)?;
        Some((Proof { key: Key::from_bytes(key), secret: Secret(secret) }, rest))
    }
}

/// What a client is in a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Caller = 0,
    Callee = 1,
}

/// An end of a client's channel that can wait in an event loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// The end that sends requests and receives their responses.
    Caller = 0,
    Inbox = 1,
}

/// What the server tells one side of a link besides the descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Introduction {
    /// The server's number for the link.
    pub(crate) id: u64,
    /// Which of its own bits the client flips when the link has ended for it.
    pub(crate) index: u16,
    pub(crate) ring_size: usize,
    pub(crate) max_block: usize,
    /// The other side.
    pub(crate) peer: Peer,
}

impl Introduction {
    /// How many descriptors come with it: the segment, both ends of the own pipe, the write end of the
    /// peer's, and the peer's process.
    pub(crate) const DESCRIPTORS: usize = 5;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.id.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.index.to_le_bytes());
        for size in [self.ring_size, self.max_block] {
            bytes.extend_from_slice(&(size as u64).to_le_bytes());
        }
        push_peer(&mut bytes, &self.peer);
        bytes
    }

    /// `None` if it is malformed. Whether its sizes can be is for the channel to say.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Introduction> {
        let (id, rest) = take(bytes)?;
        let (index, rest) = take(rest)?;
        let (ring_size, rest) = take(rest)?;
        let (max_block, rest) = take(rest)?;
        let (peer, []) = take_peer(rest)? else { return None };
        Some(Introduction {
            id: u64::from_le_bytes(id),
            index: u16::from_le_bytes(index),
            ring_size: usize::try_from(u64::from_le_bytes(ring_size)).ok()?,
            max_block: usize::try_from(u64::from_le_bytes(max_block)).ok()?,
            peer,
        })
    }
}

/// A link that a client has when it registers anew: what the client is in it, and the other side's name.
pub(crate) type Reported = (Role, Name);

/// Links in one report, at most. So many fit in any case.
pub(crate) const MOST_REPORTED: usize = 240;

/// In place of an index: the link was not noted.
const NOT_NOTED: u16 = u16::MAX;

pub(super) fn encode_report(links: &[Reported]) -> Vec<u8> {
    let mut bytes = (links.len() as u16).to_le_bytes().to_vec();
    for (role, name) in links {
        bytes.push(*role as u8);
        push_name(&mut bytes, name);
    }
    bytes
}

pub(super) fn decode_report(bytes: &[u8]) -> Option<Vec<Reported>> {
    let (count, mut rest) = take(bytes)?;
    let count = u16::from_le_bytes(count);
    if usize::from(count) > MOST_REPORTED {
        return None;
    }
    let mut links = Vec::new();
    for _ in 0..count {
        let ([role], behind) = take(rest)?;
        let role = match role {
            0 => Role::Caller,
            1 => Role::Callee,
            _ => return None,
        };
        let name;
        (name, rest) = take_name(behind)?;
        links.push((role, name));
    }
    rest.is_empty().then_some(links)
}

/// The answer to a report: for each link the index of its bit, if the server noted it.
pub(crate) fn encode_indices(indices: &[Option<u16>]) -> Vec<u8> {
    let mut bytes = (indices.len() as u16).to_le_bytes().to_vec();
    for index in indices {
        bytes.extend_from_slice(&index.unwrap_or(NOT_NOTED).to_le_bytes());
    }
    bytes
}

/// `None` unless it answers a report of so many links.
pub(crate) fn decode_indices(bytes: &[u8], reported: usize) -> Option<Vec<Option<u16>>> {
    let (count, rest) = take(bytes)?;
    let (indices, []) = rest.as_chunks() else { return None };
    let fits = usize::from(u16::from_le_bytes(count)) == reported && indices.len() == reported;
    let noted = |index| Some(u16::from_le_bytes(index)).filter(|index| *index != NOT_NOTED);
    fits.then(|| indices.iter().map(|index| noted(*index)).collect())
}

/// A link between two clients, as its server knows it. [`Observer::links`](crate::Observer::links) returns
/// them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkInfo {
    /// Its number.
    pub(crate) id: u64,
    /// The client that calls.
    pub caller: Name,
    /// The client that serves.
    pub callee: Name,
    /// How long ago it was made, or reported to this server.
    pub age: Duration,
}

/// The largest encoding of one link in a page.
const MOST_LINK: usize = 8 + 2 * (1 + Name::MAX_LEN) + 8;

/// Bytes before the links of a page: the number at which the next page starts.
const LINKS_HEADER: usize = 8;

/// In place of that number: this is the last page.
const NO_MORE_LINKS: u64 = u64::MAX;

/// The number of links that certainly fit into a page of so many bytes.
pub(crate) fn links_per_page(bytes: usize) -> usize {
    bytes.saturating_sub(LINKS_HEADER) / MOST_LINK
}

/// Encodes a page of links. `next` is the number at which the next page starts, if there is one.
pub(crate) fn encode_links(links: &[LinkInfo], next: Option<u64>) -> Vec<u8> {
    let mut page = next.unwrap_or(NO_MORE_LINKS).to_le_bytes().to_vec();
    links.iter().for_each(|link| push_link(&mut page, link));
    page
}

pub(super) fn push_link(page: &mut Vec<u8>, link: &LinkInfo) {
    page.extend_from_slice(&link.id.to_le_bytes());
    push_name(page, &link.caller);
    push_name(page, &link.callee);
    let age = u64::try_from(link.age.as_millis()).unwrap_or(u64::MAX);
    page.extend_from_slice(&age.to_le_bytes());
}

pub(super) fn take_link(bytes: &[u8]) -> Option<(LinkInfo, &[u8])> {
    let (id, rest) = take(bytes)?;
    let (caller, rest) = take_name(rest)?;
    let (callee, rest) = take_name(rest)?;
    let (age, rest) = take(rest)?;
    let age = Duration::from_millis(u64::from_le_bytes(age));
    Some((LinkInfo { id: u64::from_le_bytes(id), caller, callee, age }, rest))
}

/// Decodes a page that was asked for from a number on; `None` if it is malformed.
///
/// The links must be in the order of their numbers, and the next page must start behind them, so that no
/// server can send an endless list.
pub(crate) fn decode_links(page: &[u8], from: u64) -> Option<(Vec<LinkInfo>, Option<u64>)> {
    let (next, mut rest) = take(page)?;
    let (mut links, mut least) = (Vec::new(), from);
    while !rest.is_empty() {
        let link;
        (link, rest) = take_link(rest)?;
        if link.id < least {
            return None;
        }
        least = link.id.checked_add(1)?;
        links.push(link);
    }
    match u64::from_le_bytes(next) {
        NO_MORE_LINKS => Some((links, None)),
        next if next > from && next >= least => Some((links, Some(next))),
        _ => None,
    }
}

/// Appends who a client is.
pub(super) fn push_peer(bytes: &mut Vec<u8>, peer: &Peer) {
    push_ids(bytes, peer);
    push_name(bytes, &peer.name);
}

/// Splits off who a client is.
pub(super) fn take_peer(bytes: &[u8]) -> Option<(Peer, &[u8])> {
    let (key, [pid, uid, gid], rest) = take_ids(bytes)?;
    let (name, rest) = take_name(rest)?;
    Some((Peer { name, key: Key::from_bytes(key), pid, uid, gid }, rest))
}

/// Appends a client's key, and its process, user and group.
pub(super) fn push_ids(bytes: &mut Vec<u8>, Peer { key, pid, uid, gid, .. }: &Peer) {
    bytes.extend_from_slice(&key.to_bytes());
    for number in [pid, uid, gid] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
}

/// Splits off a client's key, and its process, user and group.
pub(super) fn take_ids(bytes: &[u8]) -> Option<([u8; KEY], [u32; 3], &[u8])> {
    let (key, rest) = take(bytes)?;
    let (pid, rest) = take(rest)?;
    let (uid, rest) = take(rest)?;
    let (gid, rest) = take(rest)?;
    Some((key, [pid, uid, gid].map(u32::from_le_bytes), rest))
}

pub(super) fn push_name(bytes: &mut Vec<u8>, name: &Name) {
    bytes.push(name.as_bytes().len() as u8);
    bytes.extend_from_slice(name.as_bytes());
}

/// Splits a name off, which its length comes before.
pub(super) fn take_name(bytes: &[u8]) -> Option<(Name, &[u8])> {
    let ([len], rest) = take(bytes)?;
    let (name, rest) = rest.split_at_checked(len.into())?;
    Some((Name::from_bytes(name).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn secret(byte: u8) -> Secret {
        Secret::new([byte; SECRET])
    }

    #[test]
    fn each_bit_of_a_secret_counts_and_none_is_shown() {
        assert_eq!(secret(7), secret(7));
        for bit in 0..8 * SECRET {
            let mut other = [7; SECRET];
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(secret(7), Secret::new(other), "bit {bit}");
        }
        assert_eq!(format!("{:?}", secret(77)), "Secret");
    }

    fn any_name() -> impl Strategy<Value = Name> {
        // 26 such letters may be a key.
        "[a-z]{1,64}|[à-é]{1,32}".prop_map(|text| Name::new(&text).unwrap_or(Name::new("x").unwrap()))
    }

    fn any_introduction() -> impl Strategy<Value = Introduction> {
        let numbers = (any::<u64>(), any::<u16>(), any::<[u32; 2]>(), any::<u128>(), any::<[u32; 3]>());
        (any_name(), numbers).prop_map(|(name, (id, index, sizes, key, [pid, uid, gid]))| {
            let [ring_size, max_block] = sizes.map(|size| size as usize);
            let peer = Peer { name, key: Key::from_u128(key), pid, uid, gid };
            Introduction { id, index, ring_size, max_block, peer }
        })
    }

    fn any_report() -> impl Strategy<Value = Vec<Reported>> {
        let role = any::<bool>().prop_map(|calls| if calls { Role::Caller } else { Role::Callee });
        vec((role, any_name()), 0..5)
    }

    fn any_links() -> impl Strategy<Value = Vec<LinkInfo>> {
        let link = (any::<u32>(), any_name(), any_name(), any::<u32>());
        vec(link, 0..5).prop_map(|mut links| {
            links.sort_by_key(|link| link.0);
            links.dedup_by_key(|link| link.0);
            let info = |(id, caller, callee, age): (u32, Name, Name, u32)| LinkInfo {
                id: id.into(),
                caller,
                callee,
                age: Duration::from_millis(age.into()),
            };
            links.into_iter().map(info).collect()
        })
    }

    /// Bytes that are changed in one place, or cut.
    fn changed(mut bytes: Vec<u8>, at: &prop::sample::Index, byte: Option<u8>) -> Vec<u8> {
        let at = at.index(bytes.len());
        match byte {
            Some(byte) => bytes[at] = byte,
            None => bytes.truncate(at),
        }
        bytes
    }

    proptest! {
        #[test]
        fn any_proof_decodes_to_what_was_encoded(key: u128, random: [u8; SECRET], rest in vec(any::<u8>(), 0..9)) {
            let proof = Proof { key: Key::from_u128(key), secret: Secret::new(random) };
            let bytes = [&proof.encode()[..], &rest].concat();
            prop_assert_eq!(Proof::take(&bytes), Some((proof, &rest[..])));
            prop_assert_eq!(Proof::take(&bytes[..Proof::LEN - 1]), None);
        }

        /// What decodes is exactly what `encode` would make; a cut one does not decode.
        #[test]
        fn any_introduction_decodes_to_what_was_encoded(
            introduction in any_introduction(),
            at: prop::sample::Index,
            byte: Option<u8>,
        ) {
            let bytes = introduction.encode();
            prop_assert_eq!(Introduction::decode(&bytes), Some(introduction));
            prop_assert_eq!(Introduction::decode(&[&bytes[..], &[0]].concat()), None);
            let bytes = changed(bytes, &at, byte);
            let again = Introduction::decode(&bytes).map(|found| found.encode());
            prop_assert!(byte.is_some() || again.is_none());
            prop_assert!(again.is_none_or(|again| again == bytes));
        }

        #[test]
        fn any_report_decodes_to_what_was_encoded(
            links in any_report(),
            at: prop::sample::Index,
            byte: Option<u8>,
            noise in vec(any::<u8>(), 0..60),
        ) {
            let bytes = encode_report(&links);
            prop_assert_eq!(decode_report(&bytes), Some(links));
            for bytes in [changed(bytes, &at, byte), noise] {
                if let Some(links) = decode_report(&bytes) {
                    prop_assert_eq!(encode_report(&links), bytes);
                }
            }
        }

        #[test]
        fn any_indices_decode_to_what_was_encoded(
            indices in vec(proptest::option::of(0..u16::MAX), 0..40),
            noise in vec(any::<u8>(), 0..40),
        ) {
            let bytes = encode_indices(&indices);
            prop_assert_eq!(decode_indices(&bytes, indices.len() + 1), None);
            prop_assert_eq!(decode_indices(&bytes[..bytes.len() - 1], indices.len()), None);
            prop_assert_eq!(decode_indices(&bytes, indices.len()), Some(indices));
            if let Some(indices) = decode_indices(&noise, noise.len() / 2 - usize::from(noise.len() > 1)) {
                prop_assert_eq!(encode_indices(&indices), noise);
            }
        }

        #[test]
        fn any_page_of_links_decodes_to_what_was_encoded(
            links in any_links(),
            next in proptest::option::of(0..1_u64 << 33),
            at: prop::sample::Index,
            byte: u8,
        ) {
            let page = encode_links(&links, next);
            prop_assert!(links.len() <= links_per_page(LINKS_HEADER + links.len() * MOST_LINK));
            prop_assert!(page.len() <= LINKS_HEADER + links.len() * MOST_LINK);
            let least = links.last().map_or(1, |link| link.id + 1);
            let goes_on = next.is_none_or(|next| next >= least);
            prop_assert_eq!(decode_links(&page, 0), goes_on.then_some((links, next)));
            let page = changed(page, &at, Some(byte));
            if let Some((links, next)) = decode_links(&page, 0) {
                prop_assert_eq!(encode_links(&links, next), page);
            }
        }
    }

    #[test]
    fn the_longest_report_fits_into_a_datagram() {
        let longest = Name::new(&"x".repeat(Name::MAX_LEN)).unwrap();
        let report = encode_report(&[(Role::Callee, longest); MOST_REPORTED]);
        assert!(16 + Proof::LEN + report.len() <= super::super::MOST_BYTES);
        assert_eq!(decode_report(&report).map(|links| links.len()), Some(MOST_REPORTED));
        assert_eq!(decode_report(&encode_report(&[(Role::Callee, longest); MOST_REPORTED + 1])), None);
    }

    /// As for pages of clients.
    #[test]
    fn no_server_can_send_an_endless_list_of_links() {
        let name = Name::new("x").unwrap();
        let page = |ids: &[u64], next| {
            let link = |id: &u64| LinkInfo { id: *id, caller: name, callee: name, age: Duration::ZERO };
            let links: Vec<_> = ids.iter().map(link).collect();
            decode_links(&encode_links(&links, next), 4).is_some()
        };
        assert!(page(&[4, 5, 9], Some(10)) && page(&[], Some(5)) && page(&[u64::MAX - 1], None));
        assert!(!page(&[], Some(4)) && !page(&[7], Some(7)) && !page(&[3], None) && !page(&[5, 5], None));
        assert!(!page(&[u64::MAX], None));
    }
}
