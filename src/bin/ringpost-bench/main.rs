//! `ringpost-bench`: measures the bus, and compares each figure with the least this computer needs for the
//! work.

#![forbid(unsafe_code)]

mod callers;
mod calls;
mod cli;
mod clients;
mod control;
mod copy;
mod forward;
mod gap;
mod gaps;
mod glance;
mod idle;
mod latency;
mod link;
mod machine;
mod manual;
mod measurement;
mod observe;
mod one_way;
mod page;
mod picture;
mod plot;
mod rate;
mod ready;
mod register;
mod report;
mod results;
mod rows;
mod sections;
mod setup;
mod tables;
mod throughput;
mod topics;
mod wakeup;

use std::process::ExitCode;

use cli::{Cli, Command};
use ringpost::cli::exit::{self, Outcome};

fn main() -> ExitCode {
    exit::run("ringpost-bench", dispatch)
}

fn dispatch(options: Cli) -> Outcome {
    if options.with_parent {
        ringpost::cli::child::die_with_parent();
    }
    let socket = options.socket;
    match options.command {
        Command::Latency(latency) => match latency.measurement.rate {
            Some(rate) => latency.run_as(&rate::Rate(&latency.measurement, rate), socket),
            None => latency.run(socket),
        },
        Command::Wakeup(wakeup) => wakeup.run(socket),
        Command::Throughput(throughput) => throughput.run(socket),
        Command::Forward(forward) => forward.run(socket),
        Command::Clients(clients) => clients.run(socket),
        Command::Gaps(gaps) => gaps.run(socket),
        Command::Copy(copy) => copy.run(socket),
        Command::Register(register) => register.run(socket),
        Command::Link(link) => link.run(socket),
        Command::Ready(ready) => ready.run(socket),
        Command::Topics(topics) => topics.run(socket),
        Command::Observe(observe) => observe.run(socket),
        Command::Report(report) => report::run(socket, &report),
        Command::Tables(tables) => tables::run(&tables),
        Command::Generate(generate) => generate.run::<Cli>(&manual::MANUAL, &[]),
        Command::FloorPartner { cpu } => ringpost::cli::floor::partner(cpu),
        Command::SocketPartner { mode, path, bytes } => {
            ringpost::cli::floor_socket::partner(mode, &path, bytes)
        }
        Command::RingReader { wait, cpu } => one_way::reader(wait, cpu),
        Command::EchoClient(echo) => forward::echo(&echo),
        Command::LoopClient(caller) => callers::caller(&caller),
        Command::LinkServer(serving) => link::serving::serve(&serving),
        Command::IdleLinks(many) => link::idle_links(&many),
        Command::PipePartner { bytes, cpu } => ringpost::cli::floor_epoll::partner(bytes, cpu),
        Command::ReadyServer(serving) => ready::serving::serve(&serving),
        Command::ArmedClients(many) => ready::armed_clients(&many),
        #[cfg(feature = "tokio")]
        Command::TokioEcho(echo) => ready::echo(&echo),
        Command::TopicPartner(options) => topics::partner(&options),
        Command::IdleClients(many) => idle::idle_clients(&many),
    }
}
