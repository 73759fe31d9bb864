//! How much a client may send, as its server's settings say.

#![forbid(unsafe_code)]

/// What a server's settings allow its clients: [`Client::limits`](super::Client::limits).
///
/// # Examples
///
/// ```
/// # let (_bus, mut client) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
/// let limits = client.limits();
/// assert_eq!(limits.ring_size, 256 * 1024); // the server's default
/// assert_eq!((limits.max_call, limits.max_message), (131_056, 130_976));
/// let longest = vec![0; limits.max_call];
/// assert_eq!(client.call(&longest)?, longest);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most bytes of a call, and of its response.
    pub max_call: usize,
    /// The most bytes of a message to another client.
    pub max_message: usize,
    /// The size of each of the client's rings in bytes. That of the inbox limits how many messages can wait
    /// to be received.
    pub ring_size: usize,
}
