//! The bootstrap: what a statistic would have been on other samples, drawn from this one with replacement.
//!
//! Percentile intervals for statistics without a formula (F1, AUC) and BCa intervals (bias-corrected, accelerated:
//! B. Efron, *JASA* 82, 1987) for paired means. Randomness arrives as an argument.

use crate::{Bound, normal_cdf, normal_quantile};
use rand::{Rng, RngExt};

/// Draws for an interval at 95 %: the ends then move by about a twentieth of the interval's width from seed to seed.
pub const RESAMPLES: usize = 2000;

/// Percentile interval of `statistic`, a function of the drawn indices below `n`. `None` when the statistic is
/// undefined on the whole sample (it returns NaN). Draws on which it is undefined are left out.
///
/// The ends are moved to hold the estimate where a biased statistic (an F1 with rare classes) would leave it outside.
///
/// # Panics
/// When `n` or `resamples` is 0 or `level` is outside (0, 1).
pub fn percentile(
    n: usize,
    resamples: usize,
    level: f64,
    rng: &mut impl Rng,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> Option<Bound> {
    assert!(n > 0 && resamples > 0 && level > 0.0 && level < 1.0, "a sample, draws and a level in (0, 1)");
    let mut indices: Vec<usize> = (0..n).collect();
    let estimate = statistic(&indices);
    if estimate.is_nan() {
        return None;
    }
    let mut draws = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        indices.iter_mut().for_each(|index| *index = rng.random_range(0..n));
        draws.push(statistic(&indices));
    }
    draws.retain(|draw| !draw.is_nan());
    if draws.is_empty() {
        return None;
    }
    draws.sort_unstable_by(f64::total_cmp);
    let side = (1.0 - level) / 2.0;
    let (low, high) = (sorted_quantile(&draws, side), sorted_quantile(&draws, 1.0 - side));
    Some(Bound { estimate, low: low.min(estimate), high: high.max(estimate), level })
}

/// The interval of a figure in [0, 1], made at least as wide on either side as the interval of a share of the same items.
///
/// Resampling knows nothing but the items there are: of one item, or of items that are all alike, its interval has no
/// width. No figure of so few items is surer than the share of them that is right, whose interval is exact.
#[must_use]
pub fn no_surer_than(share: Bound, figure: Bound) -> Bound {
    let reach = (share.estimate - share.low).max(share.high - share.estimate);
    Bound {
        low: figure.low.min(figure.estimate - reach).max(0.0),
        high: figure.high.max(figure.estimate + reach).min(1.0),
        ..figure
    }
}

/// BCa interval of the mean, from `resamples` draws. All values equal: the interval is the value.
///
/// # Panics
/// When `values` is empty, `resamples` is 0 or `level` is outside (0, 1).
pub fn bca_mean(values: &[f64], resamples: usize, level: f64, rng: &mut impl Rng) -> Bound {
    assert!(!values.is_empty() && resamples > 0 && level > 0.0 && level < 1.0, "values, draws and a level");
    let n = values.len();
    let mut draws: Vec<f64> =
        (0..resamples).map(|_| (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64).collect();
    draws.sort_unstable_by(f64::total_cmp);
    bca_of_draws(values, &draws, level)
}

/// The BCa interval of the mean of `values` from `draws`, sorted means of resamples: the arithmetic apart from chance.
///
/// # Panics
/// As [`bca_mean`].
#[must_use]
pub fn bca_of_draws(values: &[f64], draws: &[f64], level: f64) -> Bound {
    assert!(!values.is_empty() && !draws.is_empty(), "values and draws");
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let (first, last) = (draws[0], draws[draws.len() - 1]);
    if last - first <= 0.0 {
        return Bound { estimate: mean, low: mean, high: mean, level };
    }
    // Ties with the estimate count half (means of 0 and 1 repeat often), as in scipy.stats.bootstrap.
    let below = draws.partition_point(|&draw| draw < mean);
    let at_most = draws.partition_point(|&draw| draw <= mean);
    let share = (below + at_most) as f64 / (2.0 * draws.len() as f64);
    let z0 = normal_quantile(share.clamp(0.5 / draws.len() as f64, 1.0 - 0.5 / draws.len() as f64));
    // The jackknife's mean without item i is (Σ − xᵢ) / (n − 1): its deviations are those of x, scaled and negated.
    let cubes: f64 = values.iter().map(|x| (x - mean).powi(3)).sum();
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    let acceleration = if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 };
    let end = |p: f64| {
        let z = z0 + normal_quantile(p);
        sorted_quantile(draws, normal_cdf(z0 + z / (1.0 - acceleration * z)))
    };
    let side = (1.0 - level) / 2.0;
    Bound { estimate: mean, low: end(side), high: end(1.0 - side), level }
}

/// Quantile of a sorted sample, linear between order statistics (numpy's default, type 7).
fn sorted_quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "below the sample's length")]
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    #[test]
    fn a_figure_of_one_item_is_no_surer_than_that_item() {
        let bound = |estimate: f64| Bound { estimate, low: estimate, high: estimate, level: 0.95 };
        let right = no_surer_than(crate::binomial::interval(1, 1, 0.95), bound(1.0));
        assert!((right.low - 0.025).abs() < 1e-9 && (right.high - 1.0).abs() < 1e-12, "{right:?}");
        let wrong = no_surer_than(crate::binomial::interval(0, 1, 0.95), bound(0.0));
        assert!(wrong.low.abs() < 1e-12 && (wrong.high - 0.975).abs() < 1e-9, "{wrong:?}");
        let wide = Bound { estimate: 0.5, low: 0.1, high: 0.9, level: 0.95 };
        assert_eq!(no_surer_than(crate::binomial::interval(500, 1000, 0.95), wide), wide);
    }

    #[test]
    fn intervals_cover_the_mean_about_as_often_as_they_say() {
        let mut rng = ChaCha12Rng::seed_from_u64(5);
        let (mut held, mut held_bca) = (0, 0);
        for _ in 0..300 {
            let values: Vec<f64> = (0..80).map(|_| f64::from(u8::from(rng.random_range(0.0..1.0) < 0.3))).collect();
            let mean = |indices: &[usize]| indices.iter().map(|&i| values[i]).sum::<f64>() / indices.len() as f64;
            let bound = percentile(80, 400, 0.95, &mut rng, mean).expect("a mean");
            held += u32::from(bound.contains(0.3));
            held_bca += u32::from(bca_mean(&values, 400, 0.95, &mut rng).contains(0.3));
        }
        // 300 × 0.95 = 285; three standard deviations below are 274, and discreteness costs a little.
        assert!(held >= 268 && held_bca >= 268, "{held} {held_bca}");
    }

    #[test]
    fn equal_values_have_no_width_and_undefined_statistics_no_interval() {
        let mut rng = ChaCha12Rng::seed_from_u64(5);
        let bound = bca_mean(&[0.25; 9], 100, 0.95, &mut rng);
        assert!((bound.high - bound.low).abs() < 1e-15 && bound.contains(0.25));
        assert!(percentile(3, 10, 0.95, &mut rng, |_| f64::NAN).is_none());
    }
}
