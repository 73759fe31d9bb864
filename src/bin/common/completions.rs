//! Shell completions: clap's, and names and topics that the program asks the server for.
//!
//! clap writes scripts that know the command line and nothing else. They get a function that runs
//! `PROGRAM complete KIND -- WORDS`, which prints what there is now, one a line, and nothing if no server
//! answers. The words are those of the line, so that it asks the server that the line names.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell as Generator;

/// The shells for which there are completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// An argument whose values come from the server: an option by its long name, or an argument by its name in
/// the definition.
#[derive(Debug, Clone, Copy)]
pub struct Live {
    pub argument: &'static str,
    /// What `PROGRAM complete` is asked for.
    pub kind: &'static str,
}

/// Writes a script for each shell.
pub fn write(
    command: &Command,
    live: &[Live],
    shells: &[Shell],
    directory: &Path,
) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory)?;
    let name = command.get_name();
    let write = |shell: &Shell| {
        let (generator, file) = match shell {
            Shell::Bash => (Generator::Bash, format!("{name}.bash")),
            Shell::Zsh => (Generator::Zsh, format!("_{name}")),
            Shell::Fish => (Generator::Fish, format!("{name}.fish")),
        };
        let mut script = Vec::new();
        clap_complete::generate(generator, &mut command.clone(), name, &mut script);
        let mut script = String::from_utf8(script).map_err(io::Error::other)?;
        let all = arguments(command, live);
        if !all.is_empty() {
            script = match shell {
                Shell::Bash => bash(name, &script, &all),
                Shell::Zsh => zsh(name, &script, &all),
                Shell::Fish => fish(name, &script, &all),
            };
        }
        let path = directory.join(file);
        std::fs::write(&path, script)?;
        Ok(path)
    };
    shells.iter().map(write).collect()
}

/// A command's argument whose values come from the server.
struct Argument {
    command: String,
    /// `None` for one that has no name on the command line.
    option: Option<String>,
    kind: &'static str,
    /// The command's options that take a value: what follows them is not the argument.
    others: Vec<String>,
}

fn arguments(command: &Command, live: &[Live]) -> Vec<Argument> {
    let mut found = Vec::new();
    for command in command.get_subcommands() {
        // What stands in the next word; not what only `=` can give.
        let takes =
            |argument: &&clap::Arg| argument.get_action().takes_values() && !argument.is_require_equals_set();
        let others = || command.get_arguments().filter(takes).filter_map(|one| one.get_long());
        for argument in command.get_arguments() {
            let option = argument.get_long();
            let is = |live: &&Live| option.unwrap_or(argument.get_id().as_str()) == live.argument;
            if let Some(live) = live.iter().find(is) {
                found.push(Argument {
                    command: command.get_name().to_owned(),
                    option: option.map(|long| format!("--{long}")),
                    kind: live.kind,
                    others: others().map(|long| format!("--{long}")).chain(["--socket".into()]).collect(),
                });
            }
        }
    }
    found
}

/// A function that calls clap's, and then looks whether the server knows better.
fn bash(name: &str, script: &str, arguments: &[Argument]) -> String {
    let mut script = script.replace(&format!("complete -F _{name} "), &format!("complete -F _{name}_live "));
    let mut cases = String::new();
    for Argument { command, option, kind, others } in arguments {
        let _ = match option {
            Some(option) => {
                writeln!(cases, "    [[ $words == *\" {command} \"* && $prev == {option} ]] && kind={kind}")
            }
            None => writeln!(
                cases,
                "    [[ $words == *\" {command} \"* && $cur != -* ]] && case $prev in {}) ;; *) kind={kind} ;; esac",
                others.join("|")
            ),
        };
    }
    let function = format!(
        r#"
# Offers the names or the topics that the server has now, where one of them belongs.
_{name}_live() {{
    _{name} "$@"
    local cur="$2" prev="$3" words=" ${{COMP_WORDS[*]:1:COMP_CWORD-1}} " kind="" found
    # For bash --to=NAME is three words.
    if [[ $cur == "=" ]]; then
        cur=""
    elif [[ $prev == "=" ]]; then
        prev="${{COMP_WORDS[COMP_CWORD-2]}}"
    fi
{cases}    [[ -n $kind ]] || return 0
    # No files in their place.
    compopt +o default +o bashdefault 2>/dev/null
    COMPREPLY=()
    while IFS= read -r found; do
        [[ $found == "$cur"* ]] && COMPREPLY+=("$(printf %q "$found")")
    done < <({name} complete "$kind" -- "${{COMP_WORDS[@]}}" 2>/dev/null)
    return 0
}}
"#
    );
    // Before `complete` names it.
    let end = script.find("\nif [[ \"${BASH_VERSINFO").unwrap_or(script.len());
    script.insert_str(end, &function);
    script
}

/// What an option's line of zsh says behind the options in brackets that it excludes.
fn without_excluded(line: &str) -> &str {
    let line = line.strip_prefix('\'').unwrap_or(line);
    let behind = line.strip_prefix('(').and_then(|line| line.split_once(')'));
    behind.map_or(line, |(_, behind)| behind)
}

/// Other functions in place of zsh's `_default`.
fn zsh(name: &str, script: &str, arguments: &[Argument]) -> String {
    let mut kinds: Vec<&str> = arguments.iter().map(|argument| argument.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut functions = String::new();
    for kind in kinds {
        let _ = write!(
            functions,
            r#"
# The {kind} that the server has now.
(( $+functions[_{name}_{kind}] )) ||
_{name}_{kind}() {{
    local -a found
    found=(${{(f)"$({name} complete {kind} -- ${{(Q)${{(z)BUFFER}}}} 2>/dev/null)"}})
    compadd "$@" -a found
}}
"#
        );
    }
    let mut command = "";
    let mut out = String::new();
    for line in script.lines() {
        if let Some(name) = line.trim().strip_prefix('(').and_then(|line| line.strip_suffix(')')) {
            command = name;
        }
        let live =
            arguments.iter().filter(|argument| argument.command == command).find(|argument| match &argument
                .option
            {
                Some(option) => without_excluded(line).starts_with(&format!("{option}=[")),
                None => line.starts_with("':"),
            });
        match live {
            Some(Argument { kind, .. }) => {
                out.push_str(&line.replace(":_default'", &format!(":_{name}_{kind}'")));
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    let end = out.find("\nif [ \"$funcstack[1]\"").unwrap_or(out.len());
    out.insert_str(end, &functions);
    out
}

/// A line more for each argument.
fn fish(name: &str, script: &str, arguments: &[Argument]) -> String {
    let mut script = script.to_owned();
    script.push_str("\n# The names and topics that the server has now.\n");
    for Argument { command, option, kind, .. } in arguments {
        let to = option.as_deref().map(|option| format!(" -l {}", option.trim_start_matches('-')));
        let needs = if option.is_some() { " -x" } else { " -f" };
        let _ = writeln!(
            script,
            "complete -c {name} -n \"__fish_{name}_using_subcommand {command}\"{}{needs} \
             -a \"({name} complete {kind} -- (commandline -opc) 2>/dev/null)\"",
            to.unwrap_or_default()
        );
    }
    script
}
