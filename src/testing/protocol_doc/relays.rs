//! Messages with tickets, and what a relay says of them.

use super::{TEXT, block, compare, example, key, name};
use crate::client::{SendError, Ticket, confirmation};
use crate::wire::{CONFIRM_TIME, LONGEST_REFUSAL, Operation, RELAYED};

#[test]
fn relays() {
    let (key, name) = (key().to_bytes(), name());
    let [ticket, patience] = [5_u64, 1_000_000_000].map(u64::to_le_bytes);
    let message = block(RELAYED, 5, 2, &[&key, &ticket, &patience, name.as_bytes(), b"hi"]);
    let confirmed = confirmation(Ticket::new(ticket, patience).unwrap(), &Err(SendError::InboxFull));
    let confirm = block(Operation::Confirm as u16, 0, 10, &[&confirmed]);
    assert_eq!(example("relay"), [&message[..], &confirm].concat());
    let values: [(&str, &[u8]); 5] = [
        ("sender's key", &key),
        ("ticket, not 0", &ticket),
        ("patience", &patience),
        ("sender's name", name.as_bytes()),
        ("payload", b"hi"),
    ];
    compare("Relays", &message[8..], &[("flags", 5)], &values);
    let limit = format!("else {} s after the commit", CONFIRM_TIME.as_secs());
    assert!(TEXT.contains(&limit) && TEXT.contains("at most 1,024 bytes"));
    assert_eq!(LONGEST_REFUSAL, 1024);
}
