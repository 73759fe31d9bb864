//! The settings in force: those of the command line over those of the configuration file, checked together.

use std::path::{Path, PathBuf};

use ringpost::{Server, ServerBuilder};

use crate::cli::Cli;
use crate::config::Config;
use crate::files::lock_of;
use crate::metrics::Address;
use crate::options::Options;
use crate::supervise;
use ringpost::cli::args::SocketOption;
use ringpost::cli::cpu;
use ringpost::cli::exit::{Failure, Outcome};

/// The settings of a server.
#[derive(Debug, Clone)]
pub struct Settings {
    pub socket: PathBuf,
    pub options: Options,
    /// Nobody has chosen the socket's path.
    is_default_path: bool,
}

impl Settings {
    /// Reads the configuration file, if the command line names one, and checks everything.
    pub fn load(cli: &Cli) -> Result<Settings, Failure> {
        let file = cli.config.as_deref().map(Config::read).transpose().map_err(Failure::usage)?;
        let file = file.unwrap_or_default();
        let socket = SocketOption { socket: cli.socket.socket.clone().or(file.socket) };
        let settings = Settings {
            socket: supervise::place(&socket, cli.passed.as_deref())?,
            options: cli.options.clone().over(file.options),
            is_default_path: cli.passed.is_none() && socket.is_default(),
        };
        settings.check()?;
        Ok(settings)
    }

    /// Checks settings that depend on each other or on this computer.
    fn check(&self) -> Outcome {
        let Options { allow_user, allow_group, pin, log, metrics, .. } = &self.options;
        if self.is_default_path && !(allow_user.is_empty() && allow_group.is_empty()) {
            return Err(Failure::usage(
                "--allow-user, --allow-group and [access] in the configuration need --socket PATH, in a directory that the \
                 allowed users can access: only its owner can access the default one",
            ));
        }
        if log.log_file.is_none() && (log.log_rotate.is_some() || log.log_keep.is_some()) {
            return Err(Failure::usage(
                "--log-rotate and --log-keep need --log-file PATH: stderr is not rotated",
            ));
        }
        if log.log_keep.is_some() && log.log_rotate.is_none() {
            return Err(Failure::usage("--log-keep needs --log-rotate WHEN"));
        }
        // "./bus" is the same path as "bus".
        let place = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if let Some(log) = &log.log_file {
            for (what, path) in [("socket", &self.socket), ("socket's lock file", &lock_of(&self.socket))] {
                if place(log) == place(path) {
                    return Err(Failure::usage(format!(
                        "--log-file {}: this is the path of the {what}; choose another one for the log",
                        log.display()
                    )));
                }
            }
        }
        if let Some(metrics) = metrics.as_ref().and_then(Address::file) {
            let lock = lock_of(&self.socket);
            let log = log.log_file.as_ref().map(|log| ("log", log));
            for (what, path) in
                [("socket", &self.socket), ("socket's lock file", &lock)].into_iter().chain(log)
            {
                if place(metrics) == place(path) {
                    return Err(Failure::usage(format!(
                        "--metrics unix:{}: this is the path of the {what}; choose another one for the metrics",
                        metrics.display()
                    )));
                }
            }
        }
        if let Some(cpu) = *pin {
            cpu::can_pin(cpu).map_err(|why| Failure::usage(format!("--pin {cpu}: {why}")))?;
        }
        Ok(())
    }

    /// The names of the settings in which these differ from `others`, of those that only a new start changes.
    pub fn differences(&self, others: &Settings) -> Vec<&'static str> {
        let socket = (self.socket != others.socket).then_some("socket");
        socket.into_iter().chain(self.options.differences(&others.options)).collect()
    }

    /// A server with these settings.
    pub fn builder(&self) -> ServerBuilder {
        let options = &self.options;
        let mut builder = Server::builder(&self.socket).access(options.access());
        if let Some(clients) = options.max_clients {
            builder = builder.max_clients(clients);
        }
        if let Some(bytes) = options.ring_size {
            builder = builder.ring_size(bytes);
        }
        if let Some(bytes) = options.max_block {
            builder = builder.max_block(bytes);
        }
        if let Some(wait) = options.wait {
            builder = builder.wait(wait);
        }
        if let Some(cpu) = options.pin {
            builder = builder.pin(cpu);
        }
        builder
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn the_paths_of_log_socket_and_metrics_must_differ() {
        let load = |log: &str| {
            Settings::load(&Cli::parse_from(["ringpost-server", "--socket", "bus", "--log-file", log]))
        };
        for log in ["bus", "./bus", "bus.lock", ".//bus.lock"] {
            assert!(load(log).is_err(), "{log}");
        }
        assert!(load("bus.log").is_ok());
        let load = |metrics: &str| {
            let line =
                ["ringpost-server", "--socket", "/x/bus", "--log-file", "/x/log", "--metrics", metrics];
            Settings::load(&Cli::parse_from(line))
        };
        for metrics in ["unix:/x/bus", "unix:/x/./bus.lock", "unix:/x/log"] {
            assert!(load(metrics).is_err(), "{metrics}");
        }
        assert!(load("unix:/x/metrics").is_ok());
    }
}
