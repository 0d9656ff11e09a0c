//! One request's way through the gateway: find the task, plan, drive the cascade, commit the trace, reply, and gather
//! evidence afterwards.
//!
//! Each request runs in a task of its own, so that a client that leaves neither loses its trace nor leaves an upstream
//! running: the client's side is watched while a model is asked, and dropping the model's future cancels its work.
//!
//! Invariant: the trace is committed before the last byte of an answer is handed over.

use crate::{
    client::{Client, Item, Meta, Reply},
    record::{self, Draft},
    small::Judged,
    state::{Model, Shared, SmallModel, Snapshot, Task},
};
use futures_util::{FutureExt, StreamExt};
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::sync::oneshot;
use understudy_core::{
    Answer, Error, ErrorKind, Event, Mode, ModelName, Place, Request, Result, Role, TaskSpec, Usage,
    hash::unit_interval, request::Delivery,
};
use understudy_route::{
    Cascade, Large, Plan, Reason, Small, Step, Target, Tier, constraints,
    gate::served::prompt,
    plan::{self, Shadowing},
    target,
};
use understudy_store::{Audit, Call, Ending, Route};

/// Starts a request. The receiver yields the reply's head: a whole answer, the start of a stream, or an error.
/// Dropping it means that the client has left.
pub(crate) fn start(shared: &Arc<Shared>, request: Request, arrived: Duration) -> oneshot::Receiver<Result<Reply>> {
    let (client, head) = Client::new();
    let snapshot = shared.snapshot();
    let exchange = Exchange { shared: shared.clone(), snapshot, draft: Draft::new(shared, &request, arrived), client };
    shared.work.spawn(exchange.run(request));
    head
}

/// The models and rules that one request may use.
struct Parts {
    task: Option<Task>,
    small: Option<SmallModel>,
    large: Option<Model>,
    plan: Plan,
}

struct Exchange {
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
    draft: Draft,
    client: Client,
}

impl Exchange {
    async fn run(mut self, mut request: Request) {
        let parts = match self.parts(&mut request).await {
            Ok(parts) => parts,
            Err(error) => return self.fail(error, Ending::Failed).await,
        };
        self.draft.queued(&self.shared);
        let draw = unit_interval(&format!("audit {} {}", self.shared.seed.0, request.id));
        let (mut cascade, mut step) = Cascade::start(parts.plan.clone(), draw);
        let mut last = None;
        loop {
            step = match step {
                Step::Ask(tier) => {
                    let outcome = self.ask(tier, &parts, &request).await;
                    // A local model that the client named is recorded as what it is.
                    let part = if route_of(tier, &parts) == Route::Local { Tier::Small } else { tier };
                    self.draft.call(part, self.as_call(tier, &parts, &outcome));
                    let next = match &outcome.result {
                        Ok(judged) => cascade.on(Ok(&judged.answer)),
                        Err(error) => cascade.on(Err(error)),
                    };
                    self.draft.decision(cascade.decision());
                    match outcome.result {
                        Err(error) if error.kind() == ErrorKind::Cancelled => {
                            return self.fail(error, Ending::ClientLeft).await;
                        }
                        result => last = result.ok().map(|judged| judged.answer),
                    }
                    next
                }
                Step::Reply { from, after } => {
                    let answer = last.take().expect("the cascade replies only with an answer it was given");
                    return self.reply(from, after, answer, parts, request).await;
                }
                Step::Fail(error) => {
                    let ending = if self.client.is_streaming() { Ending::BrokenOff } else { Ending::Failed };
                    return self.fail(error, ending).await;
                }
            };
        }
    }

    /// Finds the task and its models and plans; cuts the input out of the messages.
    async fn parts(&mut self, request: &mut Request) -> Result<Parts> {
        let snapshot = self.snapshot.clone();
        let aim = target(snapshot.tasks.iter().map(|task| &task.spec), request)?;
        let model = match aim {
            Target::Task(spec) => {
                let task = snapshot.tasks.iter().find(|task| task.spec.name == spec.name);
                return self.task_parts(task.expect("the target is one of these tasks").clone(), request).await;
            }
            Target::Model => find_model(&snapshot, request.model.as_str())?,
            Target::Default => match &snapshot.default_model {
                Some(name) => find_model(&snapshot, name.as_str())?,
                None => {
                    return Err(Error::not_found(
                        "answer model `auto`: no task matches the request and [server] default_model is not set",
                    )
                    .with_param("model"));
                }
            },
        };
        self.draft.messages(snapshot.texts, request);
        if let Some(reason) = constraints::obstacle(model.backend.capabilities(), request, None) {
            let message =
                format!("answer with model `{}`: it cannot take this request ({})", request.model, reason.as_str());
            return Err(Error::invalid(message).with_param("model"));
        }
        let plan = Plan::Large { shadow: Shadowing::No, reason: Reason::Named };
        Ok(Parts { task: None, small: None, large: Some(model), plan })
    }

    async fn task_parts(&mut self, task: Task, request: &mut Request) -> Result<Parts> {
        request.input = request.last_text(&Role::User).and_then(|text| task.spec.input.cut(text)).map(str::to_owned);
        request.input = request.input.take().filter(|text| !text.is_empty());
        self.draft.task(&task.spec, request);
        self.draft.messages(self.snapshot.texts, request);
        request.embedding = embedding(&task, request).await;
        let small = task
            .small
            .as_ref()
            .map(|s| Small { capabilities: s.model.backend.capabilities(), certificate: s.certificate.as_ref() });
        let large = task.large.as_ref().map(|l| Large { capabilities: l.backend.capabilities() });
        let plan = plan::plan(&task.spec, small, large, &*task.router, request)?;
        Ok(Parts { small: task.small.clone(), large: task.large.clone(), task: Some(task), plan })
    }

    /// Asks one model, until it answers, the time is up or the client leaves.
    async fn ask(&mut self, tier: Tier, parts: &Parts, request: &Request) -> Asked {
        let began = self.shared.clock.monotonic();
        let left = self.shared.limits.request.saturating_sub(began.saturating_sub(self.draft.arrived()));
        let model = parts.model(tier);
        // Only an answer that will be handed over whatever it says may be streamed: the gate needs whole answers.
        let streams = tier == Tier::Large && request.delivery == Delivery::Stream;
        let mut heard = Heard::default();
        let small = parts.small(tier);
        let asked = small.map(|(small, task)| small.request(task, request));
        let asked = asked.as_ref().unwrap_or(request);
        let work = async {
            if streams {
                let route = route_of(tier, parts);
                forward(&mut self.client, &mut self.draft, route, &self.shared, model, request, &mut heard).await
            } else {
                tokio::select! {
                    biased;
                    result = model.backend.answer(asked) => result,
                    () = self.client.left() => Err(left_early()),
                }
            }
        };
        // A model that panics must not take its request's trace with it; another model may still answer.
        let work = AssertUnwindSafe(work)
            .catch_unwind()
            .map(|done| done.unwrap_or_else(|_| Err(panicked(model.backend.name()))));
        let result = tokio::time::timeout(left, work).await.unwrap_or_else(|_| {
            let seconds = self.shared.limits.request.as_secs();
            Err(Error::new(ErrorKind::Deadline, format!("answer within {seconds} s ([server] timeout_s)")))
        });
        let took = self.shared.clock.monotonic().saturating_sub(began);
        // What was streamed before a break was generated, and is billed by the provider.
        let partial = (streams && heard.began && result.is_err())
            .then(|| Usage::estimate(request.text_bytes(), heard.text.len()));
        let result = result.map(|answer| match small {
            Some((small, task)) => small.judge(task, request, answer),
            None => Judged::bare(answer),
        });
        Asked { result, took, partial, heard: heard.text }
    }

    fn as_call(&self, tier: Tier, parts: &Parts, asked: &Asked) -> Call {
        if let Some((small, task)) = parts.small(tier) {
            return small.call(task, &asked.result, asked.took, self.snapshot.texts);
        }
        let spec = parts.task.as_ref().map(|task| &task.spec);
        let answer = asked.result.as_ref().map(|judged| &judged.answer);
        let mut call = record::call(parts.model(tier), spec, answer, asked.took, self.snapshot.texts);
        if let Some(usage) = asked.partial {
            call.cost = parts.model(tier).price.map(|price| price.cost(&usage));
            call.usage = usage;
            call.text = self.snapshot.texts.apply(&asked.heard);
        }
        call
    }

    async fn reply(mut self, from: Tier, after: Option<Tier>, mut answer: Answer, parts: Parts, request: Request) {
        self.draft.route(route_of(from, &parts));
        if let (Some(task), Some(label), Tier::Small) = (&parts.task, &answer.label, from) {
            answer.text = task.spec.output.render(label, answer.confidence.map_or(0.0, |c| c.get()));
        }
        let meta = self.meta(&answer);
        match self.record(Ending::Answered, 200, None).await {
            Ok(()) => self.client.finish(answer, meta),
            Err(error) => return self.client.fail(error, meta),
        }
        if let Some(tier) = after {
            let evidence = gather(self.shared.clone(), self.snapshot.clone(), self.draft, tier, parts, request);
            self.shared.work.spawn(evidence);
        }
    }

    async fn fail(mut self, error: Error, ending: Ending) {
        let ending = if error.kind() == ErrorKind::Cancelled { Ending::ClientLeft } else { ending };
        let meta = self.draft.meta();
        let status = error.http_status();
        // An answer that fails is acknowledged as such even when its trace cannot be stored: the error that the
        // client needs to see is the first one.
        if let Err(lost) = self.record(ending, status, Some(&error)).await {
            tracing::error!(trace = %self.draft.id(), error = %lost, "failed to store the trace of a failed request");
        }
        self.client.fail(error, meta);
    }

    fn meta(&self, answer: &Answer) -> Meta {
        Meta { model: Some(answer.model.clone()), ..self.draft.meta() }
    }

    async fn record(&mut self, ending: Ending, status: u16, error: Option<&Error>) -> Result<()> {
        let trace = self.draft.trace(&self.shared, ending, status, error);
        self.shared.store.record(trace.clone()).await?;
        self.shared.meters.observe(&trace);
        Ok(())
    }
}

impl Parts {
    fn model(&self, tier: Tier) -> &Model {
        match tier {
            Tier::Small => &self.small.as_ref().expect("a plan asks only models that are there").model,
            Tier::Large => self.large.as_ref().expect("a plan asks only models that are there"),
        }
    }

    /// The small model and its task, where `tier` is the small one.
    fn small(&self, tier: Tier) -> Option<(&SmallModel, &TaskSpec)> {
        let (small, task) = self.small.as_ref().zip(self.task.as_ref())?;
        (tier == Tier::Small).then_some((small, &task.spec))
    }
}

/// The embedding that the task's router reads. Where there is none, the router sends the request to the large model.
async fn embedding(task: &Task, request: &Request) -> Option<Vec<f32>> {
    let embedder = task.embedder.as_ref()?;
    // The router is asked only where a certificate lets the small model answer.
    task.small.as_ref()?.certificate.as_ref().filter(|_| task.spec.mode == Mode::Live)?;
    let embedded = embedder.embed(vec![prompt(request).to_owned()]).await;
    let embedded = embedded.inspect_err(|error| {
        tracing::warn!(task = %task.spec.name, %error, "failed to embed a request for the router");
    });
    embedded.ok()?.vectors.pop()
}

/// What came of asking one model.
struct Asked {
    result: Result<Judged>,
    took: Duration,
    /// Estimated tokens of a stream that broke off.
    partial: Option<Usage>,
    heard: String,
}

/// What a stream has delivered so far.
#[derive(Default)]
struct Heard {
    began: bool,
    text: String,
}

fn route_of(tier: Tier, parts: &Parts) -> Route {
    match (tier, &parts.plan) {
        (Tier::Small, _) => Route::Local,
        (Tier::Large, Plan::SmallFirst { .. }) => Route::Escalated,
        // The large model of a task is that, wherever it runs; without a task a model is what its place says.
        (Tier::Large, Plan::Large { .. }) => match parts.model(tier).backend.capabilities().place {
            Place::Local if parts.task.is_none() => Route::Local,
            _ => Route::Large,
        },
    }
}

fn find_model(snapshot: &Snapshot, name: &str) -> Result<Model> {
    if let Some(model) = snapshot.models.get(name) {
        return Ok(model.clone());
    }
    match &snapshot.fallback {
        Some(fallback) => fallback(name),
        None => Err(Error::not_found(format!(
            "find model `{name}`: it is not configured and [server] default_upstream is not set; GET /v1/models lists \
             what there is"
        ))
        .with_param("model")),
    }
}

pub(crate) fn panicked(model: &ModelName) -> Error {
    Error::internal(format!("answer with `{model}`: it panicked; the log has the place"))
}

pub(crate) fn left_early() -> Error {
    Error::new(ErrorKind::Cancelled, "answer: the client left before the answer was ready")
}

/// Passes a stream on as it comes and returns the whole answer at its end.
async fn forward(
    client: &mut Client,
    draft: &mut Draft,
    route: Route,
    shared: &Shared,
    model: &Model,
    request: &Request,
    heard: &mut Heard,
) -> Result<Answer> {
    let mut stream = tokio::select! {
        biased;
        stream = model.backend.stream(request) => stream?,
        () = client.left() => return Err(left_early()),
    };
    loop {
        let event = tokio::select! {
            biased;
            event = stream.next() => event,
            () = client.left() => return Err(left_early()),
        };
        match event {
            Some(Ok(Event::Delta { text, wire })) => {
                if !heard.began {
                    heard.began = true;
                    draft.route(route);
                    draft.first_byte(shared);
                    // What is being generated has no cost yet, which is not the same as costing nothing.
                    client.begin(Meta { model: Some(model.backend.name().clone()), cost: None, ..draft.meta() });
                }
                heard.text.push_str(&text);
                client.send(Item::Delta { text, wire }).await.map_err(|()| left_early())?;
            }
            Some(Ok(Event::End(answer))) => return Ok(*answer),
            Some(Err(error)) => return Err(error),
            None => return Err(Error::unavailable(format!("read the stream of `{}`: it broke off", request.model))),
        }
    }
}

/// Asks the other model for evidence, when the client already has its answer.
async fn gather(
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
    draft: Draft,
    tier: Tier,
    parts: Parts,
    mut request: Request,
) {
    request.delivery = Delivery::Whole;
    let model = parts.model(tier);
    let small = parts.small(tier);
    let asked = small.map(|(small, task)| small.request(task, &request));
    let began = shared.clock.monotonic();
    let result = tokio::time::timeout(shared.limits.request, model.backend.answer(asked.as_ref().unwrap_or(&request)))
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Deadline, "answer an audit in time")));
    let took = shared.clock.monotonic().saturating_sub(began);
    let spec = parts.task.as_ref().map(|task| &task.spec);
    let call = match small {
        Some((small, task)) => {
            let judged = result.map(|answer| small.judge(task, &request, answer));
            small.call(task, &judged, took, snapshot.texts)
        }
        None => record::call(model, spec, result.as_ref(), took, snapshot.texts),
    };
    let agreed = spec.and_then(|spec| record::agreement(spec, draft.replied(), &call));
    let task = spec.map_or("", |spec| spec.name.as_str());
    shared.meters.observe_audit(task, &call, agreed);
    if let Err(error) = shared.store.attach_audit(draft.id(), Audit { call, agreed }).await {
        tracing::error!(trace = %draft.id(), %error, "failed to store an audit");
    }
}
