//! The lines that were typed before, and the search in them.

use std::collections::VecDeque;

use super::buffer::Text;

/// How many lines are kept. They are not saved.
const MOST: usize = 1000;

#[derive(Debug, Default)]
pub struct History {
    lines: VecDeque<String>,
    /// The line that is shown, and the one that was typed before that.
    shown: Option<(usize, Text)>,
}

/// A search for a line that contains a text.
#[derive(Debug)]
pub struct Search {
    wanted: String,
    /// The line that was found.
    found: Option<usize>,
    /// Whether no further line contains the text.
    failed: bool,
    /// The line from before the search.
    before: Text,
}

impl History {
    /// Keeps a line, unless it is blank or the same as the last one.
    pub fn add(&mut self, line: &str) {
        self.shown = None;
        if line.trim().is_empty() || self.lines.back().is_some_and(|last| last == line) {
            return;
        }
        if self.lines.len() == MOST {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }

    /// The line before the one that is shown. `typed` is what is typed now.
    pub fn older(&mut self, typed: &Text) -> Option<Text> {
        let at = self.shown.as_ref().map_or(self.lines.len(), |shown| shown.0).checked_sub(1)?;
        self.show(at, typed)
    }

    pub fn oldest(&mut self, typed: &Text) -> Option<Text> {
        self.show(0, typed)
    }

    fn show(&mut self, at: usize, typed: &Text) -> Option<Text> {
        let line = Text::new(self.lines.get(at)?);
        let typed = self.shown.take().map_or_else(|| typed.clone(), |shown| shown.1);
        self.shown = Some((at, typed));
        Some(line)
    }

    /// The line after the one that is shown, in the end that which was typed.
    pub fn newer(&mut self) -> Option<Text> {
        let (at, typed) = self.shown.take()?;
        let Some(line) = self.lines.get(at + 1) else { return Some(typed) };
        self.shown = Some((at + 1, typed));
        Some(Text::new(line))
    }

    /// The line that was typed before earlier ones were shown.
    pub fn newest(&mut self) -> Option<Text> {
        self.shown.take().map(|shown| shown.1)
    }
}

impl Search {
    pub fn new(before: Text) -> Search {
        Search { wanted: String::new(), found: None, failed: false, before }
    }

    /// The line from before the search.
    pub fn into_before(self) -> Text {
        self.before
    }

    /// What stands before the line that was found.
    pub fn prompt(&self) -> String {
        format!("({}search) {}: ", if self.failed { "failed " } else { "" }, self.wanted)
    }

    /// The line that was found, with the cursor where the text begins.
    pub fn line<'a>(&'a self, history: &'a History) -> (&'a str, usize) {
        match self.found.and_then(|at| history.lines.get(at)) {
            Some(line) => (line, line.find(&self.wanted).unwrap_or(0)),
            None => (self.before.as_str(), self.before.cursor()),
        }
    }

    pub fn add(&mut self, character: char, history: &History) {
        self.wanted.push(character);
        self.look(history, self.found.map_or(history.lines.len(), |at| at + 1));
    }

    pub fn shorten(&mut self, history: &History) {
        self.wanted.pop();
        self.look(history, history.lines.len());
    }

    pub fn older(&mut self, history: &History) {
        self.look(history, self.found.unwrap_or(history.lines.len()));
    }

    pub fn newer(&mut self, history: &History) {
        let Some(found) = self.found else { return };
        let contains = |at: &usize| history.lines[*at].contains(&self.wanted);
        let next = (found + 1..history.lines.len()).find(contains);
        self.failed = next.is_none();
        self.found = next.or(self.found);
    }

    /// Looks for the last line that contains the text before the line `end`.
    fn look(&mut self, history: &History, end: usize) {
        if self.wanted.is_empty() {
            (self.found, self.failed) = (None, false);
            return;
        }
        let next = (0..end).rev().find(|&at| history.lines[at].contains(&self.wanted));
        self.failed = next.is_none();
        self.found = next.or(self.found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        let mut history = History::default();
        for line in ["bob one", "carol two", " ", "bob three", "bob three"] {
            history.add(line);
        }
        history
    }

    fn text(found: Option<Text>) -> Option<String> {
        found.map(|text| text.as_str().to_owned())
    }

    #[test]
    fn earlier_lines_are_shown_and_the_typed_one_comes_back() {
        let mut history = history();
        let typed = Text::new("half");
        for line in ["bob three", "carol two", "bob one"] {
            assert_eq!(text(history.older(&typed)).as_deref(), Some(line));
        }
        assert_eq!(history.older(&typed), None);
        for line in ["carol two", "bob three", "half"] {
            assert_eq!(text(history.newer()).as_deref(), Some(line));
        }
        assert_eq!(history.newer(), None);
        assert_eq!(text(history.oldest(&typed)).as_deref(), Some("bob one"));
        assert_eq!(history.newest(), Some(typed));
    }

    #[test]
    fn no_more_lines_are_kept_than_said() {
        let mut history = History::default();
        (0..MOST + 5).for_each(|number| history.add(&number.to_string()));
        assert_eq!((history.lines.len(), &history.lines[0][..]), (MOST, "5"));
    }

    #[test]
    fn a_search_goes_from_the_newest_line_to_older_ones_and_back() {
        let history = history();
        let mut search = Search::new(Text::new("half"));
        let line = |search: &Search| search.line(&history).0.to_owned();
        assert_eq!(line(&search), "half");
        "bob".chars().for_each(|letter| search.add(letter, &history));
        assert_eq!((line(&search), search.prompt()), ("bob three".into(), "(search) bob: ".into()));
        search.older(&history);
        assert_eq!(line(&search), "bob one");
        search.older(&history);
        assert_eq!((line(&search), search.prompt()), ("bob one".into(), "(failed search) bob: ".into()));
        search.newer(&history);
        assert_eq!(line(&search), "bob three");
        "x".chars().for_each(|letter| search.add(letter, &history));
        assert!(search.failed);
        search.shorten(&history);
        assert!(!search.failed);
        assert_eq!(line(&search), "bob three");
        search.wanted.clear();
        search.shorten(&history);
        assert_eq!(line(&search), "half");
        assert_eq!(search.into_before().as_str(), "half");
    }
}
