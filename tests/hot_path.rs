//! Tests that a call makes no allocation and no system call while both ends spin, in over a million calls of
//! the server's service, and as many over a link, while another client of the process is armed.
//!
//! Each test runs in a separate process with a server and its clients. In some, the allocator counts all
//! requests. In the others, both ends enter seccomp's strict mode after warming up: the kernel then kills a
//! thread that makes any system call except `read`, `write` and `exit`.

mod common;

use common::Bus;
use common::role::{self, Role, numbers, say};
use ringpost::{CallError, Client, Link, Ready, Reply, Request, Response, ServiceError, WaitStrategy};
use rustix::thread::{SecureComputingMode, gettid, set_secure_computing_mode};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// An allocator that counts the allocations of all threads.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes every request on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The number of calls that are made one by one; fewer on one CPU, where each needs two context switches.
const SINGLE_CALLS: u32 = 1_000_000;
const TIME_FOR_SINGLE_CALLS: Duration = Duration::from_secs(10);

/// The number of pipelined lots of half a ring, which need few context switches. All are made in any case.
const LOTS: u64 = 500;
const LOT: usize = 2000;
const LEAST: u64 = LOTS * LOT as u64;

/// Payloads of less than a cache line, one line, a few lines and many lines.
const SIZES: [usize; 4] = [0, 48, 200, 3000];

/// A request that makes the worker's thread enter strict mode.
const RENOUNCE: &[u8] = b"renounce";

static LATE: AtomicBool = AtomicBool::new(false);
static DONE: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
/// The threads that are in strict mode.
static STRICT: [AtomicI32; 2] = [AtomicI32::new(0), AtomicI32::new(0)];

#[test]
fn role() {
    let Some((role, _stage)) = role::role() else { return };
    match role.as_str() {
        "counted" => make_calls(false, false),
        "strict" => make_calls(true, false),
        "link-counted" => make_calls(false, true),
        "link-strict" => make_calls(true, true),
        other => panic!("no role {other:?}"),
    }
}

fn renounce_system_calls(end: &AtomicI32) -> bool {
    end.store(gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    set_secure_computing_mode(SecureComputingMode::Strict).is_ok()
}

/// Who calls: a client its server, or over a link another client.
enum Caller {
    Client(Box<Client>),
    Link(Box<Link>),
}

impl Caller {
    fn call(&mut self, payload: &[u8]) -> Result<Reply<'_>, CallError> {
        match self {
            Caller::Client(client) => client.call(payload),
            Caller::Link(link) => link.call(payload),
        }
    }

    fn submit_lot(&mut self, payload: &[u8]) -> Result<(), CallError> {
        let lot = std::iter::repeat_n(payload, LOT);
        match self {
            Caller::Client(client) => client.caller().submit_all(lot),
            Caller::Link(link) => link.submit_all(lot),
        }
    }

    fn response(&mut self) -> Result<Reply<'_>, CallError> {
        match self {
            Caller::Client(client) => client.caller().response(),
            Caller::Link(link) => link.response(),
        }
    }
}

fn serve(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    if request.payload() == RENOUNCE {
        return response.write(&[u8::from(renounce_system_calls(&STRICT[0]))]);
    }
    response.write(request.payload())
}

/// The role of a process with a server and a client that calls it, or another client over a link.
fn make_calls(strict: bool, over_link: bool) {
    let bus = Bus::with(|builder| builder.wait(WaitStrategy::Spin).service(serve));
    let spinning = Client::builder(bus.path()).wait(WaitStrategy::Spin);
    let mut alice = spinning.register("alice").unwrap();
    let mut bob = spinning.register("bob").unwrap();
    let serving = bob.listen().unwrap().serve(serve).unwrap();
    // Who waits in an event loop costs the others nothing.
    let mut carol = bus.client("carol");
    let readiness = carol.readiness().unwrap();
    while !carol.arm().unwrap() {}
    let (mut client, idle) = if over_link {
        (Caller::Link(Box::new(alice.connect("bob").unwrap())), Some(alice))
    } else {
        (Caller::Client(Box::new(alice)), None)
    };
    thread::spawn(move || {
        let payloads = SIZES.map(|size| vec![0x5a; size]);
        warm_up(&mut client, &payloads);
        let agreed = !strict || client.call(RENOUNCE).unwrap() == [1] && renounce_system_calls(&STRICT[1]);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        if agreed {
            call(&mut client, &payloads);
        }
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        ALLOCATIONS.store(allocations, Ordering::Relaxed);
        DONE.store(true, Ordering::Release);
        // A thread in strict mode cannot end normally, so it waits until the process ends.
        loop {
            std::hint::spin_loop();
        }
    });
    let began = Instant::now();
    while !DONE.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(1));
        LATE.store(began.elapsed() > TIME_FOR_SINGLE_CALLS, Ordering::Relaxed);
        for (thread, end) in STRICT.iter().zip(["the thread that serves", "the client"]) {
            let id = thread.load(Ordering::Relaxed);
            if id != 0 && !std::fs::exists(format!("/proc/self/task/{id}")).unwrap() {
                let calls = CALLS.load(Ordering::Relaxed);
                say(format_args!("killed {end} made a system call after {calls} calls"));
                std::process::exit(0);
            }
        }
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    say(format_args!("calls={} allocations={allocations}", CALLS.load(Ordering::Relaxed)));
    // In strict mode, the threads that a drop would wait for do not end.
    std::mem::forget((serving, idle, bob, carol, readiness));
    drop(bus.place);
    std::process::exit(0);
}

fn warm_up(client: &mut Caller, payloads: &[Vec<u8>]) {
    for payload in payloads.iter().cycle().take(400) {
        assert_eq!(client.call(payload).unwrap(), payload);
    }
    for _ in 0..10 {
        call_lot(client, &payloads[1]);
    }
}

fn call_lot(client: &mut Caller, payload: &[u8]) {
    client.submit_lot(payload).unwrap();
    for _ in 0..LOT {
        assert!(client.response().is_ok_and(|response| response == payload));
    }
}

fn call(client: &mut Caller, payloads: &[Vec<u8>]) {
    for payload in payloads.iter().cycle().take(SINGLE_CALLS as usize) {
        assert!(client.call(payload).is_ok_and(|response| response == payload));
        CALLS.fetch_add(1, Ordering::Relaxed);
        if LATE.load(Ordering::Relaxed) {
            break;
        }
    }
    for _ in 0..LOTS {
        call_lot(client, &payloads[1]);
        CALLS.fetch_add(LOT as u64, Ordering::Relaxed);
    }
}

/// Runs the role in a process and returns its last line.
fn played(role: &str) -> String {
    Role::start(role, &[]).hear_within("", Duration::from_secs(300))
}

fn allocates_nothing(role: &str) {
    let said = played(role);
    let numbers = numbers(&said);
    assert!(numbers["calls"] >= LEAST, "{said}");
    assert_eq!(numbers["allocations"], 0, "{said}");
}

fn makes_no_system_call(role: &str) {
    let said = played(role);
    if said.starts_with("calls=0 ") {
        return eprintln!("skipped: the kernel's strict mode is not to be had here");
    }
    assert!(!said.starts_with("killed"), "{said}: strace tells which");
    assert!(numbers(&said)["calls"] >= LEAST, "{said}");
}

#[test]
fn a_call_allocates_nothing() {
    allocates_nothing("counted");
}

#[test]
fn a_call_makes_no_system_call() {
    makes_no_system_call("strict");
}

#[test]
fn a_call_over_a_link_allocates_nothing() {
    allocates_nothing("link-counted");
}

#[test]
fn a_call_over_a_link_makes_no_system_call() {
    makes_no_system_call("link-strict");
}
