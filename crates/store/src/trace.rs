//! The trace: one row for every request, and what is learned about it afterwards.

use serde::{Deserialize, Serialize};
use understudy_core::{Confidence, ModelName, Money, TaskName, Timestamp, TraceId, Usage, task::Mode};

/// The way a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// The small model answered.
    Local,
    /// The small model was asked, the gate refused, the large one answered.
    Escalated,
    /// The large model was asked at once.
    Large,
    /// Nobody answered.
    None,
}

impl Route {
    /// Every way, for tables and filters.
    pub const ALL: [Route; 4] = [Self::Local, Self::Escalated, Self::Large, Self::None];

    /// The name in the store, metrics and headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Escalated => "escalated",
            Self::Large => "large",
            Self::None => "none",
        }
    }

    /// Reads the name back.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|route| route.as_str() == name)
    }
}

/// How a request ended, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The whole answer was handed over.
    Answered,
    /// An error was handed over; the kind is in [`Trace::error`].
    Failed,
    /// The client left first.
    ClientLeft,
    /// The upstream broke off inside a stream.
    BrokenOff,
}

impl Ending {
    /// Every ending, for tables and filters.
    pub const ALL: [Ending; 4] = [Self::Answered, Self::Failed, Self::ClientLeft, Self::BrokenOff];

    /// The name in the store and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::ClientLeft => "client_left",
            Self::BrokenOff => "broken_off",
        }
    }

    /// Reads the name back.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ending| ending.as_str() == name)
    }
}

/// One model's part in a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The model that was asked.
    pub model: ModelName,
    /// Content hash of its artifact, for a model in this process.
    pub artifact: Option<String>,
    /// The answer's text, by the text policy.
    pub text: Option<String>,
    /// The label read out of the answer, for a classification task.
    pub label: Option<String>,
    /// Calibrated confidence: the gate's where one judged, else the model's own.
    pub confidence: Option<Confidence>,
    /// Content hash of the fitted gate that gave the confidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// The model's own confidence, where a gate judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_confidence: Option<Confidence>,
    /// Log-probability of each token of a small model's answer, to a thousandth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_logprobs: Option<Vec<f64>>,
    /// Tokens.
    pub usage: Usage,
    /// Price of the call; `None` when no price is known. Never a silent zero.
    pub cost: Option<Money>,
    /// Time in the model or at the upstream, in microseconds.
    pub latency_us: u64,
    /// Label of the error kind, when the call failed.
    pub error: Option<String>,
}

/// One request. Written once, before its answer is acknowledged; `audit` and `feedback` arrive later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Identifier, also in the `x-understudy-trace` header.
    #[serde(with = "trace_id_text")]
    pub id: TraceId,
    /// Arrival.
    pub at: Timestamp,
    /// API surface: `chat`, `embeddings`.
    pub api: String,
    /// The model name that the client wrote.
    pub asked: ModelName,
    /// The task it belongs to.
    pub task: Option<TaskName>,
    /// The task's mode at that time.
    pub mode: Option<Mode>,
    /// The way it took.
    pub route: Route,
    /// Why it took it: a short fixed phrase from `route`.
    pub reason: String,
    /// The small model's part.
    pub small: Option<Call>,
    /// The large model's part, for a reply, not for an audit.
    pub large: Option<Call>,
    /// Certificate in force.
    pub certificate: Option<String>,
    /// Its threshold.
    pub threshold: Option<Confidence>,
    /// Probability with which this request was to be audited, when it was kept local under a certificate.
    pub audit_probability: Option<f64>,
    /// Whether the draw said so.
    pub audited: bool,
    /// The large model's answer to an audited or shadowed request, when it has arrived. In shadow mode, the small
    /// model's.
    pub audit: Option<Call>,
    /// Whether the evidence agreed with the reply: the audit of a kept answer, or the shadow beside the large one's.
    pub agreed: Option<bool>,
    /// The right label, from feedback.
    pub gold: Option<String>,
    /// Streamed or whole.
    pub streamed: bool,
    /// How it ended.
    pub ending: Ending,
    /// HTTP status.
    pub status: u16,
    /// Label of the error kind.
    pub error: Option<String>,
    /// Time before the first model was asked, in microseconds.
    pub queue_us: u64,
    /// Time from arrival to the first byte of the answer, in microseconds.
    pub first_byte_us: Option<u64>,
    /// Time from arrival to the commit of this row, in microseconds.
    pub total_us: u64,
    /// The text that the task's rule cut out, by the text policy.
    pub input: Option<String>,
    /// The request's messages as JSON, by the text policy.
    pub request: Option<String>,
    /// SHA-256 of the input or, without a task, of the messages: splits and duplicates need no texts.
    pub input_hash: String,
}

impl Trace {
    /// What the request cost so far, audit included; `None` as soon as one part has no known price.
    #[must_use]
    pub fn cost(&self) -> Option<Money> {
        [&self.small, &self.large, &self.audit].into_iter().flatten().map(|call| call.cost).sum()
    }

    /// What the small model said, whether for the reply or beside it (shadow mode).
    #[must_use]
    pub fn small_part(&self) -> Option<&Call> {
        self.small.as_ref().or(if self.large.is_some() { self.audit.as_ref() } else { None })
    }

    /// What the large model said, whether for the reply or as an audit.
    #[must_use]
    pub fn large_part(&self) -> Option<&Call> {
        self.large.as_ref().or(if self.small.is_some() { self.audit.as_ref() } else { None })
    }

    /// The call whose answer the client got.
    #[must_use]
    pub fn reply(&self) -> Option<&Call> {
        match self.route {
            Route::Local => self.small.as_ref(),
            Route::Escalated | Route::Large => self.large.as_ref(),
            Route::None => None,
        }
    }
}

mod trace_id_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use understudy_core::TraceId;

    pub(super) fn serialize<S: Serializer>(id: &TraceId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TraceId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        TraceId::parse(&text).map_err(D::Error::custom)
    }
}
