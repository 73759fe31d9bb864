//! Tests of servers and clients in separate processes: the basic scenario, verified traffic, and all kinds of
//! ends.

mod common;

use common::payload::{Random, content};
use common::proc::{Holdings, is_asleep, worker_is_gone};
use common::role::{self, Role, Stage, numbers, say, setting};
use common::server::{self, shut_down, start_server};
use common::traffic::{self, Plan};
use common::{LIMIT, Place, eventually, finds_no_room, slot_of};
use ringpost::{
    CallError, Client, CloseReason, Key, Name, Observer, RecvError, RegisterError, SendError, Server,
    StartError, WaitStrategy,
};
use std::path::PathBuf;
use std::time::Duration;

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "server" => serve(&stage),
        "holder" => hold(&stage),
        "traffic" => traffic::play(&stage),
        "pump" => pump(&stage),
        "waiter" => wait_until_the_end(&stage),
        "listener" => listen(&stage),
        "stranger" => register_as_stranger(),
        "guests" => hundred_guests(),
        other => panic!("no role {other:?}"),
    }
}

// ---- roles

fn socket() -> PathBuf {
    setting("PATH").expect("a socket")
}

fn register(name: &str) -> Client {
    let wait = setting("WAIT").unwrap_or_default();
    Client::builder(socket()).wait(wait).register(name).unwrap()
}

fn named() -> Client {
    register(&setting::<String>("NAME").expect("a name"))
}

/// Serves until it is told to shut down. Calls with "hang" are never answered.
fn serve(stage: &Stage) {
    if let Some(files) = setting("FILES") {
        use rustix::process::{Resource, Rlimit, setrlimit};
        setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: Some(files) }).unwrap();
    }
    server::serve(server::as_set().service(server::echo_or_hang), stage);
}

/// Registers, and leaves in the way that the test orders.
fn hold(stage: &Stage) {
    let mut client = named();
    say(format_args!("key {}", client.key()));
    match stage.order().as_str() {
        "unregister" => {
            client.unregister().unwrap();
            say("done");
            // The name is free although the process lives on.
            stage.await_order("go");
        }
        "exit" => std::process::exit(0),
        "drop" => drop(client),
        "receive" => {
            say("waiting");
            let _ = client.recv();
        }
        "spin" => loop {
            client.call(b"x").unwrap();
        },
        "hang" => {
            let _ = client.call(b"hang");
        }
        order => panic!("no order {order:?}"),
    }
}

/// Keeps calls outstanding until the server ends, and counts the responses.
fn pump(stage: &Stage) {
    let mut client = named();
    say("ready");
    stage.await_order("go");
    let mut random = Random::new(5);
    let (mut submitted, mut answered, mut running) = (0_u64, 0_u64, false);
    let verify = |client: &mut Client, answered: &mut u64| -> Result<(), CallError> {
        let expected = content(*answered, 500);
        assert!(client.caller().response()? == expected, "response {answered}");
        *answered += 1;
        Ok(())
    };
    let error = loop {
        if random.below(2) == 0 {
            match client.caller().submit(&content(submitted, 500)) {
                Ok(()) => submitted += 1,
                Err(error) => break error,
            }
        } else if client.caller().outstanding() > 0
            && let Err(error) = verify(&mut client, &mut answered)
        {
            break error;
        }
        if answered >= 1000 && !running {
            running = true;
            say("running");
        }
    };
    // All committed responses arrive before the end, in order and without a gap.
    let end = loop {
        match verify(&mut client, &mut answered) {
            Ok(()) => {}
            Err(CallError::NothingOutstanding) => break error,
            Err(end) => break end,
        }
    };
    assert_eq!(client.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
    match end {
        CallError::Disconnected(CloseReason::Shutdown) | CallError::NotSent(CloseReason::Shutdown) => {}
        other => panic!("{other}"),
    }
    say(format_args!("ended submitted={submitted} answered={answered}"));
}

/// Waits in the way that the test orders, and reports how the wait ended.
fn wait_until_the_end(stage: &Stage) {
    let mut client = named();
    say(format_args!("key {}", client.key()));
    let mode: String = setting("MODE").unwrap();
    let to: Option<Key> = match mode.as_str() {
        "room" => Some(stage.order().parse().unwrap()),
        _ => None,
    };
    if let Some(to) = to {
        while client.try_send(to, b"x").is_ok() {}
    }
    if mode == "response" {
        for request in [&b"one"[..], b"two", b"hang", b"three"] {
            client.caller().submit(request).unwrap();
        }
        assert_eq!(client.caller().response().unwrap(), b"one");
        assert_eq!(client.caller().response().unwrap(), b"two");
    }
    say("waiting");
    let end = match mode.as_str() {
        "recv" => format!("{:?}", client.recv().unwrap_err()),
        "recv_timeout" => format!("{:?}", client.recv_timeout(LIMIT).unwrap_err()),
        "call" => format!("{:?}", client.call(b"hang").unwrap_err()),
        "response" => format!("{:?}", client.caller().response().unwrap_err()),
        "submit" => {
            client.caller().submit(b"hang").unwrap();
            loop {
                if let Err(error) = client.caller().submit(&[0; 1000]) {
                    break match error {
                        // After the close nothing is sent.
                        CallError::Disconnected(reason) | CallError::NotSent(reason) => {
                            format!("Disconnected({reason:?})")
                        }
                        other => format!("{other:?}"),
                    };
                }
            }
        }
        "room" => format!("{:?}", client.send_timeout(to.unwrap(), b"x", LIMIT).unwrap_err()),
        mode => panic!("no mode {mode:?}"),
    };
    say(format_args!("ended {end}"));
}

/// Receives only when the test orders it to.
fn listen(stage: &Stage) {
    let mut client = named();
    say(format_args!("key {}", client.key()));
    stage.await_order("receive");
    loop {
        match client.recv() {
            Ok(message) => say(format_args!("got {}", String::from_utf8_lossy(message.payload()))),
            Err(end) => return say(format_args!("ended {end:?}")),
        }
    }
}

/// The process of another user.
fn register_as_stranger() {
    let observed = Observer::connect(socket()).and_then(|observer| observer.list());
    let registered = Client::register(socket(), "stranger");
    assert_eq!(observed.is_ok(), registered.is_ok(), "{observed:?}");
    match registered {
        Ok(mut client) => {
            assert_eq!(client.call(b"x").unwrap(), b"x");
            say("registered");
        }
        Err(RegisterError::NotPermitted { why, .. }) => say(format_args!("not permitted: {why}")),
        Err(error) => say(format_args!("failed {error:?}")),
    }
}

/// A hundred clients register and leave. Then the process holds as many resources as before.
fn hundred_guests() {
    let place = Place::new();
    let server = Server::builder(&place.path).max_clients(100).start().unwrap();
    // The watcher starts with the first client and stays.
    Client::register(&place.path, "first").unwrap().call(b"x").unwrap();
    eventually("only the server, the watcher and we are here", || {
        Holdings::now().channels == 0 && worker_is_gone("first")
    });
    let mut baseline = Holdings::now();
    eventually("it is quiet", || std::mem::replace(&mut baseline, Holdings::now()) == Holdings::now());
    for round in 0..3 {
        let mut clients: Vec<Client> =
            (0..100).map(|i| Client::register(&place.path, format!("client {i}")).unwrap()).collect();
        let full = Client::register(&place.path, "one too many");
        assert!(matches!(full, Err(RegisterError::Full(_))));
        let last = clients[99].key();
        for client in &mut clients {
            assert_eq!(client.call(b"hello").unwrap(), b"hello");
            client.try_send(last, b"hello").unwrap();
        }
        assert_eq!(Holdings::now().channels, 200, "one mapping for each side");
        match round {
            0 => drop(clients),
            1 => clients.into_iter().for_each(|client| client.unregister().unwrap()),
            _ => clients.into_iter().for_each(|client| {
                client.closer().close();
                drop(client);
            }),
        }
        eventually("all is as before", || Holdings::now() == baseline && server.info().clients == 0);
    }
    drop(server);
    // The server has one thread of its own, the acceptor, because there is no subscriber for events.
    eventually("only the watcher is left", || Holdings::now().threads == baseline.threads - 1);
    assert!(place.is_clean());
    say("clean");
}

// ---- tests

fn start_client(place: &Place, role: &str, name: &str, settings: &[(&str, &str)]) -> Role {
    let mut all = vec![("PATH", place.path.to_str().unwrap()), ("NAME", name)];
    all.extend_from_slice(settings);
    Role::start(role, &all)
}

fn key_of(client: &mut Role) -> Key {
    client.hear("key").parse().unwrap()
}

#[test]
fn the_seed_scenario() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let mut bob = start_client(&place, "listener", "bob", &[]);
    let bob_key = key_of(&mut bob);
    let mut alice = Client::register(&place.path, "alice").unwrap();
    assert_ne!(alice.key(), bob_key);
    assert_eq!(alice.look_up(Name::try_from("bob").unwrap()).unwrap(), Some(bob_key));
    let taken = Client::register(&place.path, "bob").unwrap_err();
    assert!(matches!(taken, RegisterError::NameTaken { .. }), "{taken}");
    assert_eq!(alice.call(b"ping").unwrap(), b"ping");
    alice.try_send(bob_key, b"hello").unwrap();
    bob.tell("receive");
    assert_eq!(bob.hear("got"), "hello");
    let clients = alice.list().unwrap();
    let mut seen: Vec<(&str, u32)> = clients.iter().map(|c| (c.name.as_str(), c.pid)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [("alice", std::process::id()), ("bob", bob.pid())]);
    alice.unregister().unwrap();
    let sums = shut_down(server);
    assert_eq!(bob.hear("ended"), "Disconnected(Shutdown)");
    assert!(bob.end().success());
    assert_eq!((sums["registered"], sums["calls"], sums["messages"], sums["refused"]), (2, 1, 1, 1));
    assert!(place.is_clean());
}

/// However a client ends, its name becomes free, its key becomes invalid, and its slot is reused.
#[test]
fn a_name_is_free_after_any_end_of_its_owner() {
    let place = Place::new();
    let _server = start_server(&place, &[("CLIENTS", "2")]);
    let mut watcher = Client::register(&place.path, "watcher").unwrap();
    let mut slots = Vec::new();
    for end in ["unregister", "drop", "exit", "kill idle", "kill receive", "kill spin", "kill hang"] {
        for wait in ["spin", "park"] {
            let mut owner = start_client(&place, "holder", "name", &[("WAIT", wait)]);
            let key = key_of(&mut owner);
            slots.push(slot_of(key));
            assert!(matches!(Client::register(&place.path, "name"), Err(RegisterError::NameTaken { .. })));
            match end.strip_prefix("kill") {
                Some(state) => {
                    if state.trim() != "idle" {
                        owner.tell(state.trim());
                    }
                    let counts = |watcher: &mut Client| watcher.list().unwrap();
                    match state.trim() {
                        "receive" => drop(owner.hear("waiting")),
                        "spin" => eventually("it calls", || {
                            counts(&mut watcher).iter().any(|c| c.key == key && c.counters.calls > 100)
                        }),
                        _ => {}
                    }
                    owner.kill();
                }
                None => {
                    owner.tell(end);
                    match end {
                        "unregister" => drop(owner.hear("done")),
                        _ => assert!(owner.end().success()),
                    }
                }
            }
            let name = Name::try_from("name").unwrap();
            if end == "unregister" || end == "drop" {
                assert_eq!(watcher.look_up(name).unwrap(), None, "{end}");
            }
            eventually("the name is free", || watcher.look_up(name).unwrap().is_none());
            assert_eq!(watcher.try_send(key, b"x"), Err(SendError::NotFound), "{end}");
            // The server has only one other slot, so this reuses it.
            let next = Client::register(&place.path, "name").unwrap();
            assert_eq!(slot_of(next.key()), slot_of(key));
            assert_ne!(next.key(), key);
            assert_eq!(watcher.try_send(key, b"x"), Err(SendError::NotFound), "{end}");
            watcher.try_send(next.key(), b"x").unwrap();
        }
    }
    assert!(slots.windows(2).all(|pair| pair[0] == pair[1]));
}

/// 200,000 calls and 50,000 messages between four processes, with every byte verified. `scale.rs` has five
/// times as many.
#[test]
fn traffic_between_four_processes() {
    let place = Place::new();
    let server = start_server(&place, &[("RING", "65536")]);
    let plan = Plan { clients: 4, calls: 50_000, messages: 4_170, most: usize::MAX };
    traffic::direct(&place, &plan);
    plan.check(&shut_down(server));
    assert!(place.is_clean());
}

/// The callers receive exactly as many responses as the server executed calls.
#[test]
fn shutdown_in_traffic() {
    for wait in ["adaptive", "park"] {
        let place = Place::new();
        let mut server = start_server(&place, &[("RING", "8192"), ("WAIT", wait)]);
        let mut pumps: Vec<Role> =
            (0..3).map(|i| start_client(&place, "pump", &format!("pump {i}"), &[("WAIT", wait)])).collect();
        let mut listener = start_client(&place, "waiter", "listener", &[("MODE", "recv")]);
        listener.hear("key");
        listener.hear("waiting");
        for pump in &mut pumps {
            pump.hear("ready");
        }
        for pump in &mut pumps {
            pump.tell("go");
        }
        for pump in &mut pumps {
            pump.hear("running");
        }
        server.tell("shutdown");
        let mut answered = 0;
        for mut pump in pumps {
            let ended = numbers(&pump.hear("ended"));
            assert!(ended["answered"] <= ended["submitted"]);
            answered += ended["answered"];
            assert!(pump.end().success());
        }
        assert_eq!(listener.hear("ended"), "Disconnected(Shutdown)");
        let sums = numbers(&server.hear("summary"));
        assert!(server.end().success());
        assert_eq!(sums["calls"], answered);
        assert_eq!((sums["abandoned"], sums["violations"]), (0, 0));
        assert!(place.is_clean());
    }
}

/// Every kind of wait ends when the server is killed, after everything committed was received. The path is
/// free at once.
#[test]
fn the_death_of_the_server() {
    for wait in ["adaptive", "park"] {
        let place = Place::new();
        let mut server = start_server(&place, &[("RING", "8192")]);
        let mut listener = start_client(&place, "listener", "listener", &[("WAIT", wait)]);
        let listener_key = key_of(&mut listener);
        let lazy = start_lazy(&place);
        let modes = ["recv", "recv_timeout", "call", "response", "submit", "room", "room"];
        let mut waiters: Vec<Role> = modes
            .iter()
            .enumerate()
            .map(|(i, mode)| {
                let settings = [("MODE", *mode), ("WAIT", wait)];
                let mut waiter = start_client(&place, "waiter", &format!("{mode} {i}"), &settings);
                waiter.hear("key");
                if *mode == "room" {
                    waiter.tell(&lazy.1.to_string());
                }
                waiter.hear("waiting");
                waiter
            })
            .collect();
        let mut alice = Client::register(&place.path, "alice").unwrap();
        for i in 0..3 {
            alice.try_send(listener_key, format!("message {i}").as_bytes()).unwrap();
        }
        for waiter in &waiters {
            eventually("it waits", || is_asleep(waiter.pid()));
        }
        server.kill();
        // A new server can replace the dead server's files at once.
        let next = Server::builder(&place.path).start().unwrap();
        let mut again = Client::register(&place.path, "alice").unwrap();
        assert_eq!(again.call(b"x").unwrap(), b"x");
        for (waiter, mode) in waiters.iter_mut().zip(modes) {
            assert_eq!(waiter.hear("ended"), "Disconnected(Died)", "{mode}");
        }
        for waiter in waiters {
            assert!(waiter.end().success());
        }
        listener.tell("receive");
        for i in 0..3 {
            assert_eq!(listener.hear("got"), format!("message {i}"));
        }
        assert_eq!(listener.hear("ended"), "Disconnected(Died)");
        assert!(matches!(alice.call(b"x"), Err(CallError::NotSent(_) | CallError::Disconnected(_))));
        drop(next);
        assert!(place.is_clean());
    }
}

/// Starts a client that never reads, so that others wait for room in its inbox.
fn start_lazy(place: &Place) -> (Role, Key) {
    let mut lazy = start_client(place, "listener", "lazy", &[]);
    let key = key_of(&mut lazy);
    (lazy, key)
}

#[test]
fn a_second_server_on_the_path_is_refused_while_the_first_lives() {
    let place = Place::new();
    let mut server = start_server(&place, &[]);
    assert!(matches!(Server::builder(&place.path).start(), Err(StartError::Listen(_))));
    Client::register(&place.path, "alice").unwrap().caller().ping().unwrap();
    server.kill();
    for _ in 0..10 {
        let mut server = start_server(&place, &[]);
        Client::register(&place.path, "alice").unwrap().caller().ping().unwrap();
        server.kill();
    }
    assert_eq!(shut_down(start_server(&place, &[]))["registered"], 0);
    assert!(place.is_clean());
}

/// Another user can connect if allowed, and is told the reason otherwise. Runs as root only.
#[test]
fn another_user_is_refused_unless_allowed() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const STRANGER: u32 = 65_532;
    if !common::users::is_root() {
        return eprintln!("skipped: only root can start another user's process");
    }
    let place = Place::new();
    let reachable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.directory.path(), reachable).unwrap();
    let ask = || {
        let settings = [("PATH", place.path.to_str().unwrap())];
        Role::start_as("stranger", &settings, |command| {
            command.uid(STRANGER).gid(STRANGER).current_dir("/");
        })
        .map(|mut stranger| stranger.hear(""))
    };
    let said = |answer: std::io::Result<String>| match answer {
        Ok(said) => Some(said),
        Err(error) => {
            eprintln!("skipped: the stranger cannot reach this program: {error}");
            None
        }
    };
    // Only this user may access the socket.
    let server = start_server(&place, &[]);
    let Some(answer) = said(ask()) else { return };
    assert!(answer.starts_with("not permitted"), "{answer}");
    shut_down(server);
    // A different user is allowed, so everyone may access the socket, but the server refuses this user.
    let server = start_server(&place, &[("ALLOW", "65533")]);
    for _ in 0..10 {
        let answer = said(ask()).unwrap();
        assert!(answer.starts_with("not permitted") && answer.contains("65532"), "{answer}");
    }
    shut_down(server);
    let server = start_server(&place, &[("ALLOW", "65532")]);
    assert_eq!(said(ask()).unwrap(), "registered");
    shut_down(server);
}

#[test]
fn a_hundred_guests_leave_nothing_behind() {
    let mut guests = Role::start("guests", &[]);
    guests.hear("clean");
    assert!(guests.end().success());
}

/// The server refuses, with a reason, every connection for which it has no descriptor.
#[test]
fn a_server_without_descriptors_says_so_and_goes_on() {
    let place = Place::new();
    let server = start_server(&place, &[("FILES", "40")]);
    let mut clients = Vec::new();
    let register = |clients: &mut Vec<Client>, name: &str| match Client::register(&place.path, name) {
        Ok(client) => {
            clients.push(client);
            true
        }
        Err(RegisterError::Refused(why)) => {
            assert!(why.contains("descriptors") || why.contains("open files"), "{why}");
            false
        }
        Err(error) => panic!("{error:?}"),
    };
    let names = (0..40).map(|i| format!("client {i}"));
    let served = names.take_while(|name| register(&mut clients, name)).count();
    assert!(served < 40, "more clients than descriptors");
    for i in 0..10 {
        assert!(!register(&mut clients, &format!("refused {i}")));
    }
    for client in &mut clients {
        assert_eq!(client.call(b"x").unwrap(), b"x");
    }
    clients.truncate(clients.len() / 2);
    eventually("there is room again", || register(&mut clients, "again"));
    assert_eq!(clients.last_mut().unwrap().call(b"x").unwrap(), b"x");
    shut_down(server);
    assert!(place.is_clean());
}

/// A stopped client delays nobody, keeps its name, and continues when it is resumed.
#[test]
fn a_stopped_client_holds_up_nobody() {
    use rustix::process::{Pid, Signal, kill_process};
    let place = Place::new();
    let server = start_server(&place, &[("RING", "4096")]);
    let mut pump = start_client(&place, "pump", "pump", &[("WAIT", &WaitStrategy::Park.to_string())]);
    pump.hear("ready");
    pump.tell("go");
    pump.hear("running");
    let pid = Pid::from_raw(pump.pid() as i32).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let mut alice = Client::register(&place.path, "alice").unwrap();
    for _ in 0..1000 {
        assert_eq!(alice.call(b"x").unwrap(), b"x");
    }
    let key = alice.look_up(Name::try_from("pump").unwrap()).unwrap().expect("it keeps its name");
    while alice.try_send(key, b"x").is_ok() {}
    finds_no_room(&mut alice, key, b"x", Duration::from_millis(50));
    kill_process(pid, Signal::CONT).unwrap();
    let before = calls_of(&mut alice, key);
    eventually("it goes on", || calls_of(&mut alice, key) > before + 100);
    pump.kill();
    shut_down(server);
}

fn calls_of(client: &mut Client, key: Key) -> u64 {
    client.list().unwrap().iter().find(|client| client.key == key).map_or(0, |client| client.counters.calls)
}
