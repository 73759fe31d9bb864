//! The connect channel: a `SOCK_SEQPACKET` socket on which clients register and observers ask questions.
//!
//! Every datagram begins with a magic number and a version, so that a program of another kind or version is
//! recognised. The connection of a registered client stays open: it is the *lifeline*, by which each side
//! learns that the other died.

mod accepted;
pub(crate) mod connection;
pub(crate) mod control;
mod credentials;
pub(crate) mod dial;
pub(crate) mod disposal;
pub(crate) mod figures;
mod files;
mod greeting;
mod introduction;
mod listener;
pub(crate) mod listing;
mod path;
mod quotas;
mod socket_file;
mod tap;
pub(crate) mod topics;

pub(crate) use accepted::{Accepted, Heard};
pub(crate) use credentials::{
    Credentials, cannot_be_allowed, is_root, is_unknown_group, is_unknown_user, own_pidfd, peer_credentials,
    peer_groups, peer_in_groups, peer_is_dead, peer_pidfd, same_group, same_user,
};
pub use figures::{ClientFigures, Figures, Fill, LinkFigures, ServerFigures, TopicFigures, UserFigures};
pub(crate) use greeting::{Ask, AskError, MOST_BYTES, MOST_DESCRIPTORS, Refusal, Reply, ReplyBody};
pub use introduction::LinkInfo;
pub(crate) use introduction::{
    Half, Introduction, MOST_REPORTED, Proof, Reported, Role, Secret, decode_indices, decode_links,
    encode_indices, encode_links, links_per_page,
};
pub use listener::ListenError;
pub(crate) use listener::Listener;
pub use listing::ServerInfo;
pub(crate) use path::lasting;
pub use path::{PathError, default_path};
pub use quotas::Quotas;
pub(crate) use socket_file::SocketFile;
pub(crate) use tap::{Copied, MOST_COPIED, TAP_TOPIC, link_tap_topic, since_1970};
pub use tap::{TapKind, TapOutcome, TapRecord};
pub use topics::TopicInfo;
