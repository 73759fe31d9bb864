//! The command line of `ringpost-bench`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ringpost::WaitStrategy;

use crate::common::args::bytes;
use crate::common::cpu::{Pins, can_pin};
use crate::common::exit::Failure;
use crate::common::generate::Generate;

/// Measures the bus on this computer, beside this computer's own floor in the same run.
///
/// It starts a `ringpost-server` of its own, on a private socket unless --socket names one.
#[derive(Debug, Parser)]
#[command(name = "ringpost-bench", version, max_term_width = 110)]
pub struct Cli {
    /// Where the measured server is to listen [default: in a private directory]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The round trip of one call at a time: client process, server process, response
    ///
    /// The floor is the round trip of two bare words between two processes on the same CPUs. It and the calls are timed
    /// in turn, as blocks of 1,000 round trips (fewer for calls of more than 16 KiB) with no clock read inside; then
    /// each of --count calls is timed for the percentiles.
    Latency(LatencyOptions),
    #[command(hide = true)]
    Generate(Generate),
    /// The other process of the floor's measurement
    #[command(hide = true)]
    FloorPartner {
        #[arg(long)]
        cpu: Option<usize>,
    },
}

#[derive(Debug, Args)]
pub struct LatencyOptions {
    /// The size of request and response (64K and 1M are understood)
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    pub size: usize,

    /// How many calls are timed one by one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), default_value = "100000")]
    pub count: u64,

    /// How both ends wait: spin, adaptive or park [default: spin; adaptive where there is one CPU]
    #[arg(long, value_name = "HOW")]
    pub wait: Option<WaitStrategy>,

    /// The CPUs of the two ends [default: the first two that may be used]
    #[arg(long, value_name = "CLIENT,SERVER")]
    pub pin: Option<Pins>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl LatencyOptions {
    /// Where the two ends run.
    pub fn pins(&self) -> Result<Option<Pins>, Failure> {
        let Some(pins) = self.pin else { return Ok(Pins::default_pins()) };
        for cpu in [pins.client, pins.server] {
            can_pin(cpu)
                .map_err(|why| Failure::usage(format!("--pin {},{}: {why}", pins.client, pins.server)))?;
        }
        Ok(Some(pins))
    }

    /// How the two ends wait.
    pub fn wait(&self, pins: Option<Pins>) -> Result<WaitStrategy, Failure> {
        let apart = pins.is_some_and(|pins| pins.client != pins.server);
        match self.wait {
            None => Ok(if apart { WaitStrategy::Spin } else { WaitStrategy::Adaptive }),
            Some(WaitStrategy::Spin) if !apart => Err(Failure::usage(
                "--wait spin needs a CPU for each end, for neither would let the other run: use --wait adaptive or park",
            )),
            Some(wait) => Ok(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn latency(line: &[&str]) -> Result<LatencyOptions, clap::Error> {
        let line = ["ringpost-bench", "latency"].iter().chain(line);
        match Cli::try_parse_from(line)?.command {
            Command::Latency(options) => Ok(options),
            _ => unreachable!("another command"),
        }
    }

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_values_are_refused() {
        for line in [["--size", "-1"], ["--size", "x"], ["--count", "0"], ["--wait", "sleep"], ["--pin", "0"]]
        {
            assert!(latency(&line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn spinning_takes_two_processors() {
        let apart = Some(Pins { client: 0, server: 1 });
        let together = Some(Pins { client: 0, server: 0 });
        let default = latency(&[]).unwrap();
        assert_eq!(default.wait(apart), Ok(WaitStrategy::Spin));
        assert_eq!(default.wait(together), Ok(WaitStrategy::Adaptive));
        assert_eq!(default.wait(None), Ok(WaitStrategy::Adaptive));
        let spin = latency(&["--wait", "spin"]).unwrap();
        assert_eq!(spin.wait(apart), Ok(WaitStrategy::Spin));
        assert!(spin.wait(together).is_err() && spin.wait(None).is_err());
    }
}
