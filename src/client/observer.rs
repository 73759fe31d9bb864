//! Looking at a server from outside, without registering.
//!
//! Answers are not numbered, so a connection on which a question failed, or ran out of time, is never used
//! again: the answer may still come. A connection is kept from one question to the next, and dialled anew if
//! it cannot be used. Nobody else uses it meanwhile: it is taken out of its place for the time of a question,
//! so that no lock is held over a wait.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use super::error::{ControlError, RegisterError};
use super::session::{ask_anew, deadline_in, explain};
use crate::connect::control::{LONGEST_COMMAND, Obeyed};
use crate::connect::dial::{DialError, Line};
use crate::connect::figures::collect;
use crate::connect::listing::decode_page;
use crate::connect::topics::decode_topics;
use crate::connect::{Ask, Figures, LinkInfo, Refusal, ServerInfo, TopicInfo, decode_links, lasting};
use crate::registry::ClientInfo;

/// Asks a server about itself and its clients. It has no name and no key, and is not in the list.
///
/// It keeps a connection, and makes another one when that ended: the server closes it after ten seconds, and
/// after a question that failed it is given up. So an observer goes on with the next server at its path.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Observer, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _server = Server::builder(&path).start()?;
/// let _alice = Client::register(&path, "alice")?;
/// let observer = Observer::connect(&path)?;
/// assert_eq!(observer.list()?[0].name.as_str(), "alice");
/// assert_eq!(observer.server()?.clients, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Observer {
    /// For the next question.
    pub(super) kept: Mutex<Option<Kept>>,
    pub(super) timeout: Duration,
    pub(super) path: PathBuf,
}

/// A connection between two questions.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) line: Line,
    /// Whether it was used. If not, what lies there is what the server has to say to whoever connects.
    pub(super) used: bool,
}

/// How long a question may take.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Observer {
    /// Connects to the server at a path. Each question may take five seconds.
    ///
    /// Blocks until the connection stands, five seconds at most. A relative path is made absolute now.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`]: there is no server, it is not one to be trusted, or it does not let this
    /// process in.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Observer, RegisterError, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// assert!(matches!(Observer::connect(&path), Err(RegisterError::NoServer { .. })));
    /// let _server = Server::builder(&path).start()?;
    /// assert_eq!(Observer::connect(&path)?.server()?.clients, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connect(path: impl AsRef<Path>) -> Result<Observer, RegisterError> {
        Observer::connect_timeout(path, TIMEOUT)
    }

    /// As [`connect`](Self::connect), but this call and each question block at most this long.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Observer, Server};
    /// use std::time::Duration;
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path).start()?;
    /// let observer = Observer::connect_timeout(&path, Duration::from_secs(30))?;
    /// assert!(observer.list()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connect_timeout(path: impl AsRef<Path>, timeout: Duration) -> Result<Observer, RegisterError> {
        let observer = Observer { kept: Mutex::default(), timeout, path: lasting(path.as_ref().to_owned()) };
        let line = Line::connect(&observer.path, deadline_in(timeout))
            .map_err(|error| explain(error, &observer.path, None))?;
        line.refuse_descriptors();
        observer.keep(Kept { line, used: false });
        Ok(observer)
    }

    /// What the server tells about itself. Blocks until it answers, at most the time that
    /// [`connect_timeout`](Self::connect_timeout) was given.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Observer, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path).max_clients(10).start()?;
    /// let info = Observer::connect(&path)?.server()?;
    /// assert_eq!((info.pid, info.max_clients), (std::process::id(), 10));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn server(&self) -> Result<ServerInfo, RegisterError> {
        self.question(|line, deadline| {
            let body = line.ask(&Ask::Server, deadline)?.body;
            ServerInfo::decode(&body).ok_or(DialError::NotRingpost)
        })
    }

    /// Who is registered now. Clients that come or go while the pages of a long list are fetched may or may
    /// not be in it. Blocks as [`server`](Self::server) does, for all pages together.
    ///
    /// # Errors
    ///
    /// Those of [`server`](Self::server).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Observer;
    ///
    /// # use ringpost::{Client, Server};
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut client = Client::register(&path, "alice")?;
    /// for client in Observer::connect(&path)?.list()? {
    ///     println!("{}: {} calls", client.name, client.counters.calls);
    /// }
    /// # client.caller().ping()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list(&self) -> Result<Vec<ClientInfo>, RegisterError> {
        self.question(|line, deadline| {
            let mut clients = Vec::new();
            let mut from_slot = 0;
            loop {
                let body = line.ask(&Ask::List { from_slot }, deadline)?.body;
                let (page, next) = decode_page(&body, from_slot).ok_or(DialError::NotRingpost)?;
                clients.extend(page);
                match next {
                    None => return Ok(clients),
                    Some(next) => from_slot = next,
                }
            }
        })
    }

    /// The links between this server's clients that are open now, as the clients say. Blocks as
    /// [`list`](Self::list) does.
    ///
    /// # Errors
    ///
    /// Those of [`server`](Self::server).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Observer;
    ///
    /// # use ringpost::{Client, Server};
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// # let _server = Server::builder(&path).start()?;
    /// let mut bob = Client::register(&path, "bob")?;
    /// let _serving = bob.listen()?.serve(|request, response| response.write(request.payload()))?;
    /// let mut alice = Client::register(&path, "alice")?;
    /// let _link = alice.connect("bob")?;
    /// let links = Observer::connect(&path)?.links()?;
    /// assert_eq!((links[0].caller.as_str(), links[0].callee.as_str()), ("alice", "bob"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn links(&self) -> Result<Vec<LinkInfo>, RegisterError> {
        self.question(|line, deadline| {
            let mut links = Vec::new();
            let mut from = 0;
            loop {
                let body = line.ask(&Ask::Links { from }, deadline)?.body;
                let (page, next) = decode_links(&body, from).ok_or(DialError::NotRingpost)?;
                links.extend(page);
                match next {
                    None => return Ok(links),
                    Some(next) => from = next,
                }
            }
        })
    }

    /// The topics that clients of this server publish now: one for each publisher, also where several publish
    /// the same. Blocks as [`list`](Self::list) does.
    ///
    /// # Errors
    ///
    /// Those of [`server`](Self::server).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Observer;
    ///
    /// # use ringpost::{Client, Server};
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// # let _server = Server::builder(&path).start()?;
    /// let mut alice = Client::register(&path, "alice")?;
    /// let _prices = alice.publish("prices/AAPL")?;
    /// let topics = Observer::connect(&path)?.topics()?;
    /// assert_eq!((topics[0].topic.as_str(), topics[0].publisher.as_str()), ("prices/AAPL", "alice"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn topics(&self) -> Result<Vec<TopicInfo>, RegisterError> {
        self.question(|line, deadline| {
            let mut topics = Vec::new();
            let mut from = 0;
            loop {
                let body = line.ask(&Ask::Topics { from }, deadline)?.body;
                let (page, next) = decode_topics(&body, from).ok_or(DialError::NotRingpost)?;
                topics.extend(page);
                match next {
                    None => return Ok(topics),
                    Some(next) => from = next,
                }
            }
        })
    }

    /// What the bus counts about itself: clients, links, topics and the server, with how full rings are and
    /// how long things take. Blocks as [`list`](Self::list) does. [`Figures`] says how to make rates of
    /// two looks.
    ///
    /// Everyone who may connect may look. While the server's own user or root looks, and for ten seconds
    /// after each look, the server and its clients also measure durations, with a clock that they do not
    /// read otherwise.
    ///
    /// # Errors
    ///
    /// Those of [`server`](Self::server).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Observer;
    ///
    /// # use ringpost::{Client, Server};
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// # let _server = Server::builder(&path).start()?;
    /// # let _client = Client::register(&path, "alice")?;
    /// for client in Observer::connect(&path)?.figures()?.clients {
    ///     let inbox = client.inbox;
    ///     println!("{}: {} of {} bytes of its inbox in use", client.info.name, inbox.used, inbox.size);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn figures(&self) -> Result<Figures, RegisterError> {
        let deadline = deadline_in(self.timeout);
        // Page by page, so that it goes on where it was if the server ends the connection in between.
        let ask = |section, from| {
            self.question_until(deadline, |line, deadline| {
                Ok(line.ask(&Ask::Figures { section, from }, deadline)?.body)
            })
        };
        collect(ask, || explain(DialError::NotRingpost, &self.path, None))
    }

    /// Gives the server a command, which it understands as
    /// [`ServerBuilder::control`](crate::ServerBuilder::control) says, and returns what it says to it. Only
    /// the server's own user and root may do that. A command has 1 to 4096 bytes, an answer at most 8192:
    /// what is longer was cut. It is the server's text: escape it before a terminal shows it.
    ///
    /// Blocks until the command was carried out, at most the time that
    /// [`connect_timeout`](Self::connect_timeout) was given, and ten seconds.
    ///
    /// # Errors
    ///
    /// See [`ControlError`]. After a time-out the server may still carry it out.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Observer, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path).control(|command| Ok(command.to_uppercase())).start()?;
    /// assert_eq!(Observer::connect(&path)?.control("hello")?, "HELLO");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn control(&self, command: &str) -> Result<String, ControlError> {
        if !(1..=LONGEST_COMMAND).contains(&command.len()) {
            return Err(ControlError::Length(command.len()));
        }
        let deadline = deadline_in(self.timeout);
        // On a connection of its own, so that it is not asked again, and carried out twice, should that end.
        let obeyed = ask_anew(&self.path, deadline, |line| {
            line.refuse_descriptors();
            let body = line.ask(&Ask::Control(command.to_owned()), deadline)?.body;
            Obeyed::decode(&body).ok_or(DialError::NotRingpost)
        });
        match obeyed.map_err(|error| explain(error, &self.path, None))? {
            Obeyed::Done(text) => Ok(text),
            Obeyed::Failed(why) => Err(ControlError::Failed(why)),
            Obeyed::NotPermitted => Err(ControlError::NotPermitted),
            Obeyed::NoCommands => Err(ControlError::NoCommands),
            Obeyed::Busy => Err(ControlError::Busy),
        }
    }

    /// Asks on the connection that was kept, and from the beginning on a new one if there is none or the
    /// server ended it.
    fn question<T>(&self, ask: impl Fn(&Line, Instant) -> Result<T, DialError>) -> Result<T, RegisterError> {
        self.question_until(deadline_in(self.timeout), ask)
    }

    fn question_until<T>(
        &self,
        deadline: Instant,
        ask: impl Fn(&Line, Instant) -> Result<T, DialError>,
    ) -> Result<T, RegisterError> {
        let asked = match self.kept() {
            Some(line) => ask(&line, deadline).map(|answer| (line, answer)),
            None => Err(DialError::NoServer(std::io::ErrorKind::NotConnected.into())),
        };
        let asked = match asked {
            Err(error) if is_end(&error) => ask_anew(&self.path, deadline, |line| {
                line.refuse_descriptors();
                ask(&line, deadline).map(|answer| (line, answer))
            }),
            asked => asked,
        };
        let (line, answer) = asked.map_err(|error| explain(error, &self.path, None))?;
        self.keep(Kept { line, used: true });
        Ok(answer)
    }

    /// The connection, if it can be used; the caller has it alone until it gives it back.
    fn kept(&self) -> Option<Line> {
        let kept = match self.kept.try_lock() {
            Ok(mut kept) => kept.take(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
            // Another thread has it in its hands just now, or had when this process was forked.
            Err(TryLockError::WouldBlock) => None,
        };
        let usable = |kept: &Kept| if kept.used { kept.line.is_usable() } else { kept.line.is_ours() };
        kept.filter(usable).map(|kept| kept.line)
    }

    fn keep(&self, line: Kept) {
        let former = match self.kept.try_lock() {
            Ok(mut kept) => kept.replace(line),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().replace(line),
            Err(TryLockError::WouldBlock) => Some(line),
        };
        drop(former);
    }
}

/// Whether a question on a connection that was kept failed because the server ended it meanwhile. A server
/// that shuts down says so to whoever has not asked yet; another may run by now.
fn is_end(error: &DialError) -> bool {
    use DialError::{Io, NoServer, Refused};
    matches!(
        error,
        NoServer(_) | Io(_) | Refused(Refusal::Unknown | Refusal::Busy | Refusal::ShuttingDown, _)
    )
}
