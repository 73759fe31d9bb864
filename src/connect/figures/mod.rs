//! The figures of the bus: what an observer gets to know, and how it is encoded.

mod types;

pub use types::{ClientFigures, Figures, Fill, LinkFigures, ServerFigures, TopicFigures, UserFigures};
