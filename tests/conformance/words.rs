//! The words of the table for the library's errors.

use ringpost::{
    AcceptError, CallError, CloseReason, ConnectError, PublishError, RecvError, RegisterError, SampleError,
    SendError, ServeError, SubscribeError,
};

/// The answer for an error: `error`, its word, and `maybe` if what was asked may have been done.
pub struct Failed(pub String);

impl Failed {
    fn new(word: &str, maybe: bool) -> Failed {
        Failed(format!("error {word}{}", if maybe { " maybe" } else { "" }))
    }
}

fn ended(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Forked => "forked",
        _ => "disconnected",
    }
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Failed {
        let word = match &error {
            CallError::TooLarge { .. } => "too-large",
            CallError::InvalidName(_) => "invalid-name",
            CallError::Full => "full",
            CallError::TimedOut => "timed-out",
            CallError::Disconnected(reason) | CallError::NotSent(reason) => ended(*reason),
            CallError::ServiceFailed(why) => {
                return Failed::new(&format!("service-failed {}", super::escaped(why.as_bytes())), true);
            }
            CallError::ResponseTooLarge(_) => "response-too-large",
            CallError::ShuttingDown => "shutting-down",
            CallError::NothingOutstanding => "nothing-outstanding",
            CallError::Violation(_) => "violation",
            _ => "other",
        };
        Failed::new(word, error.may_have_executed())
    }
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Failed {
        let word = match &error {
            SendError::TooLarge { .. } => "too-large",
            SendError::InvalidName(_) => "invalid-name",
            SendError::InboxFull => "full",
            SendError::TimedOut | SendError::NoAnswer => "timed-out",
            SendError::Unconfirmed => "unconfirmed",
            SendError::Disconnected(reason) | SendError::NotSent(reason) => ended(*reason),
            SendError::NotFound => "not-found",
            SendError::Gone => "gone",
            SendError::NotAllowed(_) => "not-allowed",
            SendError::ShuttingDown => "shutting-down",
            SendError::Violation(_) => "violation",
            _ => "other",
        };
        Failed::new(word, error.may_have_executed())
    }
}

/// The word of each variant of the errors that cannot leave open what was done.
macro_rules! words {
    ($($error:ident { $($pattern:pat => $word:expr,)+ })+) => {$(
        impl From<$error> for Failed {
            fn from(error: $error) -> Failed {
                use $error::*;
                let word = match &error {
                    $($pattern => $word,)+
                    _ => "other",
                };
                Failed::new(word, false)
            }
        }
    )+};
}

words! {
    RegisterError {
        InvalidName { .. } => "invalid-name",
        NameTaken { .. } => "name-taken",
        NoServer { .. } => "no-server",
        NotPermitted { .. } | Untrusted { .. } | NotAllowed(_) => "not-allowed",
        VersionMismatch { .. } => "version",
        Full(_) | Quota(_) => "quota",
        Refused(_) => "refused",
        TimedOut { .. } => "timed-out",
    }
    RecvError {
        Disconnected(reason) => ended(*reason),
        TimedOut => "timed-out",
        Violation(_) => "violation",
    }
    ConnectError {
        Busy(_) | Quota(_) => "quota",
        Violation(_) => "violation",
        Gone(_) => "gone",
        InvalidName(_) => "invalid-name",
        NotAllowed(_) => "not-allowed",
        NotFound => "not-found",
        NotServing => "not-serving",
        Refused(_) => "refused",
        ServerGone(reason) => ended(*reason),
        TimedOut => "timed-out",
    }
    ServeError {
        Disconnected(reason) => ended(*reason),
        Listening => "in-use",
        NotAllowed(_) => "not-allowed",
        Refused(_) => "refused",
        TimedOut => "timed-out",
    }
    AcceptError {
        Disconnected(reason) => ended(*reason),
        TimedOut => "timed-out",
    }
    PublishError {
        Disconnected(reason) => ended(*reason),
        Full => "full",
        InvalidTopic(_) => "invalid-name",
        NotAllowed(_) => "not-allowed",
        Quota(_) => "quota",
        Refused(_) => "refused",
        TimedOut => "timed-out",
        TooLarge { .. } => "too-large",
    }
    SubscribeError {
        Disconnected(reason) => ended(*reason),
        InvalidPattern(_) => "invalid-name",
        NotAllowed(_) => "not-allowed",
        Quota(_) => "quota",
        Refused(_) | NotReliable { .. } => "refused",
        TimedOut => "timed-out",
    }
    SampleError {
        Disconnected(reason) => ended(*reason),
        Evicted { .. } => "evicted",
        NotReliable { .. } => "refused",
        TimedOut => "timed-out",
        Violation { .. } => "violation",
    }
}
