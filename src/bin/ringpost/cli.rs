//! The command line of `ringpost`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use ringpost::{Address, Name, Pattern, Topic};

use ringpost::cli::args::{SocketOption, bytes, seconds};
use ringpost::cli::generate::Generate;

/// Client and tools for a local message bus over shared memory.
///
/// Without a command, runs `ringpost client`. Data goes to stdout, everything else to stderr. The exit status
/// is 0 on success, 1 on failure, and 2 if the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "ringpost", version, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub socket: SocketOption,

    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register, send each typed line as a message, and show arriving messages
    ///
    /// A line has the form `KEY|NAME message`; put a name with spaces between double quotes. On a terminal
    /// you can also type /who, /call NAME TEXT, /server TEXT, /pub TOPIC TEXT, /sub PATTERN, /unsub PATTERN,
    /// /help and /quit, edit lines, and complete names, topics and commands with Tab; Ctrl-D or Ctrl-C
    /// unregisters and ends. If stdin or stdout is not a terminal, lines are read without editing, and the
    /// exit status is 1 if a line failed.
    Client(ClientOptions),
    /// Send a message to another client
    Send(SendOptions),
    /// Call another client, or the server's service, once and print the response
    ///
    /// With --to the call goes over a link, a direct connection to a client that serves (see `ringpost
    /// serve`), else to the server's own service.
    Call(CallOptions),
    /// Register and answer the calls of other clients
    ///
    /// Clients call with `ringpost call --to NAME`, or with `connect` in the library. Each one gets a link,
    /// which is served by a thread of its own. SIGINT and SIGTERM end it; then it says how many calls it
    /// served.
    Serve(ServeOptions),
    /// Register and print arriving messages
    Listen(ListenOptions),
    /// Publish lines of standard input to everyone who subscribes to a topic
    ///
    /// Each line is a sample, without its line end; with --block all of standard input is one sample. Several
    /// clients may publish the same topic. Subscribers that are slow lose samples and are told how many; the
    /// publisher never waits for them, unless it offers --reliable. Ends with standard input, SIGINT or
    /// SIGTERM.
    Publish(PublishOptions),
    /// Print the samples of the topics that match a pattern
    ///
    /// A line has the form `TOPIC PUBLISHER SEQUENCE: PAYLOAD`. Publishers that come later are joined without
    /// losing their first sample. What was missed of a publisher is said on stderr.
    Subscribe(SubscribeOptions),
    /// Print who is registered, and from then on who comes and who goes
    ///
    /// A line has the form `present|appeared|vanished NAME (KEY)`, with the process and the user, or the
    /// reason why the client vanished. The program itself is left out.
    Watch(WatchOptions),
    /// List the registered clients, without registering
    Ls(LsOptions),
    /// Run a server and two clients as processes, exchange messages, and measure calls
    Demo,
    /// A client of the demo, controlled through its stdin
    #[command(hide = true)]
    DemoClient(DemoClientOptions),
    /// The process of a call of `serve --exec`, which becomes the command
    #[command(hide = true)]
    Become {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    #[command(hide = true)]
    Generate(Generate),
    /// The partner process of the floor measurement
    #[command(hide = true)]
    FloorPartner {
        #[arg(long)]
        cpu: Option<usize>,
    },
}

impl Default for Command {
    fn default() -> Command {
        Command::Client(ClientOptions { name: None })
    }
}

#[derive(Debug, Args)]
pub struct ClientOptions {
    /// The name to register under; if missing, you are asked for it
    pub name: Option<Name>,
}

#[derive(Debug, Args)]
pub struct SendOptions {
    /// The name to register under
    #[arg(long = "as", value_name = "NAME")]
    pub name: Name,

    /// The receiver's key or name
    #[arg(long, value_name = "KEY|NAME")]
    pub to: Address,

    /// Give up after this time, including reading stdin and waiting for room in the receiver's inbox
    /// [default: no limit for stdin, then 5]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// The message [default: all bytes of stdin]
    pub message: Option<OsString>,
}

#[derive(Debug, Args)]
pub struct CallOptions {
    /// The name to register under
    #[arg(long = "as", value_name = "NAME")]
    pub name: Name,

    /// The key or name of the client to call [default: the server's own service]
    #[arg(long, value_name = "KEY|NAME")]
    pub to: Option<Address>,

    /// Give up after this time, including reading stdin [default: no limit for stdin, then 5]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// The request [default: all bytes of stdin]
    pub message: Option<OsString>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("how").required(true).args(["echo", "exec"]))]
pub struct ServeOptions {
    /// The name to register under, by which others call
    #[arg(long = "as", value_name = "NAME")]
    pub name: Name,

    /// Answer each call with its request
    #[arg(long)]
    pub echo: bool,

    /// Answer each call with what a command writes: the rest of the command line
    ///
    /// Each call starts the command anew, without a shell. Its standard input is the request, its standard
    /// output the response. If it ends with another status than 0, the caller is told the status and the
    /// first line of its standard error; what else it writes there is dropped. Commands of different
    /// links run at the same time. To limit their time use `timeout`, as in --exec timeout 5 COMMAND
    #[arg(long, value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    pub exec: Option<Vec<OsString>>,

    /// When the server ends, wait for a new one and register again
    ///
    /// Open links go on meanwhile. Retries for a minute, after delays of 20 ms to 2 s. Fails if the name is
    /// taken by then or the server is full
    #[arg(long)]
    pub reconnect: bool,
}

#[derive(Debug, Args)]
pub struct ListenOptions {
    /// The name to register under
    #[arg(long = "as", value_name = "NAME")]
    pub name: Name,

    /// End after this many messages; fail if fewer arrive
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after this time
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// When the server ends, wait for a new one and register again
    ///
    /// Prints the new key like the first one. Retries for a minute, after delays of 20 ms to 2 s. Fails if
    /// the name is taken by then or the server is full
    #[arg(long)]
    pub reconnect: bool,

    /// Print one JSON object per line: {"registered":{"name","key"}}, then
    /// {"from":{"name","key"},"payload":TEXT}; a payload that is not UTF-8 is printed as
    /// "payload_base64" instead
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PublishOptions {
    /// The name to register under
    #[arg(long = "as", value_name = "NAME")]
    pub name: Name,

    /// The topic: levels divided by slashes, such as prices/AAPL
    #[arg(long, value_name = "TOPIC")]
    pub topic: Topic,

    /// Publish all of standard input as one sample
    #[arg(long)]
    pub block: bool,

    /// End after this many samples; with --block, publish it this often [default: all lines; one block]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Publish at most this many samples a second, such as 100 or 0.5 [default: no limit]
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: Option<f64>,

    /// Before the first sample, wait until so many subscriptions have joined [default: 0]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub subscribers: usize,

    /// Offer subscribers to be reliable: wait for one of them that has no room, but this long at most
    ///
    /// Who does not read in this time is evicted, which is said on stderr
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub reliable: Option<Duration>,

    /// The ring of the samples, a power of two; a sample takes a quarter of it at most [default: as the
    /// server's rings]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub ring_size: Option<usize>,

    /// When the server ends, wait for a new one and publish there
    ///
    /// Retries for a minute, after delays of 20 ms to 2 s. Fails if the name is taken by then or the server
    /// is full
    #[arg(long)]
    pub reconnect: bool,
}

#[derive(Debug, Args)]
pub struct SubscribeOptions {
    /// The name to register under
    #[arg(long = "as", value_name = "NAME")]
    pub name: Name,

    /// The topics: a topic in which a level may be * (any one level) or ** (any number of levels, also
    /// none), such as 'prices/*'; put it between quotes in a shell
    pub pattern: Pattern,

    /// End after this many samples; fail if fewer arrive
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after this time
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// What to do if this program is slower than a publisher
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = Policy::Lossy)]
    pub policy: Policy,

    /// Begin with the last N samples that a publisher's ring still holds [default: 0]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub history: u64,

    /// When the server ends, wait for a new one and subscribe there
    ///
    /// Retries for a minute, after delays of 20 ms to 2 s. Fails if the name is taken by then or the server
    /// is full
    #[arg(long)]
    pub reconnect: bool,

    /// Print one JSON object per line: {"registered":{"name","key"}}, then
    /// {"topic","publisher":{"name","key"},"sequence","missed","payload":TEXT}; a payload that is not UTF-8
    /// is printed as "payload_base64" instead
    #[arg(long)]
    pub json: bool,
}

/// What a subscription does if it is slower than a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// Go on at the oldest sample that is still there
    Lossy,
    /// Print only the newest sample whenever there is one
    Latest,
    /// Let the publisher wait, if it offers that
    Reliable,
}

#[derive(Debug, Args)]
pub struct WatchOptions {
    /// The name to register under [default: "watch" and the number of the process]
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<Name>,

    /// End after this many changes, not counting who is there at the start; fail if fewer come
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after this time
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// When the server ends, wait for a new one and go on there
    ///
    /// Retries for a minute, after delays of 20 ms to 2 s
    #[arg(long)]
    pub reconnect: bool,

    /// Print one JSON object per line: {"change":"present|appeared","client":{"name","key","pid","uid"}} or
    /// {"change":"vanished","client":{…},"reason":"unregistered|died|violation|server ended|unseen"}
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct LsOptions {
    /// Print one JSON object: {"server":{…},"clients":[…]}, with --links also "links":[…], with --topics
    /// also "topics":[…]
    #[arg(long)]
    pub json: bool,

    /// List the links between clients, too
    #[arg(long)]
    pub links: bool,

    /// List the topics that are published, too
    #[arg(long)]
    pub topics: bool,
}

#[derive(Debug, Args)]
pub struct DemoClientOptions {
    pub name: Name,

    #[arg(long)]
    pub cpu: Option<usize>,
}

/// Parses a number of samples a second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        // NaN is in no range.
        Ok(number) if (0.001..=1e9).contains(&number) => Ok(number),
        _ => Err("give a number of samples a second from 0.001 to 1000000000, such as 100 or 0.5".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn clap_accepts_the_definitions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_socket_option_may_come_before_or_after_the_command() {
        for line in [
            &["ringpost", "--socket", "s", "ls"][..],
            &["ringpost", "ls", "--socket", "s"],
            &["ringpost", "--socket", "s"],
        ] {
            let options = Cli::try_parse_from(line).unwrap();
            assert_eq!(options.socket.socket.unwrap().to_str(), Some("s"));
        }
    }

    #[test]
    fn without_a_command_the_client_runs() {
        let options = Cli::try_parse_from(["ringpost"]).unwrap();
        assert!(matches!(options.command.unwrap_or_default(), Command::Client(ClientOptions { name: None })));
    }

    #[test]
    fn the_command_takes_the_rest_of_the_line() {
        let line =
            ["ringpost", "serve", "--as", "a", "--exec", "sh", "-c", "x", "--socket", "s", "--", "--echo"];
        let Some(Command::Serve(options)) = Cli::try_parse_from(line).unwrap().command else { panic!() };
        assert_eq!(options.exec.unwrap(), line[5..].iter().map(OsString::from).collect::<Vec<_>>());
    }

    #[test]
    fn wrong_values_are_refused() {
        for line in [
            &["ringpost", "listen", "--as", "a", "--count", "0"][..],
            &["ringpost", "listen", "--as", " a"],
            &["ringpost", "listen", "--as", ""],
            &["ringpost", "listen"],
            &["ringpost", "serve", "--as", "a"],
            &["ringpost", "serve", "--as", "a", "--exec"],
            &["ringpost", "serve", "--as", "a", "--echo", "--exec", "cat"],
            &["ringpost", "call", "--as", "a", "--timeout", "0"],
            &["ringpost", "call", "--as", "a", "--timeout", "-1"],
            &["ringpost", "send", "--as", "a", "x"],
            &["ringpost", "send", "--as", "a", "--to", "", "x"],
            &["ringpost", "--socket", "", "ls"],
            &["ringpost", "publish", "--as", "a"],
            &["ringpost", "publish", "--topic", "t"],
            &["ringpost", "publish", "--as", "a", "--topic", "t", "--rate", "0"],
            &["ringpost", "publish", "--as", "a", "--topic", "t", "--rate", "nan"],
            &["ringpost", "publish", "--as", "a", "--topic", "t", "text"],
            &["ringpost", "publish", "--as", "a", "--topic", "t/*"],
            &["ringpost", "subscribe", "--as", "a", "t//u"],
            &["ringpost", "subscribe", "--as", "a"],
            &["ringpost", "subscribe", "--as", "a", "t", "u"],
            &["ringpost", "subscribe", "--as", "a", "t", "--policy", "fast"],
            &["ringpost", "watch", "--count", "0"],
            &["ringpost", "nonsense"],
        ] {
            assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}
