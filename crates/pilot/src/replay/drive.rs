//! The curve, driven: every point sends every request through `route`'s plan and cascade and takes down what was asked
//! and what was handed over.

use super::{Point, Row, Side};
use understudy_core::{
    Answer, Capabilities, Confidence, Message, Mode, Place, Request, Result, Role, TaskSpec, TraceId, Usage,
    task::{InputRule, MatchRule, OutputForm, Privacy},
};
use understudy_route::{AlwaysTry, Cascade, Gate, Router, Step, Tier, UpTo, plan, rehearse};

/// Where the decision is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before anything is generated, by a router: one model is asked.
    Before,
    /// After the small model has answered, by a gate: escalated requests ask both.
    After,
}

/// One point for each limit on the score, rising, after the one that keeps nothing.
pub(super) fn curve(rows: &[Row], limits: &[f64], stage: Stage) -> Result<Vec<Point>> {
    let stand_in = StandIn::new(rows);
    let mut curve = Vec::with_capacity(limits.len() + 1);
    for limit in std::iter::once(None).chain(limits.iter().copied().map(Some)) {
        let mut tally = Tally::default();
        for row in rows {
            stand_in.send(row, limit, stage, &mut tally)?;
        }
        curve.push(tally.point(limit));
    }
    Ok(curve)
}

/// A task, two models and a request of which nothing matters but the score.
struct StandIn {
    task: TaskSpec,
    small: Capabilities,
    large: Capabilities,
    request: Request,
    /// Every score once, rising.
    scores: Vec<f64>,
}

impl StandIn {
    fn new(rows: &[Row]) -> Self {
        let mut scores: Vec<f64> = rows.iter().map(|row| row.score).collect();
        scores.sort_by(f64::total_cmp);
        scores.dedup();
        let takes_all = |place| Capabilities {
            place,
            context_tokens: None,
            multimodal: true,
            tools: true,
            many_choices: true,
            languages: Vec::new(),
        };
        let message = Message { role: Role::User, text: String::new() };
        Self {
            task: TaskSpec {
                name: "replay".into(),
                rule: MatchRule::default(),
                mode: Mode::Live,
                large: Some("large".into()),
                small: Some("small".into()),
                labels: Vec::new(),
                input: InputRule::default(),
                output: OutputForm::Label,
                privacy: Privacy::Any,
                audit: 0.0,
                epsilon: 0.02,
                delta: 0.05,
                languages: Vec::new(),
            },
            small: takes_all(Place::Local),
            large: takes_all(Place::Remote),
            request: Request::new(TraceId::from_parts(0, 0), "auto".into(), vec![message]),
            scores,
        }
    }

    /// Sends one row through the cascade. `limit` is the largest score that is kept; `None` keeps nothing.
    fn send(&self, row: &Row, limit: Option<f64>, stage: Stage, tally: &mut Tally) -> Result<()> {
        let small = plan::Small { capabilities: &self.small, certificate: None };
        let large = plan::Large { capabilities: &self.large };
        let mut answer = Answer::text("small".into(), "", Usage::default());
        let up_to = UpTo { gain: row.score, limit: limit.unwrap_or(f64::NEG_INFINITY) };
        let (router, gate): (&dyn Router, Gate) = match stage {
            Stage::Before => (&up_to, Gate::Open),
            Stage::After => {
                answer.confidence = Some(self.confidence(row.score)?);
                let threshold = limit.map_or_else(|| Confidence::new(1.0), |limit| self.confidence(limit))?;
                (&AlwaysTry, Gate::AtLeast(threshold))
            }
        };
        let planned = rehearse(&self.task, small, large, router, gate, &self.request)?;
        let (mut cascade, mut step) = Cascade::start(planned, 0.0);
        loop {
            match step {
                Step::Ask(tier) => {
                    tally.asked(side(row, tier), row.weight);
                    step = cascade.on(Ok(&answer));
                }
                Step::Reply { from, .. } => {
                    tally.replied(side(row, from), from, row.weight);
                    return Ok(());
                }
                Step::Fail(error) => return Err(error),
            }
        }
    }

    /// A gate sees confidences in [0, 1), scores may be anything: the place among all scores keeps their order exactly.
    fn confidence(&self, score: f64) -> Result<Confidence> {
        let place = self.scores.partition_point(|s| *s < score) + 1;
        Confidence::new(1.0 - place as f64 / (self.scores.len() + 1) as f64)
    }
}

fn side(row: &Row, tier: Tier) -> &Side {
    match tier {
        Tier::Small => &row.small,
        Tier::Large => &row.large,
    }
}

/// Sums over the requests of one point.
struct Tally {
    /// Requests that the rows stand for.
    weight: f64,
    kept: f64,
    quality: f64,
    cost_usd: Option<f64>,
    latency_ms: Option<f64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { weight: 0.0, kept: 0.0, quality: 0.0, cost_usd: Some(0.0), latency_ms: Some(0.0) }
    }
}

impl Tally {
    /// Whoever is asked is paid and waited for. One unknown makes the sum unknown.
    fn asked(&mut self, side: &Side, weight: f64) {
        self.cost_usd = self.cost_usd.zip(side.cost_usd).map(|(sum, cost)| sum + weight * cost);
        self.latency_ms = self.latency_ms.zip(side.latency_ms).map(|(sum, latency)| sum + weight * latency);
    }

    fn replied(&mut self, side: &Side, from: Tier, weight: f64) {
        self.weight += weight;
        self.kept += if from == Tier::Small { weight } else { 0.0 };
        self.quality += weight * side.quality;
    }

    fn point(&self, limit: Option<f64>) -> Point {
        let n = self.weight;
        Point {
            limit,
            kept: self.kept / n,
            quality: self.quality / n,
            cost_usd: self.cost_usd.map(|sum| sum / n),
            latency_ms: self.latency_ms.map(|sum| sum / n),
        }
    }
}
