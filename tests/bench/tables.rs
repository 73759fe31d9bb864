//! `ringpost-bench tables`: the documents have the figures of the report that is committed, and what is
//! written into them is that.

use std::fs;
use std::path::Path;

use crate::bench;
use crate::common::Place;
use crate::common::program::{Ended, Program};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The report that the documents have their figures from.
pub const MEASURED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/measured.json");

/// All that have figures of it.
const DOCUMENTS: [&str; 4] = ["README.md", "docs/FIGURES.md", "docs/latency.svg", "benches/NOTES.md"];

fn run(place: &Place, arguments: &[&str]) -> Ended {
    let mut all = vec!["tables"];
    all.extend(arguments);
    Program::spawn(&mut bench(place, &all)).end()
}

/// One command writes them all: see benches/NOTES.md.
#[test]
fn documents_have_the_figures_of_the_committed_report() {
    let place = Place::new();
    let documents = DOCUMENTS.map(|name| format!("{ROOT}/{name}"));
    let mut arguments = vec![MEASURED];
    arguments.extend(documents.iter().map(String::as_str));
    arguments.push("--check");
    let ended = run(&place, &arguments);
    assert_eq!(ended.status, Some(0), "{}see \"The documents\" in benches/NOTES.md", ended.stderr);
}

#[test]
fn a_document_that_differs_is_told_and_written_anew() {
    let place = Place::new();
    let copy = |name: &str| {
        let path = place.directory.path().join(Path::new(name).file_name().unwrap());
        fs::write(&path, fs::read(format!("{ROOT}/{name}")).unwrap()).unwrap();
        path
    };
    let paths = DOCUMENTS.map(copy);
    let [readme, figures, picture, _] = &paths;
    let mut arguments = vec![MEASURED];
    arguments.extend(paths.iter().map(|path| path.to_str().unwrap()));
    let check: Vec<&str> = arguments.iter().copied().chain(["--check"]).collect();
    let text = |path: &Path| fs::read_to_string(path).unwrap();

    // A figure that somebody has altered by hand, and a picture that is gone.
    let right = text(figures);
    let altered = right.replacen(" ns |", "0 ns |", 1);
    assert_ne!(altered, right);
    fs::write(figures, &altered).unwrap();
    let drawn = text(picture);
    fs::remove_file(picture).unwrap();
    let ended = run(&place, &check);
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("FIGURES.md: its figures are not those"), "{}", ended.stderr);
    assert!(ended.stderr.contains("latency.svg") && !ended.stderr.contains("README.md"), "{}", ended.stderr);
    assert!(text(figures) == altered && !picture.exists(), "a check writes nothing");

    let ended = run(&place, &arguments);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(text(figures) == right && text(picture) == drawn);
    assert_eq!(ended.stdout, format!("{}\n{}\n", figures.display(), picture.display()).into_bytes());
    assert_eq!(run(&place, &check).status, Some(0));

    // One that cannot be filled leaves all alone.
    fs::write(figures, &altered).unwrap();
    fs::write(readme, "<!-- figures: speed --><!-- end -->").unwrap();
    let ended = run(&place, &arguments);
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("README.md: there are no figures \"speed\""), "{}", ended.stderr);
    assert!(text(figures) == altered);
    for reach in ["http:", "https:", "url(", "<script", "<image", "NaN"] {
        assert!(!drawn.replace("http://www.w3.org/2000/svg", "").contains(reach), "{reach:?} in the picture");
    }
}

/// The tables of a quick report: they are shown, and come into no document.
pub fn of_a_report(place: &Place, report: &Path) {
    let report = report.to_str().unwrap();
    let ended = run(place, &[report]);
    let text = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    for heading in ["## A call\n", "## Calls to the server, and messages\n", "## Topics\n", "## The results"]
    {
        assert!(text.contains(heading), "{heading:?}: {text}");
    }
    assert!(text.contains("| two bare words: ") && !text.contains("NaN"), "{text}");
    let document = place.directory.path().join("document.md");
    fs::write(&document, "<!-- figures: calls -->\n<!-- end -->\n").unwrap();
    let ended = run(place, &[report, document.to_str().unwrap()]);
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("quick run"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&document).unwrap(), "<!-- figures: calls -->\n<!-- end -->\n");
    fs::remove_file(&document).unwrap();
}
