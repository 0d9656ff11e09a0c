//! Predicted numbers against right ones: how far off, how much of the variation is told, and whether the order is right.

use crate::{Bound, bootstrap};
use rand::Rng;

/// Figures over all items, with 95 % intervals (bootstrapped over items).
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Mean absolute error, in the numbers' own unit.
    pub mae: Bound,
    /// Root of the mean squared error, in the numbers' own unit.
    pub rmse: Bound,
    /// Coefficient of determination: 1 − squared error ÷ squared distance of the right numbers from their mean; negative
    /// where their mean would have been the better answer. `None` when all right numbers are equal.
    pub r2: Option<Bound>,
    /// Spearman's rank correlation, equal numbers sharing the mean of their ranks. `None` when all numbers of a side are
    /// equal.
    pub spearman: Option<Bound>,
}

/// Measures; `None` without items.
///
/// # Panics
/// When the lists differ in length or a number is not finite.
pub fn report(right: &[f64], given: &[f64], rng: &mut impl Rng) -> Option<Report> {
    assert_eq!(right.len(), given.len(), "an answer to each item");
    assert!(right.iter().chain(given).all(|x| x.is_finite()), "finite numbers");
    let n = right.len();
    if n == 0 {
        return None;
    }
    let error = |i: usize| given[i] - right[i];
    let mean =
        |drawn: &[usize], of: &dyn Fn(usize) -> f64| drawn.iter().map(|&i| of(i)).sum::<f64>() / drawn.len() as f64;
    let squared = |drawn: &[usize]| mean(drawn, &|i| error(i) * error(i));
    let r2 = |drawn: &[usize]| {
        let centre = mean(drawn, &|i| right[i]);
        let spread = mean(drawn, &|i| (right[i] - centre).powi(2));
        if spread > 0.0 { 1.0 - squared(drawn) / spread } else { f64::NAN }
    };
    let order = |drawn: &[usize]| {
        let pick = |of: &[f64]| drawn.iter().map(|&i| of[i]).collect::<Vec<f64>>();
        correlation(&ranks(&pick(right)), &ranks(&pick(given)))
    };
    let mut bound =
        |statistic: &dyn Fn(&[usize]) -> f64| bootstrap::percentile(n, bootstrap::RESAMPLES, 0.95, rng, statistic);
    Some(Report {
        mae: bound(&|drawn| mean(drawn, &|i| error(i).abs()))?,
        rmse: bound(&|drawn| squared(drawn).sqrt())?,
        r2: bound(&r2),
        spearman: bound(&order),
    })
}

/// The position of each number among all, from 1; equal numbers share the mean of theirs.
fn ranks(numbers: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_unstable_by(|&a, &b| numbers[a].total_cmp(&numbers[b]));
    let mut ranks = vec![0.0; numbers.len()];
    let mut from = 0;
    while from < order.len() {
        let equal = order[from..].iter().take_while(|&&i| numbers[i].total_cmp(&numbers[order[from]]).is_eq()).count();
        let shared = from as f64 + (equal as f64 + 1.0) / 2.0;
        order[from..from + equal].iter().for_each(|&i| ranks[i] = shared);
        from += equal;
    }
    ranks
}

/// Pearson's correlation; NaN when a side does not vary.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        (ab, aa, bb) = (ab + a * b, aa + a * a, bb + b * b);
    }
    if aa > 0.0 && bb > 0.0 { ab / (aa * bb).sqrt() } else { f64::NAN }
}

/// Half the width of an interval around a prediction that holds the right number of a share `level` of items like those
/// whose absolute errors are given: split conformal prediction (Vovk et al. 2005; J. Lei et al., *JASA* 113, 2018), for any
/// model and any distribution. `None` when there are too few errors to say so (9 for nine tenths).
///
/// # Panics
/// When `level` is not in (0, 1).
#[must_use]
pub fn conformal_margin(errors: &[f64], level: f64) -> Option<f64> {
    assert!(level > 0.0 && level < 1.0, "a level in (0, 1)");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of items")]
    let rank = ((errors.len() + 1) as f64 * level).ceil() as usize;
    let mut sorted = errors.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha12Rng;

    /// scikit-learn 1.x: mean_absolute_error, root_mean_squared_error, r2_score; scipy: spearmanr.
    #[test]
    fn figures_are_those_of_scikit_learn_and_scipy() {
        let right = [3.0, -0.5, 2.0, 7.0, 2.0];
        let given = [2.5, 0.0, 2.0, 8.0, 1.0];
        let report = report(&right, &given, &mut ChaCha12Rng::seed_from_u64(1)).unwrap();
        for (got, want) in [
            (report.mae.estimate, 0.6),
            (report.rmse.estimate, std::f64::consts::FRAC_1_SQRT_2),
            (report.r2.unwrap().estimate, 0.916_107_382_550_335_6),
            (report.spearman.unwrap().estimate, 0.974_679_434_480_896_3),
        ] {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
        assert!(report.mae.low <= 0.6 && report.mae.high >= 0.6);
    }

    #[test]
    fn what_does_not_vary_has_neither_determination_nor_order() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let same = report(&[2.0; 4], &[1.0, 2.0, 3.0, 2.0], &mut rng).unwrap();
        assert!(same.r2.is_none() && same.spearman.is_none() && (same.mae.estimate - 0.5).abs() < 1e-12);
        assert!(report(&[], &[], &mut rng).is_none());
    }

    #[test]
    fn the_margin_holds_its_share_of_new_errors_on_average() {
        let mut rng = ChaCha12Rng::seed_from_u64(4);
        let mut draw = |n: usize| (0..n).map(|_| rng.random::<f64>().powi(3)).collect::<Vec<f64>>();
        let (mut held, mut all) = (0usize, 0usize);
        for _ in 0..2000 {
            let margin = conformal_margin(&draw(19), 0.9).unwrap();
            let new = draw(10);
            held += new.iter().filter(|error| **error <= margin).count();
            all += new.len();
        }
        let share = held as f64 / all as f64;
        println!("the interval held {share:.4} of new errors, 0.9 asked for");
        // With 19 errors the promise is exactly 18 of 20; 20,000 draws in groups tell it to about half a point.
        assert!((share - 0.9).abs() < 0.01);
        assert!(conformal_margin(&draw(8), 0.9).is_none() && conformal_margin(&draw(9), 0.9).is_some());
    }
}
