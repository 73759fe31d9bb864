//! `ringpost-bench`: what the bus costs on this computer, beside what the computer itself costs.

#![forbid(unsafe_code)]

mod calls;
mod cli;
mod clients;
mod copy;
mod crowd;
mod ends;
mod forward;
mod gap;
mod gaps;
mod lane;
mod latency;
mod machine;
mod page;
mod plot;
mod rate;
mod register;
mod report;
mod rig;
mod sections;
mod team;
mod throughput;
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
        Command::Latency(latency) => latency::run(socket, &latency),
        Command::Wakeup(wakeup) => wakeup::run(socket, &wakeup),
        Command::Throughput(throughput) => throughput::run(socket, &throughput),
        Command::Forward(forward) => forward::run(socket, &forward),
        Command::Clients(clients) => clients::run(socket, &clients),
        Command::Gaps(gaps) => gaps::run(socket, &gaps),
        Command::Copy(copy) => copy::run(socket, &copy),
        Command::Register(register) => register::run(socket, &register),
        Command::Report(report) => report::run(socket, &report),
        Command::Generate(generate) => generate.run::<Cli>(),
        Command::FloorPartner { cpu } => ringpost::cli::floor::partner(cpu),
        Command::SocketPartner { mode, path, bytes } => {
            ringpost::cli::floor_socket::partner(mode, &path, bytes)
        }
        Command::RingReader { wait, cpu } => lane::reader(wait, cpu),
        Command::EchoClient(echo) => forward::echo(&echo),
        Command::LoopClient(member) => team::member(&member),
        Command::Crowd(many) => crowd::crowd(&many),
    }
}
