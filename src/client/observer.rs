//! Looking at a server from outside, without registering.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::RegisterError;
use super::session::{deadline_in, dial, explain};
use crate::connect::dial::Line;
use crate::connect::listing::decode_page;
use crate::connect::{Ask, ServerInfo};
use crate::registry::ClientInfo;

/// A connection that asks a server about itself and its clients. It has no name and no key, and is not in the list.
///
/// A connection answers questions for ten seconds; then connect again.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Observer, Server};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("bus");
/// let _server = Server::builder(&path).start()?;
/// let _alice = Client::register(&path, "alice")?;
/// let observer = Observer::connect(&path)?;
/// assert_eq!(observer.list()?[0].name.as_str(), "alice");
/// assert_eq!(observer.server()?.clients, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Observer {
    line: Line,
    timeout: Duration,
    path: PathBuf,
}

/// How long a question may take.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Observer {
    /// Connects to the server at a path. Each question may take five seconds.
    ///
    /// Blocks until the connection stands, five seconds at most.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`]: there is no server, it is not one to be trusted, or it does not let this process in.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Observer, RegisterError, Server};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
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
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// let _server = Server::builder(&path).start()?;
    /// let observer = Observer::connect_timeout(&path, Duration::from_secs(1))?;
    /// assert!(observer.list()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connect_timeout(path: impl AsRef<Path>, timeout: Duration) -> Result<Observer, RegisterError> {
        let path = path.as_ref().to_owned();
        Ok(Observer { line: dial(&path, deadline_in(timeout))?, timeout, path })
    }

    /// On a connection that stands.
    #[cfg(fuzzing)]
    pub(super) fn on(line: Line, timeout: Duration) -> Observer {
        Observer { line, timeout, path: PathBuf::new() }
    }

    /// What the server tells about itself. Blocks until it answers, at most the time that [`connect_timeout`](Self::connect_timeout)
    /// was given.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`]. `NoServer` also says that the server has closed this connection, which it does after ten seconds.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Observer, Server};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// let _server = Server::builder(&path).max_clients(10).start()?;
    /// let info = Observer::connect(&path)?.server()?;
    /// assert_eq!((info.pid, info.max_clients), (std::process::id(), 10));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn server(&self) -> Result<ServerInfo, RegisterError> {
        let body = self.ask(&Ask::Server)?;
        ServerInfo::decode(&body).ok_or_else(|| self.not_ringpost())
    }

    /// Who is registered now. Clients that come or go while the pages of a long list are fetched may or may not be in it. Each page
    /// blocks as [`server`](Self::server) does.
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
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut client = Client::register(&path, "alice")?;
    /// for client in Observer::connect(&path)?.list()? {
    ///     println!("{}: {} calls", client.name, client.counters.calls);
    /// }
    /// # client.ping()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list(&self) -> Result<Vec<ClientInfo>, RegisterError> {
        let mut clients = Vec::new();
        let mut from_slot = 0;
        loop {
            let body = self.ask(&Ask::List { from_slot })?;
            let (page, next) = decode_page(&body, from_slot).ok_or_else(|| self.not_ringpost())?;
            clients.extend(page);
            match next {
                None => return Ok(clients),
                Some(next) => from_slot = next,
            }
        }
    }

    fn ask(&self, ask: &Ask) -> Result<Vec<u8>, RegisterError> {
        self.line
            .ask(ask, deadline_in(self.timeout))
            .map(|answer| answer.body)
            .map_err(|error| explain(error, &self.path, None))
    }

    fn not_ringpost(&self) -> RegisterError {
        RegisterError::NotRingpost { path: self.path.clone() }
    }
}
