//! `Connecting`: the question for an introduction, for an event loop.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::greeting::Greeting;
use super::not_introduced;
use crate::client::asked::Asked;
use crate::client::links::error::ConnectError;
use crate::client::links::options::LinkOptions;
use crate::client::{CallError, Caller};
use crate::connect::Ask;
use crate::testing::failpoints::failpoint;
use crate::wire::Address;

/// A connect whose introduction was asked for. Dropping it gives the link up.
pub(crate) struct Connecting {
    asked: Asked,
    options: LinkOptions,
}

impl Connecting {
    /// Asks the server for an introduction. Does not wait for its answer, and does not register again: it
    /// goes on when another operation has done so.
    pub(crate) fn begin(
        caller: &mut Caller,
        to: Address,
        options: LinkOptions,
    ) -> Result<Connecting, ConnectError> {
        let ring_size = options.size_of_rings()?;
        while let Some(reason) = caller.session().closer.reason() {
            caller.calls.renew_now(reason.into()).map_err(|error| match error {
                CallError::NotSent(reason) => ConnectError::ServerGone(reason),
                _ => ConnectError::ServerGone(reason.into()),
            })?;
        }
        let session = Arc::clone(caller.session());
        let ask = Ask::Connect { proof: session.proof(), ring_size, to };
        let asked =
            Asked::begin(&session, ask).map_err(|error| not_introduced(error, &session.links.place.path))?;
        Ok(Connecting { asked, options })
    }

    /// Once the server has answered: hello is said, and the other client's answer is to be waited for. To be
    /// called when the descriptor is readable.
    pub(crate) fn look(&mut self) -> Result<Option<Greeting>, ConnectError> {
        let looked = self.asked.look();
        let explain = |error| not_introduced(error, &self.asked.session.links.place.path);
        let Some(answer) = looked.map_err(explain)? else { return Ok(None) };
        failpoint!("connect.looked", [link], seldom);
        Greeting::begin(&self.asked.session, answer, &self.options).map(Some)
    }
}

/// It is readable when the server has answered, or is gone.
impl AsFd for Connecting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.asked.as_fd()
    }
}
