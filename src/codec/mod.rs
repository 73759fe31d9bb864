//! Typed payloads: values in place of bytes.
//!
//! A call, a response and a message carry bytes. Two families of methods make values of them, and both check
//! what came before anybody uses it: a payload that is not a value of the type asked for is a
//! [`PayloadError`], never a panic.
//!
//! | | `_as`: types of fixed layout | `_serde`: all that serde knows (feature `serde`) |
//! | --- | --- | --- |
//! | a client calls | [`call_as`](crate::Client::call_as), `_timeout`, `_deadline` | `call_serde`, `_timeout`, `_deadline` |
//! | pipelined | [`submit_as`](crate::Client::submit_as), [`response_as`](crate::Client::response_as), `_timeout` | `submit_serde`, `response_serde`, `_timeout` |
//! | a service reads | [`Request::payload_as`](crate::Request::payload_as) | `Request::payload_serde` |
//! | a service answers | [`Response::write_as`](crate::Response::write_as) | `Response::write_serde` |
//! | a client sends | [`send_as`](crate::Client::send_as), `_timeout`, `_deadline` | `send_serde`, `_timeout`, `_deadline` |
//! | a client receives | [`recv_as`](crate::Client::recv_as), `try_`, `_timeout`, `_deadline` | `recv_serde`, `try_`, `_timeout`, `_deadline` |
//! | a message at hand | [`Message::payload_as`](crate::Message::payload_as) | `Message::payload_serde` |
//! | bytes at hand | [`read`], [`view`] | `encode`, `decode` |
//!
//! Each blocks exactly as the method of the same name without the suffix, and adds only the conversion.
//!
//! # Types of fixed layout
//!
//! Structures, arrays and enums whose bytes *are* the payload: nothing is encoded. They derive the traits of
//! [`zerocopy`], which check at compile time that this is sound: no padding, no pointers, one layout.
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
//! let sent = Reading { sensor: 7, celsius: 21.5 };
//! let read: Reading = ringpost::codec::read(sent.as_bytes())?;
//! assert_eq!(read, sent);
//! # Ok::<(), ringpost::PayloadError>(())
//! ```
//!
//! What is read must have the type's size, and its bits must be valid: a `bool` is 0 or 1, an enum has one of
//! its values. Values are copied out, so that alignment does not matter. Two programs must mean the same by a
//! type of one size; put a version into it if they are not always built together. Numbers are in the
//! computer's own byte order, unless they are those of [`zerocopy::byteorder`].
//!
//! The crate is re-exported as [`ringpost::zerocopy`](crate::zerocopy), version 0.8. A program that depends
//! on `zerocopy = "0.8"` itself uses the same traits. One that does not tells the derives where the crate is:
//! `#[zerocopy(crate = "ringpost::zerocopy")]` above the type.
//!
//! # With serde
//!
//! For strings, vectors, maps, options and enums with fields there is the Cargo feature `serde`. Values are
//! written in the form of the crate `postcard`, version 1, which is compact and does not describe itself:
//! both sides must use the same type. Bytes left over behind a value are an error, too.
//!
//! A few bytes can stand for a large value, such as `None` for a large type, a thousand times. So decoding is
//! bounded, whoever sent the bytes: values may take 16 times as many bytes as they are decoded from, and 4
//! MiB in any case, else it is [`TooLarge`](PayloadError::TooLarge). Counted is each element of a vector, a
//! map or another collection, with the size of its type and at least 8 bytes (also of a `Vec<()>`), and
//! whatever lies behind a `Box`. An option, a collection or an enum may lie in another one 128 deep, else it
//! is [`TooDeep`](PayloadError::TooDeep): a list whose elements hold the next one has at most as many, and
//! fewer if they are large: those that lie within an element or a box have 64 KiB at a time, since they are
//! built on the stack. Not counted is what the allocator takes beside the values, what a collection that
//! grows keeps in reserve (up to as much again, and for a moment twice that), and what a type's own
//! `Deserialize` does. Whoever has larger or deeper values, and trusts their sender, decodes the bytes of the
//! payload with `postcard` itself.

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
#[cfg(feature = "serde")]
pub(crate) use encoded::with_encoded;
#[cfg(all(test, feature = "serde"))]
use encoded::{decode, encode};
pub use error::{EncodeError, PayloadError};
pub use payload::{FromPayload, Payload, view};
pub use reply::Reply;
