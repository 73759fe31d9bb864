//! Tests of channels, whose two sides are in one process.

use super::*;
use crate::ring::{RecvError, SendError};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

fn pair() -> (Host, Guest) {
    let (host, fd) = create(4096, WaitStrategy::Park).unwrap();
    (host, open(fd, WaitStrategy::Park).unwrap())
}

/// The two sides as a server and its client have them.
pub(super) fn served() -> (Host, Guest) {
    let geometry = Geometry::new(4096).unwrap();
    let (host, descriptor) = create_for_server(&geometry, WaitStrategy::Park).unwrap();
    (host, open_for_client(descriptor, WaitStrategy::Park).unwrap())
}

#[test]
fn the_three_rings_are_apart() {
    let (mut host, mut guest) = pair();
    guest.requests.send(b"request").unwrap();
    host.responses.send(b"response").unwrap();
    host.inbox.send(b"message").unwrap();
    let mut block = Vec::new();
    guest.inbox.recv(&mut block).unwrap();
    assert_eq!(block, b"message");
    guest.responses.recv(&mut block).unwrap();
    assert_eq!(block, b"response");
    host.requests.recv(&mut block).unwrap();
    assert_eq!(block, b"request");
    assert_eq!(host.requests.try_recv(&mut block), Ok(None));
}

/// A client relies on the server's wakes. Other ends are also woken by their own side, whatever the other
/// side does to the ring's words.
#[test]
fn only_a_client_relies_on_the_other_side() {
    let geometry = Geometry::new(4096).unwrap();
    let (server, fd) = create_for_server(&geometry, WaitStrategy::Park).unwrap();
    let client = open_for_client(&fd, WaitStrategy::Park).unwrap();
    let (host, guest) = pair();
    for closer in [&server.closer, &server.intake, &host.closer, &guest.closer] {
        assert!(closer.sleeps_on_private());
    }
    assert!(!client.closer.sleeps_on_private());
}

#[test]
fn closing_wakes_every_waiter_on_both_sides() {
    let (mut host, mut guest) = pair();
    let closer = guest.closer.clone();
    thread::scope(|scope| {
        let waiters = [
            scope.spawn(|| host.requests.recv(&mut Vec::new()).unwrap_err()),
            scope.spawn(|| guest.responses.recv(&mut Vec::new()).unwrap_err()),
            scope.spawn(|| guest.inbox.recv(&mut Vec::new()).unwrap_err()),
        ];
        closer.close();
        let told = waiters.map(|waiter| waiter.join().unwrap());
        assert_eq!(told[0], RecvError::Disconnected(CloseReason::PEER));
        assert_eq!(told[1], RecvError::Disconnected(CloseReason::LOCAL));
        assert_eq!(told[2], RecvError::Disconnected(CloseReason::LOCAL));
    });
}

/// With two mappings of the same memory, as in two processes, a sleeper on one is woken through the
/// other.
#[test]
fn wakes_go_from_one_mapping_to_the_other() {
    const LIMIT: Duration = Duration::from_secs(20);
    let (mut host, mut guest) = pair();
    let (tell, told) = mpsc::channel();
    let sleeper = thread::spawn(move || {
        tell.send(Err(rustix::thread::gettid().as_raw_nonzero().get())).unwrap();
        for _ in 0..2 {
            tell.send(Ok(host.requests.recv(&mut Vec::new()))).unwrap();
        }
    });
    let Err(thread) = told.recv_timeout(LIMIT).unwrap() else { unreachable!() };
    let wait_for_sleep = |guest: &Guest| {
        let until = std::time::Instant::now() + LIMIT;
        loop {
            let state = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
            if guest.requests.consumer_looks_parked() && state.contains(") S ") {
                return;
            }
            assert!(std::time::Instant::now() < until, "it does not go to sleep");
            thread::yield_now();
        }
    };
    wait_for_sleep(&guest);
    guest.requests.send(b"data").unwrap();
    assert_eq!(told.recv_timeout(LIMIT), Ok(Ok(Ok(4))), "the wake was lost");
    wait_for_sleep(&guest);
    guest.closer.close();
    let end = RecvError::Disconnected(CloseReason::PEER);
    assert_eq!(told.recv_timeout(LIMIT), Ok(Ok(Err(end))), "the close was not noticed");
    sleeper.join().unwrap();
}

#[test]
fn closing_wakes_a_producer_that_waits_for_space() {
    let (mut host, guest) = pair();
    let full = vec![0; host.responses.max_block()];
    thread::scope(|scope| {
        let sender = scope.spawn(|| while_sent(|| host.responses.send(&full)));
        guest.closer.close();
        assert_eq!(sender.join().unwrap(), SendError::Disconnected(CloseReason::PEER));
    });
}

fn while_sent(mut send: impl FnMut() -> Result<(), SendError>) -> SendError {
    loop {
        if let Err(error) = send() {
            return error;
        }
    }
}

#[test]
fn what_was_committed_before_a_close_comes_first() {
    let (mut host, mut guest) = pair();
    guest.requests.send(b"last words").unwrap();
    drop(guest);
    let mut block = Vec::new();
    assert_eq!(host.requests.recv(&mut block), Ok(10));
    let end = host.requests.recv_timeout(&mut block, Duration::from_secs(60));
    assert_eq!(end, Err(RecvError::Disconnected(CloseReason::PEER)));
}

#[test]
fn a_server_does_not_believe_the_shared_closed_word() {
    let geometry = Geometry::new(4096).unwrap();
    let (mut host, fd) = create_for_server(&geometry, WaitStrategy::Park).unwrap();
    let guest = open_for_client(&fd, WaitStrategy::Park).unwrap();
    guest.closer.close();
    assert_eq!(host.requests.try_recv(&mut Vec::new()), Ok(None));
    host.intake.close_as(CloseReason::ABOVE);
    let end = host.requests.try_recv(&mut Vec::new());
    assert_eq!(end, Err(RecvError::Disconnected(CloseReason::ABOVE)));
    host.responses.try_send(b"still answered").unwrap();
}

#[test]
fn foreign_segments_are_refused_with_the_cause() {
    let reject = |change: &dyn Fn(&Segment), len: usize| {
        let geometry = Geometry::new(4096).unwrap();
        let (segment, fd) = Segment::create("test", len).unwrap();
        Words::describing(&geometry).write(&segment);
        change(&segment);
        open(&fd, WaitStrategy::Park).map(|_| ()).unwrap_err()
    };
    let right = Geometry::new(4096).unwrap().segment_len();
    assert!(matches!(reject(&|s| s.copy_in(0, b"?"), right), ChannelError::NotAChannel));
    assert!(matches!(
        reject(&|s| s.copy_in(8, &9_u32.to_le_bytes()), right),
        ChannelError::Version { found: 9 }
    ));
    assert!(matches!(
        reject(&|s| s.copy_in(16, &5000_u64.to_le_bytes()), right),
        ChannelError::RingSize(_) | ChannelError::MaxBlock { .. }
    ));
    assert!(matches!(
        reject(&|s| s.copy_in(24, &5000_u64.to_le_bytes()), right),
        ChannelError::RingSize(_) | ChannelError::MaxBlock { .. }
    ));
    assert!(matches!(reject(&|_| {}, right + 4096), ChannelError::Length { .. }));
    assert!(matches!(reject(&|_| {}, 4096), ChannelError::Length { .. }));
    let (_tiny, fd) = Segment::create("test", 8).unwrap();
    assert!(matches!(open(&fd, WaitStrategy::Park), Err(ChannelError::NotAChannel)));
}
