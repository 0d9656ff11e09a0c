//! Multinomial logistic regression on sparse rows: ½‖W‖² + C · Σ log loss, minimised in its dual, one example at a time
//! (Shalev-Shwartz & Zhang, *Stochastic Dual Coordinate Ascent*, 2013; Yu, Huang & Lin, *Dual coordinate descent methods
//! for logistic regression and maximum entropy models*, 2011).
//!
//! Every example holds a distribution q over the classes, and W = C · Σ (y − q) xᵀ, y being its class, or a distribution. A step moves one q towards the
//! model's own prediction p, as far as the dual rises along that line. At the solution all q equal their p; until then
//! C · Σ KL(q ‖ p) is the duality gap, an upper limit of what the objective is off. Nothing has to be tuned, and the
//! memory is one number for each weight, where a quasi-Newton method keeps twenty.

use crate::sparse::Sparse;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// Least probability that is told from 0 in the dual.
const LEAST: f32 = 1e-30;

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Mean of KL(q ‖ p) over the examples at which the solution counts as found.
    pub tolerance: f64,
    /// Most passes over the examples.
    pub most_passes: usize,
}

/// A regression under way: its examples, and where it stands.
pub struct Maxent<'a> {
    rows: &'a [Sparse],
    labels: &'a [usize],
    /// Distributions to learn in place of labels: what `q` starts from.
    targets: Option<Vec<f32>>,
    classes: usize,
    /// Squared length of each row, the constant for the bias included.
    squares: Vec<f32>,
    /// Distribution of each example.
    q: Vec<f32>,
    /// Weights, one row of `classes` for each feature and one for the bias.
    weights: Vec<f32>,
    /// The C that `weights` are for.
    c: f32,
    order: Vec<usize>,
    rng: ChaCha8Rng,
}

impl<'a> Maxent<'a> {
    /// Starts with no weights. The bias is the weight of a constant feature of 1.
    ///
    /// # Panics
    /// When there is not one label below `classes` for each row, or a place is not below `features`.
    #[must_use]
    pub fn new(rows: &'a [Sparse], features: usize, labels: &'a [usize], classes: usize, seed: u64) -> Self {
        assert!(rows.len() == labels.len() && labels.iter().all(|label| *label < classes), "a label for each row");
        let inside = |row: &Sparse| row.iter().all(|(place, _)| (*place as usize) < features);
        assert!(rows.iter().all(inside), "a weight for each place");
        let mut q = vec![0.0; rows.len() * classes];
        labels.iter().enumerate().for_each(|(i, label)| q[i * classes + label] = 1.0);
        Self {
            rows,
            labels,
            targets: None,
            classes,
            squares: rows.iter().map(|row| 1.0 + row.iter().map(|(_, x)| x * x).sum::<f32>()).collect(),
            q,
            weights: vec![0.0; (features + 1) * classes],
            c: 0.0,
            order: (0..rows.len()).collect(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Learns how likely each class of a row is, where `shares` says so, in place of its label. Before the first
    /// [`Maxent::solve`].
    ///
    /// # Panics
    /// When there is not one entry for each row, or one is not as long as there are classes.
    #[must_use]
    pub fn to_shares(mut self, shares: &[Option<&[f32]>]) -> Self {
        assert!(shares.len() == self.rows.len(), "an entry for each row");
        for (q, shares) in self.q.chunks_exact_mut(self.classes).zip(shares) {
            if let Some(shares) = shares {
                q.copy_from_slice(shares);
            }
        }
        self.targets = Some(self.q.clone());
        self
    }

    /// Moves to the minimum for one C > 0, from where it stands. Returns the passes that were made.
    pub fn solve(&mut self, c: f64, limits: Limits) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "a strength of seven digits is enough")]
        let c = c as f32;
        if self.c > 0.0 {
            let grown = c / self.c;
            self.weights.iter_mut().for_each(|w| *w *= grown);
        }
        self.c = c;
        let mut z = vec![0.0; self.classes];
        for pass in 0..limits.most_passes {
            self.order.shuffle(&mut self.rng);
            let mut gap = 0.0;
            for at in 0..self.order.len() {
                gap += self.step(self.order[at], &mut z);
            }
            if gap <= limits.tolerance * self.rows.len() as f64 {
                return pass + 1;
            }
        }
        limits.most_passes
    }

    /// One example's step; gives back the KL(q ‖ p) that it found.
    fn step(&mut self, i: usize, z: &mut [f32]) -> f64 {
        let row = &self.rows[i];
        scores(&self.weights, row, z);
        log_softmax(z);
        let q = &mut self.q[i * self.classes..][..self.classes];
        // From here on `z` holds log p. The direction is d = p − q.
        let d: Vec<f32> = q.iter().zip(&*z).map(|(q, log_p)| log_p.exp() - q).collect();
        let held = q.iter().zip(&*z).filter(|(q, _)| **q > LEAST);
        let gap: f64 = held.map(|(q, log_p)| f64::from(q * (q.ln() - log_p))).sum();
        let length: f32 = d.iter().map(|d| d * d).sum();
        if length < 1e-12 {
            return gap;
        }
        let s = line(q, z, &d, self.c * length * self.squares[i]);
        // `z` becomes what is added to the weights for each unit of a feature: −C · (change of q).
        for ((q, z), d) in q.iter_mut().zip(z.iter_mut()).zip(&d) {
            let change = s * d;
            *q = (*q + change).max(0.0);
            *z = -self.c * change;
        }
        let bias_at = self.weights.len() - self.classes;
        let (weights, bias) = self.weights.split_at_mut(bias_at);
        for &(place, x) in row {
            let weights = &mut weights[place as usize * self.classes..][..self.classes];
            weights.iter_mut().zip(&*z).for_each(|(w, z)| *w += x * z);
        }
        bias.iter_mut().zip(&*z).for_each(|(w, z)| *w += z);
        gap
    }

    /// Scores of a row, one for each class.
    ///
    /// # Panics
    /// When `scores` has not one place for each class or a place of the row has no weight.
    pub fn score(&self, row: &[(u32, f32)], scores_of: &mut [f32]) {
        scores(&self.weights, row, scores_of);
    }

    /// Weights class by class (classes × features) and biases.
    #[must_use]
    pub fn weights(&self) -> (Vec<f32>, Vec<f32>) {
        let (weights, bias) = self.weights.split_at(self.weights.len() - self.classes);
        let of_class = |class: usize| weights.iter().skip(class).step_by(self.classes).copied();
        ((0..self.classes).flat_map(of_class).collect(), bias.to_vec())
    }

    /// The objective, ½‖W‖² + C · Σ log loss. The biases count as weights.
    #[must_use]
    pub fn objective(&self) -> f64 {
        let mut z = vec![0.0; self.classes];
        let loss = |(i, row): (usize, &Sparse)| {
            scores(&self.weights, row, &mut z);
            log_softmax(&mut z);
            match &self.targets {
                None => -f64::from(z[self.labels[i]]),
                Some(y) => -y[i * self.classes..].iter().zip(&z).map(|(y, z)| f64::from(y * z)).sum::<f64>(),
            }
        };
        let losses: f64 = self.rows.iter().enumerate().map(loss).sum();
        0.5 * self.weights.iter().map(|w| f64::from(*w) * f64::from(*w)).sum::<f64>() + f64::from(self.c) * losses
    }
}

/// How far to go from q to p: the root in (0, 1] of the falling function Σ d (ln p − ln(q + s d)) − s · `curvature`.
fn line(q: &[f32], log_p: &[f32], d: &[f32], curvature: f32) -> f32 {
    let slope = |s: f32| {
        let terms = q.iter().zip(log_p).zip(d).map(|((q, log_p), d)| d * (log_p - (q + s * d).max(LEAST).ln()));
        terms.sum::<f32>() - s * curvature
    };
    // Bisection on the exponent first: q may lie in a corner, where the slope has a pole.
    let (mut low, mut high) = (0.0_f32, 1.0_f32);
    let mut s = (1.0 / (1.0 + curvature)).max(1e-6);
    for _ in 0..6 {
        if slope(s) > 0.0 {
            low = s;
            s = if high < 1.0 { f32::midpoint(low, high) } else { (2.0 * s).min(1.0) };
            if low >= 1.0 {
                break;
            }
        } else {
            high = s;
            s = f32::midpoint(low, high);
        }
    }
    // The lower end: the dual surely rises up to there.
    if low > 0.0 { low } else { s }
}

/// Scores of a row over feature-major weights whose last row is the bias.
fn scores(weights: &[f32], row: &[(u32, f32)], z: &mut [f32]) {
    let classes = z.len();
    z.copy_from_slice(&weights[weights.len() - classes..]);
    for &(place, x) in row {
        let weights = &weights[place as usize * classes..][..classes];
        z.iter_mut().zip(weights).for_each(|(z, w)| *z += x * w);
    }
}

fn log_softmax(z: &mut [f32]) {
    let greatest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = z.iter().map(|z| (z - greatest).exp()).sum();
    let shift = greatest + sum.ln();
    z.iter_mut().for_each(|z| *z -= shift);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lbfgs;

    fn problem(n: usize, features: u32, classes: usize) -> (Vec<Sparse>, Vec<usize>) {
        let mut state = 7_u32;
        let mut next = move |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let mut rows = Vec::new();
        let mut labels = Vec::new();
        for i in 0..n {
            let label = i % classes;
            let mut row: Sparse = (0..6).map(|_| (next(features), 0.4)).collect();
            row.push((u32::try_from(label).unwrap(), if next(4) > 0 { 0.7 } else { 0.0 }));
            row.sort_unstable_by_key(|(place, _)| *place);
            row.dedup_by_key(|(place, _)| *place);
            rows.push(row);
            labels.push(label);
        }
        (rows, labels)
    }

    /// The same minimum by L-BFGS on dense vectors.
    fn reference(rows: &[Sparse], y: &[Vec<f32>], features: usize, classes: usize, c: f64) -> f64 {
        let mut x = vec![0.0; (features + 1) * classes];
        let at = |place: usize, class: usize| place * classes + class;
        let mut value = 0.0;
        lbfgs::minimise(&mut x, lbfgs::Limits { tolerance: 1e-9, max_iterations: 2000 }, |x, g| {
            g.copy_from_slice(x);
            value = 0.5 * x.iter().map(|x| x * x).sum::<f64>();
            for (row, y) in rows.iter().zip(y) {
                let full = || row.iter().map(|&(p, v)| (p as usize, f64::from(v))).chain([(features, 1.0)]);
                let z: Vec<f64> =
                    (0..classes).map(|class| full().map(|(p, v)| v * x[at(p, class)]).sum::<f64>()).collect();
                let sum: f64 = z.iter().map(|z| z.exp()).sum();
                value += c * (sum.ln() - z.iter().zip(y).map(|(z, y)| z * f64::from(*y)).sum::<f64>());
                for class in 0..classes {
                    let slope = c * (z[class].exp() / sum - f64::from(y[class]));
                    full().for_each(|(p, v)| g[at(p, class)] += v * slope);
                }
            }
            value
        });
        value
    }

    #[test]
    fn finds_the_minimum_that_lbfgs_finds_along_the_whole_path() {
        for (features, classes) in [(30_u32, 2), (40, 7)] {
            let (rows, labels) = problem(210, features, classes);
            let one = |label: usize| (0..classes).map(|class| f32::from(u8::from(class == label))).collect::<Vec<_>>();
            let hard: Vec<Vec<f32>> = labels.iter().map(|label| one(*label)).collect();
            // A third of the rows says how likely each class is.
            let mut mixed = hard.clone();
            for (i, y) in mixed.iter_mut().enumerate().filter(|(i, _)| i % 3 == 0) {
                y.fill(0.3 / classes as f32);
                y[i % classes] += 0.7;
            }
            let shares: Vec<Option<&[f32]>> =
                mixed.iter().enumerate().map(|(i, y)| (i % 3 == 0).then_some(&y[..])).collect();
            let new = || Maxent::new(&rows, features as usize, &labels, classes, 1);
            for (y, mut fit) in [(&hard, new()), (&mixed, new().to_shares(&shares))] {
                for c in [0.1, 1.0, 10.0] {
                    fit.solve(c, Limits { tolerance: 1e-6, most_passes: 2000 });
                    let want = reference(&rows, y, features as usize, classes, c);
                    let off = fit.objective() / want - 1.0;
                    assert!(off.abs() < 1e-3, "C = {c}, {classes} classes: {off}");
                }
            }
        }
    }

    #[test]
    fn weights_by_class_give_the_same_scores_and_the_seed_decides_all() {
        let (rows, labels) = problem(60, 20, 3);
        let fit = |seed| {
            let mut fit = Maxent::new(&rows, 20, &labels, 3, seed);
            fit.solve(4.0, Limits { tolerance: 1e-3, most_passes: 50 });
            fit
        };
        let (first, again) = (fit(1), fit(1));
        assert_eq!(first.weights(), again.weights());
        let (weights, bias) = first.weights();
        let mut z = [0.0; 3];
        first.score(&rows[5], &mut z);
        for class in 0..3 {
            let dot: f32 = rows[5].iter().map(|&(p, x)| x * weights[class * 20 + p as usize]).sum();
            assert!((dot + bias[class] - z[class]).abs() < 1e-4);
        }
    }
}
