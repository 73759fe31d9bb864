//! Formats an event as one line: `TIME LEVEL EVENT field=value …` as text, or a JSON object.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use ringpost::cli::out::{json_text, readable};

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people and grep
    Text,
    /// One JSON object per line
    Json,
}

/// The format and colours of the lines.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub format: Format,
    pub colours: bool,
}

/// A field's value.
enum Value {
    Text(String),
    /// A number or boolean, which needs no quotes in either format.
    Bare(String),
}

/// The contents of an event.
#[derive(Default)]
pub struct Content {
    event: String,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Content {
    pub fn of(event: &Event<'_>) -> Content {
        let mut content = Content::default();
        event.record(&mut content);
        content
    }

    pub fn new(event: &str, message: &str) -> Content {
        Content { event: event.into(), message: message.into(), fields: Vec::new() }
    }

    pub fn text(mut self, field: &'static str, value: impl fmt::Display) -> Content {
        self.fields.push((field, Value::Text(value.to_string())));
        self
    }

    pub fn number(mut self, field: &'static str, value: u64) -> Content {
        self.fields.push((field, Value::Bare(value.to_string())));
        self
    }

    fn keep(&mut self, field: &Field, value: String) {
        match field.name() {
            "event" => self.event = value,
            "message" => self.message = value,
            // The values are names of enum variants.
            name @ ("outcome" | "reason") => self.fields.push((name, Value::Text(words(&value)))),
            name => self.fields.push((name, Value::Text(value))),
        }
    }

    fn keep_bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.fields.push((field.name(), Value::Bare(value.to_string())));
    }
}

impl Visit for Content {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, format!("{value:?}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep_bare(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep_bare(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep_bare(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON cannot represent other values.
        if value.is_finite() {
            self.keep_bare(field, value);
        }
    }
}

/// Turns `InboxFull` into `inbox_full`.
fn words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && words.ends_with(|last: char| last.is_ascii_lowercase()) {
            words.push('_');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

impl Style {
    /// Formats an event with the current time.
    pub fn line(self, level: Level, content: &Content) -> Vec<u8> {
        let mut time = String::new();
        // Writing to a string cannot fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let line = match self.format {
            Format::Text => self.text(&time, level, content),
            Format::Json => json(&time, level, content),
        };
        line.into_bytes()
    }

    fn text(self, time: &str, level: Level, content: &Content) -> String {
        let (on, off) = if self.colours { (colour(level), "\x1b[0m") } else { ("", "") };
        let mut line = format!("{time} {on}{level:>5}{off} {}", content.event);
        let mut field = |name: &str, value: &str| {
            let _ = write!(line, " {name}={}", quoted(value));
        };
        for (name, value) in &content.fields {
            match value {
                Value::Text(text) | Value::Bare(text) => field(name, text),
            }
        }
        if says_more(level) {
            field("message", &content.message);
        }
        line.push('\n');
        line
    }
}

/// Whether the message is included: for warnings and errors. For other events the name is enough.
fn says_more(level: Level) -> bool {
    level <= Level::WARN
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    }
}

/// Quotes a value if it could otherwise be misread.
fn quoted(value: &str) -> String {
    let plain = |letter: char| !letter.is_whitespace() && !matches!(letter, '"' | '\\' | '=');
    if !value.is_empty() && value.chars().all(plain) && readable(value.as_bytes()) == value {
        return value.to_owned();
    }
    // `readable` does not escape backslashes and quotes. They are escaped first, before it adds more
    // backslashes.
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", readable(escaped.as_bytes()))
}

fn json(time: &str, level: Level, content: &Content) -> String {
    let mut line =
        format!("{{\"time\":{},\"level\":{}", string(time), string(&level.as_str().to_lowercase()));
    let _ = write!(line, ",\"event\":{}", string(&content.event));
    for (name, value) in &content.fields {
        let _ = match value {
            Value::Text(text) => write!(line, ",{}:{}", string(name), string(text)),
            Value::Bare(bare) => write!(line, ",{}:{bare}", string(name)),
        };
    }
    if says_more(level) {
        let _ = write!(line, ",\"message\":{}", string(&content.message));
    }
    line.push_str("}\n");
    line
}

fn string(text: &str) -> String {
    // A string can always be encoded.
    json_text(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        Content::new("death", "it is \"gone\"").text("name", "a b\n").number("pid", 7).text("key", "00K")
    }

    #[test]
    fn text_is_one_line_with_quotes_where_needed() {
        let style = Style { format: Format::Text, colours: false };
        let line = style.text("T", Level::WARN, &content());
        assert_eq!(line, "T  WARN death name=\"a b\\n\" pid=7 key=00K message=\"it is \\\"gone\\\"\"\n");
        let line = style.text("T", Level::INFO, &Content::new("register", "registered"));
        assert_eq!(line, "T  INFO register\n");
        for (value, shown) in [
            ("", "\"\""),
            ("\u{e9}", "\u{e9}"),
            ("a=b", "\"a=b\""),
            ("a\\b", "\"a\\\\b\""),
            ("\x1b[2J", "\"\\u{1b}[2J\""),
        ] {
            assert_eq!(quoted(value), shown);
        }
    }

    #[test]
    fn json_is_one_object() {
        let line = json("T", Level::WARN, &content());
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["name"], "a b\n");
        assert_eq!(object["pid"], 7);
        assert_eq!(object["message"], "it is \"gone\"");
        assert_eq!((&object["level"], &object["event"]), (&"warn".into(), &"death".into()));
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn names_of_variants_become_snake_case() {
        assert_eq!(words("InboxFull"), "inbox_full");
        assert_eq!(words("Ok"), "ok");
        assert_eq!(words("descriptors"), "descriptors");
    }

    #[test]
    fn a_line_begins_with_its_time() {
        let style = Style { format: Format::Text, colours: false };
        let line = String::from_utf8(style.line(Level::INFO, &Content::new("x", ""))).unwrap();
        assert!(line.starts_with("20") && line.contains("Z  INFO x"), "{line}");
    }
}
