//! Payloads: bytes, fixed-layout structs (zerocopy) or any serde type (postcard).
//!
//! Whatever sends takes [`impl Payload`](Payload), and whatever was received has `payload()`, the bytes, and
//! `read()`, a value. A payload that is not a value of the type asked for is a [`PayloadError`], never a
//! panic.
//!
//! | | to send | to read |
//! | --- | --- | --- |
//! | bytes, text | `call(b"ping")`, `call("ping")`, `call(&vec)` | `reply.payload()` |
//! | a fixed-layout value | `call(value.as_bytes())` | `reply.read::<T>()` |
//! | a slice of them, in place | `call(slice.as_bytes())` | [`view`]`::<[T]>(reply.payload())` |
//! | any serde type (feature `serde`) | `call(Postcard(&value))` | `let Postcard(value) = reply.read()?` |
//! | a format of your own | implement [`Payload`] for a wrapper | implement [`FromPayload`] for it |
//!
//! The same holds for [`submit`](crate::Caller::submit), [`send`](crate::Client::send), and for
//! [`Request`](crate::Request), [`Message`](crate::Message) and [`Reply`].
//!
//! # Fixed-layout types
//!
//! The bytes of these structures, arrays and enums *are* the payload: nothing is encoded. They derive the
//! traits of [`zerocopy`], which check at compile time that this is sound: no padding, no pointers, one
//! layout.
//!
//! ```
//! use ringpost::zerocopy::{Immutable, IntoBytes, TryFromBytes};
//!
//! #[derive(Debug, PartialEq, IntoBytes, TryFromBytes, Immutable)]
//! #[repr(C)]
//! struct Reading {
//!     sensor: u32,
//!     celsius: f32,
//! }
//!
//! # let (_bus, mut alice) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
//! let sent = Reading { sensor: 7, celsius: 21.5 };
//! let echoed: Reading = alice.call(sent.as_bytes())?.read()?;
//! assert_eq!(echoed, sent);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The payload must have the type's size, and its bits must be valid: a `bool` is 0 or 1, an enum has one of
//! its values. Values are copied out, so alignment does not matter. Two programs must mean the same by a type
//! of one size; put a version into it if they are not always built together. Numbers are in the computer's
//! own byte order, unless they are those of [`zerocopy::byteorder`].
//!
//! The crate is re-exported as [`ringpost::zerocopy`](crate::zerocopy), version 0.8. A program that depends
//! on `zerocopy = "0.8"` itself uses the same traits. One that does not tells the derives where the crate is:
//! `#[zerocopy(crate = "ringpost::zerocopy")]` above the type.
//!
//! # With serde
//!
//! For strings, vectors, maps, options and enums with fields, enable the Cargo feature `serde` and wrap the
//! value in `Postcard`. The format is that of the crate `postcard`, version 1, which is compact and does not
//! describe itself: both sides must use the same type. Bytes left over behind a value are an error.
//!
//! A few bytes can stand for a large value, such as a thousand times `None` of a large type. So decoding is
//! bounded, whoever sent the bytes:
//!
//! - Memory: a value may take 16 times as many bytes as its payload, or 4 MiB if that is more; else it is
//!   [`TooLarge`](PayloadError::TooLarge). Each element of a vector, a map or another collection counts with
//!   the size of its type, at least 8 bytes (also in a `Vec<()>`), and so does whatever lies behind a `Box`.
//! - Depth: options, collections and enums may be nested 128 deep; else it is
//!   [`TooDeep`](PayloadError::TooDeep). Nested elements and boxes are built on the stack and may take 64 KiB
//!   there together, so large ones may be nested less deep.
//!
//! Not counted is what the allocator takes beside the values, what a growing collection keeps in reserve (up
//! to as much again, and for a moment twice that), and what a type's own `Deserialize` does. If you have
//! larger or deeper values and trust their sender, decode the payload's bytes with `postcard` itself.

#![forbid(unsafe_code)]

#[cfg(feature = "serde")]
mod bounded;
#[cfg(feature = "serde")]
mod encoded;
mod error;
mod payload;
mod reply;

#[cfg(feature = "serde")]
pub use encoded::Postcard;
#[cfg(all(test, feature = "serde"))]
use encoded::{decode, encode};
pub use error::{EncodeError, PayloadError};
pub use payload::{FromPayload, Payload, view};
pub use reply::Reply;
