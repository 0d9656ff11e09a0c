//! SVG by hand: scales, axes, lines, labels. Colours are classes of the page's style, so that light, dark and print
//! share one drawing.

use std::fmt::Write;

/// Width of a plot in its own units; the page scales it.
pub(super) const WIDTH: f64 = 520.0;
/// Height.
pub(super) const HEIGHT: f64 = 300.0;

/// From values to positions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    from: (f64, f64),
    to: (f64, f64),
    log: bool,
}

impl Scale {
    pub(super) fn linear(from: (f64, f64), to: (f64, f64)) -> Self {
        let from = if from.1 > from.0 { from } else { (from.0, from.0 + 1.0) };
        Self { from, to, log: false }
    }

    pub(super) fn log(from: (f64, f64), to: (f64, f64)) -> Self {
        let from = (from.0.max(1e-9).ln(), from.1.max(2e-9).ln());
        Self { from, to, log: true }
    }

    pub(super) fn at(&self, value: f64) -> f64 {
        let value = if self.log { value.max(1e-9).ln() } else { value };
        let share = ((value - self.from.0) / (self.from.1 - self.from.0)).clamp(0.0, 1.0);
        self.to.0 + share * (self.to.1 - self.to.0)
    }

    /// Three to seven round values inside the range.
    pub(super) fn ticks(&self) -> Vec<f64> {
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
pub(super) fn round_step(raw: f64) -> f64 {
    let power = 10f64.powf(raw.max(1e-12).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    steps.iter().map(|step| step * power).find(|step| *step >= raw * 0.999).unwrap_or(10.0 * power)
}

/// Where a text stands on its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing with two axes.
pub(super) struct Plot {
    pub(super) x: Scale,
    pub(super) y: Scale,
    svg: String,
    left: f64,
    right: f64,
    bottom: f64,
}

/// Space around the drawing area: left, right, top, bottom.
pub(super) const MARGINS: (f64, f64, f64, f64) = (46.0, 18.0, 22.0, 40.0);

impl Plot {
    /// Starts a drawing with a description for readers who do not see it. `scales` gets the horizontal and the
    /// vertical extent of the drawing area.
    pub(super) fn new(about: &str, scales: impl FnOnce((f64, f64), (f64, f64)) -> (Scale, Scale)) -> Self {
        let (left, right) = (MARGINS.0, WIDTH - MARGINS.1);
        let (top, bottom) = (MARGINS.2, HEIGHT - MARGINS.3);
        let (x, y) = scales((left, right), (bottom, top));
        let about = escape(about);
        let svg = format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{about}">"#);
        Self { x, y, svg, left, right, bottom }
    }

    /// Ticks and the name below the horizontal axis.
    pub(super) fn x_axis(&mut self, name: &str, label: impl Fn(f64) -> String) {
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
    pub(super) fn y_axis(&mut self, name: &str, label: impl Fn(f64) -> String) {
        let (left, right) = (self.left, self.right);
        for tick in self.y.ticks() {
            let at = self.y.at(tick);
            self.raw_line((left, at), (right, at), "grid");
            self.raw_text((left - 7.0, at + 3.5), &label(tick), "tick", Anchor::End);
        }
        self.raw_text((0.0, 10.0), name, "name", Anchor::Start);
    }

    /// A line through points of the data.
    pub(super) fn line(&mut self, points: &[(f64, f64)], class: &str) {
        if let Some(path) = self.path(points) {
            let _ = write!(self.svg, r#"<path class="{class}" d="{path}"/>"#);
        }
    }

    /// The area between two lines over the same horizontal positions.
    pub(super) fn area(&mut self, upper: &[(f64, f64)], lower: &[(f64, f64)], class: &str) {
        let around: Vec<(f64, f64)> = upper.iter().chain(lower.iter().rev()).copied().collect();
        if let Some(path) = self.path(&around) {
            let _ = write!(self.svg, r#"<path class="{class}" d="{path}Z"/>"#);
        }
    }

    /// A straight line between two points of the data.
    pub(super) fn rule(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.raw_line((self.x.at(from.0), self.y.at(from.1)), (self.x.at(to.0), self.y.at(to.1)), class);
    }

    /// A dot.
    pub(super) fn dot(&mut self, at: (f64, f64), radius: f64, class: &str) {
        let (x, y) = (self.x.at(at.0), self.y.at(at.1));
        let _ = write!(self.svg, r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius:.1}"/>"#);
    }

    /// A text beside a point of the data, `by` units away.
    pub(super) fn label(&mut self, at: (f64, f64), by: (f64, f64), text: &str, class: &str, anchor: Anchor) {
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

    pub(super) fn finish(mut self) -> String {
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

    pub(super) fn raw_line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let _ = write!(
            self.svg,
            r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
            from.0, from.1, to.0, to.1
        );
    }

    pub(super) fn raw_text(&mut self, at: (f64, f64), text: &str, class: &str, anchor: Anchor) {
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
pub(super) fn thin<T: Copy>(points: &[T], most: usize) -> Vec<T> {
    if points.len() <= most || most < 2 {
        return points.to_vec();
    }
    (0..most).map(|i| points[i * (points.len() - 1) / (most - 1)]).collect()
}

/// Text for HTML and its attributes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A share in per cent with as many decimals as asked for.
pub(super) fn percent(share: f64, decimals: usize) -> String {
    format!("{:.decimals$}\u{202f}%", share * 100.0)
}

/// A whole number with thin spaces between thousands.
pub(in crate::demo) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds or seconds with two significant digits or so.
pub(super) fn duration(ms: f64) -> String {
    match ms {
        ms if ms >= 10_000.0 => format!("{:.0}\u{202f}s", ms / 1000.0),
        ms if ms >= 1000.0 => format!("{:.1}\u{202f}s", ms / 1000.0),
        ms if ms >= 10.0 => format!("{ms:.0}\u{202f}ms"),
        ms if ms >= 1.0 => format!("{ms:.1}\u{202f}ms"),
        ms => format!("{ms:.2}\u{202f}ms"),
    }
}

/// Dollars with about three significant digits.
pub(super) fn dollars(usd: f64) -> String {
    match usd.abs() {
        x if x >= 100.0 => format!("${usd:.0}"),
        x if x >= 0.995 => format!("${usd:.2}"),
        x if x >= 0.0995 => format!("${usd:.3}"),
        x if x > 0.0 => format!("${usd:.4}"),
        _ => "$0".to_owned(),
    }
}
