//! `LinkEnd`: one end of a link in this process, from the introduction to the end.
//!
//! An end is closed by its owner, or by the watcher when the peer is gone: the peer has dropped the read end
//! of its pipe, or its process has ended. Either way the reason is stored first, so that every wait ends with
//! it. Then the descriptors are closed, by which the peer's watcher learns of it, and the server is told by a
//! bit of the client's channel.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::pipes::PeerDescriptors;
use super::set::Links;
use crate::channel::{Durations, LinkCounts, LinkWords};
use crate::client::session::Session;
use crate::client::watcher::{Watch, Watched};
use crate::connect::{Introduction, Role};
use crate::ring::Closer;
use crate::testing::failpoints::{failpoint, fault};
use crate::wire::{CloseReason, Peer};

/// What the owner of an end, the watcher and the client's [`Links`] share of it.
pub(in crate::client) struct OpenLink {
    pub(super) role: Role,
    pub(super) peer: Peer,
    closer: Closer,
    links: Weak<Links>,
    /// Its number among the client's links.
    pub(super) number: u64,
    watch: OnceLock<Watch>,
    /// Whether this side was the first to close it.
    closed_here: AtomicBool,
    noted: Mutex<Noted>,
}

/// Where the server looks for the end of a link.
enum Noted {
    /// The server does not know of the link.
    Nowhere,
    /// At this bit of the client's channel.
    At(LinkWords, u16),
    /// The link has ended.
    Over,
}

/// An end of a link. Dropping it closes the link as `Local`.
pub(in crate::client) struct LinkEnd {
    /// Who is at the other end, as the server said when it introduced the two.
    pub(in crate::client) peer: Peer,
    pub(in crate::client) closer: Closer,
    pub(in crate::client) open: Arc<OpenLink>,
}

impl LinkEnd {
    /// Begins the watch of the peer, which keeps the descriptors until the link ends. From then on the end
    /// belongs to the client: if the client has ended already, so has the link.
    ///
    /// # Errors
    ///
    /// The system's. The server is told that the link has ended.
    pub(in crate::client) fn begin(
        links: &Arc<Links>,
        session: &Session,
        role: Role,
        introduction: &Introduction,
        descriptors: PeerDescriptors,
        closer: Closer,
    ) -> io::Result<LinkEnd> {
        let noted = Noted::At(session.words.clone(), introduction.index);
        // A link that has ended had this index.
        session.words.figures.set_link(introduction.index, LinkCounts::default());
        let end = LinkEnd::new(links, role, introduction.peer, closer, noted);
        let watched = Watched::Link { link: Arc::clone(&end.open), descriptors };
        let _ = end.open.watch.set(Watch::begin(watched)?);
        failpoint!("link.watched", [link], seldom);
        if let Err(reason) = links.add(&end.open) {
            end.close(reason);
        }
        Ok(end)
    }

    /// An end without descriptors, of which no server knows, for benchmarks, tests and fuzz targets.
    #[cfg(any(feature = "internals", fuzzing, test))]
    pub(in crate::client) fn unwatched(
        links: &Arc<Links>,
        role: Role,
        peer: Peer,
        closer: Closer,
    ) -> LinkEnd {
        LinkEnd::new(links, role, peer, closer, Noted::Nowhere)
    }

    fn new(links: &Arc<Links>, role: Role, peer: Peer, closer: Closer, noted: Noted) -> LinkEnd {
        let open = OpenLink {
            role,
            peer,
            closer: closer.clone(),
            links: Arc::downgrade(links),
            number: links.number(),
            watch: OnceLock::new(),
            closed_here: AtomicBool::new(false),
            noted: Mutex::new(noted),
        };
        LinkEnd { peer, closer, open: Arc::new(open) }
    }

    /// Closes the link: ends its waits, tells the peer the reason, and gives the descriptors back.
    /// Idempotent: the first reason stays. In a forked child it only closes the child's copies.
    pub(in crate::client) fn close(&self, reason: CloseReason) {
        self.open.close(reason);
    }

    /// Why the link has ended, if it has.
    pub(in crate::client) fn reason(&self) -> Option<CloseReason> {
        self.open.reason()
    }

    /// The watch of the peer; a link without a server has none.
    pub(super) fn watch(&self) -> Option<&Watch> {
        self.open.watch.get()
    }
}

impl Drop for LinkEnd {
    fn drop(&mut self) {
        self.close(CloseReason::Local);
    }
}

impl OpenLink {
    /// See [`LinkEnd::close`].
    pub(super) fn close(&self, reason: CloseReason) {
        self.close_here(reason);
        failpoint!("link.closed", [link], seldom);
        if let Some(watch) = self.watch.get() {
            watch.end();
        }
        failpoint!("link.unwatched", [link], seldom);
        self.note_the_end();
    }

    /// The same with atomics and system calls only, for a signal handler. The watcher does what is left.
    pub(in crate::client) fn hang_up(&self) {
        self.close_here(CloseReason::Local);
        if let Some(watch) = self.watch.get() {
            watch.sweep();
        }
    }

    fn close_here(&self, reason: CloseReason) {
        if self.closer.reason().is_none() {
            self.closed_here.store(true, Ordering::Relaxed);
        }
        self.closer.close_as(reason);
    }

    /// Whether this side was the first to close it.
    pub(super) fn was_closed_here(&self) -> bool {
        self.closed_here.load(Ordering::Relaxed)
    }

    /// Why the link has ended, if it has.
    pub(in crate::client) fn reason(&self) -> Option<CloseReason> {
        self.closer.reason().map(CloseReason::from)
    }

    /// What `{:?}` shows of it, or of who holds it.
    pub(in crate::client) fn show(&self, kind: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(kind).field("peer", &self.peer).field("closed", &self.reason()).finish_non_exhaustive()
    }

    /// Whether this end was closed, or its client wants it to be, and the watcher has not heard of it.
    pub(in crate::client) fn is_to_end(&self) -> bool {
        self.closer.is_closed_here() || self.links.upgrade().is_none_or(|links| links.is_to_end())
    }

    /// For the watcher, after the peer's end: nothing more can come, and the peer may have said why.
    pub(in crate::client) fn peer_is_gone(&self) {
        self.closer.close_as(self.closer.reason().unwrap_or(CloseReason::Died.into()));
    }

    /// For the watcher, after a close on this side: so have the other links, if it was the client's.
    pub(in crate::client) fn swept(&self) {
        self.close_as(CloseReason::Local);
        if let Some(links) = self.links.upgrade().filter(|links| links.is_to_end()) {
            links.end(CloseReason::Local);
        }
    }

    /// For the watcher: closes the words, and no more.
    pub(in crate::client) fn close_as(&self, reason: CloseReason) {
        self.closer.close_as(reason);
    }

    /// Tells the server that the link has ended, and forgets it.
    pub(in crate::client) fn note_the_end(&self) {
        if self.closer.is_forked() {
            return;
        }
        let noted = {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *noted, Noted::Over)
        };
        if let Noted::At(words, index) = noted {
            if !fault!("bit") {
                words.flip(index);
            }
            failpoint!("link.flipped", [link], seldom);
        }
        if let Some(links) = self.links.upgrade() {
            links.remove(self.number);
        }
    }

    /// From now on the end is told at this bit, which the newest server gave the link; if it has ended
    /// meanwhile, at once. Without a bit the server does not know of the link. The bit before is free: the
    /// server that gave it is gone, or has noted the link twice.
    pub(super) fn note(&self, bit: Option<(LinkWords, u16)>) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let unused = match (&*noted, bit) {
            (Noted::Over, bit) => bit,
            (_, bit) => {
                let next = bit.map_or(Noted::Nowhere, |(words, index)| Noted::At(words, index));
                match std::mem::replace(&mut *noted, next) {
                    Noted::At(words, index) => Some((words, index)),
                    Noted::Nowhere | Noted::Over => None,
                }
            }
        };
        if let Some((words, index)) = unused {
            words.flip(index);
        }
    }

    /// Tells the server what this end has done, if it knows of the link. Returns whether somebody looks at
    /// the bus, so that services are to be timed. Does not wait.
    pub(super) fn tell(&self, counts: LinkCounts) -> bool {
        let noted = self.noted.try_lock();
        let Some(Noted::At(words, index)) = noted.as_deref().ok() else { return false };
        words.figures.set_link(*index, counts);
        words.figures.stamps() != 0
    }

    /// Tells the server how long a service of this link took. Does not wait.
    pub(super) fn tell_service(&self, took: Duration) {
        if let Ok(noted) = self.noted.try_lock()
            && let Noted::At(words, _) = &*noted
        {
            words.figures.count(Durations::LinkService, took);
        }
    }

    /// Whether the end was noted.
    pub(super) fn is_over(&self) -> bool {
        matches!(*self.noted.lock().unwrap_or_else(PoisonError::into_inner), Noted::Over)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::link::Link;
    use super::super::pipes::{LinkPipe, Pipes};
    use super::super::responder::Responder;
    use super::*;
    use crate::channel::{self, Geometry, Host, LinkEnds, Side, create_link, open_link};
    use crate::client::links::set::report_on;
    use crate::client::session::Place;
    use crate::connect::connection::Connection;
    use crate::connect::dial::Line;
    use crate::connect::{Proof, Reply, encode_indices};
    use crate::ring::WaitStrategy;
    use crate::shm::backend::PipeWriter;
    use crate::wire::{Key, Name};
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
    use rustix::pipe::{PipeFlags, pipe_with};
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    use rustix::time::Timespec;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Child, Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    pub(in crate::client::links) fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    /// A client without a server, its server's ends, and the server's end of its connection.
    pub(in crate::client::links) struct Bob {
        host: Host,
        session: Session,
        links: Arc<Links>,
        _server: UnixStream,
    }

    pub(in crate::client::links) fn bob() -> Bob {
        let geometry = Geometry::new(4096).unwrap();
        let (host, memory) = channel::create_for_server(&geometry, WaitStrategy::Park).unwrap();
        let guest = channel::open_for_client(&memory, WaitStrategy::Park).unwrap();
        let (here, server) = UnixStream::pair().unwrap();
        let place =
            Place { path: "nowhere".into(), wait: WaitStrategy::Park, timeout: Duration::ZERO, relay: false };
        let (links, proof) = (Links::new(place), Proof::without_secret(Key::from_u128(1)));
        let (lifeline, name) = (Connection::of(here.into()).unwrap(), Name::new("bob").unwrap());
        let session = Session::begin(&guest, lifeline, proof, name, Arc::clone(&links)).unwrap();
        Bob { host, session, links, _server: server }
    }

    fn alice() -> Peer {
        let name = Name::new("alice").unwrap();
        Peer { name, key: Key::from_u128(2), pid: 1, uid: 2, gid: 3 }
    }

    /// What alice's process has of a link.
    pub(in crate::client::links) struct Alices {
        pub(in crate::client::links) ends: LinkEnds,
        /// The read end of her pipe.
        pub(in crate::client::links) own: Option<OwnedFd>,
        /// The write end of bob's.
        bobs: OwnedFd,
    }

    impl Alices {
        /// From now on she kicks bob.
        pub(in crate::client::links) fn can_kick(&self) {
            self.ends.peers.set(PipeWriter::new(self.bobs.try_clone().unwrap()));
        }

        fn bob_has_left(&self) -> bool {
            let mut poll_fd = [PollFd::new(&self.bobs, PollFlags::empty())];
            poll(&mut poll_fd, Some(&Timespec::default())).unwrap();
            poll_fd[0].revents().contains(PollFlags::ERR)
        }
    }

    impl Alices {
        /// Other tests fork, and their children have the descriptors for a moment.
        fn awaits_bobs_end(&self) {
            until("bob's end of its pipe is closed", || self.bob_has_left());
        }
    }

    const INDEX: u16 = 77;

    fn link(bob: &Bob, process: OwnedFd) -> (LinkEnd, Alices) {
        let (end, _, _, alice) = link_with_rings(bob, process);
        (end, alice)
    }

    /// The same with bob's rings.
    pub(in crate::client::links) fn link_with_rings(
        bob: &Bob,
        process: OwnedFd,
    ) -> (LinkEnd, LinkEnds, LinkPipe, Alices) {
        let geometry = Geometry::new(4096).unwrap();
        let segment = create_link(&geometry).unwrap();
        let open = |side| open_link(&segment, &geometry, WaitStrategy::Park, side).unwrap();
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let ([own, bobs], [alices, hers]) =
            (<[_; 2]>::from(pipe_with(flags).unwrap()), pipe_with(flags).unwrap().into());
        let own_kick = bobs.try_clone().unwrap();
        let pipes = Pipes::check([own, own_kick, hers, process]).unwrap();
        let max_block = geometry.max_block();
        let introduction = Introduction { id: 5, index: INDEX, ring_size: 4096, max_block, peer: alice() };
        let bobs_ends = open(Side::Callee);
        let (descriptors, pipe) = pipes.connect(&bobs_ends);
        let closer = bobs_ends.closer.clone();
        let end = LinkEnd::begin(&bob.links, &bob.session, Role::Callee, &introduction, descriptors, closer)
            .unwrap();
        (end, bobs_ends, pipe, Alices { ends: open(Side::Caller), own: Some(alices), bobs })
    }

    pub(in crate::client::links) fn this_process() -> OwnedFd {
        pidfd_open(getpid(), PidfdFlags::empty()).unwrap()
    }

    /// A process that ends when its standard input does.
    fn process() -> (Child, OwnedFd) {
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        (child, pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    #[test]
    fn a_peer_that_drops_its_pipe_has_died() {
        let bob = bob();
        let (end, mut alice) = link(&bob, this_process());
        assert_eq!((end.reason(), bob.links.open(), bob.host.links.bit(INDEX)), (None, 1, false));
        alice.own = None;
        until("the end is noticed", || bob.links.open() == 0);
        assert_eq!(end.reason(), Some(CloseReason::Died));
        assert!(bob.host.links.bit(INDEX));
        alice.awaits_bobs_end();
        drop(end);
        assert!(bob.host.links.bit(INDEX), "it is said once");
    }

    /// Somebody else still holds its end of the pipe, as a forked child of it does.
    #[test]
    fn a_peer_whose_process_ends_has_died() {
        let bob = bob();
        let (mut child, process) = process();
        let (end, alice) = link(&bob, process);
        assert_eq!(end.reason(), None);
        drop(child.stdin.take());
        until("the end is noticed", || bob.links.open() == 0);
        assert_eq!(end.reason(), Some(CloseReason::Died));
        alice.awaits_bobs_end();
        child.wait().unwrap();
    }

    #[test]
    fn the_reason_that_a_peer_gave_is_told() {
        let bob = bob();
        let (end, mut alice) = link(&bob, this_process());
        alice.ends.closer.close_as(CloseReason::Unregistered);
        alice.own = None;
        until("the end is noticed", || bob.links.open() == 0);
        assert_eq!(end.reason(), Some(CloseReason::Unregistered));
    }

    #[test]
    fn a_close_tells_the_peer_and_the_server_once() {
        let bob = bob();
        let (end, alice) = link(&bob, this_process());
        assert!(!alice.bob_has_left());
        end.close(CloseReason::Unregistered);
        assert_eq!(alice.ends.closer.reason(), Some(CloseReason::Unregistered.into()));
        assert!(bob.host.links.bit(INDEX));
        alice.awaits_bobs_end();
        end.close(CloseReason::Local);
        drop(end);
        assert!(bob.host.links.bit(INDEX));
        let (end, alice) = link(&bob, this_process());
        drop(end);
        assert_eq!(alice.ends.closer.reason(), Some(CloseReason::Peer.into()));
        assert!(!bob.host.links.bit(INDEX));
        alice.awaits_bobs_end();
    }

    /// Each end tells its own client's server, under the index that it has there.
    #[test]
    fn the_server_reads_what_an_end_has_done() {
        let (alice, bob) = (bob(), bob());
        let (bobs_end, bobs, _pipe, alices) = link_with_rings(&bob, this_process());
        let (alices_end, _others) = link(&alice, this_process());
        let geometry = Geometry::new(4096).unwrap();
        let mut link = Link::new(alices_end, alices.ends, &geometry, None);
        let rings = (bobs.consumer, bobs.producer);
        let mut responder = Responder::new(bobs_end, rings, 4096, WaitStrategy::Park, None, None);
        let serving = thread::spawn(move || responder.serve(|_, response| response.write(&[0; 100])));
        let counts = |bob: &Bob| bob.host.figures.link(INDEX).unwrap();
        let services = || bob.host.figures.durations(Durations::LinkService).count();
        (0..60).for_each(|_| _ = link.call(b"ping").unwrap());
        (0..5).for_each(|_| link.post(b"ping").unwrap());
        (0..5).for_each(|_| _ = link.call(b"ping").unwrap());
        assert_eq!(counts(&alice), LinkCounts { blocks: 70, bytes: 70 * 64 });
        until("bob tells before he waits", || counts(&bob) == LinkCounts { blocks: 70, bytes: 65 * 128 });
        assert_eq!(services(), 0, "nobody looks");
        bob.host.figures.set_stamps(1);
        until("a service is timed", || link.call(b"ping").is_ok() && services() > 0);
        drop(alices.own);
        assert_eq!(serving.join().unwrap(), Ok(CloseReason::Died));
        drop(link);
        let _next = link_with_rings(&bob, this_process());
        assert_eq!(counts(&bob), LinkCounts::default(), "another link has the index now");
    }

    #[test]
    fn links_end_with_their_client() {
        let bob = bob();
        let (end, alice) = link(&bob, this_process());
        bob.links.end(CloseReason::Unregistered);
        assert_eq!(end.reason(), Some(CloseReason::Unregistered));
        assert!(bob.host.links.bit(INDEX));
        alice.awaits_bobs_end();
        let (late, alice) = link(&bob, this_process());
        assert_eq!(late.reason(), Some(CloseReason::Unregistered), "it came too late");
        assert!(!bob.host.links.bit(INDEX));
        alice.awaits_bobs_end();
        assert_eq!(bob.links.open(), 0);
    }

    #[test]
    fn the_watcher_ends_what_a_signal_handler_closed() {
        let bob = bob();
        let (one, alice) = link(&bob, this_process());
        let (other, _alice) = link(&bob, this_process());
        one.open.hang_up();
        assert_eq!(alice.ends.closer.reason(), Some(CloseReason::Peer.into()), "at once");
        alice.awaits_bobs_end();
        assert_eq!((one.reason(), other.reason()), (Some(CloseReason::Local), None));
        bob.session.hang_up(CloseReason::Local);
        until("so end the links of a client", || other.reason() == Some(CloseReason::Local));
    }

    #[test]
    fn the_end_is_told_to_the_newest_server() {
        let (bob, newer) = (bob(), bob());
        let bit = |index| Some((newer.session.words.clone(), index));
        let (end, _alice) = link(&bob, this_process());
        end.open.note(bit(8));
        assert!(!newer.host.links.bit(8));
        end.open.note(bit(9));
        assert!(newer.host.links.bit(8), "a server that notes a link twice gets one of them back");
        assert!(!newer.host.links.bit(9));
        drop(end);
        assert!(newer.host.links.bit(8) && newer.host.links.bit(9));
        let (end, _alice) = link(&bob, this_process());
        end.close(CloseReason::Local);
        end.open.note(bit(9));
        assert!(!newer.host.links.bit(9), "flipped again, because it had ended meanwhile");
        let (end, _alice) = link(&bob, this_process());
        end.open.note(bit(9));
        end.open.note(None);
        assert!(newer.host.links.bit(9));
        drop(end);
        assert!(newer.host.links.bit(9), "it is said once");
    }

    /// The answer came just when the client gave the report up.
    #[test]
    fn a_report_that_is_answered_too_late_is_heeded() {
        let (bob, newer) = (bob(), bob());
        let (near, server) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let line = Line { connection: Connection::of(near).unwrap() };
        let (end, _alice) = link(&bob, this_process());
        let open = [Arc::clone(&end.open)];
        send(&server, &Reply::done(&encode_indices(&[Some(9)])), SendFlags::empty()).unwrap();
        report_on(&line, &newer.session, &open, Instant::now()).unwrap();
        assert!(!newer.host.links.bit(9));
        drop(end);
        assert!(newer.host.links.bit(9));
    }

    #[test]
    fn other_descriptors_are_refused() {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
        let socket = || OwnedFd::from(UnixStream::pair().unwrap().0);
        let cases = [
            ([pipe().0, pipe().1, pipe().1, this_process()], true),
            ([pipe().1, pipe().1, pipe().1, this_process()], false),
            ([pipe().0, pipe().0, pipe().1, this_process()], false),
            ([pipe().0, pipe().1, pipe().0, this_process()], false),
            ([socket(), pipe().1, pipe().1, this_process()], false),
            ([pipe().0, socket(), pipe().1, this_process()], false),
            ([pipe().0, pipe().1, socket(), this_process()], false),
            ([pipe().0, pipe().1, pipe().1, socket()], false),
            ([pipe().0, pipe().1, pipe().1, pipe().0], false),
            // In place of the process.
            ([pipe().0, pipe().1, pipe().1, pipe().1], true),
        ];
        for (descriptors, known) in cases {
            assert_eq!(Pipes::check(descriptors).is_some(), known);
        }
    }
}
