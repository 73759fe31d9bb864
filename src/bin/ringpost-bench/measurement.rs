//! The `Measurement` trait, and what all measurements share: options, CPUs, wait strategy and output.

use std::path::PathBuf;

use clap::Args;
use ringpost::WaitStrategy;
use ringpost::cli::cpu::{self, Pins, can_pin};
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::out;
use ringpost::cli::signals::Interrupt;
use serde::Serialize;

use crate::setup::{Plan, Setup};

/// A measurement.
pub trait Measurement {
    /// Its name in the JSON object.
    const NAME: &'static str;
    /// The default number of pairs of blocks.
    const BLOCKS: u32;
    /// How both ends wait by default.
    const WAIT: WaitStrategy;
    /// Whether it has the option --wait: [`Waiting`] or [`NoWaiting`].
    type Waiting: Waits;
    type Figures: Figures;

    /// The CPUs to which the two ends are pinned. `pins` are those of --pin or the first two, `pin` those of
    /// --pin only.
    fn place(&self, pins: Option<Pins>, _pin: Option<Pins>) -> Option<Pins> {
        warn(pins);
        pins
    }

    fn measure(&self, session: &mut Session) -> Result<Self::Figures, Failure>;
}

/// The results of a measurement: the rest of its JSON object, and the text for people.
pub trait Figures: Serialize {
    fn text(&self, about: &About) -> String;
}

/// The options of a measurement: its own and the shared ones.
#[derive(Debug, Args)]
pub struct Options<M: Args + Measurement> {
    #[command(flatten)]
    pub measurement: M,

    #[command(flatten)]
    waiting: M::Waiting,

    #[command(flatten)]
    shared: Shared,
}

/// The options of every measurement.
#[derive(Debug, Args)]
struct Shared {
    /// Pin the two ends to these CPUs [default: the first two that may be used, except where this help says
    /// that they run anywhere]
    #[arg(long, value_name = "CLIENT,SERVER")]
    pin: Option<Pins>,

    /// The number of pairs of a floor block and a measured block [default: enough for some seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    blocks: Option<u32>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The value of --wait, if the measurement has that option.
pub trait Waits: Args {
    fn wait(&self) -> Option<WaitStrategy> {
        None
    }
}

/// The option --wait.
#[derive(Debug, Args)]
pub struct Waiting {
    /// How both ends wait: spin, adaptive or park [default: see above; not spin if both share a CPU]
    #[arg(long, value_name = "HOW")]
    wait: Option<WaitStrategy>,
}

impl Waits for Waiting {
    fn wait(&self) -> Option<WaitStrategy> {
        self.wait
    }
}

/// For measurements without the option --wait.
#[derive(Debug, Args)]
pub struct NoWaiting {}

impl Waits for NoWaiting {}

/// One run of a measurement.
pub struct Session {
    pub about: About,
    pub wait: WaitStrategy,
    /// The CPUs of --pin, if given.
    pub pin: Option<Pins>,
    /// The CPUs on which the floor is measured, even if the ends are not pinned.
    pub floor_pins: Option<Pins>,
    socket: Option<PathBuf>,
    interrupt: Interrupt,
}

impl<M: Args + Measurement> Options<M> {
    /// Runs the measurement and prints its results.
    pub fn run(&self, socket: Option<PathBuf>) -> Outcome {
        self.run_as(&self.measurement, socket)
    }

    /// Like [`run`](Self::run), for another measurement that uses these options.
    pub fn run_as<N: Measurement>(&self, measurement: &N, socket: Option<PathBuf>) -> Outcome {
        #[derive(Serialize)]
        struct Object<'a, F> {
            #[serde(flatten)]
            about: &'a About,
            #[serde(flatten)]
            figures: &'a F,
        }
        let &Shared { pin, blocks, json } = &self.shared;
        let floor_pins = pins(pin)?;
        let wait = wait_strategy(self.waiting.wait(), N::WAIT, floor_pins)?;
        let about =
            About::new(N::NAME, wait, measurement.place(floor_pins, pin), blocks.unwrap_or(N::BLOCKS));
        let mut session = Session { about, wait, pin, floor_pins, socket, interrupt: Interrupt::install()? };
        let figures = measurement.measure(&mut session)?;
        let about = &session.about;
        if json {
            out::json(&Object { about, figures: &figures })
        } else {
            out::put(figures.text(about).as_bytes())
        }
    }
}

/// The CPUs of --pin, after checking that they can be used, or else the first two CPUs.
fn pins(pin: Option<Pins>) -> Result<Option<Pins>, Failure> {
    let Some(pins) = pin else { return Ok(Pins::default_pins()) };
    for cpu in [pins.client, pins.server] {
        can_pin(cpu)
            .map_err(|why| Failure::usage(format!("--pin {},{}: {why}", pins.client, pins.server)))?;
    }
    Ok(Some(pins))
}

impl Session {
    /// The plan of a setup for calls of at most `size` bytes.
    pub fn plan(&self, size: usize) -> Plan {
        let About { pin: pins, blocks, .. } = self.about;
        Plan { size, wait: self.wait, pins, floor_pins: self.floor_pins, others: 0, blocks }
    }

    /// Starts a setup, measures with it, and ends it.
    pub fn with<T>(
        &self,
        plan: Plan,
        measure: impl FnOnce(&mut Setup) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        Setup::new(&self.interrupt, self.socket.clone(), plan)?.run(measure)
    }
}

/// Whether each of the two ends has its own CPU.
pub fn apart(pins: Option<Pins>) -> bool {
    pins.is_some_and(|pins| pins.client != pins.server)
}

/// How the two ends wait: as `wanted`, or else by `default` if possible.
fn wait_strategy(
    wanted: Option<WaitStrategy>,
    default: WaitStrategy,
    pins: Option<Pins>,
) -> Result<WaitStrategy, Failure> {
    match wanted {
        None if default == WaitStrategy::Spin && !apart(pins) => Ok(WaitStrategy::Adaptive),
        None => Ok(default),
        Some(WaitStrategy::Spin) if !apart(pins) => Err(Failure::usage(
            "--wait spin needs a CPU for each end: on one CPU, neither end would let the other run; use --wait adaptive or \
             park",
        )),
        Some(wait) => Ok(wait),
    }
}

/// Warns on standard error if the CPUs make the results less meaningful.
pub fn warn(pins: Option<Pins>) {
    match pins {
        None => note("ringpost-bench: only one CPU may be used, so both ends share it"),
        Some(pins) if pins.client == pins.server => {
            note(format_args!("ringpost-bench: both ends share CPU {}", pins.client));
        }
        Some(pins) if pins.same_core() == Some(true) => note(format_args!(
            "ringpost-bench: CPUs {} and {} are hyper-threads of one core, which makes times shorter; choose others with --pin",
            pins.client, pins.server
        )),
        Some(_) => {}
    }
}

/// Warns if something needs more CPUs than there are; `then` says what happens in that case.
pub fn warn_too_few(what: &str, wanted: usize, then: &str) -> bool {
    let found = cpu::allowed().len();
    let too_few = wanted > found;
    if too_few {
        note(format_args!("ringpost-bench: {what} need {wanted} CPUs, but only {found} may be used: {then}"));
    }
    too_few
}

/// This program's command line, without the path of the program.
fn command_line() -> Vec<String> {
    std::iter::once("ringpost-bench".to_string()).chain(std::env::args().skip(1)).collect()
}

/// The fields at the beginning of every JSON object.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    pub bench: &'static str,
    pub version: &'static str,
    pub command: Vec<String>,
    pub wait: String,
    /// The CPUs of the two ends; null if they are not pinned.
    pub pin: Option<Pins>,
    /// Whether the two CPUs are hyper-threads of one core.
    pub same_core: Option<bool>,
    /// The number of CPUs that this process may use.
    pub cpus: usize,
    /// Whether these are too few for this measurement.
    pub too_few_cpus: bool,
    pub cpu: Option<String>,
    pub kernel: Option<String>,
    /// The number of pairs of blocks.
    pub blocks: u32,
}

impl About {
    /// Must be called before this thread is pinned.
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
            None => format!("not pinned, {} CPUs", self.cpus),
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
    fn spinning_needs_two_cpus() {
        let apart = Some(Pins { client: 0, server: 1 });
        let together = Some(Pins { client: 0, server: 0 });
        let default = |default, pins| wait_strategy(None, default, pins);
        assert_eq!(default(WaitStrategy::Spin, apart), Ok(WaitStrategy::Spin));
        assert_eq!(default(WaitStrategy::Spin, together), Ok(WaitStrategy::Adaptive));
        assert_eq!(default(WaitStrategy::Spin, None), Ok(WaitStrategy::Adaptive));
        assert_eq!(default(WaitStrategy::Park, None), Ok(WaitStrategy::Park));
        let spin = |default, pins| wait_strategy(Some(WaitStrategy::Spin), default, pins);
        assert_eq!(spin(WaitStrategy::Adaptive, apart), Ok(WaitStrategy::Spin));
        assert!(spin(WaitStrategy::Park, together).is_err() && spin(WaitStrategy::Park, None).is_err());
    }
}
