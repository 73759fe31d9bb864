//! Re-exports the parts that communicate with another process, for the fuzz targets that simulate that
//! process. Not part of the library's interface.

pub use crate::channel::fuzz::{INBOX, Memory, REQUESTS, RESPONSES};
pub use crate::client::fuzz::{
    ServedLink, accept, bell_over, client_on, incoming_on, is_link, link_on, link_over, observe_over,
    register_over, serve_link, take_over,
};
pub use crate::ring::fuzz::{Memory as RingMemory, Peers, Pipe, SPARE_HINTS};
pub use crate::server::fuzz::{Dispatcher, FuzzAcceptor, FuzzServer, Served, service};
pub use crate::shm::backend::fuzz::{Work, give_hints, work};
pub use crate::topic::fuzz::{
    Over, PAGES, Sample, Sent, TopicAudience, TopicMemory, TopicReader, TopicWriter,
};
