//! Tests of sizes: empty, the maximum, one more, larger than a ring; and full inboxes.

use crate::assert_mentions;
use crate::common::{Bus, finds_no_room};
use ringpost::{CallError, SendError};
use std::time::Duration;

#[test]
fn nothing_and_the_most_go_through_and_one_more_does_not() {
    for (ring_size, max_block) in [(4096, None), (4096, Some(256)), (1 << 16, None)] {
        let bus = Bus::with(|b| {
            let b = b.ring_size(ring_size);
            if let Some(bytes) = max_block { b.max_block(bytes) } else { b }
        });
        let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
        let (call, message) = (alice.limits().max_call, alice.limits().max_message);
        for size in [0, 1, call] {
            assert_eq!(alice.call(&vec![7; size]).unwrap(), vec![7; size]);
        }
        for size in [0, 1, message] {
            alice.try_send(bob.key(), &vec![7; size]).unwrap();
            assert_eq!(bob.recv().unwrap().payload(), vec![7; size]);
        }
        // One byte more than the maximum, larger than the ring, and huge.
        for len in [call + 1, ring_size, ring_size + 1, 1 << 24] {
            let refused = alice.call(&vec![7; len]).unwrap_err();
            assert_eq!(refused, CallError::TooLarge { len, max: call });
            assert_mentions(
                &refused.to_string(),
                &[&len.to_string(), &call.to_string(), "send less", "--ring-size"],
            );
            assert_eq!(alice.caller().submit(&vec![7; len]), Err(CallError::TooLarge { len, max: call }));
        }
        for len in [message + 1, ring_size, ring_size + 1, 1 << 24] {
            let too_large = SendError::TooLarge { len, max: message };
            let refused = alice.try_send(bob.key(), &vec![7; len]).unwrap_err();
            assert_eq!(refused, too_large);
            assert_mentions(&refused.to_string(), &[&len.to_string(), &message.to_string(), "send less"]);
            let waited = alice.send_timeout(bob.key(), &vec![7; len], Duration::from_secs(600));
            assert_eq!(waited, Err(too_large));
        }
        // Nothing was sent, and both clients continue.
        assert_eq!(alice.call(b"x").unwrap(), b"x");
        assert_eq!(bob.caller().statistics().unwrap().received, 3);
    }
}

#[test]
fn a_full_inbox_is_told_at_once_or_at_the_deadline() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let (mut alice, bob) = (bus.client("alice"), bus.client("bob"));
    let error = (0..).find_map(|_| alice.try_send(bob.key(), b"x").err()).unwrap();
    assert_eq!(error, SendError::InboxFull);
    assert_mentions(&error.to_string(), &["full", "try again", "wait for room"]);
    for patience in [Duration::ZERO, Duration::from_millis(20)] {
        finds_no_room(&mut alice, bob.key(), b"x", patience);
    }
    assert_mentions(&SendError::TimedOut.to_string(), &["no room", "deadline"]);
    alice.caller().ping().unwrap();
}
