//! What went wrong, in words for people.

use std::fmt;

/// One line that says what failed and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(String);

pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    #[cold]
    pub fn new(why: impl Into<String>) -> Failure {
        Failure(why.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what was being done when an error came.
pub trait OrFail<T> {
    /// `what` completes "cannot …".
    fn or_fail(self, what: &str) -> Outcome<T>;
}

impl<T, E: fmt::Debug + fmt::Display> OrFail<T> for Result<T, E> {
    #[inline]
    fn or_fail(self, what: &str) -> Outcome<T> {
        self.map_err(
            #[cold]
            |error| Failure(format!("cannot {what}: {error}")),
        )
    }
}
