//! The options of the command that shows what goes over the bus.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ringpost::{Address, Name, Pattern};

use super::WaitOption;
use ringpost::cli::args::seconds;

#[derive(Debug, Args)]
pub struct TapOptions {
    /// Show only what this client, a key or a name, calls, sends or publishes
    #[arg(long, value_name = "KEY|NAME")]
    pub from: Option<Address>,

    /// Show only messages to this client, a key or a name
    #[arg(long, value_name = "KEY|NAME", conflicts_with_all = ["topic", "link", "calls"])]
    pub to: Option<Address>,

    /// Show only calls to the server's service, no messages
    #[arg(long, conflicts_with_all = ["topic", "link", "messages"])]
    pub calls: bool,

    /// Show only messages, no calls
    #[arg(long, conflicts_with_all = ["topic", "link"])]
    pub messages: bool,

    /// Show the samples of the topics that match a pattern instead, such as 'prices/*'
    #[arg(long, value_name = "PATTERN", conflicts_with = "link")]
    pub topic: Option<Pattern>,

    /// Show the calls and posts that this client serves over links instead
    ///
    /// The client must allow it: `ringpost serve --tappable`, or `listen_tappable` in the library
    #[arg(long, value_name = "NAME")]
    pub link: Option<Name>,

    /// How to show the bytes of requests, responses, messages and samples
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Form::Text)]
    pub payload: Form,

    /// Show at most so many bytes of each, up to 65535 [default: 512]
    #[arg(long, value_name = "BYTES", default_value_t = 512, hide_default_value = true,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub snap: u16,

    /// End after this many; fail if fewer come
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after this time
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// The name to register under [default: "tap" and the number of the process]
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<Name>,

    /// When the server ends, wait for a new one and go on there
    ///
    /// Retries for a minute, after delays of 20 ms to 2 s
    #[arg(long)]
    pub reconnect: bool,

    /// Print one JSON object per line: first {"registered":{"name","key"}}, then objects with "kind" (call,
    /// message, post or sample), "time", "from":{"name","key","pid","uid"}, "missed", "bytes" and "payload"
    ///
    /// As it applies they also have "to":{"name","key"}, "outcome", "nanoseconds", "response_bytes",
    /// "response", "topic" and "sequence". Bytes that are not UTF-8 are printed as "payload_base64" and
    /// "response_base64" instead
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub wait: WaitOption,
}

/// How bytes are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// As text on the same line, in which what is no text is escaped
    Text,
    /// Behind it, 16 bytes a line, in hexadecimal digits and as text; with --json as "payload_hex" and
    /// "response_hex"
    Hex,
    /// Not at all
    None,
}
