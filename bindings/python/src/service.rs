//! A Python callable as a service.

use parking_lot::Mutex;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
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
    let answer = callable.call1((bytes(py, request.payload())?, Peer::from(request.peer())))?;
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
