//! Scores for rows by something that was fitted on the other rows.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Error, Result, Seed};

/// Divides `n` rows into `folds` at random; each fold is scored by `score(train, test)`, which gets the places of the
/// rows to fit on and of those to score, and returns one score for each of the latter. Returns a score for every row.
///
/// # Errors
/// `Invalid` when there are fewer rows than folds; whatever `score` returns.
pub fn crossed(
    n: usize,
    folds: usize,
    seed: Seed,
    mut score: impl FnMut(&[usize], &[usize]) -> Result<Vec<f64>>,
) -> Result<Vec<f64>> {
    if folds < 2 || n < folds {
        return Err(Error::invalid(format!("cross-fit {n} rows in {folds} folds: it takes a row for each fold")));
    }
    let order = shuffled(n, seed);
    let mut scores = vec![0.0; n];
    for fold in 0..folds {
        let part = |held: bool| -> Vec<usize> {
            order.iter().enumerate().filter(|(i, _)| (i % folds == fold) == held).map(|(_, &place)| place).collect()
        };
        let (test, train) = (part(true), part(false));
        for (place, score) in test.iter().zip(score(&train, &test)?) {
            scores[*place] = score;
        }
    }
    Ok(scores)
}

/// Two random halves of `n` rows.
#[must_use]
pub fn halves(n: usize, seed: Seed) -> (Vec<usize>, Vec<usize>) {
    let mut first = shuffled(n, seed.derive("halves"));
    let second = first.split_off(n / 2);
    (first, second)
}

fn shuffled(n: usize, seed: Seed) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed.derive("folds").0));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_scored_once_by_a_fit_that_did_not_see_it() {
        let mut times = [0; 23];
        let scores = crossed(23, 5, Seed(1), |train, test| {
            assert!(test.iter().all(|place| !train.contains(place)) && train.len() + test.len() == 23);
            test.iter().for_each(|&place| times[place] += 1);
            Ok(test.iter().map(|&place| place as f64).collect())
        });
        assert_eq!(scores.expect("enough rows"), (0..23).map(f64::from).collect::<Vec<_>>());
        assert!(times.iter().all(|&times| times == 1));
        assert!(crossed(3, 5, Seed(1), |_, test| Ok(vec![0.0; test.len()])).is_err());
        let (a, b) = halves(9, Seed(1));
        assert!(a.len() == 4 && b.len() == 5 && a.iter().all(|place| !b.contains(place)));
    }
}
