//! What can be set on the command line and in the configuration file.

use ringpost::{Access, Rule, WaitStrategy};

use crate::log::LogOptions;
use crate::metrics::Address;
use crate::quotas::{Quota, quota};
use ringpost::cli::accounts::{group, user};
use ringpost::cli::args::bytes;

/// The settings of a server. What is not set has its default.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct Options {
    /// The largest number of clients: 1 to 65536 [default: 1024]
    #[arg(long, value_name = "N", value_parser = max_clients)]
    pub max_clients: Option<u32>,

    /// The size of each of the three rings of a client: a power of two from 4K to 1G [default: 256K]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub ring_size: Option<usize>,

    /// The largest request, response or message, including a header of 8 bytes: 256 to half the ring size
    /// minus 8 [default: the largest]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_block: Option<usize>,

    /// How a worker waits for its client: spin (fastest, but keeps a CPU busy for each client; not allowed
    /// under a real-time policy), adaptive, or park [default: adaptive]
    #[arg(long, value_name = "HOW")]
    pub wait: Option<WaitStrategy>,

    /// Pin the workers to this CPU
    #[arg(long, value_name = "CPU")]
    pub pin: Option<usize>,

    /// Allow this user (name or number) to connect; may be repeated
    #[arg(long, value_name = "USER", value_parser = user)]
    pub allow_user: Vec<u32>,

    /// Allow the members of this group (name or number) to connect; may be repeated
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub allow_group: Vec<u32>,

    /// A limit for each user except the server's own and root: asking=N (unregistered connections),
    /// clients=N, ring-bytes=BYTES, spinning=N (workers), registrations=N (per second), links=N,
    /// topics=N or subscriptions=N; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = quota)]
    pub quota: Vec<Quota>,

    /// Limit this process, when it has started, to the files and system calls that a server needs (Landlock
    /// and seccomp)
    #[arg(long)]
    pub sandbox: bool,

    /// Serve metrics over HTTP, for Prometheus: at ADDRESS:PORT of this computer, such as 127.0.0.1:9464, or
    /// at the socket unix:PATH. Whoever reaches it is told; public:ADDRESS:PORT lets other computers do so
    #[arg(long, value_name = "WHERE")]
    pub metrics: Option<Address>,

    /// What is open to some clients only. Only the configuration can say that.
    #[arg(skip)]
    pub rules: Vec<Rule>,

    #[command(flatten)]
    pub log: LogOptions,
}

/// Parses a number of clients.
pub fn max_clients(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=65_536).contains(number));
    number.ok_or_else(|| "give a number from 1 to 65536".to_owned())
}

impl Options {
    /// These, and from `file` what they do not set. Users, groups and quotas are those of both; of a quota
    /// that both set, these have the value.
    pub fn over(self, file: Options) -> Options {
        fn both<T>(mut first: Vec<T>, then: Vec<T>) -> Vec<T> {
            first.extend(then);
            first
        }
        let log = LogOptions {
            log_format: self.log.log_format.or(file.log.log_format),
            log_file: self.log.log_file.clone().or(file.log.log_file.clone()),
            log_rotate: self.log.log_rotate.or(file.log.log_rotate),
            log_keep: self.log.log_keep.or(file.log.log_keep),
            log_level: self.log.level().or(file.log.level()),
            verbose: false,
        };
        Options {
            max_clients: self.max_clients.or(file.max_clients),
            ring_size: self.ring_size.or(file.ring_size),
            max_block: self.max_block.or(file.max_block),
            wait: self.wait.or(file.wait),
            pin: self.pin.or(file.pin),
            allow_user: both(file.allow_user, self.allow_user),
            allow_group: both(file.allow_group, self.allow_group),
            // The last one of a name counts.
            quota: both(file.quota, self.quota),
            sandbox: self.sandbox || file.sandbox,
            metrics: self.metrics.or(file.metrics),
            rules: both(file.rules, self.rules),
            log,
        }
    }

    /// Who may use the server, and for what.
    pub fn access(&self) -> Access {
        let mut access = Access::default();
        access.users.clone_from(&self.allow_user);
        access.groups.clone_from(&self.allow_group);
        access.rules.clone_from(&self.rules);
        for quota in &self.quota {
            quota.set(&mut access.quotas);
        }
        access
    }

    /// The names of the settings in which these differ from `others`, of those that only a new start changes.
    pub fn differences(&self, others: &Options) -> Vec<&'static str> {
        let (log, other_log) = (&self.log, &others.log);
        [
            ("max-clients", self.max_clients != others.max_clients),
            ("ring-size", self.ring_size != others.ring_size),
            ("max-block", self.max_block != others.max_block),
            ("wait", self.wait != others.wait),
            ("pin", self.pin != others.pin),
            ("sandbox", self.sandbox != others.sandbox),
            ("metrics", self.metrics != others.metrics),
            ("log.format", log.log_format != other_log.log_format),
            ("log.file", log.log_file != other_log.log_file),
            ("log.rotate", log.log_rotate != other_log.log_rotate),
            ("log.keep", log.log_keep != other_log.log_keep),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringpost::cli::level::Level;

    #[test]
    fn the_command_line_wins_over_the_file_and_lists_are_joined() {
        let line = Options {
            max_clients: Some(5),
            allow_user: vec![1],
            quota: vec![Quota::Clients(7)],
            log: LogOptions { verbose: true, ..LogOptions::default() },
            ..Options::default()
        };
        let file = Options {
            max_clients: Some(6),
            ring_size: Some(8192),
            allow_user: vec![2],
            quota: vec![Quota::Clients(8), Quota::Links(9)],
            log: LogOptions { log_level: Some(Level::Error), log_keep: Some(3), ..LogOptions::default() },
            ..Options::default()
        };
        let both = line.over(file);
        assert_eq!((both.max_clients, both.ring_size), (Some(5), Some(8192)));
        let access = both.access();
        assert_eq!(access.users, [2, 1]);
        assert_eq!((access.quotas.clients, access.quotas.links), (7, 9));
        assert_eq!((both.log.level(), both.log.log_keep), (Some(Level::Debug), Some(3)));
    }

    #[test]
    fn differences_name_what_needs_a_new_start() {
        let options = Options { max_clients: Some(5), ..Options::default() };
        assert!(options.differences(&options).is_empty());
        let mut other = options.clone();
        (other.max_clients, other.log.log_keep) = (None, Some(1));
        // These can be loaded anew.
        (other.allow_user, other.log.log_level) = (vec![1], Some(Level::Debug));
        assert_eq!(options.differences(&other), ["max-clients", "log.keep"]);
    }
}
