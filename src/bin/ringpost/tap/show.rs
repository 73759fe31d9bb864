//! Formats calls, messages, posts and samples for people and for programs.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ringpost::cli::exit::Failure;
use ringpost::cli::out;
use ringpost::cli::stats::nanoseconds;
use ringpost::{Peer, Sample, TapKind, TapRecord};
use serde::Serialize;

use crate::cli::Form;

/// How much of each payload is shown, and how.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub form: Form,
    pub most: usize,
}

/// What is shown.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    Record(&'a TapRecord),
    /// A sample, and when it came.
    Sample(&'a Sample<'a>, SystemTime),
}

/// The first bytes of a payload, and how many it has.
#[derive(Debug, Clone, Copy)]
struct Head<'a> {
    bytes: &'a [u8],
    len: u64,
}

impl<'a> Head<'a> {
    fn new(bytes: &'a [u8], len: u64, most: usize) -> Head<'a> {
        Head { bytes: &bytes[..bytes.len().min(most)], len }
    }

    fn is_cut(&self) -> bool {
        (self.bytes.len() as u64) < self.len
    }

    /// Without the part of a character at which it may be cut.
    fn whole_characters(&self) -> &'a [u8] {
        match str::from_utf8(self.bytes) {
            Err(error) if error.error_len().is_none() && self.is_cut() => &self.bytes[..error.valid_up_to()],
            _ => self.bytes,
        }
    }

    /// On one line, and safe for a terminal.
    fn text(&self) -> String {
        format!("{}{}", out::readable(self.whole_characters()), if self.is_cut() { "…" } else { "" })
    }

    /// For JSON: as text, in base 64 if it is none, or in hexadecimal digits.
    fn encoded(&self, form: Form) -> [Option<String>; 3] {
        match (form, str::from_utf8(self.whole_characters())) {
            (Form::None, _) => [None, None, None],
            (Form::Hex, _) => {
                [None, None, Some(self.bytes.iter().map(|byte| format!("{byte:02x}")).collect())]
            }
            (Form::Text, Ok(text)) => [Some(text.to_owned()), None, None],
            (Form::Text, Err(_)) => [None, Some(STANDARD.encode(self.bytes)), None],
        }
    }

    /// 16 bytes a line, each behind the mark.
    fn dump(&self, mark: &str, lines: &mut String) {
        for (number, line) in self.bytes.chunks(16).enumerate() {
            let digits: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            let text: String = line
                .iter()
                .map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' })
                .collect();
            lines.push_str(&format!("  {mark} {:04x}  {:<47}  {text}\n", 16 * number, digits.join(" ")));
        }
    }
}

impl<'a> Seen<'a> {
    pub fn from(&self) -> &'a Peer {
        match self {
            Seen::Record(record) => &record.from,
            Seen::Sample(sample, _) => sample.publisher(),
        }
    }

    fn time(&self) -> SystemTime {
        match self {
            Seen::Record(record) => record.time,
            Seen::Sample(_, time) => *time,
        }
    }

    fn payload(&self, most: usize) -> Head<'a> {
        match self {
            Seen::Record(record) => Head::new(&record.payload, record.payload_len, most),
            Seen::Sample(sample, _) => Head::new(sample.payload(), sample.payload().len() as u64, most),
        }
    }

    /// Only calls have a response.
    fn response(&self, most: usize) -> Option<Head<'a>> {
        match self {
            Seen::Record(record) if record.kind == TapKind::Call => {
                Some(Head::new(&record.response, record.response_len, most))
            }
            _ => None,
        }
    }

    /// For people, with line ends: `14:03:07.123456 message alice > bob ok 0.8 us 5 bytes: hello`.
    pub fn lines(&self, shape: Shape, zone: &TimeZone) -> String {
        let readable = |text: &str| out::readable(text.as_bytes());
        let mut lines = clock(self.time(), zone);
        let from = readable(self.from().name.as_str());
        match self {
            Seen::Record(record) => {
                let TapRecord { kind, outcome, duration, .. } = record;
                lines.push_str(&format!(" {kind} {from}"));
                match (&record.to_name, record.to) {
                    (Some(name), _) => lines.push_str(&format!(" > {}", readable(name.as_str()))),
                    (None, Some(key)) => lines.push_str(&format!(" > {key}")),
                    (None, None) => {}
                }
                lines.push_str(&format!(" {outcome} {}", nanoseconds(duration.as_nanos() as f64)));
            }
            Seen::Sample(sample, _) => {
                lines.push_str(&format!(
                    " sample {from} > {} {}",
                    readable(sample.topic()),
                    sample.sequence()
                ));
            }
        }
        let (payload, response) = (self.payload(shape.most), self.response(shape.most));
        lines.push_str(&format!(" {}", payload.len));
        if let Some(response) = response {
            lines.push_str(&format!(" > {}", response.len));
        }
        let last = response.unwrap_or(payload).len;
        lines.push_str(if last == 1 { " byte" } else { " bytes" });
        match shape.form {
            Form::None => lines.push('\n'),
            Form::Text => {
                lines.push_str(&format!(": {}", payload.text()));
                if let Some(response) = response {
                    lines.push_str(&format!(" > {}", response.text()));
                }
                lines.push('\n');
            }
            Form::Hex => {
                lines.push('\n');
                payload.dump(">", &mut lines);
                if let Some(response) = response {
                    response.dump("<", &mut lines);
                }
            }
        }
        lines
    }

    /// For programs: one JSON object.
    pub fn json(&self, shape: Shape, missed: u64) -> Result<String, Failure> {
        let (payload, response) = (self.payload(shape.most), self.response(shape.most));
        let record = if let Seen::Record(record) = self { Some(record) } else { None };
        let sample = if let Seen::Sample(sample, _) = self { Some(sample) } else { None };
        let Peer { name, key, pid, uid, .. } = self.from();
        let time = Timestamp::try_from(self.time()).unwrap_or(Timestamp::UNIX_EPOCH);
        let to = record.filter(|record| record.to.is_some()).map(|record| To {
            name: record.to_name.as_ref().map(|name| name.as_str()),
            key: record.to.map(|key| key.to_string()),
        });
        let [payload_text, payload_base64, payload_hex] = payload.encoded(shape.form);
        let [response_text, response_base64, response_hex] =
            response.map_or([None, None, None], |response| response.encoded(shape.form));
        out::json_text(&Object {
            kind: record.map_or("sample".to_owned(), |record| record.kind.to_string()),
            time: time.to_string(),
            from: Client { name: name.as_str(), key: key.to_string(), pid: *pid, uid: *uid },
            to,
            topic: sample.map(|sample| sample.topic()),
            sequence: sample.map(|sample| sample.sequence()),
            outcome: record.map(|record| record.outcome.to_string()),
            nanoseconds: record.map(|record| record.duration.as_nanos() as u64),
            missed,
            bytes: payload.len,
            payload: payload_text,
            payload_base64,
            payload_hex,
            response_bytes: response.map(|response| response.len),
            response: response_text,
            response_base64,
            response_hex,
        })
    }
}

/// The local time of day, to the microsecond.
fn clock(time: SystemTime, zone: &TimeZone) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    zone.to_datetime(time).strftime("%H:%M:%S.%6f").to_string()
}

#[derive(Serialize)]
struct Client<'a> {
    name: &'a str,
    key: String,
    pid: u32,
    uid: u32,
}

#[derive(Serialize)]
struct To<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// The JSON object. What does not apply is left out.
#[derive(Serialize)]
struct Object<'a> {
    kind: String,
    time: String,
    from: Client<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<To<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nanoseconds: Option<u64>,
    missed: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_hex: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_short() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(3_661_000_001_999);
        assert_eq!(clock(time, &TimeZone::UTC), "01:01:01.000001");
    }

    #[test]
    fn hexadecimal_lines_have_16_bytes_and_no_control_characters() {
        let mut lines = String::new();
        Head::new(b"0123456789abcdef\x1b[2J", 20, 100).dump(">", &mut lines);
        assert_eq!(
            lines,
            "  > 0000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef\n\
             \x20 > 0010  1b 5b 32 4a                                      .[2J\n"
        );
    }

    #[test]
    fn what_was_cut_says_so() {
        assert_eq!(Head::new(b"012345", 6, 4).text(), "0123…");
        assert_eq!(Head::new(b"\x1b[2J\n", 5, 100).text(), "\\u{1b}[2J\\n");
        // Not in the middle of a character.
        let head = Head::new("h\u{e9}llo".as_bytes(), 6, 2);
        assert_eq!(head.text(), "h…");
        assert_eq!(head.encoded(Form::Text), [Some("h".to_owned()), None, None]);
        assert_eq!(head.encoded(Form::Hex), [None, None, Some("68c3".to_owned())]);
        assert_eq!(Head::new(b"\xff", 1, 2).encoded(Form::Text), [None, Some("/w==".to_owned()), None]);
    }
}
