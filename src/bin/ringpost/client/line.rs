//! Parses a typed line: a message or a command.

use ringpost::{Address, Pattern, Topic};

const WANTED: &str = "type KEY|NAME, a space, and the message; put a name with spaces between double quotes";

const CALL: &str =
    "type /call KEY|NAME, a space, and the text of the request; put a name with spaces between double quotes";

const PUBLISH: &str =
    "type /pub TOPIC, a space, and the text of the sample; put a topic with spaces between double quotes";

const SUBSCRIBE: &str = "type /sub and a topic or a pattern, such as prices/* or **";

const UNSUBSCRIBE: &str = "type /unsub and the pattern as in /sub";

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Blank,
    /// A message and its receiver.
    Message(Address, &'a [u8]),
    Command(Command<'a>),
}

/// A command that a person can type.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    Who,
    /// A call to another client.
    Call(Address, &'a [u8]),
    /// A call to the server's service.
    Server(&'a [u8]),
    Publish(Topic, &'a [u8]),
    Subscribe(Pattern),
    Unsubscribe(Pattern),
    Help,
    Quit,
}

/// The commands, as completed by Tab. One that takes a text ends with a space.
pub const COMMANDS: [&str; 8] = ["/who", "/call ", "/server ", "/pub ", "/sub ", "/unsub ", "/help", "/quit"];

pub const HELP: &str = "\
NAME message      send a message to the client with this name
KEY message       send a message to the client with this key (see /who)
\"NAME\" message    for a name with spaces, or one that begins with a slash
/who              list the clients
/call NAME TEXT   call the client with this name or key, and show its response
/server TEXT      call the server's service, and show its response
/pub TOPIC TEXT   publish the text as a sample of this topic, such as prices/AAPL
/sub PATTERN      show the samples of all topics that match, such as prices/* or **
/unsub PATTERN    show them no more
/help             show this list
/quit             unregister and end, like Ctrl-D and Ctrl-C
Tab completes names, topics and commands; the arrow keys recall earlier lines.
";

/// Parses `line`. Without `commands` (in scripts) a word that begins with a slash is a name.
pub fn parse(line: &[u8], commands: bool) -> Result<Line<'_>, String> {
    let Some(start) = line.iter().position(|byte| !byte.is_ascii_whitespace()) else {
        return Ok(Line::Blank);
    };
    let line = &line[start..];
    if commands && line[0] == b'/' {
        return command(line).map(Line::Command);
    }
    let (to, message) = addressed(line).map_err(|why| why.unwrap_or_else(|| WANTED.to_string()))?;
    Ok(Line::Message(to, message))
}

/// Splits a line into an address and a text. Fails without a reason if the text is missing.
fn addressed(line: &[u8]) -> Result<(Address, &[u8]), Option<String>> {
    let (to, rest) = word_or_quoted(line, "name")?;
    let text = text_behind(rest)?;
    Ok((to.parse::<Address>().map_err(|error| Some(error.to_string()))?, text))
}

/// As [`addressed`], for a topic.
fn published(line: &[u8]) -> Result<(Topic, &[u8]), Option<String>> {
    let (topic, rest) = word_or_quoted(line, "topic")?;
    let text = text_behind(rest)?;
    Ok((topic.parse::<Topic>().map_err(|error| Some(error.to_string()))?, text))
}

/// A pattern, and nothing behind it.
fn pattern(line: &[u8]) -> Result<Pattern, Option<String>> {
    let (pattern, rest) = word_or_quoted(line.trim_ascii(), "pattern")?;
    if pattern.is_empty() {
        return Err(None);
    }
    if !rest.is_empty() {
        return Err(Some("put a pattern with spaces between double quotes".to_string()));
    }
    pattern.parse::<Pattern>().map_err(|error| Some(error.to_string()))
}

/// Splits off the first word, or what stands between double quotes. The rest begins with what comes after it.
fn word_or_quoted<'a>(line: &'a [u8], what: &str) -> Result<(&'a str, &'a [u8]), Option<String>> {
    let (word, rest) = match line.strip_prefix(b"\"") {
        Some(quoted) => {
            let end = quoted
                .iter()
                .position(|&byte| byte == b'"')
                .ok_or_else(|| Some(format!("the closing quote of the {what} is missing")))?;
            (&quoted[..end], &quoted[end + 1..])
        }
        None => split_word(line),
    };
    let word = std::str::from_utf8(word).map_err(|_| Some(format!("a {what} must be UTF-8 text")))?;
    Ok((word, rest))
}

/// One space ends the word. Everything after it is the text, including further spaces.
fn text_behind(rest: &[u8]) -> Result<&[u8], Option<String>> {
    match rest.split_first() {
        Some((space, text)) if space.is_ascii_whitespace() => Ok(text),
        _ => Err(None),
    }
}

fn command(line: &[u8]) -> Result<Command<'_>, String> {
    let (word, rest) = split_word(line);
    let plain = rest.trim_ascii().is_empty();
    match word {
        b"/who" if plain => Ok(Command::Who),
        b"/help" if plain => Ok(Command::Help),
        b"/quit" if plain => Ok(Command::Quit),
        b"/call" => match addressed(rest.trim_ascii_start()) {
            Ok((to, request)) => Ok(Command::Call(to, request)),
            Err(why) => Err(why.unwrap_or_else(|| CALL.to_string())),
        },
        b"/pub" => match published(rest.trim_ascii_start()) {
            Ok((topic, sample)) => Ok(Command::Publish(topic, sample)),
            Err(why) => Err(why.unwrap_or_else(|| PUBLISH.to_string())),
        },
        b"/sub" => match pattern(rest) {
            Ok(pattern) => Ok(Command::Subscribe(pattern)),
            Err(why) => Err(why.unwrap_or_else(|| SUBSCRIBE.to_string())),
        },
        b"/unsub" => match pattern(rest) {
            Ok(pattern) => Ok(Command::Unsubscribe(pattern)),
            Err(why) => Err(why.unwrap_or_else(|| UNSUBSCRIBE.to_string())),
        },
        b"/server" if !plain => Ok(Command::Server(&rest[1..])),
        b"/server" => Err("type /server, a space, and the text of the request".into()),
        b"/who" | b"/help" | b"/quit" => Err(format!("{} takes no arguments", String::from_utf8_lossy(word))),
        _ => Err(format!(
            "there is no command {}: /help lists them; put a name that begins with a slash between double quotes",
            String::from_utf8_lossy(word)
        )),
    }
}

/// Splits off the first word. The rest begins with the white space after it.
fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(name: &str, text: &'a [u8]) -> Result<Line<'a>, String> {
        Ok(Line::Message(Address::Name(name.parse().unwrap()), text))
    }

    #[test]
    fn a_line_is_an_address_and_a_message() {
        for commands in [false, true] {
            let parse = |line| parse(line, commands);
            assert_eq!(parse(b"bob hi there "), message("bob", b"hi there "));
            assert_eq!(parse(b"  bob  two spaces"), message("bob", b" two spaces"));
            assert_eq!(parse(b"bob\thi"), message("bob", b"hi"));
            assert_eq!(parse(b"bob "), message("bob", b""));
            assert_eq!(parse(b"bob \xff\x00"), message("bob", b"\xff\x00"));
            assert_eq!(parse("\u{fc}n\u{ef} x".as_bytes()), message("\u{fc}n\u{ef}", b"x"));
            let by_key = parse(b"0040180G7ZZZZZZZZZZZZZZZZZ hi");
            assert!(matches!(by_key, Ok(Line::Message(Address::Key(_), b"hi"))));
        }
    }

    #[test]
    fn a_name_with_spaces_is_quoted() {
        assert_eq!(parse(b"\"my service\" \"hi\"", false), message("my service", b"\"hi\""));
        for wrong in [&b"\"my service hi"[..], b"\"\" hi", b"\"my service\"hi", b"\"a b\""] {
            assert!(parse(wrong, true).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn blank_lines_are_ignored_and_incomplete_ones_refused() {
        assert_eq!(parse(b"", true), Ok(Line::Blank));
        assert_eq!(parse(b" \t ", false), Ok(Line::Blank));
        for wrong in [&b"bob"[..], b"\xff hi", b"a\x01b hi"] {
            assert!(parse(wrong, true).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn commands_are_parsed_only_if_enabled() {
        assert_eq!(parse(b"/who", true), Ok(Line::Command(Command::Who)));
        assert_eq!(parse(b" /help ", true), Ok(Line::Command(Command::Help)));
        assert_eq!(parse(b"/quit", true), Ok(Line::Command(Command::Quit)));
        assert_eq!(parse(b"/server  a b ", true), Ok(Line::Command(Command::Server(b" a b "))));
        let call =
            |name: &str, text| Ok(Line::Command(Command::Call(Address::Name(name.parse().unwrap()), text)));
        assert_eq!(parse(b"/call  bob  a b ", true), call("bob", b" a b "));
        assert_eq!(parse(b"/call \"my service\" x", true), call("my service", b"x"));
        assert_eq!(parse(b"/call bob ", true), call("bob", b""));
        let topic = |text: &str| text.parse::<Topic>().unwrap();
        let publish = |name, text| Ok(Line::Command(Command::Publish(topic(name), text)));
        assert_eq!(parse(b"/pub  prices/a  b ", true), publish("prices/a", b" b "));
        assert_eq!(parse(b"/pub \"my house/door\" x", true), publish("my house/door", b"x"));
        assert_eq!(parse(b"/pub t ", true), publish("t", b""));
        let every = "**".parse::<Pattern>().unwrap();
        assert_eq!(parse(b"/sub  ** ", true), Ok(Line::Command(Command::Subscribe(every.clone()))));
        assert_eq!(parse(b"/unsub \"**\"", true), Ok(Line::Command(Command::Unsubscribe(every))));
        for wrong in [
            &b"/pub"[..],
            b"/pub t",
            b"/pub t/* x",
            b"/pub \"t x",
            b"/pub a//b x",
            b"/sub",
            b"/sub ",
            b"/sub a b",
            b"/sub a//b",
            b"/sub \xff",
            b"/unsub",
            b"/call",
            b"/call ",
            b"/call bob",
            b"/call \"bob x",
            b"/server",
            b"/server ",
            b"/who is it",
            b"/nothing",
            b"/",
            b"/whom hi",
            b"/\xff",
        ] {
            assert!(parse(wrong, true).is_err(), "{wrong:?}");
        }
        assert_eq!(parse(b"/who hi", false), message("/who", b"hi"));
        assert_eq!(parse(b"\"/who\" hi", true), message("/who", b"hi"));
    }
}
