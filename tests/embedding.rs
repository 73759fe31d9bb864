//! Tests that the library leaves its process's signals, CPUs, limits and descriptors alone, and survives what
//! the process does with its own.

mod common;

use common::given::{await_connection, listening};
use common::proc::worker_is_gone;
use common::role::{self, Role, Stage, say, setting};
use common::{Bus, Gate, LIMIT, Place, becomes, begin, eventually, within_limit};
use ringpost::{
    CallError, Client, CloseReason, ListenError, RecvError, Request, Response, Server, StartError,
    WaitStrategy,
};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::process::{Resource, Rlimit, getpid, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "server" => common::server::serve(common::server::as_set(), &stage),
        "trader" => spin_in_real_time(),
        "limited" => start_with_small_files(),
        "mover" => move_about(),
        "daemon" => become_a_daemon(),
        "daemon server" => become_a_daemon_as_a_server(&stage),
        other => panic!("no role {other:?}"),
    }
}

fn socket() -> PathBuf {
    setting("PATH").expect("a socket")
}

// ---- threads

/// Calls without pause, on a pinned thread with a real-time priority.
fn spin_in_real_time() {
    let mut one = CpuSet::new();
    one.set(sched_getcpu());
    sched_setaffinity(None, &one).unwrap();
    let parameters = libc::sched_param { sched_priority: 50 };
    // SAFETY: the pointer is to a valid `sched_param`, which is only read; 0 means this thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } != 0 {
        return say("skipped");
    }
    let mut client = Client::builder(socket()).wait(WaitStrategy::Spin).register("trader").unwrap();
    say("registered");
    loop {
        if let Err(error) = client.call(b"tick") {
            // The real-time thread would starve the other tests if it ran longer.
            return say(format_args!("ended {error:?}"));
        }
    }
}

#[test]
fn a_pinned_real_time_client_that_spins_hears_of_the_server_s_death() {
    let place = Place::new();
    let path = place.path.to_str().unwrap();
    let mut server = common::server::start_server(&place, &[]);
    let mut trader = Role::start("trader", &[("PATH", path)]);
    if trader.hear("") == "skipped" {
        return eprintln!("skipped: this user may not have real-time threads");
    }
    server.kill();
    let ended = trader.hear("ended");
    assert!(ended.contains("Died"), "{ended}");
}

/// The name and the kernel's status text of each of the library's threads in this process.
fn library_threads() -> Vec<(String, String)> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let status = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    status
        .filter_map(|status| {
            let name = status.lines().next()?.strip_prefix("Name:")?.trim().to_owned();
            name.starts_with("rp-").then_some((name, status))
        })
        .collect()
}

fn field<'s>(status: &'s str, key: &str) -> &'s str {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap().trim()
}

#[test]
fn no_thread_of_the_library_takes_a_signal_of_the_program() {
    let bus = Bus::start();
    let mut client = bus.client("alice");
    client.call(b"x").unwrap();
    let threads = library_threads();
    for wanted in ["rp-acceptor", "rp-watcher", "rp-alice"] {
        assert!(threads.iter().any(|(name, _)| name == wanted), "no {wanted}");
    }
    for (name, status) in threads {
        let blocked = u64::from_str_radix(field(&status, "SigBlk"), 16).unwrap();
        let takes = |signal: &i32| blocked & 1 << (signal - 1) == 0;
        let faults = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];
        let kept = [libc::SIGKILL, libc::SIGSTOP, 32, 33]; // the last two are the C library's
        let taken: Vec<i32> = (1..=64).filter(takes).filter(|signal| !kept.contains(signal)).collect();
        assert!(taken.iter().all(|signal| faults.contains(signal)), "{name} takes {taken:?}");
    }
}

/// A server that a pinned thread starts and clients that pinned threads register.
#[test]
fn threads_of_the_library_may_use_the_process_s_cpus() {
    let process = fs::read_to_string(format!("/proc/self/task/{}/status", getpid().as_raw_pid())).unwrap();
    let process = field(&process, "Cpus_allowed").to_owned();
    let (bus, _client) = std::thread::spawn(|| {
        let mut one = CpuSet::new();
        one.set(sched_getcpu());
        sched_setaffinity(None, &one).unwrap();
        let bus = Bus::start();
        let client = bus.client("pinned");
        (bus, client)
    })
    .join()
    .unwrap();
    for (name, status) in library_threads() {
        // A worker may pin itself for a moment.
        if ["rp-acceptor", "rp-watcher", "rp-pinned"].contains(&name.as_str()) {
            assert_eq!(field(&status, "Cpus_allowed"), process, "{name}");
        }
    }
    drop(bus);
}

// ---- the process's limits

#[test]
fn a_server_leaves_the_limit_of_open_files_alone() {
    let before = getrlimit(Resource::Nofile);
    if before.current.is_none_or(|current| current < 1_000) {
        return eprintln!("skipped: this process may have few open files");
    }
    // This limits the whole process, but the other tests need few descriptors.
    let lower = Rlimit { current: before.current.map(|current| current - 1), maximum: before.maximum };
    setrlimit(Resource::Nofile, lower).unwrap();
    let bus = Bus::start();
    let started = getrlimit(Resource::Nofile);
    drop(bus);
    setrlimit(Resource::Nofile, before).unwrap();
    assert_eq!(started, lower);
}

/// Starts a server and registers a client under a file size limit (`RLIMIT_FSIZE`). A signal raised by that
/// would end the process.
fn start_with_small_files() {
    let most = setting("MOST");
    setrlimit(Resource::Fsize, Rlimit { current: most, maximum: most }).unwrap();
    match Server::builder(socket()).start() {
        Err(error) => say(format_args!("start {error}")),
        Ok(server) => {
            let error = Client::register(socket(), "alice").unwrap_err();
            say(format_args!("register {error}"));
            server.join_after_shutdown();
        }
    }
}

#[test]
fn a_limit_of_file_sizes_is_an_error_and_not_the_process_s_end() {
    // Too small for the server's registry; then large enough for that, but not for a client's rings.
    for (most, step) in [("1000", "start"), ("600000", "register")] {
        let place = Place::new();
        let mut role = Role::start("limited", &[("PATH", place.path.to_str().unwrap()), ("MOST", most)]);
        let error = role.hear(step);
        assert!(error.contains("ulimit -f") && error.contains("File too large"), "{error}");
        assert!(role.end().success());
        assert!(place.is_clean());
    }
}

/// Sets the CPUs of all threads like `taskset -ap`, while many clients call and workers pin themselves.
#[test]
fn an_operator_s_choice_of_cpus_lasts() {
    let allowed = sched_getaffinity(None).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    if cpus.len() < 2 {
        return eprintln!("skipped: there is one CPU only");
    }
    let place = Place::new();
    let server = common::server::start_server(&place, &[]);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|number| {
            let mut client = Client::register(&place.path, format!("caller {number}")).unwrap();
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    client.call(b"x").unwrap();
                }
            })
        })
        .collect();
    let tasks = format!("/proc/{}/task", server.pid());
    let each = |act: &dyn Fn(rustix::thread::Pid)| {
        let mut numbers: Vec<i32> = fs::read_dir(&tasks)
            .unwrap()
            .flatten()
            .filter_map(|task| task.file_name().to_str()?.parse().ok())
            .collect();
        numbers.sort_unstable();
        numbers.into_iter().filter_map(rustix::thread::Pid::from_raw).for_each(act);
    };
    for round in 0..60 {
        let mut one = CpuSet::new();
        one.set(cpus[round % 2]);
        let wanted = if round % 3 == 2 { allowed } else { one };
        each(&|thread| {
            let _ = sched_setaffinity(Some(thread), &wanted);
        });
        // Give the scheduler time to move its slots between workers.
        let until = Instant::now() + Duration::from_millis(20);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        if wanted != allowed {
            each(&|thread| {
                // One that is just moving itself finds the operator's choice a moment later.
                eventually(&format!("thread {thread:?} has its CPUs in round {round}"), || {
                    !sched_getaffinity(Some(thread)).is_ok_and(|found| found != wanted)
                });
            });
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
}

// ---- the working directory

/// Uses a relative path, then changes the working directory, as daemons do.
fn move_about() {
    let directory = setting::<PathBuf>("PATH").unwrap();
    std::env::set_current_dir(&directory).unwrap();
    let name = setting::<String>("NAME").unwrap();
    let server = Server::builder(&name).start().unwrap();
    let again = Server::builder(&name);
    let builder = Client::builder(&name).reconnect(ringpost::Reconnect::default());
    let mut client = builder.register("alice").unwrap();
    let observer = ringpost::Observer::connect(&name).unwrap();
    std::env::set_current_dir("/").unwrap();
    let place = directory.join(name.trim_start_matches("./"));
    assert_eq!(ringpost::Observer::connect(place).unwrap().server().unwrap().pid, std::process::id());
    let mut other = builder.register("bob").unwrap();
    assert_eq!(other.call(b"x").unwrap(), b"x");
    server.join_after_shutdown();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    assert!(client.call(b"x").is_err(), "told once");
    let server = again.start().unwrap();
    // The answer must be the second server's, not the first one's notice of its end.
    assert_eq!(observer.server().unwrap().started, server.info().started);
    assert_eq!(client.call_timeout(b"x", LIMIT).unwrap(), b"x");
    say("done");
}

#[test]
fn relative_paths_last_when_the_process_moves_on() {
    // Also a path that is short while relative, and too long for a socket address when absolute.
    let place = Place::new();
    let deep = place.directory.path().join("d".repeat(100));
    fs::create_dir(&deep).unwrap();
    for (directory, name) in [(place.directory.path().join("shallow"), "bus.sock"), (deep, "./bus.sock")] {
        let _ = fs::create_dir(&directory);
        let settings = [("PATH", directory.to_str().unwrap()), ("NAME", name)];
        let mut mover = Role::start("mover", &settings);
        mover.hear("done");
        assert!(mover.end().success());
    }
}

// ---- descriptors

/// Closes all descriptors, as daemons do. Then opens others with the same numbers: sockets, a file, an epoll
/// instance, an eventfd and so on.
fn close_all_descriptors() -> Vec<OwnedFd> {
    common::proc::others_sleep();
    // SAFETY: it closes descriptors by number. Code that uses them afterwards is what this test checks.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let mut taken: Vec<OwnedFd> = Vec::new();
    for _ in 0..16 {
        let (near, far) = UnixStream::pair().unwrap();
        for socket in [near, far] {
            socket.set_nonblocking(true).unwrap();
            taken.push(socket.into());
        }
        taken.push(fs::File::open("/dev/zero").unwrap().into());
        taken.push(epoll::create(epoll::CreateFlags::CLOEXEC).unwrap());
        taken.push(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap());
    }
    taken
}

/// Checks that the library has not closed or used these descriptors.
fn are_untouched(taken: &[OwnedFd]) {
    for five in taken.chunks(5) {
        let [near, far, zero, instance, counter] = five else { unreachable!() };
        assert_eq!(rustix::io::read(zero, &mut [0; 8]), Ok(8));
        assert_eq!(rustix::io::read(counter, &mut [0; 8]), Err(Errno::AGAIN));
        let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", instance.as_raw_fd())).unwrap();
        assert!(!about.contains("tfd:"), "{about}");
        for socket in [near, far] {
            assert_eq!(rustix::io::read(socket, &mut [0; 8]), Err(Errno::AGAIN));
        }
    }
}

fn has_thread(name: &str) -> bool {
    library_threads().iter().any(|(found, _)| found == name)
}

/// A client whose process closes all descriptors.
fn become_a_daemon() {
    let observers = [false, true].map(|is_used| {
        let observer = ringpost::Observer::connect(socket()).unwrap();
        if is_used {
            observer.server().unwrap();
        }
        observer
    });
    let mut client = Client::register(socket(), "plain").unwrap();
    let waiting = Client::register(socket(), "waiting").unwrap();
    let reconnect = ringpost::Reconnect::default();
    let mut lasting = Client::builder(socket()).reconnect(reconnect).register("lasting").unwrap();
    let (caller, mut inbox) = waiting.split();
    let waiting = common::begin(move || inbox.recv());
    eventually("the watcher runs", || has_thread("rp-watcher"));
    let taken = close_all_descriptors();
    eventually("the watcher ends", || !has_thread("rp-watcher"));
    let cut_off = Err(CallError::NotSent(CloseReason::CutOff));
    assert_eq!(client.call(b"x").map(|reply| reply.to_vec()), cut_off);
    // Either is right: the server may notice the end of the connection first, and close the channel.
    let ended = waiting.end("a wait");
    let fits = |reason: &CloseReason| [CloseReason::CutOff, CloseReason::Died].contains(reason);
    assert!(matches!(&ended, Err(RecvError::Disconnected(reason)) if fits(reason)), "{ended:?}");
    assert_eq!(lasting.call(b"x").map(|reply| reply.to_vec()), cut_off, "told once");
    for observer in &observers {
        observer.server().unwrap();
        observer.list().unwrap();
    }
    drop((client, caller));
    are_untouched(&taken);
    assert_eq!(lasting.call(b"x").unwrap(), b"x");
    // The name is free once the server has seen the connection end.
    let again = || Client::register(socket(), "plain");
    let mut client = again().or_else(|_| again()).unwrap();
    assert_eq!(client.call(b"x").unwrap(), b"x");
    eventually("another watcher runs", || has_thread("rp-watcher"));
    client.unregister().unwrap();
    are_untouched(&taken);
    say("done");
}

#[test]
fn a_client_whose_process_closes_all_descriptors_is_told() {
    let place = Place::new();
    let server = common::server::start_server(&place, &[]);
    let mut daemon = Role::start("daemon", &[("PATH", place.path.to_str().unwrap())]);
    daemon.hear("done");
    assert!(daemon.end().success());
    common::server::shut_down(server);
}

/// A server whose process closes all descriptors, either while it runs or during a shutdown.
fn become_a_daemon_as_a_server(stage: &Stage) {
    let gate = Gate::default();
    let at_gate = gate.clone();
    let server = Server::builder(socket())
        .grace(Duration::MAX)
        .service(move |request: Request<'_>, response: &mut Response<'_>| {
            if request.payload() == b"wait" {
                at_gate.pass();
            }
            response.write(request.payload())
        })
        .start()
        .unwrap();
    let stopper = server.stopper();
    say("ready");
    if stage.order() == "stop" {
        gate.wait_for(1);
        stopper.shutdown();
        eventually("the shutdown begins", || !socket().exists());
    }
    let taken = close_all_descriptors();
    if gate_is_used() {
        // The service returns only after the client has noticed the end.
        stage.await_order("open");
        gate.open();
    }
    let summary = server.join();
    stopper.shutdown();
    are_untouched(&taken);
    assert!(summary.cut_off && !summary.failed, "{summary:?}");
    eventually("its threads are gone", || library_threads().iter().all(|(name, _)| name == "rp-watcher"));
    say(format_args!("summary registered={} abandoned={}", summary.registered, summary.abandoned));
}

fn gate_is_used() -> bool {
    setting("GATE") == Some(true)
}

#[test]
fn a_server_whose_process_closes_all_descriptors_ends_and_says_so() {
    for stopping in [false, true] {
        let place = Place::new();
        let gate = if stopping { "true" } else { "false" };
        let mut server =
            Role::start("daemon server", &[("PATH", place.path.to_str().unwrap()), ("GATE", gate)]);
        server.hear("ready");
        let mut client = Client::register(&place.path, "alice").unwrap();
        let path = place.path.clone();
        assert_eq!(client.call(b"x").unwrap(), b"x");
        let waiting = common::begin(move || {
            if stopping {
                client.call(b"wait").map(|reply| reply.to_vec())
            } else {
                client.recv().map(|_| Vec::new()).map_err(|_| CallError::Disconnected(CloseReason::Died))
            }
        });
        server.tell(if stopping { "stop" } else { "close" });
        assert_eq!(waiting.end("a wait"), Err(CallError::Disconnected(CloseReason::Died)));
        if stopping {
            server.tell("open");
        }
        assert_eq!(server.hear("summary"), "registered=1 abandoned=0");
        assert!(server.end().success());
        assert!(place.is_clean());
        Server::builder(path).start().unwrap();
    }
}

// ---- the service's end

/// Reports when it is dropped.
struct Told(mpsc::Sender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn the_service_is_gone_when_join_returns() {
    for _ in 0..100 {
        let state = Arc::new(());
        let held = Arc::clone(&state);
        let bus = Bus::with(|builder| {
            builder.service(move |request: Request<'_>, response: &mut Response<'_>| {
                let _ = &held;
                response.write(request.payload())
            })
        });
        let mut clients: Vec<Client> = (0..4).map(|number| bus.client(&format!("client {number}"))).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.call(b"x").unwrap(), b"x"));
        let stopper = bus.server.stopper();
        bus.server.join_after_shutdown();
        assert_eq!(Arc::strong_count(&state), 1);
        // A stopper keeps nothing alive, and does nothing after the end.
        stopper.shutdown();
    }
}

/// Thread-local values of a service are dropped, too.
#[test]
fn what_a_service_keeps_for_each_thread_is_gone_when_join_returns() {
    thread_local! {
        static KEPT: std::cell::RefCell<Option<Arc<()>>> = const { std::cell::RefCell::new(None) };
    }
    let state = Arc::new(());
    let held = Arc::downgrade(&state);
    let bus = Bus::with(|builder| {
        builder.service(move |_: Request<'_>, _: &mut Response<'_>| {
            KEPT.set(held.upgrade());
            Ok(())
        })
    });
    let mut clients: Vec<Client> = (0..8).map(|number| bus.client(&format!("client {number}"))).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.call(b"x").unwrap(), b""));
    assert_eq!(Arc::strong_count(&state), 9);
    bus.server.join_after_shutdown();
    assert_eq!(Arc::strong_count(&state), 1);
}

#[test]
fn a_call_that_does_not_return_keeps_the_service_until_it_does() {
    let gate = Gate::default();
    let (at_gate, (told, is_told)) = (gate.clone(), mpsc::channel());
    let told = Mutex::new(Told(told));
    let bus = Bus::with(|builder| {
        builder.grace(Duration::ZERO).service(move |_: Request<'_>, _: &mut Response<'_>| {
            let _ = &told;
            at_gate.pass();
            Ok(())
        })
    });
    let mut client = bus.client("stuck");
    let calling = common::begin(move || client.call(b"x").map(|reply| reply.to_vec()));
    gate.wait_for(1);
    let summary = bus.server.join_after_shutdown();
    assert_eq!(summary.abandoned, 1);
    assert!(is_told.try_recv().is_err(), "it is still used");
    assert!(matches!(calling.end("the call"), Err(CallError::Disconnected(_))));
    gate.open();
    is_told.recv_timeout(LIMIT).unwrap();
    eventually("the worker ends", || worker_is_gone("stuck"));
}

/// Runs a function when it is dropped, which may panic or drop a server.
struct Odd<F: FnMut() + Send + Sync + 'static>(F);

impl<F: FnMut() + Send + Sync> Drop for Odd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn with_odd_drop(bus: impl FnMut() + Send + Sync + 'static) -> Bus {
    let odd = Odd(bus);
    Bus::with(|builder| {
        builder.service(move |_: Request<'_>, _: &mut Response<'_>| {
            let _ = &odd;
            Ok(())
        })
    })
}

#[test]
fn a_service_whose_drop_panics_does_not_harm_the_server_s_end() {
    let bus = with_odd_drop(|| std::panic::resume_unwind(Box::new(())));
    bus.client("alice").call(b"x").unwrap();
    let summary = bus.server.join_after_shutdown();
    assert_eq!((summary.registered, summary.calls), (1, 1));
    assert!(bus.place.is_clean());
}

// ---- a server that ends itself

type Slot = Arc<Mutex<Option<Server>>>;

/// A server that drops or joins itself in its service when called with "end". Other calls wait at a gate.
fn self_ending_server(grace: Duration, joins: bool, gate: &Gate) -> (Place, Slot) {
    let place = Place::new();
    let slot = Slot::default();
    let (inner, gate) = (Arc::clone(&slot), gate.clone());
    let server = Server::builder(&place.path)
        .grace(grace)
        .service(move |request: Request<'_>, response: &mut Response<'_>| {
            if request.payload() == b"wait" {
                gate.pass();
            } else {
                let server = inner.lock().unwrap().take();
                match server {
                    Some(server) if joins => drop(server.join_after_shutdown()),
                    server => drop(server),
                }
            }
            response.write(b"done")
        })
        .start()
        .unwrap();
    *slot.lock().unwrap() = Some(server);
    (place, slot)
}

#[test]
fn a_server_dropped_in_its_own_service_ends_at_once_and_answers() {
    for (grace, joins) in [(Duration::MAX, false), (Duration::MAX, true), (Duration::from_secs(3_600), false)]
    {
        let (place, slot) = self_ending_server(grace, joins, &Gate::default());
        let mut client = Client::register(&place.path, "caller").unwrap();
        let mut idle = Client::register(&place.path, "idle").unwrap();
        let (answer, next) = within_limit("the call", move || {
            let answer = client.call(b"end").map(|reply| reply.to_vec());
            // Requests that the worker finds before it sees that the intake is closed are answered, too.
            let next = loop {
                if let Err(error) = client.call(b"again") {
                    break error;
                }
            };
            (answer, next)
        });
        assert_eq!(answer, Ok(b"done".to_vec()));
        assert!(matches!(next, CallError::NotSent(_) | CallError::Disconnected(_)), "{next:?}");
        assert!(matches!(idle.call(b"x"), Err(CallError::NotSent(CloseReason::Shutdown))));
        assert!(place.is_clean());
        eventually("the worker ends", || worker_is_gone("caller"));
        // The service owns the other reference, and is dropped with the last worker.
        becomes("the service is gone", || Arc::strong_count(&slot), &1);
    }
}

/// Calls of other clients that are under way are waited for and answered.
#[test]
fn a_server_dropped_in_its_own_service_waits_for_the_others() {
    let gate = Gate::default();
    let (place, _slot) = self_ending_server(Duration::MAX, false, &gate);
    let mut other = Client::register(&place.path, "other").unwrap();
    let mut caller = Client::register(&place.path, "caller").unwrap();
    let waiting = common::begin(move || other.call(b"wait").map(|reply| reply.to_vec()));
    gate.wait_for(1);
    let ending = common::begin(move || caller.call(b"end").map(|reply| reply.to_vec()));
    eventually("the shutdown begins", || !place.path.exists());
    assert!(!ending.is_over() && !waiting.is_over());
    gate.open();
    assert_eq!(waiting.end("the other's call"), Ok(b"done".to_vec()));
    assert_eq!(ending.end("its own call"), Ok(b"done".to_vec()));
}

#[test]
fn a_server_dropped_in_the_drop_of_its_service_does_not_wait_for_itself() {
    let slot = Slot::default();
    let inner = Arc::clone(&slot);
    let Bus { server, place } = with_odd_drop(move || drop(inner.lock().unwrap().take()));
    let stopper = server.stopper();
    *slot.lock().unwrap() = Some(server);
    Client::register(&place.path, "alice").unwrap().call(b"x").unwrap();
    stopper.shutdown();
    becomes("the service is gone", || Arc::strong_count(&slot), &1);
    assert!(slot.lock().unwrap().is_none() && place.is_clean());
}

// ---- a socket that was given

#[test]
fn clients_of_a_socket_that_was_given_wait_for_the_next_server() {
    let place = Place::new();
    let socket = listening(&place.path, SocketType::SEQPACKET);
    fs::set_permissions(&place.path, PermissionsExt::from_mode(0o640)).unwrap();
    let register = |name: &'static str| {
        let path = place.path.clone();
        begin(move || Client::builder(path).timeout(LIMIT).register(name))
    };
    for name in ["early", "between"] {
        let client = register(name);
        await_connection(&socket);
        // Who is let in does not change the socket's mode.
        let builder = Server::builder(&place.path).allow_user(1).socket(socket.try_clone().unwrap());
        let server = builder.start().unwrap();
        let mut client = client.end("it registers").unwrap();
        assert_eq!(client.call(b"x").unwrap(), b"x");
        server.join_after_shutdown();
        assert_eq!(client.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
        assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 1, "no lock file");
    }
}

#[test]
fn a_server_does_not_start_on_a_socket_of_another_kind() {
    let place = Place::new();
    let stream = UnixListener::bind(&place.path).unwrap();
    let error = Server::builder(&place.path).socket(stream.into()).start().unwrap_err();
    assert!(matches!(error, StartError::Listen(ListenError::Unfit(_))), "{error}");
}
