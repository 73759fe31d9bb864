//! `Takes`: what the watcher does when a bell rings: takes what waits at the server, introductions for a
//! listener or parts for a client's topics, and hears the callers' hellos.
//!
//! The watcher must not wait for a server, because it notices the ends of other servers and peers. So it asks
//! on a connection of its own, and goes on with the answer when that is there.
//!
//! No ring may be lost, or a caller waits in vain. A listener's bell says how often it rang, and the watcher
//! asks that often, which saves a question to which nothing is left; for parts it asks until nothing is left.
//! That is only a guess: when the server says that nothing waits, and the bell has rung after the question,
//! something may have come behind the answer, and it asks again.

#![forbid(unsafe_code)]

use rustix::event::epoll::{self, EventData, EventFlags};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::handshake::note_unused;
use super::intake::{Intake, Unheard};
use crate::client::session::Session;
use crate::client::topics::Topics;
use crate::client::watcher::HELLO;
use crate::connect::dial::{Answer, DialError, Line};
use crate::connect::{Ask, Introduction, Refusal};
use crate::os::descriptors::Waits;
use crate::testing::failpoints::failpoint;

/// How long a server has for its answers.
const PATIENCE: Duration = Duration::from_secs(1);

/// The pause after an attempt that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// How long one step may wait for the server: to connect, or for what has arrived already.
const STEP: Duration = Duration::from_millis(1);

/// Marks the token of a connection on which introductions are taken; the rest is the bell's.
const TAKE: u64 = 1 << 63;

/// For whom something is taken.
#[derive(Clone)]
pub(in crate::client) enum Taker {
    /// A listener, which takes introductions.
    Listener(Arc<Intake>),
    /// The topics of a client, which take parts.
    Topics(Arc<Topics>),
}

/// What the watcher does for those whose bells ring.
#[derive(Default)]
pub(in crate::client) struct Takes {
    /// The takes that are under way, by the tokens of their bells.
    under_way: HashMap<u64, Take>,
    /// The callers whose hello is to be heard, by the tokens of their links' watches.
    hellos: HashMap<u64, Hello>,
}

struct Hello {
    intake: Weak<Intake>,
    number: u64,
    until: Instant,
}

/// What was taken.
enum Taken {
    Introduction(Introduction, [OwnedFd; Introduction::DESCRIPTORS]),
    Part(Answer),
}

struct Take {
    by: Taker,
    /// The registration under which was asked last.
    session: Arc<Session>,
    /// How much is to be taken; the server may have less. `usize::MAX`: nobody knows.
    left: usize,
    /// How often the bell has rung since the server was asked.
    since: usize,
    asked: Asked,
}

enum Asked {
    /// The server was asked, and has until then to answer.
    Until(Line, Instant),
    /// It is to be asked again at this time.
    Again(Instant),
}

impl Taker {
    /// The registration under which is asked, if it stands.
    fn session(&self) -> Option<Arc<Session>> {
        let session = match self {
            Taker::Listener(intake) if intake.reason().is_none() => intake.session(),
            Taker::Listener(_) => return None,
            Taker::Topics(topics) => topics.session()?,
        };
        (!session.closer.is_closed_here()).then_some(session)
    }

    fn ask(&self, session: &Session) -> Ask {
        match self {
            Taker::Listener(_) => Ask::Take(session.proof()),
            Taker::Topics(_) => Ask::Part(session.proof()),
        }
    }

    /// Before each question. False if there is no room for what the answer may bring.
    fn begins_to_ask(&self) -> bool {
        match self {
            Taker::Listener(_) => true,
            Taker::Topics(topics) => topics.begins_to_ask(),
        }
    }

    /// Nothing was left when the last question was answered.
    fn found_nothing(&self) {
        if let Taker::Topics(topics) = self {
            topics.found_nothing();
        }
    }

    /// What an answer brings, if anything waited.
    fn check(&self, answer: Answer) -> Result<Option<Taken>, DialError> {
        match self {
            _ if answer.body.is_empty() => Ok(None),
            Taker::Listener(_) => Ok(taken(answer)?
                .map(|(introduction, descriptors)| Taken::Introduction(introduction, descriptors))),
            Taker::Topics(_) => Ok(Some(Taken::Part(answer))),
        }
    }

    /// Something came that nobody waits for any more. A part is kept; the server believes that it was taken.
    fn too_late(&self, session: &Arc<Session>, answer: Answer) {
        match self {
            Taker::Listener(_) => note_unused(session, &answer),
            Taker::Topics(topics) => _ = topics.deliver(session, answer),
        }
    }
}

impl Takes {
    /// A bell has announced so many introductions or parts.
    pub(in crate::client) fn rung(&mut self, waits: &Waits, bell: u64, by: &Taker, most: usize) {
        // For several parts it rings once.
        let most = if let Taker::Topics(_) = by { usize::MAX } else { most };
        if let Some(take) = self.under_way.get_mut(&bell) {
            take.left = take.left.saturating_add(most);
            take.since = take.since.saturating_add(most);
            return;
        }
        let Some(session) = by.session() else { return };
        let asked = Asked::Again(Instant::now());
        self.under_way.insert(bell, Take { by: by.clone(), session, left: most, since: 0, asked });
        self.ask(waits, bell);
    }

    /// Whether an event belongs to a take or to a caller's hello; then that goes on.
    pub(in crate::client) fn heard(&mut self, waits: &Waits, token: u64) -> bool {
        if token & TAKE != 0 {
            self.answered(waits, token & !TAKE);
        } else if token & HELLO != 0 {
            self.hears(token & !HELLO);
        }
        token & (TAKE | HELLO) != 0
    }

    /// The watch with this token has ended. If it was that of a caller's link, the caller is gone.
    pub(in crate::client) fn link_ended(&mut self, token: u64) {
        self.hears(token);
    }

    /// Looks for a caller's hello.
    fn hears(&mut self, token: u64) {
        if let Some(Hello { intake, number, .. }) = self.hellos.get(&token)
            && !intake.upgrade().is_some_and(|intake| intake.hear(*number))
        {
            self.hellos.remove(&token);
        }
    }

    /// When something is to be done without an event.
    pub(in crate::client) fn due(&self) -> Option<Instant> {
        let due = |take: &Take| match take.asked {
            Asked::Until(_, until) => until,
            Asked::Again(at) => at,
        };
        self.under_way.values().map(due).chain(self.hellos.values().map(|hello| hello.until)).min()
    }

    /// Does what is due.
    pub(in crate::client) fn go_on(&mut self, waits: &Waits) {
        let now = Instant::now();
        for (_, late) in self.hellos.extract_if(|_, hello| now >= hello.until) {
            if let Some(intake) = late.intake.upgrade() {
                intake.give_up(late.number);
            }
        }
        let bells: Vec<u64> = self.under_way.keys().copied().collect();
        for bell in bells {
            match self.under_way.get(&bell).map(|take| &take.asked) {
                Some(Asked::Until(_, until)) if now >= *until => self.again(waits, bell, PAUSE),
                Some(Asked::Again(at)) if now >= *at => self.ask(waits, bell),
                _ => {}
            }
        }
    }

    /// Asks the server for what is next, on a new connection.
    fn ask(&mut self, waits: &Waits, bell: u64) {
        let Some(take) = self.under_way.get_mut(&bell) else { return };
        let Some(session) = take.by.session() else {
            self.under_way.remove(&bell);
            return;
        };
        take.session = session;
        if !take.by.begins_to_ask() {
            take.asked = Asked::Again(Instant::now() + STEP);
            return;
        }
        take.since = 0;
        let path = &take.session.links.place.path;
        let asked = Line::connect(path, Instant::now() + STEP).and_then(|line| {
            // In this order, so that whatever was asked is heard.
            epoll::add(waits, &line, EventData::new_u64(bell | TAKE), EventFlags::IN | EventFlags::RDHUP)?;
            match line.send(&take.by.ask(&take.session)) {
                Ok(()) => Ok(line),
                Err(error) => {
                    let _ = epoll::delete(waits, &line);
                    Err(error)
                }
            }
        });
        failpoint!("take.asked", [link], seldom);
        match asked {
            Ok(line) => take.asked = Asked::Until(line, Instant::now() + PATIENCE),
            Err(_) => take.asked = Asked::Again(Instant::now() + PAUSE),
        }
    }

    /// Receives an answer, which is there.
    fn answered(&mut self, waits: &Waits, bell: u64) {
        let Some(take) = self.under_way.get_mut(&bell) else { return };
        let Asked::Until(line, _) = &take.asked else { return };
        let ask = take.by.ask(&take.session);
        let answer = line.answer(&ask, Instant::now() + STEP);
        failpoint!("take.received", [link, topic], seldom);
        match answer.and_then(|answer| take.by.check(answer)) {
            Ok(Some(taken)) => {
                take.left -= usize::from(take.left < usize::MAX);
                let (by, session) = (take.by.clone(), Arc::clone(&take.session));
                if take.left > 0 {
                    self.ask_next(waits, bell);
                } else {
                    self.end(waits, bell);
                }
                // After the next question, which the server answers meanwhile.
                self.give(&by, &session, taken);
            }
            Ok(None) if take.since > 0 => {
                take.left = take.since;
                self.ask_next(waits, bell);
            }
            Ok(None) => {
                take.by.found_nothing();
                self.end(waits, bell);
            }
            // Nothing was there after all.
            Err(DialError::TimedOut) => {}
            // The registration has ended: its lifeline tells.
            Err(DialError::Refused(Refusal::NotRegistered | Refusal::ShuttingDown, _)) => {
                self.end(waits, bell)
            }
            Err(error) => {
                if let (Taker::Topics(topics), DialError::Refused(Refusal::Quota, why)) = (&take.by, error) {
                    topics.part_was_refused(why);
                }
                self.again(waits, bell, PAUSE);
            }
        }
    }

    /// Gives what was taken to whom it is for.
    fn give(&mut self, by: &Taker, session: &Arc<Session>, taken: Taken) {
        match (by, taken) {
            (Taker::Listener(intake), Taken::Introduction(introduction, descriptors)) => {
                if let Some(Unheard { token, number, until }) =
                    intake.admit(session, &introduction, descriptors)
                {
                    self.hellos.insert(token, Hello { intake: Arc::downgrade(intake), number, until });
                }
            }
            (Taker::Topics(topics), Taken::Part(answer)) => _ = topics.deliver(session, answer),
            _ => {}
        }
    }

    /// Asks for what is next, on the same connection.
    fn ask_next(&mut self, waits: &Waits, bell: u64) {
        let Some(take) = self.under_way.get_mut(&bell) else { return };
        let Asked::Until(line, until) = &mut take.asked else { return };
        (take.since, *until) = (0, Instant::now() + PATIENCE);
        if !take.by.begins_to_ask() || line.send(&take.by.ask(&take.session)).is_err() {
            self.again(waits, bell, PAUSE);
        }
    }

    /// Gives this connection up, and asks on another one after a while. An introduction that arrives too late
    /// is dropped, and the server is told that the link has ended.
    fn again(&mut self, waits: &Waits, bell: u64, pause: Duration) {
        if let Some(take) = self.under_way.get_mut(&bell) {
            // Nobody knows what became of the last one.
            take.left = usize::MAX;
            let again = Asked::Again(Instant::now() + pause);
            if let Asked::Until(line, _) = std::mem::replace(&mut take.asked, again) {
                let _ = epoll::delete(waits, line.as_fd());
                if let Some(answer) = line.give_up() {
                    take.by.too_late(&take.session, answer);
                }
            }
        }
    }

    /// The last question was answered.
    fn end(&mut self, waits: &Waits, bell: u64) {
        if let Some(Take { asked: Asked::Until(line, _), .. }) = self.under_way.remove(&bell) {
            let _ = epoll::delete(waits, line.as_fd());
        }
    }
}

/// What came with an answer, if anything waited.
pub(in crate::client) fn taken(
    answer: Answer,
) -> Result<Option<(Introduction, [OwnedFd; Introduction::DESCRIPTORS])>, DialError> {
    if answer.body.is_empty() {
        return Ok(None);
    }
    let introduction = Introduction::decode(&answer.body);
    introduction.zip(answer.descriptors.exactly()).map(Some).ok_or(DialError::NotRingpost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{self, Geometry, Host, create_link};
    use crate::client::links::set::Links;
    use crate::client::session::Place;
    use crate::connect::connection::Connection;
    use crate::connect::{Proof, Reply};
    use crate::os::descriptors::Wake;
    use crate::ring::WaitStrategy;
    use crate::wire::{Key, Name, Peer};
    use rustix::io::Errno;
    use rustix::net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
        SocketFlags, SocketType, accept, bind, listen, recv, sendmsg, socket_with,
    };
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use tempfile::TempDir;

    const BELL: u64 = 5;
    const INDEX: u16 = 77;

    /// A client that listens at a server which the test plays, and the watcher's part, which the test calls.
    struct Stage {
        takes: Takes,
        waits: Waits,
        intake: Arc<Intake>,
        host: Host,
        listener: OwnedFd,
        _kept: (Wake, UnixStream, TempDir),
    }

    impl Stage {
        fn new() -> Stage {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("bus");
            let listener =
                socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
            bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
            listen(&listener, 8).unwrap();
            let geometry = Geometry::new(4096).unwrap();
            let (host, memory) = channel::create_for_server(&geometry, WaitStrategy::Park).unwrap();
            let guest = channel::open_for_client(&memory, WaitStrategy::Park).unwrap();
            let (here, there) = UnixStream::pair().unwrap();
            let place = Place { path, wait: WaitStrategy::Park, timeout: Duration::ZERO, relay: false };
            let (links, proof) = (Links::new(place), Proof::without_secret(Key::from_u128(1)));
            let (lifeline, name) = (Connection::of(here.into()).unwrap(), Name::new("bob").unwrap());
            let session = Session::begin(&guest, lifeline, proof, name, links).unwrap();
            let (waits, wake) = Waits::new().unwrap();
            let intake = Intake::without_bell(&Arc::new(session));
            Stage { takes: Takes::default(), waits, intake, host, listener, _kept: (wake, there, directory) }
        }

        fn ring(&mut self, times: usize) {
            self.takes.rung(&self.waits, BELL, &Taker::Listener(Arc::clone(&self.intake)), times);
        }

        /// The watcher hears what the server has sent.
        fn hear(&mut self) {
            let deadline = Instant::now() + Duration::from_secs(60);
            while Instant::now() < deadline {
                if self
                    .waits
                    .wait(None)
                    .unwrap()
                    .into_iter()
                    .any(|token| self.takes.heard(&self.waits, token))
                {
                    return;
                }
            }
            panic!("nothing came");
        }

        /// The server's end of the next connection, on which was asked.
        fn asked(&self) -> OwnedFd {
            let server = accept(&self.listener).unwrap();
            assert!(was_asked(&server));
            server
        }
    }

    /// Whether one more question was asked on this connection.
    fn was_asked(server: &OwnedFd) -> bool {
        match recv(server, &mut [0_u8; 256][..], RecvFlags::DONTWAIT) {
            Ok((bytes, _)) => bytes > 0,
            Err(errno) => {
                assert_eq!(errno, Errno::AGAIN);
                false
            }
        }
    }

    fn nothing(server: &OwnedFd) {
        answer(server, b"", &[]).unwrap();
    }

    /// An introduction, with these four descriptors.
    fn introduce(server: &OwnedFd, descriptors: [OwnedFd; Introduction::DESCRIPTORS]) {
        let peer = Peer { name: Name::new("alice").unwrap(), key: Key::from_u128(2), pid: 1, uid: 2, gid: 3 };
        let max_block = Geometry::new(4096).unwrap().max_block();
        let introduction = Introduction { id: 5, index: INDEX, ring_size: 4096, max_block, peer };
        answer(server, &introduction.encode(), &descriptors).unwrap();
    }

    fn answer(server: &OwnedFd, body: &[u8], descriptors: &[OwnedFd]) -> rustix::io::Result<usize> {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(Introduction::DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(server, &[IoSlice::new(&Reply::done(body))], &mut control, SendFlags::NOSIGNAL)
    }

    /// Four descriptors that are no link.
    fn others() -> [OwnedFd; Introduction::DESCRIPTORS] {
        std::array::from_fn(|_| std::io::pipe().unwrap().0.into())
    }

    #[test]
    fn it_asks_as_often_as_the_bell_rang() {
        let mut stage = Stage::new();
        stage.ring(2);
        let server = stage.asked();
        stage.ring(1);
        for left in [2, 1, 0] {
            introduce(&server, others());
            stage.hear();
            assert_eq!(
                (!stage.takes.under_way.is_empty(), left > 0 && was_asked(&server)),
                (left > 0, left > 0)
            );
        }
        assert_eq!(answer(&server, b"", &[]), Err(Errno::PIPE), "it has closed the connection");
    }

    /// The server has answered, then another caller came, and both are heard, the bell first.
    #[test]
    fn a_ring_behind_the_question_makes_it_ask_again() {
        let mut stage = Stage::new();
        for first in [usize::MAX, 1] {
            stage.ring(first);
            let server = stage.asked();
            nothing(&server);
            stage.ring(1);
            stage.hear();
            assert!(was_asked(&server));
            nothing(&server);
            stage.hear();
            assert!(stage.takes.under_way.is_empty() && stage.takes.due().is_none());
        }
    }

    #[test]
    fn what_comes_too_late_is_dropped_and_told() {
        let mut stage = Stage::new();
        stage.ring(1);
        let server = stage.asked();
        introduce(&server, others());
        stage.takes.again(&stage.waits, BELL, Duration::ZERO);
        assert!(stage.host.links.bit(INDEX));
        assert_eq!(answer(&server, b"", &[]), Err(Errno::PIPE), "nothing more can come");
        // It asks on another connection, for whatever waits.
        stage.takes.go_on(&stage.waits);
        let server = stage.asked();
        introduce(&server, others());
        stage.hear();
        assert!(was_asked(&server));
    }

    #[test]
    fn what_cannot_be_opened_is_told() {
        let mut stage = Stage::new();
        let mut without_peer = others();
        without_peer[0] = create_link(&Geometry::new(4096).unwrap()).unwrap();
        for (times, descriptors) in [others(), without_peer].into_iter().enumerate() {
            stage.ring(1);
            let server = stage.asked();
            introduce(&server, descriptors);
            stage.hear();
            assert_eq!(stage.host.links.bit(INDEX), times == 0, "it is flipped each time");
        }
    }
}
