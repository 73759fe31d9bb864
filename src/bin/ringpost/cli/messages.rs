//! The options of the commands that send, call, serve and listen.

use std::ffi::OsString;
use std::time::Duration;

use clap::{ArgGroup, Args};
use ringpost::{Address, Name};

use super::WaitOption;
use ringpost::cli::args::seconds;

#[derive(Debug, Default, Args)]
pub struct ClientOptions {
    /// The name to register under; if missing, you are asked for it
    #[arg(conflicts_with = "as_name")]
    name: Option<Name>,

    /// The name to register under, in the form of the other commands
    #[arg(long = "as", id = "as_name", value_name = "NAME")]
    as_name: Option<Name>,

    #[command(flatten)]
    pub wait: WaitOption,
}

impl ClientOptions {
    /// The name to register under, if it is given.
    pub fn name(&self) -> Option<Name> {
        self.name.or(self.as_name)
    }
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

    #[command(flatten)]
    pub wait: WaitOption,
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

    #[command(flatten)]
    pub wait: WaitOption,
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

    /// Let an operator see the calls: `ringpost tap --link NAME`
    ///
    /// Only your own user, that of the server and root may do that
    #[arg(long)]
    pub tappable: bool,

    /// When the server ends, wait for a new one and register again
    ///
    /// Open links go on meanwhile. Retries for a minute, after delays of 20 ms to 2 s. Fails if the name is
    /// taken by then or the server is full
    #[arg(long)]
    pub reconnect: bool,

    #[command(flatten)]
    pub wait: WaitOption,
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

    #[command(flatten)]
    pub wait: WaitOption,
}
