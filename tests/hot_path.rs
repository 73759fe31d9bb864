//! What a call costs besides its work: no allocation and no system call, in a million calls and more, while
//! both ends spin.
//!
//! Each test makes its calls in a process of its own, with a server and a client in it. There the allocator
//! counts what anybody asks it for; or else both ends of the channel, once warmed up, put themselves into the
//! kernel's strict mode, in which a thread that makes any system call but `read`, `write` and `exit` is
//! killed.

mod common;

use common::Bus;
use common::role::{self, Role, numbers, say};
use ringpost::{Client, Request, Response, WaitStrategy};
use rustix::thread::{SecureComputingMode, gettid, set_secure_computing_mode};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Counts what all threads of this process ask the allocator for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes every request on to the system's allocator as it came, and counts it.
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

/// Calls one by one. Where the two ends have one CPU between them each of these takes a turn on it, so they
/// end early then.
const SINGLE_CALLS: u32 = 1_000_000;
const TIME_FOR_SINGLE_CALLS: Duration = Duration::from_secs(10);

/// Calls in lots of half a ring, which take few turns. All of these are made in any case.
const LOTS: u64 = 500;
const LOT: usize = 2000;
const LEAST: u64 = LOTS * LOT as u64;

/// Payloads of less than a line, of a line, of a few, and of many.
const SIZES: [usize; 4] = [0, 48, 200, 3000];

/// A request that asks the worker's thread to renounce system calls.
const RENOUNCE: &[u8] = b"renounce";

static LATE: AtomicBool = AtomicBool::new(false);
static DONE: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
/// The threads that have renounced system calls.
static STRICT: [AtomicI32; 2] = [AtomicI32::new(0), AtomicI32::new(0)];

#[test]
fn role() {
    let Some((role, _stage)) = role::role() else { return };
    match role.as_str() {
        "counted" => make_calls(false),
        "strict" => make_calls(true),
        other => panic!("no role {other:?}"),
    }
}

fn renounce_system_calls(end: &AtomicI32) -> bool {
    end.store(gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    set_secure_computing_mode(SecureComputingMode::Strict).is_ok()
}

/// The role of a process that calls itself.
fn make_calls(strict: bool) {
    let bus = Bus::with(|builder| {
        builder.wait(WaitStrategy::Spin).service(|request: Request<'_>, response: &mut Response<'_>| {
            if request.payload() == RENOUNCE {
                return response.write(&[u8::from(renounce_system_calls(&STRICT[0]))]);
            }
            response.write(request.payload())
        })
    });
    let mut client = Client::builder(bus.path()).wait(WaitStrategy::Spin).register("alice").unwrap();
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
        // A strict thread cannot even end in good order. The process is about to.
        loop {
            std::hint::spin_loop();
        }
    });
    let began = Instant::now();
    while !DONE.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(1));
        LATE.store(began.elapsed() > TIME_FOR_SINGLE_CALLS, Ordering::Relaxed);
        for (thread, end) in STRICT.iter().zip(["the server's worker", "the client"]) {
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
    drop(bus.place);
    std::process::exit(0);
}

fn warm_up(client: &mut Client, payloads: &[Vec<u8>]) {
    for payload in payloads.iter().cycle().take(400) {
        assert_eq!(client.call(payload).unwrap(), payload);
    }
    for _ in 0..10 {
        call_lot(client, &payloads[1]);
    }
}

fn call_lot(client: &mut Client, payload: &[u8]) {
    client.caller().submit_all(std::iter::repeat_n(payload, LOT)).unwrap();
    for _ in 0..LOT {
        assert!(client.caller().response().is_ok_and(|response| response == payload));
    }
}

fn call(client: &mut Client, payloads: &[Vec<u8>]) {
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

/// What the process that plays the role says in the end.
fn played(role: &str) -> String {
    Role::start(role, &[]).hear_within("", Duration::from_secs(300))
}

#[test]
fn a_call_allocates_nothing() {
    let said = played("counted");
    let numbers = numbers(&said);
    assert!(numbers["calls"] >= LEAST, "{said}");
    assert_eq!(numbers["allocations"], 0, "{said}");
}

#[test]
fn a_call_makes_no_system_call() {
    let said = played("strict");
    if said.starts_with("calls=0 ") {
        return eprintln!("skipped: the kernel's strict mode is not to be had here");
    }
    assert!(!said.starts_with("killed"), "{said}: strace tells which");
    assert!(numbers(&said)["calls"] >= LEAST, "{said}");
}
