//! Tests a shutdown while a service does not return.

use super::common::proc::{is_asleep, threads};
use super::common::{Place, eventually};
use super::{numbers, start_client, start_server};
use std::time::Duration;

/// The shutdown ends and reports the abandoned calls. All other requests are answered, and waiting messages
/// are received.
#[test]
fn a_service_that_never_returns_does_not_keep_the_server() {
    let place = Place::new();
    let mut server = start_server(&place, &[("RING", "4096"), ("GRACE", "200")]);
    let (mut alice, alice_key) = start_client(&place, "alice", &[]);
    let (mut bob, _) = start_client(&place, "bob", &[]);
    let mut stuck: Vec<_> = ["stuck one", "stuck two", "stuck dead"]
        .into_iter()
        .map(|name| {
            let (mut client, _) = start_client(&place, name, &[("WAIT", "park")]);
            client.tell("call hang");
            let thread = format!("rp-{name}");
            // The states are not read as one: a thread may be looked at before it is woken, and the one that
            // wakes it when it sleeps again. On the way of one call that cannot happen to two such looks.
            let sleep = || {
                let at_it = |(name, state): &(String, char)| *name == thread && *state == 'S';
                is_asleep(client.pid()) && threads(&server.pid().to_string()).iter().any(at_it)
            };
            eventually("the service is at it", || sleep() && sleep());
            client
        })
        .collect();
    // This worker is in the service, too, but its client has given up waiting.
    stuck.pop().unwrap().kill();
    bob.tell(&format!("send {alice_key} 1000 hello"));
    bob.hear("sent");
    bob.tell("call ping");
    assert_eq!(bob.hear("answer"), "ping");
    bob.tell("receive");
    server.tell("shutdown");
    let mut left = [server.hear("abandoned"), server.hear("abandoned"), server.hear("abandoned")];
    left.sort_unstable();
    assert_eq!(left, ["stuck dead", "stuck one", "stuck two"]);
    let sums = numbers(&server.hear("summary"));
    assert_eq!((sums["abandoned"], sums["registered"], sums["violations"]), (3, 5, 0));
    // The process ends with success, although some of its threads are still in the service.
    assert!(server.end().success());
    assert!(bob.hear("failed").contains("Disconnected(Shutdown)"));
    alice.tell("receive");
    assert_eq!(alice.hear("got"), "hello");
    alice.tell("receive");
    assert!(alice.hear("failed").contains("Disconnected(Shutdown)"));
    for client in &mut stuck {
        let said = client.hear_within("failed", Duration::from_secs(60));
        assert!(said.contains("Disconnected(Shutdown)"), "{said}");
    }
    assert!(place.is_clean());
}
