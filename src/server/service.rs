//! The user's code that answers calls, and what it sees.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::ring::{Draft, Producer};
use crate::server::member::Member;
use crate::testing::failpoints::failpoint;
use crate::wire::{BLOCK_HEADER, BlockHeader, Key, Name, Status};

/// A call that a client makes: what it sent, and who it is. Nothing of it blocks.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Request, Response, Server, ServiceError};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _server = Server::builder(&path)
///     .service(|request: Request<'_>, response: &mut Response<'_>| {
///         // The name comes from the server's registry: nobody can pretend to be another.
///         if request.name() != &"alice" {
///             return Err(ServiceError::new("only alice may ask"));
///         }
///         response.write(request.payload())
///     })
///     .start()?;
/// assert_eq!(Client::register(&path, "alice")?.call(b"may I?")?, b"may I?");
/// assert!(Client::register(&path, "bob")?.call(b"may I?").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    payload: &'a [u8],
    caller: &'a Member,
}

impl<'a> Request<'a> {
    pub(super) fn new(payload: &'a [u8], caller: &'a Member) -> Request<'a> {
        Request { payload, caller }
    }

    /// What the client sent: the server's own copy, which nobody changes any more.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| response.write(request.payload()))
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.call(b"ping")?, b"ping");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The caller's name.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| response.write(request.name().as_bytes()))
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.call(b"")?, b"alice");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn name(&self) -> &'a Name {
        &self.caller.name
    }

    /// The caller's key, for a service that keeps something for each client: a key is never given twice.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| response.write(&request.key().to_bytes()))
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// let key = client.key().to_bytes();
    /// assert_eq!(client.call(b"")?, key);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn key(&self) -> Key {
        self.caller.key
    }

    /// The process that registered the caller, as the kernel says; 0 if it lives in a process namespace that
    /// the server does not see.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| response.write(&request.pid().to_le_bytes()))
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.call(b"")?, std::process::id().to_le_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pid(&self) -> u32 {
        self.caller.owner.pid
    }

    /// The user that registered the caller, as the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| response.write(&request.uid().to_le_bytes()))
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// # use std::os::unix::fs::MetadataExt;
    /// let own = std::fs::metadata(path.parent().unwrap())?.uid();
    /// assert_eq!(client.call(b"")?, own.to_le_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn uid(&self) -> u32 {
        self.caller.owner.uid
    }

    /// The group that registered the caller, as the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| response.write(&request.gid().to_le_bytes()))
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// println!("group {:?}", client.call(b"")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn gid(&self) -> u32 {
        self.caller.owner.gid
    }
}

/// Why a service did not answer. The text reaches the caller: as
/// [`CallError::ServiceFailed`](crate::CallError::ServiceFailed), or
/// as [`CallError::ResponseTooLarge`](crate::CallError::ResponseTooLarge) for [`TooLarge`](Self::TooLarge).
///
/// An [`io::Error`] and a [`PayloadError`](crate::PayloadError) become one by `?`.
///
/// # Examples
///
/// ```
/// use ringpost::zerocopy::IntoBytes;
/// use ringpost::{CallError, Client, Request, Response, Server, ServiceError};
///
/// fn divide(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
///     let [a, b] = request.payload_as::<[u32; 2]>()?;
///     let quotient = a.checked_div(b).ok_or_else(|| ServiceError::new("division by 0"))?;
///     response.write_as(&quotient)
/// }
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _server = Server::builder(&path).service(divide).start()?;
/// let mut client = Client::register(&path, "alice")?;
/// assert_eq!(client.call([6_u32, 3].as_bytes())?.read::<u32>()?, 2);
/// let nothing = client.call(&[0; 8]);
/// assert_eq!(nothing, Err(CallError::ServiceFailed("division by 0".into())));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The service's own words.
    #[error("{0}")]
    Failed(String),
    /// More was written than a response holds.
    #[error(
        "the service's response is larger than the maximum of {max} bytes: answer less, or start the server with larger rings \
         (ServerBuilder::ring_size, --ring-size), and a larger max_block if it was given one"
    )]
    TooLarge {
        /// The most that a response holds.
        max: usize,
    },
}

impl ServiceError {
    /// A failure with a text for the caller.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::ServiceError;
    ///
    /// assert_eq!(ServiceError::new("not now").to_string(), "not now");
    /// ```
    pub fn new(text: impl Into<String>) -> ServiceError {
        ServiceError::Failed(text.into())
    }
}

impl From<io::Error> for ServiceError {
    fn from(error: io::Error) -> ServiceError {
        ServiceError::Failed(error.to_string())
    }
}

/// Code that answers calls. It runs on the worker thread of the client that calls, so it may be entered by
/// several threads at once.
///
/// Implemented by closures `Fn(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError>`. If it panics the
/// caller is told ([`CallError::ServiceFailed`](crate::CallError)) and nobody else notices. While it blocks,
/// the worker serves nothing else of this client; the others are served by their own. If it calls its own
/// server as a client, that call is served by another worker.
///
/// A worker has the default scheduling policy, a stack of 2 MiB (or what `RUST_MIN_STACK` asks for, if that
/// is more, up to 1 GiB), and all signals blocked that are not raised by its own instructions. Threads that a
/// service starts inherit that. Programs that it starts by `std::process::Command` do not: it gives them an
/// empty signal mask.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Request, Response, Server, Service, ServiceError};
///
/// struct Upper;
///
/// impl Service for Upper {
///     fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
///         let text = std::str::from_utf8(request.payload()).map_err(|_| ServiceError::new("send UTF-8"))?;
///         response.write(text.to_uppercase().as_bytes())
///     }
/// }
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _server = Server::builder(&path).service(Upper).start()?;
/// assert_eq!(Client::register(&path, "alice")?.call(b"hello")?, b"HELLO");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Service: Send + Sync + 'static {
    /// Answers one call. What was written to the response when this returns `Ok` is the response, be it
    /// empty.
    ///
    /// # Errors
    ///
    /// Whatever the service says: the caller gets its text and nothing of what was written.
    fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError>;
}

impl<F> Service for F
where
    F: Fn(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> + Send + Sync + 'static,
{
    fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
        self(request, response)
    }
}

/// The response to a call, being written: straight into the caller's ring while it fits there in one piece,
/// else into memory first. The caller receives nothing of it before the service returns `Ok`, and nothing at
/// all if it fails.
///
/// What was written and is not sent, because of [`clear`](Self::clear), an error or a panic, is overwritten
/// with zeros in the ring. Until then a caller that looks into the memory of its ring can read it. So what
/// this caller may not see is not written before that is decided.
///
/// Also an [`io::Write`], for `write!`.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Request, Response, Server};
/// use std::io::Write;
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _server = Server::builder(&path)
///     .service(|request: Request<'_>, response: &mut Response<'_>| {
///         write!(response, "{} bytes from {}", request.payload().len(), request.name())?;
///         Ok(())
///     })
///     .start()?;
/// assert_eq!(Client::register(&path, "alice")?.call(b"four")?, b"4 bytes from alice");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Response<'a> {
    ring: &'a mut Producer,
    spare: &'a mut Vec<u8>,
    /// The body in the ring, behind room for the header; none if it lies in the spare memory.
    draft: Option<Draft>,
    written: usize,
    sequence: u32,
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("written", &self.written).finish_non_exhaustive()
    }
}

/// What is left to do when the service has returned.
pub(super) enum Finished {
    /// The response is committed in the ring.
    Committed { bytes: usize },
    /// The body lies in the spare memory and waits to be published with this status.
    Spare(Status),
}

impl<'a> Response<'a> {
    /// Begins the response to the request with this number.
    #[inline(always)]
    pub(super) fn begin(ring: &'a mut Producer, spare: &'a mut Vec<u8>, sequence: u32) -> Response<'a> {
        let draft = ring.begin(BLOCK_HEADER).ok();
        failpoint!("draft.begun");
        spare.clear();
        Response { ring, spare, draft, written: 0, sequence }
    }

    /// Appends bytes to the response. Does not block: room in the caller's ring is waited for after the
    /// service has returned.
    ///
    /// # Errors
    ///
    /// [`ServiceError::TooLarge`] if it would grow beyond what a response holds; what was written before
    /// stays.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| {
    ///         response.write(b"hello ")?;
    ///         response.write(request.name().as_bytes())
    ///     })
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.call(b"")?, b"hello alice");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ServiceError> {
        if let Some(draft) = &self.draft
            && bytes.len() <= draft.room() - BLOCK_HEADER - self.written
        {
            self.ring.write(draft, BLOCK_HEADER + self.written, bytes);
            self.written += bytes.len();
            return Ok(());
        }
        self.write_beyond(bytes)
    }

    /// More than the line in which the response began, or into memory.
    #[inline(never)]
    fn write_beyond(&mut self, bytes: &[u8]) -> Result<(), ServiceError> {
        if bytes.len() > self.remaining() {
            return Err(ServiceError::TooLarge { max: self.max() });
        }
        if let Some(draft) = &mut self.draft {
            self.ring.extend(draft, BLOCK_HEADER + self.written + bytes.len());
            if bytes.len() <= draft.room() - BLOCK_HEADER - self.written {
                self.ring.write(draft, BLOCK_HEADER + self.written, bytes);
                self.written += bytes.len();
                return Ok(());
            }
            // With nothing written yet, it may have a place at the start of the ring.
            if self.written == 0
                && let Ok(elsewhere) = self.ring.begin(BLOCK_HEADER + bytes.len())
            {
                self.ring.write(&elsewhere, BLOCK_HEADER, bytes);
                self.written = bytes.len();
                *draft = elsewhere;
                return Ok(());
            }
        }
        // A response for which there is no memory is not the end of the process.
        let more = self.written + bytes.len() - self.spare.len();
        self.spare.try_reserve(more).map_err(|_| ServiceError::new("no memory for the response"))?;
        if let Some(draft) = &self.draft {
            // It does not fit there in one piece: move what was written out of the ring.
            let body = BLOCK_HEADER..BLOCK_HEADER + self.written;
            self.ring.read_back(draft, body, self.spare);
            self.ring.take_back(draft, BLOCK_HEADER + self.written);
            self.draft = None;
        }
        self.spare.extend_from_slice(bytes);
        self.written += bytes.len();
        Ok(())
    }

    /// The most that a response holds.
    fn max(&self) -> usize {
        self.ring.max_block() - BLOCK_HEADER
    }

    /// How many more bytes can be written. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| {
    ///         let fits = request.payload().len().min(response.remaining() / 2);
    ///         response.write(&request.payload()[..fits])?;
    ///         response.write(&request.payload()[..fits])
    ///     })
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.call(b"ab")?, b"abab");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn remaining(&self) -> usize {
        self.max() - self.written
    }

    /// How many bytes were written. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| {
    ///         response.write(request.payload())?;
    ///         let written = response.written() as u64;
    ///         response.write(&written.to_le_bytes())
    ///     })
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.call(b"")?, 0_u64.to_le_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn written(&self) -> usize {
        self.written
    }

    /// Takes back all that was written, and overwrites it with zeros in the caller's ring. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| {
    ///         response.write(b"a good answer")?;
    ///         if request.payload() != b"please" {
    ///             response.clear();
    ///             response.write(b"say please")?;
    ///         }
    ///         Ok(())
    ///     })
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.call(b"")?, b"say please");
    /// assert_eq!(client.call(b"please")?, b"a good answer");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear(&mut self) {
        self.overwrite_draft();
        self.spare.clear();
        self.written = 0;
    }

    /// Puts zeros over what was written in the caller's ring: it will not be sent.
    #[cold]
    #[inline(never)]
    fn overwrite_draft(&mut self) {
        if let Some(draft) = &self.draft {
            self.ring.take_back(draft, BLOCK_HEADER + self.written);
        }
    }

    /// Commits what was written if it lies in the ring. The response must be forgotten then: its drop is for
    /// what is not committed.
    #[inline(always)]
    pub(super) fn finish(&mut self) -> Finished {
        let Some(draft) = &self.draft else { return Finished::Spare(Status::Ok) };
        let header = BlockHeader::new(Status::Ok as u16, 0, self.sequence);
        self.ring.write_first_word(draft, header.to_word());
        self.ring.commit_draft(draft, BLOCK_HEADER + self.written);
        Finished::Committed { bytes: self.written }
    }

    /// Throws away what was written, and the drop overwrites it in the ring; the failure's text becomes the
    /// body.
    #[cold]
    pub(super) fn fail(self, status: Status, text: &str) -> Finished {
        let max = self.max();
        self.spare.clear();
        let cut = (0..=text.len().min(max)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        self.spare.extend_from_slice(&text.as_bytes()[..cut]);
        Finished::Spare(status)
    }
}

impl Drop for Response<'_> {
    /// Only where the response is not committed: the service failed, or it panicked.
    fn drop(&mut self) {
        self.overwrite_draft();
    }
}

impl io::Write for Response<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fit = bytes.len().min(self.remaining());
        if fit == 0 && !bytes.is_empty() {
            return Err(io::Error::other(ServiceError::TooLarge { max: self.max() }));
        }
        Response::write(self, &bytes[..fit]).map_err(io::Error::other)?;
        Ok(fit)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
