//! Gradient-boosted regression trees: many shallow trees, each fitted to what the ones before left over (Friedman,
//! 2001), with second-order leaf values (Chen & Guestrin, 2016, eq. 5 and 7), row sampling, and, where asked for,
//! predictions that may only rise or only fall with a feature.
//!
//! Splits are searched over histograms of at most 255 bins a feature: exact while a feature has no more distinct
//! values than that.

mod grow;

use grow::{Binned, grow};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// Half the squared difference; scores are means.
    Squared,
    /// Negative log-likelihood of targets in [0, 1]; scores are log-odds.
    Logistic,
}

/// How the prediction may move when a feature grows and all else stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Either way.
    Free,
    /// Never down.
    Rising,
    /// Never up.
    Falling,
}

/// How to boost.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// What is minimised.
    pub loss: Loss,
    /// Trees.
    pub rounds: usize,
    /// Most splits between root and leaf, at least 1.
    pub depth: usize,
    /// Share of each tree's answer that is taken, in (0, 1].
    pub rate: f64,
    /// Share of the rows that each tree sees, in (0, 1].
    pub sample: f64,
    /// Share of the features that each split may choose from, in (0, 1].
    pub features: f64,
    /// Fewest rows in a leaf.
    pub leaf: usize,
    /// Penalty on squared leaf values, ≥ 0, in units of rows.
    pub l2: f64,
    /// One direction for each feature; empty when all are free.
    pub directions: Vec<Direction>,
    /// Seed of the row sampling.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            loss: Loss::Logistic,
            rounds: 60,
            depth: 2,
            rate: 0.05,
            sample: 0.6,
            features: 1.0,
            leaf: 10,
            l2: 1.0,
            directions: Vec::new(),
            seed: 0,
        }
    }
}

/// A node of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Node {
    Leaf(f64),
    /// Rows whose feature is at most the threshold go to the next node, the others to `right`.
    Split {
        feature: u32,
        threshold: f64,
        right: u32,
    },
}

/// Nodes in preorder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tree(Vec<Node>);

impl Tree {
    fn at(&self, row: &[f64]) -> f64 {
        let mut index = 0;
        loop {
            match self.0.get(index) {
                Some(Node::Leaf(value)) => return *value,
                Some(&Node::Split { feature, threshold, right }) => {
                    let below = row.get(feature as usize).is_some_and(|&value| value <= threshold);
                    index = if below { index + 1 } else { right as usize };
                }
                None => return 0.0,
            }
        }
    }

    /// Children come after their parents, so that every walk ends.
    fn is_sound(&self, features: usize) -> bool {
        self.0.iter().enumerate().all(|(index, node)| match *node {
            Node::Leaf(value) => value.is_finite(),
            Node::Split { feature, threshold, right } => {
                (feature as usize) < features
                    && threshold.is_finite()
                    && right as usize > index + 1
                    && (right as usize) < self.0.len()
            }
        })
    }
}

/// Fitted trees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Boosted {
    loss: Loss,
    features: usize,
    base: f64,
    trees: Vec<Tree>,
}

impl Boosted {
    /// Fits to rows of equal width and their targets. What is not a number sorts above all numbers.
    ///
    /// # Panics
    /// When there are no rows, the rows differ in width, or targets or directions do not match them.
    #[must_use]
    pub fn fit(rows: &[Vec<f64>], targets: &[f64], params: &Params) -> Self {
        assert!(!rows.is_empty() && rows.len() == targets.len(), "one target for each row");
        let features = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == features), "rows of equal width");
        assert!(params.directions.is_empty() || params.directions.len() == features, "a direction for each feature");
        let mean = targets.iter().sum::<f64>() / targets.len() as f64;
        let base = match params.loss {
            Loss::Squared => mean,
            Loss::Logistic => log_odds(mean),
        };
        let binned = Binned::new(rows);
        let mut rng = ChaCha8Rng::seed_from_u64(params.seed);
        let mut scores = vec![base; rows.len()];
        let mut trees = Vec::with_capacity(params.rounds);
        let mut slopes = vec![(0.0, 0.0); rows.len()];
        for _ in 0..params.rounds {
            for ((slope, &score), &target) in slopes.iter_mut().zip(&scores).zip(targets) {
                *slope = match params.loss {
                    Loss::Squared => (score - target, 1.0),
                    Loss::Logistic => {
                        let p = sigmoid(score);
                        (p - target, (p * (1.0 - p)).max(1e-9))
                    }
                };
            }
            let sample = drawn(rows.len(), params.sample, &mut rng);
            let tree = Tree(grow(&binned, &slopes, sample, params, &mut rng));
            for (score, row) in scores.iter_mut().zip(rows) {
                *score += tree.at(row);
            }
            trees.push(tree);
        }
        Self { loss: params.loss, features, base, trees }
    }

    /// The score of a row: a mean, or log-odds. A missing feature counts as above every threshold.
    #[must_use]
    pub fn score(&self, row: &[f64]) -> f64 {
        self.base + self.trees.iter().map(|tree| tree.at(row)).sum::<f64>()
    }

    /// The prediction for a row: a mean, or a probability.
    #[must_use]
    pub fn predict(&self, row: &[f64]) -> f64 {
        match self.loss {
            Loss::Squared => self.score(row),
            Loss::Logistic => sigmoid(self.score(row)),
        }
    }

    /// Features of a row.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// Whether every walk through the trees ends in a finite value: what was read from a file is checked with this.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.base.is_finite() && self.trees.iter().all(|tree| tree.is_sound(self.features))
    }
}

/// A share of `0..n` in rising order, each subset of that size as likely as another.
fn drawn(n: usize, share: f64, rng: &mut ChaCha8Rng) -> Vec<usize> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count, clamped to it")]
    let mut wanted = ((n as f64 * share).round() as usize).clamp(1.min(n), n);
    if wanted == n {
        return (0..n).collect();
    }
    let mut chosen = Vec::with_capacity(wanted);
    for (index, left) in (1..=n).rev().enumerate() {
        if rng.random_range(0..left) < wanted {
            chosen.push(index);
            wanted -= 1;
        }
    }
    chosen
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn log_odds(p: f64) -> f64 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

#[cfg(test)]
mod tests;
