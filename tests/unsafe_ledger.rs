//! The table of unsafe code in `SECURITY.md` is what is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Blocks, implementations, functions.
type Counts = [usize; 3];

const KINDS: [&str; 3] = ["unsafe {", "unsafe impl", "unsafe fn"];

/// The only files that may allow unsafe code, each for itself or for the folder that it heads.
const ALLOWED: [&str; 9] = [
    "src/os/credentials.rs",
    "src/os/fork_safe.rs",
    "src/os/inherited.rs",
    "src/os/scheduling.rs",
    "src/os/signals.rs",
    "src/os/sockets.rs",
    "src/os/usage.rs",
    "src/registry/mutex.rs",
    "src/shm/mod.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The library's and the programs' files, without their comments.
fn code() -> BTreeMap<String, String> {
    let mut found = Vec::new();
    sources(&root().join("src"), &mut found);
    let without_comments = |text: &str| {
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
    };
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            (name, without_comments(&fs::read_to_string(path).unwrap()))
        })
        .collect()
}

/// The rows of the table: file and numbers.
fn ledger() -> BTreeMap<String, Counts> {
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("| `src/"))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let file = format!("src/{}", cells[0].trim_end_matches('`'));
            (file, [1, 2, 3].map(|cell| cells[cell].parse().unwrap()))
        })
        .collect()
}

#[test]
fn the_ledger_is_true() {
    let counted: BTreeMap<String, Counts> = code()
        .into_iter()
        .map(|(file, code)| (file, KINDS.map(|kind| code.matches(kind).count())))
        .filter(|(_, counts)| *counts != [0; 3])
        .collect();
    assert_eq!(counted, ledger(), "left: the code; right: SECURITY.md");
}

#[test]
fn nobody_else_allows_it() {
    let allowing: Vec<String> = code()
        .into_iter()
        .filter(|(_, code)| code.contains("allow(unsafe_code") || code.contains("expect(unsafe_code"))
        .map(|(file, _)| file)
        .collect();
    assert_eq!(allowing, ALLOWED);
    let main = |program: &str| fs::read_to_string(root().join(format!("src/bin/{program}/main.rs"))).unwrap();
    for program in ["ringpost", "ringpost-bench", "ringpost-server"] {
        assert!(main(program).contains("#![forbid(unsafe_code)]"), "{program}");
    }
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert!(library.contains("#![deny(unsafe_code)]"));
    let lints = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for lint in ["unsafe_op_in_unsafe_fn", "undocumented_unsafe_blocks"] {
        assert!(lints.contains(&format!("{lint} = \"deny\"")), "{lint}");
    }
}
