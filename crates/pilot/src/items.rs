//! Calibration items: what would be lost on one request if the small model's answer were kept.

use sha2::{Digest, Sha256};
use understudy_core::{Error, LossKind, Outcome, RecordedAnswer, Result, hash};

/// Quality from which an answer counts as right. Recorded qualities are mostly 0 or 1; a graded one is cut here.
pub const RIGHT: f64 = 0.5;

/// One request with both models' answers known.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Identifies the request.
    pub id: String,
    /// The small model's confidence in [0, 1]; `None` when it gave no answer or no confidence, and so can never be
    /// kept.
    pub confidence: Option<f64>,
    /// Whether keeping the small model's answer would be a loss.
    pub loss_if_kept: bool,
}

/// One request and what keeping the small model's answer would cost on it, in degrees.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Identifies the request.
    pub id: String,
    /// As [`Item::confidence`].
    pub confidence: Option<f64>,
    /// Loss if the answer is kept: in [0, 1], and of a difference in [−1, 1].
    pub loss: f64,
}

impl From<&Item> for Scored {
    fn from(item: &Item) -> Self {
        Self { id: item.id.clone(), confidence: item.confidence, loss: f64::from(u8::from(item.loss_if_kept)) }
    }
}

/// Which loss to take from recorded outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Regret when qualities are known (graded, when they are), else disagreement.
    Auto,
    /// Shortfall against the large model's quality, never below 0.
    Regret,
    /// Large minus small quality: gains make up for losses.
    Difference,
    /// The answers differ.
    Disagreement,
}

/// Scored items from recorded outcomes, over the rows in which both models answered. Losses that are all 0 or 1 give
/// a kind that counts them; others a graded kind.
///
/// # Errors
/// As [`from_outcomes`]; `Data` also when the loss that was asked for needs what some row lacks.
pub fn scored_from_outcomes(
    outcomes: &[Outcome],
    small: &str,
    large: &str,
    loss: Loss,
) -> Result<(Vec<Scored>, LossKind)> {
    let (items, kind) = from_outcomes(outcomes, small, large)?;
    let rows = || outcomes.iter().filter_map(|o| Some((o.models.get(small)?, o.models.get(large)?)));
    let lacking = |what: &str| Error::data(format!("compare `{small}` with `{large}`: some rows lack {what}"));
    let differences = || -> Result<Vec<f64>> {
        let difference = |(s, l): (&RecordedAnswer, &RecordedAnswer)| Some(l.quality? - s.quality?);
        let known = |d: &f64| d.is_finite();
        rows().map(|row| difference(row).filter(known)).collect::<Option<_>>().ok_or_else(|| lacking("a quality"))
    };
    let (losses, kind): (Vec<f64>, LossKind) = match loss {
        Loss::Disagreement => {
            let differ = |(s, l): (&RecordedAnswer, &RecordedAnswer)| {
                let (s, l) = (s.answer.as_deref()?, l.answer.as_deref()?);
                Some(f64::from(u8::from(normal(Some(s)) != normal(Some(l)))))
            };
            let losses = rows().map(differ).collect::<Option<_>>().ok_or_else(|| lacking("an answer"))?;
            (losses, LossKind::Disagreement)
        }
        Loss::Difference => (differences()?, LossKind::Difference),
        Loss::Auto if kind == LossKind::Disagreement => {
            return Ok((items.iter().map(Scored::from).collect(), kind));
        }
        Loss::Auto | Loss::Regret => {
            let losses: Vec<f64> = differences()?.into_iter().map(|d| d.max(0.0)).collect();
            let binary = losses.iter().all(|&x| x <= 0.0 || x >= 1.0);
            (losses, if binary { LossKind::Regret } else { LossKind::GradedRegret })
        }
    };
    let scored = items.into_iter().zip(losses);
    Ok((scored.map(|(item, loss)| Scored { id: item.id, confidence: item.confidence, loss }).collect(), kind))
}

/// Items from recorded outcomes, over the rows in which both models answered.
///
/// With qualities for both models the loss is regret: the small model's answer is wrong (quality below [`RIGHT`]) and
/// the large one's right. Without them it is disagreement of the two answers, ignoring case and surrounding space.
///
/// # Errors
/// `NotFound` when a model is not in the outcomes; `Data` when neither qualities nor answers are known throughout, or
/// the small model has no confidence anywhere.
pub fn from_outcomes(outcomes: &[Outcome], small: &str, large: &str) -> Result<(Vec<Item>, LossKind)> {
    for model in [small, large] {
        if !outcomes.iter().any(|o| o.models.contains_key(model)) {
            let mut names: Vec<&str> = outcomes.iter().flat_map(|o| o.models.keys().map(String::as_str)).collect();
            names.sort_unstable();
            names.dedup();
            let known = names.join(", ");
            return Err(Error::not_found(format!("find model `{model}` in the outcomes: they have {known}")));
        }
    }
    let rows: Vec<_> =
        outcomes.iter().filter_map(|o| Some((&o.id, o.models.get(small)?, o.models.get(large)?))).collect();
    let kind = if rows.iter().all(|(_, s, l)| s.quality.is_some() && l.quality.is_some()) {
        LossKind::Regret
    } else if rows.iter().all(|(_, s, l)| s.answer.is_some() && l.answer.is_some()) {
        LossKind::Disagreement
    } else {
        let what = format!("compare `{small}` with `{large}`: some rows lack a quality and some lack an answer");
        return Err(Error::data(format!("{what}; give one of the two for both models in every row")));
    };
    let items: Vec<Item> = rows
        .into_iter()
        .map(|(id, small, large)| Item {
            id: id.clone(),
            confidence: small.score().filter(|score| score.is_finite()).map(|score| score.clamp(0.0, 1.0)),
            loss_if_kept: match kind {
                LossKind::Disagreement => normal(small.answer.as_deref()) != normal(large.answer.as_deref()),
                _ => small.quality < Some(RIGHT) && large.quality >= Some(RIGHT),
            },
        })
        .collect();
    if items.iter().all(|item| item.confidence.is_none()) {
        let what = format!("certify `{small}`: the outcomes hold no confidence and no logconf of it");
        return Err(Error::data(format!("{what}, so there is nothing to set a threshold on")));
    }
    Ok((items, kind))
}

fn normal(answer: Option<&str>) -> String {
    answer.unwrap_or_default().trim().to_lowercase()
}

/// SHA-256 over all items in order: ids, confidences bit by bit, losses (whole ones as one byte).
pub(crate) fn data_hash(items: &[Scored]) -> String {
    let mut hasher = Sha256::new();
    for item in items {
        hasher.update((item.id.len() as u64).to_le_bytes());
        hasher.update(item.id.as_bytes());
        hasher.update(item.confidence.unwrap_or(-1.0).to_le_bytes());
        if item.loss.to_bits() == 0.0_f64.to_bits() || item.loss.to_bits() == 1.0_f64.to_bits() {
            hasher.update([u8::from(item.loss > 0.0)]);
        } else {
            hasher.update(item.loss.to_le_bytes());
        }
    }
    hash::hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(id: &str, small: RecordedAnswer, large: RecordedAnswer) -> Outcome {
        let models = [("s".to_owned(), small), ("l".to_owned(), large)].into();
        Outcome { id: id.to_owned(), models, ..Outcome::default() }
    }

    fn graded(quality: f64, confidence: Option<f64>) -> RecordedAnswer {
        RecordedAnswer { quality: Some(quality), confidence, ..RecordedAnswer::default() }
    }

    fn said(answer: &str, logconf: Option<f64>) -> RecordedAnswer {
        RecordedAnswer { answer: Some(answer.to_owned()), logconf, ..RecordedAnswer::default() }
    }

    #[test]
    fn regret_counts_only_what_the_large_model_would_have_got_right() {
        let rows = [(0.0, 1.0), (0.0, 0.0), (1.0, 0.0), (0.4, 0.6), (0.5, 1.0)];
        let outcomes: Vec<_> = rows
            .iter()
            .enumerate()
            .map(|(i, &(s, l))| outcome(&i.to_string(), graded(s, Some(0.9)), graded(l, None)))
            .collect();
        let (items, kind) = from_outcomes(&outcomes, "s", "l").expect("complete");
        assert_eq!(kind, LossKind::Regret);
        let losses: Vec<bool> = items.iter().map(|i| i.loss_if_kept).collect();
        assert_eq!(losses, [true, false, false, true, false]);
    }

    #[test]
    fn without_qualities_disagreement_counts_and_no_confidence_is_never_kept() {
        let outcomes = [
            outcome("a", said(" Yes", Some(-0.1)), said("yes", None)),
            outcome("b", said("no", None), said("yes", None)),
        ];
        let (items, kind) = from_outcomes(&outcomes, "s", "l").expect("complete");
        assert_eq!((kind, items[0].loss_if_kept, items[1].loss_if_kept), (LossKind::Disagreement, false, true));
        assert!(items[0].confidence.is_some_and(|c| (c - (-0.1_f64).exp()).abs() < 1e-15));
        assert_eq!(items[1].confidence, None);
        let scored: Vec<Scored> = items.iter().map(Scored::from).collect();
        assert_ne!(data_hash(&scored), data_hash(&scored[..1]));
    }

    #[test]
    fn what_cannot_be_certified_says_why() {
        let outcomes = [outcome("a", said("x", None), said("x", None))];
        let says = |small: &str, outcomes: &[Outcome]| {
            from_outcomes(outcomes, small, "l").expect_err("cannot be certified").to_string()
        };
        assert!(says("s", &outcomes).contains("no confidence"));
        assert!(says("q", &outcomes).contains("they have l, s"));
        let outcomes = [outcome("a", graded(1.0, None), said("x", None))];
        assert!(says("s", &outcomes).contains("lack a quality"));
    }

    #[test]
    fn graded_qualities_give_graded_losses_and_whole_ones_are_counted() {
        let rows = [(0.2, 0.9), (1.0, 0.0), (0.0, 1.0)];
        let outcomes = |rows: &[(f64, f64)]| -> Vec<Outcome> {
            let row =
                |(i, &(s, l)): (usize, &(f64, f64))| outcome(&i.to_string(), graded(s, Some(0.9)), graded(l, None));
            rows.iter().enumerate().map(row).collect()
        };
        let scored = |rows: &[(f64, f64)], loss| {
            let (items, kind) = scored_from_outcomes(&outcomes(rows), "s", "l", loss).expect("complete");
            (items.iter().map(|item| (item.loss * 10.0).round() / 10.0).collect::<Vec<_>>(), kind)
        };
        assert_eq!(scored(&rows, Loss::Auto), (vec![0.7, 0.0, 1.0], LossKind::GradedRegret));
        assert_eq!(scored(&rows[1..], Loss::Auto), (vec![0.0, 1.0], LossKind::Regret));
        assert_eq!(scored(&rows, Loss::Difference), (vec![0.7, -1.0, 1.0], LossKind::Difference));
        assert!(scored_from_outcomes(&outcomes(&rows), "s", "l", Loss::Disagreement).is_err());
        let broken = outcomes(&[(f64::NAN, 1.0), (1.0, 1.0)]);
        assert!(scored_from_outcomes(&broken, "s", "l", Loss::Auto).is_err());
    }
}
