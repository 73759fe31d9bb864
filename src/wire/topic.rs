//! `Topic` and `Pattern`: under which name samples are published, and which of them a subscription takes.
//!
//! They are key expressions of Zenoh without its `$*`: the same canonical form, and the same matches.

#![forbid(unsafe_code)]

use std::borrow::Borrow;
use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use super::invisible;

/// The longest topic or pattern, in bytes.
const MAX_LEN: usize = 128;

/// What a name of a topic, and a whole level of one, must not contain.
const RESERVED: [char; 4] = ['*', '$', '#', '?'];

/// A level that stands for any one level.
const ONE: &str = "*";

/// A level that stands for any number of levels, also none.
const MANY: &str = "**";

/// The name of a topic: `prices/AAPL`.
///
/// A topic has 1 to 128 bytes of UTF-8. Slashes divide it into levels, none of which is empty. The characters
/// of a level follow the rules of a [`Name`](crate::Name); besides, `*`, `$`, `#` and `?` are reserved.
///
/// Cloning a topic copies a pointer.
///
/// # Examples
///
/// ```
/// use ringpost::{Topic, TopicError};
///
/// let topic = Topic::try_from("prices/AAPL")?;
/// assert_eq!(topic.as_str(), "prices/AAPL");
/// assert_eq!(topic.split('/').count(), 2); // a topic derefs to `str`
/// assert_eq!(Topic::try_from("prices//AAPL"), Err(TopicError::EmptyLevel { position: 7 }));
/// # Ok::<(), TopicError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// Which topics a subscription takes: `prices/*`.
///
/// A pattern is written as a [`Topic`], and a level of it may also be `*`, which stands for one level, or
/// `**`, which stands for any number of levels, also none. A level that begins with `@` is matched only by
/// the same level, not by `*` or `**`, so that topics which a program keeps to itself are not taken by
/// accident.
///
/// It is kept in its shortest form: `a/**/**/*` is `a/*/**`.
///
/// # Examples
///
/// ```
/// use ringpost::{Pattern, Topic, TopicError};
///
/// let sensors = Pattern::try_from("house/**/temperature")?;
/// assert!(sensors.matches(&Topic::try_from("house/attic/temperature")?));
/// assert!(sensors.matches(&Topic::try_from("house/temperature")?));
/// assert!(!sensors.matches(&Topic::try_from("house/attic/door")?));
/// assert_eq!(Pattern::try_from("a/**/**/*")?, "a/*/**");
/// assert_eq!(
///     Pattern::try_from("house/*temp*"),
///     Err(TopicError::Reserved { character: '*', position: 6 })
/// );
/// # Ok::<(), TopicError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Arc<str>);

/// Why a text is not a [`Topic`] or a [`Pattern`].
///
/// # Examples
///
/// ```
/// use ringpost::{Topic, TopicError};
///
/// assert_eq!(Topic::try_from("prices/*"), Err(TopicError::Reserved { character: '*', position: 7 }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The text is empty.
    #[error("a topic must have at least one character")]
    Empty,
    /// More than 128 bytes.
    #[error("a topic has at most 128 bytes, but this one has {found}; shorten it")]
    TooLong {
        /// The length in bytes.
        found: usize,
    },
    /// The bytes are not UTF-8.
    #[error("a topic must be UTF-8 text, but byte {position} is not valid UTF-8")]
    NotUtf8 {
        /// The position of the first invalid byte.
        position: usize,
    },
    /// Nothing stands before, behind or between slashes.
    #[error(
        "a level of a topic must have at least one character; remove the slash at its start, at its end or beside \
         another (byte {position})"
    )]
    EmptyLevel {
        /// Where the level would start, in bytes.
        position: usize,
    },
    /// A control character, such as a line break or a tab.
    #[error("a topic cannot contain control characters; remove {character:?} (byte {position})")]
    Control {
        /// The character.
        character: char,
        /// Where it starts, in bytes.
        position: usize,
    },
    /// `*`, `$`, `#` or `?`; in a pattern also `*` together with other characters.
    #[error(
        "a topic cannot contain {character:?} (byte {position}); in a pattern, * and ** stand for whole levels, between \
         slashes"
    )]
    Reserved {
        /// The character.
        character: char,
        /// Where it stands, in bytes.
        position: usize,
    },
    /// A plain space at the start or the end of a level.
    #[error("a level of a topic cannot begin or end with a space; remove it (byte {position})")]
    OuterSpace {
        /// Where it stands, in bytes.
        position: usize,
    },
    /// A character that is invisible or easily mistaken for another one.
    #[error("a topic cannot contain {what}; remove U+{:04X} (byte {position})", u32::from(*.character))]
    Unseen {
        /// The kind of character, in words.
        what: &'static str,
        /// The character.
        character: char,
        /// Where it starts, in bytes.
        position: usize,
    },
}

/// Checks a text; `wild` says whether a level may stand for others.
fn check(text: &str, wild: bool) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_LEN {
        return Err(TopicError::TooLong { found: text.len() });
    }
    let mut start = 0;
    for level in text.split('/') {
        if !(wild && matches!(level, ONE | MANY)) {
            check_level(level, start)?;
        }
        start += level.len() + 1;
    }
    Ok(())
}

/// Checks a level that begins at this byte of its text.
fn check_level(level: &str, start: usize) -> Result<(), TopicError> {
    if level.is_empty() {
        return Err(TopicError::EmptyLevel { position: start });
    }
    for (at, character) in level.char_indices() {
        let position = start + at;
        let at_an_end = at == 0 || at + character.len_utf8() == level.len();
        if character.is_control() {
            return Err(TopicError::Control { character, position });
        }
        if RESERVED.contains(&character) {
            return Err(TopicError::Reserved { character, position });
        }
        if character == ' ' && at_an_end {
            return Err(TopicError::OuterSpace { position });
        }
        if let Some(what) = invisible::why_refused(character, at_an_end) {
            return Err(TopicError::Unseen { what, character, position });
        }
    }
    Ok(())
}

/// The text of bytes from another process. The length is checked first, to bound the work.
fn text_of(bytes: &[u8]) -> Result<&str, TopicError> {
    if bytes.len() > MAX_LEN {
        return Err(TopicError::TooLong { found: bytes.len() });
    }
    str::from_utf8(bytes).map_err(|error| TopicError::NotUtf8 { position: error.valid_up_to() })
}

/// The shortest form of a valid pattern: of levels beside each other that are `*` or `**`, first each `*`,
/// then one `**` if there is any.
fn shortest(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let push = |short: &mut String, level| {
        if !short.is_empty() {
            short.push('/');
        }
        short.push_str(level);
    };
    let mut many = false;
    for level in text.split('/') {
        if level == MANY {
            many = true;
            continue;
        }
        if many && level != ONE {
            push(&mut short, MANY);
            many = false;
        }
        push(&mut short, level);
    }
    if many {
        push(&mut short, MANY);
    }
    short
}

/// Compares two patterns level by level. A `**` of the first, and if `both` one of the second as well, may
/// stand for no level, and for several, each of which `fits` it.
///
/// Looks once at each pair of levels, so that no pattern takes long.
fn relate(one: &str, two: &str, fits: impl Fn(&str, &str) -> bool, both: bool) -> bool {
    let two: Vec<&str> = two.split('/').collect();
    // Whether what is before this place of the second was related to all of the first so far.
    let mut so_far = vec![false; two.len() + 1];
    so_far[0] = true;
    let skip_in_two = |reached: &mut Vec<bool>| {
        for (at, level) in two.iter().enumerate() {
            reached[at + 1] |= both && *level == MANY && reached[at];
        }
    };
    skip_in_two(&mut so_far);
    for wanted in one.split('/') {
        let mut reached = vec![false; two.len() + 1];
        if wanted == MANY {
            reached.copy_from_slice(&so_far);
        }
        for (at, level) in two.iter().enumerate() {
            let fits = fits(wanted, level);
            // Both go on; or one of them stays, because its `**` takes more.
            reached[at + 1] |= fits && (so_far[at] || wanted == MANY && reached[at]);
            reached[at + 1] |= both && *level == MANY && fits && so_far[at + 1];
        }
        skip_in_two(&mut reached);
        so_far = reached;
    }
    so_far[two.len()]
}

/// Whether no other level stands for this one.
fn is_verbatim(level: &str) -> bool {
    level.starts_with('@')
}

impl Topic {
    /// The longest topic, in bytes.
    pub(crate) const MAX_LEN: usize = MAX_LEN;

    /// Makes a topic from a text. `TryFrom` and `FromStr` do the same for users.
    pub(crate) fn new(topic: &str) -> Result<Topic, TopicError> {
        check(topic, false)?;
        Ok(Topic(topic.into()))
    }

    /// Makes a topic from bytes that another process wrote.
    pub(crate) fn from_bytes(topic: &[u8]) -> Result<Topic, TopicError> {
        Topic::new(text_of(topic)?)
    }

    /// The topic as text.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(ringpost::Topic::try_from("prices/AAPL")?.as_str(), "prices/AAPL");
    /// # Ok::<(), ringpost::TopicError>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Pattern {
    /// Makes a pattern from a text. `TryFrom` and `FromStr` do the same for users.
    pub(crate) fn new(pattern: &str) -> Result<Pattern, TopicError> {
        check(pattern, true)?;
        Ok(Pattern(shortest(pattern).into()))
    }

    /// Makes a pattern from bytes that another process wrote. They need not be in the shortest form.
    pub(crate) fn from_bytes(pattern: &[u8]) -> Result<Pattern, TopicError> {
        Pattern::new(text_of(pattern)?)
    }

    /// Whether the pattern takes a topic.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Pattern, Topic};
    ///
    /// let pattern = Pattern::try_from("prices/*")?;
    /// assert!(pattern.matches(&Topic::try_from("prices/AAPL")?));
    /// assert!(!pattern.matches(&Topic::try_from("prices/AAPL/bid")?));
    /// # Ok::<(), ringpost::TopicError>(())
    /// ```
    pub fn matches(&self, topic: &Topic) -> bool {
        let (mut pattern, mut topic) = (self.0.split('/'), topic.0.split('/'));
        // Behind the last `**`: the rest of the pattern, and the levels that it did not take yet.
        let mut last_many = None;
        loop {
            let rest = topic.clone();
            let (wanted, level) = (pattern.next(), topic.next());
            match (wanted, level) {
                (Some(MANY), _) => {
                    topic = rest.clone();
                    last_many = Some((pattern.clone(), rest));
                    continue;
                }
                (None, None) => return true,
                (Some(ONE), Some(level)) if !is_verbatim(level) => continue,
                (Some(wanted), Some(level)) if wanted != ONE && wanted == level => continue,
                _ => {}
            }
            // The last `**` takes one level more. An earlier one need not: it would only leave less.
            let Some((behind, left)) = &mut last_many else { return false };
            match left.next() {
                Some(level) if !is_verbatim(level) => {}
                _ => return false,
            }
            (pattern, topic) = (behind.clone(), left.clone());
        }
    }

    /// Whether this pattern takes each topic that another one takes.
    pub(crate) fn includes(&self, other: &Pattern) -> bool {
        relate(
            self,
            other,
            |wide, narrow| match (wide, narrow) {
                (MANY, level) => !is_verbatim(level),
                (ONE, level) => level != MANY && !is_verbatim(level),
                (wide, narrow) => wide == narrow,
            },
            false,
        )
    }

    /// Whether there is a topic that both patterns take.
    pub(crate) fn intersects(&self, other: &Pattern) -> bool {
        relate(
            self,
            other,
            |one, two| match (one, two) {
                (MANY | ONE, level) | (level, MANY | ONE) => !is_verbatim(level),
                (one, two) => one == two,
            },
            true,
        )
    }

    /// The pattern as text, in its shortest form.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(ringpost::Pattern::try_from("a/**/*")?.as_str(), "a/*/**");
    /// # Ok::<(), ringpost::TopicError>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A topic is the pattern that takes this topic only.
impl From<Topic> for Pattern {
    fn from(topic: Topic) -> Pattern {
        Pattern(topic.0)
    }
}

impl From<&Topic> for Pattern {
    fn from(topic: &Topic) -> Pattern {
        topic.clone().into()
    }
}

/// For conversions that cannot fail, where one that can is expected.
impl From<Infallible> for TopicError {
    fn from(never: Infallible) -> TopicError {
        match never {}
    }
}

macro_rules! as_text {
    ($type:ident) => {
        impl Deref for $type {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl FromStr for $type {
            type Err = TopicError;

            fn from_str(text: &str) -> Result<$type, TopicError> {
                $type::new(text)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = TopicError;

            fn try_from(text: &str) -> Result<$type, TopicError> {
                $type::new(text)
            }
        }

        impl TryFrom<&String> for $type {
            type Error = TopicError;

            fn try_from(text: &String) -> Result<$type, TopicError> {
                $type::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = TopicError;

            fn try_from(text: String) -> Result<$type, TopicError> {
                $type::new(&text)
            }
        }

        /// Copies a pointer.
        impl From<&$type> for $type {
            fn from(same: &$type) -> $type {
                same.clone()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({:?})"), &*self.0)
            }
        }
    };
}

as_text!(Topic);
as_text!(Pattern);

#[cfg(test)]
mod tests;
