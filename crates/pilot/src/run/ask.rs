//! Asking one model about the rows: concurrency, rate, cost cap, early stop, journal.

use super::{
    Asked, Candidate, Journal, Plan, Sleep, Source,
    call::{FAILURES, Gauge, Opening},
    figures::quality,
    prompt,
    shots::Shots,
};
use crate::sequential::{Comparison, Decision, Design, Question, Step, Values};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use understudy_core::{Clock, Error, ErrorKind, Money, RecordedAnswer, Result};
use understudy_dataset::Row;

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
    /// It failed again and again, or its key was refused; the last error.
    Failing(String),
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Rows answered by this model.
    pub done: usize,
    /// Rows for this model.
    pub total: usize,
    /// USD spent by all models, earlier sessions included.
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
    /// The journal does not take an answer: nothing more may be paid for.
    Broken(Error),
    Skipped,
}

#[derive(PartialEq)]
enum Fresh {
    Yes,
    No,
}

impl Runner<'_> {
    /// Asks `candidate` about `rows`. With `baseline` (quality by row id) and a margin in the plan it stops as soon as
    /// the verdict against it is certain. Requests that are under way when it stops are waited for: they are paid. The
    /// first request goes alone, so that a wrong key is not tried a hundred times. An answer is in the journal the moment it comes,
    /// whatever is still waited for before it.
    ///
    /// # Errors
    /// `Data` when the journal cannot be written; what the model says when it refuses from the start (a wrong key, a
    /// name that it does not know, a server that is down). Later failures are in the answers.
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
        let plan = self.plan;
        let clock = self.clock.clone();
        let gauge = Gauge::new(plan, self.spent, clock.as_ref(), self.sleep)?;
        let journal = Mutex::new(&mut *self.journal);
        let (gauge_ref, known_ref, journal_ref, key_ref) = (&gauge, &known, &journal, &key);
        let one = async |row: &Row| {
            let Source::Live(backend) = &candidate.source else { return Reply::Skipped };
            let examples = shots.map(|shots| shots.pick(&row.text, plan.shots)).unwrap_or_default();
            let request = prompt::request(plan, candidate, row, &examples);
            match gauge_ref.ask(candidate, backend.as_ref(), &request, |a| prompt::recorded(plan, a)).await {
                Ok(Some(answer)) => {
                    let mut journal = journal_ref.lock().unwrap_or_else(PoisonError::into_inner);
                    match journal.put(key_ref, &row.id, &answer) {
                        Ok(()) => Reply::Answered(Box::new(answer), Fresh::Yes),
                        Err(error) => Reply::Broken(error),
                    }
                }
                Ok(None) => Reply::Skipped,
                Err(error) => Reply::Failed(error),
            }
        };
        let (mut opening, mut early) = (Opening::default(), BTreeMap::new());
        let unknown = (0..rows.len()).filter(|at| known[*at].is_none());
        for at in unknown.take(Opening::REQUESTS) {
            let reply = one(rows[at]).await;
            let failed = match &reply {
                Reply::Failed(error) if opening.is_hopeless(error) => return Err(error.clone()),
                reply => matches!(reply, Reply::Failed(_)),
            };
            early.insert(at, reply);
            if !failed {
                break;
            }
        }
        let (one, early) = (&one, &Mutex::new(early));
        let replies = stream::iter(rows.iter().enumerate()).map(|(at, row)| async move {
            if let Some(answer) = &known_ref[at] {
                return Reply::Answered(Box::new(answer.clone()), Fresh::No);
            }
            let asked = early.lock().unwrap_or_else(PoisonError::into_inner).remove(&at);
            match asked {
                Some(reply) => reply,
                None => one(row).await,
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
                    answers.resumed += usize::from(fresh == Fresh::No);
                    let mut answer = *answer;
                    answer.quality = quality(plan, row, &answer).or(answer.quality);
                    let reference = baseline.and_then(|b| b.get(&row.id));
                    if let (Some(c), Some(quality), Some(reference)) = (&mut comparison, answer.quality, reference)
                        && let Step::Decided(decision) = c.observe(quality - reference)
                        && answers.ended == Ended::Done
                    {
                        answers.ended = Ended::Decided(decision);
                        gauge.stop();
                    }
                    answers.asked.push(Asked { row, answer });
                }
                Reply::Failed(error) => {
                    answers.failed += 1;
                    failures += 1;
                    answers.first_error.get_or_insert_with(|| error.to_string());
                    if (failures >= FAILURES || error.kind() == ErrorKind::Refused) && answers.ended == Ended::Done {
                        answers.ended = Ended::Failing(error.to_string());
                        gauge.stop();
                    }
                }
                Reply::Broken(error) => return Err(error),
                Reply::Skipped => {}
            }
            progress(Progress { done: at, total: rows.len(), spent_usd: gauge.spent().usd() });
        }
        if gauge.is_capped() && answers.ended == Ended::Done {
            answers.ended = Ended::CostCap;
        }
        if matches!(candidate.source, Source::Recorded(_)) {
            answers.resumed = 0;
        }
        journal.lock().unwrap_or_else(PoisonError::into_inner).flush()?;
        self.spent = gauge.spent();
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
