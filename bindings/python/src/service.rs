//! A Python callable as a service.

use parking_lot::Mutex;
use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use ringpost::{Request, Response, ServiceError};

use crate::payload::{Payload, bytes};
use crate::records::Peer;

/// Calls `callable(request, peer)` for each request, on whatever thread serves it.
pub fn of(
    callable: Py<PyAny>,
) -> impl Fn(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> + Send + Sync + 'static {
    move |request, response| {
        Python::try_attach(|py| serve(py, callable.bind(py), request, response))
            .unwrap_or_else(|| Err(ServiceError::new("the program that serves is ending")))
    }
}

/// What ended a thread that serves by hand: an exception that is none of the service's, such as that of
/// Ctrl-C.
#[derive(Default)]
pub struct Stopped(Mutex<Option<PyErr>>);

impl Stopped {
    pub fn check(&self) -> PyResult<()> {
        self.0.lock().take().map_or(Ok(()), Err)
    }
}

/// As `of`, for the thread that waits for it: what is no `Exception` ends that, and no service is called
/// after it.
pub fn until_stopped<'a>(
    callable: &'a Py<PyAny>,
    stopped: &'a Stopped,
) -> impl FnMut(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> + Send + 'a {
    move |request, response| {
        let ending = || ServiceError::new("the program that serves is ending");
        Python::try_attach(|py| {
            if stopped.0.lock().is_some() {
                return Err(ending());
            }
            answer(py, callable.bind(py), request, response).map_err(|error| {
                if error.is_instance_of::<PyException>(py) {
                    return failed(py, &error, callable.bind(py));
                }
                *stopped.0.lock() = Some(error);
                ending()
            })?
        })
        .unwrap_or_else(|| Err(ending()))
    }
}

fn serve(
    py: Python<'_>,
    callable: &Bound<'_, PyAny>,
    request: Request<'_>,
    response: &mut Response<'_>,
) -> Result<(), ServiceError> {
    answer(py, callable, request, response).map_err(|error| failed(py, &error, callable))?
}

/// The outer error is the callable's, the inner one that of a response that does not fit.
fn answer(
    py: Python<'_>,
    callable: &Bound<'_, PyAny>,
    request: Request<'_>,
    response: &mut Response<'_>,
) -> PyResult<Result<(), ServiceError>> {
    let arguments = (bytes(py, request.payload())?, Peer::from(request.peer())).into_pyobject(py)?;
    let answer = call(callable, &arguments)?;
    if answer.is_none() {
        return Ok(Ok(()));
    }
    Ok(response.write(Payload::of(&answer)?.bytes()))
}

/// A `ServiceError` is for the caller. Anything else is a fault of the service: the one who runs it sees the
/// traceback, the caller, who may be another user, only that there was one.
fn failed(py: Python<'_>, error: &PyErr, callable: &Bound<'_, PyAny>) -> ServiceError {
    let told = py.import("ringpost.errors").and_then(|errors| errors.getattr("ServiceError"));
    if told.is_ok_and(|told| error.matches(py, told).unwrap_or(false)) {
        return ServiceError::new(error.value(py));
    }
    error.clone_ref(py).write_unraisable(py, Some(callable));
    ServiceError::new("the service raised an exception")
}

/// Keeps a thread that is being unwound where it is.
struct Stays;

impl Drop for Stays {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// As `call1`, but a thread that is ended meanwhile does no harm. Before version 3.14, an interpreter that is
/// ending ends each other thread that wants its lock, by `pthread_exit`, in the middle of the service. That
/// unwinds the thread, and none of the callers here would survive it. So the thread stays here, for the
/// little time that the process has left, as it does from 3.14 on.
#[allow(unsafe_code, reason = "pyo3 declares this function as one that never unwinds")]
fn call<'py>(callable: &Bound<'py, PyAny>, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    unsafe extern "C-unwind" {
        fn PyObject_CallObject(
            callable: *mut ffi::PyObject,
            arguments: *mut ffi::PyObject,
        ) -> *mut ffi::PyObject;
    }
    let stays = Stays;
    // SAFETY: it is declared as in Python's stable interface. Both objects are alive, the second is a tuple,
    // and this thread has the interpreter's lock. If it is unwound, no frame but this one and those of
    // Python and the C library are left: `stays` ends the unwinding by never returning.
    let answer = unsafe { PyObject_CallObject(callable.as_ptr(), arguments.as_ptr()) };
    std::mem::forget(stays);
    // SAFETY: it returns a reference of ours, or null and an exception.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), answer) }
}
