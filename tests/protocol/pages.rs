//! Pages of clients, read as `docs/PROTOCOL.md` says.

use super::client::{u16_at, u32_at, u64_at};

/// A client in a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: [u8; 16],
    pub state: u8,
    /// Process, user and group.
    pub owner: [u32; 3],
    pub registered: u64,
    /// Calls, sent, delivered, received, bytes in, bytes out.
    pub counters: [u64; 6],
    pub serves: bool,
    pub links: u32,
    pub name: String,
}

/// The clients of a page, and the slot to go on from.
pub fn page(mut bytes: &[u8], from: u32) -> (Vec<Entry>, Option<u32>) {
    let next = u32_at(bytes, 0);
    bytes = &bytes[4..];
    let (mut entries, mut least) = (Vec::new(), from);
    while !bytes.is_empty() {
        let end = 91 + usize::from(bytes[90]);
        let slot = u32::from(u16_at(bytes, 14));
        assert!(slot >= least, "slots do not rise");
        least = slot + 1;
        entries.push(Entry {
            key: bytes[..16].try_into().unwrap(),
            state: bytes[16],
            owner: [17, 21, 25].map(|at| u32_at(bytes, at)),
            registered: u64_at(bytes, 29),
            counters: [37, 45, 53, 61, 69, 77].map(|at| u64_at(bytes, at)),
            serves: bytes[85] == 1,
            links: u32_at(bytes, 86),
            name: String::from_utf8(bytes[91..end].to_vec()).unwrap(),
        });
        bytes = &bytes[end..];
    }
    let next = (next != 0xffff_ffff).then_some(next);
    assert!(next.is_none_or(|next| next >= least && next > from), "the next page goes back");
    (entries, next)
}

/// All pages, each from its answer.
pub fn pages(mut answer: impl FnMut(&[u8]) -> Vec<u8>) -> Vec<Entry> {
    let (mut all, mut from) = (Vec::new(), 0_u32);
    loop {
        let (entries, next) = page(&answer(&from.to_le_bytes()), from);
        all.extend(entries);
        match next {
            Some(next) => from = next,
            None => return all,
        }
    }
}
