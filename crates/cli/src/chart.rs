//! Charts made of characters: lines over a logarithmic or linear axis, for terminals and logs.

/// How an axis runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Even steps.
    Linear,
    /// Even factors; values at or below 0 are left out.
    Log,
}

/// One line.
pub(crate) struct Series {
    /// What marks its points; a later series is drawn over an earlier one.
    pub(crate) mark: char,
    /// What it is.
    pub(crate) name: String,
    /// (x, y).
    pub(crate) points: Vec<(f64, f64)>,
}

/// A chart of several lines.
pub(crate) struct Chart<'a> {
    /// What x is.
    pub(crate) x_title: &'a str,
    /// What y is.
    pub(crate) y_title: &'a str,
    pub(crate) x: Scale,
    pub(crate) y: Scale,
    /// How values of the axes are written.
    pub(crate) x_label: fn(f64) -> String,
    pub(crate) y_label: fn(f64) -> String,
    pub(crate) series: Vec<Series>,
}

/// Columns and rows of the drawing area.
const WIDTH: usize = 64;
const HEIGHT: usize = 14;

impl Scale {
    fn value(self, x: f64) -> Option<f64> {
        match self {
            Self::Linear => x.is_finite().then_some(x),
            Self::Log => (x.is_finite() && x > 0.0).then(|| x.log10()),
        }
    }

    fn back(self, x: f64) -> f64 {
        match self {
            Self::Linear => x,
            Self::Log => 10f64.powf(x),
        }
    }
}

impl Chart<'_> {
    /// The lines of the drawing, the key below; empty without points.
    pub(crate) fn lines(&self) -> Vec<String> {
        let place = |p: &(f64, f64)| Some((self.x.value(p.0)?, self.y.value(p.1)?));
        let all: Vec<(f64, f64)> = self.series.iter().flat_map(|s| s.points.iter().filter_map(place)).collect();
        if all.is_empty() {
            return Vec::new();
        }
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) =
                values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
            if high > low { (low, high) } else { (low - 0.5, high + 0.5) }
        };
        let (x, y) = (range(&mut all.iter().map(|p| p.0)), range(&mut all.iter().map(|p| p.1)));
        let y = if self.y == Scale::Linear { (y.0.min(0.0), y.1) } else { y };
        let mut cells = vec![vec![' '; WIDTH]; HEIGHT];
        for series in &self.series {
            let placed: Vec<(f64, f64)> = series.points.iter().filter_map(place).collect();
            draw(&mut cells, series.mark, &placed, x, y);
        }
        let labels: Vec<String> = (0..HEIGHT)
            .map(|row| {
                let share = 1.0 - row as f64 / (HEIGHT - 1) as f64;
                let here = row == 0 || row == HEIGHT - 1 || row == HEIGHT / 2;
                if here { (self.y_label)(self.y.back(y.0 + share * (y.1 - y.0))) } else { String::new() }
            })
            .collect();
        let margin = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0);
        let mut out = vec![format!("  {:>margin$}   {}", "", self.y_title)];
        for (label, cells) in labels.iter().zip(cells) {
            let line: String = cells.into_iter().collect();
            let tick = if label.is_empty() { '│' } else { '┤' };
            out.push(format!("  {label:>margin$} {tick}{}", line.trim_end()));
        }
        out.push(format!("  {:>margin$} └{}", "", "─".repeat(WIDTH)));
        let ends = [x.0, f64::midpoint(x.0, x.1), x.1].map(|v| (self.x_label)(self.x.back(v)));
        let gap = (WIDTH - ends.iter().map(|e| e.chars().count()).sum::<usize>().min(WIDTH)) / 2;
        let space = " ".repeat(gap);
        out.push(format!("  {:>margin$}  {}{space}{}{space}{}   {}", "", ends[0], ends[1], ends[2], self.x_title));
        let key: Vec<String> = self.series.iter().map(|s| format!("{} {}", s.mark, s.name)).collect();
        out.push(format!("  {:>margin$}  {}", "", key.join("   ")));
        out
    }
}

/// Draws a line through the points: every column between two neighbours gets its mark.
fn draw(cells: &mut [Vec<char>], mark: char, points: &[(f64, f64)], x: (f64, f64), y: (f64, f64)) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the drawing area")]
    let cell = |value: f64, range: (f64, f64), cells: usize| {
        (((value - range.0) / (range.1 - range.0)).clamp(0.0, 1.0) * (cells - 1) as f64).round() as usize
    };
    let at = |p: (f64, f64)| (cell(p.0, x, WIDTH), HEIGHT - 1 - cell(p.1, y, HEIGHT));
    for pair in points.windows(2) {
        let (from, to) = (cell(pair[0].0, x, WIDTH), cell(pair[1].0, x, WIDTH));
        (from..=to).for_each(|column| {
            let share = if to > from { (column - from) as f64 / (to - from) as f64 } else { 1.0 };
            let value = pair[0].1 + share * (pair[1].1 - pair[0].1);
            cells[HEIGHT - 1 - cell(value, y, HEIGHT)][column] = mark;
        });
    }
    for point in points {
        let (column, row) = at(*point);
        cells[row][column] = mark;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(y: Scale, points: Vec<(f64, f64)>) -> Vec<String> {
        let series = vec![Series { mark: '*', name: "a".into(), points }];
        let label = |x: f64| format!("{x:.0}");
        Chart { x_title: "users", y_title: "ms", x: Scale::Log, y, x_label: label, y_label: label, series }.lines()
    }

    #[test]
    fn a_straight_line_in_logs_runs_from_corner_to_corner() {
        let lines = chart(Scale::Log, vec![(1.0, 10.0), (100.0, 1000.0)]);
        assert_eq!(lines.len(), HEIGHT + 4);
        assert!(lines[1].ends_with('*') && lines[1].contains("1000"), "{}", lines[1]);
        assert!(lines[HEIGHT].contains("10 ┤*"), "{}", lines[HEIGHT]);
        assert!(lines[HEIGHT + 2].contains("1 ") && lines[HEIGHT + 2].contains("100   users"), "{}", lines[HEIGHT + 2]);
    }

    #[test]
    fn values_that_have_no_place_are_left_out() {
        assert!(chart(Scale::Log, vec![(0.0, 1.0), (1.0, -1.0), (f64::NAN, 1.0)]).is_empty());
        assert_eq!(chart(Scale::Linear, vec![(1.0, 5.0)]).len(), HEIGHT + 4);
    }
}
