//! Services in C: a callback that is called for each request.

use std::ffi::{c_char, c_int, c_void};

use bus::{Request, Response, Service, ServiceError};

use crate::error::ringpost_status::*;
use crate::error::{Failure, ringpost_status, run};
use crate::text::{bytes, null, place, ringpost_peer, text};

/// A request that a service answers. It is there until the callback returns.
#[repr(C)]
pub struct ringpost_request {
    /// What the caller sent: a copy that nobody changes.
    pub payload: *const c_void,
    /// Its length in bytes.
    pub len: usize,
    /// Whether the caller waits for a response. What is written is thrown away if not.
    pub wants_response: bool,
    /// Who calls.
    pub peer: ringpost_peer,
}

/// The response that a service writes. It is there until the callback returns.
pub struct ringpost_response {
    _private: (),
}

/// A service. Returns 0 to answer with what it wrote, or another number to say that it failed.
///
/// It is called on a thread of the library. A server or a serving calls it on several threads at once, for
/// several clients, with the same `context`. It must return: an exception that leaves it ends the process,
/// and a longjmp out of it is undefined behaviour.
pub type ringpost_service = Option<
    unsafe extern "C-unwind" fn(
        context: *mut c_void,
        request: *const ringpost_request,
        response: *mut ringpost_response,
    ) -> c_int,
>;

/// Called once, when no thread uses the context of a service any more. May be NULL.
pub type ringpost_release = Option<unsafe extern "C-unwind" fn(context: *mut c_void)>;

/// What a [`ringpost_response`] is.
struct Answer<'a, 'b> {
    response: &'a mut Response<'b>,
    failure: Option<ServiceError>,
}

/// A callback with its context.
pub(crate) struct Callback {
    service:
        unsafe extern "C-unwind" fn(*mut c_void, *const ringpost_request, *mut ringpost_response) -> c_int,
    context: *mut c_void,
    release: ringpost_release,
}

// SAFETY: whoever gives a service has promised that it may be called from several threads at once.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

impl Callback {
    /// # Safety
    ///
    /// The service may be called with the context from any thread, until `release` is called.
    pub(crate) unsafe fn new(
        service: ringpost_service,
        context: *mut c_void,
        release: ringpost_release,
    ) -> Result<Callback, Failure> {
        let service = service.ok_or_else(|| null("the service"))?;
        Ok(Callback { service, context, release })
    }
}

impl Service for Callback {
    fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
        let payload = request.payload();
        let asked = ringpost_request {
            payload: payload.as_ptr().cast(),
            len: payload.len(),
            wants_response: request.wants_response(),
            peer: request.peer().into(),
        };
        let mut answer = Answer { response, failure: None };
        // SAFETY: promised to `new`. Both pointers are good until it returns.
        let code = unsafe { (self.service)(self.context, &asked, (&raw mut answer).cast()) };
        match (answer.failure, code) {
            (Some(failure), _) => Err(failure),
            (None, 0) => Ok(()),
            (None, code) => Err(ServiceError::new(format_args!("the service returned {code}"))),
        }
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: promised to `new`. Nobody has the callback any more.
            unsafe { release(self.context) }
        }
    }
}

/// # Safety
///
/// The pointer is NULL, or one that a service was called with and that has not returned.
unsafe fn answer<'a>(response: *mut ringpost_response) -> Result<&'a mut Answer<'a, 'a>, Failure> {
    // SAFETY: the caller's promise. Only the thread that runs the service has it.
    unsafe { response.cast::<Answer<'a, 'a>>().as_mut() }.ok_or_else(|| null("the response"))
}

/// Appends to the response. For use in the service that was called with it.
///
/// RINGPOST_TOO_LARGE: the response would not fit. The caller is told so, whatever the service returns.
///
/// Requires: `response` is what the service was called with, `data` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_response_write(
    response: *mut ringpost_response,
    data: *const c_void,
    len: usize,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (answer, data) = unsafe { (answer(response)?, bytes(data, len)?) };
        answer.response.write(data).map_err(|error| {
            let failure = Failure::new(RINGPOST_TOO_LARGE, &error);
            answer.failure = Some(error);
            failure
        })
    })
}

/// How many bytes can still be written to the response.
///
/// Requires: As ringpost_response_write; `remaining` points to a size_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_response_remaining(
    response: *mut ringpost_response,
    remaining: *mut usize,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (answer, out) = unsafe { (answer(response)?, place(remaining, "remaining")?) };
        out.put(answer.response.remaining());
        Ok(())
    })
}

/// Makes the call fail with this text for the caller, whatever the service returns.
///
/// Requires: As ringpost_response_write; `why` is a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringpost_response_fail(
    response: *mut ringpost_response,
    why: *const c_char,
) -> ringpost_status {
    run(|| {
        // SAFETY: the caller's promises.
        let (answer, why) = unsafe { (answer(response)?, text(why, "the text")?) };
        answer.failure = Some(ServiceError::new(why));
        Ok(())
    })
}
