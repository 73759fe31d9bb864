//! Tests of reports: a client tells a new server which links it has.

use super::common::raw::{VERSION, datagram, dial};
use super::common::raw_links::{REPORT, all_links};
use super::{ALICES, Bus, as_user};
use rustix::net::{SendFlags, Shutdown, send, shutdown};

const NOT_NOTED: u16 = u16::MAX;

#[test]
fn a_link_that_both_sides_report_is_one_link() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let calls = alice.report(bus.path(), &[(true, "bob"), (true, "bob"), (false, "bob"), (true, "gone")]);
    assert_eq!(calls, [0, 1, 2, 3]);
    assert!(all_links(bus.path()).is_empty(), "one side alone proves nothing");
    assert_eq!(bus.listed("alice").links, 4);
    let serves =
        bob.report(bus.path(), &[(false, "alice"), (true, "alice"), (false, "alice"), (false, "alice")]);
    let links = all_links(bus.path());
    let names: Vec<_> = links.iter().map(|(_, caller, callee)| (&caller[..], &callee[..])).collect();
    assert_eq!(names, [("alice", "bob"), ("alice", "bob"), ("bob", "alice")]);
    assert_eq!((bus.listed("alice").links, bus.listed("bob").links), (4, 4));
    alice.flip(calls[0]);
    bob.flip(serves[0]);
    bob.flip(serves[1]);
    assert_eq!(all_links(bus.path()).len(), 1);
    drop(alice);
    super::common::eventually("the caller is gone", || all_links(bus.path()).is_empty());
    assert_eq!(bus.listed("bob").links, 2);
}

/// A client that reports links which it does not have uses up its own places and quota only.
#[test]
fn what_a_client_can_report_is_bounded() {
    let bus = Bus::start(&[("LINKS", "100")]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let many = [(false, "alice"); 240];
    let mut noted = 0;
    for _ in 0..20 {
        noted += bob.report(bus.path(), &many).iter().filter(|index| **index != NOT_NOTED).count();
    }
    assert_eq!((noted, bus.listed("bob").links, bus.listed("alice").links), (4096, 4096, 0));
    assert!(all_links(bus.path()).is_empty());
    let _bell = alice.listen(bus.path());
    as_user(ALICES, || {
        let liar = bus.register("liar");
        let found = liar.report(bus.path(), &[(false, "alice"); 110]);
        assert_eq!(found.iter().filter(|index| **index != NOT_NOTED).count(), 100);
        // They are the liar's own quota, and neither alice's nor her user's.
        assert!(liar.connect(bus.path(), "alice").is_err());
    });
    let carol = bus.register("carol");
    carol.connect(bus.path(), "alice").unwrap();
    assert!(alice.take(bus.path()).is_some());
    drop(bob);
    super::common::eventually("bob is gone", || {
        ringpost::Observer::connect(bus.path()).unwrap().list().unwrap().len() == 2
    });
}

/// Nobody knows the places then, so nobody could give them back.
#[test]
fn a_report_that_cannot_be_answered_was_never_made() {
    let bus = Bus::start(&[]);
    let alice = bus.register("alice");
    let report = datagram(VERSION, REPORT, &alice.report_body(&[(true, "bob"), (false, "bob")]));
    let deaf = dial(bus.path());
    shutdown(&deaf, Shutdown::Read).unwrap();
    // The server closes a connection on which it cannot answer.
    super::common::eventually("it was heard", || send(&deaf, &report, SendFlags::NOSIGNAL).is_err());
    assert_eq!(bus.listed("alice").links, 0);
    drop(deaf);
    assert_eq!(alice.report(bus.path(), &[(true, "bob")]).len(), 1);
    assert_eq!(bus.listed("alice").links, 1);
}
