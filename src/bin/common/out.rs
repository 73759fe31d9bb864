//! Writes to standard output: flushes every write, and treats a closed pipe as a normal end.

use std::io::{self, IsTerminal, Write};

use super::exit::{Failure, Outcome};
use crate::wire::invisible;

/// Writes `bytes` and flushes them.
pub fn put(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(failure)
}

/// The columns of the terminal that standard output is; `None` if it is none.
pub fn terminal_width() -> Option<usize> {
    let out = io::stdout();
    let columns =
        out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).map_or(0, |size| size.ws_col))?;
    // A terminal that does not know its size says 0.
    Some(if columns == 0 { 80 } else { columns.into() })
}

/// Writes one line and flushes it.
pub fn line(text: &str) -> Outcome {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(b'\n');
    put(&bytes)
}

/// Writes `value` as one line of JSON.
pub fn json(value: &impl serde::Serialize) -> Outcome {
    line(&json_text(value)?)
}

/// Formats `value` as JSON that is one line for every reader and cannot control a terminal. It escapes
/// U+0085, U+2028 and U+2029, too, at which some readers end a line.
pub fn json_text(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
    if !text.contains(is_harmful) {
        return Ok(text);
    }
    // Only strings can contain such characters.
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_harmful(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(character);
        }
    }
    Ok(escaped)
}

/// Whether a character controls a terminal, ends a line, changes the direction of text or is invisible. Wide
/// and narrow spaces are not harmful.
fn is_harmful(character: char) -> bool {
    let ends_lines = matches!(character, '\u{2028}' | '\u{2029}');
    let invisible = invisible::is_filler(character) || invisible::is_ignorable(character);
    character.is_control() || ends_lines || invisible::changes_direction(character) || invisible
}

fn failure(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::ClosedPipe
    } else {
        Failure::failed(format!("cannot write to standard output: {error}"))
    }
}

/// Makes `bytes` safe to show on one line of a terminal: escapes invalid UTF-8 and harmful characters.
pub fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_harmful(character) {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// A progress line on stderr, shown only if stderr is a terminal.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    last: Option<std::time::Instant>,
}

impl Progress {
    pub fn new() -> Progress {
        Progress { shown: io::stderr().is_terminal(), last: None }
    }

    /// Shows `text`, at most five times a second.
    pub fn show(&mut self, text: impl std::fmt::Display) {
        let due = self.last.is_none_or(|last| last.elapsed().as_millis() >= 200);
        if self.shown && due {
            let _ = io::stderr().lock().write_all(format!("\r\x1b[K{text}").as_bytes());
            self.last = Some(std::time::Instant::now());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.last.is_some() {
            let _ = io::stderr().lock().write_all(b"\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_all_harmful_characters() {
        let harmful: String = (0..=0x9f_u8)
            .map(char::from)
            .filter(|c| c.is_control())
            .chain("\u{2028}\u{2029}\u{202e}\u{2066}".chars())
            .collect();
        let text = json_text(&[&harmful, "h\u{e9}llo \u{1f600}"]).unwrap();
        assert!(text.chars().all(|c| !is_harmful(c)), "{text}");
        assert!(text.contains("\\u007f\\u0080") && text.contains("\\u2028\\u2029\\u202e"), "{text}");
        assert!(text.ends_with("\"h\u{e9}llo \u{1f600}\"]"), "{text}");
        let read: Vec<String> = serde_json::from_str(&text).unwrap();
        assert_eq!(read[0], harmful);
    }

    #[test]
    fn readable_text_stays_on_its_line() {
        assert_eq!(readable(b""), "");
        assert_eq!(readable("h\u{e9}llo w\u{f6}rld".as_bytes()), "h\u{e9}llo w\u{f6}rld");
        assert_eq!(readable(b"a\nb\tc\r"), "a\\nb\\tc\\r");
        assert_eq!(readable(b"\x1b[2J"), "\\u{1b}[2J");
        for (text, shown) in [
            ("\u{202e}evil", "\\u{202e}evil"),
            ("al\u{200b}ice\u{feff}", "al\\u{200b}ice\\u{feff}"),
            ("\u{2800}\u{3164}\u{ad}", "\\u{2800}\\u{3164}\\u{ad}"),
            ("a\u{e0041}\u{fe0f}", "a\\u{e0041}\\u{fe0f}"),
            ("a\u{3000}b", "a\u{3000}b"),
        ] {
            assert_eq!(readable(text.as_bytes()), shown);
        }
        assert_eq!(readable(b"ok\xff\xfeok"), "ok\\xff\\xfeok");
    }
}
