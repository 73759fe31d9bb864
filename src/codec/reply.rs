//! The response to a call, as the caller sees it.

use std::fmt;
use std::ops::Deref;

use super::{FromPayload, PayloadError};

/// The response to a call: bytes that stay readable until the client's next operation.
///
/// It is `Copy`, it dereferences to the bytes, and it can be compared with them.
///
/// # Examples
///
/// ```
/// # let (_bus, mut alice) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
/// let reply = alice.call(&7_u32.to_ne_bytes())?; // the service echoes
/// assert_eq!(reply, 7_u32.to_ne_bytes());
/// assert_eq!(reply.len(), 4);
/// assert_eq!(reply.read::<u32>()?, 7);
/// assert!(reply.read::<u64>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Reply<'a>(&'a [u8]);

impl<'a> Reply<'a> {
    #[inline]
    pub(crate) fn new(payload: &'a [u8]) -> Reply<'a> {
        Reply(payload)
    }

    /// What the service wrote.
    #[inline]
    pub fn payload(self) -> &'a [u8] {
        self.0
    }

    /// What the service wrote, as a value: of a fixed layout, or in a `Postcard`.
    ///
    /// # Errors
    ///
    /// The bytes are not a value of this type. The call was executed all the same.
    pub fn read<T: FromPayload<'a>>(self) -> Result<T, PayloadError> {
        T::from_payload(self.0)
    }
}

impl Deref for Reply<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.0
    }
}

impl AsRef<[u8]> for Reply<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Reply<'_> {
    fn eq(&self, other: &T) -> bool {
        self.0 == other.as_ref()
    }
}

impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
