//! `ringpost`: an interactive client, and commands to send, call, serve, listen and list clients.

#![forbid(unsafe_code)]

mod call;
mod cli;
mod client;
mod demo;
mod demo_client;
mod doctor;
mod end;
mod exec;
mod listen;
mod ls;
mod manual;
mod operator;
mod patience;
mod publish;
mod send;
mod serve;
mod session;
mod shell;
mod status;
mod subscribe;
mod tap;
mod top;
mod watch;

use std::process::ExitCode;

use cli::{Cli, Command};
use ringpost::cli::exit::{self, Outcome};

fn main() -> ExitCode {
    exit::run("ringpost", dispatch)
}

fn dispatch(options: Cli) -> Outcome {
    let socket = options.socket;
    match options.command.unwrap_or_default() {
        Command::Client(options) => client::run(&socket.path()?, &options),
        Command::Send(options) => send::run(&socket.path()?, &options),
        Command::Call(options) => call::run(&socket.path()?, &options),
        Command::Serve(options) => serve::run(&socket.path()?, &options),
        Command::Listen(options) => listen::run(&socket.path()?, &options),
        Command::Publish(options) => publish::run(&socket.path()?, &options),
        Command::Subscribe(options) => subscribe::run(&socket.path()?, &options),
        Command::Watch(options) => watch::run(&socket.path()?, &options),
        Command::Tap(options) => tap::run(&socket.path()?, &options),
        Command::Top(options) => top::run(&socket.path()?, &options),
        Command::Ls(options) => ls::run(&socket.path()?, &options),
        Command::Status(options) => status::run(&socket.path()?, &options),
        Command::Doctor(options) => doctor::run(&socket, &options),
        Command::LogLevel { level: None } => operator::run(&socket.path()?, "log-level"),
        Command::LogLevel { level: Some(level) } => {
            operator::run(&socket.path()?, &format!("log-level {level}"))
        }
        Command::Reload => operator::run(&socket.path()?, "reload"),
        Command::Demo => demo::run(socket.socket.as_deref()),
        Command::DemoClient(options) => demo_client::run(&socket.path()?, &options),
        Command::Become { command } => exec::r#become(&command),
        Command::Complete { kind, words } => shell::run(kind, &words),
        Command::Generate(generate) => generate.run::<Cli>(&manual::MANUAL, &shell::LIVE),
        Command::FloorPartner { cpu } => ringpost::cli::floor::partner(cpu),
    }
}
