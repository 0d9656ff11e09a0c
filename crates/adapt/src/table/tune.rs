//! The training of a token table with its head: softmax under labels and soft labels, Adam that touches only the rows
//! a batch uses (as PyTorch's `SparseAdam`).
//!
//! A text's vector is v = s / |s| with s the sum of its rows; the scores are κ W v + b. With g the gradient for v, that
//! for each row of s is (g − (g · v) v) / |s|.

use super::TableParams;
use crate::matrix::Matrix;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use understudy_core::Seed;

/// Texts of one step.
const BATCH: usize = 64;
/// Scale of the vectors before the head: unit vectors alone would make the head learn slowly.
const KAPPA: f32 = 8.0;
/// Step size of the head beside the table's.
const HEAD_RATE: f32 = 3.0;
/// Adam's decay rates and the number that keeps it from dividing by 0.
const BETA: (f32, f32) = (0.9, 0.999);
const EPSILON: f32 = 1e-8;
/// A row that no text uses.
const UNUSED: u32 = u32::MAX;

/// What is learnt from.
pub(super) struct Lesson<'a> {
    /// Rows of each text.
    pub(super) rows: Vec<Vec<u32>>,
    /// The right class of each.
    pub(super) labels: Vec<usize>,
    /// The teacher's probabilities for each.
    pub(super) soft: Option<Vec<&'a [f32]>>,
    pub(super) classes: usize,
}

/// What came out.
#[derive(Debug, Clone)]
pub(super) struct Tuned {
    /// All rows, tuned or not.
    pub(super) vectors: Vec<f32>,
    /// Weights of the head on unit vectors, classes × width.
    pub(super) weights: Vec<f32>,
    pub(super) bias: Vec<f32>,
    width: usize,
}

impl Tuned {
    /// Scores of a text.
    pub(super) fn logits(&self, rows: &[u32]) -> Vec<f64> {
        let mut sum = vec![0.0; self.width];
        for row in rows {
            add(&mut sum, 1.0, &self.vectors[*row as usize * self.width..][..self.width]);
        }
        let length = dot(&sum, &sum).sqrt().max(f32::MIN_POSITIVE);
        sum.iter_mut().for_each(|x| *x /= length);
        let score = |(row, bias): (&[f32], &f32)| f64::from(dot(row, &sum) + bias);
        self.weights.chunks_exact(self.width).zip(&self.bias).map(score).collect()
    }
}

/// Trains the rows that the lesson uses; `pairs` further rows follow the table's and begin at 0.
pub(super) fn tune(lesson: &Lesson<'_>, table: &Matrix, pairs: usize, params: &TableParams, seed: Seed) -> Tuned {
    let (n, width, classes) = (lesson.rows.len(), table.columns(), lesson.classes);
    let mut vectors = table.values().to_vec();
    vectors.resize((table.rows() + pairs) * width, 0.0);
    // Rows that are used, packed: the optimiser's memory is for these alone.
    let mut packed = vec![UNUSED; table.rows() + pairs];
    let mut used = Vec::new();
    let texts: Vec<Vec<u32>> = lesson
        .rows
        .iter()
        .map(|rows| {
            let pack = |row: &u32| {
                if packed[*row as usize] == UNUSED {
                    packed[*row as usize] = u32::try_from(used.len()).unwrap_or(UNUSED);
                    used.push(*row);
                }
                packed[*row as usize]
            };
            rows.iter().map(pack).collect()
        })
        .collect();
    let start: Vec<f32> = used.iter().flat_map(|row| &vectors[*row as usize * width..][..width]).copied().collect();
    let mut rows = Adam::new(start);
    // The head is laid out feature by feature, so that every product below is a sum of long rows.
    let mut head = Adam::new(vec![0.0; (width + 1) * classes]);
    let mut gradient = vec![0.0_f32; rows.x.len()];
    let mut touched = vec![false; used.len()];
    let mut of_head = vec![0.0_f32; head.x.len()];
    let batches = n.div_ceil(BATCH);
    let steps = (params.passes * batches).max(params.least_steps.min(100 * batches));
    let mut rng = ChaCha8Rng::seed_from_u64(seed.0);
    let mut order: Vec<usize> = (0..n).collect();
    let mut pass = Pass::new(width, classes);
    let mut at = n;
    for step in 0..steps {
        if at >= n {
            order.shuffle(&mut rng);
            at = 0;
        }
        let batch = &order[at..(at + BATCH).min(n)];
        at += BATCH;
        of_head.fill(0.0);
        let mut changed: Vec<u32> = Vec::new();
        for &text in batch {
            let kept: Vec<u32> =
                texts[text].iter().copied().filter(|_| rng.random::<f64>() >= params.dropout).collect();
            let kept = if kept.is_empty() { &texts[text] } else { &kept };
            let soft = lesson.soft.as_ref().map(|soft| soft[text]);
            pass.run(
                kept,
                &rows.x,
                &head.x,
                Target { label: lesson.labels[text], soft, teacher: narrow(params.teacher) },
            );
            pass.head_gradient(&mut of_head, 1.0 / batch.len() as f32);
            for &row in kept {
                if !std::mem::replace(&mut touched[row as usize], true) {
                    changed.push(row);
                }
                add(&mut gradient[row as usize * width..][..width], 1.0 / batch.len() as f32, &pass.of_row);
            }
        }
        let rate = narrow(params.rate * (1.0 - step as f64 / steps as f64));
        rows.begin_step();
        for row in changed {
            let range = row as usize * width..(row as usize + 1) * width;
            rows.step(range.clone(), &gradient[range.clone()], rate);
            gradient[range].fill(0.0);
            touched[row as usize] = false;
        }
        head.begin_step();
        head.step(0..of_head.len(), &of_head, HEAD_RATE * rate);
    }
    for (row, tuned) in used.iter().zip(rows.x.chunks_exact(width)) {
        vectors[*row as usize * width..][..width].copy_from_slice(tuned);
    }
    let (weights, bias) = head.x.split_at(width * classes);
    let of_class = |class: usize| weights.iter().skip(class).step_by(classes).map(|w| KAPPA * w);
    let weights = (0..classes).flat_map(of_class).collect();
    Tuned { vectors, weights, bias: bias.to_vec(), width }
}

/// What a text should be called.
#[derive(Clone, Copy)]
struct Target<'a> {
    label: usize,
    soft: Option<&'a [f32]>,
    teacher: f32,
}

/// One text forward and backward.
struct Pass {
    /// κ v.
    vector: Vec<f32>,
    /// Scores, then their gradient.
    scores: Vec<f32>,
    /// Gradient for each row of the text.
    of_row: Vec<f32>,
}

impl Pass {
    fn new(width: usize, classes: usize) -> Self {
        Self { vector: vec![0.0; width], scores: vec![0.0; classes], of_row: vec![0.0; width] }
    }

    fn run(&mut self, kept: &[u32], rows: &[f32], head: &[f32], target: Target<'_>) -> f64 {
        let (width, classes) = (self.vector.len(), self.scores.len());
        self.vector.fill(0.0);
        for row in kept {
            add(&mut self.vector, 1.0, &rows[*row as usize * width..][..width]);
        }
        let length = dot(&self.vector, &self.vector).sqrt().max(1e-6);
        self.vector.iter_mut().for_each(|x| *x *= KAPPA / length);
        let (weights, bias) = head.split_at(width * classes);
        self.scores.copy_from_slice(bias);
        for (x, weights) in self.vector.iter().zip(weights.chunks_exact(classes)) {
            add(&mut self.scores, *x, weights);
        }
        let loss = self.judge(target);
        for (g, weights) in self.of_row.iter_mut().zip(weights.chunks_exact(classes)) {
            *g = dot(weights, &self.scores);
        }
        // Back through the scale to length κ.
        let along = dot(&self.of_row, &self.vector) / (KAPPA * KAPPA);
        for (g, x) in self.of_row.iter_mut().zip(&self.vector) {
            *g = (*g - along * x) * KAPPA / length;
        }
        loss
    }

    /// Turns scores into their gradient; gives back the loss.
    fn judge(&mut self, target: Target<'_>) -> f64 {
        let greatest = self.scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = self.scores.iter().map(|z| (z - greatest).exp()).sum();
        let shift = greatest + sum.ln();
        let teacher = if target.soft.is_some() { target.teacher } else { 0.0 };
        let mut loss = 0.0;
        for (class, z) in self.scores.iter_mut().enumerate() {
            let log_p = *z - shift;
            let hard = if class == target.label { 1.0 - teacher } else { 0.0 };
            let wanted = hard + target.soft.map_or(0.0, |soft| teacher * soft[class]);
            loss -= f64::from(wanted * log_p);
            *z = log_p.exp() - wanted;
        }
        loss
    }

    fn head_gradient(&self, gradient: &mut [f32], share: f32) {
        let (weights, bias) = gradient.split_at_mut(self.vector.len() * self.scores.len());
        for (x, weights) in self.vector.iter().zip(weights.chunks_exact_mut(self.scores.len())) {
            add(weights, share * x, &self.scores);
        }
        add(bias, share, &self.scores);
    }
}

/// Numbers with Adam's two running means.
struct Adam {
    x: Vec<f32>,
    mean: Vec<f32>,
    square: Vec<f32>,
    /// β₁ᵗ and β₂ᵗ.
    decayed: (f32, f32),
}

impl Adam {
    fn new(x: Vec<f32>) -> Self {
        let n = x.len();
        Self { x, mean: vec![0.0; n], square: vec![0.0; n], decayed: (1.0, 1.0) }
    }

    fn begin_step(&mut self) {
        self.decayed = (self.decayed.0 * BETA.0, self.decayed.1 * BETA.1);
    }

    fn step(&mut self, range: std::ops::Range<usize>, gradient: &[f32], rate: f32) {
        let rate = rate * (1.0 - self.decayed.1).sqrt() / (1.0 - self.decayed.0);
        let means = self.mean[range.clone()].iter_mut().zip(&mut self.square[range.clone()]);
        for ((x, (mean, square)), g) in self.x[range].iter_mut().zip(means).zip(gradient) {
            *mean += (1.0 - BETA.0) * (g - *mean);
            *square += (1.0 - BETA.1) * (g * g - *square);
            *x -= rate * *mean / (square.sqrt() + EPSILON);
        }
    }
}

fn add(to: &mut [f32], factor: f32, x: &[f32]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * x);
}

/// Eight sums side by side, which the processor adds at once.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[expect(clippy::cast_possible_truncation, reason = "rates of seven digits are enough")]
fn narrow(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_equal_finite_differences() {
        let (width, classes) = (5, 4);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut numbers = |n: usize| (0..n).map(|_| rng.random::<f32>() - 0.5).collect::<Vec<f32>>();
        let (mut rows, mut head) = (numbers(3 * width), numbers((width + 1) * classes));
        let soft = [0.1, 0.2, 0.3, 0.4];
        let target = Target { label: 2, soft: Some(&soft), teacher: 0.3 };
        // Row 1 twice: its gradient counts twice.
        let kept = [0, 1, 1];
        let mut pass = Pass::new(width, classes);
        pass.run(&kept, &rows, &head, target);
        let mut of_head = vec![0.0; head.len()];
        pass.head_gradient(&mut of_head, 1.0);
        let of_row = pass.of_row.clone();
        let mut largest = 0.0_f64;
        let h = 1e-2_f32;
        for i in 0..2 * width {
            let times = if i < width { 1.0 } else { 2.0 };
            let mut at = |x: f32| {
                rows[i] += x;
                let loss = pass.run(&kept, &rows, &head, target);
                rows[i] -= x;
                loss
            };
            let slope = (at(h) - at(-h)) / f64::from(2.0 * h);
            largest = largest.max((slope - times * f64::from(of_row[i % width])).abs());
        }
        for i in 0..head.len() {
            let mut at = |x: f32| {
                head[i] += x;
                let loss = pass.run(&kept, &rows, &head, target);
                head[i] -= x;
                loss
            };
            let slope = (at(h) - at(-h)) / f64::from(2.0 * h);
            largest = largest.max((slope - f64::from(of_head[i])).abs());
        }
        println!("largest difference: {largest:.1e}");
        assert!(largest < 1e-2, "{largest}");
    }
}
