//! `generate`: writes man pages and shell completions from a program's definition of its command line.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory, Subcommand, ValueEnum};
use clap_complete::Shell as Generator;
use clap_mangen::Man;

use super::exit::{Failure, Outcome};
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

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Generate {
    /// Writes the requested files for the program with the command line `C`.
    pub fn run<C: CommandFactory>(&self) -> Outcome {
        let (directory, written) = match &self.what {
            What::Man { out } => (out, man::<C>(out)),
            What::Completions { shell, out } => {
                let shells = if shell.is_empty() { Shell::value_variants() } else { shell };
                (out, completions::<C>(shells, out))
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

fn man<C: CommandFactory>(directory: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory)?;
    let mut command = shown(&C::command()).disable_help_subcommand(true);
    command.build();
    let mut written = Vec::new();
    pages(&command, directory, &mut written)?;
    Ok(written)
}

fn pages(command: &Command, directory: &Path, written: &mut Vec<PathBuf>) -> io::Result<()> {
    written.push(Man::new(command.clone()).manual("Ringpost").generate_to(directory)?);
    command.get_subcommands().try_for_each(|command| pages(command, directory, written))
}

fn completions<C: CommandFactory>(shells: &[Shell], directory: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory)?;
    let command = shown(&C::command());
    let write = |shell: &Shell| {
        let generator = match shell {
            Shell::Bash => Generator::Bash,
            Shell::Zsh => Generator::Zsh,
            Shell::Fish => Generator::Fish,
        };
        let name = command.get_name().to_owned();
        clap_complete::generate_to(generator, &mut command.clone(), name, directory)
    };
    shells.iter().map(write).collect()
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
