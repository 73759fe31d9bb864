//! What `cargo package` ships: every relative link of its documents leads to a file that is in the package.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// The files of the package, relative to its root.
fn packaged() -> BTreeSet<PathBuf> {
    let listed = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    String::from_utf8(listed.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// A document without its blocks of code, which may look like links.
fn prose(markdown: &str) -> String {
    let mut inside = false;
    let outside = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    };
    markdown.lines().filter(outside).collect::<Vec<_>>().join("\n")
}

/// The targets of a document's links and pictures, without those that have a scheme or stay on the page.
fn relative_links(markdown: &str) -> impl Iterator<Item = &str> {
    let inline = markdown.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let html = markdown.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let defined =
        markdown.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ").map(|(_, to)| to));
    inline
        .chain(html)
        .chain(defined)
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
}

/// A path without `.` and `..`.
fn resolved(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{} leads out of the package", path.display()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn every_relative_link_of_a_packaged_document_leads_into_the_package() {
    let files = packaged();
    let (mut documents, mut links, mut broken) = (0, 0, Vec::new());
    for document in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "md")) {
        documents += 1;
        let text = prose(&fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap());
        for target in relative_links(&text) {
            links += 1;
            let path = resolved(&document.parent().unwrap().join(target));
            if !files.iter().any(|file| file.starts_with(&path)) {
                broken.push(format!("{} links to {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "not in the package: {broken:#?}");
    assert!(documents > 5 && links > 20, "{documents} documents with {links} links: are they all read?");
}

/// A private report goes to the repository that the manifest names.
#[test]
fn the_way_to_report_a_fault_is_in_the_manifest_s_repository() {
    let read = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let way = concat!(env!("CARGO_PKG_REPOSITORY"), "/security/advisories/new");
    let security = read("SECURITY.md");
    let report = security.split("\n## How to report\n").nth(1).unwrap();
    assert!(report.contains(&format!("<{way}>")), "{report}");
}

#[test]
fn links_are_found_in_every_form() {
    let text = "[a](b.md#c) ![d](e.svg) <img src=\"f.png\"> [g](https://h.i/j) [k](#l)\n[m]: n/o.md\n";
    assert_eq!(relative_links(text).collect::<Vec<_>>(), ["b.md", "e.svg", "f.png", "n/o.md"]);
    assert_eq!(prose("a\n```cpp\n[&](const T &t) {}\n```\nb"), "a\nb");
}
