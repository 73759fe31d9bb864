//! `ringpost-bench tables`: the short tables and sentences of a report as Markdown, also into documents.
//!
//! A document has a mark where one of them begins, `<!-- figures: NAME -->`, and one where it ends, `<!-- end
//! -->`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::out::{self, readable};

use crate::glance::{self, Content, PARTS, Part};
use crate::picture;
use crate::report::write;
use crate::results::Results;

const BEGIN: &str = "<!-- figures: ";
const CLOSE: &str = " -->";
const END: &str = "<!-- end -->";
/// The columns of a sentence.
const WIDTH: usize = 148;

#[derive(Debug, Args)]
pub struct TablesOptions {
    /// The report.json of a report
    report: PathBuf,

    /// Write them into these Markdown documents, in place of what stands between their marks, and draw these
    /// SVG files [default: print all as Markdown]
    ///
    /// The marks are <!-- figures: NAME --> and <!-- end -->. The picture is of the comparison with other
    /// systems.
    #[arg(value_name = "DOCUMENT")]
    documents: Vec<PathBuf>,

    /// Write nothing; fail if a document has other figures
    #[arg(long, requires = "documents")]
    check: bool,
}

pub fn run(options: &TablesOptions) -> Outcome {
    let results = Results::read(&options.report)?;
    if options.documents.is_empty() {
        return out::put(all(&results).as_bytes());
    }
    if results.quick {
        let report = options.report.display();
        return Err(Failure::failed(format!(
            "{report} is of a quick run, whose figures are not reliable: nothing for a document"
        )));
    }
    let wrong = |path: &Path, why: &str| Failure::failed(format!("{}: {why}", path.display()));
    let mut changed = Vec::new();
    // All first, so that a fault in one leaves the others alone.
    for path in &options.documents {
        let is = |end: &str| path.extension().is_some_and(|extension| extension == end);
        let old = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && is("svg") => String::new(),
            read => read.map_err(|error| wrong(path, &error.to_string()))?,
        };
        let new = if is("svg") {
            let drawn = results.peers.as_ref().and_then(picture::svg);
            drawn.ok_or_else(|| wrong(path, "the report has no figures of other systems for the picture"))?
        } else {
            filled(&old, &results).map_err(|why| wrong(path, &why))?
        };
        if new != old {
            changed.push((path, new));
        }
    }
    for (path, new) in &changed {
        if options.check {
            note(format_args!("ringpost-bench: {}: its figures are not those of the report", path.display()));
        } else {
            write(path, new.as_bytes())?;
            out::line(&path.display().to_string())?;
        }
    }
    match changed.len() {
        differ if options.check && differ > 0 => Err(Failure::failed(format!(
            "{differ} of {} documents differ; without --check they are written anew",
            options.documents.len()
        ))),
        _ => Ok(()),
    }
}

/// All parts, under headings.
fn all(results: &Results) -> String {
    let mut text = String::new();
    for part in &PARTS {
        if let Some(content) = (part.make)(results) {
            let _ = writeln!(
                text,
                "{}## {}\n\n{}",
                if text.is_empty() { "" } else { "\n" },
                part.title,
                markdown(part, results, &content, 0)
            );
        }
    }
    text
}

/// A document with everything between its marks made anew.
fn filled(document: &str, results: &Results) -> Result<String, String> {
    let mut text = String::with_capacity(document.len());
    let mut rest = document;
    let mut found = 0;
    while let Some((before, behind)) = rest.split_once(BEGIN) {
        if before.ends_with('`') {
            // A document that tells what the marks are.
            text.push_str(before);
            text.push_str(BEGIN);
            rest = behind;
            continue;
        }
        let (name, behind) = behind.split_once(CLOSE).ok_or("a mark has no end of its own")?;
        let part = PARTS.iter().find(|part| part.name == name).ok_or_else(|| {
            let names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
            format!("there are no figures {name:?}; there are {}", names.join(", "))
        })?;
        let (inside, behind) =
            behind.split_once(END).ok_or_else(|| format!("no {END} behind {BEGIN}{name}{CLOSE}"))?;
        if inside.contains(BEGIN) {
            return Err(format!("no {END} behind {BEGIN}{name}{CLOSE}"));
        }
        let content = (part.make)(results).ok_or_else(|| format!("the report has no figures for {name}"))?;
        text.push_str(before);
        let made = match &content {
            // Whatever stands there is about the picture that it links to.
            Content::Picture(_) => {
                let target = inside.rsplit_once("](").and_then(|(_, target)| target.split_once(')'));
                let (target, _) = target.ok_or("a picture has a link, such as ![](latency.svg)")?;
                format!("![{}]({target})", markdown(part, results, &content, 0))
            }
            // A sentence in an item of a list stands under the item's text.
            Content::Text(_) => {
                let line = before.rsplit('\n').next().unwrap_or_default();
                let indent = line.len() - line.trim_start().trim_start_matches("- ").len();
                markdown(part, results, &content, indent)
            }
            Content::Table { .. } => format!("{}\n", markdown(part, results, &content, 0)),
        };
        let _ = write!(text, "{BEGIN}{name}{CLOSE}\n{made}{END}");
        rest = behind;
        found += 1;
    }
    if found == 0 {
        return Err(format!("there is no mark such as {BEGIN}calls{CLOSE} in it"));
    }
    text.push_str(rest);
    Ok(text)
}

/// A table with the day of its measurement above, or a sentence in lines.
fn markdown(part: &Part, results: &Results, content: &Content, indent: usize) -> String {
    let cell = |text: &str| readable(text.as_bytes()).replace('|', "\\|");
    match content {
        Content::Text(text) | Content::Picture(text) => wrapped(&readable(text.as_bytes()), indent),
        Content::Table { headings, rows } => {
            let line = |cells: &[String]| {
                let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
                // An empty cell has one space.
                format!("| {} |\n", cells.join(" | ")).replace("|  |", "| |")
            };
            let mut text = match part.measured(results) {
                measured if measured.is_empty() => String::new(),
                measured => format!("{}\n\n", wrapped(&measured, 0)),
            };
            text.push_str(&line(headings));
            text.push_str(&line(&vec!["---".to_string(); headings.len()]));
            text.extend(rows.iter().map(|row| line(row)));
            if glance::has_marks(rows) {
                let _ = write!(text, "\n{}\n", wrapped(&glance::explained(), 0));
            }
            text.pop();
            text
        }
    }
}

/// Words in lines of [`WIDTH`] columns, each with so many spaces in front.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{}{word}", " ".repeat(indent))),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::machine::Machine;
    use crate::results::Ran;

    fn results() -> Results {
        let found = json!({"size": 48, "ratio_p50": 1.204, "floor_ns": {"p50": 113.6}, "call_ns": {"p50": 140.0},
            "rounds": [{"floor_ns": 113.6, "call_ns": 140.0, "ratio": 1.204}]});
        let ran = Ran {
            name: "latency".into(),
            command: "ringpost-bench latency --json".into(),
            began: "2026-11-29 02:26 UTC".into(),
            seconds: 1.0,
            notes: Vec::new(),
            found,
            failure: None,
        };
        Results {
            version: "0".into(),
            machine: Machine::look(),
            quick: false,
            measurements: vec![ran],
            peers: None,
        }
    }

    #[test]
    fn what_stands_between_the_marks_is_made_anew() {
        let document = "# A\n\n- **Fast.** <!-- figures: call -->old\n  text<!-- end --> More.\n\n\
             <!-- figures: rounds -->\n| old |\n<!-- end -->\n\nThe end.\n`<!-- figures: NAME -->`.\n";
        let new = filled(document, &results()).unwrap();
        assert!(new.contains("- **Fast.** <!-- figures: call -->\n  A 48-byte call"), "{new}");
        assert!(
            new.contains("1.2 times")
                && new.contains("about 110 ns")
                && new.contains("measured.<!-- end --> More."),
            "{new}"
        );
        assert!(new.contains("<!-- figures: rounds -->\nMeasured on 2026-11-29 by `ringpost-bench latency`.\n\n| medians | all |"), "{new}");
        assert!(new.contains("| 1.20 | 1.20 |\n<!-- end -->\n\nThe end.\n"), "{new}");
        assert!(new.ends_with("`<!-- figures: NAME -->`.\n"), "{new}");
        assert!(!new.contains("old"), "{new}");
        assert_eq!(filled(&new, &results()).unwrap(), new, "a second time changes nothing");
        assert!(new.lines().all(|line| line.chars().count() <= 150));
    }

    #[test]
    fn documents_that_cannot_be_filled_are_refused() {
        for (document, why) in [
            ("nothing", "no mark"),
            ("<!-- figures: speed --><!-- end -->", "no figures \"speed\"; there are call, rounds"),
            ("<!-- figures: calls -->", "no <!-- end -->"),
            ("<!-- figures: call", "no end of its own"),
            ("<!-- figures: call --><!-- figures: call --><!-- end -->", "no <!-- end -->"),
            ("<!-- figures: links --><!-- end -->", "no figures for links"),
        ] {
            let refused = filled(document, &results()).unwrap_err();
            assert!(refused.contains(why), "{document}: {refused}");
        }
    }

    #[test]
    fn names_are_those_of_one_part_each() {
        let mut names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PARTS.len());
    }
}
