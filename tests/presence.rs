//! Presence: the list, each change, what is lost and told again, and servers that come and go.

mod common;

use common::role;
use common::server::{self, start_server};
use common::{Bus, LIMIT, Place, begin, eventually};
use ringpost::{
    Change, Client, CloseReason, Key, Name, Observer, Presence, Reconnect, SampleError, SubscribeError,
    VanishReason,
};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "server" => server::serve(server::as_set(), &stage),
        "bob" => {
            let _bob = Client::register(role::setting::<String>("PATH").unwrap(), "bob").unwrap();
            role::say("registered");
            stage.await_order("never");
        }
        other => panic!("no role {other:?}"),
    }
}

fn next(who: &mut Presence) -> Change {
    who.recv_timeout(LIMIT).unwrap()
}

fn nothing_more(who: &mut Presence) {
    assert_eq!(who.try_recv().unwrap(), None);
    assert_eq!(who.recv_timeout(Duration::from_millis(5)), Err(SampleError::TimedOut));
}

/// Who is there, as the changes say. Nobody comes or goes twice.
#[derive(Default)]
struct There(HashMap<Key, (Name, bool)>);

impl There {
    fn heed(&mut self, change: Change) {
        let peer = *change.peer();
        match change {
            Change::Present(_) | Change::Appeared(_) => {
                let former = self.0.insert(peer.key, (peer.name, true));
                assert_eq!(former, None, "{change:?} came twice");
            }
            Change::Vanished { .. } => {
                let former = self.0.insert(peer.key, (peer.name, false));
                assert_eq!(former, Some((peer.name, true)), "{change:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    fn keys(&self) -> Vec<Key> {
        let there = self.0.iter().filter(|(_, (_, is))| *is);
        let mut keys: Vec<Key> = there.map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }
}

#[test]
fn the_list_comes_first_and_then_each_change() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let bob = bus.client("bob");
    let mut who = alice.presence().unwrap();
    let mut there = [next(&mut who), next(&mut who)].map(|change| match change {
        Change::Present(peer) => (peer.name.to_string(), peer.key),
        other => panic!("{other:?}"),
    });
    there.sort();
    assert_eq!(there, [("alice".to_owned(), alice.key()), ("bob".to_owned(), bob.key())]);
    nothing_more(&mut who);
    let carol = bus.client("carol");
    match next(&mut who) {
        Change::Appeared(peer) => {
            assert_eq!((peer.name.as_str(), peer.key, peer.pid), ("carol", carol.key(), std::process::id()));
        }
        other => panic!("{other:?}"),
    }
    let (bobs, carols) = (bob.key(), carol.key());
    bob.unregister().unwrap();
    drop(carol);
    for key in [bobs, carols] {
        match next(&mut who) {
            Change::Vanished { peer, reason: VanishReason::Unregistered } => assert_eq!(peer.key, key),
            other => panic!("{other:?}"),
        }
    }
    nothing_more(&mut who);
}

#[test]
fn a_process_that_is_killed_has_died() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let mut who = alice.presence().unwrap();
    assert!(matches!(next(&mut who), Change::Present(_)));
    let mut bob = role::Role::start("bob", &[("PATH", bus.path().to_str().unwrap())]);
    bob.hear("registered");
    assert!(matches!(next(&mut who), Change::Appeared(peer) if peer.name == "bob" && peer.pid == bob.pid()));
    bob.kill();
    match next(&mut who) {
        Change::Vanished { peer, reason: VanishReason::Died } => assert_eq!(peer.name, "bob"),
        other => panic!("{other:?}"),
    }
}

/// Clients come and go on several threads, while presences begin and are read at any time.
#[test]
fn what_is_told_agrees_with_the_registry() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let path = bus.path().to_owned();
    let come_and_go = |worker: usize| {
        let path = path.clone();
        begin(move || {
            for round in 0..150 {
                let first = Client::register(&path, format!("{worker} {round} first")).unwrap();
                let second = Client::register(&path, format!("{worker} {round} second")).unwrap();
                drop(first);
                if round % 2 == 0 {
                    second.unregister().unwrap();
                }
            }
        })
    };
    let workers: Vec<_> = (0..3).map(come_and_go).collect();
    while !workers.iter().all(|worker| worker.is_over()) {
        let mut who = alice.presence().unwrap();
        let mut there = There::default();
        for _ in 0..200 {
            match who.recv_timeout(Duration::from_millis(20)) {
                Ok(change) => there.heed(change),
                Err(error) => assert_eq!(error, SampleError::TimedOut),
            }
        }
    }
    let mut who = alice.presence().unwrap();
    workers.into_iter().for_each(|worker| worker.end("clients come and go"));
    let mut there = There::default();
    let observer = Observer::connect(bus.path()).unwrap();
    eventually("the presence says what the list says", || {
        while let Some(change) = who.try_recv().unwrap() {
            there.heed(change);
        }
        let mut listed: Vec<Key> = observer.list().unwrap().into_iter().map(|client| client.key).collect();
        listed.sort_unstable();
        there.keys() == listed
    });
}

/// Its ring has room for some two thousand changes.
#[test]
fn whoever_does_not_look_for_too_long_gets_the_difference() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let stays = bus.client("stays");
    let goes = bus.client("goes");
    let mut who = alice.presence().unwrap();
    let mut there = There::default();
    (0..3).for_each(|_| there.heed(next(&mut who)));
    let gone = goes.key();
    goes.unregister().unwrap();
    for round in 0..3000 {
        bus.client(&format!("for a moment {round}")).unregister().unwrap();
    }
    let comes = bus.client("comes");
    let mut how_it_went = None;
    let until = Instant::now() + LIMIT;
    while there.keys().len() != 3 || how_it_went.is_none() {
        assert!(Instant::now() < until);
        let change = next(&mut who);
        if let Change::Vanished { peer, reason } = change
            && peer.key == gone
        {
            how_it_went = Some(reason);
        }
        there.heed(change);
    }
    assert_eq!(how_it_went, Some(VanishReason::Unseen));
    let mut expected = [alice.key(), stays.key(), comes.key()];
    expected.sort_unstable();
    eventually("only those are left who are there", || {
        while let Some(change) = who.try_recv().unwrap() {
            there.heed(change);
        }
        there.keys() == expected
    });
    // It goes on as before.
    let last = bus.client("last");
    assert!(matches!(next(&mut who), Change::Appeared(peer) if peer.key == last.key()));
}

#[test]
fn it_ends_with_its_client() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let mut who = alice.presence().unwrap();
    let waits = begin(move || {
        loop {
            if let Err(error) = who.recv() {
                return (error, who.try_recv().unwrap_err());
            }
        }
    });
    alice.unregister().unwrap();
    let ended = SampleError::Disconnected(CloseReason::Unregistered);
    assert_eq!(waits.end("a presence ends"), (ended, ended));
}

#[test]
fn it_ends_with_the_server_of_a_client_that_does_not_register_again() {
    let place = Place::new();
    let mut server = start_server(&place, &[]);
    let mut alice = Client::register(&place.path, "alice").unwrap();
    let mut who = alice.presence().unwrap();
    assert!(matches!(next(&mut who), Change::Present(_)));
    server.kill();
    assert_eq!(who.recv_timeout(LIMIT), Err(SampleError::Disconnected(CloseReason::Died)));
    assert!(matches!(alice.presence(), Err(SubscribeError::Disconnected(CloseReason::Died))));
}

#[test]
fn another_server_has_other_clients() {
    let place = Place::new();
    let mut server = start_server(&place, &[]);
    let again = || Client::builder(&place.path).reconnect(Reconnect::default());
    let mut alice = again().register("alice").unwrap();
    let bob = Client::register(&place.path, "bob").unwrap();
    let former = [alice.key(), bob.key()];
    let mut who = alice.presence().unwrap();
    let mut there = There::default();
    (0..2).for_each(|_| there.heed(next(&mut who)));
    server.kill();
    server = start_server(&place, &[]);
    // The presence itself has alice registered again.
    let mut changes: Vec<Change> = (0..3).map(|_| next(&mut who)).collect();
    changes.iter().for_each(|change| there.heed(*change));
    let newcomer = changes.pop().unwrap();
    for change in changes {
        match change {
            Change::Vanished { peer, reason: VanishReason::ServerEnded } => {
                assert!(former.contains(&peer.key))
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(newcomer, Change::Appeared(peer) if peer.name == "alice"));
    let carol = Client::register(&place.path, "carol").unwrap();
    assert!(matches!(next(&mut who), Change::Appeared(peer) if peer.key == carol.key()));
    server.kill();
}

#[test]
fn a_client_has_four_at_a_time_and_waits_for_names_without_one() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let four: Vec<Presence> = (0..4).map(|_| alice.presence().unwrap()).collect();
    assert!(matches!(alice.presence(), Err(SubscribeError::Quota(_))));
    let path = bus.path().to_owned();
    let later = begin(move || {
        std::thread::sleep(Duration::from_millis(100));
        Client::register(path, "bob").unwrap()
    });
    let key = alice.wait_for("bob", LIMIT).unwrap();
    assert_eq!(later.end("bob registers").key(), key);
    drop(four);
    let _again = alice.presence().unwrap();
}

/// A name that comes long after the questions have ended.
#[test]
fn a_name_is_waited_for_by_presence() {
    let place = Place::new();
    let mut server = start_server(&place, &[]);
    let mut alice = Client::builder(&place.path).reconnect(Reconnect::default()).register("alice").unwrap();
    let waits = begin(move || alice.wait_for("bob", LIMIT));
    std::thread::sleep(Duration::from_millis(100));
    // It goes on under another server.
    server.kill();
    server = start_server(&place, &[]);
    let bob = Client::register(&place.path, "bob").unwrap();
    assert_eq!(waits.end("a wait for bob"), Ok(bob.key()));
    server.kill();
}

/// A name is found when its client can be reached, and not while the server still makes what that needs.
#[test]
fn whoever_is_looked_up_can_be_sent_to() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    for round in 0..300 {
        let name = format!("bob {round}");
        std::thread::scope(|scope| {
            let bob = scope.spawn(|| bus.client(&name));
            let key = loop {
                if let Some(key) = alice.look_up(&*name).unwrap() {
                    break key;
                }
            };
            assert_eq!(alice.send(key, b"hello"), Ok(()), "round {round}");
            assert_eq!(bob.join().unwrap().recv_timeout(LIMIT).unwrap().payload(), b"hello");
        });
    }
}
