//! A fitted gate: signals of the small model's answer → a confidence in [0, 1] that keeping it loses nothing.
//!
//! A committee of small learners gives a score, each member on its own scale and with its own weight; an isotonic curve
//! turns the score into a confidence. `pilot` fits it; this side only reads, and is total: any evidence gives a
//! confidence or none. There is none where a signal is missing that was never missing while fitting, because the gate
//! has not seen such answers: they go to the large model.

use super::signals::{Evidence, Reader, Signal};
use serde::{Deserialize, Serialize};
use understudy_core::{Confidence, Error, Result, hash::sha256_hex};
use understudy_learn::{boost::Boosted, isotonic::Isotonic, logistic::Logistic, ridge::Ridge};

/// Version of the file.
const VERSION: u32 = 1;
/// Farthest a standardised signal goes: beyond it, nothing was seen in fitting.
const FAR: f64 = 4.0;
/// How much of the confidence follows the bare score: keeps the order of answers within a level stretch of the curve.
const TILT: f64 = 0.01;

/// One column of the learners' input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// What is read.
    pub signal: Signal,
    /// What the column holds of it.
    pub presence: Presence,
    /// Subtracted from the value.
    pub mean: f64,
    /// Divides the value; positive.
    pub scale: f64,
}

/// What a column holds of its signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// The value; it was always there while fitting, and must be there.
    Always,
    /// The value; where it is missing, the mean stands in.
    Sometimes,
    /// 1 where the value is missing, else 0.
    Missing,
}

/// What a member of the committee predicts with. All scores rise with the reason to keep the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learner {
    /// A recorded signal as it is: the place of a column, and whether it counts down.
    Raw {
        /// Place of the column.
        column: usize,
        /// 1, or −1 where less is better.
        sign: f64,
    },
    /// Probability that nothing is lost (the small model is right, or the large one is not).
    Linear(Logistic),
    /// Difference of two probabilities: the small model right, less the large model right.
    Difference {
        /// The small model's.
        small: Logistic,
        /// The large model's.
        large: Logistic,
    },
    /// What keeping gains, as a weighted sum.
    Sum(Ridge),
    /// Boosted trees.
    Trees(Boosted),
}

impl Learner {
    fn score(&self, row: &[f64]) -> f64 {
        match self {
            Self::Raw { column, sign } => sign * row.get(*column).copied().unwrap_or(0.0),
            Self::Linear(fitted) => fitted.predict(row),
            Self::Sum(fitted) => fitted.predict(row),
            Self::Difference { small, large } => small.predict(row) - large.predict(row),
            Self::Trees(fitted) => fitted.predict(row),
        }
    }

    fn is_sound(&self, width: usize) -> bool {
        let sums = |weights: &[f64], intercept: f64| {
            weights.len() == width && intercept.is_finite() && weights.iter().all(|weight| weight.is_finite())
        };
        let linear = |fitted: &Logistic| sums(&fitted.weights, fitted.intercept);
        match self {
            Self::Raw { column, sign } => *column < width && sign.is_finite(),
            Self::Linear(fitted) => linear(fitted),
            Self::Sum(fitted) => sums(&fitted.weights, fitted.intercept),
            Self::Difference { small, large } => linear(small) && linear(large),
            Self::Trees(fitted) => fitted.features() == width && fitted.is_sound(),
        }
    }
}

/// One member of the committee: `weight · (score − mean) / scale` is its say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// For people.
    pub name: String,
    /// What predicts.
    pub learner: Learner,
    /// Mean score while fitting.
    pub mean: f64,
    /// Its standard deviation; positive.
    pub scale: f64,
    /// Its weight.
    pub weight: f64,
}

impl Member {
    /// Its say about a row.
    #[must_use]
    pub fn say(&self, row: &[f64]) -> f64 {
        self.weight * (self.learner.score(row) - self.mean) / self.scale
    }

    /// Its bare score.
    #[must_use]
    pub fn score(&self, row: &[f64]) -> f64 {
        self.learner.score(row)
    }
}

/// A gate as a file holds it. [`FittedGate::checked`] makes it usable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateFile {
    /// Version of the shape.
    pub version: u32,
    /// The small model whose answers it judges.
    pub small: String,
    /// The large model it was compared with.
    pub large: String,
    /// Models whose answers it also looks at.
    pub helpers: Vec<String>,
    /// Requests it was fitted on.
    pub n: u64,
    /// Input of the learners.
    pub columns: Vec<Column>,
    /// The committee.
    pub members: Vec<Member>,
    /// Score to confidence.
    pub calibration: Isotonic,
}

impl GateFile {
    /// The version that this code writes.
    #[must_use]
    pub fn version() -> u32 {
        VERSION
    }
}

/// A gate that may judge.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedGate {
    file: GateFile,
    hash: String,
}

impl FittedGate {
    /// Checks what fitting made or a file held.
    ///
    /// # Errors
    /// `Data`, saying what is wrong with it.
    pub fn checked(file: GateFile) -> Result<Self> {
        let bad = |what: &str| Err(Error::data(format!("use the gate: {what}; fit it again")));
        if file.version != VERSION {
            return bad(&format!("it has version {}, and this program reads version {VERSION}", file.version));
        }
        let scaled = |mean: f64, scale: f64| mean.is_finite() && scale.is_finite() && scale > 0.0;
        if !file.columns.iter().all(|column| scaled(column.mean, column.scale)) {
            return bad("a column has no finite scale");
        }
        let width = file.columns.len();
        let sound = |member: &Member| {
            scaled(member.mean, member.scale) && member.weight.is_finite() && member.learner.is_sound(width)
        };
        if file.members.is_empty() || !file.members.iter().all(sound) {
            return bad("a member of its committee is damaged");
        }
        if !file.calibration.is_sound() {
            return bad("its calibration is damaged");
        }
        let hash = sha256_hex(written(&file).as_bytes());
        Ok(Self { file, hash })
    }

    /// Reads a saved gate.
    ///
    /// # Errors
    /// `Data` when it is not a sound gate of this version.
    pub fn from_json(json: &str) -> Result<Self> {
        let file = serde_json::from_str(json).map_err(|e| Error::data(format!("read the gate: {e}")))?;
        Self::checked(file)
    }

    /// The gate as a file.
    #[must_use]
    pub fn to_json(&self) -> String {
        written(&self.file)
    }

    /// Hash of the content. A certificate speaks of confidences, and they are this gate's: another gate needs another
    /// certificate.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// What it is made of.
    #[must_use]
    pub fn file(&self) -> &GateFile {
        &self.file
    }

    /// The score, which orders answers; rises with the reason to keep.
    #[must_use]
    pub fn score(&self, evidence: Evidence<'_>) -> Option<f64> {
        let row = row(&self.file.columns, &Reader::new(evidence))?;
        Some(self.file.members.iter().map(|member| member.say(&row)).sum())
    }

    /// Confidence that keeping the answer loses nothing. `None`: do not keep it.
    #[must_use]
    pub fn judge(&self, evidence: Evidence<'_>) -> Option<Confidence> {
        let score = self.score(evidence)?;
        Confidence::new(confidence(&self.file.calibration, score)).ok()
    }
}

fn written(file: &GateFile) -> String {
    serde_json::to_string(file).expect("a gate is plain data")
}

/// The confidence of a score.
#[must_use]
pub fn confidence(calibration: &Isotonic, score: f64) -> f64 {
    let tilt = 1.0 / (1.0 + (-score).exp());
    ((1.0 - TILT) * calibration.at(score).clamp(0.0, 1.0) + TILT * tilt).clamp(0.0, 1.0)
}

/// The learners' input; `None` when a signal is missing that never was.
#[must_use]
pub fn row(columns: &[Column], reader: &Reader<'_>) -> Option<Vec<f64>> {
    columns
        .iter()
        .map(|column| {
            let value = reader.value(column.signal);
            let value = match column.presence {
                Presence::Always => value?,
                Presence::Sometimes => value.unwrap_or(column.mean),
                Presence::Missing => f64::from(u8::from(value.is_none())),
            };
            Some(standardised(column, value))
        })
        .collect()
}

/// A value on the column's scale.
#[must_use]
pub fn standardised(column: &Column, value: f64) -> f64 {
    ((value - column.mean) / column.scale).clamp(-FAR, FAR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::signals::Said;

    fn gate() -> GateFile {
        let column = |signal, presence| Column { signal, presence, mean: 0.5, scale: 0.25 };
        GateFile {
            version: VERSION,
            small: "s".into(),
            large: "l".into(),
            helpers: vec!["h".into()],
            n: 10,
            columns: vec![
                column(Signal::Confidence, Presence::Always),
                column(Signal::Agreement(0), Presence::Sometimes),
                column(Signal::Agreement(0), Presence::Missing),
            ],
            members: vec![Member {
                name: "linear".into(),
                learner: Learner::Linear(Logistic { weights: vec![1.0, 0.5, -1.0], intercept: 0.0 }),
                mean: 0.5,
                scale: 0.2,
                weight: 1.0,
            }],
            calibration: Isotonic::fit([(-2.0, 0.1, 1.0), (0.0, 0.6, 1.0), (2.0, 0.9, 1.0)]),
        }
    }

    fn evidence(confidence: Option<f64>) -> Evidence<'static> {
        let said = Said { answer: Some("x"), confidence, ..Said::default() };
        Evidence { prompt: "p", said, helpers: &[None] }
    }

    #[test]
    fn a_signal_that_never_was_missing_may_not_be_missing() {
        let gate = FittedGate::checked(gate()).expect("sound");
        assert_eq!(gate.judge(evidence(None)), None);
        assert!(gate.judge(evidence(Some(0.9))) > gate.judge(evidence(Some(0.3))));
        assert!(gate.judge(evidence(Some(0.3))).is_some(), "a helper may be missing");
    }

    #[test]
    fn a_saved_gate_judges_as_before_and_a_changed_one_has_another_hash() {
        let original = FittedGate::checked(gate()).expect("sound");
        let read = FittedGate::from_json(&original.to_json()).expect("own form");
        assert_eq!((&read, read.hash()), (&original, original.hash()));
        let mut other = gate();
        other.members[0].weight = 0.999;
        assert_ne!(FittedGate::checked(other).expect("sound").hash(), original.hash());
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let damage: [fn(&mut GateFile); 6] = [
            |g| g.version = 9,
            |g| g.columns[0].scale = 0.0,
            |g| g.members.clear(),
            |g| g.columns.truncate(2),
            |g| g.members[0].learner = Learner::Raw { column: 7, sign: 1.0 },
            |g| g.members[0].scale = f64::NAN,
        ];
        for damage in damage {
            let mut gate = gate();
            damage(&mut gate);
            assert!(FittedGate::checked(gate).is_err());
        }
        assert!(FittedGate::from_json("{").is_err());
    }

    #[test]
    fn confidence_rises_strictly_with_the_score() {
        let level = Isotonic::fit([(-1.0, 0.7, 1.0), (1.0, 0.7, 1.0)]);
        assert!(confidence(&level, 0.3) > confidence(&level, 0.2));
        assert!((confidence(&level, 0.0) - 0.7).abs() <= TILT);
    }
}
