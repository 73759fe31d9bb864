//! Error codes, and the text of each thread's last failure.

use std::cell::RefCell;
use std::ffi::c_char;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bus::{
    AcceptError, CallError, CloseReason, ConnectError, ListenError, NameError, PublishError, ReadinessError,
    RecvError, RegisterError, SampleError, SendError, ServeError, StartError, SubscribeError, TopicError,
};
use ringpost_status::*;

use crate::text::fill;

/// What a function returns. New codes may be added: treat one that you do not know as a failure.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ringpost_status {
    /// It was done.
    RINGPOST_OK = 0,
    /// A pointer that must not be NULL is NULL.
    RINGPOST_NULL_POINTER = 1,
    /// The handle is of another kind.
    RINGPOST_WRONG_HANDLE = 2,
    /// The handle was freed before.
    RINGPOST_FREED_HANDLE = 3,
    /// Another call uses this handle now: on another thread, or further up on this one. Or a grant or a view
    /// of it is open.
    RINGPOST_IN_USE = 4,
    /// A text is not UTF-8, or a number is out of its range.
    RINGPOST_INVALID_ARGUMENT = 5,
    /// A bug in the library: it panicked. The handle should be freed.
    RINGPOST_PANICKED = 6,
    /// It did not happen in time.
    RINGPOST_TIMED_OUT = 7,
    /// There is no room now.
    RINGPOST_FULL = 8,
    /// The connection has ended. Nothing more will come of it.
    RINGPOST_DISCONNECTED = 9,
    /// The connection had ended before the request was sent.
    RINGPOST_NOT_SENT = 10,
    /// The server is shutting down.
    RINGPOST_SHUTTING_DOWN = 11,
    /// The handle belongs to the process that forked this one.
    RINGPOST_FORKED = 12,
    /// The payload is larger than what can be sent or kept here.
    RINGPOST_TOO_LARGE = 13,
    /// No client can have this name, or no topic this one.
    RINGPOST_INVALID_NAME = 14,
    /// Another client has the name.
    RINGPOST_NAME_TAKEN = 15,
    /// There is no such client.
    RINGPOST_NOT_FOUND = 16,
    /// The other client does not listen.
    RINGPOST_NOT_SERVING = 17,
    /// The other client is gone, or has given up its inbox, or ended the link before it was accepted.
    RINGPOST_GONE = 18,
    /// A rule or a permission forbids it.
    RINGPOST_NOT_ALLOWED = 19,
    /// A limit of the server, or of one user, is reached.
    RINGPOST_QUOTA = 20,
    /// The other side refused.
    RINGPOST_REFUSED = 21,
    /// The service failed. The text is its own.
    RINGPOST_SERVICE_FAILED = 22,
    /// The service's response was too large.
    RINGPOST_RESPONSE_TOO_LARGE = 23,
    /// No submitted call has a response to collect, or no grant or view is open.
    RINGPOST_NOTHING_OUTSTANDING = 24,
    /// No server listens at the path.
    RINGPOST_NO_SERVER = 25,
    /// The two sides speak different versions of the protocol.
    RINGPOST_VERSION = 26,
    /// The other side broke the protocol.
    RINGPOST_VIOLATION = 27,
    /// The publisher has overwritten the sample in place: what was read of it may be anything.
    RINGPOST_OVERRUN = 28,
    /// A subscription ended, because the publisher would not wait any longer.
    RINGPOST_EVICTED = 29,
    /// A system call failed.
    RINGPOST_SYSTEM = 30,
    /// Something else. The text says what.
    RINGPOST_OTHER = 31,
    /// The receiver is on another computer, and nobody knows whether the message was delivered.
    RINGPOST_UNCONFIRMED = 32,
}

/// A code, its text, and whether the other side may have done what was asked.
pub(crate) struct Failure {
    status: ringpost_status,
    text: String,
    may_have_executed: bool,
}

impl Failure {
    #[cold]
    pub(crate) fn new(status: ringpost_status, text: impl Display) -> Failure {
        Failure { status, text: text.to_string(), may_have_executed: false }
    }
}

/// Of the text of a failure with its NUL, in bytes: what is longer is cut.
pub const RINGPOST_ERROR_TEXT_SIZE: usize = 1024;

struct Last {
    text: [c_char; RINGPOST_ERROR_TEXT_SIZE],
    may_have_executed: bool,
}

thread_local! {
    static LAST: RefCell<Last> =
        const { RefCell::new(Last { text: [0; RINGPOST_ERROR_TEXT_SIZE], may_have_executed: false }) };
}

/// Runs a function's body. Nothing unwinds out of it, and a failure is kept for the thread.
#[inline]
pub(crate) fn run(body: impl FnOnce() -> Result<(), Failure>) -> ringpost_status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => RINGPOST_OK,
        Ok(Err(failure)) => keep(failure),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            keep(Failure::new(RINGPOST_PANICKED, format_args!("the library panicked: {text}")))
        }
    }
}

#[cold]
fn keep(failure: Failure) -> ringpost_status {
    let Failure { status, mut text, may_have_executed } = failure;
    text.retain(|character| character != '\0');
    LAST.with_borrow_mut(|last| *last = Last { text: fill(&text), may_have_executed });
    status
}

/// The text of this thread's last failure, or an empty one. Does not block.
///
/// It belongs to the library, has at most RINGPOST_ERROR_TEXT_SIZE bytes with its NUL, and stays the same
/// until a function fails in this thread, or the thread ends. A success leaves it as it is.
#[unsafe(no_mangle)]
pub extern "C" fn ringpost_error_text() -> *const c_char {
    LAST.with_borrow(|last| last.text.as_ptr())
}

/// Whether the other side may have done what this thread's last failed call, response or send asked for, or
/// may yet do it. If not, asking again is safe. Does not block.
#[unsafe(no_mangle)]
pub extern "C" fn ringpost_error_may_have_executed() -> bool {
    LAST.with_borrow(|last| last.may_have_executed)
}

/// The version of this interface that a program is compiled for: the number in the soname, libringpost.so.0.
///
/// It changes when something that was there changes or goes. It stays when something is added: a function, a
/// status, a member at the end of ringpost_server_options. No other structure grows.
pub const RINGPOST_ABI_VERSION: u32 = 0;

/// The version of the interface that the library has which is loaded: compare it with RINGPOST_ABI_VERSION if
/// the library was loaded by other means than its soname. Does not block.
#[unsafe(no_mangle)]
pub extern "C" fn ringpost_abi_version() -> u32 {
    RINGPOST_ABI_VERSION
}

fn of_reason(reason: CloseReason) -> ringpost_status {
    match reason {
        CloseReason::Forked => RINGPOST_FORKED,
        _ => RINGPOST_DISCONNECTED,
    }
}

/// Registering, and asking the server for something, fail in the same ways.
fn of_registering(error: &RegisterError) -> ringpost_status {
    use RegisterError::*;
    match error {
        InvalidName { .. } => RINGPOST_INVALID_NAME,
        NameTaken { .. } => RINGPOST_NAME_TAKEN,
        NoServer { .. } | NotRingpost { .. } => RINGPOST_NO_SERVER,
        PathTooLong { .. } => RINGPOST_INVALID_ARGUMENT,
        NotPermitted { .. } | Untrusted { .. } | NotAllowed(_) => RINGPOST_NOT_ALLOWED,
        VersionMismatch { .. } => RINGPOST_VERSION,
        Full(_) | Quota(_) => RINGPOST_QUOTA,
        Refused(_) => RINGPOST_REFUSED,
        TimedOut { .. } => RINGPOST_TIMED_OUT,
        Channel(_) => RINGPOST_VIOLATION,
        System { .. } => RINGPOST_SYSTEM,
        _ => RINGPOST_OTHER,
    }
}

/// The code of each variant. The errors may get new ones, which are RINGPOST_OTHER until they are told here.
macro_rules! codes {
    ($($error:ident { $($pattern:pat => $status:expr,)+ })+) => {$(
        impl From<$error> for Failure {
            #[cold]
            fn from(error: $error) -> Failure {
                #[allow(unused_imports, reason = "some types are no enums with such variants")]
                use $error::*;
                let status = match &error {
                    $($pattern => $status,)+
                    _ => RINGPOST_OTHER,
                };
                Failure::new(status, &error)
            }
        }
    )+};
}

codes! {
    RecvError {
        Disconnected(reason) => of_reason(*reason),
        TimedOut => RINGPOST_TIMED_OUT,
        Violation(_) => RINGPOST_VIOLATION,
    }
    ConnectError {
        Busy(_) | Quota(_) => RINGPOST_QUOTA,
        Channel(_) | Violation(_) => RINGPOST_VIOLATION,
        Gone(_) => RINGPOST_GONE,
        InvalidName(_) => RINGPOST_INVALID_NAME,
        NotAllowed(_) => RINGPOST_NOT_ALLOWED,
        NotFound => RINGPOST_NOT_FOUND,
        NotServing => RINGPOST_NOT_SERVING,
        Refused(_) => RINGPOST_REFUSED,
        Server(error) => of_registering(error),
        ServerGone(reason) => of_reason(*reason),
        System { .. } => RINGPOST_SYSTEM,
        TimedOut => RINGPOST_TIMED_OUT,
    }
    ServeError {
        Disconnected(reason) => of_reason(*reason),
        Listening => RINGPOST_IN_USE,
        NotAllowed(_) => RINGPOST_NOT_ALLOWED,
        Refused(_) => RINGPOST_REFUSED,
        System { .. } => RINGPOST_SYSTEM,
        TimedOut => RINGPOST_TIMED_OUT,
    }
    AcceptError {
        Disconnected(reason) => of_reason(*reason),
        TimedOut => RINGPOST_TIMED_OUT,
    }
    PublishError {
        Channel(_) => RINGPOST_INVALID_ARGUMENT,
        Disconnected(reason) => of_reason(*reason),
        Full => RINGPOST_FULL,
        InvalidTopic(_) => RINGPOST_INVALID_NAME,
        NotAllowed(_) => RINGPOST_NOT_ALLOWED,
        Quota(_) => RINGPOST_QUOTA,
        Refused(_) => RINGPOST_REFUSED,
        Server(error) => of_registering(error),
        System { .. } => RINGPOST_SYSTEM,
        TimedOut => RINGPOST_TIMED_OUT,
        TooLarge { .. } => RINGPOST_TOO_LARGE,
    }
    SubscribeError {
        Disconnected(reason) => of_reason(*reason),
        InvalidPattern(_) => RINGPOST_INVALID_NAME,
        NotAllowed(_) => RINGPOST_NOT_ALLOWED,
        Quota(_) => RINGPOST_QUOTA,
        Refused(_) | NotReliable { .. } => RINGPOST_REFUSED,
        Server(error) => of_registering(error),
        System { .. } => RINGPOST_SYSTEM,
        TimedOut => RINGPOST_TIMED_OUT,
    }
    SampleError {
        Disconnected(reason) => of_reason(*reason),
        Evicted { .. } => RINGPOST_EVICTED,
        NotReliable { .. } => RINGPOST_REFUSED,
        TimedOut => RINGPOST_TIMED_OUT,
        Violation { .. } => RINGPOST_VIOLATION,
    }
    ReadinessError {
        Disconnected(reason) => of_reason(*reason),
        NotArmable | NotAsked => RINGPOST_INVALID_ARGUMENT,
        Refused(_) => RINGPOST_REFUSED,
        System { .. } => RINGPOST_SYSTEM,
        TimedOut => RINGPOST_TIMED_OUT,
    }
    StartError {
        Geometry(_) | MaxClients(_) | Access(_) => RINGPOST_INVALID_ARGUMENT,
        Listen(ListenError::InUse(_)) => RINGPOST_IN_USE,
        Listen(ListenError::TooLong(_) | ListenError::NoFileName(_)) => RINGPOST_INVALID_ARGUMENT,
        Listen(_) | System { .. } => RINGPOST_SYSTEM,
    }
}

impl From<CallError> for Failure {
    #[cold]
    fn from(error: CallError) -> Failure {
        let status = match &error {
            CallError::TooLarge { .. } => RINGPOST_TOO_LARGE,
            CallError::InvalidName(_) => RINGPOST_INVALID_NAME,
            CallError::Full | CallError::Uncollected { .. } => RINGPOST_FULL,
            CallError::TimedOut => RINGPOST_TIMED_OUT,
            CallError::Disconnected(CloseReason::Forked) | CallError::NotSent(CloseReason::Forked) => {
                RINGPOST_FORKED
            }
            CallError::Disconnected(_) => RINGPOST_DISCONNECTED,
            CallError::NotSent(_) => RINGPOST_NOT_SENT,
            CallError::ServiceFailed(_) => RINGPOST_SERVICE_FAILED,
            CallError::ResponseTooLarge(_) => RINGPOST_RESPONSE_TOO_LARGE,
            CallError::ShuttingDown => RINGPOST_SHUTTING_DOWN,
            CallError::NothingOutstanding => RINGPOST_NOTHING_OUTSTANDING,
            CallError::Violation(_) => RINGPOST_VIOLATION,
            _ => RINGPOST_OTHER,
        };
        // The service's own words, and nothing else, as the code has said the rest.
        let text = match &error {
            CallError::ServiceFailed(why) => why.clone(),
            _ => error.to_string(),
        };
        Failure { status, text, may_have_executed: error.may_have_executed() }
    }
}

impl From<SendError> for Failure {
    #[cold]
    fn from(error: SendError) -> Failure {
        let status = match &error {
            SendError::TooLarge { .. } => RINGPOST_TOO_LARGE,
            SendError::InvalidName(_) => RINGPOST_INVALID_NAME,
            SendError::InboxFull => RINGPOST_FULL,
            SendError::TimedOut | SendError::NoAnswer => RINGPOST_TIMED_OUT,
            SendError::Unconfirmed => RINGPOST_UNCONFIRMED,
            SendError::NotFound => RINGPOST_NOT_FOUND,
            SendError::Gone => RINGPOST_GONE,
            SendError::NotAllowed(_) => RINGPOST_NOT_ALLOWED,
            SendError::Disconnected(CloseReason::Forked) | SendError::NotSent(CloseReason::Forked) => {
                RINGPOST_FORKED
            }
            SendError::Disconnected(_) => RINGPOST_DISCONNECTED,
            SendError::NotSent(_) => RINGPOST_NOT_SENT,
            SendError::ShuttingDown => RINGPOST_SHUTTING_DOWN,
            SendError::Violation(_) => RINGPOST_VIOLATION,
            _ => RINGPOST_OTHER,
        };
        Failure { status, text: error.to_string(), may_have_executed: error.may_have_executed() }
    }
}

impl From<RegisterError> for Failure {
    #[cold]
    fn from(error: RegisterError) -> Failure {
        Failure::new(of_registering(&error), error)
    }
}

impl From<NameError> for Failure {
    #[cold]
    fn from(error: NameError) -> Failure {
        Failure::new(RINGPOST_INVALID_NAME, error)
    }
}

impl From<TopicError> for Failure {
    #[cold]
    fn from(error: TopicError) -> Failure {
        Failure::new(RINGPOST_INVALID_NAME, error)
    }
}

impl From<bus::Overrun> for Failure {
    #[cold]
    fn from(error: bus::Overrun) -> Failure {
        Failure::new(RINGPOST_OVERRUN, error)
    }
}

/// A violation by the other side of a link.
impl From<bus::Violation> for Failure {
    #[cold]
    fn from(error: bus::Violation) -> Failure {
        Failure::new(RINGPOST_VIOLATION, error)
    }
}
