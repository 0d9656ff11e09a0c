//! The trace of a request while it is being written.

use crate::{
    client::Meta,
    state::{Model, Shared},
    texts::{TextPolicy, text_hash},
};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use understudy_core::{Answer, Confidence, Error, ErrorKind, Money, Price, Request, Result, TaskSpec, TraceId, Usage};
use understudy_core::{Timestamp, request::Delivery};
use understudy_route::{Decision, Tier};
use understudy_store::{Call, Ending, Route, Trace};

/// What one model's answer meant for the trace.
pub(crate) fn call(
    model: &Model,
    spec: Option<&TaskSpec>,
    result: Result<&Answer, &Error>,
    took: Duration,
    texts: TextPolicy,
) -> Call {
    let mut call = Call {
        model: model.backend.name().clone(),
        artifact: None,
        text: None,
        label: None,
        confidence: None,
        gate: None,
        own_confidence: None,
        token_logprobs: None,
        usage: Usage::default(),
        cost: None,
        latency_us: micros(took),
        error: None,
    };
    match result {
        Ok(answer) => {
            call.text = texts.apply(&answer.text);
            call.label = answer.label.clone().or_else(|| {
                let spec = spec.filter(|spec| !spec.labels.is_empty())?;
                spec.output.read(&answer.text, &spec.labels).map(str::to_owned)
            });
            call.confidence = answer.confidence;
            call.usage = answer.usage;
            call.cost = model.price.map(|price| price.cost(&answer.usage));
        }
        Err(error) => {
            call.error = Some(error.kind().label().to_owned());
            // A refused call is not billed. Whether one that was given up is, nobody knows.
            let given_up = matches!(error.kind(), ErrorKind::Deadline | ErrorKind::Cancelled);
            call.cost = model.price.filter(|price| !given_up || *price == Price::LOCAL).map(|_| Money::ZERO);
        }
    }
    call
}

/// Whether two answers to the same request say the same. An answer of the large model that names none of the task's
/// labels disagrees with every label; a call that failed says nothing.
pub(crate) fn agreement(spec: &TaskSpec, replied: Option<&Call>, evidence: &Call) -> Option<bool> {
    let replied = replied.filter(|call| call.error.is_none())?;
    if evidence.error.is_some() {
        return None;
    }
    if spec.labels.is_empty() {
        return Some(replied.text.as_deref()?.trim() == evidence.text.as_deref()?.trim());
    }
    Some(replied.label.is_some() && replied.label == evidence.label)
}

/// A trace in the making.
pub(crate) struct Draft {
    trace: Trace,
    arrived: Duration,
    first_byte_us: AtomicU64,
}

impl Draft {
    pub(crate) fn new(shared: &Shared, request: &Request, arrived: Duration) -> Self {
        let waited = shared.clock.monotonic().saturating_sub(arrived);
        let at = Timestamp(shared.clock.now().0 - i64::try_from(waited.as_millis()).unwrap_or(0));
        let trace = Trace {
            id: request.id,
            at,
            api: "chat".to_owned(),
            asked: request.model.clone(),
            task: None,
            mode: None,
            route: Route::None,
            reason: String::new(),
            small: None,
            large: None,
            certificate: None,
            threshold: None,
            audit_probability: None,
            audited: false,
            audit: None,
            agreed: None,
            gold: None,
            streamed: request.delivery == Delivery::Stream,
            ending: Ending::Failed,
            status: 0,
            error: None,
            queue_us: 0,
            first_byte_us: None,
            total_us: 0,
            input: None,
            request: None,
            input_hash: String::new(),
        };
        Self { trace, arrived, first_byte_us: AtomicU64::new(0) }
    }

    /// A draft for an API other than chat, whose rows have no task.
    pub(crate) fn api(mut self, api: &str) -> Self {
        api.clone_into(&mut self.trace.api);
        self
    }

    pub(crate) fn id(&self) -> TraceId {
        self.trace.id
    }

    pub(crate) fn arrived(&self) -> Duration {
        self.arrived
    }

    pub(crate) fn task(&mut self, spec: &TaskSpec, request: &Request) {
        self.trace.task = Some(spec.name.clone());
        self.trace.mode = Some(spec.mode);
        self.trace.input_hash = request.input.as_deref().map(text_hash).unwrap_or_default();
    }

    pub(crate) fn messages(&mut self, texts: TextPolicy, request: &Request) {
        let messages: Vec<_> = request
            .messages
            .iter()
            .filter_map(|m| Some(serde_json::json!({ "role": m.role.as_str(), "content": texts.apply(&m.text)? })))
            .collect();
        self.trace.input = request.input.as_deref().and_then(|text| texts.apply(text));
        if texts != TextPolicy::Dropped {
            self.trace.request = Some(serde_json::Value::from(messages).to_string());
        }
        if self.trace.input_hash.is_empty() {
            let all: Vec<&str> = request.messages.iter().map(|m| m.text.as_str()).collect();
            self.trace.input_hash = text_hash(&all.join("\u{0}"));
        }
    }

    pub(crate) fn queued(&mut self, shared: &Shared) {
        self.trace.queue_us = self.since(shared);
    }

    pub(crate) fn first_byte(&self, shared: &Shared) {
        self.first_byte_us.store(self.since(shared).max(1), Ordering::Relaxed);
    }

    pub(crate) fn route(&mut self, route: Route) {
        self.trace.route = route;
    }

    pub(crate) fn call(&mut self, tier: Tier, call: Call) {
        match tier {
            Tier::Small => self.trace.small = Some(call),
            Tier::Large => self.trace.large = Some(call),
        }
    }

    pub(crate) fn decision(&mut self, decision: &Decision) {
        decision.reason.as_str().clone_into(&mut self.trace.reason);
        self.trace.certificate = decision.certificate.as_ref().map(|c| c.id.clone());
        self.trace.threshold = decision.certificate.as_ref().map(|c| c.threshold);
        self.trace.audit_probability = decision.audit_probability;
        self.trace.audited = decision.audited;
    }

    /// The call whose answer was handed over.
    pub(crate) fn replied(&self) -> Option<&Call> {
        match self.trace.route {
            Route::Local if self.trace.small.is_some() => self.trace.small.as_ref(),
            Route::None => None,
            _ => self.trace.large.as_ref(),
        }
    }

    pub(crate) fn meta(&self) -> Meta {
        let calls = [&self.trace.small, &self.trace.large];
        let cost: Option<Money> = calls.into_iter().flatten().map(|call| call.cost).sum();
        Meta {
            trace: self.trace.id,
            task: self.trace.task.clone(),
            route: self.trace.route,
            model: None,
            confidence: self.trace.small.as_ref().and_then(|call: &Call| -> Option<Confidence> { call.confidence }),
            cost,
        }
    }

    /// The finished row.
    pub(crate) fn trace(&mut self, shared: &Shared, ending: Ending, status: u16, error: Option<&Error>) -> Trace {
        self.trace.ending = ending;
        self.trace.status = status;
        self.trace.error = error.map(|error| error.kind().label().to_owned());
        self.trace.total_us = self.since(shared);
        let first = self.first_byte_us.load(Ordering::Relaxed);
        self.trace.first_byte_us = match (first, ending) {
            (0, Ending::Answered) => Some(self.trace.total_us),
            (0, _) => None,
            (us, _) => Some(us),
        };
        self.trace.clone()
    }

    fn since(&self, shared: &Shared) -> u64 {
        micros(shared.clock.monotonic().saturating_sub(self.arrived))
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
