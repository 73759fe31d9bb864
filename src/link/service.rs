//! Services: the code that answers calls, the request it sees and the response it writes.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::codec::{EncodeError, FromPayload, Payload, PayloadError};
use crate::ring::{Draft, Producer};
use crate::testing::failpoints::failpoint;
use crate::wire::{BLOCK_HEADER, BlockHeader, Peer, Status, beginning};

/// A call that a client makes: what it sent, and who it is. Nothing of it blocks.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Server, ServiceError};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _server = Server::builder(&path)
///     .service(|request, response| {
///         if request.peer().name != "alice" {
///             return Err(ServiceError::new("only alice may ask"));
///         }
///         let number: u32 = request.read()?;
///         response.write(&number.count_ones().to_ne_bytes())
///     })
///     .start()?;
/// let mut alice = Client::register(&path, "alice")?;
/// assert_eq!(alice.call(&0b1011_u32.to_ne_bytes())?, 3_u32.to_ne_bytes());
/// assert!(alice.call(b"not four bytes").is_err());
/// assert!(Client::register(&path, "bob")?.call(b"four").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    payload: &'a [u8],
    peer: &'a Peer,
    wants_response: bool,
}

impl<'a> Request<'a> {
    #[inline(always)]
    pub(crate) fn new(payload: &'a [u8], peer: &'a Peer) -> Request<'a> {
        Request { payload, peer, wants_response: true }
    }

    /// A request that nobody waits for.
    pub(crate) fn posted(payload: &'a [u8], peer: &'a Peer) -> Request<'a> {
        Request { payload, peer, wants_response: false }
    }

    /// What the client sent: the server's own copy, which nobody changes any more.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The payload as a value: of a fixed layout, copied out of it, or of any codec's wrapper
    /// ([`FromPayload`]).
    ///
    /// # Errors
    ///
    /// The payload is not a `T`. With `?` the caller gets the error's text as
    /// [`CallError::ServiceFailed`](crate::CallError::ServiceFailed).
    pub fn read<T: FromPayload<'a>>(&self) -> Result<T, PayloadError> {
        T::from_payload(self.payload)
    }

    /// Who calls, as the server knows it: a client cannot pretend to be another.
    pub fn peer(&self) -> &'a Peer {
        self.peer
    }

    /// Whether the caller gets a response. One that [posted](crate::Link::post) its request does not: what
    /// the service writes is thrown away, and nobody is told if it fails.
    pub fn wants_response(&self) -> bool {
        self.wants_response
    }
}

/// Why a service did not answer. The caller gets its text, as
/// [`CallError::ServiceFailed`](crate::CallError::ServiceFailed).
///
/// Every error becomes one by `?`, and then the caller reads that error's own text (not those of its
/// sources): turn errors whose text is not for callers into one of your own with [`new`](Self::new). So it is
/// no [`Error`] itself.
///
/// What [`Response::write`] returns for a response that is too large tells the caller so, as
/// [`CallError::ResponseTooLarge`](crate::CallError::ResponseTooLarge).
///
/// # Examples
///
/// ```
/// use ringpost::zerocopy::IntoBytes;
/// use ringpost::{CallError, Client, Request, Response, Server, ServiceError};
///
/// fn divide(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
///     let text = str::from_utf8(request.payload())?;
///     let (a, b) = text.split_once('/').ok_or_else(|| ServiceError::new("send a/b"))?;
///     let (a, b): (u32, u32) = (a.parse()?, b.parse()?);
///     let quotient = a.checked_div(b).ok_or_else(|| ServiceError::new("division by 0"))?;
///     response.write(&quotient.to_string())
/// }
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _server = Server::builder(&path).service(divide).start()?;
/// let mut client = Client::register(&path, "alice")?;
/// assert_eq!(client.call(b"6/3")?, b"2");
/// let failed = |text: &str| Err(CallError::ServiceFailed(text.into()));
/// assert_eq!(client.call(b"6/0"), failed("division by 0"));
/// assert_eq!(client.call(b"6/x"), failed("invalid digit found in string"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
// In a box, because it is returned by every call: the usual `Ok` then fits into a register.
pub struct ServiceError(Box<Failure>);

struct Failure {
    text: String,
    /// The response was too large. A status of its own tells the caller so.
    too_large: bool,
}

impl ServiceError {
    /// A failure with a text for the caller.
    #[cold]
    pub fn new(text: impl fmt::Display) -> ServiceError {
        ServiceError(Box::new(Failure { text: text.to_string(), too_large: false }))
    }

    #[cold]
    pub(super) fn too_large(max: usize) -> ServiceError {
        TooLarge { max }.into()
    }

    /// The status and the text that the caller receives.
    pub(super) fn into_parts(self) -> (Status, String) {
        let (status, _) = self.as_parts();
        (status, self.0.text)
    }

    pub(super) fn as_parts(&self) -> (Status, &str) {
        let Failure { text, too_large } = &*self.0;
        (if *too_large { Status::ResponseTooLarge } else { Status::ServiceFailed }, text)
    }
}

impl<E: Error + 'static> From<E> for ServiceError {
    #[cold]
    fn from(error: E) -> ServiceError {
        let too_large = is_too_large(&error);
        ServiceError(Box::new(Failure { text: error.to_string(), too_large }))
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServiceError").field(&self.0.text).finish()
    }
}

/// More was written than a response holds.
#[derive(Debug, thiserror::Error)]
#[error(
    "the service's response is larger than the maximum of {max} bytes: answer less, or start the server with larger rings \
     (ring_size, --ring-size), and a larger max_block if it was given one"
)]
struct TooLarge {
    max: usize,
}

/// Whether this is [`TooLarge`], directly or inside an [`io::Error`].
fn is_too_large(error: &(dyn Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<TooLarge>() || inner.is_some_and(|inner| inner.is::<TooLarge>())
}

/// Code that answers calls: given to [`ServerBuilder::service_with`](crate::ServerBuilder::service_with).
///
/// It runs on the worker thread of the client that calls, so several threads may enter it at once. While it
/// blocks, its worker serves nothing else of this client; other clients are served by workers of their own.
/// If it panics, the caller is told ([`CallError::ServiceFailed`](crate::CallError::ServiceFailed)) and
/// nobody else notices. It may call its own server as a client: another worker serves that call.
///
/// A worker has the default scheduling policy, a stack of 2 MiB (or what `RUST_MIN_STACK` asks for if that is
/// more, up to 1 GiB), and all signals blocked that its own instructions do not raise. Threads and programs
/// that a service starts inherit that: such a program ignores SIGTERM unless it unblocks it.
///
/// Closures `Fn(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError>` are services, and
/// [`ServerBuilder::service`](crate::ServerBuilder::service) takes them without naming those types. So are
/// `Arc<S>` and `Box<dyn Service>`.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Peer, Request, Response, Server, Service, ServiceError};
/// use std::sync::{Arc, Mutex};
///
/// /// Counts the calls of each client that is there.
/// #[derive(Default)]
/// struct Calls(Mutex<Vec<(String, u32)>>);
///
/// impl Service for Calls {
///     fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
///         let mut calls = self.0.lock().unwrap();
///         let name = request.peer().name.as_str();
///         let at = calls.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
///             calls.push((name.to_owned(), 0));
///             calls.len() - 1
///         });
///         calls[at].1 += 1;
///         response.write(&calls[at].1.to_string())
///     }
///
///     fn left(&self, client: &Peer) {
///         self.0.lock().unwrap().retain(|(name, _)| client.name != name.as_str());
///     }
/// }
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let calls = Arc::new(Calls::default());
/// let server = Server::builder(&path).service_with(Arc::clone(&calls)).start()?;
/// let mut alice = Client::register(&path, "alice")?;
/// assert_eq!(alice.call(b"")?, b"1");
/// assert_eq!(alice.call(b"")?, b"2");
/// server.join_after_shutdown();
/// assert!(calls.0.lock().unwrap().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Service: Send + Sync + 'static {
    /// Answers one call. When this returns `Ok`, the response is what was written to it, even if that is
    /// empty.
    ///
    /// # Errors
    ///
    /// Any error that the service chooses. The caller gets its text, and nothing of what was written.
    fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError>;

    /// A client has left: it unregistered, died, broke the protocol or was disconnected. Called once for each
    /// client that had registered, whether it ever called or not, after its last call returned. A service
    /// drops here what it keeps for each client. Does nothing by default.
    ///
    /// It runs on the client's worker thread, which ends after it if the service was ever called there.
    /// Nobody waits for it but the end of the server, so it must not block for long: beyond the [grace
    /// period](crate::ServerBuilder::grace) its thread is left behind, as that of a call is. The client's
    /// name may be registered anew before this runs, but its key is never given again: keep things by
    /// key. A panic is caught, and nobody notices.
    fn left(&self, client: &Peer) {
        let _ = client;
    }
}

impl<F> Service for F
where
    F: Fn(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> + Send + Sync + 'static,
{
    fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
        self(request, response)
    }
}

impl<S: Service + ?Sized> Service for Arc<S> {
    fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
        (**self).call(request, response)
    }

    fn left(&self, client: &Peer) {
        (**self).left(client);
    }
}

impl Service for Box<dyn Service> {
    fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
        (**self).call(request, response)
    }

    fn left(&self, client: &Peer) {
        (**self).left(client);
    }
}

/// The response to a call, being written: straight into the caller's ring while it fits there in one piece,
/// else into memory first. The caller receives nothing of it before the service returns `Ok`, and nothing at
/// all if it fails.
///
/// What was written and is not sent, because of [`clear`](Self::clear), an error or a panic, is overwritten
/// with zeros in the ring. Until then a caller that looks into the memory of its ring can read it. So decide
/// whether this caller may see something before you write it.
///
/// Also an [`io::Write`], for `write!`.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Server};
/// use std::io::Write;
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _server = Server::builder(&path)
///     .service(|request, response| {
///         write!(response, "{} bytes ", request.payload().len())?;
///         response.write("from ")?;
///         response.write(request.peer().name.as_str())
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
        failpoint!("draft.begun", [server, link], always);
        spare.clear();
        Response { ring, spare, draft, written: 0, sequence }
    }

    /// Appends bytes, or a value with a codec around it, to the response. Does not block: room in the
    /// caller's ring is waited for after the service has returned.
    ///
    /// # Errors
    ///
    /// The response would grow beyond what it holds, or the value cannot be encoded. What was written before
    /// stays, and nothing of this is written.
    #[inline]
    pub fn write(&mut self, value: impl Payload) -> Result<(), ServiceError> {
        let room = self.remaining();
        match value.encode(room, |bytes| self.write_bytes(bytes)) {
            Ok(written) => written,
            Err(error) => Err(self.not_encoded(&error)),
        }
    }

    #[cold]
    fn not_encoded(&self, error: &EncodeError) -> ServiceError {
        match error {
            EncodeError::TooLarge { .. } => ServiceError::too_large(self.max()),
            error => ServiceError::new(error),
        }
    }

    #[inline]
    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), ServiceError> {
        if let Some(draft) = &self.draft
            && bytes.len() <= draft.room() - BLOCK_HEADER - self.written
        {
            self.ring.write(draft, BLOCK_HEADER + self.written, bytes);
            self.written += bytes.len();
            return Ok(());
        }
        self.write_beyond(bytes)
    }

    /// Appends what does not fit into the piece of the ring that was taken so far.
    #[inline(never)]
    fn write_beyond(&mut self, bytes: &[u8]) -> Result<(), ServiceError> {
        if bytes.len() > self.remaining() {
            return Err(ServiceError::too_large(self.max()));
        }
        if let Some(draft) = &mut self.draft {
            self.ring.extend(draft, BLOCK_HEADER + self.written + bytes.len());
            if bytes.len() <= draft.room() - BLOCK_HEADER - self.written {
                self.ring.write(draft, BLOCK_HEADER + self.written, bytes);
                self.written += bytes.len();
                return Ok(());
            }
            // Nothing was written yet, so it may fit at the start of the ring.
            if self.written == 0
                && let Ok(elsewhere) = self.ring.begin(BLOCK_HEADER + bytes.len())
            {
                self.ring.write(&elsewhere, BLOCK_HEADER, bytes);
                self.written = bytes.len();
                *draft = elsewhere;
                return Ok(());
            }
        }
        // If there is no memory for the response, the call fails; the process must not end.
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

    /// The most bytes that a response holds.
    fn max(&self) -> usize {
        self.ring.max_block() - BLOCK_HEADER
    }

    /// The number of the request.
    pub(crate) fn number(&self) -> u32 {
        self.sequence
    }

    /// How many bytes were written.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Copies the first bytes that were written, at most so many. The caller may have changed those that lie
    /// in its ring.
    pub(super) fn copy_head(&self, most: usize, into: &mut Vec<u8>) {
        let len = self.written.min(most);
        match &self.draft {
            Some(draft) => self.ring.read_back(draft, BLOCK_HEADER..BLOCK_HEADER + len, into),
            None => into.extend_from_slice(&self.spare[..len]),
        }
    }

    /// How many more bytes can be written.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.max() - self.written
    }

    /// Takes back all that was written, and overwrites it with zeros in the caller's ring. Does not block.
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

    /// Commits what was written if it lies in the ring. The caller must forget this value then, because
    /// dropping it overwrites what was written.
    #[inline(always)]
    pub(super) fn finish(&mut self) -> Finished {
        let Some(draft) = &self.draft else { return Finished::Spare(Status::Ok) };
        let header = BlockHeader::new(Status::Ok as u16, 0, self.sequence);
        self.ring.write_first_word(draft, header.to_word());
        self.ring.commit_draft(draft, BLOCK_HEADER + self.written);
        Finished::Committed { bytes: self.written }
    }

    /// Throws away what was written, and makes the failure's text the body. Dropping `self` overwrites what
    /// lies in the ring.
    #[cold]
    pub(super) fn fail(self, error: ServiceError) -> Finished {
        let (status, text) = error.into_parts();
        let max = self.max();
        self.spare.clear();
        self.spare.extend_from_slice(beginning(&text, max).as_bytes());
        Finished::Spare(status)
    }
}

impl Drop for Response<'_> {
    /// A response that is dropped is not committed: the service failed or panicked.
    fn drop(&mut self) {
        self.overwrite_draft();
    }
}

impl io::Write for Response<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fit = bytes.len().min(self.remaining());
        if fit == 0 && !bytes.is_empty() {
            return Err(io::Error::other(TooLarge { max: self.max() }));
        }
        self.write_bytes(&bytes[..fit]).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(fit)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
