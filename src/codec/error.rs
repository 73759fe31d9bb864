//! Why a value cannot be encoded, and why bytes are not a value.

/// Why bytes are not a value of the type asked for.
///
/// # Examples
///
/// ```
/// use ringpost::{FromPayload, PayloadError};
///
/// let error = u32::from_payload(b"abc").unwrap_err();
/// assert!(matches!(error, PayloadError::Size { found: 3, expected: Some(4), .. }));
/// assert_eq!(
///     error.to_string(),
///     "3 bytes are not a u32, which has 4: use the same type on both sides"
/// );
/// assert!(matches!(bool::from_payload(&[2]), Err(PayloadError::Invalid { .. })));
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
    /// The bytes stand for a value that takes too much memory.
    #[error(
        "the bytes stand for a {type_name} of more than {most} bytes: send less at once, or decode them with postcard itself \
         if the sender is trusted"
    )]
    TooLarge {
        /// The type asked for.
        type_name: &'static str,
        /// The most memory in bytes that a value decoded from this payload may take.
        most: usize,
    },
    /// The bytes stand for a value that is nested too deeply.
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
    #[error("the bytes are not a {type_name} ({why}): use the same type on both sides")]
    Decode {
        /// The type asked for.
        type_name: &'static str,
        /// The reason.
        why: String,
    },
    /// There are bytes behind the encoded value.
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

/// Why a value has no encoded form that can be sent. Nothing was sent.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use ringpost::{EncodeError, Payload, Postcard};
///
/// let error = Postcard("four").encode(4, <[u8]>::to_vec).unwrap_err(); // the length takes a byte as well
/// assert!(matches!(error, EncodeError::TooLarge { max: 4, .. }));
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The encoded value is longer than the largest payload.
    #[error(
        "a {type_name} takes more than the {max} bytes that it may: send less; if that is a client's limit, start its server with larger \
         rings (ring_size, --ring-size), and a larger max_block if it was given one"
    )]
    TooLarge {
        /// The value's type.
        type_name: &'static str,
        /// The most bytes that can be sent.
        max: usize,
    },
    /// The type or the value cannot be written in this form, such as a sequence whose length is not known.
    #[error("a {type_name} cannot be encoded: {why}")]
    Failed {
        /// The value's type.
        type_name: &'static str,
        /// The reason.
        why: String,
    },
}
