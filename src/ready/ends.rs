//! What each end waits for, and by what.

#![forbid(unsafe_code)]

use super::sealed::Sealed;
use super::{Readiness, ReadinessError, Ready};
use crate::client::Listener;

impl Sealed for Listener {}

/// It waits for a client that asks for a link: look with [`Listener::try_accept`]. Its readiness does not end
/// with a registration. Neither function blocks.
impl Ready for Listener {
    fn readiness(&mut self) -> Result<Readiness, ReadinessError> {
        self.pipe().map(Readiness::of_end)
    }

    fn arm(&mut self) -> Result<bool, ReadinessError> {
        self.arm_end()
    }
}
