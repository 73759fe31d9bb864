//! The options of the commands that publish, subscribe and watch.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ringpost::{Name, Pattern, Topic};

use super::WaitOption;
use ringpost::cli::accounts::user;
use ringpost::cli::args::{bytes, seconds};

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

    /// Let only this user subscribe, a name or a number; repeat it for up to 16 users
    ///
    /// For all others the topic is not there. Your own user is one of them only if you name it
    #[arg(long = "user", value_name = "USER", value_parser = user)]
    pub users: Vec<u32>,

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

    #[command(flatten)]
    pub wait: WaitOption,
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

    #[command(flatten)]
    pub wait: WaitOption,
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

    #[command(flatten)]
    pub wait: WaitOption,
}

/// Parses a number of samples a second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        // NaN is in no range.
        Ok(number) if (0.001..=1e9).contains(&number) => Ok(number),
        _ => Err("give a number of samples a second from 0.001 to 1000000000, such as 100 or 0.5".into()),
    }
}
