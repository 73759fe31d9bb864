//! The library's errors as exceptions of `ringpost.errors`.

use std::fmt::Display;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use ringpost::{
    AcceptError, CallError, CloseReason, ConnectError, ListenError, PathError, PublishError, ReadinessError,
    RecvError, RegisterError, SampleError, SendError, ServeError, StartError, SubscribeError, Violation,
};

/// An error that has an exception.
pub trait Raise {
    fn raise(self) -> PyErr;
}

/// The exception `kind` of `ringpost.errors`.
fn exception(kind: &str, text: impl Display, executed: bool) -> PyErr {
    Python::attach(|py| match build(py, kind, &text.to_string(), executed) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    })
}

fn build<'py>(py: Python<'py>, kind: &str, text: &str, executed: bool) -> PyResult<Bound<'py, PyAny>> {
    let exception = py.import("ringpost.errors")?.getattr(kind)?.call1((text,))?;
    if executed {
        exception.setattr("may_have_executed", true)?;
    }
    Ok(exception)
}

pub fn timed_out(text: impl Display) -> PyErr {
    exception("TimedOut", text, false)
}

/// For an end that a view or a grant has for itself.
pub fn in_use() -> PyErr {
    exception("InUse", "a view or a grant of this object is open: release, commit or abandon it first", false)
}

pub fn overrun() -> PyErr {
    exception("Overrun", ringpost::Overrun, false)
}

pub fn invalid_name(text: impl Display) -> PyErr {
    exception("InvalidName", text, false)
}

/// `Disconnected`, or `Forked`.
pub fn disconnected(reason: CloseReason, executed: bool) -> PyErr {
    ended(reason, format_args!("disconnected: {reason}"), executed)
}

fn ended(reason: CloseReason, text: impl Display, executed: bool) -> PyErr {
    let kind = if reason == CloseReason::Forked { "Forked" } else { "Disconnected" };
    let error = exception(kind, text, executed);
    Python::attach(|py| {
        // An exception without it says the same in its text.
        let _ = error.value(py).setattr("reason", word(reason));
    });
    error
}

/// The reason in one word, for programs.
pub fn word(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Local => "local",
        CloseReason::Unregistered => "unregistered",
        CloseReason::Shutdown => "shutdown",
        CloseReason::Died => "died",
        CloseReason::ProtocolViolation => "protocol-violation",
        CloseReason::Forked => "forked",
        CloseReason::GaveUp => "gave-up",
        CloseReason::CutOff => "cut-off",
        _ => "peer",
    }
}

impl Raise for CallError {
    fn raise(self) -> PyErr {
        let executed = self.may_have_executed();
        let kind = match &self {
            CallError::Disconnected(reason) | CallError::NotSent(reason) => {
                return ended(*reason, &self, executed);
            }
            CallError::TooLarge { .. } => "TooLarge",
            CallError::ResponseTooLarge(_) => "ResponseTooLarge",
            CallError::InvalidName(_) => "InvalidName",
            CallError::Full | CallError::Uncollected { .. } => "Full",
            CallError::TimedOut => "TimedOut",
            // The text is the service's own.
            CallError::ServiceFailed(text) => return exception("ServiceFailed", text, executed),
            CallError::ShuttingDown => "ShuttingDown",
            CallError::NothingOutstanding => "NothingOutstanding",
            CallError::Violation(_) => "Violation",
            _ => "Error",
        };
        exception(kind, self, executed)
    }
}

impl Raise for SendError {
    fn raise(self) -> PyErr {
        let executed = self.may_have_executed();
        let kind = match &self {
            SendError::Disconnected(reason) | SendError::NotSent(reason) => {
                return ended(*reason, &self, executed);
            }
            SendError::NotFound => "NotFound",
            SendError::Gone => "Gone",
            SendError::InvalidName(_) => "InvalidName",
            SendError::NotAllowed(_) => "NotAllowed",
            SendError::InboxFull => "Full",
            SendError::TimedOut | SendError::NoAnswer => "TimedOut",
            SendError::Unconfirmed => "Unconfirmed",
            SendError::TooLarge { .. } => "TooLarge",
            SendError::ShuttingDown => "ShuttingDown",
            SendError::Violation(_) => "Violation",
            _ => "Error",
        };
        exception(kind, self, executed)
    }
}

impl Raise for RecvError {
    fn raise(self) -> PyErr {
        let kind = match &self {
            RecvError::Disconnected(reason) => return ended(*reason, self, false),
            RecvError::TimedOut => "TimedOut",
            RecvError::Violation(_) => "Violation",
            _ => "Error",
        };
        exception(kind, self, false)
    }
}

impl Raise for RegisterError {
    fn raise(self) -> PyErr {
        let kind = match &self {
            RegisterError::InvalidName { .. } => "InvalidName",
            RegisterError::NameTaken { .. } => "NameTaken",
            RegisterError::NoServer { .. } => "NoServer",
            RegisterError::NotPermitted { .. }
            | RegisterError::NotAllowed(_)
            | RegisterError::Untrusted { .. } => "NotAllowed",
            RegisterError::Full(_) | RegisterError::Quota(_) => "Quota",
            RegisterError::TimedOut { .. } => "TimedOut",
            RegisterError::Refused(_) => "Refused",
            RegisterError::VersionMismatch { .. } => "VersionMismatch",
            _ => "Error",
        };
        exception(kind, self, false)
    }
}

impl Raise for ConnectError {
    fn raise(self) -> PyErr {
        let kind = match self {
            ConnectError::ServerGone(reason) => return ended(reason, self, false),
            ConnectError::Gone(_) => "Gone",
            ConnectError::Server(error) => return error.raise(),
            ConnectError::InvalidName(_) => "InvalidName",
            ConnectError::NotFound => "NotFound",
            ConnectError::NotServing => "NotServing",
            ConnectError::Busy(_) | ConnectError::Quota(_) => "Quota",
            ConnectError::NotAllowed(_) => "NotAllowed",
            ConnectError::Refused(_) => "Refused",
            ConnectError::TimedOut => "TimedOut",
            ConnectError::Violation(_) => "Violation",
            _ => "Error",
        };
        exception(kind, self, false)
    }
}

impl Raise for ServeError {
    fn raise(self) -> PyErr {
        let kind = match &self {
            ServeError::Disconnected(reason) => return ended(*reason, &self, false),
            ServeError::Listening => "InUse",
            ServeError::NotAllowed(_) => "NotAllowed",
            ServeError::Refused(_) => "Refused",
            ServeError::TimedOut => "TimedOut",
            _ => "Error",
        };
        exception(kind, self, false)
    }
}

impl Raise for AcceptError {
    fn raise(self) -> PyErr {
        match self {
            AcceptError::Disconnected(reason) => ended(reason, self, false),
            AcceptError::TimedOut => exception("TimedOut", self, false),
            _ => exception("Error", self, false),
        }
    }
}

impl Raise for PublishError {
    fn raise(self) -> PyErr {
        let kind = match self {
            PublishError::Disconnected(reason) => return ended(reason, self, false),
            PublishError::Server(error) => return error.raise(),
            PublishError::InvalidTopic(_) => "InvalidName",
            PublishError::NotAllowed(_) => "NotAllowed",
            PublishError::Quota(_) => "Quota",
            PublishError::Refused(_) => "Refused",
            PublishError::Full => "Full",
            PublishError::TooLarge { .. } => "TooLarge",
            PublishError::TimedOut => "TimedOut",
            _ => "Error",
        };
        exception(kind, self, false)
    }
}

impl Raise for SubscribeError {
    fn raise(self) -> PyErr {
        let kind = match self {
            SubscribeError::Disconnected(reason) => return ended(reason, self, false),
            SubscribeError::Server(error) => return error.raise(),
            SubscribeError::InvalidPattern(_) => "InvalidName",
            SubscribeError::NotAllowed(_) => "NotAllowed",
            SubscribeError::Quota(_) => "Quota",
            SubscribeError::Refused(_) | SubscribeError::NotReliable { .. } => "Refused",
            SubscribeError::TimedOut => "TimedOut",
            _ => "Error",
        };
        exception(kind, self, false)
    }
}

impl Raise for SampleError {
    fn raise(self) -> PyErr {
        let kind = match &self {
            SampleError::Disconnected(reason) => return ended(*reason, self, false),
            SampleError::TimedOut => "TimedOut",
            SampleError::Evicted { .. } => "Evicted",
            SampleError::NotReliable { .. } => "Refused",
            SampleError::Violation { .. } => "Violation",
            _ => "Error",
        };
        exception(kind, self, false)
    }
}

impl Raise for ReadinessError {
    fn raise(self) -> PyErr {
        match self {
            ReadinessError::Disconnected(reason) => ended(reason, self, false),
            ReadinessError::TimedOut => exception("TimedOut", self, false),
            ReadinessError::NotAsked | ReadinessError::NotArmable => {
                PyRuntimeError::new_err(self.to_string())
            }
            _ => exception("Error", self, false),
        }
    }
}

impl Raise for StartError {
    fn raise(self) -> PyErr {
        let kind = match &self {
            StartError::Listen(ListenError::InUse(_)) => "InUse",
            _ => "Error",
        };
        exception(kind, self, false)
    }
}

impl Raise for Violation {
    fn raise(self) -> PyErr {
        exception("Violation", self, false)
    }
}

impl Raise for PathError {
    fn raise(self) -> PyErr {
        exception("Error", self, false)
    }
}
