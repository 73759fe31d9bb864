//! Requests and responses as values; see [`codec`](crate::codec).

#![forbid(unsafe_code)]

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes, Unaligned};

use super::service::{Request, Response, ServiceError};
use crate::codec::{self, FromPayload, PayloadError};

/// For `?` in a service: the caller is told what is wrong with its request.
impl From<PayloadError> for ServiceError {
    fn from(error: PayloadError) -> ServiceError {
        ServiceError::Failed(error.to_string())
    }
}

/// Typed payloads of a fixed layout; see [`codec`](crate::codec).
impl<'a> Request<'a> {
    /// What the client sent, as a value, which is copied out of the payload. Does not block.
    ///
    /// # Errors
    ///
    /// The payload has another size, or bits that the type cannot have. With `?` the caller gets the error's
    /// text as [`CallError::ServiceFailed`](crate::CallError::ServiceFailed).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{CallError, Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| {
    ///         response.write_as(&request.payload_as::<u32>()?.count_ones())
    ///     })
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.call(&0b1011_u32.to_ne_bytes())?.read::<u32>()?, 3);
    /// assert!(matches!(client.call(b"abc"), Err(CallError::ServiceFailed(why)) if why.starts_with("3 bytes")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn payload_as<T: TryFromBytes>(&self) -> Result<T, PayloadError> {
        T::from_payload(self.payload())
    }

    /// What the client sent, as a value, where it lies: for types without alignment, slices of them, and
    /// structures that end in such a slice. Does not block.
    ///
    /// # Errors
    ///
    /// Those of [`payload_as`](Self::payload_as).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::zerocopy::{IntoBytes, byteorder::little_endian::U32};
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| {
    ///         let numbers = request.payload_ref::<[U32]>()?;
    ///         response.write_as(&numbers.iter().map(|number| u64::from(number.get())).sum::<u64>())
    ///     })
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// let sum: u64 = client.call([1, 2, 3].map(U32::new).as_bytes())?.read()?;
    /// assert_eq!(sum, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn payload_ref<T>(&self) -> Result<&'a T, PayloadError>
    where
        T: TryFromBytes + KnownLayout + Immutable + Unaligned + ?Sized,
    {
        codec::view(self.payload())
    }
}

/// Typed payloads of a fixed layout; see [`codec`](crate::codec).
impl Response<'_> {
    /// Appends a value to the response, as its bytes. Does not block.
    ///
    /// # Errors
    ///
    /// Those of [`write`](Self::write).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|_: Request<'_>, response: &mut Response<'_>| response.write_as(&[1.5_f64, 2.5]))
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.call(b"")?.read::<[f64; 2]>()?, [1.5, 2.5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_as<T>(&mut self, value: &T) -> Result<(), ServiceError>
    where
        T: IntoBytes + Immutable + ?Sized,
    {
        self.write(value.as_bytes())
    }
}

/// Typed payloads of all types that serde knows, with the feature `serde`; see [`codec`](crate::codec).
#[cfg(feature = "serde")]
impl<'a> Request<'a> {
    /// What the client sent, as a value, which may borrow from the payload. Does not block. Needs the feature
    /// `serde`.
    ///
    /// # Errors
    ///
    /// The payload is not a `T`, or more than one. With `?` the caller gets the error's text as
    /// [`CallError::ServiceFailed`](crate::CallError::ServiceFailed).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| {
    ///         let (text, times): (&str, usize) = request.payload_serde()?;
    ///         response.write(text.repeat(times.min(10)).as_bytes())
    ///     })
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// let reply = client.call(ringpost::Postcard(("ab", 3_usize)))?; // an i32 has another form than a usize
    /// assert_eq!(reply, b"ababab");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn payload_serde<T: serde::Deserialize<'a>>(&self) -> Result<T, PayloadError> {
        codec::Postcard::from_payload(self.payload()).map(|codec::Postcard(value)| value)
    }
}

/// Typed payloads of all types that serde knows, with the feature `serde`; see [`codec`](crate::codec).
#[cfg(feature = "serde")]
impl Response<'_> {
    /// Appends a value to the response, encoded. Does not block. Needs the feature `serde`.
    ///
    /// # Errors
    ///
    /// [`ServiceError::TooLarge`] if there is no room for it, [`ServiceError::Failed`] if it cannot be
    /// encoded. What was written before stays, and nothing of the value is written.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Request, Response, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| {
    ///         response.write_serde(&(request.name().as_str(), request.payload().len()))
    ///     })
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// let ringpost::Postcard((name, length)) = client.call(b"four")?.read::<ringpost::Postcard<(&str, usize)>>()?;
    /// assert_eq!((name, length), ("alice", 4));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_serde<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ServiceError> {
        let (written, room) = (self.written(), self.remaining());
        codec::with_encoded(value, room, |bytes| self.write(bytes)).map_err(|error| match error {
            codec::EncodeError::TooLarge { .. } => ServiceError::TooLarge { max: written + room },
            error => ServiceError::Failed(error.to_string()),
        })?
    }
}
