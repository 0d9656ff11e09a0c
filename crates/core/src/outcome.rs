//! Recorded outcomes: what several models answered to the same prompt. One JSON object a line.
//!
//! Absent means unknown, never zero. Fields that we do not know are ignored: the shape is open.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io::BufRead};

/// One prompt and what each model made of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Unique within the file.
    pub id: String,
    /// Name of the task or benchmark.
    #[serde(default)]
    pub task: String,
    /// Subject or slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// System prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The user's text.
    #[serde(default)]
    pub prompt: String,
    /// Gold label, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How many requests of the traffic the row stands for, above 0; 1 where absent. One over the probability with
    /// which it was recorded, where that was not certain (audits).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Answers by model name.
    pub models: BTreeMap<String, RecordedAnswer>,
}

/// What one model answered.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RecordedAnswer {
    /// 0…1; 1 is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<f64>,
    /// The answer in the task's vocabulary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The full text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Raw log-probability of the answer, or log of a self-check's P(true); not calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logconf: Option<f64>,
    /// Log-probability of each token of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_logprobs: Option<Vec<f64>>,
    /// Share of sampled votes for the answer, or a calibrated confidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Price of the answer in USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Milliseconds to the whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// Input tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_in: Option<u64>,
    /// Output tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_out: Option<u64>,
    /// Characters of the full answer, where its text was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_chars: Option<u64>,
}

impl RecordedAnswer {
    /// The text a client would have seen: the full text, else the bare answer.
    #[must_use]
    pub fn reply(&self) -> Option<&str> {
        self.text.as_deref().or(self.answer.as_deref())
    }

    /// A score that grows with the model's certainty: calibrated confidence, else log-probability.
    #[must_use]
    pub fn score(&self) -> Option<f64> {
        self.confidence.or_else(|| self.logconf.map(f64::exp))
    }
}

/// Reads outcomes line by line. Empty lines are skipped.
///
/// # Errors
/// `Data`, naming `name` and the line, when a line is not a JSON object of this shape, an id repeats, a quality is
/// outside [0, 1], or the reader fails.
pub fn read(name: &str, reader: impl BufRead) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (index, line) in reader.lines().enumerate() {
        let at = |what: String| Error::data(format!("read outcomes {name}: line {}: {what}", index + 1));
        let line = line.map_err(|e| at(e.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let outcome: Outcome = serde_json::from_str(&line).map_err(|e| at(e.to_string()))?;
        if let Some((model, _)) =
            outcome.models.iter().find(|(_, a)| a.quality.is_some_and(|q| !(0.0..=1.0).contains(&q)))
        {
            return Err(at(format!("the quality of `{model}` is not in [0, 1]")));
        }
        if outcome.weight.is_some_and(|weight| !(weight > 0.0 && weight.is_finite())) {
            return Err(at("its weight is not above 0".to_owned()));
        }
        if !seen.insert(outcome.id.clone()) {
            return Err(at(format!("id `{}` appears twice", outcome.id)));
        }
        outcomes.push(outcome);
    }
    if outcomes.is_empty() {
        return Err(Error::data(format!("read outcomes {name}: the file has no rows")));
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_ignored_and_faults_name_the_line() {
        let ok = r#"{"id":"1","task":"t","prompt":"p","new":1,"models":{"m":{"quality":1.0,"more":2}}}"#;
        assert_eq!(read("f", ok.as_bytes()).expect("valid")[0].models["m"].quality, Some(1.0));
        for (bad, says) in [
            (format!("{ok}\n{{"), "line 2"),
            (format!("{ok}\n\n{ok}"), "appears twice"),
            (ok.replace("1.0", "1.5"), "not in [0, 1]"),
            (ok.replace("\"new\"", "\"weight\":0,\"new\""), "not above 0"),
            (String::new(), "no rows"),
        ] {
            let error = read("f", bad.as_bytes()).expect_err("invalid").to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
