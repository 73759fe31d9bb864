//! The protocol on the rings: keys, names, block headers, operations and status codes.
//!
//! A *block* is an 8-byte header and a body. The client numbers its requests. The server answers each with
//! exactly one response that carries the same number, in the order of the requests.
//!
//! `docs/PROTOCOL.md` describes the bodies byte by byte; `protocol_doc.rs` compares it with the code.

mod address;
mod close_reason;
mod histogram;
pub(crate) mod invisible;
mod key;
mod name;
mod peer;
mod policy;
mod topic;
mod vanish_reason;
mod violation;

pub use address::Address;
pub use close_reason::CloseReason;
pub use histogram::Histogram;
pub use key::{Key, ParseKeyError};
pub use name::{Name, NameError};
pub use peer::Peer;
pub use policy::Policy;
pub use topic::{Pattern, Topic, TopicError};
pub use vanish_reason::VanishReason;
pub use violation::Violation;

use std::time::Duration;

use crate::ring::Block;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// The version of the protocol on the connect channel and on the rings.
pub(crate) const PROTOCOL_VERSION: u32 = 7;

/// Bytes of a block header.
pub(crate) const BLOCK_HEADER: usize = 8;

/// Bytes of a key in a block.
pub(crate) const KEY: usize = 16;

/// The largest overhead of a block in an inbox: all its bytes except the payload.
pub(crate) const MESSAGE_OVERHEAD: usize = BLOCK_HEADER + KEY + Name::MAX_LEN;

/// The largest overhead of a send request. It is smaller than that in the inbox, so a message that can be
/// sent to an inbox also fits into a request.
const SEND_OVERHEAD: usize = BLOCK_HEADER + KEY + 8;
const _: () = assert!(SEND_OVERHEAD <= MESSAGE_OVERHEAD);

/// Flag of a send request: the server waits for room in the inbox, up to the time-out in the body.
pub(crate) const WAITS: u16 = 1;

/// Flag of a send request that waits: its sender awaits the answer no longer than that time-out either.
pub(crate) const ENDS: u16 = 2;

/// Flag of a caller's hello on a link, and of the callee's acceptance: that side may wait in an event loop.
pub(crate) const MAY_ARM: u16 = 1;

/// How long each side of a link has to take it, and then to say hello.
pub(crate) const HELLO_TIME: Duration = Duration::from_secs(5);

/// The longest text with which a link or a message is refused, in bytes.
pub(crate) const LONGEST_REFUSAL: usize = 1024;

/// The operation of a block in an inbox.
pub(crate) const MESSAGE: u16 = 0x100;

/// The operation of a block in a relay's inbox, whose sender has no answer yet.
pub(crate) const RELAYED: u16 = 0x101;

/// Bytes in such a block for the ticket, and for how long the sender waits.
pub(crate) const TICKET: usize = 16;

/// How long the answer of a relay is awaited, if the sender does not say how long.
pub(crate) const CONFIRM_TIME: Duration = Duration::from_secs(5);

/// The first bytes of every block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct BlockHeader {
    /// A request's [`Operation`], a response's [`Status`], [`MESSAGE`] or [`RELAYED`].
    pub(crate) code: U16,
    pub(crate) flags: U16,
    pub(crate) sequence: U32,
}

impl BlockHeader {
    #[inline]
    pub(crate) fn new(code: u16, flags: u16, sequence: u32) -> BlockHeader {
        BlockHeader { code: U16::new(code), flags: U16::new(flags), sequence: U32::new(sequence) }
    }

    /// Reads the header of a received block; `None` if the block is too short.
    #[inline(always)]
    pub(crate) fn of(incoming: &Block<'_>) -> Option<BlockHeader> {
        incoming.first_word().map(BlockHeader::from_array)
    }

    /// The header as one word, in the byte order of a block.
    ///
    /// It is built in a register. If it were stored field by field and loaded as one word, the load would
    /// have to wait until the store buffer has drained, and the earlier stores there go to a cache line that
    /// the other end holds.
    #[inline(always)]
    pub(crate) fn to_word(self) -> u64 {
        let (code, flags, sequence) = (self.code.get(), self.flags.get(), self.sequence.get());
        (u64::from(code) | u64::from(flags) << 16 | u64::from(sequence) << 32).to_le()
    }

    #[inline]
    pub(crate) fn from_array(bytes: [u8; BLOCK_HEADER]) -> BlockHeader {
        zerocopy::transmute!(bytes)
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Call = 1,
    Send = 2,
    LookUp = 3,
    List = 4,
    Ping = 5,
    Statistics = 6,
    Unregister = 7,
    /// The first block of a link's caller.
    Hello = 8,
    /// Like a call, but nothing is answered. Only on links.
    Post = 9,
    /// From now on the client may wait for its responses in an event loop.
    Arms = 10,
    /// What became of a message that a relay has.
    Confirm = 11,
}

impl Operation {
    #[inline]
    pub(crate) fn from_code(code: u16) -> Option<Operation> {
        Some(match code {
            1 => Operation::Call,
            2 => Operation::Send,
            3 => Operation::LookUp,
            4 => Operation::List,
            5 => Operation::Ping,
            6 => Operation::Statistics,
            7 => Operation::Unregister,
            8 => Operation::Hello,
            9 => Operation::Post,
            10 => Operation::Arms,
            11 => Operation::Confirm,
            _ => return None,
        })
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub(crate) enum Status {
    Ok = 0,
    /// The server does not know the operation.
    UnknownOperation = 1,
    /// The body is not a valid one for its operation.
    Malformed = 2,
    /// No client has this key or name.
    NotFound = 3,
    /// The inbox has no room, and the sender did not ask to wait.
    InboxFull = 4,
    /// The inbox had no room until the sender's deadline.
    TimedOut = 5,
    /// The receiver has left, or has dropped its inbox.
    Gone = 6,
    /// The message is larger than the inbox can ever hold.
    TooLarge = 7,
    /// The service failed; the body says why.
    ServiceFailed = 8,
    /// The service's answer is larger than a block.
    ResponseTooLarge = 9,
    /// The server is shutting down.
    ShuttingDown = 10,
    /// The server could not do what was asked; the body says why.
    Internal = 11,
    /// The first block of a link's callee.
    Hello = 12,
    /// The callee refused the link; the body says why.
    Refused = 13,
    /// Too many links wait to be accepted by the callee.
    Busy = 14,
    /// A rule of the server's access does not allow it; the body says which.
    NotAllowed = 15,
    /// A relay has the message, and what became of it is not known.
    Unconfirmed = 16,
}

impl Status {
    #[inline]
    pub(crate) fn from_code(code: u16) -> Option<Status> {
        Some(match code {
            0 => Status::Ok,
            1 => Status::UnknownOperation,
            2 => Status::Malformed,
            3 => Status::NotFound,
            4 => Status::InboxFull,
            5 => Status::TimedOut,
            6 => Status::Gone,
            7 => Status::TooLarge,
            8 => Status::ServiceFailed,
            9 => Status::ResponseTooLarge,
            10 => Status::ShuttingDown,
            11 => Status::Internal,
            12 => Status::Hello,
            13 => Status::Refused,
            14 => Status::Busy,
            15 => Status::NotAllowed,
            16 => Status::Unconfirmed,
            _ => return None,
        })
    }
}

/// Splits the first `N` bytes off a body.
#[inline]
pub(crate) fn take<const N: usize>(body: &[u8]) -> Option<([u8; N], &[u8])> {
    let (first, rest) = body.split_first_chunk::<N>()?;
    Some((*first, rest))
}

/// As much of a text as has at most so many bytes.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    let end = (0..=text.len().min(most)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::local;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn overheads_have_the_documented_sizes() {
        assert_eq!((MESSAGE_OVERHEAD, SEND_OVERHEAD), (8 + 16 + 64, 8 + 16 + 8));
    }

    #[test]
    fn a_header_is_eight_little_endian_bytes() {
        let header = BlockHeader::new(0x0102, 0x0304, 0x0506_0708);
        assert_eq!(header.to_word().to_ne_bytes(), [2, 1, 4, 3, 8, 7, 6, 5]);
        assert_eq!(BlockHeader::from_array([2, 1, 4, 3, 8, 7, 6, 5]), header);
    }

    /// Tries all 65,536 codes.
    #[test]
    fn known_codes_decode_and_all_others_are_refused() {
        for code in 0..=u16::MAX {
            let known = (1..=11).contains(&code).then_some(code);
            assert_eq!(Operation::from_code(code).map(|operation| operation as u16), known);
            let known = (code <= 16).then_some(code);
            assert_eq!(Status::from_code(code).map(|status| status as u16), known);
        }
    }

    proptest! {
        #[test]
        fn any_header_decodes_to_what_was_encoded(code: u16, flags: u16, sequence: u32, bytes: [u8; BLOCK_HEADER]) {
            let header = BlockHeader::new(code, flags, sequence);
            prop_assert_eq!(BlockHeader::from_array(header.to_word().to_ne_bytes()), header);
            prop_assert_eq!((header.code.get(), header.flags.get(), header.sequence.get()), (code, flags, sequence));
            prop_assert_eq!(BlockHeader::from_array(bytes).to_word().to_ne_bytes(), bytes);
        }

        /// The header is the block's first 8 bytes; a shorter block has none.
        #[test]
        fn a_block_has_a_header_if_it_is_long_enough(block in vec(any::<u8>(), 0..200)) {
            let (mut producer, mut consumer) = local(1024).unwrap();
            producer.try_send(&block).unwrap();
            let header = BlockHeader::of(&consumer.recv_ref().unwrap()).map(|header| header.to_word().to_ne_bytes());
            prop_assert_eq!(header.as_ref(), block.first_chunk::<BLOCK_HEADER>());
        }

        #[test]
        fn take_splits_off_the_bytes_or_finds_too_few(body in vec(any::<u8>(), 0..40)) {
            let taken = take::<16>(&body).map(|(first, rest)| (first.to_vec(), rest));
            prop_assert_eq!(taken, (body.len() >= 16).then(|| (body[..16].to_vec(), &body[16..])));
        }
    }
}
