//! How much can be sent at once over a client's channel or a link.

#![forbid(unsafe_code)]

/// How much can be sent at once, as the server's settings say: [`Client::limits`](super::Client::limits), or
/// over a link [`Link::limits`](super::Link::limits).
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
    /// The most bytes of a message to another client, or of a link's post.
    pub max_message: usize,
    /// The size of each of the client's or the link's rings in bytes. That of the inbox limits how many
    /// messages can wait to be received.
    pub ring_size: usize,
}
