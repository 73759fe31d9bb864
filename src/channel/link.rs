//! A link's memory: two rings and a closed word in one sealed segment, which a third party makes.
//!
//! The server makes the segment, never writes into it, and tells both sides its sizes: pages belong to who
//! touches them first. The two sides are alike but for the direction of the rings, and neither trusts the
//! other. Each notices the other's close by the shared closed word, cannot be kept asleep by the other, and
//! closes explicitly. A link of a process ends in a child that is forked later.

use std::os::fd::{AsFd, OwnedFd};

use super::layout::{Geometry, LINK_DATA, Ring};
use super::{ChannelError, EndOptions, Ends, Sleepers};
use crate::ring::{Closer, Consumer, Kick, Peer, Producer, WaitStrategy};
use crate::shm::{Segment, SegmentError, View};

/// Which side of a link this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Produces requests and consumes responses.
    Caller,
    /// Consumes requests and produces responses.
    Callee,
}

/// One side's ends of a link.
#[derive(Debug)]
pub(crate) struct LinkEnds {
    /// Sends what this side sends: requests or responses.
    pub(crate) producer: Producer,
    /// Receives what the other side sends.
    pub(crate) consumer: Consumer,
    /// Closes the link.
    pub(crate) closer: Closer,
    /// The pipe of this side, for its own closers, and the other side's. Empty at first.
    pub(crate) own: Kick,
    pub(crate) peers: Kick,
}

pub(super) const LINK: EndOptions = EndOptions {
    data: LINK_DATA,
    stamped: false,
    peer: Peer::Heard,
    separate_intake: false,
    closes_on_drop: None,
    ends_at_fork: true,
};

/// Makes the sealed segment of a link and writes nothing into it. Does not block.
///
/// # Errors
///
/// [`ChannelError::System`]: there is no memory for it, or no descriptor.
pub(crate) fn create_link(geometry: &Geometry) -> Result<OwnedFd, ChannelError> {
    let (_unmapped, descriptor) = Segment::create("ringpost-link", geometry.link_len())?;
    Ok(descriptor)
}

/// Checks a link's descriptor, maps it and returns the ends of one side. The descriptor is not needed
/// afterwards. Does not block.
///
/// # Errors
///
/// See [`ChannelError`]: it is not a sealed memory file, or its length does not match the sizes.
pub(crate) fn open_link(
    descriptor: impl AsFd,
    geometry: &Geometry,
    strategy: WaitStrategy,
    side: Side,
) -> Result<LinkEnds, ChannelError> {
    let segment = Segment::open(descriptor)?;
    let (found, needed) = (segment.len(), geometry.link_len());
    if found != needed {
        return Err(ChannelError::Length { found, needed });
    }
    Ok(ends_of(View::new(segment), *geometry, strategy, side, &LINK)?)
}

pub(super) fn ends_of(
    view: View,
    geometry: Geometry,
    strategy: WaitStrategy,
    side: Side,
    options: &EndOptions,
) -> Result<LinkEnds, SegmentError> {
    let (own, peers) = (Kick::default(), Kick::default());
    let (produces, consumes) = side.rings();
    let rings = [
        Sleepers { consumer: peers.clone(), ..Sleepers::of(produces) },
        Sleepers { producer: peers.clone(), ..Sleepers::of(consumes) },
    ];
    let ends = Ends::new(view, &rings, vec![own.clone()], geometry, strategy, options)?;
    Ok(LinkEnds {
        producer: Producer::new(&ends.setup(produces, &peers)),
        consumer: Consumer::new(&ends.setup(consumes, &peers)),
        closer: ends.closer,
        own,
        peers,
    })
}

impl Side {
    /// The ring that it produces into, and the one that it consumes from.
    fn rings(self) -> (Ring, Ring) {
        match self {
            Side::Caller => (Ring::Request, Ring::Response),
            Side::Callee => (Ring::Response, Ring::Request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{CloseReason, RecvError, SendError};
    use std::thread;

    fn geometry() -> Geometry {
        Geometry::new(4096).unwrap()
    }

    /// Both sides, each with a mapping of its own.
    fn link() -> (LinkEnds, LinkEnds) {
        let descriptor = create_link(&geometry()).unwrap();
        let open = |side| open_link(&descriptor, &geometry(), WaitStrategy::Park, side).unwrap();
        (open(Side::Caller), open(Side::Callee))
    }

    #[test]
    fn what_one_side_sends_the_other_receives() {
        let (mut caller, mut callee) = link();
        caller.producer.send(b"request").unwrap();
        callee.producer.send(b"response").unwrap();
        let mut block = Vec::new();
        callee.consumer.recv(&mut block).unwrap();
        assert_eq!(block, b"request");
        caller.consumer.recv(&mut block).unwrap();
        assert_eq!(block, b"response");
        for end in [&mut caller, &mut callee] {
            assert_eq!(end.consumer.try_recv(&mut block), Ok(None));
            assert!(end.closer.sleeps_on_private());
        }
    }

    /// The maker of the segment pays for no page of it.
    #[cfg(not(miri))]
    #[test]
    fn whoever_makes_a_link_touches_none_of_its_memory() {
        let descriptor = create_link(&geometry()).unwrap();
        let made = rustix::fs::fstat(&descriptor).unwrap();
        assert_eq!((made.st_size, made.st_blocks), (3 * 4096, 0));
        let mut caller = open_link(&descriptor, &geometry(), WaitStrategy::Park, Side::Caller).unwrap();
        assert_eq!(rustix::fs::fstat(&descriptor).unwrap().st_blocks, 0);
        caller.producer.send(b"request").unwrap();
        assert!(rustix::fs::fstat(&descriptor).unwrap().st_blocks > 0);
    }

    #[test]
    fn a_link_has_blocks_as_large_as_was_said() {
        let geometry = geometry().with_max_block(256).unwrap();
        let descriptor = create_link(&geometry).unwrap();
        let mut caller = open_link(&descriptor, &geometry, WaitStrategy::Park, Side::Caller).unwrap();
        assert_eq!((caller.producer.max_block(), caller.consumer.max_block()), (256, 256));
        assert!(matches!(caller.producer.try_send(&[0; 257]), Err(SendError::TooLarge { .. })));
    }

    #[test]
    fn memory_of_another_length_is_refused() {
        let right = geometry().link_len();
        for len in [right - 4096, right + 4096, geometry().segment_len()] {
            let (_segment, descriptor) = Segment::create("test", len).unwrap();
            let refused = open_link(descriptor, &geometry(), WaitStrategy::Park, Side::Callee).unwrap_err();
            assert!(
                matches!(refused, ChannelError::Length { found, needed } if (found, needed) == (len, right))
            );
        }
        let refused = open_link(std::io::stdin(), &geometry(), WaitStrategy::Park, Side::Caller).unwrap_err();
        assert!(matches!(refused, ChannelError::NotMemory), "{refused}");
    }

    /// One thread of a side sleeps for room and another for a block, when either side closes.
    #[test]
    fn a_close_by_either_side_ends_every_sleep() {
        for (side, closing) in
            [Side::Caller, Side::Callee].into_iter().flat_map(|side| [(side, true), (side, false)])
        {
            let (caller, callee) = link();
            let (sleeping, other) = if side == Side::Caller { (caller, callee) } else { (callee, caller) };
            let LinkEnds { mut producer, mut consumer, closer, .. } = sleeping;
            let largest = vec![0; producer.max_block()];
            while producer.try_send(&largest).is_ok() {}
            let sender = thread::spawn(move || producer.send(&largest));
            let receiver = thread::spawn(move || consumer.recv(&mut Vec::new()));
            while !other.producer.consumer_looks_parked() {
                thread::yield_now();
            }
            let (closer, reason) =
                if closing { (closer, CloseReason::LOCAL) } else { (other.closer, CloseReason::PEER) };
            closer.close();
            assert_eq!(sender.join().unwrap(), Err(SendError::Disconnected(reason)));
            assert_eq!(receiver.join().unwrap(), Err(RecvError::Disconnected(reason)));
        }
    }

    #[test]
    fn what_was_committed_before_a_close_comes_first() {
        let (mut caller, mut callee) = link();
        callee.producer.send(b"refused").unwrap();
        callee.closer.close();
        let mut block = Vec::new();
        assert_eq!(caller.consumer.recv(&mut block), Ok(7));
        let end = caller.consumer.recv(&mut block);
        assert_eq!(end, Err(RecvError::Disconnected(CloseReason::PEER)));
    }
}
