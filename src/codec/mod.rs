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

#[cfg(feature = "serde")]
pub(crate) use encoded::with_encoded;
#[cfg(feature = "serde")]
pub use encoded::{EncodeError, decode, encode};

use std::any::type_name;

use zerocopy::{ConvertError, Immutable, KnownLayout, TryFromBytes, Unaligned};

/// Why bytes are not a value of the type asked for.
///
/// # Examples
///
/// ```
/// use ringpost::{PayloadError, codec};
///
/// let error = codec::read::<u32>(b"abc").unwrap_err();
/// assert!(matches!(error, PayloadError::Size { found: 3, expected: Some(4), .. }));
/// assert_eq!(
///     error.to_string(),
///     "3 bytes are not a u32, which has 4: use the same type on both sides"
/// );
/// assert!(matches!(codec::read::<bool>(&[2]), Err(PayloadError::Invalid { .. })));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// There are too few or too many bytes.
    #[error("{found} bytes are not a {type_name}{}: use the same type on both sides", which_has(*.expected))]
    Size {
        /// The type asked for.
        type_name: &'static str,
        /// How many bytes there are.
        found: usize,
        /// How many the type has, if that is one number.
        expected: Option<usize>,
    },
    /// The size is right, but no value of the type has these bits.
    #[error("the bytes are not a {type_name}, though their number is right: use the same type on both sides")]
    Invalid {
        /// The type asked for.
        type_name: &'static str,
    },
    /// The bytes stand for a value that is too large in memory.
    #[cfg(feature = "serde")]
    #[error(
        "the bytes stand for a {type_name} of more than {most} bytes: send less at once, or decode them with postcard itself \
         if the sender is trusted"
    )]
    TooLarge {
        /// The type asked for.
        type_name: &'static str,
        /// The most bytes in memory that a value may have which is decoded from as many.
        most: usize,
    },
    /// The bytes stand for a value whose parts lie too deep within each other.
    #[cfg(feature = "serde")]
    #[error(
        "the bytes stand for a {type_name} that is more than {most} deep: send a flat form of it, or decode them with \
         postcard itself if the sender is trusted"
    )]
    TooDeep {
        /// The type asked for.
        type_name: &'static str,
        /// How deep a value may be.
        most: usize,
    },
    /// The bytes cannot be decoded.
    #[cfg(feature = "serde")]
    #[error("the bytes are not a {type_name} ({why}): use the same type on both sides")]
    Decode {
        /// The type asked for.
        type_name: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// There are bytes behind the encoded value.
    #[cfg(feature = "serde")]
    #[error("a {type_name} was decoded, and {left} bytes are left over: use the same type on both sides")]
    LeftOver {
        /// The type asked for.
        type_name: &'static str,
        /// How many bytes are left over.
        left: usize,
    },
}

fn which_has(expected: Option<usize>) -> String {
    expected.map(|bytes| format!(", which has {bytes}")).unwrap_or_default()
}

/// The value that these bytes are, copied out of them: all of them, in whatever alignment. Does not block.
///
/// # Errors
///
/// [`PayloadError::Size`] or [`PayloadError::Invalid`].
///
/// # Examples
///
/// ```
/// use ringpost::codec;
///
/// let number: u32 = codec::read(&7_u32.to_ne_bytes())?;
/// assert_eq!(number, 7);
/// # Ok::<(), ringpost::PayloadError>(())
/// ```
pub fn read<T: TryFromBytes>(bytes: &[u8]) -> Result<T, PayloadError> {
    T::try_read_from_bytes(bytes).map_err(|error| match error {
        ConvertError::Validity(_) => PayloadError::Invalid { type_name: type_name::<T>() },
        ConvertError::Size(_) => size_error::<T>(bytes.len(), Some(size_of::<T>())),
        ConvertError::Alignment(never) => match never {},
    })
}

/// The value that these bytes are, where they lie. For types without alignment, such as those of
/// [`zerocopy::byteorder`]; also for slices of them, and for structures that end in such a slice. Does not
/// block.
///
/// # Errors
///
/// [`PayloadError::Size`] or [`PayloadError::Invalid`].
///
/// # Examples
///
/// ```
/// use ringpost::codec;
/// use ringpost::zerocopy::byteorder::little_endian::U16;
///
/// let numbers: &[U16] = codec::view(&[1, 0, 2, 0])?;
/// assert_eq!(numbers, [1, 2]);
/// assert!(codec::view::<[U16]>(&[1, 0, 2]).is_err());
/// # Ok::<(), ringpost::PayloadError>(())
/// ```
pub fn view<T>(bytes: &[u8]) -> Result<&T, PayloadError>
where
    T: TryFromBytes + KnownLayout + Immutable + Unaligned + ?Sized,
{
    T::try_ref_from_bytes(bytes).map_err(|error| match error {
        ConvertError::Validity(_) => PayloadError::Invalid { type_name: type_name::<T>() },
        // Not of alignment: the type has none.
        ConvertError::Size(_) | ConvertError::Alignment(_) => size_error::<T>(bytes.len(), None),
    })
}

fn size_error<T: ?Sized>(found: usize, expected: Option<usize>) -> PayloadError {
    PayloadError::Size { type_name: type_name::<T>(), found, expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;
    use zerocopy::byteorder::little_endian::U32;

    #[derive(Debug, Clone, Copy, PartialEq, IntoBytes, TryFromBytes, Immutable)]
    #[repr(u8)]
    enum Colour {
        Red = 1,
        Green = 2,
    }

    #[derive(Debug, Clone, Copy, PartialEq, IntoBytes, TryFromBytes, Immutable)]
    #[repr(C)]
    struct Lamp {
        number: u32,
        lit: bool,
        colour: Colour,
        spare: [u8; 2],
    }

    #[derive(Debug, IntoBytes, TryFromBytes, KnownLayout, Immutable, Unaligned)]
    #[repr(C)]
    struct Row {
        number: U32,
        cells: [[u8; 2]],
    }

    #[test]
    fn a_value_is_read_at_every_alignment() {
        let lamp = Lamp { number: 0x0102_0304, lit: true, colour: Colour::Green, spare: [5, 6] };
        let mut bytes = [0; 16];
        for (at, colour) in (0..8).zip([Colour::Red, Colour::Green].into_iter().cycle()) {
            let lamp = Lamp { colour, ..lamp };
            bytes[at..at + 8].copy_from_slice(lamp.as_bytes());
            assert_eq!(read(&bytes[at..at + 8]), Ok(lamp));
        }
        assert_eq!(read(b""), Ok(()));
    }

    #[test]
    fn every_other_size_is_refused() {
        for found in (0..20).filter(|&size| size != size_of::<Lamp>()) {
            let error = read::<Lamp>(&vec![1; found]).unwrap_err();
            let PayloadError::Size { type_name, found: said, expected: Some(8) } = error else {
                panic!("{error}")
            };
            assert_eq!(said, found);
            assert!(type_name.ends_with("Lamp"));
        }
    }

    #[test]
    fn bits_that_mean_nothing_are_refused() {
        let good = [0, 0, 0, 0, 1, 2, 0, 0];
        assert!(read::<Lamp>(&good).is_ok());
        for (at, bad) in [(4, 2), (4, 255), (5, 0), (5, 3)] {
            let mut bytes = good;
            bytes[at] = bad;
            let error = read::<Lamp>(&bytes).unwrap_err();
            assert!(matches!(error, PayloadError::Invalid { .. }), "{error}");
        }
    }

    #[test]
    fn a_view_is_of_whole_elements() {
        let row: &Row = view(&[1, 0, 0, 0, 2, 3, 4, 5]).unwrap();
        assert_eq!((row.number.get(), &row.cells), (1, &[[2, 3], [4, 5]][..]));
        assert_eq!(view::<Row>(&[1, 0, 0, 0]).unwrap().cells.len(), 0);
        for bytes in [&[1, 0, 0][..], &[1, 0, 0, 0, 2]] {
            let error = view::<Row>(bytes).unwrap_err();
            assert!(matches!(error, PayloadError::Size { expected: None, .. }), "{error}");
            assert!(error.to_string().contains(&format!("{} bytes are not a ", bytes.len())), "{error}");
        }
        assert!(matches!(view::<[bool]>(&[0, 1, 2]), Err(PayloadError::Invalid { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_refused(bytes in proptest::collection::vec(0_u8..4, 0..12)) {
            let honest = bytes.len() == 8 && bytes[4] < 2 && (1..3).contains(&bytes[5]);
            match read::<Lamp>(&bytes) {
                Ok(lamp) => prop_assert!(honest && lamp.as_bytes() == bytes),
                Err(_) => prop_assert!(!honest),
            }
        }
    }
}
