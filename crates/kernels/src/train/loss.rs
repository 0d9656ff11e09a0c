//! Losses on rows of scores, with their gradients. In f64: there are few numbers, and everything hangs on them.
//!
//! Each function returns the *sum* over rows and the sum of the rows' weights, and writes the gradient of
//! `scale · sum`: a caller that wants the mean over a batch in several parts passes 1 / (weight of the whole batch).

/// A sum over rows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// Σ weight · loss.
    pub sum: f64,
    /// Σ weight.
    pub weight: f64,
}

impl std::ops::AddAssign for Loss {
    fn add_assign(&mut self, other: Self) {
        self.sum += other.sum;
        self.weight += other.weight;
    }
}

/// Log-softmax of a row.
fn log_softmax(row: &[f32], temperature: f64) -> Vec<f64> {
    let row: Vec<f64> = row.iter().map(|x| f64::from(*x) / temperature).collect();
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = row.iter().map(|x| (x - most).exp()).sum::<f64>().ln() + most;
    row.iter().map(|x| x - log_sum).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "computed in f64, stored in f32")]
fn narrow(x: f64) -> f32 {
    x as f32
}

/// Softmax cross-entropy. `targets` holds the class of each row; rows without one do not count. `weights` has one weight
/// for each class, or is empty; `smoothing` in [0, 1) moves that share of the target to all classes alike, weighted as
/// PyTorch does it.
///
/// # Panics
/// When the shapes do not agree or a class is out of range.
pub fn cross_entropy(
    logits: &[f32],
    targets: &[Option<usize>],
    weights: &[f32],
    smoothing: f64,
    scale: f64,
    grad: &mut [f32],
) -> Loss {
    let classes = logits.len() / targets.len().max(1);
    assert!(logits.len() == targets.len() * classes && grad.len() == logits.len(), "one row for each target");
    assert!(weights.is_empty() || weights.len() == classes, "one weight for each class");
    let mut loss = Loss::default();
    for ((row, grad), target) in logits.chunks_exact(classes).zip(grad.chunks_exact_mut(classes)).zip(targets) {
        let Some(target) = *target else {
            grad.fill(0.0);
            continue;
        };
        assert!(target < classes, "a class of the model");
        let share = |class: usize| f64::from(u8::from(class == target));
        loss.sum += row_cross_entropy(row, share, weights, smoothing, scale, grad);
        loss.weight += weights.get(target).map_or(1.0, |w| f64::from(*w));
    }
    loss
}

/// Softmax cross-entropy against distributions, one row of probabilities for each row of scores: what a class's share
/// says is worth that share of [`cross_entropy`] with the class, so all of it on one class is the same.
///
/// # Panics
/// When the shapes do not agree.
pub fn cross_entropy_to_shares(
    logits: &[f32],
    shares: &[f32],
    classes: usize,
    weights: &[f32],
    smoothing: f64,
    scale: f64,
    grad: &mut [f32],
) -> Loss {
    assert!(classes > 0 && logits.len().is_multiple_of(classes), "whole rows");
    assert!(shares.len() == logits.len() && grad.len() == logits.len(), "one shape");
    assert!(weights.is_empty() || weights.len() == classes, "one weight for each class");
    let mut loss = Loss::default();
    let rows = logits.chunks_exact(classes).zip(shares.chunks_exact(classes));
    for ((row, shares), grad) in rows.zip(grad.chunks_exact_mut(classes)) {
        loss.sum += row_cross_entropy(row, |class| f64::from(shares[class]), weights, smoothing, scale, grad);
        loss.weight += shares_weight(shares, weights);
    }
    loss
}

/// What a row of shares counts in a mean over rows whose classes have `weights` (none: all count 1).
#[must_use]
pub fn shares_weight(shares: &[f32], weights: &[f32]) -> f64 {
    if weights.is_empty() {
        return 1.0;
    }
    shares.iter().zip(weights).map(|(share, weight)| f64::from(share * weight)).sum()
}

/// The loss of one row.
fn row_cross_entropy(
    row: &[f32],
    target: impl Fn(usize) -> f64,
    weights: &[f32],
    smoothing: f64,
    scale: f64,
    grad: &mut [f32],
) -> f64 {
    let classes = row.len();
    let log_p = log_softmax(row, 1.0);
    let weight = |class: usize| weights.get(class).map_or(1.0, |w| f64::from(*w));
    let share =
        |class: usize| (1.0 - smoothing) * target(class) * weight(class) + smoothing / classes as f64 * weight(class);
    let total: f64 = (0..classes).map(share).sum();
    for (class, grad) in grad.iter_mut().enumerate() {
        *grad = narrow(scale * (total * log_p[class].exp() - share(class)));
    }
    -(0..classes).map(|class| share(class) * log_p[class]).sum::<f64>()
}

/// Kullback–Leibler divergence of a teacher's probabilities from the student's at `temperature`, times temperature²
/// (Hinton et al., arXiv 1503.02531). `teacher` holds probabilities, already at that temperature.
///
/// # Panics
/// When the shapes do not agree.
pub fn kl_to_teacher(
    logits: &[f32],
    teacher: &[f32],
    classes: usize,
    temperature: f64,
    scale: f64,
    grad: &mut [f32],
) -> Loss {
    assert!(classes > 0 && logits.len().is_multiple_of(classes), "whole rows");
    assert!(teacher.len() == logits.len() && grad.len() == logits.len(), "one shape");
    let mut loss = Loss::default();
    let rows = logits.chunks_exact(classes).zip(teacher.chunks_exact(classes));
    for ((row, teacher), grad) in rows.zip(grad.chunks_exact_mut(classes)) {
        let log_p = log_softmax(row, temperature);
        let mass: f64 = teacher.iter().map(|q| f64::from(*q)).sum();
        for ((log_p, q), grad) in log_p.iter().zip(teacher).zip(grad) {
            let q = f64::from(*q);
            if q > 0.0 {
                loss.sum += temperature * temperature * q * (q.ln() - log_p);
            }
            *grad = narrow(scale * temperature * (mass * log_p.exp() - q));
        }
        loss.weight += 1.0;
    }
    loss
}

/// Binary cross-entropy of each score against a target in [0, 1]; a row's loss is the mean over its columns. `weights`
/// multiplies the positive part of each column, or is empty.
///
/// # Panics
/// When the shapes do not agree.
pub fn binary_cross_entropy(
    logits: &[f32],
    targets: &[f32],
    columns: usize,
    weights: &[f32],
    scale: f64,
    grad: &mut [f32],
) -> Loss {
    assert!(columns > 0 && logits.len().is_multiple_of(columns), "whole rows");
    assert!(targets.len() == logits.len() && grad.len() == logits.len(), "one shape");
    assert!(weights.is_empty() || weights.len() == columns, "one weight for each column");
    let mut sum = 0.0;
    for (i, ((x, y), grad)) in logits.iter().zip(targets).zip(grad).enumerate() {
        let (x, y) = (f64::from(*x), f64::from(*y));
        let positive = y * weights.get(i % columns).map_or(1.0, |w| f64::from(*w));
        // −log σ(x) and −log σ(−x) without overflow.
        let tail = (-x.abs()).exp().ln_1p();
        sum += positive * (tail + (-x).max(0.0)) + (1.0 - y) * (tail + x.max(0.0));
        let p = 1.0 / (1.0 + (-x).exp());
        *grad = narrow(scale / columns as f64 * (p * (positive + 1.0 - y) - positive));
    }
    Loss { sum: sum / columns as f64, weight: (logits.len() / columns) as f64 }
}

/// Squared error; a row's loss is the mean over its columns.
///
/// # Panics
/// When the shapes do not agree.
pub fn squared_error(outputs: &[f32], targets: &[f32], columns: usize, scale: f64, grad: &mut [f32]) -> Loss {
    assert!(columns > 0 && outputs.len().is_multiple_of(columns), "whole rows");
    assert!(targets.len() == outputs.len() && grad.len() == outputs.len(), "one shape");
    let mut sum = 0.0;
    for ((x, y), grad) in outputs.iter().zip(targets).zip(grad) {
        let d = f64::from(*x) - f64::from(*y);
        sum += d * d;
        *grad = narrow(scale / columns as f64 * 2.0 * d);
    }
    Loss { sum: sum / columns as f64, weight: (outputs.len() / columns) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    /// Holds the gradient against differences of the value, and the value against `want`.
    fn check(what: &str, x: &[f32], want: f64, loss: impl Fn(&[f32], f64, &mut [f32]) -> Loss) {
        let scale = 0.37;
        let mut grad = vec![f32::NAN; x.len()];
        let value = loss(x, scale, &mut grad);
        assert!((value.sum - want).abs() < 1e-5 * (1.0 + want.abs()), "{what}: {} instead of {want}", value.sum);
        let mut worst = 0f64;
        for i in 0..x.len() {
            let h = 1.0 / 128.0;
            let slope = [h, -h].map(|h| {
                let mut moved = x.to_vec();
                moved[i] += h;
                loss(&moved, scale, &mut vec![0.0; x.len()]).sum
            });
            let want = scale * (slope[0] - slope[1]) / (2.0 * f64::from(h));
            worst = worst.max((f64::from(grad[i]) - want).abs());
        }
        println!("{what}: largest difference of the gradient {worst:.2e}");
        assert!(worst < 2e-5, "{what}: {worst}");
    }

    #[test]
    fn losses_match_their_definitions_and_finite_differences() {
        let (rows, classes) = (5, 7);
        let x: Vec<f32> = noise(1, rows * classes).iter().map(|x| x * 3.0).collect();
        let p = |i: usize, j: usize| {
            let row = &x[i * classes..][..classes];
            f64::from(row[j]).exp() / row.iter().map(|x| f64::from(*x).exp()).sum::<f64>()
        };
        let targets = [Some(3), None, Some(0), Some(6), Some(3)];
        let weights: Vec<f32> = (0..7).map(|i| 0.5 + i as f32 / 4.0).collect();
        let mut want = 0.0;
        for (i, target) in targets.iter().enumerate().filter_map(|(i, t)| t.map(|t| (i, t))) {
            want -= 0.9 * f64::from(weights[target]) * p(i, target).ln();
            want -= (0..7).map(|j| 0.1 / 7.0 * f64::from(weights[j]) * p(i, j).ln()).sum::<f64>();
        }
        check("cross-entropy", &x, want, |x, s, g| cross_entropy(x, &targets, &weights, 0.1, s, g));
        let plain = (0..rows).filter_map(|i| targets[i].map(|t| -p(i, t).ln())).sum();
        check("cross-entropy, plain", &x, plain, |x, s, g| cross_entropy(x, &targets, &[], 0.0, s, g));

        // A distribution is the mean of its classes' losses, and all of it on one class is that class.
        let shares: Vec<f32> = [0.5f32, 0.0, 0.0, 0.3, 0.0, 0.0, 0.2].repeat(rows);
        let mixed = [(0, 0.5), (3, 0.3), (6, 0.2)].map(|(class, share)| {
            let targets = [Some(class); 5];
            share * cross_entropy(&x, &targets, &weights, 0.1, 0.0, &mut vec![0.0; x.len()]).sum
        });
        check("cross-entropy to shares", &x, mixed.iter().sum(), |x, s, g| {
            cross_entropy_to_shares(x, &shares, classes, &weights, 0.1, s, g)
        });
        let certain: Vec<f32> = (0..rows * classes).map(|i| f32::from(u8::from(i % classes == 3))).collect();
        let (mut hard, mut soft) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        let one = cross_entropy(&x, &[Some(3); 5], &weights, 0.1, 1.0, &mut hard);
        let other = cross_entropy_to_shares(&x, &certain, classes, &weights, 0.1, 1.0, &mut soft);
        assert!(one == other && hard == soft);

        let teacher: Vec<f32> = noise(2, rows * classes)
            .chunks(classes)
            .flat_map(|row| {
                let sum: f32 = row.iter().map(|x| x.abs()).sum();
                row.iter().map(move |x| x.abs() / sum).collect::<Vec<_>>()
            })
            .collect();
        let want =
            (0..rows * classes).map(|ij| f64::from(teacher[ij]) * (f64::from(teacher[ij]) / p(ij / 7, ij % 7)).ln());
        check("KL at temperature 1", &x, want.sum(), |x, s, g| kl_to_teacher(x, &teacher, classes, 1.0, s, g));
        let hot: Vec<f32> = x.iter().map(|x| x * 2.0).collect();
        let want =
            (0..rows * classes).map(|ij| f64::from(teacher[ij]) * (f64::from(teacher[ij]) / p(ij / 7, ij % 7)).ln());
        check("KL at temperature 2", &hot, 4.0 * want.sum::<f64>(), |x, s, g| {
            kl_to_teacher(x, &teacher, classes, 2.0, s, g)
        });

        let y: Vec<f32> = noise(3, rows * classes).iter().map(|x| f32::from(*x > 0.0)).collect();
        let want: f64 = (0..rows * classes)
            .map(|i| {
                let p = 1.0 / (1.0 + (-f64::from(x[i])).exp());
                -f64::from(weights[i % 7] * y[i]) * p.ln() - (1.0 - f64::from(y[i])) * (1.0 - p).ln()
            })
            .sum();
        check("binary cross-entropy", &x, want / 7.0, |x, s, g| binary_cross_entropy(x, &y, 7, &weights, s, g));
        let want: f64 = x.iter().zip(&y).map(|(x, y)| f64::from(x - y).powi(2)).sum();
        check("squared error", &x, want / 7.0, |x, s, g| squared_error(x, &y, 7, s, g));
    }

    #[test]
    fn far_out_scores_stay_finite() {
        let x = [1e4, -1e4, 0.0];
        let mut grad = [0.0; 3];
        let loss = cross_entropy(&x, &[Some(1)], &[], 0.0, 1.0, &mut grad);
        assert!((loss.sum - 2e4).abs() < 1.0 && grad.iter().all(|g| g.is_finite()));
        let loss = binary_cross_entropy(&x, &[0.0, 1.0, 1.0], 3, &[], 1.0, &mut grad);
        assert!(loss.sum.is_finite() && grad.iter().all(|g| g.is_finite()));
    }
}
