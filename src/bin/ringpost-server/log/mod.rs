//! The log: a thread writes a line to stderr or a file for each event of the library.

mod events;
mod file;
mod line;
mod options;
mod queue;
mod running;
mod stream;

pub use events::help;
pub use line::Format;
#[cfg(test)]
pub use options::Rotate;
pub use options::{LogOptions, rotate};
pub use running::{Log, Logger, start};
