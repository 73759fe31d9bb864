//! The man pages: what clap knows of a program, and sections about its exit statuses, variables and files.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

/// What a program's man pages say besides its options, each as term and explanation.
#[derive(Debug, Clone, Copy)]
pub struct Manual {
    pub exit_status: &'static [(&'static str, &'static str)],
    pub environment: &'static [(&'static str, &'static str)],
    pub files: &'static [(&'static str, &'static str)],
    pub see_also: &'static str,
}

/// What every program reads.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("RINGPOST_SOCKET", "The server's socket, unless --socket names one. Empty counts as unset."),
    ("XDG_RUNTIME_DIR", "The directory with the default socket. Without it that is /tmp/ringpost-UID."),
];

/// Where every program finds the server.
const FILES: [(&str, &str); 2] = [
    ("$XDG_RUNTIME_DIR/ringpost/bus.sock", "The default socket. Its directory is made, for its user alone."),
    ("/tmp/ringpost-UID/bus.sock", "The default socket if XDG_RUNTIME_DIR is not set."),
];

/// Writes a page for the program and one for each of its commands.
pub fn write(command: &Command, manual: &Manual, directory: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory)?;
    let mut written = Vec::new();
    pages(command, manual, directory, &mut written)?;
    Ok(written)
}

fn pages(command: &Command, manual: &Manual, directory: &Path, written: &mut Vec<PathBuf>) -> io::Result<()> {
    let source = concat!("ringpost ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).manual("Ringpost").source(source);
    let path = directory.join(man.get_filename());
    std::fs::write(&path, page(&man, command, manual)?)?;
    written.push(path);
    command.get_subcommands().try_for_each(|command| pages(command, manual, directory, written))
}

fn page(man: &Man, command: &Command, manual: &Manual) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if command.get_after_long_help().is_some() {
        man.render_extra_section(&mut page)?;
    }
    section(&mut page, "EXIT STATUS", &[manual.exit_status])?;
    section(&mut page, "ENVIRONMENT", &[&ENVIRONMENT, manual.environment])?;
    section(&mut page, "FILES", &[&FILES, manual.files])?;
    writeln!(page, ".SH \"SEE ALSO\"\n{}", escaped(manual.see_also))?;
    Ok(page)
}

fn section(page: &mut Vec<u8>, title: &str, entries: &[&[(&str, &str)]]) -> io::Result<()> {
    writeln!(page, ".SH \"{title}\"")?;
    for (term, explanation) in entries.concat() {
        writeln!(page, ".TP\n\\fB{}\\fR\n{}", escaped(term), escaped(explanation))?;
    }
    Ok(())
}

/// Text as roff: a line may not begin with a control character, and a hyphen is one that can be copied.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_request_to_roff() {
        assert_eq!(escaped(".SH x"), "\\&.SH x");
        assert_eq!(escaped("'a' \\fB--b"), "\\&'a' \\efB\\-\\-b");
        assert_eq!(escaped("plain. 'text'"), "plain. 'text'");
    }
}
