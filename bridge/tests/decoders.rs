//! What another node may send: any bytes are read or refused, and what is read is written in one way only.
//!
//! So two different texts never mean the same client, and no field can hide behind another. `check` is also
//! the body of the fuzz target `bridge`; here it sees valid messages that are changed a little, from a fixed
//! seed.

#[allow(dead_code, unused_imports, reason = "the program has more use for it")]
#[path = "../src/wire.rs"]
mod wire;

use wire::{Answer, Ask, NodeName, Said, Verb};

const VERBS: [Verb; 5] = [Verb::Claim, Verb::Send, Verb::Open, Verb::Call, Verb::Close];

/// Reads `data` as what its first byte says.
pub fn check(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    let own: NodeName = "a".parse().expect("a node's name");
    match kind % 8 {
        at @ 0..=4 => {
            let verb = VERBS[usize::from(at)];
            if let Some(ask) = Ask::read(verb, rest) {
                assert_eq!(ask.verb(), verb);
                assert_eq!(ask.bytes(), rest, "{ask:?}");
            }
        }
        5 => {
            if let Some(answer) = Answer::read(rest.to_vec()) {
                assert!(!answer.text().chars().any(char::is_control));
                assert_eq!(answer.bytes(), rest);
            }
        }
        6 => {
            if let Some((sequence, payload)) = wire::read_sample(rest) {
                assert_eq!(wire::sample_bytes(sequence, payload), rest);
            }
        }
        _ => {
            let Ok(key) = str::from_utf8(rest) else { return };
            if let Some(said) = Said::read(key) {
                assert_eq!(said.to_string(), key);
            }
            if let Some((from, verb)) = wire::read_query_key(key, &own) {
                assert_eq!(wire::query_key(&own, &from, verb), key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringpost::{Key, Topic};

    use super::wire::{Outcome, What, name, query_key};
    use super::*;

    fn valid() -> Vec<Vec<u8>> {
        let (from, to) = (name("alice ü%@").expect("a name"), Key::from_bytes([9; 16]));
        let (node, patience): (NodeName, _) =
            ("b-1.x".parse().expect("a node's name"), Duration::from_millis(1500));
        let mut all = Vec::new();
        let asks = [
            Ask::Claim { instance: 1 },
            Ask::Send { instance: 1, sequence: 2, from, to, patience, payload: b"hello" },
            Ask::Open { instance: 1, link: 2, from, to, patience },
            Ask::Call { instance: 1, link: 2, sequence: 3, post: true, payload: b"ping" },
            Ask::Close { instance: 1, link: 2 },
        ];
        for (at, ask) in asks.iter().enumerate() {
            all.push([&[at as u8][..], &ask.bytes()].concat());
            all.push(
                [&[7][..], query_key(&"a".parse().expect("a node's name"), &node, ask.verb()).as_bytes()]
                    .concat(),
            );
        }
        all.push([&[5][..], &Answer::new(Outcome::Failed, "why").bytes()].concat());
        all.push([&[6][..], &wire::sample_bytes(7, b"sample")].concat());
        let topic = Topic::try_from("prices/AAPL/last").expect("a topic");
        for what in [What::Claim, What::Client(from, to), What::Topic(from, topic)] {
            let said = Said { node: node.clone(), instance: 77, what };
            all.push([&[7][..], said.to_string().as_bytes()].concat());
        }
        all
    }

    #[test]
    fn what_is_read_is_written_in_one_way() {
        let valid = valid();
        // What a change writes: bytes that mean something in a key, a number or a length.
        let bytes = b"\x00\x01\x08\x10\x40\x7f\x80\xff%/+-_*@$09aAfFgz. \n";
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        valid.iter().for_each(|data| check(data));
        for _ in 0..200_000 {
            let mut data = valid[next(valid.len())].clone();
            for _ in 0..=next(3) {
                let (at, byte) = (next(data.len() + 1), bytes[next(bytes.len())]);
                match next(4) {
                    0 => data.truncate(at),
                    1 => data.insert(at, byte),
                    _ if at == data.len() => {}
                    2 => drop(data.remove(at)),
                    _ => data[at] = byte,
                }
            }
            check(&data);
        }
    }
}
