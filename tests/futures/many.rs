//! Many clients of one process, in one thread.

use std::path::PathBuf;

use ringpost::{Async, Client};
use tokio::task::JoinSet;

use crate::common::role::{Role, Stage, say, setting};
use crate::common::server::{shut_down, start_server};
use crate::common::{Place, becomes};

const CLIENTS: u32 = 100;
const CALLS: u32 = 50;

/// The names of this process's threads that the library may have named, and how many threads there are.
fn threads() -> (Vec<String>, usize) {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names: Vec<_> = tasks
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    let count = names.len();
    (names.into_iter().filter(|name| name.starts_with("rp-")).collect(), count)
}

/// The role: many clients that call, send to each other and receive, all in this thread.
pub fn many(stage: &Stage) {
    let path = setting::<PathBuf>("PATH").unwrap();
    let (own, before) = threads();
    assert!(own.is_empty());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let client = Client::register(&path, format!("client {number}")).unwrap();
            clients.push(Async::new(client).unwrap());
        }
        let keys: Vec<_> = clients.iter().map(|client| client.get_ref().key()).collect();
        let mut tasks = JoinSet::new();
        for (number, mut client) in (0_u32..).zip(clients) {
            let next = keys[(number as usize + 1) % keys.len()];
            tasks.spawn(async move {
                for call in 0..CALLS {
                    let bytes = [number.to_ne_bytes(), call.to_ne_bytes()].concat();
                    assert_eq!(client.call(&bytes).await.unwrap(), bytes);
                    client.send(next, &bytes).await.unwrap();
                    let message = client.recv().await.unwrap();
                    let before = (number + CLIENTS - 1) % CLIENTS;
                    assert_eq!(message.payload(), [before.to_ne_bytes(), call.to_ne_bytes()].concat());
                }
                client
            });
        }
        let mut clients = tasks.join_all().await;
        becomes("no thread but the watcher", threads, &(vec!["rp-watcher".to_owned()], before + 1));
        say("called");
        assert_eq!(stage.order(), "leave");
        for client in clients.drain(..) {
            client.unregister().await.unwrap();
        }
        say("left");
    });
}

#[test]
fn many_clients_need_no_thread_but_the_watcher() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let mut many = Role::start("many", &[("PATH", place.path.to_str().unwrap())]);
    many.hear("called");
    many.tell("leave");
    many.hear("left");
    assert!(many.end().success());
    let sums = shut_down(server);
    assert_eq!(sums["calls"], u64::from(CLIENTS * CALLS));
    assert_eq!(sums["messages"], u64::from(CLIENTS * CALLS));
    assert_eq!(sums["violations"], 0);
}
