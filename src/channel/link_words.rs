//! What a client tells its server about its links, in the client's channel.
//!
//! The client is the only one that writes here, and the server believes it no more than that: whoever lies
//! about a link's end harms the count of its own links only.

use std::fmt;

use super::figures::FiguresPage;
use super::layout::{ENDED, SERVING};
use crate::ring::Closer;
use crate::shm::View;
use crate::shm::backend::Ordering;

const BITS: u16 = u32::BITS as u16;

/// Whether a client takes links, and which of its links have ended for it.
#[derive(Clone)]
pub(crate) struct LinkWords {
    view: View,
    closer: Closer,
    /// Where the client says what its links do.
    pub(crate) figures: FiguresPage,
}

// Relaxed: nothing else is published by these words.
impl LinkWords {
    /// How many links of a client have a bit.
    pub(crate) const MOST: u16 = 4096;

    pub(super) fn new(view: View, closer: Closer) -> LinkWords {
        let figures = FiguresPage::new(view.clone(), closer.clone());
        LinkWords { view, closer, figures }
    }

    /// Whether the client takes links.
    pub(crate) fn is_serving(&self) -> bool {
        self.view.word32(SERVING).load(Ordering::Relaxed) != 0
    }

    /// Says whether this client takes links. Does nothing in a forked child, because the channel belongs to
    /// its parent.
    pub(crate) fn set_serving(&self, serving: bool) {
        if !self.closer.is_forked() {
            self.view.word32(SERVING).store(serving.into(), Ordering::Relaxed);
        }
    }

    /// The bit of the link with this index. A link has ended when its bit differs from what it was at the
    /// introduction. An index from [`MOST`](Self::MOST) on has no bit and reads as `false`.
    pub(crate) fn bit(&self, index: u16) -> bool {
        let Some((word, bit)) = place(index) else { return false };
        self.view.word32(word).load(Ordering::Relaxed) & bit != 0
    }

    /// 32 bits at once: those of the links from index 32 · `word` on, the first of them lowest.
    pub(crate) fn bits(&self, word: u16) -> u32 {
        if word >= LinkWords::MOST / BITS {
            return 0;
        }
        self.view.word32(ENDED + usize::from(word) * 4).load(Ordering::Relaxed)
    }

    /// Says that the link with this index has ended for this client; to be said once. Does nothing for an
    /// index without a bit, nor in a forked child, whose parent's link goes on.
    pub(crate) fn flip(&self, index: u16) {
        if let Some((word, bit)) = place(index)
            && !self.closer.is_forked()
        {
            self.view.word32(word).fetch_xor(bit, Ordering::Relaxed);
        }
    }
}

/// The offset of the word and the bit in it.
fn place(index: u16) -> Option<(usize, u32)> {
    (index < LinkWords::MOST).then(|| (ENDED + usize::from(index / BITS) * 4, 1 << (index % BITS)))
}

impl fmt::Debug for LinkWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkWords").field("serving", &self.is_serving()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::BITS;
    use crate::channel::LinkWords;
    use crate::channel::tests::served;

    #[test]
    fn a_server_sees_what_its_client_says() {
        let (host, guest) = served();
        assert!(!host.links.is_serving() && !host.links.bit(0));
        guest.links.set_serving(true);
        assert!(host.links.is_serving());
        guest.links.set_serving(false);
        assert!(!host.links.is_serving());
        for index in [0, 31, 32, LinkWords::MOST - 1] {
            let others = |value: bool| {
                (0..LinkWords::MOST)
                    .filter(|&other| other != index)
                    .all(|other| host.links.bit(other) == value)
            };
            guest.links.flip(index);
            assert!(host.links.bit(index) && others(false), "{index}");
            assert_eq!(host.links.bits(index / BITS), 1 << (index % BITS));
            guest.links.flip(index);
            assert!(!host.links.bit(index), "{index}");
        }
        assert!(!host.links.is_serving());
    }

    #[test]
    fn an_index_beyond_the_last_changes_nothing() {
        let (host, guest) = served();
        for index in [LinkWords::MOST, u16::MAX] {
            guest.links.flip(index);
            assert!(!guest.links.bit(index));
        }
        assert_eq!(guest.links.bits(LinkWords::MOST / BITS), 0);
        assert!((0..LinkWords::MOST).all(|index| !host.links.bit(index)));
    }

    #[cfg(not(miri))]
    #[test]
    fn a_forked_child_says_nothing() {
        use rustix::process::{WaitOptions, waitpid};
        let (host, guest) = served();
        guest.links.set_serving(true);
        let child = crate::registry::fork(|| {
            guest.links.set_serving(false);
            guest.links.flip(7);
        });
        let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
        assert!(host.links.is_serving() && !host.links.bit(7));
    }
}
