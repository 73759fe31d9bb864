//! Draws line plots and bar charts as inline SVG.
//!
//! Colours come from the page's style sheet. Each line also has its own marker, so that it can be told apart
//! in a black-and-white print.

use std::fmt::Write;

use crate::page::escape;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 52.0;
/// The most markers on a line.
const MARKERS: usize = 12;
/// The number of colours in the style sheet.
const COLOURS: usize = 6;

/// The scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Log,
    /// For fractions: 0.9, 0.99, 0.999 at equal distances.
    Nines,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Nines => -(1.0 - value).max(1e-12).log10(),
        }
    }
}

/// One axis.
pub struct Axis {
    pub label: &'static str,
    pub scale: Scale,
    pub text: fn(f64) -> String,
    /// The values of the ticks; if empty, they are chosen by the scale.
    pub ticks: Vec<f64>,
}

/// One line of a plot.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Lines over two axes.
pub struct Plot {
    /// A description for screen readers.
    pub about: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
}

/// An axis with its bounds, in units of its scale.
struct Span<'a> {
    axis: &'a Axis,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Span<'_> {
    fn of<'a>(axis: &'a Axis, values: impl Iterator<Item = f64>) -> Span<'a> {
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            least = least.min(value);
            most = most.max(value);
        }
        if axis.scale == Scale::Linear {
            least = least.min(0.0);
        }
        let ticks = if axis.ticks.is_empty() { ticks(axis.scale, least, most) } else { axis.ticks.clone() };
        let places = ticks.iter().copied().chain([least, most]).map(|value| axis.scale.place(value));
        let low = places.clone().fold(f64::INFINITY, f64::min);
        let high = places.fold(f64::NEG_INFINITY, f64::max);
        Span { axis, low, high: if high > low { high } else { low + 1.0 }, ticks }
    }

    /// The position of a value on the axis, from 0 to 1.
    fn at(&self, value: f64) -> f64 {
        (self.axis.scale.place(value) - self.low) / (self.high - self.low)
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.at(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.at(value) * (HEIGHT - TOP - BOTTOM)
    }
}

/// Chooses ticks for an axis from `least` to `most`.
fn ticks(scale: Scale, least: f64, most: f64) -> Vec<f64> {
    match scale {
        Scale::Nines => {
            let most = scale.place(most).ceil().clamp(1.0, 9.0) as i32;
            [0.0, 0.5].into_iter().chain((1..=most).map(|nines| 1.0 - 10_f64.powi(-nines))).collect()
        }
        Scale::Log => {
            let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
            let steps: &[f64] = if last - first <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let all =
                (first..=last).flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
            let all: Vec<f64> = all.collect();
            // Keep one tick below the smallest value and one above the largest.
            let below = all.iter().rposition(|&tick| tick <= least * 1.001).unwrap_or(0);
            let above = all.iter().position(|&tick| tick >= most * 0.999).unwrap_or(all.len() - 1);
            all[below..=above.max(below)].to_vec()
        }
        Scale::Linear => {
            let range = (most - least).max(f64::MIN_POSITIVE);
            let power = 10_f64.powf((range / 5.0).log10().floor());
            let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
            let step = step.into_iter().find(|step| range / step <= 6.0).unwrap_or(range);
            (0..=((most / step).ceil() as i32)).map(|index| step * f64::from(index)).collect()
        }
    }
}

impl Plot {
    /// The SVG and its legend, or a remark if there is nothing to draw.
    pub fn svg(&self) -> String {
        let lines: Vec<(usize, &Line)> =
            self.lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty()).collect();
        if lines.is_empty() {
            return "<p class=\"remark\">Nothing to plot.</p>\n".into();
        }
        let points = || lines.iter().flat_map(|(_, line)| line.points.iter());
        let x = Span::of(&self.x, points().map(|point| point.0));
        let y = Span::of(&self.y, points().map(|point| point.1));
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escape(&self.about)
        );
        self.axes(&mut svg, &x, &y);
        for &(index, line) in &lines {
            let colour = index % COLOURS;
            let path: Vec<String> =
                line.points.iter().map(|&(a, b)| format!("{:.1},{:.1}", x.x(a), y.y(b))).collect();
            let _ = writeln!(svg, "<polyline class=\"line s{colour}\" points=\"{}\"/>", path.join(" "));
            // Too many markers would hide the line. Each line starts with a different point, so that markers
            // of different lines do not overlap.
            let step = line.points.len().div_ceil(MARKERS);
            for &(a, b) in line.points.iter().skip(index % step).step_by(step) {
                let title = format!("{}: {} at {}", line.name, (self.y.text)(b), (self.x.text)(a));
                svg.push_str(&marker(index, x.x(a), y.y(b), &title));
            }
        }
        svg.push_str("</svg>\n<ul class=\"legend\">\n");
        for &(index, line) in &lines {
            let colour = index % COLOURS;
            let _ = writeln!(
                svg,
                "<li><svg viewBox=\"0 0 28 12\" aria-hidden=\"true\"><polyline class=\"line s{colour}\" \
                 points=\"0,6 28,6\"/>{}</svg>{}</li>",
                marker(index, 14.0, 6.0, ""),
                escape(&line.name)
            );
        }
        svg.push_str("</ul>\n");
        svg
    }

    fn axes(&self, svg: &mut String, x: &Span<'_>, y: &Span<'_>) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut last = f64::NEG_INFINITY;
        for &tick in &x.ticks {
            let at = x.x(tick);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\"/>"
            );
            let text = (self.x.text)(tick);
            // Leave out labels that would overlap.
            let width = text.chars().count() as f64 * 7.0;
            if at - last >= width + 8.0 {
                let below = bottom + 18.0;
                let _ = writeln!(
                    svg,
                    "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>",
                    escape(&text)
                );
                last = at;
            }
        }
        for &tick in &y.ticks {
            let at = y.y(tick);
            let (beside, middle) = (LEFT - 8.0, at + 4.0);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>\n\
                 <text x=\"{beside}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>",
                escape(&(self.y.text)(tick))
            );
        }
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT},{TOP} V{bottom} H{right}\"/>\n\
             <text class=\"label\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text class=\"label\" transform=\"translate(14,{}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 10.0,
            escape(self.x.label),
            (TOP + bottom) / 2.0,
            escape(self.y.label)
        );
    }
}

/// A marker: a circle, square, diamond or triangle, depending on the line's index.
fn marker(index: usize, x: f64, y: f64, title: &str) -> String {
    let colour = index % COLOURS;
    let title = if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
    let d = match index % 4 {
        0 => format!("M{:.1},{y:.1} a3.6,3.6 0 1 0 7.2,0 a3.6,3.6 0 1 0 -7.2,0", x - 3.6),
        1 => format!("M{:.1},{:.1} h6.4 v6.4 h-6.4 z", x - 3.2, y - 3.2),
        2 => format!("M{x:.1},{:.1} l4.4,4.4 -4.4,4.4 -4.4,-4.4 z", y - 4.4),
        _ => format!("M{x:.1},{:.1} l4.2,7.4 h-8.4 z", y - 4.6),
    };
    format!("<path class=\"dot s{colour}\" d=\"{d}\">{title}</path>\n")
}

/// One bar of a chart.
pub struct Bar {
    pub name: String,
    pub value: f64,
    /// The text after the bar.
    pub text: String,
    /// Whether it is a Ringpost bar, which has its own colour.
    pub ours: bool,
}

/// Draws horizontal bars on a logarithmic scale.
pub fn bars(about: &str, bars: &[Bar]) -> String {
    const ROW: f64 = 26.0;
    const NAMES: f64 = 230.0;
    const TEXTS: f64 = 170.0;
    let drawn: Vec<&Bar> = bars.iter().filter(|bar| bar.value > 0.0).collect();
    if drawn.is_empty() {
        return "<p class=\"remark\">Nothing to plot.</p>\n".into();
    }
    let least = drawn.iter().map(|bar| bar.value).fold(f64::INFINITY, f64::min);
    let most = drawn.iter().map(|bar| bar.value).fold(0.0, f64::max);
    // The scale starts at half the smallest value, so that the shortest bar is visible.
    let (low, high) = ((least / 2.0).log10(), most.log10().max((least / 2.0).log10() + 0.1));
    let height = ROW * drawn.len() as f64 + 4.0;
    let mut svg = format!(
        "<svg class=\"bars\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n",
        escape(about)
    );
    for (index, bar) in drawn.iter().enumerate() {
        let top = ROW * index as f64 + 4.0;
        let long = (bar.value.log10() - low) / (high - low) * (WIDTH - NAMES - TEXTS);
        let colour = if bar.ours { "s0" } else { "s5" };
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"bar {colour}\" x=\"{NAMES}\" y=\"{top:.1}\" width=\"{long:.1}\" height=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            NAMES - 8.0,
            top + 14.0,
            escape(&bar.name),
            ROW - 8.0,
            NAMES + long + 8.0,
            top + 14.0,
            escape(&bar.text)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale) -> Axis {
        Axis { label: "a < b", scale, text: |value| format!("{value}"), ticks: Vec::new() }
    }

    fn plot(points: Vec<(f64, f64)>) -> Plot {
        Plot {
            about: "an \"about\"".into(),
            x: axis(Scale::Nines),
            y: axis(Scale::Log),
            lines: vec![Line { name: "<ours>".into(), points }],
        }
    }

    #[test]
    fn a_plot_is_drawn_with_its_texts_escaped() {
        let svg = plot(vec![(0.0, 90.0), (0.5, 100.0), (0.999, 5e4)]).svg();
        assert!(
            svg.contains("polyline") && svg.contains("&lt;ours&gt;") && svg.contains("an &quot;about&quot;")
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<ours>"));
    }

    #[test]
    fn unusual_points_give_a_valid_plot() {
        assert!(plot(Vec::new()).svg().contains("Nothing to plot"));
        for points in [vec![(0.5, 7.0)], vec![(1.0, 0.0)], vec![(0.5, 7.0), (0.5, 7.0)]] {
            let svg = plot(points).svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn ticks_fit_the_scale() {
        assert_eq!(ticks(Scale::Log, 90.0, 400.0), [50.0, 100.0, 200.0, 500.0]);
        assert_eq!(ticks(Scale::Log, 1.0, 1e5), [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]);
        assert_eq!(ticks(Scale::Linear, 0.0, 9.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(Scale::Nines, 0.0, 0.99).len(), 4);
    }

    #[test]
    fn bars_without_a_value_are_left_out() {
        let bar = |name: &str, value| Bar { name: name.into(), value, text: "1 ns".into(), ours: true };
        let svg = bars("peers", &[bar("one & two", 1.0), bar("none", 0.0)]);
        assert!(svg.contains("one &amp; two") && !svg.contains("none") && !svg.contains("NaN"));
        assert!(bars("", &[]).contains("Nothing"));
    }
}
