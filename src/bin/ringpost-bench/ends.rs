//! What the measurements have in common: where the two ends run, how they wait, and what is said about both.

use clap::Args;
use ringpost::WaitStrategy;
use serde::Serialize;

use ringpost::cli::cpu::{self, Pins, can_pin};
use ringpost::cli::exit::{Failure, note};

/// Options of every measurement.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The CPUs of the two ends [default: the first two that may be used, unless they are said to run anywhere]
    #[arg(long, value_name = "CLIENT,SERVER")]
    pub pin: Option<Pins>,

    /// How many pairs of a floor block and a measured block [default: enough for some seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub blocks: Option<u32>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The option of those measurements that do not decide it themselves.
#[derive(Debug, Clone, Args)]
pub struct Waiting {
    /// How both ends wait: spin, adaptive or park [default: see above; never spin where the two share a CPU]
    #[arg(long, value_name = "HOW")]
    pub wait: Option<WaitStrategy>,
}

impl Common {
    /// Where the two ends run.
    pub fn pins(&self) -> Result<Option<Pins>, Failure> {
        let Some(pins) = self.pin else { return Ok(Pins::default_pins()) };
        for cpu in [pins.client, pins.server] {
            can_pin(cpu)
                .map_err(|why| Failure::usage(format!("--pin {},{}: {why}", pins.client, pins.server)))?;
        }
        Ok(Some(pins))
    }

    pub fn blocks_or(&self, default: u32) -> u32 {
        self.blocks.unwrap_or(default)
    }
}

/// Whether the two ends have a CPU each.
pub fn apart(pins: Option<Pins>) -> bool {
    pins.is_some_and(|pins| pins.client != pins.server)
}

impl Waiting {
    /// How the two ends wait, `default` if nothing was said and it is possible.
    pub fn or(&self, default: WaitStrategy, pins: Option<Pins>) -> Result<WaitStrategy, Failure> {
        match self.wait {
            None if default == WaitStrategy::Spin && !apart(pins) => Ok(WaitStrategy::Adaptive),
            None => Ok(default),
            Some(WaitStrategy::Spin) if !apart(pins) => Err(Failure::usage(
                "--wait spin needs a CPU for each end, for neither would let the other run: use --wait adaptive or park",
            )),
            Some(wait) => Ok(wait),
        }
    }
}

/// Says on standard error what there is to know about the CPUs before the figures are believed.
pub fn warn(pins: Option<Pins>) {
    match pins {
        None => note(
            "ringpost-bench: only one CPU may be used: these are the times of two processes that share it",
        ),
        Some(pins) if pins.client == pins.server => {
            note(format_args!(
                "ringpost-bench: both ends share CPU {}: these are the times of that",
                pins.client
            ));
        }
        Some(pins) if pins.same_core() == Some(true) => note(format_args!(
            "ringpost-bench: CPUs {} and {} are two threads of one core, which flatters; --pin chooses others",
            pins.client, pins.server
        )),
        Some(_) => {}
    }
}

/// Says that something wants more CPUs than there are, and what happens then.
pub fn warn_too_few(what: &str, wanted: usize, then: &str) -> bool {
    let found = cpu::allowed().len();
    let too_few = wanted > found;
    if too_few {
        note(format_args!(
            "ringpost-bench: {what} would run on {wanted} CPUs, of which {found} may be used: {then}"
        ));
    }
    too_few
}

/// This program's command line, by whatever path it was started.
pub fn command_line() -> Vec<String> {
    std::iter::once("ringpost-bench".to_string()).chain(std::env::args().skip(1)).collect()
}

/// What every JSON object begins with.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    pub bench: &'static str,
    pub version: &'static str,
    pub command: Vec<String>,
    pub wait: String,
    /// The CPUs of the two ends; null where they run wherever the system puts them.
    pub pin: Option<Pins>,
    /// Whether the two CPUs are threads of one core.
    pub same_core: Option<bool>,
    /// How many CPUs this process may use, and whether that is too few for what was asked.
    pub cpus: usize,
    pub too_few_cpus: bool,
    pub cpu: Option<String>,
    pub kernel: Option<String>,
    /// Pairs of blocks.
    pub blocks: u32,
}

impl About {
    /// To be made before this thread is kept on one CPU.
    pub fn new(bench: &'static str, wait: WaitStrategy, pins: Option<Pins>, blocks: u32) -> About {
        About {
            bench,
            version: env!("CARGO_PKG_VERSION"),
            command: command_line(),
            wait: wait.to_string(),
            pin: pins,
            same_core: pins.and_then(Pins::same_core),
            cpus: cpu::allowed().len(),
            too_few_cpus: cpu::allowed().len() < 2,
            cpu: cpu::model(),
            kernel: cpu::kernel(),
            blocks,
        }
    }

    /// The lines above a table.
    pub fn heading(&self, what: &str) -> String {
        let place = match self.pin {
            Some(pins) => format!("client on CPU {}, server on CPU {}", pins.client, pins.server),
            None if self.cpus == 1 => "both ends on one CPU".to_string(),
            None => format!("wherever the system puts them, {} CPUs", self.cpus),
        };
        format!(
            "{what}; {place}, wait {}\n{}, Linux {}\n",
            self.wait,
            self.cpu.as_deref().unwrap_or("an unnamed processor"),
            self.kernel.as_deref().unwrap_or("of an unknown release"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_takes_two_processors() {
        let apart = Some(Pins { client: 0, server: 1 });
        let together = Some(Pins { client: 0, server: 0 });
        let default = Waiting { wait: None };
        assert_eq!(default.or(WaitStrategy::Spin, apart), Ok(WaitStrategy::Spin));
        assert_eq!(default.or(WaitStrategy::Spin, together), Ok(WaitStrategy::Adaptive));
        assert_eq!(default.or(WaitStrategy::Spin, None), Ok(WaitStrategy::Adaptive));
        assert_eq!(default.or(WaitStrategy::Park, None), Ok(WaitStrategy::Park));
        let spin = Waiting { wait: Some(WaitStrategy::Spin) };
        assert_eq!(spin.or(WaitStrategy::Adaptive, apart), Ok(WaitStrategy::Spin));
        assert!(spin.or(WaitStrategy::Park, together).is_err() && spin.or(WaitStrategy::Park, None).is_err());
    }
}
