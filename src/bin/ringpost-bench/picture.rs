//! Draws the README's picture: round trips of Ringpost beside those of other systems, as one SVG file.

use std::fmt::Write;

use serde_json::Value;

use crate::page::escape;
use crate::sections::read::{list, number, text};

/// The bytes of the messages that are drawn.
const SIZE: f64 = 64.0;
/// The bytes of the floors, which pass words.
const WORD: f64 = 8.0;

const WIDTH: f64 = 760.0;
const ROW: f64 = 25.0;
const HEADING: f64 = 40.0;
const NAMES: f64 = 200.0;
const TEXTS: f64 = 180.0;
const MARGIN: f64 = 14.0;

/// Peers by their names in the comparison and on the picture.
type Peers = &'static [(&'static str, &'static str)];

/// What is drawn: the groups, and in each the peers' names in the comparison and on the picture.
const GROUPS: [(&str, &str, Peers); 3] = [
    (
        "spinning",
        "Call and response, both ends polling",
        &[
            ("floor", "floor: two bare words"),
            ("ringpost-spin", "Ringpost, spin"),
            ("iceoryx2-spin", "iceoryx2"),
            ("pipe-spin", "pipes"),
            ("unix-stream-spin", "Unix sockets"),
            ("ipc-channel-spin", "ipc-channel"),
        ],
    ),
    (
        "blocking",
        "Call and response, ends that may sleep",
        &[
            ("floor-futex", "floor: a futex pair"),
            ("ringpost-adaptive", "Ringpost, adaptive"),
            ("ringpost-park", "Ringpost, park"),
            ("unix-stream", "Unix sockets"),
            ("ipc-channel", "ipc-channel"),
            ("pipe", "pipes"),
            ("iceoryx2-event", "iceoryx2"),
        ],
    ),
    (
        "forwarding",
        "From one client through a broker to another, and back",
        &[("ringpost-forward-adaptive", "Ringpost"), ("dbus", "D-Bus"), ("redis", "Redis")],
    ),
];

/// Colours for light and dark surroundings; the picture has a background of its own, so that it can be read
/// wherever it stands.
const STYLE: &str = "
text { fill: #1b1f24; font: 13px system-ui, 'DejaVu Sans', sans-serif; }
.heading { font-weight: 600; } .remark { fill: #57606a; font-size: 12px; }
.paper { fill: #ffffff; } .ours { fill: #0a5fc2; } .other { fill: #8c959f; } .floor { fill: #1a7f37; }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e8ec; } .remark { fill: #9aa4af; }
  .paper { fill: #14171b; } .ours { fill: #63a9ff; } .other { fill: #6b7480; } .floor { fill: #5fce83; }
}
";

struct Bar {
    name: &'static str,
    /// In nanoseconds.
    median: f64,
    ratio: f64,
    colour: &'static str,
}

/// The picture of a comparison, as the JSON of `benches/peers` has it; nothing if it has nothing to draw.
pub fn svg(peers: &Value) -> Option<String> {
    let groups = groups(peers);
    let medians = || groups.iter().flat_map(|(_, bars)| bars.iter().map(|bar| bar.median));
    let (least, most) = (medians().reduce(f64::min)?, medians().reduce(f64::max)?);
    // The shortest bar is still one.
    let (low, high) = ((least / 2.0).log10(), most.log10());
    let rows = groups.iter().map(|(_, bars)| HEADING + ROW * bars.len() as f64).sum::<f64>();
    let height = rows + HEADING + MARGIN;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"title about\">\n\
         <title id=\"title\">Round trips of 64 bytes between processes</title>\n\
         <desc id=\"about\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n",
        escape(&all(&groups))
    );
    let mut top = 0.0;
    for (title, bars) in &groups {
        let _ = writeln!(svg, "<text class=\"heading\" x=\"{MARGIN}\" y=\"{}\">{title}</text>", top + 28.0);
        top += HEADING;
        for bar in bars {
            let long = (bar.median.log10() - low) / (high - low) * (WIDTH - NAMES - TEXTS);
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
                 <rect class=\"{}\" x=\"{NAMES}\" y=\"{}\" width=\"{long:.1}\" height=\"{}\" rx=\"2\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{}</text>",
                NAMES - 8.0,
                top + 14.0,
                bar.name,
                bar.colour,
                top + 1.0,
                ROW - 8.0,
                NAMES + long + 8.0,
                top + 14.0,
                shown(bar)
            );
            top += ROW;
        }
    }
    let _ = writeln!(
        svg,
        "<text class=\"remark\" x=\"{MARGIN}\" y=\"{}\">64 bytes there and back, medians, logarithmic scale. {}</text>\n\
         </svg>",
        top + 28.0,
        escape(&machine(peers))
    );
    Some(svg)
}

/// The groups that have a bar.
fn groups(peers: &Value) -> Vec<(&'static str, Vec<Bar>)> {
    let groups = GROUPS.iter().map(|(kind, title, names)| (*title, bars(peers, kind, names)));
    groups.filter(|(_, bars)| !bars.is_empty()).collect()
}

fn bars(peers: &Value, kind: &str, names: &[(&str, &'static str)]) -> Vec<Bar> {
    let bar = |&(peer, name): &(&str, &'static str)| {
        let found = list(peers, "/entries").iter().find(|entry| {
            text(entry, "/peer") == peer
                && text(entry, "/kind") == kind
                && [SIZE, WORD].contains(&number(entry, "/size"))
        })?;
        let median = number(found, "/summary/median");
        let colour = match peer {
            _ if peer.starts_with("floor") => "floor",
            _ if peer.starts_with("ringpost") => "ours",
            _ => "other",
        };
        // Nothing without a figure: a peer that failed, or a comparison of a few.
        (median > 0.0).then(|| Bar { name, median, ratio: number(found, "/summary/ratio"), colour })
    };
    names.iter().filter_map(bar).collect()
}

/// A time with no more digits than a bar can show.
fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 999.5 => format!("{ns:.0} ns"),
        ns if ns < 9_950.0 => format!("{:.1} µs", ns / 1e3),
        ns => format!("{:.0} µs", ns / 1e3),
    }
}

/// A median, and how many times the floor of the same rounds it is.
fn shown(bar: &Bar) -> String {
    let time = time(bar.median);
    match bar.ratio {
        // An end that did not sleep has nothing to do with the floor of sleepers.
        ratio if bar.colour == "floor" || ratio.is_nan() || ratio < 0.1 => time,
        ratio if ratio < 9.95 => format!("{time}, {ratio:.1} × floor"),
        ratio => format!("{time}, {ratio:.0} × floor"),
    }
}

/// All figures in words.
fn all(groups: &[(&str, Vec<Bar>)]) -> String {
    let group = |(title, bars): &(&str, Vec<Bar>)| {
        let bars: Vec<_> = bars.iter().map(|bar| format!("{} {}", bar.name, shown(bar))).collect();
        format!("{title}: {}.", bars.join("; "))
    };
    groups.iter().map(group).collect::<Vec<_>>().join(" ")
}

/// The picture in a few words, for those who do not see it.
pub fn described(peers: &Value) -> Option<String> {
    let named = |bar: &Bar| {
        let name = bar.name.trim_start_matches("floor: ").trim_end_matches(", spin");
        match bar.colour {
            "ours" if !bar.ratio.is_nan() => {
                format!("{name} {} ({:.1} times the floor)", time(bar.median), bar.ratio)
            }
            _ => format!("{name} {}", time(bar.median)),
        }
    };
    let [polling, _, broker] = GROUPS
        .map(|(kind, _, names)| bars(peers, kind, names).iter().map(named).collect::<Vec<_>>().join(", "));
    (!polling.is_empty()).then(|| {
        let broker = if broker.is_empty() { String::new() } else { format!(" Through a broker: {broker}.") };
        format!(
            "Round trips of 64 bytes, with their ratio to the floor of the same run. With both ends polling: {polling}.{broker}"
        )
    })
}

fn machine(peers: &Value) -> String {
    let known = |path: &str| peers.pointer(path).and_then(Value::as_str);
    match (known("/machine/cpu"), known("/machine/kernel")) {
        (Some(cpu), Some(kernel)) => format!("{}, Linux {kernel}.", cpu.trim()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_picture_has_the_figures_and_their_ratios_also_in_words() {
        let object = json!({"machine": {"cpu": "a <cpu>", "kernel": "6.18"}, "entries": [
            {"peer": "floor", "kind": "spinning", "size": 8, "summary": {"median": 100.0, "ratio": 1.0}},
            {"peer": "ringpost-spin", "kind": "spinning", "size": 64, "summary": {"median": 180.0, "ratio": 1.8}},
            {"peer": "ringpost-spin", "kind": "spinning", "size": 4096, "summary": {"median": 900.0, "ratio": 9.0}},
            {"peer": "dbus", "kind": "forwarding", "size": 64, "summary": {"median": 181_000.0, "ratio": null}},
            {"peer": "redis", "kind": "forwarding", "size": 64, "summary": null, "failure": "not installed"},
        ]});
        let svg = svg(&object).unwrap();
        assert_eq!(svg.matches("180 ns, 1.8 × floor").count(), 2, "{svg}");
        assert!(svg.contains("D-Bus 181 µs.</desc>") && svg.contains("a &lt;cpu&gt;, Linux 6.18."));
        let words = described(&object).unwrap();
        assert!(words.contains(": two bare words 100 ns, Ringpost 180 ns (1.8 times the floor)."), "{words}");
        assert!(words.ends_with("Through a broker: D-Bus 181 µs."), "{words}");
        assert!(!svg.contains("900") && !svg.contains("Redis") && !svg.contains("NaN"));
        assert!(svg.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn nothing_measured_is_no_picture() {
        assert_eq!(svg(&json!({"entries": []})), None);
        assert_eq!(svg(&json!({"entries": [{"peer": "floor", "kind": "spinning", "size": 8}]})), None);
    }
}
