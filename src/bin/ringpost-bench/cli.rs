//! The command line of `ringpost-bench`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ringpost::WaitStrategy;
use ringpost::cli::floor_socket::Mode;
use ringpost::cli::generate::Generate;

use crate::callers::CallerOptions;
use crate::forward::EchoOptions;
use crate::idle::IdleClientsOptions;
use crate::measurement::Options;
use crate::report::ReportOptions;
use crate::{clients, copy, forward, gaps, latency, register, throughput, wakeup};

/// Measures the bus on this computer, beside this computer's own floor in the same run.
///
/// Each measurement starts a `ringpost-server` of its own, on a private socket unless --socket names one, and
/// times blocks of its own work and of a floor in turn: what the same work costs between two processes with
/// nothing around it. The ratio is the median of the pairs' ratios, for the host of a virtual machine changes
/// the times of both from second to second. benches/NOTES.md tells the method and every field of the JSON.
#[derive(Debug, Parser)]
#[command(name = "ringpost-bench", version, max_term_width = 110)]
pub struct Cli {
    /// Where the measured server is to listen [default: in a private directory]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// End when the parent process does
    #[arg(long, global = true, hide = true)]
    pub with_parent: bool,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The round trip of one call at a time: client process, server process, response
    ///
    /// The floor is the round trip of two bare words between two processes on the same CPUs. It and the calls
    /// are timed in turn, as blocks of 1,000 round trips (fewer for calls of more than 16 KiB) with no
    /// clock read inside; then each of --count calls is timed for the percentiles. Both ends spin, unless
    /// --wait says otherwise.
    ///
    /// With --rate calls are due at fixed times and timed from then, and so are the floor's round trips.
    Latency(Options<latency::Latency>),
    /// Round trips between ends that sleep, on one CPU and across two
    ///
    /// The floor is a raw futex pair: two processes that store a word, wake the other and sleep. Without
    /// --pin both places are measured.
    Wakeup(Options<wakeup::Wakeup>),
    /// How much goes through a ring one way, and how many calls a second with several on their way
    ///
    /// One way: blocks of several sizes, one at a time and in batches, between two threads and between two
    /// processes. The floor is a raw copy through shared memory, walking a buffer as large as the ring,
    /// of as many cache lines. Calls: through the server, --windows of them on their way at once. The
    /// floor is one round trip of two bare words. Both ends spin, unless --wait says otherwise.
    Throughput(Options<throughput::Throughput>),
    /// A message through the server to another client, and its answer the same way back
    ///
    /// The floors are two round trips of two bare words, and two of a raw futex pair. The ends wait
    /// adaptively and run where the system puts them, unless --wait and --pin say otherwise.
    Forward(Options<forward::Forward>),
    /// Many clients at once: all calling, and all idle but one
    ///
    /// Calling: each a process of its own, in a closed loop; beside it the same processes over Unix stream
    /// sockets to a server that has a thread for each and only echoes. Idle: what they cost the server in
    /// processor time and memory, and the active one in time. The ends wait adaptively, unless --wait
    /// says otherwise.
    Clients(Options<clients::Clients>),
    /// The first request after an idle gap, and its processor time on both sides
    ///
    /// The floor is a raw futex pair after the same gap. The ends wait adaptively, unless --wait says
    /// otherwise.
    Gaps(Options<gaps::Gaps>),
    /// The round trip of a call by its size
    ///
    /// The floor copies as many bytes in and out on both sides, through buffers as large as the rings, and
    /// walks through them as a ring does. Both ends spin, unless --wait says otherwise.
    Copy(Options<copy::Copy>),
    /// How many times a second a name can be registered and given up
    ///
    /// The floor is what the kernel needs for it: connect, a packet each way, a sealed memory file received
    /// and mapped, all closed again. With --pin client and worker are kept on those CPUs.
    Register(Options<register::Register>),
    /// Runs all of the above and writes one HTML page
    ///
    /// The page needs no network. The JSON objects that it is made of are written beside it.
    Report(ReportOptions),

    #[command(hide = true)]
    Generate(Generate),
    /// The other process of the floor's measurement
    #[command(hide = true)]
    FloorPartner {
        #[arg(long)]
        cpu: Option<usize>,
    },
    /// The other process of the sockets' measurements
    #[command(hide = true)]
    SocketPartner { mode: Mode, path: PathBuf, bytes: usize },
    /// The other process of a one-way ring
    #[command(hide = true)]
    RingReader { wait: WaitStrategy, cpu: Option<usize> },
    /// B
    #[command(hide = true)]
    EchoClient(EchoOptions),
    /// One of many that call
    #[command(hide = true)]
    LoopClient(CallerOptions),
    /// Many that do not
    #[command(hide = true)]
    IdleClients(IdleClientsOptions),
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
            ["report", "--peers", "x"],
        ] {
            assert!(Cli::try_parse_from(["ringpost-bench"].iter().chain(&line)).is_err(), "{line:?}");
        }
    }
}
