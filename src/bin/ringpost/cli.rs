//! The command line of `ringpost`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ringpost::{Address, Name, WaitStrategy};

use ringpost::cli::args::{SocketOption, seconds};
use ringpost::cli::generate::Generate;

/// A client for a local message bus over shared memory, and its tools.
///
/// Without a command it is `ringpost client`. Data goes to stdout, everything else to stderr. The exit status
/// is 0, or 1 when it failed, or 2 when the command line is wrong.
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
    /// Register, send the lines that are typed, show the messages that arrive
    ///
    /// A line is `KEY|NAME message`; a name that contains spaces goes between double quotes. On a terminal
    /// there are also /who, /call TEXT, /help and /quit; lines are edited, Tab completes names and
    /// commands, and Ctrl-D or Ctrl-C unregisters and ends. Where stdin or stdout is not a terminal,
    /// lines are read as they come, and one that failed makes the exit status 1.
    Client(ClientOptions),
    /// Send one message to another client
    Send(SendOptions),
    /// Call the server's service once and print its response
    Call(CallOptions),
    /// Register and print the messages that arrive
    Listen(ListenOptions),
    /// List the clients, without being one
    Ls(LsOptions),
    /// See it work: a server and two clients in processes of their own, messages, calls, and their times
    Demo,
    /// One of the demo's two clients, led over its stdin
    #[command(hide = true)]
    DemoClient(DemoClientOptions),
    #[command(hide = true)]
    Generate(Generate),
    /// The other process of the floor's measurement
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
    /// The name to register under; asked for if it is not given
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

    /// The longest that all of it may take, reading stdin and waiting for room in the receiver's inbox
    /// included [default: as long as stdin takes, then 5]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// The message; without it, what stdin holds, byte for byte
    pub message: Option<OsString>,
}

#[derive(Debug, Args)]
pub struct CallOptions {
    /// The name to register under
    #[arg(long = "as", value_name = "NAME")]
    pub name: Name,

    /// The longest that all of it may take, reading stdin included [default: as long as stdin takes, then 5]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// The request; without it, what stdin holds, byte for byte
    pub message: Option<OsString>,
}

#[derive(Debug, Args)]
pub struct ListenOptions {
    /// The name to register under
    #[arg(long = "as", value_name = "NAME")]
    pub name: Name,

    /// End after this many messages; fewer is a failure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after this time
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// When the server goes away, wait for it and register again
    ///
    /// The key is a new one then, and is printed as the first one was. Tried for a minute, after delays of
    /// 20 ms to 2 s; a name that somebody else has taken meanwhile, and a server that is full, are
    /// failures
    #[arg(long)]
    pub reconnect: bool,

    /// Print one JSON object a line: {"registered":{"name","key"}}, then
    /// {"from":{"name","key"},"payload":TEXT}, with "payload_base64" in place of "payload" for what is
    /// not UTF-8
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct LsOptions {
    /// Print one JSON object: {"server":{…},"clients":[…]}
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DemoClientOptions {
    pub name: Name,

    #[arg(long)]
    pub cpu: Option<usize>,

    #[arg(long)]
    pub wait: WaitStrategy,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_socket_goes_before_or_after_the_command() {
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
    fn no_command_is_the_client() {
        let options = Cli::try_parse_from(["ringpost"]).unwrap();
        assert!(matches!(options.command.unwrap_or_default(), Command::Client(ClientOptions { name: None })));
    }

    #[test]
    fn wrong_values_are_refused() {
        for line in [
            &["ringpost", "listen", "--as", "a", "--count", "0"][..],
            &["ringpost", "listen", "--as", " a"],
            &["ringpost", "listen", "--as", ""],
            &["ringpost", "listen"],
            &["ringpost", "call", "--as", "a", "--timeout", "0"],
            &["ringpost", "call", "--as", "a", "--timeout", "-1"],
            &["ringpost", "send", "--as", "a", "x"],
            &["ringpost", "send", "--as", "a", "--to", "", "x"],
            &["ringpost", "--socket", "", "ls"],
            &["ringpost", "nonsense"],
        ] {
            assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}
