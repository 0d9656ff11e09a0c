//! SVG by hand: scales, axes, lines, labels. Colours are classes of the page's style, so that light, dark and print
//! share one drawing.

use super::numbers::escape;
use std::fmt::Write;

/// Width of a plot in its own units; the page scales it.
pub const WIDTH: f64 = 520.0;
/// Height.
pub const HEIGHT: f64 = 300.0;

/// From values to positions.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    from: (f64, f64),
    to: (f64, f64),
    log: bool,
}

impl Scale {
    /// An even scale from the values `from` to the positions `to`.
    #[must_use]
    pub fn linear(from: (f64, f64), to: (f64, f64)) -> Self {
        let from = if from.1 > from.0 { from } else { (from.0, from.0 + 1.0) };
        Self { from, to, log: false }
    }

    /// A logarithmic scale; values below 1e-9 are taken as that.
    #[must_use]
    pub fn log(from: (f64, f64), to: (f64, f64)) -> Self {
        let from = (from.0.max(1e-9).ln(), from.1.max(2e-9).ln());
        Self { from, to, log: true }
    }

    /// The position of a value; values outside end at the edge.
    #[must_use]
    pub fn at(&self, value: f64) -> f64 {
        let value = if self.log { value.max(1e-9).ln() } else { value };
        let share = ((value - self.from.0) / (self.from.1 - self.from.0)).clamp(0.0, 1.0);
        self.to.0 + share * (self.to.1 - self.to.0)
    }

    /// Three to seven round values inside the range.
    #[must_use]
    pub fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = |steps: &[f64]| -> Vec<f64> {
                (-9..=9)
                    .flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)))
                    .filter(|value| (self.from.0 - 1e-9..=self.from.1 + 1e-9).contains(&value.ln()))
                    .collect()
            };
            let powers = decades(&[1.0]);
            return if powers.len() >= 3 { powers } else { decades(&[1.0, 3.0]) };
        }
        let step = round_step((self.from.1 - self.from.0) / 5.0);
        let first = (self.from.0 / step - 1e-9).ceil();
        let count = ((self.from.1 / step + 1e-9).floor() - first).max(0.0);
        (0..=20).map(f64::from).take_while(|i| *i <= count).map(|i| (first + i) * step).collect()
    }
}

/// The next of 1, 2, 2.5, 5 times a power of ten.
#[must_use]
pub fn round_step(raw: f64) -> f64 {
    let power = 10f64.powf(raw.max(1e-12).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    steps.iter().map(|step| step * power).find(|step| *step >= raw * 0.999).unwrap_or(10.0 * power)
}

/// Where a text stands on its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// A drawing with two axes.
pub struct Plot {
    /// The horizontal scale.
    pub x: Scale,
    /// The vertical scale.
    pub y: Scale,
    svg: String,
    left: f64,
    right: f64,
    bottom: f64,
}

/// Space around the drawing area: left, right, top, bottom.
pub const MARGINS: (f64, f64, f64, f64) = (46.0, 18.0, 22.0, 40.0);

impl Plot {
    /// Starts a drawing with a description for readers who do not see it. `scales` gets the horizontal and the
    /// vertical extent of the drawing area.
    pub fn new(about: &str, scales: impl FnOnce((f64, f64), (f64, f64)) -> (Scale, Scale)) -> Self {
        Self::sized(about, MARGINS.0, HEIGHT, scales)
    }

    /// As [`Plot::new`], with `left` units for the names beside the vertical axis and another height.
    pub fn sized(
        about: &str,
        left: f64,
        height: f64,
        scales: impl FnOnce((f64, f64), (f64, f64)) -> (Scale, Scale),
    ) -> Self {
        let right = WIDTH - MARGINS.1;
        let (top, bottom) = (MARGINS.2, height - MARGINS.3);
        let (x, y) = scales((left, right), (bottom, top));
        let about = escape(about);
        let svg = format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{about}">"#);
        Self { x, y, svg, left, right, bottom }
    }

    /// Ticks and the name below the horizontal axis.
    pub fn x_axis(&mut self, name: &str, label: impl Fn(f64) -> String) {
        let (left, right, bottom) = (self.left, self.right, self.bottom);
        self.raw_line((left, bottom), (right, bottom), "axis");
        for tick in self.x.ticks() {
            let at = self.x.at(tick);
            self.raw_line((at, bottom), (at, bottom + 4.0), "axis");
            self.raw_text((at, bottom + 17.0), &label(tick), "tick", Anchor::Middle);
        }
        self.raw_text((right, bottom + 35.0), name, "name", Anchor::End);
    }

    /// Grid lines, ticks and the name above the vertical axis.
    pub fn y_axis(&mut self, name: &str, label: impl Fn(f64) -> String) {
        let (left, right) = (self.left, self.right);
        for tick in self.y.ticks() {
            let at = self.y.at(tick);
            self.raw_line((left, at), (right, at), "grid");
            self.raw_text((left - 7.0, at + 3.5), &label(tick), "tick", Anchor::End);
        }
        self.raw_text((0.0, 10.0), name, "name", Anchor::Start);
    }

    /// A line through points of the data.
    pub fn line(&mut self, points: &[(f64, f64)], class: &str) {
        if let Some(path) = self.path(points) {
            let _ = write!(self.svg, r#"<path class="{class}" d="{path}"/>"#);
        }
    }

    /// The area between two lines over the same horizontal positions.
    pub fn area(&mut self, upper: &[(f64, f64)], lower: &[(f64, f64)], class: &str) {
        let around: Vec<(f64, f64)> = upper.iter().chain(lower.iter().rev()).copied().collect();
        if let Some(path) = self.path(&around) {
            let _ = write!(self.svg, r#"<path class="{class}" d="{path}Z"/>"#);
        }
    }

    /// A straight line between two points of the data.
    pub fn rule(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.raw_line((self.x.at(from.0), self.y.at(from.1)), (self.x.at(to.0), self.y.at(to.1)), class);
    }

    /// A dot.
    pub fn dot(&mut self, at: (f64, f64), radius: f64, class: &str) {
        let (x, y) = (self.x.at(at.0), self.y.at(at.1));
        let _ = write!(self.svg, r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius:.1}"/>"#);
    }

    /// A text beside a point of the data, `by` units away.
    pub fn label(&mut self, at: (f64, f64), by: (f64, f64), text: &str, class: &str, anchor: Anchor) {
        let (x, y) = (self.x.at(at.0) + by.0, self.y.at(at.1) + by.1);
        // Labels never leave the drawing: those that would are turned round.
        let width = 6.2 * text.chars().count() as f64;
        let anchor = match anchor {
            Anchor::Start if x + width > WIDTH => Anchor::End,
            Anchor::End if x - width < 0.0 => Anchor::Start,
            anchor => anchor,
        };
        self.raw_text((x, y), text, class, anchor);
    }

    /// A place that says `tip` when the pointer comes near; one line of the tip for each line of the text.
    pub fn hit(&mut self, at: (f64, f64), tip: &str) {
        let (x, y) = (self.x.at(at.0), self.y.at(at.1));
        let tip = escape(tip).replace('\n', "&#10;");
        let _ = write!(self.svg, r#"<circle class="hit" cx="{x:.1}" cy="{y:.1}" r="4" data-tip="{tip}"/>"#);
    }

    /// The mark that a slider moves.
    pub fn cursor(&mut self, at: (f64, f64)) {
        self.dot(at, 5.5, "cursor");
    }

    /// A rectangle between two points of the data.
    pub fn rect(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let (x0, x1) = (self.x.at(from.0), self.x.at(to.0));
        let (y0, y1) = (self.y.at(from.1), self.y.at(to.1));
        let (x, y, w, h) = (x0.min(x1), y0.min(y1), (x1 - x0).abs(), (y1 - y0).abs());
        let _ = write!(self.svg, r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{w:.1}" height="{h:.1}"/>"#);
    }

    /// The drawing as SVG.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }

    fn path(&self, points: &[(f64, f64)]) -> Option<String> {
        let mut path = String::new();
        for (index, point) in points.iter().filter(|p| p.0.is_finite() && p.1.is_finite()).enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", self.x.at(point.0), self.y.at(point.1));
        }
        (!path.is_empty()).then_some(path)
    }

    /// A line between two positions in the plot's own units.
    pub fn raw_line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let _ = write!(
            self.svg,
            r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
            from.0, from.1, to.0, to.1
        );
    }

    /// A text at a position in the plot's own units.
    pub fn raw_text(&mut self, at: (f64, f64), text: &str, class: &str, anchor: Anchor) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        let _ = write!(
            self.svg,
            r#"<text class="{class}" x="{:.1}" y="{:.1}" text-anchor="{anchor}">{text}</text>"#,
            at.0, at.1
        );
    }
}

/// At most `most` of the points, the first and the last among them.
#[must_use]
pub fn thin<T: Copy>(points: &[T], most: usize) -> Vec<T> {
    if points.len() <= most || most < 2 {
        return points.to_vec();
    }
    (0..most).map(|i| points[i * (points.len() - 1) / (most - 1)]).collect()
}
