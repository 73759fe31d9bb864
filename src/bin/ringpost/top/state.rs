//! What a person has chosen in `ringpost top`, and what each key does.

use super::bus::Bus;
use super::table::{Id, Row, Sort, View};
use crate::client::keys::Key;

/// A longer filter matches no name.
const LONGEST_FILTER: usize = 255;

/// What is shown, and how.
#[derive(Debug, Default)]
pub struct State {
    pub bus: Bus,
    pub view: View,
    pub sort: Sort,
    pub reverse: bool,
    pub filter: String,
    /// While the filter is typed, what it was before.
    pub typing: Option<String>,
    pub paused: bool,
    /// The row that is chosen.
    pub chosen: Option<Id>,
    /// The client that is shown in detail.
    pub detail: Option<String>,
    pub help: bool,
    /// Why there are no new figures.
    pub gone: Option<String>,
    /// How many rows can be seen at once.
    pub page: usize,
}

/// What a key asks for besides another picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    Quit,
    /// To be stopped as a shell's job.
    Stop,
    /// To draw everything anew.
    Redraw,
}

impl State {
    /// Takes the figures of a new look, unless it is paused.
    pub fn look(&mut self, bus: Bus) {
        self.gone = None;
        if !self.paused {
            self.bus = bus;
        }
    }

    /// The rows of the view, as they are filtered and ordered.
    pub fn rows(&self) -> Vec<Row> {
        self.view.rows(&self.bus, &self.filter, self.sort, self.reverse)
    }

    pub fn press(&mut self, key: &Key) -> Wish {
        match key {
            Key::Ctrl('c') => return Wish::Quit,
            Key::Ctrl('z') => return Wish::Stop,
            Key::Ctrl('l') => return Wish::Redraw,
            _ if self.typing.is_some() => self.type_filter(key),
            // Any key ends the help, and does nothing else.
            _ if self.help => self.help = false,
            Key::Char('q') => return Wish::Quit,
            Key::Char('?' | 'h') => self.help = true,
            Key::Char('p' | ' ') => self.paused = !self.paused,
            _ if self.detail.is_some() => {
                if matches!(key, Key::Escape | Key::Enter | Key::Backspace | Key::Left) {
                    self.detail = None;
                }
            }
            Key::Char('/') => self.typing = Some(self.filter.clone()),
            Key::Char('r') => self.reverse = !self.reverse,
            Key::Tab => self.turn(1),
            Key::BackTab => self.turn(View::ALL.len() - 1),
            Key::Char(digit @ '1'..='3') => self.show(View::ALL[*digit as usize - '1' as usize]),
            Key::Char('>') | Key::Right => self.sort_beside(1),
            Key::Char('<') | Key::Left => self.sort_beside(-1),
            Key::Up | Key::Char('k') => self.go(-1),
            Key::Down | Key::Char('j') => self.go(1),
            Key::PageUp => self.go(-self.page_step()),
            Key::PageDown => self.go(self.page_step()),
            Key::Home => self.go(isize::MIN),
            Key::End => self.go(isize::MAX),
            Key::Escape if self.chosen.is_some() => self.chosen = None,
            Key::Escape => self.filter.clear(),
            Key::Enter => self.open(),
            Key::Char(letter) => {
                if let Some((sort, _)) = SORTS.iter().find(|(_, key)| key == letter) {
                    (self.sort, self.reverse) = (*sort, false);
                }
            }
            _ => {}
        }
        Wish::Nothing
    }

    fn type_filter(&mut self, key: &Key) {
        match key {
            Key::Enter => self.typing = None,
            Key::Escape | Key::Ctrl('g') => self.filter = self.typing.take().unwrap_or_default(),
            Key::Backspace => drop(self.filter.pop()),
            Key::Ctrl('u') => self.filter.clear(),
            Key::Char(letter) => self.add(&letter.to_string()),
            Key::Paste(text) => self.add(text),
            _ => {}
        }
    }

    fn add(&mut self, text: &str) {
        let room = LONGEST_FILTER.saturating_sub(self.filter.chars().count());
        self.filter.extend(text.chars().filter(|letter| !letter.is_control()).take(room));
    }

    fn turn(&mut self, steps: usize) {
        let at = View::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
        self.show(View::ALL[(at + steps) % View::ALL.len()]);
    }

    fn show(&mut self, view: View) {
        if view != self.view {
            (self.view, self.chosen) = (view, None);
        }
    }

    /// Orders the rows by the next column on this side that can do it.
    fn sort_beside(&mut self, step: isize) {
        let sorts: Vec<Sort> = self.view.columns().iter().filter_map(|column| column.sort).collect();
        let now = self.view.columns()[self.view.sorted_by(self.sort)].sort;
        let at = sorts.iter().position(|sort| Some(*sort) == now).unwrap_or(0);
        let next = at.saturating_add_signed(step).min(sorts.len() - 1);
        (self.sort, self.reverse) = (sorts[next], self.reverse && next == at);
    }

    /// Chooses the row so many below the chosen one. With none chosen, the first one is next.
    fn go(&mut self, steps: isize) {
        let rows = self.rows();
        let at = rows.iter().position(|row| Some(&row.id) == self.chosen.as_ref());
        let next = match at {
            None if steps == isize::MAX => usize::MAX,
            None => 0,
            Some(at) => at.saturating_add_signed(steps),
        };
        self.chosen = rows.get(next.min(rows.len().saturating_sub(1))).map(|row| row.id.clone());
    }

    fn page_step(&self) -> isize {
        isize::try_from(self.page.max(1)).unwrap_or(isize::MAX)
    }

    /// Shows the client of the chosen row, or of the first one.
    fn open(&mut self) {
        let rows = self.rows();
        let chosen = rows.iter().find(|row| Some(&row.id) == self.chosen.as_ref()).or(rows.first());
        let Some(row) = chosen else { return };
        let key = match &row.id {
            Id::Key(key) => Some(key.clone()),
            Id::Names(..) => self
                .bus
                .clients
                .iter()
                .find(|client| client.name == row.client)
                .map(|client| client.key.clone()),
        };
        if let Some(key) = key {
            (self.detail, self.chosen) = (Some(key), Some(row.id.clone()));
        }
    }
}

/// The letters that order the rows.
pub const SORTS: [(Sort, char); 13] = [
    (Sort::Name, 'n'),
    (Sort::Calls, 'c'),
    (Sort::Messages, 'm'),
    (Sort::Samples, 't'),
    (Sort::Bytes, 'b'),
    (Sort::Inbox, 'i'),
    (Sort::Ring, 'f'),
    (Sort::Waiting, 'w'),
    (Sort::Lost, 'l'),
    (Sort::Service, 's'),
    (Sort::Wake, 'a'),
    (Sort::Cpu, 'u'),
    (Sort::Age, 'g'),
];

#[cfg(test)]
mod tests {
    use super::super::bus::{Client, Link, Topic};
    use super::*;

    fn state() -> State {
        let client = |name: &str| Client { name: name.into(), key: name.to_uppercase(), ..Client::default() };
        let link = Link { caller: "alice".into(), callee: "bob".into(), ..Link::default() };
        let topic = Topic { topic: "t".into(), publisher: "carol".into(), ..Topic::default() };
        let clients = ["alice", "bob", "carol"].map(client).to_vec();
        let bus = Bus { clients, links: vec![link], topics: vec![topic], ..Bus::default() };
        State { bus, page: 2, ..State::default() }
    }

    fn press(state: &mut State, keys: &str) -> Wish {
        keys.chars().fold(Wish::Nothing, |_, letter| state.press(&Key::Char(letter)))
    }

    fn chosen(state: &State) -> Option<String> {
        let rows = state.rows();
        rows.into_iter().find(|row| Some(&row.id) == state.chosen.as_ref()).map(|row| row.client)
    }

    #[test]
    fn q_and_ctrl_c_quit_but_a_filter_may_contain_q() {
        for keys in ["q", "pq", "?xq"] {
            assert_eq!(press(&mut state(), keys), Wish::Quit, "{keys}");
        }
        let mut state = state();
        assert_eq!(press(&mut state, "/q?p"), Wish::Nothing);
        assert_eq!(state.filter, "q?p");
        assert_eq!(state.press(&Key::Ctrl('c')), Wish::Quit);
        assert_eq!(state.press(&Key::Ctrl('z')), Wish::Stop);
    }

    #[test]
    fn a_filter_is_live_and_escape_brings_back_the_last_one() {
        let mut state = state();
        press(&mut state, "/bo");
        assert_eq!(state.rows().len(), 1);
        state.press(&Key::Backspace);
        state.press(&Key::Enter);
        assert_eq!((state.filter.as_str(), state.typing.is_none()), ("b", true));
        press(&mut state, "/xyz");
        state.press(&Key::Escape);
        assert_eq!(state.filter, "b");
        press(&mut state, "/");
        state.press(&Key::Paste("o\nb\x1b".repeat(200)));
        assert_eq!(state.filter.chars().count(), LONGEST_FILTER);
        assert!(!state.filter.contains(char::is_control));
        state.press(&Key::Ctrl('u'));
        assert_eq!(state.rows().len(), 3);
    }

    #[test]
    fn the_chosen_row_stays_chosen_wherever_it_goes() {
        let mut state = state();
        assert_eq!(chosen(&state), None);
        for (key, row) in [
            (Key::Down, "alice"),
            (Key::Down, "bob"),
            (Key::Up, "alice"),
            (Key::Up, "alice"),
            (Key::PageDown, "carol"),
            (Key::PageDown, "carol"),
            (Key::Home, "alice"),
            (Key::End, "carol"),
        ] {
            state.press(&key);
            assert_eq!(chosen(&state).as_deref(), Some(row), "{key:?}");
        }
        press(&mut state, "r");
        assert_eq!(state.rows()[0].client, "carol");
        assert_eq!(chosen(&state).as_deref(), Some("carol"));
        state.press(&Key::Escape);
        assert_eq!(state.chosen, None);
        // The chosen client has left.
        state.chosen = Some(Id::Key("X".into()));
        state.press(&Key::Down);
        assert_eq!(chosen(&state).as_deref(), Some("carol"));
        state.bus = Bus::default();
        for key in [Key::Down, Key::End, Key::Enter, Key::PageUp] {
            state.press(&key);
        }
        assert_eq!((state.chosen, state.detail), (None, None));
    }

    #[test]
    fn enter_shows_the_client_of_each_view() {
        for (view, key) in [(View::Clients, "ALICE"), (View::Links, "BOB"), (View::Topics, "CAROL")] {
            let mut state = State { view, ..state() };
            state.press(&Key::Enter);
            assert_eq!(state.detail.as_deref(), Some(key));
            press(&mut state, "c");
            assert!(state.detail.is_some(), "other keys do nothing there");
            state.press(&Key::Escape);
            assert_eq!(state.detail, None);
            assert_eq!(state.view, view);
        }
    }

    #[test]
    fn views_and_orders_are_chosen_by_keys() {
        let mut state = state();
        for view in [View::Links, View::Topics, View::Clients] {
            state.press(&Key::Tab);
            assert_eq!(state.view, view);
        }
        state.press(&Key::BackTab);
        assert_eq!(state.view, View::Topics);
        press(&mut state, "1c");
        assert_eq!((state.view, state.sort), (View::Clients, Sort::Calls));
        state.press(&Key::Right);
        assert_eq!(state.sort, Sort::Messages);
        press(&mut state, "<<<<");
        assert_eq!(state.sort, Sort::Name);
        press(&mut state, ">>>>>>>>>>>>>>");
        assert_eq!(state.sort, Sort::Cpu, "the last column that can");
        // Topics have no such column, and are ordered by name.
        press(&mut state, "3>");
        assert_eq!(state.sort, Sort::Samples);
        press(&mut state, "rn");
        assert!(!state.reverse, "another order begins anew");
        for (sort, letter) in SORTS {
            press(&mut state, &letter.to_string());
            assert_eq!(state.sort, sort);
        }
    }

    #[test]
    fn a_pause_keeps_what_is_shown() {
        let mut state = state();
        press(&mut state, "p");
        state.gone = Some("gone".into());
        state.look(Bus::default());
        assert_eq!((state.bus.clients.len(), &state.gone), (3, &None));
        press(&mut state, " ");
        state.look(Bus::default());
        assert_eq!(state.bus.clients.len(), 0);
    }
}
