//! What a client asks the server: who is there.

use std::ffi::{c_char, c_int, c_void};

use bus::{CallError, Key};

use crate::client::{ringpost_client, within};
use crate::error::ringpost_status::*;
use crate::error::{Failure, ringpost_status, run};
use crate::handle;
use crate::text::{fill, limit, long_limit, null, place, ringpost_key, ringpost_peer, text};

/// A client in a list.
#[repr(C)]
pub struct ringpost_client_info {
    /// Who it is.
    pub peer: ringpost_peer,
    /// Whether it listens for links.
    pub serves: bool,
    /// Links that it has open.
    pub links: u32,
    /// Calls that it has made.
    pub calls: u64,
    /// Messages that it has sent.
    pub sent: u64,
    /// Messages that it has received.
    pub received: u64,
}

/// Called for each client of a list. Return 0 to go on, another number to end the list.
pub type ringpost_visit_client =
    Option<unsafe extern "C-unwind" fn(context: *mut c_void, info: *const ringpost_client_info) -> c_int>;

/// Asks the server for nothing, and waits for its answer.
///
/// Requires: `client` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_ping(
    client: *mut ringpost_client,
    timeout_ns: i64,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promise.
        let mut caller = unsafe { handle::alone(client)? };
        Ok(within(&mut caller, long_limit(timeout_ns)).ping()?)
    })
}

/// The key of the client with a name. RINGPOST_NOT_FOUND: there is none. Waits for the server.
///
/// Requires: `client` is a handle, `name` is a text, `key` points to a key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_look_up(
    client: *mut ringpost_client,
    name: *const c_char,
    timeout_ns: i64,
    key: *mut ringpost_key,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut caller, name, out) =
            unsafe { (handle::alone(client)?, text(name, "the name")?, place(key, "key")?) };
        let found: Option<Key> = within(&mut caller, long_limit(timeout_ns)).look_up(name)?;
        let none = || Failure::new(RINGPOST_NOT_FOUND, format_args!("there is no client {name:?}"));
        out.put(found.ok_or_else(none)?.into());
        Ok(())
    })
}

/// As ringpost_client_look_up, but waits until there is such a client.
///
/// Requires: as ringpost_client_look_up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_wait_for(
    client: *mut ringpost_client,
    name: *const c_char,
    timeout_ns: i64,
    key: *mut ringpost_key,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (mut caller, name, out) =
            unsafe { (handle::alone(client)?, text(name, "the name")?, place(key, "key")?) };
        let came = caller.end.wait_for(name, limit(timeout_ns));
        let none = || Failure::new(RINGPOST_TIMED_OUT, format_args!("there was no client {name:?} in time"));
        out.put(came.map_err(|error| if error.is_timeout() { none() } else { error.into() })?.into());
        Ok(())
    })
}

/// Waits for the server's list of all clients, and then calls `visit` for each of them on this thread.
/// `visit` may use the client; what its `info` points to is valid until it returns.
///
/// Requires: `client` is a handle. `visit` may be called with `context`, and must return.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_client_list(
    client: *mut ringpost_client,
    timeout_ns: i64,
    visit: ringpost_visit_client,
    context: *mut c_void,
) -> ringpost_status {
    run(|| {
        let visit = visit.ok_or_else(|| null("visit"))?;
        // SAFETY: the caller's promise.
        let mut caller = unsafe { handle::alone(client)? };
        let clients: Result<_, CallError> = within(&mut caller, long_limit(timeout_ns)).list();
        drop(caller); // `visit` may use the client
        for client in clients? {
            let peer = ringpost_peer {
                key: client.key.into(),
                name: fill(client.name.as_str()),
                pid: client.pid,
                uid: client.uid,
                gid: client.gid,
            };
            let info = ringpost_client_info {
                peer,
                serves: client.serves,
                links: client.links,
                calls: client.counters.calls,
                sent: client.counters.sent,
                received: client.counters.received,
            };
            // SAFETY: the caller's promise.
            if unsafe { visit(context, &info) } != 0 {
                break;
            }
        }
        Ok(())
    })
}
