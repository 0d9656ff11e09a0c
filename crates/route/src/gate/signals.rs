//! Signals of an answer: what can be known about it before anybody has judged it. One definition for recorded and for
//! live answers, so that a gate sees in traffic what it was fitted on.

use super::text;
use serde::{Deserialize, Serialize};
use understudy_core::RecordedAnswer;

/// What one model said, and how sure it was. Absent means unknown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said<'a> {
    /// The answer in the task's vocabulary.
    pub answer: Option<&'a str>,
    /// The full text.
    pub text: Option<&'a str>,
    /// Log-probability of the answer (natural logarithm).
    pub logconf: Option<f64>,
    /// Share of votes, or a probability.
    pub confidence: Option<f64>,
    /// Probability of the likeliest answer less that of the second.
    pub margin: Option<f64>,
    /// Distance of the input to the nearest training input.
    pub distance: Option<f64>,
    /// Characters of the full text, where the text itself was not kept.
    pub characters: Option<u64>,
    /// Log-probability of each token.
    pub tokens: Option<&'a [f64]>,
}

impl<'a> Said<'a> {
    /// From a recording.
    #[must_use]
    pub fn recorded(recorded: &'a RecordedAnswer) -> Self {
        Self {
            answer: recorded.answer.as_deref(),
            text: recorded.text.as_deref(),
            logconf: recorded.logconf.or_else(|| Some(recorded.token_logprobs.as_ref()?.iter().sum())),
            confidence: recorded.confidence,
            characters: recorded.out_chars,
            tokens: recorded.token_logprobs.as_deref().filter(|tokens| !tokens.is_empty()),
            ..Self::default()
        }
    }

    fn body(&self) -> Option<&'a str> {
        self.text.or(self.answer)
    }

    /// Certainty in [0, 1], from whatever there is.
    fn certainty(&self) -> Option<f64> {
        let finite = |value: f64| value.is_finite().then_some(value);
        self.confidence.or_else(|| Some(self.logconf?.min(0.0).exp())).and_then(finite)
    }
}

/// Everything a gate may look at.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The user's text.
    pub prompt: &'a str,
    /// The small model's answer.
    pub said: Said<'a>,
    /// What the helpers answered, in the gate's order; `None` where one was not asked or failed.
    pub helpers: &'a [Option<Said<'a>>],
}

/// One number about an answer. Helpers are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Share of votes, or a probability.
    Confidence,
    /// Log-probability.
    LogProbability,
    /// −ln(−log-probability): spreads answers that are nearly certain.
    Doubt,
    /// e to the log-probability.
    Probability,
    /// Probability of the likeliest answer less that of the second.
    Margin,
    /// Distance to the nearest training input.
    Distance,
    /// Mean log-probability of the tokens.
    TokenMean,
    /// The lowest.
    TokenLowest,
    /// The quantile at a tenth.
    TokenTenth,
    /// ln(1 + characters).
    Length,
    /// ln(1 + words of the answer).
    AnswerWords,
    /// Hedging words.
    Hedges,
    /// 1 when the model declines.
    Refusal,
    /// ln(1 + lines).
    Lines,
    /// ln(1 + numbers).
    Numbers,
    /// ln(1 + sentences): the steps of an explanation.
    Sentences,
    /// Share of words said before.
    Repetition,
    /// 1 when the text breaks off.
    BreaksOff,
    /// Claimed results, at most 5.
    Claims,
    /// 1 when they differ.
    Contradiction,
    /// 1 when the text is JSON.
    Json,
    /// 1 when no answer could be read from the text.
    NoAnswer,
    /// ln(1 + characters of the prompt).
    PromptLength,
    /// ln(1 + numbers in the prompt).
    PromptNumbers,
    /// Agreement with this helper, in [0, 1].
    Agreement(u16),
    /// This helper's certainty, counted against the answer as far as the helper disagrees; in [−1, 1].
    Support(u16),
    /// Mean agreement with all helpers.
    AgreementShare,
    /// 1 when all helpers agree.
    Unanimous,
    /// Mean support.
    SupportMean,
}

impl Signal {
    /// Every signal for so many helpers, in a fixed order.
    pub fn all(helpers: u16) -> impl Iterator<Item = Signal> {
        use Signal as S;
        let own = [
            S::Confidence,
            S::LogProbability,
            S::Doubt,
            S::Probability,
            S::Margin,
            S::Distance,
            S::TokenMean,
            S::TokenLowest,
            S::TokenTenth,
            S::Length,
            S::AnswerWords,
            S::Hedges,
            S::Refusal,
            S::Lines,
            S::Numbers,
            S::Sentences,
            S::Repetition,
            S::BreaksOff,
            S::Claims,
            S::Contradiction,
            S::Json,
            S::NoAnswer,
            S::PromptLength,
            S::PromptNumbers,
            S::AgreementShare,
            S::Unanimous,
            S::SupportMean,
        ];
        own.into_iter().chain((0..helpers).flat_map(|helper| [S::Agreement(helper), S::Support(helper)]))
    }

    /// A name for tables.
    #[must_use]
    pub fn name(self, helpers: &[String]) -> String {
        let of = |helper: u16| helpers.get(usize::from(helper)).map_or("?", String::as_str);
        match self {
            Self::Agreement(helper) => format!("agreement with {}", of(helper)),
            Self::Support(helper) => format!("support of {}", of(helper)),
            // The same order on another scale.
            Self::Doubt | Self::Probability => "log probability".to_owned(),
            other => {
                let written = serde_json::to_value(other).ok();
                written.as_ref().and_then(serde_json::Value::as_str).unwrap_or("signal").replace('_', " ")
            }
        }
    }
}

/// Reads signals from evidence; what several of them need is worked out once.
#[derive(Debug)]
pub struct Reader<'a> {
    evidence: Evidence<'a>,
    /// Agreement and certainty of each helper.
    helpers: Vec<Option<(f64, Option<f64>)>>,
}

impl<'a> Reader<'a> {
    /// Takes a look at the evidence.
    #[must_use]
    pub fn new(evidence: Evidence<'a>) -> Self {
        let stated = |said: &Said<'_>| said.answer.or(said.text).filter(|a| !a.trim().is_empty()).map(text::stated);
        let own = stated(&evidence.said);
        let helpers = evidence
            .helpers
            .iter()
            .map(|helper| {
                let helper = helper.as_ref()?;
                // Who gives no answer agrees with nobody.
                let agreement = match (&own, stated(helper)) {
                    (Some(own), Some(other)) => text::agreement(own, &other),
                    _ => 0.0,
                };
                Some((agreement, helper.certainty()))
            })
            .collect();
        Self { evidence, helpers }
    }

    /// The value of a signal; `None` where what it needs is unknown. Never infinite, never not a number.
    #[must_use]
    pub fn value(&self, signal: Signal) -> Option<f64> {
        self.read(signal).filter(|value| value.is_finite())
    }

    fn read(&self, signal: Signal) -> Option<f64> {
        let said = &self.evidence.said;
        let log = || said.logconf.map(|l| l.clamp(-100.0, 0.0));
        let body = || said.body();
        Some(match signal {
            Signal::Confidence => said.confidence?,
            Signal::LogProbability => log()?,
            Signal::Doubt => -(1e-6 - log()?).ln(),
            Signal::Probability => log()?.exp(),
            Signal::Margin => said.margin?,
            Signal::Distance => said.distance?,
            Signal::TokenMean => mean(said.tokens?.iter().copied())?,
            Signal::TokenLowest => quantile(said.tokens?, 0.0)?,
            Signal::TokenTenth => quantile(said.tokens?, 0.1)?,
            Signal::Length => match said.characters {
                Some(characters) => (characters as f64).ln_1p(),
                None => log_count(body()?.chars().count()),
            },
            Signal::AnswerWords => log_count(said.answer?.split_whitespace().count()),
            Signal::Hedges => text::hedges(body()?) as f64,
            Signal::Refusal => flag(text::refuses(body()?)),
            Signal::Lines => log_count(body()?.matches('\n').count()),
            Signal::Numbers => log_count(text::numbers(body()?).count()),
            Signal::Sentences => log_count(text::sentences(body()?)),
            Signal::Repetition => text::repetition(body()?),
            Signal::BreaksOff => flag(text::breaks_off(body()?)),
            Signal::Claims => text::claims(body()?).count().min(5) as f64,
            Signal::Contradiction => flag(text::contradicts_itself(body()?)),
            Signal::Json => flag(text::is_json(body()?)),
            Signal::NoAnswer => flag(said.answer.is_none_or(|answer| answer.trim().is_empty())),
            Signal::PromptLength => log_count(self.evidence.prompt.chars().count()),
            Signal::PromptNumbers => log_count(text::numbers(self.evidence.prompt).count()),
            Signal::Agreement(helper) => self.helper(helper)?.0,
            Signal::Support(helper) => support(self.helper(helper)?)?,
            Signal::AgreementShare => mean(self.helpers.iter().flatten().map(|helper| helper.0))?,
            Signal::Unanimous => {
                mean(self.helpers.iter().flatten().map(|helper| helper.0))?;
                flag(self.helpers.iter().flatten().all(|helper| helper.0 > 0.99))
            }
            Signal::SupportMean => mean(self.helpers.iter().flatten().filter_map(|&helper| support(helper)))?,
        })
    }

    fn helper(&self, index: u16) -> Option<(f64, Option<f64>)> {
        self.helpers.get(usize::from(index)).copied().flatten()
    }
}

fn support((agreement, certainty): (f64, Option<f64>)) -> Option<f64> {
    Some(certainty? * (2.0 * agreement - 1.0))
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((q * sorted.len().saturating_sub(1) as f64) as usize).copied()
}

fn log_count(count: usize) -> f64 {
    (count as f64).ln_1p()
}

fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_and_support_count_only_helpers_that_answered() {
        let said = |answer, confidence| Said { answer: Some(answer), confidence, ..Said::default() };
        let helpers = [Some(said("Paris.", Some(0.9))), Some(said("Rome", Some(0.5))), None, Some(said("paris", None))];
        let reader = Reader::new(Evidence { prompt: "Capital?", said: said("paris", Some(0.7)), helpers: &helpers });
        let value = |signal| reader.value(signal);
        assert_eq!(value(Signal::Agreement(0)), Some(1.0));
        assert_eq!(value(Signal::Agreement(1)), Some(0.0));
        assert_eq!(
            (value(Signal::Agreement(2)), value(Signal::Support(3)), value(Signal::Agreement(9))),
            (None, None, None)
        );
        assert!(value(Signal::AgreementShare).is_some_and(|v| (v - 2.0 / 3.0).abs() < 1e-15));
        assert!(value(Signal::SupportMean).is_some_and(|v| (v - 0.2).abs() < 1e-15));
        assert_eq!(value(Signal::Unanimous), Some(0.0));
    }

    #[test]
    fn every_signal_of_any_evidence_is_a_number_or_absent() {
        let tokens = [f64::NEG_INFINITY, -0.1];
        let strange = Said {
            answer: Some(""),
            text: Some("\u{0}####"),
            logconf: Some(f64::NAN),
            confidence: Some(f64::INFINITY),
            tokens: Some(&tokens),
            ..Said::default()
        };
        for said in [strange, Said::default(), Said { logconf: Some(f64::NEG_INFINITY), ..strange }] {
            let helpers = [Some(strange), None];
            let reader = Reader::new(Evidence { prompt: "", said, helpers: &helpers });
            assert!(Signal::all(3).all(|signal| reader.value(signal).is_none_or(f64::is_finite)));
        }
    }

    #[test]
    fn a_signal_keeps_its_name_in_files() {
        let json = serde_json::to_string(&[Signal::TokenTenth, Signal::Agreement(2)]).expect("plain data");
        assert_eq!(json, r#"["token_tenth",{"agreement":2}]"#);
        assert_eq!(Signal::Agreement(1).name(&["a".into(), "b".into()]), "agreement with b");
        assert_eq!(Signal::TokenTenth.name(&[]), "token tenth");
    }
}
