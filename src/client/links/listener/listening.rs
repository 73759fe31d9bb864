//! `Listening`: the question whether the server takes a listener, for futures.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::{Listener, explain, may_listen};
use crate::client::Caller;
use crate::client::asked::Asked;
use crate::client::links::serving_error::ServeError;
use crate::client::reconnect::Reconnector;
use crate::connect::Ask;

/// A listener to be, whose server was asked. Dropping it gives the listener up.
pub(crate) struct Listening {
    asked: Asked,
    reconnector: Option<Arc<Reconnector>>,
}

impl Caller {
    /// As [`listen`](Self::listen), but does not wait for the server's answer.
    pub(crate) fn begin_to_listen(&mut self) -> Result<Listening, ServeError> {
        let session = self.session();
        may_listen(session)?;
        let asked =
            Asked::begin(session, Ask::Listen(session.proof())).map_err(|error| explain(error, session))?;
        Ok(Listening { asked, reconnector: self.calls.registration().reconnector.clone() })
    }
}

impl Listening {
    /// The listener, once the server has answered. To be called when the descriptor is readable.
    pub(crate) fn look(&mut self) -> Result<Option<Listener>, ServeError> {
        let session = Arc::clone(&self.asked.session);
        let explain = |error| explain(error, &session);
        let Some(answer) = self.asked.look().map_err(explain)? else { return Ok(None) };
        // There may be another listener meanwhile.
        let intake = may_listen(&session)?;
        intake.hang(&session, answer).map_err(explain)?;
        Ok(Some(Listener::begin(intake, Arc::clone(&session), self.reconnector.take())))
    }
}

/// It is readable when the server has answered, or is gone.
impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.asked.as_fd()
    }
}
