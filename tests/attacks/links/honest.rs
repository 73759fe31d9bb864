//! Honest pairs that work during an attack: verified and timed calls and posts over a link, and a victim that
//! connects to the attacker.

use super::kinds::SERVED;
use super::looped::{self, Looped};
use crate::common::{Begun, Bus, LIMIT, begin, eventually};
use crate::well_behaved::median;
use ringpost::{CallError, Client, ConnectError, Link, Request, Response, ServeHandle, ServiceError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Calls between two posts.
const CALLS_A_POST: u64 = 100;

/// Posts of the honest caller so far.
#[derive(Default)]
struct Posts(AtomicU64);

/// Serves everybody: answers the honest caller with how many posts came before, others with what they said.
fn answer(posts: &Posts, request: &Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    if request.peer().name.as_str() != HONEST {
        return response.write(request.payload());
    }
    if request.wants_response() {
        response.write(request.payload())?;
        return response.write(&posts.0.load(Ordering::Relaxed).to_le_bytes());
    }
    let number = posts.0.fetch_add(1, Ordering::Relaxed);
    assert_eq!(request.payload(), number.to_le_bytes(), "posts come once and in order");
    Ok(())
}

const HONEST: &str = "honest";

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    rest: AtomicBool,
    rests: AtomicBool,
    slice: AtomicUsize,
    calls: AtomicU64,
    /// How often a victim has found a rule broken.
    violations: AtomicU64,
}

impl Shared {
    /// Stands still as long as that is wanted. Returns whether it is to end.
    fn pause(&self) -> bool {
        while self.rest.load(Ordering::Relaxed) && !self.stop.load(Ordering::Relaxed) {
            self.rests.store(true, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
        }
        self.rests.store(false, Ordering::Relaxed);
        self.stop.load(Ordering::Relaxed)
    }

    fn rest(&self) {
        self.rest.store(true, Ordering::Relaxed);
        eventually("it rests", || self.rests.load(Ordering::Relaxed));
    }

    fn work(&self) {
        self.rest.store(false, Ordering::Relaxed);
    }
}

/// A client that serves, and one that calls and posts over a link to it.
pub struct Pair {
    shared: Arc<Shared>,
    calling: Begun<Vec<u32>>,
    serving: Serving,
    served: Client,
}

enum Serving {
    Threads(ServeHandle),
    Loop(looped::Serving),
}

impl Pair {
    /// `in_loops`: both wait in event loops.
    pub fn start(bus: &Bus, in_loops: bool) -> Pair {
        let shared = Arc::new(Shared::default());
        let mut served = bus.client(SERVED);
        let posts = Posts::default();
        let service =
            move |request: Request<'_>, response: &mut Response<'_>| answer(&posts, &request, response);
        let listener = served.listen().unwrap();
        let mut honest = bus.client(HONEST);
        let (serving, link) = if in_loops {
            let serving = Serving::Loop(looped::Serving::start(listener, service));
            let link = Link::options().arms().connect(honest.caller(), SERVED).unwrap();
            (serving, Caller::Loop(Looped::new(link)))
        } else {
            let serving = Serving::Threads(listener.serve(service).unwrap());
            (serving, Caller::Thread(honest.connect(SERVED).unwrap()))
        };
        let told = Arc::clone(&shared);
        let calling = begin(move || {
            let medians = call(link, &told);
            honest.unregister().unwrap();
            medians
        });
        Pair { shared, calling, serving, served }
    }

    /// Starts a new slice, whose calls are timed separately.
    pub fn next_slice(&self) {
        self.shared.slice.fetch_add(1, Ordering::Relaxed);
    }

    /// Checks that calls still succeed now.
    pub fn goes_on(&self) {
        let calls = self.shared.calls.load(Ordering::Relaxed);
        eventually("the honest pair's calls go on", || {
            self.shared.calls.load(Ordering::Relaxed) > calls + 10 || self.calling.is_over()
        });
    }

    pub fn rest(&self) {
        self.shared.rest();
    }

    pub fn work(&self) {
        self.shared.work();
    }

    /// Ends the work and checks that nothing was lost, and that the serving ends although others go on.
    /// Returns the median call of each slice, in nanoseconds (0 if it had none).
    pub fn end(self) -> Vec<u32> {
        self.goes_on();
        self.next_slice();
        self.shared.stop.store(true, Ordering::Relaxed);
        let medians = self.calling.end("the honest calls");
        let serving = self.serving;
        begin(move || match serving {
            Serving::Threads(handle) => {
                handle.stop();
                handle.join();
            }
            Serving::Loop(serving) => serving.end(),
        })
        .end("the serving");
        self.served.unregister().unwrap();
        medians
    }
}

/// The honest caller's end.
enum Caller {
    Thread(Link),
    Loop(Looped),
}

impl Caller {
    fn call(&mut self, request: &[u8]) -> Vec<u8> {
        match self {
            Caller::Thread(link) => link.call_timeout(request, LIMIT).unwrap().to_vec(),
            Caller::Loop(looped) => looped.call(request, LIMIT).unwrap(),
        }
    }

    fn link(&mut self) -> &mut Link {
        let (Caller::Thread(link) | Caller::Loop(Looped { link, .. })) = self;
        link
    }
}

fn call(mut end: Caller, told: &Shared) -> Vec<u32> {
    let (mut medians, mut took, mut posted) = (Vec::new(), Vec::new(), 0_u64);
    for number in 1_u64.. {
        let slice = told.slice.load(Ordering::Relaxed);
        if slice > medians.len() {
            medians.push(median(&mut took));
            medians.resize(slice, 0);
            took.clear();
        }
        if told.pause() {
            break;
        }
        let began = Instant::now();
        let wanted = [number.to_le_bytes(), posted.to_le_bytes()].concat();
        assert_eq!(end.call(&number.to_le_bytes()), wanted);
        took.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
        told.calls.store(number, Ordering::Relaxed);
        if number.is_multiple_of(CALLS_A_POST) {
            end.link().post(&posted.to_le_bytes()).unwrap();
            posted += 1;
        }
    }
    medians
}

/// What became of a victim's attempts.
#[derive(Debug, Default)]
pub struct Suffered {
    pub attempts: u64,
    pub opened: u64,
    pub violations: u64,
    pub timed_out: u64,
}

/// An honest client that connects to the attacker again and again.
pub struct Victim {
    shared: Arc<Shared>,
    suffering: Begun<Suffered>,
}

impl Victim {
    /// It rests at first.
    pub fn start(bus: &Bus, attacker: &str, in_loops: bool) -> Victim {
        let shared = Arc::new(Shared::default());
        shared.rest.store(true, Ordering::Relaxed);
        let (told, attacker) = (Arc::clone(&shared), attacker.to_owned());
        let mut victim = bus.client("victim");
        let suffering = begin(move || {
            let mut suffered = Suffered::default();
            while !told.pause() {
                suffer(&mut victim, &attacker, in_loops, &mut suffered);
                told.violations.store(suffered.violations, Ordering::Relaxed);
            }
            victim.unregister().unwrap();
            suffered
        });
        Victim { shared, suffering }
    }

    pub fn rest(&self) {
        self.shared.rest();
    }

    pub fn work(&self) {
        self.shared.work();
    }

    /// How often it has found a rule broken, so far.
    pub fn violations(&self) -> u64 {
        self.shared.violations.load(Ordering::Relaxed)
    }

    pub fn end(self) -> Suffered {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.suffering.end("the victim's attempts")
    }
}

/// Each operation returns, with an answer or an error of its kind.
fn suffer(victim: &mut Client, attacker: &str, in_loops: bool, suffered: &mut Suffered) {
    let timeout = Duration::from_millis(30);
    let options = Link::options().timeout(timeout);
    let options = if in_loops { options.arms() } else { options };
    let connected = options.connect(victim.caller(), attacker);
    suffered.attempts += 1;
    let mut end = match connected {
        Ok(link) if in_loops => Caller::Loop(Looped::new(link)),
        Ok(link) => Caller::Thread(link),
        Err(ConnectError::TimedOut) => return suffered.timed_out += 1,
        Err(ConnectError::Violation(_)) => return suffered.violations += 1,
        Err(ConnectError::Gone(_) | ConnectError::Refused(_) | ConnectError::Busy(_)) => return,
        Err(error) => panic!("{error:?}"),
    };
    suffered.opened += 1;
    let short = Duration::from_millis(2);
    for number in 0..10_u8 {
        let called = match &mut end {
            Caller::Loop(looped) => looped.call(b"question", short).map(drop),
            Caller::Thread(link) if number == 3 => {
                link.submit(b"question").and_then(|()| link.response_timeout(short).map(drop))
            }
            Caller::Thread(link) => link.call_timeout(b"question", short).map(drop),
        };
        match called {
            Ok(()) | Err(CallError::ServiceFailed(_) | CallError::ResponseTooLarge(_)) => {}
            Err(CallError::Server(_) | CallError::NothingOutstanding | CallError::Uncollected { .. }) => {}
            Err(CallError::TimedOut) => suffered.timed_out += 1,
            Err(CallError::Violation(_)) => return suffered.violations += 1,
            Err(CallError::Disconnected(_) | CallError::NotSent(_)) => return,
            Err(error) => panic!("{error:?}"),
        }
    }
    // A post waits for room as long as the link is open, so another thread may close it.
    let link = end.link();
    let closer = link.closer();
    std::thread::scope(|scope| {
        let posting = scope.spawn(|| while link.post(b"one way").is_ok() {});
        std::thread::sleep(short);
        closer.close();
        let _ = posting.join();
    });
}
