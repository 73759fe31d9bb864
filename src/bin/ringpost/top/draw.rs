//! The picture that `ringpost top` draws: lines of text, from what is chosen and the bus alone.

#[cfg(test)]
mod tests;

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::bus::{Count, Ring};
use super::detail;
use super::help;
use super::state::State;
use super::table::{Cell, Column, Row, View, percent, rate, shown};
use ringpost::cli::args::readable_time;
use ringpost::cli::stats::thousands;

/// How things are made to stand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    /// Without colours the same is bold or reversed.
    pub colours: bool,
}

impl Palette {
    /// Follows NO_COLOR, see <https://no-color.org>.
    pub fn from_environment() -> Palette {
        Palette { colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub fn title(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// By how full it is.
    pub fn fill(self, fraction: f64) -> Style {
        self.coloured(if fraction < 0.5 {
            Color::Green
        } else if fraction < 0.8 {
            Color::Yellow
        } else {
            Color::Red
        })
    }
}

/// Draws it. Whatever does not fit is left out.
pub fn draw(state: &State, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let lines = picture(state, palette, area.width, area.height);
    for (line, y) in lines.iter().zip(area.top()..area.bottom()) {
        buffer.set_line(area.x, y, line, area.width);
    }
}

/// How many rows of a table can be seen at once.
pub fn page(height: u16) -> usize {
    Heights::new(height).rows
}

/// How the lines are shared out. On a low terminal the table comes first.
struct Heights {
    /// About the server.
    head: usize,
    tabs: usize,
    rows: usize,
    keys: usize,
}

impl Heights {
    fn new(height: u16) -> Heights {
        let height = usize::from(height);
        let head = match height {
            0..5 => 0,
            5..10 => 1,
            _ => 3,
        };
        let (tabs, keys) = (usize::from(height >= 6), usize::from(height >= 4));
        // One for the headings.
        Heights { head, tabs, rows: height.saturating_sub(head + tabs + keys + 1), keys }
    }
}

fn picture(state: &State, palette: Palette, width: u16, height: u16) -> Vec<Line<'static>> {
    let heights = Heights::new(height);
    let height = usize::from(height);
    let mut lines: Vec<Line<'static>> = head(state, palette, width).into_iter().take(heights.head).collect();
    // Why there are no figures is said also where there is no room for more.
    if heights.head == 0 && state.gone.is_some() {
        lines.extend(head(state, palette, width).into_iter().take(1));
    }
    if state.help {
        lines.truncate(1);
        lines.extend(help::lines(palette, width));
    } else if let Some(key) = &state.detail {
        lines.truncate(1);
        lines.extend(detail::lines(&state.bus, key, palette));
    } else {
        lines.extend(tabs(state, palette, width).into_iter().take(heights.tabs));
        lines.extend(table(state, palette, width, heights.rows));
    }
    lines.truncate(height - heights.keys);
    if heights.keys > 0 {
        lines.resize(height - 1, Line::default());
        lines.push(keys(state, palette, width));
    }
    lines
}

/// About the server.
fn head(state: &State, palette: Palette, width: u16) -> [Line<'static>; 3] {
    let (bus, server) = (&state.bus, &state.bus.server);
    let plain = |text: String| Span::raw(text);
    let per_second = |name: &str, count: Count, thousand| {
        plain(format!("{name} {}/s", count.per_second.map_or("-".into(), |value| rate(value, thousand))))
    };
    let event = |name: &str, count: Count| {
        let happens = count.per_second.is_some_and(|rate| rate > 0.0);
        let style = if happens { palette.bad() } else { Style::new() };
        Span::styled(format!("{name} {}", thousands(count.total)), style)
    };
    let title = match &state.gone {
        Some(why) => vec![Span::styled(format!(" {why} "), palette.bad().add_modifier(Modifier::REVERSED))],
        None => vec![
            Span::styled("ringpost".to_owned() + &space_before(&shown(&server.version)), palette.title()),
            plain(format!("pid {}", server.pid)),
            plain(format!(
                "up {}",
                readable_time(Duration::from_secs_f64(bus.uptime_seconds.clamp(0.0, 1e15)))
            )),
            plain(
                if bus.stamped { "" } else { "durations are measured only for its own user and root" }.into(),
            ),
        ],
    };
    // Nothing was seen yet.
    if server.pid == 0 && state.gone.is_none() {
        return [
            joined([Span::styled("ringpost", palette.title())], width),
            Line::default(),
            Line::default(),
        ];
    }
    let paused =
        state.paused.then(|| Span::styled(" paused ", palette.strong().add_modifier(Modifier::REVERSED)));
    let calls = vec![
        per_second("calls", server.calls, 1000),
        per_second("messages", server.messages, 1000),
        per_second("in", server.bytes_in, 1024),
        per_second("out", server.bytes_out, 1024),
        plain(format!("cpu {}", server.cpu_percent.map_or("-".into(), percent))),
        plain(format!("hot workers {} of {}", server.workers_hot, server.workers_most)),
    ];
    let events = vec![
        plain(format!(
            "clients {} of {}",
            thousands(server.clients.into()),
            thousands(server.max_clients.into())
        )),
        event("registered", Count { per_second: None, ..server.registered }),
        event("died", server.died),
        event("violations", server.violations),
        event("refused", server.refused),
    ];
    [joined(paused.into_iter().chain(title), width), joined(calls, width), joined(events, width)]
}

fn space_before(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" {text}") }
}

/// The views, and what is filtered.
fn tabs(state: &State, palette: Palette, width: u16) -> Option<Line<'static>> {
    let mut parts: Vec<Span> = View::ALL
        .iter()
        .map(|view| {
            let text = format!("{} {}", view.title(), thousands(view.len(&state.bus) as u64));
            if *view == state.view {
                Span::styled(format!("[{text}]"), palette.title())
            } else {
                Span::raw(format!(" {text} "))
            }
        })
        .collect();
    if !state.filter.is_empty() {
        let text = format!("only {:?}: {}", shown(&state.filter), state.rows().len());
        parts.push(Span::styled(text, palette.strong()));
    }
    Some(joined(parts, width))
}

/// The headings, and the rows around the chosen one.
fn table(state: &State, palette: Palette, width: u16, most: usize) -> Vec<Line<'static>> {
    let rows = state.rows();
    let columns = state.view.columns();
    let fitting = state.view.fitting(&rows, width);
    let sorted_by = state.view.sorted_by(state.sort);
    let chosen = rows.iter().position(|row| Some(&row.id) == state.chosen.as_ref());
    let start =
        chosen.map_or(0, |chosen| chosen.saturating_sub(most / 2)).min(rows.len().saturating_sub(most));

    let reversed = palette.strong().add_modifier(Modifier::REVERSED);
    let mut headings = Vec::new();
    let mut used = 0;
    for &(at, width) in &fitting {
        let style = if at == sorted_by { palette.title() } else { reversed };
        let gap = if used == 0 { "" } else { " " };
        headings.push(Span::styled(gap, reversed));
        headings.push(Span::styled(aligned(columns[at].heading, width, columns[at].names), style));
        used += width + gap.len() as u16;
    }
    headings.push(Span::styled(" ".repeat(usize::from(width.saturating_sub(used))), reversed));
    let mut lines = vec![Line::from(headings)];
    for (number, row) in rows.iter().enumerate().skip(start).take(most) {
        let line = row_line(row, &fitting, columns, palette);
        lines.push(if Some(number) == chosen { filled(line, width, reversed) } else { line });
    }
    if rows.is_empty() && most > 0 {
        let none = match state.view {
            _ if state.bus.server.pid == 0 => "",
            _ if !state.filter.is_empty() => "nothing passes the filter: / changes it, Esc ends it",
            View::Clients => "no client is registered",
            View::Links => "no link is open",
            View::Topics => "no topic is published",
        };
        lines.push(Line::raw(none));
    }
    lines
}

fn row_line(row: &Row, fitting: &[(usize, u16)], columns: &[Column], palette: Palette) -> Line<'static> {
    let mut spans = Vec::new();
    for &(at, width) in fitting {
        if !spans.is_empty() {
            spans.push(Span::raw(" "));
        }
        let cell = &row.cells[at];
        spans.push(match cell {
            Cell::Ring(ring) => Span::styled(bar(*ring, width), palette.fill(ring.fraction())),
            cell => {
                let style = if stands_out(cell, columns[at].heading) { palette.bad() } else { Style::new() };
                Span::styled(aligned(&cell.text(), width, columns[at].names), style)
            }
        });
    }
    Line::from(spans)
}

/// What somebody should look at: samples that are lost, senders that wait.
fn stands_out(cell: &Cell, heading: &str) -> bool {
    match cell {
        Cell::Rate(Some(rate)) => heading == "LOST/s" && *rate > 0.0,
        Cell::Number(number) => heading == "WAIT" && *number > 0,
        _ => false,
    }
}

/// The keys, or the filter that is typed.
fn keys(state: &State, palette: Palette, width: u16) -> Line<'static> {
    if state.typing.is_some() {
        // The end of a long one is what is typed.
        let room = usize::from(width).saturating_sub("filter: _".len());
        let mut text = shown(&state.filter);
        while text.width() > room {
            text.remove(0);
        }
        return Line::from(vec![
            Span::styled("filter: ", palette.strong()),
            Span::raw(text),
            Span::styled(" ", Style::new().add_modifier(Modifier::REVERSED)),
        ]);
    }
    let all: &[(&str, &str)] = match state {
        State { help: true, .. } => &[("any key", "back")],
        State { detail: Some(_), .. } => &[("Esc", "back"), ("p", "pause"), ("q", "quit")],
        _ => &[
            ("q", "quit"),
            ("?", "help"),
            ("Tab", "view"),
            ("< >", "order"),
            ("r", "reverse"),
            ("/", "filter"),
            ("p", "pause"),
            ("Enter", "detail"),
        ],
    };
    let mut line = Line::default();
    let mut used = 0;
    for (key, does) in all {
        let wanted = key.len() + 1 + does.len() + if used == 0 { 0 } else { 2 };
        if used + wanted > usize::from(width) {
            break;
        }
        line.push_span(Span::raw(if used == 0 { "" } else { "  " }));
        line.push_span(Span::styled((*key).to_owned(), palette.strong()));
        line.push_span(Span::raw(format!(" {does}")));
        used += wanted;
    }
    line
}

/// The parts with two spaces between them, as many as fit.
fn joined(parts: impl IntoIterator<Item = Span<'static>>, width: u16) -> Line<'static> {
    let mut line = Line::default();
    for part in parts.into_iter().filter(|part| !part.content.is_empty()) {
        let gap = if line.spans.is_empty() { "" } else { "  " };
        if !line.spans.is_empty() && line.width() + gap.len() + part.width() > usize::from(width) {
            break;
        }
        line.push_span(Span::raw(gap));
        line.push_span(part);
    }
    line
}

/// The whole line in one style, up to the edge.
fn filled(line: Line<'static>, width: u16, style: Style) -> Line<'static> {
    let mut text: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
    text.push_str(&" ".repeat(usize::from(width).saturating_sub(text.width())));
    Line::styled(text, style)
}

/// A text of this width. One that is too long ends with `…`.
pub fn aligned(text: &str, width: u16, left: bool) -> String {
    let width = usize::from(width);
    let text = cut(text, width);
    let gap = " ".repeat(width - text.width());
    if left { text + &gap } else { gap + &text }
}

fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 0;
    let fits = |letter: &char| {
        used += letter.width().unwrap_or(0);
        used < width
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// A bar of this width, in eighths of a character. Nothing is drawn for an empty ring alone.
pub fn bar(ring: Ring, width: u16) -> String {
    const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let width = usize::from(width);
    let mut eighths = (ring.fraction().clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    if ring.used > 0 && ring.size > 0 {
        eighths = eighths.max(1);
    }
    let mut text = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) && eighths / 8 < width {
        text.push(EIGHTHS[eighths % 8 - 1]);
    }
    let rest = width - text.chars().count();
    text + &"·".repeat(rest)
}
