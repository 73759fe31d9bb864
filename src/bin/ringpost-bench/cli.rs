//! The command line of `ringpost-bench`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ringpost::WaitStrategy;
use ringpost::cli::floor_socket::Mode;
use ringpost::cli::generate::Generate;

use crate::callers::CallerOptions;
use crate::forward::EchoOptions;
use crate::idle::IdleClientsOptions;
use crate::link::serving::ServingOptions;
use crate::link::{self, IdleLinksOptions};
use crate::measurement::Options;
use crate::ready::{self, ArmedClientsOptions};
use crate::report::ReportOptions;
use crate::tables::TablesOptions;
use crate::topics;
use crate::{clients, copy, forward, gaps, latency, observe, register, throughput, wakeup};

/// Measures the bus on this computer, and compares it with the computer's own floor.
///
/// The floor is the time of the same work between two processes without the bus. Each measurement starts its
/// own `ringpost-server`, and alternates blocks of the measured work with blocks of the floor. The reported
/// ratio is the median of the ratios of such pairs, because in a virtual machine both times change from
/// second to second. benches/NOTES.md describes the method and every field of the JSON.
#[derive(Debug, Parser)]
#[command(name = "ringpost-bench", version, max_term_width = 110)]
pub struct Cli {
    /// The socket of the measured server [default: in a private directory]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// End when the parent process ends
    #[arg(long, global = true, hide = true)]
    pub with_parent: bool,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Latency of calls, one at a time
    ///
    /// Compares call latency with a bare shared-memory round trip between the same CPUs: two processes that
    /// answer each other's word. Blocks of 1,000 round trips (fewer for calls of more than 16 KiB) are timed
    /// as a whole; then each of --count calls is timed for the percentiles. Both ends spin, unless --wait
    /// says otherwise.
    ///
    /// With --rate, calls are due at fixed times and timed from then, and so are the floor's round trips.
    Latency(Options<latency::Latency>),
    /// Latency of calls between ends that sleep, on one CPU and across two
    ///
    /// The floor is a raw futex pair: two processes that store a word, wake the other and sleep. Without
    /// --pin, both placements are measured.
    Wakeup(Options<wakeup::Wakeup>),
    /// Throughput of a ring in one direction, and of pipelined calls
    ///
    /// One way: blocks of several sizes, one at a time and in batches, between two threads and between two
    /// processes. The floor is a raw copy of as many cache lines through a shared buffer as large as the
    /// ring. Pipelined: calls to the server, with --windows of them outstanding. The floor is a bare
    /// shared-memory round trip. Both ends spin, unless --wait says otherwise.
    Throughput(Options<throughput::Throughput>),
    /// Latency of a message through the server to another client and an answer back
    ///
    /// The floors are two bare shared-memory round trips, and two round trips of a raw futex pair. The ends
    /// wait adaptively and run on any CPU, unless --wait and --pin say otherwise.
    Forward(Options<forward::Forward>),
    /// Many clients at once: all calling, or all idle except one
    ///
    /// Calling: each client is a process that makes one call after the other. For comparison, the same
    /// processes call an echo server over Unix stream sockets, with a thread for each. Idle: the CPU time and
    /// memory that idle clients cost the server, and how they slow down an active client. The ends wait
    /// adaptively, unless --wait says otherwise.
    Clients(Options<clients::Clients>),
    /// Latency and CPU time of the first call after an idle gap
    ///
    /// The floor is a raw futex pair after the same gap. The ends wait adaptively, unless --wait says
    /// otherwise.
    Gaps(Options<gaps::Gaps>),
    /// Latency of calls by their size
    ///
    /// The floor copies as many bytes in and out at both ends, through buffers as large as the rings, one
    /// place after the other like a ring. Both ends spin, unless --wait says otherwise.
    Copy(Options<copy::Copy>),
    /// Rate of registering and unregistering
    ///
    /// The floor is the kernel's part of that work: connect, send a packet in each direction, receive and map
    /// a sealed memory file, and close everything. --pin pins client and worker to those CPUs.
    Register(Options<register::Register>),
    /// Calls from client to client over a link
    ///
    /// Single calls with each way of waiting, on one CPU and across two; by size; with several outstanding;
    /// one way; opening and closing; many busy links, and many idle ones. The floors are a bare
    /// shared-memory round trip, a raw futex pair, and raw copies; beside them, in turn, the same call
    /// goes to the server's own service. --wait is the way of waiting in the parts sizes, windows and
    /// posts.
    Link(Options<link::Link>),
    /// Ends that wait in event loops
    ///
    /// Calls of a client that sleeps in epoll to a server that sleeps, and over a link that is served in an
    /// event loop, on one CPU and across two; their floor is two processes that wake each other over pipes
    /// and epoll. tokio clients: one beside a blocking call and beside a Unix stream socket of tokio, and
    /// many beside as many sockets. Many armed clients that nobody uses. What it costs that an end may be
    /// armed. The parts with tokio need a build with the feature of that name.
    Ready(Options<ready::Ready>),
    /// Topics: one publishes, many read
    ///
    /// Publishing to one reader that spins, beside the ring of one reader; there and back over two topics,
    /// beside a bare shared-memory round trip; what many subscriptions cost the publisher; one sample to many
    /// subscribers that sleep, beside as many futex wakes and as many acknowledged sends; large samples in
    /// place; the memory of a subscription, the kernel's included; and what a malicious subscriber does to
    /// others. Beside each lossy figure stands how much was received.
    Topics(Options<topics::Topics>),
    /// What it costs to be observed
    ///
    /// Calls to a server whose figures somebody looks at once a second, to one whose metrics are scraped as
    /// often, to one that was started with -v, and to one that is tapped, beside the same calls to one that
    /// nobody observes, which stand in place of the floor; across two CPUs, and between ends that sleep on
    /// one. Messages by way of the one that logs them. And what a look and a scrape cost the server.
    Observe(Options<observe::Observe>),
    /// Run all measurements and write an HTML page
    ///
    /// The page needs no network. The JSON objects behind it are written to the same directory, all of them
    /// together as report.json.
    Report(ReportOptions),
    /// The short tables of a report as Markdown, also into documents
    ///
    /// They have the same figures as the page, so that documents that quote a report cannot differ from it.
    Tables(TablesOptions),

    Generate(Generate),
    /// The partner process of the floor's measurement
    #[command(hide = true)]
    FloorPartner {
        #[arg(long)]
        cpu: Option<usize>,
    },
    /// The partner process of the socket measurements
    #[command(hide = true)]
    SocketPartner {
        mode: Mode,
        path: PathBuf,
        bytes: usize,
    },
    /// The reading process of a one-way ring
    #[command(hide = true)]
    RingReader {
        wait: WaitStrategy,
        cpu: Option<usize>,
    },
    /// The client that returns messages in `forward`
    #[command(hide = true)]
    EchoClient(EchoOptions),
    /// A calling client of `clients`
    #[command(hide = true)]
    LoopClient(CallerOptions),
    /// The serving client of `link`
    #[command(hide = true)]
    LinkServer(ServingOptions),
    /// The idle links of `link`
    #[command(hide = true)]
    IdleLinks(IdleLinksOptions),
    /// The partner process of the floor of `ready`
    #[command(hide = true)]
    PipePartner {
        bytes: usize,
        #[arg(long)]
        cpu: Option<usize>,
    },
    /// The serving client of `ready`
    #[command(hide = true)]
    ReadyServer(ready::serving::ServingOptions),
    /// The armed clients of `ready`
    #[command(hide = true)]
    ArmedClients(ArmedClientsOptions),
    /// The echo of `ready`, with tokio
    #[cfg(feature = "tokio")]
    #[command(hide = true)]
    TokioEcho(ready::EchoOptions),
    /// The subscribers of `topics`
    #[command(hide = true)]
    TopicPartner(topics::PartnerOptions),
    /// The idle clients of `clients`
    #[command(hide = true)]
    IdleClients(IdleClientsOptions),
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
    fn wrong_values_are_refused() {
        for line in [
            ["latency", "--size", "-1"],
            ["latency", "--size", "x"],
            ["latency", "--count", "0"],
            ["latency", "--wait", "sleep"],
            ["latency", "--pin", "0"],
            ["latency", "--rate", "0"],
            ["wakeup", "--wait", "spin"],
            ["throughput", "--batches", "0"],
            ["throughput", "--between", "friends"],
            ["clients", "--clients", "0"],
            ["clients", "--seconds", "-1"],
            ["gaps", "--gaps", "1"],
            ["copy", "--sizes", "1X"],
            ["register", "--blocks", "0"],
            ["link", "--parts", "all"],
            ["link", "--idle", "5000"],
            ["ready", "--size", "5000"],
            ["ready", "--parts", "all"],
            ["topics", "--parts", "all"],
            ["topics", "--frame", "1G"],
            ["report", "--peers", "x"],
            ["observe", "--clients", "0"],
            ["tables", "--check", "x"],
        ] {
            assert!(Cli::try_parse_from(["ringpost-bench"].iter().chain(&line)).is_err(), "{line:?}");
        }
    }
}
