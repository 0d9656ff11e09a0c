//! Recorded traffic as outcomes: requests that both models answered, divided as everything is that learns from traffic.
//! What fits a router or a gate is on one side, what measures and certifies it on the other.

use crate::{
    deployed::Deployed,
    learning::{row_name, trains},
};
use understudy_core::{Confidence, Error, Outcome, RecordedAnswer, Result, TaskSpec};
use understudy_pilot::Item;
use understudy_route::gate::{
    FittedGate,
    signals::{Evidence, Said},
};
use understudy_serve::texts::TextPolicy;
use understudy_store::{Call, PairRow, Route, Store};

/// A request that both models answered.
pub(crate) struct Pair {
    /// As an outcome. Where no feedback says what is right, the large model's answer counts as right.
    pub(crate) outcome: Outcome,
    row: PairRow,
}

/// The pairs of a task's small and large model, divided.
pub(crate) struct Pairs {
    /// The small model's name in the outcomes.
    pub(crate) small: String,
    pub(crate) train: Vec<Pair>,
    pub(crate) certify: Vec<Pair>,
}

impl Pairs {
    /// Everything recorded of this small and this large model.
    ///
    /// # Errors
    /// `Invalid` when nothing is; whatever keeps the store from being read.
    pub(crate) async fn of(store: &Store, spec: &TaskSpec, deployed: &Deployed) -> Result<Self> {
        let ours = |row: &PairRow| {
            row.small.artifact.as_ref() == Some(&deployed.hash) && spec.large.as_ref() == Some(&row.large.model)
        };
        let rows: Vec<PairRow> = store.pair_rows(&spec.name).await?.into_iter().filter(ours).collect();
        if rows.is_empty() {
            return Err(Error::invalid(format!(
                "read the traffic of task `{}`: `{}` and its large model have answered no recorded request both; let the \
                 task run in mode \"shadow\" for a while",
                spec.name,
                deployed.name()
            )));
        }
        let small = rows[0].small.model.to_string();
        // An artifact keeps its hash and its name together; a copy under another name would split the outcomes.
        let rows = rows.into_iter().filter(|row| row.small.model.as_str() == small);
        let pair = |row: PairRow| Pair { outcome: outcome(spec, &row), row };
        let (train, certify) =
            rows.map(pair).partition(|pair| trains(&row_name(&pair.row.input_hash, pair.row.occurrence)));
        Ok(Self { small, train, certify })
    }
}

impl Pair {
    /// The text that was asked about.
    pub(crate) fn input(&self) -> &str {
        &self.row.input
    }

    /// Whether both models were asked whatever the small one said: only such rows are as the traffic to come.
    pub(crate) fn is_shadowed(&self) -> bool {
        self.row.route == Route::Large
    }

    /// Whether a person or the application said what is right.
    pub(crate) fn has_gold(&self) -> bool {
        self.row.gold.is_some()
    }

    /// As an item of a certificate: the gate's confidence and what keeping the answer would have lost. The confidence is
    /// the recorded one where this gate gave it, else it is worked out from the recorded answer, which needs its text as
    /// it was.
    pub(crate) fn item(&self, gate: &FittedGate, regret: bool, texts: TextPolicy) -> Option<Item> {
        let small = &self.outcome.models[self.row.small.model.as_str()];
        let confidence = match self.row.small.gate.as_deref() {
            Some(hash) if hash == gate.hash() => self.row.small.confidence,
            _ if texts == TextPolicy::Full => {
                gate.judge(Evidence { prompt: &self.outcome.prompt, said: Said::recorded(small), helpers: &[] })
            }
            _ => return None,
        };
        let large = &self.outcome.models[self.row.large.model.as_str()];
        let right = |answer: &RecordedAnswer| answer.quality >= Some(1.0);
        // Against gold only what the large model gets right can be lost; without it, every difference is.
        let loss_if_kept = !right(small) && (!regret || right(large));
        Some(Item { id: self.outcome.id.clone(), confidence: confidence.map(Confidence::get), loss_if_kept })
    }
}

fn outcome(spec: &TaskSpec, row: &PairRow) -> Outcome {
    let small = said(spec, &row.small);
    let large = said(spec, &row.large);
    let means =
        |a: Option<&str>, b: Option<&str>| f64::from(u8::from(a.is_some() && a.map(str::trim) == b.map(str::trim)));
    let (of_small, of_large) = match row.gold.as_deref() {
        Some(gold) => (means(small, Some(gold)), means(large, Some(gold))),
        None => (means(small, large), 1.0),
    };
    Outcome {
        id: row_name(&row.input_hash, row.occurrence),
        task: spec.name.to_string(),
        prompt: row.input.clone(),
        label: row.gold.clone(),
        weight: (row.probability < 1.0).then(|| 1.0 / row.probability),
        models: [
            (row.small.model.to_string(), recorded(spec, &row.small, of_small)),
            (row.large.model.to_string(), recorded(spec, &row.large, of_large)),
        ]
        .into(),
        ..Outcome::default()
    }
}

/// The answer in the task's vocabulary: its label, and where the task has no labels, its text.
fn said<'a>(spec: &TaskSpec, call: &'a Call) -> Option<&'a str> {
    if spec.labels.is_empty() { call.text.as_deref() } else { call.label.as_deref() }
}

fn recorded(spec: &TaskSpec, call: &Call, quality: f64) -> RecordedAnswer {
    // A gate's confidence is no signal for a gate.
    let confidence = if call.gate.is_some() { call.own_confidence } else { call.confidence };
    RecordedAnswer {
        quality: Some(quality),
        answer: said(spec, call).map(str::to_owned),
        text: call.text.clone(),
        logconf: call.token_logprobs.as_ref().map(|tokens| tokens.iter().sum()),
        token_logprobs: call.token_logprobs.clone(),
        confidence: confidence.map(Confidence::get),
        cost_usd: call.cost.map(understudy_core::Money::usd),
        latency_ms: Some(call.latency_us as f64 / 1000.0),
        tokens_in: Some(call.usage.input_tokens),
        tokens_out: Some(call.usage.output_tokens),
        ..RecordedAnswer::default()
    }
}
