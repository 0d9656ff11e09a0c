//! What would have been, had the threshold been another: estimates from recorded live decisions.
//!
//! A kept answer's loss is known only where an audit asked the large model too, which happened with a probability that
//! was logged. Weighted by one over it, the losses that were seen stand for those that were not. Three estimates of the
//! loss per request at a threshold: inverse propensity (unbiased), self-normalised (less spread, slightly biased) and
//! doubly robust (a running guess by confidence, corrected by what was seen: unbiased whatever the guess, and the less
//! spread the better it is; M. Dudík, J. Langford and L. Li, *Doubly robust policy evaluation and learning*, ICML
//! 2011). The intervals are betting ones: they hold for any number of decisions and audit rates that depended on the
//! past.
//!
//! It speaks about the recorded traffic: decisions exchangeable with each other, one small model throughout.

use understudy_core::{Error, Result};
use understudy_stats::{Bound, binomial, hedged, normal_quantile};

/// One recorded request on which the small model gave an answer, in order of arrival.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// The small model's confidence; `None`: none was given, so no threshold keeps it.
    pub confidence: Option<f64>,
    /// Loss if the small model's answer is the reply, in [0, 1]; `None` where the large model was not asked.
    pub loss: Option<f64>,
    /// The probability, fixed before the request, that the loss would become known: the audit probability of a kept
    /// answer; 1 where both models answered anyway.
    pub probability: f64,
    /// Whether it was looked at without a verdict: the audit failed or its answer had no label. Which answers these are
    /// may depend on them, so a certificate counts them as lost; estimates leave them out and say how many there are.
    pub unjudged: bool,
}

/// What a threshold would have done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The threshold.
    pub threshold: f64,
    /// Share that would have been kept; exact interval.
    pub kept: Bound,
    /// Kept answers whose loss is known.
    pub seen: u64,
    /// Kept answers whose audit gave no verdict; the estimates count them as if they had not been audited.
    pub unjudged: u64,
    /// Loss per request by inverse propensity, with a betting interval.
    pub inverse_propensity: Bound,
    /// Loss per request, self-normalised, with an approximate interval: Wilson's for as many kept answers as the weighted
    /// ones are worth ((Σw)² / Σw², L. Kish, *Survey Sampling*, 1965), its ends times those of the share kept. `None`
    /// where no loss is known.
    pub self_normalised: Option<Bound>,
    /// Loss per request, doubly robust, with a betting interval.
    pub doubly_robust: Bound,
}

/// Bins of the running guess, even in confidence's log-odds.
const BINS: usize = 12;

/// Estimates each threshold; intervals at `level`.
///
/// # Errors
/// `Invalid` without decisions, with a level or threshold out of range, or where answers that a threshold keeps had no
/// chance of an audit: nothing can be said about them.
pub fn what_if(decisions: &[Decision], thresholds: &[f64], level: f64) -> Result<Vec<Estimate>> {
    check(decisions, thresholds)?;
    if !(level > 0.0 && level < 1.0) {
        return Err(Error::invalid(format!("estimate another threshold: the level {level} is not between 0 and 1")));
    }
    thresholds.iter().map(|&threshold| estimate(decisions, threshold, level)).collect()
}

/// The loosest of `thresholds` (strict to loose) that recorded decisions certify: the loss per request is at most ε at
/// confidence 1 − δ, by betting on inverse-propensity losses in order of arrival, and every stricter one passed too. It
/// may be asked again as traffic comes, as long as the lowest audit probability stays. Audits without a verdict count as
/// losses.
///
/// # Errors
/// As [`what_if`]; `Invalid` also when the thresholds do not fall or ε or δ is out of range.
pub fn certify_audited(decisions: &[Decision], thresholds: &[f64], epsilon: f64, delta: f64) -> Result<Option<f64>> {
    check(decisions, thresholds)?;
    if !(epsilon > 0.0 && epsilon < 1.0 && delta > 0.0 && delta < 1.0) {
        return Err(Error::invalid("certify by audits: epsilon and delta lie between 0 and 1"));
    }
    if thresholds.windows(2).any(|pair| pair[0] <= pair[1]) {
        return Err(Error::invalid("certify by audits: give thresholds from strict to loose"));
    }
    let worst: Vec<Decision> =
        decisions.iter().map(|d| Decision { loss: d.loss.or(d.unjudged.then_some(1.0)), ..*d }).collect();
    let passes = |i: usize| {
        let Ok((values, most)) = weighted(&worst, thresholds[i]) else { return false };
        hedged::Claim { low: 0.0, high: most, at_least: epsilon }.refuted_at_any_time(values.into_iter(), delta)
    };
    Ok(understudy_stats::sequence::last_rejected(thresholds.len(), passes).map(|i| thresholds[i]))
}

fn check(decisions: &[Decision], thresholds: &[f64]) -> Result<()> {
    if decisions.is_empty() || thresholds.is_empty() {
        return Err(Error::invalid("estimate another threshold: there are no recorded decisions or no thresholds"));
    }
    if let Some(t) = thresholds.iter().find(|t| !(0.0..=1.0).contains(*t)) {
        return Err(Error::invalid(format!("estimate another threshold: {t} is not in [0, 1]")));
    }
    let wrong = |d: &&Decision| {
        !(0.0..=1.0).contains(&d.probability)
            || d.loss.is_some_and(|x| !(0.0..=1.0).contains(&x) || d.probability <= 0.0)
    };
    match decisions.iter().find(wrong) {
        Some(d) => Err(Error::invalid(format!("estimate another threshold: {d:?} is no recorded decision"))),
        None => Ok(()),
    }
}

fn keeps(decision: &Decision, threshold: f64) -> bool {
    decision.confidence.is_some_and(|c| c >= threshold)
}

/// Inverse-propensity losses at a threshold and the largest that one could be.
fn weighted(decisions: &[Decision], threshold: f64) -> Result<(Vec<f64>, f64)> {
    let kept = || decisions.iter().filter(|d| keeps(d, threshold));
    let blind = kept().filter(|d| d.probability <= 0.0).count();
    if blind > 0 {
        return Err(Error::invalid(format!(
            "estimate the loss at threshold {threshold}: {blind} of the answers that it keeps had no chance of an audit; \
             set the task's audit share above 0"
        )));
    }
    let least = kept().map(|d| d.probability).fold(1.0, f64::min);
    let value = |d: &Decision| d.loss.filter(|_| keeps(d, threshold)).map_or(0.0, |loss| loss / d.probability);
    Ok((decisions.iter().map(value).collect(), 1.0 / least))
}

fn estimate(decisions: &[Decision], threshold: f64, level: f64) -> Result<Estimate> {
    let n = decisions.len() as u64;
    let (values, most) = weighted(decisions, threshold)?;
    let known: Vec<&Decision> = decisions.iter().filter(|d| keeps(d, threshold) && d.loss.is_some()).collect();
    let kept = decisions.iter().filter(|d| keeps(d, threshold)).count() as u64;
    let weights: f64 = known.iter().map(|d| 1.0 / d.probability).sum();
    let kept_share = binomial::interval(kept, n, level);
    let sum: f64 = values.iter().sum();
    let corrected = doubly_robust(decisions, threshold);
    Ok(Estimate {
        threshold,
        kept: kept_share,
        seen: known.len() as u64,
        unjudged: decisions.iter().filter(|d| keeps(d, threshold) && d.unjudged).count() as u64,
        inverse_propensity: unit(hedged::two_sided(&values, 0.0, most, level)),
        self_normalised: (weights > 0.0).then(|| self_normalised(&known, sum / weights, kept_share, level)),
        doubly_robust: unit(hedged::two_sided(&corrected, 1.0 - most, most, level)),
    })
}

/// The mean loss of the kept answers that are known, times the share kept.
fn self_normalised(known: &[&Decision], mean: f64, kept: Bound, level: f64) -> Bound {
    let (sum, squares) = known.iter().fold((0.0, 0.0), |(sum, squares), d| {
        let weight = 1.0 / d.probability;
        (sum + weight, squares + weight * weight)
    });
    let worth = sum * sum / squares;
    let z = normal_quantile(f64::midpoint(1.0, level));
    let middle = (mean + z * z / (2.0 * worth)) / (1.0 + z * z / worth);
    let half = z / (1.0 + z * z / worth) * (mean * (1.0 - mean) / worth + z * z / (4.0 * worth * worth)).sqrt();
    let (low, high) = ((middle - half).clamp(0.0, mean), (middle + half).clamp(mean, 1.0));
    Bound { estimate: kept.estimate * mean, low: kept.low * low, high: kept.high * high, level }
}

/// The doubly robust value of each decision. The guess knows only decisions before, so that its errors cancel on average
/// whatever it is.
fn doubly_robust(decisions: &[Decision], threshold: f64) -> Vec<f64> {
    // One imagined loss in ten per bin: a guess needs a start.
    let mut guess = [(0.1, 1.0); BINS];
    let value = |d: &Decision| {
        let confidence = d.confidence.filter(|_| keeps(d, threshold) || d.loss.is_some());
        let Some(confidence) = confidence else { return 0.0 };
        let bin = bin(confidence);
        let (losses, weight) = guess[bin];
        let expected = losses / weight;
        let correction = d.loss.map_or(0.0, |loss| (loss - expected) / d.probability);
        if let Some(loss) = d.loss {
            guess[bin] = (losses + loss / d.probability, weight + 1.0 / d.probability);
        }
        if keeps(d, threshold) { expected + correction } else { 0.0 }
    };
    decisions.iter().map(value).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bins")]
fn bin(confidence: f64) -> usize {
    let odds = (confidence.clamp(1e-6, 1.0 - 1e-6) / (1.0 - confidence.clamp(1e-6, 1.0 - 1e-6))).ln();
    ((odds + 3.0) * 1.5).clamp(0.0, (BINS - 1) as f64) as usize
}

/// A loss lies in [0, 1], whatever its estimate's range.
fn unit(bound: Bound) -> Bound {
    Bound { low: bound.low.clamp(0.0, 1.0), high: bound.high.clamp(0.0, 1.0), ..bound }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Live traffic with threshold 0.8 and audits of `rate`: what was recorded, and every loss.
    fn live(seed: u64, n: usize, rate: f64) -> (Vec<Decision>, Vec<f64>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let one = |_| {
            let confidence: f64 = rng.random();
            let loss = f64::from(u8::from(rng.random::<f64>() < (1.0 - confidence) * 0.3));
            let probability = if confidence >= 0.8 { rate } else { 1.0 };
            let seen = rng.random::<f64>() < probability;
            (Decision { confidence: Some(confidence), loss: seen.then_some(loss), probability, unjudged: false }, loss)
        };
        (0..n).map(one).unzip()
    }

    /// Loss per request at a threshold in truth: ∫ 0.3 (1 − c) from t to 1.
    fn truth(threshold: f64) -> f64 {
        0.15 * (1.0 - threshold).powi(2)
    }

    #[test]
    fn estimates_are_near_the_truth_and_their_intervals_hold_it() {
        let thresholds = [0.9, 0.6];
        let (mut missed, mut sums) = ([0; 2], [[0.0; 3]; 2]);
        let runs = 60_u32;
        for run in 0..runs {
            let (decisions, _) = live(u64::from(run), 2000, 0.2);
            for (i, e) in what_if(&decisions, &thresholds, 0.9).expect("valid").iter().enumerate() {
                let own = e.self_normalised.expect("some were seen");
                let inside =
                    [e.inverse_propensity, own, e.doubly_robust].iter().all(|b| b.contains(truth(e.threshold)));
                missed[i] += u32::from(!inside);
                let found = [e.inverse_propensity.estimate, own.estimate, e.doubly_robust.estimate];
                sums[i].iter_mut().zip(found).for_each(|(sum, x)| *sum += x / f64::from(runs));
            }
        }
        println!("means {sums:?}, truths {:?}; outside the 90 % intervals {missed:?} of {runs}", thresholds.map(truth));
        for (i, &t) in thresholds.iter().enumerate() {
            assert!(missed[i] <= 9 && sums[i].iter().all(|mean| (mean / truth(t) - 1.0).abs() < 0.25));
        }
    }

    #[test]
    fn what_nobody_could_see_is_not_estimated() {
        let (mut decisions, _) = live(1, 100, 0.2);
        decisions[0] = Decision { confidence: Some(0.95), loss: None, probability: 0.0, unjudged: false };
        let error = what_if(&decisions, &[0.9], 0.9).expect_err("no chance of an audit").to_string();
        assert!(error.contains("no chance of an audit"), "{error}");
        assert!(what_if(&decisions, &[0.99], 0.9).is_ok());
        assert!(what_if(&[], &[0.9], 0.9).is_err() && what_if(&decisions, &[1.9], 0.9).is_err());
    }

    #[test]
    fn audits_that_gave_no_verdict_certify_nothing() {
        let (mut decisions, _) = live(1, 4000, 1.0);
        assert_eq!(certify_audited(&decisions, &[0.9], 0.03, 0.1).expect("valid"), Some(0.9));
        // Half of the audits fail.
        for decision in decisions.iter_mut().step_by(2) {
            (decision.loss, decision.unjudged) = (None, true);
        }
        assert_eq!(certify_audited(&decisions, &[0.9], 0.03, 0.1).expect("valid"), None);
        let estimate = what_if(&decisions, &[0.9], 0.9).expect("valid")[0];
        assert!(estimate.unjudged > 150 && estimate.inverse_propensity.estimate < 0.03, "{estimate:?}");
    }

    #[test]
    fn audits_certify_a_threshold_and_seldom_a_wrong_one() {
        let grid = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2];
        let mut found = Vec::new();
        let wrong = (0..200_u64).filter(|&run| {
            let (decisions, _) = live(run, 2000, 0.3);
            let threshold = certify_audited(&decisions, &grid, 0.03, 0.1).expect("valid");
            found.extend(threshold);
            threshold.is_some_and(|t| truth(t) > 0.03)
        });
        let wrong = wrong.count();
        println!("{} of 200 certified, {wrong} wrongly (10 % allowed)", found.len());
        assert!(wrong <= 20 && found.len() > 100 && found.iter().any(|&t| t < 0.75));
    }
}
