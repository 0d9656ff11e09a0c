//! Numbers as targets: the head starts as a ridge regression on what the encoder makes of the texts, training goes on from
//! there under the squared error, and texts that were kept from training say how far off its answers are.

use crate::matrix::Matrix;
use crate::split::Place;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use std::collections::BTreeMap;
use understudy_core::{Error, Result, Seed};
use understudy_learn::ridge::Ridge;
use understudy_model::artifact::Metric;
use understudy_stats::{Bound, values};

/// Penalties to choose from, for vectors of length 1 and targets of deviation 1.
const PENALTIES: [f64; 5] = [0.01, 0.1, 1.0, 10.0, 100.0];
/// Share of right numbers that the interval around an answer holds.
pub const HELD: f64 = 0.9;

/// Mean and deviation of the numbers to learn from: what is learned is how many deviations from the mean a text lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Mean.
    pub mean: f64,
    /// Standard deviation, above 0.
    pub deviation: f64,
}

impl Scale {
    /// Of some numbers.
    ///
    /// # Errors
    /// `Data` when there are none, they are all equal, or so large that their spread is not finite.
    pub fn of(numbers: &[f64]) -> Result<Self> {
        let n = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / n;
        let deviation = (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        if !(mean.is_finite() && deviation.is_finite() && deviation > 0.0) {
            let what = "train on numbers: those to learn from are all equal, or too large to take a mean of";
            return Err(Error::data(what));
        }
        Ok(Self { mean, deviation })
    }

    /// A number as training sees it.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a number of deviations")]
    pub fn inside(&self, number: f64) -> f32 {
        ((number - self.mean) / self.deviation) as f32
    }

    /// Weights and bias that give numbers as they are, from those that give what training sees.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "32 bits are the storage of a head")]
    pub fn outside(&self, weights: &[f32], bias: f32) -> (Vec<f32>, f32) {
        let weights = weights.iter().map(|w| (f64::from(*w) * self.deviation) as f32).collect();
        (weights, (f64::from(bias) * self.deviation + self.mean) as f32)
    }
}

/// Weights and bias of a ridge regression; the penalty is the one that errs least on the first fold, and the fit is then on
/// all rows. Targets as training sees them.
///
/// # Errors
/// `Invalid` when lists differ in length or there is nothing to fit on.
#[expect(clippy::cast_possible_truncation, reason = "32 bits are the storage of a head")]
pub fn start(embeddings: &Matrix, targets: &[f32], places: &[Place]) -> Result<(Vec<f32>, f32)> {
    let n = embeddings.rows();
    if n == 0 || targets.len() != n || places.len() != n {
        return Err(Error::invalid("fit a regression: embeddings, targets and places differ in number"));
    }
    let rows: Vec<Vec<f64>> = (0..n).map(|i| embeddings.row(i).iter().map(|x| f64::from(*x)).collect()).collect();
    let targets: Vec<f64> = targets.iter().map(|x| f64::from(*x)).collect();
    let (held, rest): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| places[i].fold == 0);
    let pick = |of: &[usize]| -> (Vec<Vec<f64>>, Vec<f64>) {
        (of.iter().map(|&i| rows[i].clone()).collect(), of.iter().map(|&i| targets[i]).collect())
    };
    let penalty = if held.is_empty() || rest.is_empty() {
        1.0
    } else {
        let ((x, y), (held_x, held_y)) = (pick(&rest), pick(&held));
        let error = |penalty: f64| {
            let model = Ridge::fit(&x, &y, penalty);
            held_x.iter().zip(&held_y).map(|(x, y)| (model.predict(x) - y).powi(2)).sum::<f64>()
        };
        let errors: Vec<(f64, f64)> = PENALTIES.iter().map(|penalty| (error(*penalty), *penalty)).collect();
        errors.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1.0, |best| best.1)
    };
    let model = Ridge::fit(&rows, &targets, penalty);
    Ok((model.weights.iter().map(|w| *w as f32).collect(), model.intercept as f32))
}

/// The figures of numbers given for right ones: `mae`, `rmse`, `r2`, `spearman`; and `held`, the share of the right numbers
/// within `margin` of the given ones, where there is a margin. Nothing without items.
///
/// # Panics
/// When the lists differ in length.
#[must_use]
pub fn measure(right: &[f64], given: &[f64], margin: Option<f64>, seed: Seed) -> BTreeMap<String, Metric> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed.derive("values").0);
    let Some(report) = values::report(right, given, &mut rng) else { return BTreeMap::new() };
    let n = right.len() as u64;
    let held = margin.map(|margin| {
        let held = right.iter().zip(given).filter(|(a, b)| (*a - *b).abs() <= margin).count() as u64;
        understudy_stats::binomial::interval(held, n, 0.95)
    });
    let metric = |b: Bound| Metric { estimate: b.estimate, low: b.low, high: b.high, n };
    let named = [
        ("mae", Some(report.mae)),
        ("rmse", Some(report.rmse)),
        ("r2", report.r2),
        ("spearman", report.spearman),
        ("held", held),
    ];
    named.into_iter().filter_map(|(name, bound)| Some((name.to_owned(), metric(bound?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::{FOLDS, Use};
    use rand::RngExt;

    #[test]
    fn a_line_is_found_and_given_back_in_its_own_unit() {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let rows: Vec<Vec<f32>> = (0..400).map(|_| (0..6).map(|_| rng.random_range(-1.0f32..1.0)).collect()).collect();
        let numbers: Vec<f64> = rows.iter().map(|r| 40.0 + 7.0 * f64::from(r[0]) - 3.0 * f64::from(r[4])).collect();
        let scale = Scale::of(&numbers).unwrap();
        let targets: Vec<f32> = numbers.iter().map(|x| scale.inside(*x)).collect();
        let places: Vec<Place> = (0..400).map(|i| Place { fold: i % FOLDS, held_out_for: Use::Stop }).collect();
        let (weights, bias) = start(&Matrix::from_rows(&rows).unwrap(), &targets, &places).unwrap();
        let (weights, bias) = scale.outside(&weights, bias);
        for (got, want) in weights.iter().zip([7.0, 0.0, 0.0, 0.0, -3.0, 0.0]) {
            assert!((got - want).abs() < 0.01, "{weights:?}");
        }
        assert!((bias - 40.0).abs() < 0.01);
        let given: Vec<f64> = numbers.iter().map(|x| x + 1.0).collect();
        let metrics = measure(&numbers, &given, Some(0.5), Seed(1));
        assert!((metrics["mae"].estimate - 1.0).abs() < 1e-9 && (metrics["spearman"].estimate - 1.0).abs() < 1e-9);
        assert!(metrics["held"].estimate.abs() < 1e-9 && metrics["held"].n == 400);
    }

    #[test]
    fn what_has_no_spread_is_refused() {
        assert!(
            Scale::of(&[]).is_err() && Scale::of(&[3.0, 3.0]).is_err() && Scale::of(&[f64::MAX, -f64::MAX]).is_err()
        );
        assert!(measure(&[], &[], None, Seed(1)).is_empty());
    }
}
