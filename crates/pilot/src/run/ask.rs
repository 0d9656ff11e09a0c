//! Asking one model about the rows: concurrency, rate, cost cap, early stop, journal.

use super::{Asked, Candidate, Journal, Plan, Sleep, Source, figures::quality, prompt, shots::Shots};
use crate::sequential::{Comparison, Decision, Design, Question, Step, Values};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};
use understudy_core::{Backend, Clock, Error, Money, RecordedAnswer, Result, Usage};
use understudy_dataset::Row;

/// Failures in a row after which a model is given up.
const FAILURES: usize = 10;

/// Why a model was not asked any more.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason", content = "detail")]
pub enum Ended {
    /// Every row was asked.
    Done,
    /// Its verdict against the baseline was certain.
    Decided(Decision),
    /// The next request might have exceeded the cost cap.
    CostCap,
    /// It failed again and again; the last error.
    Failing(String),
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Rows answered by this model.
    pub done: usize,
    /// Rows for this model.
    pub total: usize,
    /// USD spent by all models in this session.
    pub spent_usd: f64,
}

/// What came of asking a model.
#[derive(Debug, Clone)]
pub struct Answers<'r> {
    /// Rows with answers, in the order of asking.
    pub asked: Vec<Asked<'r>>,
    /// Why it ended.
    pub ended: Ended,
    /// Requests that failed after all retries; they are not in the figures.
    pub failed: usize,
    /// The first failure.
    pub first_error: Option<String>,
    /// Answers that an earlier session had paid for.
    pub resumed: usize,
}

/// Asks models and keeps their answers.
pub struct Runner<'a> {
    /// What is measured.
    pub plan: &'a Plan,
    /// Time for latencies.
    pub clock: Arc<dyn Clock>,
    /// Waits between requests under a rate limit.
    pub sleep: &'a Sleep,
    /// Where answers are kept.
    pub journal: &'a mut Journal,
    /// Spent so far, all models and earlier sessions together.
    pub spent: Money,
}

enum Reply {
    Answered(Box<RecordedAnswer>, Fresh),
    Failed(Error),
    Skipped,
}

#[derive(PartialEq)]
enum Fresh {
    Yes,
    No,
}

/// What the requests under way share.
struct Gauge {
    spent: AtomicI64,
    cap: Option<i64>,
    capped: AtomicBool,
    stopped: AtomicBool,
    next_start: Mutex<Duration>,
}

impl Gauge {
    /// Takes `most` nano-dollars out of the budget, if they are still there.
    fn reserve(&self, most: i64) -> bool {
        let Some(cap) = self.cap else { return true };
        let taken = self.spent.fetch_add(most, Ordering::SeqCst) + most;
        if taken > cap {
            self.spent.fetch_sub(most, Ordering::SeqCst);
            self.capped.store(true, Ordering::SeqCst);
            return false;
        }
        true
    }

    fn settle(&self, reserved: i64, cost: i64) {
        let reserved = if self.cap.is_some() { reserved } else { 0 };
        self.spent.fetch_add(cost - reserved, Ordering::SeqCst);
    }
}

impl Runner<'_> {
    /// Asks `candidate` about `rows`. With `baseline` (quality by row id) and a margin in the plan it stops as soon as
    /// the verdict against it is certain. Requests that are under way when it stops are waited for: they are paid.
    ///
    /// # Errors
    /// `Data` when the journal cannot be written; what a failing model says is in the answers.
    pub async fn ask<'r>(
        &mut self,
        candidate: &Candidate,
        rows: &[&'r Row],
        shots: Option<&Shots<'_>>,
        baseline: Option<&BTreeMap<String, f64>>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Answers<'r>> {
        let rows = &rows[..candidate.limit.unwrap_or(rows.len()).min(rows.len())];
        let key = format!("{} {}", candidate.name, candidate.fingerprint);
        let known: Vec<Option<RecordedAnswer>> = rows.iter().map(|row| self.known(candidate, &key, row)).collect();
        let mut comparison = self.comparison(candidate, rows.len(), baseline)?;
        let gauge = Gauge {
            spent: AtomicI64::new(self.spent.nanos()),
            cap: self.plan.max_cost_usd.map(|usd| Money::from_usd(usd).map(Money::nanos)).transpose()?,
            capped: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            next_start: Mutex::new(Duration::ZERO),
        };
        let (plan, clock, sleep) = (self.plan, &self.clock, self.sleep);
        let (gauge_ref, known_ref) = (&gauge, &known);
        let replies = stream::iter(rows.iter().enumerate()).map(|(at, row)| async move {
            if let Some(answer) = &known_ref[at] {
                return Reply::Answered(Box::new(answer.clone()), Fresh::No);
            }
            match &candidate.source {
                Source::Recorded(_) => Reply::Skipped,
                Source::Live(backend) => {
                    one(plan, candidate, backend.as_ref(), row, shots, clock.as_ref(), sleep, gauge_ref).await
                }
            }
        });
        let mut replies = std::pin::pin!(replies.buffered(candidate.concurrency.max(1)));
        let mut answers = Answers { asked: Vec::new(), ended: Ended::Done, failed: 0, first_error: None, resumed: 0 };
        let (mut at, mut failures) = (0, 0);
        while let Some(reply) = replies.next().await {
            let row = rows[at];
            at += 1;
            match reply {
                Reply::Answered(answer, fresh) => {
                    failures = 0;
                    if fresh == Fresh::Yes {
                        self.journal.put(&key, &row.id, &answer)?;
                    } else {
                        answers.resumed += 1;
                    }
                    let mut answer = *answer;
                    answer.quality = quality(plan, row, &answer).or(answer.quality);
                    let reference = baseline.and_then(|b| b.get(&row.id));
                    if let (Some(c), Some(quality), Some(reference)) = (&mut comparison, answer.quality, reference)
                        && let Step::Decided(decision) = c.observe(quality - reference)
                        && answers.ended == Ended::Done
                    {
                        answers.ended = Ended::Decided(decision);
                        gauge.stopped.store(true, Ordering::SeqCst);
                    }
                    answers.asked.push(Asked { row, answer });
                }
                Reply::Failed(error) => {
                    answers.failed += 1;
                    failures += 1;
                    answers.first_error.get_or_insert_with(|| error.to_string());
                    if failures >= FAILURES && answers.ended == Ended::Done {
                        answers.ended = Ended::Failing(error.to_string());
                        gauge.stopped.store(true, Ordering::SeqCst);
                    }
                }
                Reply::Skipped => {}
            }
            let spent = Money::from_nanos(gauge.spent.load(Ordering::SeqCst));
            progress(Progress { done: at, total: rows.len(), spent_usd: spent.usd() });
        }
        if gauge.capped.load(Ordering::SeqCst) && answers.ended == Ended::Done {
            answers.ended = Ended::CostCap;
        }
        if matches!(candidate.source, Source::Recorded(_)) {
            answers.resumed = 0;
        }
        self.spent = Money::from_nanos(gauge.spent.load(Ordering::SeqCst));
        self.journal.flush()?;
        Ok(answers)
    }

    fn known(&self, candidate: &Candidate, key: &str, row: &Row) -> Option<RecordedAnswer> {
        match &candidate.source {
            Source::Recorded(answers) => answers.get(&understudy_dataset::text_hash(&row.text)).cloned(),
            Source::Live(_) => self.journal.get(key, &row.id).cloned(),
        }
    }

    fn comparison(
        &self,
        candidate: &Candidate,
        planned: usize,
        baseline: Option<&BTreeMap<String, f64>>,
    ) -> Result<Option<Comparison>> {
        let live = matches!(candidate.source, Source::Live(_));
        let (Some(margin), Some(_), true) = (self.plan.stop_early, baseline, live) else { return Ok(None) };
        let right_or_wrong = self.plan.task == super::Task::Classify;
        Comparison::new(Design {
            question: Question::Margin(margin.epsilon),
            values: if right_or_wrong { Values::RightOrWrong } else { Values::Graded },
            alpha: margin.delta,
            planned: Some(planned as u64),
        })
        .map(Some)
    }
}

#[expect(clippy::too_many_arguments, reason = "the shared state of one request; a struct would only rename it")]
async fn one(
    plan: &Plan,
    candidate: &Candidate,
    backend: &dyn Backend,
    row: &Row,
    shots: Option<&Shots<'_>>,
    clock: &dyn Clock,
    sleep: &Sleep,
    gauge: &Gauge,
) -> Reply {
    if gauge.stopped.load(Ordering::SeqCst) {
        return Reply::Skipped;
    }
    let examples = shots.map(|shots| shots.pick(&row.text, plan.shots)).unwrap_or_default();
    let request = prompt::request(plan, candidate, row, &examples);
    // At least three bytes a token, and the longest answer: what it can cost at most, about.
    let most = Usage {
        input_tokens: request.text_bytes().div_ceil(3) as u64 + 16,
        output_tokens: u64::from(plan.max_tokens),
        ..Usage::default()
    };
    let reserved = candidate.price.map_or(0, |price| price.cost(&most).nanos());
    if !gauge.reserve(reserved) {
        return Reply::Skipped;
    }
    if let Some(per_minute) = plan.per_minute {
        let wait = {
            let mut next = gauge.next_start.lock().unwrap_or_else(PoisonError::into_inner);
            let now = clock.monotonic();
            let start = (*next).max(now);
            *next = start + Duration::from_secs(60) / per_minute.max(1);
            start.saturating_sub(now)
        };
        sleep(wait).await;
    }
    let began = clock.monotonic();
    let answer = backend.answer(&request).await;
    let took = clock.monotonic().saturating_sub(began);
    match answer {
        Ok(answer) => {
            let mut recorded = prompt::recorded(plan, &answer);
            let cost = candidate.price.map(|price| price.cost(&answer.usage));
            gauge.settle(reserved, cost.map_or(0, Money::nanos));
            recorded.cost_usd = cost.map(Money::usd);
            recorded.latency_ms = Some(took.as_secs_f64() * 1000.0);
            Reply::Answered(Box::new(recorded), Fresh::Yes)
        }
        Err(error) => {
            gauge.settle(reserved, 0);
            Reply::Failed(error)
        }
    }
}
