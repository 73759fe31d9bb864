//! What an operator changes while the server runs: the level of the log, its file, and who may do what.

use std::sync::{Mutex, OnceLock, PoisonError};

use ringpost::AccessControl;

use crate::cli::Cli;
use crate::log::Logger;
use crate::options::Options;
use crate::settings::Settings;
use crate::supervise;
use ringpost::cli::level::Level;

/// Obeys the operator: by SIGHUP, and by `ringpost log-level` and `ringpost reload`.
pub struct Operator {
    /// The command line, which holds whatever the file says.
    cli: Cli,
    logger: Logger,
    /// The settings with which the server was started.
    started: Settings,
    /// The level of the log in the settings when they were last loaded.
    level: Mutex<Option<Level>>,
    /// By which access is replaced, once the server runs.
    access: OnceLock<AccessControl>,
}

impl Operator {
    pub fn new(cli: Cli, started: Settings, logger: Logger) -> Operator {
        Operator {
            cli,
            logger,
            level: Mutex::new(started.options.log.level()),
            access: OnceLock::new(),
            started,
        }
    }

    /// The server runs, and its access can be replaced by `access`.
    pub fn serves(&self, access: AccessControl) {
        let _ = self.access.set(access);
    }

    /// Does what a command says, and returns what to tell the operator.
    pub fn obey(&self, command: &str) -> Result<String, String> {
        match command.split_once(' ').unwrap_or((command, "")) {
            ("reload", "") => self.reload(),
            ("log-level", "") => Ok(self.logger.level().to_string()),
            ("log-level", level) => {
                let level = Level::named(level)?;
                let before = self.logger.set_level(level);
                Ok(format!("{level} (it was {before})"))
            }
            _ => Err(format!(
                "there is no command {command:?}: use reload, log-level, or log-level LEVEL; see ringpost --help"
            )),
        }
    }

    /// Opens the log file anew, and loads from the configuration what can be changed. If one of them fails,
    /// the other is done all the same, and what failed is as before.
    pub fn reload(&self) -> Result<String, String> {
        let access = self.access.get().ok_or("the server is just starting: try again")?;
        supervise::reloading();
        let reloaded = self.reload_now(access);
        supervise::reloaded();
        reloaded
    }

    fn reload_now(&self, access: &AccessControl) -> Result<String, String> {
        let loaded = match (self.logger.reopen(), self.load(access)) {
            (Ok(log), Ok(settings)) => Ok((log, settings)),
            (Err(log), Ok(_)) => Err(log),
            (Ok(_), Err(settings)) => Err(settings),
            (Err(log), Err(settings)) => Err(format!("{log}; {settings}")),
        };
        match loaded {
            Ok((log, settings)) => {
                let restart = self.started.differences(&settings).join(" ");
                tracing::info!(
                    target: "ringpost",
                    event = "reload",
                    rules = settings.options.rules.len(),
                    users = settings.options.allow_user.len(),
                    groups = settings.options.allow_group.len(),
                    restart = (!restart.is_empty()).then_some(restart.as_str()),
                );
                Ok(self.in_words(log, &settings, &restart))
            }
            Err(why) => {
                tracing::error!(target: "ringpost", event = "not_reloaded", error = why.as_str(), "not loaded anew");
                Err(why)
            }
        }
    }

    /// Loads the configuration, and puts into force what can be changed.
    fn load(&self, access: &AccessControl) -> Result<Settings, String> {
        // Held meanwhile, so that the settings that were read last are in force.
        let mut last = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = Settings::load(&self.cli).map_err(|failure| failure.to_string())?;
        settings.builder().check().map_err(|error| error.to_string())?;
        access.replace(settings.options.access()).map_err(|error| error.to_string())?;
        let level = settings.options.log.level();
        // Unless the file says something new, the level stays that of `ringpost log-level`.
        if *last != level {
            self.logger.set_level(level.unwrap_or(Level::Info));
            *last = level;
        }
        Ok(settings)
    }

    fn in_words(&self, log: bool, settings: &Settings, restart: &str) -> String {
        let log = if log { "the log file was opened anew" } else { "the log goes to stderr" };
        let Some(path) = &self.cli.config else {
            return format!(
                "{log}; there is no configuration file to load: start the server with --config FILE"
            );
        };
        let Options { allow_user, allow_group, rules, .. } = &settings.options;
        let mut text = format!(
            "{log}; {} is in force: {} rules, {} users, {} groups",
            path.display(),
            rules.len(),
            allow_user.len(),
            allow_group.len()
        );
        if !restart.is_empty() {
            text.push_str(&format!("; after a new start also {restart}"));
        }
        text
    }
}
