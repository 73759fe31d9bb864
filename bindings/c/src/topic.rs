//! Topics: one client publishes samples, any number subscribe to them.

use std::ffi::{c_char, c_int, c_void};
use std::io::Write;
use std::time::Duration;

use bus::{Policy, Publisher, Subscriber, Topic};

use crate::client::ringpost_client;
use crate::closer::ringpost_closer;
use crate::error::ringpost_status::*;
use crate::error::{Failure, ringpost_status, run};
use crate::handle::{self, Opaque};
use crate::ready::Waits;
use crate::text::{
    RINGPOST_TOPIC_SIZE, bytes, fill, limit, long_limit, nothing_yet, null, place, ringpost_peer, text,
};

/// Publishes samples of one topic.
pub struct ringpost_publisher {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_publisher {
    type End = Waits<Publisher>;
    const TAG: u32 = 0x7270_0008;
    const NAME: &'static str = "publisher";
}

/// Receives the samples of all topics that match a pattern.
pub struct ringpost_subscriber {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_subscriber {
    type End = Waits<Subscriber>;
    const TAG: u32 = 0x7270_0009;
    const NAME: &'static str = "subscriber";
}

/// A piece of a sample: `len` bytes at `data`.
#[repr(C)]
pub struct ringpost_part {
    /// Where it is. May be NULL if `len` is 0.
    pub data: *const c_void,
    /// Its length in bytes.
    pub len: usize,
}

/// A sample that was received.
#[repr(C)]
pub struct ringpost_sample {
    /// What was published: a copy, valid until the next use of the subscriber.
    pub payload: *const c_void,
    /// Its length in bytes.
    pub len: usize,
    /// Its number among those of its publisher.
    pub sequence: u64,
    /// How many of this publisher were lost before it.
    pub missed: u64,
    /// Its topic.
    pub topic: [c_char; RINGPOST_TOPIC_SIZE],
    /// Who published it.
    pub publisher: ringpost_peer,
}

/// What to do when samples come faster than they are taken.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ringpost_policy {
    /// The oldest are lost, and counted.
    RINGPOST_LOSSY = 0,
    /// Only the newest of each publisher is wanted.
    RINGPOST_LATEST = 1,
    /// The publisher waits, if it offers that.
    RINGPOST_RELIABLE = 2,
}

/// Publishes a topic. `ring_size` is the size of its ring in bytes, or 0 for the usual one. `reliable_ns` is how
/// long samples may wait for subscribers that want each one, in nanoseconds; with a negative number they never
/// wait. `arms`: the publisher will be waited for in an event loop. Waits for the server, for the time given to
/// ringpost_register at most.
///
/// Requires: `client` is a handle, `topic` is a text, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_publish(
    client: *mut ringpost_client,
    topic: *const c_char,
    ring_size: usize,
    reliable_ns: i64,
    arms: bool,
    out: *mut *mut ringpost_publisher,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, topic, out) =
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
        out.put(handle::give(Waits::new(options.publish(end.client.end.caller(), topic)?)));
        Ok(())
    })
}

/// Publishes a sample. Waits only for subscribers that want each one, if the publisher offers that.
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

/// Publishes a sample that is made of pieces, each copied to its place in the ring once. Waits without a limit for
/// subscribers that want each sample, if the publisher offers that.
///
/// Requires: `publisher` is a handle, `parts` has `count` pieces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_publisher_send_parts(
    publisher: *mut ringpost_publisher,
    parts: *const ringpost_part,
    count: usize,
) -> ringpost_status {
    run(|| {
        if parts.is_null() && count != 0 {
            return Err(null("parts"));
        }
        let mut pieces = Vec::new();
        let mut total = 0_usize;
        for index in 0..count {
            // SAFETY: the caller's promises.
            let piece = unsafe { &*parts.add(index) };
            // SAFETY: as above.
            let piece = unsafe { bytes(piece.data, piece.len)? };
            total = total.saturating_add(piece.len());
            pieces.push(piece);
        }
        // SAFETY: the caller's promise.
        let mut end = unsafe { handle::alone(publisher)? };
        let mut grant = end.end.grant(total)?;
        for piece in pieces {
            grant.write_all(piece).map_err(|error| Failure::new(RINGPOST_OTHER, error))?;
        }
        grant.commit();
        Ok(())
    })
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

/// A closer, which ends the publisher from any thread.
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

/// As ringpost_client_readiness, for room. The publisher must have been made with `arms`.
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

/// Publishes no more, and frees the handle. Subscribers still receive what was published.
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

/// Subscribes to all topics that match a pattern, now and later. `policy` is one of ringpost_policy. `history`:
/// begin with so many of the last samples of each publisher. `arms`: the subscriber will be waited for in an
/// event loop. Waits for the server.
///
/// Requires: `client` is a handle, `pattern` is a text, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_subscribe(
    client: *mut ringpost_client,
    pattern: *const c_char,
    policy: c_int,
    history: u64,
    arms: bool,
    timeout_ns: i64,
    out: *mut *mut ringpost_subscriber,
) -> ringpost_status {
    use ringpost_policy::*;
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, pattern, out) =
            unsafe { (handle::alone(client)?, text(pattern, "the pattern")?, place(out, "out")?) };
        // A number, as C may pass any: an enum of Rust must be one of its variants.
        let policy = match policy {
            p if p == RINGPOST_LOSSY as c_int => Policy::Lossy,
            p if p == RINGPOST_LATEST as c_int => Policy::Latest,
            p if p == RINGPOST_RELIABLE as c_int => Policy::Reliable,
            p => {
                let text = format_args!("{p} is no policy");
                return Err(Failure::new(RINGPOST_INVALID_ARGUMENT, text));
            }
        };
        let timeout: Duration = long_limit(timeout_ns);
        let mut options = Subscriber::options().policy(policy).history(history).timeout(timeout);
        if arms {
            options = options.arms();
        }
        out.put(handle::give(Waits::new(options.subscribe(end.client.end.caller(), pattern)?)));
        Ok(())
    })
}

/// Waits for a sample. RINGPOST_TIMED_OUT: there is none.
///
/// Requires: `subscriber` is a handle, `sample` points to a sample.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_subscriber_recv(
    subscriber: *mut ringpost_subscriber,
    timeout_ns: i64,
    sample: *mut ringpost_sample,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(subscriber)?, place(sample, "sample")?) };
        let received = match timeout_ns {
            0 => end.end.try_recv()?.ok_or_else(nothing_yet)?,
            _ => end.end.recv_timeout(limit(timeout_ns))?,
        };
        out.put(ringpost_sample {
            payload: received.payload().as_ptr().cast(),
            len: received.payload().len(),
            sequence: received.sequence(),
            missed: received.missed(),
            topic: fill(received.topic()),
            publisher: received.publisher().into(),
        });
        Ok(())
    })
}

/// A closer, which ends the subscription from any thread.
///
/// Requires: `subscriber` is a handle, `out` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_subscriber_closer(
    subscriber: *mut ringpost_subscriber,
    out: *mut *mut ringpost_closer,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (end, out) = unsafe { (handle::alone(subscriber)?, place(out, "out")?) };
        out.put(handle::give(end.end.closer()));
        Ok(())
    })
}

/// As ringpost_client_readiness, for samples. The subscriber must have been made with `arms`.
///
/// Requires: `subscriber` is a handle, `fd` points to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_subscriber_readiness(
    subscriber: *mut ringpost_subscriber,
    fd: *mut c_int,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(subscriber)?, place(fd, "fd")?) };
        end.descriptor(out)
    })
}

/// As ringpost_client_arm.
///
/// Requires: `subscriber` is a handle, `armed` points to a bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_subscriber_arm(
    subscriber: *mut ringpost_subscriber,
    armed: *mut bool,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut end, out) = unsafe { (handle::alone(subscriber)?, place(armed, "armed")?) };
        end.arm(out)
    })
}

/// Ends the subscription, and frees the handle.
///
/// Requires: `subscriber` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_subscriber_free(subscriber: *mut ringpost_subscriber) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { handle::take(subscriber)? });
        Ok(())
    })
}
