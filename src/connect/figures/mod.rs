//! The figures of the bus: what an observer gets to know, and the pages in which it does.

mod page;
mod types;

#[cfg(test)]
pub(crate) use page::Entry;
pub(crate) use page::{Look, Page, Section, collect};
pub use types::{ClientFigures, Figures, Fill, LinkFigures, ServerFigures, TopicFigures, UserFigures};
