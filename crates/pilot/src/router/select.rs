//! Which kind of router to use: cross-validated on the training rows alone.

use super::{
    Example, Kind,
    fit::{Prepared, check},
};
use crate::{
    gate::area::{difference_of_places, places},
    replay::{Row, Side, Stage, figures},
};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Error, Result, Seed};
use understudy_route::router::Predictor;

/// Folds of a cross-validation.
const FOLDS: usize = 10;
/// Divisions into folds that are averaged: one division alone moves the figure by more than the kinds differ.
const DIVISIONS: usize = 3;
/// Rows of a comparison; beyond them the order of the kinds hardly changes, but the wait does.
const MOST: usize = 2000;
/// The area under the line of chance.
const CHANCE: f64 = 0.5;
/// Standard error from which on a difference counts as measured: finer ones come from routers that repeat a trivial one.
const FINE: f64 = 0.005;

/// One kind in the comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Contender {
    /// The kind.
    pub kind: Kind,
    /// Its average performance gap recovered at full resolution on rows it was not fitted on, averaged over divisions.
    /// `None` when the large model is not better.
    pub apgr: Option<f64>,
    /// Its standard error over the rows, as that of a ratio of means.
    pub error: Option<f64>,
    /// How much more it recovers than the best trivial one, and the standard error of that over the rows.
    pub ahead: Option<(f64, f64)>,
}

/// What is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice {
    /// A router; [`Selection::reason`] says by how much it beats the best trivial one, if that could be measured.
    Router(Kind),
    /// The best trivial one: no router is as good.
    Trivial(Kind),
    /// None: nothing is better than chance.
    Nothing,
}

impl Choice {
    /// The kind in use, if any.
    #[must_use]
    pub const fn kind(self) -> Option<Kind> {
        match self {
            Self::Router(kind) | Self::Trivial(kind) => Some(kind),
            Self::Nothing => None,
        }
    }
}

/// The comparison and its outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// What is used.
    pub choice: Choice,
    /// Every kind that could be fitted, best first.
    pub contenders: Vec<Contender>,
    /// Rows on which they were compared.
    pub rows: usize,
    /// The chosen kind fitted to all rows; predicts the gain.
    pub predictor: Option<Predictor>,
}

impl Selection {
    /// One sentence for a person.
    #[must_use]
    pub fn reason(&self) -> String {
        let figure = |kind: Kind| {
            let found = self.contenders.iter().find(|contender| contender.kind == kind);
            match found.map(|contender| (contender.apgr, contender.error)) {
                Some((Some(apgr), Some(error))) => format!("{apgr:.3} ± {error:.3}"),
                Some((Some(apgr), None)) => format!("{apgr:.3}"),
                _ => "unknown".to_owned(),
            }
        };
        let best = |trivial: bool| self.contenders.iter().find(|c| c.kind.is_trivial() == trivial).map(|c| c.kind);
        let name = |kind: Kind| format!("`{}` ({})", kind.as_str(), figure(kind));
        let (trivial, learned) = (best(true).map(name), best(false).map(name));
        let [trivial, learned] = [trivial, learned].map(|name| name.unwrap_or_else(|| "none".to_owned()));
        let ahead = |kind: Kind| self.contenders.iter().find(|c| c.kind == kind).and_then(|c| c.ahead);
        match self.choice {
            Choice::Router(kind) => match ahead(kind) {
                Some((by, error)) if by <= error => format!(
                    "router {} is ahead of the best trivial one, {trivial}, but not measurably: by {by:+.3} ± {error:.3} on \
                     {} rows; it holds what that one knows and is drawn to it",
                    name(kind),
                    self.rows
                ),
                Some((by, error)) => format!(
                    "router {} beats the best trivial one, {trivial}, by {by:+.3} ± {error:.3} on {} rows",
                    name(kind),
                    self.rows
                ),
                None => format!("router {} beats the best trivial one, {trivial}", name(kind)),
            },
            Choice::Trivial(kind) => {
                format!("no router is used: the best, {learned}, does not beat the trivial {}", name(kind))
            }
            Choice::Nothing => format!("no router is used: neither {learned} nor {trivial} beats chance"),
        }
    }
}

/// Scores of every example by predictors that never saw it: the predicted gain.
///
/// # Errors
/// As [`super::fit`]; also when there are fewer rows than folds.
pub fn out_of_fold(kind: Kind, examples: &[Example<'_>], seed: Seed) -> Result<Vec<f64>> {
    enough(kind, examples)?;
    let prepared = Prepared::new(kind, examples);
    let targets: Vec<f64> = examples.iter().map(Example::gain).collect();
    Ok(crossed(&prepared, &targets, seed))
}

fn crossed(prepared: &Prepared<'_>, targets: &[f64], seed: Seed) -> Vec<f64> {
    let mut order: Vec<usize> = (0..targets.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed.derive("router folds").0));
    let mut scores = vec![0.0; targets.len()];
    for fold in 0..FOLDS {
        let part = |held: bool| {
            order.iter().enumerate().filter(|(i, _)| (i % FOLDS == fold) == held).map(|(_, &place)| place).collect()
        };
        let (test, train): (Vec<usize>, Vec<usize>) = (part(true), part(false));
        let fitted = prepared.fit(&train, targets);
        test.into_iter().for_each(|place| scores[place] = fitted.predict(place));
    }
    scores
}

/// The average performance gap recovered by scores, from every threshold; `None` when the large model is not better.
///
/// # Errors
/// `Invalid` when there are no examples or a score is not finite.
pub fn apgr(examples: &[Example<'_>], scores: &[f64]) -> Result<Option<f64>> {
    let side = |quality: f64| Side { quality, ..Side::default() };
    let rows: Vec<Row> = examples
        .iter()
        .zip(scores)
        .map(|(example, &score)| Row { small: side(example.small), large: side(example.large), score, weight: 1.0 })
        .collect();
    Ok(figures(&rows, Stage::Before)?.apgr_full)
}

/// Compares kinds by cross-validation, chooses, and fits the chosen one to all rows. Kinds that need embeddings are
/// left out where there are none, the group mean where there are no groups.
///
/// A router that does not beat the best trivial one is not used. `knn` and `linear` must be ahead of it by more than a
/// standard error, because the best of several is ahead of something by luck. One that holds what the group mean knows
/// and is drawn to it need only be ahead, unless it merely repeats the trivial one (then the difference has hardly an
/// error): a thousand rows cannot tell the hundredth that it gains from luck. [`Selection::reason`] says when the gain is
/// not measurable.
///
/// # Errors
/// As [`out_of_fold`].
pub fn select(kinds: &[Kind], examples: &[Example<'_>], seed: Seed) -> Result<Selection> {
    let embedded = examples.iter().all(|example| example.prompt.embedding.is_some());
    let grouped = examples.iter().any(|example| example.prompt.group.is_some());
    let possible = |kind: &&Kind| (embedded || !kind.wants_embedding()) && (grouped || **kind != Kind::Group);
    let compared = sample(examples, seed);
    let targets: Vec<f64> = compared.iter().map(Example::gain).collect();
    let gap = targets.iter().sum::<f64>() / targets.len().max(1) as f64;
    let mut ranked: Vec<(Kind, Vec<f64>)> = Vec::new();
    for &kind in kinds.iter().filter(possible) {
        enough(kind, examples)?;
        ranked.push((kind, mean_places(kind, &compared, &targets, seed)));
    }
    // Places rise with the share that was asked of the large model before: the area is what the late ones leave.
    let area = |places: &[f64]| targets.iter().zip(places).map(|(gain, place)| gain * (1.0 - place)).sum::<f64>();
    let apgr = |places: &[f64]| (gap > 0.0).then(|| area(places) / targets.len() as f64 / gap);
    let error = |places: &[f64]| {
        let apgr = apgr(places)?;
        let rest = targets.iter().zip(places).map(|(gain, place)| (gain * (1.0 - place - apgr)).powi(2)).sum::<f64>();
        let n = targets.len() as f64;
        Some((rest / (n - 1.0).max(1.0) / n).sqrt() / gap)
    };
    let contender = |(kind, places): &(Kind, Vec<f64>)| Contender {
        kind: *kind,
        apgr: apgr(places),
        error: error(places),
        ahead: None,
    };
    let mut contenders: Vec<Contender> = ranked.iter().map(contender).collect();
    let key = |contender: &Contender| contender.apgr.unwrap_or(f64::NEG_INFINITY);
    contenders.sort_by(|a, b| key(b).total_cmp(&key(a)));
    let trivial = contenders.iter().find(|c| c.kind.is_trivial()).cloned();
    let of = |kind: Kind| ranked.iter().find(|(k, _)| *k == kind).map(|(_, places)| places);
    if let Some(baseline) = trivial.as_ref().and_then(|trivial| of(trivial.kind)).filter(|_| gap > 0.0) {
        for contender in &mut contenders {
            contender.ahead = of(contender.kind).map(|places| {
                let (mean, error) = difference_of_places(places, baseline, &targets);
                (mean / gap, error / gap)
            });
        }
    }
    let floor = trivial.as_ref().map_or(CHANCE, |c| key(c).max(CHANCE));
    let eligible = |c: &&Contender| match c.ahead {
        _ if c.kind.is_trivial() || key(c) <= CHANCE => false,
        Some((by, error)) if c.kind.is_drawn_to_trivial() => by > if error > FINE { 0.0 } else { error },
        Some((_, error)) => key(c) > floor + error,
        None => key(c) > floor,
    };
    let choice = match (contenders.iter().find(eligible), trivial.filter(|c| key(c) > CHANCE)) {
        (Some(router), _) => Choice::Router(router.kind),
        (None, Some(trivial)) => Choice::Trivial(trivial.kind),
        (None, None) => Choice::Nothing,
    };
    let predictor = choice.kind().map(|kind| super::fit(kind, examples, Example::gain)).transpose()?;
    Ok(Selection { choice, contenders, rows: compared.len(), predictor })
}

/// Where each example stands in the order of escalation by predictors that never saw it, as a share of the rows; the
/// mean over divisions.
fn mean_places(kind: Kind, examples: &[Example<'_>], targets: &[f64], seed: Seed) -> Vec<f64> {
    let prepared = Prepared::new(kind, examples);
    let mut mean = vec![0.0; targets.len()];
    for division in 0..DIVISIONS {
        // Who gains most is asked about first.
        let falling: Vec<f64> = crossed(&prepared, targets, seed.derive(&format!("division {division}")))
            .into_iter()
            .map(std::ops::Neg::neg)
            .collect();
        mean.iter_mut().zip(places(&falling)).for_each(|(mean, place)| *mean += place / DIVISIONS as f64);
    }
    mean
}

/// At most [`MOST`] of the examples, at random.
fn sample<'a>(examples: &[Example<'a>], seed: Seed) -> Vec<Example<'a>> {
    let mut drawn = examples.to_vec();
    if drawn.len() > MOST {
        drawn.shuffle(&mut ChaCha8Rng::seed_from_u64(seed.derive("compared rows").0));
        drawn.truncate(MOST);
    }
    drawn
}

fn enough(kind: Kind, examples: &[Example<'_>]) -> Result<()> {
    check(kind, examples)?;
    match examples.len() < 2 * FOLDS {
        true => Err(Error::invalid(format!(
            "train a router: {} rows are too few for cross-validation; give at least {}",
            examples.len(),
            2 * FOLDS
        ))),
        false => Ok(()),
    }
}
