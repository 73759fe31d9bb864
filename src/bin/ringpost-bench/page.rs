//! `Page`: builds the report's HTML, a single file that needs no network, with dark mode and print style.

use std::fmt::Write;

use crate::glance::{self, Content};

/// Escapes `text` for use between tags and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // HTML does not allow other control characters.
            character if character.is_control() && !matches!(character, '\n' | '\t') => {
                escaped.push('\u{fffd}');
            }
            character => escaped.push(character),
        }
    }
    escaped
}

const STYLE: &str = "
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f24; --soft: #57606a; --grid: #e3e7eb; --edge: #c4cad1; --tint: #f4f6f8;
  --s0: #0a5fc2; --s1: #c2410c; --s2: #15803d; --s3: #7c3aed; --s4: #b0127b; --s5: #6b7480;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --ink: #e4e8ec; --soft: #9aa4af; --grid: #2a3037; --edge: #48515b; --tint: #1d2227;
    --s0: #63a9ff; --s1: #ff9259; --s2: #5fce83; --s3: #b79aff; --s4: #ff85cb; --s5: #98a2ad;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--edge); }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--s0); }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
.remark { color: var(--soft); }
.warning { border-left: 3px solid var(--s1); padding: .2rem .8rem; background: var(--tint); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th { font-weight: 600; border-bottom-color: var(--edge); vertical-align: bottom; }
th:first-child, td:first-child {
  text-align: left; white-space: normal; min-width: 8rem; position: sticky; left: 0; background: var(--paper);
}
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .6rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
pre, code { font: .85rem/1.45 ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', monospace; }
pre { margin: .5rem 0; padding: .5rem .8rem; background: var(--tint); white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: .8rem 0 1rem; }
figcaption { color: var(--soft); font-size: .92rem; margin-bottom: .3rem; }
svg { display: block; width: 100%; height: auto; min-width: 34rem; max-width: 46rem; }
svg text { fill: var(--ink); font: 12px system-ui, 'DejaVu Sans', sans-serif; }
svg text.label { fill: var(--soft); }
.grid { stroke: var(--grid); stroke-width: 1; }
.axis { stroke: var(--edge); stroke-width: 1; fill: none; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.legend { list-style: none; margin: .2rem 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; font-size: .9rem; }
.legend li { display: flex; align-items: center; gap: .4rem; }
.legend svg { width: 28px; height: 12px; min-width: 0; flex: none; }
.line.s0 { stroke: var(--s0); } .line.s1 { stroke: var(--s1); } .line.s2 { stroke: var(--s2); }
.line.s3 { stroke: var(--s3); } .line.s4 { stroke: var(--s4); } .line.s5 { stroke: var(--s5); }
.dot.s0, .bar.s0 { fill: var(--s0); } .dot.s1 { fill: var(--s1); } .dot.s2 { fill: var(--s2); }
.dot.s3 { fill: var(--s3); } .dot.s4 { fill: var(--s4); } .dot.s5, .bar.s5 { fill: var(--s5); }
@media (max-width: 32rem) {
  body { padding: 1rem .75rem 3rem; }
  h1 { font-size: 1.4rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .4rem; }
  th:first-child, td:first-child { max-width: 11rem; }
}
@media print {
  :root {
    color-scheme: light;
    --paper: #ffffff; --ink: #000000; --soft: #444444; --grid: #dddddd; --edge: #999999; --tint: #f4f4f4;
    --s0: #0a5fc2; --s1: #c2410c; --s2: #15803d; --s3: #7c3aed; --s4: #b0127b; --s5: #6b7480;
  }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav { display: none; }
  .bar { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  h2 { break-after: avoid; }
  figure, table, pre { break-inside: avoid; }
  .scroll { overflow: visible; }
  svg { min-width: 0; }
  th:first-child, td:first-child { position: static; }
}
";

/// A page under construction.
pub struct Page {
    body: String,
    contents: Vec<(String, String)>,
}

impl Page {
    pub fn new() -> Page {
        Page { body: String::new(), contents: Vec::new() }
    }

    /// Starts a section, which is listed in the contents.
    pub fn section(&mut self, id: &str, heading: &str) {
        self.contents.push((id.into(), heading.into()));
        let _ = writeln!(self.body, "<h2 id=\"{}\">{}</h2>", escape(id), escape(heading));
    }

    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.body, "<h3>{}</h3>", escape(text));
    }

    pub fn text(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
    }

    /// Adds a highlighted paragraph.
    pub fn warning(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p class=\"warning\">{}</p>", escape(text));
    }

    /// Adds one or more command lines.
    pub fn commands(&mut self, lines: &str) {
        let _ = writeln!(self.body, "<pre>{}</pre>", escape(lines));
    }

    /// Adds a list of terms with values.
    pub fn facts(&mut self, facts: &[(&str, String)]) {
        self.body.push_str("<dl>\n");
        for (term, fact) in facts {
            let _ = writeln!(self.body, "<dt>{}</dt><dd>{}</dd>", escape(term), escape(fact));
        }
        self.body.push_str("</dl>\n");
    }

    /// Adds a table, which scrolls by itself where it is wider than the window. Explains marked ratios below
    /// it.
    pub fn table<H: AsRef<str>>(&mut self, headings: &[H], rows: &[Vec<String>]) {
        let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cells: String = cells.map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
            format!("<tr>{cells}</tr>\n")
        };
        // With the keyboard, only what can be focused can be scrolled.
        self.body.push_str("<div class=\"scroll\" tabindex=\"0\"><table>\n<thead>");
        self.body.push_str(&cells("th", &mut headings.iter().map(AsRef::as_ref)));
        self.body.push_str("</thead>\n<tbody>\n");
        for row in rows {
            self.body.push_str(&cells("td", &mut row.iter().map(String::as_str)));
        }
        self.body.push_str("</tbody></table></div>\n");
        if glance::has_marks(rows) {
            let _ = writeln!(self.body, "<p class=\"remark\">{}</p>", escape(&glance::explained()));
        }
    }

    /// Adds a table or a sentence, if there is one.
    pub fn content(&mut self, content: Option<Content>) {
        match content {
            Some(Content::Table { headings, rows }) => self.table(&headings, &rows),
            Some(Content::Text(text) | Content::Picture(text)) => self.text(&text),
            None => {}
        }
    }

    /// Adds a drawing with a caption. The SVG must already be escaped.
    pub fn figure(&mut self, caption: &str, svg: &str) {
        let _ = writeln!(
            self.body,
            "<figure><figcaption>{}</figcaption>\n<div class=\"scroll\" tabindex=\"0\">{svg}</div></figure>",
            escape(caption)
        );
    }

    /// Returns the whole page.
    pub fn finish(self, title: &str, under: &str) -> String {
        let links: String = self
            .contents
            .iter()
            .map(|(id, heading)| format!("<li><a href=\"#{}\">{}</a></li>", escape(id), escape(heading)))
            .collect();
        let (title, under) = (escape(title), escape(under));
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
             <p class=\"remark\">{under}</p>\n<nav aria-label=\"Contents\"><ul>{links}</ul></nav>\n{}</body>\n</html>\n",
            self.body
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_escaped() {
        let nasty = "<script>alert('1' & \"2\")</script>\u{1b}";
        let mut page = Page::new();
        page.section(nasty, nasty);
        page.heading(nasty);
        page.text(nasty);
        page.warning(nasty);
        page.commands(nasty);
        page.facts(&[(nasty, nasty.into())]);
        page.table(&[nasty], &[vec![nasty.into()]]);
        page.figure(nasty, "");
        let html = page.finish(nasty, nasty);
        assert!(!html.contains("<script") && !html.contains('\u{1b}') && html.contains("&lt;script&gt;"));
    }

    #[test]
    fn the_page_needs_no_network() {
        let html = Page::new().finish("title", "");
        assert!(!html.contains("http") && !html.contains("url(") && !html.contains("@import"));
    }
}
