//! Payloads of any serde type, encoded with `postcard`.

use std::any::type_name;
use std::cell::Cell;

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use super::bounded::{Budget, Counted, Exceeded, MOST_DEPTH};
use super::{EncodeError, FromPayload, Payload, PayloadError};

/// A value of any serde type, encoded with the crate `postcard`. Needs the feature `serde`.
///
/// To send a value, wrap it or a reference to it. To read one, ask for a `Postcard`: the value may borrow
/// from the payload. Decoding is [bounded](crate::codec#with-serde) in memory and depth.
///
/// # Examples
///
/// ```
/// use ringpost::{FromPayload, Payload, PayloadError, Postcard};
///
/// let bytes = Postcard(("bob", 300_u32)).encode(100, <[u8]>::to_vec)?;
/// let Postcard((name, number)): Postcard<(&str, u32)> = FromPayload::from_payload(&bytes)?;
/// assert_eq!((name, number), ("bob", 300)); // the name is borrowed from the bytes
/// assert!(matches!(Postcard::<u8>::from_payload(&bytes), Err(PayloadError::LeftOver { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Postcard<T>(pub T);

impl<T: Serialize> Payload for Postcard<T> {
    fn encode<R>(self, max: usize, send: impl FnOnce(&[u8]) -> R) -> Result<R, EncodeError> {
        with_encoded(&self.0, max, send)
    }
}

impl<'a, T: Deserialize<'a>> FromPayload<'a> for Postcard<T> {
    fn from_payload(bytes: &'a [u8]) -> Result<Postcard<T>, PayloadError> {
        decode(bytes).map(Postcard)
    }
}

/// The encoded form of a value, of at most `max` bytes.
#[cfg(test)]
pub(super) fn encode<T: Serialize + ?Sized>(value: &T, max: usize) -> Result<Vec<u8>, EncodeError> {
    with_encoded(value, max, <[u8]>::to_vec)
}

/// The value that was encoded as all these bytes. It may borrow from them.
pub(super) fn decode<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, PayloadError> {
    let budget = Budget::for_bytes(bytes.len());
    let mut deserializer = postcard::Deserializer::from_bytes(bytes);
    let decoded = T::deserialize(Counted::new(&mut deserializer, &budget));
    let decoded = decoded.and_then(|value| Ok((value, deserializer.finalize()?)));
    let type_name = type_name::<T>();
    match (decoded, budget.exceeded()) {
        (Ok((value, [])), _) => Ok(value),
        (Ok((_, rest)), _) => Err(PayloadError::LeftOver { type_name, left: rest.len() }),
        (Err(_), Some(Exceeded::Memory)) => Err(PayloadError::TooLarge { type_name, most: budget.most() }),
        (Err(_), Some(Exceeded::Depth)) => Err(PayloadError::TooDeep { type_name, most: MOST_DEPTH }),
        (Err(error), None) => Err(PayloadError::Decode { type_name, why: words(&error).to_owned() }),
    }
}

/// What is wrong with a value or with bytes, for people.
fn words(error: &postcard::Error) -> &'static str {
    use postcard::Error;
    match error {
        Error::DeserializeUnexpectedEnd => "they end too early",
        Error::DeserializeBadVarint => "a number among them is too large for its type",
        Error::DeserializeBadBool => "a bool among them is neither 0 nor 1",
        Error::DeserializeBadChar => "a character among them is none",
        Error::DeserializeBadUtf8 => "a text among them is not UTF-8",
        Error::DeserializeBadOption => "an option among them is neither 0 nor 1",
        Error::DeserializeBadEnum => "an enum among them has no such variant",
        Error::SerializeSeqLengthUnknown => "a sequence in it does not tell its length before its end",
        Error::WontImplement | Error::NotYetImplemented => {
            "the type needs a form that describes itself, and postcard does not"
        }
        Error::SerdeSerCustom | Error::SerdeDeCustom | Error::CollectStrError => "the type itself refuses",
        _ => "they have no known form",
    }
}

/// The most memory that a thread keeps for its next encoding.
const KEPT: usize = 64 * 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes a value and hands the bytes on, in memory that the thread uses again.
fn with_encoded<T, R>(value: &T, max: usize, use_it: impl FnOnce(&[u8]) -> R) -> Result<R, EncodeError>
where
    T: Serialize + ?Sized,
{
    // Taken out meanwhile: a value's own code may encode another.
    let mut bytes = SPARE.take();
    bytes.clear();
    let result = encode_into(value, max, &mut bytes).map(|()| use_it(&bytes));
    if bytes.capacity() <= KEPT {
        SPARE.set(bytes);
    }
    result
}

fn encode_into<T: Serialize + ?Sized>(value: &T, max: usize, into: &mut Vec<u8>) -> Result<(), EncodeError> {
    match postcard::serialize_with_flavor(value, Bounded { into, max }) {
        Ok(()) => Ok(()),
        Err(postcard::Error::SerializeBufferFull) => {
            Err(EncodeError::TooLarge { type_name: type_name::<T>(), max })
        }
        Err(error) => Err(EncodeError::Failed { type_name: type_name::<T>(), why: words(&error).to_owned() }),
    }
}

/// Memory that grows, up to a bound: what could never be sent is not encoded to its end.
struct Bounded<'v> {
    into: &'v mut Vec<u8>,
    max: usize,
}

impl Flavor for Bounded<'_> {
    type Output = ();

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() > self.max - self.into.len() {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.into.extend_from_slice(bytes);
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Serializer;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Order {
        Stop,
        Move { by: Vec<i64>, note: Option<String> },
    }

    #[test]
    fn the_bound_is_exact() {
        let text = "x".repeat(100); // one byte for its length
        assert_eq!(encode(&text, 101).unwrap().len(), 101);
        let error = encode(&text, 100).unwrap_err();
        assert_eq!(error, EncodeError::TooLarge { type_name: type_name::<String>(), max: 100 });
        assert!(encode(&(), 0).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_encoded_says_so() {
        struct Endless;
        impl Serialize for Endless {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq((0..3).filter(|_| true))
            }
        }
        let error = encode(&Endless, 100).unwrap_err();
        assert!(error.to_string().ends_with("does not tell its length before its end"), "{error}");
    }

    #[test]
    fn what_cannot_be_decoded_says_why() {
        let why = |error: PayloadError| match error {
            PayloadError::Decode { why, .. } => why,
            other => panic!("{other}"),
        };
        assert_eq!(why(decode::<u32>(&[]).unwrap_err()), "they end too early");
        assert_eq!(why(decode::<u8>(&[]).unwrap_err()), "they end too early");
        assert_eq!(
            why(decode::<u16>(&[255; 9]).unwrap_err()),
            "a number among them is too large for its type"
        );
        assert_eq!(why(decode::<bool>(&[2]).unwrap_err()), "a bool among them is neither 0 nor 1");
        assert_eq!(why(decode::<&str>(&[1, 255]).unwrap_err()), "a text among them is not UTF-8");
        assert_eq!(why(decode::<Option<u8>>(&[2]).unwrap_err()), "an option among them is neither 0 nor 1");
        // The variant's number is judged by the type.
        assert_eq!(why(decode::<Order>(&[7]).unwrap_err()), "the type itself refuses");
    }

    #[test]
    fn an_encoding_may_begin_another() {
        struct Nested;
        impl Serialize for Nested {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let inner = with_encoded(&7_u8, 10, <[u8]>::to_vec).map_err(serde::ser::Error::custom)?;
                serializer.serialize_bytes(&inner)
            }
        }
        let bytes = with_encoded(&(1_u8, Nested, 2_u8), 10, <[u8]>::to_vec).unwrap();
        assert_eq!(bytes, [1, 1, 7, 2]);
    }

    #[test]
    fn large_memory_is_not_kept() {
        let large = vec![1_u8; 2 * KEPT];
        with_encoded(&large, 4 * KEPT, |_| ()).unwrap();
        assert!(SPARE.take().capacity() <= KEPT);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(by: Vec<i64>, note: Option<String>) {
            let order = Order::Move { by, note };
            let bytes = encode(&order, usize::MAX).unwrap();
            prop_assert_eq!(decode::<Order>(&bytes), Ok(order));
            for cut in 0..bytes.len() {
                prop_assert!(decode::<Order>(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_a_value_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if decode::<Order>(&bytes) == Ok(Order::Stop) {
                prop_assert_eq!(bytes[0], 0);
            }
        }
    }
}
