//! Comparing two models while the answers come in, and stopping as soon as the verdict is certain.
//!
//! `observe` takes one example's difference in quality, candidate minus reference, in an order that has nothing to do
//! with the examples (shuffle with a fixed seed first). The probability of a wrong verdict stays at most α however
//! often one looks. Three designs:
//!
//! - *Which is better, right or wrong answers, a planned number of examples*: the exact test of [`Walk`], α spent as
//!   α·t². It keeps nearly all the power of McNemar's test at the end of the plan.
//! - *Which is better, graded answers, or no plan*: two [`Mixture`]s, one for each direction, at α/2 each.
//! - *Is the candidate worse by more than a margin*: the same mixtures around −margin. For a verdict against a fixed
//!   threshold, observe quality minus threshold with a margin of 0.
//!
//! With a plan, a comparison also ends when going on would hardly change anything: the chance that the whole plan would
//! show a difference has fallen below [`FUTILE`]. That saves calls and cannot make two equal models look different.

use understudy_core::{Error, Result};
use understudy_stats::{mixture::Mixture, normal_tail, walk::Spending, walk::Walk};

/// Predicted power below which a plan is given up.
pub const FUTILE: f64 = 0.05;
/// Examples on which the models differed before a plan may be given up.
const EVIDENCE_OF_FUTILITY: u64 = 10;
/// How the error is spent over the plan: α·t². Of five tried on recorded outcomes it loses no power to the fixed test
/// and saves most of those that lose none (`cargo xtask bench sequential`).
pub const SPENDING: Spending = Spending::Power(2.0);
/// Standard errors at which the betting designs reject, roughly: what predicted power is compared by.
const BETTING_LIMIT: f64 = 3.0;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Question {
    /// Is one of the two better?
    Difference,
    /// Is the candidate worse by more than this much? In [0, 1).
    Margin(f64),
}

/// What the differences look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// −1, 0 or 1: answers are right or wrong.
    RightOrWrong,
    /// Anything from −1 to 1.
    Graded,
}

/// A comparison to be made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Design {
    /// What is asked.
    pub question: Question,
    /// What the differences look like.
    pub values: Values,
    /// Probability of a wrong verdict, in (0, 1).
    pub alpha: f64,
    /// Examples at most; `None`: until a verdict.
    pub planned: Option<u64>,
}

/// A verdict about the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Better than the reference.
    Better,
    /// Worse than the reference.
    Worse,
    /// Not worse by more than the margin.
    NotInferior,
    /// Worse by more than the margin.
    Inferior,
    /// No verdict: the plan would hardly show one any more, or it is over.
    Open,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Go on with the next example.
    Continue,
    /// Stop. Further observations change nothing.
    Decided(Decision),
}

/// A comparison under way.
#[derive(Debug, Clone)]
pub struct Comparison {
    design: Design,
    test: Test,
    seen: u64,
    differing: u64,
    sum: f64,
    squares: f64,
    decided: Option<Decision>,
}

#[derive(Debug, Clone)]
enum Test {
    Walk(Box<Walk>),
    /// Evidence that the mean is above, and that it is below.
    Bets(Box<(Mixture, Mixture)>),
}

impl Comparison {
    /// Starts a comparison.
    ///
    /// # Errors
    /// `Invalid` when α or the margin is out of range or the plan is empty.
    pub fn new(design: Design) -> Result<Self> {
        let Design { question, values, alpha, planned } = design;
        if !(alpha > 0.0 && alpha < 1.0) {
            return Err(Error::invalid(format!("compare models: alpha is {alpha}; it must lie between 0 and 1")));
        }
        if planned == Some(0) {
            return Err(Error::invalid("compare models: no examples are planned"));
        }
        let margin = match question {
            Question::Difference => 0.0,
            Question::Margin(margin) if (0.0..1.0).contains(&margin) => margin,
            Question::Margin(margin) => {
                return Err(Error::invalid(format!("compare models: the margin is {margin}; it must lie in [0, 1)")));
            }
        };
        let test = match (question, values, planned) {
            (Question::Difference, Values::RightOrWrong, Some(planned)) => {
                Test::Walk(Box::new(Walk::new(alpha, SPENDING, planned)))
            }
            _ => Test::Bets(Box::new((Mixture::against(-margin, -1.0), Mixture::against(margin, -1.0)))),
        };
        Ok(Self { design, test, seen: 0, differing: 0, sum: 0.0, squares: 0.0, decided: None })
    }

    /// Takes the next example's difference, candidate minus reference; outside [−1, 1] it is cut. With
    /// [`Values::RightOrWrong`] only its sign counts. One that is no number ends the comparison without a verdict.
    pub fn observe(&mut self, difference: f64) -> Step {
        if let Some(decision) = self.decided {
            return Step::Decided(decision);
        }
        if difference.is_nan() {
            self.decided = Some(Decision::Open);
            return Step::Decided(Decision::Open);
        }
        let difference = match self.design.values {
            Values::RightOrWrong if difference.abs() > 0.0 => difference.signum(),
            _ => difference.clamp(-1.0, 1.0),
        };
        self.seen += 1;
        self.differing += u64::from(difference.abs() > 0.0);
        self.sum += difference;
        self.squares += difference * difference;
        let verdict = match &mut self.test {
            Test::Walk(walk) => {
                let heads = (difference.abs() > 0.0).then_some(difference > 0.0);
                walk.push(heads).then_some(walk.standing().0 > 0)
            }
            Test::Bets(bets) => {
                // The claims are about the mean and about its negative, so both gamblers bet on "above".
                bets.0.push(difference);
                bets.1.push(-difference);
                let side = self.design.alpha / 2.0;
                if bets.0.rejects(side) { Some(true) } else { bets.1.rejects(side).then_some(false) }
            }
        };
        self.decided = match (verdict, self.design.question) {
            (Some(true), Question::Difference) => Some(Decision::Better),
            (Some(false), Question::Difference) => Some(Decision::Worse),
            (Some(true), Question::Margin(_)) => Some(Decision::NotInferior),
            (Some(false), Question::Margin(_)) => Some(Decision::Inferior),
            (None, _) => self.is_futile().then_some(Decision::Open),
        };
        self.decided.map_or(Step::Continue, Step::Decided)
    }

    /// Whether the plan is over or would hardly end with a verdict.
    fn is_futile(&self) -> bool {
        let Some(planned) = self.design.planned else { return false };
        self.seen >= planned || (self.differing >= EVIDENCE_OF_FUTILITY && self.predicted_power() < FUTILE)
    }

    /// The chance, by what was seen, that the rest of the plan would bring a verdict; 1 without a plan.
    #[must_use]
    pub fn predicted_power(&self) -> f64 {
        let Some(planned) = self.design.planned else { return 1.0 };
        if let Test::Walk(walk) = &self.test {
            return walk.predicted_power();
        }
        if self.seen == 0 || planned <= self.seen {
            return f64::from(u8::from(self.seen == 0));
        }
        let margin = if let Question::Margin(margin) = self.design.question { margin } else { 0.0 };
        let (seen, more) = (self.seen as f64, (planned - self.seen) as f64);
        let mean = self.sum / seen + margin;
        let spread = (self.squares / seen - (self.sum / seen).powi(2)).max(1.0 / seen).sqrt();
        // The sum at the end of the plan, predicted under a flat prior on the mean.
        let (middle, width) = (mean * planned as f64, spread * (more * planned as f64 / seen).sqrt());
        let limit = BETTING_LIMIT * spread * (planned as f64).sqrt();
        normal_tail((limit - middle) / width) + normal_tail((limit + middle) / width)
    }

    /// Examples seen.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Mean difference so far, candidate minus reference; after an early stop it tends to overstate the difference.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / self.seen.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn design(question: Question, values: Values, planned: Option<u64>) -> Design {
        Design { question, values, alpha: 0.05, planned }
    }

    /// Verdict and examples, when the candidate alone is right with probability `gain` and the reference alone `loss`.
    fn run(design: Design, gain: f64, loss: f64, size: f64, seed: u64) -> (Decision, u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut comparison = Comparison::new(design).expect("valid");
        for _ in 0..design.planned.unwrap_or(20_000) {
            let u: f64 = rng.random();
            let difference = if u < gain {
                size
            } else if u < gain + loss {
                -size
            } else {
                0.0
            };
            if let Step::Decided(decision) = comparison.observe(difference) {
                return (decision, comparison.seen());
            }
        }
        (Decision::Open, comparison.seen())
    }

    #[test]
    fn what_is_no_number_ends_without_a_verdict() {
        let design = Design { question: Question::Difference, values: Values::Graded, alpha: 0.05, planned: Some(100) };
        let mut comparison = Comparison::new(design).expect("valid");
        assert_eq!(comparison.observe(0.5), Step::Continue);
        assert_eq!(comparison.observe(f64::NAN), Step::Decided(Decision::Open));
    }

    #[test]
    fn equal_models_are_called_different_no_more_often_than_alpha() {
        for (values, size) in [(Values::RightOrWrong, 1.0), (Values::Graded, 0.4)] {
            let design = design(Question::Difference, values, Some(300));
            let wrong = (0..1000).filter(|&seed| run(design, 0.1, 0.1, size, seed).0 != Decision::Open).count();
            println!("{values:?}: {wrong} of 1,000 equal pairs called different");
            assert!(wrong <= 66, "50 expected at most, and three standard errors");
        }
    }

    #[test]
    fn verdicts_point_the_right_way_and_come_early() {
        let binary = design(Question::Difference, Values::RightOrWrong, Some(1000));
        let graded = design(Question::Difference, Values::Graded, Some(1000));
        for (gain, loss, expected) in [(0.3, 0.1, Decision::Better), (0.1, 0.3, Decision::Worse)] {
            for (design, size) in [(binary, 1.0), (graded, 0.5)] {
                let (decision, seen) = run(design, gain, loss, size, 5);
                assert!(decision == expected && seen < 500, "{design:?}: {decision:?} after {seen}");
            }
        }
        let (decision, seen) = run(binary, 0.1, 0.1, 1.0, 2);
        assert!(decision == Decision::Open && seen < 1000);
    }

    #[test]
    fn a_margin_is_judged_on_both_sides() {
        let open = design(Question::Margin(0.05), Values::Graded, None);
        assert_eq!(run(open, 0.1, 0.1, 1.0, 1).0, Decision::NotInferior);
        assert_eq!(run(open, 0.02, 0.2, 1.0, 1).0, Decision::Inferior);
        // Exactly at the margin neither may be said more often than alpha.
        let planned = design(Question::Margin(0.05), Values::Graded, Some(500));
        let wrong = (0..500).filter(|&seed| run(planned, 0.1, 0.15, 1.0, seed).0 != Decision::Open).count();
        assert!(wrong <= 25, "{wrong}");
    }

    #[test]
    fn wrong_designs_are_refused() {
        let margin = |margin| Comparison::new(design(Question::Margin(margin), Values::Graded, None));
        assert!(margin(1.0).is_err() && margin(-0.1).is_err());
        let plan = design(Question::Difference, Values::Graded, Some(0));
        assert!(Comparison::new(plan).is_err() && Comparison::new(Design { alpha: 0.0, ..plan }).is_err());
    }
}
