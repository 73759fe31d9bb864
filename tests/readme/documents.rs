//! Tests the documents' links, paths and names: files and headings exist, and names are in the code.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The documents whose code spans must be existing paths, or names in the code.
const NAMING: [&str; 7] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/AARCH64.md",
    "docs/LIFECYCLE.md",
    "docs/decisions/",
];

/// The folders in whose files names are looked for.
const CODE: [&str; 9] =
    ["src", "tests", "benches", "fuzz", "examples", "Cargo.toml", ".ci", ".github", "rustfmt.toml"];

/// What the documents name that is neither in the repository nor in its code: instructions of a processor,
/// files of the system, what a build makes.
const ELSEWHERE: [&str; 13] = [
    "target/release",
    "LDAR",
    "LDAPR",
    "STLR",
    "SWP",
    "CAS",
    "LDXR",
    "STXR",
    "LDR",
    "STR",
    "ISB",
    "pause",
    "nobody",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `place`, except those made by builds and runs.
fn files(place: &Path, found: &mut Vec<PathBuf>) {
    const LEFT_OUT: [&str; 7] = ["target", "corpus", "artifacts", "logs", "seeds", ".git", "node_modules"];
    if place.is_file() {
        found.push(place.to_owned());
        return;
    }
    let mut inside: Vec<_> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    inside.sort();
    for path in inside {
        if !LEFT_OUT.iter().any(|name| path.file_name().is_some_and(|file| file == *name)) {
            files(&path, found);
        }
    }
}

/// The documents, by their paths from the root, with their texts.
fn documents() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(&root(), &mut found);
    let documents = found.into_iter().filter(|path| path.extension().is_some_and(|end| end == "md"));
    documents
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The lines outside fenced blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        (!inside && !fence).then_some((at + 1, line))
    })
}

/// The anchor of a heading, as forges derive it from the text.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn anchors(text: &str) -> HashSet<String> {
    let headings = prose(text).filter(|(_, line)| line.starts_with('#'));
    headings.map(|(_, line)| anchor(line.trim_start_matches('#').trim())).collect()
}

/// The targets of the links in a text. A link's text may span lines, but its target does not.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let mut rest = line;
        while let Some((_, behind)) = rest.split_once("](") {
            let Some((target, behind)) = behind.split_once(')') else { break };
            found.push((number, target));
            rest = behind;
        }
    }
    found
}

/// The spans of code on a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The words of a text: letters, digits and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).filter(|word| !word.is_empty())
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut wrong = Vec::new();
    let mut followed = 0;
    for (name, text) in documents() {
        for (line, target) in links(&text) {
            if target.starts_with("https://") || target.starts_with("http://") {
                continue;
            }
            followed += 1;
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let here = root().join(&name);
            let there = if path.is_empty() { here } else { here.parent().unwrap().join(path) };
            if !there.exists() {
                wrong.push(format!("{name}:{line}: {target}: there is no such file"));
            } else if !heading.is_empty() && !anchors(&fs::read_to_string(there).unwrap()).contains(heading) {
                wrong.push(format!("{name}:{line}: {target}: there is no such heading"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(followed > 50, "{followed} links were followed: is the search broken?");
}

/// A code span that names a file or a folder.
fn is_path(span: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '/' | '.' | '_' | '-');
    span.chars().all(plain)
        && (span.contains('/')
            || [".rs", ".md", ".py", ".toml", ".svg"].iter().any(|end| span.ends_with(end)))
        && !span.starts_with('/')
}

/// A code span that names something in the code: `function`, `Type`, `Type::function`, `function()`.
fn is_name(span: &str) -> bool {
    let name = span.strip_suffix("()").unwrap_or(span);
    let is_word = |word: &str| {
        word.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
            && word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            // `try_` is a prefix of names.
            && !word.ends_with('_')
    };
    !name.is_empty() && name.split("::").all(is_word)
}

#[test]
fn paths_and_names_in_the_documents_exist() {
    let mut sources = Vec::new();
    for place in CODE {
        files(&root().join(place), &mut sources);
    }
    sources.retain(|path| path.extension().is_none_or(|end| end != "md"));
    let texts: Vec<_> = sources.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let known: HashSet<&str> = texts.iter().flat_map(|text| words(text)).collect();
    let functions: HashSet<&str> = texts
        .iter()
        .flat_map(|text| text.match_indices("fn ").filter_map(|(at, _)| words(&text[at + 3..]).next()))
        .collect();

    let mut wrong = Vec::new();
    let mut looked_up = 0;
    for (name, text) in documents() {
        if !NAMING.iter().any(|naming| name.starts_with(naming)) {
            continue;
        }
        for (line, content) in prose(&text) {
            for span in spans(content) {
                let found = if ELSEWHERE.contains(&span) {
                    continue;
                } else if is_path(span) {
                    let folder = spans(content).find(|span| span.ends_with('/') && is_path(span));
                    match folder.filter(|_| !span.contains('/')) {
                        // A table row about a folder.
                        Some(folder) => root().join(folder).join(span).exists(),
                        // A file name without a folder.
                        None if !span.contains('/') => {
                            root().join(span).exists() || sources.iter().any(|path| path.ends_with(span))
                        }
                        None => {
                            ["", "src", "src/bin"].iter().any(|base| root().join(base).join(span).exists())
                        }
                    }
                } else if let Some(function) = span.strip_suffix("()").filter(|_| is_name(span)) {
                    functions.contains(function.rsplit("::").next().unwrap())
                        && words(function).all(|word| known.contains(word))
                } else if is_name(span) {
                    words(span).all(|word| known.contains(word))
                } else {
                    continue;
                };
                looked_up += 1;
                if !found {
                    wrong.push(format!("{name}:{line}: `{span}` is not in the code"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(looked_up > 100, "{looked_up} names were looked up: is the search broken?");
}

/// The table of functions in ARCHITECTURE.md: each row names a file and functions, and the file has them.
#[test]
fn the_functions_that_the_architecture_leads_to_are_in_the_files_it_names() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table =
        text.split("\n## Where to find\n").nth(1).expect("ARCHITECTURE.md has a part \"Where to find\"");
    let table = table.split("\n## ").next().unwrap();
    let mut rows = 0;
    for row in table.lines().filter(|line| line.starts_with('|') && line.contains('`')) {
        let files: Vec<_> = spans(row).filter(|span| is_path(span)).collect();
        let [file] = files[..] else { panic!("a row names one file: {row}") };
        let code = fs::read_to_string(root().join(file)).unwrap();
        let functions: Vec<_> = spans(row).filter(|span| is_name(span)).collect();
        assert!(!functions.is_empty(), "a row names a function: {row}");
        for function in functions {
            let function = function.rsplit("::").next().unwrap();
            let defined = |end: &str| code.contains(&format!("fn {function}{end}"));
            assert!(defined("(") || defined("<"), "{file} has no function `{function}`: {row}");
        }
        rows += 1;
    }
    assert!(rows >= 10, "{rows} rows");
}

#[test]
fn the_commands_that_ci_takes_from_the_readme_are_there() {
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let headings: Vec<&str> =
        script.split("$(readme_commands \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(!headings.is_empty(), "nothing is taken from the README, so nothing was tested");
    for heading in headings {
        let block = format!("\n{heading}\n\n```sh\n");
        assert!(readme.contains(&block), "README.md has no shell block right under {heading:?}");
    }
}
