//! Tests of the pipes by which a client that waits in an event loop is woken: who gets one, when it is
//! written to, and that nobody else pays for what a client does with it.

use super::common::eventually;
use super::common::raw::{
    ARMS, CALL, LIST_CLIENTS, PING, RawClient, Ring, SEND, VERSION, datagram, dial, hear_all,
};
use super::common::raw_bus::{descriptors, refused};
use super::common::raw_links::*;
use super::common::server::shut_down;
use super::common::{LIMIT, becomes};
use super::{ALICES, Bus, ComesTo, as_user};
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::{read, write};
use rustix::net::{SendFlags, send};
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

const CALLER: u8 = 0;
const INBOX: u8 = 1;
const ARMED: u32 = 2;

/// The pipe of one half, as its client got it.
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// Also takes the first byte: the client may have armed before the server had the pipe.
    fn of(client: &RawClient, bus: &Bus, half: u8) -> Pipe {
        let pipe = Pipe::ask(client, bus, half).unwrap();
        assert!(pipe.is_kicked(LIMIT));
        assert_eq!(pipe.drain(), 1);
        pipe
    }

    fn ask(client: &RawClient, bus: &Bus, half: u8) -> Result<Pipe, (u16, String)> {
        let (body, ends) = ask(bus.path(), KICK, &kick_body(client, half))?;
        assert!(body.is_empty());
        let [read, write] = ends.try_into().expect("two descriptors");
        Ok(Pipe { read, write })
    }

    fn is_kicked(&self, within: Duration) -> bool {
        is_ready(&self.read, PollFlags::IN, within)
    }

    /// How many bytes are in it.
    fn drain(&self) -> usize {
        let mut found = 0;
        while let Ok(bytes) = read(&self.read, &mut [0; 256]) {
            found += bytes;
        }
        found
    }
}

fn kick_body(client: &RawClient, half: u8) -> Vec<u8> {
    [&client.proof()[..], &[half]].concat()
}

/// Announces that the owner of this word waits in an event loop.
fn arm(word: &AtomicU32) {
    word.store(ARMED, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

/// The client says that it may wait for responses so, and hears that the server knows.
fn announce(client: &mut RawClient) {
    client.request(ARMS, 0, &[]);
    assert_eq!(client.response().map(|(status, _, body)| (status, body)), Some((0, Vec::new())));
}

/// A client whose half that calls may wait in an event loop.
fn kickable(bus: &Bus, name: &str) -> (RawClient, Pipe) {
    let mut client = bus.register(name);
    let pipe = Pipe::of(&client, bus, CALLER);
    announce(&mut client);
    (client, pipe)
}

/// Waits for a kick, and takes the response that it announces.
fn awaited(client: &mut RawClient, pipe: &Pipe) -> u16 {
    assert!(pipe.is_kicked(LIMIT), "a response came, and no kick");
    client.response().expect("a response").0
}

#[test]
fn each_half_gets_one_pipe_and_the_server_keeps_a_write_end() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    bus.comes_to(2, 0, 0);
    let halves = [CALLER, INBOX].map(|half| Pipe::of(&alice, &bus, half));
    assert_ne!(fstat(&halves[0].read).unwrap().st_ino, fstat(&halves[1].read).unwrap().st_ino);
    for (half, pipe) in [CALLER, INBOX].into_iter().zip(&halves) {
        assert_eq!(fstat(&pipe.read).unwrap().st_ino, fstat(&pipe.write).unwrap().st_ino);
        for (end, mode) in [(&pipe.read, OFlags::RDONLY), (&pipe.write, OFlags::WRONLY)] {
            let flags = fcntl_getfl(end).unwrap();
            assert_eq!((flags & OFlags::RWMODE, flags.contains(OFlags::NONBLOCK)), (mode, true));
        }
        assert_eq!(fcntl_getpipe_size(&pipe.read), Ok(4096));
        refused(Pipe::ask(&alice, &bus, half).map(drop), UNKNOWN, &["has its pipe already", "keep it"]);
        assert_eq!(write(&pipe.write, &[1]), Ok(1));
        assert_eq!((pipe.is_kicked(LIMIT), pipe.drain()), (true, 1));
    }
    let wanted = bus.idle + 4 + 2;
    becomes("the server keeps one end of each pipe", || descriptors(bus.pid), &wanted);
    // Another client's half is another one's.
    drop(Pipe::of(&bob, &bus, CALLER));
    drop(alice);
    becomes("and closes it with the client", || descriptors(bus.pid), &(bus.idle + 2 + 1));
    for Pipe { read: end, write } in halves {
        drop(write);
        // A process that another test starts may have a copy of it for a moment.
        becomes("nobody holds the other end", || read(&end, &mut [0; 9]), &Ok(0));
    }
}

/// Each response, message and room is announced to a half that waits, however often, and only to that half.
#[test]
fn what_a_half_waits_for_kicks_it() {
    let bus = Bus::start(&[]);
    let (mut alice, caller) = kickable(&bus, "alice");
    let inbox = Pipe::of(&alice, &bus, INBOX);
    let mut bob = bus.register("bob");
    for _ in 0..500 {
        arm(alice.consumer_parked(Ring::Response));
        alice.request(PING, 0, &[]);
        assert_eq!(awaited(&mut alice, &caller), 0);
        becomes("the word is taken", || alice.consumer_parked(Ring::Response).load(Ordering::Relaxed), &0);
        assert_eq!(caller.drain(), 1, "one word, one kick");
    }
    let to = alice.key.to_bytes();
    let (inbox_ring, mut taken) = (Ring::Inbox, 0);
    for _ in 0..200 {
        arm(alice.consumer_parked(inbox_ring));
        bob.request(SEND, 0, &[&to[..], b"x"].concat());
        assert_eq!(bob.response().unwrap().0, 0);
        assert!(inbox.is_kicked(LIMIT));
        assert_eq!(inbox.drain(), 1);
        taken += 64;
        alice.head(inbox_ring).store(taken, Ordering::Release);
    }
    assert!(!caller.is_kicked(Duration::ZERO));
    // Room: as long as responses have none, the server takes no request, and the request ring fills.
    let mut owed = 0;
    loop {
        while alice.has_room_for(400) {
            alice.request(CALL, 0, &[7; 400]);
            owed += 1;
        }
        arm(alice.producer_parked(Ring::Request));
        // The server may have made room before that, and then nothing needs to be told.
        if !alice.has_room_for(400) {
            break;
        }
        caller.drain();
    }
    while owed > 0 && !caller.is_kicked(Duration::ZERO) {
        assert_eq!(alice.response().map(|(status, ..)| status), Some(0));
        owed -= 1;
    }
    assert!(caller.is_kicked(LIMIT), "there is room");
    assert!(!inbox.is_kicked(Duration::ZERO));
}

#[test]
fn a_shutdown_kicks_who_waits() {
    let mut bus = Bus::start(&[]);
    let (alice, caller) = kickable(&bus, "alice");
    let inbox = Pipe::of(&alice, &bus, INBOX);
    for ring in [Ring::Response, Ring::Inbox] {
        arm(alice.consumer_parked(ring));
    }
    assert_eq!((caller.drain(), inbox.drain()), (0, 0));
    let _place = std::mem::replace(&mut bus.place, super::common::Place::new());
    shut_down(bus.server.into_inner().unwrap());
    assert_eq!(alice.closed(), 4);
    assert!(caller.is_kicked(LIMIT) && inbox.is_kicked(LIMIT));
}

/// Values that mean nothing wake nobody, and neither does a 2 without a pipe. Without ARMS nobody is promised
/// a kick, but there may be one.
#[test]
fn a_word_without_a_pipe_or_with_another_value_wakes_nobody_and_harms_nobody() {
    let bus = Bus::start(&[]);
    let mut alice = bus.register("alice");
    for value in [ARMED, 3, u32::MAX] {
        for _ in 0..200 {
            alice.consumer_parked(Ring::Response).store(value, Ordering::SeqCst);
            alice.producer_parked(Ring::Request).store(value, Ordering::SeqCst);
            alice.request(PING, 0, &[]);
            assert_eq!(alice.response().unwrap().0, 0);
        }
    }
    let pipe = Pipe::of(&alice, &bus, CALLER);
    announce(&mut alice);
    alice.consumer_parked(Ring::Response).store(77, Ordering::SeqCst);
    alice.request(PING, 0, &[]);
    assert_eq!(alice.response().unwrap().0, 0);
    announce(&mut alice);
    assert!(!pipe.is_kicked(Duration::ZERO), "77 is no 2");
    alice.request(ARMS, 0, b"more");
    assert_eq!(alice.response().unwrap().0, 2, "malformed");
    assert_eq!(alice.closed(), 0);
}

/// What a client can do to its pipe costs only itself: the server goes on, with this client too.
#[test]
fn no_client_holds_the_server_up_by_its_pipe() {
    type BeMean = fn(Pipe) -> Option<Pipe>;
    let meanness: [(&str, BeMean); 6] = [
        ("never drained", Some),
        ("full", |pipe| {
            while write(&pipe.write, &[0; 256]).is_ok() {}
            Some(pipe)
        }),
        ("full, and made to block", |pipe| {
            while write(&pipe.write, &[0; 256]).is_ok() {}
            for end in [&pipe.read, &pipe.write] {
                fcntl_setfl(end, OFlags::empty()).unwrap();
            }
            Some(pipe)
        }),
        ("of packets", |pipe| {
            fcntl_setfl(&pipe.write, OFlags::DIRECT | OFlags::NONBLOCK).unwrap();
            let _ = fcntl_setpipe_size(&pipe.read, 1 << 20);
            Some(pipe)
        }),
        ("that nobody reads", |pipe| {
            drop(pipe.read);
            None
        }),
        ("whose ends are all closed", |_| None),
    ];
    let bus = Bus::start(&[]);
    let mut honest = bus.register("honest");
    for (at, (what, be_mean)) in meanness.into_iter().enumerate() {
        let (mut mean, caller) = kickable(&bus, &format!("mean {at}"));
        let inbox = Pipe::of(&mean, &bus, INBOX);
        let (_caller, _inbox) = (be_mean(caller), be_mean(inbox));
        let to = mean.key.to_bytes();
        let (mut taken, list) = (0, 0_u32.to_le_bytes());
        for _ in 0..300 {
            arm(mean.consumer_parked(Ring::Response));
            arm(mean.producer_parked(Ring::Request));
            arm(mean.consumer_parked(Ring::Inbox));
            mean.request(PING, 0, &[]);
            assert_eq!(mean.response().unwrap().0, 0, "{what}");
            honest.request(SEND, 0, &to);
            assert_eq!(honest.response().unwrap().0, 0, "{what}");
            taken += 64;
            mean.head(Ring::Inbox).store(taken, Ordering::Release);
        }
        honest.request(LIST_CLIENTS, 0, &list);
        assert_eq!(honest.response().unwrap().0, 0, "{what}");
        assert_eq!((mean.closed(), honest.closed()), (0, 0), "{what}");
    }
    bus.comes_to(1, 0, 0);
}

#[test]
fn who_asks_again_and_again_gets_no_more() {
    let bus = Bus::start(&[]);
    let alice = bus.register("alice");
    for half in [CALLER, INBOX] {
        drop(Pipe::of(&alice, &bus, half));
        for _ in 0..1000 {
            refused(Pipe::ask(&alice, &bus, half).map(drop), UNKNOWN, &["has its pipe already"]);
        }
    }
    for half in [2, 255] {
        refused(Pipe::ask(&alice, &bus, half).map(drop), UNKNOWN, &["does not know"]);
    }
    becomes("the server has two", || descriptors(bus.pid), &(bus.idle + 2 + 2));
    let proof = alice.proof();
    drop(alice);
    becomes("or none", || descriptors(bus.pid), &bus.idle);
    let asked = ask(bus.path(), KICK, &[&proof[..], &[CALLER]].concat()).map(drop);
    refused(asked, NOT_REGISTERED, &["register first"]);
}

/// A request whose answer cannot be sent has taken nothing: the client may ask again.
#[test]
fn who_hangs_up_before_the_answer_may_ask_again() {
    let bus = Bus::start(&[]);
    for round in 0..40 {
        let alice = bus.register(&format!("alice {round}"));
        let line = dial(bus.path());
        let _ = send(&line, &datagram(VERSION, KICK, &kick_body(&alice, CALLER)), SendFlags::NOSIGNAL);
        drop(line);
        match Pipe::ask(&alice, &bus, CALLER) {
            Ok(pipe) => assert!(pipe.is_kicked(LIMIT)),
            // It was answered before the client hung up.
            answered => refused(answered.map(drop), UNKNOWN, &["has its pipe already"]),
        }
    }
    bus.comes_to(0, 0, 0);
}

/// Descriptors that are sent and not read count against the server's user.
#[test]
fn unread_pipes_are_counted_by_their_descriptors() {
    let bus = Bus::start(&[]);
    let clients: Vec<_> = (0..17).map(|at| bus.register(&format!("client {at}"))).collect();
    let halves = clients.iter().flat_map(|client| [(client, CALLER), (client, INBOX)]);
    let unread = |(client, half): (&RawClient, u8)| {
        let line = dial(bus.path());
        send(&line, &datagram(VERSION, KICK, &kick_body(client, half)), SendFlags::NOSIGNAL).unwrap();
        line
    };
    // 32 answers have 64 descriptors, which is what one user may leave unread.
    let mut lines: Vec<OwnedFd> = halves.take(33).map(unread).collect();
    let waits = lines.pop().unwrap();
    let (status, why, _) = hear_all(&waits).unwrap();
    let words = ["64 descriptors that it does not read"];
    refused::<()>(Err((status, String::from_utf8(why).unwrap())), BUSY, &words);
    as_user(ALICES, || drop(Pipe::of(&bus.register("other"), &bus, CALLER)));
    lines.pop();
    drop(Pipe::of(&clients[16], &bus, CALLER));
}

/// Pipes are the first thing that a server which is short of descriptors does not give, and clients can
/// still register. Strangers' pipes leave some for the server's own user.
#[test]
fn pipes_leave_descriptors_for_clients_that_register() {
    let bus = Bus::start(&[("FILES", "64")]);
    let fill = |what: &str| {
        let mut clients = Vec::new();
        loop {
            let client = bus.register(&format!("{what} {}", clients.len()));
            let refusal = [CALLER, INBOX].iter().find_map(|half| Pipe::ask(&client, &bus, *half).err());
            clients.push(client);
            if let Some(refusal) = refusal {
                refused::<()>(Err(refusal), NO_RESOURCES, &["for clients that register", "ulimit -n"]);
                return clients;
            }
        }
    };
    let strangers = as_user(ALICES, || fill("stranger"));
    let alice = bus.register("alice");
    drop(Pipe::of(&alice, &bus, CALLER));
    let owns = fill("own");
    // The server may not have closed the connections of earlier questions when it refused.
    let mut more = Vec::new();
    let (last, refusal) = loop {
        let last = bus.register(&format!("more {}", more.len()));
        match Pipe::ask(&last, &bus, CALLER) {
            Ok(_) => more.push(last),
            Err(refusal) => break (last, refusal),
        }
    };
    refused::<()>(Err(refusal), NO_RESOURCES, &["for clients that register"]);
    let others: Vec<_> = (0..4).map(|at| bus.register(&format!("other {at}"))).collect();
    // There is room again when some have left.
    drop((strangers, owns, more, others));
    eventually("there are enough again", || Pipe::ask(&last, &bus, CALLER).is_ok());
}
