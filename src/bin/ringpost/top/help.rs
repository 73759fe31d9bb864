//! The help of `ringpost top`.

use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::draw::Palette;
use super::state::SORTS;

/// The keys, and what the columns mean.
pub fn lines(palette: Palette, width: u16) -> Vec<Line<'static>> {
    let orders: Vec<String> = SORTS
        .iter()
        .map(|(sort, letter)| format!("{letter} {}", format!("{sort:?}").to_lowercase()))
        .collect();
    let mut lines = vec![Line::default()];
    for (key, does) in [
        ("Tab 1 2 3", "clients, links, topics".to_owned()),
        ("Up Down", "choose a row; it stays chosen wherever it goes; Esc ends that".to_owned()),
        ("Enter", "one client in detail: of a link the callee, of a topic the publisher".to_owned()),
        ("< >", "order by the column on the left or right; r reverses".to_owned()),
        ("letters", "order by: ".to_owned() + &orders.join(", ")),
        ("/", "show only names with this text; * stands for any text".to_owned()),
        ("p", "pause, and go on".to_owned()),
        ("q", "quit, as Ctrl-C; Ctrl-Z stops as a job, Ctrl-L draws anew".to_owned()),
        ("", String::new()),
        ("/s", "a second, since the look before; - is not known yet".to_owned()),
        ("INBOX", "how full it is; RINGS the fuller of requests and responses".to_owned()),
        ("WAIT", "senders that wait for room in the inbox; LOST samples missed".to_owned()),
        ("SVC", "time of the service for its calls: half took at most SVC50, 99 % SVC99".to_owned()),
        ("WAKE", "how long its sleeping worker takes to wake up; CPU is the worker's".to_owned()),
        ("OPEN", "calls of a link that are not served yet; its SVC is the callee's".to_owned()),
        (
            "",
            "Durations are of the last 5 to 10 seconds. Links, samples and times of services \
             on links are as the clients say."
                .to_owned(),
        ),
    ] {
        let indent = 11;
        for (at, part) in
            wrapped(&does, usize::from(width).saturating_sub(indent).max(20)).into_iter().enumerate()
        {
            let key = if at == 0 { key } else { "" };
            lines.push(Line::from(vec![
                Span::styled(format!(" {key:<width$}", width = indent - 1), palette.strong()),
                Span::raw(part),
            ]));
        }
    }
    lines
}

/// Breaks a text between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].width() + 1 + word.width() > width {
            lines.push(word.to_owned());
        } else {
            lines[last] = lines[last].clone() + if lines[last].is_empty() { "" } else { " " } + word;
        }
    }
    lines
}
