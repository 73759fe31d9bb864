//! Each act: what a rule closes, whom it names, and that all else stays open.

use super::common::{Bus, LIMIT, becomes};
use super::{closed, only, says, with_rules};
use ringpost::{
    Act, Client, ConnectError, Link, Policy, PublishError, RegisterError, Rule, SampleError, SendError,
    ServeError, SubscribeError, Subscriber,
};
use std::time::Duration;

fn ruled(rules: impl Into<Vec<Rule>>) -> Bus {
    Bus::with(|builder| builder.access(with_rules(rules)))
}

#[test]
fn a_closed_name_is_registered_by_nobody_but_those_who_are_named() {
    let rules =
        [closed(&[Act::Register], &["admin*", "root"]), only(&[Act::Register], &["admin 7"], &["*7"])];
    let bus = ruled(rules);
    for name in ["admin", "admin 8", "root"] {
        match Client::register(bus.path(), name) {
            Err(RegisterError::NotAllowed(why)) => says(&why, &["register as", name]),
            other => panic!("{other:?}"),
        }
    }
    let _open = ["admin 7", "adm", "a root"].map(|name| bus.client(name));
    // Nothing of those who were refused is there.
    assert_eq!(bus.server.clients().unwrap().len(), 3);
}

#[test]
fn serving_is_closed_by_the_client_s_own_name() {
    let bus = ruled([only(&[Act::Serve], &["*"], &["db*"])]);
    let [mut alice, mut db] = ["alice", "db 1"].map(|name| bus.client(name));
    match alice.listen() {
        Err(ServeError::NotAllowed(why)) => says(&why, &["serve calls as", "\"alice\""]),
        other => panic!("{other:?}"),
    }
    let listener = db.listen().unwrap();
    let _serving = listener.serve(|request, response| response.write(request.payload())).unwrap();
    assert_eq!(alice.connect("db 1").unwrap().call(b"hi").unwrap(), b"hi");
    // She may try again, as soon as she may serve.
    bus.server.access_control().replace(with_rules([])).unwrap();
    drop(alice.listen().unwrap());
}

#[test]
fn calling_is_closed_by_the_other_client_s_name() {
    let bus = ruled([only(&[Act::Call], &["db"], &["web*"])]);
    let [mut alice, mut web, mut db, mut open] =
        ["alice", "web 1", "db", "open"].map(|name| bus.client(name));
    let serve = |client: &mut Client| {
        client.listen().unwrap().serve(|request, response| response.write(request.payload())).unwrap()
    };
    let _serving = [serve(&mut db), serve(&mut open)];
    let refused = |found: Result<Link, ConnectError>| match found {
        Err(ConnectError::NotAllowed(why)) => says(&why, &["\"alice\"", "may not call \"db\""]),
        other => panic!("{other:?}"),
    };
    refused(alice.connect("db"));
    refused(alice.connect(db.key()));
    assert_eq!(alice.connect("open").unwrap().call(b"1").unwrap(), b"1");
    assert_eq!(web.connect("db").unwrap().call(b"2").unwrap(), b"2");
    assert_eq!(web.connect(db.key()).unwrap().call(b"3").unwrap(), b"3");
    // The server's own service decides for itself.
    assert_eq!(alice.call(b"4").unwrap(), b"4");
}

#[test]
fn a_message_that_a_rule_closes_is_not_delivered() {
    let bus = ruled([only(&[Act::Send], &["bob"], &["alice"])]);
    let [mut alice, mut bob, mut carol] = ["alice", "bob", "carol"].map(|name| bus.client(name));
    let refused = |found: Result<(), SendError>| match found {
        Err(error @ SendError::NotAllowed(_)) => {
            assert!(!error.may_have_executed() && !error.is_disconnected() && !error.is_timeout());
            says(&error.to_string(), &["\"carol\"", "may not send messages to \"bob\""]);
        }
        other => panic!("{other:?}"),
    };
    refused(carol.send("bob", b"1"));
    refused(carol.send(bob.key(), b"2"));
    refused(carol.try_send(bob.key(), b"3"));
    refused(carol.send_timeout(bob.key(), b"4", LIMIT));
    carol.send("alice", b"open").unwrap();
    alice.send("bob", b"named").unwrap();
    assert_eq!(bob.recv_timeout(LIMIT).unwrap().payload(), b"named");
    assert!(bob.try_recv().unwrap().is_none());
    let sent = |client: &mut Client| client.caller().statistics().unwrap().sent;
    assert_eq!((sent(&mut alice), sent(&mut carol)), (1, 1));
}

#[test]
fn a_topic_that_a_rule_closes_is_not_published() {
    let rules =
        [only(&[Act::Publish], &["prices/**", "@own"], &["ticker"]), closed(&[Act::Publish], &["old/*"])];
    let bus = ruled(rules);
    let [mut alice, mut ticker] = ["alice", "ticker"].map(|name| bus.client(name));
    for topic in ["prices", "prices/AAPL", "prices/AAPL/bid", "@own", "old/news"] {
        match alice.publish(topic) {
            Err(PublishError::NotAllowed(why)) => says(&why, &["\"alice\"", "may not publish", topic]),
            other => panic!("{topic}: {other:?}"),
        }
    }
    let _named = ["prices/AAPL", "@own"].map(|topic| ticker.publish(topic).unwrap());
    assert!(matches!(ticker.publish("old/news"), Err(PublishError::NotAllowed(_))));
    let _open = ["news", "old", "prices/@x"].map(|topic| alice.publish(topic).unwrap());
}

/// The topics of the next samples, sorted.
fn topics(sub: &mut Subscriber, count: usize) -> Vec<String> {
    let mut found: Vec<_> = (0..count).map(|_| sub.recv_timeout(LIMIT).unwrap().topic().to_owned()).collect();
    found.sort_unstable();
    found
}

/// Whichever of the two comes first.
#[test]
fn a_subscription_takes_the_topics_that_are_open_to_it() {
    for publisher_first in [true, false] {
        let bus = ruled([only(&[Act::Subscribe], &["secret/**"], &["bob"])]);
        let [mut alice, mut bob, mut carol] = ["alice", "bob", "carol"].map(|name| bus.client(name));
        let publish =
            |alice: &mut Client| ["open", "secret/1", "secret/2"].map(|topic| alice.publish(topic).unwrap());
        let subscribe = |client: &mut Client| client.subscribe("**").unwrap();
        let early = publisher_first.then(|| publish(&mut alice));
        let mut subs = [subscribe(&mut bob), subscribe(&mut carol)];
        let mut publishers = early.unwrap_or_else(|| publish(&mut alice));
        for publisher in &mut publishers {
            publisher.send(b"x").unwrap();
        }
        let mut end = alice.publish("end").unwrap();
        end.send(b"x").unwrap();
        let [bobs, carols] = &mut subs;
        assert_eq!(topics(bobs, 4), ["end", "open", "secret/1", "secret/2"]);
        assert_eq!(topics(carols, 2), ["end", "open"]);
        // The publisher knows of those who read it, and of nobody else.
        let readers = || publishers.each_ref().map(|publisher| publisher.subscribers());
        becomes("bob reads all, and carol what is open", readers, &[2, 1, 1]);
        assert!(carols.try_recv().unwrap().is_none());
    }
}

#[test]
fn a_subscription_is_refused_if_all_its_topics_are_closed() {
    let rules = [
        only(&[Act::Subscribe], &["secret/**"], &["bob"]),
        only(&[Act::Subscribe], &["secret/of/carol", "carol/*"], &["carol"]),
    ];
    let bus = ruled(rules);
    let [mut bob, mut carol] = ["bob", "carol"].map(|name| bus.client(name));
    for pattern in ["secret", "secret/1", "secret/*", "secret/*/1", "secret/of/*/**", "secret/**"] {
        let found = carol.subscribe(pattern);
        // A part of it may be hers.
        if ["secret/**", "secret/of/*/**"].contains(&pattern) {
            drop(found.unwrap());
            continue;
        }
        match found {
            Err(SubscribeError::NotAllowed(why)) => {
                says(&why, &["\"carol\"", "may not subscribe to", pattern])
            }
            other => panic!("{pattern}: {other:?}"),
        }
    }
    drop(
        ["secret/of/carol", "carol/1", "*", "**", "open", "*/1"]
            .map(|pattern| carol.subscribe(pattern).unwrap()),
    );
    drop(["secret", "secret/*", "secret/**"].map(|pattern| bob.subscribe(pattern).unwrap()));
    assert!(matches!(bob.subscribe("carol/1"), Err(SubscribeError::NotAllowed(_))));
    // Who registers, anybody may follow.
    drop(bob.presence().unwrap());
}

/// A reliable publisher waits for those who read it, and not for one that may not.
#[test]
fn a_publisher_does_not_wait_for_a_subscription_that_is_closed_to_it() {
    let bus = ruled([closed(&[Act::Subscribe], &["secret"])]);
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let options = Subscriber::options().policy(Policy::Reliable);
    let mut sub = options.subscribe(bob.caller(), "**").unwrap();
    let options = ringpost::Publisher::options().reliable(LIMIT).ring_size(4096);
    let mut secret = options.publish(alice.caller(), "secret").unwrap();
    for _ in 0..1000 {
        secret.try_send(&[0; 100]).unwrap();
    }
    assert_eq!(secret.subscribers(), 0);
    assert!(matches!(sub.recv_timeout(Duration::ZERO), Err(SampleError::TimedOut)));
}
