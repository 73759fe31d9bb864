//! The broadcast ring of a topic: one writer, any number of readers, which can only read.
//!
//! The memory is written by the publisher alone: it is sealed so that nobody else can map it for writing, and
//! readers get a descriptor that was opened for reading. So a reader cannot hurt anyone, and the writer does
//! not know where readers are, except those for which it has agreed to wait.
//!
//! # The protocol
//!
//! Records, headers and padding are those of [`crate::ring`]: whoever sees a header sees its payload, and 0
//! or something newer behind it. But the writer never waits for room. It overwrites the oldest records, so a
//! reader may find anything at its position.
//!
//! **The intent.** Before the writer stores anything beyond the *intent*, it raises the intent to the end of
//! the part of the ring (a sixteenth) in which its record and the zeroed header behind it end, and then makes
//! a Release fence. A reader at position `p` looks, copies, makes an Acquire fence, and loads the intent. If
//! any of its loads saw a byte that the writer stored for a position from `p + capacity` on, then the fences
//! make it see the intent that came before that byte, which is more than `p + capacity`: the reader knows
//! that it was *lapped*, and drops what it copied. This holds for every look: an empty one (a reader that is
//! exactly one pass behind sees the zeroed header of the writer), padding, and a header that is wrong, which
//! is a broken rule only if the reader was not lapped. A payload may look like a header; it cannot pose as
//! one, because a reader whose position lies in that record was lapped.
//!
//! **The largest sample** takes a quarter of the ring. With padding before it, the zeroed header behind it
//! and the rounding, the intent then lies at most one capacity before the writer's own position. So a reader
//! that has read everything is never lapped.
//!
//! **The table** has for each part the position and the sequence of the first record that began in it. A
//! lapped reader goes on at the oldest entry that is not overwritten, and knows from its sequence how many
//! samples it missed. An entry is stored sequence first, behind the commit; it is read position first, and
//! believed only if the intent does not pass that position. The sequence of an older or newer pass cannot
//! slip in: before the writer stores it, it has raised the intent beyond the old position.
//!
//! **Gaps.** A publisher may skip numbers, because it publishes on behalf of one whose samples did not all
//! come. It says so by a record of its own kind, of one line, with the number of the next sample. A reader
//! believes that as it believes a payload: it copies, and then checks the intent. It counts the numbers as
//! missed. The number is ahead of the reader's, or a rule is broken. No entry of the table is of such a
//! record, so what is said of entries stays.
//!
//! **Sleeping.** Each subscription has a page that it shares with the publisher. A reader that is about to
//! sleep says so there, makes a SeqCst fence, and looks once more; a writer with such readers makes a SeqCst
//! fence behind each sample and looks at their words, as in [`crate::ring`]. `audience` says how a writer
//! hears of a new reader, and `patience` how it waits for the reliable ones.

mod audience;
mod carry;
mod glance;
mod grant;
mod in_place;
mod page;
mod patience;
mod reader;
mod shape;
mod tally;
mod writer;

#[cfg(fuzzing)]
pub(crate) mod fuzz;
#[cfg(all(test, loom))]
mod model;
#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

pub(crate) use audience::{Audience, Gone, Newcomer};
pub(crate) use glance::{Published, published};
pub(crate) use grant::Grant;
pub(crate) use in_place::{InPlace, Overwritten};
pub(crate) use page::{MOST_LINE, State};
pub(crate) use reader::{Fault, Reader, Start, Taken};
pub(crate) use shape::{
    MOST_SEQUENCE, Shape, create_page, create_topic, open_page, open_topic, publish_on, read_only,
};
pub(crate) use writer::{Ended, Unsent, Writer};
