//! A fitted gate in front of live answers: whether what it reads is there, what it says, and the identity to which a
//! certificate is bound.
//!
//! `serve` and the certification of traffic judge through [`FittedGate::judge_answer`], replay through
//! [`FittedGate::judge`]; both read the same signals from the same evidence.

use super::{
    fitted::FittedGate,
    signals::{Evidence, Said, Signal},
};
use understudy_core::{Answer, Confidence, Error, Request, Result, Role, TaskSpec, hash::sha256_hex};

/// What a small model tells about its own answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    /// A calibrated confidence: a classifier of ours.
    Confidence,
    /// Log-probabilities of the tokens: a generative model.
    Tokens,
    /// Both: a generative model here that chooses among the task's labels by their probability.
    Choice,
}

impl Tells {
    /// Whether answers come with log-probabilities of their tokens.
    #[must_use]
    pub fn tokens(self) -> bool {
        self != Self::Confidence
    }

    /// Whether a running gateway can read this signal of such a model's answers.
    #[must_use]
    pub fn offers(self, signal: Signal) -> bool {
        match signal {
            Signal::Confidence => self != Self::Tokens,
            Signal::LogProbability
            | Signal::Doubt
            | Signal::Probability
            | Signal::TokenMean
            | Signal::TokenLowest
            | Signal::TokenTenth => self.tokens(),
            // Other models are not asked, and no classifier hands these out.
            Signal::Margin
            | Signal::Distance
            | Signal::Agreement(_)
            | Signal::Support(_)
            | Signal::AgreementShare
            | Signal::Unanimous
            | Signal::SupportMean => false,
            _ => true,
        }
    }
}

/// Log-probabilities of an answer's tokens as gates read them and traces keep them: rounded to a thousandth, so that
/// what is read back from a trace is what was judged.
#[must_use]
pub fn token_logprobs(answer: &Answer) -> Option<Vec<f64>> {
    let tokens = answer.logprobs.as_ref().filter(|tokens| !tokens.is_empty())?;
    Some(tokens.iter().map(|token| (f64::from(token.logprob) * 1000.0).round() / 1000.0).collect())
}

/// The user's text of a request, as a gate reads it: the task's input, else the last message of the user.
#[must_use]
pub fn prompt(request: &Request) -> &str {
    request.input.as_deref().or_else(|| request.last_text(&Role::User)).unwrap_or_default()
}

impl FittedGate {
    /// Whether a running gateway can give it every signal that it reads.
    ///
    /// # Errors
    /// `Invalid`, naming the first signal that is missing.
    pub fn check_served(&self, tells: Tells) -> Result<()> {
        let file = self.file();
        let Some(column) = file.columns.iter().find(|column| !tells.offers(column.signal)) else { return Ok(()) };
        let why = match column.signal {
            Signal::Confidence => "the model gives none of its own",
            Signal::Margin | Signal::Distance => "models do not tell it with their answers",
            Signal::Agreement(_)
            | Signal::Support(_)
            | Signal::AgreementShare
            | Signal::Unanimous
            | Signal::SupportMean => "other models are not asked while serving",
            _ => "a classifier writes no tokens",
        };
        Err(Error::invalid(format!(
            "use the gate: it reads the signal `{}`, which a running gateway does not have ({why}); fit it on the \
             task's own traffic with `understudy pilot replay --task NAME --gate auto --save-gate FILE`",
            column.signal.name(&file.helpers)
        )))
    }

    /// The identity of a small model behind this gate. A certificate speaks about the gate's confidences, so it is bound
    /// to both: another gate is another identity, which holds no certificate.
    #[must_use]
    pub fn bind(&self, small_hash: &str) -> String {
        sha256_hex(format!("{small_hash}\n{}", self.hash()).as_bytes())
    }

    /// Confidence in keeping a live answer of the small model. `None`: do not keep it.
    #[must_use]
    pub fn judge_answer(&self, task: &TaskSpec, request: &Request, answer: &Answer) -> Option<Confidence> {
        let tokens = token_logprobs(answer);
        let label = answer.label.as_deref().or_else(|| task.output.read(&answer.text, &task.labels));
        let said = Said {
            answer: if task.labels.is_empty() { Some(answer.text.as_str()) } else { label },
            text: Some(&answer.text),
            logconf: tokens.as_ref().map(|tokens| tokens.iter().sum()),
            confidence: answer.confidence.map(Confidence::get),
            tokens: tokens.as_deref(),
            ..Said::default()
        };
        self.judge(Evidence { prompt: prompt(request), said, helpers: &[] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gate::fitted::{Column, GateFile, Learner, Member, Presence},
        plan::tests::{request, task},
    };
    use understudy_core::{RecordedAnswer, TokenLogprob, Usage};
    use understudy_learn::isotonic::Isotonic;

    fn gate(signals: &[Signal]) -> FittedGate {
        let column = |&signal: &Signal| Column { signal, presence: Presence::Always, mean: 0.0, scale: 1.0 };
        let member = |column: usize| Member {
            name: "raw".into(),
            learner: Learner::Raw { column, sign: 1.0 },
            mean: 0.0,
            scale: 1.0,
            weight: 1.0,
        };
        FittedGate::checked(GateFile {
            version: GateFile::version(),
            small: "s".into(),
            large: "l".into(),
            helpers: vec!["h".into()],
            n: 10,
            columns: signals.iter().map(column).collect(),
            members: (0..signals.len()).map(member).collect(),
            calibration: Isotonic::fit([(-2.0, 0.1, 1.0), (2.0, 0.9, 1.0)]),
        })
        .expect("sound")
    }

    #[test]
    fn a_signal_that_nobody_tells_while_serving_is_refused_by_its_name() {
        for (signal, tells, name) in [
            (Signal::Agreement(0), Tells::Tokens, "agreement with h"),
            (Signal::AgreementShare, Tells::Confidence, "agreement share"),
            (Signal::Confidence, Tells::Tokens, "`confidence`"),
            (Signal::TokenTenth, Tells::Confidence, "token tenth"),
            (Signal::Margin, Tells::Confidence, "margin"),
        ] {
            let error = gate(&[Signal::Length, signal]).check_served(tells).expect_err("refused").to_string();
            assert!(error.contains(name) && error.contains("--save-gate"), "{error}");
        }
        assert!(gate(&[Signal::Confidence, Signal::PromptLength]).check_served(Tells::Confidence).is_ok());
        assert!(gate(&[Signal::TokenLowest, Signal::Refusal]).check_served(Tells::Tokens).is_ok());
        assert!(gate(&[Signal::Confidence, Signal::TokenLowest]).check_served(Tells::Choice).is_ok());
    }

    #[test]
    fn a_live_answer_is_judged_as_its_recording() {
        let gate = gate(&[Signal::TokenMean, Signal::Doubt, Signal::PromptLength, Signal::AnswerWords]);
        let mut answer = Answer::text("s".into(), "spam.", Usage::default());
        let token = |logprob| TokenLogprob { bytes: Vec::new(), logprob, top: Vec::new() };
        answer.logprobs = Some([-0.123_456, -1.5].map(token).to_vec());
        let live = gate.judge_answer(&task(), &request(), &answer).expect("nothing is missing");
        let tokens = token_logprobs(&answer);
        let recorded = RecordedAnswer {
            answer: Some("spam".into()),
            text: Some("spam.".into()),
            token_logprobs: tokens,
            ..RecordedAnswer::default()
        };
        let written = serde_json::to_string(&recorded).expect("plain data");
        let read: RecordedAnswer = serde_json::from_str(&written).expect("own form");
        let (request, said) = (request(), Said::recorded(&read));
        let again = gate.judge(Evidence { prompt: prompt(&request), said, helpers: &[] });
        assert_eq!(again, Some(live));
        answer.logprobs = None;
        assert_eq!(gate.judge_answer(&task(), &request, &answer), None, "without its signals nothing is kept");
    }

    #[test]
    fn another_gate_or_another_model_is_another_identity() {
        let (one, other) = (gate(&[Signal::TokenMean]), gate(&[Signal::TokenLowest]));
        assert_ne!(one.bind("a"), other.bind("a"));
        assert_ne!(one.bind("a"), one.bind("b"));
        assert_ne!(one.bind("a"), "a");
        assert_eq!(one.bind("a"), FittedGate::from_json(&one.to_json()).expect("own form").bind("a"));
    }
}
