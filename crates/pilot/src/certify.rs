//! Certification: the loosest threshold whose loss is shown to be small.

use crate::{Grid, Item, items::data_hash};
use understudy_core::{Certificate, Confidence, Error, LossKind, ModelName, Result, TaskName, Timestamp};
use understudy_stats::{binomial, sequence};

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
    /// Losses among them.
    pub losses: u64,
    /// Upper confidence bound of the expected loss per request, at level 1 − δ for this threshold alone.
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

/// Certifies the small model on `items`: tests the grid from strict to loose and stops at the first threshold whose
/// exact upper bound at 1 − δ exceeds ε. The items must be exchangeable with the traffic to come, and must have had no
/// part in training or calibrating the small model or in choosing the grid.
///
/// # Errors
/// `Invalid` when ε or δ is outside (0, 1), a confidence is outside [0, 1], or there are no items.
pub fn certify(items: &[Item], terms: &Terms, grid: &Grid) -> Result<Report> {
    check(items, terms.epsilon, terms.delta)?;
    let n = items.len() as u64;
    let level = 1.0 - terms.delta;
    let counts = Counts::of(items, grid);
    let allowed = binomial::most_allowed(n, terms.epsilon, level);
    let chosen =
        sequence::last_rejected(grid.thresholds().len(), |i| Some(counts.losses[i]) <= allowed && allowed.is_some());
    let point = |i: usize| Point {
        threshold: grid.thresholds()[i],
        kept: counts.kept[i],
        losses: counts.losses[i],
        bound: binomial::upper(counts.losses[i], n, level),
    };
    let changes = |&i: &usize| counts.kept[i] > if i == 0 { 0 } else { counts.kept[i - 1] };
    let curve: Vec<Point> = (0..grid.thresholds().len()).filter(changes).map(point).collect();
    // Thresholds that keep the same items are the same rule; the strictest of them promises least about items between.
    let chosen = chosen.and_then(|i| (0..=i).rev().find(changes));
    let verdict = match chosen {
        Some(i) => Verdict::Certified(Box::new(seal(point(i), n, terms, data_hash(items))?)),
        None => Verdict::NotCertified(refuse(n, allowed.is_some(), curve.first().copied(), terms)),
    };
    Ok(Report { verdict, n, curve })
}

/// Items kept and lost at each threshold of a grid.
struct Counts {
    kept: Vec<u64>,
    losses: Vec<u64>,
}

impl Counts {
    fn of(items: &[Item], grid: &Grid) -> Self {
        let (mut kept, mut losses) = (vec![0; grid.thresholds().len()], vec![0; grid.thresholds().len()]);
        for item in items {
            if let Some(first) = item.confidence.and_then(|c| grid.first_keeping(c)) {
                kept[first] += 1;
                losses[first] += u64::from(item.loss_if_kept);
            }
        }
        for i in 1..kept.len() {
            kept[i] += kept[i - 1];
            losses[i] += losses[i - 1];
        }
        Self { kept, losses }
    }
}

pub(crate) fn check(items: &[Item], epsilon: f64, delta: f64) -> Result<()> {
    if items.is_empty() {
        return Err(Error::invalid("certify: there are no calibration items"));
    }
    for (name, value) in [("epsilon", epsilon), ("delta", delta)] {
        if !(value > 0.0 && value < 1.0) {
            return Err(Error::invalid(format!("certify: {name} is {value}; it must lie between 0 and 1")));
        }
    }
    match items.iter().find(|item| item.confidence.is_some_and(|c| !(0.0..=1.0).contains(&c))) {
        Some(item) => Err(Error::invalid(format!("certify: the confidence of item `{}` is not in [0, 1]", item.id))),
        None => Ok(()),
    }
}

fn seal(point: Point, n: u64, terms: &Terms, data_hash: String) -> Result<Certificate> {
    let certificate = Certificate {
        id: String::new(),
        task: terms.task.clone(),
        small: terms.small.clone(),
        small_hash: terms.small_hash.clone(),
        large: terms.large.clone(),
        epsilon: terms.epsilon,
        delta: terms.delta,
        loss: terms.loss,
        n,
        losses: point.losses,
        threshold: Confidence::new(point.threshold)?,
        kept: point.kept as f64 / n as f64,
        bound: point.bound,
        data_hash,
        issued: terms.issued,
    };
    Ok(certificate.sealed())
}

fn refuse(n: u64, enough: bool, first: Option<Point>, terms: &Terms) -> Refusal {
    let level = 1.0 - terms.delta;
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let target = format!("{} at {} confidence", percent(terms.epsilon), percent(level));
    let clean = || binomial::trials_needed(0.0, terms.epsilon, level, MOST_EXAMPLES);
    let more = |needed: Option<u64>| needed.map(|needed| needed.saturating_sub(n).max(1));
    let advice = |needed: Option<u64>| match needed {
        Some(needed) => format!("about {needed} more would be enough if they turn out alike"),
        None => "more of the same would not help: train the small model further or allow a larger loss".to_owned(),
    };
    let Some(first) = first else {
        let reason = "the small model gave no confidence that any threshold keeps".to_owned();
        return Refusal { reason, examples_needed: None, best: None };
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
