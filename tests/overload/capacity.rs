//! Tests of a full registry, while clients leave and others register.

use super::common::payload::Random;
use super::common::{Place, generation_of, slot_of};
use super::{Baseline, shut_down, start_server};
use ringpost::{Client, Key, Name, RegisterError, SendError};
use std::collections::{BTreeSet, HashMap};

const SLOTS: usize = 64;
const STEPS: usize = 3_000;

/// Look-ups find exactly the registered clients, and keys of clients that left are unknown.
#[test]
fn a_full_registry_is_right_at_every_time() {
    let place = Place::new();
    let server = start_server(&place, &[("RING", "4096"), ("CLIENTS", &(SLOTS + 1).to_string())]);
    let baseline = Baseline::of(&server, &place.path);
    let mut watcher = Client::register(&place.path, "watcher").unwrap();
    let mut random = Random::new(64);
    let mut here: Vec<Client> = Vec::new();
    let mut gone: Vec<(Name, Key)> = Vec::new();
    let mut generations: HashMap<u16, u32> = HashMap::new();
    for step in 0..STEPS {
        match random.below(4) {
            // Three of four actions register, so that the registry is full most of the time.
            0 if !here.is_empty() => {
                let leaves = here.swap_remove(random.below(here.len()));
                gone.push((*leaves.name(), leaves.key()));
                leaves.unregister().unwrap();
            }
            1 if !here.is_empty() => {
                let name = here[random.below(here.len())].name().as_str().to_owned();
                let error = Client::register(&place.path, &name).unwrap_err();
                assert!(matches!(error, RegisterError::NameTaken { name: taken } if taken == name));
            }
            _ => match Client::register(&place.path, format!("client {step}")) {
                Ok(client) => {
                    assert!(here.len() < SLOTS);
                    let key = client.key();
                    let before = generations.insert(slot_of(key), generation_of(key));
                    assert!(before < Some(generation_of(key)), "slot {}", slot_of(key));
                    here.push(client);
                }
                Err(RegisterError::Full(_)) => assert_eq!(here.len(), SLOTS),
                Err(error) => panic!("{error:?}"),
            },
        }
        if !here.is_empty() {
            let place = random.below(here.len());
            let (name, key) = (*here[place].name(), here[place].key());
            assert_eq!(watcher.look_up(name).unwrap(), Some(key));
            watcher.send(key, &step.to_le_bytes()).unwrap();
            let message = here[place].recv().unwrap();
            assert_eq!((message.sender(), message.payload()), (watcher.key(), &step.to_le_bytes()[..]));
        }
        if !gone.is_empty() {
            let (name, key) = gone[random.below(gone.len())];
            assert_eq!(watcher.look_up(name).unwrap(), None);
            assert_eq!(watcher.send(key, b"x"), Err(SendError::NotFound));
        }
        if step % 100 == 0 {
            let listed: BTreeSet<Key> = watcher.list().unwrap().iter().map(|client| client.key).collect();
            let known: BTreeSet<Key> = here.iter().map(Client::key).chain([watcher.key()]).collect();
            assert_eq!(listed, known);
        }
    }
    assert!(gone.len() > STEPS / 8, "{} left", gone.len());
    drop((here, watcher));
    baseline.await_restored();
    shut_down(server);
}
