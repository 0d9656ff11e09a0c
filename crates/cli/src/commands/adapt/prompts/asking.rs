//! Putting prompts to the model: each answer is kept in the journal under its prompt, so that a search that goes on, or a
//! wider one, pays for none twice.

use crate::clock::SystemClock;
use futures_util::FutureExt;
use indicatif::ProgressBar;
use std::{sync::Arc, time::Duration};
use understudy_core::{Clock, Error, ErrorKind, Money, Result, hash::sha256_hex};
use understudy_dataset::Row;
use understudy_pilot::{
    prompts::{
        examples::Examples,
        race::{Entrant, Reply, Score, Stop},
        wording::Wording,
    },
    run::{Candidate, Ended, Journal, Plan, Progress, Runner, shots::Shots},
};

/// How long and how dear the race may be.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// The clock's time at which it ends.
    pub(super) until: Option<Duration>,
    /// Most that may be spent in all.
    pub(super) max_usd: Option<f64>,
    /// Requests for which money is kept back.
    pub(super) kept_back: usize,
}

/// What requests to come may cost beyond those seen.
const RESERVE: f64 = 1.1;

/// A model and what its prompts are made of.
pub(super) struct Asking<'a> {
    pub(super) plan: Plan,
    pub(super) model: Candidate,
    pub(super) wordings: &'a [Wording],
    pub(super) pool: &'a [Row],
    /// Ways to pick similar examples.
    pub(super) similar: Vec<(String, Shots<'a>)>,
    pub(super) clock: Arc<SystemClock>,
    pub(super) journal: &'a mut Journal,
    pub(super) spent: Money,
    pub(super) limits: Limits,
    /// The mean cost of a request, of the dearest prompt so far.
    pub(super) dearest_usd: f64,
}

impl Asking<'_> {
    /// Asks about rows with an entrant's prompt.
    ///
    /// # Errors
    /// What would fail for every prompt: a wrong key, a server that is down, a full disk.
    pub(super) async fn ask(&mut self, entrant: &Entrant, rows: &[Row], bar: &ProgressBar) -> Result<Reply> {
        if self.limits.until.is_some_and(|until| self.clock.monotonic() >= until) {
            return Ok(Reply::Stopped(Stop::Time));
        }
        let wording = &self.wordings[entrant.instruction];
        let plan = Plan {
            instruction: (!wording.text.is_empty()).then(|| wording.text.clone()),
            shots: entrant.examples.count(),
            max_cost_usd: (self.limits.max_usd)
                .map(|usd| (usd - self.limits.kept_back as f64 * self.dearest_usd * RESERVE).max(0.0)),
            ..self.plan.clone()
        };
        let set;
        let shots = match &entrant.examples {
            Examples::None => None,
            Examples::Similar { by, .. } => self.similar.iter().find(|(own, _)| own == by).map(|(_, shots)| shots),
            Examples::Set(positions) => {
                set = Shots::fixed(positions.iter().map(|&at| &self.pool[at]).collect());
                Some(&set)
            }
        };
        let said = serde_json::to_string(&entrant.examples)
            .map_err(|e| Error::internal(format!("name a prompt in the journal: {e}")))?;
        let variant = sha256_hex(format!("{}\n{said}", wording.text).as_bytes());
        let model = Candidate {
            fingerprint: format!("{} prompt {}", self.model.fingerprint, &variant[..32]),
            ..self.model.clone()
        };
        let rows: Vec<&Row> = rows.iter().collect();
        let sleep = |time| tokio::time::sleep(time).boxed();
        let before = bar.position();
        let mut told = |p: Progress| bar.set_position(before + p.done as u64);
        let clock: Arc<dyn Clock> = self.clock.clone();
        let mut runner = Runner { plan: &plan, clock, sleep: &sleep, journal: self.journal, spent: self.spent };
        let answers = runner.ask(&model, &rows, shots, None, &mut told).await;
        self.spent = runner.spent;
        let answers = match answers {
            // What is refused for this prompt, one that is too long for instance, need not be for others.
            Err(error) if matches!(error.kind(), ErrorKind::Refused | ErrorKind::Invalid) => {
                return Ok(Reply::Failed(error.to_string()));
            }
            answers => answers?,
        };
        let costs: Vec<f64> = answers.asked.iter().filter_map(|asked| asked.answer.cost_usd).collect();
        self.dearest_usd = self.dearest_usd.max(costs.iter().sum::<f64>() / costs.len().max(1) as f64);
        if answers.ended == Ended::CostCap {
            return Ok(Reply::Stopped(Stop::Cost));
        }
        if let Some(error) = answers.first_error {
            return Ok(Reply::Failed(error));
        }
        let score = |asked: &understudy_pilot::run::Asked<'_>| {
            let quality = asked.answer.quality?;
            Some(Score { quality, tokens: asked.answer.tokens_in.unwrap_or(0) })
        };
        let scores: Option<Vec<Score>> = answers.asked.iter().map(score).collect();
        match scores {
            Some(scores) if scores.len() == rows.len() => Ok(Reply::Scores(scores)),
            _ => Ok(Reply::Failed("answer some rows".to_owned())),
        }
    }
}
