//! Tests that man pages and completions contain everything that the help contains.

use crate::program::*;
use std::path::Path;

/// The visible commands and long options in a help text.
fn named(help: &str) -> (Vec<String>, Vec<String>) {
    let mut commands = Vec::new();
    let mut options = Vec::new();
    let mut in_commands = false;
    for line in help.lines() {
        if !line.starts_with(' ') && !line.is_empty() {
            in_commands = line == "Commands:";
        }
        let word = |text: &str| text.split([' ', ',', '=', '[']).next().unwrap().to_owned();
        if in_commands && line.starts_with("  ") && !line.starts_with("   ") {
            commands.push(word(line.trim_start()));
        } else if let Some(option) = line.trim_start().strip_prefix("-v, ").or(Some(line.trim_start())) {
            let option = option.strip_prefix("-h, ").or(option.strip_prefix("-V, ")).unwrap_or(option);
            if option.starts_with("--") && line.starts_with("  ") {
                options.push(word(option));
            }
        }
    }
    commands.retain(|command| command != "help");
    (commands, options)
}

fn help(program: &str, command: &[&str]) -> String {
    let mut arguments = command.to_vec();
    arguments.push("--help");
    String::from_utf8(run(program, &arguments).well()).unwrap()
}

fn generate(program: &str, arguments: &[&str], out: &Path) -> Vec<String> {
    let mut all = vec!["generate"];
    all.extend_from_slice(arguments);
    all.extend_from_slice(&["--out", text(out)]);
    let output = String::from_utf8(run(program, &all).well()).unwrap();
    let mut files: Vec<String> = output
        .lines()
        .map(|line| Path::new(line).strip_prefix(out).unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let mut there: Vec<String> = std::fs::read_dir(out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    assert_eq!(files, there, "what was written is what is said");
    files
}

#[test]
fn man_pages_and_completions_name_every_command_and_option() {
    let directory = tempfile::tempdir().unwrap();
    for (program, name, least) in
        [(CLIENT, "ringpost", 6), (SERVER, "ringpost-server", 1), (BENCH, "ringpost-bench", 2)]
    {
        let (commands, options) = named(&help(program, &[]));
        assert!(commands.len() >= least, "{commands:?}");
        assert!(options.contains(&"--socket".to_owned()) && options.contains(&"--version".to_owned()));
        assert!(commands.contains(&"generate".to_owned()));

        let man = directory.path().join(name).join("man");
        let mut pages = vec![format!("{name}.1")];
        pages.extend(commands.iter().map(|command| format!("{name}-{command}.1")));
        pages.extend(["man", "completions"].map(|what| format!("{name}-generate-{what}.1")));
        pages.sort();
        assert_eq!(generate(program, &["man"], &man), pages);

        let scripts = directory.path().join(name).join("completions");
        let files = generate(program, &["completions"], &scripts);
        assert_eq!(files, [format!("_{name}"), format!("{name}.bash"), format!("{name}.fish")]);

        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let page = |file: &str| read(&man.join(file)).replace("\\-", "-");
        let mut everything = options.clone();
        for option in &options {
            assert!(page(&format!("{name}.1")).contains(option), "{option} is not in {name}.1");
        }
        for command in &commands {
            let (_, options) = named(&help(program, &[command]));
            assert!(page(&format!("{name}.1")).contains(&format!("{name}-{command}(1)")), "{command}");
            for option in &options {
                let page = page(&format!("{name}-{command}.1"));
                assert!(page.contains(option), "{option} is not in {name}-{command}.1:\n{page}");
            }
            everything.push(command.clone());
            everything.extend(options);
        }
        for file in &files {
            let script = read(&scripts.join(file));
            for word in &everything {
                // fish says `-l log-file`.
                let bare = word.trim_start_matches('-');
                let found =
                    if file.ends_with(".fish") { script.contains(bare) } else { script.contains(word) };
                assert!(found, "{word} is not in {file}");
            }
            for hidden in ["floor-partner", "demo-client", "with-parent", "become"] {
                assert!(!script.contains(hidden), "{hidden} is in {file}");
            }
        }
        for file in &pages {
            let page = page(file);
            for part in ["EXIT STATUS", "RINGPOST_SOCKET", "FILES", "bus.sock", "SEE ALSO", "Failure."] {
                assert!(page.contains(part), "{part} is not in {file}");
            }
        }
        let only =
            generate(program, &["completions", "--shell", "bash"], &directory.path().join(name).join("bash"));
        assert_eq!(only, [format!("{name}.bash")]);
    }
    // The server's page lists the log's events.
    let page =
        std::fs::read_to_string(directory.path().join("ringpost-server/man/ringpost-server.1")).unwrap();
    for part in ["unregister", "from_key", "NOTIFY_SOCKET", "LISTEN_FDS", "/etc/ringpost/server.toml"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn what_cannot_be_generated_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    for program in [CLIENT, SERVER, BENCH] {
        let why = run(program, &["generate", "man", "--out", text(&file)]).failed();
        assert!(why.contains(text(&file)) && why.contains("--out"), "{why}");
        for wrong in [
            &["generate"][..],
            &["generate", "man"],
            &["generate", "completions", "--shell", "tcsh", "--out", "x"],
        ] {
            assert_eq!(run(program, wrong).status, Some(2), "{wrong:?}");
        }
    }
}
