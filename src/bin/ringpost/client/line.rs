//! Parses a typed line: a message or a command.

use ringpost::{Address, Pattern, Topic};

const WANTED: &str = "type KEY|NAME, a space, and the message; put a name with spaces between double quotes";

const CALL: &str =
    "type /call KEY|NAME, a space, and the text of the request; put a name with spaces between double quotes";

const MESSAGE: &str =
    "type /msg KEY|NAME, a space, and the message; put a name with spaces between double quotes";

const CHOOSE: &str = "type /to and a KEY|NAME, or /to alone to choose nobody";

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
    /// A message, whoever was chosen.
    Message(Address, &'a [u8]),
    /// The receiver of further lines, or nobody.
    Choose(Option<Address>),
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
pub const COMMANDS: [&str; 10] =
    ["/who", "/to ", "/msg ", "/call ", "/server ", "/pub ", "/sub ", "/unsub ", "/help", "/quit"];

pub const HELP: &str = "\
NAME message      send a message to the client with this name
KEY message       the same by its key, or by as much of the key as is unique
\"NAME\" message    for a name with spaces, or one that begins with a slash
/to NAME          send whole lines to this client from now on; /to ends that
/msg NAME message send a message to another client meanwhile
/who              list the clients
/call NAME TEXT   call the client with this name or key, and show its response
/server TEXT      call the server's service, and show its response
/pub TOPIC TEXT   publish the text as a sample of this topic, like prices/AAPL
/sub PATTERN      show the samples of all topics that match, like prices/*
/unsub PATTERN    show them no more
/help             show this list
/quit             unregister and end, like Ctrl-D
Tab completes names, topics and commands. The arrow keys recall earlier lines,
and Ctrl-R searches them. Ctrl-C cancels the line, and without one it ends the
client. A line that begins with ! says what was refused, and why.
";

/// Parses `line`. Without `commands` (in scripts) a word that begins with a slash is a name. If a receiver
/// was `chosen`, the whole line is a message to it.
pub fn parse(line: &[u8], commands: bool, chosen: Option<Address>) -> Result<Line<'_>, String> {
    let Some(start) = line.iter().position(|byte| !byte.is_ascii_whitespace()) else {
        return Ok(Line::Blank);
    };
    let whole = line;
    let line = &line[start..];
    if commands && line[0] == b'/' {
        return command(line).map(Line::Command);
    }
    if let Some(chosen) = chosen {
        return Ok(Line::Message(chosen, whole));
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
    only(line, "pattern")?.parse::<Pattern>().map_err(|error| Some(error.to_string()))
}

/// An address, and nothing behind it.
fn address(line: &[u8]) -> Result<Address, Option<String>> {
    only(line, "name")?.parse::<Address>().map_err(|error| Some(error.to_string()))
}

/// A word, or what stands between double quotes, and nothing behind it.
fn only<'a>(line: &'a [u8], what: &str) -> Result<&'a str, Option<String>> {
    let (word, rest) = word_or_quoted(line.trim_ascii(), what)?;
    if word.is_empty() {
        return Err(None);
    }
    if !rest.is_empty() {
        return Err(Some(format!("put a {what} with spaces between double quotes")));
    }
    Ok(word)
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
        b"/msg" => match addressed(rest.trim_ascii_start()) {
            Ok((to, message)) => Ok(Command::Message(to, message)),
            Err(why) => Err(why.unwrap_or_else(|| MESSAGE.to_string())),
        },
        b"/to" if plain => Ok(Command::Choose(None)),
        b"/to" => match address(rest) {
            Ok(to) => Ok(Command::Choose(Some(to))),
            Err(why) => Err(why.unwrap_or_else(|| CHOOSE.to_string())),
        },
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
            let parse = |line| parse(line, commands, None);
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
        assert_eq!(parse(b"\"my service\" \"hi\"", false, None), message("my service", b"\"hi\""));
        for wrong in [&b"\"my service hi"[..], b"\"\" hi", b"\"my service\"hi", b"\"a b\""] {
            assert!(parse(wrong, true, None).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn blank_lines_are_ignored_and_incomplete_ones_refused() {
        assert_eq!(parse(b"", true, None), Ok(Line::Blank));
        assert_eq!(parse(b" \t ", false, None), Ok(Line::Blank));
        for wrong in [&b"bob"[..], b"\xff hi", b"a\x01b hi"] {
            assert!(parse(wrong, true, None).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn commands_are_parsed_only_if_enabled() {
        assert_eq!(parse(b"/who", true, None), Ok(Line::Command(Command::Who)));
        assert_eq!(parse(b" /help ", true, None), Ok(Line::Command(Command::Help)));
        assert_eq!(parse(b"/quit", true, None), Ok(Line::Command(Command::Quit)));
        assert_eq!(parse(b"/server  a b ", true, None), Ok(Line::Command(Command::Server(b" a b "))));
        let call =
            |name: &str, text| Ok(Line::Command(Command::Call(Address::Name(name.parse().unwrap()), text)));
        assert_eq!(parse(b"/call  bob  a b ", true, None), call("bob", b" a b "));
        assert_eq!(parse(b"/call \"my service\" x", true, None), call("my service", b"x"));
        assert_eq!(parse(b"/call bob ", true, None), call("bob", b""));
        let topic = |text: &str| text.parse::<Topic>().unwrap();
        let publish = |name, text| Ok(Line::Command(Command::Publish(topic(name), text)));
        assert_eq!(parse(b"/pub  prices/a  b ", true, None), publish("prices/a", b" b "));
        assert_eq!(parse(b"/pub \"my house/door\" x", true, None), publish("my house/door", b"x"));
        assert_eq!(parse(b"/pub t ", true, None), publish("t", b""));
        let every = "**".parse::<Pattern>().unwrap();
        assert_eq!(parse(b"/sub  ** ", true, None), Ok(Line::Command(Command::Subscribe(every.clone()))));
        assert_eq!(parse(b"/unsub \"**\"", true, None), Ok(Line::Command(Command::Unsubscribe(every))));
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
            b"/to bob and carol",
            b"/to \"bob",
            b"/msg",
            b"/msg bob",
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
            assert!(parse(wrong, true, None).is_err(), "{wrong:?}");
        }
        assert_eq!(parse(b"/who hi", false, None), message("/who", b"hi"));
        assert_eq!(parse(b"\"/who\" hi", true, None), message("/who", b"hi"));
    }

    #[test]
    fn whole_lines_go_to_the_receiver_that_was_chosen() {
        let bob: Address = "bob".parse().unwrap();
        let chosen = |line| parse(line, true, Some(bob));
        assert_eq!(parse(b"/to  bob ", true, None), Ok(Line::Command(Command::Choose(Some(bob)))));
        assert_eq!(parse(b"/to \"bob\"", true, None), Ok(Line::Command(Command::Choose(Some(bob)))));
        assert_eq!(chosen(b"/to "), Ok(Line::Command(Command::Choose(None))));
        assert_eq!(chosen(b" carol hi "), Ok(Line::Message(bob, b" carol hi ")));
        assert_eq!(chosen(b"\"x"), Ok(Line::Message(bob, b"\"x")));
        assert_eq!(chosen(b"  "), Ok(Line::Blank));
        let carol = Address::Name("carol".parse().unwrap());
        assert_eq!(chosen(b"/msg carol /hi"), Ok(Line::Command(Command::Message(carol, b"/hi"))));
        assert!(chosen(b"/whom hi").is_err());
    }

    #[test]
    fn the_help_fits_a_terminal_of_80_columns() {
        assert!(HELP.lines().all(|line| line.len() < 80));
    }
}
