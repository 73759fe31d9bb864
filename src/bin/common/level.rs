//! How urgent the events are that a server logs.

use std::fmt;

/// The least urgent events that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Faults of the server
    Error,
    /// Also what clients do wrong, and deaths
    Warn,
    /// Also who registers and leaves
    Info,
    /// Also every message, introduction and topic
    Debug,
    /// Also every call to the server's service
    Trace,
}

impl Level {
    /// All, from the quietest on.
    pub const ALL: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    /// The level with this name.
    pub fn named(name: &str) -> Result<Level, String> {
        let level = Level::ALL.into_iter().find(|level| level.name() == name);
        level.ok_or_else(|| format!("there is no level {name:?}: use error, warn, info, debug or trace"))
    }

    /// Its name in options, in the configuration and in commands.
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn a_level_is_found_by_its_name() {
        for level in Level::ALL {
            assert_eq!(Level::named(level.name()), Ok(level));
            let on_the_command_line = level.to_possible_value().unwrap();
            assert_eq!(on_the_command_line.get_name(), level.name());
        }
        for wrong in ["", "Info", "off", "info "] {
            assert!(Level::named(wrong).unwrap_err().contains("debug"), "{wrong:?}");
        }
    }
}
