//! Which model to take: paired differences to the baseline, and the cheapest model that is not worse by more than ε.

use super::{Answers, Candidate, Ended, Figures, Plan};
use crate::{
    Grid, Loss, Rule, Terms, certify_scored, compare::pairs::Pairs, metrics::Metric, scored_from_outcomes,
    sequential::Decision,
};
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_core::{Certificate, ModelName, Outcome, Result, Seed, Timestamp, hash::sha256_hex};

/// One model with everything that came of it.
pub struct Tried<'r> {
    /// The model.
    pub candidate: Candidate,
    /// Its answers.
    pub answers: Answers<'r>,
    /// Its figures; `None` without answers.
    pub figures: Option<Figures>,
}

/// A model beside the baseline on the rows that both answered.
#[derive(Debug, Clone, Serialize)]
pub struct Paired {
    /// The model.
    pub name: String,
    /// Quality of the model minus the baseline's, per row; the interval's level is corrected for the number of models.
    pub difference: Metric,
    /// Exact McNemar p-value; `None` for graded qualities.
    pub p: Option<f64>,
    /// Rows on which only this model was right.
    pub only_model: u64,
    /// Rows on which only the baseline was right.
    pub only_baseline: u64,
    /// Not worse than the baseline by more than ε: shown at δ divided by the number of models, by the test that stopped
    /// the model where one did.
    pub not_inferior: bool,
    /// Worse by more than ε.
    pub inferior: bool,
}

/// How much of the traffic a model may answer in front of the baseline.
#[derive(Debug, Clone, Serialize)]
pub struct Together {
    /// The small model.
    pub name: String,
    /// Share kept, loss and bound by threshold, strict to loose.
    pub curve: Vec<(f64, f64, f64, f64)>,
    /// The certificate, if one can be given.
    pub certificate: Option<Certificate>,
    /// Why not.
    pub refusal: Option<String>,
}

/// The verdict over all models.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What every model is compared with.
    pub baseline: String,
    /// The model to take; the baseline itself where no other is good enough.
    pub recommended: String,
    /// The verdict as a sentence.
    pub sentence: String,
    /// What supports it, as a sentence.
    pub because: String,
    /// Level of the differences' two-sided intervals: each end holds at δ divided by the number of models.
    pub level: f64,
    /// Every other model beside the baseline.
    pub paired: Vec<Paired>,
    /// The best partner in front of the baseline, where a model says how sure it is.
    pub together: Option<Together>,
}

/// Judges; `None` when fewer than one model could be measured. `baseline` names the model to compare with; by default
/// the one with the best figure.
///
/// # Errors
/// What certification refuses as invalid.
pub fn judge(
    plan: &Plan,
    tried: &[Tried<'_>],
    baseline: Option<&str>,
    margin: super::Margin,
    now: Timestamp,
) -> Result<Option<Finding>> {
    let main = |t: &Tried<'_>| t.figures.as_ref().and_then(|f| f.main(plan.task)).copied();
    let measured: Vec<&Tried<'_>> = tried.iter().filter(|t| main(t).is_some()).collect();
    // The best by the figure; among models on fewer rows, one on many is the better reference.
    let best = measured.iter().copied().max_by(|a, b| {
        let of = |t: &Tried<'_>| main(t).map_or(0.0, |m| m.low);
        of(a).total_cmp(&of(b))
    });
    let named = baseline.and_then(|name| measured.iter().copied().find(|t| t.candidate.name == name));
    let Some(base) = named.or(best) else { return Ok(None) };
    let others: Vec<&Tried<'_>> =
        measured.iter().copied().filter(|t| t.candidate.name != base.candidate.name).collect();
    // One-sided claims at δ shared out over the models; the intervals that agree with them.
    let alpha = margin.delta / others.len().max(1) as f64;
    let level = 1.0 - 2.0 * alpha;
    // A baseline that did best on these rows looks better than it is: any ordered pair might have been tested.
    let alpha_inferior = match named {
        Some(_) => alpha,
        None => alpha / measured.len() as f64,
    };
    let strictness = Strictness { margin: margin.epsilon, alpha, alpha_inferior };
    let paired: Vec<Paired> = others.iter().filter_map(|t| compare(t, base, strictness)).collect();
    let cheaper = |t: &&Tried<'_>| rank(t) < rank(base);
    let fine = |t: &&Tried<'_>| paired.iter().any(|p| p.name == t.candidate.name && p.not_inferior);
    let chosen = others.iter().copied().filter(fine).filter(cheaper).min_by(|a, b| {
        let (a, b) = (rank(a), rank(b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    let together = partner(plan, &others, base, margin, now)?;
    let what = plan.task.main_metric().1;
    let share = |t: &Tried<'_>| main(t).map_or_else(String::new, |m| format!("{:.1} %", m.estimate * 100.0));
    let epsilon = margin.epsilon * 100.0;
    let (recommended, sentence, because) = match chosen {
        Some(small) => {
            let p = paired.iter().find(|p| p.name == small.candidate.name);
            let (n, lost) = p.map_or((0, 0.0), |p| (p.difference.n, (-p.difference.low * 100.0).max(0.0)));
            let confidence = (1.0 - alpha) * 100.0;
            let shown = match small.answers.ended {
                Ended::Decided(_) => format!("It was asked {n} rows, until it was shown to lose no more than allowed"),
                _ => format!(
                    "On the same {n} rows it is worse by at most {lost:.1} points with {confidence:.1} % confidence"
                ),
            };
            let because = format!(
                "Its answers are {} {what}, those of {} {}. {shown} (allowed: {epsilon:.1} points), {}.",
                share(small),
                base.candidate.name,
                share(base),
                cheaper_by(small, base)
            );
            (
                small,
                format!("{} is good enough: take it instead of {}.", small.candidate.name, base.candidate.name),
                because,
            )
        }
        None if others.is_empty() => {
            let because =
                format!("Its answers are {} {what}; there is no other model to compare it with.", share(base));
            (base, format!("{} was measured alone.", base.candidate.name), because)
        }
        None => {
            let because = format!(
                "Its answers are {} {what}. No faster or cheaper model was shown to be within {epsilon:.1} points of it.",
                share(base)
            );
            let sentence = match baseline {
                Some(_) => format!("Stay with {}.", base.candidate.name),
                None => format!("Take {}: no other comes close enough.", base.candidate.name),
            };
            (base, sentence, because)
        }
    };
    let because = match together.as_ref().and_then(|t| Some((t, t.certificate.as_ref()?))) {
        Some((t, c)) if chosen.is_none() => format!(
            "{because} {} may answer {:.1} % of the requests in front of it (loss at most {:.1} %, confidence {:.1} %, {} rows).",
            t.name,
            c.kept * 100.0,
            c.epsilon * 100.0,
            (1.0 - c.delta) * 100.0,
            c.n
        ),
        _ => because,
    };
    Ok(Some(Finding {
        baseline: base.candidate.name.clone(),
        recommended: recommended.candidate.name.clone(),
        sentence,
        because,
        level,
        paired,
        together,
    }))
}

/// Cost an answer in USD, then median latency: what smaller means.
fn rank(t: &Tried<'_>) -> (f64, f64) {
    let speed = t.figures.as_ref().map(|f| f.speed);
    let cost = speed.and_then(|s| s.cost_usd_mean).map_or(f64::INFINITY, |m| m.estimate);
    (cost, speed.and_then(|s| s.latency_ms_p50).map_or(f64::INFINITY, |m| m.estimate))
}

fn cheaper_by(small: &Tried<'_>, base: &Tried<'_>) -> String {
    let ((cost, ms), (base_cost, base_ms)) = (rank(small), rank(base));
    let mut parts = Vec::new();
    if cost.is_finite() && base_cost.is_finite() && base_cost > 0.0 {
        parts.push(format!("it costs {:.0} % less", (1.0 - cost / base_cost) * 100.0));
    }
    if ms.is_finite() && base_ms.is_finite() && ms > 0.0 && base_ms / ms >= 1.05 {
        parts.push(format!("it answers {:.1} times as fast", base_ms / ms));
    }
    if parts.is_empty() { "and it is no slower".to_owned() } else { parts.join(" and ") }
}

/// How surely a difference must be shown.
#[derive(Clone, Copy)]
struct Strictness {
    margin: f64,
    alpha: f64,
    alpha_inferior: f64,
}

fn compare(t: &Tried<'_>, base: &Tried<'_>, how: Strictness) -> Option<Paired> {
    let of_base: BTreeMap<&str, f64> =
        base.answers.asked.iter().filter_map(|a| Some((a.row.id.as_str(), a.answer.quality?))).collect();
    let pairs: Vec<(f64, f64)> =
        t.answers.asked.iter().filter_map(|a| Some((a.answer.quality?, *of_base.get(a.row.id.as_str())?))).collect();
    if pairs.len() < 2 {
        return None;
    }
    let right = |q: f64| q >= crate::items::RIGHT;
    let count =
        |model: bool, base: bool| pairs.iter().filter(|(q, b)| right(*q) == model && right(*b) == base).count() as u64;
    let (only_model, only_baseline) = (count(true, false), count(false, true));
    let pairs = Pairs::new(&pairs, ORDER.derive(&t.candidate.name));
    let (not_inferior, inferior) = match t.answers.ended {
        // Where it stopped depends on its answers, so that only the test that stopped it may judge.
        Ended::Decided(decision) => (
            matches!(decision, Decision::NotInferior | Decision::Better),
            matches!(decision, Decision::Inferior | Decision::Worse),
        ),
        _ => (
            pairs.p_not_inferior(how.margin, how.alpha) <= how.alpha,
            pairs.p_inferior(how.margin, how.alpha_inferior) <= how.alpha_inferior,
        ),
    };
    Some(Paired {
        name: t.candidate.name.clone(),
        difference: Metric::new(pairs.interval(1.0 - 2.0 * how.alpha), pairs.n()),
        p: pairs.mcnemar(),
        only_model,
        only_baseline,
        not_inferior,
        inferior,
    })
}

/// The order in which graded differences are bet on, fixed for all data.
const ORDER: Seed = Seed(1);

/// The model that keeps most in front of the baseline under a certificate; without one, the curve of the best.
fn partner(
    plan: &Plan,
    others: &[&Tried<'_>],
    base: &Tried<'_>,
    margin: super::Margin,
    now: Timestamp,
) -> Result<Option<Together>> {
    let mut best: Option<(f64, Together)> = None;
    // The best of several certificates is as good as its worst chance: each may be wrong with its part of δ only.
    let delta = margin.delta / others.len().max(1) as f64;
    for t in others {
        // How many rows a model that was stopped early has depends on its answers; a certificate asks for rows that do not.
        if matches!(t.answers.ended, Ended::Decided(_)) {
            continue;
        }
        let outcomes = outcomes(plan, &[t, base]);
        let both: Vec<Outcome> = outcomes.into_iter().filter(|o| o.models.len() == 2).collect();
        let (small, large) = (&t.candidate.name, &base.candidate.name);
        let Ok((items, loss)) = scored_from_outcomes(&both, small, large, Loss::Auto) else { continue };
        let terms = Terms {
            task: plan.task.as_str().into(),
            small: ModelName::new(small.clone()),
            small_hash: sha256_hex(t.candidate.fingerprint.as_bytes()),
            large: ModelName::new(large.clone()),
            epsilon: margin.epsilon,
            delta,
            loss,
            issued: now,
        };
        let report = certify_scored(&items, &terms, Rule::default(), &Grid::default())?;
        let n = report.n.max(1) as f64;
        let curve = report.curve.iter().map(|p| (p.threshold, p.kept as f64 / n, p.loss_sum / n, p.bound)).collect();
        let kept = report.certificate().map_or(0.0, |c| c.kept);
        let quality = t.figures.as_ref().and_then(|f| f.main(plan.task)).map_or(0.0, |m| m.estimate);
        let score = kept + quality * 1e-3;
        let refusal = match &report.verdict {
            crate::Verdict::Certified(_) => None,
            crate::Verdict::NotCertified(refusal) => Some(refusal.reason.clone()),
        };
        let together =
            Together { name: t.candidate.name.clone(), curve, certificate: report.certificate().cloned(), refusal };
        if best.as_ref().is_none_or(|(other, _)| score > *other) {
            best = Some((score, together));
        }
    }
    Ok(best.map(|(_, together)| together))
}

/// The answers of models as recorded outcomes: the shape in which they are written and replayed.
#[must_use]
pub fn outcomes(plan: &Plan, tried: &[&Tried<'_>]) -> Vec<Outcome> {
    let mut outcomes: BTreeMap<&str, Outcome> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for t in tried {
        for asked in &t.answers.asked {
            let id = asked.row.id.as_str();
            let outcome = outcomes.entry(id).or_insert_with(|| {
                order.push(id);
                Outcome {
                    id: id.to_owned(),
                    task: plan.task.as_str().to_owned(),
                    group: asked.row.group.clone(),
                    system: asked.row.system.clone(),
                    prompt: asked.row.text.clone(),
                    label: asked.row.gold().map(str::to_owned),
                    weight: None,
                    models: BTreeMap::new(),
                }
            });
            outcome.models.insert(t.candidate.name.clone(), asked.answer.clone());
        }
    }
    order.into_iter().filter_map(|id| outcomes.remove(id)).collect()
}
