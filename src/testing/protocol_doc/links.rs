//! Compares what `docs/PROTOCOL.md` says about links with the datagrams that the code makes.

use super::*;
use crate::connect::{Introduction, LinkInfo, Role, decode_links, encode_indices, encode_links};
use crate::wire::Peer;

fn bob() -> Name {
    Name::new("bob").unwrap()
}

#[test]
fn connecting() {
    let ask = Ask::Connect { proof: proof(), ring_size: 0, to: bob().into() }.encode();
    assert_eq!(example("connect"), ask);
    let values: [(&str, &[u8]); 4] =
        [("proof", &proof().encode()), ("ring size", &[0; 8]), ("kind", &[0]), ("callee", b"bob")];
    compare("CONNECT", &ask[16..], &[], &values);
    let by_key = Ask::Connect { proof: proof(), ring_size: 0, to: key().into() }.encode();
    assert_eq!((by_key[16 + 40], &by_key[16 + 41..]), (1, &key().to_bytes()[..]));
    let proof_len = in_brackets(&table("Requests")[4][2]);
    assert_eq!(proof_len, Ask::Listen(proof()).encode().len() - 16);
    assert_eq!(proof_len, Ask::Take(proof()).encode().len() - 16);
}

#[test]
fn introductions() {
    let peer = Peer { name: name(), key: key(), pid: 1000, uid: 1001, gid: 1002 };
    let introduction = Introduction { id: 7, index: 5, ring_size: 65_536, max_block: 32_760, peer };
    let bytes = introduction.encode();
    assert_eq!(example("introduction"), Reply::done(&bytes));
    let [pid, uid, gid] = [1000_u32, 1001, 1002].map(u32::to_le_bytes);
    let values: [(&str, &[u8]); 10] = [
        ("number", &7_u64.to_le_bytes()),
        ("index", &5_u16.to_le_bytes()),
        ("ring size", &65_536_u64.to_le_bytes()),
        ("largest block", &32_760_u64.to_le_bytes()),
        ("key", &key().to_bytes()),
        ("pid", &pid),
        ("uid", &uid),
        ("gid", &gid),
        ("length of the name", &[5]),
        ("name", b"alice"),
    ];
    compare("Introduction", &bytes, &[], &values);
}

#[test]
fn reports() {
    let ask = Ask::Report { proof: proof(), links: vec![(Role::Caller, bob())] }.encode();
    let answer = Reply::done(&encode_indices(&[Some(0)]));
    assert_eq!(example("report"), [&ask[..], &answer].concat());
    let link = &ask[16 + Proof::LEN + 2..];
    let values: [(&str, &[u8]); 3] = [("role", &[0]), ("length of the name", &[3]), ("name", b"bob")];
    compare("REPORT", link, &[], &values);
    let serving = Ask::Report { proof: proof(), links: vec![(Role::Callee, bob())] }.encode();
    assert_eq!(serving[16 + Proof::LEN + 2], 1);
    assert_eq!(encode_indices(&[None])[2..], [0xff; 2]);
}

#[test]
fn pages_of_links() {
    let link = LinkInfo { id: 7, caller: name(), callee: bob(), age: Duration::from_millis(1500) };
    let page = encode_links(std::slice::from_ref(&link), None);
    assert_eq!(example("links"), page);
    assert_eq!(decode_links(&page, 0), Some((vec![link], None)));
    let values: [(&str, &[u8]); 6] = [
        ("number", &7_u64.to_le_bytes()),
        ("length of the caller's name", &[5]),
        ("caller's name", b"alice"),
        ("length of the callee's name", &[3]),
        ("callee's name", b"bob"),
        ("age", &1500_u64.to_le_bytes()),
    ];
    compare("A page of links", &page[8..], &[("C", 5), ("D", 3)], &values);
}
