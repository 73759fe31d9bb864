//! The two traits by which values become payloads and payloads become values, and the types that need no
//! codec.

use std::any::type_name;

use zerocopy::{ConvertError, Immutable, KnownLayout, TryFromBytes, Unaligned};

use super::{EncodeError, PayloadError};

/// What can be sent: bytes, or a value with a codec around it.
///
/// A reference to anything that is bytes (`AsRef<[u8]>`: slices, arrays, vectors, strings) is a payload as it
/// is. Values of a fixed layout are sent as `value.as_bytes()`, with [`zerocopy::IntoBytes`]. Any serde type
/// goes into a `Postcard`, with the feature `serde`. Implement it for a wrapper of your own to use another
/// format.
///
/// # Examples
///
/// ```
/// use ringpost::{EncodeError, FromPayload, Payload, PayloadError};
///
/// /// Decimal digits.
/// struct Digits(u64);
///
/// impl Payload for Digits {
///     fn encode<R>(self, _max: usize, send: impl FnOnce(&[u8]) -> R) -> Result<R, EncodeError> {
///         Ok(send(self.0.to_string().as_bytes()))
///     }
/// }
///
/// impl FromPayload<'_> for Digits {
///     fn from_payload(bytes: &[u8]) -> Result<Digits, PayloadError> {
///         let digits = str::from_utf8(bytes).ok().and_then(|digits| digits.parse().ok());
///         digits.map(Digits).ok_or(PayloadError::Invalid { type_name: "Digits" })
///     }
/// }
///
/// let bytes = Digits(42).encode(100, |bytes| bytes.to_vec())?;
/// assert_eq!(bytes, b"42");
/// assert_eq!(Digits::from_payload(&bytes)?.0, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Payload {
    /// Encodes the value and passes its bytes on to `send`, once. `max` is the longest payload that can be
    /// sent: an implementation may stop when it knows that the value takes more. Longer bytes that it passes
    /// on are refused.
    ///
    /// # Errors
    ///
    /// The value cannot be encoded. Then `send` was not called.
    fn encode<R>(self, max: usize, send: impl FnOnce(&[u8]) -> R) -> Result<R, EncodeError>;
}

impl<T: AsRef<[u8]> + ?Sized> Payload for &T {
    #[inline]
    fn encode<R>(self, _max: usize, send: impl FnOnce(&[u8]) -> R) -> Result<R, EncodeError> {
        Ok(send(self.as_ref()))
    }
}

/// What can be read from a payload: `read` of a [`Reply`](super::Reply), a [`Request`](crate::Request) or a
/// [`Message`](crate::Message).
///
/// Every sized type with [`zerocopy::TryFromBytes`] is read by its own bytes: its size must be right and its
/// bits valid. The value is copied, so alignment does not matter. [`view`] reads slices and other unsized
/// types in place. Any serde type is read from a `Postcard`, with the feature `serde`.
///
/// # Examples
///
/// ```
/// use ringpost::FromPayload;
///
/// let number = u32::from_payload(&7_u32.to_ne_bytes())?;
/// assert_eq!(number, 7);
/// # Ok::<(), ringpost::PayloadError>(())
/// ```
pub trait FromPayload<'a>: Sized {
    /// The value of all these bytes. It may borrow from them.
    ///
    /// # Errors
    ///
    /// They are not a value of this type.
    fn from_payload(bytes: &'a [u8]) -> Result<Self, PayloadError>;
}

impl<T: TryFromBytes> FromPayload<'_> for T {
    fn from_payload(bytes: &[u8]) -> Result<T, PayloadError> {
        T::try_read_from_bytes(bytes).map_err(|error| match error {
            ConvertError::Validity(_) => PayloadError::Invalid { type_name: type_name::<T>() },
            ConvertError::Size(_) => size_error::<T>(bytes.len(), Some(size_of::<T>())),
            ConvertError::Alignment(never) => match never {},
        })
    }
}

/// The value of all these bytes, in place. For types without alignment, such as those of
/// [`zerocopy::byteorder`], slices of them, and structures that end in such a slice.
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
        // Never the alignment: the type has none.
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
            assert_eq!(Lamp::from_payload(&bytes[at..at + 8]), Ok(lamp));
        }
        assert_eq!(<()>::from_payload(b""), Ok(()));
    }

    #[test]
    fn every_other_size_is_refused() {
        for found in (0..20).filter(|&size| size != size_of::<Lamp>()) {
            let error = Lamp::from_payload(&vec![1; found]).unwrap_err();
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
        assert!(Lamp::from_payload(&good).is_ok());
        for (at, bad) in [(4, 2), (4, 255), (5, 0), (5, 3)] {
            let mut bytes = good;
            bytes[at] = bad;
            let error = Lamp::from_payload(&bytes).unwrap_err();
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
            match Lamp::from_payload(&bytes) {
                Ok(lamp) => prop_assert!(honest && lamp.as_bytes() == bytes),
                Err(_) => prop_assert!(!honest),
            }
        }
    }
}
