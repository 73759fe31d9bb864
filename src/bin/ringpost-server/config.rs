//! The configuration file: TOML with the settings of the command line.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ringpost::{Act, Rule};

use crate::log::{Format, LogOptions, rotate};
use crate::options::{Options, max_clients};
use crate::quotas::{NAMES, Quota, quota};
use crate::table::{Table, Wrong};
use ringpost::cli::accounts::{group, user};
use ringpost::cli::args::bytes;
use ringpost::cli::level::Level;

/// The longest configuration, in bytes.
const LONGEST: u64 = 1 << 20;

/// What a configuration file contains.
#[derive(Debug, Default, PartialEq)]
pub struct Config {
    pub socket: Option<PathBuf>,
    pub options: Options,
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Config, String> {
        let cannot =
            |why: &dyn std::fmt::Display| format!("cannot read the configuration {}: {why}", path.display());
        let mut text = String::new();
        let file = File::open(path).map_err(|error| cannot(&error))?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(cannot(&"not a regular file"));
        }
        file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| cannot(&error))?;
        if text.len() as u64 > LONGEST {
            return Err(cannot(&"it is longer than a megabyte"));
        }
        Config::parse(&text).map_err(|wrong| format!("the configuration {}: {wrong}", path.display()))
    }

    fn parse(text: &str) -> Result<Config, Wrong> {
        let mut file = Table::of(text)?;
        let socket = file.value("socket", path)?;
        let mut options = Options {
            max_clients: file.value("max-clients", max_clients)?,
            ring_size: file.value("ring-size", bytes)?,
            max_block: file.value("max-block", bytes)?,
            wait: file.value("wait", |text| text.parse())?,
            pin: file.value("pin", cpu)?,
            sandbox: file.flag("sandbox")?.unwrap_or_default(),
            metrics: file.value("metrics", |text| text.parse())?,
            log: log(file.table("log")?)?,
            ..Options::default()
        };
        access(file.table("access")?, &mut options)?;
        file.end()?;
        Ok(Config { socket, options })
    }
}

fn log(mut table: Table<'_>) -> Result<LogOptions, Wrong> {
    let log = LogOptions {
        log_format: table.value("format", |text| Format::from_str(text, false))?,
        log_file: table.value("file", path)?,
        log_rotate: table.value("rotate", rotate)?,
        log_keep: table.value("keep", keep)?,
        log_level: table.value("level", Level::named)?,
        verbose: false,
    };
    table.end()?;
    Ok(log)
}

/// Who may use the server, and for what.
fn access(mut table: Table<'_>, options: &mut Options) -> Result<(), Wrong> {
    options.allow_user = table.list("users", user)?;
    options.allow_group = table.list("groups", group)?;
    let mut quotas = table.table("quotas")?;
    for name in NAMES {
        let parse = |value: &str| quota(&format!("{name}={value}"));
        let set: Option<Quota> = quotas.value(name, parse)?;
        options.quota.extend(set);
    }
    quotas.end()?;
    for mut table in table.tables("rules")? {
        let mut rule = Rule::default();
        rule.acts = table.list("acts", act)?;
        rule.what = table.list("what", |text| Ok(text.to_owned()))?;
        rule.users = table.list("users", user)?;
        rule.groups = table.list("groups", group)?;
        rule.names = table.list("names", |text| Ok(text.to_owned()))?;
        table.end()?;
        options.rules.push(rule);
    }
    table.end()
}

fn act(text: &str) -> Result<Act, String> {
    Ok(match text {
        "register" => Act::Register,
        "serve" => Act::Serve,
        "call" => Act::Call,
        "send" => Act::Send,
        "publish" => Act::Publish,
        "subscribe" => Act::Subscribe,
        "relay" => Act::Relay,
        _ => return Err("use register, serve, call, send, publish, subscribe or relay".to_owned()),
    })
}

/// A path, which must be absolute: a configuration does not know where the server was started.
fn path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("{text:?} is not an absolute path: begin it with /"))
    }
}

fn cpu(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "give the number of a CPU".to_owned())
}

fn keep(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=999).contains(number));
    number.ok_or_else(|| "give a number from 1 to 999".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Rotate;
    use ringpost::WaitStrategy;

    #[test]
    fn everything_that_the_command_line_has_can_be_set() {
        let text = r#"
            socket = "/run/bus"
            max-clients = 10
            ring-size = "64K"
            max-block = 4096
            wait = "park"
            pin = 0
            sandbox = true
            metrics = "127.0.0.1:9464"
            [log]
            format = "json"
            file = "/var/log/bus"
            rotate = "daily"
            keep = 3
            level = "warn"
            [access]
            users = ["root", 1000]
            groups = [0]
            [access.quotas]
            clients = 5
            ring-bytes = "1M"
            [[access.rules]]
            acts = ["register", "serve", "call", "send"]
            what = "feed *"
            users = "root"
            groups = [1]
            [[access.rules]]
            acts = ["publish", "subscribe"]
            what = ["prices/**", "news"]
            names = ["feed *"]
        "#;
        let config = Config::parse(text).unwrap();
        assert_eq!(config.socket, Some("/run/bus".into()));
        let (mut feed, mut topics) = (Rule::default(), Rule::default());
        feed.acts = vec![Act::Register, Act::Serve, Act::Call, Act::Send];
        (feed.what, feed.users, feed.groups) = (vec!["feed *".into()], vec![0], vec![1]);
        topics.acts = vec![Act::Publish, Act::Subscribe];
        (topics.what, topics.names) = (vec!["prices/**".into(), "news".into()], vec!["feed *".into()]);
        let options = Options {
            max_clients: Some(10),
            ring_size: Some(65_536),
            max_block: Some(4096),
            wait: Some(WaitStrategy::Park),
            pin: Some(0),
            sandbox: true,
            metrics: Some("127.0.0.1:9464".parse().unwrap()),
            allow_user: vec![0, 1000],
            allow_group: vec![0],
            quota: vec![Quota::Clients(5), Quota::RingBytes(1 << 20)],
            rules: vec![feed, topics],
            log: LogOptions {
                log_format: Some(Format::Json),
                log_file: Some("/var/log/bus".into()),
                log_rotate: Some(Rotate::Daily),
                log_keep: Some(3),
                log_level: Some(Level::Warn),
                verbose: false,
            },
        };
        assert_eq!(config.options, options);
        assert_eq!(Config::parse(""), Ok(Config::default()));
    }

    #[test]
    fn what_the_command_line_refuses_is_refused_with_its_line() {
        for (text, part) in [
            ("max-clients = 0", "max-clients: give a number from 1 to 65536"),
            ("wait = \"sleep\"", "wait: "),
            ("ring-size = -1", "ring-size: give a number of bytes"),
            ("metrics = \"0.0.0.0:9464\"", "metrics: 0.0.0.0 can be reached from other computers"),
            ("socket = \"bus\"", "\"bus\" is not an absolute path"),
            ("[log]\nlevel = \"loud\"", "line 2: log.level: there is no level \"loud\""),
            ("[log]\nkeep = 0", "log.keep: give a number from 1 to 999"),
            ("[log]\nrotate = 5", "log.rotate: give `daily`"),
            (
                "[access]\nusers = [\"nobody of this name\"]",
                "access.users: \"nobody of this name\": no such user",
            ),
            ("[access.quotas]\nclient = 5", "access.quotas.client is not known: did you mean clients?"),
            (
                "[[access.rules]]\nacts = [\"publsh\"]",
                "line 2: access.rules.acts: \"publsh\": use register, ",
            ),
            (
                "[[access.rules]]\nact = \"publish\"",
                "line 2: access.rules.act is not known: did you mean acts?",
            ),
            ("[access.quotas]\nclients = \"x\"", "access.quotas.clients: \"x\" is not a number"),
        ] {
            let why = Config::parse(text).unwrap_err().to_string();
            assert!(why.contains(part), "{text:?}: {why}");
        }
    }
}
