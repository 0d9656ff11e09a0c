//! One tree: binned features, histograms of slopes, and the search for the best split.

use super::{Direction, Node, Params, drawn};
use rand_chacha::ChaCha8Rng;

/// Most bins of a feature.
const BINS: usize = 255;

/// Rows as bin numbers, feature by feature.
pub(super) struct Binned {
    /// For each feature the bin of each row.
    codes: Vec<Vec<u8>>,
    /// For each feature the threshold above each bin but the last.
    cuts: Vec<Vec<f64>>,
}

impl Binned {
    pub(super) fn new(rows: &[Vec<f64>]) -> Self {
        let features = rows[0].len();
        let (mut codes, mut cuts) = (Vec::with_capacity(features), Vec::with_capacity(features));
        for feature in 0..features {
            let column: Vec<f64> = rows.iter().map(|row| row[feature]).collect();
            let cut = cuts_of(&column);
            let code = |value: f64| {
                // What is not a number is above every threshold, as at prediction.
                let below = cut.partition_point(|&threshold| value > threshold);
                let bin = if value.is_nan() { cut.len() } else { below };
                u8::try_from(bin).expect("fewer cuts than 255")
            };
            codes.push(column.iter().map(|&value| code(value)).collect());
            cuts.push(cut);
        }
        Self { codes, cuts }
    }
}

/// Thresholds between neighbouring distinct values, at most `BINS - 1` of them, evenly over the rows.
fn cuts_of(column: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = column.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let mut distinct = sorted.clone();
    distinct.dedup();
    if distinct.len() > BINS {
        distinct = (0..BINS).map(|i| sorted[i * (sorted.len() - 1) / (BINS - 1)]).collect();
        distinct.dedup();
    }
    let mut cuts: Vec<f64> = distinct.windows(2).map(|pair| f64::midpoint(pair[0], pair[1])).collect();
    // Numbers against what is not one, or infinite: a last cut, if there are such rows.
    if let Some(&highest) = distinct.last().filter(|_| sorted.len() < column.len())
        && cuts.len() < BINS - 1
    {
        cuts.push(highest);
    }
    cuts
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    slope: f64,
    curvature: f64,
    rows: usize,
}

impl Sums {
    fn add(&mut self, (slope, curvature): (f64, f64)) {
        self.slope += slope;
        self.curvature += curvature;
        self.rows += 1;
    }

    fn and(self, other: Self) -> Self {
        Self {
            slope: self.slope + other.slope,
            curvature: self.curvature + other.curvature,
            rows: self.rows + other.rows,
        }
    }

    fn less(self, other: Self) -> Self {
        Self {
            slope: self.slope - other.slope,
            curvature: self.curvature - other.curvature,
            rows: self.rows - other.rows,
        }
    }

    /// The best value of a leaf inside the limits that monotone features set.
    fn value(self, l2: f64, limits: (f64, f64)) -> f64 {
        (-self.slope / (self.curvature + l2)).clamp(limits.0, limits.1)
    }

    /// How far a leaf of that value lowers the (second-order) loss.
    fn fall(self, l2: f64, value: f64) -> f64 {
        -(self.slope * value + 0.5 * (self.curvature + l2) * value * value)
    }
}

struct Split {
    fall: f64,
    feature: usize,
    bin: usize,
    values: (f64, f64),
}

/// A tree over the sampled rows; leaf values carry the learning rate.
pub(super) fn grow(
    binned: &Binned,
    slopes: &[(f64, f64)],
    sample: Vec<usize>,
    params: &Params,
    rng: &mut ChaCha8Rng,
) -> Vec<Node> {
    let mut tree = Growing { binned, slopes, params, rng, nodes: Vec::new() };
    tree.branch(sample, params.depth, (f64::NEG_INFINITY, f64::INFINITY));
    tree.nodes
}

struct Growing<'a> {
    binned: &'a Binned,
    slopes: &'a [(f64, f64)],
    params: &'a Params,
    rng: &'a mut ChaCha8Rng,
    nodes: Vec<Node>,
}

impl Growing<'_> {
    /// Grows the branch of these rows, whose values must stay inside the limits.
    fn branch(&mut self, rows: Vec<usize>, depth: usize, limits: (f64, f64)) {
        let params = self.params;
        let mut total = Sums::default();
        rows.iter().for_each(|&row| total.add(self.slopes[row]));
        let split = if depth == 0 { None } else { self.best_split(&rows, total, limits) };
        let Some(split) = split else {
            self.nodes.push(Node::Leaf(params.rate * total.value(params.l2, limits)));
            return;
        };
        let threshold = self.binned.cuts[split.feature][split.bin];
        let codes = &self.binned.codes[split.feature];
        let (left, right): (Vec<usize>, Vec<usize>) =
            rows.into_iter().partition(|&row| codes[row] as usize <= split.bin);
        // Below a monotone split neither side may pass the middle of the two values.
        let middle = f64::midpoint(split.values.0, split.values.1);
        let (left_limits, right_limits) = match direction(params, split.feature) {
            Direction::Free => (limits, limits),
            Direction::Rising => ((limits.0, middle), (middle, limits.1)),
            Direction::Falling => ((middle, limits.1), (limits.0, middle)),
        };
        let index = self.nodes.len();
        let feature = u32::try_from(split.feature).expect("a feature's number is small");
        self.nodes.push(Node::Leaf(0.0));
        self.branch(left, depth - 1, left_limits);
        let next = u32::try_from(self.nodes.len()).expect("a shallow tree has few nodes");
        self.nodes[index] = Node::Split { feature, threshold, right: next };
        self.branch(right, depth - 1, right_limits);
    }

    /// The split that lowers the loss most; ties go to the first feature and the lowest threshold.
    fn best_split(&mut self, rows: &[usize], total: Sums, limits: (f64, f64)) -> Option<Split> {
        let params = self.params;
        let unsplit = total.fall(params.l2, total.value(params.l2, limits));
        let mut best: Option<Split> = None;
        let mut histogram = [Sums::default(); BINS + 1];
        for feature in drawn(self.binned.codes.len(), params.features, self.rng) {
            let (codes, cuts) = (&self.binned.codes[feature], &self.binned.cuts[feature]);
            histogram[..=cuts.len()].fill(Sums::default());
            rows.iter().for_each(|&row| histogram[codes[row] as usize].add(self.slopes[row]));
            let mut left = Sums::default();
            for (bin, &sums) in histogram[..cuts.len()].iter().enumerate() {
                left = left.and(sums);
                let right = total.less(left);
                if left.rows < params.leaf.max(1) || right.rows < params.leaf.max(1) {
                    continue;
                }
                let values = (left.value(params.l2, limits), right.value(params.l2, limits));
                let allowed = match direction(params, feature) {
                    Direction::Free => true,
                    Direction::Rising => values.0 <= values.1,
                    Direction::Falling => values.0 >= values.1,
                };
                let fall = left.fall(params.l2, values.0) + right.fall(params.l2, values.1) - unsplit;
                if allowed && fall > best.as_ref().map_or(1e-10, |best| best.fall) {
                    best = Some(Split { fall, feature, bin, values });
                }
            }
        }
        best
    }
}

fn direction(params: &Params, feature: usize) -> Direction {
    params.directions.get(feature).copied().unwrap_or(Direction::Free)
}
