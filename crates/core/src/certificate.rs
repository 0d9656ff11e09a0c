//! The certificate: how much of a task's traffic a small model may answer, and the evidence for it.

use crate::{Confidence, Error, ModelName, Result, TaskName, Timestamp};
use serde::{Deserialize, Serialize};

/// What counts as a loss on one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Gold labels are known: the small model's answer is kept, wrong, and the large model's would have been right.
    Regret,
    /// No gold labels: the small model's answer is kept and differs from the large model's.
    Disagreement,
    /// Qualities between 0 and 1 are known: how far the kept answer falls short of the large model's, never below 0.
    GradedRegret,
    /// Qualities are known: the large model's minus the kept answer's, from −1 to 1. Gains make up for losses.
    Difference,
}

impl LossKind {
    /// Whether a loss either happens or does not.
    #[must_use]
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Regret | Self::Disagreement)
    }
}

/// What the loss is an average over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// All requests; one that went to the large model has no loss.
    #[default]
    Request,
    /// The requests whose answer was kept.
    Kept,
}

impl Per {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_request(&self) -> bool {
        *self == Self::Request
    }
}

/// A statement about future traffic that is exchangeable with the calibration items:
/// with probability at least 1 − `delta` over the draw of those items, the expected loss per request
/// (kept or not, unless `per` says otherwise) is at most `epsilon` when answers with confidence ≥ `threshold` are kept.
///
/// Exact (Clopper–Pearson) bound, for graded losses a betting bound; fixed-sequence testing of a fixed grid of thresholds from strict to loose
/// (Angelopoulos et al., *Learn then Test*, 2021, section 3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// First 16 hex digits of the hash over all other fields.
    pub id: String,
    /// The task it speaks about.
    pub task: TaskName,
    /// The small model: artifact name.
    pub small: ModelName,
    /// Content hash of the small model's artifact. Another artifact is another model and needs its own certificate.
    pub small_hash: String,
    /// The large model it was compared with.
    pub large: ModelName,
    /// Largest allowed expected loss per request, in (0, 1).
    pub epsilon: f64,
    /// Probability with which the statement may be false, in (0, 1).
    pub delta: f64,
    /// What a loss is.
    pub loss: LossKind,
    /// What the loss is an average over. Absent in certificates of the first kind, whose seal it must not break.
    #[serde(default, skip_serializing_if = "Per::is_request")]
    pub per: Per,
    /// Calibration items that were tested.
    pub n: u64,
    /// Losses among them at the threshold; of graded losses, those above 0.
    pub losses: u64,
    /// Sum of graded losses at the threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_sum: Option<f64>,
    /// Smallest confidence at which the small model's answer is kept.
    pub threshold: Confidence,
    /// Share of the calibration items kept at the threshold.
    pub kept: f64,
    /// Upper confidence bound of the expected loss at level 1 − `delta`; ≤ `epsilon`.
    pub bound: f64,
    /// SHA-256 over the calibration items (ids, answers, confidences).
    pub data_hash: String,
    /// When it was issued.
    pub issued: Timestamp,
}

impl Certificate {
    /// Fills in `id` from the content.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.id = String::new();
        let json = serde_json::to_vec(&self).expect("a certificate is plain data");
        self.id = crate::hash::sha256_hex(&json)[..16].to_owned();
        self
    }

    /// Whether the content still matches `id`: a certificate that was edited by hand is not one.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.clone().sealed().id == self.id
    }

    /// Whether audits of live traffic can watch over it; only then may it let a small model answer.
    ///
    /// # Errors
    /// `Invalid`, saying why not.
    pub fn monitored(&self) -> Result<()> {
        let why = match (self.loss, self.per) {
            (LossKind::Regret | LossKind::Disagreement, Per::Request) => return Ok(()),
            (LossKind::GradedRegret | LossKind::Difference, _) => {
                "its loss is graded, and audits of live traffic see only whether two answers agree"
            }
            (_, Per::Kept) => "it speaks about kept answers only, and audits watch the loss over all requests",
        };
        Err(Error::invalid(format!(
            "serve under certificate {}: {why}; certify regret or disagreement per request",
            self.id
        )))
    }

    /// Whether it allows keeping an answer of this confidence.
    #[must_use]
    pub fn allows(&self, confidence: Confidence) -> bool {
        confidence >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_certificate_is_not_intact() {
        let mut c = Certificate {
            id: String::new(),
            task: "triage".into(),
            small: "s".into(),
            small_hash: "h".into(),
            large: "l".into(),
            epsilon: 0.02,
            delta: 0.05,
            loss: LossKind::Disagreement,
            per: Per::Request,
            n: 1000,
            losses: 3,
            loss_sum: None,
            threshold: Confidence::new(0.9).expect("in range"),
            kept: 0.8,
            bound: 0.0077,
            data_hash: "d".into(),
            issued: Timestamp(0),
        }
        .sealed();
        assert!(c.is_intact());
        let json = serde_json::to_string(&c).expect("plain data");
        assert!(serde_json::from_str::<Certificate>(&json).expect("own form").is_intact());
        c.threshold = Confidence::new(0.1).expect("in range");
        assert!(!c.is_intact());
    }

    #[test]
    fn a_certificate_of_the_first_kind_still_loads_and_is_intact() {
        let json = r#"{"id":"ID","task":"triage","small":"s","small_hash":"h","large":"l","epsilon":0.02,"delta":0.05,"loss":"disagreement","n":1000,"losses":3,"threshold":0.9,"kept":0.8,"bound":0.0077,"data_hash":"d","issued":0}"#;
        let unsealed = json.replace("ID", "");
        let id = crate::hash::sha256_hex(unsealed.as_bytes())[..16].to_owned();
        let c: Certificate = serde_json::from_str(&json.replace("ID", &id)).expect("the first kind");
        assert!(c.is_intact() && c.per == Per::Request && c.loss_sum.is_none() && c.monitored().is_ok());
        let graded = Certificate { loss: LossKind::GradedRegret, loss_sum: Some(1.5), ..c.clone() }.sealed();
        assert!(graded.is_intact() && graded.id != c.id && graded.monitored().is_err());
        assert!(Certificate { per: Per::Kept, ..c }.monitored().is_err());
    }
}
