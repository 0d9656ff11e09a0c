//! Certification: the loosest threshold whose loss is shown to be small.

pub mod family;
pub(crate) mod search;

use crate::{Grid, Item, Scored, items::data_hash};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use search::{Coded, Search, count};
use understudy_core::{Certificate, Confidence, Error, LossKind, ModelName, Per, Result, Seed, TaskName, Timestamp};
use understudy_stats::binomial;

/// More calibration items than this are not proposed to anybody.
const MOST_EXAMPLES: u64 = 1 << 32;

/// What is to be certified, and how strictly.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// The task.
    pub task: TaskName,
    /// The small model.
    pub small: ModelName,
    /// Content hash of the small model's artifact.
    pub small_hash: String,
    /// The large model.
    pub large: ModelName,
    /// Largest allowed expected loss per request, in (0, 1).
    pub epsilon: f64,
    /// Probability with which the certificate may be wrong, in (0, 1).
    pub delta: f64,
    /// What a loss is.
    pub loss: LossKind,
    /// Time to write on the certificate.
    pub issued: Timestamp,
}

/// What one threshold did on the calibration items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Smallest confidence that is kept.
    pub threshold: f64,
    /// Items kept.
    pub kept: u64,
    /// Losses among them; of graded losses, those above 0.
    pub losses: u64,
    /// Sum of their losses.
    pub loss_sum: f64,
    /// Upper confidence bound of the expected loss, at level 1 − δ for this threshold alone.
    pub bound: f64,
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// A sentence for a person.
    pub reason: String,
    /// About how many more calibration items are needed if they turn out like those at hand; `None` when more of the
    /// same would not help.
    pub examples_needed: Option<u64>,
    /// The threshold that stood in the way.
    pub best: Option<Point>,
}

/// The outcome of a certification.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The certificate.
    Certified(Box<Certificate>),
    /// None, and why.
    NotCertified(Refusal),
}

/// The outcome and the curve behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Certified or not.
    pub verdict: Verdict,
    /// Calibration items.
    pub n: u64,
    /// Every threshold of the grid that changes what is kept, strict to loose: for plots. Only thresholds down to the
    /// certified one carry the guarantee.
    pub curve: Vec<Point>,
}

impl Report {
    /// The certificate, if there is one.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        match &self.verdict {
            Verdict::Certified(certificate) => Some(certificate),
            Verdict::NotCertified(_) => None,
        }
    }
}

/// What the loss is averaged over, and the seed of what is random in the test of graded losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// All requests, or the kept ones.
    pub per: Per,
    /// Shuffles the items before anything is looked at. Exact counts over all requests do not depend on it.
    pub order: Seed,
}

impl Default for Rule {
    fn default() -> Self {
        Self { per: Per::Request, order: Seed(1) }
    }
}

/// Certifies the small model on `items`: tests the grid from strict to loose and stops at the first threshold whose
/// exact upper bound at 1 − δ exceeds ε. The items must be exchangeable with the traffic to come, and must have had no
/// part in training or calibrating the small model or in choosing the grid.
///
/// # Errors
/// `Invalid` when ε or δ is outside (0, 1), a confidence is outside [0, 1], or there are no items.
pub fn certify(items: &[Item], terms: &Terms, grid: &Grid) -> Result<Report> {
    let scored: Vec<Scored> = items.iter().map(Scored::from).collect();
    certify_scored(&scored, terms, Rule::default(), grid)
}

/// As [`certify`], for losses of every kind, over all requests or over the kept ones. Graded losses are counted after a
/// coin each, or bet on, whichever a twentieth of the items says will show more; over kept answers a tenth of the items
/// also tells where to start the search. `rule.order` draws those items and the coins.
///
/// # Errors
/// As [`certify`], and when a loss is outside the range of its kind.
pub fn certify_scored(items: &[Scored], terms: &Terms, rule: Rule, grid: &Grid) -> Result<Report> {
    check(items, terms.epsilon, terms.delta, terms.loss)?;
    let size = grid.thresholds().len();
    let search = Search { size, loss: terms.loss, per: rule.per, epsilon: terms.epsilon };
    let mut coded = coded(items, grid)?;
    coded.shuffle(&mut ChaCha8Rng::seed_from_u64(rule.order.derive("order").0));
    search.toss(&mut coded, &mut ChaCha8Rng::seed_from_u64(rule.order.derive("coins").0));
    let test = search.test(&coded);
    let chosen = search.certified(&coded, terms.delta);
    let tested = search.tested(&coded);
    let n = tested.len() as u64;
    let counts = count(tested, size);
    let point = |i: usize| Point {
        threshold: grid.thresholds()[i],
        kept: counts[i].kept,
        losses: counts[i].losses,
        loss_sum: counts[i].sum,
        bound: search.bound(test, tested, i, counts[i], terms.delta),
    };
    let changes = |&i: &usize| counts[i].kept > if i == 0 { 0 } else { counts[i - 1].kept };
    let curve: Vec<Point> = (0..size).filter(changes).map(point).collect();
    let verdict = match chosen {
        Some(i) => Verdict::Certified(Box::new(seal(point(i), n, terms, rule.per, data_hash(items))?)),
        None => Verdict::NotCertified(refuse(n, curve.first().copied(), terms, rule.per)),
    };
    Ok(Report { verdict, n, curve })
}

/// The items on the grid.
pub(crate) fn coded(items: &[Scored], grid: &Grid) -> Result<Vec<Coded>> {
    let size = grid.thresholds().len();
    let code = |item: &Scored| {
        let first = item.confidence.and_then(|c| grid.first_keeping(c)).unwrap_or(size);
        let first = u16::try_from(first).map_err(|_| Error::invalid("certify: use fewer than 65,536 thresholds"))?;
        Ok(Coded { first, loss: item.loss, coin: 0.0 })
    };
    items.iter().map(code).collect()
}

pub(crate) fn check(items: &[Scored], epsilon: f64, delta: f64, loss: LossKind) -> Result<()> {
    if items.is_empty() {
        return Err(Error::invalid("certify: there are no calibration items"));
    }
    for (name, value) in [("epsilon", epsilon), ("delta", delta)] {
        if !(value > 0.0 && value < 1.0) {
            return Err(Error::invalid(format!("certify: {name} is {value}; it must lie between 0 and 1")));
        }
    }
    if let Some(item) = items.iter().find(|item| item.confidence.is_some_and(|c| !(0.0..=1.0).contains(&c))) {
        return Err(Error::invalid(format!("certify: the confidence of item `{}` is not in [0, 1]", item.id)));
    }
    let fits = |x: f64| match loss {
        LossKind::Regret | LossKind::Disagreement => {
            x.to_bits() == 0.0_f64.to_bits() || x.to_bits() == 1.0_f64.to_bits()
        }
        LossKind::GradedRegret => (0.0..=1.0).contains(&x),
        LossKind::Difference => (-1.0..=1.0).contains(&x),
    };
    match items.iter().find(|item| !fits(item.loss)) {
        Some(item) => Err(Error::invalid(format!(
            "certify: the loss of item `{}` is {}, which no {loss:?} is",
            item.id, item.loss
        ))),
        None => Ok(()),
    }
}

fn seal(point: Point, n: u64, terms: &Terms, per: Per, data_hash: String) -> Result<Certificate> {
    let certificate = Certificate {
        id: String::new(),
        task: terms.task.clone(),
        small: terms.small.clone(),
        small_hash: terms.small_hash.clone(),
        large: terms.large.clone(),
        epsilon: terms.epsilon,
        delta: terms.delta,
        loss: terms.loss,
        per,
        n,
        losses: point.losses,
        loss_sum: (!terms.loss.is_binary()).then_some(point.loss_sum),
        threshold: Confidence::new(point.threshold)?,
        kept: point.kept as f64 / n as f64,
        bound: point.bound,
        data_hash,
        issued: terms.issued,
    };
    Ok(certificate.sealed())
}

fn refuse(n: u64, first: Option<Point>, terms: &Terms, per: Per) -> Refusal {
    let level = 1.0 - terms.delta;
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let target = format!("{} at {} confidence", percent(terms.epsilon), percent(level));
    let Some(first) = first else {
        let reason = "the small model gave no confidence that any threshold keeps".to_owned();
        return Refusal { reason, examples_needed: None, best: None };
    };
    if !terms.loss.is_binary() || per == Per::Kept {
        let of = if per == Per::Kept { "kept answers" } else { "requests" };
        let reason = format!(
            "no threshold could be shown to lose at most {target}, over {of}, on {n} items; more items, a larger loss or \
             a surer small model would help"
        );
        return Refusal { reason, examples_needed: None, best: Some(first) };
    }
    let enough = binomial::most_allowed(n, terms.epsilon, level).is_some();
    let clean = || binomial::trials_needed(0.0, terms.epsilon, level, MOST_EXAMPLES);
    let more = |needed: Option<u64>| needed.map(|needed| needed.saturating_sub(n).max(1));
    let advice = |needed: Option<u64>| match needed {
        Some(needed) => format!("about {needed} more would be enough if they turn out alike"),
        None => "more of the same would not help: train the small model further or allow a larger loss".to_owned(),
    };
    let needed = more(if enough {
        binomial::trials_needed(first.losses as f64 / n as f64, terms.epsilon, level, MOST_EXAMPLES)
    } else {
        clean()
    });
    let reason = if enough {
        format!(
            "even the {} surest of {n} answers held {} losses, which bounds the loss at {}, not {target}; {}",
            first.kept,
            first.losses,
            percent(first.bound),
            advice(needed)
        )
    } else {
        format!("{n} items cannot show {target}, not even without a single loss; {}", advice(needed))
    };
    Refusal { reason, examples_needed: needed, best: Some(first) }
}

#[cfg(test)]
mod tests;
