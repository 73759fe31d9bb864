//! What the doctor finds: how bad it is, what it means, and what mends it.

use serde::Serialize;

use ringpost::cli::out::readable;

/// How bad a finding is. The worst one decides the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// The system does not tell.
    Unknown,
    /// The bus works, but slower, or not for as many as it is set for.
    Warning,
    /// Something does not work.
    Problem,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Unknown => "unknown",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub verdict: Verdict,
    /// What is the case.
    pub found: String,
    /// What that means; empty if all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub means: String,
    /// What to do; empty if all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
}

impl Finding {
    pub fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            check,
            verdict: Verdict::Ok,
            found: found.into(),
            means: String::new(),
            mend: String::new(),
        }
    }

    pub fn unknown(check: &'static str, found: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Unknown, ..Finding::ok(check, found) }
    }

    pub fn warning(
        check: &'static str,
        found: impl Into<String>,
        means: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        Finding {
            verdict: Verdict::Warning,
            means: means.into(),
            mend: mend.into(),
            ..Finding::ok(check, found)
        }
    }

    pub fn problem(
        check: &'static str,
        found: impl Into<String>,
        means: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        Finding { verdict: Verdict::Problem, ..Finding::warning(check, found, means, mend) }
    }
}

/// The worst verdict of all.
pub fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
}

/// The findings as text: one line each, and below those that are not well what they mean and what mends them.
/// The last line counts them.
pub fn text(findings: &[Finding], width: usize) -> String {
    let wide = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { check, verdict, found, means, mend } in findings {
        let head = format!("{:<7}  {check:<wide$}  ", verdict.name());
        text.push_str(&wrapped(&head, found, width));
        for (label, part) in [("", means), ("mend: ", mend)] {
            if !part.is_empty() {
                text.push_str(&wrapped(&format!("{:9}{label}", ""), part, width));
            }
        }
    }
    text.push_str(&format!("{}\n", counted(findings)));
    text
}

/// How many of each verdict there are.
fn counted(findings: &[Finding]) -> String {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let some = |verdict, one: &str, many: &str| match count(verdict) {
        0 => None,
        1 => Some(format!("1 {one}")),
        more => Some(format!("{more} {many}")),
    };
    let parts: Vec<String> = [
        some(Verdict::Problem, "problem", "problems"),
        some(Verdict::Warning, "warning", "warnings"),
        some(Verdict::Ok, "ok", "ok"),
        some(Verdict::Unknown, "unknown", "unknown"),
    ]
    .into_iter()
    .flatten()
    .collect();
    parts.join(", ")
}

/// A text behind `head`, broken between words where it would be wider than `width`. The lines that follow are
/// indented as far as the head goes.
fn wrapped(head: &str, text: &str, width: usize) -> String {
    let indent = head.len();
    let (mut lines, mut line, mut is_empty) = (String::new(), head.to_owned(), true);
    for word in readable(text.as_bytes()).split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > width {
            lines.push_str(line.trim_end());
            lines.push('\n');
            (line, is_empty) = (" ".repeat(indent), true);
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push_str(line.trim_end());
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_has_its_lines_and_the_last_line_counts() {
        let findings = [
            Finding::ok("socket", "a server answers"),
            Finding::warning("open files", "32 files", "That is enough for 4 clients.", "ulimit -n 1124"),
            Finding::unknown("governor", "the kernel does not tell"),
        ];
        assert_eq!(worst(&findings), Verdict::Warning);
        assert_eq!(
            text(&findings, 80),
            "ok       socket      a server answers\n\
             warning  open files  32 files\n         \
             That is enough for 4 clients.\n         \
             mend: ulimit -n 1124\n\
             unknown  governor    the kernel does not tell\n\
             1 warning, 1 ok, 1 unknown\n"
        );
        assert_eq!(worst(&findings[..1]), Verdict::Ok);
        assert_eq!(worst(&[Finding::problem("x", "", "", ""), Finding::ok("y", "")]), Verdict::Problem);
    }

    #[test]
    fn long_texts_are_broken_between_words_and_controls_are_escaped() {
        assert_eq!(wrapped("ok  ", "one two three", 11), "ok  one two\n    three\n");
        assert_eq!(wrapped("ok  ", "longer than the line", 5), "ok  longer\n    than\n    the\n    line\n");
        assert_eq!(wrapped("", "a\u{1b}[31mb", 80), "a\\u{1b}[31mb\n");
    }
}
