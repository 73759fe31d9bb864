//! D-Bus messages in bytes, little-endian: a fixed part of 16 bytes, the fields (each begins at a multiple of
//! 8), the body (which does, too).

use crate::failure::{Failure, Outcome};

const FIXED: usize = 16;

/// Far above anything that is sent here.
const MOST: usize = 1 << 20;

/// The kinds of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    Call,
    Return,
    Error,
    Signal,
}

impl Message {
    fn code(self) -> u8 {
        match self {
            Message::Call => 1,
            Message::Return => 2,
            Message::Error => 3,
            Message::Signal => 4,
        }
    }
}

/// What stands in a message's header.
#[derive(Debug, Clone, Copy)]
pub enum Field<'a> {
    Path(&'a str),
    Interface(&'a str),
    Member(&'a str),
    ReplyTo(u32),
    Destination(&'a str),
    /// None if it is empty.
    Signature(&'a str),
}

/// A message that came.
#[derive(Debug, PartialEq, Eq)]
pub struct Incoming<'a> {
    pub kind: Message,
    pub serial: u32,
    pub reply_to: Option<u32>,
    pub sender: Option<&'a str>,
    pub error: Option<&'a str>,
    pub body: &'a [u8],
}

/// Writes a message, whose body comes in parts, into `out`.
pub fn write(out: &mut Vec<u8>, kind: Message, serial: u32, fields: &[Field<'_>], body: &[&[u8]]) {
    let body_len: usize = body.iter().map(|part| part.len()).sum();
    out.clear();
    // Little-endian, no flags, version 1 of the protocol.
    out.extend_from_slice(&[b'l', kind.code(), 0, 1]);
    out.extend_from_slice(&(body_len as u32).to_le_bytes());
    out.extend_from_slice(&serial.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for field in fields {
        write_field(out, *field);
    }
    let fields_len = (out.len() - FIXED) as u32;
    out[12..FIXED].copy_from_slice(&fields_len.to_le_bytes());
    align(out, 8);
    for part in body {
        out.extend_from_slice(part);
    }
}

fn align(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn write_field(out: &mut Vec<u8>, field: Field<'_>) {
    let (code, kind, text) = match field {
        Field::Path(text) => (1, b'o', text),
        Field::Interface(text) => (2, b's', text),
        Field::Member(text) => (3, b's', text),
        Field::ReplyTo(_) => (5, b'u', ""),
        Field::Destination(text) => (6, b's', text),
        Field::Signature("") => return,
        Field::Signature(text) => (8, b'g', text),
    };
    align(out, 8);
    out.extend_from_slice(&[code, 1, kind, 0]);
    match field {
        Field::ReplyTo(serial) => return out.extend_from_slice(&serial.to_le_bytes()),
        Field::Signature(_) => out.push(text.len() as u8),
        _ => out.extend_from_slice(&(text.len() as u32).to_le_bytes()),
    }
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cold]
fn malformed() -> Failure {
    Failure::new("dbus-daemon sends what is no message")
}

/// The length of the message that begins here, once its fixed part is there.
pub fn length(bytes: &[u8]) -> Outcome<Option<usize>> {
    if bytes.len() < FIXED {
        return Ok(None);
    }
    let (Some(body), Some(fields), b'l') = (number(bytes, 4), number(bytes, 12), bytes[0]) else {
        return Err(malformed());
    };
    let (body, fields) = (body as usize, fields as usize);
    if body > MOST || fields > MOST {
        return Err(malformed());
    }
    Ok(Some(FIXED + fields.next_multiple_of(8) + body))
}

/// Takes a whole message apart.
pub fn read(bytes: &[u8]) -> Outcome<Incoming<'_>> {
    try_read(bytes).ok_or_else(malformed)
}

fn try_read(bytes: &[u8]) -> Option<Incoming<'_>> {
    let kind = match bytes.get(1)? {
        1 => Message::Call,
        2 => Message::Return,
        3 => Message::Error,
        4 => Message::Signal,
        _ => return None,
    };
    let serial = number(bytes, 8)?;
    let fields_end = FIXED + number(bytes, 12)? as usize;
    let body = bytes.get(fields_end.next_multiple_of(8)..)?;
    let mut incoming = Incoming { kind, serial, reply_to: None, sender: None, error: None, body };
    let mut at = FIXED;
    while at < fields_end {
        at = at.next_multiple_of(8);
        let [code, 1, kind, 0] = *bytes.get(at..at + 4)? else { return None };
        at += 4;
        let text = match kind {
            b'u' => {
                let value = number(bytes, at)?;
                at += 4;
                if code == 5 {
                    incoming.reply_to = Some(value);
                }
                continue;
            }
            b'g' => {
                let len = usize::from(*bytes.get(at)?);
                at += 1;
                bytes.get(at..at + len)?
            }
            b's' | b'o' => {
                let len = number(bytes, at)? as usize;
                at += 4;
                bytes.get(at..at.checked_add(len)?)?
            }
            _ => return None,
        };
        at += text.len() + 1;
        match code {
            4 => incoming.error = std::str::from_utf8(text).ok(),
            7 => incoming.sender = std::str::from_utf8(text).ok(),
            _ => {}
        }
    }
    Some(incoming)
}

/// The bytes in a body that is an array of bytes.
pub fn bytes(body: &[u8]) -> Outcome<&[u8]> {
    let bytes = number(body, 0).and_then(|len| body[4..].get(..len as usize));
    bytes.filter(|bytes| bytes.len() + 4 == body.len()).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Vec<u8> {
        let mut out = vec![7; 3];
        let fields = [
            Field::Path("/"),
            Field::Interface("org.ringpost.Peer"),
            Field::ReplyTo(41),
            Field::Destination(":1.7"),
            Field::Signature("ay"),
        ];
        write(&mut out, Message::Return, 42, &fields, &[&3_u32.to_le_bytes(), b"abc"]);
        out
    }

    #[test]
    fn what_is_written_is_read() {
        let message = call();
        assert_eq!(length(&message), Ok(Some(message.len())));
        assert_eq!(length(&message[..15]), Ok(None));
        let incoming = read(&message).expect("a message");
        assert_eq!((incoming.kind, incoming.serial, incoming.reply_to), (Message::Return, 42, Some(41)));
        assert_eq!(bytes(incoming.body), Ok(&b"abc"[..]));
    }

    #[test]
    fn the_beginning_is_as_the_specification_says() {
        let mut out = Vec::new();
        write(&mut out, Message::Call, 1, &[Field::Path("/a"), Field::Member("Hi")], &[]);
        let expected = b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x1b\0\0\0\
            \x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0\x03\x01s\0\x02\0\0\0Hi\0\0\0\0\0\0";
        assert_eq!(out, expected);
    }

    #[test]
    fn nonsense_is_refused() {
        let message = call();
        for at in 0..message.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut wrong = message.clone();
                wrong[at] = byte;
                // Whatever comes of it, it is no panic.
                let _ = length(&wrong);
                if let Ok(incoming) = read(&wrong) {
                    let _ = bytes(incoming.body);
                }
            }
        }
        for len in 0..message.len() {
            let _ = read(&message[..len]);
        }
        assert!(bytes(b"\x09\0\0\0abc").is_err() && bytes(b"").is_err());
    }
}
