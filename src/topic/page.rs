//! `Page`: the words that one publisher and one subscription share.
//!
//! Each side believes of the other's words no more than it checks. Words of different pages begin at
//! different lines, because a publisher looks at one word of each of its pages, and a cache keeps few lines
//! with the same offset.

use std::fmt;

use super::shape::PAGE;
use crate::ring::AWAKE;
use crate::ring::layout::LINE;
use crate::shm::backend::{AtomicU64, Ordering, count_word};
use crate::shm::{View, Word32};

const PARKED: usize = 0;
const CURSOR: usize = LINE;
const PUBLISHER_PARKED: usize = 2 * LINE;
const STATE: usize = 3 * LINE;
const LEFT: usize = 4 * LINE;

/// How many lines have a word.
pub(super) const PAGE_WORDS: usize = LEFT / LINE + 1;

/// The last line at which the words may begin.
pub(crate) const MOST_LINE: u16 = (PAGE / LINE - PAGE_WORDS) as u16;

/// What the publisher says of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The publisher's process has not taken it yet.
    Noted = 0,
    Attached = 1,
    /// It kept the publisher waiting for too long.
    Stalled = 2,
    /// The publisher does not offer to wait, or not to this user now.
    Refused = 3,
    /// It broke a rule.
    BrokeRules = 4,
}

impl State {
    fn from_word(word: u32) -> State {
        match word {
            0 => State::Noted,
            1 => State::Attached,
            2 => State::Stalled,
            3 => State::Refused,
            _ => State::BrokeRules,
        }
    }
}

#[derive(Clone)]
pub(super) struct Page {
    view: View,
    base: usize,
    /// The reader's: 0 awake, 1 asleep, 2 armed.
    pub(super) parked: Word32,
    /// The same of the writer, when it waits for this reader.
    pub(super) publisher_parked: Word32,
    state: Word32,
    left: Word32,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Page {
    /// A line beyond the last counts as the last.
    pub(super) fn new(view: View, line: u16) -> Page {
        let base = usize::from(line.min(MOST_LINE)) * LINE;
        let word = |at| view.pin32(base + at);
        let (parked, publisher_parked, state, left) =
            (word(PARKED), word(PUBLISHER_PARKED), word(STATE), word(LEFT));
        Page { base, parked, publisher_parked, state, left, view }
    }

    /// Before this position the reader needs nothing any more; 0 as long as it has not said.
    pub(super) fn cursor(&self) -> &AtomicU64 {
        count_word();
        self.view.word64(self.base + CURSOR)
    }

    pub(super) fn state(&self) -> State {
        count_word();
        State::from_word(self.state.load(Ordering::Acquire))
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u32, Ordering::Release);
    }

    pub(super) fn leave(&self) {
        self.left.store(1, Ordering::Release);
    }

    pub(super) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) != 0
    }

    /// Whether the reader seems to sleep or to be armed.
    pub(super) fn looks_parked(&self) -> bool {
        count_word();
        self.parked.load(Ordering::Relaxed) != AWAKE
    }
}
