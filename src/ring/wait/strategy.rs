//! The wait strategies to choose from, and their names.

use std::fmt;
use std::str::FromStr;

/// How a blocking operation waits. Each end of a channel chooses for itself.
///
/// | | looks | yields | sleeps | for |
/// | --- | --- | --- | --- | --- |
/// | `Spin` | all the time | never | never | the lowest latency, if each waiting end has its own CPU |
/// | `Adaptive` | as long as it has paid off lately | a few times | then | nearly everything |
/// | `Park` | a look before it sleeps | never | at once | the least CPU time |
///
/// # Examples
///
/// ```
/// use ringpost::WaitStrategy;
///
/// let strategy: WaitStrategy = "spin".parse()?; // as on the programs' command lines
/// assert_eq!(strategy, WaitStrategy::Spin);
/// assert_eq!(WaitStrategy::default().to_string(), "adaptive");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Looks all the time; never yields and never sleeps. The lowest latency, and one CPU for each waiting
    /// end.
    ///
    /// Do not use it under a real-time policy (`SCHED_FIFO`, `SCHED_RR`) on a CPU that other threads need. If
    /// the other end is an ordinary thread on that CPU, it runs only when the kernel takes the CPU away from
    /// the spinner. Then a call takes whole seconds, or never ends if the kernel is configured not to do
    /// that.
    Spin,
    /// Spins as long as it has paid off lately, at most about as long as sleeping would cost, giving the CPU
    /// to others in between; then sleeps.
    #[default]
    Adaptive,
    /// Sleeps at once. The least CPU time.
    Park,
}

impl fmt::Display for WaitStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            WaitStrategy::Spin => "spin",
            WaitStrategy::Adaptive => "adaptive",
            WaitStrategy::Park => "park",
        })
    }
}

/// From the words `spin`, `adaptive` and `park`. The error is a text for people.
impl FromStr for WaitStrategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "spin" => Ok(WaitStrategy::Spin),
            "adaptive" => Ok(WaitStrategy::Adaptive),
            "park" => Ok(WaitStrategy::Park),
            _ => Err(format!("{text:?} is not a wait strategy: use spin, adaptive or park")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_each_strategy_parses_back() {
        for strategy in [WaitStrategy::Spin, WaitStrategy::Adaptive, WaitStrategy::Park] {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        assert!("Spin".parse::<WaitStrategy>().is_err());
    }
}
