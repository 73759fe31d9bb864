//! The parts that meet another process, for the fuzz targets that play it. Not part of the library's
//! interface.

pub use crate::channel::hostile::{INBOX, Memory, REQUESTS, RESPONSES};
pub use crate::client::hostile::{client_on, observe_over, register_over};
pub use crate::ring::hostile::{Memory as RingMemory, SPARE_HINTS};
pub use crate::server::hostile::{Dispatcher, Office, Reception, Served};
pub use crate::shm::alone::{Work, give_hints, work};
