//! `generate`: writes man pages and shell completions from a program's definition of its command line.

use std::path::PathBuf;

use clap::{Args, Command, CommandFactory, Subcommand, ValueEnum};

use super::completions::{self, Live, Shell};
use super::exit::{Failure, Outcome};
use super::manual::{self, Manual};
use super::out;

/// Write this program's man pages or shell completions into a directory, for packages
///
/// Prints the paths of the files it wrote. The files depend only on the program's version.
#[derive(Debug, Clone, Args)]
pub struct Generate {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Write a man page (section 1) for the program and one for each of its commands
    Man {
        /// The directory to write to; created if missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Write shell completions: PROGRAM.bash, _PROGRAM for zsh, PROGRAM.fish
    Completions {
        /// The shell; may be repeated [default: all]
        #[arg(long, value_name = "SHELL", value_enum)]
        shell: Vec<Shell>,

        /// The directory to write to; created if missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

impl Generate {
    /// Writes the requested files for the program with the command line `C`. `live` are the arguments for
    /// which the program has a command `complete`.
    pub fn run<C: CommandFactory>(&self, manual: &Manual, live: &[Live]) -> Outcome {
        let command = shown(&C::command());
        let (directory, written) = match &self.what {
            What::Man { out } => {
                let mut command = command.disable_help_subcommand(true);
                command.build();
                (out, manual::write(&command, manual, out))
            }
            What::Completions { shell, out } => {
                let shells = if shell.is_empty() { Shell::value_variants() } else { shell };
                (out, completions::write(&command, live, shells, out))
            }
        };
        let written = written.map_err(|error| {
            Failure::failed(format!(
                "cannot write to {}: {error}; give --out a directory that you can write to",
                directory.display()
            ))
        })?;
        written.iter().try_for_each(|path| out::line(&path.display().to_string()))
    }
}

/// A copy of `command` without its hidden parts, which completions would offer.
fn shown(command: &Command) -> Command {
    let mut shown = Command::new(command.get_name().to_owned())
        .args(command.get_arguments().filter(|argument| !argument.is_hide_set()).cloned())
        .subcommands(command.get_subcommands().filter(|command| !command.is_hide_set()).map(self::shown));
    if let Some(version) = command.get_version() {
        shown = shown.version(version.to_owned());
    }
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        shown = shown.long_about(about.clone());
    }
    if let Some(help) = command.get_after_long_help() {
        shown = shown.after_long_help(help.clone());
    }
    shown
}
