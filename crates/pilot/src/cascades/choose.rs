//! The choice and its certificate.

use super::{Population, Rated, frontier};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Error, Result, Seed};
use understudy_route::stages::Ladder;
use understudy_stats::{Bound, binomial, normal_quantile, sequence};

/// Share of the rows on which cascades are rated; the others test. More than half for the test: every row there makes
/// the bound tighter, while the order of the path needs few.
const RATED_ON: f64 = 0.3;

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// Largest allowed expected loss per request, in (0, 1).
    pub epsilon: f64,
    /// Probability with which the certificate may be wrong, in (0, 1).
    pub delta: f64,
    /// Divides the rows.
    pub seed: Seed,
}

/// A certified cascade: with probability at least 1 − δ over the rows, its expected loss per request is at most ε.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The cascade.
    pub ladder: Ladder<usize>,
    /// Rows of the test.
    pub n: u64,
    /// Losses among them.
    pub losses: u64,
    /// Upper confidence bound of the expected loss at level 1 − δ.
    pub bound: f64,
    /// Mean price per request on the rows of the test, in USD.
    pub cost_usd: f64,
    /// Mean price of always asking the large model there.
    pub cost_large_usd: f64,
    /// Share of the large model's price that is saved there, with a 95 % interval: that of a ratio of means (W. Cochran,
    /// *Sampling Techniques*, 1977, section 6.4). That the cascade was chosen on these rows is not in it.
    pub saved: Bound,
    /// Rows on which the cascades were rated.
    pub rated_on: u64,
    /// Place on the path, from 0.
    pub place: usize,
    /// SHA-256 over the ids of the test's rows.
    pub data_hash: String,
}

/// Why nothing is certified.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// In a sentence.
    pub reason: String,
    /// Rows that would be enough if not a single loss occurred.
    pub fewest_rows: u64,
}

/// The outcome of a search.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// This cascade holds the promise.
    Certified(Choice),
    /// None could be shown to.
    NotCertified(Refused),
}

/// Rates cascades on one part of the rows and certifies on the other. Returns the path that was laid, too.
///
/// # Errors
/// `Invalid` when ε or δ is not in (0, 1) or there are fewer than 20 rows.
pub fn choose(population: &Population, terms: Terms) -> Result<(Verdict, Vec<Rated>)> {
    let all: Vec<usize> = (0..population.len()).collect();
    choose_among(population, &all, terms)
}

/// As [`choose`], on some rows, which may repeat.
pub(super) fn choose_among(population: &Population, rows: &[usize], terms: Terms) -> Result<(Verdict, Vec<Rated>)> {
    let inside = |p: f64| p > 0.0 && p < 1.0;
    if !inside(terms.epsilon) || !inside(terms.delta) {
        return Err(Error::invalid("choose a cascade: epsilon and delta lie between 0 and 1"));
    }
    if rows.len() < 20 {
        return Err(Error::invalid(format!("choose a cascade: {} rows are too few; record at least 20", rows.len())));
    }
    let mut order = rows.to_vec();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(terms.seed.derive("cascades").0));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
    let (rated, test) = order.split_at((rows.len() as f64 * RATED_ON) as usize);
    let path = frontier(population, rated);
    let n = test.len() as u64;
    let fewest = clean_rows(terms);
    let refused = |reason: String| Verdict::NotCertified(Refused { reason, fewest_rows: fewest });
    let Some(allowed) = binomial::most_allowed(n, terms.epsilon, 1.0 - terms.delta) else {
        let reason = format!(
            "{} rows cannot show a loss of at most {} % at {} % confidence: record at least {fewest}",
            rows.len(),
            100.0 * terms.epsilon,
            100.0 * (1.0 - terms.delta)
        );
        return Ok((refused(reason), path));
    };
    let passed = sequence::last_rejected(path.len(), |i| population.tally(&path[i].ladder, test).losses <= allowed);
    let Some(place) = passed else {
        let reason = if path.is_empty() {
            "no cascade is cheaper than the large model alone".to_owned()
        } else {
            let losses = population.tally(&path[0].ladder, test).losses;
            format!("even the safest cascade lost {losses} of {n} requests, and {allowed} are allowed")
        };
        return Ok((refused(reason), path));
    };
    let ladder = path[place].ladder.clone();
    let tally = population.tally(&ladder, test);
    let last = population.models.len();
    let prices: Vec<(f64, f64)> = test
        .iter()
        .map(|row| {
            (population.tally(&ladder, std::slice::from_ref(row)).cost_usd, population.cells[*row][last].cost_usd)
        })
        .collect();
    let cost_large = prices.iter().map(|price| price.1).sum::<f64>();
    let choice = Choice {
        ladder,
        n,
        losses: tally.losses,
        bound: binomial::upper(tally.losses, n, 1.0 - terms.delta),
        cost_usd: tally.cost_usd / n as f64,
        cost_large_usd: cost_large / n as f64,
        saved: saved(&prices),
        rated_on: rated.len() as u64,
        place,
        data_hash: population.hash(test),
    };
    Ok((Verdict::Certified(choice), path))
}

/// One less the ratio of the mean prices (cascade, large model), with its interval.
fn saved(prices: &[(f64, f64)]) -> Bound {
    let n = prices.len() as f64;
    let sum = |of: &dyn Fn(&(f64, f64)) -> f64| prices.iter().map(of).sum::<f64>();
    let (cascade, large) = (sum(&|p| p.0), sum(&|p| p.1));
    let ratio = cascade / large;
    let variance = sum(&|p| (p.0 - ratio * p.1).powi(2)) / (n - 1.0).max(1.0);
    let half = normal_quantile(0.975) * (variance / n).sqrt() / (large / n);
    Bound { estimate: 1.0 - ratio, low: 1.0 - ratio - half, high: (1.0 - ratio + half).min(1.0), level: 0.95 }
}

/// Rows that suffice without a single loss: those of the test, and those on which the path is laid.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a moderate positive number")]
fn clean_rows(terms: Terms) -> u64 {
    let test = (terms.delta.ln() / (1.0 - terms.epsilon).ln()).ceil();
    (test / (1.0 - RATED_ON)).ceil() as u64 + 1
}
