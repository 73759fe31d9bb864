//! The command line of `ringpost`.

mod messages;
mod tap;
mod top;
mod topics;

use std::ffi::OsString;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use ringpost::Name;

pub use messages::{CallOptions, ClientOptions, ListenOptions, SendOptions, ServeOptions};
use ringpost::cli::args::{SocketOption, seconds};
use ringpost::cli::generate::Generate;
use ringpost::cli::level::Level;
pub use tap::{Form, TapOptions};
pub use top::TopOptions;
pub use topics::{Policy, PublishOptions, SubscribeOptions, WatchOptions};

use crate::shell::Kind;

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
    /// you can edit lines, complete names, topics and commands with Tab, and type /to NAME, /msg NAME TEXT,
    /// /who, /call NAME TEXT, /server TEXT, /pub TOPIC TEXT, /sub PATTERN, /unsub PATTERN, /help and /quit.
    /// When the server ends, the client waits for the next one and keeps what is typed. Ctrl-C cancels the
    /// line, and without one ends the client, as Ctrl-D does. If stdin or stdout is not a terminal, lines are
    /// read without editing, and the exit status is 1 if a line failed.
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
    /// Show calls and messages as they go through the server, or what goes over topics and links
    ///
    /// A line has the form `TIME KIND FROM > TO OUTCOME DURATION BYTES: PAYLOAD`; a call has the bytes of its
    /// response behind those of the request. Without --topic and --link only the server's own user and root
    /// may do that. Nobody waits for it: if there is more than it can show, it says on stderr how many it
    /// has missed.
    Tap(TapOptions),
    /// Show what clients, links and topics do, live, without registering
    ///
    /// How many calls, messages, samples and bytes a second, how full rings are, who waits, what is lost, and
    /// how long things take: half of them (50) and 99 percent (99) took so long at most. Type ? for the keys.
    /// If stdin or stdout is not a terminal, or with --once or --json, tables or objects are printed instead,
    /// the first after one interval. When the server ends it waits for the next one. While the server's own
    /// user or root looks the server measures durations; for others these columns stay empty.
    Top(TopOptions),
    /// List the registered clients, without registering
    Ls(LsOptions),
    /// Tell whether a server is there, how it is, and what its users have of what they may have
    ///
    /// Prints how long it is up, its clients and settings, what it has done since its start, the quotas, and
    /// what each user has of them. The server's own user and root see all users, others only their own. The
    /// exit status is 1 if no server answers.
    Status(StatusOptions),
    /// Look for what keeps a bus from working well on this computer
    ///
    /// Looks at the socket, at limits on files, threads and memory, at the CPUs and what a container allows,
    /// at settings of the kernel, and at the calls that it refuses; if a server runs, at what holds for its
    /// process. Says of each whether it is well, what it means if not, and what mends it. Changes nothing.
    /// The exit status is 0 if all is well, 1 if there are warnings, and 2 if there are problems.
    Doctor(DoctorOptions),
    /// Print how much the server logs, or change it while it runs
    ///
    /// Only the server's own user and root may do that. The level holds until the next change or the server's
    /// end.
    LogLevel {
        /// The least urgent events to log
        #[arg(value_enum)]
        level: Option<Level>,
    },
    /// Have the server open its log file anew, and load who may do what from its configuration
    ///
    /// The same as SIGHUP, but it says what is in force now, or what is wrong with the configuration; then
    /// all is as before. Only the server's own user and root may do that.
    Reload,
    /// Run a server and two clients as processes, exchange messages and a topic, and measure calls
    ///
    /// The server is one of its own, which ends with the demo. It listens in a private directory, unless
    /// --socket says otherwise.
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
    /// What shell completions offer for an argument, one a line
    #[command(hide = true)]
    Complete {
        kind: Kind,
        #[arg(last = true)]
        words: Vec<OsString>,
    },
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
        Command::Client(ClientOptions::default())
    }
}

/// What to do if no server listens yet.
#[derive(Debug, Default, Args)]
pub struct WaitOption {
    /// If no server listens there yet, wait until one does; =SECONDS limits that
    #[arg(long, value_name = "SECONDS", value_parser = seconds, num_args = 0..=1, require_equals = true)]
    pub wait_for_server: Option<Option<Duration>>,
}

impl WaitOption {
    /// Until when to wait: as the option says, and no longer than the command's `deadline`.
    pub fn limit(&self, deadline: Option<Instant>) -> Option<Instant> {
        let own = self.wait_for_server.flatten().map(|time| Instant::now() + time);
        own.into_iter().chain(deadline).min()
    }
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

    /// Show the clients' keys in place of what they have done; --json has both
    #[arg(long)]
    pub keys: bool,

    #[command(flatten)]
    pub wait: WaitOption,
}

#[derive(Debug, Args)]
pub struct StatusOptions {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// Look twice, so long apart, and print also what is done in each second
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub over: Option<Duration>,

    #[command(flatten)]
    pub wait: WaitOption,
}

#[derive(Debug, Args)]
pub struct DoctorOptions {
    /// Print one JSON object: {"verdict":"…","findings":[{"check":"…","verdict":"…","found":"…"},…]}, with
    /// "means" and "mend" where something is not well
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DemoClientOptions {
    pub name: Name,

    #[arg(long)]
    pub cpu: Option<usize>,
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
        let Command::Client(options) = options.command.unwrap_or_default() else { panic!() };
        assert!(options.name().is_none());
    }

    #[test]
    fn the_client_takes_its_name_in_two_ways() {
        for (line, name) in [
            (&["ringpost", "client", "alice"][..], Some("alice")),
            (&["ringpost", "client", "--as", "alice"], Some("alice")),
            (&["ringpost", "client"], None),
        ] {
            let Some(Command::Client(options)) = Cli::try_parse_from(line).unwrap().command else { panic!() };
            assert_eq!(options.name().as_ref().map(Name::as_str), name);
        }
        assert!(Cli::try_parse_from(["ringpost", "client", "alice", "--as", "bob"]).is_err());
    }

    #[test]
    fn waiting_for_a_server_takes_a_time_only_behind_an_equals_sign() {
        let option = |line: &[&str]| {
            let Some(Command::Ls(options)) = Cli::try_parse_from(line).unwrap().command else { panic!() };
            options.wait.wait_for_server
        };
        assert_eq!(option(&["ringpost", "ls"]), None);
        assert_eq!(option(&["ringpost", "ls", "--wait-for-server"]), Some(None));
        let two = Some(Some(Duration::from_secs(2)));
        assert_eq!(option(&["ringpost", "ls", "--wait-for-server=2"]), two);
        assert!(Cli::try_parse_from(["ringpost", "ls", "--wait-for-server", "2"]).is_err());
        assert!(Cli::try_parse_from(["ringpost", "ls", "--wait-for-server=0"]).is_err());
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
            &["ringpost", "tap", "--snap", "0"],
            &["ringpost", "tap", "--snap", "65536"],
            &["ringpost", "tap", "--calls", "--messages"],
            &["ringpost", "tap", "--calls", "--to", "a"],
            &["ringpost", "tap", "--topic", "t", "--link", "a"],
            &["ringpost", "tap", "--topic", "t", "--calls"],
            &["ringpost", "tap", "--payload", "octal"],
            &["ringpost", "nonsense"],
        ] {
            assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}
