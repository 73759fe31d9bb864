//! Subscribing to topics.

use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;

use bus::{Policy, SampleView, Subscriber};

use crate::client::ringpost_client;
use crate::closer::ringpost_closer;
use crate::error::ringpost_status::*;
use crate::error::{Failure, ringpost_status, run};
use crate::handle::{self, Opaque};
use crate::ready::Waits;
use crate::text::{RINGPOST_TOPIC_SIZE, fill, limit, long_limit, nothing_yet, place, ringpost_peer, text};

/// Receives the samples of all topics that match a pattern.
pub struct ringpost_subscriber {
    _private: (),
}

// SAFETY: the tag is of this type only.
unsafe impl Opaque for ringpost_subscriber {
    type End = Waits<Subscriber>;
    /// The open view. It borrows the subscriber, which is lent as long.
    type Side = Option<SampleView<'static>>;
    const TAG: u32 = 0x7270_0009;
    const NAME: &'static str = "subscriber";
}

/// A sample that was received.
#[repr(C)]
pub struct ringpost_sample {
    /// What was published. After ringpost_subscriber_recv it is a copy that belongs to the subscriber, and
    /// is valid until the next use of it. After ringpost_subscriber_view see there.
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

/// Subscribes to all topics that match a pattern, now and later, and waits for the server. `policy` is one of
/// ringpost_policy. `history`: begin with so many of the last samples of each publisher. `arms`: the
/// subscriber will be waited for in an event loop.
///
/// `*out` is yours: end it by ringpost_subscriber_free. The subscriber ends with the client.
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
        let (mut caller, pattern, out) =
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
        let subscriber = options.subscribe(&mut caller.end, pattern)?;
        out.put(handle::give_with_side(Waits::new(subscriber), None));
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

/// Waits for a sample as ringpost_subscriber_recv does, but copies nothing: `payload` points to it in the
/// publisher's memory, 8-byte aligned. It stays mapped until ringpost_subscriber_release.
///
/// The publisher may overwrite the sample meanwhile, unless the policy is RINGPOST_RELIABLE. So read it, and
/// then ask ringpost_subscriber_check or ringpost_subscriber_release whether what was read was the sample.
/// Until then trust no length or index that was read from it.
///
/// Until the release everything else that is asked of the subscriber fails with RINGPOST_IN_USE, except its
/// closer and ringpost_subscriber_free, which releases. Any thread may read and release it.
///
/// Requires: `subscriber` is a handle, `sample` points to a sample. Nothing is written to the payload.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_subscriber_view(
    subscriber: *mut ringpost_subscriber,
    timeout_ns: i64,
    sample: *mut ringpost_sample,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises. The side comes first, so that nobody ends the view before it is
        // there.
        let (mut side, end, out) =
            unsafe { (handle::side(subscriber)?, handle::alone(subscriber)?, place(sample, "sample")?) };
        // SAFETY: the view lies in the side, from where it is taken before the end is given back. `take`
        // drops the side, and the view with it, before the end.
        let lent: &'static mut Waits<Subscriber> = unsafe { end.lend() };
        let seen = match timeout_ns {
            0 => lent.end.try_recv_ref().map_err(Failure::from).and_then(|view| view.ok_or_else(nothing_yet)),
            _ => lent.end.recv_ref_timeout(limit(timeout_ns)).map_err(Failure::from),
        };
        match seen {
            Ok(view) => {
                out.put(ringpost_sample {
                    payload: view.as_ptr().cast(),
                    len: view.len(),
                    sequence: view.sequence(),
                    missed: view.missed(),
                    topic: fill(view.topic()),
                    publisher: view.publisher().into(),
                });
                *side = Some(view);
                Ok(())
            }
            Err(failure) => {
                // SAFETY: the caller's promise. There is no view.
                unsafe { handle::give_back(subscriber)? };
                Err(failure)
            }
        }
    })
}

/// Whether what was read so far of the open view was the sample. Does not block.
///
/// RINGPOST_OVERRUN: it was overwritten, and what was read may be anything.
/// RINGPOST_NOTHING_OUTSTANDING: no view is open.
///
/// Requires: `subscriber` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_subscriber_check(subscriber: *mut ringpost_subscriber) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        let side = unsafe { handle::side(subscriber)? };
        Ok(side.as_ref().ok_or_else(no_view)?.check()?)
    })
}

/// Ends the view, whatever this returns: the sample counts as received. Says as ringpost_subscriber_check
/// whether what was read was the sample. Does not block.
///
/// Requires: `subscriber` is a handle. Nothing is read from the payload any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_subscriber_release(
    subscriber: *mut ringpost_subscriber,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        let mut side = unsafe { handle::side(subscriber)? };
        let finished = side.take().ok_or_else(no_view)?.finish();
        // SAFETY: the caller's promise. The view has ended.
        unsafe { handle::give_back(subscriber)? };
        Ok(finished?)
    })
}

#[cold]
fn no_view() -> Failure {
    Failure::new(RINGPOST_NOTHING_OUTSTANDING, "no view of this subscriber is open")
}

/// A closer, which ends the subscription from any thread. Does not block. `*out` is yours: end it by
/// ringpost_closer_free.
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

/// As ringpost_client_readiness, for samples. The subscriber must have been made with `arms`. Does not block.
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

/// Ends the subscription, and frees the handle; a view that is open is released. Tells the server, and waits
/// for that for a second at most.
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
