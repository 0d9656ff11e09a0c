//! Temperature scaling (Guo et al., *On Calibration of Modern Neural Networks*, 2017): one number that makes
//! held-out confidences match how often the head is right.

/// Range that is searched.
const RANGE: (f64, f64) = (0.05, 20.0);
/// Standard deviation of ln T under the prior, which is centred at T = 1. It is felt only with a handful of items,
/// where a few lucky answers would otherwise make the head certain.
const PRIOR: f64 = 0.5;

/// The temperature that minimises the log loss of `logits` (one row per item) against `labels`.
pub(crate) fn fit(logits: &[Vec<f64>], labels: &[usize]) -> f64 {
    let objective = |ln_t: f64| {
        let (t, mut loss) = (ln_t.exp(), 0.5 * (ln_t / PRIOR).powi(2));
        for (row, &label) in logits.iter().zip(labels) {
            loss += log_loss(row, label, t);
        }
        loss
    };
    // Golden section: the loss is convex in 1 / T, so it has a single valley in ln T.
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (RANGE.0.ln(), RANGE.1.ln());
    let (mut a, mut b) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut fa, mut fb) = (objective(a), objective(b));
    while high - low > 1e-6 {
        if fa <= fb {
            (high, b, fb) = (b, a, fa);
            a = high - ratio * (high - low);
            fa = objective(a);
        } else {
            (low, a, fa) = (a, b, fb);
            b = low + ratio * (high - low);
            fb = objective(b);
        }
    }
    f64::midpoint(low, high).exp()
}

/// −ln P(label) at temperature `t`.
pub(crate) fn log_loss(logits: &[f64], label: usize, t: f64) -> f64 {
    let greatest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|z| ((z - greatest) / t).exp()).sum();
    sum.ln() - (logits[label] - greatest) / t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovers_the_temperature_that_made_the_labels() {
        // Two classes, gap 2: at T the first is right with probability 1 / (1 + e^(-2 / T)).
        for t in [0.7f64, 1.0, 2.5] {
            let right = 1.0 / (1.0 + (-2.0 / t).exp());
            let n = 100_000;
            let labels: Vec<usize> = (0..n).map(|i| usize::from(f64::from(i) >= right * f64::from(n))).collect();
            let fitted = fit(&vec![vec![2.0, 0.0]; labels.len()], &labels);
            assert!((fitted / t - 1.0).abs() < 1e-2, "{fitted} for {t}");
        }
    }

    #[test]
    fn a_few_faultless_items_do_not_make_the_head_certain() {
        let t = fit(&vec![vec![2.0, 0.0]; 5], &[0; 5]);
        assert!(t > 0.5, "{t}");
        assert!(log_loss(&[2.0, 0.0], 0, t) > 0.01);
    }
}
