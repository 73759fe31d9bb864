//! The options of `ringpost top`.

use std::time::Duration;

use clap::Args;

use super::WaitOption;
use crate::top::Sort;

#[derive(Debug, Args)]
pub struct TopOptions {
    /// Look so often
    #[arg(long, value_name = "SECONDS", value_parser = interval, default_value = "1")]
    pub interval: Duration,

    /// Order the rows by this; what a table does not have orders it by name
    #[arg(long, value_name = "KEY", value_enum, default_value_t = Sort::Name)]
    pub sort: Sort,

    /// Reverse the order
    #[arg(long)]
    pub reverse: bool,

    /// Show only names that contain this text, in upper or lower case; * stands for any text
    #[arg(long, value_name = "PATTERN")]
    pub filter: Option<String>,

    /// Look twice, print what happened between, and end
    #[arg(long)]
    pub once: bool,

    /// Print one JSON object per line: {"uptime_seconds","interval_seconds","stamped","server":{…},
    /// "clients":[…],"links":[…],"topics":[…]}, or {"waiting":TEXT} when the server has ended
    #[arg(long, conflicts_with_all = ["sort", "reverse"])]
    pub json: bool,

    #[command(flatten)]
    pub wait: WaitOption,
}

/// Parses the time between two looks. Each one costs the server something.
fn interval(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        // NaN is in no range.
        Ok(number) if (0.1..=3600.0).contains(&number) => Ok(Duration::from_secs_f64(number)),
        _ => Err("give a number of seconds from 0.1 to 3600, such as 1 or 0.5".into()),
    }
}
