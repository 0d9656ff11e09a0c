//! The demo's report: one HTML file without any link to the network, and the same figures as JSON beside it. Draws
//! what it is given; measures and decides nothing.

mod charts;
mod page;

pub(super) use understudy_pilot::report::{
    charts::{Latencies as Latency, ReliabilityBin},
    numbers::count,
};

use serde::Serialize;
use std::path::{Path, PathBuf};
use understudy_core::{Certificate, Error, Result};

/// Everything the report says.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DemoReport {
    /// The task's name.
    pub(super) task: String,
    /// What was sent, such as `6,046 real e-mails (SpamAssassin public corpus)`.
    pub(super) corpus: String,
    /// In which order, and what that means for the certificate: a sentence.
    pub(super) order: String,
    /// The small model's name.
    pub(super) small: String,
    /// The large model's name.
    pub(super) large: String,
    /// What stands in for the large model, when it is not itself: a sentence.
    pub(super) stand_in: Option<String>,
    /// When the report was written, for people.
    pub(super) written: String,
    /// Requests that were observed before.
    pub(super) observed: usize,
    /// Requests of the live phase.
    pub(super) live: usize,
    /// Of them answered by the small model.
    pub(super) kept: usize,
    /// Their share.
    pub(super) local_share: Figure,
    /// Loss per request, measured while the certificate stood; `None` when it could not be.
    pub(super) loss: Option<Figure>,
    /// Accuracies of small alone, large alone and together.
    pub(super) accuracy: Vec<Named>,
    /// Largest allowed loss per request.
    pub(super) epsilon: f64,
    /// Probability with which the certificate may be wrong.
    pub(super) delta: f64,
    /// Money; `None` when no price is known.
    pub(super) saving: Option<Saving>,
    /// The certificate.
    pub(super) certificate: Option<Certificate>,
    /// Why there is none.
    pub(super) refusal: Option<String>,
    /// What ended it.
    pub(super) withdrawal: Option<Withdrawn>,
    /// The certification curve, strict to loose.
    pub(super) curve: Vec<CurvePoint>,
    /// How often the small model was right, by confidence.
    pub(super) reliability: Vec<ReliabilityBin>,
    /// Latencies by route.
    pub(super) latency: Vec<Latency>,
    /// Money over the live phase.
    pub(super) spending: Vec<SpendPoint>,
    /// Evidence against the certificate over the live phase.
    pub(super) evidence: Vec<EvidencePoint>,
    /// Odds against the certificate at which it is withdrawn.
    pub(super) evidence_limit: f64,
    /// The small model's answers against what is right.
    pub(super) confusion: Option<Confusion>,
    /// Commands that reproduce the figures.
    pub(super) commands: Vec<Command>,
}

/// A number with its 95 % interval.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Figure {
    pub(super) estimate: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) n: u64,
}

/// A figure with a name.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) figure: Figure,
}

/// What the live phase cost, and what it would have.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Saving {
    /// Audits included.
    pub(super) spent_usd: f64,
    /// Every request to the large model.
    pub(super) baseline_usd: f64,
    /// Part of `spent_usd`.
    pub(super) audits_usd: f64,
    /// Whose prices, and how tokens were counted: a sentence.
    pub(super) basis: String,
}

impl Saving {
    fn share(&self) -> f64 {
        if self.baseline_usd > 0.0 { 1.0 - self.spent_usd / self.baseline_usd } else { 0.0 }
    }
}

/// The end of the certificate.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Withdrawn {
    /// Requests of the live phase before it.
    pub(super) at: usize,
    /// Why: a sentence.
    pub(super) reason: String,
}

/// One threshold of the certification.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct CurvePoint {
    pub(super) threshold: f64,
    /// Share of the calibration items kept.
    pub(super) kept: f64,
    /// Losses per calibration item.
    pub(super) loss: f64,
    /// Exact upper bound.
    pub(super) bound: f64,
}

/// Money after so many live requests.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct SpendPoint {
    pub(super) request: usize,
    pub(super) spent_usd: f64,
    pub(super) baseline_usd: f64,
}

/// Evidence after so many live requests.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct EvidencePoint {
    pub(super) request: usize,
    /// Kept answers that were audited so far.
    pub(super) audits: u64,
    /// Losses among them.
    pub(super) losses: u64,
    /// Odds, to one, that the loss is above ε.
    pub(super) loss_odds: f64,
    /// Odds, to one, that the share kept has left the calibration's limits.
    pub(super) change_odds: f64,
}

/// Counts by right label (row) and answer (column).
#[derive(Debug, Clone, Serialize)]
pub(super) struct Confusion {
    pub(super) labels: Vec<String>,
    pub(super) counts: Vec<Vec<u64>>,
}

/// How to get a figure again.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Command {
    pub(super) what: String,
    pub(super) command: String,
}

/// Writes `report.html` and `report.json` into `dir`.
///
/// # Errors
/// `Data` when a file cannot be written.
pub(super) fn write(dir: &Path, report: &DemoReport) -> Result<Vec<PathBuf>> {
    let json = serde_json::to_string_pretty(report).map_err(|e| Error::internal(format!("write the report: {e}")))?;
    let files = [("report.html", render(report)), ("report.json", json)];
    let mut written = Vec::new();
    for (name, text) in files {
        let path = dir.join(name);
        understudy_pilot::report::write_file(&path, text.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}

/// The report as one HTML file.
pub(super) fn render(report: &DemoReport) -> String {
    page::page(report)
}

#[cfg(test)]
mod tests;
