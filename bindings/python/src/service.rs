//! A Python callable as a service.

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

fn serve(
    py: Python<'_>,
    callable: &Bound<'_, PyAny>,
    request: Request<'_>,
    response: &mut Response<'_>,
) -> Result<(), ServiceError> {
    let answer = bytes(py, request.payload())
        .and_then(|payload| callable.call1((payload, Peer::from(request.peer()))));
    match answer {
        Ok(answer) if answer.is_none() => Ok(()),
        Ok(answer) => match Payload::of(&answer) {
            Ok(payload) => response.write(payload.bytes()),
            Err(error) => Err(failed(py, &error, callable)),
        },
        Err(error) => Err(failed(py, &error, callable)),
    }
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
