//! The charts that pilot's reports and the demo share. Each says with its labels what it shows and tells the values
//! under the pointer; the page adds a title that states the finding.

mod spread;
mod tradeoff;

pub use spread::{Latencies, ReliabilityBin, latency, quantile, reliability};
pub use tradeoff::{Tradeoff, TradeoffPoint, tradeoff};

use super::{
    numbers::{count, duration},
    plot::{Anchor, HEIGHT, MARGINS, Plot, Scale, WIDTH, thin},
};

/// Points in a line; more would only make the file longer.
const MOST: usize = 240;
/// Points of a line that tell their values.
const TELLING: usize = 48;
/// Width of a character of the small texts, about.
const CHARACTER: f64 = 6.4;

/// Classes of the colours, in the order in which series take them.
const COLOURS: [&str; 4] = ["first", "second", "third", "fourth"];

/// How a value is written on an axis.
pub type Label<'a> = &'a dyn Fn(f64) -> String;

/// An axis.
#[derive(Clone, Copy)]
pub struct Axis<'a> {
    /// What it measures.
    pub name: &'a str,
    /// First and last value.
    pub range: (f64, f64),
    /// Whether it is logarithmic.
    pub log: bool,
    /// How values are written.
    pub label: Label<'a>,
}

impl Axis<'_> {
    fn scale(&self, to: (f64, f64)) -> Scale {
        if self.log { Scale::log(self.range, to) } else { Scale::linear(self.range, to) }
    }
}

/// A named line.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Its name, written at its end.
    pub name: String,
    /// Points from left to right.
    pub points: Vec<(f64, f64)>,
    /// What each point rests on, in their order; empty where the points are a function rather than measurements.
    pub spread: Vec<Spread>,
}

/// What a measured point rests on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spread {
    /// Values behind it.
    pub n: u64,
    /// Both ends of its interval, where it has one; an end that is not bounded is infinite.
    pub interval: Option<(f64, f64)>,
}

/// Lines over common axes; at most four have colours of their own. `rule` draws a dashed horizontal line with a name.
#[must_use]
pub fn lines(about: &str, x: Axis<'_>, y: Axis<'_>, series: &[Series], rule: Option<(f64, &str)>) -> String {
    let mut plot = Plot::new(about, |w, h| (x.scale(w), y.scale(h)));
    plot.y_axis(y.name, y.label);
    plot.x_axis(x.name, x.label);
    if let Some((at, name)) = rule {
        plot.rule((x.range.0, at), (x.range.1, at), "limit");
        plot.label((x.range.0, at), (6.0, -7.0), name, "limit-text", Anchor::Start);
    }
    let ends: Vec<f64> = series.iter().filter_map(|line| Some(plot.y.at(line.points.last()?.1))).collect();
    let meet = ends.iter().enumerate().any(|(i, a)| ends[..i].iter().any(|b| (a - b).abs() < 14.0));
    let mut taken: Vec<(f64, f64)> = Vec::new();
    for (index, line) in series.iter().enumerate() {
        let class = COLOURS[index % COLOURS.len()];
        plot.line(&thin(&line.points, MOST), class);
        measured(&mut plot, (x, y), line, class);
        let Some(&end) = line.points.last() else { continue };
        // A name stands at the end of its line; where ends meet, where the line is farthest from the others.
        let alone = if meet { farthest(&plot, series, index) } else { None };
        let at = alone.unwrap_or(end);
        // Names that would collide move down, and up where that would leave the plot.
        let down = plot.y.at(at.1) < HEIGHT * 0.6;
        let mut by = if alone.is_some() { -8.0 } else { above(&plot, line) };
        while taken.iter().any(|(x, y)| (plot.x.at(at.0) - x).abs() < 130.0 && (plot.y.at(at.1) + by - y).abs() < 14.0)
        {
            by += if down { 4.0 } else { -4.0 };
        }
        taken.push((plot.x.at(at.0), plot.y.at(at.1) + by));
        let anchor = if alone.is_some() { Anchor::Middle } else { Anchor::End };
        plot.label(at, (if alone.is_some() { 0.0 } else { -4.0 }, by), &line.name, &format!("{class}-text"), anchor);
        for point in thin(&line.points, if line.spread.is_empty() { TELLING } else { 0 }) {
            plot.hit(point, &format!("{}\n{} · {}", line.name, (x.label)(point.0), (y.label)(point.1)));
        }
    }
    plot.finish()
}

/// How far above its last point a line's name stands clear of what comes before it.
fn above(plot: &Plot, line: &Series) -> f64 {
    let Some(end) = line.points.last().map(|p| (plot.x.at(p.0), plot.y.at(p.1))) else { return -8.0 };
    let from = end.0 - line.name.chars().count() as f64 * CHARACTER;
    let under = line.points.iter().filter(|p| plot.x.at(p.0) >= from).map(|p| plot.y.at(p.1));
    -8.0 - (end.1 - under.fold(end.1, f64::min)).min(60.0)
}

/// The points of a line that was measured: dots with whiskers, which tell n and interval.
fn measured(plot: &mut Plot, (x, y): (Axis<'_>, Axis<'_>), line: &Series, class: &str) {
    for (point, spread) in line.points.iter().zip(&line.spread) {
        let end = |v: f64, edge: f64| if v.is_finite() { v } else { edge };
        let mut tip = format!("{}\n{}: {} · {}", line.name, x.name, (x.label)(point.0), (y.label)(point.1));
        if let Some((low, high)) = spread.interval {
            let ends = (end(low, y.range.0), end(high, y.range.1));
            plot.rule((point.0, ends.0), (point.0, ends.1), &format!("{class} thin"));
            let tell = |v: f64| if v.is_finite() { (y.label)(v) } else { "not bounded".to_owned() };
            tip.push_str(&format!("\n95 % interval {} to {}", tell(low), tell(high)));
        }
        tip.push_str(&format!("\nn = {}", count(spread.n)));
        plot.dot(*point, 3.2, &format!("{class}-dot"));
        plot.hit(*point, &tip);
    }
}

/// Where in the middle part of the plot a line is farthest from the others; `None` when it is always beside one.
fn farthest(plot: &Plot, series: &[Series], index: usize) -> Option<(f64, f64)> {
    let height = |line: &Series, x: f64| -> Option<f64> {
        let after = line.points.iter().position(|p| p.0 >= x)?;
        let (b, a) = (line.points[after], line.points[after.saturating_sub(1)]);
        let share = if b.0 > a.0 { (x - a.0) / (b.0 - a.0) } else { 1.0 };
        Some(plot.y.at(a.1 + share * (b.1 - a.1)))
    };
    let gap = |at: &(f64, f64)| -> f64 {
        let others = series.iter().enumerate().filter(|(i, _)| *i != index);
        others.filter_map(|(_, line)| Some((height(line, at.0)? - plot.y.at(at.1)).abs())).fold(f64::INFINITY, f64::min)
    };
    let inside = |at: &(f64, f64)| (WIDTH * 0.28..WIDTH * 0.82).contains(&plot.x.at(at.0));
    let best = series[index].points.iter().copied().filter(inside).max_by(|a, b| gap(a).total_cmp(&gap(b)))?;
    (gap(&best) > 10.0).then_some(best)
}

/// A value with its interval.
#[derive(Debug, Clone)]
pub struct Interval {
    /// Whose it is.
    pub name: String,
    /// The estimate.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// What the pointer says beside the numbers.
    pub note: String,
}

/// Values with intervals below each other. `rule` draws a dashed vertical line with a name: a limit, or no difference.
#[must_use]
pub fn intervals(about: &str, axis: Axis<'_>, rows: &[Interval], rule: Option<(f64, &str)>) -> String {
    let left = names_width(rows.iter().map(|row| row.name.as_str()));
    let n = rows.len() as f64;
    let height = MARGINS.2 + MARGINS.3 + 34.0 * n.max(1.0) + 6.0;
    let mut plot = Plot::sized(about, left, height, |w, h| (axis.scale(w), Scale::linear((0.0, n.max(1.0)), h)));
    plot.x_axis(axis.name, axis.label);
    if let Some((at, name)) = rule {
        plot.rule((at, 0.0), (at, n), "limit");
        plot.label((at, n), (4.0, -6.0), name, "limit-text", Anchor::Start);
    }
    for (index, row) in rows.iter().enumerate() {
        let y = n - index as f64 - 0.5;
        let at = plot.y.at(y) + 4.0;
        plot.raw_text((left - 10.0, at), &shortened(&row.name), "tick", Anchor::End);
        plot.rule((row.low, y), (row.high, y), "whisker");
        plot.rule((row.low, y - 0.12), (row.low, y + 0.12), "whisker");
        plot.rule((row.high, y - 0.12), (row.high, y + 0.12), "whisker");
        plot.dot((row.estimate, y), 4.5, "first-dot");
        plot.label((row.estimate, y), (0.0, -9.0), &(axis.label)(row.estimate), "strong", Anchor::Middle);
        let (low, high) = ((axis.label)(row.low), (axis.label)(row.high));
        plot.hit(
            (row.estimate, y),
            &format!("{}\n{} ({low} to {high})\n{}", row.name, (axis.label)(row.estimate), row.note),
        );
    }
    plot.finish()
}

/// A named value.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// What the pointer says beside the value.
    pub note: String,
}

/// Horizontal bars below each other.
#[must_use]
pub fn bars(about: &str, axis: Axis<'_>, rows: &[Bar]) -> String {
    let left = names_width(rows.iter().map(|row| row.name.as_str()));
    let n = rows.len() as f64;
    let height = MARGINS.2 + MARGINS.3 + 19.0 * n.max(1.0);
    let mut plot = Plot::sized(about, left, height, |w, h| (axis.scale(w), Scale::linear((0.0, n.max(1.0)), h)));
    plot.x_axis(axis.name, axis.label);
    for (index, row) in rows.iter().enumerate() {
        let y = n - index as f64 - 0.5;
        plot.rect((axis.range.0, y - 0.33), (row.value, y + 0.33), "bar");
        let at = plot.y.at(y) + 4.0;
        plot.raw_text((left - 8.0, at), &shortened(&row.name), "tick", Anchor::End);
        plot.label((row.value, y), (6.0, 4.0), &(axis.label)(row.value), "tick", Anchor::Start);
        plot.hit((row.value, y), &format!("{}\n{}\n{}", row.name, (axis.label)(row.value), row.note));
    }
    plot.finish()
}

/// A named point.
#[derive(Debug, Clone)]
pub struct Spot {
    /// Its name, written beside it.
    pub name: String,
    /// Where it is.
    pub at: (f64, f64),
    /// What the pointer says beside the values.
    pub note: String,
}

/// Named points over two axes.
#[must_use]
pub fn scatter(about: &str, x: Axis<'_>, y: Axis<'_>, spots: &[Spot]) -> String {
    let mut plot = Plot::new(about, |w, h| (x.scale(w), y.scale(h)));
    plot.y_axis(y.name, y.label);
    plot.x_axis(x.name, x.label);
    let mut taken: Vec<(f64, f64)> = Vec::new();
    for (index, spot) in spots.iter().enumerate() {
        let class = COLOURS[index % COLOURS.len()];
        plot.dot(spot.at, 6.0, &format!("{class}-dot"));
        let (px, py) = (plot.x.at(spot.at.0), plot.y.at(spot.at.1));
        let mut by = -11.0;
        while taken.iter().any(|other| (other.0 - px).abs() < 150.0 && (py + by - other.1).abs() < 14.0) {
            by += 5.0;
        }
        taken.push((px, py + by));
        let (shift, anchor) = if px > WIDTH * 0.6 { (-9.0, Anchor::End) } else { (9.0, Anchor::Start) };
        plot.label(spot.at, (shift, by), &spot.name, &format!("{class}-text"), anchor);
        let values = format!("{} · {}", (x.label)(spot.at.0), (y.label)(spot.at.1));
        plot.hit(spot.at, &format!("{}\n{values}\n{}", spot.name, spot.note));
    }
    plot.finish()
}

/// An axis of latencies that holds all of `values`, logarithmic.
#[must_use]
pub fn latency_axis<'a>(name: &'a str, values: &[f64]) -> Axis<'a> {
    let low = values.iter().copied().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    let low = if low.is_finite() { low } else { 1.0 };
    Axis { name, range: (low / 2.0, high.max(low) * 2.0), log: true, label: &duration }
}

fn names_width<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    let longest = names.map(|name| shortened(name).chars().count()).max().unwrap_or(0);
    (longest as f64 * CHARACTER + 16.0).clamp(MARGINS.0, WIDTH * 0.45)
}

fn shortened(name: &str) -> String {
    const MOST: usize = 34;
    match name.chars().count() > MOST {
        true => name.chars().take(MOST - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}
