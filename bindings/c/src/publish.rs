//! Publishing samples of a topic.

use std::ffi::{c_char, c_int, c_void};

use bus::{CloseReason, Closer, PublishError, Publisher, SampleGrant, Topic};

use crate::client::{ringpost_client, within};
use crate::closer::ringpost_closer;
use crate::error::ringpost_status::*;
use crate::error::{Failure, ringpost_status, run};
use crate::handle::{self, Opaque};
use crate::ready::Waits;
use crate::text::{bytes, limit, long_limit, place, text};

/// Publishes samples of one topic.
pub struct ringpost_publisher {
    _private: (),
}

/// What another thread may use than the one that sends.
pub(crate) struct Lending {
    closer: Closer,
    /// It borrows the publisher, which is lent as long.
    grant: Option<SampleGrant<'static>>,
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_publisher {
    type End = Waits<Publisher>;
    type Side = Lending;
    const TAG: u32 = 0x7270_0008;
    const NAME: &'static str = "publisher";
}

/// Publishes a topic, and waits for the server. `ring_size` is the size of its ring in bytes, or 0 for the
/// usual one: the longest sample is a quarter of it. `reliable_ns` is how long samples may wait for
/// subscribers that want each one, in nanoseconds; with a negative number they never wait. `arms`: the
/// publisher will be waited for in an event loop.
///
/// `*out` is yours: end it by ringpost_publisher_free. The publisher ends with the client.
///
/// Requires: `client` is a handle, `topic` is a text, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_publish(
    client: *mut ringpost_client,
    topic: *const c_char,
    ring_size: usize,
    reliable_ns: i64,
    arms: bool,
    timeout_ns: i64,
    out: *mut *mut ringpost_publisher,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut caller, topic, out) =
            unsafe { (handle::alone(client)?, text(topic, "the topic")?, place(out, "out")?) };
        let topic = Topic::try_from(topic)?;
        let mut options = Publisher::options();
        if ring_size != 0 {
            options = options.ring_size(ring_size);
        }
        if let Some(budget) = limit(reliable_ns) {
            options = options.reliable(budget);
        }
        if arms {
            options = options.arms();
        }
        let publisher = options.publish(within(&mut caller, long_limit(timeout_ns)), topic)?;
        let lending = Lending { closer: publisher.closer(), grant: None };
        out.put(handle::give_with_side(Waits::new(publisher), lending));
        Ok(())
    })
}

/// Publishes a sample. Waits only for subscribers that want each one, if the publisher offers that: otherwise
/// it does not block.
///
/// RINGPOST_FULL: a time-out of 0, and such a subscriber is behind. Nothing was published.
///
/// Requires: `publisher` is a handle, `sample` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_publisher_send(
    publisher: *mut ringpost_publisher,
    sample: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, sample) = unsafe { (handle::alone(publisher)?, bytes(sample, len)?) };
        match timeout_ns {
            0 => end.end.try_send(sample)?,
            _ => end.end.send_timeout(sample, limit(timeout_ns))?,
        }
        Ok(())
    })
}

/// Room in the ring for one sample of up to `len` bytes, to be written there and not copied: `*data` points
/// to it, 8-byte aligned. Waits as ringpost_publisher_send does. What lies there is old: write before you
/// commit.
///
/// End it by ringpost_publisher_commit or ringpost_publisher_abandon. Until then everything else that is
/// asked of the publisher fails with RINGPOST_IN_USE, except its closer and ringpost_publisher_free, which
/// abandons. Any thread may write and end it. Subscribers get what is written only once it is committed; what
/// is not is overwritten with zeros.
///
/// Requires: `publisher` is a handle, `data` points to a pointer. Nothing is written behind `len` bytes, nor
/// after the grant has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_publisher_grant(
    publisher: *mut ringpost_publisher,
    len: usize,
    timeout_ns: i64,
    data: *mut *mut c_void,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises. The side comes first, so that nobody ends the grant before it is
        // there.
        let (mut side, end, out) =
            unsafe { (handle::side(publisher)?, handle::alone(publisher)?, place(data, "data")?) };
        // SAFETY: the grant lies in the side, from where it is taken before the end is given back. `take`
        // drops the side, and the grant with it, before the end.
        let lent: &'static mut Waits<Publisher> = unsafe { end.lend() };
        match lent.end.grant_timeout(len, limit(timeout_ns)) {
            Ok(mut grant) => {
                out.put(grant.as_mut_ptr().cast());
                side.grant = Some(grant);
                Ok(())
            }
            Err(error) => {
                // SAFETY: the caller's promise. There is no grant.
                unsafe { handle::give_back(publisher)? };
                // As ringpost_publisher_send says it.
                let full = timeout_ns == 0 && error.is_timeout();
                Err(if full { PublishError::Full } else { error }.into())
            }
        }
    })
}

/// Publishes the first `len` bytes of what was granted, and ends the grant. Does not block.
///
/// RINGPOST_NOTHING_OUTSTANDING: no grant is open.
/// RINGPOST_TOO_LARGE: it was granted less. The grant is still open.
///
/// Requires: `publisher` is a handle. Nothing is written to the granted bytes any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_publisher_commit(
    publisher: *mut ringpost_publisher,
    len: usize,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        let mut side = unsafe { handle::side(publisher)? };
        if side.closer.reason() == Some(CloseReason::Forked) {
            return Err(Failure::new(RINGPOST_FORKED, CloseReason::Forked));
        }
        let Some(mut grant) = side.grant.take() else { return Err(no_grant()) };
        if len > grant.remaining() {
            let text = format_args!("{len} bytes are more than the {} that were granted", grant.remaining());
            let failure = Failure::new(RINGPOST_TOO_LARGE, text);
            side.grant = Some(grant);
            return Err(failure);
        }
        grant.advance(len);
        grant.commit();
        // SAFETY: the caller's promise. The grant has ended.
        unsafe { handle::give_back(publisher) }
    })
}

/// Ends the grant, and publishes nothing. Does not block.
///
/// RINGPOST_NOTHING_OUTSTANDING: no grant is open.
///
/// Requires: as ringpost_publisher_commit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_publisher_abandon(publisher: *mut ringpost_publisher) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        let mut side = unsafe { handle::side(publisher)? };
        drop(side.grant.take().ok_or_else(no_grant)?);
        // SAFETY: the caller's promise. The grant has ended.
        unsafe { handle::give_back(publisher) }
    })
}

#[cold]
fn no_grant() -> Failure {
    Failure::new(RINGPOST_NOTHING_OUTSTANDING, "no grant of this publisher is open")
}

/// The longest sample in bytes, and how many subscribers there are. Does not block.
///
/// Requires: `publisher` is a handle, `max_sample` and `subscribers` point to numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_publisher_limits(
    publisher: *mut ringpost_publisher,
    max_sample: *mut usize,
    subscribers: *mut usize,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (end, max_sample, subscribers) = unsafe {
            let outs = (place(max_sample, "max_sample")?, place(subscribers, "subscribers")?);
            (handle::alone(publisher)?, outs.0, outs.1)
        };
        max_sample.put(end.end.max_sample());
        subscribers.put(end.end.subscribers());
        Ok(())
    })
}

/// A closer, which ends the publisher from any thread. Does not block. `*out` is yours: end it by
/// ringpost_closer_free.
///
/// Requires: `publisher` is a handle, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_publisher_closer(
    publisher: *mut ringpost_publisher,
    out: *mut *mut ringpost_closer,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (end, out) = unsafe { (handle::alone(publisher)?, place(out, "out")?) };
        out.put(handle::give(end.end.closer()));
        Ok(())
    })
}

/// As ringpost_client_readiness, for room. The publisher must have been made with `arms`. Does not block.
///
/// Requires: `publisher` is a handle, `fd` points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_publisher_readiness(
    publisher: *mut ringpost_publisher,
    fd: *mut c_int,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(publisher)?, place(fd, "fd")?) };
        end.descriptor(out)
    })
}

/// As ringpost_client_arm, after a send that found no room.
///
/// Requires: `publisher` is a handle, `armed` points to a bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_publisher_arm(
    publisher: *mut ringpost_publisher,
    armed: *mut bool,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(publisher)?, place(armed, "armed")?) };
        end.arm(out)
    })
}

/// Publishes no more, and frees the handle; a grant that is open is abandoned. Subscribers still receive what
/// was published. Tells the server, and waits for that for a second at most.
///
/// Requires: `publisher` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_publisher_free(publisher: *mut ringpost_publisher) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { handle::take(publisher)? });
        Ok(())
    })
}
