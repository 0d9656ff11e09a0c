//! Asking a task's small model: as the task needs it asked, and judged by the gate where one stands before its answers.
//!
//! A reply and a shadow go the same way, so that what is recorded in shadow is what would have been decided live.

use crate::{record, state::SmallModel, texts::TextPolicy};
use std::time::Duration;
use understudy_core::{
    Answer, Confidence, Place, Request, Result, TaskSpec,
    request::{Delivery, OutputFormat},
};
use understudy_route::gate::served::token_logprobs;
use understudy_store::Call;

/// An answer with what a gate made of it.
pub(crate) struct Judged {
    /// The answer; its confidence is the gate's, where there is one.
    pub(crate) answer: Answer,
    own_confidence: Option<Confidence>,
    token_logprobs: Option<Vec<f64>>,
}

impl Judged {
    /// An answer that no gate looks at.
    pub(crate) fn bare(answer: Answer) -> Self {
        Self { answer, own_confidence: None, token_logprobs: None }
    }
}

impl SmallModel {
    /// The request as this model is asked: whole, with the log-probabilities of its tokens if it has such, and held to
    /// the task's labels if it can be.
    pub(crate) fn request(&self, task: &TaskSpec, request: &Request) -> Request {
        let mut request = request.clone();
        request.delivery = Delivery::Whole;
        if self.tells.tokens() {
            request.sampling.logprobs.get_or_insert(0);
            let ours = self.model.backend.capabilities().place == Place::Local;
            if let (true, OutputFormat::Text, Some(texts)) = (ours, &request.format, task.output.texts(&task.labels)) {
                request.format = OutputFormat::OneOf(texts);
            }
        }
        request
    }

    /// Lets the gate judge an answer to `request`, which the client sent.
    pub(crate) fn judge(&self, task: &TaskSpec, request: &Request, mut answer: Answer) -> Judged {
        let own_confidence = answer.confidence;
        let token_logprobs = if self.tells.tokens() { token_logprobs(&answer) } else { None };
        if let Some(gate) = &self.gate {
            answer.confidence = gate.judge_answer(task, request, &answer);
        }
        if request.sampling.logprobs.is_none() {
            answer.logprobs = None;
        }
        Judged { answer, own_confidence, token_logprobs }
    }

    /// The call for the trace.
    pub(crate) fn call(&self, task: &TaskSpec, judged: &Result<Judged>, took: Duration, texts: TextPolicy) -> Call {
        let answer = judged.as_ref().map(|judged| &judged.answer);
        let mut call = record::call(&self.model, Some(task), answer, took, texts);
        call.artifact = Some(self.hash.clone());
        if let (Some(gate), Ok(judged)) = (&self.gate, judged) {
            call.gate = Some(gate.hash().to_owned());
            call.own_confidence = judged.own_confidence;
        }
        call.token_logprobs = judged.as_ref().ok().and_then(|judged| judged.token_logprobs.clone());
        call
    }
}
