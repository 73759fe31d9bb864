//! The serving side of links: listeners, responders, handles, and the services that they run.

use super::common::proc::{Holdings, others_sleep, own_threads, raise_descriptor_limit};
use super::common::raw::RawClient;
use super::common::role::{Role, Stage, numbers, say, setting};
use super::common::server::start_server;
use super::common::{Bus, Gate, LIMIT, Place, becomes, begin, eventually};
use super::echo;
use ringpost::{
    AcceptError, CallError, Client, CloseReason, ConnectError, Link, Peer, Reconnect, Request, Response,
    ServeError, Service, ServiceError,
};
use rustix::process::{WaitOptions, waitpid};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn pair(bus: &Bus) -> [Client; 2] {
    ["alice", "bob"].map(|name| bus.client(name))
}

// ---- listening

#[test]
fn a_client_has_one_listener_at_a_time() {
    let bus = Bus::start();
    let [mut alice, mut bob] = pair(&bus);
    assert!(matches!(alice.connect("bob"), Err(ConnectError::NotServing)));
    let listener = bob.listen().unwrap();
    assert!(matches!(bob.listen(), Err(ServeError::Listening)));
    drop(listener);
    assert!(matches!(alice.connect("bob"), Err(ConnectError::NotServing)));
    let serving = bob.listen().unwrap().serve(echo).unwrap();
    assert!(matches!(bob.listen(), Err(ServeError::Listening)));
    assert_eq!(alice.connect("bob").unwrap().call(b"x").unwrap(), b"x");
    serving.stop();
    let listener = bob.listen().unwrap();
    // Whose end comes late, must not end another's.
    serving.join();
    let serving = listener.serve(echo).unwrap();
    assert_eq!(alice.connect("bob").unwrap().call(b"x").unwrap(), b"x");
    drop(serving);
}

#[test]
fn the_forms_of_accept_wait_as_they_say() {
    let bus = Bus::start();
    let [mut alice, mut bob] = pair(&bus);
    let mut listener = bob.listen().unwrap();
    assert!(listener.try_accept().unwrap().is_none());
    assert_eq!(listener.accept_timeout(Duration::ZERO).unwrap_err(), AcceptError::TimedOut);
    assert_eq!(listener.accept_timeout(Duration::from_millis(5)).unwrap_err(), AcceptError::TimedOut);
    let connecting = begin(move || alice.connect("bob").map(|mut link| link.call(b"x").unwrap().to_vec()));
    let mut found = None;
    eventually("alice asks", || {
        found = listener.try_accept().unwrap();
        found.is_some()
    });
    let incoming = found.unwrap();
    assert_eq!((incoming.peer().name.as_str(), incoming.peer().pid), ("alice", std::process::id()));
    assert_eq!(incoming.accept().unwrap().serve(echo), Ok(CloseReason::Peer));
    assert_eq!(connecting.end("a call").unwrap(), b"x");
}

/// Callers that were introduced and say nothing come before no listener, and lose their places.
#[test]
fn callers_that_say_nothing_hold_nobody_up() {
    let bus = Bus::start();
    let mallory = RawClient::register(bus.path(), "mallory");
    let [mut alice, mut bob] = pair(&bus);
    let mut listener = bob.listen().unwrap();
    let silent: Vec<_> = (0..3).map(|_| mallory.connect(bus.path(), "bob").unwrap()).collect();
    let connecting = begin(move || alice.connect("bob").map(|mut link| link.call(b"x").unwrap().to_vec()));
    let incoming = listener.accept().unwrap();
    assert_eq!(incoming.peer().name, "alice");
    assert_eq!(incoming.accept().unwrap().serve(echo), Ok(CloseReason::Peer));
    assert_eq!(connecting.end("a call").unwrap(), b"x");
    for side in &silent {
        assert!(side.is_cut_off(LIMIT), "bob keeps it");
    }
    assert!(listener.try_accept().unwrap().is_none());
    // One that leaves before is forgotten at once, and one whose listener is dropped, too.
    drop(mallory.connect(bus.path(), "bob").unwrap());
    let left = mallory.connect(bus.path(), "bob").unwrap();
    drop(listener);
    assert!(left.is_cut_off(LIMIT), "bob keeps it");
}

#[test]
fn a_listener_ends_with_its_client_or_by_its_closer() {
    let bus = Bus::start();
    let mut bob = bus.client("bob");
    let mut listener = bob.listen().unwrap();
    let closer = listener.closer();
    assert_eq!(closer.reason(), None);
    let accepting = begin(move || listener.accept().map(drop));
    closer.close();
    let closed = Err(AcceptError::Disconnected(CloseReason::Local));
    assert_eq!(accepting.end("a closer"), closed);
    assert_eq!(closer.reason(), Some(CloseReason::Local));
    let mut listener = bob.listen().unwrap();
    let clients = bob.closer();
    let accepting = begin(move || listener.accept().map(drop));
    clients.close();
    assert_eq!(accepting.end("the client's closer"), closed);
    drop(bob);
    eventually("the name is free", || bus.server.clients().unwrap().is_empty());
    let mut bob = bus.client("bob");
    let mut listener = bob.listen().unwrap();
    let accepting = begin(move || listener.accept().map(drop));
    bob.unregister().unwrap();
    let ended = Err(AcceptError::Disconnected(CloseReason::Unregistered));
    assert_eq!(accepting.end("the client's end"), ended);
}

/// The first 128 wait; the next one hears at once that the listener is busy.
#[test]
fn callers_beyond_the_backlog_are_told() {
    raise_descriptor_limit();
    let bus = Bus::with(|server| server.max_clients(300));
    let mut bob = bus.client("bob");
    let mut listener = bob.listen().unwrap();
    let waiting: Vec<_> = (0..128)
        .map(|number| {
            let mut client = bus.client(&format!("caller {number}"));
            begin(move || {
                let patient = Link::options().timeout(LIMIT);
                loop {
                    match patient.connect(client.caller(), "bob") {
                        // Many at once are too many for the server, until the watcher takes them.
                        Err(ConnectError::Busy(_)) => std::thread::yield_now(),
                        connected => return connected.map(|mut link| link.call(b"x").unwrap().to_vec()),
                    }
                }
            })
        })
        .collect();
    let mut late = bus.client("late");
    // Shorter than the others wait: it may come before some of them, and must make room for them again.
    let impatient = Link::options().timeout(Duration::from_millis(100));
    eventually("the backlog is full", || match impatient.connect(late.caller(), "bob") {
        Err(ConnectError::Busy(_)) => true,
        // It came before the others, and gave up.
        Err(ConnectError::TimedOut) => false,
        other => panic!("{other:?}"),
    });
    let mut refused = 0;
    while refused < 28 {
        listener.accept_timeout(LIMIT).unwrap().refuse("the first ones");
        refused += 1;
    }
    let serving = listener.serve(echo).unwrap();
    let ends: Vec<_> = waiting.into_iter().map(|waiting| waiting.end("connecting")).collect();
    let were_refused = |end: &&Result<Vec<u8>, ConnectError>| matches!(end, Err(ConnectError::Refused(_)));
    assert_eq!(ends.iter().filter(were_refused).count(), 28);
    assert_eq!(ends.iter().filter(|end| matches!(end, Ok(answer) if answer == b"x")).count(), 100);
    assert_eq!(late.connect("bob").unwrap().call(b"x").unwrap(), b"x");
    drop(serving);
}

// ---- services

/// Panics, fails, answers too much or echoes, as the request says.
fn moody(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    match request.payload() {
        b"panic" => panic!("as the request says"),
        b"fail" => Err(ServiceError::new("no")),
        b"flood" => loop {
            response.write(&[0; 1024])?;
        },
        payload => response.write(payload),
    }
}

#[test]
fn a_service_that_panics_or_fails_is_told_to_its_caller_alone() {
    let bus = Bus::start();
    let [mut alice, mut bob] = pair(&bus);
    let mut carol = bus.client("carol");
    let serving = bob.listen().unwrap().serve(moody).unwrap();
    let [mut link, mut other] = [alice.connect("bob").unwrap(), carol.connect("bob").unwrap()];
    for _ in 0..3 {
        assert!(
            matches!(link.call(b"panic"), Err(CallError::ServiceFailed(why)) if why.contains("panicked"))
        );
        assert_eq!(link.call(b"fail"), Err(CallError::ServiceFailed("no".into())));
        assert!(matches!(link.call(b"flood"), Err(CallError::ResponseTooLarge(_))));
        link.post(b"panic").unwrap();
        link.post(b"fail").unwrap();
        link.post(b"flood").unwrap();
        assert_eq!(link.call(b"x").unwrap(), b"x");
        assert_eq!(other.call(b"y").unwrap(), b"y");
    }
    assert_eq!(serving.links().len(), 2);
    let mut listener_of_alice = alice.listen().unwrap();
    let answering = begin(move || {
        let mut responder = listener_of_alice.accept().unwrap().accept().unwrap();
        let mut calls = 0;
        let end = responder.serve(|request, response| {
            calls += 1;
            moody(request, response)
        });
        (end, calls)
    });
    let mut back = bob.connect("alice").unwrap();
    assert!(back.call(b"panic").is_err());
    assert_eq!(back.call(b"x").unwrap(), b"x");
    drop(back);
    assert_eq!(answering.end("a link's end"), (Ok(CloseReason::Peer), 2));
}

/// Remembers the calls and the callers that have left.
#[derive(Default)]
struct Diary {
    calls: AtomicU32,
    posts: AtomicU32,
    left: Mutex<Vec<String>>,
}

impl Service for Diary {
    fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
        let counter = if request.wants_response() { &self.calls } else { &self.posts };
        counter.fetch_add(1, Ordering::SeqCst);
        response.write(request.payload())
    }

    fn left(&self, caller: &Peer) {
        self.left.lock().unwrap().push(caller.name.to_string());
        panic!("which nobody hears");
    }
}

#[test]
fn a_service_hears_of_each_end_and_no_thread_is_left_after_join() {
    let bus = Bus::start();
    let [mut ada, mut bob] = ["ada", "bob"].map(|name| bus.client(name));
    let threads = || own_threads().iter().filter(|name| *name == "rp-ada").count();
    let diary = Arc::new(Diary::default());
    let serving = bob.listen().unwrap().serve_with(Arc::clone(&diary)).unwrap();
    let mut one = ada.connect("bob").unwrap();
    let mut other = ada.connect("bob").unwrap();
    assert_eq!(
        (one.call(b"x").unwrap().to_vec(), other.call(b"y").unwrap().to_vec()),
        (b"x".into(), b"y".into())
    );
    // A new thread first has the name of the thread that started it.
    becomes("the server has a worker, and each link one", threads, &3);
    drop(one);
    eventually("one has left", || diary.left.lock().unwrap().len() == 1);
    serving.stop();
    serving.join();
    assert_eq!(*diary.left.lock().unwrap(), ["ada", "ada"]);
    assert_eq!((diary.calls.load(Ordering::SeqCst), diary.posts.load(Ordering::SeqCst)), (2, 0));
    assert_eq!(Arc::strong_count(&diary), 1, "the service is dropped");
    // What was joined may still be listed for a moment.
    becomes("no thread of a link is left", threads, &1);
    assert_eq!(other.call(b"x"), Err(CallError::NotSent(CloseReason::Peer)));
    assert!(matches!(ada.connect("bob"), Err(ConnectError::NotServing)));
}

#[test]
fn a_handle_that_is_joined_waits_for_what_is_served() {
    let bus = Bus::start();
    let [mut alice, mut bob] = pair(&bus);
    let gate = Gate::default();
    let bobs = gate.clone();
    let slow = move |_: Request<'_>, _: &mut Response<'_>| -> Result<(), ServiceError> {
        bobs.pass();
        Ok(())
    };
    let serving = bob.listen().unwrap().serve(slow).unwrap();
    let mut link = alice.connect("bob").unwrap();
    let calling = begin(move || link.call(b"x").map(|_| ()));
    gate.wait_for(1);
    serving.stop();
    assert!(serving.links().is_empty());
    assert_eq!(calling.end("a call"), Err(CallError::Disconnected(CloseReason::Peer)));
    let joining = begin(move || serving.join());
    assert!(!joining.is_over());
    gate.open();
    joining.end("join");
}

/// What was posted before the caller's end is served, calls are not.
#[test]
fn posts_are_served_after_the_end_and_calls_are_not() {
    let bus = Bus::start();
    let [mut alice, mut bob] = pair(&bus);
    let gate = Gate::default();
    let (bobs, served) = (gate.clone(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&served);
    let mut listener = bob.listen().unwrap();
    let serving = begin(move || {
        let mut responder = listener.accept().unwrap().accept().unwrap();
        responder.serve(|request, response| {
            if request.payload() == b"first" {
                bobs.pass();
            }
            seen.lock().unwrap().push(String::from_utf8(request.payload().to_vec()).unwrap());
            response.write(b"nobody reads this")
        })
    });
    let mut link = alice.connect("bob").unwrap();
    link.submit(b"first").unwrap();
    gate.wait_for(1);
    for number in 0..20 {
        link.post(format!("post {number}").as_str()).unwrap();
        link.submit(b"a call").unwrap();
    }
    drop(link);
    gate.open();
    assert_eq!(serving.end("the link's end"), Ok(CloseReason::Peer));
    let served = served.lock().unwrap();
    let posts: Vec<String> = (0..20).map(|number| format!("post {number}")).collect();
    assert_eq!(served[0], "first");
    assert_eq!(served[1..], posts);
}

/// What the callee answered before its end is received first.
#[test]
fn responses_come_before_the_end() {
    let bus = Bus::start();
    let [mut alice, mut bob] = pair(&bus);
    let gate = Gate::default();
    let bobs = gate.clone();
    let mut listener = bob.listen().unwrap();
    let serving = begin(move || {
        let mut responder = listener.accept().unwrap().accept().unwrap();
        let closer = responder.closer();
        responder.serve(move |request, response| {
            response.write(request.payload())?;
            match request.payload() {
                // Until all are submitted: after the end nothing is.
                b"one" => bobs.pass(),
                b"last" => closer.close(),
                _ => {}
            }
            Ok(())
        })
    });
    let mut link = alice.connect("bob").unwrap();
    for request in ["one", "two", "last", "too late"] {
        link.submit(request).unwrap();
    }
    gate.open();
    assert_eq!(serving.end("the link's end"), Ok(CloseReason::Local));
    assert_eq!(link.response().unwrap(), b"one");
    assert_eq!(link.response().unwrap(), b"two");
    assert_eq!(link.response().unwrap(), b"last", "it was being answered");
    assert_eq!(link.response(), Err(CallError::Disconnected(CloseReason::Peer)));
}

// ---- another server

/// The listener says once that the server is gone, then registers again and accepts.
#[test]
fn a_listener_of_a_client_that_registers_again_goes_on() {
    let place = Place::new();
    let mut first = start_server(&place, &[]);
    let again = Client::builder(&place.path).reconnect(Reconnect::default());
    let mut alice = again.register("alice").unwrap();
    let bob = again.register("bob").unwrap();
    let (mut caller, _inbox) = bob.split();
    let mut listener = caller.listen().unwrap();
    let connecting = begin(move || {
        let link = alice.connect("bob").unwrap();
        (alice, link)
    });
    let mut responder = listener.accept().unwrap().accept().unwrap();
    let (mut alice, mut link) = connecting.end("connecting");
    let serving = begin(move || responder.serve(echo));
    first.kill();
    assert_eq!(listener.accept().unwrap_err(), AcceptError::Disconnected(CloseReason::Died));
    assert!(listener.accept_timeout(Duration::from_millis(20)).is_err(), "nobody is there");
    assert_eq!(link.call(b"without a server").unwrap(), b"without a server");
    let mut second = start_server(&place, &[]);
    let accepting = begin(move || {
        let mut responder = listener.accept().unwrap().accept().unwrap();
        let ended = responder.serve(echo);
        (listener, ended)
    });
    let mut other = None;
    eventually("bob listens again", || {
        other = alice.connect("bob").ok();
        other.is_some()
    });
    let mut other = other.unwrap();
    assert_eq!(other.call(b"over the second").unwrap(), b"over the second");
    assert_eq!(link.call(b"over the first").unwrap(), b"over the first");
    let links = |alice: &mut Client, name: &str| {
        alice
            .list()
            .unwrap()
            .into_iter()
            .find(|client| client.name.as_str() == name)
            .map(|client| client.links)
    };
    assert_eq!((links(&mut alice, "alice"), links(&mut alice, "bob")), (Some(2), Some(2)));
    drop((link, other));
    let (mut listener, ended) = accepting.end("the second link's end");
    assert_eq!((ended, serving.end("the first link's end")), (Ok(CloseReason::Peer), Ok(CloseReason::Peer)));
    becomes("the ends are noted", || links(&mut alice_again(&place), "bob"), &Some(0));
    // Another operation of the client registers again first: the listener still says so.
    second.kill();
    let _third = start_server(&place, &[]);
    while caller.ping().is_err() {}
    assert_eq!(listener.try_accept().unwrap_err(), AcceptError::Disconnected(CloseReason::Died));
    assert!(listener.try_accept().unwrap().is_none());
    let serves = |client: &ringpost::ClientInfo| client.name == "bob" && client.serves;
    assert!(alice.list().unwrap().iter().any(serves));
}

fn alice_again(place: &Place) -> Client {
    Client::register(&place.path, "another").unwrap()
}

// ---- forks, and closed descriptors

/// The role of a client that serves, whose forked child tries to use what it has.
pub fn fork_while_serving(_stage: &Stage) {
    let path = setting::<PathBuf>("PATH").unwrap();
    let mut bob = Client::register(&path, "bob").unwrap();
    let mut listener = Some(bob.listen().unwrap());
    let mut carol = Client::register(&path, "carol").unwrap();
    let mut serving = Some(carol.listen().unwrap().serve(echo).unwrap());
    say("listens");
    let mut responder = Some(listener.as_mut().unwrap().accept().unwrap().accept().unwrap());
    let mut incoming = Some(listener.as_mut().unwrap().accept().unwrap());
    let forked = AcceptError::Disconnected(CloseReason::Forked);
    // SAFETY: the child continues with this thread alone. What it uses is what is tested; it ends by `_exit`.
    let child = match unsafe { libc::fork() } {
        0 => {
            let mut listener = listener.take().unwrap();
            assert_eq!(listener.accept().unwrap_err(), forked);
            assert_eq!(listener.try_accept().unwrap_err(), forked);
            listener.closer().close();
            drop(listener);
            let mut responder = responder.take().unwrap();
            assert_eq!(responder.serve(echo), Ok(CloseReason::Forked));
            responder.closer().close();
            drop(responder);
            assert_eq!(incoming.take().unwrap().accept().unwrap_err(), forked);
            let serving = serving.take().unwrap();
            assert!(serving.links().is_empty());
            serving.stop();
            serving.join();
            // SAFETY: it ends the child at once.
            unsafe { libc::_exit(0) }
        }
        child => rustix::process::Pid::from_raw(child).unwrap(),
    };
    let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
    let mut second = incoming.take().unwrap().accept().unwrap();
    let serving_second = begin(move || second.serve(echo));
    assert_eq!(responder.as_mut().unwrap().serve(echo), Ok(CloseReason::Peer));
    assert_eq!(serving_second.end("the second link"), Ok(CloseReason::Peer));
    assert!(listener.as_mut().unwrap().try_accept().unwrap().is_none());
    say("done");
}

#[test]
fn a_forked_child_leaves_its_parent_s_links_alone() {
    let bus = Bus::start();
    let mut bob = Role::start("forks while serving", &[("PATH", bus.path().to_str().unwrap())]);
    bob.hear("listens");
    let [mut alice, mut dave] = ["alice", "dave"].map(|name| bus.client(name));
    let first = begin(move || alice.connect("bob").map(|mut link| link.call(b"x").unwrap().to_vec()));
    eventually("the first is introduced", || {
        bus.server.clients().unwrap().iter().any(|client| client.name == "bob" && client.links == 1)
    });
    let second = begin(move || {
        let mut link = dave.connect("bob").unwrap();
        let mut to_carol = dave.connect("carol").unwrap();
        assert_eq!(to_carol.call(b"y").unwrap(), b"y");
        link.call(b"x").unwrap().to_vec()
    });
    assert_eq!(first.end("the first").unwrap(), b"x");
    assert_eq!(second.end("the second"), b"x");
    bob.hear("done");
    assert!(bob.end().success());
}

/// The role of a process that closes its descriptors while it serves.
pub fn cut_off_while_serving(_stage: &Stage) {
    let path = setting::<PathBuf>("PATH").unwrap();
    let mut bob = Client::builder(&path).reconnect(Reconnect::default()).register("bob").unwrap();
    let mut listener = bob.listen().unwrap();
    say("listens");
    let mut responder = listener.accept().unwrap().accept().unwrap();
    let answering = begin(move || responder.serve(echo));
    others_sleep();
    // SAFETY: it closes descriptors by number. Code that uses them afterwards is what is tested.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let ended = answering.end("the link").unwrap();
    assert!(matches!(ended, CloseReason::CutOff | CloseReason::Peer | CloseReason::Died), "{ended}");
    let ended = listener.accept().unwrap_err();
    let fits = |reason| matches!(reason, CloseReason::CutOff | CloseReason::Died | CloseReason::Peer);
    assert!(matches!(ended, AcceptError::Disconnected(reason) if fits(reason)), "{ended}");
    let mut responder = listener.accept().unwrap().accept().unwrap();
    say(responder.serve(echo).unwrap());
}

#[test]
fn a_process_that_closes_its_descriptors_can_serve_again() {
    let bus = Bus::start();
    let mut bob = Role::start("cut off while serving", &[("PATH", bus.path().to_str().unwrap())]);
    bob.hear("listens");
    let mut alice = bus.client("alice");
    let link = alice.connect("bob").unwrap();
    let closer = link.closer();
    eventually("the end is told", || closer.reason().is_some());
    let mut link: Option<Link> = None;
    eventually("bob serves again", || {
        link = alice.connect("bob").ok();
        link.is_some()
    });
    assert_eq!(link.take().unwrap().call(b"x").unwrap(), b"x");
    bob.hear("closed by the other side");
    assert!(bob.end().success());
}

// ---- many

/// What a process holds as soon as it stays the same: the thread of a link may still be ending.
fn settled(holdings: impl Fn() -> Holdings) -> Holdings {
    let mut last = holdings();
    eventually("it holds the same for a while", || {
        std::thread::sleep(Duration::from_millis(50));
        let before = std::mem::replace(&mut last, holdings());
        before == last
    });
    last
}

/// The role of a process that serves many.
pub fn serve_many(stage: &Stage) {
    raise_descriptor_limit();
    let path = setting::<PathBuf>("PATH").unwrap();
    let mut bob = Client::register(&path, "bob").unwrap();
    let (reached, counted) = (Arc::new(AtomicU32::new(0)), AtomicU32::new(0));
    let seen = Arc::clone(&reached);
    let serving = bob
        .listen()
        .unwrap()
        .serve(move |request, response| {
            seen.store(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            echo(request, response)
        })
        .unwrap();
    // The first link may start what stays: a scheduler, memory of the allocator.
    say("serves");
    stage.await_order("baseline");
    eventually("nobody is there", || serving.links().is_empty());
    let before = settled(Holdings::now);
    say("ready");
    stage.await_order("many");
    let links = serving.links().len();
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (began, used) = (Instant::now(), cpu());
    std::thread::sleep(Duration::from_secs(1));
    let now = cpu();
    let micros = (now.tv_sec - used.tv_sec) * 1_000_000 + (now.tv_nsec - used.tv_nsec) / 1000;
    say(format_args!("links={links} cpu={micros} during={}", began.elapsed().as_micros()));
    stage.await_order("none");
    eventually("all have left", || serving.links().is_empty());
    becomes("all is given back", Holdings::now, &before);
    serving.stop();
    serving.join();
    // What was joined may still be listed for a moment.
    becomes("one thread less", || Holdings::now().threads, &(before.threads - 1));
    say("done");
}

/// A thousand idle links cost a serving process no time, and nothing after their end.
#[test]
fn a_thousand_idle_links_cost_no_time() {
    const LINKS: usize = 1000;
    raise_descriptor_limit();
    let place = Place::new();
    let server = start_server(&place, &[("RING", "4096")]);
    let mut bob = Role::start("serves many", &[("PATH", place.path.to_str().unwrap())]);
    bob.hear("serves");
    let mut alice = Client::register(&place.path, "alice").unwrap();
    let connect = |alice: &mut Client| {
        let mut link = alice.connect("bob").unwrap();
        assert_eq!(link.call(b"x").unwrap(), b"x");
        link
    };
    drop(connect(&mut alice));
    bob.tell("baseline");
    bob.hear("ready");
    let servers = || Holdings::of(&server.pid().to_string());
    let before = settled(servers);
    let mut links: Vec<Link> = (0..LINKS).map(|_| connect(&mut alice)).collect();
    becomes("the server keeps nothing of a link", servers, &before);
    bob.tell("many");
    let measured = numbers(&bob.hear(""));
    println!("idle links of a serving process: {measured:?}");
    assert_eq!(measured["links"], LINKS as u64);
    // The watcher checks its descriptors every few seconds.
    assert!(measured["cpu"] < 1000, "{measured:?}");
    assert!(links.iter_mut().all(|link| link.call(b"y").is_ok()));
    drop(links);
    bob.tell("none");
    bob.hear("done");
}
